/* Tests of base/arena: alignment, zeroing, the maximum, and failing allocations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/arena.h"
#include "base/mem.h"

static void blocks_are_aligned_zeroed_and_apart(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 64 << 20);
    uint8_t *kept[200];
    for (size_t i = 0; i < 200; i++) {
        size_t size = 1 + i * i;
        kept[i] = arena_alloc(&arena, size);
        assert_non_null(kept[i]);
        assert_int_equal((uintptr_t)kept[i] % 16, 0);
        for (size_t at = 0; at < size; at++)
            assert_int_equal(kept[i][at], 0);
        memset(kept[i], (int)i, size);
    }
    for (size_t i = 0; i < 200; i++) {
        for (size_t at = 0; at < 1 + i * i; at++)
            assert_int_equal(kept[i][at], (uint8_t)i);
    }
    uint8_t *large = arena_alloc(&arena, 5 << 20);
    assert_non_null(large);
    large[(5 << 20) - 1] = 1;
    arena_free(&arena);
    assert_int_equal(arena.used, 0);
    assert_non_null(arena_alloc(&arena, 1)); /* usable again */
    arena_free(&arena);
}

static void the_maximum_holds(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 1000);
    assert_null(arena_alloc(&arena, 1001));
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_alloc_array(&arena, SIZE_MAX / 2, 3));
    size_t count = 0;
    while (arena_alloc(&arena, 10) != NULL)
        count++;
    assert_int_equal(count, 1000 / 16);
    assert_true(arena.used <= 1000);
    arena_free(&arena);
    arena_init(&arena, 0);
    assert_null(arena_alloc(&arena, 0));
    arena_free(&arena);
}

static void copies(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 4096);
    assert_string_equal(arena_strndup(&arena, "hello", 2), "he");
    assert_string_equal(arena_strndup(&arena, "hi", 99), "hi");
    assert_memory_equal(arena_dup(&arena, "\0\1", 2), "\0\1", 2);
    assert_non_null(arena_dup(&arena, NULL, 0));
    assert_non_null(arena_alloc_array(&arena, 3, 5));
    arena_free(&arena);
}

static void running_out_of_memory_is_an_answer(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    mem_fail_after(0);
    assert_null(arena_alloc(&arena, 100));
    assert_non_null(arena_alloc(&arena, 100));
    mem_fail_after(0);
    assert_null(arena_alloc(&arena, 1 << 20));
    assert_non_null(arena_strndup(&arena, "fits the first block", 100));
    mem_fail_after(-1);
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_aligned_zeroed_and_apart),
        cmocka_unit_test(the_maximum_holds),
        cmocka_unit_test(copies),
        cmocka_unit_test(running_out_of_memory_is_an_answer),
    };
    return cmocka_run_group_tests_name("base.arena", tests, NULL, NULL);
}
