/* Voters in one process, by seeds: whatever the network and the disks do, an acknowledged write stays, and all states
 * agree. SHOAL_SEED repeats one seed, SHOAL_SEEDS sets how many run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/log.h"
#include "tests/unit/coordinator/cluster.h"

static struct cluster cluster;

static void for_seeds(unsigned count, void (*scenario)(uint64_t seed))
{
    const char *one = getenv("SHOAL_SEED");
    const char *many = getenv("SHOAL_SEEDS");
    if (one != NULL) {
        scenario(strtoull(one, NULL, 10));
        return;
    }
    if (many != NULL)
        count = (unsigned)strtoul(many, NULL, 10);
    for (uint64_t seed = 1; seed <= count; seed++)
        scenario(seed);
}

static void run_with_load(unsigned ms, unsigned proposals_permille)
{
    for (unsigned i = 0; i < ms; i++) {
        if (rng_below(&cluster.rng, 1000) < proposals_permille)
            cluster_propose(&cluster);
        cluster_step(&cluster);
    }
}

/* ---- without faults ---------------------------------------------------------------------------------------------- */

static void test_three_voters_elect_and_commit(void **state)
{
    (void)state;
    cluster_start(&cluster, 1, 3);
    cluster_run(&cluster, 1000);
    assert_non_null(cluster_leader(&cluster));
    run_with_load(1000, 500);
    cluster_settle(&cluster);
    assert_int_equal(cluster.acknowledged_count, cluster.values);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(cluster.nodes[i].state.count, cluster.values);
    cluster_stop(&cluster);
}

static void test_single_voter_commits_alone(void **state)
{
    (void)state;
    cluster_start(&cluster, 1, 1);
    cluster_run(&cluster, 50);
    run_with_load(200, 500);
    cluster_crash(&cluster, 0);
    cluster_settle(&cluster);
    assert_true(cluster.acknowledged_count > 0);
    cluster_stop(&cluster);
}

/* The leader dies; with T = 200 the next write is acknowledged within 400 ms and a margin for ticks (10 ms), the
 * network's 2 ms a hop and the disks' 2 ms a batch. */
static void leader_dies(uint64_t seed)
{
    cluster_start(&cluster, seed, 3);
    cluster.election_timeout_ms = 200;
    for (unsigned i = 0; i < 3; i++)
        cluster_crash(&cluster, i);
    for (unsigned i = 0; i < 3; i++)
        cluster_restart(&cluster, i);
    cluster_run(&cluster, 2000);
    struct cluster_node *leader = cluster_leader(&cluster);
    assert_non_null(leader);
    cluster_crash(&cluster, (unsigned)leader->id - 1);
    unsigned before = cluster.acknowledged_count, ms = 0;
    while (cluster.acknowledged_count == before && ms < 2000) {
        if (cluster_leader(&cluster) != NULL)
            cluster_propose(&cluster);
        cluster_step(&cluster);
        ms++;
    }
    assert_in_range(ms, 1, 400);
    cluster_settle(&cluster);
    cluster_stop(&cluster);
}

static void test_failover_is_fast(void **state)
{
    (void)state;
    for_seeds(10, leader_dies);
}

/* ---- with faults ------------------------------------------------------------------------------------------------- */

static void lossy_network(uint64_t seed)
{
    cluster_start(&cluster, seed, 3);
    cluster.loss_permille = 100;
    cluster.delay_us_max = 30000; /* reorders: ticks and heartbeats are closer together */
    run_with_load(4000, 300);
    cluster_settle(&cluster);
    assert_true(cluster.acknowledged_count > 20);
    cluster_stop(&cluster);
}

static void test_lossy_reordering_network(void **state)
{
    (void)state;
    for_seeds(10, lossy_network);
}

static void disturb(unsigned which)
{
    struct cluster_node *node = &cluster.nodes[rng_below(&cluster.rng, cluster.nodes_count)];
    switch (which) {
    case 0:
        cluster_crash(&cluster, (unsigned)node->id - 1);
        break;
    case 1:
        node->cut_off = !node->cut_off;
        break;
    case 2:
        cluster.disk_permille = rng_below(&cluster.rng, 2) != 0 ? 900 : 20;
        break;
    default:
        cluster.loss_permille = (unsigned)rng_below(&cluster.rng, 200);
        cluster.delay_us_max = (unsigned)rng_below(&cluster.rng, 50000);
        break;
    }
}

static void crashes_and_partitions(uint64_t seed)
{
    cluster_start(&cluster, seed, 3);
    cluster.snapshot_threshold = 16 + (unsigned)rng_below(&cluster.rng, 100);
    for (unsigned round = 0; round < 40; round++) {
        run_with_load(50 + (unsigned)rng_below(&cluster.rng, 300), 400);
        disturb((unsigned)rng_below(&cluster.rng, 4));
        for (unsigned i = 0; i < cluster.nodes_count; i++) {
            if (rng_below(&cluster.rng, 3) == 0)
                cluster_restart(&cluster, i);
        }
    }
    cluster_settle(&cluster);
    cluster_stop(&cluster);
}

static void test_crashes_and_partitions(void **state)
{
    (void)state;
    for_seeds(20, crashes_and_partitions);
}

/* A voter that was away for longer than the others' logs reach back gets a snapshot. */
static void test_a_voter_far_behind_gets_a_snapshot(void **state)
{
    (void)state;
    cluster_start(&cluster, 7, 3);
    cluster_run(&cluster, 1000);
    cluster_crash(&cluster, 2);
    run_with_load(4000, 300);
    cluster_settle(&cluster);
    assert_int_equal(cluster.nodes[2].restores, 1);
    assert_true(cluster.nodes[0].restores == 0);
    cluster_stop(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_voters_elect_and_commit),
        cmocka_unit_test(test_single_voter_commits_alone),
        cmocka_unit_test(test_failover_is_fast),
        cmocka_unit_test(test_lossy_reordering_network),
        cmocka_unit_test(test_crashes_and_partitions),
        cmocka_unit_test(test_a_voter_far_behind_gets_a_snapshot),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
