/* admit: see admit.h. */
#include "sched/admit.h"

#include "base/check.h"

bool admit_enter(struct admit *admit, size_t bytes)
{
    if (admit->open >= admit->open_max || bytes > admit->bytes_max - admit->bytes) {
        return false;
    }
    admit->open++;
    admit->bytes += bytes;
    return true;
}

void admit_leave(struct admit *admit, size_t bytes)
{
    CHECK(admit->open > 0 && admit->bytes >= bytes);
    admit->open--;
    admit->bytes -= bytes;
}
