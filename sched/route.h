/* sched/route: which replica a stream goes to.
 *
 * score = (queued + uncached tokens) × the replica's seconds per token: the predicted time until the stream's first
 * token. The lowest wins, ties go by name. Queued is what the replica last reported plus what this router has sent it
 * since, so that a burst spreads before the next report. Replicas of the stream's numerics class come first, whatever
 * the score, because only there its tokens go on bit by bit. Pure; no memory of its own. */
#ifndef SHOAL_SCHED_ROUTE_H
#define SHOAL_SCHED_ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROUTE_NONE SIZE_MAX

/* What a replica has to compute, as far as this router knows. */
struct route_load {
    uint64_t reported;     /* tokens queued and streams running, from the last report */
    uint64_t sent;         /* tokens submitted since that report */
    uint64_t sent_before;  /* and between the last two: the report may have crossed them */
    double token_s;        /* 0: not known yet */
};
void route_load_reported(struct route_load *load, uint64_t queued_tokens, uint64_t running, double token_s);
void route_load_sent(struct route_load *load, uint64_t tokens);
uint64_t route_load_queued(const struct route_load *load);

struct route_candidate {
    const char *name;
    uint64_t class_id;
    uint64_t capacity_tokens; /* what one stream may have, prompt and new tokens together */
    uint64_t queued_tokens;
    uint64_t cached_tokens; /* of this stream's */
    double token_s;         /* 0: not known, ROUTE_TOKEN_S_UNKNOWN is taken */
};

struct route_need {
    uint64_t tokens;          /* to have in the cache before the next token: prompt and those already made */
    uint64_t capacity_tokens; /* prompt and all new tokens */
    uint64_t class_id;        /* 0: any */
};

#define ROUTE_TOKEN_S_UNKNOWN 1e-3

/* Seconds until the stream's first token there. */
double route_score(const struct route_candidate *candidate, const struct route_need *need);
/* The best candidate's index, or ROUTE_NONE when none has the capacity. */
size_t route_pick(const struct route_candidate *candidates, size_t count, const struct route_need *need);

#endif
