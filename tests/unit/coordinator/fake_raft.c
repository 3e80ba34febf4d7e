/* fake_raft: see fake_raft.h. */
#include "tests/unit/coordinator/fake_raft.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"

enum { EXIT_FATAL = 42 };

static char expected_why[128];

static __attribute__((noreturn)) void on_fatal(void *context, enum status status, const char *why)
{
    (void)context;
    (void)status;
    if (expected_why[0] == 0 || strstr(why, expected_why) == NULL)
        fprintf(stderr, "fatal: %s\n", why);
    _exit(expected_why[0] != 0 && strstr(why, expected_why) != NULL ? EXIT_FATAL : 1);
}

bool fake_raft_dies(void (*script)(unsigned disabled), unsigned disabled, const char *why)
{
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        snprintf(expected_why, sizeof expected_why, "%s", why);
        script(disabled);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == EXIT_FATAL));
    return WEXITSTATUS(status) == EXIT_FATAL;
}

static struct fake_raft *fake_of(const struct raft_io *io)
{
    return io->impl;
}

/* ---- entries and configurations ---------------------------------------------------------------------------------- */

static void add_servers(struct raft_configuration *configuration, unsigned count)
{
    raft_configuration_init(configuration);
    for (unsigned id = 1; id <= count; id++) {
        char address[8];
        snprintf(address, sizeof address, "c%u", id);
        CHECK(raft_configuration_add(configuration, id, address, RAFT_VOTER) == 0);
    }
}

static struct raft_buffer encoded_configuration(unsigned servers)
{
    struct raft_configuration configuration;
    struct raft_buffer buffer;
    add_servers(&configuration, servers);
    CHECK(raft_configuration_encode(&configuration, &buffer) == 0);
    raft_configuration_close(&configuration);
    return buffer;
}

/* An array with one shared batch, as libraft wants received entries; NULL for none. A change has four servers. */
static struct raft_entry *make_entries(const struct fake_entry *from, unsigned count)
{
    enum { SLOT = 256 };
    if (count == 0)
        return NULL;
    struct raft_entry *entries = raft_calloc(count, sizeof *entries);
    char *batch = raft_calloc(count, SLOT);
    CHECK(entries != NULL && batch != NULL);
    for (unsigned i = 0; i < count; i++) {
        struct raft_buffer buffer = {.base = batch + (size_t)i * SLOT, .len = 8};
        if (from[i].type == RAFT_CHANGE) {
            struct raft_buffer change = encoded_configuration(4);
            CHECK(change.len <= SLOT);
            memcpy(buffer.base, change.base, change.len);
            buffer.len = change.len;
            raft_free(change.base);
        }
        entries[i] = (struct raft_entry){.term = from[i].term,
                                         .type = from[i].type != 0 ? from[i].type : (unsigned short)RAFT_COMMAND,
                                         .buf = buffer,
                                         .batch = batch};
    }
    return entries;
}

/* ---- the scripted raft_io ---------------------------------------------------------------------------------------- */

static void run_send_cbs(struct fake_raft *fake);

static int fake_init(struct raft_io *io, raft_id id, const char *address)
{
    (void)io;
    (void)id;
    (void)address;
    return 0;
}

static void fake_close(struct raft_io *io, raft_io_close_cb cb)
{
    run_send_cbs(fake_of(io));
    fake_raft_complete_all(fake_of(io));
    run_send_cbs(fake_of(io));
    if (fake_of(io)->put != NULL)
        fake_raft_complete_put(fake_of(io), RAFT_CANCELED);
    cb(io);
}

static int fake_load(struct raft_io *io, raft_term *term, raft_id *vote, struct raft_snapshot **snapshot,
                     raft_index *start_index, struct raft_entry *entries[], size_t *count)
{
    struct fake_raft *fake = fake_of(io);
    *term = fake->term;
    *vote = fake->vote;
    *snapshot = NULL;
    *start_index = 1;
    *count = fake->log_count;
    *entries = make_entries(fake->log, fake->log_count);
    /* entry 1 has three servers, not four */
    struct raft_buffer first = encoded_configuration(3);
    memcpy((*entries)[0].buf.base, first.base, first.len);
    (*entries)[0].buf.len = first.len;
    raft_free(first.base);
    return 0;
}

