/* Tests of base/bytes: comparisons, the cursor that never reads past its end, and byte order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"

static void comparisons(void **state)
{
    (void)state;
    struct bytes empty = {0}, ab = BYTES_LITERAL("ab"), abc = BYTES_LITERAL("abc"), high = BYTES_LITERAL("a\xff");
    assert_true(bytes_equal(empty, bytes_of("", 0)));
    assert_true(bytes_equal(ab, bytes_of_text("ab")));
    assert_false(bytes_equal(ab, abc));
    assert_int_equal(bytes_compare(empty, empty), 0);
    assert_int_equal(bytes_compare(empty, ab), -1);
    assert_int_equal(bytes_compare(abc, ab), 1);
    assert_int_equal(bytes_compare(abc, high), -1); /* unsigned bytes */
    assert_true(bytes_starts_with(abc, ab));
    assert_true(bytes_starts_with(abc, empty));
    assert_true(bytes_starts_with(empty, empty));
    assert_false(bytes_starts_with(ab, abc));
    assert_false(bytes_starts_with(abc, high));
}

static void cursor_reads_little_endian(void **state)
{
    (void)state;
    uint8_t data[15];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i + 1);
    struct cursor cursor = cursor_of(bytes_of(data, sizeof data));
    assert_int_equal(cursor_u8(&cursor), 1);
    assert_int_equal(cursor_u16le(&cursor), 0x0302);
    assert_int_equal(cursor_u32le(&cursor), 0x07060504);
    assert_true(cursor_u64le(&cursor) == 0x0f0e0d0c0b0a0908u);
    assert_int_equal(cursor_left(&cursor), 0);
    assert_false(cursor.bad);
    assert_int_equal(cursor_take(&cursor, 0).length, 0);
    cursor_skip(&cursor, 0);
    assert_false(cursor.bad);
}

/* Every kind of read at every length that is one byte short, on heap memory, so that ASan sees a read past it. */
static void short_reads_turn_bad_and_give_zero(void **state)
{
    (void)state;
    for (size_t size = 1; size <= 8; size *= 2) {
        uint8_t *data = mem_alloc(size - 1);
        memset(data, 0xff, size - 1);
        struct cursor cursor = cursor_of(bytes_of(data, size - 1));
        uint64_t value = size == 1   ? cursor_u8(&cursor)
                         : size == 2 ? cursor_u16le(&cursor)
                         : size == 4 ? cursor_u32le(&cursor)
                                     : cursor_u64le(&cursor);
        assert_true(value == 0);
        assert_true(cursor.bad);
        assert_int_equal(cursor_u8(&cursor), 0); /* stays bad although bytes were left */
        assert_int_equal(cursor_left(&cursor), 0);
        mem_free(data);
    }
}

static void huge_lengths_are_refused(void **state)
{
    (void)state;
    struct cursor cursor = cursor_of(BYTES_LITERAL("abcd"));
    assert_int_equal(cursor_u8(&cursor), 'a');
    struct bytes taken = cursor_take(&cursor, UINT64_MAX);
    assert_null(taken.data);
    assert_int_equal(taken.length, 0);
    assert_true(cursor.bad);

    cursor = cursor_of(BYTES_LITERAL("abcd"));
    cursor_skip(&cursor, 1);
    taken = cursor_take(&cursor, 3);
    assert_true(bytes_equal(taken, BYTES_LITERAL("bcd")));
    assert_false(cursor.bad);
    cursor_skip(&cursor, 1);
    assert_true(cursor.bad);
    assert_null(cursor_take(&cursor, 0).data);
}

static void stores_match_loads(void **state)
{
    (void)state;
    uint8_t data[8];
    store_u16le(data, 0xbeef);
    assert_memory_equal(data, "\xef\xbe", 2);
    assert_int_equal(load_u16le(data), 0xbeef);
    store_u32le(data, 0xdeadbeef);
    assert_memory_equal(data, "\xef\xbe\xad\xde", 4);
    assert_true(load_u32le(data) == 0xdeadbeef);
    store_u64le(data, 0x8123456789abcdefu);
    assert_memory_equal(data, "\xef\xcd\xab\x89\x67\x45\x23\x81", 8);
    assert_true(load_u64le(data) == 0x8123456789abcdefu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comparisons),
        cmocka_unit_test(cursor_reads_little_endian),
        cmocka_unit_test(short_reads_turn_bad_and_give_zero),
        cmocka_unit_test(huge_lengths_are_refused),
        cmocka_unit_test(stores_match_loads),
    };
    return cmocka_run_group_tests_name("base.bytes", tests, NULL, NULL);
}
