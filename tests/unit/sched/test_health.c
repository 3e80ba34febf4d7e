/* Promises of sched/health: silence makes suspect, then down; a new leader gives everybody time; a mass silence freezes
 * the verdicts; a node that is back is up again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sched/health.h"

static const struct health_config config = {.suspect_after_us = 500, .down_after_us = 3000};

static void test_silence_makes_suspect_then_down(void **state)
{
    (void)state;
    struct health_node nodes[3] = {{.heard_us = 10000}, {.heard_us = 10000}, {.heard_us = 10000}};
    (void)health_judge(&config, nodes, 3, 1, 10499);
    assert_int_equal(nodes[0].state, HEALTH_UP);
    nodes[1].heard_us = nodes[2].heard_us = 10400;
    assert_int_equal(health_judge(&config, nodes, 3, 1, 10500).silent, 1);
    assert_int_equal(nodes[0].state, HEALTH_SUSPECT);
    nodes[1].heard_us = nodes[2].heard_us = 12990;
    assert_false(health_judge(&config, nodes, 3, 1, 13000).frozen);
    assert_int_equal(nodes[0].state, HEALTH_DOWN);
    assert_int_equal(nodes[1].state, HEALTH_UP);
}

static void test_new_leader_waits_as_long_as_it_leads(void **state)
{
    (void)state;
    struct health_node node = {.heard_us = 0};
    (void)health_judge(&config, &node, 1, 100000, 102999);
    assert_int_not_equal(node.state, HEALTH_DOWN);
    (void)health_judge(&config, &node, 1, 100000, 103000);
    assert_int_equal(node.state, HEALTH_DOWN);
}

static void test_mass_silence_freezes(void **state)
{
    (void)state;
    struct health_node nodes[6] = {{.heard_us = 1}, {.heard_us = 1}, {.heard_us = 1}};
    nodes[3].heard_us = nodes[4].heard_us = nodes[5].heard_us = 9900;
    struct health_verdict verdict = health_judge(&config, nodes, 6, 1, 10000);
    assert_true(verdict.frozen);
    assert_int_equal(verdict.silent, 3);
    assert_int_equal(nodes[0].state, HEALTH_SUSPECT);
    nodes[1].heard_us = 9900; /* two of six are a third, not more */
    verdict = health_judge(&config, nodes, 6, 1, 10000);
    assert_false(verdict.frozen);
    assert_int_equal(nodes[0].state, HEALTH_DOWN);
    assert_int_equal(nodes[1].state, HEALTH_UP);
}

static void test_one_silent_node_of_two_is_no_mass(void **state)
{
    (void)state;
    struct health_node nodes[2] = {{.heard_us = 1}, {.heard_us = 9900}};
    assert_false(health_judge(&config, nodes, 2, 1, 10000).frozen);
    assert_int_equal(nodes[0].state, HEALTH_DOWN);
}

static void test_down_node_comes_back_only_when_heard(void **state)
{
    (void)state;
    struct health_node node = {.heard_us = 50, .logged_down = true};
    (void)health_judge(&config, &node, 1, 100, 200); /* heard by an earlier leadership only */
    assert_int_equal(node.state, HEALTH_DOWN);
    node.heard_us = 150;
    (void)health_judge(&config, &node, 1, 100, 200);
    assert_int_equal(node.state, HEALTH_UP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silence_makes_suspect_then_down),
        cmocka_unit_test(test_new_leader_waits_as_long_as_it_leads),
        cmocka_unit_test(test_mass_silence_freezes),
        cmocka_unit_test(test_one_silent_node_of_two_is_no_mass),
        cmocka_unit_test(test_down_node_comes_back_only_when_heard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
