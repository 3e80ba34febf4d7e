/* sched/place: which node runs which replica: desired − observed, as a pure function.
 *
 * Bin-packing by memory: a replica goes to the usable node with the largest free share that has room and runs no other
 * replica of that model; ties go by name, so that every coordinator decides alike. Placements that still hold are never
 * moved. What does not fit is pending, with the reason. Replicas are named model/1 … model/n and placed in that order.
 */
#ifndef SHOAL_SCHED_PLACE_H
#define SHOAL_SCHED_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An agent runs at most PLACE_NODE_REPLICAS_MAX engines (worker/agent's AGENT_ENGINES_MAX). */
enum { PLACE_NAME_MAX = 128, PLACE_REASON_MAX = 480, PLACE_NODE_REPLICAS_MAX = 64 };

struct place_node {
    const char *name;
    bool usable;           /* up, not draining: may get replicas */
    bool down;             /* its replicas are lost */
    uint64_t memory_bytes; /* that replicas may take in all */
};

struct place_model {
    const char *name;
    uint32_t replicas;     /* wanted */
    uint64_t memory_bytes; /* of one replica */
};

struct place_replica {
    const char *name;
    const char *model;
    const char *node;   /* "": pending */
    const char *reason; /* why it is pending */
    uint64_t epoch;
};

enum place_kind {
    PLACE_PUT,   /* run replica on node */
    PLACE_PEND,  /* replica has no node; reason says why (only when that is news) */
    PLACE_REMOVE /* the model is gone, or wants fewer replicas */
};

struct place_action {
    enum place_kind kind;
    char replica[PLACE_NAME_MAX + 1];
    char model[PLACE_NAME_MAX + 1];
    char node[PLACE_NAME_MAX + 1];
    char reason[PLACE_REASON_MAX + 1];
    uint64_t expected_epoch; /* what the replica has now; 0: unknown so far */
};

struct place_input {
    const struct place_node *nodes;
    size_t nodes_count;
    const struct place_model *models;
    size_t models_count;
    const struct place_replica *replicas;
    size_t replicas_count;
};

/* Writes at most actions_max actions and returns how many; calling again with the changed state goes on. The state has
 * converged when it returns 0. */
size_t place_step(const struct place_input *input, struct place_action *actions, size_t actions_max);

#endif
