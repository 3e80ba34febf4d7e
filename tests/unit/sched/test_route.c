/* Which replica a stream goes to: the score, its ties, its exceptions. */
#include "sched/route.h"
#include "tests/unit/sched/support.h"

static const struct route_need need_100 = {.tokens = 100, .capacity_tokens = 150};

static void lowest_score_wins(void **state)
{
    (void)state;
    const struct route_candidate candidates[] = {
        {.name = "m/0", .capacity_tokens = 1000, .queued_tokens = 50, .token_s = 1e-3},
        {.name = "m/1", .capacity_tokens = 1000, .queued_tokens = 0, .token_s = 1e-3},
        {.name = "m/2", .capacity_tokens = 1000, .queued_tokens = 0, .token_s = 2e-3},
    };
    assert_int_equal(route_pick(candidates, 3, &need_100), 1);
    assert_true(route_score(&candidates[0], &need_100) > 0.1499 && route_score(&candidates[0], &need_100) < 0.1501);
}

static void ties_go_by_name_whatever_the_order(void **state)
{
    (void)state;
    const struct route_candidate candidates[] = {
        {.name = "m/1", .capacity_tokens = 1000, .token_s = 1e-3},
        {.name = "m/0", .capacity_tokens = 1000, .token_s = 1e-3},
    };
    assert_int_equal(route_pick(candidates, 2, &need_100), 1);
    const struct route_candidate swapped[] = {candidates[1], candidates[0]};
    assert_int_equal(route_pick(swapped, 2, &need_100), 0);
}

static void the_holder_wins_though_another_is_idle(void **state)
{
    (void)state;
    const struct route_candidate candidates[] = {
        {.name = "m/0", .capacity_tokens = 1000, .token_s = 1e-3},
        {.name = "m/1", .capacity_tokens = 1000, .queued_tokens = 60, .cached_tokens = 96, .token_s = 1e-3},
    };
    assert_int_equal(route_pick(candidates, 2, &need_100), 1);
    /* ... until waiting there costs more than computing here. */
    struct route_candidate busy[] = {candidates[0], candidates[1]};
    busy[1].queued_tokens = 97;
    assert_int_equal(route_pick(busy, 2, &need_100), 0);
}

static void the_streams_own_class_comes_first(void **state)
{
    (void)state;
    const struct route_candidate candidates[] = {
        {.name = "m/0", .class_id = 7, .capacity_tokens = 1000, .token_s = 1e-6},
        {.name = "m/1", .class_id = 9, .capacity_tokens = 1000, .queued_tokens = 100000, .token_s = 1},
    };
    struct route_need need = need_100;
    assert_int_equal(route_pick(candidates, 2, &need), 0);
    need.class_id = 9;
    assert_int_equal(route_pick(candidates, 2, &need), 1);
    need.class_id = 5; /* nobody's: the stream goes on anyway */
    assert_int_equal(route_pick(candidates, 2, &need), 0);
}

static void capacity_is_a_condition(void **state)
{
    (void)state;
    const struct route_candidate candidates[] = {
        {.name = "m/0", .capacity_tokens = 149, .token_s = 1e-3},
        {.name = "m/1", .capacity_tokens = 150, .queued_tokens = 1000, .token_s = 1},
    };
    assert_int_equal(route_pick(candidates, 2, &need_100), 1);
    assert_true(route_pick(candidates, 1, &need_100) == ROUTE_NONE);
    assert_true(route_pick(candidates, 0, &need_100) == ROUTE_NONE);
}

static void an_unknown_speed_counts_as_one_for_all(void **state)
{
    (void)state;
    const struct route_candidate candidates[] = {
        {.name = "m/0", .capacity_tokens = 1000, .queued_tokens = 10},
        {.name = "m/1", .capacity_tokens = 1000},
    };
    assert_int_equal(route_pick(candidates, 2, &need_100), 1);
}

/* Ours are known to the moment, others' from the last report; nobody is counted twice. */
static void own_streams_and_others_add_up(void **state)
{
    (void)state;
    struct route_load load = {0};
    route_load_reported(&load, 10, 2, 1e-3);
    assert_int_equal(route_load_queued(&load), 12);
    route_load_add(&load, 30);
    assert_int_equal(route_load_queued(&load), 42);
    route_load_reported(&load, 38, 3, 1e-3); /* 30 of these are ours */
    assert_int_equal(route_load_queued(&load), 41);
    route_load_remove(&load, 30); /* computed: free at once, whatever the report said */
    assert_int_equal(route_load_queued(&load), 11);
    route_load_add(&load, 30);
    route_load_reported(&load, 5, 0, 1e-3); /* left before ours arrived */
    assert_int_equal(route_load_queued(&load), 30);
}

static void a_burst_spreads_over_equal_replicas(void **state)
{
    (void)state;
    struct route_load loads[2] = {{0}};
    size_t got[2] = {0};
    for (int i = 0; i < 50; i++) {
        const struct route_candidate candidates[] = {
            {.name = "m/0", .capacity_tokens = 1000, .queued_tokens = route_load_queued(&loads[0])},
            {.name = "m/1", .capacity_tokens = 1000, .queued_tokens = route_load_queued(&loads[1])},
        };
        size_t best = route_pick(candidates, 2, &need_100);
        route_load_add(&loads[best], need_100.tokens + 1);
        got[best]++;
    }
    assert_int_equal(got[0], 25);
    assert_int_equal(got[1], 25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lowest_score_wins),
        cmocka_unit_test(ties_go_by_name_whatever_the_order),
        cmocka_unit_test(the_holder_wins_though_another_is_idle),
        cmocka_unit_test(the_streams_own_class_comes_first),
        cmocka_unit_test(capacity_is_a_condition),
        cmocka_unit_test(an_unknown_speed_counts_as_one_for_all),
        cmocka_unit_test(own_streams_and_others_add_up),
        cmocka_unit_test(a_burst_spreads_over_equal_replicas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
