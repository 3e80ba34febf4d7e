/* clock: the shells' clocks. Cores never include this: they get `now_us` in their events.
 *
 * clock_mono_us is CLOCK_MONOTONIC, clock_wall_us is CLOCK_REALTIME, both in microseconds. Thread-safe. */
#ifndef SHOAL_BASE_CLOCK_H
#define SHOAL_BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_mono_us(void);
uint64_t clock_mono_ns(void);
uint64_t clock_wall_us(void);

#endif
