/* net/identity: who a process is and whom it knows: its CURVE key pair and the cluster's members file.
 *
 * `<name>.key` is JSON {"name", "public", "secret"} with Z85 keys, mode 0600; a file that others can read is refused.
 * So is one whose halves do not belong together.
 * members.json lists coordinators (name, endpoint, key, raft_id), routers, nodes and operators (name, key) and the
 * cluster's id; every process reads it at start. Names are unique within a role, keys and raft ids altogether. Blocking
 * file access: at start only. */
#ifndef SHOAL_NET_IDENTITY_H
#define SHOAL_NET_IDENTITY_H

#include <stddef.h>
#include <stdint.h>

#include "base/crypto.h"
#include "base/status.h"
#include "net/bus.h"

enum { MEMBER_NAME_MAX = 64, MEMBERS_MAX = 512 };

enum member_role { MEMBER_COORDINATOR, MEMBER_ROUTER, MEMBER_NODE, MEMBER_OPERATOR, MEMBER_ROLE_COUNT };

struct member {
    enum member_role role;
    char name[MEMBER_NAME_MAX + 1];
    char endpoint[129]; /* coordinators: tcp://host:port */
    uint64_t raft_id;   /* coordinators */
    uint8_t public_key[CURVE_KEY_BYTES];
    char key_text[CURVE_TEXT_BYTES];
};

struct members {
    uint8_t cluster_id[16];
    struct member *list;
    size_t count;
};

struct identity {
    char name[MEMBER_NAME_MAX + 1];
    struct bus_identity keys;
};

MUST_CHECK enum status identity_read(const char *path, struct identity *out, struct error *error);
/* Makes a fresh pair and writes it with mode 0600; refuses to overwrite, and names that are empty or too long. */
MUST_CHECK enum status identity_create(const char *path, const char *name, struct identity *out, struct error *error);

MUST_CHECK enum status members_read(const char *path, struct members *out, struct error *error);
MUST_CHECK enum status members_write(const char *path, const struct members *members, struct error *error);
void members_free(struct members *members);
const struct member *members_by_key(const struct members *members, const uint8_t public_key[CURVE_KEY_BYTES]);
const struct member *members_by_name(const struct members *members, enum member_role role, const char *name);
const char *member_role_name(enum member_role role);
/* Puts the keys of these roles (a bit mask of 1 << role) on the bus's allow-list. */
void members_allow(const struct members *members, struct bus *bus, unsigned roles);

#endif
