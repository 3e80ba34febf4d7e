/* Promises of sched/place: replicas spread over nodes, at most one of a model per node; what holds is never moved; the
 * replicas of a lost node are placed again; what does not fit is pending with its reason, said once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/rng.h"
#include "sched/place.h"

enum { NODES_MAX = 8, MODELS_MAX = 4, REPLICAS_MAX = 64 };

/* A little cluster that applies the actions to itself. */
struct world {
    struct place_node nodes[NODES_MAX];
    struct place_model models[MODELS_MAX];
    size_t nodes_count, models_count, replicas_count;
    struct {
        char name[64], model[64], node[64], reason[PLACE_REASON_MAX + 1];
        uint64_t epoch;
    } replicas[REPLICAS_MAX];
    uint64_t epoch;
};

static size_t step(struct world *world, struct place_action *actions)
{
    struct place_replica replicas[REPLICAS_MAX];
    for (size_t i = 0; i < world->replicas_count; i++) {
        replicas[i] = (struct place_replica){world->replicas[i].name, world->replicas[i].model, world->replicas[i].node,
                                             world->replicas[i].reason, world->replicas[i].epoch};
    }
    struct place_input input = {world->nodes,        world->nodes_count, world->models,
                                world->models_count, replicas,           world->replicas_count};
    return place_step(&input, actions, REPLICAS_MAX);
}

static void apply(struct world *world, const struct place_action *action)
{
    size_t at = 0;
    while (at < world->replicas_count && strcmp(world->replicas[at].name, action->replica) != 0) {
        at++;
    }
    assert_int_equal(action->expected_epoch, at < world->replicas_count ? world->replicas[at].epoch : 0);
    if (action->kind == PLACE_REMOVE) {
        assert_true(at < world->replicas_count);
        world->replicas[at] = world->replicas[--world->replicas_count];
        return;
    }
    if (at == world->replicas_count) {
        world->replicas_count++;
    }
    assert_true(world->replicas_count <= REPLICAS_MAX);
    snprintf(world->replicas[at].name, sizeof(world->replicas[at].name), "%.63s", action->replica);
    snprintf(world->replicas[at].model, sizeof(world->replicas[at].model), "%.63s", action->model);
    snprintf(world->replicas[at].node, sizeof(world->replicas[at].node), "%.63s", action->node);
    snprintf(world->replicas[at].reason, sizeof(world->replicas[at].reason), "%s", action->reason);
    world->replicas[at].epoch = ++world->epoch;
}

/* Steps until nothing is left to do; returns how many actions that took. */
static size_t settle(struct world *world)
{
    static struct place_action actions[REPLICAS_MAX];
    size_t total = 0;
    for (int round = 0; round < 10; round++) {
        size_t count = step(world, actions);
        for (size_t i = 0; i < count; i++) {
            apply(world, &actions[i]);
        }
        total += count;
        if (count == 0) {
            return total;
        }
    }
    fail_msg("placement does not settle");
    return total;
}

static const char *node_of(const struct world *world, const char *replica)
{
    for (size_t i = 0; i < world->replicas_count; i++) {
        if (strcmp(world->replicas[i].name, replica) == 0) {
            return world->replicas[i].node;
        }
    }
    return NULL;
}

static struct world two_nodes(uint32_t replicas)
{
    struct world world = {.nodes_count = 2, .models_count = 1};
    world.nodes[0] = (struct place_node){"n1", true, false, 1000};
    world.nodes[1] = (struct place_node){"n2", true, false, 1000};
    world.models[0] = (struct place_model){"m", replicas, 400};
    return world;
}

static void test_spreads_replicas_over_nodes(void **state)
{
    (void)state;
    struct world world = two_nodes(2);
    assert_int_equal(settle(&world), 2);
    assert_string_equal(node_of(&world, "m/1"), "n1");
    assert_string_equal(node_of(&world, "m/2"), "n2");
}

static void test_third_replica_is_pending_with_its_reason_once(void **state)
{
    (void)state;
    struct world world = two_nodes(3);
    assert_int_equal(settle(&world), 3);
    assert_string_equal(node_of(&world, "m/3"), "");
    assert_non_null(strstr(world.replicas[2].reason, "add a node"));
    assert_int_equal(settle(&world), 0);
    world.nodes[2] = (struct place_node){"n3", true, false, 1000};
    world.nodes_count = 3;
    assert_int_equal(settle(&world), 1);
    assert_string_equal(node_of(&world, "m/3"), "n3");
}

static void test_lack_of_memory_is_named(void **state)
{
    (void)state;
    struct world world = two_nodes(1);
    world.models[0].memory_bytes = 3ull << 20;
    settle(&world);
    assert_string_equal(node_of(&world, "m/1"), "");
    assert_non_null(strstr(world.replicas[0].reason, "needs 3 MiB"));
}

static void test_dead_node_loses_its_replicas_and_nobody_else_moves(void **state)
{
    (void)state;
    struct world world = two_nodes(2);
    world.nodes[2] = (struct place_node){"n3", true, false, 1000};
    world.nodes_count = 3;
    settle(&world);
    assert_string_equal(node_of(&world, "m/1"), "n1");
    world.nodes[0].down = true;
    assert_int_equal(settle(&world), 1);
    assert_string_equal(node_of(&world, "m/1"), "n3");
    assert_string_equal(node_of(&world, "m/2"), "n2");
    world.nodes[0].down = false;
    assert_int_equal(settle(&world), 0); /* the node is back, and gets nothing back */
}

