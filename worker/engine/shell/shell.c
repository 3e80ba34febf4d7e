/* worker/engine/shell/shell.c: start, states and end of shoal-engine; what the agent is told. */
#include "worker/engine/shell/shell.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    LOAD_MS = 100,
    END_FLUSH_MS = 100, /* the last messages leave within; what doesn't is lost (LINGER 0) */
    QUEUE_MAX = 16384,
    STREAMS_MAX = 1 << 17,
    ROUTERS_MAX = 1024,
    FRAME_MAX = PROTO_FRAME_BYTES_MAX,
};

static const char *const phase_names[] = {"starting", "loading", "ready", "draining", "stopped", "failed"};

static const char *endpoint_of(const struct shell *shell)
{
    return shell->server != NULL ? bus_server_endpoint(shell->server) : "";
}

/* <job>/engine.json: who runs this job, for the agent's successor and for people. */
static void write_job_file(const struct shell *shell)
{
    if (shell->options.job == NULL)
        return;
    struct buf text;
    struct error error = {0};
    buf_init(&text, 64 << 10);
    buf_printf(&text,
               "{\"pid\": %d, \"epoch\": %" PRIu64 ", \"incarnation\": \"%" PRIu64
               "\", \"state\": \"%s\",\n \"replica\": ",
               (int)getpid(), (uint64_t)shell->options.epoch, shell->incarnation, phase_names[shell->phase]);
    json_write_text(&text, shell->options.replica);
    buf_append_text(&text, ", \"endpoint\": ");
    json_write_text(&text, endpoint_of(shell));
    char key[CURVE_TEXT_BYTES];
    crypto_z85_encode(key, shell->identity.keys.public_key);
    buf_append_text(&text, ", \"key\": ");
    json_write_text(&text, key);
    buf_append_text(&text, ", \"reason\": ");
    json_write_text(&text, shell->reason);
    buf_append_text(&text, "}\n");
    char *path = file_join(shell->options.job, "engine.json");
    if (file_write_atomic(path, buf_bytes(&text), 0600, &error) != STATUS_OK)
        LOG_W("engine", "job_file_unwritable", "detail=%s", log_quoted(error.text));
    mem_free(path);
    buf_free(&text);
}

static void report_state(struct shell *shell)
{
    if (shell->agent == NULL || !bus_client_connected(shell->agent))
        return;
    const struct proto_engine_state state = {
        .report = {.replica = bytes_of_text(shell->options.replica),
                   .epoch = (uint64_t)shell->options.epoch,
                   .incarnation = shell->incarnation,
                   .state = shell->phase,
                   .pid = (uint64_t)getpid(),
                   .endpoint = bytes_of_text(endpoint_of(shell)),
                   .class_id = shell->info.class_id,
                   .context_tokens = shell->info.context_tokens,
                   .pool_tokens = shell->info.pool_tokens,
                   .running = shell->load.running,
                   .waiting = shell->load.waiting,
                   .blocks_total = shell->load.blocks_total,
                   .blocks_used = shell->load.blocks_used,
                   .reason = bytes_of_text(shell->reason),
                   .step = shell->load.step},
        .session_token = bytes_of(shell->token, shell->token_length),
    };
    struct error error = {0};
    buf_clear(&shell->frame);
    if (proto_encode(&shell->frame, PROTO_ENGINE_STATE, &state, &error) != STATUS_OK)
        LOG_E("engine", "unencodable", "message=engine_state detail=%s", log_quoted(error.text));
    else if (bus_client_send(shell->agent, buf_bytes(&shell->frame)) != STATUS_OK)
        LOG_D("engine", "report_unsent", "state=%s", phase_names[shell->phase]);
}

static void enter(struct shell *shell, enum proto_engine_phase phase)
{
    shell->phase = phase;
    LOG_I("engine", "state", "replica=%s epoch=%" PRIu64 " state=%s endpoint=%s", shell->options.replica,
          (uint64_t)shell->options.epoch, phase_names[phase], endpoint_of(shell));
    write_job_file(shell);
    report_state(shell);
}

static void end_soon(struct shell *shell)
{
    loop_timer_start(&shell->end_timer, END_FLUSH_MS, 0);
}

static void fail(struct shell *shell, const struct error *error)
{
    snprintf(shell->reason, sizeof(shell->reason), "%s", error->text);
    LOG_E("engine", "failed", "status=%s detail=%s", status_name(error->status), log_quoted(error->text));
    enter(shell, PROTO_ENGINE_FAILED);
    shell_send_loads(shell);
    end_soon(shell);
}

