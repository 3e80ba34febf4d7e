/* stream: see stream.h. */
#include "router/stream.h"

#include "base/check.h"
#include "base/mem.h"

enum { STREAM_TEXT_BYTES_MAX = 64 << 20 };

static const char *const state_names[] = {"received",  "encoding", "waiting", "submitted",
                                          "streaming", "parked",   "ending",  "finished"};

const char *stream_state_name(enum stream_state state)
{
    return state_names[state];
}

void stream_move(struct stream *stream, enum stream_state to)
{
    enum { END = 1U << STREAM_FINISHED };
    static const unsigned allowed[] = {
        [STREAM_RECEIVED] = 1U << STREAM_ENCODING | END,
        [STREAM_ENCODING] = 1U << STREAM_WAITING | END,
        [STREAM_WAITING] = 1U << STREAM_SUBMITTED | 1U << STREAM_PARKED | END,
        [STREAM_SUBMITTED] =
            1U << STREAM_STREAMING | 1U << STREAM_WAITING | 1U << STREAM_PARKED | 1U << STREAM_ENDING | END,
        [STREAM_STREAMING] = 1U << STREAM_WAITING | 1U << STREAM_PARKED | 1U << STREAM_ENDING | END,
        [STREAM_PARKED] = 1U << STREAM_WAITING | END,
        [STREAM_ENDING] = END,
        [STREAM_FINISHED] = 0,
    };
    CHECK((allowed[stream->state] & 1U << to) != 0);
    stream->state = to;
}

struct stream *stream_new(uint64_t number, uint64_t now_us)
{
    struct stream *stream = mem_new(struct stream);
    list_init(&stream->node);
    list_init(&stream->on_replica);
    stream->number = number;
    stream->arrived_us = now_us;
    ids_init(&stream->ids, TEXT_MODEL_IDS_MAX);
    buf_init(&stream->text, STREAM_TEXT_BYTES_MAX);
    return stream;
}

void stream_free(struct stream *stream)
{
    CHECK(stream->replica == NULL && !stream->encoding);
    list_remove(&stream->node);
    openai_request_free(&stream->request);
    ids_free(&stream->ids);
    stop_free(stream->stop);
    buf_free(&stream->text);
    text_model_drop(stream->words);
    mem_free(stream);
}

bool stream_on_replica(const struct stream *stream)
{
    return stream->state == STREAM_SUBMITTED || stream->state == STREAM_STREAMING || stream->state == STREAM_ENDING;
}

bool stream_begin_text(struct stream *stream, struct openai_error *error)
{
    struct error why = {0};
    if (stop_new(stream->request.stop, stream->request.stop_count, &stream->stop, &why) != STATUS_OK) {
        stream->stop = NULL;
        return openai_fail(error, 400, "invalid_value", "stop", "Invalid 'stop': %.300s", why.text);
    }
    detok_init(&stream->detok, stream->words->tokenizer, stream->request.kind == OPENAI_COMPLETION);
    return true;
}

bool stream_awaits(const struct stream *stream, const struct replica *replica, uint64_t epoch, uint64_t attempt)
{
    return stream_on_replica(stream) && stream->replica == replica && stream->epoch == epoch &&
           stream->attempt == attempt;
}

static void take_id(struct stream *stream, uint32_t id, struct buf *scratch)
{
    buf_clear(scratch);
    detok_push(&stream->detok, id, scratch);
    stop_push(stream->stop, buf_bytes(scratch), &stream->text);
}

enum stream_took stream_take(struct stream *stream, uint64_t position, const uint32_t *ids, size_t count)
{
    if (position > stream->ids.count) {
        return STREAM_GAP;
    }
    struct buf scratch;
    buf_init(&scratch, STREAM_TEXT_BYTES_MAX);
    enum stream_took took = STREAM_TOOK;
    /* Beyond max_tokens nothing is taken, whatever an engine sends. */
    size_t end = (size_t)stream->prompt_tokens + stream->max_tokens;
    for (size_t i = stream->ids.count - position; i < count && took == STREAM_TOOK && stream->ids.count < end; i++) {
        if (ids_push(&stream->ids, ids[i]) != STATUS_OK) {
            break;
        }
        take_id(stream, ids[i], &scratch);
        if (stop_hit(stream->stop)) {
            took = STREAM_STOPPED;
        }
    }
    buf_free(&scratch);
    return took;
}

void stream_flush(struct stream *stream)
{
    if (stop_hit(stream->stop)) {
        return;
    }
    struct buf scratch;
    buf_init(&scratch, STREAM_TEXT_BYTES_MAX);
    detok_finish(&stream->detok, &scratch);
    stop_push(stream->stop, buf_bytes(&scratch), &stream->text);
    stop_finish(stream->stop, &stream->text);
    buf_free(&scratch);
}

uint64_t stream_new_tokens(const struct stream *stream)
{
    return stream->ids.count - stream->prompt_tokens;
}

bool stream_is_suspect(const struct stream *stream)
{
    return stream->deaths >= STREAM_SUSPECT_DEATHS;
}

const char *stream_ended_by_ids(const struct stream *stream)
{
    uint64_t made = stream_new_tokens(stream);
    if (made > 0 && !stream->request.ignore_eos &&
        text_model_is_end(stream->words, stream->ids.data[stream->ids.count - 1])) {
        return "stop";
    }
    return made >= stream->max_tokens ? "length" : NULL;
}
