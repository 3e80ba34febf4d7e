/* net/identity.c: see identity.h. */
#include "net/identity.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

enum { IDENTITY_FILE_MAX = 4096, MEMBERS_FILE_MAX = 1 << 20 };

static const char *const role_keys[MEMBER_ROLE_COUNT] = {"coordinators", "routers", "nodes", "operators"};
static const char *const role_names[MEMBER_ROLE_COUNT] = {"coordinator", "router", "node", "operator"};

const char *member_role_name(enum member_role role)
{
    CHECK((unsigned)role < MEMBER_ROLE_COUNT);
    return role_names[role];
}

static bool take_name(char *to, size_t to_size, const struct json *value)
{
    struct bytes text = json_string(value);
    if (text.length == 0 || text.length >= to_size || memchr(text.data, 0, text.length) != NULL) {
        return false;
    }
    memset(to, 0, to_size);
    memcpy(to, text.data, text.length);
    return true;
}

static enum status read_json(const char *path, size_t length_max, struct json **out, struct error *error)
{
    struct buf text;
    buf_init(&text, length_max);
    enum status status = file_read(path, length_max, &text, error);
    if (status == STATUS_OK) {
        status = json_parse(buf_bytes(&text), out, error);
        if (status != STATUS_OK) {
            error_prefix(error, "%s", path);
        }
        crypto_wipe(text.data, text.length);
    }
    buf_free(&text);
    return status;
}

enum status identity_read(const char *path, struct identity *out, struct error *error)
{
    struct stat info;
    if (stat(path, &info) == 0 && (info.st_mode & 077) != 0) {
        return error_set(error, STATUS_DENIED, "%s can be read by others: chmod 600 it, or make new keys", path);
    }
    struct json *root = NULL;
    enum status status = read_json(path, IDENTITY_FILE_MAX, &root, error);
    if (status != STATUS_OK) {
        return status;
    }
    struct identity identity = {0};
    uint8_t public_key[CURVE_KEY_BYTES];
    const char *public_text = json_text(json_get(root, "public"));
    const char *secret_text = json_text(json_get(root, "secret"));
    if (!take_name(identity.name, sizeof(identity.name), json_get(root, "name")) || public_text == NULL ||
        secret_text == NULL || crypto_z85_decode(identity.keys.public_key, public_text) != STATUS_OK ||
        crypto_z85_decode(identity.keys.secret_key, secret_text) != STATUS_OK) {
        status =
            error_set(error, STATUS_INVALID, "%s holds no identity: name, public and secret (Z85) are needed", path);
    } else if (crypto_curve_public(public_key, identity.keys.secret_key),
               memcmp(public_key, identity.keys.public_key, CURVE_KEY_BYTES) != 0) {
        status = error_set(error, STATUS_CORRUPT, "%s: the public key is not the secret one's", path);
    } else {
        *out = identity;
    }
    crypto_wipe(&identity, sizeof(identity));
    json_free(root);
    return status;
}

enum status identity_create(const char *path, const char *name, struct identity *out, struct error *error)
{
    if (name[0] == '\0' || strlen(name) > MEMBER_NAME_MAX) {
        return error_set(error, STATUS_INVALID, "a name has 1 to %d bytes", MEMBER_NAME_MAX);
    }
    if (file_exists(path)) {
        return error_set(error, STATUS_EXISTS, "%s is there already", path);
    }
    struct identity identity = {0};
    snprintf(identity.name, sizeof(identity.name), "%s", name);
    crypto_curve_keypair(identity.keys.public_key, identity.keys.secret_key);
    char public_text[CURVE_TEXT_BYTES], secret_text[CURVE_TEXT_BYTES];
    crypto_z85_encode(public_text, identity.keys.public_key);
    crypto_z85_encode(secret_text, identity.keys.secret_key);
    struct buf text;
    buf_init(&text, IDENTITY_FILE_MAX);
    buf_append_text(&text, "{\"name\": ");
    json_write_text(&text, name);
    buf_append_text(&text, ", \"public\": ");
    json_write_text(&text, public_text);
    buf_append_text(&text, ", \"secret\": ");
    json_write_text(&text, secret_text);
    buf_append_text(&text, "}\n");
    enum status status = file_write_atomic(path, buf_bytes(&text), 0600, error);
    if (status == STATUS_OK) {
        *out = identity;
    }
    crypto_wipe(text.data, text.length);
    crypto_wipe(secret_text, sizeof(secret_text));
    crypto_wipe(&identity, sizeof(identity));
    buf_free(&text);
    return status;
}

static enum status take_member(const char *path, enum member_role role, const struct json *from, struct member *member,
                               struct error *error)
{
    const char *key = json_text(json_get(from, "key"));
    member->role = role;
    if (!take_name(member->name, sizeof(member->name), json_get(from, "name")) || key == NULL ||
        crypto_z85_decode(member->public_key, key) != STATUS_OK) {
        return error_set(error, STATUS_INVALID, "%s: one of the %s has no name of 1 to %d bytes, or no key in Z85",
                         path, role_keys[role], MEMBER_NAME_MAX);
    }
    crypto_z85_encode(member->key_text, member->public_key);
    if (role == MEMBER_COORDINATOR) {
        int64_t raft_id = json_integer(json_get(from, "raft_id"), 0);
        if (!take_name(member->endpoint, sizeof(member->endpoint), json_get(from, "endpoint")) || raft_id <= 0) {
            return error_set(error, STATUS_INVALID, "%s: coordinator %s needs an endpoint and a raft_id above 0", path,
                             member->name);
        }
        member->raft_id = (uint64_t)raft_id;
    }
    return STATUS_OK;
}

