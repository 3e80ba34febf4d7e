/* vec_avx512: 16 float lanes in one register, and the integer tiles with VNNI (vpdpbusd: unsigned × signed, four
 * products added to 32 bits, no saturation).
 *
 * See vec_c.h for what each function means. Q8_0 weights are biased to unsigned (w + 128), and 128 times the sum of the
 * block's activations is taken off again: exact in 32 bits. */
#ifndef SHOAL_WORKER_ENGINE_CPU_VEC_AVX512_H
#define SHOAL_WORKER_ENGINE_CPU_VEC_AVX512_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "worker/engine/backend.h"
#include "worker/engine/cpu/inline.h"

enum { VEC_TILE_FLOAT = 6, VEC_TILE_Q4 = 6, VEC_TILE_Q8 = 4 };

typedef __m512 vf16;

KERNEL_INLINE vf16 vf_set1(float a)
{
    return _mm512_set1_ps(a);
}

KERNEL_INLINE vf16 vf_load(const float *from)
{
    return _mm512_loadu_ps(from);
}

KERNEL_INLINE vf16 vf_load_f16(const uint16_t *from)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)from));
}

KERNEL_INLINE vf16 vf_load_bf16(const uint16_t *from)
{
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

KERNEL_INLINE vf16 vf_load_i8(const int8_t *from)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)from)));
}

KERNEL_INLINE void vf_store(float *to, vf16 a)
{
    _mm512_storeu_ps(to, a);
}

KERNEL_INLINE void vf_store_f16(uint16_t *to, vf16 a)
{
    _mm256_storeu_si256((__m256i *)(void *)to, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}

KERNEL_INLINE void vf_store_bf16(uint16_t *to, vf16 a)
{
    const __m512i bits = _mm512_castps_si512(a);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    const __m512i high = _mm512_srli_epi32(_mm512_mask_blend_epi32(nan, rounded, quiet), 16);
    _mm256_storeu_si256((__m256i *)(void *)to, _mm512_cvtepi32_epi16(high));
}

KERNEL_INLINE vf16 vf_add(vf16 a, vf16 b)
{
    return _mm512_add_ps(a, b);
}

KERNEL_INLINE vf16 vf_sub(vf16 a, vf16 b)
{
    return _mm512_sub_ps(a, b);
}

KERNEL_INLINE vf16 vf_mul(vf16 a, vf16 b)
{
    return _mm512_mul_ps(a, b);
}

KERNEL_INLINE vf16 vf_div(vf16 a, vf16 b)
{
    return _mm512_div_ps(a, b);
}

KERNEL_INLINE vf16 vf_max(vf16 a, vf16 b)
{
    return _mm512_max_ps(a, b);
}

KERNEL_INLINE vf16 vf_min(vf16 a, vf16 b)
{
    return _mm512_min_ps(a, b);
}

KERNEL_INLINE vf16 vf_fma(vf16 a, vf16 b, vf16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}

KERNEL_INLINE vf16 vf_abs(vf16 a)
{
    return _mm512_abs_ps(a);
}

KERNEL_INLINE vf16 vf_zero_below(vf16 x, float limit, vf16 a)
{
    return _mm512_maskz_mov_ps((__mmask16)~_mm512_cmp_ps_mask(x, _mm512_set1_ps(limit), _CMP_LT_OQ), a);
}

KERNEL_INLINE vf16 vf_first(vf16 a, size_t count, float other)
{
    if (count >= 16)
        return a;
    return _mm512_mask_blend_ps((__mmask16)((1u << count) - 1u), _mm512_set1_ps(other), a);
}

KERNEL_INLINE vf16 vf_ldexp(vf16 a, vf16 shifted)
{
    return _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(a), _mm512_slli_epi32(_mm512_castps_si512(shifted), 23)));
}

