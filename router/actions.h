/* router/actions: what the router's core wants done, as data, in the order in which it must be done.
 *
 * The core appends, the shell performs each and then clears the list. Performing may step the core again: new actions
 * go to the end of the same list. Payloads lie in one buffer, named by offset, since it moves as it grows. */
#ifndef SHOAL_ROUTER_ACTIONS_H
#define SHOAL_ROUTER_ACTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/crypto.h"
#include "proto/proto.h"
#include "router/openai_error.h"
#include "router/openai_request.h"
#include "router/text_model.h"

enum router_action_kind {
    ROUTER_DIAL,         /* link: dial payload (an endpoint), whose server has `key`; then LINK_UP, LINK_DOWN, FRAME */
    ROUTER_HANG_UP,      /* link: close it for good */
    ROUTER_SEND,         /* link: payload is a frame */
    ROUTER_LOAD_TEXT,    /* model: open the model at payload (a path); then TEXT_LOADED */
    ROUTER_ENCODE,       /* request: text_model_encode(text, request, ...); then ENCODED */
    ROUTER_ANSWER,       /* request: a whole answer; payload is its body; the request is over */
    ROUTER_STREAM_BEGIN, /* request: 200 and the head of a stream of server-sent events */
    ROUTER_STREAM_DATA,  /* request: payload is one or more events */
    ROUTER_STREAM_END,   /* request: the stream is whole; the request is over */
    ROUTER_ABORT,        /* request: close its connection; the request is over */
    ROUTER_SAVE_VIEW     /* payload is the newest view's frame: keep it on disk */
};

struct router_action {
    enum router_action_kind kind;
    uint64_t target; /* the link's, model's or request's number */
    size_t payload_begin;
    size_t payload_length;
    unsigned http_status;                 /* ANSWER */
    unsigned retry_after_s;               /* ANSWER; 0: no header */
    const char *content_type;             /* ANSWER */
    const char *allow;                    /* ANSWER: Allow header of a 405, or NULL */
    uint8_t key[CURVE_KEY_BYTES];         /* DIAL */
    const struct text_model *text;        /* ENCODE: these two live until ENCODED */
    const struct openai_request *request; /* ENCODE */
    int64_t wall_s;                       /* ENCODE */
    size_t body_bytes;                    /* ENCODE: of the request, as a measure of the work */
};

struct router_actions {
    struct router_action *items;
    size_t count;
    size_t capacity;
    struct buf payload;
};

void router_actions_init(struct router_actions *actions);
void router_actions_free(struct router_actions *actions);
void router_actions_clear(struct router_actions *actions);
struct bytes router_action_payload(const struct router_actions *actions, const struct router_action *action);

/* A new action without payload; what the core appends to actions->payload until actions_close becomes its payload. The
 * pointer is good until the next call. */
struct router_action *actions_open(struct router_actions *actions, enum router_action_kind kind, uint64_t target);
void actions_close(struct router_actions *actions);
/* SEND of one message. */
void actions_send(struct router_actions *actions, uint64_t link, enum proto_opcode opcode, const void *message);
void actions_answer_error(struct router_actions *actions, uint64_t request, const struct openai_error *error);

#endif
