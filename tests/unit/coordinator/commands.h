/* commands: shortcuts of the state machine's tests: encode one command, apply it at the next index, give its outcome.
 */
#ifndef SHOAL_TESTS_UNIT_COORDINATOR_COMMANDS_H
#define SHOAL_TESTS_UNIT_COORDINATOR_COMMANDS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/fsm.h"

static inline enum status apply_frame(struct fsm *fsm, struct bytes frame)
{
    struct fsm_outcome outcome;
    fsm_apply(fsm, fsm->index + 1, frame, &outcome);
    assert_true((outcome.status == STATUS_OK) == (outcome.detail[0] == '\0'));
    return outcome.status;
}

static inline enum status apply(struct fsm *fsm, enum proto_opcode opcode, const void *command)
{
    struct buf frame;
    struct error error;
    buf_init(&frame, 1 << 20);
    assert_int_equal(proto_encode(&frame, opcode, command, &error), STATUS_OK);
    enum status status = apply_frame(fsm, buf_bytes(&frame));
    buf_free(&frame);
    return status;
}

static inline enum status put_node(struct fsm *fsm, const char *name, enum proto_node_state state)
{
    const struct proto_cmd_node command = {.node = {.name = bytes_of_text(name),
                                                    .state = state,
                                                    .host = BYTES_LITERAL("127.0.0.1"),
                                                    .cores = 2,
                                                    .memory_bytes = 1 << 30,
                                                    .incarnation = 1}};
    return apply(fsm, PROTO_CMD_NODE, &command);
}

static inline enum status put_model(struct fsm *fsm, const char *name, const char *path, uint64_t replicas)
{
    const struct proto_cmd_model_put command = {.model = {.name = bytes_of_text(name),
                                                          .path = bytes_of_text(path),
                                                          .replicas = replicas,
                                                          .memory_bytes = 1000,
                                                          .kv_type = BYTES_LITERAL("f16")}};
    return apply(fsm, PROTO_CMD_MODEL_PUT, &command);
}

static inline enum status place(struct fsm *fsm, const char *replica, const char *model, const char *node,
                                uint64_t expected_epoch)
{
    const struct proto_cmd_place command = {.replica = bytes_of_text(replica),
                                            .model = bytes_of_text(model),
                                            .node = bytes_of_text(node),
                                            .reason = bytes_of_text(node[0] != '\0' ? "" : "no room"),
                                            .expected_epoch = expected_epoch};
    return apply(fsm, PROTO_CMD_PLACE, &command);
}

static inline enum status set_state(struct fsm *fsm, const char *replica, uint64_t epoch,
                                    enum proto_replica_state state)
{
    const struct proto_cmd_replica_state command = {.replica = bytes_of_text(replica),
                                                    .epoch = epoch,
                                                    .state = state,
                                                    .endpoint = BYTES_LITERAL("tcp://127.0.0.1:9"),
                                                    .class_id = 4};
    return apply(fsm, PROTO_CMD_REPLICA_STATE, &command);
}

#endif
