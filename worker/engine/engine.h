/* engine: a replica as a token server in one process: ids in, ids out. Continuous batching, chunked prefill, paged KV
 * with a tenant-keyed prefix cache, sampling. No socket, no clock, no text: `shoal run` calls it directly, the shell of
 * shoal-engine wraps it in rings and the bus.
 *
 * All calls come from one thread, the engine thread. Memory is bounded at open: streams_max streams, a pool of
 * pool_tokens. engine_step computes one batch step and reports what it produced; without work it returns at once.
 * A stream's output depends on nothing but (weights, ids, sampling, seed, position): engine.md. */
#ifndef SHOAL_WORKER_ENGINE_ENGINE_H
#define SHOAL_WORKER_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "worker/engine/decoder.h"

struct engine;

struct engine_config {
    const struct model_desc *desc;
    const char *cpu_path;
    unsigned threads; /* 0: all cores */
    enum decoder_kv_type kv_type;
    uint64_t pool_tokens;     /* 0: a sensible size for the model and the machine's memory */
    uint32_t context_tokens;  /* 0: the model's own, at most what the pool holds */
    uint32_t streams_max;     /* running at once; 0: 64 */
    uint32_t waiting_max;     /* admitted but outside the batch; 0: 4 · streams_max */
    uint32_t step_tokens_max; /* 0: 512; at least streams_max */
    uint64_t step_budget_us;  /* predicted time of a step with prefill in it: 100,000 when serving, 0: no bound */
    unsigned ranks, stages;   /* in-process group of threads, for tests; 0 means 1 */
};

struct engine_info {
    uint64_t class_id;
    uint32_t context_tokens;
    uint64_t pool_tokens;
    uint32_t block_tokens;
    uint8_t cache_salt[32];
    uint32_t vocab_size;
    char cpu_path[16];
};

struct engine_request {
    uint64_t handle;     /* the caller's name of the stream, unique among those alive */
    const uint32_t *ids; /* prompt, then what was already produced; copied */
    uint32_t ids_count;
    uint32_t prompt_tokens;
    uint32_t max_tokens; /* new tokens counted from the original prompt */
    struct plan_sampling sampling;
    const uint32_t *stop_ids; /* besides the model's own end ids */
    uint32_t stop_ids_count;
    uint8_t cache_key[32];
    uint8_t priority;
    bool ignore_eos;
};

enum engine_event_kind { ENGINE_TOKEN, ENGINE_FINISHED };
enum engine_finish { ENGINE_FINISH_STOP, ENGINE_FINISH_LENGTH, ENGINE_FINISH_CANCELLED, ENGINE_FINISH_FAULT };

struct engine_event {
    enum engine_event_kind kind;
    uint64_t handle;
    uint32_t position; /* TOKEN: absolute position of id */
    uint32_t id;
    enum engine_finish finish; /* FINISHED */
    uint32_t cached_tokens;    /* FINISHED: prompt tokens that the prefix cache gave */
    uint32_t completion_tokens;
};

/* Blocks that became findable or went away (16-byte hashes), in order; see kv_events in messages.def. */
struct engine_kv_event {
    uint8_t hash[16];
    bool stored; /* else removed */
};

struct engine_load {
    uint64_t step;
    uint32_t running, waiting;
    uint64_t queued_tokens;
    uint64_t blocks_total, blocks_used, blocks_cached;
    double step_base_s, step_token_s, step_kv_token_s;
};

MUST_CHECK enum status engine_open(const struct engine_config *config, struct engine **out, struct error *error);
void engine_close(struct engine *engine);
const struct engine_info *engine_info(const struct engine *engine);

/* INVALID or LIMIT: final (prompt + max_tokens above context or pool, ids out of the vocabulary…). FULL: another
 * engine could. The request is copied. */
MUST_CHECK enum status engine_submit(struct engine *engine, const struct engine_request *request, struct error *error);
void engine_cancel(struct engine *engine, uint64_t handle); /* takes effect before the next step; unknown: ignored */
bool engine_idle(const struct engine *engine);

/* One step. `now_us` is any monotonic clock; step times are measured by the caller's `clock_us` given in it (may be
 * NULL: no fitting). Events live until the next call. */
struct engine_step {
    const struct engine_event *events;
    size_t events_count;
    const struct engine_kv_event *kv_events;
    size_t kv_events_count;
    size_t tokens; /* computed in this step; 0: there was nothing to do */
};
MUST_CHECK enum status engine_step(struct engine *engine, uint64_t (*clock_us)(void), struct engine_step *out,
                                   struct error *error);
void engine_load(const struct engine *engine, struct engine_load *out);
/* Calls `each` for every findable block. */
void engine_kv_snapshot(const struct engine *engine, void *context,
                        void (*each)(void *context, const uint8_t hash[16]));

#endif
