/* Promises of sched/batch, step by step: what a plan holds and in which order. The "model" is a function of all ids
 * before a position, so that every token that comes out can be checked against the undisturbed stream. */
#include "tests/unit/sched/support.h"

#include "base/crypto.h"
#include "base/hash.h"
#include "base/mem.h"
#include "sched/batch.h"
#include "tests/unit/sched/batch_support.h"

static const struct batch_config small = {
    .blocks = 32, .slots = 4, .streams_max = 8, .step_tokens_max = 64, .context_tokens = 256, .vocab_size = VOCAB};

static void test_a_prompt_is_computed_in_chunks_then_decoded(void **state)
{
    (void)state;
    struct driver driver;
    driver_open(&driver, &small);
    driver_submit(&driver, 1, 7, 150, 3, 0);
    const uint32_t counts[] = {64, 64, 22, 1, 1}, positions[] = {0, 64, 128, 150, 151};
    for (int i = 0; i < 5; i++) {
        driver_plan(&driver);
        assert_int_equal(driver.plan.rows_count, 1);
        const struct batch_row *row = &driver.plan.rows[0];
        assert_int_equal(row->count, counts[i]);
        assert_int_equal(row->position, positions[i]);
        assert_int_equal(row->want_token, i >= 2);
        assert_int_equal(row->reset, i == 0);
        driver_complete(&driver);
    }
    assert_int_equal(driver_finish_of(&driver, 1), BATCH_FINISH_LENGTH);
    assert_int_equal(driver.streams[1].tokens, 3);
    assert_true(batch_idle(driver.batch));
    driver_close(&driver);
}

static void test_decodes_come_first_and_prefill_takes_the_rest(void **state)
{
    (void)state;
    struct driver driver;
    driver_open(&driver, &small);
    driver_submit(&driver, 1, 1, 10, 50, 0);
    driver_step(&driver);
    driver_submit(&driver, 2, 2, 200, 50, 0);
    driver_plan(&driver);
    assert_int_equal(driver.plan.rows_count, 2);
    assert_int_equal(driver.plan.rows[0].handle, 1);
    assert_int_equal(driver.plan.rows[0].count, 1);
    assert_int_equal(driver.plan.rows[1].handle, 2);
    assert_int_equal(driver.plan.rows[1].count, 48); /* 63 are left; the chunk ends at a block's border */
    driver_complete(&driver);
    driver_close(&driver);
}

static void test_a_steps_predicted_time_bounds_prefill_but_never_starves_it(void **state)
{
    (void)state;
    struct batch_config config = small;
    config.step_budget_s = 0.010;
    struct driver driver;
    driver_open(&driver, &config);
    cost_init(&driver.cost, (struct cost_model){.base_s = 0.002, .token_s = 0.0002, .kv_token_s = 0});
    driver_submit(&driver, 1, 1, 100, 10, 0);
    driver_plan(&driver);
    assert_int_equal(driver.plan.rows[0].count, 32); /* 40 would fit, 32 end at a border */
    driver_complete(&driver);
    cost_init(&driver.cost, (struct cost_model){.base_s = 1, .token_s = 1, .kv_token_s = 0});
    driver_plan(&driver);
    assert_int_equal(driver.plan.rows[0].count, 16);
    driver_complete(&driver);
    driver_close(&driver);
}

static void test_the_second_stream_takes_the_firsts_prefix(void **state)
{
    (void)state;
    struct driver driver;
    driver_open(&driver, &small);
    driver_submit(&driver, 1, 1, 48, 2, 0);
    driver_run(&driver, 100);
    driver_submit(&driver, 2, 1, 48, 2, 0); /* equal prompt */
    driver_plan(&driver);
    assert_int_equal(driver.plan.rows[0].position, 32); /* ⌊47 / 16⌋ blocks: the last token is always computed */
    assert_int_equal(driver.plan.rows[0].count, 16);
    assert_int_equal(driver.plan.rows[0].new_blocks_count, 3);
    driver_complete(&driver);
    driver_run(&driver, 100);
    assert_int_equal(driver.streams[2].cached_tokens, 32);
    assert_int_equal(driver.streams[1].cached_tokens, 0);
    driver_close(&driver);
}

