/* Attention's kernels: equal bits on all paths, alone or with other queries, for every KV type; near a float64 oracle
 * over the rounded keys and values; blind to whatever lies behind a query's position, NaN included. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/worker/kernel_data.h"
#include "worker/engine/kvpool.h"

enum { POSITIONS = 700, BLOCKS = (POSITIONS + 15) / 16, HEADS = 2 };

static const struct backend *paths[PATHS_MAX];
static size_t paths_count;
static const double EPS = 0x1p-24;
static const enum decoder_kv_type TYPES[] = {DECODER_KV_F32, DECODER_KV_F16, DECODER_KV_BF16, DECODER_KV_INT8};

struct memory {
    struct kvpool pool;
    uint32_t table[BLOCKS];
    float *keys, *values; /* [POSITIONS][head_dim], as given */
};

static struct memory memory_new(struct rng *rng, const struct backend *path, enum decoder_kv_type type, size_t head_dim)
{
    struct memory memory = {.keys = random_floats(rng, POSITIONS * head_dim, 2.0f),
                            .values = random_floats(rng, POSITIONS * head_dim, 2.0f)};
    const struct kvpool_shape shape = {.layers = 2, .kv_heads = HEADS, .head_dim = head_dim, .type = type};
    struct error error;
    assert_int_equal(kvpool_open(&memory.pool, &shape, BLOCKS, &error), STATUS_OK);
    const struct backend_kv view = kvpool_view(&memory.pool, 1, 1);
    for (uint32_t b = 0; b < BLOCKS; b++)
        memory.table[b] = (b * 7 + 3) % BLOCKS;
    for (uint32_t p = 0; p < POSITIONS; p++)
        path->kv_store(&view, memory.table[p / 16], p % 16, memory.keys + p * head_dim, memory.values + p * head_dim);
    return memory;
}

static void memory_free(struct memory *memory)
{
    kvpool_close(&memory->pool);
    mem_free(memory->keys);
    mem_free(memory->values);
}

/* Attention of a few queries over all their spans, as the decoder does it. */
static void attend(const struct backend *path, const struct backend_kv *view, const uint32_t *table,
                   const struct backend_query *queries, size_t count, float *out)
{
    static float acc[2][BACKEND_QUERIES_MAX][BACKEND_HEAD_DIM_MAX];
    struct backend_partial total[BACKEND_QUERIES_MAX], next[BACKEND_QUERIES_MAX];
    for (size_t i = 0; i < count; i++) {
        total[i].acc = acc[0][i];
        next[i].acc = acc[1][i];
    }
    path->attend(view, table, 0, queries, count, total);
    for (size_t span = 1, first = 0; span <= queries[count - 1].position / BACKEND_SPAN; span++) {
        while (queries[first].position < span * BACKEND_SPAN)
            first++;
        path->attend(view, table, span, queries + first, count - first, next + first);
        for (size_t i = first; i < count; i++)
            path->attend_merge(&total[i], &next[i], view->head_dim);
    }
    for (size_t i = 0; i < count; i++)
        path->attend_finish(&total[i], view->head_dim, out + i * view->head_dim);
}

static float rounded(const struct backend_kv *view, const struct memory *memory, bool key, size_t p, size_t d)
{
    const uint8_t *block = view->blocks + memory->table[p / 16] * view->block_bytes;
    const size_t at = key ? d * 16 + p % 16 : p % 16 * view->head_dim_padded + d;
    const uint8_t *data = block + (key ? view->keys : view->values);
    const float *scales = (const float *)(const void *)(block + (key ? view->key_scales : view->value_scales));
    switch (view->type) {
    case DECODER_KV_F32:
        return ((const float *)(const void *)data)[at];
    case DECODER_KV_F16:
        return half_to_float(((const uint16_t *)(const void *)data)[at]);
    case DECODER_KV_BF16:
        return bf16_to_float(((const uint16_t *)(const void *)data)[at]);
    default:
        return (float)((const int8_t *)data)[at] * scales[p % 16];
    }
}

static void check_stored(const struct backend_kv *view, const struct memory *memory)
{
    static const double errors[] = {[DECODER_KV_F32] = 0.0,
                                    [DECODER_KV_F16] = 0x1p-11,
                                    [DECODER_KV_BF16] = 0x1p-8,
                                    [DECODER_KV_INT8] = 0.5 / 126.9};
    for (size_t p = 0; p < POSITIONS; p += 13) {
        for (size_t d = 0; d < view->head_dim; d++) {
            const double k = (double)memory->keys[p * view->head_dim + d];
            const double size = view->type == DECODER_KV_INT8 ? 2.0 : fabs(k);
            assert_true(fabs((double)rounded(view, memory, true, p, d) - k) <= errors[view->type] * size);
        }
    }
}

static void check_oracle(const struct backend_kv *view, const struct memory *memory, const struct backend_query *query,
                         const float *out)
{
    const size_t n = query->position + 1, dim = view->head_dim;
    double scores[POSITIONS], max = -INFINITY, sum = 0.0, spread = 0.0;
    for (size_t p = 0; p < n; p++) {
        double size = 0.0;
        scores[p] = 0.0;
        for (size_t d = 0; d < dim; d++) {
            const double term = (double)query->q[d] * (double)rounded(view, memory, true, p, d);
            scores[p] += term;
            size += fabs(term);
        }
        spread = fmax(spread, size);
        max = fmax(max, scores[p]);
    }
    for (size_t p = 0; p < n; p++)
        sum += exp(scores[p] - max);
    for (size_t d = 0; d < dim; d++) {
        double value = 0.0, size = 0.0;
        for (size_t p = 0; p < n; p++) {
            const double v = (double)rounded(view, memory, false, p, d);
            value += exp(scores[p] - max) / sum * v;
            size += exp(scores[p] - max) / sum * fabs(v);
        }
        /* Errors of the scores move every weight: head_dim roundings of a sum of size `spread`; then 256 additions a
         * span and the merging of three. */
        const double bound = (2.0 * ((double)dim + 4.0) * spread + 300.0) * EPS * size;
        if (fabs((double)out[d] - value) > bound)
            fail_msg("type %d position %u dimension %zu: %g, not %g (bound %g)", view->type, query->position, d,
                     (double)out[d], value, bound);
    }
}

