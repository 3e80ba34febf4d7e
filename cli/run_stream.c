/* run_stream: a stream's ids become text here: detokeniser, then stop strings; and its line of output. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/run.h"

enum { ID_TEXT_MAX = 1 << 20, IDS_MAX = 1 << 20, TEXT_MAX = 256 << 20 };

struct run_stream *run_stream_new(uint64_t handle)
{
    struct run_stream *stream = mem_new(struct run_stream);
    stream->handle = handle;
    buf_init(&stream->id, ID_TEXT_MAX);
    buf_init(&stream->text, TEXT_MAX);
    ids_init(&stream->ids, IDS_MAX);
    return stream;
}

void run_stream_free(struct run_stream *stream)
{
    buf_free(&stream->id);
    buf_free(&stream->text);
    ids_free(&stream->ids);
    stop_free(stream->stop);
    mem_free(stream->failure);
    mem_free(stream);
}

void run_stream_fail(struct run_stream *stream, const char *sentence)
{
    stream->done = true;
    stream->failure = mem_strdup(sentence);
}

enum status run_stream_submit(struct run_stream *stream, const struct run_model *model,
                              const struct run_request *request, struct error *error)
{
    enum status status = stop_new(request->stops, request->stops_count, &stream->stop, error);
    if (status != STATUS_OK)
        return status;
    if (request->stops_count > 0 && model->tokenizer == NULL)
        return error_set(error, STATUS_UNSUPPORTED, "stop strings need a tokenizer, and the model has none");
    stream->has_text = model->tokenizer != NULL;
    if (stream->has_text)
        detok_init(&stream->detok, model->tokenizer, request->continues);
    stream->prompt_tokens = (uint32_t)request->ids.count;
    stream->stop_ids_count = request->stop_ids_count;
    memcpy(stream->stop_ids, request->stop_ids, sizeof(stream->stop_ids));
    const struct engine_request engine_request = {.handle = stream->handle,
                                                  .ids = request->ids.data,
                                                  .ids_count = (uint32_t)request->ids.count,
                                                  .prompt_tokens = (uint32_t)request->ids.count,
                                                  .max_tokens = request->max_tokens,
                                                  .sampling = request->sampling,
                                                  .stop_ids = request->stop_ids,
                                                  .stop_ids_count = request->stop_ids_count,
                                                  .ignore_eos = request->ignore_eos};
    return engine_submit(model->engine, &engine_request, error);
}

/* A stop id ends the stream and is no part of its text (the model's own end ids are control tokens: no text anyway). */
static bool is_stop_id(const struct run_stream *stream, uint32_t id)
{
    for (uint32_t i = 0; i < stream->stop_ids_count; i++)
        if (stream->stop_ids[i] == id)
            return true;
    return false;
}

static void push_text(struct run_stream *stream, struct buf *piece)
{
    stop_push(stream->stop, buf_bytes(piece), &stream->text);
    buf_free(piece);
}

bool run_stream_token(struct run_stream *stream, uint32_t id)
{
    if (ids_push(&stream->ids, id) != STATUS_OK)
        return false; /* a stream is never that long: contexts are shorter */
    if (!stream->has_text || is_stop_id(stream, id))
        return false;
    struct buf piece;
    buf_init(&piece, TEXT_MAX);
    detok_push(&stream->detok, id, &piece);
    push_text(stream, &piece);
    if (!stop_hit(stream->stop))
        return false;
    stream->done = true;
    stream->finish = "stop";
    return true;
}

void run_stream_finish(struct run_stream *stream, const struct engine_event *event)
{
    stream->cached_tokens = event->cached_tokens;
    if (stream->has_text) {
        struct buf piece;
        buf_init(&piece, TEXT_MAX);
        detok_finish(&stream->detok, &piece);
        push_text(stream, &piece);
        stop_finish(stream->stop, &stream->text);
    }
    stream->done = true;
    stream->finish =
        event->finish == ENGINE_FINISH_LENGTH && !(stream->has_text && stop_hit(stream->stop)) ? "length" : "stop";
}

void run_stream_json(const struct run_stream *stream, bool with_id, struct buf *out)
{
    buf_append_u8(out, '{');
    if (with_id) {
        buf_append_text(out, "\"id\": ");
        buf_append_bytes(out, stream->id.length > 0 ? buf_bytes(&stream->id) : BYTES_LITERAL("null"));
        buf_append_text(out, ", ");
    }
    if (stream->failure != NULL) {
        buf_append_text(out, "\"error\": ");
        json_write_text(out, stream->failure);
        buf_append_text(out, "}\n");
        return;
    }
    buf_append_text(out, "\"ids\": [");
    for (size_t i = 0; i < stream->ids.count; i++)
        buf_printf(out, i > 0 ? ", %u" : "%u", stream->ids.data[i]);
    buf_append_text(out, "], \"text\": ");
    json_write_string(out, buf_bytes(&stream->text));
    buf_printf(out, ", \"finish_reason\": \"%s\"}\n", stream->finish);
}

void run_stats_add(struct run_stats *stats, const struct engine_step *step, double seconds)
{
    uint64_t produced = 0;
    for (size_t i = 0; i < step->events_count; i++) {
        produced += step->events[i].kind == ENGINE_TOKEN;
        if (step->events[i].kind == ENGINE_FINISHED) {
            stats->prompts++;
            stats->cached_tokens += step->events[i].cached_tokens;
        }
    }
    if (step->tokens == 0)
        return;
    if (step->tokens == produced) { /* one token a stream: nothing but decoding */
        stats->decode_s += seconds;
        stats->decode_tokens += produced;
    } else {
        stats->prefill_s += seconds;
        stats->prefill_tokens += step->tokens;
    }
}

static double rate(uint64_t count, double seconds)
{
    return seconds > 0 ? (double)count / seconds : 0;
}

void run_stats_print(const struct run_stats *stats, const struct run_model *model)
{
    fprintf(stderr,
            "load %.3f s; prefill %llu tokens in %.3f s (%.1f tok/s); decode %llu tokens in %.3f s (%.1f tok/s); "
            "%llu streams, %llu prompt tokens cached; kernels %s\n",
            model->load_s, (unsigned long long)stats->prefill_tokens, stats->prefill_s,
            rate(stats->prefill_tokens, stats->prefill_s), (unsigned long long)stats->decode_tokens, stats->decode_s,
            rate(stats->decode_tokens, stats->decode_s), (unsigned long long)stats->prompts,
            (unsigned long long)stats->cached_tokens, engine_info(model->engine)->cpu_path);
}
