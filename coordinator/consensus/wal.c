/* wal: see wal.h. The queue between the caller's thread and the writer's; the files themselves are in wal_files. */
#include "coordinator/consensus/wal.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/list.h"
#include "base/mem.h"
#include "coordinator/consensus/wal_files.h"

/* A batch grows up to the first; one call may exceed it (an append of large entries) up to the second. */
enum { BATCH_BYTES_MAX = 1 << 20, JOB_BYTES_MAX = 1 << 30 };

enum job_kind { JOB_RECORDS, JOB_SNAPSHOT };

struct job {
    struct list node;
    enum job_kind kind;
    struct buf bytes; /* records, or the snapshot's file */
    struct wal_group group;
    uint64_t index;    /* of the snapshot */
    uint64_t trailing; /* kept before it; 0: it replaces the log */
    uint64_t ticket;   /* the last that this job completes */
};

struct wal {
    const struct disk *disk;
    char *folder;
    bool inline_writes;
    int event;
    uint64_t next_index; /* caller's thread */
    uint64_t submitted;  /* caller's thread */
    pthread_t writer;
    struct wal_files files; /* the writer's */

    pthread_mutex_t mutex; /* what follows */
    pthread_cond_t changed;
    struct list jobs;
    size_t queued_bytes;
    uint64_t durable;
    bool stopping;
    struct error failure; /* status OK: none */
};

/* ---- making and opening ------------------------------------------------------------------------------------------ */

enum status wal_create(const struct wal_config *config, uint64_t term, const struct wal_entry *first,
                       struct error *error)
{
    const struct disk *disk = config->disk != NULL ? config->disk : disk_posix();
    struct wal_files files;
    struct buf body;
    enum status status = disk->make_folder(disk->context, config->folder, error);
    if (status == STATUS_OK)
        status = wal_files_open(&files, config, error);
    if (status != STATUS_OK)
        return status;
    struct wal_record hard_state = {.kind = WAL_HARD_STATE, .term = term};
    struct wal_record entry = {
        .kind = WAL_ENTRY, .entry_type = first->type, .index = 1, .term = first->term, .data = first->data};
    buf_init(&body, JOB_BYTES_MAX);
    wal_record_encode(&body, &hard_state);
    wal_record_encode(&body, &entry);
    struct wal_group group = {.records = buf_bytes(&body), .last_index = 1, .has_hard_state = true, .term = term};
    status = wal_files_check_absent(&files, error);
    if (status == STATUS_OK)
        status = wal_files_write(&files, &group, error);
    buf_free(&body);
    wal_files_close(&files);
    return status;
}

static void *writer_main(void *argument);

static enum status start_writer(struct wal *wal, struct error *error)
{
    int failed = wal->inline_writes ? 0 : pthread_create(&wal->writer, NULL, writer_main, wal);
    return failed == 0 ? STATUS_OK : error_set_errno(error, STATUS_IO, failed, "can't start the log's writer");
}

static void destroy(struct wal *wal)
{
    if (wal->event >= 0)
        close(wal->event);
    pthread_mutex_destroy(&wal->mutex);
    pthread_cond_destroy(&wal->changed);
    wal_files_close(&wal->files);
    mem_free(wal->folder);
    mem_free(wal);
}

enum status wal_open(const struct wal_config *config, struct wal **out, struct wal_loaded *loaded, struct error *error)
{
    struct wal_files files;
    enum status status = wal_files_open(&files, config, error);
    if (status != STATUS_OK)
        return status;
    status = wal_files_load(&files, loaded, error);
    if (status != STATUS_OK) {
        wal_files_close(&files);
        return status;
    }
    struct wal *wal = mem_new(struct wal);
    wal->disk = files.disk;
    wal->folder = mem_strdup(config->folder);
    wal->inline_writes = config->inline_writes;
    wal->files = files;
    wal->next_index = loaded->first_index + loaded->entries_count;
    list_init(&wal->jobs);
    CHECK(pthread_mutex_init(&wal->mutex, NULL) == 0 && pthread_cond_init(&wal->changed, NULL) == 0);
    wal->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wal->event < 0)
        status = error_set_errno(error, STATUS_IO, errno, "can't make an eventfd");
    else
        status = start_writer(wal, error);
    if (status != STATUS_OK) {
        wal_loaded_free(loaded);
        destroy(wal);
        return status;
    }
    *out = wal;
    return STATUS_OK;
}

static void free_job(struct job *job)
{
    buf_free(&job->bytes);
    mem_free(job);
}

static void drop_jobs(struct wal *wal)
{
    while (!list_empty(&wal->jobs)) {
        struct job *job = LIST_ENTRY(list_first(&wal->jobs), struct job, node);
        list_remove(&job->node);
        free_job(job);
    }
    wal->queued_bytes = 0;
}

