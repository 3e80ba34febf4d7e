/* Whom a router asks for the view: each in turn, somebody else at once where the question could not be sent. */
#include "router/coordinators.h"
#include "tests/unit/router/support.h"

static void each_is_asked_in_turn(void **state)
{
    (void)state;
    struct coordinators it = {.count = 3};
    for (uint64_t i = 0; i < 9; i++) {
        uint64_t now_us = 1000 + i * COORDINATORS_ASK_US;
        assert_int_equal(coordinators_ask(&it, now_us), i % 3);
        assert_true(coordinators_ask(&it, now_us + COORDINATORS_ASK_US - 1) == COORDINATORS_NONE); /* not yet */
    }
}

static void one_that_can_not_be_asked_costs_no_turn(void **state)
{
    (void)state;
    struct coordinators it = {.count = 2};
    assert_int_equal(coordinators_ask(&it, 1000), 0);
    coordinators_unsent(&it);
    assert_int_equal(coordinators_ask(&it, 1001), 1);
    assert_true(coordinators_ask(&it, 1002) == COORDINATORS_NONE);
}

static void without_any_nobody_is_asked(void **state)
{
    (void)state;
    struct coordinators it = {0};
    assert_true(coordinators_ask(&it, 1000) == COORDINATORS_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_asked_in_turn),
        cmocka_unit_test(one_that_can_not_be_asked_costs_no_turn),
        cmocka_unit_test(without_any_nobody_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
