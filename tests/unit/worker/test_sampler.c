/* The sampler: Hugging Face's order of processors, candidates by (logit descending, id ascending), draws that are a
 * pure function of (seed, choice, position); and the distributions of shared data, by chi-square. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/shared_data.h"
#include "tests/unit/worker/golden.h"
#include "tests/unit/worker/kernel_data.h"
#include "tests/unit/worker/runner.h"
#include "worker/engine/sampler.h"

static const struct backend *paths[PATHS_MAX];
static size_t paths_count;

static uint32_t draw(struct sampler *sampler, const float *logits, struct plan_sampling sampling, uint32_t position)
{
    const uint32_t id = sampler_draw(sampler, paths[0], logits, &sampling, position);
    for (size_t i = 1; i < paths_count; i++)
        assert_int_equal(sampler_draw(sampler, paths[i], logits, &sampling, position), id);
    return id;
}

static struct plan_sampling sampling_of(float temperature, uint32_t top_k, float top_p, float min_p, uint64_t seed)
{
    return (struct plan_sampling){
        .temperature = temperature, .top_k = top_k, .top_p = top_p, .min_p = min_p, .seed = seed};
}

struct ranked {
    double logit, weight;
    uint32_t id;
};

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit < y->logit ? 1 : -1;
    return x->id < y->id ? -1 : 1;
}

/* The whole rule, plainly: sort everything, cut, draw. Returns the id, and how near the draw was to another one. */
static uint32_t oracle(const float *logits, size_t n, struct plan_sampling sampling, uint32_t position, double *doubt)
{
    struct ranked *ranked = mem_new_array(struct ranked, n);
    for (size_t i = 0; i < n; i++)
        ranked[i] = (struct ranked){.logit = (double)logits[i], .id = (uint32_t)i};
    qsort(ranked, n, sizeof *ranked, compare_ranked);
    size_t kept = sampling.top_k > 0 ? MIN_OF((size_t)sampling.top_k, n) : n;
    double total = 0.0, sum = 0.0;
    *doubt = 1.0;
    for (size_t i = 0; i < kept; i++)
        total += ranked[i].weight = exp((ranked[i].logit - ranked[0].logit) / (double)sampling.temperature);
    size_t cut = 0;
    for (; cut < kept; sum += ranked[cut].weight, cut++) {
        const double before = sum / total;
        if (cut > 0 && sampling.top_p < 1.0f)
            *doubt = fmin(*doubt, fabs(before - (double)sampling.top_p));
        if (cut > 0 && sampling.min_p > 0.0f)
            *doubt = fmin(*doubt, fabs(ranked[cut].weight - (double)sampling.min_p));
        if (cut > 0 && ((sampling.top_p < 1.0f && before >= (double)sampling.top_p) ||
                        ranked[cut].weight < (double)sampling.min_p))
            break;
    }
    const double target = sampler_random(&sampling, position, 0) * sum;
    double walked = 0.0;
    uint32_t id = ranked[cut - 1].id;
    for (size_t i = 0; i < cut; i++) {
        walked += ranked[i].weight;
        *doubt = fmin(*doubt, fabs(walked - target) / sum);
        if (walked > target) {
            id = ranked[i].id;
            break;
        }
    }
    mem_free(ranked);
    return id;
}

