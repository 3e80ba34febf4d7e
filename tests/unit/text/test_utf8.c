/* Promise: exactly Unicode's well-formed sequences are valid; the rest becomes U+FFFD as Python's "replace" does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"
#include "text/utf8.h"

#define FFFD "\xef\xbf\xbd"

static void every_code_point(void **state)
{
    (void)state;
    for (uint32_t point = 0; point <= 0x10ffff; point++) {
        if (point >= 0xd800 && point <= 0xdfff)
            continue;
        uint8_t bytes[4];
        uint32_t back = 0;
        size_t length = utf8_encode(point, bytes);
        assert_int_equal(utf8_decode(bytes_of(bytes, length), &back), length);
        assert_int_equal(back, point);
        if (length > 1) /* a prefix asks for more */
            assert_int_equal(utf8_decode(bytes_of(bytes, length - 1), &back), 0);
    }
}

/* Expected values are those of bytes.decode("utf-8", "replace"). */
static void replacements(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"", ""},
        {"plain", "plain"},
        {"\xc3\xa9", "\xc3\xa9"},
        {"\x80", FFFD},
        {"\xc0\x80", FFFD FFFD},
        {"\xc3", FFFD},
        {"\xc3(", FFFD "("},
        {"\xe2\x82", FFFD},
        {"\xe2\x82(", FFFD "("},
        {"\xe0\x80\x80", FFFD FFFD FFFD},
        {"\xed\xa0\x80", FFFD FFFD FFFD},
        {"\xf0\x9f\x98", FFFD},
        {"\xf0\x9f\x98"
         "a",
         FFFD "a"},
        {"\xf0\x80\x80\x80", FFFD FFFD FFFD FFFD},
        {"\xf4\x90\x80\x80", FFFD FFFD FFFD FFFD},
        {"\xf5\x80", FFFD FFFD},
        {"\xff\xfe"
         "a",
         FFFD FFFD "a"},
        {"abcdefgh\xf0\x9f\x98\x80ijklmnop\xff", "abcdefgh\xf0\x9f\x98\x80ijklmnop" FFFD},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf out;
        buf_init(&out, 1000);
        struct bytes in = bytes_of_text(cases[i].in);
        utf8_replace(in, &out);
        assert_string_equal(buf_text(&out), cases[i].out);
        assert_true(utf8_valid(buf_bytes(&out)));
        assert_int_equal(utf8_valid(in), bytes_equal(in, buf_bytes(&out)));
        buf_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_code_point), cmocka_unit_test(replacements)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
