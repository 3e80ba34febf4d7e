/* cli/up_keys.c: see up_keys.h. */
#include "cli/up_keys.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/crypto.h"
#include "base/file.h"
#include "base/mem.h"
#include "net/identity.h"

static enum status add_member(const char *dir, enum member_role role, const char *name, struct members *members,
                              struct member **out, struct error *error)
{
    char file[MEMBER_NAME_MAX + 8];
    struct identity identity;
    snprintf(file, sizeof(file), "%s.key", name);
    char *path = home_path(dir, "keys", file);
    enum status status =
        file_exists(path) ? identity_read(path, &identity, error) : identity_create(path, name, &identity, error);
    mem_free(path);
    if (status != STATUS_OK) {
        return status;
    }
    struct member *member = &members->list[members->count++];
    *member = (struct member){.role = role};
    snprintf(member->name, sizeof(member->name), "%s", name);
    memcpy(member->public_key, identity.keys.public_key, CURVE_KEY_BYTES);
    crypto_z85_encode(member->key_text, member->public_key);
    crypto_wipe(&identity, sizeof(identity));
    *out = member;
    return STATUS_OK;
}

static enum status add_members(const char *dir, enum member_role role, char letter, int64_t count,
                               const struct home_up *up, struct members *members, struct error *error)
{
    for (int64_t i = 1; i <= count; i++) {
        char name[32];
        struct member *member;
        snprintf(name, sizeof(name), "%c%" PRId64, letter, i);
        enum status status = add_member(dir, role, name, members, &member, error);
        if (status != STATUS_OK) {
            return status;
        }
        if (role == MEMBER_COORDINATOR) {
            member->raft_id = (uint64_t)i;
            snprintf(member->endpoint, sizeof(member->endpoint), "tcp://127.0.0.1:%" PRId64,
                     up->coordinator_ports[i - 1]);
        }
    }
    return STATUS_OK;
}

/* The id of the cluster that the folder belongs to, or a fresh one. */
static enum status cluster_id_of(const char *path, uint8_t id[16], struct error *error)
{
    if (!file_exists(path)) {
        crypto_random(id, 16);
        return STATUS_OK;
    }
    struct members old;
    enum status status = members_read(path, &old, error);
    if (status == STATUS_OK) {
        memcpy(id, old.cluster_id, 16);
        members_free(&old);
    }
    return status;
}

enum status up_keys(const char *dir, const struct home_up *up, struct error *error)
{
    char *folder = home_path(dir, "keys", NULL);
    char *path = home_path(dir, "keys", "members.json");
    struct members members = {.list = mem_new_array(struct member, MEMBERS_MAX)};
    struct member *admin;
    enum status status = file_make_dirs(folder, 0700, error);
    if (status == STATUS_OK && (status = cluster_id_of(path, members.cluster_id, error)) == STATUS_OK &&
        (status = add_members(dir, MEMBER_COORDINATOR, 'c', up->coordinators, up, &members, error)) == STATUS_OK &&
        (status = add_members(dir, MEMBER_ROUTER, 'r', up->routers, up, &members, error)) == STATUS_OK &&
        (status = add_members(dir, MEMBER_NODE, 'n', up->nodes, up, &members, error)) == STATUS_OK &&
        (status = add_member(dir, MEMBER_OPERATOR, "operator", &members, &admin, error)) == STATUS_OK) {
        status = members_write(path, &members, error);
    }
    members_free(&members);
    mem_free(folder);
    mem_free(path);
    return status;
}
