/* Tests of base/clock: time goes forward, and the three clocks agree on their units. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

static void forward_and_in_their_units(void **state)
{
    (void)state;
    uint64_t us = clock_mono_us(), ns = clock_mono_ns();
    assert_true(ns / 1000 >= us);
    for (int i = 0; i < 1000; i++) {
        uint64_t later = clock_mono_ns();
        assert_true(later >= ns);
        ns = later;
    }
    assert_true(clock_mono_us() >= us);
    assert_true(clock_wall_us() > 1600000000000000u); /* 2020, in microseconds */
    assert_true(clock_wall_us() < 10000000000000000u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(forward_and_in_their_units)};
    return cmocka_run_group_tests_name("base.clock", tests, NULL, NULL);
}
