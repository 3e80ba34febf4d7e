/* worker/engine/shell/compute: the engine thread and the two bounded rings that join it to the loop.
 *
 *   loop ──commands──▶ engine thread ──outputs──▶ loop
 *
 * The engine thread owns model and engine: it loads them, then steps as long as there is work and sleeps otherwise. Each
 * step's results come back as one `struct output`, in order, so KV events, tokens and ends keep theirs. A full command
 * ring is STATUS_FULL for the loop; a full output ring makes the engine wait: back-pressure, nothing is dropped. */
#ifndef SHOAL_WORKER_ENGINE_SHELL_COMPUTE_H
#define SHOAL_WORKER_ENGINE_SHELL_COMPUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "net/loop.h"
#include "worker/engine/engine.h"

struct compute;

struct compute_config {
    const char *model_path;
    int nice; /* of the computing threads only: who moves messages must not wait behind them */
    struct engine_config engine; /* desc is filled by the thread */
    struct loop *loop;
    void *context;
    void (*outputs_ready)(void *context); /* on the loop's thread: call compute_output until NULL */
};

enum output_kind {
    OUTPUT_READY,    /* loaded: info and model_id are set */
    OUTPUT_FAILED,   /* could not load, or a step failed: error says why; nothing comes after it */
    OUTPUT_STEP,     /* events, kv_events, load */
    OUTPUT_REFUSED,  /* handle's submit was not taken: error says why */
    OUTPUT_SNAPSHOT, /* hashes of all findable blocks, for channel */
    OUTPUT_STOPPED   /* the thread is about to end; nothing comes after it */
};

struct output {
    enum output_kind kind;
    struct engine_info info;
    char model_id[97];
    struct error error;
    uint64_t handle, channel;
    struct engine_event *events;
    size_t events_count;
    struct engine_kv_event *kv_events;
    size_t kv_events_count;
    struct engine_load load;
    uint8_t *hashes; /* 16 bytes each */
    size_t hashes_count;
};

/* Starts the thread, which begins to load. */
MUST_CHECK enum status compute_start(const struct compute_config *config, struct compute **out, struct error *error);
/* Ends the thread (it must have been told to stop, or failed) and frees everything. */
void compute_join(struct compute *compute);

/* Loop's thread. FULL: the ring is full. submit copies the request. */
MUST_CHECK enum status compute_submit(struct compute *compute, const struct engine_request *request);
MUST_CHECK enum status compute_cancel(struct compute *compute, uint64_t handle);
MUST_CHECK enum status compute_snapshot(struct compute *compute, uint64_t channel);
/* Cancels nothing by itself: the thread ends after its present step. Never fails. */
void compute_stop(struct compute *compute);
struct output *compute_output(struct compute *compute); /* NULL: none waits; give it back by output_free */
void output_free(struct output *output);

#endif
