/* router/view: the cluster as the router knows it: the newest VIEW, kept as the frame it came in.
 *
 * view_offer takes a frame when its (incarnation, index) is higher than what is there; the same frame is what the
 * router keeps on disk (0600), so that one that starts during a total outage serves on it. Answers who a key belongs
 * to and what models there are. Owns frame and decoded arrays; what it returns lives until the next view is taken. */
#ifndef SHOAL_ROUTER_VIEW_H
#define SHOAL_ROUTER_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/map.h"
#include "proto/proto.h"

struct view {
    struct buf frame;
    struct arena arena;
    struct proto_view now; /* index 0: none yet */
    struct map keys;       /* hash → struct proto_view_key */
    struct map tenants;    /* name → struct proto_view_tenant */
    struct map models;     /* name → struct proto_view_model */
};

void view_init(struct view *view);
void view_free(struct view *view);

/* STATUS_OK: taken. STATUS_AGAIN: not newer than what is there. Otherwise it is no view: *error says why. */
MUST_CHECK enum status view_offer(struct view *view, struct bytes frame, struct error *error);

/* The tenant of an API key, NULL when there is none. The key is hashed and found by its hash: how long that takes
 * depends on the hash alone, which whoever guesses keys can't steer; the match itself is in constant time. */
const struct proto_view_tenant *view_tenant_of_key(const struct view *view, struct bytes api_key);
const struct proto_view_model *view_model(const struct view *view, struct bytes name);

#endif
