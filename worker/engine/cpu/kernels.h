/* kernels: the body of every CPU path: one text, compiled once per instruction set.
 *
 * A path file includes its vec_*.h (16 lanes and the integer tiles) and then this, and exports KERNEL_TABLE. The
 * algorithms and the order of every sum are written here once, so that the paths can't drift apart. Functions are
 * static. */
#ifndef SHOAL_WORKER_ENGINE_CPU_KERNELS_H
#define SHOAL_WORKER_ENGINE_CPU_KERNELS_H

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "worker/engine/backend.h"
#include "worker/engine/cpu/half.h"
#include "worker/engine/cpu/inline.h"

/* Types of memory that a panel reads; the first three are model_type's and decoder_kv_type's common ground. */
enum panel_type { PANEL_F32, PANEL_F16, PANEL_BF16, PANEL_I8 };

static const float MAGIC = 12582912.0f; /* 1.5 · 2^23: adding it rounds to the nearest integer, ties to even */

KERNEL_INLINE vf16 vf_load_some(const float *from, size_t count)
{
    if (count >= 16)
        return vf_load(from);
    float lanes[16] = {0};
    memcpy(lanes, from, count * sizeof(float));
    return vf_load(lanes);
}

KERNEL_INLINE void vf_store_some(float *to, vf16 a, size_t count)
{
    if (count >= 16) {
        vf_store(to, a);
        return;
    }
    float lanes[16];
    vf_store(lanes, a);
    memcpy(to, lanes, count * sizeof(float));
}

KERNEL_INLINE float vf_lane0(vf16 a)
{
    float lanes[16];
    vf_store(lanes, a);
    return lanes[0];
}

/* exp(x) for x ≤ 88, below 2 ulp; 0 for x < −87. x = n·ln 2 + r, |r| ≤ ln 2 / 2; Taylor to r^7 leaves 6e-9. */
KERNEL_INLINE vf16 vf_exp(vf16 x)
{
    const vf16 shifted = vf_fma(x, vf_set1(0x1.715476p+0f), vf_set1(MAGIC));
    const vf16 n = vf_sub(shifted, vf_set1(MAGIC));
    vf16 r =
        vf_fma(n, vf_set1(-0x1.62e4p-1f), x); /* ln 2 in two parts; the first has 15 bits, so n times it is exact */
    r = vf_fma(n, vf_set1(-0x1.7f7d1cp-20f), r);
    vf16 p = vf_set1(1.0f / 5040);
    p = vf_fma(p, r, vf_set1(1.0f / 720));
    p = vf_fma(p, r, vf_set1(1.0f / 120));
    p = vf_fma(p, r, vf_set1(1.0f / 24));
    p = vf_fma(p, r, vf_set1(1.0f / 6));
    p = vf_fma(p, r, vf_set1(0.5f));
    p = vf_fma(p, r, vf_set1(1.0f));
    p = vf_fma(p, r, vf_set1(1.0f));
    return vf_zero_below(x, -87.0f, vf_ldexp(p, shifted));
}

/* ── activations ─────────────────────────────────────────────────────────────────────────────────────────────── */

static void kernel_quantize(const struct backend_act *act, size_t token, const float *x)
{
    const size_t blocks = act->columns / BACKEND_BLOCK, at = token * blocks;
    for (size_t b = 0; b < blocks; b++, x += BACKEND_BLOCK) {
        const vf16 low = vf_load(x), high = vf_load(x + 16);
        const float largest = vf_largest(vf_max(vf_abs(low), vf_abs(high)));
        const float d = largest / 127.0f;
        const vf16 inverse = vf_set1(d > 0.0f ? 1.0f / d : 0.0f);
        int8_t *q = act->q + (at + b) * BACKEND_BLOCK;
        int32_t sum = vf_store_low_bytes(q, vf_add(vf_mul(low, inverse), vf_set1(MAGIC)));
        sum += vf_store_low_bytes(q + 16, vf_add(vf_mul(high, inverse), vf_set1(MAGIC)));
        act->d[at + b] = d;
        act->sum[at + b] = sum;
        act->dsum[at + b] = d * (float)sum;
    }
}

