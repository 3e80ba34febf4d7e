/* worker/engine/shell/shell.c: start, timers and end of shoal-engine. */
#include "worker/engine/shell/shell.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

enum { LOAD_EVERY_MS = 100, DRAIN_MAX_MS = 3000, AGENT_QUEUE_MAX = 64 };

void shell_send_load(struct shell *shell)
{
    const struct engine_load *load = &shell->load;
    const struct proto_load message = {.epoch = (uint64_t)shell->options.epoch,
                                       .incarnation = shell->incarnation,
                                       .step = load->step,
                                       .running = load->running,
                                       .waiting = load->waiting,
                                       .queued_tokens = load->queued_tokens,
                                       .blocks_total = load->blocks_total,
                                       .blocks_used = load->blocks_used,
                                       .blocks_cached = load->blocks_cached,
                                       .step_base_s = load->step_base_s,
                                       .step_token_s = load->step_token_s,
                                       .step_kv_token_s = load->step_kv_token_s,
                                       .kv_sequence = shell->kv_sequence,
                                       .draining = shell->phase != PROTO_ENGINE_READY};
    for (size_t i = 0; i < SHELL_ROUTERS_MAX; i++) {
        if (shell->routers[i].channel != 0) {
            shell_send(shell, shell->routers[i].channel, PROTO_LOAD, &message);
        }
    }
}

static void load_due(struct loop_timer *timer)
{
    struct shell *shell = timer->context;
    if (shell->server != NULL) {
        shell_send_load(shell);
    }
    shell_report(shell);
}

static void stop_due(struct loop_timer *timer)
{
    struct shell *shell = timer->context;
    if (!shell->stopped) { /* draining took too long: end without the rest */
        LOG_W("engine", "drain_cut", "streams=%zu", shell->streams_count);
        compute_stop(shell->compute);
        return;
    }
    loop_stop(&shell->loop);
}

/* Takes nothing new; the streams that run are cancelled, so that their routers take them elsewhere. */
void shell_drain(struct shell *shell)
{
    if (shell->phase == PROTO_ENGINE_DRAINING || shell->phase == PROTO_ENGINE_FAILED) {
        return;
    }
    bool loaded = shell->phase == PROTO_ENGINE_READY;
    shell->phase = PROTO_ENGINE_DRAINING;
    if (!loaded) {
        compute_stop(shell->compute); /* loading can't be interrupted, but nothing is served after it */
        return;
    }
    shell_send_load(shell);
    shell_report(shell);
    LIST_FOR_EACH(node, &shell->streams)
    {
        const struct shell_stream *stream = LIST_ENTRY(node, struct shell_stream, link);
        if (compute_cancel(shell->compute, stream->handle) != STATUS_OK) {
            LOG_W("engine", "cancel_lost", "stream=%" PRIu64, stream->stream);
        }
    }
    if (shell->streams_count == 0) {
        compute_stop(shell->compute);
    }
    loop_timer_start(&shell->stop_timer, DRAIN_MAX_MS, 0);
}

static void on_stop(struct loop_signals *signals, int number)
{
    LOG_I("engine", "stopping", "signal=%d", number);
    shell_drain(signals->context);
}

static enum status dial_agent(struct shell *shell, struct error *error)
{
    if (shell->options.agent_endpoint == NULL) {
        return STATUS_OK;
    }
    struct bus_client_config config = {.endpoint = shell->options.agent_endpoint,
                                       .frame_bytes_max = PROTO_FRAME_BYTES_MAX,
                                       .queue_max = AGENT_QUEUE_MAX,
                                       .context = shell,
                                       .received = shell_agent_received};
    memcpy(config.server_key, shell->identity.keys.public_key, CURVE_KEY_BYTES); /* the agent has the same key */
    return bus_dial(shell->bus, &config, &shell->agent, error);
}

static enum status start_compute(struct shell *shell, struct error *error)
{
    const struct shell_options *options = &shell->options;
    const struct compute_config config = {
        .model_path = options->model,
        .nice = (int)options->nice,
        .engine = {.cpu_path = options->cpu_path,
                   .threads = (unsigned)options->threads,
                   .kv_type = (enum decoder_kv_type)options->kv_type,
                   .pool_tokens = (uint64_t)options->pool_tokens,
                   .context_tokens = (uint32_t)options->context_tokens,
                   .streams_max = (uint32_t)options->streams_max,
                   .step_budget_us = (uint64_t)options->step_ms * 1000},
        .loop = &shell->loop,
        .context = shell,
        .outputs_ready = shell_outputs_ready,
    };
    shell->phase = PROTO_ENGINE_LOADING;
    return compute_start(&config, &shell->compute, error);
}

enum status shell_open(struct shell *shell, const struct shell_options *options, struct error *error)
{
    shell->options = *options;
    shell->incarnation = clock_wall_us();
    list_init(&shell->streams);
    map_init(&shell->by_handle, SHELL_STREAMS_MAX);
    map_init(&shell->by_name, SHELL_STREAMS_MAX);
    if (options->model_name != NULL) {
        snprintf(shell->model_name, sizeof(shell->model_name), "%s", options->model_name);
    }
    enum status status = crypto_init();
    if (status != STATUS_OK) {
        return error_set(error, status, "libsodium can't be initialised");
    }
    if ((options->job != NULL && (status = file_make_dirs(options->job, 0700, error)) != STATUS_OK) ||
        (status = identity_read(options->identity, &shell->identity, error)) != STATUS_OK ||
        (status = members_read(options->members, &shell->members, error)) != STATUS_OK ||
        (status = shell_read_token(shell, error)) != STATUS_OK ||
        (status = shell_write_job(shell, error)) != STATUS_OK ||
        (status = loop_init(&shell->loop, error)) != STATUS_OK ||
        (status = bus_open(&shell->loop, &shell->identity.keys, &shell->bus, error)) != STATUS_OK ||
        (status = dial_agent(shell, error)) != STATUS_OK || (status = start_compute(shell, error)) != STATUS_OK) {
        return status;
    }
    loop_signals_init(&shell->loop, &shell->signals, shell, on_stop);
    loop_timer_init(&shell->loop, &shell->load_timer, shell, load_due);
    loop_timer_init(&shell->loop, &shell->stop_timer, shell, stop_due);
    loop_timer_start(&shell->load_timer, LOAD_EVERY_MS, LOAD_EVERY_MS);
    LOG_I("engine", "started", "replica=%s epoch=%" PRId64 " model=%s threads=%" PRId64, options->replica,
          options->epoch, log_quoted(options->model), options->threads);
    return STATUS_OK;
}

int shell_run(struct shell *shell)
{
    loop_run(&shell->loop);
    return shell->exit_code;
}

void shell_close(struct shell *shell)
{
    compute_stop(shell->compute);
    compute_join(shell->compute);
    LIST_FOR_EACH(node, &shell->streams)
    {
        shell_stream_forget(shell, LIST_ENTRY(node, struct shell_stream, link));
    }
    map_free(&shell->by_handle);
    map_free(&shell->by_name);
    loop_timer_close(&shell->load_timer);
    loop_timer_close(&shell->stop_timer);
    loop_signals_close(&shell->signals);
    bus_close(shell->bus);
    loop_close(&shell->loop);
    members_free(&shell->members);
    crypto_wipe(&shell->identity, sizeof(shell->identity));
}