static int fake_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv)
{
    (void)msecs;
    fake_of(io)->tick = tick;
    fake_of(io)->recv = recv;
    return 0;
}

static int fake_set_term(struct raft_io *io, raft_term term)
{
    fake_of(io)->term = term;
    fake_of(io)->vote = 0;
    return fake_of(io)->fails ? RAFT_IOERR : 0;
}

static int fake_set_vote(struct raft_io *io, raft_id id)
{
    fake_of(io)->vote = id;
    fake_of(io)->votes_written++;
    return fake_of(io)->fails ? RAFT_IOERR : 0;
}

static int fake_send(struct raft_io *io, struct raft_io_send *request, const struct raft_message *message,
                     raft_io_send_cb cb)
{
    struct fake_raft *fake = fake_of(io);
    CHECK(fake->sent_count < FAKE_SENT_MAX);
    struct fake_sent *sent = &fake->sent[fake->sent_count++];
    sent->message = *message;
    if (message->type == RAFT_IO_APPEND_ENTRIES) {
        for (unsigned i = 0; i < message->append_entries.n_entries && i < COUNT_OF(sent->entries); i++)
            sent->entries[i] =
                (struct fake_entry){message->append_entries.entries[i].term, message->append_entries.entries[i].type};
        sent->message.append_entries.entries = NULL;
    }
    if (cb != NULL) { /* never before send has returned: see run_send_cbs */
        CHECK(fake->cbs_count < FAKE_SENT_MAX);
        fake->cb_requests[fake->cbs_count] = request;
        fake->cbs[fake->cbs_count++] = cb;
    }
    return 0;
}

static void run_send_cbs(struct fake_raft *fake)
{
    for (unsigned i = 0; i < fake->cbs_count; i++)
        fake->cbs[i](fake->cb_requests[i], 0);
    fake->cbs_count = 0;
}

static int fake_append(struct raft_io *io, struct raft_io_append *request, const struct raft_entry entries[],
                       unsigned count, raft_io_append_cb cb)
{
    struct fake_raft *fake = fake_of(io);
    if (fake->fails)
        return RAFT_IOERR;
    CHECK(fake->appends_count < FAKE_PENDING_MAX && fake->log_count + count <= FAKE_LOG_MAX);
    for (unsigned i = 0; i < count; i++)
        fake->log[fake->log_count++] = (struct fake_entry){entries[i].term, entries[i].type};
    fake->appends[fake->appends_count] = request;
    fake->append_cbs[fake->appends_count++] = cb;
    return 0;
}

static int fake_truncate(struct raft_io *io, raft_index index)
{
    struct fake_raft *fake = fake_of(io);
    CHECK(index >= 1 && index <= fake->log_count);
    fake->log_count = (unsigned)index - 1;
    fake->truncates++;
    return fake->fails ? RAFT_IOERR : 0;
}

static int fake_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *request,
                             const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb)
{
    struct fake_raft *fake = fake_of(io);
    (void)trailing;
    if (fake->fails)
        return RAFT_IOERR;
    CHECK(fake->put == NULL);
    fake->put = request;
    fake->put_cb = cb;
    fake->puts++;
    fake->put_servers = snapshot->configuration.n;
    fake->put_index = snapshot->index;
    return 0;
}

static raft_time fake_time(struct raft_io *io)
{
    return fake_of(io)->now;
}

static int fake_random(struct raft_io *io, int min, int max)
{
    (void)io;
    return min + (max - min) / 2;
}

/* ---- the state machine ------------------------------------------------------------------------------------------- */

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buffer, void **result)
{
    struct fake_raft *fake = fsm->data;
    (void)buffer;
    fake->applied++;
    *result = NULL;
    return 0;
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *count)
{
    struct fake_raft *fake = fsm->data;
    if (!safe_may_snapshot(&fake->safe))
        return RAFT_BUSY;
    *bufs = raft_malloc(sizeof **bufs);
    (*bufs)[0] = (struct raft_buffer){.base = raft_malloc(8), .len = 8};
    *count = 1;
    return 0;
}

