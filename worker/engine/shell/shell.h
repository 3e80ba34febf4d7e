/* worker/engine/shell: shoal-engine: one replica's process: joins the engine's thread to the bus.
 *
 *   STARTING ──▶ LOADING ──ready──▶ READY ──stop──▶ DRAINING ──every stream ended──▶ STOPPED, exit 0
 *                   └──────failed─────┴─▶ FAILED, exit 1
 *
 * The loop's thread owns everything here and decides nothing but who gets which message; compute.h is the other thread.
 * Routers dial in once the engine is ready; a channel that closes takes its streams with it. The agent is dialled and
 * told the state every 100 ms and at every change; the engine lives on without it. */
#ifndef SHOAL_WORKER_ENGINE_SHELL_SHELL_H
#define SHOAL_WORKER_ENGINE_SHELL_SHELL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/map.h"
#include "net/bus.h"
#include "net/identity.h"
#include "net/loop.h"
#include "proto/proto.h"
#include "worker/engine/shell/compute.h"

struct shell_options {
    const char *identity, *members, *agent_endpoint, *listen, *job, *replica, *model, *model_name, *cpu;
    int64_t epoch, threads, nice, pool_tokens, context, streams, step_tokens, step_ms;
    int kv_type, log_level; /* indices of their choices */
};

/* A router that is connected. */
struct shell_router {
    uint64_t channel;
    char name[65];
    bool attached; /* it gets loads and events */
    /* What the running report has for it. */
    struct proto_stream_tokens *tokens; /* [tokens_capacity] */
    size_t tokens_count, tokens_capacity;
};

/* A stream that the engine has, or is about to get. */
struct shell_stream {
    uint64_t handle;             /* the engine's name of it */
    struct shell_router *router; /* NULL: its channel has closed, nobody is told any more */
    uint64_t stream, attempt;    /* the router's names of it */
};

struct shell {
    struct shell_options options;
    struct identity identity;
    struct members members;
    struct loop loop;
    struct bus *bus;
    struct bus_server *server; /* NULL until ready */
    struct bus_client *agent;  /* NULL: none was named */
    struct loop_signals signals;
    struct loop_timer load_timer, end_timer;
    struct loop_wake wake;
    struct compute compute;
    bool compute_over; /* its thread said its last word */
    enum proto_engine_phase phase;
    char reason[ERROR_TEXT_MAX];
    char model_name[97];
    uint8_t token[32]; /* of the job; the agent believes no other */
    size_t token_length;
    uint64_t incarnation;
    struct engine_info info;
    struct engine_load load;
    uint64_t kv_sequence;
    struct map routers; /* by channel */
    struct map streams; /* by handle */
    uint64_t handles;
    struct buf frame;
};

MUST_CHECK enum status shell_open(struct shell *shell, const struct shell_options *options, struct error *error);
int shell_run(struct shell *shell); /* the exit code */
void shell_close(struct shell *shell);

/* channels.c: the routers' side. */
void shell_router_received(void *context, const struct bus_peer *peer, struct bytes frame);
void shell_router_closed(void *context, uint64_t channel);
void shell_send_loads(struct shell *shell);
void shell_cancel_all(struct shell *shell);
void shell_take_step(struct shell *shell, const struct report *report);
void shell_take_refusal(struct shell *shell, const struct report *report);
void shell_take_snapshot(struct shell *shell, const struct report *report);
void shell_forget_routers(struct shell *shell);

#endif
