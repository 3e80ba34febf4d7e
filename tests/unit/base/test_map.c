/* Tests of base/map: random operations against a plain array as the model, long and short keys, and the bound. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"

enum { KEYS = 500, STEPS = 200000 };

static char *key_texts[KEYS];
static size_t key_lengths[KEYS];
static int values[STEPS + 1];

/* Lengths 0 (once) to 59, with zeros inside: both sides of the inline limit. */
static void make_keys(void)
{
    for (size_t i = 0; i < KEYS; i++) {
        key_texts[i] = mem_alloc(64);
        key_lengths[i] = i == 0 ? 0 : 8 + i % 52;
        snprintf(key_texts[i], 64, "%zu", i);
    }
}

static void free_keys(void)
{
    for (size_t i = 0; i < KEYS; i++)
        mem_free(key_texts[i]);
}

static void check_iteration(const struct map *map, void *const model[KEYS])
{
    bool seen[KEYS] = {false};
    size_t at = 0, count = 0;
    struct bytes key;
    void *value;
    while (map_next(map, &at, &key, &value)) {
        size_t i = 0;
        while (i < KEYS && !bytes_equal(key, bytes_of(key_texts[i], key_lengths[i])))
            i++;
        assert_true(i < KEYS);
        assert_false(seen[i]);
        assert_ptr_equal(value, model[i]);
        seen[i] = true;
        count++;
    }
    assert_int_equal(count, map->count);
}

static void random_operations_match_a_model(void **state)
{
    (void)state;
    make_keys();
    struct map map;
    map_init(&map, KEYS);
    void *model[KEYS] = {0};
    size_t count = 0;
    struct rng rng;
    rng_init(&rng, 1);
    for (int step = 0; step < STEPS; step++) {
        /* Phases favour putting, then removing, so that the table fills up and runs empty. */
        bool filling = step / 10000 % 2 == 0;
        size_t i = (size_t)rng_below(&rng, KEYS);
        struct bytes key = bytes_of(key_texts[i], key_lengths[i]);
        uint64_t dice = rng_below(&rng, 10);
        if (dice < 2) {
            assert_ptr_equal(map_get(&map, key), model[i]);
        } else if ((dice < 8) == filling) {
            assert_int_equal(map_put(&map, key, &values[step]), STATUS_OK);
            count += model[i] == NULL;
            model[i] = &values[step];
        } else {
            assert_ptr_equal(map_remove(&map, key), model[i]);
            count -= model[i] != NULL;
            model[i] = NULL;
        }
        assert_int_equal(map.count, count);
        if (step % 5000 == 0)
            check_iteration(&map, model);
    }
    assert_true(map.capacity <= 2048); /* tombstones are shed, not piled up */
    map_free(&map);
    free_keys();
}

static void the_bound_holds(void **state)
{
    (void)state;
    struct map map;
    map_init(&map, 3);
    int x = 0;
    for (uint64_t key = 1; key <= 3; key++)
        assert_int_equal(map_put_u64(&map, key, &x), STATUS_OK);
    assert_int_equal(map_put_u64(&map, 4, &x), STATUS_FULL);
    assert_int_equal(map_put_u64(&map, 2, &values[0]), STATUS_OK); /* replacing needs no room */
    assert_ptr_equal(map_get_u64(&map, 2), &values[0]);
    assert_ptr_equal(map_remove_u64(&map, 1), &x);
    assert_int_equal(map_put_u64(&map, 4, &x), STATUS_OK);
    assert_null(map_get_u64(&map, 1));
    assert_ptr_equal(map_get_u64(&map, 4), &x);
    map_free(&map);
    assert_null(map_get_u64(&map, 4));
    assert_null(map_remove_u64(&map, 4));
    map_free(&map);
}

/* A key that comes and goes takes its own tombstone back, so the table is not rebuilt over and over. */
static void tombstones_are_used_again(void **state)
{
    (void)state;
    struct map map;
    map_init(&map, 10);
    int x = 0;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(map_put_u64(&map, 7, &x), STATUS_OK);
        assert_int_equal(map.tombstones, 0);
        assert_ptr_equal(map_remove_u64(&map, 7), &x);
        assert_int_equal(map.tombstones, 1);
    }
    map_free(&map);
}

static void keys_are_copied(void **state)
{
    (void)state;
    struct map map;
    map_init(&map, 10);
    char name[64] = "a key that is longer than what a slot holds inside";
    int x = 0;
    assert_int_equal(map_put(&map, bytes_of_text(name), &x), STATUS_OK);
    memset(name, 'x', 10);
    assert_null(map_get(&map, bytes_of_text(name)));
    assert_ptr_equal(map_get(&map, BYTES_LITERAL("a key that is longer than what a slot holds inside")), &x);
    map_free(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_match_a_model),
        cmocka_unit_test(the_bound_holds),
        cmocka_unit_test(tombstones_are_used_again),
        cmocka_unit_test(keys_are_copied),
    };
    return cmocka_run_group_tests_name("base.map", tests, NULL, NULL);
}
