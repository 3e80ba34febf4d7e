/* sampler: one token from one row of logits.
 *
 * temperature 0: the largest logit, ties by lower id. Otherwise, in the order of Hugging Face's processors:
 * temperature → top_k → top_p → min_p, then one draw. The random number is Philox4x32-10 of key (seed) and counter
 * (absolute position, draw, choice): a pure function, so a resumed stream draws what it would have drawn. Candidates
 * stand in the order (logit descending, id ascending) and are summed in it; only as much of that order is made as the
 * draw needs. Without top_k the softmax's total is summed in id order instead, which is as fixed.
 * Logits that are NaN are never drawn while a number is there. Fails never; not thread-safe per scratch. */
#ifndef SHOAL_WORKER_ENGINE_SAMPLER_H
#define SHOAL_WORKER_ENGINE_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

#include "worker/engine/backend.h"
#include "worker/engine/plan.h"

struct sampler {
    size_t vocab;
    float *weights;       /* [vocab] */
    uint64_t *candidates; /* [vocab]: keys that sort as (logit descending, id ascending) */
};

void sampler_open(struct sampler *sampler, size_t vocab);
void sampler_close(struct sampler *sampler);
/* position: absolute, of the token that is drawn. */
uint32_t sampler_draw(struct sampler *sampler, const struct backend *backend, const float *logits,
                      const struct plan_sampling *sampling, uint32_t position);
/* Uniform in [0, 1), 53 bits. */
double sampler_random(const struct plan_sampling *sampling, uint32_t position, uint32_t draw);

#endif
