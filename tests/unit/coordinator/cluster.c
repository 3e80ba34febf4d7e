/* cluster: see cluster.h. */
#include "tests/unit/coordinator/cluster.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/mem.h"

enum { TICK_MS = 10, SETTLE_MS_MAX = 60000 };

struct frame {
    struct list node;
    uint64_t from, to, at_us;
    size_t length;
    uint8_t data[];
};

#define PROMISE(cluster, expression)                                                                                   \
    do {                                                                                                               \
        if (!(expression)) {                                                                                           \
            fprintf(stderr, "seed %llu, %llu us: broken: %s\n", (unsigned long long)(cluster)->seed,                   \
                    (unsigned long long)(cluster)->now_us, #expression);                                               \
            CHECK(expression);                                                                                         \
        }                                                                                                              \
    } while (0)

static bool chance(struct cluster *cluster, unsigned permille)
{
    return rng_below(&cluster->rng, 1000) < permille;
}

/* ---- the state machine ------------------------------------------------------------------------------------------- */

static void check_hash(struct cluster *cluster, const struct cluster_state *state)
{
    PROMISE(cluster, state->index < CLUSTER_INDEX_MAX);
    if (cluster->hash_at[state->index] == 0)
        cluster->hash_at[state->index] = state->hash;
    PROMISE(cluster, cluster->hash_at[state->index] == state->hash);
}

static void on_apply(void *context, uint64_t index, struct bytes command)
{
    struct cluster_node *node = context;
    struct cluster_state *state = &node->state;
    CHECK(command.length >= 8);
    uint64_t value = load_u64le(command.data);
    PROMISE(node->cluster, index > state->index && value < CLUSTER_VALUES_MAX);
    PROMISE(node->cluster, (state->has[value / 8] & (1 << value % 8)) == 0);
    state->has[value / 8] |= (uint8_t)(1 << value % 8);
    state->count++;
    state->index = index;
    state->hash = hash_xx64(command.data, command.length, state->hash + index);
    check_hash(node->cluster, state);
}

static enum status on_snapshot(void *context, struct buf *out)
{
    struct cluster_node *node = context;
    buf_append(out, &node->state, sizeof node->state);
    return STATUS_OK;
}

static enum status on_restore(void *context, uint64_t index, struct bytes snapshot)
{
    struct cluster_node *node = context;
    CHECK(snapshot.length == sizeof node->state);
    memcpy(&node->state, snapshot.data, snapshot.length);
    PROMISE(node->cluster, node->state.index <= index);
    node->restores++;
    return STATUS_OK;
}

static void on_role(void *context, bool leading, uint64_t leader, uint64_t term)
{
    struct cluster_node *node = context;
    (void)leading;
    (void)leader;
    (void)term;
    node->cluster->role_changes++;
}

static __attribute__((noreturn)) void on_fatal(void *context, enum status status, const char *why)
{
    struct cluster_node *node = context;
    fprintf(stderr, "seed %llu: node %llu: %s: %s\n", (unsigned long long)node->cluster->seed,
            (unsigned long long)node->id, status_name(status), why);
    check_failed("no fatal", __FILE__, __LINE__, __func__);
}

/* ---- the network ------------------------------------------------------------------------------------------------- */

static enum status on_send(void *context, uint64_t to, struct bytes data)
{
    struct cluster_node *node = context;
    struct cluster *cluster = node->cluster;
    if (chance(cluster, cluster->loss_permille))
        return STATUS_OK;
    if (chance(cluster, cluster->loss_permille / 4))
        return STATUS_UNREACHABLE;
    struct frame *frame = mem_alloc(sizeof *frame + data.length);
    frame->from = node->id;
    frame->to = to;
    frame->at_us = cluster->now_us + 1 + rng_below(&cluster->rng, cluster->delay_us_max + 1);
    frame->length = data.length;
    memcpy(frame->data, data.data, data.length);
    list_push_back(&cluster->frames, &frame->node);
    return STATUS_OK;
}

static void deliver(struct cluster *cluster, struct frame *frame)
{
    struct cluster_node *from = &cluster->nodes[frame->from - 1];
    struct cluster_node *to = &cluster->nodes[frame->to - 1];
    if (to->replog == NULL || from->cut_off || to->cut_off)
        return;
    enum status status = replog_receive(to->replog, frame->from, bytes_of(frame->data, frame->length), cluster->now_us);
    PROMISE(cluster, status == STATUS_OK || status == STATUS_FULL);
}

static void deliver_due(struct cluster *cluster)
{
    struct list due;
    list_init(&due);
    LIST_FOR_EACH (node, &cluster->frames) {
        struct frame *frame = LIST_ENTRY(node, struct frame, node);
        if (frame->at_us <= cluster->now_us) {
            list_remove(&frame->node);
            list_push_back(&due, &frame->node);
        }
    }
    while (!list_empty(&due)) {
        struct frame *frame = LIST_ENTRY(list_first(&due), struct frame, node);
        list_remove(&frame->node);
        deliver(cluster, frame);
        mem_free(frame);
    }
}

/* ---- nodes ------------------------------------------------------------------------------------------------------- */

static void open_node(struct cluster *cluster, struct cluster_node *node, bool first_start)
{
    static const char *const names[CLUSTER_NODES_MAX] = {"c1", "c2", "c3", "c4", "c5"};
    struct replog_config config = {
        .folder = node->folder.path,
        .cluster_id = "test cluster",
        .raft_id = node->id,
        .rank = (unsigned)node->id - 1,
        .first_start = first_start,
        .members_count = cluster->nodes_count,
        .election_timeout_ms = cluster->election_timeout_ms,
        .heartbeat_ms = 50,
        .snapshot_threshold = cluster->snapshot_threshold,
        .peers = {.context = node, .send = on_send},
        .fsm = {.context = node, .apply = on_apply, .snapshot = on_snapshot, .restore = on_restore},
        .seed = 1 + rng_u64(&cluster->rng) / 2,
        .disk = &cluster->disk.disk,
        .disk_inline = true,
        .context = node,
        .on_role = on_role,
        .fatal = on_fatal,
    };
    for (unsigned i = 0; i < cluster->nodes_count; i++)
        config.members[i] = (struct replog_member){.raft_id = i + 1, .name = names[i]};
    struct error error = {0};
    memset(&node->state, 0, sizeof node->state);
    if (replog_open(&config, &node->replog, &error) != STATUS_OK) {
        fprintf(stderr, "seed %llu: %s\n", (unsigned long long)cluster->seed, error.text);
        CHECK(node->replog != NULL);
    }
}

void cluster_start(struct cluster *cluster, uint64_t seed, unsigned nodes)
{
    *cluster = (struct cluster){
        .seed = seed,
        .now_us = 1000000,
        .nodes_count = nodes,
        .delay_us_max = 2000,
        .disk_permille = 500,
        .election_timeout_ms = 300,
        .snapshot_threshold = 64,
    };
    rng_init(&cluster->rng, seed);
    faulty_disk_init(&cluster->disk);
    list_init(&cluster->frames);
    for (unsigned i = 0; i < nodes; i++) {
        struct cluster_node *node = &cluster->nodes[i];
        node->cluster = cluster;
        node->id = i + 1;
        temp_folder_make(&node->folder);
        open_node(cluster, node, true);
    }
}

void cluster_stop(struct cluster *cluster)
{
    for (unsigned i = 0; i < cluster->nodes_count; i++) {
        if (cluster->nodes[i].replog != NULL)
            replog_close(cluster->nodes[i].replog);
        temp_folder_remove(&cluster->nodes[i].folder);
    }
    while (!list_empty(&cluster->frames)) {
        struct frame *frame = LIST_ENTRY(list_first(&cluster->frames), struct frame, node);
        list_remove(&frame->node);
        mem_free(frame);
    }
}

void cluster_crash(struct cluster *cluster, unsigned node)
{
    if (cluster->nodes[node].replog != NULL)
        replog_abandon(cluster->nodes[node].replog);
    cluster->nodes[node].replog = NULL;
}

void cluster_restart(struct cluster *cluster, unsigned node)
{
    if (cluster->nodes[node].replog == NULL)
        open_node(cluster, &cluster->nodes[node], false);
}

/* ---- time -------------------------------------------------------------------------------------------------------- */

void cluster_step(struct cluster *cluster)
{
    cluster->now_us += 1000;
    deliver_due(cluster);
    for (unsigned i = 0; i < cluster->nodes_count; i++) {
        struct cluster_node *node = &cluster->nodes[i];
        if (node->replog != NULL && chance(cluster, cluster->disk_permille))
            replog_disk_ready(node->replog, cluster->now_us);
        if (node->replog != NULL && (cluster->now_us / 1000 + i * 3) % TICK_MS == 0)
            replog_tick(node->replog, cluster->now_us);
    }
}

void cluster_run(struct cluster *cluster, unsigned ms)
{
    for (unsigned i = 0; i < ms; i++)
        cluster_step(cluster);
}

struct cluster_node *cluster_leader(struct cluster *cluster)
{
    struct cluster_node *leader = NULL;
    for (unsigned i = 0; i < cluster->nodes_count; i++) {
        struct cluster_node *node = &cluster->nodes[i];
        if (node->replog != NULL && !node->cut_off && replog_leading(node->replog) &&
            (leader == NULL || replog_term(node->replog) > replog_term(leader->replog)))
            leader = node;
    }
    return leader;
}

/* ---- writes ------------------------------------------------------------------------------------------------------ */

static void on_done(struct replog_propose *propose, enum status status, uint64_t index)
{
    struct cluster_write *write = CONTAINER_OF(propose, struct cluster_write, propose);
    if (status == STATUS_OK) {
        PROMISE(write->cluster, index > 0);
        write->cluster->acknowledged[write->value] = 1;
        write->cluster->acknowledged_count++;
    }
}

bool cluster_propose(struct cluster *cluster)
{
    struct cluster_node *leader = cluster_leader(cluster);
    if (leader == NULL || cluster->values == CLUSTER_VALUES_MAX)
        return false;
    uint8_t command[200] = {0};
    store_u64le(command, cluster->values);
    struct cluster_write *write = &cluster->writes[cluster->values];
    *write = (struct cluster_write){.propose = {.done = on_done}, .cluster = cluster, .value = cluster->values++};
    size_t length = 8 + rng_below(&cluster->rng, sizeof command - 8);
    enum status status = replog_propose(leader->replog, &write->propose, bytes_of(command, length));
    PROMISE(cluster, status == STATUS_OK || status == STATUS_FULL || status == STATUS_NOT_LEADER);
    return status == STATUS_OK;
}

static bool all_equal(struct cluster *cluster)
{
    for (unsigned i = 0; i < cluster->nodes_count; i++) {
        if (cluster->nodes[i].state.hash != cluster->nodes[0].state.hash)
            return false;
    }
    return true;
}

static void check_acknowledged(struct cluster *cluster)
{
    for (unsigned i = 0; i < cluster->nodes_count; i++) {
        const struct cluster_state *state = &cluster->nodes[i].state;
        for (uint64_t value = 0; value < cluster->values; value++)
            PROMISE(cluster, !cluster->acknowledged[value] || (state->has[value / 8] & (1 << value % 8)) != 0);
    }
}

void cluster_settle(struct cluster *cluster)
{
    cluster->loss_permille = 0;
    cluster->disk_permille = 800;
    for (unsigned i = 0; i < cluster->nodes_count; i++) {
        cluster->nodes[i].cut_off = false;
        cluster_restart(cluster, i);
    }
    unsigned before = cluster->acknowledged_count;
    bool well = false;
    for (unsigned ms = 0; ms < SETTLE_MS_MAX && !well; ms++) {
        if (ms % 100 == 0 && cluster->acknowledged_count == before)
            cluster_propose(cluster);
        cluster_step(cluster);
        well = cluster->acknowledged_count > before && all_equal(cluster);
    }
    PROMISE(cluster, well);
    check_acknowledged(cluster);
}
