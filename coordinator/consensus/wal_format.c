/* wal_format: see wal_format.h. Every length is checked against the bytes that are there before it is used. */
#include "coordinator/consensus/wal_format.h"

#include <string.h>

#include "base/check.h"
#include "base/hash.h"

enum { FORMAT = 1, SNAPSHOT_HEADER_BYTES = 96 };

static const uint8_t segment_magic[8] = {'S', 'H', 'O', 'A', 'L', 'W', 'A', 'L'};
static const uint8_t snapshot_magic[8] = {'S', 'H', 'O', 'A', 'L', 'S', 'N', 'P'};
static const uint32_t batch_magic = 0x48435442;          /* "BTCH" */
static const uint64_t batch_end = 0xa5c3b796d2e15a69ULL; /* every byte has several bits set */

static void store_identity(uint8_t *to, const struct wal_identity *identity)
{
    memcpy(to, identity->cluster_id, 16);
    store_u64le(to + 16, identity->raft_id);
    store_u64le(to + 24, identity->incarnation);
}

static void load_identity(const uint8_t *from, struct wal_identity *identity)
{
    memcpy(identity->cluster_id, from, 16);
    identity->raft_id = load_u64le(from + 16);
    identity->incarnation = load_u64le(from + 24);
}

/* ---- segment header ---------------------------------------------------------------------------------------------- */

void wal_segment_encode(uint8_t to[WAL_SEGMENT_HEADER_BYTES], const struct wal_segment_header *header)
{
    memset(to, 0, WAL_SEGMENT_HEADER_BYTES);
    memcpy(to, segment_magic, sizeof segment_magic);
    store_u32le(to + 8, FORMAT);
    store_identity(to + 16, &header->identity);
    store_u64le(to + 48, header->sequence);
    store_u64le(to + 56, header->bytes);
    store_u64le(to + 64, header->batch);
    store_u64le(to + 72, header->term);
    store_u64le(to + 80, header->vote);
    store_u32le(to + 88, header->chain);
    store_u32le(to + 12, hash_crc32c(0, to, WAL_SEGMENT_HEADER_BYTES)); /* its own place counts as zero */
}

enum status wal_segment_decode(struct bytes segment, struct wal_segment_header *out, struct error *error)
{
    uint8_t header[WAL_SEGMENT_HEADER_BYTES];
    if (segment.length < sizeof header)
        return error_set(error, STATUS_CORRUPT, "the segment is shorter than its header");
    memcpy(header, segment.data, sizeof header);
    if (memcmp(header, segment_magic, sizeof segment_magic) != 0)
        return error_set(error, STATUS_CORRUPT, "not a segment of a write-ahead log");
    uint32_t format = load_u32le(header + 8);
    uint32_t crc = load_u32le(header + 12);
    store_u32le(header + 12, 0);
    if (hash_crc32c(0, header, sizeof header) != crc)
        return error_set(error, STATUS_CORRUPT, "the segment's header fails its checksum");
    if (format != FORMAT)
        return error_set(error, STATUS_UNSUPPORTED, "the segment has format %u, this shoal reads %d", format, FORMAT);
    load_identity(header + 16, &out->identity);
    out->sequence = load_u64le(header + 48);
    out->bytes = load_u64le(header + 56);
    out->batch = load_u64le(header + 64);
    out->term = load_u64le(header + 72);
    out->vote = load_u64le(header + 80);
    out->chain = load_u32le(header + 88);
    if (out->bytes != segment.length)
        return error_set(error, STATUS_CORRUPT, "the segment was made with %llu bytes and has %zu",
                         (unsigned long long)out->bytes, segment.length);
    return STATUS_OK;
}

/* ---- records ----------------------------------------------------------------------------------------------------- */

void wal_record_encode(struct buf *out, const struct wal_record *record)
{
    static const uint8_t zeros[8];
    uint8_t header[WAL_RECORD_HEADER_BYTES] = {0};
    CHECK(record->data.length <= UINT32_MAX);
    header[0] = (uint8_t)record->kind;
    header[1] = record->entry_type;
    store_u32le(header + 4, (uint32_t)record->data.length);
    store_u64le(header + 8, record->kind == WAL_HARD_STATE ? record->vote : record->index);
    store_u64le(header + 16, record->term);
    buf_append(out, header, sizeof header);
    buf_append_bytes(out, record->data);
    buf_append(out, zeros, (8 - record->data.length % 8) % 8);
    CHECK(!out->overflow);
}

