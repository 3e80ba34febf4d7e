/* coordinators: see coordinators.h. */
#include "router/coordinators.h"

size_t coordinators_ask(struct coordinators *coordinators, uint64_t now_us)
{
    bool due = coordinators->asked_us == 0 || now_us - coordinators->asked_us >= COORDINATORS_ASK_US;
    if (coordinators->count == 0 || !due) {
        return COORDINATORS_NONE;
    }
    size_t index = coordinators->turn;
    coordinators->turn = (index + 1) % coordinators->count;
    coordinators->asked_us = now_us;
    return index;
}

void coordinators_unsent(struct coordinators *coordinators)
{
    coordinators->asked_us = 0;
}
