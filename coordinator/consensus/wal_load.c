/* wal_load: reads a log's folder back and makes it ready to be written (wal_files.h); the checks of a restart.
 *
 * Segments are read oldest first and their records replayed into the entries that survive. Only the last segment may
 * end in a torn batch. Afterwards its whole content, with zeros in place of what was torn, is written again and synced:
 * if the process before this one ended over a failed fdatasync, the page cache that was just read may be all there is.
 */
#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "coordinator/consensus/wal_files.h"

enum { SEGMENT_BYTES_MAX = 1 << 30 };

struct loader {
    struct wal_files *files;
    struct wal_loaded *loaded;
    struct buf segment;
    struct buf body;
};

static enum status check_identity(struct wal_files *files, const struct wal_identity *found, struct error *error)
{
    struct wal_identity *expected = &files->identity;
    if (memcmp(found->cluster_id, expected->cluster_id, sizeof found->cluster_id) != 0)
        return error_set(error, STATUS_CONFLICT, "%s holds the log of another cluster", files->folder);
    if (found->raft_id != expected->raft_id)
        return error_set(error, STATUS_CONFLICT, "%s holds the log of raft id %" PRIu64 ", not %" PRIu64, files->folder,
                         found->raft_id, expected->raft_id);
    if (expected->incarnation == 0)
        expected->incarnation = found->incarnation;
    if (found->incarnation != expected->incarnation)
        return error_set(error, STATUS_CONFLICT, "%s holds incarnation %" PRIu64 " of the cluster, not %" PRIu64,
                         files->folder, found->incarnation, expected->incarnation);
    return STATUS_OK;
}

/* ---- replay of records ------------------------------------------------------------------------------------------- */

static void drop_entries_from(struct wal_loaded *loaded, uint64_t index)
{
    while (loaded->entries_count > 0 && loaded->first_index + loaded->entries_count > index)
        mem_free((void *)loaded->entries[--loaded->entries_count].data.data);
}

static bool replay_entry(struct wal_loaded *loaded, const struct wal_record *record)
{
    if (loaded->entries_count == 0) {
        loaded->first_index = record->index;
    } else {
        const struct wal_entry *last = &loaded->entries[loaded->entries_count - 1];
        if (record->index != loaded->first_index + loaded->entries_count || record->term < last->term)
            return false;
    }
    if (record->index == 0 || record->term == 0)
        return false;
    if (loaded->entries_count == loaded->entries_capacity) {
        loaded->entries_capacity = MAX_OF((size_t)256, loaded->entries_capacity * 2);
        loaded->entries = mem_realloc_array(loaded->entries, loaded->entries_capacity, sizeof *loaded->entries);
    }
    loaded->entries[loaded->entries_count++] = (struct wal_entry){
        .term = record->term,
        .type = record->entry_type,
        .data = {mem_dup(record->data.data, record->data.length), record->data.length},
    };
    return true;
}

/* Entries that a truncation takes away no longer keep their segment. */
static void truncate_segments(struct wal_files *files, uint64_t index)
{
    for (size_t i = 0; i < files->segments_count; i++)
        files->segments[i].last_index = MIN_OF(files->segments[i].last_index, index - 1);
}

static bool replay_body(struct loader *loader, struct wal_segment *segment)
{
    struct wal_files *files = loader->files;
    struct cursor cursor = cursor_of(buf_bytes(&loader->body));
    struct wal_record record;
    while (wal_record_next(&cursor, &record)) {
        switch (record.kind) {
        case WAL_ENTRY:
            if (!replay_entry(loader->loaded, &record))
                return false;
            segment->last_index = record.index;
            break;
        case WAL_TRUNCATE:
            if (record.index == 0)
                return false;
            drop_entries_from(loader->loaded, record.index);
            truncate_segments(files, record.index);
            break;
        case WAL_HARD_STATE:
            files->term = record.term;
            files->vote = record.vote;
            break;
        }
    }
    return !cursor.bad;
}

/* ---- segments ---------------------------------------------------------------------------------------------------- */

static enum status check_header(struct loader *loader, size_t number, const struct wal_segment_header *header,
                                struct error *error)
{
    struct wal_files *files = loader->files;
    if (header->sequence != files->segments[number].sequence)
        return error_set(error, STATUS_CORRUPT, "its header says it is segment %" PRIx64, header->sequence);
    if (number == 0) {
        files->position = (struct wal_position){0, header->batch, header->chain};
        files->term = header->term;
        files->vote = header->vote;
    }
    if (header->batch != files->position.batch || header->chain != files->position.chain ||
        header->term != files->term || header->vote != files->vote)
        return error_set(error, STATUS_CORRUPT, "it does not go on where the segment before it ends");
    return STATUS_OK;
}

