/* worker/agent/shell: shoal-worker's process: the agent core joined to the bus, to child processes and to its state
 * file. It translates, steps, performs; the core decides.
 *
 * Heartbeats go to the coordinator that is believed to lead; NOT_LEADER, a broken connection, or half a second without
 * an answer makes it look elsewhere. Engines report to the agent's own bus server, whose endpoint is kept over
 * restarts, so that living engines find a new agent by themselves. One thread. */
#ifndef SHOAL_WORKER_AGENT_SHELL_SHELL_H
#define SHOAL_WORKER_AGENT_SHELL_SHELL_H

#include <stdbool.h>
#include <stdint.h>

#include "net/bus.h"
#include "net/identity.h"
#include "net/loop.h"
#include "net/proc.h"
#include "worker/agent/agent.h"
#include "worker/agent/inventory.h"

enum { SHELL_COORDINATORS_MAX = 16, SHELL_TERM_LEAVE = 0, SHELL_TERM_STOP = 1 };

struct shell_options {
    const char *identity;
    const char *members;
    const char *state;
    const char *host;
    const char *listen;
    const char *engine;
    int64_t cores;
    int64_t memory_mib;
    int64_t engine_nice;
    int on_term; /* SHELL_TERM_LEAVE: engines go on; SHELL_TERM_STOP: they end too */
    int log_level;
};

/* A coordinator's channel. */
struct shell_coordinator {
    struct shell *shell;
    const struct member *member;
    struct bus_client *client;
};

/* What the shell knows of one replica's engine besides the core. */
struct shell_engine {
    struct shell *shell;
    char replica[129]; /* "": free */
    struct proc proc;
    uint64_t channel; /* of its last report; 0: none */
};

struct shell {
    struct shell_options options;
    struct loop loop;
    struct loop_signals signals;
    struct loop_timer heartbeat_timer, tick_timer;
    struct identity identity;
    struct members members;
    struct inventory inventory;
    struct bus *bus;
    struct bus_server *server;
    struct shell_coordinator coordinators[SHELL_COORDINATORS_MAX];
    size_t coordinators_count;
    size_t leader;        /* index of the one believed to lead */
    uint64_t answered_us; /* when a coordinator last answered, or we last moved on */
    struct shell_engine engines[AGENT_ENGINES_MAX];
    struct agent agent;
    int lock; /* of the state folder: two agents of one node would each run every engine */
    bool stopping;
    uint64_t stopping_since_us;
};

MUST_CHECK enum status shell_open(struct shell *shell, const struct shell_options *options, struct error *error);
void shell_run(struct shell *shell);
void shell_close(struct shell *shell);

/* perform.c: the core's actions on processes and files. */
void shell_perform(struct shell *shell, struct agent_actions *actions);
struct shell_engine *shell_engine_of(struct shell *shell, const char *replica, bool make);
/* Notices adopted engines that are gone: nobody sends us their SIGCHLD. */
void shell_poll_adopted(struct shell *shell);

/* messages.c: what comes over the bus. */
void shell_engine_received(void *context, const struct bus_peer *peer, struct bytes frame);
void shell_coordinator_received(void *context, struct bytes frame);
void shell_send_heartbeat(struct shell *shell);

#endif
