/* The promise of engine.md, Numbers: plain C, AVX2 and AVX-512 give equal bits, whatever the number of tokens and the
 * range of outputs; and all are near a float64 oracle, within what the order of rounding explains. Every path that this
 * machine has runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/worker/kernel_data.h"

static const struct backend *paths[PATHS_MAX];
static size_t paths_count;
static const double EPS = 0x1p-24; /* half an ulp of a float */

static void assert_same(const float *a, const float *b, size_t count, const char *what, const char *path)
{
    for (size_t i = 0; i < count; i++) {
        if (memcmp(&a[i], &b[i], sizeof a[i]) != 0)
            fail_msg("%s: %s differs from c at %zu: %a, not %a", what, path, i, (double)b[i], (double)a[i]);
    }
}

/* ── matrix products ─────────────────────────────────────────────────────────────────────────────────────────── */

struct product {
    struct model_tensor tensor;
    struct packed packed;
    size_t tokens;
    float *x;
    struct backend_act act;
};

static struct product product_new(struct rng *rng, enum model_type type, size_t rows, size_t columns, size_t tokens)
{
    struct product p = {.tensor = random_tensor(rng, type, rows, columns), .tokens = tokens};
    p.packed = packed_of(&p.tensor);
    p.x = random_floats(rng, tokens * columns, 3.0f);
    p.act = act_new(tokens, columns);
    for (size_t t = 0; t < tokens && backend_type_is_integer(type); t++)
        paths[0]->quantize(&p.act, t, p.x + t * columns);
    return p;
}

static void product_free(struct product *p)
{
    mem_free((void *)p->tensor.data);
    mem_free(p->packed.memory);
    mem_free(p->x);
    act_free(&p->act);
}

/* y: [tokens][rows + 3], with canaries between the rows. */
static void product_run(const struct product *p, const struct backend *path, size_t first, size_t last, bool add,
                        float *y)
{
    const struct backend_matmul call = {.matrix = &p->packed.matrix,
                                        .act = &p->act,
                                        .x = p->x,
                                        .x_stride = p->tensor.columns,
                                        .token_first = first,
                                        .token_last = last,
                                        .y = y,
                                        .y_stride = p->tensor.rows + 3,
                                        .add = add};
    /* In two ranges: the split must not show. */
    path->matmul(&call, 0, p->packed.matrix.packs / 2);
    path->matmul(&call, p->packed.matrix.packs / 2, p->packed.matrix.packs);
}

static void check_oracle(const struct product *p, const float *y)
{
    const size_t columns = p->tensor.columns;
    const bool integer = backend_type_is_integer(p->tensor.type);
    for (size_t t = 0; t < p->tokens; t++) {
        for (size_t row = 0; row < p->tensor.rows; row++) {
            double sum = 0.0, size = 0.0, quantisation = 0.0;
            for (size_t k = 0; k < columns; k++) {
                const double w = tensor_weight(&p->tensor, row, k), x = (double)p->x[t * columns + k];
                const size_t block = (t * columns + k) / BACKEND_BLOCK;
                sum += w * x;
                size += fabs(w * x);
                if (integer) {
                    quantisation += fabs(w) * (double)p->act.d[block] * 0.501;
                    size += fabs(w) * (double)p->act.d[block] * 130.0; /* terms of d·q and m apart cancel */
                }
            }
            /* n roundings of a running sum that is never larger than Σ|terms|. */
            const double bound = quantisation + (double)(columns + 8) * EPS * size * (integer ? 16.0 : 1.0);
            const double got = (double)y[t * (p->tensor.rows + 3) + row];
            if (fabs(got - sum) > bound)
                fail_msg("%s: token %zu row %zu: %g, not %g (bound %g)", model_type_name(p->tensor.type), t, row, got,
                         sum, bound);
        }
    }
}

