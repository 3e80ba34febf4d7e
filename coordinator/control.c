/* coordinator/control.c: see control.h. One step looks at the nodes (who came, changed, went), then at the replicas'
 * reported states, then at placement; each part appends commands until the list is full, the next step goes on. */
#include "coordinator/control.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "coordinator/fsm_table.h"
#include "sched/place.h"

void control_init(struct control *control, const struct health_config *health)
{
    *control = (struct control){.health = *health};
}

static void forget_nodes(struct control *control)
{
    for (size_t i = 0; i < control->nodes.count; i++) {
        mem_free(FSM_AT(control->nodes, control_node, i)->engines);
    }
    fsm_table_free(&control->nodes);
}

void control_free(struct control *control)
{
    forget_nodes(control);
    fsm_table_free(&control->routers);
}

void control_lead(struct control *control, bool leading, uint64_t now_us)
{
    forget_nodes(control);
    control->leading = leading;
    control->leading_since_us = now_us;
    control->frozen = false;
    control->silent = 0;
}

static void take_engine(struct control_engine *engine, const struct proto_engine_report *report)
{
    FSM_SET(engine->replica, report->replica);
    FSM_SET(engine->endpoint, report->endpoint);
    FSM_SET(engine->reason, report->reason);
    engine->epoch = report->epoch;
    engine->incarnation = report->incarnation;
    engine->state = (enum proto_engine_phase)report->state;
    engine->class_id = report->class_id;
    engine->context_tokens = report->context_tokens;
    engine->pool_tokens = report->pool_tokens;
    engine->running = report->running;
    engine->waiting = report->waiting;
    engine->blocks_total = report->blocks_total;
    engine->blocks_used = report->blocks_used;
}

void control_heartbeat(struct control *control, const struct proto_heartbeat *heartbeat, const char *key,
                       uint64_t now_us)
{
    char name[FSM_NAME_MAX + 1];
    if (heartbeat->node.length == 0) {
        return;
    }
    fsm_text_set(name, sizeof(name), heartbeat->node);
    struct control_node *node = fsm_table_put(&control->nodes, name, sizeof(*node));
    bool older = heartbeat->incarnation < node->incarnation ||
                 (heartbeat->incarnation == node->incarnation && heartbeat->sequence <= node->sequence);
    if (node->heard_us != 0 && older && now_us - node->heard_us < control->health.down_after_us) {
        return;
    }
    node->heard_us = now_us;
    node->sequence = heartbeat->sequence;
    FSM_SET(node->host, heartbeat->host);
    fsm_text_set(node->key, sizeof(node->key), bytes_of_text(key));
    node->incarnation = heartbeat->incarnation;
    node->cores = heartbeat->inventory.cores;
    node->memory_bytes = heartbeat->inventory.memory_bytes;
    node->assign_index = heartbeat->assign_index;
    node->engines_count = MIN_OF(heartbeat->engines_count, (size_t)CONTROL_ENGINES_MAX);
    node->engines = mem_realloc_array(node->engines, node->engines_count, sizeof(*node->engines));
    for (size_t i = 0; i < node->engines_count; i++) {
        take_engine(&node->engines[i], &heartbeat->engines[i]);
    }
}

enum status control_router_report(struct control *control, const struct proto_router_report *report, uint64_t now_us)
{
    char name[FSM_NAME_MAX + 1];
    if (report->name.length == 0) {
        return STATUS_INVALID;
    }
    fsm_text_set(name, sizeof(name), report->name);
    if (control->routers.count >= CONTROL_ROUTERS_MAX && fsm_table_find(&control->routers, name) == NULL) {
        return STATUS_LIMIT;
    }
    struct control_router *router = fsm_table_put(&control->routers, name, sizeof(*router));
    FSM_SET(router->address, report->address);
    router->requests = report->requests;
    router->heard_us = now_us;
    return STATUS_OK;
}

const struct control_node *control_node(const struct control *control, const char *name)
{
    return fsm_table_find(&control->nodes, name);
}

const struct control_engine *control_engine(const struct control *control, const struct fsm_replica *replica)
{
    const struct control_node *node = control_node(control, replica->node);
    for (size_t i = 0; node != NULL && i < node->engines_count; i++) {
        const struct control_engine *engine = &node->engines[i];
        if (engine->epoch == replica->epoch && strcmp(engine->replica, replica->name) == 0) {
            return engine;
        }
    }
    return NULL;
}

/* NULL when the list is full. */
static struct control_command *add_command(struct control_commands *commands, enum proto_opcode opcode)
{
    if (commands->count == CONTROL_COMMANDS_MAX) {
        return NULL;
    }
    struct control_command *command = &commands->list[commands->count++];
    *command = (struct control_command){.opcode = opcode};
    return command;
}

