/* worker/engine/shell/channels.c: what routers say becomes commands; what the engine's thread reports becomes messages.
 *
 * A stream is known by (channel, stream, attempt) outside and by a handle of our own inside, so that nothing a router
 * numbers can meet another router's. Whoever is too slow to take its tokens loses its streams: a gap would be worse. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "worker/engine/shell/shell.h"

enum { ARENA_BYTES_MAX = 32 << 20, ROUTERS_MAX = 1024, SNAPSHOT_PART_HASHES = 32768, EVENT_HASHES_MAX = 32768 };

static struct bytes text_of(const char *text)
{
    return bytes_of_text(text);
}

static void drop_streams(struct shell *shell, const struct shell_router *router);

/* False: the router did not get it. */
static bool tell(struct shell *shell, struct shell_router *router, enum proto_opcode opcode, const void *message)
{
    struct error error = {0};
    buf_clear(&shell->frame);
    enum status status = proto_encode(&shell->frame, opcode, message, &error);
    if (status != STATUS_OK) {
        LOG_E("engine", "unencodable", "message=%s detail=%s", proto_opcode_name(opcode), log_quoted(error.text));
        return false;
    }
    status = bus_server_send(shell->server, router->channel, buf_bytes(&shell->frame));
    if (status == STATUS_FULL)
        LOG_W("engine", "router_slow", "router=%s message=%s", router->name, proto_opcode_name(opcode));
    return status == STATUS_OK;
}

/* Commands. A full ring means that the engine's thread is far behind. */

static void send_cancel(struct shell *shell, uint64_t handle)
{
    struct command *command = mem_new(struct command);
    command->kind = COMMAND_CANCEL;
    command->handle = handle;
    if (compute_send(&shell->compute, command) == STATUS_OK)
        return;
    mem_free(command); /* it runs to its end; its channel is gone or will say so again */
    LOG_W("engine", "cancel_lost", "handle=%" PRIu64, handle);
}

static struct shell_stream *find_stream(const struct shell *shell, const struct shell_router *router, uint64_t number)
{
    size_t at = 0;
    void *value;
    while (map_next(&shell->streams, &at, NULL, &value)) {
        struct shell_stream *stream = value;
        if (stream->router == router && stream->stream == number)
            return stream;
    }
    return NULL;
}

static void forget_stream(struct shell *shell, struct shell_stream *stream)
{
    CHECK(map_remove_u64(&shell->streams, stream->handle) == stream);
    mem_free(stream);
}

static void refuse(struct shell *shell, struct shell_router *router, uint64_t stream, uint64_t attempt,
                   enum status status, const char *detail)
{
    bool elsewhere = status == STATUS_FULL || status == STATUS_BUSY || status == STATUS_CONFLICT;
    const struct proto_refused refused = {.epoch = (uint64_t)shell->options.epoch,
                                          .stream = stream,
                                          .attempt = attempt,
                                          .elsewhere = elsewhere,
                                          .status = text_of(status_name(status)),
                                          .detail = text_of(detail)};
    LOG_D("engine", "refused", "router=%s status=%s detail=%s", router->name, status_name(status), log_quoted(detail));
    (void)tell(shell, router, PROTO_REFUSED, &refused);
}

static struct command *submit_command(const struct proto_submit *submit, uint64_t handle)
{
    struct command *command = mem_alloc(sizeof(*command) + submit->ids_count * sizeof(*submit->ids));
    if (submit->ids_count > 0) /* absent arrays are NULL */
        memcpy(command->ids, submit->ids, submit->ids_count * sizeof(*submit->ids));
    if (submit->stop_ids_count > 0)
        memcpy(command->stop_ids, submit->stop_ids, submit->stop_ids_count * sizeof(*submit->stop_ids));
    command->kind = COMMAND_SUBMIT;
    command->handle = handle;
    command->request = (struct engine_request){
        .handle = handle,
        .ids = command->ids,
        .ids_count = (uint32_t)submit->ids_count,
        .prompt_tokens = (uint32_t)submit->prompt_tokens,
        .max_tokens = (uint32_t)submit->max_tokens,
        .sampling = {.temperature = (float)submit->sampling.temperature,
                     .top_k = (uint32_t)submit->sampling.top_k,
                     .top_p = submit->sampling.top_p == 0 ? 1 : (float)submit->sampling.top_p,
                     .min_p = (float)submit->sampling.min_p,
                     .seed = submit->sampling.seed,
                     .choice = (uint32_t)submit->choice},
        .stop_ids = command->stop_ids,
        .stop_ids_count = (uint32_t)submit->stop_ids_count,
        .priority = (uint8_t)submit->priority,
        .ignore_eos = submit->ignore_eos,
    };
    memcpy(command->request.cache_key, submit->cache_key.data, sizeof(command->request.cache_key));
    return command;
}

