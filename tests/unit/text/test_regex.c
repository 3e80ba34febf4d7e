/* Promise: patterns mean what the references' regex engine means, and what cannot is refused by name; a match that
 * needs too much is an error for that text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/check.h"
#include "text/regex.h"

/* The matches of a pattern, each behind a bar. */
static void matches(const char *pattern, const char *text, struct buf *out)
{
    struct regex *regex = NULL;
    struct error error = {0};
    struct regex_scratch *scratch = regex_scratch_new();
    struct bytes bytes = bytes_of_text(text);
    size_t begin, end, from = 0;
    assert_int_equal(regex_compile(bytes_of_text(pattern), &regex, &error), STATUS_OK);
    buf_init(out, 1000);
    while (from < bytes.length && regex_find(regex, scratch, bytes, from, &begin, &end, &error) == STATUS_OK) {
        buf_append_u8(out, '|');
        buf_append(out, bytes.data + begin, end - begin);
        from = end > begin ? end : end + 1;
    }
    regex_scratch_free(scratch);
    regex_free(regex);
}

static void means_the_same(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text, *wanted;
    } cases[] = {
        {"'s| ?\\p{L}+|\\s+(?!\\S)|\\s+", "it's so  good ", "|it|'s| so| | good| "},
        {"\\s+",
         "a\xe1\xa0\x8e"
         "b",
         ""}, /* U+180E is no white space */
        {"[\\s]+", "a\xe3\x80\x80 b", "|\xe3\x80\x80 "},
        {"[^\\s]+",
         "a\xe1\xa0\x8e"
         "b c",
         "|a\xe1\xa0\x8e"
         "b|c"},
        {"\\S+", "ab  c", "|ab|c"},
        {"[\\S]+", "ab  c", "|ab|c"},
        {"\\w+", "a_1 \xc3\xa9-\xe2\x91\xa0", "|a_1|\xc3\xa9"}, /* a circled digit is none */
        {"\\h+", "xyz 0fG", "|0f"},
        {"\\d", "7\xd9\xa3x", "|7|\xd9\xa3"},
        {"[]a]+", "]a]b", "|]a]"},
        {"^b", "a\nb", "|b"}, /* multi-line */
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf out;
        matches(cases[i].pattern, cases[i].text, &out);
        assert_string_equal(buf_text(&out), cases[i].wanted);
        buf_free(&out);
    }
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *pattern;
        enum status status;
    } cases[] = {
        {"[a&&b]", STATUS_UNSUPPORTED}, {"[a[bc]]", STATUS_UNSUPPORTED}, {"[\\W]", STATUS_UNSUPPORTED},
        {"a\\Z", STATUS_UNSUPPORTED},   {"(a", STATUS_INVALID},          {"a**+?{", STATUS_INVALID},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct regex *regex = NULL;
        struct error error = {0};
        assert_int_equal(regex_compile(bytes_of_text(cases[i].pattern), &regex, &error), cases[i].status);
        assert_non_null(strstr(error.text, cases[i].pattern));
        assert_null(regex);
    }
}

static void exhaustion_is_an_error(void **state)
{
    (void)state;
    struct regex *regex = NULL;
    struct error error = {0};
    struct regex_scratch *scratch = regex_scratch_new();
    struct buf text;
    size_t begin, end;
    buf_init(&text, 4 << 20);
    while (text.length < 1 << 20)
        buf_append_text(&text, "aaaaaaaaaaaaaaaa");
    assert_int_equal(regex_compile(BYTES_LITERAL("(?:\\p{L}|\\p{M})+x"), &regex, &error), STATUS_OK);
    assert_int_equal(regex_find(regex, scratch, buf_bytes(&text), 0, &begin, &end, &error), STATUS_LIMIT);
    assert_true(error.text[0] != '\0');
    /* what PCRE2's own 32 KiB would not do, the scratch's stack does */
    text.data[10000] = 'x';
    assert_int_equal(regex_find(regex, scratch, bytes_of(text.data, 10001), 0, &begin, &end, &error), STATUS_OK);
    assert_int_equal(end, 10001);
    /* the scratch is good for the next text */
    assert_int_equal(regex_find(regex, scratch, BYTES_LITERAL("aax"), 0, &begin, &end, &error), STATUS_OK);
    regex_scratch_free(scratch);
    regex_free(regex);
    buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(means_the_same), cmocka_unit_test(refuses),
                                       cmocka_unit_test(exhaustion_is_an_error)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
