/* coordinator/fsm.c: the commands. One function per command, each checking before it changes anything. The codec has
 * already refused malformed frames, unknown fields and values out of range; what is left to check are the rules. */
#include "coordinator/fsm.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/crypto.h"
#include "coordinator/fsm_table.h"

enum { FSM_COMMAND_ARENA_BYTES = 1 << 20 };

void fsm_init(struct fsm *fsm)
{
    *fsm = (struct fsm){0};
}

void fsm_free(struct fsm *fsm)
{
    fsm_table_free(&fsm->nodes);
    fsm_table_free(&fsm->models);
    fsm_table_free(&fsm->replicas);
    fsm_table_free(&fsm->tenants);
    fsm_table_free(&fsm->keys);
}

const struct fsm_node *fsm_node(const struct fsm *fsm, const char *name)
{
    return fsm_table_find(&fsm->nodes, name);
}

const struct fsm_model *fsm_model(const struct fsm *fsm, const char *name)
{
    return fsm_table_find(&fsm->models, name);
}

const struct fsm_replica *fsm_replica(const struct fsm *fsm, const char *name)
{
    return fsm_table_find(&fsm->replicas, name);
}

const struct fsm_tenant *fsm_tenant(const struct fsm *fsm, const char *name)
{
    return fsm_table_find(&fsm->tenants, name);
}

PRINTF_LIKE(3, 4)
static void refuse(struct fsm_outcome *outcome, enum status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    outcome->status = status;
    vsnprintf(outcome->detail, sizeof(outcome->detail), format, args);
    va_end(args);
}

/* A name as a zero-terminated string; the codec bounds its length. False when it is empty. */
static bool name_of(struct bytes text, char name[FSM_NAME_MAX + 1])
{
    if (text.length == 0 || text.length > FSM_NAME_MAX) {
        return false;
    }
    fsm_text_set(name, FSM_NAME_MAX + 1, text);
    return true;
}

/* The item of that name, made if there is room; NULL (and refused) otherwise. */
static void *put(struct fsm_table *table, const char *name, size_t size, size_t count_max, struct fsm_outcome *outcome)
{
    if (table->count >= count_max && fsm_table_find(table, name) == NULL) {
        refuse(outcome, STATUS_LIMIT, "no room for %s: there are %zu already", name, table->count);
        return NULL;
    }
    return fsm_table_put(table, name, size);
}

static bool coordinators_are_sound(const struct proto_cmd_cluster *command)
{
    for (size_t i = 0; i < command->coordinators_count; i++) {
        const struct proto_view_coordinator *one = &command->coordinators[i];
        if (one->name.length == 0 || one->raft_id == 0) {
            return false;
        }
        for (size_t j = 0; j < i; j++) {
            const struct proto_view_coordinator *other = &command->coordinators[j];
            if (bytes_equal(one->name, other->name) || one->raft_id == other->raft_id) {
                return false;
            }
        }
    }
    return command->coordinators_count > 0 && command->coordinators_count <= FSM_COORDINATORS_MAX;
}

static void apply_cluster(struct fsm *fsm, const struct proto_cmd_cluster *command, struct fsm_outcome *outcome)
{
    if (fsm->coordinators_count != 0) {
        refuse(outcome, STATUS_EXISTS, "the cluster is named already");
        return;
    }
    if (!coordinators_are_sound(command)) {
        refuse(outcome, STATUS_INVALID, "a cluster needs coordinators with names and raft ids of their own");
        return;
    }
    fsm->incarnation = command->incarnation;
    for (size_t i = 0; i < command->coordinators_count; i++) {
        const struct proto_view_coordinator *from = &command->coordinators[i];
        struct fsm_coordinator *to = &fsm->coordinators[i];
        FSM_SET(to->name, from->name);
        FSM_SET(to->endpoint, from->endpoint);
        FSM_SET(to->key, from->key);
        to->raft_id = from->raft_id;
    }
    fsm->coordinators_count = command->coordinators_count;
}

/* What ran on a node that went down is lost until the control loop places it again or the node reports it anew. */
static void lose_replicas(struct fsm *fsm, const char *node)
{
    for (size_t i = 0; i < fsm->replicas.count; i++) {
        struct fsm_replica *replica = FSM_AT(fsm->replicas, fsm_replica, i);
        if (strcmp(replica->node, node) == 0) {
            replica->state = PROTO_REPLICA_LOST;
            snprintf(replica->reason, sizeof(replica->reason), "node %s is down", node);
        }
    }
}

