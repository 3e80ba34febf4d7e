/* safe: see safe.h. Downward are libraft's calls, upward the inner raft_io's callbacks; every one of the latter ends in
 * safe_settle, which does whatever became possible, outside libraft. */
#include "coordinator/consensus/safe.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"

enum { STAGGER_MS = 15, JITTER_MS = 10 };

struct safe_append {
    struct list node;
    struct raft_io_append request; /* the inner one */
    struct safe *safe;
    struct raft_io_append *outer;
    raft_io_append_cb cb;
    raft_index end; /* its last entry */
    raft_term term; /* when it was made */
    bool as_leader;
    bool has_barrier;
    bool complete;
    int status;
};

struct safe_put {
    struct raft_io_snapshot_put request;
    struct safe *safe;
    struct raft_io_snapshot_put *outer;
    raft_io_snapshot_put_cb cb;
    raft_index index;
    bool install;
};

struct safe_barrier_request {
    struct raft_barrier request;
    struct safe *safe;
    raft_term term;
};

static struct safe *safe_of(const struct raft_io *io)
{
    return io->impl;
}

static struct raft *raft_of(const struct safe *safe)
{
    return safe->io.data;
}

static bool has(const struct safe *safe, enum safe_measure measure)
{
    return (safe->config.disabled & measure) == 0;
}

static __attribute__((noreturn)) void die(struct safe *safe, enum status status, const char *why)
{
    safe->config.fatal(safe->config.context, status, why);
}

/* Passes a disk operation's answer on, unless it is a failure (C). */
static int must_succeed(struct safe *safe, int rv, const char *what)
{
    if (rv != 0 && has(safe, SAFE_C) && !safe->closing)
        die(safe, STATUS_IO, what);
    return rv;
}

static bool leads(const struct safe *safe)
{
    return raft_of(safe)->state == RAFT_LEADER;
}

static bool disk_busy(const struct safe *safe)
{
    return !list_empty(&safe->appends) || safe->installs > 0;
}

static void prove(struct safe *safe)
{
    if (safe->receiving.active)
        safe->proved = MAX_OF(safe->proved, safe->receiving.proved);
}

static void forget_timeout_now(struct safe *safe)
{
    if (safe->has_timeout_now)
        mem_free((char *)safe->timeout_now.server_address);
    safe->has_timeout_now = false;
}

/* ---- downward: hard state, log, snapshots ------------------------------------------------------------------------ */

static int safe_set_term(struct raft_io *io, raft_term term)
{
    struct safe *safe = safe_of(io);
    CHECK(term > safe->term);
    safe->term = term;
    safe->vote = 0;
    safe->proved = 0;
    safe->barrier = SAFE_BARRIER_NONE;
    safe->held_count = 0;
    safe->delivered_end = 0;
    forget_timeout_now(safe); /* it was of an older term */
    return must_succeed(safe, safe->inner->set_term(safe->inner, term), "can't store the term");
}

static int safe_set_vote(struct raft_io *io, raft_id id)
{
    struct safe *safe = safe_of(io);
    if (has(safe, SAFE_E) && safe->vote != 0 && safe->vote != id)
        die(safe, STATUS_CONFLICT, "a second vote in the same term");
    safe->vote = id;
    return must_succeed(safe, safe->inner->set_vote(safe->inner, id), "can't store the vote");
}

static void learn_entries(struct safe *safe, const struct raft_entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (entries[i].type == RAFT_CHANGE)
            safe->last_change = safe->next_index;
        safe->next_index++;
    }
}

static int safe_load(struct raft_io *io, raft_term *term, raft_id *vote, struct raft_snapshot **snapshot,
                     raft_index *start_index, struct raft_entry *entries[], size_t *entries_count)
{
    struct safe *safe = safe_of(io);
    int rv = safe->inner->load(safe->inner, term, vote, snapshot, start_index, entries, entries_count);
    if (rv != 0)
        return rv; /* the start fails, nothing was acknowledged */
    safe->term = *term;
    safe->vote = *vote;
    safe->last_change = *snapshot != NULL ? (*snapshot)->configuration_index : 0;
    safe->next_index = *start_index;
    learn_entries(safe, *entries, *entries_count);
    return 0;
}

static void on_appended(struct raft_io_append *request, int status);

