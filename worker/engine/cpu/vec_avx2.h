/* vec_avx2: 16 float lanes as two registers of eight, and the integer tiles with AVX2, FMA and F16C.
 *
 * See vec_c.h for what each function means. Integer dots use vpmaddubsw (unsigned × signed, pairs added with
 * saturation to 16 bits): nibbles 0..15 against −127..127 sum to at most 8 · 2 · 15 · 127 = 30,480 over a block of 32,
 * so a block's pairs stay in 16 bits; Q8_0 takes |w| (up to 128) and the activation with w's sign, whose pairs reach
 * 2 · 128 · 127 = 32,512, and widens every pair. */
#ifndef SHOAL_WORKER_ENGINE_CPU_VEC_AVX2_H
#define SHOAL_WORKER_ENGINE_CPU_VEC_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "worker/engine/backend.h"
#include "worker/engine/cpu/inline.h"

enum { VEC_TILE_FLOAT = 6, VEC_TILE_Q4 = 6, VEC_TILE_Q8 = 4 };

typedef struct {
    __m256 low, high;
} vf16;

KERNEL_INLINE vf16 vf_set1(float a)
{
    const __m256 v = _mm256_set1_ps(a);
    return (vf16){v, v};
}

KERNEL_INLINE vf16 vf_load(const float *from)
{
    return (vf16){_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
}

KERNEL_INLINE vf16 vf_load_f16(const uint16_t *from)
{
    return (vf16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)from)),
                  _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(from + 8)))};
}

KERNEL_INLINE __m256 bf16_lanes(const uint16_t *from)
{
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

KERNEL_INLINE vf16 vf_load_bf16(const uint16_t *from)
{
    return (vf16){bf16_lanes(from), bf16_lanes(from + 8)};
}

KERNEL_INLINE vf16 vf_load_i8(const int8_t *from)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)from);
    return (vf16){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
                  _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
}

KERNEL_INLINE void vf_store(float *to, vf16 a)
{
    _mm256_storeu_ps(to, a.low);
    _mm256_storeu_ps(to + 8, a.high);
}

KERNEL_INLINE void vf_store_f16(uint16_t *to, vf16 a)
{
    _mm_storeu_si128((__m128i *)(void *)to, _mm256_cvtps_ph(a.low, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(void *)(to + 8), _mm256_cvtps_ph(a.high, _MM_FROUND_TO_NEAREST_INT));
}

KERNEL_INLINE __m256i bf16_rounded(__m256 a)
{
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    return _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
}

KERNEL_INLINE void vf_store_bf16(uint16_t *to, vf16 a)
{
    const __m256i packed = _mm256_packus_epi32(bf16_rounded(a.low), bf16_rounded(a.high));
    _mm256_storeu_si256((__m256i *)(void *)to, _mm256_permute4x64_epi64(packed, 0xd8));
}

#define VEC_AVX2_EACH(name, instruction)                                                                               \
    KERNEL_INLINE vf16 name(vf16 a, vf16 b)                                                                            \
    {                                                                                                                  \
        return (vf16){instruction(a.low, b.low), instruction(a.high, b.high)};                                         \
    }

VEC_AVX2_EACH(vf_add, _mm256_add_ps)
VEC_AVX2_EACH(vf_sub, _mm256_sub_ps)
VEC_AVX2_EACH(vf_mul, _mm256_mul_ps)
VEC_AVX2_EACH(vf_div, _mm256_div_ps)
VEC_AVX2_EACH(vf_max, _mm256_max_ps)
VEC_AVX2_EACH(vf_min, _mm256_min_ps)

KERNEL_INLINE vf16 vf_fma(vf16 a, vf16 b, vf16 c)
{
    return (vf16){_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}

KERNEL_INLINE vf16 vf_abs(vf16 a)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return (vf16){_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
}

KERNEL_INLINE vf16 vf_zero_below(vf16 x, float limit, vf16 a)
{
    const __m256 edge = _mm256_set1_ps(limit);
    return (vf16){_mm256_andnot_ps(_mm256_cmp_ps(x.low, edge, _CMP_LT_OQ), a.low),
                  _mm256_andnot_ps(_mm256_cmp_ps(x.high, edge, _CMP_LT_OQ), a.high)};
}

KERNEL_INLINE vf16 vf_first(vf16 a, size_t count, float other)
{
    if (count >= 16)
        return a;
    const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), end = _mm256_set1_epi32((int)count);
    const __m256 keep_low = _mm256_castsi256_ps(_mm256_cmpgt_epi32(end, index));
    const __m256 keep_high =
        _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_sub_epi32(end, _mm256_set1_epi32(8)), index));
    const __m256 o = _mm256_set1_ps(other);
    return (vf16){_mm256_blendv_ps(o, a.low, keep_low), _mm256_blendv_ps(o, a.high, keep_high)};
}

