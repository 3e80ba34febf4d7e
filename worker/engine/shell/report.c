/* worker/engine/shell/report.c: what the agent and the job folder learn of this engine. */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "worker/engine/shell/shell.h"

enum { JOB_FILE_MAX = 16 << 10, REPORT_ARENA_BYTES = 64 << 10 };

static const char *phase_name(enum proto_engine_phase phase)
{
    static const char *const names[] = {"starting", "loading", "ready", "draining", "stopped", "failed"};
    return names[phase];
}

void shell_report(struct shell *shell)
{
    if (shell->agent == NULL) {
        return;
    }
    const struct proto_engine_state state = {
        .report = {.replica = bytes_of_text(shell->options.replica),
                   .epoch = (uint64_t)shell->options.epoch,
                   .incarnation = shell->incarnation,
                   .state = shell->phase,
                   .pid = (uint64_t)getpid(),
                   .endpoint = bytes_of_text(shell->server != NULL ? bus_server_endpoint(shell->server) : ""),
                   .class_id = shell->info.class_id,
                   .context_tokens = shell->info.context_tokens,
                   .pool_tokens = shell->info.pool_tokens,
                   .running = shell->load.running,
                   .waiting = shell->load.waiting,
                   .blocks_total = shell->load.blocks_total,
                   .blocks_used = shell->load.blocks_used,
                   .reason = bytes_of_text(shell->failure.text),
                   .step = shell->load.step},
        .session_token = bytes_of(shell->token, sizeof(shell->token)),
    };
    struct buf frame;
    struct error error = {0};
    buf_init(&frame, PROTO_FRAME_BYTES_MAX);
    enum status status = proto_encode(&frame, PROTO_ENGINE_STATE, &state, &error);
    if (status == STATUS_OK) {
        status = bus_client_send(shell->agent, buf_bytes(&frame));
    }
    if (status != STATUS_OK) {
        LOG_D("engine", "report_unsent", "status=%s", status_name(status)); /* the next one is 100 ms away */
    }
    buf_free(&frame);
}

void shell_agent_received(void *context, struct bytes frame)
{
    struct shell *shell = context;
    struct arena arena;
    struct proto_message message;
    struct error error = {0};
    arena_init(&arena, REPORT_ARENA_BYTES);
    if (proto_decode(frame, &arena, &message, &error) != STATUS_OK) {
        LOG_W("engine", "frame_refused", "from=agent detail=%s", log_quoted(error.text));
    } else if (message.opcode == PROTO_ENGINE_STOP && message.any.engine_stop.epoch == (uint64_t)shell->options.epoch) {
        LOG_I("engine", "stop_asked", "by=agent");
        shell_drain(shell);
    }
    arena_free(&arena);
}

enum status shell_write_job(const struct shell *shell, struct error *error)
{
    struct buf text;
    if (shell->options.job == NULL) {
        return STATUS_OK;
    }
    buf_init(&text, JOB_FILE_MAX);
    buf_printf(&text, "{\"pid\": %d, \"replica\": ", (int)getpid());
    json_write_text(&text, shell->options.replica);
    buf_printf(&text, ", \"epoch\": %" PRId64 ", \"incarnation\": %" PRIu64 ", \"state\": \"%s\", \"endpoint\": ",
               shell->options.epoch, shell->incarnation, phase_name(shell->phase));
    json_write_text(&text, shell->server != NULL ? bus_server_endpoint(shell->server) : "");
    char key[CURVE_TEXT_BYTES];
    crypto_z85_encode(key, shell->identity.keys.public_key);
    buf_append_text(&text, ", \"key\": ");
    json_write_text(&text, key);
    buf_append_text(&text, "}\n");
    char *path = file_join(shell->options.job, "engine.json");
    enum status status = file_write_atomic(path, buf_bytes(&text), 0600, error);
    mem_free(path);
    buf_free(&text);
    return status;
}

/* The session token of this start, from the job folder; without an agent there is none. */
enum status shell_read_token(struct shell *shell, struct error *error)
{
    struct buf text;
    if (shell->options.agent_endpoint == NULL) {
        return STATUS_OK;
    }
    if (shell->options.job == NULL) {
        return error_set(error, STATUS_INVALID, "--agent-endpoint needs --job, where the session token lies");
    }
    char *path = file_join(shell->options.job, "token");
    buf_init(&text, JOB_FILE_MAX);
    enum status status = file_read(path, JOB_FILE_MAX, &text, error);
    if (status == STATUS_OK && crypto_unhex(shell->token, sizeof(shell->token), buf_text(&text)) != STATUS_OK) {
        status = error_set(error, STATUS_INVALID, "%s holds no session token", path);
    }
    mem_free(path);
    buf_free(&text);
    return status;
}