static int safe_append(struct raft_io *io, struct raft_io_append *request, const struct raft_entry entries[],
                       unsigned count, raft_io_append_cb cb)
{
    struct safe *safe = safe_of(io);
    struct safe_append *append = mem_new(struct safe_append);
    append->safe = safe;
    append->outer = request;
    append->cb = cb;
    append->request.data = append;
    append->term = safe->term;
    append->as_leader = leads(safe);
    int rv = safe->inner->append(safe->inner, &append->request, entries, count, on_appended);
    if (rv != 0) {
        mem_free(append);
        return must_succeed(safe, rv, "can't append to the log");
    }
    list_push_back(&safe->appends, &append->node);
    for (unsigned i = 0; i < count; i++)
        append->has_barrier |= append->as_leader && entries[i].type == RAFT_BARRIER && entries[i].term == safe->term;
    if (append->has_barrier && safe->barrier == SAFE_BARRIER_NONE)
        safe->barrier = SAFE_BARRIER_APPENDED;
    learn_entries(safe, entries, count);
    append->end = safe->next_index - 1;
    prove(safe);
    return 0;
}

static int safe_truncate(struct raft_io *io, raft_index index)
{
    struct safe *safe = safe_of(io);
    int rv = must_succeed(safe, safe->inner->truncate(safe->inner, index), "can't truncate the log");
    safe->next_index = index;
    if (has(safe, SAFE_G) && index <= safe->last_change) {
        safe->config.flush(safe->config.context);
        die(safe, STATUS_CONFLICT, "a configuration was truncated; the restart reads the one before it");
    }
    return rv;
}

static raft_term term_at(const struct raft *raft, raft_index index)
{
    const struct raft_log *log = &raft->log;
    size_t count = log->front <= log->back ? log->back - log->front : log->size - log->front + log->back;
    if (index > log->offset && index <= log->offset + count)
        return log->entries[(log->front + (index - 1 - log->offset)) % log->size].term;
    return index == log->snapshot.last_index ? log->snapshot.last_term : 0;
}

/* Where accepting these entries would cut our log, 0: nowhere. */
static raft_index conflict_with(const struct raft *raft, const struct raft_append_entries *append)
{
    if (append->term < raft->current_term ||
        (append->prev_log_index > 0 && term_at(raft, append->prev_log_index) != append->prev_log_term))
        return 0;
    for (unsigned i = 0; i < append->n_entries; i++) {
        raft_index index = append->prev_log_index + 1 + i;
        raft_term term = term_at(raft, index);
        if (term != 0 && term != append->entries[i].term)
            return index;
    }
    return 0;
}

/* G, before libraft sees the message: it rolls its configuration back first, to an entry that a snapshot may have
 * replaced long ago, and would read through a null pointer. */
static void forestall_rollback(struct safe *safe, const struct raft_append_entries *append)
{
    raft_index conflict = has(safe, SAFE_G) ? conflict_with(raft_of(safe), append) : 0;
    if (conflict > raft_of(safe)->commit_index && conflict <= safe->last_change)
        safe_truncate(&safe->io, conflict);
}

static void on_snapshot_put(struct raft_io_snapshot_put *request, int status);

static int safe_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *request,
                             const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb)
{
    struct safe *safe = safe_of(io);
    struct safe_put *put = mem_new(struct safe_put);
    put->safe = safe;
    put->outer = request;
    put->cb = cb;
    put->request.data = put;
    put->index = snapshot->index;
    put->install = trailing == 0; /* libraft's way to say: replaces the log */
    int rv = safe->inner->snapshot_put(safe->inner, trailing, &put->request, snapshot, on_snapshot_put);
    if (rv != 0) {
        mem_free(put);
        return must_succeed(safe, rv, "can't store a snapshot");
    }
    if (put->install) {
        safe->installs++;
        safe->next_index = snapshot->index + 1;
        safe->last_change = snapshot->configuration_index;
    }
    return 0;
}

/* ---- downward: messages, time ------------------------------------------------------------------------------------ */

