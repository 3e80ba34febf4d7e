/* A stream's logits are a function of (weights, ids) and nothing else: equal bits whatever the chunks of its prompt,
 * its company in the batch, the threads, the CPU path, the ranks and the stages. And plans that break the decoder's
 * bounds are refused before anything happens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/worker/random_model.h"
#include "tests/unit/worker/runner.h"

enum { PROMPT = 300, MORE = 5, CONTEXT = 320 };

static const enum model_type FLOATS[8] = {MODEL_F32, MODEL_F16, MODEL_BF16, MODEL_F32,
                                          MODEL_F16, MODEL_F32, MODEL_BF16, MODEL_F32};
static const enum model_type INTEGERS[8] = {MODEL_Q4_1, MODEL_Q4_0, MODEL_Q8_0, MODEL_Q4_1,
                                            MODEL_Q4_1, MODEL_Q4_0, MODEL_Q8_0, MODEL_Q8_0};
static const enum model_type MIXED[8] = {MODEL_Q4_1, MODEL_F16,  MODEL_Q8_0, MODEL_F32,
                                         MODEL_Q4_0, MODEL_BF16, MODEL_F16,  MODEL_Q8_0};

static struct runner_options plain_options(void)
{
    return (struct runner_options){
        .threads = 1, .ranks = 1, .stages = 1, .slots = 4, .context = CONTEXT, .tokens_max = PROMPT + 40};
}

static void prompt_ids(uint64_t seed, uint32_t *ids, size_t count)
{
    struct rng rng;
    rng_init(&rng, seed);
    for (size_t i = 0; i < count; i++)
        ids[i] = (uint32_t)rng_below(&rng, RANDOM_VOCAB);
}

/* The logits behind the prompt and behind each of MORE further tokens: [MORE + 1][RANDOM_VOCAB]. With `company`, three
 * other streams are prefilled and decoded in the same steps. */
static void run_stream(const struct model_desc *desc, const struct runner_options *options, uint32_t chunk,
                       bool company, float *logits)
{
    struct runner runner = runner_open(desc, options);
    uint32_t ids[PROMPT + MORE], other[PROMPT];
    prompt_ids(1, ids, COUNT_OF(ids));
    prompt_ids(2, other, COUNT_OF(other));
    struct runner_row rows[4] = {{.slot = 2}, {.slot = 0}, {.slot = 1}, {.slot = 3}};
    uint32_t fed = 0, others_fed = 0;
    float *at = logits;
    while (fed < PROMPT + MORE) {
        uint32_t count = fed < PROMPT ? MIN_OF(chunk, PROMPT - fed) : 1;
        rows[0].ids = ids + fed;
        rows[0].count = count;
        rows[0].logits = at;
        fed += count;
        for (uint32_t i = 1; i < 4; i++) {
            rows[i].ids = other + others_fed;
            rows[i].count = 1 + (others_fed + i) % 9 % (i + 1) * 3;
        }
        others_fed += 7;
        if (others_fed > 130) {
            others_fed = 0;
            for (uint32_t slot = 0; slot < 4; slot++) {
                if (slot != 2)
                    runner_reset(&runner, slot);
            }
        }
        /* The stream is not always the first of its step. */
        const struct runner_row first = rows[0];
        if (company && fed % 2 == 0) {
            rows[0] = rows[3];
            rows[3] = first;
        }
        runner_step(&runner, rows, company ? 4 : 1);
        if (company && fed % 2 == 0) {
            rows[3] = rows[0];
            rows[0] = first;
        }
        if (fed >= PROMPT)
            at += RANDOM_VOCAB;
    }
    runner_close(&runner);
}

static void assert_same_logits(const float *want, const float *got, const char *what)
{
    for (size_t i = 0; i < (MORE + 1) * RANDOM_VOCAB; i++) {
        if (want[i] != got[i])
            fail_msg("%s: logit %zu is %a, not %a", what, i, (double)got[i], (double)want[i]);
    }
}

struct variant {
    const char *what;
    uint32_t chunk;
    bool company;
    unsigned threads, ranks, stages;
};

