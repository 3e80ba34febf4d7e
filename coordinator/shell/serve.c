/* coordinator/shell/serve.c: frames from the bus: who asks, what may they ask, which core answers. */
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "coordinator/answers.h"
#include "coordinator/shell/shell.h"

enum { PEER_SILENT_AFTER_US = 1500000 };

const struct member *shell_coordinator(const struct shell *shell, uint64_t raft_id)
{
    for (size_t i = 0; i < shell->peers_count; i++) {
        if (shell->peers[i].member->raft_id == raft_id) {
            return shell->peers[i].member;
        }
    }
    return NULL;
}

static void send_frame(struct shell *shell, uint64_t channel, const struct buf *frame)
{
    enum status status = bus_server_send(shell->server, channel, buf_bytes(frame));
    if (status != STATUS_OK) { /* the asker is gone or slow; it asks again */
        LOG_D("shell", "answer_unsent", "channel=%llu status=%s", (unsigned long long)channel, status_name(status));
    }
}

static void send_message(struct shell *shell, uint64_t channel, enum proto_opcode opcode, const void *message)
{
    struct buf frame;
    struct error error;
    buf_init(&frame, PROTO_FRAME_BYTES_MAX);
    if (proto_encode(&frame, opcode, message, &error) == STATUS_OK) {
        send_frame(shell, channel, &frame);
    } else {
        LOG_E("shell", "answer_unencodable", "opcode=%s detail=%s", proto_opcode_name(opcode), log_quoted(error.text));
    }
    buf_free(&frame);
}

static void answer_not_leader(struct shell *shell, uint64_t channel)
{
    const struct member *leader = shell_coordinator(shell, replog_leader(shell->replog));
    struct proto_not_leader hint = {.term = replog_term(shell->replog)};
    if (leader != NULL && leader != shell->self) {
        hint.leader = bytes_of_text(leader->name);
        hint.endpoint = bytes_of_text(leader->endpoint);
    }
    send_message(shell, channel, PROTO_NOT_LEADER, &hint);
}

static void on_raft(struct shell *shell, const struct member *from, struct bytes frame)
{
    uint64_t now_us = loop_now_us(&shell->loop);
    for (size_t i = 0; i < shell->peers_count; i++) {
        if (shell->peers[i].member == from) {
            shell->peers[i].heard_us = now_us;
        }
    }
    enum status status = replog_receive(shell->replog, from->raft_id, frame, now_us);
    if (status != STATUS_OK) {
        LOG_W("shell", "raft_refused", "from=%s status=%s", from->name, status_name(status));
    }
}

static void on_heartbeat(struct shell *shell, const struct member *from, uint64_t channel,
                         const struct proto_heartbeat *heartbeat)
{
    if (!bytes_equal(heartbeat->node, bytes_of_text(from->name))) {
        LOG_W("shell", "heartbeat_refused", "from=%s reason=name_differs", from->name);
        return;
    }
    if (!shell->leading) {
        answer_not_leader(shell, channel);
        return;
    }
    control_heartbeat(&shell->control, heartbeat, from->key_text, loop_now_us(&shell->loop));
    if (heartbeat->assign_index == shell->fsm.placement_index) {
        struct proto_view_same same = {.incarnation = shell->fsm.incarnation, .index = shell->fsm.index};
        send_message(shell, channel, PROTO_VIEW_SAME, &same); /* the agent looks for a leader when nobody answers */
        return;
    }
    struct buf frame;
    struct error error;
    buf_init(&frame, PROTO_FRAME_BYTES_MAX);
    if (answer_assign(&shell->fsm, from->name, &frame, &error) == STATUS_OK) {
        send_frame(shell, channel, &frame);
    } else {
        LOG_E("shell", "assign_unencodable", "node=%s detail=%s", from->name, log_quoted(error.text));
    }
    buf_free(&frame);
}

static void on_view_ask(struct shell *shell, const struct member *from, uint64_t channel,
                        const struct proto_view_ask *ask)
{
    const struct fsm *fsm = &shell->fsm;
    if (!bytes_equal(ask->router.name, bytes_of_text(from->name))) {
        LOG_W("shell", "router_refused", "from=%s reason=name_differs", from->name);
        return;
    }
    if (control_router_report(&shell->control, &ask->router, loop_now_us(&shell->loop)) != STATUS_OK) {
        LOG_W("shell", "router_not_listed", "reason=limit_or_name");
    }
    bool newer =
        fsm->incarnation > ask->incarnation || (fsm->incarnation == ask->incarnation && fsm->index > ask->index);
    if (!newer) {
        struct proto_view_same same = {.incarnation = fsm->incarnation, .index = fsm->index};
        send_message(shell, channel, PROTO_VIEW_SAME, &same);
        return;
    }
    if (shell->view_index != fsm->index) {
        struct error error;
        buf_clear(&shell->view);
        if (fsm_view(fsm, &shell->view, &error) != STATUS_OK) {
            LOG_E("shell", "view_unencodable", "detail=%s", log_quoted(error.text));
            return;
        }
        shell->view_index = fsm->index;
    }
    send_frame(shell, channel, &shell->view);
}

