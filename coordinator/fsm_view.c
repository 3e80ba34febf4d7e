/* coordinator/fsm_view.c: the state as a VIEW message and back: what routers get, and what snapshots hold. */
#include <string.h>

#include "base/check.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "coordinator/fsm.h"
#include "coordinator/fsm_table.h"

enum { FSM_VIEW_ARENA_BYTES = 64 << 20 };

static void fill_coordinators(const struct fsm *fsm, struct proto_view *view)
{
    view->coordinators_count = fsm->coordinators_count;
    for (size_t i = 0; i < fsm->coordinators_count; i++) {
        const struct fsm_coordinator *from = &fsm->coordinators[i];
        view->coordinators[i] = (struct proto_view_coordinator){
            .name = bytes_of_text(from->name),
            .endpoint = bytes_of_text(from->endpoint),
            .key = bytes_of_text(from->key),
            .raft_id = from->raft_id,
        };
    }
}

static void fill_nodes(const struct fsm *fsm, struct proto_view *view)
{
    view->nodes_count = fsm->nodes.count;
    for (size_t i = 0; i < fsm->nodes.count; i++) {
        const struct fsm_node *from = FSM_AT(fsm->nodes, fsm_node, i);
        view->nodes[i] = (struct proto_view_node){
            .name = bytes_of_text(from->name),
            .state = from->state,
            .host = bytes_of_text(from->host),
            .key = bytes_of_text(from->key),
            .cores = from->cores,
            .memory_bytes = from->memory_bytes,
            .incarnation = from->incarnation,
        };
    }
}

static void fill_models(const struct fsm *fsm, struct proto_view *view)
{
    view->models_count = fsm->models.count;
    for (size_t i = 0; i < fsm->models.count; i++) {
        const struct fsm_model *from = FSM_AT(fsm->models, fsm_model, i);
        view->models[i] = (struct proto_view_model){
            .name = bytes_of_text(from->name),
            .path = bytes_of_text(from->path),
            .replicas = from->replicas,
            .pool_tokens = from->pool_tokens,
            .context_tokens = from->context_tokens,
            .kv_type = bytes_of_text(from->kv_type),
            .memory_bytes = from->memory_bytes,
            .created_s = from->created_s,
        };
    }
}

static void fill_replicas(const struct fsm *fsm, struct proto_view *view)
{
    view->replicas_count = fsm->replicas.count;
    for (size_t i = 0; i < fsm->replicas.count; i++) {
        const struct fsm_replica *from = FSM_AT(fsm->replicas, fsm_replica, i);
        const struct fsm_node *node = fsm_node(fsm, from->node);
        view->replicas[i] = (struct proto_view_replica){
            .name = bytes_of_text(from->name),
            .model = bytes_of_text(from->model),
            .node = bytes_of_text(from->node),
            .epoch = from->epoch,
            .state = from->state,
            .endpoint = bytes_of_text(from->endpoint),
            .key = bytes_of_text(node != NULL ? node->key : ""),
            .class_id = from->class_id,
            .context_tokens = from->context_tokens,
            .pool_tokens = from->pool_tokens,
            .reason = bytes_of_text(from->reason),
            .incarnation = from->incarnation,
        };
    }
}

static void fill_tenants(const struct fsm *fsm, struct proto_view *view)
{
    view->tenants_count = fsm->tenants.count;
    for (size_t i = 0; i < fsm->tenants.count; i++) {
        const struct fsm_tenant *from = FSM_AT(fsm->tenants, fsm_tenant, i);
        view->tenants[i] =
            (struct proto_view_tenant){.name = bytes_of_text(from->name), .secret = bytes_of(from->secret, 32)};
    }
    view->keys_count = fsm->keys.count;
    for (size_t i = 0; i < fsm->keys.count; i++) {
        const struct fsm_key *from = FSM_AT(fsm->keys, fsm_key, i);
        view->keys[i] = (struct proto_view_key){
            .hash = bytes_of(from->hash, 32),
            .tenant = bytes_of_text(from->tenant),
            .label = bytes_of_text(from->label),
        };
    }
}

