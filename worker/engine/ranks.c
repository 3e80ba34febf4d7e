/* ranks: see ranks.h. Member 0 is the caller. The others open their decoders on their own threads' behalf before these
 * start, so that a failure to open is an ordinary error; a failure to run is the group's end (group.h), and in one
 * process that is the process's. */
#include "worker/engine/ranks.h"

#include <stddef.h>

#include "base/check.h"
#include "base/mem.h"
#include "worker/engine/cpu/pool.h"
#include "worker/engine/group.h"

struct ranks_member {
    struct decoder *decoder;
    struct group *group;
    struct pool_thread *thread; /* NULL: the caller's, or not started */
};

struct ranks {
    struct group_local *local; /* NULL: 1 × 1 */
    unsigned count;
    struct ranks_member *members;
};

static void follow(void *argument)
{
    struct ranks_member *member = argument;
    const struct plan *plan;
    struct plan_result *result;
    while (member->group->ops->next(member->group, &plan, &result) == STATUS_OK) {
        struct error error;
        CHECK(decoder_run(member->decoder, plan, result, &error) == STATUS_OK);
        CHECK(member->group->ops->complete(member->group) == STATUS_OK);
    }
}

static enum status open_member(struct ranks *ranks, unsigned index, const struct decoder_config *config,
                               struct error *error)
{
    struct decoder_config own = *config;
    if (ranks->local != NULL) {
        own.group = ranks->members[index].group = group_local_member(ranks->local, index);
        own.threads = config->threads > ranks->count ? config->threads / ranks->count : 1;
    }
    return decoder_open(&own, &ranks->members[index].decoder, error);
}

/* Threads that are started already wait in `next`, which only a meeting of all ends: so they are started last, and if
 * one can't be, the process has too little to go on with. */
static void start_members(struct ranks *ranks)
{
    for (unsigned i = 1; i < ranks->count; i++) {
        struct error error;
        CHECK(pool_thread_start(follow, &ranks->members[i], &ranks->members[i].thread, &error) == STATUS_OK);
    }
}

enum status ranks_open(const struct decoder_config *config, unsigned rank_count, unsigned stages, struct ranks **out,
                       struct error *error)
{
    if (rank_count > 64 || stages > 64)
        return error_set(error, STATUS_LIMIT, "a group of %u ranks and %u stages is too large", rank_count, stages);
    struct ranks *ranks = mem_new(struct ranks);
    ranks->count = rank_count * stages;
    ranks->members = mem_new_array(struct ranks_member, ranks->count);
    if (ranks->count > 1)
        ranks->local = group_local_open(rank_count, stages);
    for (unsigned i = 0; i < ranks->count; i++) {
        enum status status = open_member(ranks, i, config, error);
        if (status != STATUS_OK) {
            ranks_close(ranks);
            return status;
        }
    }
    start_members(ranks);
    *out = ranks;
    return STATUS_OK;
}

void ranks_close(struct ranks *ranks)
{
    if (ranks == NULL)
        return;
    if (ranks->count > 1 && ranks->members[ranks->count - 1].thread != NULL)
        group_local_stop(ranks->local);
    for (unsigned i = 0; i < ranks->count; i++) {
        if (ranks->members[i].thread != NULL)
            pool_thread_join(ranks->members[i].thread);
        if (ranks->members[i].decoder != NULL)
            decoder_close(ranks->members[i].decoder);
    }
    group_local_close(ranks->local);
    mem_free(ranks->members);
    mem_free(ranks);
}

void ranks_info(const struct ranks *ranks, struct decoder_info *out)
{
    decoder_info(ranks->members[0].decoder, out);
}

enum status ranks_run(struct ranks *ranks, const struct plan *plan, struct plan_result *result, struct error *error)
{
    struct ranks_member *head = &ranks->members[0];
    if (ranks->local == NULL)
        return decoder_run(head->decoder, plan, result, error);
    enum status status = head->group->ops->publish(head->group, plan, result);
    if (status == STATUS_OK)
        status = decoder_run(head->decoder, plan, result, error);
    if (status == STATUS_OK)
        status = head->group->ops->complete(head->group);
    return status;
}
