/* wait: turns a loop until a state is reached, with a deadline. For tests. */
#ifndef SHOAL_TESTS_UNIT_NET_WAIT_H
#define SHOAL_TESTS_UNIT_NET_WAIT_H

#include <stdbool.h>
#include <stdint.h>

#include "net/loop.h"

enum { WAIT_DEADLINE_MS = 30000 }; /* a hang, on however slow a machine; nothing waits this long when it works */

static inline void wait_tick(struct loop_timer *timer)
{
    (void)timer; /* only ends the loop's sleep, so that states outside the loop are looked at */
}

#define WAIT_UNTIL(loop, condition)                                                                                    \
    do {                                                                                                               \
        struct loop_timer *wait_timer = mem_new(struct loop_timer);                                                    \
        uint64_t wait_end_us = loop_now_us(loop) + WAIT_DEADLINE_MS * 1000;                                            \
        loop_timer_init(loop, wait_timer, NULL, wait_tick);                                                            \
        loop_timer_start(wait_timer, 2, 2);                                                                            \
        while (!(condition) && loop_now_us(loop) < wait_end_us) {                                                      \
            uv_run(&(loop)->uv, UV_RUN_ONCE);                                                                          \
        }                                                                                                              \
        loop_timer_close(wait_timer);                                                                                  \
        loop_release(loop, wait_timer, mem_free);                                                                      \
        if (!(condition)) {                                                                                            \
            fail_msg("line %d: still not: %s", __LINE__, #condition);                                                  \
        }                                                                                                              \
    } while (0)

#endif
