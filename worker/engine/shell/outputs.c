/* worker/engine/shell/outputs.c: what the engine thread produced, on its way to routers and agent. */
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "worker/engine/shell/shell.h"

enum { SNAPSHOT_PART_HASHES = 65536, ROUTER_QUEUE_MAX = 8192 };

/* The tokens of one step that belong to one router, as one message. */
static void send_tokens(struct shell *shell, uint64_t channel, const struct output *output)
{
    struct proto_tokens message = {.epoch = (uint64_t)shell->options.epoch};
    message.streams = mem_new_array(struct proto_stream_tokens, output->events_count);
    for (size_t i = 0; i < output->events_count; i++) {
        const struct engine_event *event = &output->events[i];
        const struct shell_stream *stream = shell_stream_of(shell, event->handle);
        if (event->kind == ENGINE_TOKEN && stream != NULL && stream->channel == channel) {
            message.streams[message.streams_count++] = (struct proto_stream_tokens){.stream = stream->stream,
                                                                                    .attempt = stream->attempt,
                                                                                    .position = event->position,
                                                                                    .ids = &event->id,
                                                                                    .ids_count = 1};
        }
    }
    if (message.streams_count > 0) {
        shell_send(shell, channel, PROTO_TOKENS, &message);
    }
    mem_free(message.streams);
}

static void send_finished(struct shell *shell, const struct engine_event *event)
{
    struct shell_stream *stream = shell_stream_of(shell, event->handle);
    if (stream == NULL) {
        return; /* its router is gone, or it was submitted again */
    }
    const struct proto_finished finished = {.epoch = (uint64_t)shell->options.epoch,
                                            .stream = stream->stream,
                                            .attempt = stream->attempt,
                                            .reason = event->finish,
                                            .cached_tokens = event->cached_tokens,
                                            .completion_tokens = event->completion_tokens};
    shell_send(shell, stream->channel, PROTO_FINISHED, &finished);
    shell_stream_forget(shell, stream);
}

static void send_kv_events(struct shell *shell, const struct output *output)
{
    if (output->kv_events_count == 0) {
        return;
    }
    uint8_t *stored = mem_alloc(output->kv_events_count * 16), *removed = mem_alloc(output->kv_events_count * 16);
    size_t stored_count = 0, removed_count = 0;
    shell->kv_sequence++;
    for (size_t i = 0; i < output->kv_events_count; i++) {
        const struct engine_kv_event *event = &output->kv_events[i];
        memcpy(event->stored ? stored + 16 * stored_count++ : removed + 16 * removed_count++, event->hash, 16);
    }
    const struct proto_kv_events message = {.epoch = (uint64_t)shell->options.epoch,
                                            .generation = shell->incarnation,
                                            .sequence = shell->kv_sequence,
                                            .stored = bytes_of(stored, 16 * stored_count),
                                            .removed = bytes_of(removed, 16 * removed_count)};
    for (size_t i = 0; i < SHELL_ROUTERS_MAX; i++) {
        if (shell->routers[i].channel != 0) {
            shell_send(shell, shell->routers[i].channel, PROTO_KV_EVENTS, &message);
        }
    }
    mem_free(stored);
    mem_free(removed);
}

static void send_snapshot(struct shell *shell, const struct output *output)
{
    uint64_t parts = MAX_OF((output->hashes_count + SNAPSHOT_PART_HASHES - 1) / SNAPSHOT_PART_HASHES, (size_t)1);
    for (uint64_t part = 0; part < parts; part++) {
        size_t begin = part * SNAPSHOT_PART_HASHES;
        size_t count = MIN_OF(output->hashes_count - begin, (size_t)SNAPSHOT_PART_HASHES);
        const struct proto_kv_snapshot message = {.epoch = (uint64_t)shell->options.epoch,
                                                  .generation = shell->incarnation,
                                                  .sequence = shell->kv_sequence,
                                                  .part = part,
                                                  .parts = parts,
                                                  .hashes = bytes_of(output->hashes + 16 * begin, 16 * count)};
        shell_send(shell, output->channel, PROTO_KV_SNAPSHOT, &message);
    }
}

