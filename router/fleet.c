/* fleet: see fleet.h. The view's side first, then the channel's, then choosing. */
#include "router/fleet.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    REPLICAS_MAX = 16384,
    ATTACH_AGAIN_US = 500000, /* no hello that fits */
    SNAPSHOT_AGAIN_US = 1000000,
    ASLEEP_US = 200000,  /* ticks come every 50 ms; a gap like this is our own */
    CANDIDATES_MAX = 64, /* replicas of one model that one choice looks at */
};

static const char *state_name(enum replica_state state)
{
    static const char *const names[] = {"idle", "dialling", "attaching", "serving", "silent"};
    return names[state];
}

static void move(struct replica *replica, enum replica_state to)
{
    static const unsigned allowed[] = {
        [REPLICA_IDLE] = 1U << REPLICA_DIALLING,
        [REPLICA_DIALLING] = 1U << REPLICA_ATTACHING | 1U << REPLICA_IDLE,
        [REPLICA_ATTACHING] = 1U << REPLICA_SERVING | 1U << REPLICA_DIALLING | 1U << REPLICA_IDLE,
        [REPLICA_SERVING] =
            1U << REPLICA_SILENT | 1U << REPLICA_ATTACHING | 1U << REPLICA_DIALLING | 1U << REPLICA_IDLE,
        [REPLICA_SILENT] =
            1U << REPLICA_SERVING | 1U << REPLICA_ATTACHING | 1U << REPLICA_DIALLING | 1U << REPLICA_IDLE,
    };
    if (replica->state != to) {
        CHECK((allowed[replica->state] & 1U << to) != 0);
        LOG_I("router", "replica", "name=%s from=%s to=%s epoch=%llu", replica->name, state_name(replica->state),
              state_name(to), (unsigned long long)replica->epoch);
        replica->state = to;
    }
}

/* Leaves SERVING (or SILENT) for `to`. */
static void lose(struct replica *replica, enum replica_state to, const char *why, const struct fleet_lost *lost)
{
    move(replica, to);
    if (replica->streams_count > 0) {
        LOG_W("router", "replica_lost", "name=%s why=%s streams=%zu", replica->name, why, replica->streams_count);
        lost->lost(lost->context, replica, why);
    }
    CHECK(replica->streams_count == 0);
}

void fleet_init(struct fleet *fleet, const struct fleet_config *config)
{
    *fleet = (struct fleet){.config = *config};
    list_init(&fleet->replicas);
    map_init(&fleet->by_name, REPLICAS_MAX);
    map_init(&fleet->by_link, REPLICAS_MAX);
}

static void forget(struct fleet *fleet, struct replica *replica)
{
    CHECK(replica->streams_count == 0);
    (void)map_remove(&fleet->by_name, bytes_of_text(replica->name));
    (void)map_remove_u64(&fleet->by_link, replica->link);
    list_remove(&replica->node);
    route_prefix_free(&replica->held);
    mem_free(replica);
}

void fleet_free(struct fleet *fleet)
{
    LIST_FOR_EACH (node, &fleet->replicas) {
        forget(fleet, LIST_ENTRY(node, struct replica, node));
    }
    map_free(&fleet->by_link);
    map_free(&fleet->by_name);
}

static void hang_up(struct fleet *fleet, struct replica *replica, const char *why, const struct fleet_lost *lost,
                    struct router_actions *actions)
{
    if (replica->state == REPLICA_IDLE) {
        return;
    }
    lose(replica, REPLICA_IDLE, why, lost);
    actions_open(actions, ROUTER_HANG_UP, replica->link);
    (void)map_remove_u64(&fleet->by_link, replica->link);
    replica->link = 0;
}

static void dial(struct fleet *fleet, struct replica *replica, struct router_actions *actions)
{
    uint8_t key[CURVE_KEY_BYTES];
    if (replica->endpoint[0] == 0 || crypto_z85_decode(key, replica->key) != STATUS_OK) {
        return;
    }
    replica->link = ++fleet->link_last;
    if (map_put_u64(&fleet->by_link, replica->link, replica) != STATUS_OK) {
        replica->link = 0;
        return;
    }
    move(replica, REPLICA_DIALLING);
    struct router_action *action = actions_open(actions, ROUTER_DIAL, replica->link);
    memcpy(action->key, key, sizeof(key));
    buf_append_text(&actions->payload, replica->endpoint);
    buf_append_u8(&actions->payload, 0);
    actions_close(actions);
}

