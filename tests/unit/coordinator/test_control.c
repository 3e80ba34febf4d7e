/* Promises of the control loop, on the little cluster: what is wanted gets placed and ready, then nothing more is
 * logged; a dead node's replicas move after down_after, and only they; restarts of agents and changes of the leader
 * move nothing; a mass silence freezes placement; whatever happened, in the end exactly what is wanted runs. */
#include <stdio.h>
#include <string.h>

#include "base/crypto.h"
#include "tests/unit/coordinator/commands.h"
#include "tests/unit/coordinator/little_cluster.h"

enum { SECOND = 1000000 };

static struct little_cluster cluster;

static const char *node_of(const char *replica)
{
    const struct fsm_replica *found = fsm_replica(&cluster.fsm, replica);
    return found != NULL ? found->node : "(none)";
}

static uint64_t epoch_of(const char *replica)
{
    return fsm_replica(&cluster.fsm, replica)->epoch;
}

/* Three nodes, two replicas: m/1 on n1, m/2 on n2, both ready. */
static void make(void)
{
    little_cluster_open(&cluster, 3);
    little_cluster_run(&cluster, SECOND);
    little_cluster_model(&cluster, "m", 2, 100);
    little_cluster_await(&cluster, "m/1", PROTO_REPLICA_READY, 2 * SECOND);
    little_cluster_await(&cluster, "m/2", PROTO_REPLICA_READY, 2 * SECOND);
    assert_string_equal(node_of("m/1"), "n1");
    assert_string_equal(node_of("m/2"), "n2");
}

static void test_settled_cluster_logs_nothing(void **state)
{
    (void)state;
    make();
    uint64_t index = cluster.fsm.index;
    little_cluster_run(&cluster, 30 * SECOND);
    assert_int_equal(cluster.fsm.index, index);
    assert_int_equal(cluster.refused, 0);
    little_cluster_close(&cluster);
}

static void test_follower_proposes_nothing(void **state)
{
    (void)state;
    make();
    control_lead(&cluster.control, false, cluster.now_us);
    little_cluster_kill_node(&cluster, 0);
    uint64_t index = cluster.fsm.index;
    little_cluster_run(&cluster, 30 * SECOND);
    assert_int_equal(cluster.fsm.index, index);
    little_cluster_close(&cluster);
}

static void test_dead_nodes_replica_moves_after_down_after(void **state)
{
    (void)state;
    make();
    uint64_t epoch = epoch_of("m/1"), neighbour = epoch_of("m/2");
    little_cluster_kill_node(&cluster, 0);
    little_cluster_run(&cluster, 3 * SECOND - 200000);
    assert_string_equal(node_of("m/1"), "n1");
    little_cluster_run(&cluster, 400000);
    assert_string_equal(node_of("m/1"), "n3");
    assert_true(epoch_of("m/1") > epoch);
    assert_int_equal(fsm_node(&cluster.fsm, "n1")->state, PROTO_NODE_DOWN);
    little_cluster_await(&cluster, "m/1", PROTO_REPLICA_READY, 2 * SECOND);
    assert_int_equal(epoch_of("m/2"), neighbour);

    epoch = epoch_of("m/1");
    little_cluster_start_node(&cluster, 0); /* its agent remembers m/1 and starts it, in the old epoch */
    little_cluster_run(&cluster, 10 * SECOND);
    assert_int_equal(fsm_node(&cluster.fsm, "n1")->state, PROTO_NODE_UP);
    assert_int_equal(epoch_of("m/1"), epoch);
    assert_int_equal(little_cluster_processes(&cluster, "m/1"), 1);
    assert_int_equal(cluster.refused, 0);
    little_cluster_close(&cluster);
}

