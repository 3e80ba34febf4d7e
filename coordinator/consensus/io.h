/* io: our raft_io: the write-ahead log below, the peers beside.
 *
 *   libraft (through safe) -> io: append, truncate, hard state, snapshots -> wal.h, tickets
 *                          -> io: send -> outbox: held until the hard state it depends on is durable -> peers
 *   wal completions -> io_disk_ready -> libraft's callbacks, in order
 *   frames          -> io_receive    -> rpc_decode -> libraft
 *
 * No callback of libraft's runs before the call that asked for it has returned: every entry point (tick, receive,
 * disk_ready) ends in a loop that runs what is due. Any failure of the log is fatal. One thread. */
#ifndef SHOAL_COORDINATOR_CONSENSUS_IO_H
#define SHOAL_COORDINATOR_CONSENSUS_IO_H

#include <raft.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/status.h"
#include "coordinator/consensus/assembly.h"
#include "coordinator/consensus/outbox.h"
#include "coordinator/consensus/replog.h"
#include "coordinator/consensus/rpc.h"
#include "coordinator/consensus/wal.h"

enum { IO_BACKLOG_BYTES_MAX = 64 << 20 }; /* entries that wait for the disk; above it, AppendEntries are dropped */

struct io {
    struct raft_io raft; /* for safe_init */
    struct wal *wal;
    struct wal_loaded loaded; /* until libraft took it */
    void *context;
    void (*fatal)(void *context, enum status status, const char *why) __attribute__((noreturn));
    raft_io_tick_cb tick;
    raft_io_recv_cb recv;
    uint64_t now_us;    /* libraft's: counts from a start of its own */
    uint64_t origin_us; /* the caller's clock at its first event */
    uint64_t durable;   /* ticket */
    uint64_t hard_state_ticket;
    raft_term term;
    raft_index snapshot_index;  /* of the newest durable snapshot */
    raft_index restoring_index; /* of the snapshot that libraft restores or will restore next */
    struct list writes;         /* io_write: appends and snapshots on their way to the disk */
    struct list gets;           /* io_get */
    struct outbox outbox;
    struct assemblies assemblies;
    bool abandoned;
};

/* Takes the open log over, and `loaded` with it. */
void io_init(struct io *io, struct wal *wal, struct wal_loaded *loaded, const struct replog_config *config);

void io_tick(struct io *io, uint64_t now_us);
void io_disk_ready(struct io *io, uint64_t now_us);
MUST_CHECK enum status io_receive(struct io *io, raft_id from, struct bytes frame, uint64_t now_us);
void io_settle(struct io *io); /* after a raft_* call from outside: sends what it left in the outbox */
void io_flush(struct io *io);  /* blocks until everything queued is durable */

#endif
