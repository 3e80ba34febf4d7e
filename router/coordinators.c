/* coordinators: see coordinators.h. */
#include "router/coordinators.h"

enum { UNANSWERED_MAX = 2 };

static void next(struct coordinators *coordinators)
{
    coordinators->current = (coordinators->current + 1) % coordinators->count;
    coordinators->unanswered = 0;
}

size_t coordinators_ask(struct coordinators *coordinators, uint64_t now_us)
{
    bool due = coordinators->asked_us == 0 || now_us - coordinators->asked_us >= COORDINATORS_ASK_US;
    if (coordinators->count == 0 || !due) {
        return COORDINATORS_NONE;
    }
    if (coordinators->unanswered >= UNANSWERED_MAX) {
        next(coordinators);
    }
    coordinators->asked_us = now_us;
    coordinators->unanswered++;
    return coordinators->current;
}

void coordinators_answered(struct coordinators *coordinators, size_t index)
{
    if (index == coordinators->current) {
        coordinators->unanswered = 0;
    }
}

void coordinators_unsent(struct coordinators *coordinators, size_t index)
{
    if (index == coordinators->current) {
        next(coordinators);
    }
}
