/* rpc: see rpc.h. */
#include "coordinator/consensus/rpc.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "proto/proto.h"

/* Far beyond what a cluster can count up to, and far from any overflow. */
static const uint64_t number_max = 1ULL << 60;

enum { ADDRESS_BYTES_MAX = 128, ARENA_BYTES_MAX = 1 << 20 };

/* ---- configurations ---------------------------------------------------------------------------------------------- */

static bool server_known(const struct raft_configuration *configuration, raft_id id, const char *address)
{
    for (unsigned i = 0; i < configuration->n; i++) {
        if (configuration->servers[i].id == id || strcmp(configuration->servers[i].address, address) == 0)
            return true;
    }
    return false;
}

static bool add_server(struct raft_configuration *configuration, raft_id id, struct bytes address, uint64_t role)
{
    char text[ADDRESS_BYTES_MAX + 1];
    if (id == 0 || address.length == 0 || address.length > ADDRESS_BYTES_MAX || role > RAFT_SPARE)
        return false;
    memcpy(text, address.data, address.length);
    text[address.length] = 0;
    if (strlen(text) != address.length || server_known(configuration, id, text))
        return false;
    CHECK(raft_configuration_add(configuration, id, text, (int)role) == 0); /* fails only without memory */
    return true;
}

static struct bytes take_text(struct cursor *cursor)
{
    const uint8_t *begin = cursor->data + cursor->at;
    const uint8_t *end = cursor_left(cursor) > 0 ? memchr(begin, 0, cursor_left(cursor)) : NULL;
    struct bytes text = cursor_take(cursor, end != NULL ? (uint64_t)(end - begin) : UINT64_MAX);
    cursor_skip(cursor, 1);
    return text;
}

enum status rpc_decode_configuration(struct bytes encoded, struct raft_configuration *out)
{
    struct raft_configuration configuration;
    struct cursor cursor = cursor_of(encoded);
    raft_configuration_init(&configuration);
    uint8_t format = cursor_u8(&cursor);
    uint64_t count = cursor_u64le(&cursor);
    bool valid = format == 1 && count > 0 && count <= RPC_SERVERS_MAX;
    for (uint64_t i = 0; valid && i < count; i++) {
        raft_id id = cursor_u64le(&cursor);
        struct bytes address = take_text(&cursor);
        uint8_t role = cursor_u8(&cursor);
        valid = !cursor.bad && add_server(&configuration, id, address, role);
    }
    valid = valid && !cursor.bad && cursor_left(&cursor) < 8; /* padded to a multiple of 8 */
    if (valid && out != NULL)
        *out = configuration;
    else
        raft_configuration_close(&configuration);
    return valid ? STATUS_OK : STATUS_INVALID;
}

bool rpc_entry_valid(unsigned type, struct bytes data)
{
    if (data.length > RPC_ENTRY_BYTES_MAX)
        return false;
    if (type == RAFT_CHANGE)
        return rpc_decode_configuration(data, NULL) == STATUS_OK;
    return type == RAFT_COMMAND || type == RAFT_BARRIER;
}

/* ---- encoding ---------------------------------------------------------------------------------------------------- */

static enum status emit_one(enum proto_opcode opcode, const void *message, rpc_emit emit, void *context,
                            struct error *error)
{
    struct buf frame;
    buf_init(&frame, PROTO_FRAME_BYTES_MAX);
    enum status status = proto_encode(&frame, opcode, message, error);
    if (status == STATUS_OK)
        emit(context, buf_bytes(&frame));
    buf_free(&frame);
    return status;
}

/* How many of the entries from `first` on go into one frame: at least one. */
static unsigned count_fitting(const struct raft_append_entries *append, unsigned first)
{
    size_t bytes = 0;
    unsigned count = 0;
    while (first + count < append->n_entries && count < RPC_APPEND_ENTRIES_MAX) {
        bytes += append->entries[first + count].buf.len;
        if (count > 0 && bytes > RPC_APPEND_BYTES_MAX)
            break;
        count++;
    }
    return count;
}

