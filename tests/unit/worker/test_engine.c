/* The engine's central promise: a stream's tokens are a function of (weights, ids, sampling, seed, position) and of
 * nothing else. Each test runs streams in some other company, order or interruption and compares with == against each
 * stream alone. Runs on the tiny models; $SHOAL_TINY_MODELS says where CTest made them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "model/desc.h"
#include "worker/engine/engine.h"

enum { STREAMS = 8, IDS_MAX = 400 };

struct stream {
    uint32_t ids[IDS_MAX];
    uint32_t count, prompt_tokens, max_tokens;
    struct plan_sampling sampling;
    enum engine_finish finish;
    uint32_t cached_tokens, completion_tokens;
    bool finished;
};

static struct model_desc *desc;

static struct engine *open_engine(struct engine_config config)
{
    struct engine *engine = NULL;
    struct error error = {0};
    config.desc = desc;
    if (config.threads == 0)
        config.threads = 2;
    if (config.pool_tokens == 0)
        config.pool_tokens = 4096;
    if (engine_open(&config, &engine, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return engine;
}

/* Prompts of several lengths over shared beginnings; greedy and sampled streams in turn. */
static void make_streams(struct stream *streams)
{
    struct rng rng;
    rng_init(&rng, 11);
    uint32_t common[IDS_MAX];
    for (int i = 0; i < IDS_MAX; i++)
        common[i] = 3 + (uint32_t)rng_below(&rng, 200);
    static const uint32_t lengths[STREAMS] = {1, 16, 17, 33, 48, 100, 100, 131},
                          shared[STREAMS] = {0, 0, 16, 33, 40, 90, 100, 64};
    for (int i = 0; i < STREAMS; i++) {
        struct stream *stream = &streams[i];
        *stream = (struct stream){.prompt_tokens = lengths[i], .count = lengths[i], .max_tokens = 40};
        for (uint32_t at = 0; at < lengths[i]; at++)
            stream->ids[at] = at < shared[i] ? common[at] : 3 + (uint32_t)rng_below(&rng, 200);
        stream->sampling = (struct plan_sampling){.top_p = 1, .seed = (uint64_t)i};
        if (i % 2 == 1)
            stream->sampling.temperature = 0.9f;
        if (i == 3)
            stream->sampling.top_k = 20, stream->sampling.top_p = 0.9f;
        if (i == 5)
            stream->sampling.min_p = 0.05f, stream->sampling.choice = 2;
    }
}

