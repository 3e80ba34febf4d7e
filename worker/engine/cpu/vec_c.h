/* vec_c: 16 float lanes and the integer tiles in plain C: the reference of the other paths.
 *
 * Every operation is the IEEE one of its name, lane by lane; fma is fused. The vector paths give the same bits because
 * they do the same operations in the same order, sixteen at a time. */
#ifndef SHOAL_WORKER_ENGINE_CPU_VEC_C_H
#define SHOAL_WORKER_ENGINE_CPU_VEC_C_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "worker/engine/backend.h"
#include "worker/engine/cpu/half.h"
#include "worker/engine/cpu/inline.h"

/* Tokens in a tile; what fits the registers. */
enum { VEC_TILE_FLOAT = 6, VEC_TILE_Q4 = 6, VEC_TILE_Q8 = 4 };

typedef struct {
    float v[16];
} vf16;

#define VEC_EACH(i) for (int i = 0; i < 16; i++)

KERNEL_INLINE vf16 vf_set1(float a)
{
    vf16 r;
    VEC_EACH(i) r.v[i] = a;
    return r;
}

KERNEL_INLINE vf16 vf_load(const float *from)
{
    vf16 r;
    memcpy(r.v, from, sizeof r.v);
    return r;
}

KERNEL_INLINE vf16 vf_load_f16(const uint16_t *from)
{
    vf16 r;
    VEC_EACH(i) r.v[i] = half_to_float(from[i]);
    return r;
}

KERNEL_INLINE vf16 vf_load_bf16(const uint16_t *from)
{
    vf16 r;
    VEC_EACH(i) r.v[i] = bf16_to_float(from[i]);
    return r;
}

KERNEL_INLINE vf16 vf_load_i8(const int8_t *from)
{
    vf16 r;
    VEC_EACH(i) r.v[i] = (float)from[i];
    return r;
}

KERNEL_INLINE void vf_store(float *to, vf16 a)
{
    memcpy(to, a.v, sizeof a.v);
}

KERNEL_INLINE void vf_store_f16(uint16_t *to, vf16 a)
{
    VEC_EACH(i) to[i] = half_from_float(a.v[i]);
}

KERNEL_INLINE void vf_store_bf16(uint16_t *to, vf16 a)
{
    VEC_EACH(i) to[i] = bf16_from_float(a.v[i]);
}

KERNEL_INLINE vf16 vf_add(vf16 a, vf16 b)
{
    VEC_EACH(i) a.v[i] = a.v[i] + b.v[i];
    return a;
}

KERNEL_INLINE vf16 vf_sub(vf16 a, vf16 b)
{
    VEC_EACH(i) a.v[i] = a.v[i] - b.v[i];
    return a;
}

KERNEL_INLINE vf16 vf_mul(vf16 a, vf16 b)
{
    VEC_EACH(i) a.v[i] = a.v[i] * b.v[i];
    return a;
}

KERNEL_INLINE vf16 vf_div(vf16 a, vf16 b)
{
    VEC_EACH(i) a.v[i] = a.v[i] / b.v[i];
    return a;
}

/* a · b + c, rounded once. */
KERNEL_INLINE vf16 vf_fma(vf16 a, vf16 b, vf16 c)
{
    VEC_EACH(i) a.v[i] = fmaf(a.v[i], b.v[i], c.v[i]);
    return a;
}

/* a > b ? a : b, as maxps has it: b when either is NaN. */
KERNEL_INLINE vf16 vf_max(vf16 a, vf16 b)
{
    VEC_EACH(i) a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
    return a;
}

KERNEL_INLINE vf16 vf_min(vf16 a, vf16 b)
{
    VEC_EACH(i) a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
    return a;
}

KERNEL_INLINE vf16 vf_abs(vf16 a)
{
    VEC_EACH(i) a.v[i] = fabsf(a.v[i]);
    return a;
}

/* Lanes where x < limit become zero. */
KERNEL_INLINE vf16 vf_zero_below(vf16 x, float limit, vf16 a)
{
    VEC_EACH(i) a.v[i] = x.v[i] < limit ? 0.0f : a.v[i];
    return a;
}

/* Lanes from `count` on become `other`. */
KERNEL_INLINE vf16 vf_first(vf16 a, size_t count, float other)
{
    VEC_EACH(i) a.v[i] = (size_t)i < count ? a.v[i] : other;
    return a;
}