/* The bus tells who speaks by the key alone, and the log by the raft id: neither may be two's. */
static enum status check_unique(const char *path, const struct members *members, const struct member *fresh,
                                struct error *error)
{
    for (const struct member *other = members->list; other < fresh; other++) {
        if (memcmp(other->public_key, fresh->public_key, CURVE_KEY_BYTES) == 0) {
            return error_set(error, STATUS_INVALID, "%s: %s and %s have the same key", path, other->name, fresh->name);
        }
        if (other->role != fresh->role) {
            continue;
        }
        if (strcmp(other->name, fresh->name) == 0) {
            return error_set(error, STATUS_INVALID, "%s: two %s are called %s", path, role_keys[fresh->role],
                             fresh->name);
        }
        if (fresh->role == MEMBER_COORDINATOR && other->raft_id == fresh->raft_id) {
            return error_set(error, STATUS_INVALID, "%s: %s and %s have the same raft_id", path, other->name,
                             fresh->name);
        }
    }
    return STATUS_OK;
}

static enum status take_members(const char *path, const struct json *root, struct members *members, struct error *error)
{
    const char *cluster_id = json_text(json_get(root, "cluster_id"));
    if (cluster_id == NULL || crypto_unhex(members->cluster_id, sizeof(members->cluster_id), cluster_id) != STATUS_OK) {
        return error_set(error, STATUS_INVALID, "%s: cluster_id must be 32 hex digits", path);
    }
    for (int role = 0; role < MEMBER_ROLE_COUNT; role++) {
        const struct json *list = json_get(root, role_keys[role]);
        if (list != NULL && json_kind(list) != JSON_ARRAY) {
            return error_set(error, STATUS_INVALID, "%s: %s must be a list", path, role_keys[role]);
        }
        for (size_t i = 0; i < json_count(list); i++) {
            if (members->count == MEMBERS_MAX) {
                return error_set(error, STATUS_LIMIT, "%s: more than %d members", path, MEMBERS_MAX);
            }
            struct member *fresh = &members->list[members->count];
            enum status status = take_member(path, (enum member_role)role, json_at(list, i), fresh, error);
            if (status == STATUS_OK) {
                status = check_unique(path, members, fresh, error);
            }
            if (status != STATUS_OK) {
                return status;
            }
            members->count++;
        }
    }
    if (members->count == 0 || members->list[0].role != MEMBER_COORDINATOR) {
        return error_set(error, STATUS_INVALID, "%s names no coordinator", path);
    }
    return STATUS_OK;
}

enum status members_read(const char *path, struct members *out, struct error *error)
{
    struct json *root = NULL;
    enum status status = read_json(path, MEMBERS_FILE_MAX, &root, error);
    if (status != STATUS_OK) {
        return status;
    }
    struct members members = {.list = mem_new_array(struct member, MEMBERS_MAX)};
    status = take_members(path, root, &members, error);
    json_free(root);
    if (status == STATUS_OK) {
        *out = members;
    } else {
        members_free(&members);
    }
    return status;
}

static void write_role(const struct members *members, enum member_role role, struct buf *out)
{
    const char *separator = "";
    buf_printf(out, "  \"%s\": [", role_keys[role]);
    for (size_t i = 0; i < members->count; i++) {
        const struct member *member = &members->list[i];
        if (member->role != role) {
            continue;
        }
        buf_printf(out, "%s\n    {\"name\": ", separator);
        json_write_text(out, member->name);
        if (role == MEMBER_COORDINATOR) {
            buf_append_text(out, ", \"endpoint\": ");
            json_write_text(out, member->endpoint);
            buf_printf(out, ", \"raft_id\": %" PRIu64, member->raft_id);
        }
        char key[CURVE_TEXT_BYTES];
        crypto_z85_encode(key, member->public_key);
        buf_append_text(out, ", \"key\": ");
        json_write_text(out, key);
        buf_append_u8(out, '}');
        separator = ",";
    }
    buf_append_u8(out, ']');
}

enum status members_write(const char *path, const struct members *members, struct error *error)
{
    char cluster_id[2 * sizeof(members->cluster_id) + 1];
    crypto_hex(cluster_id, members->cluster_id, sizeof(members->cluster_id));
    struct buf text;
    buf_init(&text, MEMBERS_FILE_MAX);
    buf_printf(&text, "{\n  \"cluster_id\": \"%s\"", cluster_id);
    for (int role = 0; role < MEMBER_ROLE_COUNT; role++) {
        buf_append_text(&text, ",\n");
        write_role(members, (enum member_role)role, &text);
    }
    buf_append_text(&text, "\n}\n");
    enum status status = text.overflow
                             ? error_set(error, STATUS_LIMIT, "%s would exceed %d bytes", path, MEMBERS_FILE_MAX)
                             : file_write_atomic(path, buf_bytes(&text), 0644, error);
    buf_free(&text);
    return status;
}

void members_free(struct members *members)
{
    mem_free(members->list);
    members->list = NULL;
    members->count = 0;
}

const struct member *members_by_key(const struct members *members, const uint8_t public_key[CURVE_KEY_BYTES])
{
    for (size_t i = 0; i < members->count; i++) {
        if (memcmp(members->list[i].public_key, public_key, CURVE_KEY_BYTES) == 0) {
            return &members->list[i];
        }
    }
    return NULL;
}

const struct member *members_by_name(const struct members *members, enum member_role role, const char *name)
{
    for (size_t i = 0; i < members->count; i++) {
        if (members->list[i].role == role && strcmp(members->list[i].name, name) == 0) {
            return &members->list[i];
        }
    }
    return NULL;
}

void members_allow(const struct members *members, struct bus *bus, unsigned roles)
{
    for (size_t i = 0; i < members->count; i++) {
        if ((roles & (1u << members->list[i].role)) != 0) {
            bus_allow(bus, members->list[i].public_key);
        }
    }
}