static enum status read_batches(struct loader *loader, size_t number, struct error *error)
{
    struct wal_files *files = loader->files;
    struct bytes segment = buf_bytes(&loader->segment);
    bool last = number == files->segments_count - 1;
    for (;;) {
        size_t at = files->position.at;
        switch (wal_batch_decode(segment, &files->position, &loader->body)) {
        case WAL_READ_BATCH:
            if (!replay_body(loader, &files->segments[number]))
                return error_set(error, STATUS_CORRUPT, "the batch at %zu holds records out of order", at);
            break;
        case WAL_READ_TORN:
            if (!last)
                return error_set(error, STATUS_CORRUPT, "the batch at %zu is torn, and a segment follows", at);
            LOG_W("consensus", "wal_torn", "segment=%" PRIx64 " at=%zu", files->segments[number].sequence, at);
            return STATUS_OK;
        case WAL_READ_END:
            return STATUS_OK;
        case WAL_READ_DAMAGED:
            return error_set(error, STATUS_CORRUPT,
                             "the batch at %zu is damaged (it was whole once, so it may have been acknowledged); "
                             "remove this coordinator and let it join again under a fresh raft id",
                             at);
        }
    }
}

static enum status read_segment(struct loader *loader, size_t number, struct error *error)
{
    struct wal_files *files = loader->files;
    struct wal_segment_header header;
    char name[DISK_NAME_MAX];
    wal_files_segment_name(name, files->segments[number].sequence);
    buf_clear(&loader->segment);
    enum status status =
        files->disk->read(files->disk->context, files->folder, name, SEGMENT_BYTES_MAX, &loader->segment, error);
    if (status != STATUS_OK)
        return status;
    if (number > 0 && files->segments[number].sequence != files->segments[number - 1].sequence + 1)
        return error_set(error, STATUS_CORRUPT, "a segment is missing before %s/%s", files->folder, name);
    status = wal_segment_decode(buf_bytes(&loader->segment), &header, error);
    if (status == STATUS_OK)
        status = check_identity(files, &header.identity, error);
    if (status == STATUS_CONFLICT)
        return status;
    if (status == STATUS_OK)
        status = check_header(loader, number, &header, error);
    files->position.at = WAL_SEGMENT_HEADER_BYTES;
    if (status == STATUS_OK)
        status = read_batches(loader, number, error);
    if (status != STATUS_OK)
        error_prefix(error, "%s/%s", files->folder, name);
    return status;
}

/* Writes the last segment's content again, zeros behind it, and syncs it: see the head of this file. */
static enum status rewrite_last(struct loader *loader, struct error *error)
{
    struct wal_files *files = loader->files;
    const struct disk *disk = files->disk;
    char name[DISK_NAME_MAX];
    memset(loader->segment.data + files->position.at, 0, loader->segment.length - files->position.at);
    wal_files_segment_name(name, files->segments[files->segments_count - 1].sequence);
    enum status status = disk->open(disk->context, files->folder, name, &files->current, error);
    if (status != STATUS_OK)
        return status;
    files->current_bytes = loader->segment.length;
    status = disk->write(disk->context, files->current, 0, buf_bytes(&loader->segment), error);
    if (status == STATUS_OK)
        status = disk->sync(disk->context, files->current, error);
    return status;
}

/* ---- snapshots --------------------------------------------------------------------------------------------------- */

static enum status load_snapshot(struct loader *loader, struct error *error)
{
    struct wal_files *files = loader->files;
    struct wal_loaded *loaded = loader->loaded;
    struct wal_identity identity;
    char name[DISK_NAME_MAX];
    if (files->snapshots_count == 0)
        return STATUS_OK;
    uint64_t index = files->snapshots[files->snapshots_count - 1];
    wal_files_snapshot_name(name, index);
    enum status status = files->disk->read(files->disk->context, files->folder, name, WAL_SNAPSHOT_BYTES_MAX,
                                           &loaded->snapshot_file, error);
    if (status == STATUS_OK)
        status = wal_snapshot_decode(buf_bytes(&loaded->snapshot_file), &identity, &loaded->snapshot, error);
    if (status == STATUS_OK && loaded->snapshot.index != index)
        status = error_set(error, STATUS_CORRUPT, "its header says index %" PRIu64, loaded->snapshot.index);
    if (status != STATUS_OK) {
        error_prefix(error, "%s/%s", files->folder, name);
        return status;
    }
    loaded->has_snapshot = true;
    return check_identity(files, &identity, error);
}