static void kernel_norm(const float *x, const float *weight, float epsilon, size_t n, float *out)
{
    vf16 squares = vf_set1(0.0f);
    for (size_t i = 0; i < n; i += 16) {
        const vf16 v = vf_load_some(x + i, n - i);
        squares = vf_fma(v, v, squares);
    }
    const vf16 scale = vf_set1(1.0f / sqrtf(vf_sum(squares) / (float)n + epsilon));
    for (size_t i = 0; i < n; i += 16) {
        const vf16 v = vf_mul(vf_load_some(x + i, n - i), scale);
        vf_store_some(out + i, vf_mul(v, vf_load_some(weight + i, n - i)), n - i);
    }
}

static void kernel_rope(float *head, const float *cosines, const float *sines, size_t half, size_t head_dim,
                        float scale)
{
    for (size_t i = 0; i < half; i += 16) {
        const size_t count = half - i;
        const vf16 x = vf_load_some(head + i, count), y = vf_load_some(head + half + i, count);
        const vf16 c = vf_load_some(cosines + i, count), s = vf_load_some(sines + i, count);
        vf_store_some(head + i, vf_fma(y, vf_sub(vf_set1(0.0f), s), vf_mul(x, c)), count);
        vf_store_some(head + half + i, vf_fma(y, c, vf_mul(x, s)), count);
    }
    if (scale == 1.0f)
        return;
    for (size_t i = 0; i < head_dim; i += 16)
        vf_store_some(head + i, vf_mul(vf_load_some(head + i, head_dim - i), vf_set1(scale)), head_dim - i);
}

static void kernel_swiglu(float *gate, const float *up, size_t n)
{
    const vf16 one = vf_set1(1.0f), top = vf_set1(88.0f), zero = vf_set1(0.0f);
    for (size_t i = 0; i < n; i += 16) {
        const vf16 g = vf_load_some(gate + i, n - i), u = vf_load_some(up + i, n - i);
        const vf16 e = vf_exp(vf_min(vf_sub(zero, g), top));
        vf_store_some(gate + i, vf_mul(vf_div(g, vf_add(one, e)), u), n - i);
    }
}

/* ── matrix products ─────────────────────────────────────────────────────────────────────────────────────────── */

KERNEL_INLINE vf16 panel_load(const enum panel_type type, const uint8_t *base, size_t element)
{
    switch (type) {
    case PANEL_F16:
        return vf_load_f16((const uint16_t *)(const void *)base + element);
    case PANEL_BF16:
        return vf_load_bf16((const uint16_t *)(const void *)base + element);
    case PANEL_I8:
        return vf_load_i8((const int8_t *)base + element);
    default:
        return vf_load((const float *)(const void *)base + element);
    }
}

/* acc[t] = fma(w[k][16], x[t][k], acc[t]) for k ascending: the one loop behind float products, scores and values. */
KERNEL_INLINE void panel(const int tokens, const enum panel_type type, const uint8_t *w, size_t stride, size_t k_count,
                         const float *const *x, vf16 *acc)
{
    for (size_t k = 0; k < k_count; k++) {
        const vf16 row = panel_load(type, w, k * stride);
        KERNEL_UNROLL
        for (int t = 0; t < tokens; t++)
            acc[t] = vf_fma(row, vf_set1(x[t][k]), acc[t]);
    }
}

/* The same for 1 to 6 rows of x that are known only at run time. */
#define PANEL_CASE(n, type)                                                                                            \
    case n: {                                                                                                          \
        vf16 local[n];                                                                                                 \
        const float *rows[n];                                                                                          \
        KERNEL_UNROLL                                                                                                  \
        for (int t = 0; t < (n); t++) {                                                                                \
            local[t] = acc[t];                                                                                         \
            rows[t] = x[t];                                                                                            \
        }                                                                                                              \
        panel(n, type, w, stride, k_count, rows, local);                                                               \
        KERNEL_UNROLL                                                                                                  \
        for (int t = 0; t < (n); t++)                                                                                  \
            acc[t] = local[t];                                                                                         \
        break;                                                                                                         \
    }