/* a · 2^n, where `shifted` is n + 1.5 · 2^23: n sits in its low mantissa bits. */
KERNEL_INLINE vf16 vf_ldexp(vf16 a, vf16 shifted)
{
    VEC_EACH(i)
    {
        uint32_t bits, n;
        memcpy(&bits, &a.v[i], 4);
        memcpy(&n, &shifted.v[i], 4);
        bits += n << 23;
        memcpy(&a.v[i], &bits, 4);
    }
    return a;
}

KERNEL_INLINE float vf_sum(vf16 a)
{
    for (int width = 8; width > 0; width /= 2) {
        for (int i = 0; i < width; i++)
            a.v[i] = a.v[i] + a.v[i + width];
    }
    return a.v[0];
}

KERNEL_INLINE float vf_largest(vf16 a)
{
    for (int width = 8; width > 0; width /= 2) {
        for (int i = 0; i < width; i++)
            a.v[i] = a.v[i] > a.v[i + width] ? a.v[i] : a.v[i + width];
    }
    return a.v[0];
}

/* Stores the lanes' low bytes: lanes hold n + 1.5 · 2^23. Returns Σ of them as int8. */
KERNEL_INLINE int32_t vf_store_low_bytes(int8_t *to, vf16 shifted)
{
    int32_t sum = 0;
    VEC_EACH(i)
    {
        uint32_t bits;
        memcpy(&bits, &shifted.v[i], 4);
        to[i] = (int8_t)(uint8_t)bits;
        sum += to[i];
    }
    return sum;
}

/* Σ over one block of 32: 16 outputs, exact in int32. */
KERNEL_INLINE void block_dot_q4(const uint8_t *nibbles, const int8_t *a, int32_t out[16])
{
    VEC_EACH(o)
    {
        int32_t sum = 0;
        for (int j = 0; j < 4; j++) {
            for (int i = 0; i < 4; i++) {
                uint8_t byte = nibbles[64 * j + 4 * o + i];
                sum += (byte & 15) * a[4 * j + i] + (byte >> 4) * a[16 + 4 * j + i];
            }
        }
        out[o] = sum;
    }
}

KERNEL_INLINE void block_dot_q8(const uint8_t *bytes, const int8_t *a, int32_t out[16])
{
    VEC_EACH(o)
    {
        int32_t sum = 0;
        for (int j = 0; j < 8; j++) {
            for (int i = 0; i < 4; i++)
                sum += (int8_t)bytes[64 * j + 4 * o + i] * a[4 * j + i];
        }
        out[o] = sum;
    }
}

KERNEL_INLINE vf16 vf_scaled_sums(vf16 acc, vf16 d, float da, const int32_t sums[16], int32_t offset)
{
    VEC_EACH(i) acc.v[i] = fmaf(d.v[i] * da, (float)(sums[i] - offset), acc.v[i]);
    return acc;
}

/* The tile of `tokens` × 16 outputs over all blocks of one pack of Q4_0 (with_min 0) or Q4_1 (with_min 1). */
KERNEL_INLINE void tile_q4(const int tokens, const int with_min, const uint8_t *pack, const struct backend_act *act,
                           size_t token, vf16 *acc)
{
    const size_t blocks = act->columns / 32, bytes = with_min ? 320 : 288;
    for (size_t b = 0; b < blocks; b++, pack += bytes) {
        const vf16 d = vf_load_f16((const uint16_t *)(const void *)pack);
        for (int t = 0; t < tokens; t++) {
            size_t at = (token + (size_t)t) * blocks + b;
            int32_t sums[16];
            block_dot_q4(pack + bytes - 256, act->q + at * 32, sums);
            acc[t] = vf_scaled_sums(acc[t], d, act->d[at], sums, with_min ? 0 : 8 * act->sum[at]);
            if (with_min)
                acc[t] =
                    vf_fma(vf_load_f16((const uint16_t *)(const void *)(pack + 32)), vf_set1(act->dsum[at]), acc[t]);
        }
    }
}

KERNEL_INLINE void tile_q8(const int tokens, const uint8_t *pack, const struct backend_act *act, size_t token,
                           vf16 *acc)
{
    const size_t blocks = act->columns / 32;
    for (size_t b = 0; b < blocks; b++, pack += 544) {
        const vf16 d = vf_load_f16((const uint16_t *)(const void *)pack);
        for (int t = 0; t < tokens; t++) {
            size_t at = (token + (size_t)t) * blocks + b;
            int32_t sums[16];
            block_dot_q8(pack + 32, act->q + at * 32, sums);
            acc[t] = vf_scaled_sums(acc[t], d, act->d[at], sums, 0);
        }
    }
}

#endif