bool wal_record_next(struct cursor *body, struct wal_record *out)
{
    if (cursor_left(body) == 0)
        return false;
    uint8_t kind = cursor_u8(body);
    uint8_t entry_type = cursor_u8(body);
    uint16_t zero = cursor_u16le(body);
    uint32_t length = cursor_u32le(body);
    uint64_t first = cursor_u64le(body);
    uint64_t term = cursor_u64le(body);
    struct bytes data = cursor_take(body, length);
    cursor_skip(body, (8 - length % 8) % 8);
    if (kind < WAL_ENTRY || kind > WAL_HARD_STATE || zero != 0 || (kind != WAL_ENTRY && length != 0))
        body->bad = true;
    if (body->bad)
        return false;
    *out =
        (struct wal_record){.kind = (enum wal_record_kind)kind, .entry_type = entry_type, .term = term, .data = data};
    if (kind == WAL_HARD_STATE)
        out->vote = first;
    else
        out->index = first;
    return true;
}

/* ---- batches ----------------------------------------------------------------------------------------------------- */

size_t wal_batch_bytes(size_t body_length)
{
    return WAL_BATCH_HEADER_BYTES + body_length + WAL_BATCH_END_BYTES;
}

/* XORs the body with words of splitmix64 (Steele, Lea & Flood 2014) seeded by the batch's number; its own inverse. */
static void whiten(uint8_t *body, size_t length, uint64_t number)
{
    uint64_t state = number * 0x9e3779b97f4a7c15ULL + 0x5de1a7f3c9b24681ULL;
    for (size_t i = 0; i < length; i += 8) {
        uint64_t word = state += 0x9e3779b97f4a7c15ULL;
        word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9ULL;
        word = (word ^ (word >> 27)) * 0x94d049bb133111ebULL;
        store_u64le(body + i, load_u64le(body + i) ^ word ^ (word >> 31));
    }
}

static uint32_t chain_over(uint32_t chain, const uint8_t *header, struct bytes body)
{
    return hash_crc32c(hash_crc32c(chain, header, 16), body.data, body.length);
}

void wal_batch_encode(struct buf *out, struct wal_position *position, struct bytes body)
{
    CHECK(body.length % 8 == 0 && body.length > 0 && body.length <= UINT32_MAX);
    size_t bytes = wal_batch_bytes(body.length);
    uint8_t *to = buf_reserve(out, bytes);
    CHECK(to != NULL);
    store_u32le(to, batch_magic);
    store_u32le(to + 4, (uint32_t)body.length);
    store_u64le(to + 8, position->batch);
    position->chain = chain_over(position->chain, to, body);
    store_u32le(to + 16, position->chain);
    store_u32le(to + 20, hash_crc32c(0, to, 20));
    memcpy(to + WAL_BATCH_HEADER_BYTES, body.data, body.length);
    whiten(to + WAL_BATCH_HEADER_BYTES, body.length, position->batch);
    store_u64le(to + WAL_BATCH_HEADER_BYTES + body.length, batch_end);
    out->length += bytes;
    position->at += bytes;
    position->batch++;
}

static bool all_zero(struct bytes segment, size_t from, size_t to)
{
    const uint8_t *data = segment.data + from;
    return from == to || (data[0] == 0 && memcmp(data, data + 1, to - from - 1) == 0);
}

/* Whether a sector's share of [from, to) is all zero, that is, was never written. */
static bool has_missing_sector(struct bytes segment, size_t from, size_t to)
{
    while (from < to) {
        size_t end = MIN_OF(to, (from / WAL_SECTOR_BYTES + 1) * WAL_SECTOR_BYTES);
        if (all_zero(segment, from, end))
            return true;
        from = end;
    }
    return false;
}

static bool header_valid(const uint8_t *header)
{
    return load_u32le(header) == batch_magic && hash_crc32c(0, header, 20) == load_u32le(header + 20);
}

/* A batch's header behind a broken one proves that the broken one had been synced. */
static bool later_batch_exists(struct bytes segment, size_t from, uint64_t number)
{
    for (size_t at = from; at + WAL_BATCH_HEADER_BYTES <= segment.length; at += 8) {
        if (header_valid(segment.data + at) && load_u64le(segment.data + at + 8) > number)
            return true;
    }
    return false;
}

/* The header at `at` is not valid and not everything from there on is zero. */
static enum wal_read judge_header(struct bytes segment, size_t at, uint64_t number)
{
    size_t header_end = MIN_OF(at + WAL_BATCH_HEADER_BYTES, segment.length);
    if (all_zero(segment, header_end, segment.length))
        return WAL_READ_TORN; /* a written batch ends in a mark, so this one's bytes stop within its header */
    /* Bytes of a body without a header: the header's sector, or one of its two, must be missing as a whole. */
    size_t sector_end = MIN_OF((at / WAL_SECTOR_BYTES + 1) * WAL_SECTOR_BYTES, segment.length);
    bool missing = all_zero(segment, at, sector_end);
    if (!missing && sector_end < header_end)
        missing = all_zero(segment, sector_end, MIN_OF(sector_end + WAL_SECTOR_BYTES, segment.length));
    return missing && !later_batch_exists(segment, at + 8, number) ? WAL_READ_TORN : WAL_READ_DAMAGED;
}