KERNEL_INLINE __m256 ldexp_lanes(__m256 a, __m256 shifted)
{
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(a), _mm256_slli_epi32(_mm256_castps_si256(shifted), 23)));
}

KERNEL_INLINE vf16 vf_ldexp(vf16 a, vf16 shifted)
{
    return (vf16){ldexp_lanes(a.low, shifted.low), ldexp_lanes(a.high, shifted.high)};
}

KERNEL_INLINE float vf_sum(vf16 a)
{
    const __m256 eight = _mm256_add_ps(a.low, a.high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

KERNEL_INLINE float vf_largest(vf16 a)
{
    const __m256 eight = _mm256_max_ps(a.low, a.high);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

KERNEL_INLINE int32_t vf_store_low_bytes(int8_t *to, vf16 shifted)
{
    const __m256i mask = _mm256_set1_epi32(0xff);
    const __m256i low = _mm256_and_si256(_mm256_castps_si256(shifted.low), mask);
    const __m256i high = _mm256_and_si256(_mm256_castps_si256(shifted.high), mask);
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)(void *)to, bytes);
    /* Σ of int8: biased to unsigned, summed by vpsadbw. */
    const __m128i sums = _mm_sad_epu8(_mm_xor_si128(bytes, _mm_set1_epi8(-128)), _mm_setzero_si128());
    return _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_srli_si128(sums, 8))) - 16 * 128;
}

/* ── integer tiles ───────────────────────────────────────────────────────────────────────────────────────────── */

KERNEL_INLINE __m256i load_256(const uint8_t *from)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)from);
}

KERNEL_INLINE __m256i broadcast_4(const int8_t *from)
{
    int32_t four;
    memcpy(&four, from, sizeof four);
    return _mm256_set1_epi32(four);
}

/* acc = fma(d · da, (float)sums, acc) */
KERNEL_INLINE __m256 scaled_sums(__m256 acc, __m256 d, float da, __m256i sums)
{
    return _mm256_fmadd_ps(_mm256_mul_ps(d, _mm256_set1_ps(da)), _mm256_cvtepi32_ps(sums), acc);
}

/* One group of four inputs of 16 outputs for every token of the tile: pairs add up in 16 bits. The empty assembler
 * statement keeps gcc from computing the products of all tokens first, which spills the sums. */
KERNEL_INLINE void add_group(const int tokens, __m256i w_low, __m256i w_high, const int8_t *a, size_t a_stride,
                             __m256i *low, __m256i *high)
{
    KERNEL_UNROLL
    for (int t = 0; t < tokens; t++) {
        const __m256i four = broadcast_4(a + (size_t)t * a_stride);
        low[t] = _mm256_add_epi16(low[t], _mm256_maddubs_epi16(w_low, four));
        high[t] = _mm256_add_epi16(high[t], _mm256_maddubs_epi16(w_high, four));
        __asm__ volatile("" : "+x"(low[t]), "+x"(high[t]));
    }
}

/* Σ of one block of nibbles. Few tokens: each byte is loaded once. Many: twice, low nibbles first, which leaves the
 * registers to the sums. */