static void check_variants(const enum model_type types[8], enum decoder_kv_type kv_type, bool tied, bool biases)
{
    static const struct variant variants[] = {
        {"token by token", 1, false, 1, 1, 1},
        {"chunks of 7", 7, false, 1, 1, 1},
        {"chunks of 100", 100, false, 2, 1, 1},
        {"in company", 37, true, 1, 1, 1},
        {"three threads", PROMPT, true, 3, 1, 1},
        {"two ranks", PROMPT, false, 1, 2, 1},
        {"three ranks", 64, true, 2, 3, 1},
        {"two stages", 50, false, 1, 1, 2},
        {"2 x 2", 90, true, 1, 2, 2},
        {"2 x 3, two threads each", PROMPT, false, 2, 2, 3},
    };
    struct random_model *model = random_model_new(7, types, tied, biases);
    struct runner_options options = plain_options();
    static float want[(MORE + 1) * RANDOM_VOCAB], got[(MORE + 1) * RANDOM_VOCAB];
    options.kv_type = kv_type;
    options.cpu_path = "c";
    run_stream(&model->desc, &options, PROMPT, false, want);
    options.cpu_path = NULL;
    run_stream(&model->desc, &options, PROMPT, false, got);
    assert_same_logits(want, got, "the best path");
    for (size_t i = 0; i < COUNT_OF(variants); i++) {
        options.threads = variants[i].threads * variants[i].ranks * variants[i].stages;
        options.ranks = variants[i].ranks;
        options.stages = variants[i].stages;
        run_stream(&model->desc, &options, variants[i].chunk, variants[i].company, got);
        assert_same_logits(want, got, variants[i].what);
    }
    random_model_free(model);
}

static void test_float_weights_give_the_same_logits_everywhere(void **state)
{
    (void)state;
    check_variants(FLOATS, DECODER_KV_F32, false, false);
}

static void test_integer_weights_give_the_same_logits_everywhere(void **state)
{
    (void)state;
    check_variants(INTEGERS, DECODER_KV_F16, true, false);
}

static void test_mixed_weights_with_biases_give_the_same_logits_everywhere(void **state)
{
    (void)state;
    check_variants(MIXED, DECODER_KV_INT8, true, true);
}

/* Rows of q and k in pairs are the same model as rows in halves. */
static void test_rope_layouts_are_one_model(void **state)
{
    (void)state;
    struct random_model *halves = random_model_new(9, INTEGERS, false, true);
    struct random_model *pairs = random_model_new(9, INTEGERS, false, true);
    pairs->desc.rope_layout = MODEL_ROPE_PAIRS;
    for (size_t l = 0; l < RANDOM_LAYERS; l++) {
        const struct model_layer *from = &halves->layers[l];
        struct model_layer *to = &pairs->layers[l];
        const struct model_tensor *sources[] = {&from->q, &from->k, &from->q_bias, &from->k_bias};
        struct model_tensor *targets[] = {&to->q, &to->k, &to->q_bias, &to->k_bias};
        for (size_t t = 0; t < COUNT_OF(sources); t++) {
            const bool vector = sources[t]->rows == 1;
            const size_t rows = vector ? sources[t]->columns : sources[t]->rows;
            const size_t bytes =
                vector ? 4 : sources[t]->columns / BACKEND_BLOCK * model_type_block_bytes(sources[t]->type);
            for (size_t row = 0; row < rows; row++) {
                const size_t i = row % RANDOM_HEAD_DIM, half = RANDOM_HEAD_DIM / 2;
                const size_t pair = row - i + (i < half ? 2 * i : 2 * (i - half) + 1);
                memcpy((uint8_t *)targets[t]->data + pair * bytes, sources[t]->data + row * bytes, bytes);
            }
        }
    }
    static float want[(MORE + 1) * RANDOM_VOCAB], got[(MORE + 1) * RANDOM_VOCAB];
    struct runner_options options = plain_options();
    run_stream(&halves->desc, &options, PROMPT, false, want);
    run_stream(&pairs->desc, &options, PROMPT, false, got);
    assert_same_logits(want, got, "pairs");
    options.threads = options.ranks = 2;
    run_stream(&pairs->desc, &options, PROMPT, false, got);
    assert_same_logits(want, got, "pairs on two ranks");
    random_model_free(halves);
    random_model_free(pairs);
}

