/* worker/engine/shell/compute: the engine's thread, and the two bounded rings between it and the loop's thread.
 *
 *   loop thread ──commands──▶ engine thread        submit, cancel, snapshot, stop
 *   loop thread ◀──reports─── engine thread        ready, failed, step, refused, snapshot, ended
 *
 * Elements are allocated by who pushes and freed by who pops. A full command ring is back-pressure for the routers
 * (STATUS_FULL); a full report ring makes the engine's thread wait for the loop. While the engine has nothing to do its
 * thread sleeps. The engine itself is touched by its own thread only. */
#ifndef SHOAL_WORKER_ENGINE_SHELL_COMPUTE_H
#define SHOAL_WORKER_ENGINE_SHELL_COMPUTE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/ring.h"
#include "base/status.h"
#include "net/loop.h"
#include "worker/engine/replica.h"

enum command_kind { COMMAND_SUBMIT, COMMAND_CANCEL, COMMAND_SNAPSHOT, COMMAND_STOP };

enum { COMMAND_STOP_IDS_MAX = 64 };

struct command {
    enum command_kind kind;
    uint64_t handle;               /* SUBMIT, CANCEL; SNAPSHOT: whose channel */
    struct engine_request request; /* SUBMIT; its arrays are below */
    uint32_t stop_ids[COMMAND_STOP_IDS_MAX];
    uint32_t ids[]; /* SUBMIT */
};

enum report_kind { REPORT_READY, REPORT_FAILED, REPORT_STEP, REPORT_REFUSED, REPORT_SNAPSHOT, REPORT_ENDED };

struct report {
    enum report_kind kind;
    struct engine_info info;     /* READY */
    struct engine_load load;     /* READY, STEP */
    struct error error;          /* FAILED, REFUSED */
    uint64_t handle;             /* REFUSED; SNAPSHOT: whose channel */
    struct engine_event *events; /* STEP */
    size_t events_count;
    struct engine_kv_event *kv_events; /* STEP */
    size_t kv_events_count;
    uint8_t (*hashes)[16]; /* SNAPSHOT */
    size_t hashes_count;
};
void report_free(struct report *report);

struct compute {
    const char *model_path;
    int nice; /* of the computing threads only: who moves messages must not wait behind them */
    struct engine_config config;
    struct loop_wake *wake; /* the loop's: there are reports */
    struct ring commands, reports;
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* a command was pushed, or reports were popped */
    struct pool_thread *thread;
    struct replica replica; /* the engine thread's */
    bool stopping;          /* the engine thread's */
};

MUST_CHECK enum status compute_start(struct compute *compute, const char *model_path,
                                     const struct engine_config *config, int nice, struct loop_wake *wake,
                                     struct error *error);
/* Loop's thread. STATUS_FULL: the command stays the caller's; else it is taken. */
MUST_CHECK enum status compute_send(struct compute *compute, struct command *command);
/* Loop's thread. NULL: none. */
struct report *compute_receive(struct compute *compute);
/* After REPORT_ENDED or REPORT_FAILED came: waits for the thread's end and frees everything. */
void compute_join(struct compute *compute);

#endif