KERNEL_INLINE void block_sums_q4(const int tokens, const uint8_t *w, const int8_t *a, size_t a_stride, __m256i *low,
                                 __m256i *high)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    KERNEL_ROLLED
    for (int j = 0; j < 4; j++) {
        const __m256i raw_low = load_256(w + 64 * j), raw_high = load_256(w + 64 * j + 32);
        add_group(tokens, _mm256_and_si256(raw_low, nibble), _mm256_and_si256(raw_high, nibble), a + 4 * j, a_stride,
                  low, high);
        if (tokens <= 4)
            add_group(tokens, _mm256_and_si256(_mm256_srli_epi16(raw_low, 4), nibble),
                      _mm256_and_si256(_mm256_srli_epi16(raw_high, 4), nibble), a + 16 + 4 * j, a_stride, low, high);
    }
    KERNEL_ROLLED
    for (int j = 0; j < 4 && tokens > 4; j++) {
        const __m256i raw_low = load_256(w + 64 * j), raw_high = load_256(w + 64 * j + 32);
        add_group(tokens, _mm256_and_si256(_mm256_srli_epi16(raw_low, 4), nibble),
                  _mm256_and_si256(_mm256_srli_epi16(raw_high, 4), nibble), a + 16 + 4 * j, a_stride, low, high);
    }
}

KERNEL_INLINE void tile_q4(const int tokens, const int with_min, const uint8_t *pack, const struct backend_act *act,
                           size_t token, vf16 *acc)
{
    const size_t blocks = act->columns / 32, bytes = with_min ? 320 : 288;
    const __m256i ones = _mm256_set1_epi16(1);
    for (size_t b = 0; b < blocks; b++, pack += bytes) {
        __m256i low[VEC_TILE_Q4], high[VEC_TILE_Q4]; /* pairs of outputs 0..7 and 8..15 */
        KERNEL_UNROLL
        for (int t = 0; t < tokens; t++)
            low[t] = high[t] = _mm256_setzero_si256();
        block_sums_q4(tokens, pack + bytes - 256, act->q + (token * blocks + b) * 32, act->columns, low, high);
        const vf16 d = vf_load_f16((const uint16_t *)(const void *)pack);
        KERNEL_UNROLL
        for (int t = 0; t < tokens; t++) {
            const size_t at = (token + (size_t)t) * blocks + b;
            __m256i sums_low = _mm256_madd_epi16(low[t], ones), sums_high = _mm256_madd_epi16(high[t], ones);
            if (!with_min) {
                const __m256i offset = _mm256_set1_epi32(8 * act->sum[at]);
                sums_low = _mm256_sub_epi32(sums_low, offset);
                sums_high = _mm256_sub_epi32(sums_high, offset);
            }
            acc[t].low = scaled_sums(acc[t].low, d.low, act->d[at], sums_low);
            acc[t].high = scaled_sums(acc[t].high, d.high, act->d[at], sums_high);
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
    const __m256i ones = _mm256_set1_epi16(1);
    for (size_t b = 0; b < blocks; b++, pack += 544) {
        __m256i low[VEC_TILE_Q8], high[VEC_TILE_Q8];
        KERNEL_UNROLL
        for (int t = 0; t < tokens; t++)
            low[t] = high[t] = _mm256_setzero_si256();
        KERNEL_UNROLL
        for (int j = 0; j < 8; j++) {
            const __m256i w_low = load_256(pack + 32 + 64 * j), w_high = load_256(pack + 64 + 64 * j);
            const __m256i abs_low = _mm256_abs_epi8(w_low), abs_high = _mm256_abs_epi8(w_high);
            KERNEL_UNROLL
            for (int t = 0; t < tokens; t++) {
                const __m256i a = broadcast_4(act->q + ((token + (size_t)t) * blocks + b) * 32 + 4 * j);
                const __m256i pairs_low = _mm256_maddubs_epi16(abs_low, _mm256_sign_epi8(a, w_low));
                const __m256i pairs_high = _mm256_maddubs_epi16(abs_high, _mm256_sign_epi8(a, w_high));
                low[t] = _mm256_add_epi32(low[t], _mm256_madd_epi16(pairs_low, ones));
                high[t] = _mm256_add_epi32(high[t], _mm256_madd_epi16(pairs_high, ones));
            }
        }
        const vf16 d = vf_load_f16((const uint16_t *)(const void *)pack);
        KERNEL_UNROLL
        for (int t = 0; t < tokens; t++) {
            const float da = act->d[(token + (size_t)t) * blocks + b];
            acc[t].low = scaled_sums(acc[t].low, d.low, da, low[t]);
            acc[t].high = scaled_sums(acc[t].high, d.high, da, high[t]);
        }
    }
}

#endif