static enum status encode_append(const struct raft_append_entries *append, rpc_emit emit, void *context,
                                 struct error *error)
{
    struct proto_raft_entry *entries =
        mem_alloc_array(MIN_OF(append->n_entries, (unsigned)RPC_APPEND_ENTRIES_MAX), sizeof *entries);
    enum status status = STATUS_OK;
    unsigned first = 0;
    do {
        unsigned count = count_fitting(append, first);
        raft_index prev = append->prev_log_index + first;
        for (unsigned i = 0; i < count; i++) {
            const struct raft_entry *entry = &append->entries[first + i];
            entries[i] = (struct proto_raft_entry){
                .term = entry->term, .type = entry->type, .data = bytes_of(entry->buf.base, entry->buf.len)};
        }
        struct proto_raft_append message = {
            .term = append->term,
            .prev_log_index = prev,
            .prev_log_term = first == 0 ? append->prev_log_term : append->entries[first - 1].term,
            /* whole messages keep libraft's own value (the receiver clamps it: A3), parts prove only theirs */
            .leader_commit =
                first + count < append->n_entries ? MIN_OF(append->leader_commit, prev + count) : append->leader_commit,
            .entries = entries,
            .entries_count = count,
        };
        status = emit_one(PROTO_RAFT_APPEND, &message, emit, context, error);
        first += count;
    } while (status == STATUS_OK && first < append->n_entries);
    mem_free(entries);
    return status;
}

static enum status encode_install(const struct raft_install_snapshot *install, rpc_emit emit, void *context,
                                  struct error *error)
{
    struct proto_raft_server servers[RPC_SERVERS_MAX];
    struct proto_raft_install message = {
        .term = install->term,
        .last_index = install->last_index,
        .last_term = install->last_term,
        .configuration_index = install->conf_index,
        .configuration = servers,
        .configuration_count = install->conf.n,
        .total_bytes = install->data.len,
    };
    if (install->conf.n > RPC_SERVERS_MAX || install->data.len > RPC_SNAPSHOT_BYTES_MAX)
        return error_set(error, STATUS_LIMIT, "a snapshot of %zu bytes and %u members can't be sent", install->data.len,
                         install->conf.n);
    for (unsigned i = 0; i < install->conf.n; i++) {
        const struct raft_server *server = &install->conf.servers[i];
        servers[i] = (struct proto_raft_server){
            .id = server->id, .address = bytes_of_text(server->address), .role = (uint64_t)server->role};
    }
    enum status status;
    do {
        size_t length = MIN_OF(install->data.len - message.offset, (size_t)RPC_CHUNK_BYTES_MAX);
        message.data = bytes_of((const uint8_t *)install->data.base + message.offset, length);
        status = emit_one(PROTO_RAFT_INSTALL, &message, emit, context, error);
        message.offset += length;
    } while (status == STATUS_OK && message.offset < install->data.len);
    return status;
}

enum status rpc_encode(const struct raft_message *message, rpc_emit emit, void *context, struct error *error)
{
    switch (message->type) {
    case RAFT_IO_APPEND_ENTRIES:
        return encode_append(&message->append_entries, emit, context, error);
    case RAFT_IO_INSTALL_SNAPSHOT:
        return encode_install(&message->install_snapshot, emit, context, error);
    case RAFT_IO_APPEND_ENTRIES_RESULT: {
        const struct raft_append_entries_result *from = &message->append_entries_result;
        struct proto_raft_appended to = {
            .term = from->term, .rejected = from->rejected, .last_log_index = from->last_log_index};
        return emit_one(PROTO_RAFT_APPENDED, &to, emit, context, error);
    }
    case RAFT_IO_REQUEST_VOTE: {
        const struct raft_request_vote *from = &message->request_vote;
        struct proto_raft_vote_ask to = {.term = from->term,
                                         .candidate = from->candidate_id,
                                         .last_log_index = from->last_log_index,
                                         .last_log_term = from->last_log_term,
                                         .disrupt_leader = from->disrupt_leader,
                                         .pre_vote = from->pre_vote};
        return emit_one(PROTO_RAFT_VOTE_ASK, &to, emit, context, error);
    }
    case RAFT_IO_REQUEST_VOTE_RESULT: {
        const struct raft_request_vote_result *from = &message->request_vote_result;
        struct proto_raft_vote to = {
            .term = from->term, .granted = from->vote_granted, .pre_vote = (uint64_t)from->pre_vote};
        return emit_one(PROTO_RAFT_VOTE, &to, emit, context, error);
    }
    case RAFT_IO_TIMEOUT_NOW: {
        const struct raft_timeout_now *from = &message->timeout_now;
        struct proto_raft_timeout_now to = {
            .term = from->term, .last_log_index = from->last_log_index, .last_log_term = from->last_log_term};
        return emit_one(PROTO_RAFT_TIMEOUT_NOW, &to, emit, context, error);
    }
    default:
        return error_set(error, STATUS_UNSUPPORTED, "libraft sent a message of unknown type %u", message->type);
    }
}

