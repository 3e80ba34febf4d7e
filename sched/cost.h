/* sched/cost: the step-time model, seconds = base + token · tokens + kv_token · kv_tokens, fitted online.
 *
 * `tokens` is what a step computes; `kv_tokens` is what attention reads: for each computed token its position + 1. So
 * a decode step of one stream at position p has (1, p + 1), and a prefill chunk of n tokens from p has
 * (n, n·p + n·(n + 1)/2).
 *
 * The fit is least squares of the relative error over an exponentially fading past, with no negative coefficient,
 * pulled weakly towards the prior while there is little data. Small and large steps fade apart (about
 * COST_MEMORY_STEPS of each are remembered), so that an hour of decoding does not forget what a prefill costs. All
 * three coefficients are solved exactly: for three variables the non-negative optimum is the best feasible one of seven
 * subsets. Pure. */
#ifndef SHOAL_SCHED_COST_H
#define SHOAL_SCHED_COST_H

#include <stdint.h>

enum { COST_TERMS = 3, COST_MEMORY_STEPS = 200, COST_SMALL_TOKENS = 32 };

struct cost_model {
    double base_s;
    double token_s;
    double kv_token_s;
};

/* Fading sums of the normal equations over scaled columns; the prior is in them as a few pseudo-observations. */
struct cost_sums {
    double matrix[COST_TERMS][COST_TERMS];
    double vector[COST_TERMS];
};

struct cost {
    struct cost_model model;
    struct cost_sums small, large; /* steps of up to COST_SMALL_TOKENS tokens, and above */
};

void cost_init(struct cost *cost, struct cost_model prior);
void cost_observe(struct cost *cost, uint64_t tokens, uint64_t kv_tokens, double seconds);
double cost_predict(const struct cost *cost, uint64_t tokens, uint64_t kv_tokens);
/* KV tokens that a row of `count` tokens from `position` reads. */
uint64_t cost_kv_tokens(uint64_t position, uint64_t count);
/* The most tokens, at most `count`, that a chunk from `position` may have so that a step with already (tokens,
 * kv_tokens) in it stays within budget_s; budget_s 0: no bound. */
uint32_t cost_chunk_within(const struct cost *cost, uint64_t tokens, uint64_t kv_tokens, uint32_t position,
                           uint32_t count, double budget_s);

#endif