/* From now on nothing new; what runs is cancelled, and routers take it elsewhere. */
static void stop(struct shell *shell, const char *why)
{
    if (shell->phase >= PROTO_ENGINE_DRAINING)
        return;
    LOG_I("engine", "stopping", "why=%s streams=%zu", why, shell->streams.count);
    enter(shell, PROTO_ENGINE_DRAINING);
    shell_send_loads(shell);
    shell_cancel_all(shell);
    struct command *command = mem_new(struct command);
    command->kind = COMMAND_STOP;
    if (compute_send(&shell->compute, command) != STATUS_OK) {
        mem_free(command);
        end_soon(shell); /* the engine's thread is stuck: end without it */
    }
}

static void on_signal(struct loop_signals *signals, int number)
{
    stop(signals->context, number == 15 ? "sigterm" : "sigint");
}

static void on_end(struct loop_timer *timer)
{
    loop_stop(&((struct shell *)timer->context)->loop);
}

static void on_load_due(struct loop_timer *timer)
{
    struct shell *shell = timer->context;
    if (shell->server != NULL)
        shell_send_loads(shell);
    report_state(shell);
}

static void agent_connected(void *context)
{
    report_state(context);
}

static void agent_received(void *context, struct bytes frame)
{
    struct shell *shell = context;
    struct arena arena;
    struct proto_message message;
    struct error error = {0};
    arena_init(&arena, 1 << 20);
    if (proto_decode(frame, &arena, &message, &error) != STATUS_OK)
        LOG_W("engine", "frame_refused", "from=agent detail=%s", log_quoted(error.text));
    else if (message.opcode == PROTO_ENGINE_STOP && message.any.engine_stop.epoch == (uint64_t)shell->options.epoch)
        stop(shell, "agent");
    arena_free(&arena);
}

static void become_ready(struct shell *shell, const struct report *report)
{
    shell->info = report->info;
    shell->load = report->load;
    if (shell->phase != PROTO_ENGINE_LOADING)
        return; /* told to stop meanwhile */
    const struct bus_server_config config = {.endpoint = shell->options.listen,
                                             .frame_bytes_max = FRAME_MAX,
                                             .queue_max = QUEUE_MAX,
                                             .context = shell,
                                             .received = shell_router_received,
                                             .closed = shell_router_closed};
    struct error error = {0};
    members_allow(&shell->members, shell->bus, 1u << MEMBER_ROUTER);
    if (bus_serve(shell->bus, &config, &shell->server, &error) != STATUS_OK) {
        fail(shell, &error);
        return;
    }
    LOG_I("engine", "ready",
          "replica=%s model=%s class=%016" PRIx64 " cpu=%s context_tokens=%" PRIu32 " pool_tokens=%" PRIu64,
          shell->options.replica, shell->model_name, shell->info.class_id, shell->info.cpu_path,
          shell->info.context_tokens, shell->info.pool_tokens);
    enter(shell, PROTO_ENGINE_READY);
}

static void take_report(struct shell *shell, const struct report *report)
{
    switch (report->kind) {
    case REPORT_READY:
        become_ready(shell, report);
        break;
    case REPORT_FAILED:
        shell->compute_over = true;
        fail(shell, &report->error);
        break;
    case REPORT_STEP:
        shell_take_step(shell, report);
        break;
    case REPORT_REFUSED:
        shell_take_refusal(shell, report);
        break;
    case REPORT_SNAPSHOT:
        shell_take_snapshot(shell, report);
        break;
    case REPORT_ENDED:
        shell->compute_over = true;
        enter(shell, PROTO_ENGINE_STOPPED);
        end_soon(shell);
        break;
    }
}

static void on_reports(struct loop_wake *wake)
{
    struct shell *shell = wake->context;
    for (struct report *report; (report = compute_receive(&shell->compute)) != NULL;) {
        take_report(shell, report);
        report_free(report);
    }
}