KERNEL_INLINE float vf_sum(vf16 a)
{
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

KERNEL_INLINE float vf_largest(vf16 a)
{
    const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

KERNEL_INLINE int32_t vf_store_low_bytes(int8_t *to, vf16 shifted)
{
    const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_castps_si512(shifted));
    _mm_storeu_si128((__m128i *)(void *)to, bytes);
    const __m128i sums = _mm_sad_epu8(_mm_xor_si128(bytes, _mm_set1_epi8(-128)), _mm_setzero_si128());
    return _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_srli_si128(sums, 8))) - 16 * 128;
}

/* ── integer tiles ───────────────────────────────────────────────────────────────────────────────────────────── */

KERNEL_INLINE __m512i broadcast_4(const int8_t *from)
{
    int32_t four;
    memcpy(&four, from, sizeof four);
    return _mm512_set1_epi32(four);
}

/* acc = fma(d · da, (float)sums, acc) */
KERNEL_INLINE vf16 scaled_sums(vf16 acc, vf16 d, float da, __m512i sums)
{
    return _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_set1_ps(da)), _mm512_cvtepi32_ps(sums), acc);
}

KERNEL_INLINE void tile_q4(const int tokens, const int with_min, const uint8_t *pack, const struct backend_act *act,
                           size_t token, vf16 *acc)
{
    const size_t blocks = act->columns / 32, bytes = with_min ? 320 : 288;
    const __m512i nibble = _mm512_set1_epi8(15);
    for (size_t b = 0; b < blocks; b++, pack += bytes) {
        const uint8_t *w = pack + bytes - 256;
        __m512i sums[VEC_TILE_Q4];
        KERNEL_UNROLL
        for (int t = 0; t < tokens; t++)
            sums[t] =
                with_min ? _mm512_setzero_si512() : _mm512_set1_epi32(-8 * act->sum[(token + (size_t)t) * blocks + b]);
        KERNEL_UNROLL
        for (int j = 0; j < 4; j++) {
            const __m512i raw = _mm512_loadu_si512(w + 64 * j);
            const __m512i w_0 = _mm512_and_si512(raw, nibble);
            const __m512i w_1 = _mm512_and_si512(_mm512_srli_epi16(raw, 4), nibble);
            KERNEL_UNROLL
            for (int t = 0; t < tokens; t++) {
                const int8_t *a = act->q + ((token + (size_t)t) * blocks + b) * 32 + 4 * j;
                sums[t] = _mm512_dpbusd_epi32(sums[t], w_0, broadcast_4(a));
                sums[t] = _mm512_dpbusd_epi32(sums[t], w_1, broadcast_4(a + 16));
            }
        }
        const vf16 d = vf_load_f16((const uint16_t *)(const void *)pack);
        KERNEL_UNROLL
        for (int t = 0; t < tokens; t++) {
            const size_t at = (token + (size_t)t) * blocks + b;
            acc[t] = scaled_sums(acc[t], d, act->d[at], sums[t]);
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
    const __m512i bias = _mm512_set1_epi8(-128);
    for (size_t b = 0; b < blocks; b++, pack += 544) {
        __m512i sums[VEC_TILE_Q8];
        KERNEL_UNROLL
        for (int t = 0; t < tokens; t++)
            sums[t] = _mm512_set1_epi32(-128 * act->sum[(token + (size_t)t) * blocks + b]);
        KERNEL_UNROLL
        for (int j = 0; j < 8; j++) {
            const __m512i w = _mm512_xor_si512(_mm512_loadu_si512(pack + 32 + 64 * j), bias);
            KERNEL_UNROLL
            for (int t = 0; t < tokens; t++)
                sums[t] = _mm512_dpbusd_epi32(sums[t], w,
                                              broadcast_4(act->q + ((token + (size_t)t) * blocks + b) * 32 + 4 * j));
        }
        const vf16 d = vf_load_f16((const uint16_t *)(const void *)pack);
        KERNEL_UNROLL
        for (int t = 0; t < tokens; t++)
            acc[t] = scaled_sums(acc[t], d, act->d[(token + (size_t)t) * blocks + b], sums[t]);
    }
}

#endif
