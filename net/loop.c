/* loop: see loop.h. A thin skin over libuv that gives every callback its typed owner. */
#include "net/loop.h"

#include <signal.h>

#include "base/check.h"
#include "base/mem.h"

enum status loop_init(struct loop *loop, struct error *error)
{
    /* libuv writes without MSG_NOSIGNAL; a peer that left must be a status, not a signal. Children start with default
     * dispositions again (uv_spawn resets them). */
    signal(SIGPIPE, SIG_IGN);
    int result = uv_loop_init(&loop->uv);
    return result == 0 ? STATUS_OK
                       : error_set(error, STATUS_IO, "The event loop could not start: %s.", uv_strerror(result));
}

void loop_run(struct loop *loop)
{
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void loop_stop(struct loop *loop)
{
    uv_stop(&loop->uv);
}

static void free_data(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static void close_handle(uv_handle_t *handle, void *unused)
{
    (void)unused;
    if (!uv_is_closing(handle)) {
        bool detached = handle->type == UV_PROCESS && handle->data != NULL; /* by proc_detach */
        uv_close(handle, detached ? free_data : NULL);
    }
}

void loop_close(struct loop *loop)
{
    /* Releases close their handle twice, and what they release may close more: go on until nothing is left. */
    while (uv_loop_close(&loop->uv) == UV_EBUSY) {
        uv_walk(&loop->uv, close_handle, NULL);
        uv_run(&loop->uv, UV_RUN_NOWAIT);
    }
}

uint64_t loop_now_us(struct loop *loop)
{
    (void)loop;
    return uv_hrtime() / 1000;
}

/* ---- release ------------------------------------------------------------------------------------------------------
 */

/* libuv finishes the handles of one iteration in an order of its own. A handle that is closed, opened again in its
 * close callback and closed once more is finished an iteration after everything that was closed before it. */
struct release {
    uv_idle_t uv;
    void *memory;
    void (*release)(void *memory);
};

static void release_finish(uv_handle_t *handle)
{
    struct release *release = handle->data;
    release->release(release->memory);
    mem_free(release);
}

static void release_again(uv_handle_t *handle)
{
    struct release *release = handle->data;
    uv_idle_init(handle->loop, &release->uv);
    uv_close((uv_handle_t *)&release->uv, release_finish);
}

void loop_release(struct loop *loop, void *memory, void (*release_memory)(void *memory))
{
    struct release *release = mem_new(struct release);
    release->memory = memory;
    release->release = release_memory;
    release->uv.data = release;
    uv_idle_init(&loop->uv, &release->uv);
    uv_close((uv_handle_t *)&release->uv, release_again);
}

/* ---- timers -------------------------------------------------------------------------------------------------------
 */

static void timer_fired(uv_timer_t *uv)
{
    struct loop_timer *timer = CONTAINER_OF(uv, struct loop_timer, uv);
    timer->fire(timer);
}

void loop_timer_init(struct loop *loop, struct loop_timer *timer, void *context, void (*fire)(struct loop_timer *))
{
    timer->context = context;
    timer->fire = fire;
    uv_timer_init(&loop->uv, &timer->uv);
}

void loop_timer_start(struct loop_timer *timer, uint64_t after_ms, uint64_t every_ms)
{
    /* libuv counts from the iteration's begin; a long callback before this one would make the timer early. */
    uv_update_time(timer->uv.loop);
    CHECK(uv_timer_start(&timer->uv, timer_fired, after_ms, every_ms) == 0);
}

void loop_timer_stop(struct loop_timer *timer)
{
    uv_timer_stop(&timer->uv);
}

void loop_timer_close(struct loop_timer *timer)
{
    uv_close((uv_handle_t *)&timer->uv, NULL);
}

/* ---- wake-ups -----------------------------------------------------------------------------------------------------
 */

static void wake_woken(uv_async_t *uv)
{
    struct loop_wake *wake = CONTAINER_OF(uv, struct loop_wake, uv);
    wake->woken(wake);
}

void loop_wake_init(struct loop *loop, struct loop_wake *wake, void *context, void (*woken)(struct loop_wake *))
{
    wake->context = context;
    wake->woken = woken;
    CHECK(uv_async_init(&loop->uv, &wake->uv, wake_woken) == 0);
}

void loop_wake_send(struct loop_wake *wake)
{
    uv_async_send(&wake->uv);
}

void loop_wake_close(struct loop_wake *wake)
{
    uv_close((uv_handle_t *)&wake->uv, NULL);
}

/* ---- descriptors --------------------------------------------------------------------------------------------------
 */

static void poll_ready(uv_poll_t *uv, int status, int events)
{
    (void)status; /* an error shows when the owner reads */
    (void)events;
    struct loop_poll *poll = CONTAINER_OF(uv, struct loop_poll, uv);
    poll->readable(poll);
}

enum status loop_poll_init(struct loop *loop, struct loop_poll *poll, int fd, void *context,
                           void (*readable)(struct loop_poll *), struct error *error)
{
    poll->context = context;
    poll->readable = readable;
    int result = uv_poll_init(&loop->uv, &poll->uv, fd);
    if (result != 0) {
        return error_set(error, STATUS_IO, "Descriptor %d can't be watched: %s.", fd, uv_strerror(result));
    }
    CHECK(uv_poll_start(&poll->uv, UV_READABLE, poll_ready) == 0);
    return STATUS_OK;
}

void loop_poll_close(struct loop_poll *poll)
{
    uv_poll_stop(&poll->uv); /* takes the descriptor out of epoll at once, so its owner may close it */
    uv_close((uv_handle_t *)&poll->uv, NULL);
}

/* ---- signals ------------------------------------------------------------------------------------------------------
 */

static void signal_came(uv_signal_t *uv, int number)
{
    struct loop_signals *signals = uv->data;
    uv_signal_stop(uv);
    signals->stop(signals, number);
}

static void signal_watch(struct loop *loop, struct loop_signals *signals, uv_signal_t *uv, int number)
{
    uv_signal_init(&loop->uv, uv);
    uv->data = signals;
    CHECK(uv_signal_start(uv, signal_came, number) == 0);
    uv_unref((uv_handle_t *)uv); /* waiting for a signal alone keeps no loop alive */
}

void loop_signals_init(struct loop *loop, struct loop_signals *signals, void *context,
                       void (*stop)(struct loop_signals *, int number))
{
    signals->context = context;
    signals->stop = stop;
    signal_watch(loop, signals, &signals->term, SIGTERM);
    signal_watch(loop, signals, &signals->interrupt, SIGINT);
}

void loop_signals_close(struct loop_signals *signals)
{
    uv_close((uv_handle_t *)&signals->term, NULL);
    uv_close((uv_handle_t *)&signals->interrupt, NULL);
}
