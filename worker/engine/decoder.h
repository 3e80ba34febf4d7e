/* decoder: one rank of one stage of the model: executes plans against its weights and its KV pool.
 *
 * decoder_run is collective over the group: every rank calls it with an equal plan (rank 0 of stage 0 is given it by
 * the batch, the others by the group). It computes only; it allocates nothing, waits for nothing but its group.
 * Results are a function of (weights, ids, sampling, seed, position) within a numerics class: engine.md, Numbers. */
#ifndef SHOAL_WORKER_ENGINE_DECODER_H
#define SHOAL_WORKER_ENGINE_DECODER_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/desc.h"
#include "worker/engine/plan.h"

struct decoder;
struct group;

enum decoder_kv_type { DECODER_KV_F32, DECODER_KV_F16, DECODER_KV_BF16, DECODER_KV_INT8 };

enum { DECODER_BLOCK_TOKENS = 16 };

struct decoder_config {
    const struct model_desc *desc;
    struct group *group;  /* NULL: one rank, one stage */
    const char *cpu_path; /* "c", "avx2", "avx512"; NULL: SHOAL_CPU, else the best that the CPU has */
    unsigned threads;     /* of this rank; 0: the cores that the process may use */
    enum decoder_kv_type kv_type;
    uint32_t blocks;     /* KV blocks in the pool */
    uint32_t slots;      /* streams at once */
    uint32_t tokens_max; /* tokens in one plan */
    uint32_t blocks_per_slot_max;
};

struct decoder_info {
    uint64_t class_id;       /* numerics class: hash of a fixed probe of the kernels in use */
    uint8_t layout_hash[32]; /* what besides ids and class decides the pool's content: model hash, KV type, layout */
    char cpu_path[16];
    uint64_t block_bytes;   /* of one KV block over all layers of this rank's stage */
    uint64_t weights_bytes; /* packed, resident */
};

MUST_CHECK enum status decoder_open(const struct decoder_config *config, struct decoder **out, struct error *error);
void decoder_close(struct decoder *decoder);
void decoder_info(const struct decoder *decoder, struct decoder_info *out);
/* Bytes that decoder_open would take besides the blocks, and per block: for sizing the pool before anything is taken.
 */
void decoder_estimate(const struct decoder_config *config, uint64_t *fixed_bytes, uint64_t *block_bytes);
MUST_CHECK enum status decoder_run(struct decoder *decoder, const struct plan *plan, struct plan_result *result,
                                   struct error *error);

#endif
