/* worker/agent: a node's agent as a pure core: assignments and process events in, starts, stops and kills out.
 *
 *   assigned ──start──▶ STARTING ──first report──▶ LIVE ──────────────────────┐
 *      ▲                   │  ▲                      │ silent, or failed       │ assigned away,
 *      │ back-off is over  │  └──────────┐           ▼                         ▼ other epoch or settings
 *   WAITING ◀──exited──────┴──exited── FENCING    (SIGKILL)                 STOPPING ──exited──▶ forgotten, or WAITING
 *                                         ▲───────────────────────────────────┘ after stop_grace
 *
 * One entry per replica. The receiver fences: an entry starts a new engine only after the old process was seen to be
 * gone (reaped, or, if adopted, vanished), and only with an epoch that is at least the highest this node ever ran of
 * that replica (within one incarnation of the cluster: a restored cluster counts epochs anew). AGENT_PERSIST comes
 * first whenever what must survive an agent's death changed; the shell writes agent_save's text durably before it
 * performs what follows. Engines outlive their agent: agent_load takes up the living ones by (pid, start time, epoch),
 * and heartbeats are silent about them until they have spoken, so that a restarted agent changes nothing for them.
 *
 * No clock, socket or process in here; times are the caller's monotonic microseconds. */
#ifndef SHOAL_WORKER_AGENT_AGENT_H
#define SHOAL_WORKER_AGENT_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "proto/proto.h"

enum { AGENT_ENGINES_MAX = 64, AGENT_ACTIONS_MAX = 3 * AGENT_ENGINES_MAX + 1, AGENT_TOKEN_BYTES = 32 };

enum agent_phase { AGENT_WAITING, AGENT_STARTING, AGENT_LIVE, AGENT_STOPPING, AGENT_FENCING };

/* What an engine is started with; a change of any of it (the epoch changes with most) means a new process. */
struct agent_job {
    char replica[129];
    uint64_t epoch;
    char model[97];
    char path[4097];
    uint64_t pool_tokens, context_tokens, threads;
    char kv_type[9];
};

struct agent_engine {
    struct agent_job job;     /* wanted */
    struct agent_job running; /* what the process was started with */
    bool wanted;              /* still assigned */
    enum agent_phase phase;
    int pid; /* 0: none */
    uint64_t start_ticks;
    uint8_t token[AGENT_TOKEN_BYTES];
    uint64_t epoch_highest;
    uint64_t heard_us, ready_us, phase_us; /* last report, first one that said ready (0: none), phase begun */
    uint64_t retry_us;                     /* WAITING: not before */
    unsigned failures;                     /* in a row, for the back-off */
    bool adopted;
    /* The engine's last report, its texts kept here. */
    struct proto_engine_report report;
    char report_endpoint[129], report_reason[481];
};

struct agent_config {
    char node[65];
    char host[129];
    uint64_t incarnation;
    uint64_t cores;                            /* dealt to the engines */
    uint64_t silent_after_us;                  /* a live engine without a report for so long is fenced: 5 s */
    uint64_t start_grace_us;                   /* from start to the first report: 30 s */
    uint64_t stop_grace_us;                    /* from engine_stop to SIGKILL: 5 s */
    uint64_t settled_after_us;                 /* ready for so long, an engine has earned a quick restart: 3 s */
    uint64_t backoff_first_us, backoff_max_us; /* 250 ms doubling to 30 s */
    uint8_t token_seed[32];                    /* secret; session tokens are derived from it */
};

struct agent {
    struct agent_config config;
    uint64_t assign_incarnation, assign_index; /* highest taken */
    bool assigned; /* this process has taken an assignment: the leader need not tell it again */
    struct agent_engine *engines[AGENT_ENGINES_MAX];
    size_t engines_count;
    uint64_t heartbeats;
};

enum agent_action_kind {
    AGENT_PERSIST, /* write agent_save's text durably before going on */
    AGENT_START,   /* start engine->running with engine->token; answer by agent_started or agent_start_failed */
    AGENT_STOP,    /* send engine_stop */
    AGENT_KILL     /* SIGKILL pid if its start time is start_ticks */
};

struct agent_action {
    enum agent_action_kind kind;
    struct agent_engine *engine; /* NULL with PERSIST; lives until the next call */
};

struct agent_actions {
    struct agent_action list[AGENT_ACTIONS_MAX];
    size_t count;
};

void agent_init(struct agent *agent, const struct agent_config *config);
void agent_free(struct agent *agent);

/* What must survive, as JSON; and back. `alive` says whether a process with that start time runs; those are adopted. */
void agent_save(const struct agent *agent, struct buf *out);
MUST_CHECK enum status agent_load(struct agent *agent, struct bytes text, uint64_t now_us,
                                  bool (*alive)(int pid, uint64_t start_ticks), struct error *error);

/* Events. Actions are appended in the order in which they must be performed. */
/* STATUS_CONFLICT: older than what was taken; STATUS_LIMIT: more than AGENT_ENGINES_MAX; STATUS_INVALID: for another
 * node, or a replica without name or path. Nothing changes then. */
MUST_CHECK enum status agent_assign(struct agent *agent, const struct proto_assign *assign, uint64_t now_us,
                                    struct agent_actions *actions);
void agent_started(struct agent *agent, struct agent_engine *engine, int pid, uint64_t start_ticks, uint64_t now_us,
                   struct agent_actions *actions);
void agent_start_failed(struct agent *agent, struct agent_engine *engine, const char *why, uint64_t now_us);
void agent_exited(struct agent *agent, int pid, int exit_status, int signal_number, uint64_t now_us,
                  struct agent_actions *actions);
/* STATUS_DENIED: not an engine that this node started, or not the one it thinks of. */
MUST_CHECK enum status agent_report(struct agent *agent, const struct proto_engine_state *state, uint64_t now_us);
/* The node leaves: nothing is wanted any more; go on ticking until engines_count is 0. The next agent asks anew. */
void agent_stop_all(struct agent *agent, uint64_t now_us, struct agent_actions *actions);
void agent_tick(struct agent *agent, uint64_t now_us, struct agent_actions *actions);

/* Fills the heartbeat but for the inventory; the engines array is the caller's, AGENT_ENGINES_MAX long. Its
 * assign_index is 0 (tell me again, draw no conclusions) until this process has taken an assignment and every adopted
 * engine has spoken. */
void agent_heartbeat(struct agent *agent, struct proto_engine_report *engines, struct proto_heartbeat *heartbeat);
const char *agent_phase_name(enum agent_phase phase);

#endif
