/* router: the whole of a router as one pure core: events in, actions out.
 *
 * HTTP requests and clients' fates come in with numbers that the shell gives; frames of engines come with the link's
 * number that the core gave in DIAL; views come as frames. What is to be done goes out as struct router_actions. No
 * clock, socket, file, thread or randomness: times and random numbers are in the events.
 *
 * The request's way: api (endpoint, key → tenant) → admit → openai_request → model's texts → ENCODE → fleet_pick →
 * SUBMIT → TOKENS → stream_take → server-sent events. What happens to a stream in between is in stream.h's diagram. */
#ifndef SHOAL_ROUTER_ROUTER_H
#define SHOAL_ROUTER_ROUTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/metrics.h"
#include "router/actions.h"
#include "router/api.h"
#include "router/text_model.h"

struct router;

struct router_config {
    const char *name;
    uint64_t incarnation;
    struct metrics *metrics; /* the core registers its series in it, and prints it on GET /metrics */
    uint64_t silence_us;     /* without load: an engine is dead; 0: 500 ms */
    uint64_t stall_us;       /* without a step though streams run: an engine is stuck; 0: 10 s */
    uint64_t wait_us;        /* how long a request waits for a replica; 0: 30 s */
    uint64_t parked_us;      /* how long a client may not read; 0: 60 s */
    size_t requests_max;     /* open; 0: 4096 */
    size_t bodies_bytes_max; /* of their bodies together; 0: 256 MiB */
    size_t blocks_max;       /* KV blocks known per replica; 0: 1 Mi */
};

enum router_event_kind {
    ROUTER_TICK,        /* about every 50 ms */
    ROUTER_VIEW,        /* frame: from a coordinator, or the kept file */
    ROUTER_TEXT_LOADED, /* target: the model's number; words, or NULL and why */
    ROUTER_LINK_UP,     /* target: the link */
    ROUTER_LINK_DOWN,
    ROUTER_FRAME,          /* target: the link; frame */
    ROUTER_REQUEST,        /* target: the request's new number; http, wall_s, random */
    ROUTER_ENCODED,        /* target: the request; encoded */
    ROUTER_CLIENT_GONE,    /* target: the request */
    ROUTER_CLIENT_FULL,    /* too much waits to be read by the client: send it no more */
    ROUTER_CLIENT_WRITABLE /* it has read most of it */
};

struct router_encoded {
    bool ok;
    struct ids ids; /* the core takes them */
    struct openai_error error;
};

struct router_event {
    enum router_event_kind kind;
    uint64_t now_us; /* monotonic, never falls */
    uint64_t target;
    struct bytes frame;
    struct text_model *words; /* the core takes this use of it */
    const char *why;
    const struct api_http *http;
    uint64_t wall_s;
    uint64_t random[3];
    struct router_encoded *encoded;
};

struct router *router_new(const struct router_config *config);
void router_free(struct router *router); /* no ENCODE may be out */
void router_step(struct router *router, const struct router_event *event, struct router_actions *actions);

/* For the question to the coordinators, and for status. */
uint64_t router_view_incarnation(const struct router *router);
uint64_t router_view_index(const struct router *router); /* 0: no view yet */
size_t router_open_requests(const struct router *router);
/* The coordinators as the view names them. */
const struct proto_view *router_view(const struct router *router);

#endif