static void attach(struct fleet *fleet, struct replica *replica, uint64_t now_us, struct router_actions *actions)
{
    const struct proto_attach message = {.router = bytes_of_text(fleet->config.router),
                                         .incarnation = fleet->config.incarnation};
    replica->asked_us = now_us;
    actions_send(actions, replica->link, PROTO_ATTACH, &message);
}

static void copy_text(char *out, size_t out_size, struct bytes text)
{
    (void)snprintf(out, out_size, "%.*s", (int)text.length, text.data != NULL ? (const char *)text.data : "");
}

static struct replica *replica_of(struct fleet *fleet, struct bytes name)
{
    struct replica *replica = map_get(&fleet->by_name, name);
    if (replica != NULL) {
        return replica;
    }
    replica = mem_new(struct replica);
    copy_text(replica->name, sizeof(replica->name), name);
    if (map_put(&fleet->by_name, name, replica) != STATUS_OK) {
        mem_free(replica);
        return NULL;
    }
    list_init(&replica->streams);
    list_push_back(&fleet->replicas, &replica->node);
    route_prefix_init(&replica->held, fleet->config.blocks_max);
    return replica;
}

/* One replica of the view: what changed decides whether the channel stays. */
static void take_replica(struct fleet *fleet, const struct proto_view_replica *seen, uint64_t now_us,
                         const struct fleet_lost *lost, struct router_actions *actions)
{
    struct replica *replica = replica_of(fleet, seen->name);
    if (replica == NULL) {
        return;
    }
    replica->in_view = true;
    bool reachable =
        seen->endpoint.length > 0 && (seen->state == PROTO_REPLICA_READY || seen->state == PROTO_REPLICA_DRAINING ||
                                      seen->state == PROTO_REPLICA_LOST);
    bool same_place = bytes_equal(seen->endpoint, bytes_of_text(replica->endpoint)) &&
                      bytes_equal(seen->key, bytes_of_text(replica->key));
    bool new_epoch = seen->epoch != replica->epoch;
    if (!reachable || !same_place) {
        hang_up(fleet, replica, reachable ? "moved" : "unplaced", lost, actions);
    } else if (new_epoch && replica->state > REPLICA_ATTACHING) {
        lose(replica, REPLICA_ATTACHING, "new_epoch", lost);
        attach(fleet, replica, now_us, actions);
    }
    copy_text(replica->model, sizeof(replica->model), seen->model);
    copy_text(replica->endpoint, sizeof(replica->endpoint), seen->endpoint);
    copy_text(replica->key, sizeof(replica->key), seen->key);
    replica->epoch = seen->epoch;
    replica->view_state = seen->state;
    if (replica->state <= REPLICA_ATTACHING) {
        replica->class_id = seen->class_id;
        replica->capacity_tokens = MIN_OF(seen->context_tokens, seen->pool_tokens);
    }
    if (replica->state == REPLICA_IDLE && reachable) {
        dial(fleet, replica, actions);
    }
}

void fleet_take_view(struct fleet *fleet, const struct proto_view *view, uint64_t now_us, const struct fleet_lost *lost,
                     struct router_actions *actions)
{
    LIST_FOR_EACH (node, &fleet->replicas) {
        LIST_ENTRY(node, struct replica, node)->in_view = false;
    }
    for (size_t i = 0; i < view->replicas_count; i++) {
        take_replica(fleet, &view->replicas[i], now_us, lost, actions);
    }
    LIST_FOR_EACH (node, &fleet->replicas) {
        struct replica *replica = LIST_ENTRY(node, struct replica, node);
        if (!replica->in_view) {
            hang_up(fleet, replica, "removed", lost, actions);
            forget(fleet, replica);
        }
    }
}

struct replica *fleet_of_link(const struct fleet *fleet, uint64_t link)
{
    return map_get_u64(&fleet->by_link, link);
}

void fleet_link_up(struct fleet *fleet, struct replica *replica, uint64_t now_us, struct router_actions *actions)
{
    if (replica->state == REPLICA_DIALLING) {
        move(replica, REPLICA_ATTACHING);
    }
    attach(fleet, replica, now_us, actions);
}

