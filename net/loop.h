/* net/loop: the event loop of a shell: timers, posts from other threads, signals, descriptors. Over libuv.
 *
 * One loop belongs to one thread; only loop_wake_send may be called from others. Objects are embedded in their owner;
 * closing is in two phases, like libuv's: after loop_..._close no callback comes any more, but the memory must live on
 * until loop_release gives it back. Callbacks never run before the call that submitted them has returned. */
#ifndef SHOAL_NET_LOOP_H
#define SHOAL_NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "base/status.h"

struct loop {
    uv_loop_t uv;
};

MUST_CHECK enum status loop_init(struct loop *loop, struct error *error);
void loop_run(struct loop *loop);        /* until loop_stop or nothing is left */
void loop_stop(struct loop *loop);       /* on the loop's thread */
void loop_close(struct loop *loop);      /* handles that are still open are closed and drained here */
uint64_t loop_now_us(struct loop *loop); /* monotonic, read freshly */
/* Calls release(memory) when everything that was closed before this call is gone: the second phase of closing. */
void loop_release(struct loop *loop, void *memory, void (*release)(void *memory));

struct loop_timer {
    uv_timer_t uv;
    void *context;
    void (*fire)(struct loop_timer *timer);
};
void loop_timer_init(struct loop *loop, struct loop_timer *timer, void *context, void (*fire)(struct loop_timer *));
void loop_timer_start(struct loop_timer *timer, uint64_t after_ms, uint64_t every_ms); /* every 0: once */
void loop_timer_stop(struct loop_timer *timer);
void loop_timer_close(struct loop_timer *timer);

/* A wake-up from any thread; several wake-ups may be one call. */
struct loop_wake {
    uv_async_t uv;
    void *context;
    void (*woken)(struct loop_wake *wake);
};
void loop_wake_init(struct loop *loop, struct loop_wake *wake, void *context, void (*woken)(struct loop_wake *));
void loop_wake_send(struct loop_wake *wake); /* any thread */
void loop_wake_close(struct loop_wake *wake);

struct loop_poll {
    uv_poll_t uv;
    void *context;
    void (*readable)(struct loop_poll *poll);
};
MUST_CHECK enum status loop_poll_init(struct loop *loop, struct loop_poll *poll, int fd, void *context,
                                      void (*readable)(struct loop_poll *), struct error *error);
void loop_poll_close(struct loop_poll *poll);

/* SIGTERM and SIGINT call `stop` once each. (SIGPIPE is ignored from loop_init on.) */
struct loop_signals {
    uv_signal_t term, interrupt;
    void *context;
    void (*stop)(struct loop_signals *signals, int number);
};
void loop_signals_init(struct loop *loop, struct loop_signals *signals, void *context,
                       void (*stop)(struct loop_signals *, int number));
void loop_signals_close(struct loop_signals *signals);

#endif