static void test_draining_node_keeps_but_gets_nothing(void **state)
{
    (void)state;
    struct world world = two_nodes(1);
    settle(&world);
    world.nodes[0].usable = world.nodes[1].usable = false;
    world.models[0].replicas = 2;
    settle(&world);
    assert_string_equal(node_of(&world, "m/1"), "n1");
    assert_string_equal(node_of(&world, "m/2"), "");
    assert_string_equal(world.replicas[1].reason, "no node is up");
}

static void test_fewer_replicas_and_removed_models_free_their_room(void **state)
{
    (void)state;
    struct world world = two_nodes(2);
    settle(&world);
    world.models[0].replicas = 1;
    assert_int_equal(settle(&world), 1);
    assert_null(node_of(&world, "m/2"));
    world.models[0] = (struct place_model){"other", 2, 900};
    settle(&world);
    assert_null(node_of(&world, "m/1"));
    assert_string_equal(node_of(&world, "other/1"), "n1");
    assert_string_equal(node_of(&world, "other/2"), "n2");
}

static uint64_t bytes_of_model(const struct world *world, const char *model)
{
    for (size_t m = 0; m < world->models_count; m++) {
        if (strcmp(world->models[m].name, model) == 0) {
            return world->models[m].memory_bytes;
        }
    }
    return 0;
}

static bool runs_model(const struct world *world, const char *node, const char *model)
{
    for (size_t r = 0; r < world->replicas_count; r++) {
        if (strcmp(world->replicas[r].node, node) == 0 && strcmp(world->replicas[r].model, model) == 0) {
            return true;
        }
    }
    return false;
}

static uint64_t used_bytes(const struct world *world, const char *node)
{
    uint64_t used = 0;
    for (size_t r = 0; r < world->replicas_count; r++) {
        if (strcmp(world->replicas[r].node, node) == 0) {
            used += bytes_of_model(world, world->replicas[r].model);
        }
    }
    return used;
}

/* Whatever happens to nodes and models: no node is overfull, none runs a model twice, none that is down runs anything,
 * and a replica is pending only when no node could take it. */
static void check_invariants(const struct world *world)
{
    for (size_t n = 0; n < world->nodes_count; n++) {
        for (size_t r = 0; r < world->replicas_count; r++) {
            if (strcmp(world->replicas[r].node, world->nodes[n].name) != 0) {
                continue;
            }
            assert_false(world->nodes[n].down);
            for (size_t other = 0; other < r; other++) {
                assert_false(strcmp(world->replicas[other].node, world->replicas[r].node) == 0 &&
                             strcmp(world->replicas[other].model, world->replicas[r].model) == 0);
            }
        }
        assert_true(used_bytes(world, world->nodes[n].name) <= world->nodes[n].memory_bytes);
    }
    for (size_t r = 0; r < world->replicas_count; r++) {
        const char *model = world->replicas[r].model;
        for (size_t n = 0; n < world->nodes_count && world->replicas[r].node[0] == '\0'; n++) {
            const struct place_node *node = &world->nodes[n];
            assert_true(!node->usable || node->down || runs_model(world, node->name, model) ||
                        used_bytes(world, node->name) + bytes_of_model(world, model) > node->memory_bytes);
        }
    }
}

static void test_invariants_hold_over_random_histories(void **state)
{
    (void)state;
    static const char *const node_names[] = {"n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8"};
    static const char *const model_names[] = {"a", "b", "c", "d"};
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct rng rng;
        struct world world = {.nodes_count = NODES_MAX, .models_count = MODELS_MAX};
        rng_init(&rng, seed);
        for (size_t i = 0; i < NODES_MAX; i++) {
            world.nodes[i] = (struct place_node){node_names[i], true, false, 500 + rng_below(&rng, 1000)};
        }
        for (size_t i = 0; i < MODELS_MAX; i++) {
            world.models[i] = (struct place_model){model_names[i], 0, 100 + rng_below(&rng, 500)};
        }
        for (int event = 0; event < 30; event++) {
            struct place_node *node = &world.nodes[rng_below(&rng, NODES_MAX)];
            node->down = rng_below(&rng, 3) == 0;
            node->usable = rng_below(&rng, 5) != 0;
            world.models[rng_below(&rng, MODELS_MAX)].replicas = (uint32_t)rng_below(&rng, NODES_MAX + 1);
            settle(&world);
            check_invariants(&world);
        }
    }
}

static void test_node_takes_no_more_replicas_than_an_agent_can(void **state)
{
    (void)state;
    enum { MANY = PLACE_NODE_REPLICAS_MAX + 2 };
    static struct place_model models[MANY];
    static struct place_action actions[MANY];
    static char names[MANY][16];
    const struct place_node node = {"n1", true, false, 1 << 20};
    for (size_t i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof(names[i]), "m%03zu", i);
        models[i] = (struct place_model){names[i], 1, 1};
    }
    struct place_input input = {&node, 1, models, MANY, NULL, 0};
    assert_int_equal(place_step(&input, actions, MANY), MANY);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(actions[i].kind, i < PLACE_NODE_REPLICAS_MAX ? PLACE_PUT : PLACE_PEND);
    }
    assert_non_null(strstr(actions[MANY - 1].reason, "64 replicas"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spreads_replicas_over_nodes),
        cmocka_unit_test(test_third_replica_is_pending_with_its_reason_once),
        cmocka_unit_test(test_lack_of_memory_is_named),
        cmocka_unit_test(test_dead_node_loses_its_replicas_and_nobody_else_moves),
        cmocka_unit_test(test_draining_node_keeps_but_gets_nothing),
        cmocka_unit_test(test_fewer_replicas_and_removed_models_free_their_room),
        cmocka_unit_test(test_node_takes_no_more_replicas_than_an_agent_can),
        cmocka_unit_test(test_invariants_hold_over_random_histories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
