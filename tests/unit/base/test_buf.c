/* Tests of base/buf: growth, the terminating zero, and an overflow that changes nothing but its flag. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/buf.h"

static void appends_and_grows(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 100000);
    assert_string_equal(buf_text(&buf), "");
    for (int i = 0; i < 1000; i++)
        buf_printf(&buf, "%d,", i);
    buf_append_text(&buf, "end");
    buf_append_u8(&buf, '.');
    buf_append_bytes(&buf, BYTES_LITERAL("!"));
    assert_int_equal(buf.length, 3890 + 5);
    assert_int_equal(strlen(buf_text(&buf)), buf.length);
    assert_memory_equal(buf.data, "0,1,2,3,", 8);
    assert_string_equal(buf_text(&buf) + buf.length - 9, "999,end.!");
    assert_false(buf.overflow);
    buf_free(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.max, 100000);
}

static void overflow_changes_nothing_else(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 5);
    buf_append(&buf, "abc", 3);
    buf_append(&buf, "def", 3);
    assert_true(buf.overflow);
    assert_string_equal(buf_text(&buf), "abc");
    buf_append(&buf, "d", 1); /* would fit, but a message with a hole is worse than a short one */
    assert_string_equal(buf_text(&buf), "abc");
    buf_printf(&buf, "%s", "de");
    assert_string_equal(buf_text(&buf), "abc");
    assert_null(buf_reserve(&buf, 1));
    buf_clear(&buf);
    assert_false(buf.overflow);
    assert_string_equal(buf_text(&buf), "");
    buf_append(&buf, "12345", 5);
    assert_false(buf.overflow);
    assert_string_equal(buf_text(&buf), "12345");
    assert_null(buf_reserve(&buf, SIZE_MAX));
    assert_true(buf.overflow);
    buf_free(&buf);
}

static void empty_appends_are_free(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 0);
    buf_append(&buf, NULL, 0);
    buf_append_text(&buf, "");
    buf_append_bytes(&buf, (struct bytes){0});
    buf_consume(&buf, 0);
    assert_null(buf.data);
    assert_false(buf.overflow);
    buf_append_u8(&buf, 'x');
    assert_true(buf.overflow);
    buf_free(&buf);
}

static void consume_drops_the_front(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 64);
    buf_append_text(&buf, "0123456789");
    buf_consume(&buf, 4);
    assert_string_equal(buf_text(&buf), "456789");
    buf_consume(&buf, 6);
    assert_string_equal(buf_text(&buf), "");
    assert_int_equal(buf.length, 0);
    buf_free(&buf);
}

static void reserve_gives_room(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 1 << 20);
    uint8_t *to = buf_reserve(&buf, 1 << 20);
    assert_non_null(to);
    assert_string_equal(buf_text(&buf), "");
    memset(to, 'z', 1 << 20);
    buf.length += 1 << 20;
    assert_int_equal(strlen(buf_text(&buf)), 1 << 20);
    assert_int_equal(buf_bytes(&buf).length, 1 << 20);
    buf_free(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_and_grows),      cmocka_unit_test(overflow_changes_nothing_else),
        cmocka_unit_test(empty_appends_are_free), cmocka_unit_test(consume_drops_the_front),
        cmocka_unit_test(reserve_gives_room),
    };
    return cmocka_run_group_tests_name("base.buf", tests, NULL, NULL);
}
