/* Tests of base/rng: published vectors of xoshiro256**, splitmix64 and Philox4x32-10, and uniformity below a bound. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/rng.h"

/* The outputs that the authors' reference gives for the state 1, 2, 3, 4. */
static void xoshiro_vectors(void **state)
{
    (void)state;
    static const uint64_t expected[] = {11520u,
                                        0u,
                                        1509978240u,
                                        1215971899390074240u,
                                        1216172134540287360u,
                                        607988272756665600u,
                                        16172922978634559625u,
                                        8476171486693032832u,
                                        10595114339597558777u,
                                        2904607092377533576u};
    struct rng rng = {{1, 2, 3, 4}};
    for (size_t i = 0; i < COUNT_OF(expected); i++)
        assert_true(rng_u64(&rng) == expected[i]);
}

static void splitmix_seeds(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 0);
    assert_true(rng.state[0] == 0xe220a8397b1dcdafu);
    assert_true(rng.state[1] == 0x6e789e6aa1b965f4u);
    assert_true(rng.state[2] == 0x06c45d188009454fu);
    assert_true(rng.state[3] == 0xf88bb8a8724c81ecu);
}

/* Random123's kat_vectors for philox4x32, 10 rounds. */
static void philox_vectors(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } vectors[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < COUNT_OF(vectors); i++) {
        uint32_t out[4];
        philox4x32(vectors[i].key, vectors[i].counter, out);
        assert_memory_equal(out, vectors[i].out, sizeof out);
    }
}

static void below_stays_below_and_is_uniform(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 7);
    enum { SIDES = 6, THROWS = 60000 };
    int counts[SIDES] = {0};
    for (int i = 0; i < THROWS; i++)
        counts[rng_below(&rng, SIDES)]++;
    /* Each count is binomial with a standard deviation of 91; the seed is fixed, so this can't flake. */
    for (int i = 0; i < SIDES; i++)
        assert_in_range(counts[i], THROWS / SIDES - 400, THROWS / SIDES + 400);
    for (int i = 0; i < 100; i++)
        assert_true(rng_below(&rng, 1) == 0);
    /* At this bound the plain product would hit every third value twice as often as the others. */
    uint64_t bound = (uint64_t)3 << 62;
    int thirds = 0;
    for (int i = 0; i < THROWS; i++) {
        uint64_t value = rng_below(&rng, bound);
        assert_true(value < bound);
        thirds += value % 3 == 0;
    }
    assert_in_range(thirds, THROWS / 3 - 600, THROWS / 3 + 600);
}

static void unit_is_in_range(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 9);
    double sum = 0;
    for (int i = 0; i < 100000; i++) {
        double value = rng_unit(&rng);
        assert_true(value >= 0 && value < 1);
        sum += value;
    }
    assert_true(sum > 49000 && sum < 51000); /* standard deviation 91 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(xoshiro_vectors),  cmocka_unit_test(splitmix_seeds),
        cmocka_unit_test(philox_vectors),   cmocka_unit_test(below_stays_below_and_is_uniform),
        cmocka_unit_test(unit_is_in_range),
    };
    return cmocka_run_group_tests_name("base.rng", tests, NULL, NULL);
}
