/* io: see io.h. */
#include "coordinator/consensus/io.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"

/* Not 0, which libraft takes for the time of the last message to a follower that never had one. */
static const uint64_t clock_start_us = 3600ULL * 1000 * 1000;

enum io_write_kind { IO_APPEND, IO_PUT };

struct io_write {
    struct list node;
    enum io_write_kind kind;
    uint64_t ticket;
    raft_index snapshot_index;
    union {
        struct raft_io_append *append;
        struct raft_io_snapshot_put *put;
    } request;
    union {
        raft_io_append_cb append;
        raft_io_snapshot_put_cb put;
    } cb;
};

struct io_get {
    struct list node;
    struct raft_io_snapshot_get *request;
    raft_io_snapshot_get_cb cb;
};

static struct io *io_of(const struct raft_io *raft)
{
    return raft->impl;
}

static __attribute__((noreturn)) void die(struct io *io, enum status status, const char *why)
{
    io->fatal(io->context, status, why);
}

/* ---- the log ----------------------------------------------------------------------------------------------------- */

static int io_set_term(struct raft_io *raft, raft_term term)
{
    struct io *io = io_of(raft);
    io->term = term;
    io->hard_state_ticket = wal_put_hard_state(io->wal, term, 0);
    return 0;
}

static int io_set_vote(struct raft_io *raft, raft_id id)
{
    struct io *io = io_of(raft);
    io->hard_state_ticket = wal_put_hard_state(io->wal, io->term, id);
    return 0;
}

static struct io_write *add_write(struct io *io, enum io_write_kind kind, uint64_t ticket)
{
    struct io_write *write = mem_new(struct io_write);
    write->kind = kind;
    write->ticket = ticket;
    list_push_back(&io->writes, &write->node);
    return write;
}

static int io_append(struct raft_io *raft, struct raft_io_append *request, const struct raft_entry entries[],
                     unsigned count, raft_io_append_cb cb)
{
    struct io *io = io_of(raft);
    struct wal_entry few[16] = {0};
    struct wal_entry *to = count <= COUNT_OF(few) ? few : mem_new_array(struct wal_entry, count);
    for (unsigned i = 0; i < count; i++)
        to[i] = (struct wal_entry){.term = entries[i].term,
                                   .type = (uint8_t)entries[i].type,
                                   .data = bytes_of(entries[i].buf.base, entries[i].buf.len)};
    struct io_write *write = add_write(io, IO_APPEND, wal_append(io->wal, to, count));
    write->request.append = request;
    write->cb.append = cb;
    if (to != few)
        mem_free(to);
    return 0;
}

static int io_truncate(struct raft_io *raft, raft_index index)
{
    wal_truncate(io_of(raft)->wal, index);
    return 0;
}

static int io_snapshot_put(struct raft_io *raft, unsigned trailing, struct raft_io_snapshot_put *request,
                           const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb)
{
    struct io *io = io_of(raft);
    struct raft_buffer configuration;
    struct buf data;
    if (raft_configuration_encode(&snapshot->configuration, &configuration) != 0)
        return RAFT_NOMEM;
    buf_init(&data, RPC_SNAPSHOT_BYTES_MAX);
    for (unsigned i = 0; i < snapshot->n_bufs; i++)
        buf_append(&data, snapshot->bufs[i].base, snapshot->bufs[i].len);
    if (data.overflow)
        die(io, STATUS_LIMIT, "the state is too large for a snapshot");
    struct wal_snapshot to = {.index = snapshot->index,
                              .term = snapshot->term,
                              .configuration_index = snapshot->configuration_index,
                              .configuration = bytes_of(configuration.base, configuration.len),
                              .data = buf_bytes(&data)};
    struct io_write *write = add_write(io, IO_PUT, wal_put_snapshot(io->wal, &to, trailing));
    write->request.put = request;
    write->cb.put = cb;
    write->snapshot_index = snapshot->index;
    if (trailing == 0)
        io->restoring_index = snapshot->index;
    buf_free(&data);
    raft_free(configuration.base);
    return 0;
}

/* ---- reading back ------------------------------------------------------------------------------------------------ */

/* A raft_snapshot of libraft's own memory; NULL when the configuration is not one. */
static struct raft_snapshot *make_snapshot(const struct wal_snapshot *from)
{
    struct raft_configuration configuration;
    if (rpc_decode_configuration(from->configuration, &configuration) != STATUS_OK)
        return NULL;
    struct raft_snapshot *to = raft_calloc(1, sizeof *to);
    CHECK(to != NULL);
    to->index = from->index;
    to->term = from->term;
    to->configuration = configuration;
    to->configuration_index = from->configuration_index;
    to->bufs = raft_calloc(1, sizeof *to->bufs);
    to->n_bufs = 1;
    CHECK(to->bufs != NULL);
    to->bufs[0] = (struct raft_buffer){.base = raft_malloc(from->data.length + 1), .len = from->data.length};
    CHECK(to->bufs[0].base != NULL);
    if (from->data.length > 0)
        memcpy(to->bufs[0].base, from->data.data, from->data.length);
    return to;
}

