/* coordinator/shell/propose.c: commands on their way through the log: operators' and the control loop's. */
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "coordinator/shell/shell.h"
#include "proto/proto.h"

enum { COMMAND_BYTES_MAX = 64 << 10 };

static void send_outcome(struct shell *shell, const struct shell_pending *pending, enum status status,
                         const char *detail, uint64_t index)
{
    struct proto_outcome outcome = {.client = pending->client,
                                    .sequence = pending->sequence,
                                    .status = bytes_of_text(status_name(status)),
                                    .detail = bytes_of_text(detail),
                                    .index = index};
    struct buf frame;
    struct error error;
    buf_init(&frame, COMMAND_BYTES_MAX);
    if (proto_encode(&frame, PROTO_OUTCOME, &outcome, &error) != STATUS_OK ||
        bus_server_send(shell->server, pending->channel, buf_bytes(&frame)) != STATUS_OK) {
        LOG_D("shell", "outcome_unsent", "channel=%llu", (unsigned long long)pending->channel);
    }
    buf_free(&frame);
}

static void proposed(struct replog_propose *propose, enum status status, uint64_t index)
{
    struct shell_pending *pending = CONTAINER_OF(propose, struct shell_pending, propose);
    struct shell *shell = pending->shell;
    const char *detail = status == STATUS_OK ? ""
                         : status == STATUS_UNREACHABLE
                             ? "leadership was lost: unknown whether it was applied, ask again"
                             : "not applied, ask the leader";
    if (status == STATUS_OK) {
        const struct shell_outcome *applied = &shell->outcomes[index % SHELL_OUTCOMES];
        CHECK(applied->index == index);
        status = applied->outcome.status;
        detail = applied->outcome.detail;
    }
    if (pending->own) {
        shell->own_outstanding--;
        if (status != STATUS_OK) {
            LOG_D("control", "command_without_effect", "status=%s index=%llu detail=%s", status_name(status),
                  (unsigned long long)index, log_quoted(detail));
        }
    } else {
        send_outcome(shell, pending, status, detail, index);
    }
    pending->used = false;
}

enum status shell_propose(struct shell *shell, struct bytes command, bool own, uint64_t channel, uint64_t client,
                          uint64_t sequence)
{
    struct shell_pending *pending = NULL;
    for (size_t i = 0; i < SHELL_PENDING_MAX && pending == NULL; i++) {
        if (!shell->pending[i].used) {
            pending = &shell->pending[i];
        }
    }
    if (pending == NULL) {
        return STATUS_FULL;
    }
    *pending = (struct shell_pending){.propose = {.done = proposed},
                                      .shell = shell,
                                      .used = true,
                                      .own = own,
                                      .channel = channel,
                                      .client = client,
                                      .sequence = sequence};
    enum status status = replog_propose(shell->replog, &pending->propose, command);
    if (status != STATUS_OK) {
        pending->used = false;
    } else if (own) {
        shell->own_outstanding++;
    }
    return status;
}

/* The first command of a cluster names its coordinators. */
static void propose_cluster(struct shell *shell)
{
    struct proto_view_coordinator coordinators[REPLOG_MEMBERS_MAX];
    struct proto_cmd_cluster command = {.incarnation = 1, .coordinators = coordinators};
    for (size_t i = 0; i < shell->peers_count; i++) {
        const struct member *member = shell->peers[i].member;
        coordinators[command.coordinators_count++] =
            (struct proto_view_coordinator){.name = bytes_of_text(member->name),
                                            .endpoint = bytes_of_text(member->endpoint),
                                            .key = bytes_of_text(member->key_text),
                                            .raft_id = member->raft_id};
    }
    struct buf frame;
    struct error error;
    buf_init(&frame, COMMAND_BYTES_MAX);
    if (proto_encode(&frame, PROTO_CMD_CLUSTER, &command, &error) == STATUS_OK &&
        shell_propose(shell, buf_bytes(&frame), true, 0, 0, 0) == STATUS_OK) {
        LOG_I("control", "cluster_named", "coordinators=%zu", command.coordinators_count);
    }
    buf_free(&frame);
}

static void log_command(const struct control_command *command)
{
    const char *name = proto_opcode_name(command->opcode);
    switch ((int)command->opcode) {
    case PROTO_CMD_NODE: {
        const struct proto_view_node *node = &command->any.cmd_node.node;
        LOG_I("control", "proposed", "command=%s node=%s state=%llu", name, (const char *)node->name.data,
              (unsigned long long)node->state);
        break;
    }
    case PROTO_CMD_PLACE:
        LOG_I("control", "proposed", "command=%s replica=%s node=%s reason=%s", name,
              (const char *)command->any.cmd_place.replica.data, (const char *)command->any.cmd_place.node.data,
              log_quoted((const char *)command->any.cmd_place.reason.data));
        break;
    case PROTO_CMD_UNPLACE:
        LOG_I("control", "proposed", "command=%s replica=%s", name,
              (const char *)command->any.cmd_unplace.replica.data);
        break;
    case PROTO_CMD_REPLICA_STATE:
        LOG_I("control", "proposed", "command=%s replica=%s state=%llu reason=%s", name,
              (const char *)command->any.cmd_replica_state.replica.data,
              (unsigned long long)command->any.cmd_replica_state.state,
              log_quoted((const char *)command->any.cmd_replica_state.reason.data));
        break;
    default:
        break;
    }
}

/* Steps the control loop from applied state: never while its own commands are outstanding. */
void shell_control_step(struct shell *shell)
{
    if (!shell->leading || shell->own_outstanding > 0) {
        return;
    }
    if (shell->fsm.coordinators_count == 0) {
        propose_cluster(shell);
        return;
    }
    bool was_frozen = shell->control.frozen;
    struct control_commands commands;
    control_step(&shell->control, &shell->fsm, loop_now_us(&shell->loop), &commands);
    if (shell->control.frozen != was_frozen) {
        log_event(was_frozen ? LOG_INFO : LOG_ERROR, "control", was_frozen ? "placement_goes_on" : "placement_frozen",
                  "silent=%zu", shell->control.silent);
    }
    for (size_t i = 0; i < commands.count; i++) {
        struct buf frame;
        struct error error;
        buf_init(&frame, COMMAND_BYTES_MAX);
        enum status status = proto_encode(&frame, commands.list[i].opcode, &commands.list[i].any, &error);
        if (status == STATUS_OK) {
            status = shell_propose(shell, buf_bytes(&frame), true, 0, 0, 0);
        }
        if (status != STATUS_OK) {
            LOG_W("control", "command_not_proposed", "opcode=%s status=%s", proto_opcode_name(commands.list[i].opcode),
                  status_name(status));
        } else {
            log_command(&commands.list[i]);
        }
        buf_free(&frame);
    }
    control_commands_free(&commands);
}