static void on_step(struct shell *shell, const struct output *output)
{
    shell->load = output->load;
    send_kv_events(shell, output);
    for (size_t i = 0; i < SHELL_ROUTERS_MAX && output->events_count > 0; i++) {
        if (shell->routers[i].channel != 0) {
            send_tokens(shell, shell->routers[i].channel, output);
        }
    }
    for (size_t i = 0; i < output->events_count; i++) {
        if (output->events[i].kind == ENGINE_FINISHED) {
            send_finished(shell, &output->events[i]);
        }
    }
}

static void on_refused(struct shell *shell, const struct output *output)
{
    struct shell_stream *stream = shell_stream_of(shell, output->handle);
    if (stream == NULL) {
        return;
    }
    enum status status = output->error.status;
    const struct proto_refused refused = {.epoch = (uint64_t)shell->options.epoch,
                                          .stream = stream->stream,
                                          .attempt = stream->attempt,
                                          .elsewhere = status != STATUS_INVALID && status != STATUS_LIMIT,
                                          .status = bytes_of_text(status_name(status)),
                                          .detail = bytes_of_text(output->error.text)};
    shell_send(shell, stream->channel, PROTO_REFUSED, &refused);
    shell_stream_forget(shell, stream);
}

/* Loaded: routers may come. */
static void on_ready(struct shell *shell, const struct output *output)
{
    struct error error = {0};
    struct bus_server_config config = {.endpoint = shell->options.listen,
                                       .frame_bytes_max = PROTO_FRAME_BYTES_MAX,
                                       .queue_max = ROUTER_QUEUE_MAX,
                                       .context = shell,
                                       .received = shell_router_received,
                                       .closed = shell_router_closed};
    if (shell->phase == PROTO_ENGINE_DRAINING) {
        return; /* told to end while it loaded */
    }
    shell->info = output->info;
    shell->load = output->load;
    if (shell->model_name[0] == '\0') {
        memcpy(shell->model_name, output->model_id, sizeof(output->model_id));
    }
    members_allow(&shell->members, shell->bus, 1u << MEMBER_ROUTER);
    enum status status = bus_serve(shell->bus, &config, &shell->server, &error);
    if (status == STATUS_OK) {
        shell->phase = PROTO_ENGINE_READY;
        status = shell_write_job(shell, &error);
    }
    if (status != STATUS_OK) {
        shell->failure = error;
        shell->phase = PROTO_ENGINE_FAILED;
        shell->exit_code = 1;
        compute_stop(shell->compute);
        return;
    }
    LOG_I("engine", "ready", "replica=%s endpoint=%s class=%016llx cpu=%s context=%u pool_tokens=%llu",
          shell->options.replica, bus_server_endpoint(shell->server), (unsigned long long)shell->info.class_id,
          shell->info.cpu_path, shell->info.context_tokens, (unsigned long long)shell->info.pool_tokens);
}

static void on_failed(struct shell *shell, const struct output *output)
{
    LOG_E("engine", "failed", "detail=%s", log_quoted(output->error.text));
    shell->failure = output->error;
    shell->phase = PROTO_ENGINE_FAILED;
    shell->exit_code = 1;
    shell->stopped = true;
}

static void take_output(struct shell *shell, const struct output *output)
{
    switch (output->kind) {
    case OUTPUT_READY:
        on_ready(shell, output);
        break;
    case OUTPUT_FAILED:
        on_failed(shell, output);
        break;
    case OUTPUT_STEP:
        on_step(shell, output);
        break;
    case OUTPUT_REFUSED:
        on_refused(shell, output);
        break;
    case OUTPUT_SNAPSHOT:
        send_snapshot(shell, output);
        break;
    case OUTPUT_STOPPED:
        shell->stopped = true;
        break;
    }
}

void shell_outputs_ready(void *context)
{
    struct shell *shell = context;
    enum proto_engine_phase before = shell->phase;
    struct output *output;
    while ((output = compute_output(shell->compute)) != NULL) {
        take_output(shell, output);
        output_free(output);
    }
    if (shell->phase != before) {
        shell_report(shell);
    }
    if (shell->phase == PROTO_ENGINE_DRAINING && shell->streams_count == 0 && !shell->stopped) {
        compute_stop(shell->compute);
    }
    if (shell->stopped) {
        loop_timer_start(&shell->stop_timer, 200, 0); /* the last frames get time to leave */
    }
}
