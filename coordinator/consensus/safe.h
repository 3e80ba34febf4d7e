/* safe: a raft_io around a raft_io that keeps libraft 0.15 from its known mistakes (Raft: Ongaro 2014).
 *
 *   libraft  -> safe.io ->  inner raft_io (io.h: log and peers; in tests a scripted one)
 *   libraft  <- safe    <-  inner: tick, recv, completions
 *
 * The measures, each with a test that shows what libraft does without it:
 *
 *   A1  A leader's AppendEntries are refused (no connection) until this term's barrier entry is in its log, so that the
 *       first one carries it. Right after every event, a leader without a barrier appends one.
 *   A2  Until the barrier is durable here, successful results count as contact only; the newest per follower is
 *       delivered afterwards. libraft would commit entries of older terms by counting replicas (Ongaro 3.6.2).
 *   A3  A follower reports no more than was proved to match in this term, and takes no commit index beyond it. libraft
 *       reports its whole durable log, with whatever stale tail it has.
 *   B   A follower with an append or an installed snapshot on its way to the disk neither times out nor obeys a
 *       TimeoutNow: candidates and leaders assume that their log is durable.
 *   C   Any failed disk operation is fatal.
 *   D   Pre-vote, and election timeouts that are staggered by rank rather than spread at random over [T, 2T].
 *   E   A second, different vote in one term is fatal before it is written.
 *   F   A leader sees its own append of batch k+1 complete only after batch k is committed: libraft looks for a quorum
 *       only at the end of what it has stored, which under steady load no follower has reached yet.
 *   G   A truncation that takes a configuration away is made durable and then fatal: the restart rebuilds the
 *       configuration from the log. And no snapshot while the log's last configuration is not applied.
 *   H   A message that may truncate the log (AppendEntries, InstallSnapshot of a newer term) is dropped while an append
 *       of an older term is on its way to the disk: libraft counts completions by position and would take the old
 *       append for the new one.
 *
 * Besides, an AppendEntries or InstallSnapshot of our own term while we lead (two leaders), and libraft becoming
 * unavailable, are fatal. `fatal` must end the process; nothing may be acknowledged any more.
 *
 * Driven from one thread. safe reads `struct raft` and never writes it. */
#ifndef SHOAL_COORDINATOR_CONSENSUS_SAFE_H
#define SHOAL_COORDINATOR_CONSENSUS_SAFE_H

#include <raft.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/rng.h"
#include "base/status.h"

enum safe_measure {
    SAFE_A1 = 1 << 0,
    SAFE_A2 = 1 << 1,
    SAFE_A3 = 1 << 2,
    SAFE_B = 1 << 3,
    SAFE_C = 1 << 4,
    SAFE_D = 1 << 5,
    SAFE_E = 1 << 6,
    SAFE_F = 1 << 7,
    SAFE_G = 1 << 8,
    SAFE_H = 1 << 9,
};

enum { SAFE_SERVERS_MAX = 64 };

struct safe_config {
    unsigned rank;                /* 0, 1, ... among the voters */
    unsigned election_timeout_ms; /* T */
    unsigned heartbeat_ms;
    uint64_t seed;
    void *context;
    void (*fatal)(void *context, enum status status, const char *why) __attribute__((noreturn));
    /* Blocks until everything that the inner raft_io was given is durable; fatal when it can't be. */
    void (*flush)(void *context);
    unsigned disabled; /* tests only: measures that are left out */
};

enum safe_barrier { SAFE_BARRIER_NONE, SAFE_BARRIER_APPENDED, SAFE_BARRIER_STORED, SAFE_BARRIER_APPLIED };

/* A successful result that waits for the barrier (A2). */
struct safe_held {
    raft_id from;
    raft_index last_log_index;
};

/* What libraft is being given right now, to tell from its reaction whether it was accepted (A3). */
struct safe_receiving {
    bool active;
    raft_index proved; /* holds if it is accepted */
};

struct safe {
    struct raft_io io; /* give this one to raft_init */
    struct raft_io *inner;
    struct safe_config config;
    struct rng rng;
    raft_io_tick_cb tick;
    raft_io_recv_cb recv;
    raft_io_close_cb closed;
    bool closing;

    raft_term term;
    raft_id vote;
    raft_index next_index;
    raft_index last_change; /* the log's last configuration entry */

    enum safe_barrier barrier; /* of this term, while we lead */
    struct safe_held held[SAFE_SERVERS_MAX];
    unsigned held_count;
    struct list appends;      /* safe_append, in order: on the disk, or held by F */
    raft_index delivered_end; /* last append delivered that we made as leader of this term */
    unsigned installs;        /* snapshots that replace the log, on their way to the disk */
    raft_index proved;        /* A3's V */
    struct safe_receiving receiving;
    bool has_timeout_now;
    struct raft_message timeout_now; /* delayed by B; its address is ours */
};

void safe_init(struct safe *safe, struct raft_io *inner, const struct safe_config *config);
/* Between raft_init and raft_start: pre-vote and timeouts. */
void safe_prepare(struct safe *safe);
/* After raft_start and after every raft_* call made outside a callback. */
void safe_settle(struct safe *safe);
bool safe_leading(const struct safe *safe); /* leader, and this term's barrier is applied */
/* For fsm->snapshot: RAFT_BUSY when false (G). */
bool safe_may_snapshot(const struct safe *safe);

#endif
