/* replog: see replog.h. Puts log, io, safe and libraft together. */
#include "coordinator/consensus/replog.h"

#include <raft.h>
#include <string.h>

#include "base/check.h"
#include "base/crypto.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "coordinator/consensus/io.h"
#include "coordinator/consensus/safe.h"
#include "coordinator/consensus/wal.h"

enum { PROPOSALS_MAX = 4096, INSTALL_TIMEOUT_MS = 5000 };

struct proposal {
    struct raft_apply request;
    struct list node;
    struct replog *replog;
    struct replog_propose *propose;
    enum status status;
};

struct role {
    bool leading;
    uint64_t leader;
    uint64_t term;
};

struct replog {
    struct replog_config config; /* its pointers to names and folder are not used after open */
    struct raft raft;
    struct raft_fsm fsm;
    struct io io;
    struct safe safe;
    struct list waiting; /* proposals under way */
    struct list done;    /* proposals whose callback is due */
    size_t waiting_count;
    struct role role; /* as last reported */
};

/* ---- the state machine ------------------------------------------------------------------------------------------- */

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *command, void **result)
{
    struct replog *replog = fsm->data;
    *result = NULL;
    /* libraft counts an entry as applied when this has returned */
    replog->config.fsm.apply(replog->config.fsm.context, replog->raft.last_applied + 1,
                             bytes_of(command->base, command->len));
    return 0;
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *count)
{
    struct replog *replog = fsm->data;
    struct buf state;
    if (!safe_may_snapshot(&replog->safe))
        return RAFT_BUSY;
    buf_init(&state, RPC_SNAPSHOT_BYTES_MAX);
    enum status status = replog->config.fsm.snapshot(replog->config.fsm.context, &state);
    if (status != STATUS_OK || state.overflow) {
        LOG_W("consensus", "no_snapshot", "status=%s bytes=%zu", status_name(status), state.length);
        buf_free(&state);
        return RAFT_BUSY; /* tried again with the next entries */
    }
    *bufs = raft_calloc(1, sizeof **bufs);
    CHECK(*bufs != NULL);
    (*bufs)[0] = (struct raft_buffer){.base = raft_malloc(state.length + 1), .len = state.length};
    CHECK((*bufs)[0].base != NULL);
    if (state.length > 0)
        memcpy((*bufs)[0].base, state.data, state.length);
    *count = 1;
    buf_free(&state);
    return 0;
}

