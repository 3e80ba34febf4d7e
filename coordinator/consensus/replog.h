/* replog: the replicated log, as the rest of shoal sees it; no raft header beyond this room.
 *
 * One replog is one voter: libraft behind our own raft_io (`safe` around the write-ahead log and the peers, see
 * docs/decisions). It is driven from one thread: the shell calls replog_tick every 10 ms, replog_receive for every peer
 * message, and replog_disk_ready when replog_disk_fd is readable; everything else comes back through callbacks:
 *
 *   fsm.apply, snapshot, restore   inside open, tick, receive and disk_ready; must not call back into the replog
 *   peers.send                     inside those and propose; must not call back either
 *   propose.done, on_role          at the end of tick, receive and disk_ready; may call replog_propose
 *
 * Failures: an I/O error, or a state that must not go on ((c), (e), (g) of safe.h), calls `fatal`, which must end
 * the process without acknowledging anything; a supervisor restarts it. */
#ifndef SHOAL_COORDINATOR_CONSENSUS_REPLOG_H
#define SHOAL_COORDINATOR_CONSENSUS_REPLOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/status.h"

struct replog;
struct disk; /* disk.h; for simulators and tests */

enum { REPLOG_MEMBERS_MAX = 16 };

struct replog_member {
    uint64_t raft_id; /* > 0; never reused */
    const char *name; /* opaque address for libraft */
};

/* Sends one encoded proto frame (raft_* messages) to a member; fire and forget, losing it is allowed. */
struct replog_peers {
    void *context;
    enum status (*send)(void *context, uint64_t raft_id, struct bytes frame);
};

struct replog_fsm {
    void *context;
    /* A committed command, in log order, once per index. Cannot fail; reads no clock. */
    void (*apply)(void *context, uint64_t index, struct bytes command);
    /* Writes the whole state as of the last applied index. */
    enum status (*snapshot)(void *context, struct buf *out);
    /* Replaces the whole state. Snapshot bytes passed their checksum, but check them all the same. */
    enum status (*restore)(void *context, uint64_t index, struct bytes snapshot);
};

struct replog_config {
    const char *folder; /* of the WAL and the snapshots */
    uint8_t cluster_id[16];
    uint64_t raft_id;
    unsigned rank;                                    /* 0..n-1, staggers elections: (d) */
    bool first_start;                                 /* bootstrap: refuses an existing WAL */
    struct replog_member members[REPLOG_MEMBERS_MAX]; /* for bootstrap; later the log says */
    unsigned members_count;
    unsigned election_timeout_ms; /* T: 300 on shared hosts, 200 on control hosts */
    unsigned heartbeat_ms;        /* 50 */
    unsigned snapshot_threshold;  /* entries between snapshots, e.g. 4096 */
    struct replog_peers peers;
    struct replog_fsm fsm;
    uint64_t incarnation;    /* of the cluster; 0: what the log says, 1 at a first start */
    uint64_t seed;           /* of election timeouts; 0: from the system */
    const struct disk *disk; /* NULL: the file system */
    bool disk_inline;        /* no writer's thread: replog_disk_ready writes one batch (simulator, tests) */
    void *context;
    /* Leadership or term changed. `leading` is true only once this term's barrier is applied. */
    void (*on_role)(void *context, bool leading, uint64_t leader_raft_id, uint64_t term);
    void (*fatal)(void *context, enum status status, const char *why) __attribute__((noreturn));
};

struct replog_propose {
    void *context;
    /* OK: applied at index. UNREACHABLE: leadership was lost, unknown whether it will be applied: retry with the same
     * id. */
    void (*done)(struct replog_propose *propose, enum status status, uint64_t index);
};

/* first_start: makes the folder and the log, EXISTS when there is one. Otherwise NOT_FOUND without a log: a coordinator
 * that lost its log must not come back under its old raft id. CONFLICT: another cluster's, voter's or incarnation's
 * log; CORRUPT: damaged; BUSY: another process has it. Reads no clock: time begins with the first event. */
MUST_CHECK enum status replog_open(const struct replog_config *config, struct replog **out, struct error *error);
/* Ends in order: what is queued becomes durable. Proposals that wait are forgotten, their `done` never runs. */
void replog_close(struct replog *replog);
/* As if the process died here: what is queued for the disk is lost (tests). */
void replog_abandon(struct replog *replog);

/* A descriptor that is readable when disk completions wait; then call replog_disk_ready. */
int replog_disk_fd(const struct replog *replog);
void replog_disk_ready(struct replog *replog, uint64_t now_us);
void replog_tick(struct replog *replog, uint64_t now_us); /* now_us: monotonic */
/* A frame from the member that the bus authenticated as raft_id. Malformed frames answer a status and do nothing. */
MUST_CHECK enum status replog_receive(struct replog *replog, uint64_t raft_id, struct bytes frame, uint64_t now_us);

/* Answers OK when the command is under way: `propose` then stays the caller's until done ran. NOT_LEADER and FULL (too
 * many under way): certainly not applied, done never runs. LIMIT, INVALID: no command of 1 to 1 MiB. The command is
 * copied. */
MUST_CHECK enum status replog_propose(struct replog *replog, struct replog_propose *propose, struct bytes command);

bool replog_leading(const struct replog *replog);    /* leader, and this term's barrier is applied */
uint64_t replog_leader(const struct replog *replog); /* raft id, 0: unknown */
uint64_t replog_term(const struct replog *replog);
uint64_t replog_applied(const struct replog *replog);

#endif