static void check_product(struct rng *rng, enum model_type type, size_t rows, size_t columns, size_t tokens)
{
    struct product p = product_new(rng, type, rows, columns, tokens);
    const size_t count = tokens * (rows + 3);
    float *want = random_floats(rng, count, 1.0f), *base = mem_dup(want, count * sizeof *want);
    product_run(&p, paths[0], 0, tokens, false, want);
    check_oracle(&p, want);
    float *added = mem_dup(base, count * sizeof *base);
    product_run(&p, paths[0], 0, tokens, true, added);
    for (size_t i = 0; i < count; i++) {
        const float expected = i % (rows + 3) < rows ? base[i] + want[i] : base[i];
        if (added[i] != expected) /* also: nothing behind the last row is touched */
            fail_msg("%s: add at %zu gave %a, not %a", model_type_name(type), i, (double)added[i], (double)expected);
    }
    for (size_t path = 0; path < paths_count; path++) {
        float *batch = mem_dup(base, count * sizeof *base), *single = mem_dup(base, count * sizeof *base);
        product_run(&p, paths[path], 0, tokens, false, batch);
        assert_same(want, batch, count, model_type_name(type), paths[path]->name);
        for (size_t t = 0; t < tokens; t++)
            product_run(&p, paths[path], t, t + 1, false, single);
        assert_same(want, single, count, "one token at a time", paths[path]->name);
        mem_free(batch);
        mem_free(single);
    }
    mem_free(want);
    mem_free(base);
    mem_free(added);
    product_free(&p);
}

static void test_products_are_equal_on_all_paths_at_every_m(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 1);
    for (int type = 0; type < MODEL_TYPE_COUNT; type++) {
        for (size_t tokens = 1; tokens <= 40; tokens += tokens < 14 ? 1 : 13)
            check_product(&rng, (enum model_type)type, 37, 96, tokens);
        static const size_t rows[] = {1, 15, 16, 17, 33, 64};
        for (size_t i = 0; i < COUNT_OF(rows); i++)
            check_product(&rng, (enum model_type)type, rows[i], 32 * (i + 1), 5);
        check_product(&rng, (enum model_type)type, 48, 1536, 3);
    }
    static const size_t columns[] = {1, 3, 31, 172, 577};
    for (size_t i = 0; i < COUNT_OF(columns); i++) {
        check_product(&rng, MODEL_F32, 18, columns[i], 7);
        check_product(&rng, MODEL_F16, 18, columns[i], 7);
        check_product(&rng, MODEL_BF16, 18, columns[i], 7);
    }
}

/* The largest sums that the integer dots can meet: every weight and activation at its end. */
static void test_integer_dots_do_not_saturate(void **state)
{
    (void)state;
    static const enum model_type types[] = {MODEL_Q8_0, MODEL_Q4_0, MODEL_Q4_1};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        for (int sign = -1; sign <= 1; sign += 2) {
            struct rng rng;
            rng_init(&rng, 2);
            struct product p = product_new(&rng, types[i], 16, 64, 2);
            uint8_t *data = (uint8_t *)p.tensor.data;
            for (size_t b = 0; b < 16 * 64 / 32; b++) {
                const size_t bytes = model_type_block_bytes(types[i]), head = types[i] == MODEL_Q4_1 ? 4 : 2;
                memset(data + b * bytes + head, types[i] == MODEL_Q8_0 ? 0x80 : 0xff, bytes - head);
            }
            for (size_t k = 0; k < 2 * 64; k++)
                p.x[k] = (float)sign;
            paths[0]->quantize(&p.act, 0, p.x);
            paths[0]->quantize(&p.act, 1, p.x + 64);
            assert_int_equal(p.act.q[5], sign * 127);
            mem_free(p.packed.memory);
            p.packed = packed_of(&p.tensor);
            float want[2 * 19] = {0}, got[2 * 19] = {0};
            product_run(&p, paths[0], 0, 2, false, want);
            check_oracle(&p, want);
            for (size_t path = 1; path < paths_count; path++) {
                product_run(&p, paths[path], 0, 2, false, got);
                assert_same(want, got, COUNT_OF(want), "extreme sums", paths[path]->name);
            }
            product_free(&p);
        }
    }
}