static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buffer)
{
    (void)fsm;
    raft_free(buffer->base);
    return 0;
}

static void flush(void *context)
{
    struct fake_raft *fake = context;
    fake->flushes++;
}

/* ---- driving ----------------------------------------------------------------------------------------------------- */

void fake_raft_start(struct fake_raft *fake, unsigned disabled, raft_term term, const struct fake_entry *log,
                     unsigned count)
{
    unsigned threshold = fake->snapshot_threshold;
    *fake = (struct fake_raft){.term = term, .now = 1000, .log_count = count + 1};
    fake->log[0] = (struct fake_entry){1, RAFT_CHANGE};
    if (count > 0)
        memcpy(fake->log + 1, log, count * sizeof *log);
    fake->inner = (struct raft_io){
        .version = 1,
        .impl = fake,
        .init = fake_init,
        .close = fake_close,
        .load = fake_load,
        .start = fake_start,
        .set_term = fake_set_term,
        .set_vote = fake_set_vote,
        .send = fake_send,
        .append = fake_append,
        .truncate = fake_truncate,
        .snapshot_put = fake_snapshot_put,
        .time = fake_time,
        .random = fake_random,
    };
    fake->fsm = (struct raft_fsm){
        .version = 1, .data = fake, .apply = fsm_apply, .snapshot = fsm_snapshot, .restore = fsm_restore};
    struct safe_config config = {.election_timeout_ms = FAKE_T,
                                 .heartbeat_ms = FAKE_HEARTBEAT,
                                 .seed = 1,
                                 .context = fake,
                                 .fatal = on_fatal,
                                 .flush = flush,
                                 .disabled = disabled};
    safe_init(&fake->safe, &fake->inner, &config);
    CHECK(raft_init(&fake->raft, &fake->safe.io, &fake->fsm, 1, "c1") == 0);
    safe_prepare(&fake->safe);
    if (threshold > 0)
        raft_set_snapshot_threshold(&fake->raft, threshold);
    CHECK(raft_start(&fake->raft) == 0);
    safe_settle(&fake->safe);
}

void fake_raft_stop(struct fake_raft *fake)
{
    fake->fails = false;
    raft_close(&fake->raft, NULL);
}

void fake_raft_tick(struct fake_raft *fake, unsigned ms)
{
    fake->now += ms;
    fake->tick(&fake->inner);
    run_send_cbs(fake);
}

void fake_raft_complete(struct fake_raft *fake, int status)
{
    CHECK(fake->appends_count > 0);
    struct raft_io_append *request = fake->appends[0];
    raft_io_append_cb cb = fake->append_cbs[0];
    fake->appends_count--;
    memmove(fake->appends, fake->appends + 1, fake->appends_count * sizeof *fake->appends);
    memmove(fake->append_cbs, fake->append_cbs + 1, fake->appends_count * sizeof *fake->append_cbs);
    cb(request, status);
    run_send_cbs(fake);
}

void fake_raft_complete_all(struct fake_raft *fake)
{
    while (fake->appends_count > 0)
        fake_raft_complete(fake, 0);
}

void fake_raft_complete_put(struct fake_raft *fake, int status)
{
    CHECK(fake->put != NULL);
    struct raft_io_snapshot_put *put = fake->put;
    fake->put = NULL;
    fake->put_cb(put, status);
    run_send_cbs(fake);
}

static void receive(struct fake_raft *fake, raft_id from, struct raft_message *message)
{
    char address[8];
    snprintf(address, sizeof address, "c%llu", from);
    message->server_id = from;
    message->server_address = address;
    fake->recv(&fake->inner, message);
    run_send_cbs(fake);
}

void fake_raft_append_entries(struct fake_raft *fake, raft_id from, raft_term term, raft_index prev,
                              raft_term prev_term, raft_index commit, const struct fake_entry *entries, unsigned count)
{
    struct raft_message message = {.type = RAFT_IO_APPEND_ENTRIES,
                                   .append_entries = {.term = term,
                                                      .prev_log_index = prev,
                                                      .prev_log_term = prev_term,
                                                      .leader_commit = commit,
                                                      .entries = make_entries(entries, count),
                                                      .n_entries = count}};
    receive(fake, from, &message);
}