static void stop(struct wal *wal, bool finish)
{
    pthread_mutex_lock(&wal->mutex);
    if (!finish)
        drop_jobs(wal);
    wal->stopping = true;
    pthread_cond_broadcast(&wal->changed);
    pthread_mutex_unlock(&wal->mutex);
    if (!wal->inline_writes) {
        CHECK(pthread_join(wal->writer, NULL) == 0);
    } else {
        while (wal_work(wal))
            continue;
    }
    drop_jobs(wal);
    destroy(wal);
}

void wal_close(struct wal *wal)
{
    stop(wal, true);
}

void wal_abandon(struct wal *wal)
{
    stop(wal, false);
}

/* ---- the caller's side ------------------------------------------------------------------------------------------- */

static struct job *new_job(struct wal *wal, enum job_kind kind)
{
    struct job *job = mem_new(struct job);
    job->kind = kind;
    buf_init(&job->bytes, JOB_BYTES_MAX + WAL_RECORD_HEADER_BYTES);
    list_push_back(&wal->jobs, &job->node);
    return job;
}

/* The job that takes the next records: the last one that waits, or a new one. With the mutex held. */
static struct job *open_records(struct wal *wal)
{
    if (!list_empty(&wal->jobs)) {
        struct job *last = LIST_ENTRY(wal->jobs.prev, struct job, node);
        if (last->kind == JOB_RECORDS && last->bytes.length < BATCH_BYTES_MAX)
            return last;
    }
    return new_job(wal, JOB_RECORDS);
}

static uint64_t submit(struct wal *wal, struct job *job, size_t bytes)
{
    job->ticket = ++wal->submitted;
    wal->queued_bytes += bytes;
    pthread_cond_broadcast(&wal->changed);
    pthread_mutex_unlock(&wal->mutex);
    return wal->submitted;
}

uint64_t wal_append(struct wal *wal, const struct wal_entry *entries, size_t count)
{
    pthread_mutex_lock(&wal->mutex);
    struct job *job = open_records(wal);
    size_t before = job->bytes.length;
    for (size_t i = 0; i < count; i++) {
        struct wal_record record = {.kind = WAL_ENTRY,
                                    .entry_type = entries[i].type,
                                    .index = wal->next_index++,
                                    .term = entries[i].term,
                                    .data = entries[i].data};
        wal_record_encode(&job->bytes, &record);
        job->group.last_index = MAX_OF(job->group.last_index, record.index);
    }
    return submit(wal, job, job->bytes.length - before);
}

uint64_t wal_truncate(struct wal *wal, uint64_t index)
{
    CHECK(index > 0);
    pthread_mutex_lock(&wal->mutex);
    struct job *job = open_records(wal);
    size_t before = job->bytes.length;
    struct wal_record record = {.kind = WAL_TRUNCATE, .index = index};
    wal_record_encode(&job->bytes, &record);
    job->group.truncate_index = job->group.truncate_index == 0 ? index : MIN_OF(job->group.truncate_index, index);
    wal->next_index = MIN_OF(wal->next_index, index);
    return submit(wal, job, job->bytes.length - before);
}

uint64_t wal_put_hard_state(struct wal *wal, uint64_t term, uint64_t vote)
{
    pthread_mutex_lock(&wal->mutex);
    struct job *job = open_records(wal);
    size_t before = job->bytes.length;
    struct wal_record record = {.kind = WAL_HARD_STATE, .term = term, .vote = vote};
    wal_record_encode(&job->bytes, &record);
    job->group.has_hard_state = true;
    job->group.term = term;
    job->group.vote = vote;
    return submit(wal, job, job->bytes.length - before);
}

uint64_t wal_put_snapshot(struct wal *wal, const struct wal_snapshot *snapshot, uint64_t trailing)
{
    pthread_mutex_lock(&wal->mutex);
    struct job *job = new_job(wal, JOB_SNAPSHOT);
    job->index = snapshot->index;
    job->trailing = trailing;
    wal_snapshot_encode(&job->bytes, &wal->files.identity, snapshot);
    if (trailing == 0)
        wal->next_index = snapshot->index + 1;
    return submit(wal, job, job->bytes.length);
}

uint64_t wal_next_index(const struct wal *wal)
{
    return wal->next_index;
}

uint64_t wal_ticket(const struct wal *wal)
{
    return wal->submitted;
}

size_t wal_queued_bytes(struct wal *wal)
{
    pthread_mutex_lock(&wal->mutex);
    size_t bytes = wal->queued_bytes;
    pthread_mutex_unlock(&wal->mutex);
    return bytes;
}

int wal_fd(const struct wal *wal)
{
    return wal->event;
}

