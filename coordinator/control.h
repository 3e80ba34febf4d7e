/* coordinator/control: the leader's control loop: desired − observed → commands for the log. Pure: heartbeats and the
 * applied state in, commands out; no clock, socket or thread.
 *
 * Soft state (who was heard when, what engines report, which routers asked) lives here and is never replicated; only
 * transitions become commands. The shell calls control_step about every 50 ms while leading and while none of the last
 * step's commands is outstanding, so the loop always reasons from applied state. A new leader adopts every placement
 * and gives the nodes down_after to be heard. */
#ifndef SHOAL_COORDINATOR_CONTROL_H
#define SHOAL_COORDINATOR_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/fsm.h"
#include "proto/proto.h"
#include "sched/health.h"

enum { CONTROL_COMMANDS_MAX = 64, CONTROL_ENGINES_MAX = 256, CONTROL_ROUTERS_MAX = 256 };

struct control_engine {
    char replica[FSM_NAME_MAX + 1];
    uint64_t epoch, incarnation;
    enum proto_engine_phase state;
    char endpoint[129];
    uint64_t class_id, context_tokens, pool_tokens;
    uint64_t running, waiting, blocks_total, blocks_used;
    char reason[481];
};

struct control_node {
    char name[FSM_NAME_MAX + 1];
    char host[129];
    char key[41];
    uint64_t incarnation, cores, memory_bytes;
    uint64_t sequence; /* of the last heartbeat */
    uint64_t heard_us;
    uint64_t assign_index;
    enum health_state health;
    struct control_engine *engines;
    size_t engines_count;
};

struct control_router {
    char name[FSM_NAME_MAX + 1];
    char address[129];
    uint64_t requests;
    uint64_t heard_us;
};

struct control {
    struct health_config health;
    bool leading;
    uint64_t leading_since_us;
    bool frozen; /* too many nodes silent at once: placement stands still */
    size_t silent;
    struct fsm_table nodes;   /* struct control_node */
    struct fsm_table routers; /* struct control_router */
};

struct control_command {
    enum proto_opcode opcode;
    union {
        struct proto_cmd_node cmd_node;
        struct proto_cmd_place cmd_place;
        struct proto_cmd_unplace cmd_unplace;
        struct proto_cmd_replica_state cmd_replica_state;
    } any;
};

/* Commands of one step. Their texts are zero-terminated views into the control's, the fsm's or this struct's memory:
 * encode them before any of the three changes. */
struct control_commands {
    struct control_command list[CONTROL_COMMANDS_MAX];
    size_t count;
    void *scratch;
};

void control_init(struct control *control, const struct health_config *health);
void control_free(struct control *control);
/* Leadership came or went. What was heard as an earlier leader is forgotten. */
void control_lead(struct control *control, bool leading, uint64_t now_us);
/* A heartbeat of the node whose bus key (Z85) is `key`. Older ones than what was heard lately (a repetition, or an
 * agent that another one has replaced) are dropped. */
void control_heartbeat(struct control *control, const struct proto_heartbeat *heartbeat, const char *key,
                       uint64_t now_us);
/* STATUS_LIMIT: more routers than CONTROL_ROUTERS_MAX; the report is dropped. */
MUST_CHECK enum status control_router_report(struct control *control, const struct proto_router_report *report,
                                             uint64_t now_us);
void control_step(struct control *control, const struct fsm *fsm, uint64_t now_us, struct control_commands *commands);
void control_commands_free(struct control_commands *commands);

const struct control_node *control_node(const struct control *control, const char *name);
/* The report of that replica in that epoch from the node that runs it; NULL when there is none. */
const struct control_engine *control_engine(const struct control *control, const struct fsm_replica *replica);

#endif