enum status fsm_view(const struct fsm *fsm, struct buf *out, struct error *error)
{
    struct proto_view view = {
        .incarnation = fsm->incarnation, .index = fsm->index, .placement_index = fsm->placement_index};
    view.coordinators = mem_new_array(struct proto_view_coordinator, fsm->coordinators_count);
    view.nodes = mem_new_array(struct proto_view_node, fsm->nodes.count);
    view.models = mem_new_array(struct proto_view_model, fsm->models.count);
    view.replicas = mem_new_array(struct proto_view_replica, fsm->replicas.count);
    view.tenants = mem_new_array(struct proto_view_tenant, fsm->tenants.count);
    view.keys = mem_new_array(struct proto_view_key, fsm->keys.count);
    fill_coordinators(fsm, &view);
    fill_nodes(fsm, &view);
    fill_models(fsm, &view);
    fill_replicas(fsm, &view);
    fill_tenants(fsm, &view);
    enum status status = proto_encode(out, PROTO_VIEW, &view, error);
    mem_free(view.coordinators);
    mem_free(view.nodes);
    mem_free(view.models);
    mem_free(view.replicas);
    mem_free(view.tenants);
    mem_free(view.keys);
    return status;
}

static enum status take_coordinators(struct fsm *fsm, const struct proto_view *view, struct error *error)
{
    if (view->coordinators_count > FSM_COORDINATORS_MAX) {
        return error_set(error, STATUS_CORRUPT, "a view with %zu coordinators", view->coordinators_count);
    }
    fsm->coordinators_count = view->coordinators_count;
    for (size_t i = 0; i < view->coordinators_count; i++) {
        const struct proto_view_coordinator *from = &view->coordinators[i];
        struct fsm_coordinator *to = &fsm->coordinators[i];
        FSM_SET(to->name, from->name);
        FSM_SET(to->endpoint, from->endpoint);
        FSM_SET(to->key, from->key);
        to->raft_id = from->raft_id;
    }
    return STATUS_OK;
}

/* A new item by a name from the view; NULL when the name is empty or taken: the view is no state of ours. */
static void *new_item(struct fsm_table *table, struct bytes text, size_t size)
{
    char name[FSM_NAME_MAX + 1];
    if (text.length == 0 || text.length > FSM_NAME_MAX) {
        return NULL;
    }
    fsm_text_set(name, sizeof(name), text);
    return fsm_table_find(table, name) == NULL ? fsm_table_put(table, name, size) : NULL;
}

static bool take_nodes(struct fsm *fsm, const struct proto_view *view)
{
    for (size_t i = 0; i < view->nodes_count; i++) {
        const struct proto_view_node *from = &view->nodes[i];
        struct fsm_node *node = new_item(&fsm->nodes, from->name, sizeof(*node));
        if (node == NULL) {
            return false;
        }
        node->state = (enum proto_node_state)from->state;
        FSM_SET(node->host, from->host);
        FSM_SET(node->key, from->key);
        node->cores = from->cores;
        node->memory_bytes = from->memory_bytes;
        node->incarnation = from->incarnation;
    }
    return true;
}

static bool take_models(struct fsm *fsm, const struct proto_view *view)
{
    for (size_t i = 0; i < view->models_count; i++) {
        const struct proto_view_model *from = &view->models[i];
        struct fsm_model *model = new_item(&fsm->models, from->name, sizeof(*model));
        if (model == NULL) {
            return false;
        }
        FSM_SET(model->path, from->path);
        FSM_SET(model->kv_type, from->kv_type);
        model->replicas = from->replicas;
        model->pool_tokens = from->pool_tokens;
        model->context_tokens = from->context_tokens;
        model->memory_bytes = from->memory_bytes;
        model->created_s = from->created_s;
    }
    return true;
}

