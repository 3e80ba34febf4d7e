/* group: the group of one, and how things are dealt. Owns nothing. */
#include "worker/engine/group.h"

#include "base/check.h"
#include "base/mem.h"

static void *self_shared(struct group *group, size_t bytes)
{
    (void)group;
    (void)bytes;
    return NULL; /* the decoder's own memory will do */
}

static enum status self_gather(struct group *group)
{
    (void)group;
    return STATUS_OK;
}

static enum status self_send(struct group *group, const float *x, size_t count)
{
    (void)group;
    (void)x;
    (void)count;
    UNREACHABLE();
}

static enum status self_receive(struct group *group, float *x, size_t count)
{
    (void)group;
    (void)x;
    (void)count;
    UNREACHABLE();
}

static enum status self_publish(struct group *group, const struct plan *plan, struct plan_result *result)
{
    (void)group;
    (void)plan;
    (void)result;
    return STATUS_OK;
}

static enum status self_next(struct group *group, const struct plan **plan, struct plan_result **result)
{
    (void)group;
    (void)plan;
    (void)result;
    return STATUS_CLOSED;
}

struct group group_self(void)
{
    static const struct group_ops ops = {.shared = self_shared,
                                         .gather = self_gather,
                                         .send = self_send,
                                         .receive = self_receive,
                                         .publish = self_publish,
                                         .next = self_next,
                                         .complete = self_gather};
    return (struct group){.ops = &ops, .rank = 0, .ranks = 1, .stage = 0, .stages = 1};
}

struct group_slice group_deal(size_t count, unsigned members, unsigned index)
{
    const size_t each = count / members, more = count % members;
    return (struct group_slice){each * index + MIN_OF((size_t)index, more), each + (index < more ? 1 : 0)};
}
