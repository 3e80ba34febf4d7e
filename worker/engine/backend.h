/* backend: the table of kernels that a decoder computes with, and the shapes that they share.
 *
 * The decoder knows no instruction set: it deals items (tokens, packs of outputs, heads) to its threads and calls these
 * functions on ranges of them. `cpu/` fills the table three times (plain C, AVX2, AVX-512); a GPU backend fills it from
 * a dlopen'ed module, with one thread and whole ranges. Kernels allocate nothing, fail never and keep no state.
 *
 * Numbers (engine.md): for one input a kernel returns the same bits whatever the range, the number of tokens and the
 * path. All outputs of a matrix product are vectorised over rows of weights, 16 to a pack, and summed over k in
 * ascending order by one chain of fused multiply-adds:
 *   float weights:  acc = fma(w, x, acc), per k
 *   Q8_0, Q4_0:     acc = fma(d_w · d_a, isum, acc), per block of 32
 *   Q4_1:           the same, then acc = fma(m_w, d_a · asum, acc)
 * A horizontal sum is 16 virtual lanes (element i goes to lane i mod 16) and the tree 8 + 8, 4 + 4, 2 + 2, 1 + 1. */
#ifndef SHOAL_WORKER_ENGINE_BACKEND_H
#define SHOAL_WORKER_ENGINE_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/desc.h"
#include "worker/engine/decoder.h"

enum {
    BACKEND_PACK = 16,  /* outputs in one pack */
    BACKEND_BLOCK = 32, /* inputs in one quantised block */
    BACKEND_SPAN = 256, /* absolute positions whose attention is one partial result */
    BACKEND_SPAN_BLOCKS = BACKEND_SPAN / DECODER_BLOCK_TOKENS,
    BACKEND_QUERIES_MAX = 6, /* queries that share one pass over keys and values */
    BACKEND_HEAD_DIM_MAX = 256
};

/* A matrix of `rows` outputs and `columns` inputs, kept in the type it came in, 16 rows interleaved:
 *   float types: pack[k][16 rows]
 *   Q8_0:        pack[block]{ f16 d[16]; i8 q[8][16 rows][4] }             544 bytes
 *   Q4_0:        pack[block]{ f16 d[16]; u4 q[4][16 rows][4] }             288 bytes, low nibbles k < 16, high k ≥ 16
 *   Q4_1:        pack[block]{ f16 d[16]; f16 m[16]; u4 q[4][16 rows][4] }  320 bytes
 * Rows beyond `rows` are zeros. Data is aligned to 64 bytes. */
struct backend_matrix {
    enum model_type type;
    size_t rows;
    size_t columns;
    size_t packs;
    size_t pack_bytes;
    uint8_t *data;
};

/* Quantised activations, [tokens] rows: per block of 32 the scale d = max|x| / 127, q = x / d rounded to nearest even.
 */
struct backend_act {
    size_t columns;
    int8_t *q;    /* [tokens][columns] */
    float *d;     /* [tokens][columns / 32] */
    float *dsum;  /* [tokens][columns / 32]: d · (float)sum */
    int32_t *sum; /* [tokens][columns / 32]: Σ q */
};

/* Where one layer's keys and values of one kv head lie inside every block of the pool:
 *   keys   [head_dim][16 tokens], values [16 tokens][head_dim_padded], int8: scales [16 tokens] of each as f32. */
struct backend_kv {
    uint8_t *blocks;
    size_t block_bytes;
    enum decoder_kv_type type;
    size_t head_dim;
    size_t head_dim_padded;                        /* a multiple of 16 */
    size_t keys, values, key_scales, value_scales; /* offsets in the block */
};

/* One query head of one token; q is rotated and scaled. */
struct backend_query {
    const float *q;
    uint32_t position;
};

/* The attention of one query over some spans: weights relative to exp(max). acc: [head_dim_padded]. */
struct backend_partial {
    float max;
    float sum;
    float *acc;
};

struct backend_matmul {
    const struct backend_matrix *matrix;
    const struct backend_act *act; /* for integer weights */
    const float *x;                /* for float weights: [tokens][x_stride] */
    size_t x_stride;
    size_t token_first, token_last;
    float *y; /* y[token · y_stride + row] */
    size_t y_stride;
    bool add; /* y += instead of y = */
};

struct backend {
    const char *name;
    /* Quantises row `token` of `act` from x[act->columns]. */
    void (*quantize)(const struct backend_act *act, size_t token, const float *x);
    /* out = x · (1 / sqrt(mean(x²) + epsilon)) · weight, [n]. */
    void (*norm)(const float *x, const float *weight, float epsilon, size_t n, float *out);
    /* The outputs of packs [first, last) for the tokens of the call. */
    void (*matmul)(const struct backend_matmul *call, size_t first, size_t last);
    /* Row `row` of the matrix as floats, [columns]. */
    void (*gather)(const struct backend_matrix *matrix, size_t row, float *out);
    /* Rotates elements (i, i + half) for i < half by the angles given as [half] cos and sin, and multiplies all
     * head_dim elements by scale. */
    void (*rope)(float *head, const float *cosines, const float *sines, size_t half, size_t head_dim, float scale);
    /* gate = silu(gate) · up, [n]; silu(x) = x / (1 + exp(−x)). */
    void (*swiglu)(float *gate, const float *up, size_t n);
    /* Rounds one token's key and value, [head_dim] each, to the pool's type. */
    void (*kv_store)(const struct backend_kv *kv, uint32_t block, size_t offset, const float *key, const float *value);
    /* One span's partial results for up to BACKEND_QUERIES_MAX queries, positions ascending, all of them ≥ the span's
     * first position. table: block ids of the stream from position 0. */
    void (*attend)(const struct backend_kv *kv, const uint32_t *table, size_t span, const struct backend_query *queries,
                   size_t queries_count, struct backend_partial *out);
    /* into ⊕= next; next follows into in position. */
    void (*attend_merge)(struct backend_partial *into, const struct backend_partial *next, size_t head_dim);
    /* out = acc / sum, [head_dim]. */
    void (*attend_finish)(const struct backend_partial *partial, size_t head_dim, float *out);
    /* The lowest index of the largest value; 0 when there is none (all NaN). */
    size_t (*argmax)(const float *values, size_t n);
    /* out = exp((values − max) · factor), [n]; returns the sum, in a fixed order. */
    double (*softmax_weights)(const float *values, size_t n, float max, float factor, float *out);
};

static inline size_t backend_packs(size_t rows)
{
    return (rows + BACKEND_PACK - 1) / BACKEND_PACK;
}

static inline bool backend_type_is_integer(enum model_type type)
{
    return type == MODEL_Q8_0 || type == MODEL_Q4_0 || type == MODEL_Q4_1;
}

#endif
