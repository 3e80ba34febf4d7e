/* coordinator/answers.c: see answers.h. Rows come in the order coordinators, routers, nodes, replicas. */
#include "coordinator/answers.h"

#include <string.h>

#include "base/mem.h"

enum { ROUTER_SILENT_AFTER_US = 2000000 };

enum status answer_assign(const struct fsm *fsm, const char *node, struct buf *out, struct error *error)
{
    struct proto_assign assign = {
        .incarnation = fsm->incarnation, .index = fsm->placement_index, .node = bytes_of_text(node)};
    assign.assignments = mem_new_array(struct proto_assignment, fsm->replicas.count);
    for (size_t i = 0; i < fsm->replicas.count; i++) {
        const struct fsm_replica *replica = FSM_AT(fsm->replicas, fsm_replica, i);
        const struct fsm_model *model = fsm_model(fsm, replica->model);
        if (strcmp(replica->node, node) != 0 || model == NULL) {
            continue;
        }
        assign.assignments[assign.assignments_count++] = (struct proto_assignment){
            .replica = bytes_of_text(replica->name),
            .epoch = replica->epoch,
            .model = bytes_of_text(model->name),
            .path = bytes_of_text(model->path),
            .pool_tokens = model->pool_tokens,
            .context_tokens = model->context_tokens,
            .kv_type = bytes_of_text(model->kv_type),
        };
    }
    enum status status = proto_encode(out, PROTO_ASSIGN, &assign, error);
    mem_free(assign.assignments);
    return status;
}

static struct proto_status_row *add_row(struct proto_status *status, const char *role, const char *name,
                                        const char *address, const char *state)
{
    struct proto_status_row *row = &status->rows[status->rows_count++];
    *row = (struct proto_status_row){.role = bytes_of_text(role),
                                     .name = bytes_of_text(name),
                                     .address = bytes_of_text(address),
                                     .state = bytes_of_text(state)};
    return row;
}

static void add_coordinators(struct proto_status *status, const struct fsm *fsm, const struct answer_leader *leader)
{
    for (size_t i = 0; i < fsm->coordinators_count; i++) {
        const struct fsm_coordinator *coordinator = &fsm->coordinators[i];
        const char *state = strcmp(coordinator->name, leader->name) == 0 ? "leader"
                            : leader->coordinator_up[i]                  ? "follower"
                                                                         : "silent";
        (void)add_row(status, "coordinator", coordinator->name, coordinator->endpoint, state);
    }
}

static void add_routers(struct proto_status *status, const struct control *control, uint64_t now_us)
{
    for (size_t i = 0; i < control->routers.count; i++) {
        const struct control_router *router = FSM_AT(control->routers, control_router, i);
        bool silent = now_us - router->heard_us > ROUTER_SILENT_AFTER_US;
        struct proto_status_row *row =
            add_row(status, "router", router->name, router->address, silent ? "silent" : "up");
        row->requests = router->requests;
        row->has_load = !silent;
    }
}

static void add_nodes(struct proto_status *status, const struct fsm *fsm, const struct control *control,
                      uint64_t now_us)
{
    bool new_leader = now_us - control->leading_since_us < control->health.suspect_after_us;
    static const char *const names[] = {"up", "suspect", "down", "draining"};
    for (size_t i = 0; i < fsm->nodes.count; i++) {
        const struct fsm_node *node = FSM_AT(fsm->nodes, fsm_node, i);
        const struct control_node *heard = control_node(control, node->name);
        const char *state = names[node->state];
        bool silent = heard != NULL ? heard->health == HEALTH_SUSPECT : !new_leader;
        if (node->state != PROTO_NODE_DOWN && silent) {
            state = "suspect";
        }
        (void)add_row(status, "node", node->name, node->host, state);
    }
}

static void add_replicas(struct proto_status *status, const struct fsm *fsm, const struct control *control)
{
    static const char *const names[] = {"pending", "starting", "ready", "draining", "failed", "lost"};
    for (size_t i = 0; i < fsm->replicas.count; i++) {
        const struct fsm_replica *replica = FSM_AT(fsm->replicas, fsm_replica, i);
        struct proto_status_row *row =
            add_row(status, "replica", replica->name, replica->endpoint[0] != '\0' ? replica->endpoint : replica->node,
                    names[replica->state]);
        row->model = bytes_of_text(replica->model);
        row->reason = bytes_of_text(replica->reason);
        const struct control_engine *engine = control_engine(control, replica);
        if (engine != NULL && engine->state == PROTO_ENGINE_READY && engine->blocks_total > 0) {
            row->has_load = true;
            row->requests = engine->running + engine->waiting;
            row->kv_permille =
                engine->blocks_used < engine->blocks_total ? engine->blocks_used * 1000 / engine->blocks_total : 1000;
        }
    }
}

enum status answer_status(const struct fsm *fsm, const struct control *control, const struct answer_leader *leader,
                          uint64_t request, uint64_t now_us, struct buf *out, struct error *error)
{
    struct proto_status answer = {.request = request,
                                  .leader = bytes_of_text(leader->name),
                                  .term = leader->term,
                                  .incarnation = fsm->incarnation,
                                  .index = fsm->index};
    size_t rows_max = fsm->coordinators_count + control->routers.count + fsm->nodes.count + fsm->replicas.count;
    answer.rows = mem_new_array(struct proto_status_row, rows_max);
    add_coordinators(&answer, fsm, leader);
    add_routers(&answer, control, now_us);
    add_nodes(&answer, fsm, control, now_us);
    add_replicas(&answer, fsm, control);
    enum status status = proto_encode(out, PROTO_STATUS, &answer, error);
    mem_free(answer.rows);
    return status;
}