static void test_cut_off_node_gives_up_what_moved(void **state)
{
    (void)state;
    make();
    cluster.nodes[0].cut = true;
    little_cluster_run(&cluster, 5 * SECOND);
    assert_string_equal(node_of("m/1"), "n3");
    assert_int_equal(little_cluster_processes(&cluster, "m/1"), 2); /* unavoidable; routers go by the epoch */
    cluster.nodes[0].cut = false;
    little_cluster_run(&cluster, SECOND);
    assert_int_equal(little_cluster_processes(&cluster, "m/1"), 1);
    little_cluster_close(&cluster);
}

static void test_agents_restart_moves_nothing(void **state)
{
    (void)state;
    make();
    uint64_t placement = cluster.fsm.placement_index, index = cluster.fsm.index;
    little_cluster_restart_agent(&cluster, 0);
    for (int i = 0; i < 100; i++) {
        little_cluster_run(&cluster, LITTLE_STEP_US);
        assert_int_equal(fsm_replica(&cluster.fsm, "m/1")->state, PROTO_REPLICA_READY);
    }
    assert_int_equal(cluster.fsm.placement_index, placement);
    assert_int_equal(cluster.fsm.index, index + 1); /* the agent's incarnation */
    little_cluster_close(&cluster);
}

static void test_reboot_within_down_after_stays_in_place(void **state)
{
    (void)state;
    make();
    uint64_t epoch = epoch_of("m/1");
    little_cluster_kill_node(&cluster, 0);
    little_cluster_run(&cluster, 2 * SECOND);
    little_cluster_start_node(&cluster, 0);
    little_cluster_run(&cluster, 5 * SECOND);
    assert_int_equal(epoch_of("m/1"), epoch);
    assert_int_equal(fsm_replica(&cluster.fsm, "m/1")->state, PROTO_REPLICA_READY);
    little_cluster_close(&cluster);
}

static void test_engines_death_is_told_and_healed_in_place(void **state)
{
    (void)state;
    make();
    uint64_t epoch = epoch_of("m/1"), incarnation = fsm_replica(&cluster.fsm, "m/1")->incarnation;
    little_cluster_kill_engine(&cluster, 0, "m/1");
    little_cluster_await(&cluster, "m/1", PROTO_REPLICA_PLACED, SECOND);
    assert_string_equal(fsm_replica(&cluster.fsm, "m/1")->endpoint, "");
    little_cluster_await(&cluster, "m/1", PROTO_REPLICA_READY, 2 * SECOND);
    assert_int_equal(epoch_of("m/1"), epoch);
    assert_int_not_equal(fsm_replica(&cluster.fsm, "m/1")->incarnation, incarnation);
    little_cluster_close(&cluster);
}

static void test_failing_engine_says_why(void **state)
{
    (void)state;
    make();
    cluster.engine_problem = "weights are damaged";
    little_cluster_kill_engine(&cluster, 0, "m/1");
    little_cluster_await(&cluster, "m/1", PROTO_REPLICA_FAILED, 3 * SECOND);
    little_cluster_run(&cluster, SECOND);
    assert_string_equal(fsm_replica(&cluster.fsm, "m/1")->reason, "weights are damaged");
    little_cluster_close(&cluster);
}

static void test_mass_silence_freezes_until_fewer_are_silent(void **state)
{
    (void)state;
    make();
    little_cluster_kill_node(&cluster, 0);
    little_cluster_kill_node(&cluster, 1);
    little_cluster_model(&cluster, "k", 1, 100);
    little_cluster_run(&cluster, 10 * SECOND);
    assert_true(cluster.control.frozen);
    assert_string_equal(node_of("m/1"), "n1");
    assert_string_equal(node_of("k/1"), "n3"); /* placed before the silence was noticed */
    little_cluster_model(&cluster, "j", 1, 100);
    little_cluster_run(&cluster, SECOND);
    assert_null(fsm_replica(&cluster.fsm, "j/1"));
    little_cluster_start_node(&cluster, 1);
    little_cluster_run(&cluster, SECOND);
    assert_false(cluster.control.frozen);
    assert_int_equal(fsm_node(&cluster.fsm, "n1")->state, PROTO_NODE_DOWN);
    assert_string_equal(node_of("m/1"), "n3");
    assert_string_equal(node_of("m/2"), "n2");
    little_cluster_await(&cluster, "j/1", PROTO_REPLICA_READY, 3 * SECOND);
    little_cluster_close(&cluster);
}

