/* openai_answer: see openai_answer.h. */
#include "router/openai_answer.h"

#include <inttypes.h>

#include "base/json.h"

static void write_head(struct buf *out, const struct openai_answer *answer, const char *object)
{
    buf_append_text(out, "{\"id\":");
    json_write_text(out, answer->id);
    buf_printf(out, ",\"object\":\"%s\",\"created\":%" PRIu64 ",\"model\":", object, answer->created_s);
    json_write_string(out, answer->model);
    buf_append_text(out, ",\"system_fingerprint\":null");
}

static void write_usage(struct buf *out, const struct openai_usage *usage)
{
    buf_printf(out,
               "{\"prompt_tokens\":%" PRIu64 ",\"completion_tokens\":%" PRIu64 ",\"total_tokens\":%" PRIu64
               ",\"prompt_tokens_details\":{\"cached_tokens\":%" PRIu64 ",\"audio_tokens\":0}"
               ",\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0,"
               "\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}",
               usage->prompt_tokens, usage->completion_tokens, usage->prompt_tokens + usage->completion_tokens,
               usage->cached_tokens);
}

void openai_write_completion(struct buf *out, const struct openai_answer *answer, struct bytes text, const char *finish,
                             const struct openai_usage *usage)
{
    bool chat = answer->kind == OPENAI_CHAT;
    write_head(out, answer, chat ? "chat.completion" : "text_completion");
    if (chat) {
        buf_append_text(out, ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
        json_write_string(out, text);
        buf_append_text(out, ",\"refusal\":null,\"annotations\":[]}");
    } else {
        buf_append_text(out, ",\"choices\":[{\"index\":0,\"text\":");
        json_write_string(out, text);
    }
    buf_printf(out, ",\"logprobs\":null,\"finish_reason\":\"%s\"}],\"usage\":", finish);
    write_usage(out, usage);
    buf_append_u8(out, '}');
}

/* From "data: " to where the choices stand. */
static void chunk_begin(struct buf *out, const struct openai_answer *answer)
{
    buf_append_text(out, "data: ");
    write_head(out, answer, answer->kind == OPENAI_CHAT ? "chat.completion.chunk" : "text_completion");
    buf_append_text(out, ",\"choices\":[");
}

static void chunk_end(struct buf *out, const struct openai_answer *answer)
{
    buf_append_text(out, answer->include_usage ? "],\"usage\":null}\n\n" : "]}\n\n");
}

void openai_write_begin(struct buf *out, const struct openai_answer *answer)
{
    chunk_begin(out, answer);
    buf_append_text(out, "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},"
                         "\"logprobs\":null,\"finish_reason\":null}");
    chunk_end(out, answer);
}

void openai_write_text(struct buf *out, const struct openai_answer *answer, struct bytes text)
{
    chunk_begin(out, answer);
    if (answer->kind == OPENAI_CHAT) {
        buf_append_text(out, "{\"index\":0,\"delta\":{\"content\":");
        json_write_string(out, text);
        buf_append_u8(out, '}');
    } else {
        buf_append_text(out, "{\"index\":0,\"text\":");
        json_write_string(out, text);
    }
    buf_append_text(out, ",\"logprobs\":null,\"finish_reason\":null}");
    chunk_end(out, answer);
}

void openai_write_finish(struct buf *out, const struct openai_answer *answer, const char *finish,
                         const struct openai_usage *usage)
{
    chunk_begin(out, answer);
    buf_printf(out, "{\"index\":0,%s,\"logprobs\":null,\"finish_reason\":\"%s\"}",
               answer->kind == OPENAI_CHAT ? "\"delta\":{}" : "\"text\":\"\"", finish);
    chunk_end(out, answer);
    if (answer->include_usage) {
        chunk_begin(out, answer);
        buf_append_text(out, "],\"usage\":");
        write_usage(out, usage);
        buf_append_text(out, "}\n\n");
    }
}

void openai_write_failed(struct buf *out, const struct openai_error *error)
{
    buf_append_text(out, "data: ");
    openai_write_error(out, error);
    buf_append_text(out, "\n\n");
}

void openai_write_done(struct buf *out)
{
    buf_append_text(out, "data: [DONE]\n\n");
}

void openai_write_models_begin(struct buf *out)
{
    buf_append_text(out, "{\"object\":\"list\",\"data\":[");
}

void openai_write_model(struct buf *out, bool first, struct bytes name, uint64_t created_s)
{
    buf_append_text(out, first ? "{\"id\":" : ",{\"id\":");
    json_write_string(out, name);
    buf_printf(out, ",\"object\":\"model\",\"created\":%" PRIu64 ",\"owned_by\":\"shoal\"}", created_s);
}

void openai_write_models_end(struct buf *out)
{
    buf_append_text(out, "]}");
}