static void test_gather_gives_the_files_rows(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 3);
    for (int type = 0; type < MODEL_TYPE_COUNT; type++) {
        struct product p = product_new(&rng, (enum model_type)type, 35, 64, 1);
        for (size_t row = 0; row < 35; row++) {
            float want[64], got[64];
            paths[0]->gather(&p.packed.matrix, row, want);
            for (size_t k = 0; k < 64; k++) {
                const double w = tensor_weight(&p.tensor, row, k);
                assert_true(fabs((double)want[k] - w) <= 2.0 * EPS * (fabs(w) + 1e-6));
            }
            for (size_t path = 1; path < paths_count; path++) {
                paths[path]->gather(&p.packed.matrix, row, got);
                assert_same(want, got, 64, "gather", paths[path]->name);
            }
        }
        product_free(&p);
    }
}

/* ── activations ─────────────────────────────────────────────────────────────────────────────────────────────── */

static void test_quantisation_rounds_to_nearest(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 4);
    enum { COLUMNS = 32 * 40 };
    float *x = random_floats(&rng, COLUMNS, 5.0f);
    memset(x, 0, 32 * sizeof *x);  /* a block of zeros */
    for (int i = 0; i < 32; i++) { /* scale exactly 1: halves are ties */
        x[32 + i] = (float)i - 15.5f;
        x[64 + i] = i == 0 ? 1e-42f : 1e-40f; /* denormals are zeros */
    }
    x[32] = 127.0f;
    struct backend_act want = act_new(1, COLUMNS), got = act_new(1, COLUMNS);
    paths[0]->quantize(&want, 0, x);
    assert_int_equal(want.q[32 + 16], 0); /* 0.5 → 0 */
    assert_int_equal(want.q[32 + 17], 2); /* 1.5 → 2 */
    assert_int_equal(want.q[32 + 14], -2);
    for (size_t b = 0; b < COLUMNS / 32; b++) {
        int32_t sum = 0;
        for (size_t i = 0; i < 32; i++) {
            const int q = want.q[b * 32 + i];
            sum += q;
            assert_true(q >= -127 && q <= 127);
            assert_true(fabs((double)x[b * 32 + i] - (double)want.d[b] * q) <= (double)want.d[b] * 0.50001 + 1e-37);
        }
        assert_int_equal(sum, want.sum[b]);
        assert_true(want.dsum[b] == want.d[b] * (float)sum);
    }
    assert_true(want.d[0] == 0.0f && want.q[3] == 0);
    for (size_t path = 1; path < paths_count; path++) {
        paths[path]->quantize(&got, 0, x);
        assert_memory_equal(want.q, got.q, COLUMNS);
        assert_memory_equal(want.sum, got.sum, COLUMNS / 32 * sizeof *got.sum);
        assert_same(want.d, got.d, COLUMNS / 32, "scale", paths[path]->name);
        assert_same(want.dsum, got.dsum, COLUMNS / 32, "scaled sum", paths[path]->name);
    }
    act_free(&want);
    act_free(&got);
    mem_free(x);
}

static void test_norm_is_near_float64(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 5);
    for (size_t n = 1; n < 700; n += n < 40 ? 1 : 89) {
        float *x = random_floats(&rng, n, 2.0f), *w = random_floats(&rng, n, 1.0f);
        float *want = mem_new_array(float, n + 1), *got = mem_new_array(float, n + 1);
        want[n] = got[n] = 7.0f;
        paths[0]->norm(x, w, 1e-5f, n, want);
        double squares = 0.0;
        for (size_t i = 0; i < n; i++)
            squares += (double)x[i] * (double)x[i];
        const double scale = 1.0 / sqrt(squares / (double)n + 1e-5);
        for (size_t i = 0; i < n; i++) /* n / 16 additions in each lane, 4 in the tree, 6 more roundings */
            assert_true(fabs((double)want[i] - (double)x[i] * scale * (double)w[i]) <=
                        ((double)n / 16.0 + 12.0) * EPS * fabs((double)x[i] * scale * (double)w[i]) + 1e-37);
        for (size_t path = 1; path < paths_count; path++) {
            paths[path]->norm(x, w, 1e-5f, n, got);
            assert_same(want, got, n + 1, "norm", paths[path]->name);
        }
        mem_free(x);
        mem_free(w);
        mem_free(want);
        mem_free(got);
    }
}