static void test_new_leader_adopts_what_it_finds(void **state)
{
    (void)state;
    make();
    uint64_t index = cluster.fsm.index;
    little_cluster_new_leader(&cluster);
    little_cluster_run(&cluster, 10 * SECOND);
    assert_int_equal(cluster.fsm.index, index);
    little_cluster_kill_node(&cluster, 0); /* it dies together with the leader */
    little_cluster_new_leader(&cluster);
    little_cluster_run(&cluster, 3 * SECOND - 200000);
    assert_int_equal(cluster.fsm.index, index);
    little_cluster_run(&cluster, 400000);
    assert_string_equal(node_of("m/1"), "n3");
    assert_string_equal(node_of("m/2"), "n2");
    little_cluster_close(&cluster);
}

static void test_what_does_not_fit_is_pending_until_it_does(void **state)
{
    (void)state;
    make();
    little_cluster_model(&cluster, "m", 4, 100);
    little_cluster_run(&cluster, SECOND);
    assert_int_equal(fsm_replica(&cluster.fsm, "m/4")->state, PROTO_REPLICA_PENDING);
    assert_non_null(strstr(fsm_replica(&cluster.fsm, "m/4")->reason, "add a node"));
    little_cluster_model(&cluster, "huge", 1, 1 << 30);
    little_cluster_run(&cluster, SECOND);
    assert_non_null(strstr(fsm_replica(&cluster.fsm, "huge/1")->reason, "needs 1024 MiB"));
    uint64_t index = cluster.fsm.index;
    little_cluster_run(&cluster, 5 * SECOND);
    assert_int_equal(cluster.fsm.index, index); /* said once */
    little_cluster_join(&cluster, 3);
    little_cluster_await(&cluster, "m/4", PROTO_REPLICA_READY, 3 * SECOND);
    assert_string_equal(node_of("m/4"), "n4");
    little_cluster_close(&cluster);
}

static void test_less_is_wanted(void **state)
{
    (void)state;
    make();
    uint64_t epoch = epoch_of("m/1");
    little_cluster_model(&cluster, "m", 1, 100);
    little_cluster_run(&cluster, SECOND);
    assert_null(fsm_replica(&cluster.fsm, "m/2"));
    assert_int_equal(little_cluster_processes(&cluster, "m/2"), 0);
    assert_int_equal(epoch_of("m/1"), epoch);
    little_cluster_remove_model(&cluster, "m");
    little_cluster_run(&cluster, SECOND);
    assert_int_equal(little_cluster_processes(&cluster, "m/1"), 0);
    little_cluster_close(&cluster);
}

static void test_replaced_agents_heartbeats_are_dropped(void **state)
{
    (void)state;
    struct control control;
    const struct health_config health = {.suspect_after_us = 500000, .down_after_us = 3000000};
    struct proto_heartbeat message = {.node = BYTES_LITERAL("n1"), .incarnation = 5, .sequence = 9};
    control_init(&control, &health);
    control_lead(&control, true, 0);
    control_heartbeat(&control, &message, "key", SECOND);
    message.incarnation = 4;
    message.sequence = 99;
    control_heartbeat(&control, &message, "key", 2 * SECOND); /* the old process still speaks */
    assert_int_equal(control_node(&control, "n1")->incarnation, 5);
    assert_int_equal(control_node(&control, "n1")->heard_us, SECOND);
    message.incarnation = 5;
    message.sequence = 9;
    control_heartbeat(&control, &message, "key", 2 * SECOND); /* a repetition */
    assert_int_equal(control_node(&control, "n1")->heard_us, SECOND);
    message.incarnation = 4;
    control_heartbeat(&control, &message, "key", 5 * SECOND); /* its clock went back: silence makes it believable */
    assert_int_equal(control_node(&control, "n1")->incarnation, 4);
    control_free(&control);
}

