/* Random schedules over seeds: whatever arrives, is cancelled, shared, preempted or resumed, every token that comes out
 * is the undisturbed stream's (batch_support checks each), no block is lost, important and old streams go first, and
 * everything ends. */
#include "tests/unit/sched/support.h"

#include "base/crypto.h"
#include "tests/unit/sched/batch_support.h"

enum { SEEDS = 300, ROUNDS = 400, PROMPTS = 5 };

static struct batch_config random_config(struct rng *rng)
{
    struct batch_config config = {.vocab_size = VOCAB};
    config.slots = 1 + (uint32_t)rng_below(rng, 6);
    config.streams_max = config.slots + (uint32_t)rng_below(rng, 8);
    config.blocks = 4 + (uint32_t)rng_below(rng, 20);
    config.context_tokens = 64 + (uint32_t)rng_below(rng, 200);
    config.step_tokens_max = config.slots + (uint32_t)rng_below(rng, 80);
    config.step_budget_s = rng_below(rng, 2) == 0 ? 0 : 0.002 + 0.05 * rng_unit(rng);
    return config;
}

static uint64_t spare_handle(const struct driver *driver)
{
    for (uint64_t handle = 1; handle < DRIVER_STREAMS; handle++)
        if (!driver->streams[handle].alive)
            return handle;
    return 0;
}

/* A fresh stream over one of a few prompts, so that prefixes meet, or one that was begun elsewhere. */
static void arrive(struct driver *driver, struct rng *rng)
{
    uint64_t handle = spare_handle(driver);
    uint64_t room = driver->config.blocks * KV_BLOCK_TOKENS;
    if (room > driver->config.context_tokens)
        room = driver->config.context_tokens;
    uint32_t prompt_tokens = 1 + (uint32_t)rng_below(rng, room - 1);
    uint32_t max_tokens = 1 + (uint32_t)rng_below(rng, room - prompt_tokens);
    uint32_t produced = rng_below(rng, 3) == 0 ? (uint32_t)rng_below(rng, max_tokens + 1) : 0;
    uint32_t ids[DRIVER_IDS];
    driver_ids(ids, (uint32_t)rng_below(rng, PROMPTS), prompt_tokens);
    driver_continue(ids, prompt_tokens, produced);
    struct batch_request request = {.handle = handle,
                                    .ids = ids,
                                    .ids_count = prompt_tokens + produced,
                                    .prompt_tokens = prompt_tokens,
                                    .max_tokens = max_tokens,
                                    .cache_key = {(uint8_t)rng_below(rng, 2)},
                                    .priority = (uint8_t)rng_below(rng, 3)};
    struct batch_load load;
    batch_load(driver->batch, &load);
    enum status status = driver_request(driver, &request);
    assert_true(status == STATUS_OK || status == STATUS_FULL);
}

static void cancel_someone(struct driver *driver, struct rng *rng)
{
    uint64_t handle = 1 + rng_below(rng, DRIVER_STREAMS - 1);
    assert_int_equal(batch_cancel(driver->batch, handle), driver->streams[handle].alive);
}

/* Every kv event since the start, replayed, must give what is findable now. */
struct findable {
    uint8_t hashes[256][16];
    size_t count;
};

static void replay(struct findable *findable, const struct batch *batch)
{
    size_t count;
    const struct kv_event *events = batch_kv_events(batch, &count);
    for (size_t i = 0; i < count; i++) {
        size_t at = 0;
        while (at < findable->count && memcmp(findable->hashes[at], events[i].hash, 16) != 0)
            at++;
        assert_int_equal(at == findable->count, events[i].stored); /* never stored twice, never removed unstored */
        if (events[i].stored)
            memcpy(findable->hashes[findable->count++], events[i].hash, 16);
        else
            memcpy(findable->hashes[at], findable->hashes[--findable->count], 16);
    }
}

