/* wal_files: see wal_files.h. */
#include "coordinator/consensus/wal_files.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"

enum { SEGMENT_BYTES_MAX = 1 << 30, SCRATCH_BYTES_MAX = 1 << 30 };

static const char spare_name[] = "spare";
static const char snapshot_partial_name[] = "snapshot-partial";

void wal_files_segment_name(char name[DISK_NAME_MAX], uint64_t sequence)
{
    snprintf(name, DISK_NAME_MAX, "segment-%016" PRIx64, sequence);
}

void wal_files_snapshot_name(char name[DISK_NAME_MAX], uint64_t index)
{
    snprintf(name, DISK_NAME_MAX, "snapshot-%016" PRIx64, index);
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

struct listing {
    struct wal_files *files;
    bool has_leftover[2]; /* spare, partial snapshot */
};

static bool parse_name(const char *name, const char *prefix, uint64_t *number)
{
    size_t length = strlen(prefix);
    char *end;
    if (strncmp(name, prefix, length) != 0 || strlen(name) != length + 16)
        return false;
    *number = strtoull(name + length, &end, 16);
    return *end == 0;
}

static void on_name(void *context, const char *name)
{
    struct listing *listing = context;
    struct wal_files *files = listing->files;
    uint64_t number;
    if (parse_name(name, "segment-", &number)) {
        files->segments = mem_realloc_array(files->segments, files->segments_count + 1, sizeof *files->segments);
        files->segments[files->segments_count++] = (struct wal_segment){.sequence = number};
    } else if (parse_name(name, "snapshot-", &number)) {
        files->snapshots = mem_realloc_array(files->snapshots, files->snapshots_count + 1, sizeof *files->snapshots);
        files->snapshots[files->snapshots_count++] = number;
    } else if (strcmp(name, spare_name) == 0) {
        listing->has_leftover[0] = true;
    } else if (strcmp(name, snapshot_partial_name) == 0) {
        listing->has_leftover[1] = true;
    }
}

static int compare_u64(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b; /* also of a wal_segment: its first field is the sequence */
    return *x < *y ? -1 : *x > *y;
}

static enum status list_folder(struct wal_files *files, struct error *error)
{
    const struct disk *disk = files->disk;
    struct listing listing = {.files = files};
    enum status status = disk->list(disk->context, files->folder, on_name, &listing, error);
    if (status == STATUS_OK && listing.has_leftover[0])
        status = disk->remove(disk->context, files->folder, spare_name, error);
    if (status == STATUS_OK && listing.has_leftover[1])
        status = disk->remove(disk->context, files->folder, snapshot_partial_name, error);
    if (status == STATUS_OK) /* a rename that a former process saw may not have reached the medium */
        status = disk->sync_folder(disk->context, files->folder, error);
    if (files->segments_count > 0)
        qsort(files->segments, files->segments_count, sizeof *files->segments, compare_u64);
    if (files->snapshots_count > 0)
        qsort(files->snapshots, files->snapshots_count, sizeof *files->snapshots, compare_u64);
    return status;
}

enum status wal_files_open(struct wal_files *files, const struct wal_config *config, struct error *error)
{
    const struct disk *disk = config->disk != NULL ? config->disk : disk_posix();
    *files = (struct wal_files){
        .disk = disk,
        .folder = mem_strdup(config->folder),
        .identity = config->identity,
        .segment_bytes = config->segment_bytes > 0 ? config->segment_bytes : WAL_SEGMENT_BYTES,
        .lock = -1,
        .current = -1,
    };
    CHECK(files->segment_bytes > WAL_SEGMENT_HEADER_BYTES && files->segment_bytes <= SEGMENT_BYTES_MAX);
    buf_init(&files->scratch, SCRATCH_BYTES_MAX);
    enum status status = disk->lock(disk->context, files->folder, &files->lock, error);
    if (status == STATUS_OK)
        status = list_folder(files, error);
    if (status != STATUS_OK)
        wal_files_close(files);
    return status;
}

void wal_files_close(struct wal_files *files)
{
    if (files->current >= 0)
        files->disk->close(files->disk->context, files->current);
    if (files->lock >= 0)
        files->disk->unlock(files->disk->context, files->lock);
    buf_free(&files->scratch);
    mem_free(files->segments);
    mem_free(files->snapshots);
    mem_free(files->folder);
    *files = (struct wal_files){.lock = -1, .current = -1};
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

static enum status write_zeros(struct wal_files *files, int file, uint64_t from, uint64_t to, struct error *error)
{
    static const uint8_t zeros[64 << 10];
    enum status status = STATUS_OK;
    while (status == STATUS_OK && from < to) {
        size_t length = (size_t)MIN_OF(to - from, (uint64_t)sizeof zeros);
        status = files->disk->write(files->disk->context, file, from, bytes_of(zeros, length), error);
        from += length;
    }
    return status;
}

/* A synced file of zeros under the spare's name; *file is open. */
static enum status make_spare(struct wal_files *files, size_t bytes, int *file, struct error *error)
{
    const struct disk *disk = files->disk;
    enum status status = disk->create(disk->context, files->folder, spare_name, file, error);
    if (status != STATUS_OK)
        return status;
    status = write_zeros(files, *file, 0, bytes, error);
    if (status == STATUS_OK)
        status = disk->sync(disk->context, *file, error);
    if (status != STATUS_OK)
        disk->close(disk->context, *file);
    return status;
}

enum status wal_files_prepare(struct wal_files *files, struct error *error)
{
    if (files->has_spare || files->position.at < files->current_bytes / 2)
        return STATUS_OK;
    int file;
    enum status status = make_spare(files, files->segment_bytes, &file, error);
    if (status == STATUS_OK) {
        files->disk->close(files->disk->context, file);
        files->has_spare = true;
    }
    return status;
}

static enum status open_spare(struct wal_files *files, size_t bytes, int *file, struct error *error)
{
    if (!files->has_spare || bytes != files->segment_bytes)
        return make_spare(files, bytes, file, error);
    return files->disk->open(files->disk->context, files->folder, spare_name, file, error);
}

/* Begins the next segment with `body` as its first batch. Header and batch are synced before the file gets its name,
 * so a segment is either not there or has both. */
static enum status start_segment(struct wal_files *files, struct bytes body, struct error *error)
{
    const struct disk *disk = files->disk;
    char name[DISK_NAME_MAX];
    uint8_t encoded[WAL_SEGMENT_HEADER_BYTES];
    struct wal_segment_header header = {
        .identity = files->identity,
        .sequence = files->segments_count == 0 ? 1 : files->segments[files->segments_count - 1].sequence + 1,
        .bytes = MAX_OF(files->segment_bytes, WAL_SEGMENT_HEADER_BYTES + wal_batch_bytes(body.length)),
        .batch = files->position.batch,
        .term = files->term,
        .vote = files->vote,
        .chain = files->position.chain,
    };
    struct wal_position position = {WAL_SEGMENT_HEADER_BYTES, header.batch, header.chain};
    wal_segment_encode(encoded, &header);
    buf_clear(&files->scratch);
    buf_append(&files->scratch, encoded, sizeof encoded);
    wal_batch_encode(&files->scratch, &position, body);
    int file;
    enum status status = open_spare(files, header.bytes, &file, error);
    if (status != STATUS_OK)
        return status;
    status = disk->write(disk->context, file, 0, buf_bytes(&files->scratch), error);
    if (status == STATUS_OK)
        status = disk->sync(disk->context, file, error);
    wal_files_segment_name(name, header.sequence);
    if (status == STATUS_OK)
        status = disk->rename(disk->context, files->folder, spare_name, name, error);
    if (status == STATUS_OK)
        status = disk->sync_folder(disk->context, files->folder, error);
    if (status != STATUS_OK) {
        disk->close(disk->context, file);
        return status;
    }
    if (files->current >= 0)
        disk->close(disk->context, files->current);
    files->current = file;
    files->current_bytes = header.bytes;
    files->has_spare = false; /* used, or overwritten by a larger one */
    files->position = position;
    files->segments = mem_realloc_array(files->segments, files->segments_count + 1, sizeof *files->segments);
    files->segments[files->segments_count++] = (struct wal_segment){.sequence = header.sequence};
    return STATUS_OK;
}

static enum status append_batch(struct wal_files *files, struct bytes body, struct error *error)
{
    const struct disk *disk = files->disk;
    struct wal_position position = files->position;
    buf_clear(&files->scratch);
    wal_batch_encode(&files->scratch, &position, body);
    enum status status =
        disk->write(disk->context, files->current, files->position.at, buf_bytes(&files->scratch), error);
    if (status == STATUS_OK)
        status = disk->sync(disk->context, files->current, error);
    if (status == STATUS_OK)
        files->position = position;
    return status;
}

enum status wal_files_write(struct wal_files *files, const struct wal_group *group, struct error *error)
{
    bool fits =
        files->current >= 0 && wal_batch_bytes(group->records.length) <= files->current_bytes - files->position.at;
    enum status status =
        fits ? append_batch(files, group->records, error) : start_segment(files, group->records, error);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; group->truncate_index > 0 && i < files->segments_count; i++)
        files->segments[i].last_index = MIN_OF(files->segments[i].last_index, group->truncate_index - 1);
    struct wal_segment *last = &files->segments[files->segments_count - 1];
    last->last_index = MAX_OF(last->last_index, group->last_index);
    if (group->has_hard_state) {
        files->term = group->term;
        files->vote = group->vote;
    }
    return STATUS_OK;
}

enum status wal_files_put_snapshot(struct wal_files *files, uint64_t index, struct bytes content, struct error *error)
{
    const struct disk *disk = files->disk;
    char name[DISK_NAME_MAX];
    int file;
    enum status status = disk->create(disk->context, files->folder, snapshot_partial_name, &file, error);
    if (status != STATUS_OK)
        return status;
    status = disk->write(disk->context, file, 0, content, error);
    if (status == STATUS_OK)
        status = disk->sync(disk->context, file, error);
    disk->close(disk->context, file);
    wal_files_snapshot_name(name, index);
    if (status == STATUS_OK)
        status = disk->rename(disk->context, files->folder, snapshot_partial_name, name, error);
    if (status == STATUS_OK)
        status = disk->sync_folder(disk->context, files->folder, error);
    if (status != STATUS_OK)
        return status;
    if (files->snapshots_count == 0 || files->snapshots[files->snapshots_count - 1] != index) {
        files->snapshots = mem_realloc_array(files->snapshots, files->snapshots_count + 1, sizeof *files->snapshots);
        files->snapshots[files->snapshots_count++] = index;
    }
    return STATUS_OK;
}

/* Removes one file for good before the next one goes: a gap in the sequence would look like damage. */
static enum status remove_file(struct wal_files *files, const char *name, struct error *error)
{
    enum status status = files->disk->remove(files->disk->context, files->folder, name, error);
    if (status == STATUS_OK)
        status = files->disk->sync_folder(files->disk->context, files->folder, error);
    return status;
}

enum status wal_files_remove_before(struct wal_files *files, uint64_t index, struct error *error)
{
    char name[DISK_NAME_MAX];
    enum status status = STATUS_OK;
    size_t gone = 0;
    while (status == STATUS_OK && gone + 1 < files->segments_count && files->segments[gone].last_index <= index) {
        wal_files_segment_name(name, files->segments[gone].sequence);
        status = remove_file(files, name, error);
        gone++;
    }
    files->segments_count -= gone;
    memmove(files->segments, files->segments + gone, files->segments_count * sizeof *files->segments);
    gone = 0;
    while (status == STATUS_OK && files->snapshots_count - gone > 2) {
        wal_files_snapshot_name(name, files->snapshots[gone]);
        status = remove_file(files, name, error);
        gone++;
    }
    files->snapshots_count -= gone;
    memmove(files->snapshots, files->snapshots + gone, files->snapshots_count * sizeof *files->snapshots);
    return status;
}