/* libraft takes a log without a snapshot to begin with a configuration, and trusts every type. */
static bool loaded_valid(const struct wal_loaded *loaded)
{
    for (size_t i = 0; i < loaded->entries_count; i++) {
        if (!rpc_entry_valid(loaded->entries[i].type, loaded->entries[i].data))
            return false;
    }
    return loaded->has_snapshot || loaded->entries_count == 0 || loaded->entries[0].type == RAFT_CHANGE;
}

static struct raft_entry *make_entries(const struct wal_loaded *loaded)
{
    if (loaded->entries_count == 0)
        return NULL;
    struct raft_entry *entries = raft_calloc(loaded->entries_count, sizeof *entries);
    CHECK(entries != NULL);
    for (size_t i = 0; i < loaded->entries_count; i++) {
        const struct wal_entry *from = &loaded->entries[i];
        struct raft_buffer buffer = {.base = raft_malloc(from->data.length + 1), .len = from->data.length};
        CHECK(buffer.base != NULL);
        if (from->data.length > 0)
            memcpy(buffer.base, from->data.data, from->data.length);
        entries[i] = (struct raft_entry){.term = from->term, .type = from->type, .buf = buffer};
    }
    return entries;
}

static int io_load(struct raft_io *raft, raft_term *term, raft_id *vote, struct raft_snapshot **snapshot,
                   raft_index *start_index, struct raft_entry *entries[], size_t *count)
{
    struct io *io = io_of(raft);
    struct wal_loaded *loaded = &io->loaded;
    *snapshot = loaded->has_snapshot ? make_snapshot(&loaded->snapshot) : NULL;
    if (!loaded_valid(loaded) || (loaded->has_snapshot && *snapshot == NULL)) {
        snprintf(raft->errmsg, sizeof raft->errmsg,
                 "the log holds an entry or a configuration that libraft can't read");
        return RAFT_CORRUPT;
    }
    io->restoring_index = loaded->has_snapshot ? loaded->snapshot.index : 0;
    io->snapshot_index = io->restoring_index;
    io->term = loaded->term;
    *term = loaded->term;
    *vote = loaded->vote;
    *start_index = loaded->first_index;
    *entries = make_entries(loaded);
    *count = loaded->entries_count;
    wal_loaded_free(loaded);
    return 0;
}

static int io_snapshot_get(struct raft_io *raft, struct raft_io_snapshot_get *request, raft_io_snapshot_get_cb cb)
{
    struct io_get *get = mem_new(struct io_get);
    get->request = request;
    get->cb = cb;
    list_push_back(&io_of(raft)->gets, &get->node);
    return 0;
}

static void run_get(struct io *io, struct io_get *get)
{
    struct buf file;
    struct wal_snapshot from;
    struct error error = {0};
    buf_init(&file, WAL_SNAPSHOT_BYTES_MAX);
    enum status status = wal_read_snapshot(io->wal, io->snapshot_index, &file, &from, &error);
    struct raft_snapshot *snapshot = status == STATUS_OK ? make_snapshot(&from) : NULL;
    if (snapshot == NULL)
        die(io, status == STATUS_OK ? STATUS_CORRUPT : status, "can't read the snapshot back");
    buf_free(&file);
    get->cb(get->request, snapshot, 0);
}

/* ---- sending ------------------------------------------------------------------------------------------------------
 */

static int io_send(struct raft_io *raft, struct raft_io_send *request, const struct raft_message *message,
                   raft_io_send_cb cb)
{
    struct io *io = io_of(raft);
    return outbox_add(&io->outbox, message, io->hard_state_ticket, request, cb);
}

/* ---- what is due ------------------------------------------------------------------------------------------------- */

static void complete_write(struct io *io, struct io_write *write)
{
    list_remove(&write->node);
    if (write->kind == IO_APPEND) {
        write->cb.append(write->request.append, 0);
    } else {
        io->snapshot_index = MAX_OF(io->snapshot_index, write->snapshot_index);
        write->cb.put(write->request.put, 0);
    }
    mem_free(write);
}

static bool complete_next_write(struct io *io)
{
    if (list_empty(&io->writes))
        return false;
    struct io_write *write = LIST_ENTRY(list_first(&io->writes), struct io_write, node);
    if (write->ticket > io->durable)
        return false;
    complete_write(io, write);
    return true;
}

static bool run_next_get(struct io *io)
{
    if (list_empty(&io->gets))
        return false;
    struct io_get *get = LIST_ENTRY(list_first(&io->gets), struct io_get, node);
    list_remove(&get->node);
    run_get(io, get);
    mem_free(get);
    return true;
}

void io_settle(struct io *io)
{
    bool again;
    do {
        outbox_send(&io->outbox, io->durable);
        again = complete_next_write(io) || outbox_run_callback(&io->outbox) || run_next_get(io);
    } while (again);
}

static void collect(struct io *io)
{
    struct error error = {0};
    enum status status = wal_collect(io->wal, &io->durable, &error);
    if (status != STATUS_OK)
        die(io, status, error.text);
}