#define PANEL_FUNCTION(name, type)                                                                                     \
    static void name(size_t tokens, const uint8_t *w, size_t stride, size_t k_count, const float *const *x, vf16 *acc) \
    {                                                                                                                  \
        switch (tokens) {                                                                                              \
            PANEL_CASE(1, type)                                                                                        \
            PANEL_CASE(2, type)                                                                                        \
            PANEL_CASE(3, type)                                                                                        \
            PANEL_CASE(4, type)                                                                                        \
            PANEL_CASE(5, type)                                                                                        \
            PANEL_CASE(6, type)                                                                                        \
        default:                                                                                                       \
            UNREACHABLE();                                                                                             \
        }                                                                                                              \
    }

PANEL_FUNCTION(panel_f32, PANEL_F32)
PANEL_FUNCTION(panel_f16, PANEL_F16)
PANEL_FUNCTION(panel_bf16, PANEL_BF16)
PANEL_FUNCTION(panel_i8, PANEL_I8)

typedef void panel_function(size_t tokens, const uint8_t *w, size_t stride, size_t k_count, const float *const *x,
                            vf16 *acc);

/* Writes or adds a tile of tokens × 16 outputs; rows beyond the matrix stay untouched. */
KERNEL_INLINE void tile_store(const struct backend_matmul *call, size_t pack, size_t token, size_t tokens,
                              const vf16 *acc)
{
    const size_t row = pack * BACKEND_PACK, rows = call->matrix->rows - row;
    for (size_t t = 0; t < tokens; t++) {
        float *y = call->y + (token + t) * call->y_stride + row;
        vf_store_some(y, call->add ? vf_add(vf_load_some(y, rows), acc[t]) : acc[t], rows);
    }
}

static void matmul_float(const struct backend_matmul *call, panel_function *function, size_t pack)
{
    const uint8_t *w = call->matrix->data + pack * call->matrix->pack_bytes;
    for (size_t token = call->token_first; token < call->token_last; token += VEC_TILE_FLOAT) {
        const size_t tokens = MIN_OF(call->token_last - token, (size_t)VEC_TILE_FLOAT);
        vf16 acc[VEC_TILE_FLOAT];
        const float *x[VEC_TILE_FLOAT];
        for (size_t t = 0; t < tokens; t++) {
            acc[t] = vf_set1(0.0f);
            x[t] = call->x + (token + t) * call->x_stride;
        }
        function(tokens, w, BACKEND_PACK, call->matrix->columns, x, acc);
        tile_store(call, pack, token, tokens, acc);
    }
}

#define TILE_CASE(n, call_tile)                                                                                        \
    case n: {                                                                                                          \
        vf16 acc[n];                                                                                                   \
        KERNEL_UNROLL                                                                                                  \
        for (int t = 0; t < (n); t++)                                                                                  \
            acc[t] = vf_set1(0.0f);                                                                                    \
        call_tile;                                                                                                     \
        tile_store(call, pack, token, n, acc);                                                                         \
        break;                                                                                                         \
    }

