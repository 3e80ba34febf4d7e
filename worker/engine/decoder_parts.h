/* decoder_parts: what decoder.c (open, close, plans) and decoder_step.c (the arithmetic of one step) share. Private to
 * the two. */
#ifndef SHOAL_WORKER_ENGINE_DECODER_PARTS_H
#define SHOAL_WORKER_ENGINE_DECODER_PARTS_H

#include <stdatomic.h>

#include "worker/engine/backend.h"
#include "worker/engine/cpu/pool.h"
#include "worker/engine/decoder.h"
#include "worker/engine/group.h"
#include "worker/engine/kvpool.h"
#include "worker/engine/rope.h"
#include "worker/engine/sampler.h"
#include "worker/engine/weights.h"

enum {
    DECODER_PRIVATE_TOKENS = 4,  /* up to this many, every thread prepares inputs for itself instead of meeting */
    DECODER_PHASES_PER_LAYER = 8 /* at most, that deal items dynamically */
};

/* Up to how many tokens of one row attend together: each brings the q heads of one kv head. */
struct decoder_tile {
    uint32_t row;
    uint32_t token; /* index in the step */
    uint32_t count;
};

/* One thread's own memory. */
struct decoder_thread {
    float *normed;          /* [DECODER_PRIVATE_TOKENS][columns_max] */
    struct backend_act act; /* [DECODER_PRIVATE_TOKENS][columns_max] */
    struct sampler sampler;
};

struct decoder {
    struct decoder_config config;
    struct model_desc shape; /* the description without its tensors: sizes only */
    const struct backend *backend;
    struct pool *pool;
    struct group self;
    struct group *group;
    struct weights weights;
    struct kvpool kv;
    struct decoder_info info;
    double *frequencies; /* [rope_dim / 2] */
    float query_scale;
    size_t columns_max; /* of any matrix */

    /* Slots: the block tables. */
    uint32_t *tables;      /* [slots][blocks_per_slot_max] */
    uint32_t *table_count; /* [slots] */
    bool started;
    uint64_t epoch, step;

    /* The running step. */
    const struct plan *plan;
    struct plan_result *result;
    size_t tokens;
    uint32_t *token_id; /* [tokens_max] */
    uint32_t *token_position;
    uint32_t *token_row;
    struct decoder_tile *tiles; /* [tokens_max] */
    size_t tiles_count;
    uint32_t *wanted; /* [slots]: rows that want a token */
    size_t wanted_count;
    _Atomic size_t *counters; /* one per phase that deals dynamically */
    size_t counters_count;
    _Atomic int failed; /* the first enum status of a lost group */

    /* Activations of a step; shared ones are seen by all ranks of the stage. */
    float *x;               /* shared [tokens_max][hidden] */
    float *attended;        /* shared [tokens_max][q_heads · head_dim] */
    float *gate;            /* shared [tokens_max][ffn] */
    float *logits;          /* shared [slots][vocab]; last stage */
    float *normed;          /* [tokens_max][hidden] */
    float *q, *k, *v;       /* [tokens_max][rows of the slice] */
    float *up;              /* [tokens_max][rows of the slice] */
    float *cosines, *sines; /* [tokens_max][rope_dim / 2] */
    struct backend_act act; /* [tokens_max][columns_max] */
    struct decoder_thread *thread;
    void *memory[24]; /* what the decoder itself allocated, to be freed */
    size_t memory_count;
};

/* Runs the plan in decoder->plan on all threads of the pool. */
void decoder_forward(void *decoder, unsigned thread);

#endif
