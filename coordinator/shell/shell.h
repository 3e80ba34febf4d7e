/* coordinator/shell: one coordinator process: joins the replicated log, the state machine and the control loop to the
 * bus. It translates frames to events, steps the cores and sends what they answer; it decides nothing.
 *
 * One thread (the loop's), plus the WAL's writer inside the replicated log. Who may ask what is told by the CURVE key:
 * raft messages come from coordinators only, heartbeats from nodes, view_ask from routers, status and proposals from
 * operators. */
#ifndef SHOAL_COORDINATOR_SHELL_SHELL_H
#define SHOAL_COORDINATOR_SHELL_SHELL_H

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/consensus/replog.h"
#include "coordinator/control.h"
#include "coordinator/fsm.h"
#include "net/bus.h"
#include "net/identity.h"
#include "net/loop.h"

/* Outcomes wait from apply to the end of that turn of the loop: more of them than proposals may be under way. */
enum { SHELL_OUTCOMES = 4096, SHELL_PENDING_MAX = 1024, SHELL_ARENA_BYTES = 64 << 20 };

struct shell_options {
    const char *identity;
    const char *members;
    const char *state;
    bool first_start;
    int64_t election_ms;
    int64_t heartbeat_ms;
    int64_t down_ms;
    int64_t snapshot_entries;
    int log_level;
};

struct shell_peer {
    const struct member *member; /* a coordinator */
    struct bus_client *messages; /* NULL for ourselves */
    struct bus_client *snapshots;
    uint64_t heard_us;
};

/* An operator's proposal on its way through the log. */
struct shell_pending {
    struct replog_propose propose;
    struct shell *shell;
    bool used;
    bool own; /* of the control loop: nobody is answered */
    uint64_t channel;
    uint64_t client, sequence;
};

struct shell_outcome {
    uint64_t index;
    struct fsm_outcome outcome;
};

struct shell {
    struct shell_options options;
    struct loop loop;
    struct loop_signals signals;
    struct loop_timer raft_timer, control_timer;
    struct loop_poll disk_poll;
    struct identity identity;
    struct members members;
    const struct member *self;
    struct bus *bus;
    struct bus_server *server;
    struct shell_peer peers[REPLOG_MEMBERS_MAX];
    size_t peers_count;
    struct replog *replog;
    struct fsm fsm;
    struct control control;
    bool leading;
    size_t own_outstanding; /* the control loop's proposals */
    struct shell_pending pending[SHELL_PENDING_MAX];
    struct shell_outcome outcomes[SHELL_OUTCOMES]; /* ring by index */
    struct buf view;                               /* the encoded VIEW of view_index */
    uint64_t view_index;
};

MUST_CHECK enum status shell_open(struct shell *shell, const struct shell_options *options, struct error *error);
void shell_run(struct shell *shell);
void shell_close(struct shell *shell);

/* serve.c: the bus server's frames. */
void shell_received(void *context, const struct bus_peer *peer, struct bytes frame);
/* propose.c */
/* Sends a command through the log; channel 0 with own = true is the control loop's. */
MUST_CHECK enum status shell_propose(struct shell *shell, struct bytes command, bool own, uint64_t channel,
                                     uint64_t client, uint64_t sequence);
void shell_control_step(struct shell *shell);
const struct member *shell_coordinator(const struct shell *shell, uint64_t raft_id);

#endif