static void test_swiglu_is_near_float64(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 6);
    enum { N = 1003 };
    float *gate = random_floats(&rng, N, 20.0f), *up = random_floats(&rng, N, 3.0f);
    gate[0] = -1000.0f;
    gate[1] = 1000.0f;
    gate[2] = 0.0f;
    gate[3] = -88.5f;
    float *want = mem_dup(gate, N * sizeof *gate);
    paths[0]->swiglu(want, up, N);
    for (size_t i = 0; i < N; i++) {
        const double g = (double)gate[i], oracle = g / (1.0 + exp(-g)) * (double)up[i];
        assert_true(fabs((double)want[i] - oracle) <= 8.0 * EPS * fabs(oracle) + 1e-34);
    }
    for (size_t path = 1; path < paths_count; path++) {
        float *got = mem_dup(gate, N * sizeof *gate);
        paths[path]->swiglu(got, up, N);
        assert_same(want, got, N, "swiglu", paths[path]->name);
        mem_free(got);
    }
    mem_free(gate);
    mem_free(up);
    mem_free(want);
}

static void test_rope_rotates_halves(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 7);
    static const size_t dims[][2] = {{8, 8}, {64, 64}, {96, 32}, {128, 128}, {24, 24}}; /* head, rotated */
    for (size_t i = 0; i < COUNT_OF(dims); i++) {
        const size_t d = dims[i][0], half = dims[i][1] / 2;
        float *head = random_floats(&rng, d, 1.0f), *want = mem_dup(head, d * sizeof *head);
        float cosines[64], sines[64];
        for (size_t j = 0; j < half; j++) {
            const double angle = rng_unit(&rng) * 6.0;
            cosines[j] = (float)cos(angle);
            sines[j] = (float)sin(angle);
        }
        paths[0]->rope(want, cosines, sines, half, d, 0.125f);
        for (size_t j = 0; j < d; j++) {
            const double x = (double)head[j];
            double oracle = x;
            if (j < half)
                oracle = x * (double)cosines[j] - (double)head[j + half] * (double)sines[j];
            else if (j < 2 * half)
                oracle = x * (double)cosines[j - half] + (double)head[j - half] * (double)sines[j - half];
            assert_true(fabs((double)want[j] - oracle * 0.125) <= 4.0 * EPS * 0.25);
        }
        for (size_t path = 1; path < paths_count; path++) {
            float *got = mem_dup(head, d * sizeof *head);
            paths[path]->rope(got, cosines, sines, half, d, 0.125f);
            assert_same(want, got, d, "rope", paths[path]->name);
            mem_free(got);
        }
        mem_free(head);
        mem_free(want);
    }
}

/* ── sampling's kernels ──────────────────────────────────────────────────────────────────────────────────────── */

static void test_argmax_takes_the_lowest_of_equals_and_no_nan(void **state)
{
    (void)state;
    for (size_t path = 0; path < paths_count; path++) {
        float values[53];
        for (size_t i = 0; i < COUNT_OF(values); i++)
            values[i] = -5.0f;
        values[40] = values[21] = values[37] = 2.0f;
        values[3] = values[52] = NAN;
        assert_int_equal(paths[path]->argmax(values, COUNT_OF(values)), 21);
        assert_int_equal(paths[path]->argmax(values, 3), 0);
        values[52] = 3.0f;
        assert_int_equal(paths[path]->argmax(values, COUNT_OF(values)), 52);
        for (size_t i = 0; i < COUNT_OF(values); i++)
            values[i] = NAN;
        assert_int_equal(paths[path]->argmax(values, COUNT_OF(values)), 0);
    }
}

