/* view: see view.h. */
#include "router/view.h"

#include "base/check.h"
#include "base/crypto.h"

enum { VIEW_ARENA_BYTES_MAX = 256 << 20, VIEW_ENTRIES_MAX = 65536 };

void view_init(struct view *view)
{
    *view = (struct view){0};
    buf_init(&view->frame, PROTO_FRAME_BYTES_MAX);
    arena_init(&view->arena, VIEW_ARENA_BYTES_MAX);
    map_init(&view->keys, VIEW_ENTRIES_MAX);
    map_init(&view->tenants, VIEW_ENTRIES_MAX);
    map_init(&view->models, VIEW_ENTRIES_MAX);
}

void view_free(struct view *view)
{
    map_free(&view->models);
    map_free(&view->tenants);
    map_free(&view->keys);
    arena_free(&view->arena);
    buf_free(&view->frame);
}

static bool newer(const struct proto_view *a, const struct proto_view *b)
{
    return a->incarnation != b->incarnation ? a->incarnation > b->incarnation : a->index > b->index;
}

/* False: more entries than a map takes (the decoder's own limits are below it). */
static bool index_entries(struct view *view)
{
    struct proto_view *now = &view->now;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < now->keys_count && status == STATUS_OK; i++) {
        status = map_put(&view->keys, now->keys[i].hash, &now->keys[i]);
    }
    for (size_t i = 0; i < now->tenants_count && status == STATUS_OK; i++) {
        status = map_put(&view->tenants, now->tenants[i].name, &now->tenants[i]);
    }
    for (size_t i = 0; i < now->models_count && status == STATUS_OK; i++) {
        status = map_put(&view->models, now->models[i].name, &now->models[i]);
    }
    return status == STATUS_OK;
}

/* Decodes `frame` into a view of its own. */
static enum status decode(struct view *fresh, struct bytes frame, struct error *error)
{
    buf_append_bytes(&fresh->frame, frame);
    if (fresh->frame.overflow) {
        return error_set(error, STATUS_LIMIT, "a view of %zu bytes is too large", frame.length);
    }
    struct proto_message message;
    enum status status = proto_decode(buf_bytes(&fresh->frame), &fresh->arena, &message, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (message.opcode != PROTO_VIEW) {
        return error_set(error, STATUS_INVALID, "expected a view, got %s", proto_opcode_name(message.opcode));
    }
    fresh->now = message.any.view;
    return STATUS_OK;
}

enum status view_offer(struct view *view, struct bytes frame, struct error *error)
{
    struct view fresh;
    view_init(&fresh);
    enum status status = decode(&fresh, frame, error);
    if (status == STATUS_OK && !newer(&fresh.now, &view->now)) {
        status = STATUS_AGAIN;
    }
    if (status == STATUS_OK && !index_entries(&fresh)) {
        status = error_set(error, STATUS_LIMIT, "a view with too many entries");
    }
    if (status != STATUS_OK) {
        view_free(&fresh);
        return status;
    }
    view_free(view);
    *view = fresh;
    return STATUS_OK;
}

const struct proto_view_tenant *view_tenant_of_key(const struct view *view, struct bytes api_key)
{
    uint8_t hash[CRYPTO_HASH_BYTES];
    crypto_blake2b(hash, bytes_of(NULL, 0), &api_key, 1);
    const struct proto_view_key *key = map_get(&view->keys, bytes_of(hash, sizeof(hash)));
    if (key == NULL || key->hash.length != sizeof(hash) || !crypto_equal(key->hash.data, hash, sizeof(hash))) {
        return NULL;
    }
    const struct proto_view_tenant *tenant = map_get(&view->tenants, key->tenant);
    return tenant != NULL && tenant->secret.length == CRYPTO_KEY_BYTES ? tenant : NULL;
}

const struct proto_view_model *view_model(const struct view *view, struct bytes name)
{
    return map_get(&view->models, name);
}