void fake_raft_appended(struct fake_raft *fake, raft_id from, raft_index last)
{
    struct raft_message message = {.type = RAFT_IO_APPEND_ENTRIES_RESULT,
                                   .append_entries_result = {.term = fake->raft.current_term, .last_log_index = last}};
    receive(fake, from, &message);
}

void fake_raft_vote(struct fake_raft *fake, raft_id from, bool pre_vote)
{
    struct raft_message message = {
        .type = RAFT_IO_REQUEST_VOTE_RESULT,
        .request_vote_result = {.term = fake->raft.current_term + (pre_vote ? 1 : 0),
                                .vote_granted = true,
                                .pre_vote = pre_vote ? raft_tribool_true : raft_tribool_false}};
    receive(fake, from, &message);
}

void fake_raft_ask_vote(struct fake_raft *fake, raft_id from, raft_term term, raft_index last, raft_term last_term)
{
    struct raft_message message = {.type = RAFT_IO_REQUEST_VOTE,
                                   .request_vote = {.term = term,
                                                    .candidate_id = from,
                                                    .last_log_index = last,
                                                    .last_log_term = last_term,
                                                    .disrupt_leader = true}};
    receive(fake, from, &message);
}

void fake_raft_timeout_now(struct fake_raft *fake, raft_id from, raft_term term, raft_index last, raft_term last_term)
{
    struct raft_message message = {.type = RAFT_IO_TIMEOUT_NOW,
                                   .timeout_now = {.term = term, .last_log_index = last, .last_log_term = last_term}};
    receive(fake, from, &message);
}

void fake_raft_install(struct fake_raft *fake, raft_id from, raft_term term, raft_index last, raft_term last_term)
{
    struct raft_message message = {.type = RAFT_IO_INSTALL_SNAPSHOT,
                                   .install_snapshot = {.term = term,
                                                        .last_index = last,
                                                        .last_term = last_term,
                                                        .conf_index = 1,
                                                        .data = {.base = raft_malloc(8), .len = 8}}};
    add_servers(&message.install_snapshot.conf, 3);
    receive(fake, from, &message);
}

static void on_applied(struct raft_apply *request, int status, void *result)
{
    struct fake_raft *fake = request->data;
    (void)result;
    fake->completed += status == 0;
    free(request);
}

void fake_raft_propose(struct fake_raft *fake)
{
    struct raft_apply *request = calloc(1, sizeof *request);
    struct raft_buffer buffer = {.base = raft_calloc(1, 8), .len = 8};
    CHECK(request != NULL && buffer.base != NULL);
    request->data = fake;
    CHECK(raft_apply(&fake->raft, request, &buffer, 1, on_applied) == 0);
    safe_settle(&fake->safe);
    run_send_cbs(fake);
}

void fake_raft_campaign(struct fake_raft *fake)
{
    for (int i = 0; fake->raft.state == RAFT_FOLLOWER && i < 1000; i++)
        fake_raft_tick(fake, 10);
    CHECK(fake->raft.state == RAFT_CANDIDATE);
    if (fake->raft.candidate_state.in_pre_vote)
        fake_raft_vote(fake, 2, true);
    CHECK(!fake->raft.candidate_state.in_pre_vote);
}

void fake_raft_elect(struct fake_raft *fake)
{
    fake_raft_campaign(fake);
    fake_raft_vote(fake, 2, false);
    CHECK(fake->raft.state == RAFT_LEADER);
}

const struct fake_sent *fake_raft_last(const struct fake_raft *fake, unsigned type, raft_id to, unsigned since)
{
    for (unsigned i = fake->sent_count; i > since; i--) {
        const struct fake_sent *sent = &fake->sent[i - 1];
        if (sent->message.type == type && (to == 0 || sent->message.server_id == to))
            return sent;
    }
    return NULL;
}

const struct fake_sent *fake_raft_first(const struct fake_raft *fake, unsigned type, raft_id to, unsigned since)
{
    for (unsigned i = since; i < fake->sent_count; i++) {
        const struct fake_sent *sent = &fake->sent[i];
        if (sent->message.type == type && (to == 0 || sent->message.server_id == to))
            return sent;
    }
    return NULL;
}
