/* coordinator/fsm: the replicated state machine: what the cluster is, as a pure function of the log.
 *
 * fsm_apply reads no clock, cannot fail half-way, and gives the same state and outcome on every coordinator. A command
 * that breaks a rule (unknown tenant, stale epoch, unknown field) changes nothing but the index and says why in its
 * outcome. The snapshot is the VIEW message of the applied index, so whatever routers see is all there is. Tables are
 * sorted by name; snapshots of equal states are equal bytes (fsm_hash compares them). Every table has a maximum, chosen
 * so that the largest state still fits one frame. Owns its tables. */
#ifndef SHOAL_COORDINATOR_FSM_H
#define SHOAL_COORDINATOR_FSM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "proto/proto.h"

enum { FSM_NAME_MAX = 128, FSM_COORDINATORS_MAX = 16 };

/* A full table refuses with STATUS_LIMIT. The encoded maxima of all items (nodes 0.3, models 1.1, replicas 4.2, tenants
 * 0.5, keys 1.4 MB) stay below PROTO_FRAME_BYTES_MAX: a snapshot can always be taken. */
enum {
    FSM_NODES_MAX = 1024,
    FSM_MODELS_MAX = 256,
    FSM_REPLICAS_MAX = 4096,
    FSM_TENANTS_MAX = 4096,
    FSM_KEYS_MAX = 8192
};

/* Every item begins with its name, by which its table is sorted. */
struct fsm_table {
    void **items;
    size_t count;
    size_t capacity;
};

struct fsm_coordinator {
    char name[FSM_NAME_MAX + 1];
    char endpoint[129];
    char key[41];
    uint64_t raft_id;
};

struct fsm_node {
    char name[FSM_NAME_MAX + 1];
    enum proto_node_state state;
    char host[129];
    char key[41];
    uint64_t cores;
    uint64_t memory_bytes;
    uint64_t incarnation;
};

struct fsm_model {
    char name[FSM_NAME_MAX + 1];
    char path[4097];
    uint64_t replicas;
    uint64_t pool_tokens;
    uint64_t context_tokens;
    char kv_type[9];
    uint64_t memory_bytes;
    uint64_t created_s;
};

struct fsm_replica {
    char name[FSM_NAME_MAX + 1];
    char model[97];
    char node[65];  /* "": pending */
    uint64_t epoch; /* index of the command that placed it */
    enum proto_replica_state state;
    char endpoint[129];
    uint64_t class_id;
    uint64_t context_tokens;
    uint64_t pool_tokens;
    uint64_t incarnation;
    char reason[481];
};

struct fsm_tenant {
    char name[FSM_NAME_MAX + 1];
    uint8_t secret[32];
};

struct fsm_key {
    char name[FSM_NAME_MAX + 1]; /* the hash in hex */
    uint8_t hash[32];
    char tenant[65];
    char label[65];
};

struct fsm {
    uint64_t incarnation;
    uint64_t index;           /* last applied */
    uint64_t placement_index; /* last command that changed what any node shall run */
    struct fsm_coordinator coordinators[FSM_COORDINATORS_MAX];
    size_t coordinators_count;
    struct fsm_table nodes, models, replicas, tenants, keys;
};

struct fsm_outcome {
    enum status status;
    char detail[ERROR_TEXT_MAX];
};

void fsm_init(struct fsm *fsm);
void fsm_free(struct fsm *fsm);
void fsm_apply(struct fsm *fsm, uint64_t index, struct bytes command, struct fsm_outcome *outcome);

/* The VIEW of the applied state. Only routers and coordinators may get it: it holds the tenants' secrets. */
MUST_CHECK enum status fsm_view(const struct fsm *fsm, struct buf *out, struct error *error);
/* Replaces the state by a VIEW (a snapshot). On failure the state is as before. */
MUST_CHECK enum status fsm_restore(struct fsm *fsm, struct bytes snapshot, struct error *error);
void fsm_hash(const struct fsm *fsm, uint8_t out[32]);

const struct fsm_node *fsm_node(const struct fsm *fsm, const char *name);
const struct fsm_model *fsm_model(const struct fsm *fsm, const char *name);
const struct fsm_replica *fsm_replica(const struct fsm *fsm, const char *name);
const struct fsm_tenant *fsm_tenant(const struct fsm *fsm, const char *name);

#define FSM_AT(table, type, position) ((struct type *)(table).items[position])

#endif
