/* sched/route: which replica a stream goes to.
 *
 * score = (queued + uncached tokens) × the replica's seconds per token: the predicted time until the stream's first
 * token. The lowest wins, ties go by name. Queued is what this router's own streams still have to compute there, which
 * it knows to the moment, and what others' had when the replica last reported. Replicas of the stream's numerics class
 * come first, whatever the score, because only there its tokens go on bit by bit. Pure; no memory of its own. */
#ifndef SHOAL_SCHED_ROUTE_H
#define SHOAL_SCHED_ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROUTE_NONE SIZE_MAX

/* What a replica has to compute, as far as this router knows. A stream is its uncached prompt until its first token,
 * and one token of every step all the while. */
struct route_load {
    uint64_t own;    /* of this router's streams: exact, so that a burst spreads before any report */
    uint64_t others; /* of everybody else's, from the last report */
    double token_s;  /* 0: not known yet */
};
void route_load_reported(struct route_load *load, uint64_t queued_tokens, uint64_t streams, double token_s);
void route_load_add(struct route_load *load, uint64_t tokens);
void route_load_remove(struct route_load *load, uint64_t tokens);
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
