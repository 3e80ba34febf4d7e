/* Promises of the state machine: each command's rules; what is refused changes nothing but the index; a stale epoch has
 * no effect; nothing grows beyond what a snapshot can hold. */
#include <stdio.h>
#include <string.h>

#include "base/crypto.h"
#include "base/mem.h"
#include "tests/unit/coordinator/commands.h"

/* Two nodes, model m, m/1 ready on n1. Returns m/1's epoch. */
static uint64_t make(struct fsm *fsm)
{
    fsm_init(fsm);
    assert_int_equal(put_node(fsm, "n1", PROTO_NODE_UP), STATUS_OK);
    assert_int_equal(put_node(fsm, "n2", PROTO_NODE_UP), STATUS_OK);
    assert_int_equal(put_model(fsm, "m", "/m", 2), STATUS_OK);
    assert_int_equal(place(fsm, "m/1", "m", "n1", 0), STATUS_OK);
    uint64_t epoch = fsm->index;
    assert_int_equal(set_state(fsm, "m/1", epoch, PROTO_REPLICA_READY), STATUS_OK);
    return epoch;
}

static void hash_of(const struct fsm *fsm, uint64_t index, uint8_t out[32])
{
    struct fsm same = *fsm;
    same.index = index; /* whatever the index: the rest of the state */
    fsm_hash(&same, out);
}

#define ASSERT_REFUSED(fsm, call, expected)                                                                            \
    do {                                                                                                               \
        uint8_t before_[32], after_[32];                                                                               \
        uint64_t index_ = (fsm)->index;                                                                                \
        hash_of((fsm), 0, before_);                                                                                    \
        assert_int_equal((call), (expected));                                                                          \
        hash_of((fsm), 0, after_);                                                                                     \
        assert_memory_equal(before_, after_, 32);                                                                      \
        assert_int_equal((fsm)->index, index_ + 1);                                                                    \
    } while (0)

static void test_cluster_is_named_once(void **state)
{
    (void)state;
    struct fsm fsm;
    fsm_init(&fsm);
    struct proto_view_coordinator list[2] = {{.name = BYTES_LITERAL("c1"), .raft_id = 1},
                                             {.name = BYTES_LITERAL("c2"), .raft_id = 1}};
    struct proto_cmd_cluster command = {.incarnation = 3, .coordinators = list};
    ASSERT_REFUSED(&fsm, apply(&fsm, PROTO_CMD_CLUSTER, &command), STATUS_INVALID); /* nobody */
    command.coordinators_count = 2;
    ASSERT_REFUSED(&fsm, apply(&fsm, PROTO_CMD_CLUSTER, &command), STATUS_INVALID); /* one raft id twice */
    list[1] = (struct proto_view_coordinator){.name = BYTES_LITERAL("c1"), .raft_id = 2};
    ASSERT_REFUSED(&fsm, apply(&fsm, PROTO_CMD_CLUSTER, &command), STATUS_INVALID); /* one name twice */
    list[1].name = BYTES_LITERAL("c2");
    assert_int_equal(apply(&fsm, PROTO_CMD_CLUSTER, &command), STATUS_OK);
    assert_int_equal(fsm.incarnation, 3);
    assert_int_equal(fsm.coordinators_count, 2);
    assert_string_equal(fsm.coordinators[1].name, "c2");
    command.incarnation = 4;
    ASSERT_REFUSED(&fsm, apply(&fsm, PROTO_CMD_CLUSTER, &command), STATUS_EXISTS);
    fsm_free(&fsm);
}