void fleet_link_down(struct fleet *fleet, struct replica *replica, const struct fleet_lost *lost)
{
    (void)fleet;
    lose(replica, REPLICA_DIALLING, "disconnected", lost); /* the bus dials again by itself */
}

static void ask_snapshot(struct replica *replica, uint64_t now_us, struct router_actions *actions)
{
    const struct proto_kv_snapshot_ask message = {.epoch = replica->epoch};
    replica->asked_us = now_us;
    actions_send(actions, replica->link, PROTO_KV_SNAPSHOT_ASK, &message);
}

void fleet_hello(struct fleet *fleet, struct replica *replica, const struct proto_hello *hello, uint64_t now_us,
                 const struct fleet_lost *lost, struct router_actions *actions)
{
    (void)fleet;
    if (replica->state < REPLICA_ATTACHING) {
        return;
    }
    bool fits = bytes_equal(hello->replica, bytes_of_text(replica->name)) && hello->epoch == replica->epoch &&
                hello->cache_salt.length == sizeof(replica->cache_salt) && hello->block_tokens == PREFIX_BLOCK_TOKENS;
    if (replica->state > REPLICA_ATTACHING && fits && hello->incarnation == replica->incarnation) {
        return; /* an answer to an attach that was asked twice */
    }
    if (replica->state > REPLICA_ATTACHING) {
        lose(replica, REPLICA_ATTACHING, "new_incarnation", lost);
    }
    if (!fits) {
        return; /* the view and the engine will agree sooner or later; fleet_tick asks again */
    }
    replica->class_id = hello->class_id;
    replica->capacity_tokens = MIN_OF(hello->context_tokens, hello->pool_tokens);
    replica->incarnation = hello->incarnation;
    memcpy(replica->cache_salt, hello->cache_salt.data, sizeof(replica->cache_salt));
    replica->draining = false;
    replica->load = (struct route_load){0}; /* nobody of ours is on it */
    replica->running = 0;
    replica->heard_us = now_us;
    replica->step_us = now_us;
    route_prefix_forget(&replica->held);
    move(replica, REPLICA_SERVING);
    ask_snapshot(replica, now_us, actions);
}

void fleet_load(struct fleet *fleet, struct replica *replica, const struct proto_load *load, uint64_t now_us,
                struct router_actions *actions)
{
    if (replica->state < REPLICA_SERVING || load->epoch != replica->epoch ||
        load->incarnation != replica->incarnation) {
        return;
    }
    replica->heard_us = now_us;
    replica->load_us = now_us;
    replica->running = load->running + load->waiting;
    replica->queued_tokens = load->queued_tokens;
    replica->blocks_total = load->blocks_total;
    replica->blocks_used = load->blocks_used;
    replica->blocks_cached = load->blocks_cached;
    replica->draining = load->draining;
    if (load->step != replica->step || replica->running == 0) {
        replica->step = load->step;
        replica->step_us = now_us;
    }
    route_load_reported(&replica->load, load->queued_tokens, replica->running, load->step_token_s);
    if (replica->state == REPLICA_SILENT && now_us - replica->step_us < fleet->config.stall_us) {
        move(replica, REPLICA_SERVING);
    }
    if (route_prefix_check(&replica->held, load->kv_sequence)) {
        route_prefix_forget(&replica->held);
        ask_snapshot(replica, now_us, actions);
    }
}

void fleet_kv_events(struct fleet *fleet, struct replica *replica, const struct proto_kv_events *events,
                     uint64_t now_us, struct router_actions *actions)
{
    (void)fleet;
    if (replica->state >= REPLICA_SERVING && events->epoch == replica->epoch &&
        route_prefix_events(&replica->held, events->generation, events->sequence, events->stored, events->removed)) {
        ask_snapshot(replica, now_us, actions);
    }
}

void fleet_kv_snapshot(struct fleet *fleet, struct replica *replica, const struct proto_kv_snapshot *snapshot,
                       uint64_t now_us, struct router_actions *actions)
{
    (void)fleet;
    if (replica->state >= REPLICA_SERVING && snapshot->epoch == replica->epoch &&
        route_prefix_snapshot(&replica->held, snapshot->generation, snapshot->sequence, snapshot->part, snapshot->parts,
                              snapshot->hashes)) {
        ask_snapshot(replica, now_us, actions);
    }
}