#define MATMUL_Q4(name, with_min)                                                                                      \
    static void name(const struct backend_matmul *call, size_t pack)                                                   \
    {                                                                                                                  \
        const uint8_t *w = call->matrix->data + pack * call->matrix->pack_bytes;                                       \
        size_t step;                                                                                                   \
        for (size_t token = call->token_first; token < call->token_last; token += step) {                              \
            step = MIN_OF(call->token_last - token, (size_t)VEC_TILE_Q4);                                              \
            switch (step) {                                                                                            \
                TILE_CASE(1, tile_q4(1, with_min, w, call->act, token, acc))                                           \
                TILE_CASE(2, tile_q4(2, with_min, w, call->act, token, acc))                                           \
                TILE_CASE(3, tile_q4(3, with_min, w, call->act, token, acc))                                           \
                TILE_CASE(4, tile_q4(4, with_min, w, call->act, token, acc))                                           \
                TILE_CASE(5, tile_q4(5, with_min, w, call->act, token, acc))                                           \
                TILE_CASE(6, tile_q4(6, with_min, w, call->act, token, acc))                                           \
            default:                                                                                                   \
                UNREACHABLE();                                                                                         \
            }                                                                                                          \
        }                                                                                                              \
    }

MATMUL_Q4(matmul_q4_0, 0)
MATMUL_Q4(matmul_q4_1, 1)

static void matmul_q8_0(const struct backend_matmul *call, size_t pack)
{
    const uint8_t *w = call->matrix->data + pack * call->matrix->pack_bytes;
    size_t step;
    for (size_t token = call->token_first; token < call->token_last; token += step) {
        step = MIN_OF(call->token_last - token, (size_t)VEC_TILE_Q8);
        switch (step) {
            TILE_CASE(1, tile_q8(1, w, call->act, token, acc))
            TILE_CASE(2, tile_q8(2, w, call->act, token, acc))
            TILE_CASE(3, tile_q8(3, w, call->act, token, acc))
            TILE_CASE(4, tile_q8(4, w, call->act, token, acc))
        default:
            UNREACHABLE();
        }
    }
}

static void kernel_matmul(const struct backend_matmul *call, size_t first, size_t last)
{
    for (size_t pack = first; pack < last; pack++) {
        switch (call->matrix->type) {
        case MODEL_F32:
            matmul_float(call, panel_f32, pack);
            break;
        case MODEL_F16:
            matmul_float(call, panel_f16, pack);
            break;
        case MODEL_BF16:
            matmul_float(call, panel_bf16, pack);
            break;
        case MODEL_Q8_0:
            matmul_q8_0(call, pack);
            break;
        case MODEL_Q4_0:
            matmul_q4_0(call, pack);
            break;
        case MODEL_Q4_1:
            matmul_q4_1(call, pack);
            break;
        default:
            UNREACHABLE();
        }
    }
}

/* One quantised weight block's 32 values of pack row `o`. */
static void gather_block(enum model_type type, const uint8_t *block, size_t o, float *out)
{
    const uint16_t *halves = (const uint16_t *)(const void *)block;
    const float d = half_to_float(halves[o]);
    for (size_t i = 0; i < 32; i++) {
        if (type == MODEL_Q8_0) {
            out[i] = d * (float)(int8_t)block[32 + 64 * (i / 4) + 4 * o + i % 4];
            continue;
        }
        const uint8_t *nibbles = block + (type == MODEL_Q4_1 ? 64 : 32);
        const uint8_t byte = nibbles[64 * (i % 16 / 4) + 4 * o + i % 4];
        const int q = i < 16 ? byte & 15 : byte >> 4;
        out[i] = type == MODEL_Q4_1 ? fmaf(d, (float)q, half_to_float(halves[16 + o])) : d * (float)(q - 8);
    }
}

static void kernel_gather(const struct backend_matrix *matrix, size_t row, float *out)
{
    const uint8_t *pack = matrix->data + row / BACKEND_PACK * matrix->pack_bytes;
    const size_t o = row % BACKEND_PACK;
    if (backend_type_is_integer(matrix->type)) {
        const size_t blocks = matrix->columns / BACKEND_BLOCK, bytes = matrix->pack_bytes / blocks;
        for (size_t b = 0; b < blocks; b++)
            gather_block(matrix->type, pack + b * bytes, o, out + b * BACKEND_BLOCK);
        return;
    }
    for (size_t k = 0; k < matrix->columns; k++) {
        const size_t at = k * BACKEND_PACK + o;
        if (matrix->type == MODEL_F32)
            out[k] = ((const float *)(const void *)pack)[at];
        else if (matrix->type == MODEL_F16)
            out[k] = half_to_float(((const uint16_t *)(const void *)pack)[at]);
        else
            out[k] = bf16_to_float(((const uint16_t *)(const void *)pack)[at]);
    }
}