static void test_placement_needs_model_node_and_epoch(void **state)
{
    (void)state;
    struct fsm fsm;
    uint64_t epoch = make(&fsm);
    assert_int_equal(fsm_replica(&fsm, "m/1")->epoch, epoch);
    assert_int_equal(fsm.placement_index, epoch);
    ASSERT_REFUSED(&fsm, place(&fsm, "m/2", "x", "n2", 0), STATUS_NOT_FOUND);
    ASSERT_REFUSED(&fsm, place(&fsm, "m/2", "m", "n9", 0), STATUS_NOT_FOUND);
    ASSERT_REFUSED(&fsm, place(&fsm, "", "m", "n2", 0), STATUS_INVALID);
    ASSERT_REFUSED(&fsm, place(&fsm, "m/2", "m", "n2", 1), STATUS_CONFLICT); /* it is unknown, not of epoch 1 */
    ASSERT_REFUSED(&fsm, place(&fsm, "m/1", "m", "n2", 0), STATUS_CONFLICT); /* it is known */
    ASSERT_REFUSED(&fsm, place(&fsm, "m/1", "m", "n2", epoch - 1), STATUS_CONFLICT);
    ASSERT_REFUSED(&fsm, place(&fsm, "m/2", "m", "n1", 0), STATUS_CONFLICT); /* n1 runs m already */
    assert_int_equal(put_node(&fsm, "n2", PROTO_NODE_DOWN), STATUS_OK);
    ASSERT_REFUSED(&fsm, place(&fsm, "m/2", "m", "n2", 0), STATUS_CONFLICT);
    assert_int_equal(place(&fsm, "m/2", "m", "", 0), STATUS_OK);
    assert_int_equal(fsm_replica(&fsm, "m/2")->state, PROTO_REPLICA_PENDING);
    assert_string_equal(fsm_replica(&fsm, "m/2")->reason, "no room");
    assert_int_equal(put_node(&fsm, "n2", PROTO_NODE_UP), STATUS_OK);
    assert_int_equal(place(&fsm, "m/2", "m", "n2", fsm_replica(&fsm, "m/2")->epoch), STATUS_OK);
    assert_int_equal(fsm_replica(&fsm, "m/2")->state, PROTO_REPLICA_PLACED);
    assert_string_equal(fsm_replica(&fsm, "m/2")->reason, "");
    assert_int_equal(fsm_replica(&fsm, "m/2")->epoch, fsm.index);
    fsm_free(&fsm);
}

static void test_placing_again_forgets_the_old_engine(void **state)
{
    (void)state;
    struct fsm fsm;
    uint64_t epoch = make(&fsm);
    assert_string_equal(fsm_replica(&fsm, "m/1")->endpoint, "tcp://127.0.0.1:9");
    assert_int_equal(place(&fsm, "m/1", "m", "n2", epoch), STATUS_OK);
    const struct fsm_replica *replica = fsm_replica(&fsm, "m/1");
    assert_string_equal(replica->endpoint, "");
    assert_int_equal(replica->class_id, 0);
    ASSERT_REFUSED(&fsm, set_state(&fsm, "m/1", epoch, PROTO_REPLICA_READY), STATUS_CONFLICT); /* the old one's voice */
    fsm_free(&fsm);
}

static void test_reports_need_a_living_node(void **state)
{
    (void)state;
    struct fsm fsm;
    uint64_t epoch = make(&fsm);
    ASSERT_REFUSED(&fsm, set_state(&fsm, "m/9", epoch, PROTO_REPLICA_READY), STATUS_NOT_FOUND);
    ASSERT_REFUSED(&fsm, set_state(&fsm, "m/1", epoch + 1, PROTO_REPLICA_READY), STATUS_CONFLICT);
    ASSERT_REFUSED(&fsm, set_state(&fsm, "m/1", epoch, PROTO_REPLICA_LOST), STATUS_INVALID);
    ASSERT_REFUSED(&fsm, set_state(&fsm, "m/1", epoch, PROTO_REPLICA_PENDING), STATUS_INVALID);
    assert_int_equal(put_node(&fsm, "n1", PROTO_NODE_DOWN), STATUS_OK);
    assert_int_equal(fsm_replica(&fsm, "m/1")->state, PROTO_REPLICA_LOST);
    assert_string_equal(fsm_replica(&fsm, "m/1")->reason, "node n1 is down");
    assert_int_equal(fsm_replica(&fsm, "m/1")->epoch, epoch);
    ASSERT_REFUSED(&fsm, set_state(&fsm, "m/1", epoch, PROTO_REPLICA_READY), STATUS_CONFLICT);
    assert_int_equal(put_node(&fsm, "n1", PROTO_NODE_UP), STATUS_OK);
    assert_int_equal(set_state(&fsm, "m/1", epoch, PROTO_REPLICA_READY),
                     STATUS_OK); /* back before it was placed anew */
    assert_int_equal(place(&fsm, "m/2", "m", "", 0), STATUS_OK);
    ASSERT_REFUSED(&fsm, set_state(&fsm, "m/2", fsm.index - 1, PROTO_REPLICA_READY), STATUS_CONFLICT);
    fsm_free(&fsm);
}

