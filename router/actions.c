/* actions: see actions.h. */
#include "router/actions.h"

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"

enum { PAYLOAD_BYTES_MAX = 1 << 30 };

void router_actions_init(struct router_actions *actions)
{
    *actions = (struct router_actions){0};
    buf_init(&actions->payload, PAYLOAD_BYTES_MAX);
}

void router_actions_free(struct router_actions *actions)
{
    mem_free(actions->items);
    buf_free(&actions->payload);
}

void router_actions_clear(struct router_actions *actions)
{
    actions->count = 0;
    if (actions->payload.capacity > 1 << 20) {
        buf_free(&actions->payload); /* a burst's memory goes back */
        buf_init(&actions->payload, PAYLOAD_BYTES_MAX);
    } else {
        buf_clear(&actions->payload);
    }
}

struct bytes router_action_payload(const struct router_actions *actions, const struct router_action *action)
{
    return bytes_of(actions->payload.data + action->payload_begin, action->payload_length);
}

struct router_action *actions_open(struct router_actions *actions, enum router_action_kind kind, uint64_t target)
{
    if (actions->count == actions->capacity) {
        actions->capacity = MAX_OF(actions->capacity * 2, 16U);
        actions->items = mem_realloc_array(actions->items, actions->capacity, sizeof(*actions->items));
    }
    struct router_action *action = &actions->items[actions->count++];
    *action = (struct router_action){.kind = kind, .target = target, .payload_begin = actions->payload.length};
    return action;
}

void actions_close(struct router_actions *actions)
{
    CHECK(actions->count > 0 && !actions->payload.overflow);
    struct router_action *action = &actions->items[actions->count - 1];
    action->payload_length = actions->payload.length - action->payload_begin;
}

void actions_send(struct router_actions *actions, uint64_t link, enum proto_opcode opcode, const void *message)
{
    actions_open(actions, ROUTER_SEND, link);
    struct error why = {0};
    if (proto_encode(&actions->payload, opcode, message, &why) != STATUS_OK) {
        /* Every field is bounded before it gets here. */
        LOG_E("router", "encode_failed", "message=%s error=%s", proto_opcode_name(opcode), log_quoted(why.text));
        actions->count--;
        return;
    }
    actions_close(actions);
}

void actions_answer_error(struct router_actions *actions, uint64_t request, const struct openai_error *error)
{
    struct router_action *action = actions_open(actions, ROUTER_ANSWER, request);
    action->http_status = error->http_status;
    action->retry_after_s = error->retry_after_s;
    action->content_type = "application/json";
    openai_write_error(&actions->payload, error);
    actions_close(actions);
}