static void apply_node(struct fsm *fsm, const struct proto_cmd_node *command, struct fsm_outcome *outcome)
{
    char name[FSM_NAME_MAX + 1];
    const struct proto_view_node *from = &command->node;
    if (!name_of(from->name, name)) {
        refuse(outcome, STATUS_INVALID, "a node needs a name");
        return;
    }
    struct fsm_node *node = put(&fsm->nodes, name, sizeof(*node), FSM_NODES_MAX, outcome);
    if (node == NULL) {
        return;
    }
    node->state = (enum proto_node_state)from->state;
    FSM_SET(node->host, from->host);
    FSM_SET(node->key, from->key);
    node->cores = from->cores;
    node->memory_bytes = from->memory_bytes;
    node->incarnation = from->incarnation;
    if (node->state == PROTO_NODE_DOWN) {
        lose_replicas(fsm, name);
    }
}

/* Whether engines that run `model` must be started anew to run `from`. */
static bool runs_differently(const struct fsm_model *model, const struct proto_view_model *from)
{
    return !bytes_equal(bytes_of_text(model->path), from->path) ||
           !bytes_equal(bytes_of_text(model->kv_type), from->kv_type) || model->pool_tokens != from->pool_tokens ||
           model->context_tokens != from->context_tokens;
}

/* What runs changes with this command: so do the epochs, lest streams go on with an engine of other settings. */
static void place_anew(struct fsm *fsm, uint64_t index, const char *model)
{
    for (size_t i = 0; i < fsm->replicas.count; i++) {
        struct fsm_replica *replica = FSM_AT(fsm->replicas, fsm_replica, i);
        if (strcmp(replica->model, model) != 0 || replica->node[0] == '\0') {
            continue;
        }
        replica->epoch = index;
        if (replica->state != PROTO_REPLICA_LOST) {
            replica->state = PROTO_REPLICA_PLACED;
        }
        memset(replica->endpoint, 0, sizeof(replica->endpoint));
        replica->class_id = replica->context_tokens = replica->pool_tokens = replica->incarnation = 0;
        fsm->placement_index = index;
    }
}

static void apply_model_put(struct fsm *fsm, uint64_t index, const struct proto_cmd_model_put *command,
                            struct fsm_outcome *outcome)
{
    char name[FSM_NAME_MAX + 1];
    const struct proto_view_model *from = &command->model;
    if (!name_of(from->name, name) || from->path.length == 0) {
        refuse(outcome, STATUS_INVALID, "a model needs a name and a path");
        return;
    }
    struct fsm_model *model = put(&fsm->models, name, sizeof(*model), FSM_MODELS_MAX, outcome);
    if (model == NULL) {
        return;
    }
    bool changed = runs_differently(model, from);
    FSM_SET(model->path, from->path);
    FSM_SET(model->kv_type, from->kv_type);
    model->replicas = from->replicas;
    model->pool_tokens = from->pool_tokens;
    model->context_tokens = from->context_tokens;
    model->memory_bytes = from->memory_bytes;
    model->created_s = from->created_s;
    if (changed) {
        place_anew(fsm, index, name);
    }
}

/* A model's replicas go with it, so that none is ever routed to without its model. */
static void apply_model_remove(struct fsm *fsm, uint64_t index, const struct proto_cmd_model_remove *command,
                               struct fsm_outcome *outcome)
{
    char name[FSM_NAME_MAX + 1];
    if (!name_of(command->name, name) || fsm_model(fsm, name) == NULL) {
        refuse(outcome, STATUS_NOT_FOUND, "no such model");
        return;
    }
    fsm_table_remove(&fsm->models, name);
    for (size_t i = fsm->replicas.count; i-- > 0;) {
        const struct fsm_replica *replica = FSM_AT(fsm->replicas, fsm_replica, i);
        if (strcmp(replica->model, name) == 0) {
            fsm_table_remove(&fsm->replicas, replica->name);
            fsm->placement_index = index;
        }
    }
}

static bool epoch_holds(const struct fsm *fsm, const char *name, uint64_t expected, struct fsm_outcome *outcome)
{
    const struct fsm_replica *replica = fsm_replica(fsm, name);
    uint64_t epoch = replica != NULL ? replica->epoch : 0;
    if (epoch != expected) {
        refuse(outcome, STATUS_CONFLICT, "%s has epoch %llu, not %llu", name, (unsigned long long)epoch,
               (unsigned long long)expected);
        return false;
    }
    return true;
}