static void test_model_that_runs_differently_gets_new_epochs(void **state)
{
    (void)state;
    struct fsm fsm;
    uint64_t epoch = make(&fsm);
    assert_int_equal(put_model(&fsm, "m", "/m", 3), STATUS_OK); /* more replicas: those that run go on */
    assert_int_equal(fsm_replica(&fsm, "m/1")->epoch, epoch);
    assert_int_equal(fsm_replica(&fsm, "m/1")->state, PROTO_REPLICA_READY);
    assert_int_equal(fsm.placement_index, epoch);
    assert_int_equal(put_model(&fsm, "m", "/other", 3), STATUS_OK);
    assert_int_equal(fsm_replica(&fsm, "m/1")->epoch, fsm.index);
    assert_int_equal(fsm_replica(&fsm, "m/1")->state, PROTO_REPLICA_PLACED);
    assert_string_equal(fsm_replica(&fsm, "m/1")->endpoint, "");
    assert_int_equal(fsm.placement_index, fsm.index);
    ASSERT_REFUSED(&fsm, put_model(&fsm, "", "/m", 1), STATUS_INVALID);
    ASSERT_REFUSED(&fsm, put_model(&fsm, "y", "", 1), STATUS_INVALID);
    fsm_free(&fsm);
}

static void test_removed_model_takes_its_replicas_along(void **state)
{
    (void)state;
    struct fsm fsm;
    (void)make(&fsm);
    assert_int_equal(put_model(&fsm, "k", "/k", 1), STATUS_OK);
    assert_int_equal(place(&fsm, "k/1", "k", "n1", 0), STATUS_OK);
    const struct proto_cmd_model_remove command = {.name = BYTES_LITERAL("m")};
    assert_int_equal(apply(&fsm, PROTO_CMD_MODEL_REMOVE, &command), STATUS_OK);
    assert_null(fsm_model(&fsm, "m"));
    assert_null(fsm_replica(&fsm, "m/1"));
    assert_non_null(fsm_replica(&fsm, "k/1"));
    assert_int_equal(fsm.placement_index, fsm.index);
    ASSERT_REFUSED(&fsm, apply(&fsm, PROTO_CMD_MODEL_REMOVE, &command), STATUS_NOT_FOUND);
    fsm_free(&fsm);
}

static void test_unplace_needs_the_epoch(void **state)
{
    (void)state;
    struct fsm fsm;
    struct proto_cmd_unplace command = {.replica = BYTES_LITERAL("m/1"), .expected_epoch = make(&fsm) - 1};
    ASSERT_REFUSED(&fsm, apply(&fsm, PROTO_CMD_UNPLACE, &command), STATUS_CONFLICT);
    command.expected_epoch++;
    assert_int_equal(apply(&fsm, PROTO_CMD_UNPLACE, &command), STATUS_OK);
    assert_int_equal(fsm.placement_index, fsm.index);
    ASSERT_REFUSED(&fsm, apply(&fsm, PROTO_CMD_UNPLACE, &command), STATUS_NOT_FOUND);
    fsm_free(&fsm);
}