static void check_type(enum decoder_kv_type type, size_t head_dim, uint32_t position)
{
    struct rng rng;
    rng_init(&rng, 100 + position);
    struct memory memory = memory_new(&rng, paths[0], type, head_dim);
    struct backend_kv view = kvpool_view(&memory.pool, 1, 1);
    check_stored(&view, &memory);
    float *q = random_floats(&rng, BACKEND_QUERIES_MAX * head_dim, 0.5f);
    struct backend_query queries[BACKEND_QUERIES_MAX];
    float want[BACKEND_QUERIES_MAX * BACKEND_HEAD_DIM_MAX], got[BACKEND_QUERIES_MAX * BACKEND_HEAD_DIM_MAX];
    for (uint32_t i = 0; i < BACKEND_QUERIES_MAX; i++) {
        queries[i] = (struct backend_query){.q = q + i * head_dim, .position = position + i / 2};
        attend(paths[0], &view, memory.table, &queries[i], 1, want + i * head_dim);
        check_oracle(&view, &memory, &queries[i], want + i * head_dim);
    }
    for (size_t path = 0; path < paths_count; path++) {
        struct rng again;
        rng_init(&again, 100 + position);
        struct memory other = memory_new(&again, paths[path], type, head_dim);
        assert_memory_equal(memory.pool.memory, other.pool.memory, memory.pool.block_bytes * BLOCKS);
        const struct backend_kv other_view = kvpool_view(&other.pool, 1, 1);
        /* Whatever was there before, behind the last query: not a number. */
        float nan[BACKEND_HEAD_DIM_MAX];
        for (size_t d = 0; d < head_dim; d++)
            nan[d] = NAN;
        for (uint32_t p = queries[BACKEND_QUERIES_MAX - 1].position + 1; p < POSITIONS; p++)
            paths[path]->kv_store(&other_view, other.table[p / 16], p % 16, nan, nan);
        for (size_t count = 1; count <= BACKEND_QUERIES_MAX; count++) {
            attend(paths[path], &other_view, other.table, queries, count, got);
            assert_memory_equal(want, got, count * head_dim * sizeof *got);
        }
        memory_free(&other);
    }
    mem_free(q);
    memory_free(&memory);
}

static void test_attention_is_equal_on_all_paths_and_near_float64(void **state)
{
    (void)state;
    static const uint32_t positions[] = {0, 1, 14, 15, 16, 100, 253, 254, 255, 256, 509, 511, 600};
    for (size_t t = 0; t < COUNT_OF(TYPES); t++) {
        for (size_t i = 0; i < COUNT_OF(positions); i++)
            check_type(TYPES[t], 64, positions[i]);
        check_type(TYPES[t], 8, 300);
        check_type(TYPES[t], 24, 33);
        check_type(TYPES[t], 256, 258);
    }
}

/* Stale bytes of another stream in a later query's block must not reach an earlier query through a shared pass. */
static void test_a_query_never_sees_later_positions(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 9);
    for (size_t path = 0; path < paths_count; path++) {
        struct memory memory = memory_new(&rng, paths[path], DECODER_KV_F32, 32);
        const struct backend_kv view = kvpool_view(&memory.pool, 1, 1);
        float *q = random_floats(&rng, 2 * 32, 1.0f), before[64], after[64], poison[32];
        const struct backend_query queries[] = {{.q = q, .position = 20}, {.q = q + 32, .position = 21}};
        attend(paths[path], &view, memory.table, queries, 2, before);
        for (size_t d = 0; d < 32; d++)
            poison[d] = INFINITY;
        paths[path]->kv_store(&view, memory.table[1], 21 % 16, memory.keys, poison);
        attend(paths[path], &view, memory.table, queries, 2, after);
        assert_memory_equal(before, after, 32 * sizeof(float));
        assert_true(isinf(after[33]));
        mem_free(q);
        memory_free(&memory);
    }
}

static void test_a_unit_is_one_range_of_a_block(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 10);
    struct memory memory = memory_new(&rng, paths[0], DECODER_KV_F16, 64);
    const struct kvpool_shape shape = {.layers = 2, .kv_heads = HEADS, .head_dim = 64, .type = DECODER_KV_F16};
    assert_int_equal(memory.pool.block_bytes, kvpool_block_bytes(&shape));
    assert_int_equal(memory.pool.block_bytes, 2 * HEADS * 2 * 16 * 64 * 2);
    /* Only layer 1, head 1 was written: the last quarter of each block. */
    for (size_t i = 0; i < memory.pool.block_bytes * 3 / 4; i++)
        assert_int_equal(memory.pool.memory[i], 0);
    kvpool_copy(&memory.pool, memory.table[0], memory.table[5]);
    assert_memory_equal(memory.pool.memory + memory.table[0] * memory.pool.block_bytes,
                        memory.pool.memory + memory.table[5] * memory.pool.block_bytes, memory.pool.block_bytes);
    memory_free(&memory);
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
        cmocka_unit_test(test_attention_is_equal_on_all_paths_and_near_float64),
        cmocka_unit_test(test_a_query_never_sees_later_positions),
        cmocka_unit_test(test_a_unit_is_one_range_of_a_block),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
