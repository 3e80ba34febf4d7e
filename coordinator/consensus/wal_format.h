/* wal_format: the bytes of the write-ahead log, as pure functions over memory.
 *
 * A segment is a file of fixed size that was filled with zeros and synced before its first use. It holds one header and
 * then batches, each written by one write and synced before the next one begins:
 *
 *   segment:  magic 8 | format u32 | CRC u32 | cluster id 16 | raft id u64 | incarnation u64 | sequence u64 |
 *             bytes u64 | first batch u64 | term u64 | vote u64 | chain u32 | zeros up to 128
 *   batch:    magic u32 | body length u32 | number u64 | chain u32 | header CRC u32 | body | end mark u64
 *   record:   kind u8 | entry type u8 | zero u16 | payload length u32 | two u64 | payload | zeros up to a multiple of 8
 *
 * All integers are little-endian; a CRC is CRC-32C (Castagnoli). `chain` is the CRC of everything so far: it starts
 * from the previous batch's and covers magic, length, number and body, so that no batch can be lost, repeated or
 * swapped.
 *
 * Torn or damaged: a crash leaves a batch of which some sectors were written and others still hold their zeros; such a
 * batch was never acknowledged and is cut off. Any other wrong byte was once right, hence perhaps acknowledged, and the
 * log refuses to be read. To keep the two apart, a body is stored XORed with a stream of pseudo-random words, so that
 * a sector of zeros can only be one that was never written, whatever the payload; and the end mark has no zero byte. */
#ifndef SHOAL_COORDINATOR_CONSENSUS_WAL_FORMAT_H
#define SHOAL_COORDINATOR_CONSENSUS_WAL_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/status.h"

enum {
    WAL_SEGMENT_HEADER_BYTES = 128,
    WAL_BATCH_HEADER_BYTES = 24,
    WAL_BATCH_END_BYTES = 8,
    WAL_RECORD_HEADER_BYTES = 24,
    WAL_SECTOR_BYTES = 512, /* what the medium writes as a whole */
};

struct wal_identity {
    uint8_t cluster_id[16];
    uint64_t raft_id;
    uint64_t incarnation; /* of the cluster: restore and disaster recovery bump it */
};

struct wal_segment_header {
    struct wal_identity identity;
    uint64_t sequence; /* grows by one from segment to segment */
    uint64_t bytes;    /* of the file */
    uint64_t batch;    /* number of the first batch */
    uint64_t term;     /* hard state before the first batch */
    uint64_t vote;
    uint32_t chain; /* before the first batch */
};

enum wal_record_kind { WAL_ENTRY = 1, WAL_TRUNCATE, WAL_HARD_STATE };

struct wal_record {
    enum wal_record_kind kind;
    uint8_t entry_type;
    uint64_t index;    /* ENTRY, TRUNCATE: the first index that goes */
    uint64_t term;     /* ENTRY, HARD_STATE */
    uint64_t vote;     /* HARD_STATE */
    struct bytes data; /* ENTRY */
};

enum wal_read {
    WAL_READ_BATCH,
    WAL_READ_END,     /* nothing but zeros from here on */
    WAL_READ_TORN,    /* the last batch lacks bytes, never acknowledged: cut it off here */
    WAL_READ_DAMAGED, /* bytes that were whole once are not any more */
};

/* Where a reader stands in a segment. */
struct wal_position {
    size_t at;
    uint64_t batch; /* number of the batch that begins there */
    uint32_t chain;
};

struct wal_snapshot {
    uint64_t index;
    uint64_t term;
    uint64_t configuration_index;
    struct bytes configuration; /* as libraft encodes it */
    struct bytes data;
};

void wal_segment_encode(uint8_t to[WAL_SEGMENT_HEADER_BYTES], const struct wal_segment_header *header);
/* Checks magic, format, CRC and that the file has the size it says. */
MUST_CHECK enum status wal_segment_decode(struct bytes segment, struct wal_segment_header *out, struct error *error);

void wal_record_encode(struct buf *out, const struct wal_record *record);
/* The next record of a body; false at its end, or when it breaks the format (then cursor->bad). */
bool wal_record_next(struct cursor *body, struct wal_record *out);

/* Appends the batch that carries `body` (a multiple of 8 long) and moves *position behind it. */
void wal_batch_encode(struct buf *out, struct wal_position *position, struct bytes body);
/* Reads the batch at *position; on WAL_READ_BATCH the plain body replaces what `body` held and *position moves on. */
enum wal_read wal_batch_decode(struct bytes segment, struct wal_position *position, struct buf *body);
size_t wal_batch_bytes(size_t body_length); /* of the whole batch */

/* A snapshot's file: header, configuration, data, CRC. The decoded views point into `file`. */
void wal_snapshot_encode(struct buf *out, const struct wal_identity *identity, const struct wal_snapshot *snapshot);
MUST_CHECK enum status wal_snapshot_decode(struct bytes file, struct wal_identity *identity, struct wal_snapshot *out,
                                           struct error *error);

#endif
