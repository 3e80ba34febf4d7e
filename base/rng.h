/* rng: seeded random numbers for decisions and tests (xoshiro256**, Blackman & Vigna 2018; seeded by splitmix64), and
 * Philox4x32-10 (Salmon et al., SC'11), the counter-based generator that the sampler draws from.
 *
 * State is the caller's; nothing is global. Not for secrets: those come from crypto_random. */
#ifndef SHOAL_BASE_RNG_H
#define SHOAL_BASE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t state[4];
};

void rng_init(struct rng *rng, uint64_t seed);
uint64_t rng_u64(struct rng *rng);
uint64_t rng_below(struct rng *rng, uint64_t bound); /* uniform in [0, bound), bound > 0 */
double rng_unit(struct rng *rng);                    /* uniform in [0, 1), 53 bits */

/* Philox4x32-10: a pure function of key and counter. */
void philox4x32(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4]);

#endif