static void test_another_tenants_prefix_is_not_found(void **state)
{
    (void)state;
    struct driver driver;
    driver_open(&driver, &small);
    driver_submit(&driver, 1, 1, 48, 2, 0);
    driver_run(&driver, 100);
    driver.tenant = 9;
    driver_submit(&driver, 2, 1, 48, 2, 0);
    driver_run(&driver, 100);
    assert_int_equal(driver.streams[2].cached_tokens, 0);
    driver_close(&driver);
}

static void test_equal_prompts_at_once_are_computed_once(void **state)
{
    (void)state;
    struct driver driver;
    driver_open(&driver, &small);
    for (uint64_t handle = 1; handle <= 4; handle++)
        driver_submit(&driver, handle, 5, 100, 4, 0);
    driver_submit(&driver, 5, 6, 10, 4, 0); /* a stranger passes those that wait */
    driver_plan(&driver);
    assert_int_equal(driver.plan.rows_count, 1);
    assert_int_equal(driver.plan.rows[0].handle, 1);
    driver_complete(&driver);
    driver_plan(&driver);
    assert_int_equal(driver.plan.rows_count, 2);
    assert_int_equal(driver.plan.rows[1].handle, 5);
    driver_complete(&driver);
    driver_run(&driver, 100);
    assert_int_equal(driver.streams[1].cached_tokens, 0);
    for (uint64_t handle = 2; handle <= 4; handle++)
        assert_int_equal(driver.streams[handle].cached_tokens, 96);
    assert_int_equal(driver.tokens_computed, 100 + 3 * 4 + 10 + 4 * 3 + 3);
    driver_close(&driver);
}

static void test_who_waits_goes_on_when_the_other_is_cancelled(void **state)
{
    (void)state;
    struct driver driver;
    driver_open(&driver, &small);
    driver_submit(&driver, 1, 5, 200, 4, 0);
    driver_submit(&driver, 2, 5, 200, 4, 0);
    driver_step(&driver);
    assert_true(batch_cancel(driver.batch, 1));
    driver_plan(&driver);
    assert_int_equal(driver_finish_of(&driver, 1), BATCH_FINISH_CANCELLED);
    assert_int_equal(driver.plan.rows[0].handle, 2);
    assert_int_equal(driver.plan.rows[0].position, 64); /* what the first had done is not done again */
    driver_complete(&driver);
    driver_run(&driver, 100);
    driver_close(&driver);
}

static void test_important_streams_are_admitted_first(void **state)
{
    (void)state;
    struct driver driver;
    driver_open(&driver, &small);
    driver_submit(&driver, 1, 1, 20, 4, 5);
    driver_submit(&driver, 2, 2, 20, 4, 5);
    driver_submit(&driver, 3, 3, 20, 4, 1);
    driver_plan(&driver);
    assert_int_equal(driver.plan.rows[0].handle, 3);
    assert_int_equal(driver.plan.rows[1].handle, 1);
    assert_int_equal(driver.plan.rows[2].handle, 2);
    driver_complete(&driver);
    driver_run(&driver, 100);
    driver_close(&driver);
}

static void test_a_dry_pool_preempts_the_youngest_of_the_lowest_priority(void **state)
{
    (void)state;
    struct batch_config config = small;
    config.blocks = 6;
    struct driver driver;
    driver_open(&driver, &config);
    driver_submit(&driver, 1, 1, 16, 48, 3); /* the oldest, and of the lowest priority */
    driver_submit(&driver, 2, 2, 16, 48, 1);
    driver_submit(&driver, 3, 3, 16, 48, 1);
    do {
        driver_step(&driver);
    } while (driver.plan.rows_count == 3);
    assert_int_equal(driver.plan.rows_count, 2);
    assert_int_equal(driver.plan.rows[0].handle, 2);
    assert_int_equal(driver.plan.rows[1].handle, 1);
    assert_int_equal(driver.streams[1].count, 16 + 18); /* all computed 32, then one more with a third block */
    driver_run(&driver, 300);
    assert_int_equal(driver.streams[1].restarts, 1); /* the oldest never goes */
    assert_true(driver.streams[3].restarts > 1);
    driver_close(&driver);
}