void io_flush(struct io *io)
{
    struct error error = {0};
    enum status status = wal_flush(io->wal, &error);
    if (status != STATUS_OK)
        die(io, status, error.text);
}

/* libraft's clock begins with the first event: its timers are set when it starts, before any time is known. */
static void set_now(struct io *io, uint64_t now_us)
{
    if (io->origin_us == 0)
        io->origin_us = now_us;
    io->now_us = MAX_OF(io->now_us, clock_start_us + (now_us - io->origin_us));
}

void io_tick(struct io *io, uint64_t now_us)
{
    set_now(io, now_us);
    io->tick(&io->raft);
    outbox_send_chunks(&io->outbox, io->durable);
    io_settle(io);
}

void io_disk_ready(struct io *io, uint64_t now_us)
{
    set_now(io, now_us);
    collect(io);
    io_settle(io);
}

/* ---- receiving --------------------------------------------------------------------------------------------------- */

static void free_append(struct raft_append_entries *append)
{
    if (append->n_entries > 0)
        raft_free(append->entries[0].batch);
    raft_free(append->entries);
}

enum status io_receive(struct io *io, raft_id from, struct bytes frame, uint64_t now_us)
{
    struct rpc_incoming incoming;
    struct error error = {0};
    char address[24]; /* libraft only keeps it; we send by id */
    set_now(io, now_us);
    if (from == 0)
        return STATUS_INVALID;
    enum status status = rpc_decode(frame, from, &incoming, &error);
    if (status != STATUS_OK) {
        LOG_W("consensus", "frame_refused", "from=%llu why=%s", from, log_quoted(error.text));
        return status;
    }
    struct raft_message *message = &incoming.message;
    if (incoming.is_chunk && !assemblies_add(&io->assemblies, from, &incoming.chunk, message))
        return STATUS_OK;
    if (message->type == RAFT_IO_APPEND_ENTRIES && wal_queued_bytes(io->wal) > IO_BACKLOG_BYTES_MAX) {
        free_append(&message->append_entries);
        return STATUS_FULL;
    }
    snprintf(address, sizeof address, "%llu", from);
    message->server_id = from;
    message->server_address = address;
    io->recv(&io->raft, message);
    io_settle(io);
    return STATUS_OK;
}

/* ---- making and closing ------------------------------------------------------------------------------------------ */

static int io_raft_init(struct raft_io *raft, raft_id id, const char *address)
{
    (void)raft;
    (void)id;
    (void)address;
    return 0;
}

static int io_start(struct raft_io *raft, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv)
{
    (void)msecs; /* the shell ticks every 10 ms; libraft times its heartbeats itself */
    io_of(raft)->tick = tick;
    io_of(raft)->recv = recv;
    return 0;
}

static int io_bootstrap(struct raft_io *raft, const struct raft_configuration *configuration)
{
    (void)raft;
    (void)configuration;
    return RAFT_INVALID; /* replog_open makes the first entry with the log itself */
}

static raft_time io_time(struct raft_io *raft)
{
    return io_of(raft)->now_us / 1000;
}

static int io_random(struct raft_io *raft, int min, int max)
{
    (void)raft;
    return min + (max - min) / 2; /* never used: measure D */
}

/* What waits completes as if it were done: libraft is unavailable by now and acknowledges nothing, but frees memory;
 * told of failures it would truncate its log once per append, and the second time beyond its end. */
static void io_close(struct raft_io *raft, raft_io_close_cb cb)
{
    struct io *io = io_of(raft);
    if (!io->abandoned)
        io_flush(io);
    while (!list_empty(&io->writes))
        complete_write(io, LIST_ENTRY(list_first(&io->writes), struct io_write, node));
    while (!list_empty(&io->gets)) {
        struct io_get *get = LIST_ENTRY(list_first(&io->gets), struct io_get, node);
        list_remove(&get->node);
        get->cb(get->request, NULL, RAFT_CANCELED);
        mem_free(get);
    }
    outbox_close(&io->outbox);
    assemblies_free(&io->assemblies);
    wal_loaded_free(&io->loaded);
    if (io->abandoned)
        wal_abandon(io->wal);
    else
        wal_close(io->wal);
    cb(raft);
}

void io_init(struct io *io, struct wal *wal, struct wal_loaded *loaded, const struct replog_config *config)
{
    *io = (struct io){.wal = wal, .loaded = *loaded, .context = config->context, .fatal = config->fatal};
    *loaded = (struct wal_loaded){0};
    io->now_us = clock_start_us;
    list_init(&io->writes);
    list_init(&io->gets);
    outbox_init(&io->outbox, &config->peers);
    io->raft = (struct raft_io){
        .version = 1,
        .impl = io,
        .init = io_raft_init,
        .close = io_close,
        .load = io_load,
        .start = io_start,
        .bootstrap = io_bootstrap,
        .recover = io_bootstrap,
        .set_term = io_set_term,
        .set_vote = io_set_vote,
        .send = io_send,
        .append = io_append,
        .truncate = io_truncate,
        .snapshot_put = io_snapshot_put,
        .snapshot_get = io_snapshot_get,
        .time = io_time,
        .random = io_random,
    };
}
