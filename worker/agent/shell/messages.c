/* worker/agent/shell/messages.c: what comes over the bus: engines' reports, coordinators' assignments and hints; and
 * the heartbeat that goes out. */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "proto/proto.h"
#include "worker/agent/shell/shell.h"

#ifndef SHOAL_VERSION
#define SHOAL_VERSION "0.1.0"
#endif

enum { MESSAGE_ARENA_BYTES = 16 << 20, ANSWER_TIMEOUT_US = 500000 };

void shell_engine_received(void *context, const struct bus_peer *peer, struct bytes frame)
{
    struct shell *shell = context;
    struct arena arena;
    struct proto_message message;
    struct error error = {0};
    arena_init(&arena, MESSAGE_ARENA_BYTES);
    enum status status = proto_decode(frame, &arena, &message, &error);
    if (status == STATUS_OK && message.opcode != PROTO_ENGINE_STATE) {
        status = error_set(&error, STATUS_INVALID, "%s is not for an agent", proto_opcode_name(message.opcode));
    }
    if (status == STATUS_OK) {
        status = agent_report(&shell->agent, &message.any.engine_state, loop_now_us(&shell->loop));
        if (status == STATUS_OK) {
            char replica[129] = "";
            struct bytes name = message.any.engine_state.report.replica;
            memcpy(replica, name.data, name.length);
            shell_engine_of(shell, replica, true)->channel = peer->channel;
        } else {
            (void)error_set(&error, status, "a report of an engine that this agent does not know");
        }
    }
    if (status != STATUS_OK) {
        LOG_W("agent", "report_refused", "detail=%s", log_quoted(error.text));
    }
    arena_free(&arena);
}

/* The next heartbeat goes to the next coordinator. */
static void ask_next(struct shell *shell)
{
    shell->leader = (shell->leader + 1) % shell->coordinators_count;
    shell->answered_us = loop_now_us(&shell->loop);
}

static void follow_hint(struct shell *shell, const struct shell_coordinator *from, const struct proto_not_leader *hint)
{
    if (from != &shell->coordinators[shell->leader]) {
        return; /* an old answer: we have moved on */
    }
    for (size_t i = 0; i < shell->coordinators_count; i++) {
        if (bytes_equal(bytes_of_text(shell->coordinators[i].member->name), hint->leader)) {
            shell->leader = i;
            return;
        }
    }
    ask_next(shell); /* it knows no leader either */
}

void shell_coordinator_received(void *context, struct bytes frame)
{
    struct shell_coordinator *from = context;
    struct shell *shell = from->shell;
    struct arena arena;
    struct proto_message message;
    struct error error = {0};
    arena_init(&arena, MESSAGE_ARENA_BYTES);
    uint64_t now_us = loop_now_us(&shell->loop);
    if (proto_decode(frame, &arena, &message, &error) != STATUS_OK) {
        LOG_W("agent", "frame_refused", "from=%s detail=%s", from->member->name, log_quoted(error.text));
    } else if (message.opcode == PROTO_NOT_LEADER) {
        follow_hint(shell, from, &message.any.not_leader);
    } else if (message.opcode == PROTO_VIEW_SAME) {
        shell->answered_us = now_us;
    } else if (message.opcode == PROTO_ASSIGN && !shell->stopping) {
        struct agent_actions actions = {0};
        shell->answered_us = now_us;
        enum status status = agent_assign(&shell->agent, &message.any.assign, now_us, &actions);
        LOG_I("agent", "assign", "from=%s index=%llu replicas=%zu status=%s", from->member->name,
              (unsigned long long)message.any.assign.index, message.any.assign.assignments_count, status_name(status));
        shell_perform(shell, &actions);
    }
    arena_free(&arena);
}

/* Nobody answered for a while: the next coordinator may know better. */
static void look_elsewhere(struct shell *shell)
{
    if (loop_now_us(&shell->loop) - shell->answered_us >= ANSWER_TIMEOUT_US) {
        ask_next(shell);
    }
}

void shell_send_heartbeat(struct shell *shell)
{
    struct proto_engine_report reports[AGENT_ENGINES_MAX];
    struct proto_heartbeat heartbeat;
    if (shell->coordinators_count == 0 || shell->stopping) {
        return;
    }
    look_elsewhere(shell);
    inventory_read_memory(&shell->inventory);
    agent_heartbeat(&shell->agent, reports, &heartbeat);
    uint64_t memory_bytes =
        shell->options.memory_mib > 0 ? (uint64_t)shell->options.memory_mib << 20 : shell->inventory.memory_bytes;
    heartbeat.inventory = (struct proto_inventory){
        .cores = shell->agent.config.cores,
        .memory_bytes = memory_bytes,
        .memory_free_bytes = shell->inventory.memory_free_bytes,
        .cpu = bytes_of_text(shell->inventory.cpu),
        .cpu_path = bytes_of_text(shell->inventory.cpu_path),
        .version = bytes_of_text(SHOAL_VERSION),
    };
    struct buf frame;
    struct error error;
    buf_init(&frame, PROTO_FRAME_BYTES_MAX);
    if (proto_encode(&frame, PROTO_HEARTBEAT, &heartbeat, &error) != STATUS_OK) {
        LOG_E("agent", "heartbeat_unencodable", "detail=%s", log_quoted(error.text));
    } else if (bus_client_send(shell->coordinators[shell->leader].client, buf_bytes(&frame)) != STATUS_OK) {
        LOG_D("agent", "heartbeat_unsent", "to=%s", shell->coordinators[shell->leader].member->name);
        ask_next(shell); /* not connected: it is gone, or not there yet */
    }
    buf_free(&frame);
}
