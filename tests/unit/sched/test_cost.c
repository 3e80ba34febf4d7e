/* Promises of sched/cost: it learns the coefficients that made the times, never a negative one, follows a change, and
 * a chunk within a budget is the largest there is. */
#include "tests/unit/sched/support.h"

#include <math.h>

#include "sched/cost.h"

static const struct cost_model truth = {.base_s = 0.002, .token_s = 0.0004, .kv_token_s = 2e-7};

static void observe_random(struct cost *cost, struct rng *rng, const struct cost_model *model, double noise)
{
    bool prefill = rng_below(rng, 3) == 0;
    uint64_t tokens = prefill ? 1 + rng_below(rng, 512) : 1 + rng_below(rng, 16);
    uint64_t kv_tokens = prefill ? cost_kv_tokens(rng_below(rng, 4000), tokens) : tokens * (1 + rng_below(rng, 8000));
    double seconds = model->base_s + model->token_s * (double)tokens + model->kv_token_s * (double)kv_tokens;
    cost_observe(cost, tokens, kv_tokens, seconds * (1 + noise * (2 * rng_unit(rng) - 1)));
}

static bool within(double value, double expected, double relative)
{
    return fabs(value - expected) <= relative * expected;
}

static void test_it_learns_exact_times(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 1);
    struct cost cost;
    cost_init(&cost, (struct cost_model){.base_s = 0.1, .token_s = 0.1, .kv_token_s = 0.1});
    for (int i = 0; i < 20 * COST_MEMORY_STEPS; i++)
        observe_random(&cost, &rng, &truth, 0);
    /* Noiseless, so only what is left of the prior (e⁻⁶ of it at most, weighted by its much longer times) stands
     * between fit and truth. */
    assert_true(within(cost.model.base_s, truth.base_s, 1e-3));
    assert_true(within(cost.model.token_s, truth.token_s, 1e-3));
    assert_true(within(cost.model.kv_token_s, truth.kv_token_s, 1e-3));
}

static void test_it_follows_a_machine_that_slows_down(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 2);
    struct cost cost;
    cost_init(&cost, truth);
    for (int i = 0; i < 1000; i++)
        observe_random(&cost, &rng, &truth, 0.1);
    struct cost_model slow = {2 * truth.base_s, 2 * truth.token_s, 2 * truth.kv_token_s};
    for (int i = 0; i < 20 * COST_MEMORY_STEPS; i++)
        observe_random(&cost, &rng, &slow, 0.1);
    /* ±10 % noise over about 200 remembered steps: the prediction's error is about 10 % / √200, doubled for a margin.
     */
    double expected = slow.base_s + slow.token_s * 256 + slow.kv_token_s * 100000;
    assert_true(within(cost_predict(&cost, 256, 100000), expected, 0.03));
}

static void test_no_coefficient_is_ever_negative(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct rng rng;
        rng_init(&rng, seed);
        struct cost cost;
        cost_init(&cost, truth);
        for (int i = 0; i < 200; i++) { /* times that have nothing to do with the work */
            uint64_t tokens = 1 + rng_below(&rng, 512);
            cost_observe(&cost, tokens, tokens * rng_below(&rng, 8000), 1e-4 + rng_unit(&rng));
            assert_true(cost.model.base_s >= 0 && cost.model.token_s >= 0 && cost.model.kv_token_s >= 0);
            assert_true(isfinite(cost_predict(&cost, 512, 4000000)));
        }
    }
}

static void test_it_ignores_times_that_mean_nothing(void **state)
{
    (void)state;
    struct cost cost;
    cost_init(&cost, truth);
    cost_observe(&cost, 0, 0, 1);
    cost_observe(&cost, 1, 1, 0);
    cost_observe(&cost, 1, 1, NAN);
    cost_observe(&cost, 1, 1, INFINITY);
    assert_memory_equal(&cost.model, &truth, sizeof(truth));
}

static void test_identical_steps_alone_still_predict_themselves(void **state)
{
    (void)state;
    struct cost cost; /* one stream that decodes: the columns can't be told apart, the sum can */
    cost_init(&cost, (struct cost_model){.base_s = 0.001, .token_s = 0.001, .kv_token_s = 1e-7});
    for (int i = 0; i < 1000; i++)
        cost_observe(&cost, 1, 100, 0.005);
    assert_true(within(cost_predict(&cost, 1, 100), 0.005, 0.01));
}

static void test_long_decoding_does_not_forget_what_prefill_costs(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 3);
    struct cost cost;
    cost_init(&cost, (struct cost_model){0.001, 0.001, 1e-7});
    for (int i = 0; i < 300; i++)
        observe_random(&cost, &rng, &truth, 0.05);
    double before = cost_predict(&cost, 512, cost_kv_tokens(0, 512));
    for (uint64_t i = 0; i < 100000; i++)
        cost_observe(&cost, 4, 4000 + i % 1000,
                     truth.base_s + 4 * truth.token_s + truth.kv_token_s * (double)(4000 + i % 1000));
    assert_true(within(cost_predict(&cost, 512, cost_kv_tokens(0, 512)), before, 0.05));
}

static void test_the_chunk_within_a_budget_is_the_largest(void **state)
{
    (void)state;
    struct cost cost;
    cost_init(&cost, truth);
    for (uint32_t position = 0; position < 8000; position += 997) {
        uint32_t chunk = cost_chunk_within(&cost, 10, 5000, position, 512, 0.05);
        assert_in_range(chunk, 1, 511);
        assert_true(cost_predict(&cost, 10 + chunk, 5000 + cost_kv_tokens(position, chunk)) <= 0.05);
        assert_true(cost_predict(&cost, 11 + chunk, 5000 + cost_kv_tokens(position, chunk + 1)) > 0.05);
    }
    assert_int_equal(cost_chunk_within(&cost, 0, 0, 0, 512, 0), 512);
    assert_int_equal(cost_chunk_within(&cost, 0, 0, 0, 512, 1e-6), 0);
    assert_int_equal(cost_kv_tokens(10, 3), 11 + 12 + 13);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_learns_exact_times),
        cmocka_unit_test(test_it_follows_a_machine_that_slows_down),
        cmocka_unit_test(test_no_coefficient_is_ever_negative),
        cmocka_unit_test(test_it_ignores_times_that_mean_nothing),
        cmocka_unit_test(test_identical_steps_alone_still_predict_themselves),
        cmocka_unit_test(test_long_decoding_does_not_forget_what_prefill_costs),
        cmocka_unit_test(test_the_chunk_within_a_budget_is_the_largest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