/* ---- decoding ---------------------------------------------------------------------------------------------------- */

static bool term_valid(uint64_t term)
{
    return term > 0 && term < number_max;
}

/* A position in a log: index 0 has term 0, and no other has. */
static bool position_valid(uint64_t index, uint64_t term, uint64_t term_limit)
{
    return index < number_max && term <= term_limit && (index == 0) == (term == 0);
}

static bool entries_valid(const struct proto_raft_append *from)
{
    uint64_t term = from->prev_log_term;
    for (size_t i = 0; i < from->entries_count; i++) {
        const struct proto_raft_entry *entry = &from->entries[i];
        if (entry->term < term || !term_valid(entry->term) || entry->term > from->term ||
            !rpc_entry_valid((unsigned)entry->type, entry->data))
            return false;
        term = entry->term;
    }
    return true;
}

/* libraft wants one array and one shared batch, and frees both; NULL when there is no entry. */
static struct raft_entry *make_entries(const struct proto_raft_append *from)
{
    if (from->entries_count == 0)
        return NULL;
    size_t bytes = 1;
    for (size_t i = 0; i < from->entries_count; i++)
        bytes += from->entries[i].data.length;
    struct raft_entry *entries = raft_calloc(from->entries_count, sizeof *entries);
    uint8_t *batch = raft_malloc(bytes);
    CHECK(entries != NULL && batch != NULL);
    uint8_t *to = batch;
    for (size_t i = 0; i < from->entries_count; i++) {
        struct bytes data = from->entries[i].data;
        entries[i].term = from->entries[i].term;
        entries[i].type = (unsigned short)from->entries[i].type;
        entries[i].buf = (struct raft_buffer){.base = to, .len = data.length};
        entries[i].batch = batch;
        if (data.length > 0)
            memcpy(to, data.data, data.length);
        to += data.length;
    }
    return entries;
}

static bool decode_append(const struct proto_raft_append *from, struct raft_message *out)
{
    if (!term_valid(from->term) || !position_valid(from->prev_log_index, from->prev_log_term, from->term) ||
        from->leader_commit >= number_max || !entries_valid(from))
        return false;
    out->type = RAFT_IO_APPEND_ENTRIES;
    out->append_entries = (struct raft_append_entries){.term = from->term,
                                                       .prev_log_index = from->prev_log_index,
                                                       .prev_log_term = from->prev_log_term,
                                                       .leader_commit = from->leader_commit,
                                                       .entries = make_entries(from),
                                                       .n_entries = (unsigned)from->entries_count};
    return true;
}

static bool decode_vote_ask(const struct proto_raft_vote_ask *from, raft_id sender, struct raft_message *out)
{
    if (!term_valid(from->term) || from->candidate != sender ||
        !position_valid(from->last_log_index, from->last_log_term, from->term))
        return false;
    out->type = RAFT_IO_REQUEST_VOTE;
    out->request_vote = (struct raft_request_vote){.term = from->term,
                                                   .candidate_id = sender,
                                                   .last_log_index = from->last_log_index,
                                                   .last_log_term = from->last_log_term,
                                                   .disrupt_leader = from->disrupt_leader,
                                                   .pre_vote = from->pre_vote};
    return true;
}