static void test_cancel_takes_effect_before_the_next_step(void **state)
{
    (void)state;
    struct driver driver;
    driver_open(&driver, &small);
    driver_submit(&driver, 1, 1, 20, 100, 0);
    driver_step(&driver);
    struct batch_load load;
    batch_load(driver.batch, &load);
    assert_int_equal(load.running, 1);
    assert_int_equal(load.blocks_used, 2);
    assert_true(batch_cancel(driver.batch, 1));
    assert_true(batch_cancel(driver.batch, 1)); /* twice is once */
    assert_false(batch_cancel(driver.batch, 2));
    driver_plan(&driver);
    assert_int_equal(driver.plan.rows_count, 0);
    assert_int_equal(driver_finish_of(&driver, 1), BATCH_FINISH_CANCELLED);
    batch_load(driver.batch, &load);
    assert_int_equal(load.blocks_used, 0);
    assert_int_equal(load.blocks_cached, 1);
    driver_close(&driver);
}

static void test_end_ids_and_stop_ids_end_a_stream(void **state)
{
    (void)state;
    struct batch_config config = small;
    uint32_t ids[256];
    driver_ids(ids, 3, 20);
    driver_continue(ids, 20, 30);
    const uint32_t end_ids[] = {VOCAB - 1, ids[24]};
    config.end_ids = end_ids;
    config.end_ids_count = 2;
    struct driver driver;
    driver_open(&driver, &config);
    driver_submit(&driver, 1, 3, 20, 10, 0);
    driver_run(&driver, 100);
    assert_int_equal(driver_finish_of(&driver, 1), BATCH_FINISH_STOP);
    assert_int_equal(driver.streams[1].tokens, 5); /* the end id comes out last */

    struct batch_request request = {.handle = 2,
                                    .ids = ids,
                                    .ids_count = 20,
                                    .prompt_tokens = 20,
                                    .max_tokens = 10,
                                    .ignore_eos = true,
                                    .stop_ids = &ids[26],
                                    .stop_ids_count = 1};
    assert_int_equal(driver_request(&driver, &request), STATUS_OK);
    driver_run(&driver, 100);
    assert_int_equal(driver_finish_of(&driver, 2), BATCH_FINISH_STOP);
    assert_int_equal(driver.streams[2].tokens, 7);
    driver_close(&driver);
}

static void test_limits_count_from_the_original_prompt(void **state)
{
    (void)state;
    uint32_t ids[256];
    driver_ids(ids, 3, 20);
    driver_continue(ids, 20, 10);
    struct driver driver;
    driver_open(&driver, &small);
    struct batch_request request = {.handle = 1, .ids = ids, .ids_count = 27, .prompt_tokens = 20, .max_tokens = 10};
    assert_int_equal(driver_request(&driver, &request), STATUS_OK);
    driver_run(&driver, 100);
    assert_int_equal(driver.streams[1].tokens, 3);
    assert_int_equal(driver_finish_of(&driver, 1), BATCH_FINISH_LENGTH);
    assert_int_equal(driver.streams[1].completion_tokens, 10);

    request.ids_count = 30; /* resumed behind its last token: nothing is computed */
    request.handle = 2;
    assert_int_equal(driver_request(&driver, &request), STATUS_OK);
    driver_plan(&driver);
    assert_int_equal(driver.plan.rows_count, 0);
    assert_int_equal(driver_finish_of(&driver, 2), BATCH_FINISH_LENGTH);
    driver_close(&driver);
}