static void tick_replica(struct fleet *fleet, struct replica *replica, uint64_t now_us, const struct fleet_lost *lost,
                         struct router_actions *actions)
{
    switch (replica->state) {
    case REPLICA_IDLE:
    case REPLICA_DIALLING:
    case REPLICA_SILENT:
        return;
    case REPLICA_ATTACHING:
        if (now_us - replica->asked_us >= ATTACH_AGAIN_US) {
            attach(fleet, replica, now_us, actions);
        }
        return;
    case REPLICA_SERVING:
        if (now_us - replica->heard_us >= fleet->config.silence_us) {
            lose(replica, REPLICA_SILENT, "silent", lost);
        } else if (now_us - replica->step_us >= fleet->config.stall_us) {
            lose(replica, REPLICA_SILENT, "stalled", lost);
        } else if (!replica->held.fresh && now_us - replica->asked_us >= SNAPSHOT_AGAIN_US) {
            ask_snapshot(replica, now_us, actions);
        }
        return;
    }
}

void fleet_tick(struct fleet *fleet, uint64_t now_us, const struct fleet_lost *lost, struct router_actions *actions)
{
    bool was_asleep = fleet->tick_us != 0 && now_us - fleet->tick_us >= ASLEEP_US;
    fleet->tick_us = now_us;
    LIST_FOR_EACH (node, &fleet->replicas) {
        struct replica *replica = LIST_ENTRY(node, struct replica, node);
        if (was_asleep && replica->state == REPLICA_SERVING) {
            replica->heard_us = now_us; /* what they sent meanwhile still waits in our sockets */
            replica->step_us = now_us;
        }
        tick_replica(fleet, replica, now_us, lost, actions);
    }
}

bool replica_open(const struct replica *replica)
{
    return replica->state == REPLICA_SERVING && !replica->draining && replica->view_state == PROTO_REPLICA_READY;
}

static bool excluded(const struct fleet_need *need, const struct replica *replica)
{
    for (size_t i = 0; i < need->not_links_count; i++) {
        if (need->not_links[i] == replica->link) {
            return true;
        }
    }
    return false;
}

static bool eligible(const struct fleet_need *need, const struct replica *replica)
{
    return replica_open(replica) && (replica->alone == NULL || replica->alone == need->alone) &&
           strcmp(replica->model, need->model) == 0 && !excluded(need, replica);
}

/* A suspect's turn: its reserved replica once that is empty. One suspect per model at a time; the replica with the
 * fewest streams is reserved for it. *found is its replica, or NULL while it must wait. */
static void find_alone(struct fleet *fleet, const struct fleet_need *need, struct replica **found)
{
    struct replica *best = NULL;
    *found = NULL;
    LIST_FOR_EACH (node, &fleet->replicas) {
        struct replica *replica = LIST_ENTRY(node, struct replica, node);
        if (replica->alone != NULL && strcmp(replica->model, need->model) == 0) {
            if (replica->alone == need->alone && eligible(need, replica) && replica->streams_count == 0) {
                *found = replica;
            }
            return;
        }
        if (eligible(need, replica) && (best == NULL || replica->streams_count < best->streams_count)) {
            best = replica;
        }
    }
    if (best != NULL) {
        best->alone = need->alone;
        *found = best->streams_count == 0 ? best : NULL;
    }
}

void fleet_release(struct fleet *fleet, const void *alone)
{
    LIST_FOR_EACH (node, &fleet->replicas) {
        struct replica *replica = LIST_ENTRY(node, struct replica, node);
        if (replica->alone == alone) {
            replica->alone = NULL;
        }
    }
}

/* Cached tokens of each, for groups of equal salt. */
static void match_prefixes(const struct fleet_need *need, struct replica *const *replicas, size_t count,
                           struct route_candidate *candidates)
{
    bool done[CANDIDATES_MAX] = {false};
    for (size_t i = 0; i < count; i++) {
        const struct route_prefix *held[CANDIDATES_MAX];
        size_t which[CANDIDATES_MAX], group = 0;
        for (size_t j = i; j < count && !done[i]; j++) {
            if (memcmp(replicas[i]->cache_salt, replicas[j]->cache_salt, sizeof(replicas[i]->cache_salt)) == 0) {
                held[group] = &replicas[j]->held;
                which[group++] = j;
            }
        }
        uint64_t cached[CANDIDATES_MAX];
        if (group > 0) {
            route_prefix_match(held, group, need->ids, need->ids_count, need->cache_key, replicas[i]->cache_salt,
                               cached);
        }
        for (size_t j = 0; j < group; j++) {
            candidates[which[j]].cached_tokens = cached[j];
            done[which[j]] = true;
        }
    }
}

