/* route: see route.h. */
#include "sched/route.h"

#include <string.h>

#include "base/check.h"

void route_load_reported(struct route_load *load, uint64_t queued_tokens, uint64_t streams, double token_s)
{
    /* Of ours it may miss the newest, which crossed it: others' are then underrated until the next report. */
    uint64_t all = queued_tokens + streams;
    load->others = all - MIN_OF(all, load->own);
    load->token_s = token_s;
}

void route_load_add(struct route_load *load, uint64_t tokens)
{
    load->own += tokens;
}

void route_load_remove(struct route_load *load, uint64_t tokens)
{
    CHECK(load->own >= tokens);
    load->own -= tokens;
}

uint64_t route_load_queued(const struct route_load *load)
{
    return load->own + load->others;
}

double route_score(const struct route_candidate *candidate, const struct route_need *need)
{
    uint64_t cached = MIN_OF(candidate->cached_tokens, need->tokens);
    double token_s = candidate->token_s > 0 ? candidate->token_s : ROUTE_TOKEN_S_UNKNOWN;
    return (double)(candidate->queued_tokens + (need->tokens - cached)) * token_s;
}

/* Is a better than b? */
static bool better(const struct route_candidate *a, const struct route_candidate *b, const struct route_need *need)
{
    bool same_a = need->class_id == 0 || a->class_id == need->class_id;
    bool same_b = need->class_id == 0 || b->class_id == need->class_id;
    if (same_a != same_b) {
        return same_a;
    }
    double score_a = route_score(a, need);
    double score_b = route_score(b, need);
    if (score_a < score_b || score_b < score_a) {
        return score_a < score_b;
    }
    return strcmp(a->name, b->name) < 0;
}

size_t route_pick(const struct route_candidate *candidates, size_t count, const struct route_need *need)
{
    size_t best = ROUTE_NONE;
    for (size_t i = 0; i < count; i++) {
        if (candidates[i].capacity_tokens < need->capacity_tokens) {
            continue;
        }
        if (best == ROUTE_NONE || better(&candidates[i], &candidates[best], need)) {
            best = i;
        }
    }
    return best;
}
