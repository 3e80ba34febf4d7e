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

enum { OPERATOR_COORDINATORS_MAX = 16, OPERATOR_ASK_MS = 100, OPERATOR_ARENA_BYTES = 64 << 20, OPERATOR_QUEUE_MAX = 64 };

struct operator {
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

static bool is_answer(const struct operator *operator, const struct proto_message *message)
{
    if (message->opcode != operator->awaited) {
        return false;
    }
    if (message->opcode == PROTO_STATUS) {
        return message->any.status.request == operator->sequence;
    }
    return message->any.outcome.client == operator->client_id &&
           message->any.outcome.sequence == operator->sequence &&
           !bytes_equal(message->any.outcome.status, bytes_of_text(status_name(STATUS_UNREACHABLE))) &&
           !bytes_equal(message->any.outcome.status, bytes_of_text(status_name(STATUS_NOT_LEADER)));
}

static void received(void *context, struct bytes frame)
{
    struct operator *operator = context;
    struct error error;
    if (operator->answered) {
        return;
    }
    arena_free(&operator->arena);
    arena_init(&operator->arena, OPERATOR_ARENA_BYTES);
    buf_clear(&operator->frame);
    buf_append_bytes(&operator->frame, frame);
    if (proto_decode(buf_bytes(&operator->frame), &operator->arena, &operator->answer, &error) == STATUS_OK &&
        is_answer(operator, &operator->answer)) {
        operator->answered = true;
        loop_stop(&operator->loop);
    }
}

static void ask_all(struct operator *operator)
{
    for (size_t i = 0; i < operator->clients_count; i++) {
        if (bus_client_send(operator->clients[i], buf_bytes(&operator->question)) != STATUS_OK) {
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
    struct operator *operator = timer->context;
    operator->timed_out = true;
    loop_stop(&operator->loop);
}

static void connected(void *context)
{
    ask_all(context);
}

static enum status dial_all(struct operator *operator, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < operator->members.count && status == STATUS_OK; i++) {
        const struct member *member = &operator->members.list[i];
        if (member->role != MEMBER_COORDINATOR || operator->clients_count == OPERATOR_COORDINATORS_MAX) {
            continue;
        }
        struct bus_client_config config = {.endpoint = member->endpoint,
                                           .frame_bytes_max = PROTO_FRAME_BYTES_MAX,
                                           .queue_max = OPERATOR_QUEUE_MAX,
                                           .context = operator,
                                           .received = received,
                                           .connected = connected};
        memcpy(config.server_key, member->public_key, CURVE_KEY_BYTES);
        status = bus_dial(operator->bus, &config, &operator->clients[operator->clients_count], error);
        operator->clients_count += status == STATUS_OK;
    }
    return status;
}

enum status operator_open(const char *identity_path, const char *members_path, struct operator **out,
                          struct error *error)
{
    struct operator *operator = mem_new(struct operator);
    enum status status = crypto_init();
    if (status != STATUS_OK) {
        (void)error_set(error, status, "libsodium can't be initialised");
    }
    if (status != STATUS_OK || (status = identity_read(identity_path, &operator->identity, error)) != STATUS_OK ||
        (status = members_read(members_path, &operator->members, error)) != STATUS_OK ||
        (status = loop_init(&operator->loop, error)) != STATUS_OK) {
        members_free(&operator->members);
        crypto_wipe(&operator->identity, sizeof(operator->identity));
        mem_free(operator);
        return status;
    }
    crypto_random(&operator->client_id, sizeof(operator->client_id));
    buf_init(&operator->question, PROTO_FRAME_BYTES_MAX);
    buf_init(&operator->frame, PROTO_FRAME_BYTES_MAX);
    arena_init(&operator->arena, OPERATOR_ARENA_BYTES);
    loop_timer_init(&operator->loop, &operator->ask_timer, operator, ask_due);
    loop_timer_init(&operator->loop, &operator->deadline_timer, operator, deadline_due);
    status = bus_open(&operator->loop, &operator->identity.keys, &operator->bus, error);
    if (status == STATUS_OK) {
        status = dial_all(operator, error);
    }
    if (status != STATUS_OK) {
        operator_close(operator);
        return status;
    }
    *out = operator;
    return STATUS_OK;
}

enum status operator_open_dir(const char *dir, struct operator **out, struct error *error)
{
    char *identity = home_path(dir, "keys", "operator.key");
    char *members = home_path(dir, "keys", "members.json");
    enum status status = operator_open(identity, members, out, error);
    mem_free(identity);
    mem_free(members);
    return status;
}

void operator_close(struct operator *operator)
{
    loop_timer_close(&operator->ask_timer);
    loop_timer_close(&operator->deadline_timer);
    if (operator->bus != NULL) {
        bus_close(operator->bus);
    }
    loop_close(&operator->loop);
    buf_free(&operator->question);
    buf_free(&operator->frame);
    arena_free(&operator->arena);
    members_free(&operator->members);
    crypto_wipe(&operator->identity, sizeof(operator->identity));
    mem_free(operator);
}

/* Asks what `question` holds until `awaited` comes with our sequence. */
static enum status ask(struct operator *operator, enum proto_opcode awaited, uint64_t timeout_ms, struct error *error)
{
    operator->awaited = awaited;
    operator->answered = operator->timed_out = false;
    loop_timer_start(&operator->ask_timer, 0, OPERATOR_ASK_MS);
    loop_timer_start(&operator->deadline_timer, timeout_ms, 0);
    while (!operator->answered && !operator->timed_out) {
        loop_run(&operator->loop);
    }
    loop_timer_stop(&operator->ask_timer);
    loop_timer_stop(&operator->deadline_timer);
    if (!operator->answered) {
        return error_set(error, STATUS_UNREACHABLE, "no leading coordinator answered within %.1f s",
                         (double)timeout_ms / 1000);
    }
    return STATUS_OK;
}

enum status operator_status(struct operator *operator, uint64_t timeout_ms, const struct proto_status **out,
                            struct error *error)
{
    struct proto_status_ask question = {.request = ++operator->sequence};
    buf_clear(&operator->question);
    enum status status = proto_encode(&operator->question, PROTO_STATUS_ASK, &question, error);
    if (status == STATUS_OK) {
        status = ask(operator, PROTO_STATUS, timeout_ms, error);
    }
    if (status == STATUS_OK) {
        *out = &operator->answer.any.status;
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

enum status operator_propose(struct operator *operator, enum proto_opcode opcode, const void *command,
                             uint64_t timeout_ms, struct error *error)
{
    struct buf encoded;
    buf_init(&encoded, PROTO_FRAME_BYTES_MAX);
    enum status status = proto_encode(&encoded, opcode, command, error);
    if (status == STATUS_OK) {
        struct proto_propose question = {
            .client = operator->client_id, .sequence = ++operator->sequence, .command = buf_bytes(&encoded)};
        buf_clear(&operator->question);
        status = proto_encode(&operator->question, PROTO_PROPOSE, &question, error);
    }
    buf_free(&encoded);
    if (status == STATUS_OK) {
        status = ask(operator, PROTO_OUTCOME, timeout_ms, error);
    }
    if (status == STATUS_OK) {
        const struct proto_outcome *outcome = &operator->answer.any.outcome;
        status = status_of_name(outcome->status);
        if (status != STATUS_OK) {
            (void)error_set(error, status, "%.*s", (int)outcome->detail.length, (const char *)outcome->detail.data);
        }
    }
    return status;
}
