/* group: ranks × stages of one replica, as one member sees them.
 *
 * Ranks of a stage hold slices of every matrix by output rows; they compute their outputs whole and gather: each writes
 * its slice in place into memory that all of them see, and group_gather returns when all have. Nothing is summed
 * between ranks. Stages hold ranges of layers and hand on the residual stream. The head (rank 0 of stage 0) publishes
 * plans; rank 0 of the last stage samples into the plan's result.
 *
 * `self` (1 × 1) does nothing at all, `local` (group_local.c) is threads of one process; members in processes (shared
 * memory, UCX, NCCL) fill the same table. Calls of one member come from one thread. A failed call means that the
 * group is lost: the replica is the failure domain. */
#ifndef SHOAL_WORKER_ENGINE_GROUP_H
#define SHOAL_WORKER_ENGINE_GROUP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "worker/engine/plan.h"

struct group;

struct group_ops {
    /* Zeroed memory that all ranks of the stage see; they ask for the same sizes in the same order. Lives as long as
     * the group. NULL: there is none. */
    void *(*shared)(struct group *group, size_t bytes);
    /* All ranks of the stage have written what they wrote before. */
    enum status (*gather)(struct group *group);
    /* The residual stream, [count] floats: rank 0 of a stage to rank 0 of the next. */
    enum status (*send)(struct group *group, const float *x, size_t count);
    enum status (*receive)(struct group *group, float *x, size_t count);
    /* Head: hands a plan out. Others: wait for it (CLOSED: there will be no more). */
    enum status (*publish)(struct group *group, const struct plan *plan, struct plan_result *result);
    enum status (*next)(struct group *group, const struct plan **plan, struct plan_result **result);
    /* All members have executed the plan; its memory is the head's again. */
    enum status (*complete)(struct group *group);
};

struct group {
    const struct group_ops *ops;
    unsigned rank, ranks;
    unsigned stage, stages;
};

struct group group_self(void);

static inline bool group_is_head(const struct group *group)
{
    return group->rank == 0 && group->stage == 0;
}

static inline bool group_is_last_stage(const struct group *group)
{
    return group->stage + 1 == group->stages;
}

/* Member `index`'s share when `count` things are dealt to `members`: the first count % members get one more. */
struct group_slice {
    size_t first, count;
};
struct group_slice group_deal(size_t count, unsigned members, unsigned index);

/* An in-process group; member i is rank i % ranks of stage i / ranks. */
struct group_local;
struct group_local *group_local_open(unsigned ranks, unsigned stages);
struct group *group_local_member(struct group_local *local, unsigned index);
/* Ends the members that wait in `next`: called by the head's thread. */
void group_local_stop(struct group_local *local);
void group_local_close(struct group_local *local);

#endif
