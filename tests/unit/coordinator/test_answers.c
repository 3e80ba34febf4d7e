/* Promises of the answers: ASSIGN holds exactly what the node shall run; STATUS has a row for everybody, in order, with
 * what is known of each. */
#include <string.h>

#include "base/arena.h"
#include "base/crypto.h"
#include "coordinator/answers.h"
#include "tests/unit/coordinator/commands.h"

enum { SECOND = 1000000 };

static struct arena arena;
static struct buf frame;

static struct proto_message decoded(void)
{
    struct proto_message message;
    struct error error;
    arena_free(&arena);
    arena_init(&arena, 1 << 20);
    assert_int_equal(proto_decode(buf_bytes(&frame), &arena, &message, &error), STATUS_OK);
    return message;
}

static struct proto_assign assign_for(const struct fsm *fsm, const char *node)
{
    struct error error;
    buf_clear(&frame);
    assert_int_equal(answer_assign(fsm, node, &frame, &error), STATUS_OK);
    return decoded().any.assign;
}

static void assert_text(struct bytes text, const char *expected)
{
    assert_int_equal(text.length, strlen(expected));
    assert_memory_equal(text.data, expected, text.length);
}

static void make(struct fsm *fsm)
{
    struct proto_view_coordinator list[3] = {{.name = BYTES_LITERAL("c1"), .raft_id = 1},
                                             {.name = BYTES_LITERAL("c2"), .raft_id = 2},
                                             {.name = BYTES_LITERAL("c3"), .raft_id = 3}};
    const struct proto_cmd_cluster cluster = {.incarnation = 2, .coordinators = list, .coordinators_count = 3};
    fsm_init(fsm);
    assert_int_equal(apply(fsm, PROTO_CMD_CLUSTER, &cluster), STATUS_OK);
    assert_int_equal(put_node(fsm, "n1", PROTO_NODE_UP), STATUS_OK);
    assert_int_equal(put_node(fsm, "n2", PROTO_NODE_UP), STATUS_OK);
    assert_int_equal(put_model(fsm, "m", "/m.gguf", 3), STATUS_OK);
    assert_int_equal(place(fsm, "m/1", "m", "n1", 0), STATUS_OK);
    assert_int_equal(place(fsm, "m/2", "m", "n2", 0), STATUS_OK);
    assert_int_equal(place(fsm, "m/3", "m", "", 0), STATUS_OK);
    assert_int_equal(set_state(fsm, "m/1", fsm_replica(fsm, "m/1")->epoch, PROTO_REPLICA_READY), STATUS_OK);
}

static void test_assign_is_what_the_node_shall_run(void **state)
{
    (void)state;
    struct fsm fsm;
    make(&fsm);
    struct proto_assign assign = assign_for(&fsm, "n1");
    assert_int_equal(assign.incarnation, 2);
    assert_int_equal(assign.index, fsm.placement_index);
    assert_text(assign.node, "n1");
    assert_int_equal(assign.assignments_count, 1);
    assert_text(assign.assignments[0].replica, "m/1");
    assert_text(assign.assignments[0].model, "m");
    assert_text(assign.assignments[0].path, "/m.gguf");
    assert_text(assign.assignments[0].kv_type, "f16");
    assert_int_equal(assign.assignments[0].epoch, fsm_replica(&fsm, "m/1")->epoch);
    assert_int_equal(assign_for(&fsm, "n3").assignments_count, 0);
    fsm_free(&fsm);
}

/* The index that a heartbeat is compared with tells every change of what a node is to run. */
static void test_assign_changes_only_with_its_index(void **state)
{
    (void)state;
    struct fsm fsm;
    make(&fsm);
    uint64_t index = fsm.placement_index;
    struct buf before;
    buf_init(&before, 1 << 20);
    (void)assign_for(&fsm, "n1");
    buf_append_bytes(&before, buf_bytes(&frame));
    assert_int_equal(put_node(&fsm, "n3", PROTO_NODE_UP), STATUS_OK);
    assert_int_equal(put_node(&fsm, "n1", PROTO_NODE_DOWN), STATUS_OK);
    assert_int_equal(put_model(&fsm, "m", "/m.gguf", 1), STATUS_OK);
    assert_int_equal(put_model(&fsm, "k", "/k.gguf", 1), STATUS_OK);
    assert_int_equal(fsm.placement_index, index);
    (void)assign_for(&fsm, "n1");
    assert_true(bytes_equal(buf_bytes(&before), buf_bytes(&frame)));
    assert_int_equal(put_model(&fsm, "m", "/m2.gguf", 1), STATUS_OK);
    assert_true(fsm.placement_index > index);
    index = fsm.placement_index;
    const struct proto_cmd_model_remove gone = {.name = BYTES_LITERAL("m")};
    assert_int_equal(apply(&fsm, PROTO_CMD_MODEL_REMOVE, &gone), STATUS_OK);
    assert_true(fsm.placement_index > index);
    assert_int_equal(assign_for(&fsm, "n1").assignments_count, 0);
    buf_free(&before);
    fsm_free(&fsm);
}

