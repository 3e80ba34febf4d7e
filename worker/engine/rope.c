/* rope: argument reduction by fused multiply-adds (Cody and Waite), then Taylor polynomials: every operation is an IEEE
 * one, so the results are the same on every machine. */
#include "worker/engine/rope.h"

#include <math.h>
#include <string.h>

static const double ROUND = 6755399441055744.0; /* 1.5 · 2^52 */
static const double TWO_PI = 0x1.921fb54442d18p+2;

double rope_exp(double x)
{
    const double n = fma(x, 0x1.71547652b82fep+0, ROUND) - ROUND;
    double r = fma(n, -0x1.62e42fefa39efp-1, x);
    r = fma(n, -0x1.abc9e3b39803fp-56, r);
    double p = 1.0;
    for (int i = 14; i > 0; i--)
        p = fma(p, r / i, 1.0);
    return ldexp(p, (int)n);
}

double rope_log(double x)
{
    int exponent;
    double m = frexp(x, &exponent); /* [0.5, 1) */
    if (m < 0.70710678118654752) {
        m *= 2.0;
        exponent--;
    }
    const double s = (m - 1.0) / (m + 1.0), z = s * s; /* log m = 2 artanh s, |s| < 0.172 */
    double p = 0.0;
    for (int i = 25; i > 0; i -= 2)
        p = fma(p, z, 1.0 / i);
    return fma(exponent, 0x1.62e42fefa39efp-1, 2.0 * s * p);
}

void rope_sincos(double x, double *sine, double *cosine)
{
    const double n = fma(x, 0x1.45f306dc9c883p-1, ROUND) - ROUND; /* quarter turns */
    double r = fma(n, -0x1.921fb54442d18p+0, x);
    r = fma(n, -0x1.1a62633145c07p-54, r);
    const double z = -r * r;
    double s = 1.0, c = 1.0; /* sin r = r (1 − r²/2·3 (1 − r²/4·5 (…))), cos r alike */
    for (int i = 18; i > 1; i -= 2) {
        s = fma(s, z / (i * (i + 1)), 1.0);
        c = fma(c, z / (i * (i - 1)), 1.0);
    }
    s *= r;
    const int quarter = (int)((long long)n & 3);
    const double sines[] = {s, c, -s, -c};
    *sine = sines[quarter];
    *cosine = sines[(quarter + 1) & 3];
}

/* Llama 3.1: long wavelengths are divided by the factor, short ones kept, those between blended. */
static double llama3_scaled(const struct model_desc *desc, double frequency)
{
    const double turns = (double)desc->rope_original_context * frequency / TWO_PI;
    if (turns > desc->rope_high_freq_factor)
        return frequency;
    if (turns < desc->rope_low_freq_factor)
        return frequency / desc->rope_factor;
    const double smooth =
        (turns - desc->rope_low_freq_factor) / (desc->rope_high_freq_factor - desc->rope_low_freq_factor);
    return (1.0 - smooth) * frequency / desc->rope_factor + smooth * frequency;
}

void rope_frequencies(const struct model_desc *desc, double *frequencies)
{
    const double log_base = rope_log(desc->rope_base);
    for (size_t i = 0; i < desc->rope_dim / 2; i++) {
        double frequency = rope_exp(-2.0 * (double)i / (double)desc->rope_dim * log_base);
        if (desc->rope_scaling == MODEL_ROPE_LINEAR)
            frequency /= desc->rope_factor;
        else if (desc->rope_scaling == MODEL_ROPE_LLAMA3)
            frequency = llama3_scaled(desc, frequency);
        if (desc->rope_freq_factors != NULL)
            frequency /= (double)desc->rope_freq_factors[i];
        frequencies[i] = frequency;
    }
}

void rope_angles(const double *frequencies, size_t count, uint32_t position, float *cosines, float *sines)
{
    for (size_t i = 0; i < count; i++) {
        double sine, cosine;
        rope_sincos((double)position * frequencies[i], &sine, &cosine);
        sines[i] = (float)sine;
        cosines[i] = (float)cosine;
    }
}