/* With the mutex held; unlocks it. */
static enum status answer(struct wal *wal, struct error *error)
{
    enum status status = wal->failure.status;
    if (status != STATUS_OK && error != NULL)
        *error = wal->failure;
    pthread_mutex_unlock(&wal->mutex);
    return status;
}

enum status wal_collect(struct wal *wal, uint64_t *durable, struct error *error)
{
    uint64_t ignored;
    while (read(wal->event, &ignored, sizeof ignored) < 0 && errno == EINTR)
        continue;
    pthread_mutex_lock(&wal->mutex);
    *durable = wal->durable;
    return answer(wal, error);
}

enum status wal_flush(struct wal *wal, struct error *error)
{
    while (wal->inline_writes && wal_work(wal))
        continue;
    pthread_mutex_lock(&wal->mutex);
    while (wal->durable < wal->submitted && wal->failure.status == STATUS_OK)
        pthread_cond_wait(&wal->changed, &wal->mutex);
    return answer(wal, error);
}

enum status wal_read_snapshot(const struct wal *wal, uint64_t index, struct buf *file, struct wal_snapshot *out,
                              struct error *error)
{
    char name[DISK_NAME_MAX];
    struct wal_identity identity;
    wal_files_snapshot_name(name, index);
    enum status status = wal->disk->read(wal->disk->context, wal->folder, name, WAL_SNAPSHOT_BYTES_MAX, file, error);
    if (status == STATUS_OK)
        status = wal_snapshot_decode(buf_bytes(file), &identity, out, error);
    return status;
}

/* ---- the writer's side ------------------------------------------------------------------------------------------- */

static enum status write_snapshot(struct wal_files *files, const struct job *job, struct error *error)
{
    enum status status = wal_files_put_snapshot(files, job->index, buf_bytes(&job->bytes), error);
    if (status != STATUS_OK)
        return status;
    if (job->trailing > 0)
        return wal_files_remove_before(files, job->index > job->trailing ? job->index - job->trailing : 0, error);
    struct buf body;
    struct wal_record record = {.kind = WAL_TRUNCATE, .index = 1};
    buf_init(&body, 256);
    wal_record_encode(&body, &record);
    struct wal_group group = {.records = buf_bytes(&body), .truncate_index = 1};
    status = wal_files_write(files, &group, error);
    buf_free(&body);
    return status == STATUS_OK ? wal_files_remove_before(files, job->index, error) : status;
}

static void signal_event(struct wal *wal)
{
    uint64_t one = 1;
    CHECK(write(wal->event, &one, sizeof one) == sizeof one);
    pthread_cond_broadcast(&wal->changed);
}

static void fail(struct wal *wal, enum status status, const struct error *error)
{
    wal->failure = *error;
    wal->failure.status = status;
    drop_jobs(wal);
    signal_event(wal);
}

/* Does the first job; with the mutex held, which is free while the disk works. */
static void do_first_job(struct wal *wal)
{
    struct job *job = LIST_ENTRY(list_first(&wal->jobs), struct job, node);
    struct error error = {.status = STATUS_OK};
    list_remove(&job->node);
    wal->queued_bytes -= job->bytes.length;
    pthread_mutex_unlock(&wal->mutex);

    job->group.records = buf_bytes(&job->bytes);
    enum status status = job->kind == JOB_RECORDS ? wal_files_write(&wal->files, &job->group, &error)
                                                  : write_snapshot(&wal->files, job, &error);
    uint64_t ticket = job->ticket;
    free_job(job);
    pthread_mutex_lock(&wal->mutex);
    if (status != STATUS_OK) {
        fail(wal, status, &error);
        return;
    }
    wal->durable = ticket;
    signal_event(wal);
    if (!list_empty(&wal->jobs))
        return;
    pthread_mutex_unlock(&wal->mutex);
    status = wal_files_prepare(&wal->files, &error); /* while nobody waits */
    pthread_mutex_lock(&wal->mutex);
    if (status != STATUS_OK)
        fail(wal, status, &error);
}

static void *writer_main(void *argument)
{
    struct wal *wal = argument;
    pthread_mutex_lock(&wal->mutex);
    while (wal->failure.status == STATUS_OK) {
        if (!list_empty(&wal->jobs))
            do_first_job(wal);
        else if (wal->stopping)
            break;
        else
            pthread_cond_wait(&wal->changed, &wal->mutex);
    }
    pthread_mutex_unlock(&wal->mutex);
    return NULL;
}

bool wal_work(struct wal *wal)
{
    CHECK(wal->inline_writes);
    pthread_mutex_lock(&wal->mutex);
    bool works = !list_empty(&wal->jobs) && wal->failure.status == STATUS_OK;
    if (works)
        do_first_job(wal);
    pthread_mutex_unlock(&wal->mutex);
    return works;
}
