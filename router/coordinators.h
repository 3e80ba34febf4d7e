/* router/coordinators: which coordinator is asked for the view, and when.
 *
 * One is asked every 200 ms; the one that answers is kept, one that is silent for two questions is left for the next.
 * Who answers does not matter: a view is a function of the applied state, and the core keeps the highest. Pure. */
#ifndef SHOAL_ROUTER_COORDINATORS_H
#define SHOAL_ROUTER_COORDINATORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { COORDINATORS_MAX = 16, COORDINATORS_ASK_US = 200000 };
#define COORDINATORS_NONE SIZE_MAX

struct coordinators {
    size_t count;
    size_t current;
    unsigned unanswered; /* questions in a row */
    uint64_t asked_us;   /* 0: never */
};

/* Whom to ask now; COORDINATORS_NONE: nobody, it is not time yet. */
size_t coordinators_ask(struct coordinators *coordinators, uint64_t now_us);
void coordinators_answered(struct coordinators *coordinators, size_t index);
/* The question could not even be sent: somebody else at once. */
void coordinators_unsent(struct coordinators *coordinators, size_t index);

#endif