/* What can be refused without asking the engine. */
static enum status check_submit(const struct shell *shell, const struct proto_submit *submit, struct error *error)
{
    if (submit->epoch != (uint64_t)shell->options.epoch)
        return error_set(error, STATUS_CONFLICT, "epoch %" PRIu64 " is not this engine's %" PRIu64, submit->epoch,
                         (uint64_t)shell->options.epoch);
    if (shell->phase != PROTO_ENGINE_READY)
        return error_set(error, STATUS_BUSY, "the engine takes no new streams");
    if (submit->class_id != 0 && submit->class_id != shell->info.class_id)
        return error_set(error, STATUS_CONFLICT, "the stream began in another numerics class");
    if (submit->cache_key.length != 32)
        return error_set(error, STATUS_INVALID, "a cache key has 32 bytes, not %zu", submit->cache_key.length);
    if (submit->stop_ids_count > COMMAND_STOP_IDS_MAX)
        return error_set(error, STATUS_LIMIT, "%zu stop ids are too many", submit->stop_ids_count);
    return STATUS_OK;
}

static void take_submit(struct shell *shell, struct shell_router *router, const struct proto_submit *submit)
{
    struct error error = {0};
    struct shell_stream *old = find_stream(shell, router, submit->stream);
    enum status status = check_submit(shell, submit, &error);
    if (status == STATUS_OK && old != NULL && old->attempt >= submit->attempt)
        status = error_set(&error, STATUS_CONFLICT, "attempt %" PRIu64 " of the stream is running", old->attempt);
    if (status == STATUS_OK && old != NULL) { /* the router gave up the earlier attempt */
        old->router = NULL;
        send_cancel(shell, old->handle);
    }
    struct command *command = NULL;
    if (status == STATUS_OK) {
        command = submit_command(submit, ++shell->handles);
        struct shell_stream *stream = mem_new(struct shell_stream);
        *stream = (struct shell_stream){
            .handle = shell->handles, .router = router, .stream = submit->stream, .attempt = submit->attempt};
        status = map_put_u64(&shell->streams, stream->handle, stream);
        if (status != STATUS_OK)
            mem_free(stream);
        else if ((status = compute_send(&shell->compute, command)) == STATUS_OK)
            return;
        else
            forget_stream(shell, stream);
        mem_free(command);
        (void)error_set(&error, STATUS_FULL, "the engine has no room for another stream");
    }
    refuse(shell, router, submit->stream, submit->attempt, status, error.text);
}

static void take_cancel(struct shell *shell, struct shell_router *router, const struct proto_cancel *cancel)
{
    const struct shell_stream *stream = find_stream(shell, router, cancel->stream);
    if (stream != NULL && stream->attempt == cancel->attempt)
        send_cancel(shell, stream->handle);
}

static void take_snapshot_ask(struct shell *shell, const struct shell_router *router)
{
    struct command *command = mem_new(struct command);
    command->kind = COMMAND_SNAPSHOT;
    command->handle = router->channel;
    if (compute_send(&shell->compute, command) != STATUS_OK)
        mem_free(command); /* the router asks again */
}

static void say_hello(struct shell *shell, struct shell_router *router, const struct proto_attach *attach)
{
    const struct proto_hello hello = {.replica = text_of(shell->options.replica),
                                      .model = text_of(shell->model_name),
                                      .epoch = (uint64_t)shell->options.epoch,
                                      .incarnation = shell->incarnation,
                                      .class_id = shell->info.class_id,
                                      .context_tokens = shell->info.context_tokens,
                                      .pool_tokens = shell->info.pool_tokens,
                                      .block_tokens = shell->info.block_tokens,
                                      .cache_salt = bytes_of(shell->info.cache_salt, 32)};
    snprintf(router->name, sizeof(router->name), "%.*s", (int)attach->router.length, (const char *)attach->router.data);
    if (!router->attached)
        LOG_I("engine", "router_attached", "router=%s channel=%" PRIu64, router->name, router->channel);
    router->attached = true;
    (void)tell(shell, router, PROTO_HELLO, &hello);
    shell_send_loads(shell);
}

static struct shell_router *router_of(struct shell *shell, uint64_t channel)
{
    struct shell_router *router = map_get_u64(&shell->routers, channel);
    if (router != NULL)
        return router;
    router = mem_new(struct shell_router);
    router->channel = channel;
    if (map_put_u64(&shell->routers, channel, router) == STATUS_OK)
        return router;
    mem_free(router);
    return NULL;
}