static void test_draws_equal_a_plain_oracle(void **state)
{
    (void)state;
    enum { N = 3000 };
    struct rng rng;
    rng_init(&rng, 1);
    struct sampler sampler;
    sampler_open(&sampler, N);
    static const struct plan_sampling settings[] = {
        {.temperature = 1.0f, .top_p = 1.0f},
        {.temperature = 0.3f, .top_p = 1.0f},
        {.temperature = 40.0f, .top_p = 1.0f}, /* nearly flat: the walk goes through every batch */
        {.temperature = 0.8f, .top_p = 0.9f},
        {.temperature = 1.3f, .top_p = 0.95f, .top_k = 40},
        {.temperature = 1.0f, .top_p = 1.0f, .top_k = 7},
        {.temperature = 2.0f, .top_p = 1.0f, .min_p = 0.05f},
        {.temperature = 1.5f, .top_p = 0.7f, .top_k = 2000, .min_p = 0.01f},
        {.temperature = 1.0f, .top_p = 1.0f, .top_k = 5000},
    };
    size_t compared = 0;
    for (uint32_t round = 0; round < 40; round++) {
        float *logits = random_floats(&rng, N, 6.0f);
        for (size_t i = 0; i < N; i += 2) /* many equal logits */
            logits[i] = roundf(logits[i]);
        for (size_t s = 0; s < COUNT_OF(settings); s++) {
            struct plan_sampling sampling = settings[s];
            sampling.seed = rng_u64(&rng);
            sampling.choice = round % 3;
            double doubt;
            const uint32_t want = oracle(logits, N, sampling, round, &doubt);
            const uint32_t got = draw(&sampler, logits, sampling, round);
            if (doubt > 1e-5) { /* float weights against the oracle's double ones */
                assert_int_equal(got, want);
                compared++;
            }
        }
        mem_free(logits);
    }
    assert_true(compared > 300);
    sampler_close(&sampler);
}

static void test_greedy_takes_the_largest_and_the_lower_id(void **state)
{
    (void)state;
    struct sampler sampler;
    sampler_open(&sampler, 40);
    float logits[40] = {0};
    logits[7] = logits[30] = 4.0f;
    assert_int_equal(draw(&sampler, logits, sampling_of(0.0f, 0, 1.0f, 0.0f, 5), 3), 7);
    assert_int_equal(draw(&sampler, logits, sampling_of(1.0f, 1, 1.0f, 0.0f, 5), 3), 7);
    assert_int_equal(draw(&sampler, logits, sampling_of(1e-40f, 0, 1.0f, 0.0f, 5), 3), 7); /* 1 / T overflows */
    assert_int_equal(draw(&sampler, logits, sampling_of(1.0f, 0, 1e-9f, 0.0f, 5), 3), 7);  /* the first always stays */
    logits[3] = NAN;
    assert_int_equal(draw(&sampler, logits, sampling_of(0.0f, 0, 1.0f, 0.0f, 5), 3), 7);
    assert_int_equal(draw(&sampler, logits, sampling_of(1.0f, 0, 1.0f, 0.0f, 5), 3), 7);
    for (size_t i = 0; i < COUNT_OF(logits); i++)
        logits[i] = -INFINITY;
    assert_int_equal(draw(&sampler, logits, sampling_of(1.0f, 5, 0.5f, 0.1f, 5), 3), 0);
    sampler_close(&sampler);
}

static void test_numbers_depend_on_seed_choice_and_position_only(void **state)
{
    (void)state;
    struct plan_sampling a = sampling_of(1.0f, 0, 1.0f, 0.0f, 1), b = a, c = a;
    b.seed = 1ull << 40; /* the upper half of the seed counts */
    c.choice = 1;
    assert_true(sampler_random(&a, 9, 0) == sampler_random(&a, 9, 0));
    assert_true(sampler_random(&a, 9, 0) != sampler_random(&a, 10, 0));
    assert_true(sampler_random(&a, 9, 0) != sampler_random(&a, 9, 1));
    assert_true(sampler_random(&a, 9, 0) != sampler_random(&b, 9, 0));
    assert_true(sampler_random(&a, 9, 0) != sampler_random(&c, 9, 0));
    double mean = 0.0;
    for (uint32_t p = 0; p < 10000; p++) {
        const double u = sampler_random(&a, p, 0);
        assert_true(u >= 0.0 && u < 1.0);
        mean += u / 10000.0;
    }
    assert_true(fabs(mean - 0.5) < 4.0 / sqrt(12.0 * 10000.0)); /* 4 standard deviations */
}