/* The job's secret, hex in <job>/token; absent: none (tests without an agent). */
static enum status read_token(struct shell *shell, struct error *error)
{
    if (shell->options.job == NULL)
        return STATUS_OK;
    char *path = file_join(shell->options.job, "token");
    struct buf text;
    buf_init(&text, 256);
    enum status status = file_exists(path) ? file_read(path, 256, &text, error) : STATUS_NOT_FOUND;
    if (status == STATUS_OK) {
        status = crypto_unhex(shell->token, sizeof(shell->token), buf_text(&text));
        if (status != STATUS_OK)
            status = error_set(error, status, "%s is no token", path);
        shell->token_length = sizeof(shell->token);
    }
    crypto_wipe(text.data, text.length);
    buf_free(&text);
    mem_free(path);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static enum status dial_agent(struct shell *shell, struct error *error)
{
    if (shell->options.agent_endpoint == NULL)
        return STATUS_OK;
    struct bus_client_config config = {.endpoint = shell->options.agent_endpoint,
                                       .frame_bytes_max = FRAME_MAX,
                                       .queue_max = 64,
                                       .context = shell,
                                       .received = agent_received,
                                       .connected = agent_connected};
    memcpy(config.server_key, shell->identity.keys.public_key, CURVE_KEY_BYTES); /* one key for all of a node */
    return bus_dial(shell->bus, &config, &shell->agent, error);
}

static enum status start_engine(struct shell *shell, struct error *error)
{
    const struct shell_options *options = &shell->options;
    const struct engine_config config = {.cpu_path = options->cpu,
                                         .threads = (unsigned)options->threads,
                                         .kv_type = (enum decoder_kv_type)options->kv_type,
                                         .pool_tokens = (uint64_t)options->pool_tokens,
                                         .context_tokens = (uint32_t)options->context,
                                         .streams_max = (uint32_t)options->streams,
                                         .step_tokens_max = (uint32_t)options->step_tokens,
                                         .step_budget_us = (uint64_t)options->step_ms * 1000};
    return compute_start(&shell->compute, options->model, &config, (int)options->nice, &shell->wake, error);
}

static enum status read_files(struct shell *shell, struct error *error)
{
    enum status status = identity_read(shell->options.identity, &shell->identity, error);
    if (status == STATUS_OK)
        status = members_read(shell->options.members, &shell->members, error);
    if (status == STATUS_OK)
        status = read_token(shell, error);
    return status;
}

enum status shell_open(struct shell *shell, const struct shell_options *options, struct error *error)
{
    *shell = (struct shell){.options = *options};
    if (crypto_init() != STATUS_OK)
        return error_set(error, STATUS_IO, "the cryptography library does not start");
    crypto_random(&shell->incarnation, sizeof(shell->incarnation));
    shell->incarnation |= 1; /* never 0, which means none */
    if (options->model_name != NULL)
        snprintf(shell->model_name, sizeof(shell->model_name), "%s", options->model_name);
    else
        replica_model_name(options->model, shell->model_name, sizeof(shell->model_name));
    buf_init(&shell->frame, FRAME_MAX);
    map_init(&shell->routers, ROUTERS_MAX);
    map_init(&shell->streams, STREAMS_MAX);
    enum status status = read_files(shell, error);
    if (status == STATUS_OK)
        status = loop_init(&shell->loop, error);
    if (status != STATUS_OK)
        goto forget_files;
    status = bus_open(&shell->loop, &shell->identity.keys, &shell->bus, error);
    if (status != STATUS_OK)
        goto close_loop;
    status = dial_agent(shell, error);
    if (status != STATUS_OK)
        goto close_bus;
    loop_signals_init(&shell->loop, &shell->signals, shell, on_signal);
    loop_timer_init(&shell->loop, &shell->load_timer, shell, on_load_due);
    loop_timer_init(&shell->loop, &shell->end_timer, shell, on_end);
    loop_wake_init(&shell->loop, &shell->wake, shell, on_reports);
    loop_timer_start(&shell->load_timer, LOAD_MS, LOAD_MS);
    enter(shell, PROTO_ENGINE_LOADING);
    status = start_engine(shell, error);
    CHECK(status == STATUS_OK); /* one thread: without it there is nothing to be */
    return STATUS_OK;

close_bus:
    bus_close(shell->bus);
close_loop:
    loop_close(&shell->loop);
forget_files:
    members_free(&shell->members);
    buf_free(&shell->frame);
    return status;
}

int shell_run(struct shell *shell)
{
    loop_run(&shell->loop);
    return shell->phase == PROTO_ENGINE_STOPPED ? 0 : 1;
}

void shell_close(struct shell *shell)
{
    if (shell->compute_over) /* else its thread is stuck, or computes for nobody: it ends with the process */
        compute_join(&shell->compute);
    loop_timer_close(&shell->load_timer);
    loop_timer_close(&shell->end_timer);
    loop_wake_close(&shell->wake);
    loop_signals_close(&shell->signals);
    bus_close(shell->bus);
    loop_close(&shell->loop);
    shell_forget_routers(shell);
    members_free(&shell->members);
    buf_free(&shell->frame);
    crypto_wipe(&shell->identity, sizeof(shell->identity));
}
