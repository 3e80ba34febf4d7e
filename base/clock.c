/* clock: see clock.h. */
#include "base/clock.h"

#include <time.h>

#include "base/check.h"

static uint64_t read_ns(clockid_t id)
{
    struct timespec now;
    int read = clock_gettime(id, &now);
    CHECK(read == 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t clock_mono_us(void)
{
    return read_ns(CLOCK_MONOTONIC) / 1000;
}

uint64_t clock_mono_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

uint64_t clock_wall_us(void)
{
    return read_ns(CLOCK_REALTIME) / 1000;
}
