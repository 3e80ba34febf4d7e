/* sched/admit: whether a router takes one more request.
 *
 * Bounds what a router holds: open requests, and the bytes of their bodies. Who is refused learns at once, with
 * a time after which to come again. Pure. */
#ifndef SHOAL_SCHED_ADMIT_H
#define SHOAL_SCHED_ADMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct admit {
    size_t open_max;
    size_t bytes_max;
    size_t open;
    size_t bytes;
};

/* True: it was counted, and admit_leave must follow once with the same size. */
bool admit_enter(struct admit *admit, size_t bytes);
void admit_leave(struct admit *admit, size_t bytes);

#endif
