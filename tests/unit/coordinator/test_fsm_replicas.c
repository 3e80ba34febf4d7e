/* Replicas of the state machine stay equal: the same log gives the same bytes, also where one of them was restored from
 * the other's snapshot midway; snapshots survive the round trip; damaged ones change nothing. */
#include <stdio.h>
#include <string.h>

#include "base/crypto.h"
#include "base/mem.h"
#include "base/rng.h"
#include "tests/unit/coordinator/commands.h"

enum { COMMANDS = 400, FRAME_MAX = 4096 };

static const char *pick(struct rng *rng, const char *const *list, size_t count)
{
    return list[rng_below(rng, count)];
}

/* What commands are drawn from: few names, so that they meet. */
static const char *const node_names[] = {"n1", "n2", "n3", ""}, *const model_names[] = {"a", "b", "c"};
static const char *const replica_names[] = {"a/1", "a/2", "b/1", "b/2", "c/1", ""}, *const paths[] = {"/p", "/q", ""};

static enum status draw_wish(struct rng *rng, struct buf *out, struct error *error)
{
    uint8_t bytes[32] = {(uint8_t)rng_below(rng, 4)};
    struct bytes name = bytes_of_text(pick(rng, model_names, 3));
    const struct proto_cmd_model_put put = {
        .model = {.name = name, .path = bytes_of_text(pick(rng, paths, 3)), .replicas = rng_below(rng, 4)}};
    const struct proto_cmd_model_remove removal = {.name = rng_below(rng, 4) ? BYTES_LITERAL("x") : name};
    const struct proto_cmd_tenant_put tenant = {.tenant = {.name = name, .secret = bytes_of(bytes, 32)}};
    const struct proto_cmd_key_put key = {.key = {.hash = bytes_of(bytes, 32), .tenant = name}};
    const struct proto_cmd_key_remove key_removal = {.hash = bytes_of(bytes, 32)};
    switch (rng_below(rng, 6)) {
    case 0:
        return proto_encode(out, PROTO_CMD_MODEL_REMOVE, &removal, error);
    case 1:
        return proto_encode(out, PROTO_CMD_TENANT_PUT, &tenant, error);
    case 2:
        return proto_encode(out, PROTO_CMD_KEY_PUT, &key, error);
    case 3:
        return proto_encode(out, PROTO_CMD_KEY_REMOVE, &key_removal, error);
    default:
        return proto_encode(out, PROTO_CMD_MODEL_PUT, &put, error);
    }
}

/* Epochs are often the true ones. */
static enum status draw_finding(struct rng *rng, const struct fsm *fsm, struct buf *out, struct error *error)
{
    const char *name = pick(rng, replica_names, 6);
    const struct fsm_replica *known = fsm_replica(fsm, name);
    uint64_t epoch = rng_below(rng, 4) != 0 && known != NULL ? known->epoch : rng_below(rng, 3);
    struct bytes replica = bytes_of_text(name), node = bytes_of_text(pick(rng, node_names, 4));
    struct proto_view_coordinator one = {.name = BYTES_LITERAL("c1"), .raft_id = rng_below(rng, 2)};
    const struct proto_cmd_cluster cluster = {1 + rng_below(rng, 3), &one, 1};
    const struct proto_cmd_node told = {
        .node = {.name = node, .state = rng_below(rng, 4), .memory_bytes = rng_below(rng, 100)}};
    const struct proto_cmd_place placement = {.replica = replica,
                                              .model = bytes_of(name, name[0] != '\0'),
                                              .node = node,
                                              .reason = BYTES_LITERAL("why"),
                                              .expected_epoch = epoch};
    const struct proto_cmd_unplace unplacement = {.replica = replica, .expected_epoch = epoch};
    const struct proto_cmd_replica_state report = {.replica = replica,
                                                   .epoch = epoch,
                                                   .state = rng_below(rng, 6),
                                                   .endpoint = BYTES_LITERAL("tcp://1:2"),
                                                   .pool_tokens = rng_u64(rng)};
    switch (rng_below(rng, 7)) {
    case 0:
        return proto_encode(out, PROTO_CMD_CLUSTER, &cluster, error);
    case 1:
    case 2:
        return proto_encode(out, PROTO_CMD_NODE, &told, error);
    case 3:
        return proto_encode(out, PROTO_CMD_UNPLACE, &unplacement, error);
    case 4:
        return proto_encode(out, PROTO_CMD_REPLICA_STATE, &report, error);
    default:
        return proto_encode(out, PROTO_CMD_PLACE, &placement, error);
    }
}

static void draw_command(struct rng *rng, const struct fsm *fsm, struct buf *out)
{
    struct error error;
    enum status status = rng_below(rng, 2) ? draw_wish(rng, out, &error) : draw_finding(rng, fsm, out, &error);
    assert_int_equal(status, STATUS_OK);
    if (rng_below(rng, 20) == 0) { /* an entry that nobody understands is part of the log, too */
        out->data[rng_below(rng, out->length)] ^= (uint8_t)(1 + rng_below(rng, 255));
    }
}

static void assert_equal(const struct fsm *a, const struct fsm *b)
{
    uint8_t hashes[2][32];
    fsm_hash(a, hashes[0]);
    fsm_hash(b, hashes[1]);
    assert_memory_equal(hashes[0], hashes[1], 32);
}