struct replica *fleet_pick(struct fleet *fleet, const struct fleet_need *need, uint64_t *uncached_tokens)
{
    struct replica *replicas[CANDIDATES_MAX];
    struct route_candidate candidates[CANDIDATES_MAX];
    size_t count = 0;
    if (need->alone != NULL) {
        find_alone(fleet, need, &replicas[0]);
        count = replicas[0] != NULL ? 1 : 0;
    } else {
        LIST_FOR_EACH (node, &fleet->replicas) {
            struct replica *replica = LIST_ENTRY(node, struct replica, node);
            if (count < CANDIDATES_MAX && eligible(need, replica)) {
                replicas[count++] = replica;
            }
        }
    }
    for (size_t i = 0; i < count; i++) {
        candidates[i] = (struct route_candidate){
            .name = replicas[i]->name,
            .class_id = replicas[i]->class_id,
            .capacity_tokens = replicas[i]->capacity_tokens,
            .queued_tokens = route_load_queued(&replicas[i]->load),
            .token_s = replicas[i]->load.token_s,
        };
    }
    match_prefixes(need, replicas, count, candidates);
    const struct route_need wanted = {
        .tokens = need->ids_count, .capacity_tokens = need->capacity_tokens, .class_id = need->class_id};
    size_t best = route_pick(candidates, count, &wanted);
    if (best == ROUTE_NONE) {
        return NULL;
    }
    *uncached_tokens = need->ids_count - MIN_OF(candidates[best].cached_tokens, need->ids_count);
    return replicas[best];
}

uint64_t fleet_capacity(const struct fleet *fleet, const char *model)
{
    uint64_t largest = 0;
    LIST_FOR_EACH (node, &fleet->replicas) {
        const struct replica *replica = LIST_ENTRY(node, struct replica, node);
        if (strcmp(replica->model, model) == 0) {
            largest = MAX_OF(largest, replica->capacity_tokens);
        }
    }
    return largest;
}

size_t fleet_serving(const struct fleet *fleet, const char *model)
{
    size_t count = 0;
    LIST_FOR_EACH (node, &fleet->replicas) {
        const struct replica *replica = LIST_ENTRY(node, struct replica, node);
        count += replica_open(replica) && (model == NULL || strcmp(replica->model, model) == 0);
    }
    return count;
}

void fleet_print(const struct fleet *fleet, struct buf *out)
{
    static const struct {
        const char *name, *help;
        size_t offset;
    } gauges[] = {
        {"shoal_replica_streams", "streams in the batch or waiting, of all routers", offsetof(struct replica, running)},
        {"shoal_replica_own_streams", "streams of this router there, as of now",
         offsetof(struct replica, streams_count)},
        {"shoal_replica_own_begun", "… that have a token already", offsetof(struct replica, streams_begun)},
        {"shoal_replica_queued_tokens", "prompt tokens still to compute", offsetof(struct replica, queued_tokens)},
        {"shoal_replica_blocks", "KV blocks of the pool", offsetof(struct replica, blocks_total)},
        {"shoal_replica_blocks_used", "KV blocks that streams hold", offsetof(struct replica, blocks_used)},
        {"shoal_replica_blocks_cached", "KV blocks that only hold a prefix", offsetof(struct replica, blocks_cached)},
    };
    for (size_t i = 0; i < COUNT_OF(gauges); i++) {
        buf_printf(out, "# HELP %s %s\n# TYPE %s gauge\n", gauges[i].name, gauges[i].help, gauges[i].name);
        LIST_FOR_EACH (node, &fleet->replicas) {
            const struct replica *replica = LIST_ENTRY(node, struct replica, node);
            uint64_t value;
            memcpy(&value, (const uint8_t *)replica + gauges[i].offset, sizeof(value));
            if (replica->state >= REPLICA_SERVING) {
                buf_printf(out, "%s{replica=\"%s\"} %llu\n", gauges[i].name, replica->name, (unsigned long long)value);
            }
        }
    }
}