static void submit(struct engine *engine, const struct stream *stream, uint64_t handle)
{
    struct engine_request request = {.handle = handle,
                                     .ids = stream->ids,
                                     .ids_count = stream->count,
                                     .prompt_tokens = stream->prompt_tokens,
                                     .max_tokens = stream->max_tokens,
                                     .sampling = stream->sampling,
                                     .ignore_eos = handle % 3 == 0};
    struct error error = {0};
    if (engine_submit(engine, &request, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

static size_t step(struct engine *engine, struct stream *streams)
{
    struct engine_step out;
    struct error error = {0};
    if (engine_step(engine, clock_mono_us, &out, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    for (size_t i = 0; i < out.events_count; i++) {
        struct stream *stream = &streams[out.events[i].handle];
        assert_false(stream->finished);
        if (out.events[i].kind == ENGINE_TOKEN) {
            assert_int_equal(out.events[i].position, stream->count);
            stream->ids[stream->count++] = out.events[i].id;
            continue;
        }
        stream->finished = true;
        stream->finish = out.events[i].finish;
        stream->cached_tokens = out.events[i].cached_tokens;
        stream->completion_tokens = out.events[i].completion_tokens;
    }
    return out.tokens;
}

static void run_all(struct engine *engine, struct stream *streams)
{
    for (int steps = 0; !engine_idle(engine); steps++) {
        assert_true(steps < 5000);
        step(engine, streams);
    }
}

/* Each stream in an engine of its own, whole prompts at once: what everything else is compared with. */
static void expected_streams(struct stream *streams)
{
    static struct stream cached[STREAMS];
    static const struct model_desc *made_for;
    if (made_for != desc) {
        make_streams(cached);
        for (uint64_t i = 0; i < STREAMS; i++) {
            struct engine *engine = open_engine((struct engine_config){.streams_max = 1});
            submit(engine, &cached[i], i);
            run_all(engine, cached);
            engine_close(engine);
            assert_int_equal(cached[i].cached_tokens, 0);
            assert_int_equal(cached[i].completion_tokens, cached[i].count - cached[i].prompt_tokens);
        }
        made_for = desc;
    }
    memcpy(streams, cached, sizeof(cached));
}

static void assert_streams_equal(const struct stream *streams, const struct stream *expected)
{
    for (int i = 0; i < STREAMS; i++) {
        assert_true(streams[i].finished);
        assert_int_equal(streams[i].count, expected[i].count);
        assert_memory_equal(streams[i].ids, expected[i].ids, sizeof(uint32_t) * expected[i].count);
        assert_int_equal(streams[i].finish, expected[i].finish);
    }
}

/* All of them through one engine of this configuration. */
static void compare_together(struct engine_config config)
{
    struct stream streams[STREAMS], expected[STREAMS];
    expected_streams(expected);
    make_streams(streams);
    struct engine *engine = open_engine(config);
    for (uint64_t i = 0; i < STREAMS; i++)
        submit(engine, &streams[i], i);
    run_all(engine, streams);
    assert_streams_equal(streams, expected);
    struct engine_load load;
    engine_load(engine, &load);
    assert_int_equal(load.blocks_used, 0);
    engine_close(engine);
}

static void test_streams_vary(void **state)
{
    (void)state;
    struct stream expected[STREAMS];
    expected_streams(expected);
    /* The other tests would prove little on a model that says the same whatever came before. */
    unsigned different = 0;
    for (int i = 1; i < STREAMS; i++) {
        const uint32_t *a = expected[i].ids + expected[i].prompt_tokens,
                       *b = expected[i - 1].ids + expected[i - 1].prompt_tokens;
        different += memcmp(a, b, 8 * sizeof(uint32_t)) != 0;
    }
    assert_int_equal(different, STREAMS - 1);
}

static void test_alone_or_together(void **state)
{
    (void)state;
    compare_together((struct engine_config){0});
    compare_together((struct engine_config){.threads = 1});
}

static void test_any_chunking(void **state)
{
    (void)state;
    static const uint32_t step_tokens[] = {8, 21, 32, 63};
    for (size_t i = 0; i < COUNT_OF(step_tokens); i++)
        compare_together((struct engine_config){.streams_max = 8, .step_tokens_max = step_tokens[i]});
}

static void test_a_few_at_a_time(void **state)
{
    (void)state;
    compare_together((struct engine_config){.streams_max = 1, .waiting_max = 16});
    compare_together((struct engine_config){.streams_max = 3, .waiting_max = 16, .step_budget_us = 1});
}

static void test_preempted_and_recomputed(void **state)
{
    (void)state;
    /* Eleven blocks hold one long stream, hardly two: they throw each other out all the time. */
    compare_together((struct engine_config){.pool_tokens = 11 * 16, .context_tokens = 176});
}

static void test_ranks_and_stages(void **state)
{
    (void)state;
    compare_together((struct engine_config){.ranks = 2, .stages = 2});
    compare_together((struct engine_config){.ranks = 1, .stages = 3, .step_tokens_max = 32, .streams_max = 8});
}

static void test_resumed_at_any_position(void **state)
{
    (void)state;
    struct stream expected[STREAMS];
    expected_streams(expected);
    struct engine *engine = open_engine((struct engine_config){.streams_max = 4, .waiting_max = 64});
    for (uint64_t i = 0; i < STREAMS; i++)
        for (uint32_t at = expected[i].prompt_tokens; at <= expected[i].count; at += 1 + at % 11) {
            struct stream streams[STREAMS] = {0};
            streams[i] = expected[i];
            streams[i].count = at;
            streams[i].finished = false;
            submit(engine, &streams[i], i);
            run_all(engine, streams);
            assert_int_equal(streams[i].count, expected[i].count);
            assert_memory_equal(streams[i].ids, expected[i].ids, sizeof(uint32_t) * expected[i].count);
            assert_int_equal(streams[i].finish, expected[i].finish);
            assert_int_equal(streams[i].completion_tokens, expected[i].completion_tokens);
        }
    engine_close(engine);
}

static void test_with_prefix_hits(void **state)
{
    (void)state;
    struct stream expected[STREAMS], first[STREAMS], again[STREAMS];
    expected_streams(expected);
    make_streams(first);
    make_streams(again);
    struct engine *engine = open_engine((struct engine_config){0});
    for (uint64_t i = 0; i < STREAMS; i++)
        submit(engine, &first[i], i);
    run_all(engine, first);
    for (uint64_t i = 0; i < STREAMS; i++)
        submit(engine, &again[i], i);
    run_all(engine, again);
    assert_streams_equal(again, expected);
    for (int i = 0; i < STREAMS; i++)
        assert_int_equal(again[i].cached_tokens, (again[i].prompt_tokens - 1) / 16 * 16);
    engine_close(engine);
}

static void test_cancel_frees_the_blocks_with_the_step(void **state)
{
    (void)state;
    struct stream streams[STREAMS];
    make_streams(streams);
    struct engine *engine = open_engine((struct engine_config){0});
    for (uint64_t i = 0; i < STREAMS; i++)
        submit(engine, &streams[i], i);
    step(engine, streams);
    struct engine_load load;
    engine_load(engine, &load);
    assert_true(load.blocks_used > 0);
    for (uint64_t i = 0; i < STREAMS; i++)
        engine_cancel(engine, i);
    engine_cancel(engine, 999); /* unknown: ignored */
    assert_int_equal(step(engine, streams), 0);
    for (int i = 0; i < STREAMS; i++)
        assert_int_equal(streams[i].finish, ENGINE_FINISH_CANCELLED);
    assert_true(engine_idle(engine));
    engine_load(engine, &load);
    assert_int_equal(load.blocks_used, 0);
    engine_close(engine);
}

static void test_bad_requests_are_refused(void **state)
{
    (void)state;
    struct engine *engine = open_engine((struct engine_config){.pool_tokens = 256});
    const struct engine_info *info = engine_info(engine);
    assert_int_equal(info->context_tokens, 256);
    const uint32_t ids[] = {3, 4, 5};
    struct engine_request good = {.ids = ids, .ids_count = 3, .prompt_tokens = 3, .max_tokens = 4, .sampling.top_p = 1};
    struct engine_request request = good;
    struct error error;
    const uint32_t outside[] = {info->vocab_size};
    request.ids = outside, request.ids_count = request.prompt_tokens = 1;
    assert_int_equal(engine_submit(engine, &request, &error), STATUS_INVALID);
    request = good, request.max_tokens = 254;
    assert_int_equal(engine_submit(engine, &request, &error), STATUS_LIMIT);
    request = good, request.sampling.temperature = -1;
    assert_int_equal(engine_submit(engine, &request, &error), STATUS_INVALID);
    request = good, request.sampling.top_p = 0;
    assert_int_equal(engine_submit(engine, &request, &error), STATUS_INVALID);
    request = good, request.sampling.min_p = 1;
    assert_int_equal(engine_submit(engine, &request, &error), STATUS_INVALID);
    assert_true(engine_idle(engine));
    assert_int_equal(engine_submit(engine, &good, &error), STATUS_OK);
    engine_close(engine); /* with a stream alive */
}

static int open_model(const char *name)
{
    const char *folder = getenv("SHOAL_TINY_MODELS");
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", folder != NULL ? folder : "build/tiny", name);
    struct error error = {0};
    struct model_options options = {0};
    if (model_open(path, &options, &desc, &error) == STATUS_OK)
        return 0;
    fprintf(stderr, "%s: %s\n", path, error.text);
    return 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams_vary),
        cmocka_unit_test(test_alone_or_together),
        cmocka_unit_test(test_any_chunking),
        cmocka_unit_test(test_a_few_at_a_time),
        cmocka_unit_test(test_preempted_and_recomputed),
        cmocka_unit_test(test_ranks_and_stages),
        cmocka_unit_test(test_resumed_at_any_position),
        cmocka_unit_test(test_with_prefix_hits),
        cmocka_unit_test(test_cancel_frees_the_blocks_with_the_step),
        cmocka_unit_test(test_bad_requests_are_refused),
    };
    static const char *const models[] = {"tiny-Q8_0.gguf", "tiny-Q4_1.gguf", "tiny-F32.gguf"};
    struct model_desc *opened[COUNT_OF(models)];
    int failed = 0;
    for (size_t i = 0; i < COUNT_OF(models); i++) {
        if (open_model(models[i]) != 0)
            return 1;
        opened[i] = desc;
        printf("# %s\n", models[i]);
        failed += cmocka_run_group_tests(tests, NULL, NULL);
    }
    for (size_t i = 0; i < COUNT_OF(models); i++)
        model_close(opened[i]);
    return failed;
}