static void copy_by_snapshot(const struct fsm *from, struct fsm *to)
{
    struct buf first, second;
    struct error error;
    buf_init(&first, PROTO_FRAME_BYTES_MAX);
    buf_init(&second, PROTO_FRAME_BYTES_MAX);
    assert_int_equal(fsm_view(from, &first, &error), STATUS_OK);
    assert_int_equal(fsm_restore(to, buf_bytes(&first), &error), STATUS_OK);
    assert_int_equal(fsm_view(to, &second, &error), STATUS_OK);
    assert_true(bytes_equal(buf_bytes(&first), buf_bytes(&second)));
    buf_free(&first);
    buf_free(&second);
}

/* At most one replica of a model per node, none on a node that is unknown, none ready on a node that is down. */
static void check_rules(const struct fsm *fsm)
{
    for (size_t i = 0; i < fsm->replicas.count; i++) {
        const struct fsm_replica *one = FSM_AT(fsm->replicas, fsm_replica, i);
        const struct fsm_node *node = fsm_node(fsm, one->node);
        assert_non_null(fsm_model(fsm, one->model));
        assert_true((one->node[0] == '\0') == (one->state == PROTO_REPLICA_PENDING));
        assert_true(one->node[0] == '\0' || node != NULL);
        assert_true(node == NULL || node->state != PROTO_NODE_DOWN || one->state == PROTO_REPLICA_LOST);
        assert_true(one->epoch <= fsm->placement_index && fsm->placement_index <= fsm->index);
        for (size_t j = 0; j < i; j++) {
            const struct fsm_replica *other = FSM_AT(fsm->replicas, fsm_replica, j);
            assert_false(one->node[0] != '\0' && strcmp(one->node, other->node) == 0 &&
                         strcmp(one->model, other->model) == 0);
        }
    }
}

static void test_equal_logs_give_equal_states(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct rng rng;
        struct fsm one, other;
        uint64_t index = 0;
        rng_init(&rng, seed);
        fsm_init(&one);
        fsm_init(&other);
        size_t restored_at = rng_below(&rng, COMMANDS);
        for (size_t i = 0; i < COMMANDS; i++) {
            struct fsm_outcome outcomes[2];
            struct buf frame;
            buf_init(&frame, FRAME_MAX);
            draw_command(&rng, &one, &frame);
            index += 1 + rng_below(&rng, 2); /* the log holds other entries besides */
            uint64_t epochs_before = one.placement_index;
            fsm_apply(&one, index, buf_bytes(&frame), &outcomes[0]);
            fsm_apply(&other, index, buf_bytes(&frame), &outcomes[1]);
            assert_int_equal(outcomes[0].status, outcomes[1].status);
            assert_string_equal(outcomes[0].detail, outcomes[1].detail);
            assert_true(one.placement_index >= epochs_before);
            buf_free(&frame);
            check_rules(&one);
            if (i == restored_at) {
                copy_by_snapshot(&one, &other);
            }
            assert_equal(&one, &other);
        }
        fsm_free(&one);
        fsm_free(&other);
    }
}

static void test_damaged_snapshots_change_nothing(void **state)
{
    (void)state;
    struct fsm fsm, copy;
    struct buf snapshot;
    struct error error;
    fsm_init(&fsm);
    fsm_init(&copy);
    buf_init(&snapshot, PROTO_FRAME_BYTES_MAX);
    (void)put_node(&fsm, "n1", PROTO_NODE_UP);
    (void)put_model(&fsm, "m", "/m", 1);
    (void)place(&fsm, "m/1", "m", "n1", 0);
    copy_by_snapshot(&fsm, &copy);
    assert_int_equal(fsm_view(&fsm, &snapshot, &error), STATUS_OK);
    for (size_t length = 0; length < snapshot.length; length++) {
        assert_int_not_equal(fsm_restore(&copy, bytes_of(snapshot.data, length), &error), STATUS_OK);
        assert_equal(&fsm, &copy);
    }
    struct proto_view_node twice[2] = {{.name = BYTES_LITERAL("n1")}, {.name = BYTES_LITERAL("n1")}};
    const struct proto_view view = {.index = 9, .nodes = twice, .nodes_count = 2};
    buf_clear(&snapshot);
    assert_int_equal(proto_encode(&snapshot, PROTO_VIEW, &view, &error), STATUS_OK);
    assert_int_equal(fsm_restore(&copy, buf_bytes(&snapshot), &error), STATUS_CORRUPT);
    const struct proto_status_ask ask = {.request = 1};
    buf_clear(&snapshot);
    assert_int_equal(proto_encode(&snapshot, PROTO_STATUS_ASK, &ask, &error), STATUS_OK);
    assert_int_equal(fsm_restore(&copy, buf_bytes(&snapshot), &error), STATUS_CORRUPT);
    assert_equal(&fsm, &copy);
    buf_free(&snapshot);
    fsm_free(&fsm);
    fsm_free(&copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_logs_give_equal_states),
        cmocka_unit_test(test_damaged_snapshots_change_nothing),
    };
    return crypto_init() == STATUS_OK ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