static bool decode_install(const struct proto_raft_install *from, struct rpc_incoming *out)
{
    struct rpc_chunk *chunk = &out->chunk;
    bool valid = term_valid(from->term) && from->last_index > 0 &&
                 position_valid(from->last_index, from->last_term, from->term) && from->configuration_index > 0 &&
                 from->configuration_index <= from->last_index && from->configuration_count > 0 &&
                 from->total_bytes <= RPC_SNAPSHOT_BYTES_MAX && from->offset <= from->total_bytes &&
                 from->data.length <= from->total_bytes - from->offset &&
                 (from->data.length > 0 || from->total_bytes == 0);
    *chunk = (struct rpc_chunk){.term = from->term,
                                .last_index = from->last_index,
                                .last_term = from->last_term,
                                .configuration_index = from->configuration_index,
                                .offset = from->offset,
                                .total_bytes = from->total_bytes,
                                .data = from->data};
    raft_configuration_init(&chunk->configuration);
    for (size_t i = 0; valid && i < from->configuration_count; i++) {
        const struct proto_raft_server *server = &from->configuration[i];
        valid = add_server(&chunk->configuration, server->id, server->address, server->role);
    }
    if (!valid)
        raft_configuration_close(&chunk->configuration);
    out->is_chunk = valid;
    return valid;
}

static bool decode_any(const struct proto_message *from, raft_id sender, struct rpc_incoming *out)
{
    struct raft_message *message = &out->message;
    switch ((int)from->opcode) {
    case PROTO_RAFT_APPEND:
        return decode_append(&from->any.raft_append, message);
    case PROTO_RAFT_VOTE_ASK:
        return decode_vote_ask(&from->any.raft_vote_ask, sender, message);
    case PROTO_RAFT_INSTALL:
        return decode_install(&from->any.raft_install, out);
    case PROTO_RAFT_APPENDED:
        message->type = RAFT_IO_APPEND_ENTRIES_RESULT;
        message->append_entries_result =
            (struct raft_append_entries_result){.term = from->any.raft_appended.term,
                                                .rejected = from->any.raft_appended.rejected,
                                                .last_log_index = from->any.raft_appended.last_log_index};
        return term_valid(from->any.raft_appended.term) && from->any.raft_appended.rejected < number_max &&
               from->any.raft_appended.last_log_index < number_max;
    case PROTO_RAFT_VOTE:
        message->type = RAFT_IO_REQUEST_VOTE_RESULT;
        message->request_vote_result =
            (struct raft_request_vote_result){.term = from->any.raft_vote.term,
                                              .vote_granted = from->any.raft_vote.granted,
                                              .pre_vote = (raft_tribool)from->any.raft_vote.pre_vote};
        return term_valid(from->any.raft_vote.term) && from->any.raft_vote.pre_vote <= raft_tribool_false;
    case PROTO_RAFT_TIMEOUT_NOW:
        message->type = RAFT_IO_TIMEOUT_NOW;
        message->timeout_now = (struct raft_timeout_now){.term = from->any.raft_timeout_now.term,
                                                         .last_log_index = from->any.raft_timeout_now.last_log_index,
                                                         .last_log_term = from->any.raft_timeout_now.last_log_term};
        return term_valid(from->any.raft_timeout_now.term) &&
               position_valid(from->any.raft_timeout_now.last_log_index, from->any.raft_timeout_now.last_log_term,
                              from->any.raft_timeout_now.term);
    default:
        return false;
    }
}

enum status rpc_decode(struct bytes frame, raft_id from, struct rpc_incoming *out, struct error *error)
{
    struct arena arena;
    struct proto_message message;
    *out = (struct rpc_incoming){0};
    arena_init(&arena, ARENA_BYTES_MAX);
    enum status status = proto_decode(frame, &arena, &message, error);
    if (status == STATUS_OK && !decode_any(&message, from, out))
        status = error_set(error, STATUS_INVALID, "%s from raft id %llu contradicts itself",
                           proto_opcode_name(message.opcode), from);
    arena_free(&arena);
    return status;
}
