/* wal: the durable side of one voter: log entries, hard state (term, vote) and snapshots in one folder.
 *
 * Work is queued by the caller's thread and done in order by the log's own writer thread: what waits is taken as one
 * batch, written, synced, and only then counted as durable. Every call that queues returns a ticket; tickets complete
 * in order. `wal_fd` becomes readable when some completed; `wal_collect` then says up to which. A snapshot goes to a
 * file of its own: written, synced, renamed, the folder synced; then segments that only hold entries before it go.
 *
 *   caller:  wal_append ... -> ticket        wal_fd readable -> wal_collect -> durable ticket
 *                   | jobs (mutex)                    ^ eventfd
 *   writer:         +--> batch -> write -> fdatasync -+
 *
 * Failures: after the first failed operation nothing completes any more and wal_collect answers its status for ever.
 * The process must end: after a failed fdatasync the page cache shows bytes that the medium may not hold (Rebello et
 * al. 2020). wal_open therefore rewrites and syncs the last segment before it trusts it. A log that was damaged, rather
 * than torn by a crash (wal_format.h), is refused with STATUS_CORRUPT; one of another cluster or voter with CONFLICT.
 */
#ifndef SHOAL_COORDINATOR_CONSENSUS_WAL_H
#define SHOAL_COORDINATOR_CONSENSUS_WAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/status.h"
#include "coordinator/consensus/disk.h"
#include "coordinator/consensus/wal_format.h"

enum {
    WAL_SEGMENT_BYTES = 4 << 20,      /* when the configuration says 0 */
    WAL_SNAPSHOT_BYTES_MAX = 1 << 30, /* larger files are not read */
};

struct wal;

struct wal_config {
    const struct disk *disk; /* NULL: disk_posix() */
    const char *folder;
    struct wal_identity identity;
    size_t segment_bytes;
    bool inline_writes; /* no thread: wal_work does what is queued (simulator and tests) */
};

struct wal_entry {
    uint64_t term;
    uint8_t type;
    struct bytes data;
};

/* What was on disk. Entries are those of [first_index, first_index + count); first_index is at most one above the
 * snapshot's, or 1 without one. */
struct wal_loaded {
    uint64_t term;
    uint64_t vote;
    bool has_snapshot;
    struct wal_snapshot snapshot; /* views into snapshot_file */
    struct buf snapshot_file;
    uint64_t first_index;
    size_t entries_count;
    size_t entries_capacity;
    struct wal_entry *entries; /* their data are allocated one by one */
};

/* Makes the folder and a log whose hard state is (term, 0) and whose entry 1 is `first`; all of it or nothing. EXISTS
 * when the folder holds any log or snapshot of this cluster, CONFLICT when of another. */
MUST_CHECK enum status wal_create(const struct wal_config *config, uint64_t term, const struct wal_entry *first,
                                  struct error *error);
/* NOT_FOUND without a log; BUSY when another process has it. */
MUST_CHECK enum status wal_open(const struct wal_config *config, struct wal **out, struct wal_loaded *loaded,
                                struct error *error);
void wal_loaded_free(struct wal_loaded *loaded);
void wal_close(struct wal *wal);   /* does what is queued first */
void wal_abandon(struct wal *wal); /* forgets what is queued: a crash, for tests */

/* The entries get the next indexes; their data are copied. */
uint64_t wal_append(struct wal *wal, const struct wal_entry *entries, size_t count);
uint64_t wal_truncate(struct wal *wal, uint64_t index); /* drops index and everything behind it */
uint64_t wal_put_hard_state(struct wal *wal, uint64_t term, uint64_t vote);
/* Keeps `trailing` entries before the snapshot. 0 means: the snapshot replaces the whole log, the next entry is the one
 * behind it. */
uint64_t wal_put_snapshot(struct wal *wal, const struct wal_snapshot *snapshot, uint64_t trailing);

uint64_t wal_next_index(const struct wal *wal);
uint64_t wal_ticket(const struct wal *wal); /* the last one given out */
size_t wal_queued_bytes(struct wal *wal);   /* not yet taken by the writer */

int wal_fd(const struct wal *wal);
MUST_CHECK enum status wal_collect(struct wal *wal, uint64_t *durable, struct error *error);
/* Blocks until everything queued so far is durable. */
MUST_CHECK enum status wal_flush(struct wal *wal, struct error *error);
bool wal_work(struct wal *wal); /* inline_writes: does one batch or snapshot; false when nothing waited */

/* Reads the snapshot of that index back; the views point into `file`. For the caller's thread: a snapshot's file stays
 * until the second one after it is durable. */
MUST_CHECK enum status wal_read_snapshot(const struct wal *wal, uint64_t index, struct buf *file,
                                         struct wal_snapshot *out, struct error *error);

#endif