static void test_softmax_weights_are_near_float64(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 8);
    enum { N = 5003 };
    float *values = random_floats(&rng, N, 40.0f), *want = mem_new_array(float, N), *got = mem_new_array(float, N);
    values[9] = -INFINITY;
    values[77] = 40.0f;
    const double total = paths[0]->softmax_weights(values, N, 40.0f, 0.8f, want);
    double sum = 0.0;
    for (size_t i = 0; i < N; i++) {
        const double x = (double)(values[i] - 40.0f) * (double)0.8f, oracle = x < -87.0 ? 0.0 : exp(x);
        sum += oracle;
        /* the product's rounding times |x|, then exp's own 2 ulp */
        if (fabs((double)want[i] - oracle) > (fabs(x) + 4.0) * EPS * oracle + 1e-37)
            fail_msg("exp(%a) = %a, not %a", x, (double)want[i], oracle);
    }
    assert_true(want[77] == 1.0f && want[9] == 0.0f);
    assert_true(fabs(total - sum) <= 50.0 * EPS * sum);
    for (size_t path = 1; path < paths_count; path++) {
        assert_true(paths[path]->softmax_weights(values, N, 40.0f, 0.8f, got) == total);
        assert_same(want, got, N, "softmax", paths[path]->name);
    }
    mem_free(values);
    mem_free(want);
    mem_free(got);
}

/* ── halves ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static void test_half_conversions_are_exact_and_round_to_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        const uint16_t half = (uint16_t)h;
        const int exponent = (int)(h >> 10);
        const double oracle = exponent == 0 ? ldexp(h & 1023, -24) : ldexp((double)((h & 1023) + 1024), exponent - 25);
        assert_true((double)half_to_float(half) == oracle);
        assert_int_equal(half_from_float(half_to_float(half)), half);
        assert_int_equal(half_from_float(-half_to_float(half)), half | 0x8000);
        const float next = h + 1 == 0x7c00 ? 65536.0f : half_to_float((uint16_t)(h + 1));
        const float middle = (half_to_float(half) + next) / 2.0f;
        assert_int_equal(half_from_float(middle), h % 2 == 0 ? h : h + 1);
        assert_int_equal(half_from_float(nextafterf(middle, 1e9f)), h + 1);
        assert_int_equal(half_from_float(nextafterf(middle, 0.0f)), h);
    }
    assert_int_equal(half_from_float(INFINITY), 0x7c00);
    assert_int_equal(half_from_float(1e30f), 0x7c00);
    assert_true(isinf(half_to_float(0xfc00)) && isnan(half_to_float(0x7e01)));
    assert_true(isnan(half_to_float(half_from_float(NAN))));
    assert_int_equal(bf16_from_float(1.0f), 0x3f80);
    assert_int_equal(bf16_from_float(half_bits_float(0x3f808000)), 0x3f80); /* tie to even */
    assert_int_equal(bf16_from_float(half_bits_float(0x3f818000)), 0x3f82);
    assert_true(isnan(bf16_to_float(bf16_from_float(NAN))));
}

static int setup(void **state)
{
    (void)state;
    paths_count = cpu_backends(paths, PATHS_MAX);
    for (size_t i = 0; i < paths_count; i++)
        print_message("path %s\n", paths[i]->name);
    (void)cpu_float_mode(); /* as in every compute thread */
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_half_conversions_are_exact_and_round_to_even),
        cmocka_unit_test(test_products_are_equal_on_all_paths_at_every_m),
        cmocka_unit_test(test_integer_dots_do_not_saturate),
        cmocka_unit_test(test_gather_gives_the_files_rows),
        cmocka_unit_test(test_quantisation_rounds_to_nearest),
        cmocka_unit_test(test_norm_is_near_float64),
        cmocka_unit_test(test_swiglu_is_near_float64),
        cmocka_unit_test(test_rope_rotates_halves),
        cmocka_unit_test(test_argmax_takes_the_lowest_of_equals_and_no_nan),
        cmocka_unit_test(test_softmax_weights_are_near_float64),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