void shell_router_received(void *context, const struct bus_peer *peer, struct bytes frame)
{
    struct shell *shell = context;
    struct shell_router *router = router_of(shell, peer->channel);
    struct arena arena;
    struct proto_message message;
    struct error error = {0};
    arena_init(&arena, ARENA_BYTES_MAX);
    enum status status = router == NULL ? error_set(&error, STATUS_LIMIT, "too many routers")
                                        : proto_decode(frame, &arena, &message, &error);
    if (status == STATUS_OK) {
        switch ((int)message.opcode) {
        case PROTO_ATTACH:
            say_hello(shell, router, &message.any.attach);
            break;
        case PROTO_SUBMIT:
            take_submit(shell, router, &message.any.submit);
            break;
        case PROTO_CANCEL:
            take_cancel(shell, router, &message.any.cancel);
            break;
        case PROTO_KV_SNAPSHOT_ASK:
            take_snapshot_ask(shell, router);
            break;
        default:
            status = error_set(&error, STATUS_INVALID, "%s is not for an engine", proto_opcode_name(message.opcode));
        }
    }
    if (status != STATUS_OK)
        LOG_W("engine", "frame_refused", "channel=%" PRIu64 " detail=%s", peer->channel, log_quoted(error.text));
    arena_free(&arena);
}

/* Cancels what the router has; nobody hears of these streams any more. */
static void drop_streams(struct shell *shell, const struct shell_router *router)
{
    size_t at = 0;
    void *value;
    while (map_next(&shell->streams, &at, NULL, &value)) {
        struct shell_stream *stream = value;
        if (stream->router != router)
            continue;
        stream->router = NULL;
        send_cancel(shell, stream->handle);
    }
}

void shell_router_closed(void *context, uint64_t channel)
{
    struct shell *shell = context;
    struct shell_router *router = map_remove_u64(&shell->routers, channel);
    if (router == NULL)
        return;
    LOG_I("engine", "router_gone", "router=%s channel=%" PRIu64, router->name, channel);
    drop_streams(shell, router);
    mem_free(router->tokens);
    mem_free(router);
}

void shell_cancel_all(struct shell *shell)
{
    size_t at = 0;
    void *value;
    while (map_next(&shell->streams, &at, NULL, &value))
        send_cancel(shell, ((struct shell_stream *)value)->handle);
}

void shell_forget_routers(struct shell *shell)
{
    size_t at = 0;
    void *value;
    while (map_next(&shell->streams, &at, NULL, &value))
        mem_free(value);
    at = 0;
    while (map_next(&shell->routers, &at, NULL, &value)) {
        mem_free(((struct shell_router *)value)->tokens);
        mem_free(value);
    }
    map_free(&shell->streams);
    map_free(&shell->routers);
}

/* Reports. */

void shell_send_loads(struct shell *shell)
{
    const struct proto_load load = {.epoch = (uint64_t)shell->options.epoch,
                                    .incarnation = shell->incarnation,
                                    .step = shell->load.step,
                                    .running = shell->load.running,
                                    .waiting = shell->load.waiting,
                                    .queued_tokens = shell->load.queued_tokens,
                                    .blocks_total = shell->load.blocks_total,
                                    .blocks_used = shell->load.blocks_used,
                                    .blocks_cached = shell->load.blocks_cached,
                                    .step_base_s = shell->load.step_base_s,
                                    .step_token_s = shell->load.step_token_s,
                                    .step_kv_token_s = shell->load.step_kv_token_s,
                                    .kv_sequence = shell->kv_sequence,
                                    .draining = shell->phase != PROTO_ENGINE_READY};
    size_t at = 0;
    void *value;
    while (map_next(&shell->routers, &at, NULL, &value)) {
        struct shell_router *router = value;
        if (router->attached)
            (void)tell(shell, router, PROTO_LOAD, &load);
    }
}

static void add_token(struct shell_router *router, const struct shell_stream *stream, const struct engine_event *event)
{
    if (router->tokens_count == router->tokens_capacity) {
        router->tokens_capacity = router->tokens_capacity == 0 ? 16 : 2 * router->tokens_capacity;
        router->tokens = mem_realloc_array(router->tokens, router->tokens_capacity, sizeof(*router->tokens));
    }
    router->tokens[router->tokens_count++] = (struct proto_stream_tokens){.stream = stream->stream,
                                                                          .attempt = stream->attempt,
                                                                          .position = event->position,
                                                                          .ids = &event->id,
                                                                          .ids_count = 1};
}

static void flush_tokens(struct shell *shell, struct shell_router *router)
{
    const struct proto_tokens tokens = {
        .epoch = (uint64_t)shell->options.epoch, .streams = router->tokens, .streams_count = router->tokens_count};
    if (router->tokens_count > 0 && !tell(shell, router, PROTO_TOKENS, &tokens))
        drop_streams(shell, router);
    router->tokens_count = 0;
}

