/* cli/operator.c: see operator.h. Asks are repeated every 100 ms to every coordinator until the leader's answer comes;
 * the log takes a repeated command once or finds it without effect, since every command here says what shall be. */
#include "cli/operator.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "cli/home.h"
#include "net/bus.h"
#include "net/identity.h"
#include "net/loop.h"

enum {
    OPERATOR_COORDINATORS_MAX = 16,
    OPERATOR_ASK_MS = 100,
    OPERATOR_ARENA_BYTES = 64 << 20,
    OPERATOR_QUEUE_MAX = 64
};

struct operator_channel {
    struct loop loop;
    struct loop_timer ask_timer, deadline_timer;
    struct identity identity;
    struct members members;
    struct bus *bus;
    struct bus_client *clients[OPERATOR_COORDINATORS_MAX];
    size_t clients_count;
    uint64_t client_id, sequence;
    /* The question that is open. */
    struct buf question;
    enum proto_opcode awaited;
    bool answered, timed_out;
    struct buf frame; /* the answer's bytes */
    struct arena arena;
    struct proto_message answer;
};

static bool is_answer(const struct operator_channel *channel, const struct proto_message *message)
{
    if (message->opcode != channel->awaited) {
        return false;
    }
    if (message->opcode == PROTO_STATUS) {
        return message->any.status.request == channel->sequence;
    }
    return message->any.outcome.client == channel->client_id && message->any.outcome.sequence == channel->sequence &&
           !bytes_equal(message->any.outcome.status, bytes_of_text(status_name(STATUS_UNREACHABLE))) &&
           !bytes_equal(message->any.outcome.status, bytes_of_text(status_name(STATUS_NOT_LEADER)));
}

static void received(void *context, struct bytes frame)
{
    struct operator_channel *channel = context;
    struct error error;
    if (channel->answered) {
        return;
    }
    arena_free(&channel->arena);
    arena_init(&channel->arena, OPERATOR_ARENA_BYTES);
    buf_clear(&channel->frame);
    buf_append_bytes(&channel->frame, frame);
    if (proto_decode(buf_bytes(&channel->frame), &channel->arena, &channel->answer, &error) == STATUS_OK &&
        is_answer(channel, &channel->answer)) {
        channel->answered = true;
        loop_stop(&channel->loop);
    }
}

static void ask_all(struct operator_channel *channel)
{
    for (size_t i = 0; i < channel->clients_count; i++) {
        if (bus_client_send(channel->clients[i], buf_bytes(&channel->question)) != STATUS_OK) {
            continue; /* not connected yet: asked again in a moment */
        }
    }
}

static void ask_due(struct loop_timer *timer)
{
    ask_all(timer->context);
}

static void deadline_due(struct loop_timer *timer)
{
    struct operator_channel *channel = timer->context;
    channel->timed_out = true;
    loop_stop(&channel->loop);
}

static void connected(void *context)
{
    ask_all(context);
}

static enum status dial_all(struct operator_channel *channel, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < channel->members.count && status == STATUS_OK; i++) {
        const struct member *member = &channel->members.list[i];
        if (member->role != MEMBER_COORDINATOR || channel->clients_count == OPERATOR_COORDINATORS_MAX) {
            continue;
        }
        struct bus_client_config config = {.endpoint = member->endpoint,
                                           .frame_bytes_max = PROTO_FRAME_BYTES_MAX,
                                           .queue_max = OPERATOR_QUEUE_MAX,
                                           .context = channel,
                                           .received = received,
                                           .connected = connected};
        memcpy(config.server_key, member->public_key, CURVE_KEY_BYTES);
        status = bus_dial(channel->bus, &config, &channel->clients[channel->clients_count], error);
        channel->clients_count += status == STATUS_OK;
    }
    return status;
}