/* 99.9 % point of chi-square, by Wilson and Hilferty. */
static double chi_square_limit(double freedom)
{
    const double a = 2.0 / (9.0 * freedom);
    return freedom * pow(1.0 - a + 3.09 * sqrt(a), 3.0);
}

static void check_distribution(struct sampler *sampler, const float *logits, const struct json *line)
{
    enum { DRAWS = 20000 };
    const struct json *dist = json_get(line, "dist");
    static uint32_t counts[512];
    memset(counts, 0, sizeof counts);
    const struct plan_sampling sampling = sampling_of((float)json_number(json_get(line, "temperature"), 0.0),
                                                      (uint32_t)json_integer(json_get(line, "top_k"), 0),
                                                      (float)json_number(json_get(line, "top_p"), 1.0), 0.0f, 42);
    for (uint32_t i = 0; i < DRAWS; i++)
        counts[draw(sampler, logits, sampling, i)]++;
    double chi = 0.0, seen = 0.0, mass = 0.0, freedom = 0.0;
    for (size_t i = 0; i < json_count(dist); i++) {
        const double p = json_number(json_at(json_at(dist, i), 1), 0.0), expected = p * DRAWS;
        const double count = counts[json_integer(json_at(json_at(dist, i), 0), 0)];
        if (expected < 5.0)
            continue;
        chi += (count - expected) * (count - expected) / expected;
        seen += count;
        mass += p;
        freedom += 1.0;
    }
    const double rest = fmax((1.0 - mass) * DRAWS, 1.0); /* all rare ones together */
    chi += (DRAWS - seen - (1.0 - mass) * DRAWS) * (DRAWS - seen - (1.0 - mass) * DRAWS) / rest;
    if (chi > chi_square_limit(fmax(freedom, 1.0)))
        fail_msg("chi-square %g with %g degrees of freedom", chi, freedom);
    const size_t kept = (size_t)json_integer(json_get(line, "n_kept"), 0);
    if (kept == json_count(dist) && kept < 60) /* nothing but what was kept */
        assert_true(seen + 50.0 >= DRAWS);
}

static void test_distributions_equal_the_references(void **state)
{
    (void)state;
    char path[SHARED_DATA_PATH_MAX], model[SHARED_DATA_PATH_MAX + 64];
    if (!shared_data_find("sampler", "models/stories260K/sampling.jsonl", path))
        skip();
    snprintf(model, sizeof model, "%.*s/hf-fp32", (int)(strrchr(path, '/') - path), path);
    struct model_desc *desc = golden_model(model);
    const struct runner_options options = {
        .threads = 1, .ranks = 1, .stages = 1, .slots = 1, .context = 64, .tokens_max = 64};
    struct runner runner = runner_open(desc, &options);
    struct sampler sampler;
    sampler_open(&sampler, desc->vocab_size);
    struct golden_lines lines = golden_read(path);
    assert_true(lines.count >= 4);
    for (size_t i = 0; i < lines.count; i++) {
        size_t count;
        float logits[512];
        uint32_t *ids = golden_ids(json_get(lines.line[i], "prompt_ids"), &count);
        runner_reset(&runner, 0);
        struct runner_row row = {.ids = ids, .count = (uint32_t)count, .logits = logits};
        runner_step(&runner, &row, 1);
        check_distribution(&sampler, logits, lines.line[i]);
        mem_free(ids);
    }
    golden_free(&lines);
    sampler_close(&sampler);
    runner_close(&runner);
    model_close(desc);
}

static int setup(void **state)
{
    (void)state;
    paths_count = cpu_backends(paths, PATHS_MAX);
    (void)cpu_float_mode();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_draws_equal_a_plain_oracle),
        cmocka_unit_test(test_greedy_takes_the_largest_and_the_lower_id),
        cmocka_unit_test(test_numbers_depend_on_seed_choice_and_position_only),
        cmocka_unit_test(test_distributions_equal_the_references),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
