/* coordinator/shell/shell.c: start, timers, callbacks of the replicated log, and end. */
#include "coordinator/shell/shell.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/proto.h"

enum { RAFT_TICK_MS = 10, CONTROL_TICK_MS = 50, RAFT_QUEUE_MAX = 4096, CLIENT_QUEUE_MAX = 1024 };

static enum status peers_send(void *context, uint64_t raft_id, struct bytes frame)
{
    struct shell *shell = context;
    for (size_t i = 0; i < shell->peers_count; i++) {
        struct shell_peer *peer = &shell->peers[i];
        if (peer->member->raft_id == raft_id && peer->messages != NULL) {
            bool snapshot = proto_peek_opcode(frame) == PROTO_RAFT_INSTALL;
            return bus_client_send(snapshot ? peer->snapshots : peer->messages, frame);
        }
    }
    return STATUS_NOT_FOUND;
}

static void fsm_applied(void *context, uint64_t index, struct bytes command)
{
    struct shell *shell = context;
    struct shell_outcome *outcome = &shell->outcomes[index % SHELL_OUTCOMES];
    outcome->index = index;
    fsm_apply(&shell->fsm, index, command, &outcome->outcome);
}

static enum status fsm_snapshot(void *context, struct buf *out)
{
    struct shell *shell = context;
    struct error error;
    enum status status = fsm_view(&shell->fsm, out, &error);
    if (status != STATUS_OK) {
        LOG_E("shell", "snapshot_failed", "detail=%s", log_quoted(error.text));
    }
    return status;
}

static enum status fsm_restored(void *context, uint64_t index, struct bytes snapshot)
{
    struct shell *shell = context;
    struct error error;
    enum status status = fsm_restore(&shell->fsm, snapshot, &error);
    if (status != STATUS_OK) {
        LOG_E("shell", "restore_failed", "index=%llu detail=%s", (unsigned long long)index, log_quoted(error.text));
    } else {
        LOG_I("shell", "restored", "index=%llu", (unsigned long long)index);
    }
    return status;
}

static void on_role(void *context, bool leading, uint64_t leader, uint64_t term)
{
    struct shell *shell = context;
    const struct member *member = shell_coordinator(shell, leader);
    LOG_I("shell", "role", "leading=%d leader=%s term=%llu", leading, member != NULL ? member->name : "none",
          (unsigned long long)term);
    if (shell->leading != leading) {
        shell->leading = leading;
        control_lead(&shell->control, leading, loop_now_us(&shell->loop));
    }
}

/* What must not go on ends here, without acknowledging anything; the supervisor starts the process again. */
__attribute__((noreturn)) static void fatal(void *context, enum status status, const char *why)
{
    (void)context;
    LOG_E("shell", "fatal", "status=%s detail=%s", status_name(status), log_quoted(why));
    _exit(1);
}

static void raft_tick(struct loop_timer *timer)
{
    struct shell *shell = timer->context;
    replog_tick(shell->replog, loop_now_us(&shell->loop));
}

static void control_tick(struct loop_timer *timer)
{
    shell_control_step(timer->context);
}

static void disk_readable(struct loop_poll *poll)
{
    struct shell *shell = poll->context;
    replog_disk_ready(shell->replog, loop_now_us(&shell->loop));
}

static void on_stop(struct loop_signals *signals, int number)
{
    struct shell *shell = signals->context;
    LOG_I("shell", "stopping", "signal=%d", number);
    loop_stop(&shell->loop);
}

static void peer_received(void *context, struct bytes frame)
{
    (void)context; /* coordinators talk through their own clients; nothing comes back on this one */
    LOG_W("shell", "unexpected_answer", "bytes=%zu", frame.length);
}

static enum status dial_peer(struct shell *shell, struct shell_peer *peer, struct error *error)
{
    struct bus_client_config config = {.endpoint = peer->member->endpoint,
                                       .frame_bytes_max = PROTO_FRAME_BYTES_MAX,
                                       .queue_max = RAFT_QUEUE_MAX,
                                       .context = shell,
                                       .received = peer_received};
    memcpy(config.server_key, peer->member->public_key, CURVE_KEY_BYTES);
    enum status status = bus_dial(shell->bus, &config, &peer->messages, error);
    if (status == STATUS_OK) {
        status = bus_dial(shell->bus, &config, &peer->snapshots, error);
    }
    return status;
}

static enum status find_self(struct shell *shell, struct error *error)
{
    shell->self = members_by_key(&shell->members, shell->identity.keys.public_key);
    if (shell->self == NULL || shell->self->role != MEMBER_COORDINATOR) {
        return error_set(error, STATUS_DENIED, "%s is no coordinator of %s", shell->identity.name,
                         shell->options.members);
    }
    for (size_t i = 0; i < shell->members.count; i++) {
        const struct member *member = &shell->members.list[i];
        if (member->role != MEMBER_COORDINATOR) {
            continue;
        }
        if (shell->peers_count == REPLOG_MEMBERS_MAX) {
            return error_set(error, STATUS_LIMIT, "more than %d coordinators", REPLOG_MEMBERS_MAX);
        }
        shell->peers[shell->peers_count++].member = member;
    }
    return STATUS_OK;
}