static int safe_send(struct raft_io *io, struct raft_io_send *request, const struct raft_message *message,
                     raft_io_send_cb cb)
{
    struct safe *safe = safe_of(io);
    struct raft_message copy = *message;
    if (copy.server_id == 0 || copy.server_address == NULL)
        return RAFT_NOCONNECTION;
    if (copy.type == RAFT_IO_APPEND_ENTRIES && has(safe, SAFE_A1) && safe->barrier == SAFE_BARRIER_NONE)
        return RAFT_NOCONNECTION;
    if (copy.type == RAFT_IO_APPEND_ENTRIES_RESULT && copy.append_entries_result.rejected == 0) {
        struct raft_append_entries_result *result = &copy.append_entries_result;
        prove(safe);
        if (has(safe, SAFE_A3))
            result->last_log_index = MIN_OF(result->last_log_index, safe->proved);
    }
    return safe->inner->send(safe->inner, request, &copy, cb);
}

static int safe_random(struct raft_io *io, int min, int max)
{
    struct safe *safe = safe_of(io);
    if (!has(safe, SAFE_D))
        return safe->inner->random(safe->inner, min, max);
    int value = min + STAGGER_MS * (int)safe->config.rank + (int)rng_below(&safe->rng, JITTER_MS + 1);
    return MIN_OF(value, max);
}

static raft_time safe_time(struct raft_io *io)
{
    return safe_of(io)->inner->time(safe_of(io)->inner);
}

static int safe_snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *request, raft_io_snapshot_get_cb cb)
{
    return safe_of(io)->inner->snapshot_get(safe_of(io)->inner, request, cb);
}

/* ---- upward: completions ----------------------------------------------------------------------------------------- */

static void on_appended(struct raft_io_append *request, int status)
{
    struct safe_append *append = request->data;
    struct safe *safe = append->safe;
    append->complete = true;
    append->status = must_succeed(safe, status, "an append failed");
    safe_settle(safe);
}

static void on_snapshot_put(struct raft_io_snapshot_put *request, int status)
{
    struct safe_put *put = request->data;
    struct safe *safe = put->safe;
    must_succeed(safe, status, "a snapshot failed");
    if (put->install) {
        CHECK(safe->installs > 0);
        safe->installs--;
        if (status == 0) /* it is committed, so it matches every leader of this and later terms */
            safe->proved = MAX_OF(safe->proved, put->index);
    }
    put->cb(put->outer, status);
    mem_free(put);
    safe_settle(safe);
}

/* F: a leader's append waits until the one before it is committed. */
static bool deliverable(const struct safe *safe, const struct safe_append *append)
{
    if (!append->complete)
        return false;
    if (!has(safe, SAFE_F) || !leads(safe) || !append->as_leader || append->term != safe->term)
        return true;
    return safe->delivered_end <= raft_of(safe)->commit_index;
}

static bool deliver_append(struct safe *safe)
{
    if (list_empty(&safe->appends))
        return false;
    struct safe_append *append = LIST_ENTRY(list_first(&safe->appends), struct safe_append, node);
    if (!deliverable(safe, append))
        return false;
    list_remove(&append->node);
    bool current = append->as_leader && append->term == safe->term;
    if (current)
        safe->delivered_end = append->end;
    append->cb(append->outer, append->status);
    if (current && append->has_barrier && append->status == 0 && safe->barrier == SAFE_BARRIER_APPENDED)
        safe->barrier = SAFE_BARRIER_STORED;
    mem_free(append);
    return true;
}

/* ---- upward: messages, time -------------------------------------------------------------------------------------- */

/* Frees what libraft would have taken over. */
static void drop_message(struct raft_message *message)
{
    if (message->type == RAFT_IO_APPEND_ENTRIES && message->append_entries.n_entries > 0) {
        raft_free(message->append_entries.entries[0].batch);
        raft_free(message->append_entries.entries);
    } else if (message->type == RAFT_IO_INSTALL_SNAPSHOT) {
        raft_configuration_close(&message->install_snapshot.conf);
        raft_free(message->install_snapshot.data.base);
    }
}

static bool older_append_on_disk(const struct safe *safe, raft_term term)
{
    LIST_FOR_EACH (node, &safe->appends) {
        const struct safe_append *append = LIST_ENTRY(node, struct safe_append, node);
        if (!append->complete && append->term < term)
            return true;
    }
    return false;
}