/* ── plans ───────────────────────────────────────────────────────────────────────────────────────────────────── */

struct fixture {
    struct random_model *model;
    struct decoder *decoder;
    struct decoder_config config;
};

static struct fixture fixture_open(void)
{
    struct fixture fixture = {.model = random_model_new(3, INTEGERS, true, false)};
    fixture.config = (struct decoder_config){.desc = &fixture.model->desc,
                                             .threads = 1,
                                             .blocks = 6,
                                             .slots = 2,
                                             .tokens_max = 40,
                                             .blocks_per_slot_max = 3};
    struct error error;
    assert_int_equal(decoder_open(&fixture.config, &fixture.decoder, &error), STATUS_OK);
    return fixture;
}

static void fixture_close(struct fixture *fixture)
{
    decoder_close(fixture->decoder);
    random_model_free(fixture->model);
}

static enum status run_plan(struct decoder *decoder, const struct plan *plan, float *logits)
{
    uint32_t ids[8];
    float *pointers[8] = {logits};
    struct plan_result result = {.ids = ids, .logits = pointers};
    struct error error = {0};
    const enum status status = decoder_run(decoder, plan, &result, &error);
    assert_true(status == STATUS_OK || error.text[0] != '\0');
    return status;
}

static void test_bad_plans_are_refused_and_change_nothing(void **state)
{
    (void)state;
    struct fixture fixture = fixture_open();
    uint32_t ids[64] = {1, 2, 3}, blocks[] = {4, 2, 5, 1}, bad_block[] = {6}, bad_id[] = {RANDOM_VOCAB};
    const struct plan_row good = {.slot = 0,
                                  .reset = true,
                                  .count = 3,
                                  .ids = ids,
                                  .new_blocks = blocks,
                                  .new_blocks_count = 1,
                                  .want_token = true};
    struct plan_row bad[8];
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        bad[i] = good;
    bad[0].slot = 2;
    bad[1].count = 0;
    bad[2].new_blocks_count = 0; /* no room for the tokens */
    bad[3].new_blocks_count = 4; /* more than a slot may have */
    bad[4].new_blocks = bad_block;
    bad[5].ids = bad_id;
    bad[5].count = 1;
    bad[6].position = 14;         /* ends behind the table */
    bad[7].position = UINT32_MAX; /* must not wrap */
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        const struct plan plan = {.epoch = 1, .step = 1, .rows = &bad[i], .rows_count = 1};
        assert_int_equal(run_plan(fixture.decoder, &plan, NULL), STATUS_INVALID);
    }
    struct plan_row long_row = good;
    long_row.count = 41;
    long_row.new_blocks_count = 3;
    const struct plan too_long = {.epoch = 1, .step = 1, .rows = &long_row, .rows_count = 1};
    assert_int_equal(run_plan(fixture.decoder, &too_long, NULL), STATUS_INVALID);
    const struct plan_copy copy = {.from = 0, .to = 6};
    const struct plan bad_copy = {.epoch = 1, .step = 1, .copies = &copy, .copies_count = 1};
    assert_int_equal(run_plan(fixture.decoder, &bad_copy, NULL), STATUS_INVALID);
    struct plan plan = {.epoch = 1, .step = 1, .rows = &good, .rows_count = 1, .tokens = 3};
    assert_int_equal(run_plan(fixture.decoder, &plan, NULL), STATUS_OK);
    plan.step = 3;
    assert_int_equal(run_plan(fixture.decoder, &plan, NULL), STATUS_CONFLICT); /* a gap */
    plan.step = 2;
    assert_int_equal(run_plan(fixture.decoder, &plan, NULL), STATUS_OK);
    fixture_close(&fixture);
}