static void on_status_ask(struct shell *shell, uint64_t channel, const struct proto_status_ask *ask)
{
    if (!shell->leading) {
        answer_not_leader(shell, channel);
        return;
    }
    uint64_t now_us = loop_now_us(&shell->loop);
    bool up[FSM_COORDINATORS_MAX] = {false};
    for (size_t i = 0; i < shell->fsm.coordinators_count; i++) {
        for (size_t j = 0; j < shell->peers_count; j++) {
            const struct shell_peer *peer = &shell->peers[j];
            if (strcmp(peer->member->name, shell->fsm.coordinators[i].name) == 0) {
                up[i] = peer->member == shell->self ||
                        (peer->heard_us != 0 && now_us - peer->heard_us < PEER_SILENT_AFTER_US);
            }
        }
    }
    struct answer_leader leader = {.name = shell->self->name, .term = replog_term(shell->replog), .coordinator_up = up};
    struct buf frame;
    struct error error;
    buf_init(&frame, PROTO_FRAME_BYTES_MAX);
    if (answer_status(&shell->fsm, &shell->control, &leader, ask->request, now_us, &frame, &error) == STATUS_OK) {
        send_frame(shell, channel, &frame);
    } else {
        LOG_E("shell", "status_unencodable", "detail=%s", log_quoted(error.text));
    }
    buf_free(&frame);
}

/* Operators say what shall be; what is, and where it runs, is the leader's own to say. */
static bool operator_may_propose(struct bytes command)
{
    switch (proto_peek_opcode(command)) {
    case PROTO_CMD_MODEL_PUT:
    case PROTO_CMD_MODEL_REMOVE:
    case PROTO_CMD_TENANT_PUT:
    case PROTO_CMD_KEY_PUT:
    case PROTO_CMD_KEY_REMOVE:
        return true;
    default:
        return false;
    }
}

static void on_propose(struct shell *shell, uint64_t channel, const struct proto_propose *propose)
{
    if (!shell->leading) {
        answer_not_leader(shell, channel);
        return;
    }
    enum status status = STATUS_INVALID;
    if (operator_may_propose(propose->command)) {
        status = shell_propose(shell, propose->command, false, channel, propose->client, propose->sequence);
    }
    if (status == STATUS_NOT_LEADER) {
        answer_not_leader(shell, channel);
    } else if (status != STATUS_OK) {
        struct proto_outcome outcome = {.client = propose->client,
                                        .sequence = propose->sequence,
                                        .status = bytes_of_text(status_name(status)),
                                        .detail = bytes_of_text(status == STATUS_INVALID
                                                                    ? "no command of an operator's"
                                                                    : "not proposed: try again in a moment")};
        send_message(shell, channel, PROTO_OUTCOME, &outcome);
    }
}

/* Which role may send what; everything else is refused and logged. */
static void dispatch(struct shell *shell, const struct member *from, uint64_t channel,
                     const struct proto_message *message)
{
    if (from->role == MEMBER_NODE && message->opcode == PROTO_HEARTBEAT) {
        on_heartbeat(shell, from, channel, &message->any.heartbeat);
    } else if (from->role == MEMBER_ROUTER && message->opcode == PROTO_VIEW_ASK) {
        on_view_ask(shell, from, channel, &message->any.view_ask);
    } else if (from->role == MEMBER_OPERATOR && message->opcode == PROTO_STATUS_ASK) {
        on_status_ask(shell, channel, &message->any.status_ask);
    } else if (from->role == MEMBER_OPERATOR && message->opcode == PROTO_PROPOSE) {
        on_propose(shell, channel, &message->any.propose);
    } else {
        LOG_W("shell", "message_refused", "from=%s role=%s opcode=%s", from->name, member_role_name(from->role),
              proto_opcode_name(message->opcode));
    }
}

void shell_received(void *context, const struct bus_peer *peer, struct bytes frame)
{
    struct shell *shell = context;
    const struct member *from = members_by_key(&shell->members, peer->public_key);
    if (from == NULL) {
        return; /* the allow-list let nobody else in; a member that was just removed */
    }
    if (from->role == MEMBER_COORDINATOR) {
        on_raft(shell, from, frame);
        return;
    }
    struct arena arena;
    arena_init(&arena, SHELL_ARENA_BYTES);
    struct proto_message message;
    struct error error;
    if (proto_decode(frame, &arena, &message, &error) == STATUS_OK) {
        dispatch(shell, from, peer->channel, &message);
    } else {
        LOG_W("shell", "frame_refused", "from=%s detail=%s", from->name, log_quoted(error.text));
    }
    arena_free(&arena);
}
