/* router/coordinators: which coordinator is asked for the view, and when.
 *
 * Every 200 ms the next one in turn, so that each of them hears of this router (the leading one shows it in status) and
 * a silent one costs one turn. Who answers does not matter: a view is a function of the applied state, and the core
 * keeps the highest. Pure. */
#ifndef SHOAL_ROUTER_COORDINATORS_H
#define SHOAL_ROUTER_COORDINATORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { COORDINATORS_MAX = 16, COORDINATORS_ASK_US = 200000 };
#define COORDINATORS_NONE SIZE_MAX

struct coordinators {
    size_t count;
    size_t turn;
    uint64_t asked_us; /* 0: ask at once */
};

/* Whom to ask now; COORDINATORS_NONE: nobody, it is not time yet. */
size_t coordinators_ask(struct coordinators *coordinators, uint64_t now_us);
/* The question could not even be sent: somebody else at once. */
void coordinators_unsent(struct coordinators *coordinators);

#endif