static void propose_node(struct control_commands *commands, enum proto_node_state state, const char *name,
                         const char *host, const char *key, uint64_t cores, uint64_t memory_bytes, uint64_t incarnation)
{
    struct control_command *command = add_command(commands, PROTO_CMD_NODE);
    if (command != NULL) {
        command->any.cmd_node.node = (struct proto_view_node){
            .name = bytes_of_text(name),
            .state = state,
            .host = bytes_of_text(host),
            .key = bytes_of_text(key),
            .cores = cores,
            .memory_bytes = memory_bytes,
            .incarnation = incarnation,
        };
    }
}

static bool node_differs(const struct fsm_node *known, const struct control_node *heard)
{
    return known->state == PROTO_NODE_DOWN || known->incarnation != heard->incarnation ||
           known->cores != heard->cores || known->memory_bytes != heard->memory_bytes ||
           strcmp(known->host, heard->host) != 0 || strcmp(known->key, heard->key) != 0;
}

/* Nodes that were heard and are new, came back or changed. */
static void step_heard(struct control *control, const struct fsm *fsm, struct control_commands *commands)
{
    for (size_t i = 0; i < control->nodes.count; i++) {
        const struct control_node *heard = FSM_AT(control->nodes, control_node, i);
        const struct fsm_node *known = fsm_node(fsm, heard->name);
        if (known == NULL || (heard->health == HEALTH_UP && node_differs(known, heard))) {
            enum proto_node_state state =
                known != NULL && known->state == PROTO_NODE_DRAINING ? PROTO_NODE_DRAINING : PROTO_NODE_UP;
            propose_node(commands, state, heard->name, heard->host, heard->key, heard->cores, heard->memory_bytes,
                         heard->incarnation);
        }
    }
}

/* Judges everybody that the log knows; those that went silent for good go down, once. */
static void step_health(struct control *control, const struct fsm *fsm, uint64_t now_us,
                        struct control_commands *commands)
{
    size_t count = fsm->nodes.count;
    struct health_node *nodes = mem_new_array(struct health_node, count);
    for (size_t i = 0; i < count; i++) {
        const struct fsm_node *known = FSM_AT(fsm->nodes, fsm_node, i);
        const struct control_node *heard = control_node(control, known->name);
        nodes[i].heard_us = heard != NULL ? heard->heard_us : 0;
        nodes[i].logged_down = known->state == PROTO_NODE_DOWN;
    }
    struct health_verdict verdict = health_judge(&control->health, nodes, count, control->leading_since_us, now_us);
    control->frozen = verdict.frozen;
    control->silent = verdict.silent;
    for (size_t i = 0; i < count; i++) {
        const struct fsm_node *known = FSM_AT(fsm->nodes, fsm_node, i);
        struct control_node *heard = fsm_table_find(&control->nodes, known->name);
        if (heard != NULL) {
            heard->health = nodes[i].state;
        }
        if (!nodes[i].logged_down && nodes[i].state == HEALTH_DOWN) {
            propose_node(commands, PROTO_NODE_DOWN, known->name, known->host, known->key, known->cores,
                         known->memory_bytes, known->incarnation);
        }
    }
    mem_free(nodes);
}

static enum proto_replica_state replica_state_of(enum proto_engine_phase state)
{
    switch (state) {
    case PROTO_ENGINE_READY:
        return PROTO_REPLICA_READY;
    case PROTO_ENGINE_DRAINING:
        return PROTO_REPLICA_DRAINING;
    case PROTO_ENGINE_STOPPED:
    case PROTO_ENGINE_FAILED:
        return PROTO_REPLICA_FAILED;
    case PROTO_ENGINE_STARTING:
    case PROTO_ENGINE_LOADING:
        return PROTO_REPLICA_PLACED;
    }
    UNREACHABLE();
}

static bool replica_differs(const struct fsm_replica *known, const struct control_engine *reported)
{
    return known->state != replica_state_of(reported->state) || known->class_id != reported->class_id ||
           known->context_tokens != reported->context_tokens || known->pool_tokens != reported->pool_tokens ||
           known->incarnation != reported->incarnation || strcmp(known->endpoint, reported->endpoint) != 0 ||
           strcmp(known->reason, reported->reason) != 0;
}

