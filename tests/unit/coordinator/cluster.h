/* cluster: voters in one process over real logs in temporary folders, a virtual clock and a network that loses, delays
 * and reorders by a seed. Disks do one batch when the seed says so; a crash loses what they had not done.
 *
 * Checkers: an acknowledged write is in every state at the end; nobody applies anything twice; states at the same index
 * have the same hash, on all nodes and in all lives. A broken promise aborts with the seed. */
#ifndef SHOAL_TESTS_UNIT_COORDINATOR_CLUSTER_H
#define SHOAL_TESTS_UNIT_COORDINATOR_CLUSTER_H

#include "base/list.h"
#include "base/rng.h"
#include "coordinator/consensus/replog.h"
#include "tests/unit/coordinator/faulty_disk.h"
#include "tests/unit/coordinator/temp_folder.h"

enum { CLUSTER_NODES_MAX = 5, CLUSTER_VALUES_MAX = 1 << 14, CLUSTER_INDEX_MAX = 1 << 16 };

/* The replicated state: which values were applied, and a hash over their order. */
struct cluster_state {
    uint64_t index;
    uint64_t hash;
    uint64_t count;
    uint8_t has[CLUSTER_VALUES_MAX / 8];
};

struct cluster;

struct cluster_node {
    struct cluster *cluster;
    uint64_t id;
    struct temp_folder folder;
    struct replog *replog; /* NULL: down */
    struct cluster_state state;
    bool cut_off;
    unsigned restores;
    uint64_t up_at_us; /* when a crashed node comes back */
};

struct cluster_write {
    struct replog_propose propose;
    struct cluster *cluster;
    uint64_t value;
};

struct cluster {
    uint64_t seed;
    struct rng rng;
    uint64_t now_us;
    struct faulty_disk disk; /* without faults: only for its speed */
    unsigned nodes_count;
    struct cluster_node nodes[CLUSTER_NODES_MAX];
    struct list frames;
    unsigned loss_permille;
    unsigned delay_us_max;
    unsigned disk_permille; /* chance per millisecond that a node's disk does a batch */
    unsigned election_timeout_ms;
    unsigned snapshot_threshold;
    uint64_t values; /* proposed so far */
    struct cluster_write writes[CLUSTER_VALUES_MAX];
    uint8_t acknowledged[CLUSTER_VALUES_MAX];
    unsigned acknowledged_count;
    uint64_t hash_at[CLUSTER_INDEX_MAX];
    unsigned role_changes;
};

void cluster_start(struct cluster *cluster, uint64_t seed, unsigned nodes);
void cluster_stop(struct cluster *cluster);
void cluster_step(struct cluster *cluster); /* one millisecond */
void cluster_run(struct cluster *cluster, unsigned ms);
void cluster_crash(struct cluster *cluster, unsigned node);
void cluster_restart(struct cluster *cluster, unsigned node);
struct cluster_node *cluster_leader(struct cluster *cluster); /* NULL: none */
bool cluster_propose(struct cluster *cluster);                /* one value to the leader; false without one */
/* Everything healthy again: runs until one more write is acknowledged and applied everywhere, or aborts. */
void cluster_settle(struct cluster *cluster);

#endif
