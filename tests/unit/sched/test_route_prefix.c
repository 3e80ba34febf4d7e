/* Which blocks a replica holds, as its events tell: gaps, snapshots, bounds, and a random walk against a plain list. */
#include "base/crypto.h"
#include "sched/route_prefix.h"
#include "tests/unit/sched/support.h"

static const uint8_t cache_key[32] = {1}, other_key[32] = {2}, cache_salt[32] = {3};

static void make_hash(uint8_t hash[16], uint64_t number)
{
    struct rng rng;
    rng_init(&rng, number);
    store_u64le(hash, rng_u64(&rng));
    store_u64le(hash + 8, rng_u64(&rng));
}

static bool holds(const struct route_prefix *prefix, uint64_t number)
{
    uint8_t hash[16];
    make_hash(hash, number);
    return route_prefix_holds(prefix, hash);
}

static bool stored(struct route_prefix *prefix, uint64_t sequence, uint64_t number)
{
    uint8_t hash[16];
    make_hash(hash, number);
    return route_prefix_events(prefix, 5, sequence, bytes_of(hash, 16), bytes_of(NULL, 0));
}

static void start(struct route_prefix *prefix, size_t blocks_max, uint64_t sequence)
{
    route_prefix_init(prefix, blocks_max);
    assert_false(route_prefix_snapshot(prefix, 5, sequence, 0, 1, bytes_of(NULL, 0)));
}

static void nothing_is_held_before_a_snapshot(void **state)
{
    (void)state;
    struct route_prefix prefix;
    route_prefix_init(&prefix, 100);
    assert_false(stored(&prefix, 1, 1));
    assert_false(holds(&prefix, 1));
    route_prefix_free(&prefix);
}

static void a_gap_makes_it_stale_and_asks_once(void **state)
{
    (void)state;
    struct route_prefix prefix;
    start(&prefix, 100, 10);
    assert_false(stored(&prefix, 10, 1)); /* the snapshot had it */
    assert_false(holds(&prefix, 1));
    assert_false(stored(&prefix, 11, 2));
    assert_true(holds(&prefix, 2));
    assert_true(stored(&prefix, 13, 3)); /* 12 is missing */
    assert_false(holds(&prefix, 2));
    assert_false(stored(&prefix, 14, 4)); /* asked already */
    assert_false(holds(&prefix, 4));
    route_prefix_free(&prefix);
}

static void another_generation_is_a_gap(void **state)
{
    (void)state;
    struct route_prefix prefix;
    start(&prefix, 100, 0);
    uint8_t hash[16];
    make_hash(hash, 1);
    assert_true(route_prefix_events(&prefix, 6, 1, bytes_of(hash, 16), bytes_of(NULL, 0)));
    assert_false(holds(&prefix, 1));
    route_prefix_free(&prefix);
}

static void half_a_hash_is_a_gap(void **state)
{
    (void)state;
    struct route_prefix prefix;
    start(&prefix, 100, 0);
    uint8_t hash[16] = {1};
    assert_true(route_prefix_events(&prefix, 5, 1, bytes_of(hash, 15), bytes_of(NULL, 0)));
    assert_true(route_prefix_snapshot(&prefix, 5, 1, 0, 1, bytes_of(hash, 7)));
    route_prefix_free(&prefix);
}

static void a_lost_tail_shows_in_load(void **state)
{
    (void)state;
    struct route_prefix prefix;
    start(&prefix, 100, 7);
    assert_false(route_prefix_check(&prefix, 7));
    assert_true(route_prefix_check(&prefix, 8));
    route_prefix_free(&prefix);
}

static void a_snapshot_holds_only_when_all_parts_came(void **state)
{
    (void)state;
    struct route_prefix prefix;
    route_prefix_init(&prefix, 100);
    uint8_t hash[2][16];
    make_hash(hash[0], 1);
    make_hash(hash[1], 2);
    assert_false(route_prefix_snapshot(&prefix, 5, 3, 0, 2, bytes_of(hash[0], 16)));
    assert_false(holds(&prefix, 1));
    assert_false(route_prefix_snapshot(&prefix, 5, 3, 1, 2, bytes_of(hash[1], 16)));
    assert_true(holds(&prefix, 1) && holds(&prefix, 2));
    /* A part out of its turn. */
    assert_false(route_prefix_snapshot(&prefix, 5, 4, 0, 3, bytes_of(hash[0], 16)));
    assert_true(route_prefix_snapshot(&prefix, 5, 4, 2, 3, bytes_of(hash[1], 16)));
    assert_false(holds(&prefix, 1));
    route_prefix_free(&prefix);
}

