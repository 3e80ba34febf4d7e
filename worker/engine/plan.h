/* plan: what one step computes, as data: made by the head, executed alike by every rank of every stage.
 *
 * A plan is (epoch, step, operations, rows), strictly in order; a gap aborts the group. Block ids are equal on all
 * ranks and stages. Ranks keep one block table per slot, which plans extend; nothing else about a stream is known to
 * them. Rank 0 of the last stage samples. Plans are owned by the head's batch and live until the step's result came. */
#ifndef SHOAL_WORKER_ENGINE_PLAN_H
#define SHOAL_WORKER_ENGINE_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How the next token is drawn: docs in proto/messages.def (sampling); validated before it gets here. */
struct plan_sampling {
    float temperature; /* 0: greedy */
    uint32_t top_k;    /* 0: off */
    float top_p;       /* 1: off */
    float min_p;       /* 0: off */
    uint64_t seed;
    uint32_t choice;
};

/* One stream's part in the step: `count` tokens at absolute positions position .. position + count − 1. */
struct plan_row {
    uint32_t slot;
    bool reset; /* the slot's block table starts empty (before new_blocks are added) */
    uint32_t position;
    uint32_t count;
    const uint32_t *ids;        /* [count] */
    const uint32_t *new_blocks; /* appended to the slot's table before the row is computed */
    uint32_t new_blocks_count;
    bool want_token; /* the last token's logits are sampled: the row reaches the end of what is known */
    struct plan_sampling sampling;
};

/* Copy of a block (all layers of this stage, k and v) before the step: copy on write of partly filled blocks. */
struct plan_copy {
    uint32_t from, to;
};

struct plan {
    uint64_t epoch;
    uint64_t step;
    const struct plan_copy *copies;
    size_t copies_count;
    const struct plan_row *rows;
    size_t rows_count;
    size_t tokens; /* sum of counts, at most the decoder's tokens_max */
};

struct plan_result {
    uint32_t *ids;  /* [rows_count]; UINT32_MAX where the row wanted none */
    float **logits; /* tests and scoring only: NULL, or [rows_count] pointers to [vocab] of the last token (or NULL) */
};

#endif
