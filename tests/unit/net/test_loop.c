/* Promises of net/loop: timers fire in order and stop, wake-ups from another thread arrive, released memory is given
 * back after everything that was closed before, signals stop once, and a loop closes what was forgotten. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "net/loop.h"
#include "tests/unit/net/wait.h"

struct seen {
    struct loop loop;
    int fired;
    int woken;
    int stopped;
    int released;
    int readable;
    int fd;
};

static int open_loop(void **state)
{
    struct seen *seen = mem_new(struct seen);
    struct error error = {0};
    assert_int_equal(loop_init(&seen->loop, &error), STATUS_OK);
    *state = seen;
    return 0;
}

static int close_loop(void **state)
{
    struct seen *seen = *state;
    loop_close(&seen->loop);
    mem_free(seen);
    return 0;
}

static void count_fire(struct loop_timer *timer)
{
    struct seen *seen = timer->context;
    if (++seen->fired == 3) {
        loop_timer_stop(timer);
        loop_stop(&seen->loop);
    }
}

static void timers_repeat_until_stopped(void **state)
{
    struct seen *seen = *state;
    struct loop_timer timer;
    loop_timer_init(&seen->loop, &timer, seen, count_fire);
    uint64_t begin_us = loop_now_us(&seen->loop);
    loop_timer_start(&timer, 2, 1);
    loop_run(&seen->loop);
    assert_int_equal(seen->fired, 3);
    assert_true(loop_now_us(&seen->loop) - begin_us >= 3000); /* libuv rounds to its millisecond clock */
    loop_timer_close(&timer);
    loop_run(&seen->loop); /* ends, because nothing is left */
    assert_int_equal(seen->fired, 3);
}

static void count_wake(struct loop_wake *wake)
{
    struct seen *seen = wake->context;
    seen->woken++;
}

static void wake_from_thread(void *wake)
{
    loop_wake_send(wake);
}

static void wakes_cross_threads(void **state)
{
    struct seen *seen = *state;
    struct loop_wake wake;
    uv_thread_t thread;
    loop_wake_init(&seen->loop, &wake, seen, count_wake);
    assert_int_equal(uv_thread_create(&thread, wake_from_thread, &wake), 0);
    WAIT_UNTIL(&seen->loop, seen->woken > 0);
    uv_thread_join(&thread);
    loop_wake_close(&wake);
    uv_run(&seen->loop.uv, UV_RUN_DEFAULT);
}

struct owner {
    struct loop_timer timer;
    struct loop_wake wake;
    struct seen *seen;
};

static void free_owner(void *memory)
{
    struct owner *owner = memory;
    owner->seen->released++;
    mem_free(owner); /* a sanitizer sees a handle that libuv still holds */
}

static void never_fires(struct loop_timer *timer)
{
    (void)timer;
    fail();
}

static void release_comes_after_the_closed(void **state)
{
    struct seen *seen = *state;
    struct owner *owner = mem_new(struct owner);
    owner->seen = seen;
    loop_timer_init(&seen->loop, &owner->timer, owner, never_fires);
    loop_timer_start(&owner->timer, 0, 0);
    loop_wake_init(&seen->loop, &owner->wake, seen, count_wake);
    loop_timer_close(&owner->timer);
    loop_wake_close(&owner->wake);
    loop_release(&seen->loop, owner, free_owner);
    assert_int_equal(seen->released, 0); /* never before the call has returned */
    loop_run(&seen->loop);
    assert_int_equal(seen->released, 1);
}

static void count_stop(struct loop_signals *signals, int number)
{
    struct seen *seen = signals->context;
    assert_int_equal(number, SIGTERM);
    seen->stopped++;
}

static void signals_stop_once(void **state)
{
    struct seen *seen = *state;
    struct loop_signals signals;
    loop_signals_init(&seen->loop, &signals, seen, count_stop);
    kill(getpid(), SIGTERM);
    WAIT_UNTIL(&seen->loop, seen->stopped == 1);
    raise(SIGPIPE); /* ignored, or this test is over */
    loop_signals_close(&signals);
    loop_run(&seen->loop);
}

static void read_byte(struct loop_poll *poll)
{
    struct seen *seen = poll->context;
    char byte;
    assert_int_equal(read(seen->fd, &byte, 1), 1);
    seen->readable++;
}

static void descriptors_are_watched(void **state)
{
    struct seen *seen = *state;
    struct loop_poll poll;
    struct error error = {0};
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    seen->fd = ends[0];
    assert_int_equal(loop_poll_init(&seen->loop, &poll, ends[0], seen, read_byte, &error), STATUS_OK);
    assert_int_equal(write(ends[1], "ab", 2), 2);
    WAIT_UNTIL(&seen->loop, seen->readable == 2);
    loop_poll_close(&poll);
    close(ends[0]); /* at once: the loop has let go of it */
    close(ends[1]);
    loop_run(&seen->loop);
    assert_int_equal(loop_poll_init(&seen->loop, &poll, 100000, seen, read_byte, &error), STATUS_IO);
}

static void forgotten_handles_are_closed(void **state)
{
    struct seen *seen = *state;
    static struct loop_timer timer; /* outlives the loop, which close_loop closes */
    static struct loop_wake wake;
    loop_timer_init(&seen->loop, &timer, seen, never_fires);
    loop_timer_start(&timer, 3600000, 0);
    loop_wake_init(&seen->loop, &wake, seen, count_wake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(timers_repeat_until_stopped, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(wakes_cross_threads, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(release_comes_after_the_closed, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(signals_stop_once, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(descriptors_are_watched, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(forgotten_handles_are_closed, open_loop, close_loop),
    };
    return cmocka_run_group_tests_name("net.loop", tests, NULL, NULL);
}