static void step_replicas(struct control *control, const struct fsm *fsm, struct control_commands *commands)
{
    for (size_t i = 0; i < fsm->replicas.count; i++) {
        const struct fsm_replica *known = FSM_AT(fsm->replicas, fsm_replica, i);
        const struct control_node *node = control_node(control, known->node);
        const struct fsm_node *logged = fsm_node(fsm, known->node);
        if (node == NULL || logged == NULL || logged->state == PROTO_NODE_DOWN) {
            continue;
        }
        static const struct control_engine nothing = {.state = PROTO_ENGINE_STARTING};
        const struct control_engine *reported = control_engine(control, known);
        if (reported == NULL && node->assign_index >= known->epoch) {
            reported = &nothing; /* the agent knows of it and runs nothing yet */
        }
        if (reported == NULL || !replica_differs(known, reported)) {
            continue;
        }
        struct control_command *command = add_command(commands, PROTO_CMD_REPLICA_STATE);
        if (command == NULL) {
            return;
        }
        command->any.cmd_replica_state = (struct proto_cmd_replica_state){
            .replica = bytes_of_text(known->name),
            .epoch = known->epoch,
            .state = replica_state_of(reported->state),
            .endpoint = bytes_of_text(reported->endpoint),
            .class_id = reported->class_id,
            .context_tokens = reported->context_tokens,
            .pool_tokens = reported->pool_tokens,
            .reason = bytes_of_text(reported->reason),
            .incarnation = reported->incarnation,
        };
    }
}

/* The share of a node's memory that replicas may take; the rest is the system's, the agent's and the page cache's. */
static uint64_t placeable_bytes(const struct fsm_node *node)
{
    return node->memory_bytes / 10 * 9;
}

static void add_place_commands(const struct place_action *actions, size_t count, struct control_commands *commands)
{
    for (size_t i = 0; i < count; i++) {
        const struct place_action *action = &actions[i];
        struct control_command *command =
            add_command(commands, action->kind == PLACE_REMOVE ? PROTO_CMD_UNPLACE : PROTO_CMD_PLACE);
        if (command == NULL) {
            return;
        }
        if (action->kind == PLACE_REMOVE) {
            command->any.cmd_unplace = (struct proto_cmd_unplace){.replica = bytes_of_text(action->replica),
                                                                  .expected_epoch = action->expected_epoch};
        } else {
            command->any.cmd_place = (struct proto_cmd_place){
                .replica = bytes_of_text(action->replica),
                .model = bytes_of_text(action->model),
                .node = bytes_of_text(action->node),
                .reason = bytes_of_text(action->reason),
                .expected_epoch = action->expected_epoch,
            };
        }
    }
}

static void step_placement(const struct fsm *fsm, struct control_commands *commands)
{
    struct place_node *nodes = mem_new_array(struct place_node, fsm->nodes.count);
    struct place_model *models = mem_new_array(struct place_model, fsm->models.count);
    struct place_replica *replicas = mem_new_array(struct place_replica, fsm->replicas.count);
    for (size_t i = 0; i < fsm->nodes.count; i++) {
        const struct fsm_node *node = FSM_AT(fsm->nodes, fsm_node, i);
        nodes[i] = (struct place_node){.name = node->name,
                                       .usable = node->state == PROTO_NODE_UP,
                                       .down = node->state == PROTO_NODE_DOWN,
                                       .memory_bytes = placeable_bytes(node)};
    }
    for (size_t i = 0; i < fsm->models.count; i++) {
        const struct fsm_model *model = FSM_AT(fsm->models, fsm_model, i);
        models[i] = (struct place_model){
            .name = model->name, .replicas = (uint32_t)model->replicas, .memory_bytes = model->memory_bytes};
    }
    for (size_t i = 0; i < fsm->replicas.count; i++) {
        const struct fsm_replica *replica = FSM_AT(fsm->replicas, fsm_replica, i);
        replicas[i] = (struct place_replica){.name = replica->name,
                                             .model = replica->model,
                                             .node = replica->node,
                                             .reason = replica->reason,
                                             .epoch = replica->epoch};
    }
    struct place_input input = {nodes, fsm->nodes.count, models, fsm->models.count, replicas, fsm->replicas.count};
    struct place_action *actions = mem_new_array(struct place_action, CONTROL_COMMANDS_MAX);
    size_t count = place_step(&input, actions, CONTROL_COMMANDS_MAX - commands->count);
    add_place_commands(actions, count, commands);
    commands->scratch = actions;
    mem_free(nodes);
    mem_free(models);
    mem_free(replicas);
}

void control_step(struct control *control, const struct fsm *fsm, uint64_t now_us, struct control_commands *commands)
{
    commands->count = 0;
    commands->scratch = NULL;
    if (!control->leading) {
        return;
    }
    step_health(control, fsm, now_us, commands);
    bool nodes_go = commands->count > 0;
    step_heard(control, fsm, commands);
    step_replicas(control, fsm, commands);
    if (!control->frozen && !nodes_go) { /* nothing is placed on a node that is about to be down */
        step_placement(fsm, commands);
    }
}

void control_commands_free(struct control_commands *commands)
{
    mem_free(commands->scratch);
    commands->scratch = NULL;
    commands->count = 0;
}
