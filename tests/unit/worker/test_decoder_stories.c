/* The decoder against references that it shares no code with: stories260K in fp32, fp16 and bf16 (numpy float64 on the
 * rounded weights), and the story that its authors published. Float weights and float KV: logits within 1e-3, greedy
 * ids equal up to the first step whose margin is below 0.002 (the references' own margin of doubt). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/shared_data.h"
#include "tests/unit/worker/golden.h"
#include "tests/unit/worker/runner.h"

static const char *const DTYPES[] = {"fp32", "fp16", "bf16"};

static bool find(const char *name, char path[SHARED_DATA_PATH_MAX])
{
    return shared_data_find("decoder_stories", name, path);
}

static struct runner open_stories(struct model_desc *desc, uint32_t slots)
{
    const struct runner_options options = {
        .threads = 1, .ranks = 1, .stages = 1, .slots = slots, .context = 512, .tokens_max = 512};
    return runner_open(desc, &options);
}

static uint32_t feed(struct runner *runner, uint32_t slot, const uint32_t *ids, size_t count, float *logits)
{
    struct runner_row row = {.slot = slot, .ids = ids, .count = (uint32_t)count, .logits = logits};
    runner_step(runner, &row, 1);
    return row.token;
}

static size_t check_greedy(struct runner *runner, const struct json *line, const char *dtype)
{
    const struct json *want = json_get(line, dtype), *margins = json_get(want, "margins");
    size_t prompt_count, count, i = 0;
    uint32_t *prompt = golden_ids(json_get(line, "prompt_ids"), &prompt_count);
    uint32_t *ids = golden_ids(json_get(want, "output_ids"), &count);
    runner_reset(runner, 0);
    uint32_t token = feed(runner, 0, prompt, prompt_count, NULL);
    for (; i < count; i++) {
        if (token != ids[i]) {
            if (json_number(json_at(margins, i), 0.0) >= 0.002)
                fail_msg("%s %s: step %zu gave %u, not %u (margin %g)", json_text(json_get(line, "id")), dtype, i,
                         token, ids[i], json_number(json_at(margins, i), 0.0));
            break;
        }
        if (i + 1 < count)
            token = feed(runner, 0, &ids[i], 1, NULL);
    }
    mem_free(prompt);
    mem_free(ids);
    return i;
}

static void test_greedy_continuations_equal_the_references(void **state)
{
    (void)state;
    char path[SHARED_DATA_PATH_MAX], model[SHARED_DATA_PATH_MAX + 64];
    if (!find("models/stories260K/greedy.jsonl", path))
        skip();
    struct golden_lines lines = golden_read(path);
    for (size_t d = 0; d < COUNT_OF(DTYPES); d++) {
        snprintf(model, sizeof model, "%.*s/hf-%s", (int)(strrchr(path, '/') - path), path, DTYPES[d]);
        struct model_desc *desc = golden_model(model);
        struct runner runner = open_stories(desc, 1);
        size_t steps = 0;
        for (size_t i = 0; i < lines.count; i++)
            steps += check_greedy(&runner, lines.line[i], DTYPES[d]);
        print_message("%s: %zu prompts, %zu steps equal\n", DTYPES[d], lines.count, steps);
        assert_true(steps > 2000);
        runner_close(&runner);
        model_close(desc);
    }
    golden_free(&lines);
}

static void test_logits_are_within_a_thousandth(void **state)
{
    (void)state;
    char path[SHARED_DATA_PATH_MAX], model[SHARED_DATA_PATH_MAX + 64];
    if (!find("models/stories260K/logits.jsonl", path))
        skip();
    struct golden_lines lines = golden_read(path);
    double worst = 0.0;
    for (size_t i = 0; i < lines.count; i++) {
        const struct json *want = json_get(lines.line[i], "logits");
        float logits[512];
        size_t count;
        uint32_t *ids = golden_ids(json_get(lines.line[i], "prompt_ids"), &count);
        snprintf(model, sizeof model, "%.*s/hf-%s", (int)(strrchr(path, '/') - path), path,
                 json_text(json_get(lines.line[i], "dtype")));
        struct model_desc *desc = golden_model(model);
        struct runner runner = open_stories(desc, 1);
        feed(&runner, 0, ids, (size_t)json_integer(json_get(lines.line[i], "position"), 0) + 1, logits);
        for (size_t t = 0; t < 512; t++)
            worst = fmax(worst, fabs((double)logits[t] - json_number(json_at(want, t), 1e9)));
        runner_close(&runner);
        model_close(desc);
        mem_free(ids);
    }
    print_message("worst logit %g\n", worst);
    assert_true(worst < 1e-3);
    golden_free(&lines);
}

static void test_published_story_is_reproduced(void **state)
{
    (void)state;
    char path[SHARED_DATA_PATH_MAX], model[SHARED_DATA_PATH_MAX + 64];
    if (!find("models/stories260K/published-greedy-200.txt", path))
        skip();
    struct buf story;
    struct error error;
    buf_init(&story, 1 << 16);
    assert_int_equal(file_read(path, 1 << 16, &story, &error), STATUS_OK);
    snprintf(model, sizeof model, "%.*s/hf-fp32", (int)(strrchr(path, '/') - path), path);
    struct model_desc *desc = golden_model(model);
    struct runner runner = open_stories(desc, 1);
    struct buf text;
    buf_init(&text, 1 << 16);
    uint32_t token = 1; /* BOS; run.c feeds it and prints the 200 tokens behind it */
    for (int i = 0; i < 200; i++) {
        token = feed(&runner, 0, &token, 1, NULL);
        const struct bytes piece = vocab_token(desc->vocab, token)->piece;
        if (piece.length == 6 && memcmp(piece.data, "<0x0A>", 6) == 0) {
            buf_append_text(&text, "\n");
            continue;
        }
        for (size_t b = 0; b < piece.length; b++) { /* U+2581 stands for a blank */
            if (b + 2 < piece.length && memcmp(piece.data + b, "\xe2\x96\x81", 3) == 0) {
                buf_append_text(&text, " ");
                b += 2;
            } else {
                buf_append_u8(&text, piece.data[b]);
            }
        }
    }
    const char *mine = buf_text(&text), *theirs = buf_text(&story);
    while (*mine == ' ')
        mine++;
    size_t same = 0;
    while (mine[same] != '\0' && mine[same] == theirs[same])
        same++;
    if (same < strlen(mine) || strspn(theirs + same, " \n") < strlen(theirs + same))
        fail_msg("differs at byte %zu: '%.30s' against '%.30s'", same, mine + same, theirs + same);
    buf_free(&text);
    buf_free(&story);
    runner_close(&runner);
    model_close(desc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_continuations_equal_the_references),
        cmocka_unit_test(test_logits_are_within_a_thousandth),
        cmocka_unit_test(test_published_story_is_reproduced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