static void send_finished(struct shell *shell, const struct shell_stream *stream, const struct engine_event *event)
{
    static const enum proto_finish reasons[] = {[ENGINE_FINISH_STOP] = PROTO_FINISH_STOP,
                                                [ENGINE_FINISH_LENGTH] = PROTO_FINISH_LENGTH,
                                                [ENGINE_FINISH_CANCELLED] = PROTO_FINISH_CANCELLED,
                                                [ENGINE_FINISH_FAULT] = PROTO_FINISH_FAULT};
    const struct proto_finished finished = {.epoch = (uint64_t)shell->options.epoch,
                                            .stream = stream->stream,
                                            .attempt = stream->attempt,
                                            .reason = reasons[event->finish],
                                            .cached_tokens = event->cached_tokens,
                                            .completion_tokens = event->completion_tokens};
    (void)tell(shell, stream->router, PROTO_FINISHED, &finished);
}

/* Runs of one kind: a router applies a message's two lists in no stated order, and a block may go and come back within
 * a step. */
static void send_kv_run(struct shell *shell, const struct engine_kv_event *events, size_t count)
{
    struct buf hashes;
    buf_init(&hashes, 16 * EVENT_HASHES_MAX);
    for (size_t i = 0; i < count; i++)
        buf_append(&hashes, events[i].hash, 16);
    struct proto_kv_events message = {
        .epoch = (uint64_t)shell->options.epoch, .generation = shell->incarnation, .sequence = ++shell->kv_sequence};
    *(events[0].stored ? &message.stored : &message.removed) = buf_bytes(&hashes);
    size_t at = 0;
    void *value;
    while (map_next(&shell->routers, &at, NULL, &value)) {
        struct shell_router *router = value;
        if (router->attached)
            (void)tell(shell, router, PROTO_KV_EVENTS, &message); /* a lost one is a gap, which asks for a snapshot */
    }
    buf_free(&hashes);
}

static void send_kv_events(struct shell *shell, const struct report *report)
{
    for (size_t from = 0, to; from < report->kv_events_count; from = to) {
        for (to = from + 1; to < report->kv_events_count && to - from < EVENT_HASHES_MAX &&
                            report->kv_events[to].stored == report->kv_events[from].stored;)
            to++;
        send_kv_run(shell, report->kv_events + from, to - from);
    }
}

void shell_take_step(struct shell *shell, const struct report *report)
{
    bool was_busy = shell->load.running + shell->load.waiting > 0;
    shell->load = report->load;
    for (size_t i = 0; i < report->events_count; i++) {
        const struct shell_stream *stream = map_get_u64(&shell->streams, report->events[i].handle);
        if (stream != NULL && stream->router != NULL && report->events[i].kind == ENGINE_TOKEN)
            add_token(stream->router, stream, &report->events[i]);
    }
    size_t at = 0;
    void *value;
    while (map_next(&shell->routers, &at, NULL, &value))
        flush_tokens(shell, value);
    for (size_t i = 0; i < report->events_count; i++) {
        struct shell_stream *stream = map_get_u64(&shell->streams, report->events[i].handle);
        if (stream == NULL || report->events[i].kind != ENGINE_FINISHED)
            continue;
        if (stream->router != NULL)
            send_finished(shell, stream, &report->events[i]);
        forget_stream(shell, stream);
    }
    send_kv_events(shell, report);
    if (was_busy != (shell->load.running + shell->load.waiting > 0))
        shell_send_loads(shell);
}

void shell_take_refusal(struct shell *shell, const struct report *report)
{
    struct shell_stream *stream = map_get_u64(&shell->streams, report->handle);
    if (stream == NULL)
        return;
    if (stream->router != NULL)
        refuse(shell, stream->router, stream->stream, stream->attempt, report->error.status, report->error.text);
    forget_stream(shell, stream);
}

void shell_take_snapshot(struct shell *shell, const struct report *report)
{
    struct shell_router *router = map_get_u64(&shell->routers, report->handle);
    if (router == NULL)
        return;
    size_t parts = (report->hashes_count + SNAPSHOT_PART_HASHES - 1) / SNAPSHOT_PART_HASHES;
    parts = MAX_OF(parts, 1u);
    for (size_t part = 0; part < parts; part++) {
        size_t from = part * SNAPSHOT_PART_HASHES;
        size_t count = MIN_OF(report->hashes_count - from, (size_t)SNAPSHOT_PART_HASHES);
        const struct proto_kv_snapshot snapshot = {.epoch = (uint64_t)shell->options.epoch,
                                                   .generation = shell->incarnation,
                                                   .sequence = shell->kv_sequence,
                                                   .part = part,
                                                   .parts = parts,
                                                   .hashes = bytes_of(report->hashes + from, 16 * count)};
        if (!tell(shell, router, PROTO_KV_SNAPSHOT, &snapshot))
            return; /* the router asks again */
    }
}