/* ── keys, values, attention ─────────────────────────────────────────────────────────────────────────────────── */

/* Rounds [n] floats to the type and puts element i at to[i · stride] (in elements); returns int8's scale. */
static float store_rounded(enum decoder_kv_type type, const float *x, size_t n, uint8_t *to, size_t stride)
{
    float scale = 1.0f;
    vf16 inverse = vf_set1(1.0f);
    if (type == DECODER_KV_INT8) {
        vf16 largest = vf_set1(0.0f);
        for (size_t i = 0; i < n; i += 16)
            largest = vf_max(vf_abs(vf_load_some(x + i, n - i)), largest);
        scale = vf_largest(largest) / 127.0f;
        inverse = vf_set1(scale > 0.0f ? 1.0f / scale : 0.0f);
    }
    for (size_t i = 0; i < n; i += 16) {
        const size_t count = MIN_OF(n - i, (size_t)16);
        const vf16 v = vf_load_some(x + i, count);
        union {
            float f32[16];
            uint16_t f16[16];
            int8_t i8[16];
        } rounded;
        if (type == DECODER_KV_F32)
            vf_store(rounded.f32, v);
        else if (type == DECODER_KV_F16)
            vf_store_f16(rounded.f16, v);
        else if (type == DECODER_KV_BF16)
            vf_store_bf16(rounded.f16, v);
        else
            (void)vf_store_low_bytes(rounded.i8, vf_add(vf_mul(v, inverse), vf_set1(MAGIC)));
        for (size_t j = 0; j < count; j++) {
            if (type == DECODER_KV_F32)
                ((float *)(void *)to)[(i + j) * stride] = rounded.f32[j];
            else if (type == DECODER_KV_INT8)
                ((int8_t *)to)[(i + j) * stride] = rounded.i8[j];
            else
                ((uint16_t *)(void *)to)[(i + j) * stride] = rounded.f16[j];
        }
    }
    return scale;
}

static size_t kv_element_bytes(enum decoder_kv_type type)
{
    return type == DECODER_KV_F32 ? 4 : type == DECODER_KV_INT8 ? 1 : 2;
}

static void kernel_kv_store(const struct backend_kv *kv, uint32_t block, size_t offset, const float *key,
                            const float *value)
{
    uint8_t *base = kv->blocks + (size_t)block * kv->block_bytes;
    const size_t bytes = kv_element_bytes(kv->type);
    const float key_scale =
        store_rounded(kv->type, key, kv->head_dim, base + kv->keys + offset * bytes, DECODER_BLOCK_TOKENS);
    const float value_scale =
        store_rounded(kv->type, value, kv->head_dim, base + kv->values + offset * kv->head_dim_padded * bytes, 1);
    if (kv->type == DECODER_KV_INT8) {
        ((float *)(void *)(base + kv->key_scales))[offset] = key_scale;
        ((float *)(void *)(base + kv->value_scales))[offset] = value_scale;
    }
}

struct attend {
    const struct backend_kv *kv;
    const uint32_t *table;
    panel_function *function;
    size_t queries;
    size_t count[BACKEND_QUERIES_MAX];   /* positions of the span that the query sees */
    float *weights[BACKEND_QUERIES_MAX]; /* [BACKEND_SPAN] */
};

static const uint8_t *attend_block(const struct attend *attend, size_t block)
{
    return attend->kv->blocks + (size_t)attend->table[block] * attend->kv->block_bytes;
}