static void hear_node(struct control *control, const struct fsm *fsm, uint64_t now_us)
{
    struct proto_engine_report engine = {.replica = BYTES_LITERAL("m/1"),
                                         .epoch = fsm_replica(fsm, "m/1")->epoch,
                                         .state = PROTO_ENGINE_READY,
                                         .running = 3,
                                         .waiting = 2,
                                         .blocks_total = 1000,
                                         .blocks_used = 123};
    const struct proto_heartbeat heartbeat = {
        .node = BYTES_LITERAL("n1"), .incarnation = 1, .sequence = 1, .engines = &engine, .engines_count = 1};
    control_heartbeat(control, &heartbeat, "key", now_us);
}

static void assert_row(const struct proto_status_row *row, const char *role, const char *name, const char *address,
                       const char *state_name)
{
    assert_text(row->role, role);
    assert_text(row->name, name);
    assert_text(row->address, address);
    assert_text(row->state, state_name);
}

static void test_status_has_a_row_for_everybody(void **state)
{
    (void)state;
    struct fsm fsm;
    struct control control;
    struct error error;
    static struct control_commands commands;
    const struct health_config health = {.suspect_after_us = 500000, .down_after_us = 3000000};
    make(&fsm);
    control_init(&control, &health);
    control_lead(&control, true, SECOND);
    hear_node(&control, &fsm, SECOND);
    const struct proto_router_report reports[] = {
        {.name = BYTES_LITERAL("r2"), .address = BYTES_LITERAL("http://h:2"), .requests = 9},
        {.name = BYTES_LITERAL("r1"), .address = BYTES_LITERAL("http://h:1"), .requests = 7},
        {.name = BYTES_LITERAL("")}};
    assert_int_equal(control_router_report(&control, &reports[0], SECOND - 1), STATUS_OK);
    assert_int_equal(control_router_report(&control, &reports[1], 2 * SECOND), STATUS_OK);
    assert_int_equal(control_router_report(&control, &reports[2], 2 * SECOND), STATUS_INVALID);
    control_step(&control, &fsm, 3 * SECOND - 1, &commands); /* judges the nodes: nobody was heard for two seconds */
    control_commands_free(&commands);
    const bool up[] = {false, true, false};
    const struct answer_leader leader = {.name = "c1", .term = 6, .coordinator_up = up};
    buf_clear(&frame);
    assert_int_equal(answer_status(&fsm, &control, &leader, 77, 3 * SECOND, &frame, &error), STATUS_OK);
    struct proto_status status = decoded().any.status;
    assert_int_equal(status.request, 77);
    assert_int_equal(status.term, 6);
    assert_int_equal(status.index, fsm.index);
    assert_text(status.leader, "c1");
    assert_int_equal(status.rows_count, 10);
    const struct proto_status_row *rows = status.rows;
    assert_row(&rows[0], "coordinator", "c1", "", "leader");
    assert_row(&rows[1], "coordinator", "c2", "", "follower");
    assert_row(&rows[2], "coordinator", "c3", "", "silent");
    assert_row(&rows[3], "router", "r1", "http://h:1", "up");
    assert_int_equal(rows[3].requests, 7);
    assert_true(rows[3].has_load);
    assert_row(&rows[4], "router", "r2", "http://h:2", "silent");
    assert_false(rows[4].has_load);
    assert_row(&rows[5], "node", "n1", "127.0.0.1", "suspect");
    assert_row(&rows[6], "node", "n2", "127.0.0.1", "suspect"); /* never heard by this leader */
    assert_row(&rows[7], "replica", "m/1", "tcp://127.0.0.1:9", "ready");
    assert_true(rows[7].has_load);
    assert_int_equal(rows[7].requests, 5);
    assert_int_equal(rows[7].kv_permille, 123);
    assert_row(&rows[8], "replica", "m/2", "n2", "starting");
    assert_false(rows[8].has_load);
    assert_row(&rows[9], "replica", "m/3", "", "pending");
    assert_text(rows[9].reason, "no room");
    assert_text(rows[9].model, "m");
    control_free(&control);
    fsm_free(&fsm);
}

int main(void)
{
    buf_init(&frame, PROTO_FRAME_BYTES_MAX);
    arena_init(&arena, 1 << 20);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_assign_is_what_the_node_shall_run),
        cmocka_unit_test(test_assign_changes_only_with_its_index),
        cmocka_unit_test(test_status_has_a_row_for_everybody),
    };
    int failed = crypto_init() == STATUS_OK ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
    buf_free(&frame);
    arena_free(&arena);
    return failed;
}