/* A replica may go to a node that is there, not down, and runs no other replica of the model. */
static bool node_may_run(const struct fsm *fsm, const char *node, const char *name, const char *model,
                         struct fsm_outcome *outcome)
{
    const struct fsm_node *known = fsm_node(fsm, node);
    if (known == NULL) {
        refuse(outcome, STATUS_NOT_FOUND, "no node %s", node);
        return false;
    }
    if (known->state == PROTO_NODE_DOWN) {
        refuse(outcome, STATUS_CONFLICT, "node %s is down", node);
        return false;
    }
    for (size_t i = 0; i < fsm->replicas.count; i++) {
        const struct fsm_replica *other = FSM_AT(fsm->replicas, fsm_replica, i);
        if (strcmp(other->node, node) == 0 && strcmp(other->model, model) == 0 && strcmp(other->name, name) != 0) {
            refuse(outcome, STATUS_CONFLICT, "node %s runs %s already", node, other->name);
            return false;
        }
    }
    return true;
}

static void apply_place(struct fsm *fsm, uint64_t index, const struct proto_cmd_place *command,
                        struct fsm_outcome *outcome)
{
    char name[FSM_NAME_MAX + 1], model[FSM_NAME_MAX + 1], node[FSM_NAME_MAX + 1] = "";
    if (!name_of(command->replica, name) || !name_of(command->model, model)) {
        refuse(outcome, STATUS_INVALID, "a placement needs replica and model");
        return;
    }
    if (fsm_model(fsm, model) == NULL) {
        refuse(outcome, STATUS_NOT_FOUND, "no model %s", model);
        return;
    }
    if (!epoch_holds(fsm, name, command->expected_epoch, outcome) ||
        (name_of(command->node, node) && !node_may_run(fsm, node, name, model, outcome))) {
        return;
    }
    struct fsm_replica *replica = put(&fsm->replicas, name, sizeof(*replica), FSM_REPLICAS_MAX, outcome);
    if (replica == NULL) {
        return;
    }
    memset(replica, 0, sizeof(*replica));
    snprintf(replica->name, sizeof(replica->name), "%s", name);
    FSM_SET(replica->model, command->model);
    FSM_SET(replica->node, command->node);
    FSM_SET(replica->reason, command->reason);
    replica->epoch = index;
    replica->state = replica->node[0] != '\0' ? PROTO_REPLICA_PLACED : PROTO_REPLICA_PENDING;
    fsm->placement_index = index;
}

static void apply_unplace(struct fsm *fsm, uint64_t index, const struct proto_cmd_unplace *command,
                          struct fsm_outcome *outcome)
{
    char name[FSM_NAME_MAX + 1];
    if (!name_of(command->replica, name) || fsm_replica(fsm, name) == NULL) {
        refuse(outcome, STATUS_NOT_FOUND, "no such replica");
        return;
    }
    if (epoch_holds(fsm, name, command->expected_epoch, outcome)) {
        fsm_table_remove(&fsm->replicas, name);
        fsm->placement_index = index;
    }
}

static void apply_replica_state(struct fsm *fsm, const struct proto_cmd_replica_state *command,
                                struct fsm_outcome *outcome)
{
    char name[FSM_NAME_MAX + 1];
    struct fsm_replica *replica = NULL;
    if (name_of(command->replica, name)) {
        replica = fsm_table_find(&fsm->replicas, name);
    }
    if (replica == NULL) {
        refuse(outcome, STATUS_NOT_FOUND, "no such replica");
        return;
    }
    if (!epoch_holds(fsm, name, command->epoch, outcome)) {
        return;
    }
    if (command->state == PROTO_REPLICA_PENDING || command->state == PROTO_REPLICA_LOST) {
        refuse(outcome, STATUS_INVALID, "pending and lost follow from placement, no agent reports them");
        return;
    }
    const struct fsm_node *node = fsm_node(fsm, replica->node);
    if (node == NULL || node->state == PROTO_NODE_DOWN) {
        refuse(outcome, STATUS_CONFLICT, "%s has no node that could say so", name);
        return;
    }
    replica->state = (enum proto_replica_state)command->state;
    FSM_SET(replica->endpoint, command->endpoint);
    FSM_SET(replica->reason, command->reason);
    replica->class_id = command->class_id;
    replica->context_tokens = command->context_tokens;
    replica->pool_tokens = command->pool_tokens;
    replica->incarnation = command->incarnation;
}