/* An AppendEntries or InstallSnapshot: `proved` is what its acceptance proves. */
static void receive_from_leader(struct safe *safe, struct raft_message *message, raft_term term, raft_index proved)
{
    if (leads(safe) && term == safe->term)
        die(safe, STATUS_CONFLICT, "another leader in our own term");
    if (has(safe, SAFE_H) && older_append_on_disk(safe, term)) {
        drop_message(message);
        return;
    }
    if (message->type == RAFT_IO_APPEND_ENTRIES)
        forestall_rollback(safe, &message->append_entries);
    safe->receiving = (struct safe_receiving){true, proved};
    safe->recv(&safe->io, message);
    safe->receiving.active = false;
}

static struct safe_held *held_for(struct safe *safe, raft_id id)
{
    for (unsigned i = 0; i < safe->held_count; i++) {
        if (safe->held[i].from == id)
            return &safe->held[i];
    }
    if (safe->held_count == SAFE_SERVERS_MAX)
        return NULL;
    safe->held[safe->held_count] = (struct safe_held){.from = id};
    return &safe->held[safe->held_count++];
}

/* A2: keeps the real index, lets the contact through. */
static void hold_result(struct safe *safe, raft_id from, struct raft_append_entries_result *result)
{
    bool holds = has(safe, SAFE_A2) && leads(safe) && result->term == safe->term && result->rejected == 0 &&
                 safe->barrier < SAFE_BARRIER_STORED;
    struct safe_held *held = holds ? held_for(safe, from) : NULL;
    if (held == NULL)
        return;
    held->last_log_index = MAX_OF(held->last_log_index, result->last_log_index);
    result->last_log_index = 0;
}

static bool deliver_held(struct safe *safe)
{
    if (safe->held_count == 0 || safe->barrier < SAFE_BARRIER_STORED || !leads(safe))
        return false;
    struct safe_held held = safe->held[--safe->held_count];
    const struct raft_configuration *configuration = &raft_of(safe)->configuration;
    for (unsigned i = 0; i < configuration->n; i++) {
        if (configuration->servers[i].id != held.from)
            continue;
        struct raft_message message = {
            .type = RAFT_IO_APPEND_ENTRIES_RESULT,
            .server_id = held.from,
            .server_address = configuration->servers[i].address,
            .append_entries_result = {.term = safe->term, .last_log_index = held.last_log_index},
        };
        safe->recv(&safe->io, &message);
        break;
    }
    return true;
}

static void delay_timeout_now(struct safe *safe, const struct raft_message *message)
{
    forget_timeout_now(safe);
    safe->timeout_now = *message;
    safe->timeout_now.server_address = mem_strdup(message->server_address);
    safe->has_timeout_now = true;
}

static bool deliver_timeout_now(struct safe *safe)
{
    if (!safe->has_timeout_now || disk_busy(safe))
        return false;
    safe->has_timeout_now = false;
    safe->recv(&safe->io, &safe->timeout_now);
    mem_free((char *)safe->timeout_now.server_address);
    return true;
}

static void on_recv(struct raft_io *inner, struct raft_message *message)
{
    struct safe *safe = inner->data;
    switch (message->type) {
    case RAFT_IO_APPEND_ENTRIES: {
        struct raft_append_entries *append = &message->append_entries;
        raft_index end = append->prev_log_index + append->n_entries;
        if (has(safe, SAFE_A3))
            append->leader_commit = MIN_OF(append->leader_commit, end);
        receive_from_leader(safe, message, append->term, end);
        break;
    }
    case RAFT_IO_INSTALL_SNAPSHOT:
        receive_from_leader(safe, message, message->install_snapshot.term, message->install_snapshot.last_index);
        break;
    case RAFT_IO_TIMEOUT_NOW:
        if (has(safe, SAFE_B) && raft_of(safe)->state == RAFT_FOLLOWER && disk_busy(safe) &&
            message->timeout_now.term >= safe->term)
            delay_timeout_now(safe, message);
        else
            safe->recv(&safe->io, message);
        break;
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        hold_result(safe, message->server_id, &message->append_entries_result);
        safe->recv(&safe->io, message);
        break;
    default:
        safe->recv(&safe->io, message);
        break;
    }
    safe_settle(safe);
}

static void on_tick(struct raft_io *inner)
{
    struct safe *safe = inner->data;
    bool withheld = has(safe, SAFE_B) && raft_of(safe)->state == RAFT_FOLLOWER && disk_busy(safe);
    if (!withheld)
        safe->tick(&safe->io);
    safe_settle(safe);
}