static void still_there(void *context, const uint8_t hash[16])
{
    struct findable *findable = context;
    for (size_t i = 0; i < findable->count; i++)
        if (memcmp(findable->hashes[i], hash, 16) == 0) {
            memcpy(findable->hashes[i], findable->hashes[--findable->count], 16);
            return;
        }
    fail_msg("a findable block that no event told of");
}

static void one_schedule(uint64_t seed)
{
    struct rng rng;
    rng_init(&rng, seed);
    struct batch_config config = random_config(&rng);
    struct driver driver;
    driver_open(&driver, &config);
    struct findable findable = {0};
    unsigned rate = 1 + (unsigned)rng_below(&rng, 6);
    for (int round = 0; round < ROUNDS; round++) {
        if (rng_below(&rng, rate) == 0)
            arrive(&driver, &rng);
        if (rng_below(&rng, 20) == 0)
            cancel_someone(&driver, &rng);
        driver_plan(&driver);
        if (rng_below(&rng, 20) == 0)
            cancel_someone(&driver, &rng); /* while the step is computed */
        driver_complete(&driver);
        replay(&findable, driver.batch);
    }
    /* At most 22 streams of at most 263 tokens are left: each step computes a token at least, preemptions repeat some.
     */
    driver_run(&driver, 22 * 263 * 4);
    struct batch_load load;
    batch_load(driver.batch, &load);
    assert_int_equal(load.blocks_used, 0);
    assert_int_equal(load.running + load.waiting + load.queued_tokens, 0);
    driver_close(&driver);
}

static void test_random_schedules_keep_every_promise(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        one_schedule(seed);
}

static void test_events_replayed_give_what_is_findable(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct rng rng;
        rng_init(&rng, seed);
        struct batch_config config = random_config(&rng);
        struct driver driver;
        driver_open(&driver, &config);
        struct findable findable = {0};
        for (int round = 0; round < 100; round++) {
            if (rng_below(&rng, 3) == 0)
                arrive(&driver, &rng);
            driver_step(&driver);
            replay(&findable, driver.batch);
        }
        kv_each_findable(batch_kv(driver.batch), &findable, still_there);
        assert_int_equal(findable.count, 0);
        driver_close(&driver);
    }
}

/* Within one priority nobody overtakes an older one but those that wait for another's prefix: with prompts that share
 * nothing, streams are first computed in the order of (priority, arrival). */
static void test_ages_are_respected(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct rng rng;
        rng_init(&rng, seed);
        struct batch_config config = random_config(&rng);
        config.streams_max = config.slots + 20;
        config.blocks = 24;
        struct driver driver;
        driver_open(&driver, &config);
        uint8_t priorities[20];
        for (uint64_t handle = 1; handle < 20; handle++) {
            priorities[handle] = (uint8_t)rng_below(&rng, 3);
            driver_submit(&driver, handle, 100 + (uint32_t)handle, 1 + (uint32_t)rng_below(&rng, 50), 5,
                          priorities[handle]);
        }
        uint64_t order[20], begun = 0;
        bool seen[20] = {false};
        while (!batch_idle(driver.batch)) {
            driver_plan(&driver);
            for (size_t i = 0; i < driver.plan.rows_count; i++) {
                uint64_t handle = driver.plan.rows[i].handle;
                if (!seen[handle])
                    order[begun++] = handle;
                seen[handle] = true;
            }
            driver_complete(&driver);
        }
        assert_int_equal(begun, 19);
        for (uint64_t i = 1; i < begun; i++) {
            uint64_t a = order[i - 1], b = order[i];
            assert_true(priorities[a] < priorities[b] || (priorities[a] == priorities[b] && a < b));
        }
        driver_close(&driver);
    }
}

int main(void)
{
    if (crypto_init() != STATUS_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_schedules_keep_every_promise),
        cmocka_unit_test(test_events_replayed_give_what_is_findable),
        cmocka_unit_test(test_ages_are_respected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
