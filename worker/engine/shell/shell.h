/* worker/engine/shell: shoal-engine's process: the engine thread joined to routers and to its agent over the bus.
 *
 *   LOADING ──ready──▶ READY ──engine_stop or SIGTERM──▶ DRAINING ──all streams gone──▶ exit 0
 *      └──failed──▶ FAILED (says so to the agent) ──▶ exit 1
 *
 * Routers attach, submit and cancel; tokens go back batched per step and router. The closing of a router's channel
 * cancels its streams. Whoever is not on the allow-list (the members' routers) gets no byte through. */
#ifndef SHOAL_WORKER_ENGINE_SHELL_SHELL_H
#define SHOAL_WORKER_ENGINE_SHELL_SHELL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/map.h"
#include "net/bus.h"
#include "net/identity.h"
#include "net/loop.h"
#include "proto/proto.h"
#include "worker/engine/shell/compute.h"

enum { SHELL_ROUTERS_MAX = 256, SHELL_STREAMS_MAX = 65536, SHELL_TOKEN_BYTES = 32 };

struct shell_options {
    const char *identity, *members;
    const char *agent_endpoint; /* NULL: no agent */
    const char *job;
    const char *listen;
    const char *replica;
    const char *model, *model_name;
    const char *cpu_path;
    int64_t epoch;
    int64_t threads, pool_tokens, context_tokens, streams_max, step_ms, nice;
    int kv_type;
    int log_level;
};

struct shell_router {
    uint64_t channel; /* 0: free */
    char name[65];
};

/* A stream of a router: which answers go where. */
struct shell_stream {
    struct list link; /* in shell->streams */
    uint64_t handle;
    uint64_t channel;
    uint64_t stream, attempt;
};

struct shell {
    struct shell_options options;
    struct loop loop;
    struct loop_signals signals;
    struct loop_timer load_timer, stop_timer;
    struct identity identity;
    struct members members;
    uint8_t token[SHELL_TOKEN_BYTES];
    struct bus *bus;
    struct bus_server *server; /* NULL until ready */
    struct bus_client *agent;
    struct compute *compute;
    enum proto_engine_phase phase;
    struct error failure;
    uint64_t incarnation;
    struct engine_info info;
    char model_name[97];
    struct engine_load load;
    struct shell_router routers[SHELL_ROUTERS_MAX];
    struct list streams;
    struct map by_handle;     /* handle → stream */
    struct map by_name;       /* (channel, stream) → stream */
    size_t streams_count;
    uint64_t next_handle;
    uint64_t kv_sequence;
    int exit_code;
    bool stopped;             /* the engine thread ended, or failed */
};

MUST_CHECK enum status shell_open(struct shell *shell, const struct shell_options *options, struct error *error);
int shell_run(struct shell *shell); /* the exit code */
void shell_close(struct shell *shell);
void shell_drain(struct shell *shell);

/* routers.c: frames from routers. */
void shell_router_received(void *context, const struct bus_peer *peer, struct bytes frame);
void shell_router_closed(void *context, uint64_t channel);
void shell_send(struct shell *shell, uint64_t channel, enum proto_opcode opcode, const void *message);
void shell_send_load(struct shell *shell);
struct shell_stream *shell_stream_of(const struct shell *shell, uint64_t handle);
void shell_stream_forget(struct shell *shell, struct shell_stream *stream);

/* outputs.c: what the engine thread produced. */
void shell_outputs_ready(void *context);

/* report.c: what the agent and the job folder learn. */
void shell_report(struct shell *shell);
void shell_agent_received(void *context, struct bytes frame);
MUST_CHECK enum status shell_write_job(const struct shell *shell, struct error *error);
MUST_CHECK enum status shell_read_token(struct shell *shell, struct error *error);

#endif