static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *snapshot)
{
    struct replog *replog = fsm->data;
    enum status status = replog->config.fsm.restore(replog->config.fsm.context, replog->io.restoring_index,
                                                    bytes_of(snapshot->base, snapshot->len));
    if (status != STATUS_OK)
        replog->config.fatal(replog->config.context, status, "the state machine refuses a snapshot");
    raft_free(snapshot->base); /* ours from here on */
    return 0;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static enum status check_config(const struct replog_config *config, struct error *error)
{
    if (config->raft_id == 0 || config->members_count == 0 || config->members_count > REPLOG_MEMBERS_MAX)
        return error_set(error, STATUS_INVALID, "a voter needs a raft id and 1 to %d members", REPLOG_MEMBERS_MAX);
    if (config->heartbeat_ms == 0 || config->election_timeout_ms < 2 * config->heartbeat_ms ||
        config->snapshot_threshold == 0)
        return error_set(error, STATUS_INVALID,
                         "the election timeout must be twice the heartbeat, and a snapshot be taken sometimes");
    return STATUS_OK;
}

/* The first entry of every log of this cluster: its members. */
static enum status create_log(const struct replog_config *config, const struct wal_config *wal, struct error *error)
{
    struct raft_configuration members;
    struct raft_buffer encoded;
    raft_configuration_init(&members);
    int rv = 0;
    for (unsigned i = 0; rv == 0 && i < config->members_count; i++)
        rv = raft_configuration_add(&members, config->members[i].raft_id, config->members[i].name, RAFT_VOTER);
    if (rv == 0)
        rv = raft_configuration_encode(&members, &encoded);
    raft_configuration_close(&members);
    if (rv != 0)
        return error_set(error, STATUS_INVALID, "the members are no configuration: %s", raft_strerror(rv));
    struct wal_entry first = {.term = 1, .type = RAFT_CHANGE, .data = bytes_of(encoded.base, encoded.len)};
    enum status status = rpc_decode_configuration(first.data, NULL);
    if (status == STATUS_OK)
        status = wal_create(wal, 1, &first, error);
    else
        error_set(error, status, "the members are no configuration");
    raft_free(encoded.base);
    return status;
}

static enum status open_log(const struct replog_config *config, struct wal **wal, struct wal_loaded *loaded,
                            struct error *error)
{
    struct wal_config wal_config = {
        .disk = config->disk,
        .folder = config->folder,
        .identity = {.raft_id = config->raft_id, .incarnation = config->incarnation},
        .inline_writes = config->disk_inline,
    };
    memcpy(wal_config.identity.cluster_id, config->cluster_id, sizeof wal_config.identity.cluster_id);
    if (config->first_start) {
        struct wal_config first = wal_config;
        first.identity.incarnation = MAX_OF(config->incarnation, (uint64_t)1);
        enum status status = create_log(config, &first, error);
        if (status != STATUS_OK)
            return status;
    }
    return wal_open(&wal_config, wal, loaded, error);
}

static void flush(void *context)
{
    struct replog *replog = context;
    io_flush(&replog->io);
}

static __attribute__((noreturn)) void on_fatal(void *context, enum status status, const char *why)
{
    struct replog *replog = context;
    LOG_E("consensus", "fatal", "status=%s why=%s", status_name(status), log_quoted(why));
    replog->config.fatal(replog->config.context, status, why);
}

static const char *own_name(const struct replog_config *config)
{
    for (unsigned i = 0; i < config->members_count; i++) {
        if (config->members[i].raft_id == config->raft_id)
            return config->members[i].name;
    }
    return "self";
}

static enum status start(struct replog *replog, struct error *error)
{
    const struct replog_config *config = &replog->config;
    struct safe_config safe = {
        .rank = config->rank,
        .election_timeout_ms = config->election_timeout_ms,
        .heartbeat_ms = config->heartbeat_ms,
        .seed = config->seed,
        .context = replog,
        .fatal = on_fatal,
        .flush = flush,
    };
    if (safe.seed == 0)
        crypto_entropy(&safe.seed, sizeof safe.seed);
    safe_init(&replog->safe, &replog->io.raft, &safe);
    replog->fsm = (struct raft_fsm){
        .version = 1, .data = replog, .apply = fsm_apply, .snapshot = fsm_snapshot, .restore = fsm_restore};
    CHECK(raft_init(&replog->raft, &replog->safe.io, &replog->fsm, config->raft_id, own_name(config)) == 0);
    safe_prepare(&replog->safe);
    raft_set_snapshot_threshold(&replog->raft, config->snapshot_threshold);
    raft_set_snapshot_trailing(&replog->raft, MAX_OF(config->snapshot_threshold / 2, 1u)); /* 0 means: replace all */
    raft_set_install_snapshot_timeout(&replog->raft, INSTALL_TIMEOUT_MS);
    if (raft_start(&replog->raft) != 0)
        return error_set(error, STATUS_CORRUPT, "%s: libraft can't start: %s", config->folder,
                         raft_errmsg(&replog->raft));
    safe_settle(&replog->safe);
    io_settle(&replog->io);
    return STATUS_OK;
}

enum status replog_open(const struct replog_config *config, struct replog **out, struct error *error)
{
    struct wal *wal;
    struct wal_loaded loaded;
    enum status status = check_config(config, error);
    if (status == STATUS_OK)
        status = open_log(config, &wal, &loaded, error);
    if (status != STATUS_OK)
        return status;
    struct replog *replog = mem_new(struct replog);
    replog->config = *config;
    list_init(&replog->waiting);
    list_init(&replog->done);
    struct replog_config io_config = *config;
    io_config.context = replog;
    io_config.fatal = on_fatal;
    io_init(&replog->io, wal, &loaded, &io_config);
    status = start(replog, error);
    if (status != STATUS_OK) {
        replog_close(replog);
        return status;
    }
    *out = replog;
    return STATUS_OK;
}

static void drop_proposals(struct list *list)
{
    while (!list_empty(list)) {
        struct proposal *proposal = LIST_ENTRY(list_first(list), struct proposal, node);
        list_remove(&proposal->node);
        mem_free(proposal);
    }
}

void replog_close(struct replog *replog)
{
    raft_close(&replog->raft, NULL); /* fails what waits, then closes safe and io, all before it returns */
    drop_proposals(&replog->waiting);
    drop_proposals(&replog->done);
    mem_free(replog);
}

void replog_abandon(struct replog *replog)
{
    replog->io.abandoned = true;
    replog_close(replog);
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

static void report_role(struct replog *replog)
{
    struct role role = {replog_leading(replog), replog_leader(replog), replog_term(replog)};
    const struct role *last = &replog->role;
    if (role.leading == last->leading && role.leader == last->leader && role.term == last->term)
        return;
    replog->role = role;
    replog->config.on_role(replog->config.context, role.leading, role.leader, role.term);
}

static void report(struct replog *replog)
{
    while (!list_empty(&replog->done)) {
        struct proposal *proposal = LIST_ENTRY(list_first(&replog->done), struct proposal, node);
        list_remove(&proposal->node);
        proposal->propose->done(proposal->propose, proposal->status, proposal->request.index);
        mem_free(proposal);
    }
    report_role(replog);
}

int replog_disk_fd(const struct replog *replog)
{
    return wal_fd(replog->io.wal);
}

void replog_disk_ready(struct replog *replog, uint64_t now_us)
{
    if (replog->config.disk_inline)
        wal_work(replog->io.wal);
    io_disk_ready(&replog->io, now_us);
    report(replog);
}

void replog_tick(struct replog *replog, uint64_t now_us)
{
    io_tick(&replog->io, now_us);
    report(replog);
}

enum status replog_receive(struct replog *replog, uint64_t raft_id, struct bytes frame, uint64_t now_us)
{
    enum status status = io_receive(&replog->io, raft_id, frame, now_us);
    report(replog);
    return status;
}

/* ---- proposing --------------------------------------------------------------------------------------------------- */

static void on_applied(struct raft_apply *request, int rv, void *result)
{
    struct proposal *proposal = request->data;
    struct replog *replog = proposal->replog;
    (void)result;
    proposal->status = rv == 0 ? STATUS_OK : STATUS_UNREACHABLE;
    list_remove(&proposal->node);
    list_push_back(&replog->done, &proposal->node);
    replog->waiting_count--;
}

enum status replog_propose(struct replog *replog, struct replog_propose *propose, struct bytes command)
{
    if (!safe_leading(&replog->safe))
        return STATUS_NOT_LEADER;
    if (replog->waiting_count >= PROPOSALS_MAX)
        return STATUS_FULL;
    if (command.length == 0)
        return STATUS_INVALID;
    if (command.length > RPC_ENTRY_BYTES_MAX)
        return STATUS_LIMIT;
    struct raft_buffer buffer = {.base = raft_malloc(command.length), .len = command.length};
    if (buffer.base == NULL)
        return STATUS_NO_MEMORY;
    memcpy(buffer.base, command.data, command.length);
    struct proposal *proposal = mem_new(struct proposal);
    proposal->replog = replog;
    proposal->propose = propose;
    proposal->request.data = proposal;
    list_push_back(&replog->waiting, &proposal->node);
    replog->waiting_count++;
    /* one buffer at a time: with more, libraft calls back after the first */
    if (raft_apply(&replog->raft, &proposal->request, &buffer, 1, on_applied) != 0) {
        list_remove(&proposal->node);
        replog->waiting_count--;
        mem_free(proposal);
        raft_free(buffer.base);
        return STATUS_NOT_LEADER; /* leadership is being handed on */
    }
    safe_settle(&replog->safe);
    io_settle(&replog->io);
    return STATUS_OK;
}

bool replog_leading(const struct replog *replog)
{
    return safe_leading(&replog->safe);
}

uint64_t replog_leader(const struct replog *replog)
{
    raft_id id = 0;
    const char *address = NULL;
    raft_leader((struct raft *)&replog->raft, &id, &address); /* only reads */
    return id;
}

uint64_t replog_term(const struct replog *replog)
{
    return replog->raft.current_term;
}

uint64_t replog_applied(const struct replog *replog)
{
    return replog->raft.last_applied;
}
