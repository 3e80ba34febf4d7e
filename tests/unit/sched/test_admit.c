/* A router's bounds: open requests and their bytes. */
#include "sched/admit.h"
#include "tests/unit/sched/support.h"

static void both_bounds_hold(void **state)
{
    (void)state;
    struct admit admit = {.open_max = 2, .bytes_max = 100};
    assert_true(admit_enter(&admit, 60));
    assert_false(admit_enter(&admit, 41));
    assert_true(admit_enter(&admit, 40));
    assert_false(admit_enter(&admit, 0));
    admit_leave(&admit, 60);
    assert_true(admit_enter(&admit, 60));
    admit_leave(&admit, 60);
    admit_leave(&admit, 40);
    assert_int_equal(admit.open, 0);
    assert_int_equal(admit.bytes, 0);
    assert_false(admit_enter(&admit, SIZE_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(both_bounds_hold)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