/* Scores of all queries against the span's blocks. Lanes that a query does not see hold anything. */
static void attend_scores(const struct attend *attend, const struct backend_query *queries)
{
    const struct backend_kv *kv = attend->kv;
    const size_t n = attend->queries, count = attend->count[n - 1];
    const float *q[BACKEND_QUERIES_MAX];
    for (size_t i = 0; i < n; i++)
        q[i] = queries[i].q;
    for (size_t b = 0; b * DECODER_BLOCK_TOKENS < count; b++) {
        const uint8_t *base = attend_block(attend, b);
        vf16 acc[BACKEND_QUERIES_MAX];
        for (size_t i = 0; i < n; i++)
            acc[i] = vf_set1(0.0f);
        attend->function(n, base + kv->keys, DECODER_BLOCK_TOKENS, kv->head_dim, q, acc);
        if (kv->type == DECODER_KV_INT8) {
            const vf16 scales = vf_load((const float *)(const void *)(base + kv->key_scales));
            for (size_t i = 0; i < n; i++)
                acc[i] = vf_mul(acc[i], scales);
        }
        for (size_t i = 0; i < n; i++)
            vf_store(attend->weights[i] + b * DECODER_BLOCK_TOKENS, acc[i]);
    }
}

/* Turns query i's scores into weights relative to the largest, and sums them: 16 virtual lanes and the tree. */
static void attend_softmax(const struct attend *attend, size_t i, struct backend_partial *out)
{
    float *weights = attend->weights[i];
    const size_t count = attend->count[i];
    vf16 largest = vf_set1(-INFINITY), sum = vf_set1(0.0f);
    for (size_t j = 0; j < count; j += 16) {
        const vf16 scores = vf_first(vf_load(weights + j), count - j, -INFINITY);
        vf_store(weights + j, scores);
        largest = vf_max(largest, scores);
    }
    out->max = vf_largest(largest);
    const vf16 max = vf_set1(out->max);
    for (size_t j = 0; j < count; j += 16) {
        vf16 p = vf_exp(vf_sub(vf_load(weights + j), max));
        sum = vf_add(sum, p);
        if (attend->kv->type == DECODER_KV_INT8) {
            const uint8_t *base = attend_block(attend, j / DECODER_BLOCK_TOKENS);
            p = vf_mul(p, vf_load((const float *)(const void *)(base + attend->kv->value_scales)));
        }
        vf_store(weights + j, p);
    }
    out->sum = vf_sum(sum);
}

/* Σ weight · value for queries [first, first + n) over the span's positions [from, to), 16 dimensions at a time. */
static void attend_values(const struct attend *attend, size_t first, size_t n, size_t from, size_t to, size_t dimension,
                          vf16 *acc)
{
    const struct backend_kv *kv = attend->kv;
    const size_t bytes = kv_element_bytes(kv->type);
    while (from < to) {
        const size_t block = from / DECODER_BLOCK_TOKENS, offset = from % DECODER_BLOCK_TOKENS;
        const size_t count = MIN_OF(to - from, DECODER_BLOCK_TOKENS - offset);
        const uint8_t *values =
            attend_block(attend, block) + kv->values + (offset * kv->head_dim_padded + dimension) * bytes;
        const float *weights[BACKEND_QUERIES_MAX];
        for (size_t i = 0; i < n; i++)
            weights[i] = attend->weights[first + i] + from;
        attend->function(n, values, kv->head_dim_padded, count, weights, acc);
        from += count;
    }
}