static bool take_replicas(struct fsm *fsm, const struct proto_view *view)
{
    for (size_t i = 0; i < view->replicas_count; i++) {
        const struct proto_view_replica *from = &view->replicas[i];
        struct fsm_replica *replica = new_item(&fsm->replicas, from->name, sizeof(*replica));
        if (replica == NULL) {
            return false;
        }
        FSM_SET(replica->model, from->model);
        FSM_SET(replica->node, from->node);
        FSM_SET(replica->endpoint, from->endpoint);
        FSM_SET(replica->reason, from->reason);
        replica->epoch = from->epoch;
        replica->state = (enum proto_replica_state)from->state;
        replica->class_id = from->class_id;
        replica->context_tokens = from->context_tokens;
        replica->pool_tokens = from->pool_tokens;
        replica->incarnation = from->incarnation;
    }
    return true;
}

static bool take_tenants(struct fsm *fsm, const struct proto_view *view)
{
    for (size_t i = 0; i < view->tenants_count; i++) {
        const struct proto_view_tenant *from = &view->tenants[i];
        struct fsm_tenant *tenant = new_item(&fsm->tenants, from->name, sizeof(*tenant));
        if (tenant == NULL || from->secret.length != 32) {
            return false;
        }
        memcpy(tenant->secret, from->secret.data, 32);
    }
    for (size_t i = 0; i < view->keys_count; i++) {
        const struct proto_view_key *from = &view->keys[i];
        char name[FSM_NAME_MAX + 1];
        if (from->hash.length != 32) {
            return false;
        }
        crypto_hex(name, from->hash.data, 32);
        struct fsm_key *key = new_item(&fsm->keys, bytes_of_text(name), sizeof(*key));
        if (key == NULL) {
            return false;
        }
        memcpy(key->hash, from->hash.data, 32);
        FSM_SET(key->tenant, from->tenant);
        FSM_SET(key->label, from->label);
    }
    return true;
}

static enum status restore_from(struct fsm *fsm, const struct proto_view *view, struct error *error)
{
    fsm->incarnation = view->incarnation;
    fsm->index = view->index;
    fsm->placement_index = view->placement_index;
    enum status status = take_coordinators(fsm, view, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (view->nodes_count > FSM_NODES_MAX || view->models_count > FSM_MODELS_MAX ||
        view->replicas_count > FSM_REPLICAS_MAX || view->tenants_count > FSM_TENANTS_MAX ||
        view->keys_count > FSM_KEYS_MAX) {
        return error_set(error, STATUS_CORRUPT, "the snapshot at index %llu holds more than any state can",
                         (unsigned long long)view->index);
    }
    if (!take_nodes(fsm, view) || !take_models(fsm, view) || !take_replicas(fsm, view) || !take_tenants(fsm, view)) {
        return error_set(error, STATUS_CORRUPT, "the snapshot at index %llu names something twice or not at all",
                         (unsigned long long)view->index);
    }
    return STATUS_OK;
}

enum status fsm_restore(struct fsm *fsm, struct bytes snapshot, struct error *error)
{
    struct arena arena;
    arena_init(&arena, FSM_VIEW_ARENA_BYTES);
    struct proto_message message;
    enum status status = proto_decode(snapshot, &arena, &message, error);
    if (status == STATUS_OK && message.opcode != PROTO_VIEW) {
        status = error_set(error, STATUS_CORRUPT, "a snapshot that holds a %s", proto_opcode_name(message.opcode));
    }
    if (status == STATUS_OK) {
        struct fsm fresh;
        fsm_init(&fresh);
        status = restore_from(&fresh, &message.any.view, error);
        if (status == STATUS_OK) {
            fsm_free(fsm);
            *fsm = fresh;
        } else {
            fsm_free(&fresh);
        }
    }
    arena_free(&arena);
    return status;
}

void fsm_hash(const struct fsm *fsm, uint8_t out[32])
{
    struct buf buf;
    buf_init(&buf, PROTO_FRAME_BYTES_MAX);
    struct error error;
    enum status status = fsm_view(fsm, &buf, &error);
    CHECK(status == STATUS_OK);
    struct bytes part = buf_bytes(&buf);
    crypto_blake2b(out, (struct bytes){0}, &part, 1);
    buf_free(&buf);
}
