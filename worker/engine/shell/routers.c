/* worker/engine/shell/routers.c: frames from routers: attach, submit, cancel, snapshot; and the streams' table. */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "worker/engine/shell/shell.h"

enum { ROUTER_ARENA_BYTES = 16 << 20 };

static struct bytes stream_key(uint64_t key[2], uint64_t channel, uint64_t stream)
{
    key[0] = channel;
    key[1] = stream;
    return bytes_of(key, 2 * sizeof(uint64_t));
}

struct shell_stream *shell_stream_of(const struct shell *shell, uint64_t handle)
{
    return map_get_u64(&shell->by_handle, handle);
}

void shell_stream_forget(struct shell *shell, struct shell_stream *stream)
{
    uint64_t key[2];
    struct bytes name = stream_key(key, stream->channel, stream->stream);
    if (map_get(&shell->by_name, name) == stream) {
        (void)map_remove(&shell->by_name, name);
    }
    (void)map_remove_u64(&shell->by_handle, stream->handle);
    list_remove(&stream->link);
    shell->streams_count--;
    mem_free(stream);
}

void shell_send(struct shell *shell, uint64_t channel, enum proto_opcode opcode, const void *message)
{
    struct buf frame;
    struct error error = {0};
    buf_init(&frame, PROTO_FRAME_BYTES_MAX);
    enum status status = proto_encode(&frame, opcode, message, &error);
    if (status == STATUS_OK) {
        status = bus_server_send(shell->server, channel, buf_bytes(&frame));
    }
    if (status != STATUS_OK) {
        /* A router that is gone is noticed by its channel's end; one that is behind loses this and asks again. */
        LOG_D("engine", "unsent", "opcode=%s channel=%llu status=%s", proto_opcode_name(opcode),
              (unsigned long long)channel, status_name(status));
    }
    buf_free(&frame);
}

static void refuse(struct shell *shell, uint64_t channel, const struct proto_submit *submit, enum status status,
                   bool elsewhere, const char *detail)
{
    const struct proto_refused refused = {.epoch = (uint64_t)shell->options.epoch,
                                          .stream = submit->stream,
                                          .attempt = submit->attempt,
                                          .elsewhere = elsewhere,
                                          .status = bytes_of_text(status_name(status)),
                                          .detail = bytes_of_text(detail)};
    shell_send(shell, channel, PROTO_REFUSED, &refused);
}

static void on_attach(struct shell *shell, uint64_t channel, const struct proto_attach *attach)
{
    struct shell_router *router = NULL;
    for (size_t i = 0; i < SHELL_ROUTERS_MAX; i++) {
        if (shell->routers[i].channel == channel || (router == NULL && shell->routers[i].channel == 0)) {
            router = &shell->routers[i];
        }
    }
    if (router == NULL) {
        LOG_W("engine", "router_not_attached", "reason=limit limit=%d", SHELL_ROUTERS_MAX);
        return;
    }
    router->channel = channel;
    memset(router->name, 0, sizeof(router->name));
    memcpy(router->name, attach->router.data, attach->router.length);
    LOG_I("engine", "router_attached", "router=%s channel=%llu", router->name, (unsigned long long)channel);
    const struct proto_hello hello = {.replica = bytes_of_text(shell->options.replica),
                                      .model = bytes_of_text(shell->model_name),
                                      .epoch = (uint64_t)shell->options.epoch,
                                      .incarnation = shell->incarnation,
                                      .class_id = shell->info.class_id,
                                      .context_tokens = shell->info.context_tokens,
                                      .pool_tokens = shell->info.pool_tokens,
                                      .block_tokens = shell->info.block_tokens,
                                      .cache_salt = bytes_of(shell->info.cache_salt, 32)};
    shell_send(shell, channel, PROTO_HELLO, &hello);
    shell_send_load(shell);
}

/* Values that the codec lets pass but the sampler must not see. */
static const char *fault_of(const struct proto_submit *submit)
{
    const struct proto_sampling *sampling = &submit->sampling;
    if (submit->ids_count == 0 || submit->prompt_tokens == 0 || submit->prompt_tokens > submit->ids_count) {
        return "a prompt needs ids, and prompt_tokens of them";
    }
    if (submit->cache_key.length != 32) {
        return "cache_key must have 32 bytes";
    }
    if (submit->max_tokens == 0) {
        return "max_tokens must be at least 1";
    }
    if (!(sampling->temperature >= 0 && sampling->temperature <= 100) ||
        !(sampling->top_p >= 0 && sampling->top_p <= 1) || !(sampling->min_p >= 0 && sampling->min_p < 1)) {
        return "temperature, top_p or min_p is out of range";
    }
    return NULL;
}

static struct engine_request request_of(const struct proto_submit *submit, uint64_t handle)
{
    struct engine_request request = {
        .handle = handle,
        .ids = submit->ids,
        .ids_count = (uint32_t)submit->ids_count,
        .prompt_tokens = (uint32_t)submit->prompt_tokens,
        .max_tokens = (uint32_t)submit->max_tokens,
        .sampling = {.temperature = (float)submit->sampling.temperature,
                     .top_k = (uint32_t)submit->sampling.top_k,
                     .top_p = submit->sampling.top_p > 0 ? (float)submit->sampling.top_p : 1.0F,
                     .min_p = (float)submit->sampling.min_p,
                     .seed = submit->sampling.seed,
                     .choice = (uint32_t)submit->choice},
        .stop_ids = submit->stop_ids,
        .stop_ids_count = (uint32_t)submit->stop_ids_count,
        .priority = (uint8_t)submit->priority,
        .ignore_eos = submit->ignore_eos,
    };
    memcpy(request.cache_key, submit->cache_key.data, sizeof(request.cache_key));
    return request;
}

