/* router/fleet: the replicas that a router knows, and its channel to each.
 *
 *                 dial               up: attach sent        hello fits the view
 *   REPLICA_IDLE ──────▶ DIALLING ──────────▶ ATTACHING ──────────────▶ SERVING ◀──── load comes, steps go on ───┐
 *        ▲                  ▲                     │ ▲                    │  │                                    │
 *        └── view: gone ────┴──────── down ───────┘ └── view: new epoch ─┘  └─ 500 ms without load, or no step ─▶
 * SILENT
 *
 * The view says what should be there; the channel says what is. Whoever leaves SERVING is dead for its streams: they go
 * elsewhere at once, whatever the coordinators think. This router judges by its own clock, and after it has itself been
 * asleep everybody gets a new chance. Replicas are embedded list nodes' owners; streams hang in replica->streams. Pure:
 * events in, actions out. */
#ifndef SHOAL_ROUTER_FLEET_H
#define SHOAL_ROUTER_FLEET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/map.h"
#include "proto/proto.h"
#include "router/actions.h"
#include "sched/route.h"
#include "sched/route_prefix.h"

enum replica_state { REPLICA_IDLE, REPLICA_DIALLING, REPLICA_ATTACHING, REPLICA_SERVING, REPLICA_SILENT };

struct replica {
    struct list node;    /* in fleet.replicas */
    struct list streams; /* of this router, running there */
    size_t streams_count;
    uint64_t streams_begun; /* of them, those with a token; counted when metrics are printed */
    enum replica_state state;
    uint64_t link; /* 0: none */
    char name[129];
    char model[97];
    char endpoint[129];
    char key[41];
    uint64_t epoch;
    uint64_t view_state; /* enum proto_replica_state */
    bool in_view;        /* mark while a view is taken */
    /* From hello, until then from the view. */
    uint64_t class_id;
    uint64_t capacity_tokens; /* min(context, pool); 0: not known */
    uint64_t incarnation;
    uint8_t cache_salt[32];
    bool draining;
    /* From load. */
    struct route_load load;
    uint64_t running; /* streams of everybody, in the batch or waiting */
    uint64_t queued_tokens, blocks_total, blocks_used, blocks_cached;
    uint64_t heard_us; /* the last load, or when it was given a new chance */
    uint64_t load_us;  /* the last load */
    uint64_t step;
    uint64_t step_us;  /* when step last changed, or nothing was running */
    uint64_t asked_us; /* the last attach or snapshot_ask */
    struct route_prefix held;
    const void *alone; /* a suspect stream that has this replica for itself; NULL: none */
};

struct fleet_config {
    const char *router; /* name */
    uint64_t incarnation;
    uint64_t silence_us;
    uint64_t stall_us;
    size_t blocks_max; /* known per replica */
};

struct fleet {
    struct fleet_config config;
    struct list replicas;
    struct map by_name;
    struct map by_link;
    uint64_t link_last;
    uint64_t tick_us;
};

void fleet_init(struct fleet *fleet, const struct fleet_config *config);
void fleet_free(struct fleet *fleet); /* no stream may hang in any replica */

/* Replicas whose streams must leave are handed to `lost` (which must take them off), after their state changed. */
struct fleet_lost {
    void *context;
    void (*lost)(void *context, struct replica *replica, const char *why);
};

void fleet_take_view(struct fleet *fleet, const struct proto_view *view, uint64_t now_us, const struct fleet_lost *lost,
                     struct router_actions *actions);
struct replica *fleet_of_link(const struct fleet *fleet, uint64_t link); /* NULL: hung up meanwhile */
void fleet_link_up(struct fleet *fleet, struct replica *replica, uint64_t now_us, struct router_actions *actions);
void fleet_link_down(struct fleet *fleet, struct replica *replica, const struct fleet_lost *lost);
void fleet_hello(struct fleet *fleet, struct replica *replica, const struct proto_hello *hello, uint64_t now_us,
                 const struct fleet_lost *lost, struct router_actions *actions);
void fleet_load(struct fleet *fleet, struct replica *replica, const struct proto_load *load, uint64_t now_us,
                struct router_actions *actions);
void fleet_kv_events(struct fleet *fleet, struct replica *replica, const struct proto_kv_events *events,
                     uint64_t now_us, struct router_actions *actions);
void fleet_kv_snapshot(struct fleet *fleet, struct replica *replica, const struct proto_kv_snapshot *snapshot,
                       uint64_t now_us, struct router_actions *actions);
void fleet_tick(struct fleet *fleet, uint64_t now_us, const struct fleet_lost *lost, struct router_actions *actions);

/* Takes new streams. */
bool replica_open(const struct replica *replica);

/* What a stream needs. */
struct fleet_need {
    const char *model;
    const uint32_t *ids;
    size_t ids_count;
    uint64_t capacity_tokens;
    uint64_t class_id;
    const uint8_t *cache_key;  /* 32 bytes */
    const uint64_t *not_links; /* that refused it */
    size_t not_links_count;
    const void *alone; /* not NULL: this suspect wants a replica for itself */
};
/* The replica by sched/route, NULL: none; *uncached_tokens: what it will have to compute. */
struct replica *fleet_pick(struct fleet *fleet, const struct fleet_need *need, uint64_t *uncached_tokens);

/* Ends what `alone` reserved. */
void fleet_release(struct fleet *fleet, const void *alone);

/* The largest capacity among the model's replicas; 0: not known. */
uint64_t fleet_capacity(const struct fleet *fleet, const char *model);
size_t fleet_serving(const struct fleet *fleet, const char *model); /* NULL: of any model */
/* What the replicas last reported, in Prometheus' text format: their number changes, so they are no fixed series. */
void fleet_print(const struct fleet *fleet, struct buf *out);

#endif