/* Copy on write: a stream that goes on from a copied, partly filled block equals one that computed it itself. */
static void test_copied_blocks_hold_the_same_tokens(void **state)
{
    (void)state;
    struct fixture fixture = fixture_open();
    uint32_t ids[20], own[] = {0, 3}, shared[] = {0, 5};
    float want[RANDOM_VOCAB], got[RANDOM_VOCAB];
    prompt_ids(4, ids, COUNT_OF(ids));
    const struct plan_row whole = {.slot = 0,
                                   .reset = true,
                                   .count = 20,
                                   .ids = ids,
                                   .new_blocks = own,
                                   .new_blocks_count = 2,
                                   .want_token = true};
    struct plan plan = {.epoch = 1, .step = 1, .rows = &whole, .rows_count = 1, .tokens = 20};
    assert_int_equal(run_plan(fixture.decoder, &plan, want), STATUS_OK);
    const struct plan_copy copy = {.from = 3, .to = 5};
    const struct plan_row last = {.slot = 1,
                                  .reset = true,
                                  .position = 19,
                                  .count = 1,
                                  .ids = ids + 19,
                                  .new_blocks = shared,
                                  .new_blocks_count = 2,
                                  .want_token = true};
    plan = (struct plan){
        .epoch = 1, .step = 2, .copies = &copy, .copies_count = 1, .rows = &last, .rows_count = 1, .tokens = 1};
    assert_int_equal(run_plan(fixture.decoder, &plan, got), STATUS_OK);
    assert_memory_equal(want, got, sizeof want);
    fixture_close(&fixture);
}

static void test_paths_are_refused_by_name(void **state)
{
    (void)state;
    struct fixture fixture = fixture_open();
    const struct backend *have[PATHS_MAX];
    struct error error = {0};
    struct decoder *other = NULL;
    fixture.config.cpu_path = "sse9";
    assert_int_equal(decoder_open(&fixture.config, &other, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "sse9"));
    if (cpu_backends(have, PATHS_MAX) < 3) {
        fixture.config.cpu_path = "avx512";
        assert_int_equal(decoder_open(&fixture.config, &other, &error), STATUS_UNSUPPORTED);
        assert_non_null(strstr(error.text, "avx512"));
    }
    fixture_close(&fixture);
}

static void test_info_tells_class_and_layout(void **state)
{
    (void)state;
    struct fixture fixture = fixture_open();
    struct decoder_info info, other_info;
    struct decoder *other = NULL;
    struct error error;
    uint64_t fixed, block;
    decoder_info(fixture.decoder, &info);
    decoder_estimate(&fixture.config, &fixed, &block);
    assert_int_equal(block, info.block_bytes);
    assert_true(fixed > fixture.model->desc.vocab_size * RANDOM_HIDDEN);
    fixture.config.cpu_path = "c"; /* another path, the same class */
    assert_int_equal(decoder_open(&fixture.config, &other, &error), STATUS_OK);
    decoder_info(other, &other_info);
    assert_true(info.class_id == other_info.class_id && info.class_id != 0);
    assert_memory_equal(info.layout_hash, other_info.layout_hash, 32);
    decoder_close(other);
    fixture.config.kv_type = DECODER_KV_F16; /* other blocks, another layout */
    assert_int_equal(decoder_open(&fixture.config, &other, &error), STATUS_OK);
    decoder_info(other, &other_info);
    assert_memory_not_equal(info.layout_hash, other_info.layout_hash, 32);
    decoder_close(other);
    fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_float_weights_give_the_same_logits_everywhere),
        cmocka_unit_test(test_integer_weights_give_the_same_logits_everywhere),
        cmocka_unit_test(test_mixed_weights_with_biases_give_the_same_logits_everywhere),
        cmocka_unit_test(test_rope_layouts_are_one_model),
        cmocka_unit_test(test_bad_plans_are_refused_and_change_nothing),
        cmocka_unit_test(test_copied_blocks_hold_the_same_tokens),
        cmocka_unit_test(test_paths_are_refused_by_name),
        cmocka_unit_test(test_info_tells_class_and_layout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