/* An earlier attempt of the same stream on this channel ends unheard. */
static void drop_earlier(struct shell *shell, uint64_t channel, uint64_t number)
{
    uint64_t key[2];
    struct shell_stream *earlier = map_get(&shell->by_name, stream_key(key, channel, number));
    if (earlier != NULL) {
        if (compute_cancel(shell->compute, earlier->handle) != STATUS_OK) {
            LOG_W("engine", "cancel_lost", "stream=%llu", (unsigned long long)number);
        }
        shell_stream_forget(shell, earlier);
    }
}

static struct shell_stream *add_stream(struct shell *shell, uint64_t channel, const struct proto_submit *submit)
{
    struct shell_stream *stream = mem_new(struct shell_stream);
    uint64_t key[2];
    *stream = (struct shell_stream){
        .handle = ++shell->next_handle, .channel = channel, .stream = submit->stream, .attempt = submit->attempt};
    if (map_put_u64(&shell->by_handle, stream->handle, stream) != STATUS_OK ||
        map_put(&shell->by_name, stream_key(key, channel, submit->stream), stream) != STATUS_OK) {
        (void)map_remove_u64(&shell->by_handle, stream->handle);
        mem_free(stream);
        return NULL;
    }
    list_push_back(&shell->streams, &stream->link);
    shell->streams_count++;
    return stream;
}

static void on_submit(struct shell *shell, uint64_t channel, const struct proto_submit *submit)
{
    const char *fault = fault_of(submit);
    if (submit->epoch != (uint64_t)shell->options.epoch) {
        refuse(shell, channel, submit, STATUS_CONFLICT, true, "this engine runs another epoch");
        return;
    }
    if (shell->phase != PROTO_ENGINE_READY) {
        refuse(shell, channel, submit, STATUS_BUSY, true, "this engine is draining");
        return;
    }
    if (fault != NULL) {
        refuse(shell, channel, submit, STATUS_INVALID, false, fault);
        return;
    }
    drop_earlier(shell, channel, submit->stream);
    struct shell_stream *stream = add_stream(shell, channel, submit);
    if (stream == NULL) {
        refuse(shell, channel, submit, STATUS_FULL, true, "too many streams");
        return;
    }
    const struct engine_request request = request_of(submit, stream->handle);
    enum status status = compute_submit(shell->compute, &request);
    if (status != STATUS_OK) {
        refuse(shell, channel, submit, status, true, "the engine's queue is full");
        shell_stream_forget(shell, stream);
    }
}

static void on_cancel(struct shell *shell, uint64_t channel, const struct proto_cancel *cancel)
{
    uint64_t key[2];
    const struct shell_stream *stream = map_get(&shell->by_name, stream_key(key, channel, cancel->stream));
    if (stream == NULL || stream->attempt != cancel->attempt) {
        return; /* it ended already */
    }
    if (compute_cancel(shell->compute, stream->handle) != STATUS_OK) {
        LOG_W("engine", "cancel_lost", "stream=%llu", (unsigned long long)cancel->stream);
    }
}

static void on_snapshot_ask(struct shell *shell, uint64_t channel)
{
    if (compute_snapshot(shell->compute, channel) != STATUS_OK) {
        LOG_D("engine", "snapshot_not_taken", "channel=%llu", (unsigned long long)channel); /* the router asks again */
    }
}

void shell_router_received(void *context, const struct bus_peer *peer, struct bytes frame)
{
    struct shell *shell = context;
    struct arena arena;
    struct proto_message message;
    struct error error = {0};
    arena_init(&arena, ROUTER_ARENA_BYTES);
    if (proto_decode(frame, &arena, &message, &error) != STATUS_OK) {
        LOG_W("engine", "frame_refused", "channel=%llu detail=%s", (unsigned long long)peer->channel,
              log_quoted(error.text));
    } else if (message.opcode == PROTO_ATTACH) {
        on_attach(shell, peer->channel, &message.any.attach);
    } else if (message.opcode == PROTO_SUBMIT) {
        on_submit(shell, peer->channel, &message.any.submit);
    } else if (message.opcode == PROTO_CANCEL) {
        on_cancel(shell, peer->channel, &message.any.cancel);
    } else if (message.opcode == PROTO_KV_SNAPSHOT_ASK) {
        on_snapshot_ask(shell, peer->channel);
    } else {
        LOG_W("engine", "message_refused", "opcode=%s", proto_opcode_name(message.opcode));
    }
    arena_free(&arena);
}

void shell_router_closed(void *context, uint64_t channel)
{
    struct shell *shell = context;
    for (size_t i = 0; i < SHELL_ROUTERS_MAX; i++) {
        if (shell->routers[i].channel == channel) {
            LOG_I("engine", "router_gone", "router=%s", shell->routers[i].name);
            shell->routers[i] = (struct shell_router){0};
        }
    }
    LIST_FOR_EACH (node, &shell->streams) {
        struct shell_stream *stream = LIST_ENTRY(node, struct shell_stream, link);
        if (stream->channel == channel) {
            if (compute_cancel(shell->compute, stream->handle) != STATUS_OK) {
                LOG_W("engine", "cancel_lost", "stream=%llu", (unsigned long long)stream->stream);
            }
            shell_stream_forget(shell, stream);
        }
    }
}
