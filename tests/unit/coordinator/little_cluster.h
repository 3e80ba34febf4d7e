/* little_cluster: a cluster on a virtual clock: the real state machine, control loop and agents, joined by function
 * calls; processes are entries of a table. One leading coordinator whose log commits at once. */
#ifndef SHOAL_TESTS_UNIT_COORDINATOR_LITTLE_CLUSTER_H
#define SHOAL_TESTS_UNIT_COORDINATOR_LITTLE_CLUSTER_H

#include "base/rng.h"
#include "coordinator/answers.h"
#include "coordinator/control.h"
#include "worker/agent/agent.h"

enum {
    LITTLE_NODES = 4,
    LITTLE_PROCESSES = 16,
    LITTLE_STEP_US = 50000,
    LITTLE_READY_AFTER_US = 300000,
    LITTLE_FIND_US = 400000
};

struct little_process {
    int pid; /* 0: free */
    char replica[129];
    uint64_t epoch, started_us;
    uint8_t token[AGENT_TOKEN_BYTES];
    bool told; /* to end */
};

struct little_node {
    char name[8];
    bool exists, up; /* up: the machine runs, and so does its agent */
    bool cut;        /* runs, but no message passes */
    struct agent agent;
    uint64_t agent_since_us;
    struct buf disk; /* the agent's state file */
    struct little_process processes[LITTLE_PROCESSES];
};

struct little_cluster {
    struct fsm fsm;
    struct control control;
    struct little_node nodes[LITTLE_NODES];
    uint64_t now_us;
    int next_pid;
    uint64_t commands;          /* that the control loop had applied */
    uint64_t refused;           /* of them, without effect */
    const char *engine_problem; /* not NULL: engines report this failure instead of getting ready */
};

void little_cluster_open(struct little_cluster *cluster, size_t nodes);
void little_cluster_close(struct little_cluster *cluster);
/* Lets time pass: heartbeats, reports, the agents' and the control loop's steps. */
void little_cluster_run(struct little_cluster *cluster, uint64_t duration_us);
/* As run, until the replica is in that state; fails the test when it isn't within the duration. */
void little_cluster_await(struct little_cluster *cluster, const char *replica, enum proto_replica_state state,
                          uint64_t duration_us);
void little_cluster_model(struct little_cluster *cluster, const char *name, uint64_t replicas, uint64_t memory_bytes);
void little_cluster_remove_model(struct little_cluster *cluster, const char *name);
void little_cluster_join(struct little_cluster *cluster, size_t node);
void little_cluster_kill_node(struct little_cluster *cluster, size_t node); /* with all that runs on it */
void little_cluster_start_node(struct little_cluster *cluster, size_t node);
void little_cluster_restart_agent(struct little_cluster *cluster, size_t node); /* its engines live on, and take
                                                                                 * LITTLE_FIND_US to find the new one */
void little_cluster_kill_engine(struct little_cluster *cluster, size_t node, const char *replica);
void little_cluster_new_leader(struct little_cluster *cluster);
/* How many processes of that replica run, on all nodes together. */
size_t little_cluster_processes(const struct little_cluster *cluster, const char *replica);

#endif