static enum status open_replog(struct shell *shell, struct error *error)
{
    struct replog_config config = {
        .folder = shell->options.state,
        .raft_id = shell->self->raft_id,
        .first_start = shell->options.first_start,
        .election_timeout_ms = (unsigned)shell->options.election_ms,
        .heartbeat_ms = (unsigned)shell->options.heartbeat_ms,
        .snapshot_threshold = (unsigned)shell->options.snapshot_entries,
        .peers = {.context = shell, .send = peers_send},
        .fsm = {.context = shell, .apply = fsm_applied, .snapshot = fsm_snapshot, .restore = fsm_restored},
        .context = shell,
        .on_role = on_role,
        .fatal = fatal,
    };
    memcpy(config.cluster_id, shell->members.cluster_id, sizeof(config.cluster_id));
    for (size_t i = 0; i < shell->peers_count; i++) {
        const struct member *member = shell->peers[i].member;
        config.members[config.members_count++] =
            (struct replog_member){.raft_id = member->raft_id, .name = member->name};
        config.rank += member->raft_id < shell->self->raft_id;
    }
    return replog_open(&config, &shell->replog, error);
}

static enum status open_bus(struct shell *shell, struct error *error)
{
    enum status status = bus_open(&shell->loop, &shell->identity.keys, &shell->bus, error);
    if (status != STATUS_OK) {
        return status;
    }
    members_allow(&shell->members, shell->bus,
                  1u << MEMBER_COORDINATOR | 1u << MEMBER_ROUTER | 1u << MEMBER_NODE | 1u << MEMBER_OPERATOR);
    struct bus_server_config config = {.endpoint = shell->self->endpoint,
                                       .frame_bytes_max = PROTO_FRAME_BYTES_MAX,
                                       .queue_max = CLIENT_QUEUE_MAX,
                                       .context = shell,
                                       .received = shell_received};
    status = bus_serve(shell->bus, &config, &shell->server, error);
    for (size_t i = 0; status == STATUS_OK && i < shell->peers_count; i++) {
        if (shell->peers[i].member != shell->self) {
            status = dial_peer(shell, &shell->peers[i], error);
        }
    }
    return status;
}

enum status shell_open(struct shell *shell, const struct shell_options *options, struct error *error)
{
    shell->options = *options;
    fsm_init(&shell->fsm);
    struct health_config health = {.suspect_after_us = 500000, .down_after_us = (uint64_t)options->down_ms * 1000};
    control_init(&shell->control, &health);
    buf_init(&shell->view, PROTO_FRAME_BYTES_MAX);
    enum status status = crypto_init();
    if (status != STATUS_OK) {
        return error_set(error, status, "libsodium can't be initialised");
    }
    if ((status = identity_read(options->identity, &shell->identity, error)) != STATUS_OK ||
        (status = members_read(options->members, &shell->members, error)) != STATUS_OK ||
        (status = find_self(shell, error)) != STATUS_OK ||
        (status = file_make_dirs(options->state, 0700, error)) != STATUS_OK ||
        (status = loop_init(&shell->loop, error)) != STATUS_OK || (status = open_bus(shell, error)) != STATUS_OK ||
        (status = open_replog(shell, error)) != STATUS_OK ||
        (status = loop_poll_init(&shell->loop, &shell->disk_poll, replog_disk_fd(shell->replog), shell, disk_readable,
                                 error)) != STATUS_OK) {
        return status;
    }
    loop_signals_init(&shell->loop, &shell->signals, shell, on_stop);
    loop_timer_init(&shell->loop, &shell->raft_timer, shell, raft_tick);
    loop_timer_init(&shell->loop, &shell->control_timer, shell, control_tick);
    loop_timer_start(&shell->raft_timer, RAFT_TICK_MS, RAFT_TICK_MS);
    loop_timer_start(&shell->control_timer, CONTROL_TICK_MS, CONTROL_TICK_MS);
    LOG_I("shell", "started", "endpoint=%s raft_id=%llu applied=%llu", bus_server_endpoint(shell->server),
          (unsigned long long)shell->self->raft_id, (unsigned long long)replog_applied(shell->replog));
    return STATUS_OK;
}

void shell_run(struct shell *shell)
{
    loop_run(&shell->loop);
}

void shell_close(struct shell *shell)
{
    loop_timer_close(&shell->raft_timer);
    loop_timer_close(&shell->control_timer);
    loop_poll_close(&shell->disk_poll);
    loop_signals_close(&shell->signals);
    for (size_t i = 0; i < shell->peers_count; i++) {
        shell->peers[i].messages = shell->peers[i].snapshots = NULL; /* what the log still sends goes nowhere */
    }
    bus_close(shell->bus);
    replog_close(shell->replog);
    loop_close(&shell->loop);
    control_free(&shell->control);
    fsm_free(&shell->fsm);
    buf_free(&shell->view);
    members_free(&shell->members);
    crypto_wipe(&shell->identity, sizeof(shell->identity));
}
