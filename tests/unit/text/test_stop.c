/* Promise: text that may become a stop string is held back, and only that; the earliest end wins, then the longest; the
 * result does not depend on how the stream is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/rng.h"
#include "text/stop.h"

static struct stop *make(const char *const *strings, size_t count)
{
    struct bytes bytes[STOP_STRINGS_MAX];
    struct stop *stop = NULL;
    struct error error = {0};
    for (size_t i = 0; i < count; i++)
        bytes[i] = bytes_of_text(strings[i]);
    assert_int_equal(stop_new(bytes, count, &stop, &error), STATUS_OK);
    return stop;
}

/* What comes out when `text` is pushed in parts of `part` bytes. */
static bool run(const char *const *strings, size_t count, struct bytes text, size_t part, struct buf *out)
{
    struct stop *stop = make(strings, count);
    buf_init(out, 10000);
    for (size_t at = 0; at < text.length; at += part)
        stop_push(stop, bytes_of(text.data + at, MIN_OF(part, text.length - at)), out);
    stop_finish(stop, out);
    bool hit = stop_hit(stop);
    stop_free(stop);
    return hit;
}

static void cuts(void **state)
{
    (void)state;
    static const struct {
        const char *strings[3];
        const char *text, *wanted;
        bool hit;
    } cases[] = {
        {{NULL}, "anything", "anything", false},
        {{"END"}, "the END is near", "the ", true},
        {{"END"}, "the EN", "the EN", false},
        {{"aab"}, "aaab", "a", true},
        {{"abcd", "bc"}, "xabcd", "xa", true},        /* bc ends first */
        {{"c", "abc"}, "xabc", "x", true},            /* both end there: the longest */
        {{"he", "she", "hers"}, "ushers", "u", true}, /* she and he end together */
        {{"\n\n"}, "a\nb\n\nc", "a\nb", true},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        size_t count = 0;
        while (count < COUNT_OF(cases[i].strings) && cases[i].strings[count] != NULL)
            count++;
        for (size_t part = 1; part < 6; part++) {
            struct buf out;
            assert_int_equal(run(cases[i].strings, count, bytes_of_text(cases[i].text), part, &out), cases[i].hit);
            assert_string_equal(buf_text(&out), cases[i].wanted);
            buf_free(&out);
        }
    }
}

static void holds_back_no_more_than_needed(void **state)
{
    (void)state;
    static const char *const strings[] = {"abc"};
    struct stop *stop = make(strings, 1);
    struct buf out;
    buf_init(&out, 100);
    stop_push(stop, BYTES_LITERAL("xab"), &out);
    assert_string_equal(buf_text(&out), "x");
    stop_push(stop, BYTES_LITERAL("a"), &out);
    assert_string_equal(buf_text(&out), "xab");
    stop_push(stop, BYTES_LITERAL("d"), &out);
    assert_string_equal(buf_text(&out), "xabad");
    stop_push(stop, BYTES_LITERAL("abcdef"), &out);
    stop_push(stop, BYTES_LITERAL("more"), &out);
    assert_true(stop_hit(stop));
    assert_string_equal(buf_text(&out), "xabad");
    buf_free(&out);
    stop_free(stop);
}

/* Where the naive search would cut. */
static size_t naive(const char *const *strings, size_t count, struct bytes text)
{
    for (size_t end = 1; end <= text.length; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < count; i++) {
            size_t length = strlen(strings[i]);
            if (length <= end && length > longest && memcmp(text.data + end - length, strings[i], length) == 0)
                longest = length;
        }
        if (longest > 0)
            return end - longest;
    }
    return text.length;
}

static void equals_a_naive_search(void **state)
{
    (void)state;
    static const char *const strings[] = {"aba", "bb", "abab", "cabbage", "aabaa"};
    struct rng rng;
    rng_init(&rng, 7);
    for (int round = 0; round < 2000; round++) {
        uint8_t text[40];
        size_t length = rng_below(&rng, sizeof text);
        for (size_t i = 0; i < length; i++)
            text[i] = (uint8_t)("abcge"[rng_below(&rng, 5)]);
        size_t wanted = naive(strings, COUNT_OF(strings), bytes_of(text, length));
        struct buf out;
        run(strings, COUNT_OF(strings), bytes_of(text, length), 1 + rng_below(&rng, 5), &out);
        assert_int_equal(out.length, wanted);
        if (wanted > 0)
            assert_memory_equal(out.data, text, wanted);
        buf_free(&out);
    }
}

static void refuses(void **state)
{
    (void)state;
    struct bytes many[STOP_STRINGS_MAX + 1], empty = bytes_of(NULL, 0);
    static uint8_t bytes[STOP_BYTES_MAX + 1];
    struct bytes too_long = bytes_of(bytes, sizeof bytes);
    struct stop *stop = NULL;
    struct error error = {0};
    for (size_t i = 0; i < COUNT_OF(many); i++)
        many[i] = BYTES_LITERAL("x");
    assert_int_equal(stop_new(many, COUNT_OF(many), &stop, &error), STATUS_LIMIT);
    assert_int_equal(stop_new(&empty, 1, &stop, &error), STATUS_INVALID);
    assert_int_equal(stop_new(&too_long, 1, &stop, &error), STATUS_LIMIT);
    assert_null(stop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cuts), cmocka_unit_test(holds_back_no_more_than_needed),
                                       cmocka_unit_test(equals_a_naive_search), cmocka_unit_test(refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