/* Whether the log leads up to the snapshot: false when it ends before it or has another term there. */
static bool log_holds_snapshot(const struct wal_loaded *loaded)
{
    uint64_t index = loaded->snapshot.index;
    if (loaded->first_index + loaded->entries_count <= index)
        return false;
    return loaded->first_index > index || loaded->entries[index - loaded->first_index].term == loaded->snapshot.term;
}

/* Makes log and snapshot fit; a log that the snapshot replaces is dropped for good before it is built upon. */
static enum status reconcile(struct loader *loader, struct error *error)
{
    struct wal_files *files = loader->files;
    struct wal_loaded *loaded = loader->loaded;
    uint64_t begin = loaded->has_snapshot ? loaded->snapshot.index + 1 : 1;
    enum status status = STATUS_OK;
    if (loaded->entries_count > 0 && loaded->has_snapshot && !log_holds_snapshot(loaded)) {
        struct wal_record record = {.kind = WAL_TRUNCATE, .index = loaded->first_index};
        LOG_I("consensus", "wal_log_discarded", "snapshot=%" PRIu64, loaded->snapshot.index);
        buf_clear(&loader->body);
        wal_record_encode(&loader->body, &record);
        struct wal_group group = {.records = buf_bytes(&loader->body), .truncate_index = record.index};
        status = wal_files_write(files, &group, error);
        drop_entries_from(loaded, record.index);
    }
    if (loaded->entries_count == 0)
        loaded->first_index = begin;
    if (status == STATUS_OK && loaded->first_index > begin)
        status = error_set(error, STATUS_CORRUPT, "%s: entries %" PRIu64 " to %" PRIu64 " are missing", files->folder,
                           begin, loaded->first_index - 1);
    return status;
}

enum status wal_files_load(struct wal_files *files, struct wal_loaded *loaded, struct error *error)
{
    struct loader loader = {.files = files, .loaded = loaded};
    *loaded = (struct wal_loaded){0};
    buf_init(&loaded->snapshot_file, WAL_SNAPSHOT_BYTES_MAX);
    buf_init(&loader.segment, SEGMENT_BYTES_MAX);
    buf_init(&loader.body, SEGMENT_BYTES_MAX);
    enum status status = STATUS_OK;
    if (files->segments_count == 0)
        status = error_set(error, files->snapshots_count == 0 ? STATUS_NOT_FOUND : STATUS_CORRUPT,
                           "%s holds no log; a coordinator that lost its log must not come back under its old raft id",
                           files->folder);
    for (size_t i = 0; status == STATUS_OK && i < files->segments_count; i++)
        status = read_segment(&loader, i, error);
    if (status == STATUS_OK)
        status = load_snapshot(&loader, error);
    if (status == STATUS_OK)
        status = rewrite_last(&loader, error);
    if (status == STATUS_OK)
        status = reconcile(&loader, error);
    loaded->term = files->term;
    loaded->vote = files->vote;
    buf_free(&loader.segment);
    buf_free(&loader.body);
    if (status != STATUS_OK)
        wal_loaded_free(loaded);
    return status;
}

void wal_loaded_free(struct wal_loaded *loaded)
{
    drop_entries_from(loaded, 0);
    mem_free(loaded->entries);
    buf_free(&loaded->snapshot_file);
    *loaded = (struct wal_loaded){0};
}

enum status wal_files_check_absent(struct wal_files *files, struct error *error)
{
    struct buf content;
    char name[DISK_NAME_MAX];
    struct wal_segment_header header;
    if (files->segments_count == 0 && files->snapshots_count == 0)
        return STATUS_OK;
    buf_init(&content, SEGMENT_BYTES_MAX);
    enum status status = STATUS_OK;
    if (files->segments_count > 0) {
        wal_files_segment_name(name, files->segments[0].sequence);
        status = files->disk->read(files->disk->context, files->folder, name, SEGMENT_BYTES_MAX, &content, error);
        if (status == STATUS_OK)
            status = wal_segment_decode(buf_bytes(&content), &header, error);
        if (status == STATUS_OK)
            status = check_identity(files, &header.identity, error);
    }
    buf_free(&content);
    if (status != STATUS_OK)
        return status;
    return error_set(error, STATUS_EXISTS, "%s already holds a log: this is not a first start", files->folder);
}