static void test_nothing_is_placed_on_a_node_that_is_about_to_go(void **state)
{
    (void)state;
    little_cluster_open(&cluster, 3);
    little_cluster_run(&cluster, SECOND);
    little_cluster_kill_node(&cluster, 0);
    little_cluster_run(&cluster, 2500000);
    for (uint64_t i = 0; i < 20; i++) { /* a model a step: one of them comes in the very step that n1 goes in */
        char name[8];
        snprintf(name, sizeof(name), "k%02u", (unsigned)i);
        little_cluster_model(&cluster, name, 1, 100);
        little_cluster_run(&cluster, LITTLE_STEP_US);
    }
    little_cluster_run(&cluster, SECOND);
    assert_int_equal(fsm_node(&cluster.fsm, "n1")->state, PROTO_NODE_DOWN);
    assert_int_equal(cluster.fsm.replicas.count, 20);
    assert_int_equal(cluster.refused, 0);
    little_cluster_close(&cluster);
}

static size_t proposed_after(struct fsm *fsm, uint64_t assign_index, enum proto_replica_state *state)
{
    struct control control;
    static struct control_commands commands;
    const struct health_config health = {.suspect_after_us = 500000, .down_after_us = 3000000};
    const struct proto_heartbeat message = {.node = BYTES_LITERAL("n1"),
                                            .incarnation = 1,
                                            .sequence = 1,
                                            .host = BYTES_LITERAL("127.0.0.1"),
                                            .inventory = {.cores = 2, .memory_bytes = 1 << 30},
                                            .assign_index = assign_index};
    control_init(&control, &health);
    control_lead(&control, true, SECOND);
    control_heartbeat(&control, &message, "", SECOND);
    control_step(&control, fsm, SECOND, &commands);
    size_t count = commands.count;
    if (count > 0) {
        assert_int_equal(commands.list[0].opcode, PROTO_CMD_REPLICA_STATE);
        *state = (enum proto_replica_state)commands.list[0].any.cmd_replica_state.state;
    }
    control_commands_free(&commands);
    control_free(&control);
    return count;
}

static void test_silence_about_a_replica_means_what_the_agent_knows(void **state)
{
    (void)state;
    struct fsm fsm;
    enum proto_replica_state told = PROTO_REPLICA_READY;
    fsm_init(&fsm);
    assert_int_equal(put_node(&fsm, "n1", PROTO_NODE_UP), STATUS_OK);
    assert_int_equal(put_model(&fsm, "m", "/m", 1), STATUS_OK);
    assert_int_equal(place(&fsm, "m/1", "m", "n1", 0), STATUS_OK);
    uint64_t epoch = fsm_replica(&fsm, "m/1")->epoch;
    assert_int_equal(set_state(&fsm, "m/1", epoch, PROTO_REPLICA_READY), STATUS_OK);
    assert_int_equal(proposed_after(&fsm, epoch - 1, &told), 0); /* it has not heard of it, or says nothing yet */
    assert_int_equal(proposed_after(&fsm, epoch, &told), 1);     /* it has, and runs nothing */
    assert_int_equal(told, PROTO_REPLICA_PLACED);
    fsm_free(&fsm);
}

/* One thing that goes wrong or is wanted. */
static void disturb(struct rng *rng)
{
    size_t which = rng_below(rng, LITTLE_NODES);
    struct little_node *node = &cluster.nodes[which];
    static const char *const models[] = {"m", "k"};
    switch (rng_below(rng, 8)) {
    case 0:
        little_cluster_new_leader(&cluster);
        break;
    case 1:
        little_cluster_model(&cluster, models[rng_below(rng, 2)], rng_below(rng, 5), 100 + rng_below(rng, 2) * 5000);
        break;
    case 2:
        node->cut = node->up && !node->cut;
        break;
    case 3:
        if (node->up) {
            little_cluster_restart_agent(&cluster, which);
        }
        break;
    case 4:
        if (node->up) {
            little_cluster_kill_engine(&cluster, which, "m/1");
        }
        break;
    case 5:
        if (node->up) {
            little_cluster_kill_node(&cluster, which);
        }
        break;
    default:
        if (!node->up) {
            little_cluster_join(&cluster, which);
        }
        break;
    }
}

