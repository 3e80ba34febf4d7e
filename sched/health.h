/* sched/health: who is alive, from heartbeats: up → suspect → down, and when not to believe it.
 *
 * A leader judges by its own monotonic clock only, and declares nobody down before it has led for down_after. When more
 * than a third of the nodes (and more than one) fall silent at once, the fault is more likely the leader's own or the
 * network's: the verdicts freeze (nobody goes down) until fewer are silent, and `frozen` raises the alarm. */
#ifndef SHOAL_SCHED_HEALTH_H
#define SHOAL_SCHED_HEALTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct health_config {
    uint64_t suspect_after_us; /* silence; e.g. 500 ms at heartbeats of 100 ms */
    uint64_t down_after_us;    /* e.g. 3 s: longer than an agent's restart */
};

enum health_state { HEALTH_UP, HEALTH_SUSPECT, HEALTH_DOWN };

struct health_node {
    uint64_t heard_us;       /* when the last heartbeat came; 0: never since this leader leads */
    bool logged_down;        /* what the replicated state says */
    enum health_state state; /* out */
};

struct health_verdict {
    size_t silent; /* beyond suspect_after, among the nodes that are not logged down */
    bool frozen;
};

/* Sets every node's state as of now. `leading_since_us`: when this leader's barrier was applied. */
struct health_verdict health_judge(const struct health_config *config, struct health_node *nodes, size_t nodes_count,
                                   uint64_t leading_since_us, uint64_t now_us);

#endif