static void apply_tenant_put(struct fsm *fsm, const struct proto_cmd_tenant_put *command, struct fsm_outcome *outcome)
{
    char name[FSM_NAME_MAX + 1];
    if (!name_of(command->tenant.name, name) || command->tenant.secret.length != 32) {
        refuse(outcome, STATUS_INVALID, "a tenant needs a name and a secret of 32 bytes");
        return;
    }
    struct fsm_tenant *tenant = put(&fsm->tenants, name, sizeof(*tenant), FSM_TENANTS_MAX, outcome);
    if (tenant == NULL) {
        return;
    }
    memcpy(tenant->secret, command->tenant.secret.data, 32);
}

static void apply_key_put(struct fsm *fsm, const struct proto_cmd_key_put *command, struct fsm_outcome *outcome)
{
    char tenant[FSM_NAME_MAX + 1], name[FSM_NAME_MAX + 1];
    const struct proto_view_key *from = &command->key;
    if (from->hash.length != 32 || !name_of(from->tenant, tenant)) {
        refuse(outcome, STATUS_INVALID, "a key needs a hash of 32 bytes and a tenant");
        return;
    }
    if (fsm_tenant(fsm, tenant) == NULL) {
        refuse(outcome, STATUS_NOT_FOUND, "no tenant %s", tenant);
        return;
    }
    crypto_hex(name, from->hash.data, 32);
    struct fsm_key *key = put(&fsm->keys, name, sizeof(*key), FSM_KEYS_MAX, outcome);
    if (key == NULL) {
        return;
    }
    memcpy(key->hash, from->hash.data, 32);
    FSM_SET(key->tenant, from->tenant);
    FSM_SET(key->label, from->label);
}

static void apply_key_remove(struct fsm *fsm, const struct proto_cmd_key_remove *command, struct fsm_outcome *outcome)
{
    char name[FSM_NAME_MAX + 1] = "";
    if (command->hash.length == 32) {
        crypto_hex(name, command->hash.data, 32);
    }
    if (fsm_table_find(&fsm->keys, name) == NULL) {
        refuse(outcome, STATUS_NOT_FOUND, "no such key");
        return;
    }
    fsm_table_remove(&fsm->keys, name);
}

static void apply_message(struct fsm *fsm, uint64_t index, const struct proto_message *message,
                          struct fsm_outcome *outcome)
{
    switch ((int)message->opcode) {
    case PROTO_CMD_CLUSTER:
        apply_cluster(fsm, &message->any.cmd_cluster, outcome);
        break;
    case PROTO_CMD_NODE:
        apply_node(fsm, &message->any.cmd_node, outcome);
        break;
    case PROTO_CMD_MODEL_PUT:
        apply_model_put(fsm, index, &message->any.cmd_model_put, outcome);
        break;
    case PROTO_CMD_MODEL_REMOVE:
        apply_model_remove(fsm, index, &message->any.cmd_model_remove, outcome);
        break;
    case PROTO_CMD_PLACE:
        apply_place(fsm, index, &message->any.cmd_place, outcome);
        break;
    case PROTO_CMD_UNPLACE:
        apply_unplace(fsm, index, &message->any.cmd_unplace, outcome);
        break;
    case PROTO_CMD_REPLICA_STATE:
        apply_replica_state(fsm, &message->any.cmd_replica_state, outcome);
        break;
    case PROTO_CMD_TENANT_PUT:
        apply_tenant_put(fsm, &message->any.cmd_tenant_put, outcome);
        break;
    case PROTO_CMD_KEY_PUT:
        apply_key_put(fsm, &message->any.cmd_key_put, outcome);
        break;
    case PROTO_CMD_KEY_REMOVE:
        apply_key_remove(fsm, &message->any.cmd_key_remove, outcome);
        break;
    default:
        refuse(outcome, STATUS_UNSUPPORTED, "%s is no command", proto_opcode_name(message->opcode));
        break;
    }
}

void fsm_apply(struct fsm *fsm, uint64_t index, struct bytes command, struct fsm_outcome *outcome)
{
    CHECK(index > fsm->index);
    fsm->index = index;
    *outcome = (struct fsm_outcome){.status = STATUS_OK};
    struct arena arena;
    arena_init(&arena, FSM_COMMAND_ARENA_BYTES);
    struct proto_message message;
    struct error error = {0};
    enum status status = proto_decode(command, &arena, &message, &error);
    if (status != STATUS_OK) {
        refuse(outcome, status, "%s", error.text);
    } else {
        apply_message(fsm, index, &message, outcome);
    }
    arena_free(&arena);
}