static void memory_is_bounded(void **state)
{
    (void)state;
    struct route_prefix prefix;
    start(&prefix, 10, 0);
    for (uint64_t i = 1; i <= 100; i++) {
        assert_false(stored(&prefix, i, i));
    }
    assert_int_equal(prefix.count, 10);
    assert_true(prefix.capacity <= 256);
    assert_true(holds(&prefix, 10) && !holds(&prefix, 11));
    route_prefix_free(&prefix);
}

/* 20,000 random changes; after each hundred, every member and every removed one is looked up. */
static void a_random_walk_equals_a_plain_list(void **state)
{
    (void)state;
    enum { NUMBERS = 700 };
    bool plain[NUMBERS] = {false};
    struct route_prefix prefix;
    struct rng rng;
    rng_init(&rng, 42);
    start(&prefix, NUMBERS, 0);
    for (uint64_t i = 1; i <= 20000; i++) {
        uint64_t in = rng_below(&rng, NUMBERS), out = rng_below(&rng, NUMBERS);
        uint8_t hashes[2][16];
        make_hash(hashes[0], in);
        make_hash(hashes[1], out);
        plain[out] = false;
        plain[in] = true;
        assert_false(route_prefix_events(&prefix, 5, i, bytes_of(hashes[0], 16), bytes_of(hashes[1], 16)));
        for (uint64_t n = 0; i % 100 == 0 && n < NUMBERS; n++) {
            assert_int_equal(holds(&prefix, n), plain[n]);
        }
    }
    route_prefix_free(&prefix);
}

static void hold_chain(struct route_prefix *prefix, const uint32_t *ids, size_t blocks)
{
    uint8_t parent[16] = {0}, hash[16];
    for (size_t i = 0; i < blocks; i++) {
        prefix_hash_next(hash, parent, cache_key, cache_salt, ids + 16 * i);
        assert_false(route_prefix_events(prefix, 5, prefix->sequence + 1, bytes_of(hash, 16), bytes_of(NULL, 0)));
        memcpy(parent, hash, 16);
    }
}

static void cached_tokens_follow_the_chain(void **state)
{
    (void)state;
    assert_int_equal(crypto_init(), STATUS_OK);
    uint32_t ids[80];
    for (uint32_t i = 0; i < 80; i++) {
        ids[i] = i * 7;
    }
    struct route_prefix held[3];
    const struct route_prefix *all[] = {&held[0], &held[1], &held[2]};
    for (size_t i = 0; i < 3; i++) {
        start(&held[i], 100, 0);
    }
    hold_chain(&held[0], ids, 2);
    hold_chain(&held[1], ids, 5);
    uint64_t cached[3];
    route_prefix_match(all, 3, ids, 80, cache_key, cache_salt, cached);
    assert_int_equal(cached[0], 32);
    assert_int_equal(cached[1], 64); /* of 80 tokens the last is always computed: 4 blocks at most */
    assert_int_equal(cached[2], 0);
    route_prefix_match(all, 3, ids, 33, cache_key, cache_salt, cached);
    assert_int_equal(cached[1], 32);
    route_prefix_match(all, 3, ids, 0, cache_key, cache_salt, cached);
    assert_int_equal(cached[1], 0);
    /* Another tenant's key finds nothing. */
    route_prefix_match(all, 3, ids, 80, other_key, cache_salt, cached);
    assert_int_equal(cached[1], 0);
    /* A difference in the second block ends the chain behind the first. */
    ids[20]++;
    route_prefix_match(all, 3, ids, 80, cache_key, cache_salt, cached);
    assert_int_equal(cached[0], 16);
    assert_int_equal(cached[1], 16);
    for (size_t i = 0; i < 3; i++) {
        route_prefix_free(&held[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_held_before_a_snapshot),
        cmocka_unit_test(a_gap_makes_it_stale_and_asks_once),
        cmocka_unit_test(another_generation_is_a_gap),
        cmocka_unit_test(half_a_hash_is_a_gap),
        cmocka_unit_test(a_lost_tail_shows_in_load),
        cmocka_unit_test(a_snapshot_holds_only_when_all_parts_came),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(a_random_walk_equals_a_plain_list),
        cmocka_unit_test(cached_tokens_follow_the_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