static void test_keys_belong_to_tenants(void **state)
{
    (void)state;
    struct fsm fsm;
    static const uint8_t bytes[32] = {1};
    fsm_init(&fsm);
    struct proto_cmd_tenant_put tenant = {.tenant = {.name = BYTES_LITERAL("t"), .secret = bytes_of(bytes, 31)}};
    struct proto_cmd_key_put key = {.key = {.hash = bytes_of(bytes, 32), .tenant = BYTES_LITERAL("t")}};
    struct proto_cmd_key_remove gone = {.hash = bytes_of(bytes, 32)};
    ASSERT_REFUSED(&fsm, apply(&fsm, PROTO_CMD_TENANT_PUT, &tenant), STATUS_INVALID);
    ASSERT_REFUSED(&fsm, apply(&fsm, PROTO_CMD_KEY_PUT, &key), STATUS_NOT_FOUND);
    tenant.tenant.secret.length = 32;
    assert_int_equal(apply(&fsm, PROTO_CMD_TENANT_PUT, &tenant), STATUS_OK);
    assert_memory_equal(fsm_tenant(&fsm, "t")->secret, bytes, 32);
    key.key.hash.length = 31;
    ASSERT_REFUSED(&fsm, apply(&fsm, PROTO_CMD_KEY_PUT, &key), STATUS_INVALID);
    key.key.hash.length = 32;
    assert_int_equal(apply(&fsm, PROTO_CMD_KEY_PUT, &key), STATUS_OK);
    assert_int_equal(apply(&fsm, PROTO_CMD_KEY_PUT, &key), STATUS_OK); /* a retry */
    assert_int_equal(fsm.keys.count, 1);
    assert_int_equal(apply(&fsm, PROTO_CMD_KEY_REMOVE, &gone), STATUS_OK);
    ASSERT_REFUSED(&fsm, apply(&fsm, PROTO_CMD_KEY_REMOVE, &gone), STATUS_NOT_FOUND);
    gone.hash.length = 3;
    ASSERT_REFUSED(&fsm, apply(&fsm, PROTO_CMD_KEY_REMOVE, &gone), STATUS_NOT_FOUND);
    fsm_free(&fsm);
}

static void test_what_is_no_command_is_refused(void **state)
{
    (void)state;
    struct fsm fsm;
    (void)make(&fsm);
    const struct proto_status_ask ask = {.request = 1};
    ASSERT_REFUSED(&fsm, apply(&fsm, PROTO_STATUS_ASK, &ask), STATUS_UNSUPPORTED);
    ASSERT_REFUSED(&fsm, apply_frame(&fsm, BYTES_LITERAL("")), STATUS_INVALID);
    ASSERT_REFUSED(&fsm, apply_frame(&fsm, BYTES_LITERAL("garbage")), STATUS_INVALID);
    /* [1, 0x83, {1: "m", 2: 0}]: cmd_model_remove with a field of a later version. */
    ASSERT_REFUSED(&fsm, apply_frame(&fsm, BYTES_LITERAL("\x93\x01\xcc\x83\x82\x01\xa1m\x02\x00")), STATUS_UNSUPPORTED);
    assert_int_equal(apply_frame(&fsm, BYTES_LITERAL("\x93\x01\xcc\x83\x81\x01\xa1m")), STATUS_OK);
    fsm_free(&fsm);
}

static const char *long_name(char *to, size_t length, const char *prefix, size_t number)
{
    memset(to, 'x', length);
    to[length] = '\0';
    snprintf(to, length, "%s%zu", prefix, number);
    to[strlen(to)] = 'x';
    return to;
}