static void kernel_attend(const struct backend_kv *kv, const uint32_t *table, size_t span,
                          const struct backend_query *queries, size_t queries_count, struct backend_partial *out)
{
    static panel_function *const functions[] = {[DECODER_KV_F32] = panel_f32,
                                                [DECODER_KV_F16] = panel_f16,
                                                [DECODER_KV_BF16] = panel_bf16,
                                                [DECODER_KV_INT8] = panel_i8};
    _Alignas(64) float weights[BACKEND_QUERIES_MAX][BACKEND_SPAN];
    struct attend attend = {.kv = kv,
                            .table = table + span * BACKEND_SPAN_BLOCKS,
                            .function = functions[kv->type],
                            .queries = queries_count};
    for (size_t i = 0; i < queries_count; i++) {
        attend.count[i] = MIN_OF(queries[i].position + 1 - span * BACKEND_SPAN, (size_t)BACKEND_SPAN);
        attend.weights[i] = weights[i];
    }
    attend_scores(&attend, queries);
    for (size_t i = 0; i < queries_count; i++)
        attend_softmax(&attend, i, &out[i]);
    for (size_t d = 0; d < kv->head_dim_padded; d += 16) {
        vf16 acc[BACKEND_QUERIES_MAX];
        for (size_t i = 0; i < queries_count; i++)
            acc[i] = vf_set1(0.0f);
        attend_values(&attend, 0, queries_count, 0, attend.count[0], d, acc);
        for (size_t i = 0; i < queries_count; i++) { /* what only the later queries see */
            attend_values(&attend, i, 1, attend.count[0], attend.count[i], d, &acc[i]);
            vf_store(out[i].acc + d, acc[i]);
        }
    }
}

static void kernel_attend_merge(struct backend_partial *into, const struct backend_partial *next, size_t head_dim)
{
    const float max = into->max > next->max ? into->max : next->max;
    const vf16 keep = vf_exp(vf_set1(into->max - max)), take = vf_exp(vf_set1(next->max - max));
    into->sum = fmaf(into->sum, vf_lane0(keep), next->sum * vf_lane0(take));
    into->max = max;
    for (size_t d = 0; d < head_dim; d += 16)
        vf_store(into->acc + d, vf_fma(vf_load(into->acc + d), keep, vf_mul(vf_load(next->acc + d), take)));
}

static void kernel_attend_finish(const struct backend_partial *partial, size_t head_dim, float *out)
{
    const vf16 sum = vf_set1(partial->sum);
    for (size_t d = 0; d < head_dim; d += 16)
        vf_store_some(out + d, vf_div(vf_load(partial->acc + d), sum), head_dim - d);
}

/* ── sampling ────────────────────────────────────────────────────────────────────────────────────────────────── */

static size_t kernel_argmax(const float *values, size_t n)
{
    vf16 best = vf_set1(-INFINITY);
    for (size_t i = 0; i < n; i += 16)
        best = vf_max(vf_first(vf_load_some(values + i, n - i), n - i, -INFINITY), best);
    const float largest = vf_largest(best);
    for (size_t i = 0; i < n; i++) {
        if (values[i] == largest)
            return i;
    }
    return 0;
}

static double kernel_softmax_weights(const float *values, size_t n, float max, float factor, float *out)
{
    double total = 0.0;
    for (size_t chunk = 0; chunk < n; chunk += 256) {
        vf16 sum = vf_set1(0.0f);
        for (size_t i = chunk; i < MIN_OF(n, chunk + 256); i += 16) {
            const vf16 x = vf_mul(vf_sub(vf_load_some(values + i, n - i), vf_set1(max)), vf_set1(factor));
            const vf16 p = vf_first(vf_exp(x), n - i, 0.0f);
            sum = vf_add(sum, p);
            vf_store_some(out + i, p, n - i);
        }
        total += (double)vf_sum(sum);
    }
    return total;
}

static const struct backend kernel_table = {
    .name = KERNEL_PATH_NAME,
    .quantize = kernel_quantize,
    .norm = kernel_norm,
    .matmul = kernel_matmul,
    .gather = kernel_gather,
    .rope = kernel_rope,
    .swiglu = kernel_swiglu,
    .kv_store = kernel_kv_store,
    .attend = kernel_attend,
    .attend_merge = kernel_attend_merge,
    .attend_finish = kernel_attend_finish,
    .argmax = kernel_argmax,
    .softmax_weights = kernel_softmax_weights,
};

#endif
