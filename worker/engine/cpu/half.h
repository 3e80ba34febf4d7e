/* half: conversions between float and the two 16-bit formats, in plain C with integers only.
 *
 * They equal the instructions' results (vcvtph2ps, vcvtps2ph with round to nearest even) for every finite and infinite
 * value and for float denormals taken as zero; NaNs stay NaNs. */
#ifndef SHOAL_WORKER_ENGINE_CPU_HALF_H
#define SHOAL_WORKER_ENGINE_CPU_HALF_H

#include <stdint.h>
#include <string.h>

static inline float half_bits_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t half_float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float half_to_float(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = half >> 10 & 31u, mantissa = half & 1023u;
    if (exponent == 31)
        return half_bits_float(sign | 0x7f800000u | mantissa << 13 | (mantissa != 0 ? 0x400000u : 0u));
    if (exponent == 0) {
        if (mantissa == 0)
            return half_bits_float(sign);
        exponent = 1; /* a denormal: shift until the leading one stands where a normal number has it */
        while ((mantissa & 1024u) == 0) {
            mantissa <<= 1;
            exponent--;
        }
        mantissa &= 1023u;
    }
    return half_bits_float(sign | (exponent + 112u) << 23 | mantissa << 13);
}

static inline uint16_t half_from_float(float value)
{
    const uint32_t bits = half_float_bits(value), magnitude = bits & 0x7fffffffu;
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 1023u));
    if (magnitude >= 0x477ff000u) /* rounds to 2^16 or is beyond */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude >= 0x38800000u) { /* normal */
        uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
        return (uint16_t)(sign | (rounded - 0x38000000u) >> 13);
    }
    const uint32_t exponent = magnitude >> 23;
    if (exponent < 102) /* below half of the smallest denormal */
        return sign;
    const uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u, shift = 126u - exponent; /* 14..24 */
    const uint32_t half = 1u << (shift - 1), kept = mantissa >> shift, rest = mantissa & ((1u << shift) - 1u);
    return (uint16_t)(sign | (kept + (rest > half || (rest == half && (kept & 1u)))));
}

static inline float bf16_to_float(uint16_t bf16)
{
    return half_bits_float((uint32_t)bf16 << 16);
}

static inline uint16_t bf16_from_float(float value)
{
    const uint32_t bits = half_float_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

#endif