enum status operator_open(const char *identity_path, const char *members_path, struct operator_channel **out,
                          struct error *error)
{
    struct operator_channel *channel = mem_new(struct operator_channel);
    enum status status = crypto_init();
    if (status != STATUS_OK) {
        (void)error_set(error, status, "libsodium can't be initialised");
    }
    if (status != STATUS_OK || (status = identity_read(identity_path, &channel->identity, error)) != STATUS_OK ||
        (status = members_read(members_path, &channel->members, error)) != STATUS_OK ||
        (status = loop_init(&channel->loop, error)) != STATUS_OK) {
        members_free(&channel->members);
        crypto_wipe(&channel->identity, sizeof(channel->identity));
        mem_free(channel);
        return status;
    }
    crypto_random(&channel->client_id, sizeof(channel->client_id));
    buf_init(&channel->question, PROTO_FRAME_BYTES_MAX);
    buf_init(&channel->frame, PROTO_FRAME_BYTES_MAX);
    arena_init(&channel->arena, OPERATOR_ARENA_BYTES);
    loop_timer_init(&channel->loop, &channel->ask_timer, channel, ask_due);
    loop_timer_init(&channel->loop, &channel->deadline_timer, channel, deadline_due);
    status = bus_open(&channel->loop, &channel->identity.keys, &channel->bus, error);
    if (status == STATUS_OK) {
        status = dial_all(channel, error);
    }
    if (status != STATUS_OK) {
        operator_close(channel);
        return status;
    }
    *out = channel;
    return STATUS_OK;
}

enum status operator_open_dir(const char *dir, struct operator_channel **out, struct error *error)
{
    char *identity = home_path(dir, "keys", "operator.key");
    char *members = home_path(dir, "keys", "members.json");
    enum status status = operator_open(identity, members, out, error);
    mem_free(identity);
    mem_free(members);
    return status;
}

void operator_close(struct operator_channel *channel)
{
    loop_timer_close(&channel->ask_timer);
    loop_timer_close(&channel->deadline_timer);
    if (channel->bus != NULL) {
        bus_close(channel->bus);
    }
    loop_close(&channel->loop);
    buf_free(&channel->question);
    buf_free(&channel->frame);
    arena_free(&channel->arena);
    members_free(&channel->members);
    crypto_wipe(&channel->identity, sizeof(channel->identity));
    mem_free(channel);
}

/* Asks what `question` holds until `awaited` comes with our sequence. */
static enum status ask(struct operator_channel *channel, enum proto_opcode awaited, uint64_t timeout_ms,
                       struct error *error)
{
    channel->awaited = awaited;
    channel->answered = channel->timed_out = false;
    loop_timer_start(&channel->ask_timer, 0, OPERATOR_ASK_MS);
    loop_timer_start(&channel->deadline_timer, timeout_ms, 0);
    while (!channel->answered && !channel->timed_out) {
        loop_run(&channel->loop);
    }
    loop_timer_stop(&channel->ask_timer);
    loop_timer_stop(&channel->deadline_timer);
    if (!channel->answered) {
        return error_set(error, STATUS_UNREACHABLE, "no leading coordinator answered within %.1f s",
                         (double)timeout_ms / 1000);
    }
    return STATUS_OK;
}

enum status operator_status(struct operator_channel *channel, uint64_t timeout_ms, const struct proto_status **out,
                            struct error *error)
{
    struct proto_status_ask question = {.request = ++channel->sequence};
    buf_clear(&channel->question);
    enum status status = proto_encode(&channel->question, PROTO_STATUS_ASK, &question, error);
    if (status == STATUS_OK) {
        status = ask(channel, PROTO_STATUS, timeout_ms, error);
    }
    if (status == STATUS_OK) {
        *out = &channel->answer.any.status;
    }
    return status;
}

static enum status status_of_name(struct bytes name)
{
    for (int status = 0; status < STATUS_COUNT; status++) {
        if (bytes_equal(name, bytes_of_text(status_name((enum status)status)))) {
            return (enum status)status;
        }
    }
    return STATUS_INVALID;
}

enum status operator_propose(struct operator_channel *channel, enum proto_opcode opcode, const void *command,
                             uint64_t timeout_ms, struct error *error)
{
    struct buf encoded;
    buf_init(&encoded, PROTO_FRAME_BYTES_MAX);
    enum status status = proto_encode(&encoded, opcode, command, error);
    if (status == STATUS_OK) {
        struct proto_propose question = {
            .client = channel->client_id, .sequence = ++channel->sequence, .command = buf_bytes(&encoded)};
        buf_clear(&channel->question);
        status = proto_encode(&channel->question, PROTO_PROPOSE, &question, error);
    }
    buf_free(&encoded);
    if (status == STATUS_OK) {
        status = ask(channel, PROTO_OUTCOME, timeout_ms, error);
    }
    if (status == STATUS_OK) {
        const struct proto_outcome *outcome = &channel->answer.any.outcome;
        status = status_of_name(outcome->status);
        if (status != STATUS_OK) {
            (void)error_set(error, status, "%.*s", (int)outcome->detail.length, (const char *)outcome->detail.data);
        }
    }
    return status;
}