/* Each replica that has a node is ready there, one process and no more runs it, and nothing else runs. */
static void check_calm(void)
{
    size_t processes = 0;
    for (size_t i = 0; i < cluster.fsm.replicas.count; i++) {
        const struct fsm_replica *replica = FSM_AT(cluster.fsm.replicas, fsm_replica, i);
        assert_int_equal(replica->state, replica->node[0] != '\0' ? PROTO_REPLICA_READY : PROTO_REPLICA_PENDING);
        assert_int_equal(little_cluster_processes(&cluster, replica->name), replica->node[0] != '\0');
    }
    for (size_t i = 0; i < LITTLE_NODES; i++) {
        for (size_t j = 0; j < LITTLE_PROCESSES; j++) {
            const struct little_process *process = &cluster.nodes[i].processes[j];
            if (process->pid != 0) {
                assert_int_equal(epoch_of(process->replica), process->epoch);
                assert_string_equal(node_of(process->replica), cluster.nodes[i].name);
                processes++;
            }
        }
    }
    size_t placed = 0;
    for (size_t i = 0; i < cluster.fsm.replicas.count; i++) {
        placed += FSM_AT(cluster.fsm.replicas, fsm_replica, i)->node[0] != '\0';
    }
    assert_int_equal(processes, placed);
}

static void test_random_histories_end_well(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct rng rng;
        rng_init(&rng, seed);
        little_cluster_open(&cluster, 3);
        little_cluster_model(&cluster, "m", 2, 100);
        for (int event = 0; event < 40; event++) {
            disturb(&rng);
            little_cluster_run(&cluster, (1 + rng_below(&rng, 40)) * 100000);
        }
        for (size_t i = 0; i < LITTLE_NODES; i++) {
            cluster.nodes[i].cut = false;
            if (!cluster.nodes[i].up) {
                little_cluster_join(&cluster, i);
            }
        }
        little_cluster_run(&cluster, 60 * SECOND);
        check_calm();
        uint64_t index = cluster.fsm.index;
        little_cluster_run(&cluster, 10 * SECOND);
        assert_int_equal(cluster.fsm.index, index);
        little_cluster_close(&cluster);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settled_cluster_logs_nothing),
        cmocka_unit_test(test_follower_proposes_nothing),
        cmocka_unit_test(test_dead_nodes_replica_moves_after_down_after),
        cmocka_unit_test(test_cut_off_node_gives_up_what_moved),
        cmocka_unit_test(test_agents_restart_moves_nothing),
        cmocka_unit_test(test_reboot_within_down_after_stays_in_place),
        cmocka_unit_test(test_engines_death_is_told_and_healed_in_place),
        cmocka_unit_test(test_failing_engine_says_why),
        cmocka_unit_test(test_mass_silence_freezes_until_fewer_are_silent),
        cmocka_unit_test(test_new_leader_adopts_what_it_finds),
        cmocka_unit_test(test_what_does_not_fit_is_pending_until_it_does),
        cmocka_unit_test(test_less_is_wanted),
        cmocka_unit_test(test_replaced_agents_heartbeats_are_dropped),
        cmocka_unit_test(test_nothing_is_placed_on_a_node_that_is_about_to_go),
        cmocka_unit_test(test_silence_about_a_replica_means_what_the_agent_knows),
        cmocka_unit_test(test_random_histories_end_well),
    };
    return crypto_init() == STATUS_OK ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
