/* wal_files: the log's folder as its writer sees it: segments, the spare one, snapshots.
 *
 *   lock                       held while the log is open
 *   segment-0000000000000007   sequence in hexadecimal; the last one is being written
 *   spare                      a segment of zeros, synced, that only waits for its header and its name
 *   snapshot-000000000000002a  index in hexadecimal; the newest counts, the one before it stays for readers
 *
 * Used by one thread at a time: first by the one that opens the log, then by the writer. */
#ifndef SHOAL_COORDINATOR_CONSENSUS_WAL_FILES_H
#define SHOAL_COORDINATOR_CONSENSUS_WAL_FILES_H

#include "coordinator/consensus/wal.h"

/* A segment on disk; `last_index` is the highest entry in it that is still part of the log. */
struct wal_segment {
    uint64_t sequence;
    uint64_t last_index;
};

struct wal_files {
    const struct disk *disk;
    char *folder;
    struct wal_identity identity;
    size_t segment_bytes;
    int lock;
    int current;          /* the last segment's file, -1: none open */
    size_t current_bytes; /* its size */
    bool has_spare;
    struct wal_position position; /* where the next batch goes */
    uint64_t term, vote;          /* hard state as written */
    struct wal_segment *segments;
    size_t segments_count;
    uint64_t *snapshots; /* indexes, ascending */
    size_t snapshots_count;
    struct buf scratch;
};

/* One write of the queue, in the writer's hands. */
struct wal_group {
    struct bytes records;
    uint64_t last_index;     /* the highest entry in it, 0: none */
    uint64_t truncate_index; /* the lowest truncation in it, 0: none */
    bool has_hard_state;
    uint64_t term, vote;
};

/* Lists and locks the folder (which must exist), removes leftovers of unfinished work, syncs it. */
MUST_CHECK enum status wal_files_open(struct wal_files *files, const struct wal_config *config, struct error *error);
void wal_files_close(struct wal_files *files);
/* Reads everything back, repairs a torn end and makes the last segment ready to be written. */
MUST_CHECK enum status wal_files_load(struct wal_files *files, struct wal_loaded *loaded, struct error *error);

/* EXISTS when the folder holds a log of this voter, CONFLICT when of another voter or cluster. */
MUST_CHECK enum status wal_files_check_absent(struct wal_files *files, struct error *error);

/* One batch, durable when this returns; the next segment is begun where the current one has no room (or is none). */
MUST_CHECK enum status wal_files_write(struct wal_files *files, const struct wal_group *group, struct error *error);
MUST_CHECK enum status wal_files_put_snapshot(struct wal_files *files, uint64_t index, struct bytes file,
                                              struct error *error);
/* Removes the segments that hold nothing above `index`, and all snapshots but the newest two. */
MUST_CHECK enum status wal_files_remove_before(struct wal_files *files, uint64_t index, struct error *error);
/* Makes the spare segment if it will be needed soon and is not there. */
MUST_CHECK enum status wal_files_prepare(struct wal_files *files, struct error *error);
void wal_files_segment_name(char name[DISK_NAME_MAX], uint64_t sequence);
void wal_files_snapshot_name(char name[DISK_NAME_MAX], uint64_t index);

#endif
