/* Promise: NFC is Unicode's, in time linear in the text, runs of combining marks included. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "text/unicode.h"

static void composes(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"", ""},
        {"plain ascii", "plain ascii"},
        {"e\xcc\x81", "\xc3\xa9"}, /* e + acute */
        {"x\xcc\xa7\xcc\x81"
         "e\xcc\x81",
         "x\xcc\xa7\xcc\x81\xc3\xa9"},                            /* a mark without a composed form stays */
        {"a\xcc\x81\xcc\xa3", "\xe1\xba\xa1\xcc\x81"},            /* dot below goes before acute, and composes */
        {"\xe2\x84\xab", "\xc3\x85"},                             /* Angstrom sign */
        {"\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c"}, /* Hangul by arithmetic */
        {"\xed\x95\x98\xe1\x86\xab", "\xed\x95\x9c"},             /* syllable + final */
        {"\xcc\x81"
         "a",
         "\xcc\x81"
         "a"},                                        /* a mark at the start */
        {"\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc"}, /* excluded from composition */
        {"\xe4\xbd\xa0\xe5\xa5\xbd", "\xe4\xbd\xa0\xe5\xa5\xbd"},
        {"\xef\xa4\x80", "\xe8\xb1\x88"}, /* compatibility ideograph */
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf out;
        buf_init(&out, 1000);
        unicode_nfc(bytes_of_text(cases[i].in), &out);
        assert_string_equal(buf_text(&out), cases[i].out);
        if (unicode_nfc_quick(bytes_of_text(cases[i].in)))
            assert_string_equal(cases[i].in, cases[i].out);
        buf_free(&out);
    }
}

/* A long run takes the counting sort, a short one the insertion sort: the first marks of both must agree. Alternating
 * classes 230 (above) and 220 (below), so order matters; a quadratic sort of a million would not end here. */
static void long_runs_are_ordered(void **state)
{
    (void)state;
    enum { PAIRS = 250000 };
    struct buf in, out;
    buf_init(&in, 16 << 20);
    buf_init(&out, 16 << 20);
    buf_append_text(&in, "q");
    for (int i = 0; i < PAIRS; i++)
        buf_append_text(&in, "\xcc\x80\xcc\xa3"); /* above, below */
    unicode_nfc(buf_bytes(&in), &out);
    assert_int_equal(out.length, in.length);
    for (size_t i = 0; i < PAIRS; i++) {
        assert_memory_equal(out.data + 1 + 2 * i, "\xcc\xa3", 2);
        assert_memory_equal(out.data + 1 + 2 * (PAIRS + i), "\xcc\x80", 2);
    }
    buf_free(&in);
    buf_free(&out);
}

static void classes(void **state)
{
    (void)state;
    assert_true(unicode_is_space(' ') && unicode_is_space(0x3000) && !unicode_is_space(0x180e) &&
                !unicode_is_space(0x200b));
    assert_true(unicode_is_strippable(0x1c) && !unicode_is_space(0x1c));
    assert_true(unicode_is_word('_') && unicode_is_word(0x4e00) && unicode_is_word('7') && !unicode_is_word('-'));
    assert_true(unicode_is_printable(0xe9) && !unicode_is_printable(0xa0) && !unicode_is_printable(0x200b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(composes), cmocka_unit_test(long_runs_are_ordered),
                                       cmocka_unit_test(classes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
