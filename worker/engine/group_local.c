/* group_local: ranks × stages as threads of one process, for tests and as the model of groups of processes.
 *
 * All waits are meetings (pool_barrier) that never spin: members outnumber cores here. The memory that ranks share is
 * made by whichever asks first. A member that ends early would leave the others waiting: members end together, at
 * group_local_stop. */
#include "worker/engine/group.h"

#include <stdatomic.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "worker/engine/cpu/pool.h"

enum { SHARED_MAX = 16 };

struct local_stage {
    struct pool_barrier gather;
    struct pool_barrier handover; /* this stage's rank 0 and the next one's */
    const float *_Atomic handed;
    void *_Atomic shared[SHARED_MAX];
};

struct local_member {
    struct group group;
    struct group_local *local;
    unsigned shared_count;
};

struct group_local {
    unsigned ranks, stages;
    struct pool_barrier all;
    const struct plan *plan; /* written before a meeting of all, read behind it */
    struct plan_result *result;
    bool stopped;
    struct local_stage *stage;
    struct local_member *member;
};

static struct local_member *member_of(struct group *group)
{
    return CONTAINER_OF(group, struct local_member, group);
}

static void *local_shared(struct group *group, size_t bytes)
{
    struct local_member *member = member_of(group);
    CHECK(member->shared_count < SHARED_MAX);
    void *_Atomic *slot = &member->local->stage[group->stage].shared[member->shared_count++];
    void *mine = mem_alloc(bytes), *expected = NULL;
    if (atomic_compare_exchange_strong(slot, &expected, mine))
        return mine;
    mem_free(mine);
    return expected;
}

static enum status local_gather(struct group *group)
{
    pool_barrier_wait(&member_of(group)->local->stage[group->stage].gather);
    return STATUS_OK;
}

static enum status local_send(struct group *group, const float *x, size_t count)
{
    struct local_stage *stage = &member_of(group)->local->stage[group->stage];
    (void)count;
    atomic_store(&stage->handed, x);
    pool_barrier_wait(&stage->handover); /* it is there */
    pool_barrier_wait(&stage->handover); /* it was copied */
    return STATUS_OK;
}

static enum status local_receive(struct group *group, float *x, size_t count)
{
    struct local_stage *stage = &member_of(group)->local->stage[group->stage - 1];
    pool_barrier_wait(&stage->handover);
    memcpy(x, atomic_load(&stage->handed), count * sizeof(float));
    pool_barrier_wait(&stage->handover);
    return STATUS_OK;
}

static enum status local_publish(struct group *group, const struct plan *plan, struct plan_result *result)
{
    struct group_local *local = member_of(group)->local;
    local->plan = plan;
    local->result = result;
    pool_barrier_wait(&local->all);
    return STATUS_OK;
}

static enum status local_next(struct group *group, const struct plan **plan, struct plan_result **result)
{
    struct group_local *local = member_of(group)->local;
    pool_barrier_wait(&local->all);
    if (local->stopped)
        return STATUS_CLOSED;
    *plan = local->plan;
    *result = local->result;
    return STATUS_OK;
}

static enum status local_complete(struct group *group)
{
    pool_barrier_wait(&member_of(group)->local->all);
    return STATUS_OK;
}

struct group_local *group_local_open(unsigned ranks, unsigned stages)
{
    static const struct group_ops ops = {.shared = local_shared,
                                         .gather = local_gather,
                                         .send = local_send,
                                         .receive = local_receive,
                                         .publish = local_publish,
                                         .next = local_next,
                                         .complete = local_complete};
    CHECK(ranks > 0 && stages > 0);
    struct group_local *local = mem_new(struct group_local);
    local->ranks = ranks;
    local->stages = stages;
    pool_barrier_init(&local->all, ranks * stages, false);
    local->stage = mem_new_array(struct local_stage, stages);
    local->member = mem_new_array(struct local_member, (size_t)ranks * stages);
    for (unsigned s = 0; s < stages; s++) {
        pool_barrier_init(&local->stage[s].gather, ranks, false);
        pool_barrier_init(&local->stage[s].handover, 2, false);
        for (unsigned r = 0; r < ranks; r++) {
            struct local_member *member = &local->member[s * ranks + r];
            member->local = local;
            member->group = (struct group){.ops = &ops, .rank = r, .ranks = ranks, .stage = s, .stages = stages};
        }
    }
    return local;
}

struct group *group_local_member(struct group_local *local, unsigned index)
{
    CHECK(index < local->ranks * local->stages);
    return &local->member[index].group;
}

void group_local_stop(struct group_local *local)
{
    local->stopped = true;
    pool_barrier_wait(&local->all);
}

void group_local_close(struct group_local *local)
{
    if (local == NULL)
        return;
    for (unsigned s = 0; s < local->stages; s++) {
        for (size_t i = 0; i < SHARED_MAX; i++)
            mem_free(atomic_load(&local->stage[s].shared[i]));
    }
    mem_free(local->member);
    mem_free(local->stage);
    mem_free(local);
}