enum wal_read wal_batch_decode(struct bytes segment, struct wal_position *position, struct buf *body)
{
    size_t at = position->at;
    if (at >= segment.length || all_zero(segment, at, segment.length))
        return WAL_READ_END;
    if (segment.length - at < WAL_BATCH_HEADER_BYTES || !header_valid(segment.data + at))
        return judge_header(segment, at, position->batch);
    const uint8_t *header = segment.data + at;
    size_t length = load_u32le(header + 4);
    if (load_u64le(header + 8) != position->batch || length == 0 || length % 8 != 0 ||
        wal_batch_bytes(length) > segment.length - at)
        return WAL_READ_DAMAGED;
    size_t end = at + wal_batch_bytes(length);
    buf_clear(body);
    buf_append(body, header + WAL_BATCH_HEADER_BYTES, length);
    CHECK(!body->overflow);
    whiten(body->data, length, position->batch);
    uint32_t chain = chain_over(position->chain, header, buf_bytes(body));
    if (chain == load_u32le(header + 16) && load_u64le(segment.data + end - WAL_BATCH_END_BYTES) == batch_end) {
        *position = (struct wal_position){end, position->batch + 1, chain};
        return WAL_READ_BATCH;
    }
    bool cut = segment.data[end - 1] == 0 || has_missing_sector(segment, at, end);
    return cut && all_zero(segment, end, segment.length) ? WAL_READ_TORN : WAL_READ_DAMAGED;
}

/* ---- snapshots --------------------------------------------------------------------------------------------------- */

void wal_snapshot_encode(struct buf *out, const struct wal_identity *identity, const struct wal_snapshot *snapshot)
{
    uint8_t header[SNAPSHOT_HEADER_BYTES] = {0};
    size_t start = out->length;
    memcpy(header, snapshot_magic, sizeof snapshot_magic);
    store_u32le(header + 8, FORMAT);
    store_identity(header + 16, identity);
    store_u64le(header + 48, snapshot->index);
    store_u64le(header + 56, snapshot->term);
    store_u64le(header + 64, snapshot->configuration_index);
    store_u64le(header + 72, snapshot->configuration.length);
    store_u64le(header + 80, snapshot->data.length);
    buf_append(out, header, sizeof header);
    buf_append_bytes(out, snapshot->configuration);
    buf_append_bytes(out, snapshot->data);
    CHECK(!out->overflow);
    uint8_t crc[4];
    store_u32le(crc, hash_crc32c(0, out->data + start, out->length - start));
    buf_append(out, crc, sizeof crc);
    CHECK(!out->overflow);
}

enum status wal_snapshot_decode(struct bytes file, struct wal_identity *identity, struct wal_snapshot *out,
                                struct error *error)
{
    if (file.length < SNAPSHOT_HEADER_BYTES + 4 || memcmp(file.data, snapshot_magic, sizeof snapshot_magic) != 0)
        return error_set(error, STATUS_CORRUPT, "not a snapshot");
    if (hash_crc32c(0, file.data, file.length - 4) != load_u32le(file.data + file.length - 4))
        return error_set(error, STATUS_CORRUPT, "the snapshot fails its checksum");
    if (load_u32le(file.data + 8) != FORMAT)
        return error_set(error, STATUS_UNSUPPORTED, "the snapshot has format %u, this shoal reads %d",
                         load_u32le(file.data + 8), FORMAT);
    struct cursor cursor = cursor_of(bytes_of(file.data, file.length - 4));
    cursor_skip(&cursor, SNAPSHOT_HEADER_BYTES);
    load_identity(file.data + 16, identity);
    out->index = load_u64le(file.data + 48);
    out->term = load_u64le(file.data + 56);
    out->configuration_index = load_u64le(file.data + 64);
    out->configuration = cursor_take(&cursor, load_u64le(file.data + 72));
    out->data = cursor_take(&cursor, load_u64le(file.data + 80));
    if (cursor.bad || cursor_left(&cursor) != 0 || out->index == 0 || out->term == 0 ||
        out->configuration_index > out->index)
        return error_set(error, STATUS_CORRUPT, "the snapshot's header contradicts itself");
    return STATUS_OK;
}