static void test_what_can_never_run_is_refused(void **state)
{
    (void)state;
    struct batch_config config = small;
    config.blocks = 8;
    struct driver driver;
    driver_open(&driver, &config);
    uint32_t ids[300] = {0};
    struct batch_request request = {.handle = 1, .ids = ids, .ids_count = 100, .prompt_tokens = 100, .max_tokens = 28};
    assert_int_equal(driver_request(&driver, &request), STATUS_OK);
    assert_int_equal(driver_request(&driver, &request), STATUS_EXISTS);
    request.handle = 2, request.max_tokens = 29;
    assert_int_equal(driver_request(&driver, &request), STATUS_LIMIT); /* the pool's 128 */
    request.max_tokens = 200;
    assert_int_equal(driver_request(&driver, &request), STATUS_LIMIT); /* the context's 256 */
    request.max_tokens = UINT32_MAX;
    assert_int_equal(driver_request(&driver, &request), STATUS_LIMIT);
    request.max_tokens = 0;
    assert_int_equal(driver_request(&driver, &request), STATUS_INVALID);
    request.max_tokens = 5, request.prompt_tokens = 0;
    assert_int_equal(driver_request(&driver, &request), STATUS_INVALID);
    request.prompt_tokens = 101;
    assert_int_equal(driver_request(&driver, &request), STATUS_INVALID);
    request.prompt_tokens = 94;
    assert_int_equal(driver_request(&driver, &request), STATUS_INVALID); /* six produced of five */
    request.prompt_tokens = 100, ids[50] = VOCAB;
    assert_int_equal(driver_request(&driver, &request), STATUS_INVALID);
    ids[50] = 0, request.max_tokens = 1;
    for (uint64_t handle = 2; handle <= 8; handle++) {
        request.handle = handle;
        assert_int_equal(driver_request(&driver, &request), STATUS_OK);
    }
    request.handle = 9;
    assert_int_equal(driver_request(&driver, &request), STATUS_FULL);
    driver_close(&driver);
}

static void test_kv_events_say_what_is_findable(void **state)
{
    (void)state;
    struct batch_config config = small;
    config.blocks = 4;
    struct driver driver;
    driver_open(&driver, &config);
    driver_submit(&driver, 1, 1, 40, 2, 0);
    driver_step(&driver);
    size_t count;
    const struct kv_event *events = batch_kv_events(driver.batch, &count);
    assert_int_equal(count, 2);
    assert_true(events[0].stored && events[1].stored);
    uint8_t second[16];
    memcpy(second, events[1].hash, 16);
    driver_run(&driver, 10);
    driver_submit(&driver, 2, 2, 40, 2, 0); /* needs three of four blocks, so one cached leaf must go */
    driver_plan(&driver);
    events = batch_kv_events(driver.batch, &count);
    assert_int_equal(count, 1);
    assert_false(events[0].stored);
    assert_memory_equal(events[0].hash, second, 16);
    driver_complete(&driver);
    driver_close(&driver);
}

int main(void)
{
    if (crypto_init() != STATUS_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_prompt_is_computed_in_chunks_then_decoded),
        cmocka_unit_test(test_decodes_come_first_and_prefill_takes_the_rest),
        cmocka_unit_test(test_a_steps_predicted_time_bounds_prefill_but_never_starves_it),
        cmocka_unit_test(test_the_second_stream_takes_the_firsts_prefix),
        cmocka_unit_test(test_another_tenants_prefix_is_not_found),
        cmocka_unit_test(test_equal_prompts_at_once_are_computed_once),
        cmocka_unit_test(test_who_waits_goes_on_when_the_other_is_cancelled),
        cmocka_unit_test(test_important_streams_are_admitted_first),
        cmocka_unit_test(test_a_dry_pool_preempts_the_youngest_of_the_lowest_priority),
        cmocka_unit_test(test_cancel_takes_effect_before_the_next_step),
        cmocka_unit_test(test_end_ids_and_stop_ids_end_a_stream),
        cmocka_unit_test(test_limits_count_from_the_original_prompt),
        cmocka_unit_test(test_what_can_never_run_is_refused),
        cmocka_unit_test(test_kv_events_say_what_is_findable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