/* Everything as many and as long as it may be: the snapshot still fits, one more is refused. */
static void test_the_largest_state_can_be_saved(void **state)
{
    (void)state;
    static struct fsm fsm, copy;
    static char path[4097], text[481];
    char name[129], model[97], node[65];
    memset(path, 'p', 4096);
    memset(text, 'r', 480);
    fsm_init(&fsm);
    fsm_init(&copy);
    struct proto_view_node one = {.host = bytes_of(path, 128), .key = bytes_of(path, 40), .cores = UINT32_MAX};
    one.memory_bytes = one.incarnation = UINT64_MAX;
    for (size_t i = 0; i <= FSM_NODES_MAX; i++) {
        one.name = bytes_of_text(long_name(node, 64, "n", i));
        const struct proto_cmd_node command = {.node = one};
        assert_int_equal(apply(&fsm, PROTO_CMD_NODE, &command), i < FSM_NODES_MAX ? STATUS_OK : STATUS_LIMIT);
    }
    for (size_t i = 0; i <= FSM_MODELS_MAX; i++) {
        const struct proto_cmd_model_put command = {.model = {.name = bytes_of_text(long_name(model, 96, "m", i)),
                                                              .path = bytes_of(path, 4096),
                                                              .replicas = 4096,
                                                              .pool_tokens = UINT64_MAX,
                                                              .context_tokens = UINT32_MAX,
                                                              .kv_type = BYTES_LITERAL("12345678"),
                                                              .memory_bytes = UINT64_MAX,
                                                              .created_s = UINT64_MAX}};
        assert_int_equal(apply(&fsm, PROTO_CMD_MODEL_PUT, &command), i < FSM_MODELS_MAX ? STATUS_OK : STATUS_LIMIT);
    }
    for (size_t i = 0; i <= FSM_REPLICAS_MAX; i++) {
        long_name(name, 128, "r", i);
        long_name(model, 96, "m", i / 64 % FSM_MODELS_MAX);
        long_name(node, 64, "n", i % 64);
        bool fits = i < FSM_REPLICAS_MAX;
        assert_int_equal(place(&fsm, name, model, i < FSM_REPLICAS_MAX ? node : "", 0),
                         fits ? STATUS_OK : STATUS_LIMIT);
        const struct proto_cmd_replica_state command = {.replica = bytes_of_text(name),
                                                        .epoch = fsm.index,
                                                        .state = PROTO_REPLICA_FAILED,
                                                        .endpoint = bytes_of(path, 128),
                                                        .class_id = UINT64_MAX,
                                                        .context_tokens = UINT32_MAX,
                                                        .pool_tokens = UINT64_MAX,
                                                        .reason = bytes_of(text, 480),
                                                        .incarnation = UINT64_MAX};
        assert_int_equal(apply(&fsm, PROTO_CMD_REPLICA_STATE, &command), fits ? STATUS_OK : STATUS_NOT_FOUND);
    }
    uint8_t secret[32] = {0};
    for (size_t i = 0; i <= FSM_TENANTS_MAX; i++) {
        const struct proto_cmd_tenant_put command = {
            .tenant = {.name = bytes_of_text(long_name(node, 64, "t", i)), .secret = bytes_of(secret, 32)}};
        assert_int_equal(apply(&fsm, PROTO_CMD_TENANT_PUT, &command), i < FSM_TENANTS_MAX ? STATUS_OK : STATUS_LIMIT);
    }
    long_name(node, 64, "t", 0);
    for (size_t i = 0; i <= FSM_KEYS_MAX; i++) {
        memcpy(secret, &i, sizeof(i));
        const struct proto_cmd_key_put command = {
            .key = {.hash = bytes_of(secret, 32), .tenant = bytes_of_text(node), .label = bytes_of(path, 64)}};
        assert_int_equal(apply(&fsm, PROTO_CMD_KEY_PUT, &command), i < FSM_KEYS_MAX ? STATUS_OK : STATUS_LIMIT);
    }
    struct buf frame;
    struct error error;
    uint8_t hashes[2][32];
    buf_init(&frame, PROTO_FRAME_BYTES_MAX);
    assert_int_equal(fsm_view(&fsm, &frame, &error), STATUS_OK);
    assert_int_equal(fsm_restore(&copy, buf_bytes(&frame), &error), STATUS_OK);
    fsm_hash(&fsm, hashes[0]);
    fsm_hash(&copy, hashes[1]);
    assert_memory_equal(hashes[0], hashes[1], 32);
    buf_free(&frame);
    fsm_free(&fsm);
    fsm_free(&copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cluster_is_named_once),
        cmocka_unit_test(test_placement_needs_model_node_and_epoch),
        cmocka_unit_test(test_placing_again_forgets_the_old_engine),
        cmocka_unit_test(test_reports_need_a_living_node),
        cmocka_unit_test(test_model_that_runs_differently_gets_new_epochs),
        cmocka_unit_test(test_removed_model_takes_its_replicas_along),
        cmocka_unit_test(test_unplace_needs_the_epoch),
        cmocka_unit_test(test_keys_belong_to_tenants),
        cmocka_unit_test(test_what_is_no_command_is_refused),
        cmocka_unit_test(test_the_largest_state_can_be_saved),
    };
    return crypto_init() == STATUS_OK ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
