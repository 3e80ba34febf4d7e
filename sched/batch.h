/* sched/batch: continuous batching over paged KV: what the next step computes, and what its results mean.
 *
 *   submit ──▶ WAITING ──admit──▶ RUNNING ──end id, limit──▶ (FINISHED event, gone)
 *                 ▲                  │ │
 *                 └────preempt───────┘ └──cancel──▶ ENDING ──next plan──▶ (FINISHED event, gone)
 *
 * One step is batch_plan, the computation by somebody else, batch_complete. A plan holds, in this order of claim on
 * the step: a decode row for every running stream that has its next token only; prefill chunks of running streams;
 * then waiting streams are admitted, the most important first, then the oldest, while slots, blocks and the step's
 * budget last. The budget is a predicted time (sched/cost) and a token count; one block of prefill always fits, so
 * that long decodes cannot starve prompts.
 *
 * Admission takes the blocks of all ids that are known, and leaves one free when the stream will need more later.
 * The first ⌊(ids − 1)/16⌋ blocks may come from the prefix index (the last token is always computed: its logits are
 * wanted). A stream whose next block is being computed by another waits outside for it and lets others pass; one that
 * waits for memory lets nobody pass.
 *
 * When a decode finds no block, the youngest stream of the lowest priority goes back to waiting and is recomputed
 * later (its full blocks usually survive as a cached prefix). The oldest stream is never chosen, and no stream alone
 * can exceed the pool, so the oldest always goes on and everything ends.
 *
 * Positions are absolute: a stream resumed at position n equals the one that computed its way there. Memory is bounded
 * by the configuration: streams_max streams of at most context_tokens ids. Pure; one thread. */
#ifndef SHOAL_SCHED_BATCH_H
#define SHOAL_SCHED_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "sched/cost.h"
#include "sched/kv.h"

struct batch;

struct batch_config {
    uint32_t blocks;          /* of KV_BLOCK_TOKENS tokens */
    uint32_t slots;           /* streams that run at once */
    uint32_t streams_max;     /* running and waiting */
    uint32_t step_tokens_max; /* at least slots */
    uint32_t context_tokens;
    double step_budget_s;    /* predicted time of a step with prefill in it; 0: no bound */
    const uint32_t *end_ids; /* the model's own; copied */
    size_t end_ids_count;
    uint32_t vocab_size; /* ids at and above it are refused; 0: unchecked */
    uint8_t cache_salt[32];
};

struct batch_request {
    uint64_t handle;     /* the caller's name, unique among those alive */
    const uint32_t *ids; /* prompt, then what was already produced; copied */
    uint32_t ids_count;
    uint32_t prompt_tokens;
    uint32_t max_tokens; /* new tokens counted from the original prompt */
    const uint32_t *stop_ids;
    uint32_t stop_ids_count;
    uint8_t cache_key[32];
    uint8_t priority; /* 0 is the most important */
    bool ignore_eos;  /* the model's end ids do not end it; stop_ids do */
};

enum { BATCH_STOP_IDS_MAX = 64 };

/* One stream's part in a step; pointers live until batch_complete. */
struct batch_row {
    uint64_t handle;
    uint32_t stream; /* index in [0, streams_max), the stream's own while it lives */
    uint32_t slot;   /* in [0, slots) */
    bool reset;      /* the slot's block table begins anew with new_blocks */
    bool want_token; /* the row ends at what is known: sample after its last token */
    uint32_t position;
    uint32_t count;
    const uint32_t *ids;
    const uint32_t *new_blocks;
    uint32_t new_blocks_count;
};

struct batch_plan {
    const struct batch_row *rows;
    size_t rows_count; /* 0: nothing to compute */
    uint32_t tokens;
    uint64_t kv_tokens; /* as cost.h counts them */
};

enum batch_finish { BATCH_FINISH_STOP, BATCH_FINISH_LENGTH, BATCH_FINISH_CANCELLED };
enum batch_event_kind { BATCH_TOKEN, BATCH_FINISHED };

struct batch_event {
    enum batch_event_kind kind;
    uint64_t handle;
    uint32_t position; /* TOKEN: of id */
    uint32_t id;
    enum batch_finish finish;
    uint32_t cached_tokens;     /* FINISHED: prompt tokens that the prefix index gave at admission */
    uint32_t completion_tokens; /* FINISHED: new tokens counted from the original prompt */
};

struct batch_load {
    uint32_t running, waiting;
    uint64_t queued_tokens; /* known but not computed, over all streams, decode tokens left out */
    uint32_t blocks_total, blocks_used, blocks_cached;
};

struct batch *batch_new(const struct batch_config *config);
void batch_free(struct batch *batch);

/* INVALID: the request breaks its own rules. LIMIT: prompt + max_tokens exceed the context or the pool; both are
 * final. EXISTS: the handle is alive. FULL: streams_max are alive; another engine could. `stream` may be NULL. */
MUST_CHECK enum status batch_submit(struct batch *batch, const struct batch_request *request, uint32_t *stream,
                                    struct error *error);
/* Takes effect at the next batch_plan. False: no such stream. */
bool batch_cancel(struct batch *batch, uint64_t handle);
bool batch_idle(const struct batch *batch); /* no stream is alive */

/* Clears the events of the step before, ends what was cancelled, and makes the next plan. */
void batch_plan(struct batch *batch, const struct cost *cost, struct batch_plan *out);
/* The plan was computed; ids[rows_count] are the sampled tokens where the row wanted one. */
void batch_complete(struct batch *batch, const uint32_t *ids);
/* Since the last batch_plan began, in the order of the rows; they live until the next one. */
const struct batch_event *batch_events(const struct batch *batch, size_t *count);
const struct kv_event *batch_kv_events(const struct batch *batch, size_t *count);

void batch_load(const struct batch *batch, struct batch_load *out);
const struct kv *batch_kv(const struct batch *batch);
/* Aborts when an invariant does not hold; for tests. Not between batch_plan and batch_complete. */
void batch_check(const struct batch *batch);

#endif