/* ---- what became possible ---------------------------------------------------------------------------------------- */

static void on_barrier(struct raft_barrier *request, int status)
{
    struct safe_barrier_request *barrier = request->data;
    if (status == 0 && barrier->term == barrier->safe->term)
        barrier->safe->barrier = SAFE_BARRIER_APPLIED;
    mem_free(barrier);
}

/* A1: a leader's first entry. While an old leadership transfer is pending libraft says NOTLEADER: the next tick again.
 */
static void append_barrier(struct safe *safe)
{
    if (!leads(safe) || safe->barrier != SAFE_BARRIER_NONE)
        return;
    struct safe_barrier_request *barrier = mem_new(struct safe_barrier_request);
    barrier->safe = safe;
    barrier->term = safe->term;
    barrier->request.data = barrier;
    int rv = raft_barrier(raft_of(safe), &barrier->request, on_barrier);
    if (rv == 0)
        return;
    mem_free(barrier);
    if (rv != RAFT_NOTLEADER)
        die(safe, STATUS_IO, "can't append this term's barrier");
}

void safe_settle(struct safe *safe)
{
    bool again = true;
    while (again) {
        if (raft_of(safe)->state == RAFT_UNAVAILABLE && !safe->closing)
            die(safe, STATUS_IO, "libraft stopped");
        if (!safe->closing)
            append_barrier(safe);
        again = deliver_append(safe) || deliver_held(safe) || deliver_timeout_now(safe);
    }
}

bool safe_leading(const struct safe *safe)
{
    return leads(safe) && safe->barrier == SAFE_BARRIER_APPLIED;
}

bool safe_may_snapshot(const struct safe *safe)
{
    return !has(safe, SAFE_G) || safe->last_change <= raft_of(safe)->last_applied;
}

/* ---- making ------------------------------------------------------------------------------------------------------ */

static int safe_io_init(struct raft_io *io, raft_id id, const char *address)
{
    return safe_of(io)->inner->init(safe_of(io)->inner, id, address);
}

static int safe_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv)
{
    struct safe *safe = safe_of(io);
    safe->tick = tick;
    safe->recv = recv;
    return safe->inner->start(safe->inner, msecs, on_tick, on_recv);
}

static int safe_bootstrap(struct raft_io *io, const struct raft_configuration *configuration)
{
    return safe_of(io)->inner->bootstrap(safe_of(io)->inner, configuration);
}

static int safe_recover(struct raft_io *io, const struct raft_configuration *configuration)
{
    (void)io;
    (void)configuration;
    return RAFT_INVALID;
}

static void on_closed(struct raft_io *inner)
{
    struct safe *safe = inner->data;
    CHECK(list_empty(&safe->appends));
    safe->closed(&safe->io);
}

static void safe_close(struct raft_io *io, raft_io_close_cb cb)
{
    struct safe *safe = safe_of(io);
    safe->closing = true;
    safe->closed = cb;
    forget_timeout_now(safe);
    safe_settle(safe); /* appends that F held */
    safe->inner->close(safe->inner, on_closed);
}

void safe_init(struct safe *safe, struct raft_io *inner, const struct safe_config *config)
{
    *safe = (struct safe){.inner = inner, .config = *config};
    list_init(&safe->appends);
    rng_init(&safe->rng, config->seed);
    inner->data = safe;
    safe->io = (struct raft_io){
        .version = 1,
        .impl = safe,
        .init = safe_io_init,
        .close = safe_close,
        .load = safe_load,
        .start = safe_start,
        .bootstrap = safe_bootstrap,
        .recover = safe_recover,
        .set_term = safe_set_term,
        .set_vote = safe_set_vote,
        .send = safe_send,
        .append = safe_append,
        .truncate = safe_truncate,
        .snapshot_put = safe_snapshot_put,
        .snapshot_get = safe_snapshot_get,
        .time = safe_time,
        .random = safe_random,
    };
}

void safe_prepare(struct safe *safe)
{
    struct raft *raft = raft_of(safe);
    raft_set_election_timeout(raft, safe->config.election_timeout_ms);
    raft_set_heartbeat_timeout(raft, safe->config.heartbeat_ms);
    raft_set_pre_vote(raft, has(safe, SAFE_D));
}
