/* rope: angles of rotary position embeddings (Su et al., RoFormer, 2021), in double precision, rounded once.
 *
 * sin, cos, log and exp are our own: libm picks variants by CPU, and the tables decide bits. Pure; owns nothing. */
#ifndef SHOAL_WORKER_ENGINE_ROPE_H
#define SHOAL_WORKER_ENGINE_ROPE_H

#include <stddef.h>
#include <stdint.h>

#include "model/desc.h"

/* [desc->rope_dim / 2] angles per position, scaling (linear, Llama 3, factors of the file) applied. */
void rope_frequencies(const struct model_desc *desc, double *frequencies);
/* [count] cosines and sines of position · frequency. */
void rope_angles(const double *frequencies, size_t count, uint32_t position, float *cosines, float *sines);

/* For tests: within 2 ulp for |x| < 2^21, x > 0, and |x| < 700 respectively. */
void rope_sincos(double x, double *sine, double *cosine);
double rope_log(double x);
double rope_exp(double x);

#endif
