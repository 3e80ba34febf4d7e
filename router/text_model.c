/* text_model: see text_model.h. */
#include "router/text_model.h"

#include "base/check.h"
#include "base/mem.h"
#include "text/template.h"

static char *piece_text(const struct model_desc *desc, int64_t id)
{
    const struct vocab_token *token = id >= 0 ? vocab_token(desc->vocab, (uint32_t)id) : NULL;
    return token != NULL ? mem_strndup((const char *)token->piece.data, token->piece.length) : NULL;
}

static void open_template(struct text_model *text)
{
    const struct model_desc *desc = text->desc;
    if (desc->chat_template == NULL) {
        return;
    }
    struct error why = {0};
    struct bytes source = bytes_of(desc->chat_template, desc->chat_template_length);
    if (template_parse(source, &text->template, &why) != STATUS_OK) {
        text->template = NULL;
        text->template_error = mem_strdup(why.text);
    }
}

static void free_text(struct text_model *text)
{
    template_free(text->template);
    tokenizer_free(text->tokenizer);
    if (text->desc != NULL) {
        model_close(text->desc);
    }
    mem_free(text->template_error);
    mem_free(text->bos_token);
    mem_free(text->eos_token);
    mem_free(text);
}

enum status text_model_open(const char *path, struct text_model **out, struct error *error)
{
    struct text_model *text = mem_new(struct text_model);
    text->users = 1;
    const struct model_options options = {.vocab_only = true};
    enum status status = model_open(path, &options, &text->desc, error);
    if (status == STATUS_OK) {
        status = tokenizer_new(text->desc, &text->tokenizer, error);
    }
    if (status != STATUS_OK) {
        free_text(text);
        return status;
    }
    text->bos_token = piece_text(text->desc, text->desc->bos_id);
    text->eos_token = text->desc->eos_count > 0 ? piece_text(text->desc, text->desc->eos_ids[0]) : NULL;
    open_template(text);
    *out = text;
    return STATUS_OK;
}

struct text_model *text_model_hold(struct text_model *text)
{
    CHECK(text->users > 0);
    text->users++;
    return text;
}

void text_model_drop(struct text_model *text)
{
    if (text != NULL) {
        CHECK(text->users > 0);
        if (--text->users == 0) {
            free_text(text);
        }
    }
}

/* What the encoder refuses is the client's text, by its length or form. */
static bool encode_failed(enum status status, const struct error *why, const char *param, struct openai_error *error)
{
    if (status == STATUS_LIMIT) {
        return openai_fail(error, 400, "context_length_exceeded", param,
                           "The prompt has more than %d tokens: far beyond the model's context.", TEXT_MODEL_IDS_MAX);
    }
    return openai_fail(error, 400, "invalid_value", param, "The prompt can't be tokenised: %.300s", why->text);
}

static bool encode_chat(const struct text_model *text, const struct openai_request *request, int64_t wall_s,
                        struct ids *out, struct openai_error *error)
{
    if (text->template == NULL) {
        return openai_fail(error, 400, "invalid_value", "messages",
                           "The model can't chat: %.300s. Use /v1/completions.",
                           text->template_error != NULL ? text->template_error : "it has no chat template");
    }
    const struct template_context context = {
        .root = request->context,
        .bos_token = text->bos_token,
        .eos_token = text->eos_token,
        .add_generation_prompt = true,
        .now_s = wall_s,
    };
    struct template_result result = {0};
    struct error why = {0};
    enum status status = template_render(text->template, &context, &result, &why);
    bool ok = status == STATUS_OK;
    if (!ok) {
        openai_fail(error, 400, "invalid_value", "messages", "The model's chat template refused the messages: %.300s",
                    why.text);
    } else {
        status = tokenizer_encode(text->tokenizer, buf_bytes(&result.text), TOKENIZER_SPECIALS_SPANS, result.spans,
                                  result.spans_count, out, &why);
        ok = status == STATUS_OK || encode_failed(status, &why, "messages", error);
    }
    template_result_free(&result);
    return ok;
}

static bool encode_ids(const struct text_model *text, const struct json *ids, struct ids *out,
                       struct openai_error *error)
{
    size_t vocab_size = tokenizer_vocab_size(text->tokenizer);
    for (size_t i = 0; i < json_count(ids); i++) {
        int64_t id = json_integer(json_at(ids, i), -1);
        if (id < 0 || (uint64_t)id >= vocab_size) {
            return openai_fail(error, 400, "invalid_value", "prompt",
                               "Invalid 'prompt': token id %lld is not in the model's vocabulary of %zu.",
                               (long long)id, vocab_size);
        }
        if (ids_push(out, (uint32_t)id) != STATUS_OK) {
            return encode_failed(STATUS_LIMIT, NULL, "prompt", error);
        }
    }
    return true;
}

bool text_model_encode(const struct text_model *text, const struct openai_request *request, int64_t wall_s,
                       struct ids *out, struct openai_error *error)
{
    bool ok;
    if (request->kind == OPENAI_CHAT) {
        ok = encode_chat(text, request, wall_s, out, error);
    } else if (request->prompt_ids != NULL) {
        ok = encode_ids(text, request->prompt_ids, out, error);
    } else {
        struct error why = {0};
        enum status status = tokenizer_encode_prompt(text->tokenizer, request->prompt, out, &why);
        ok = status == STATUS_OK || encode_failed(status, &why, "prompt", error);
    }
    if (ok && out->count == 0) {
        return openai_fail(error, 400, "invalid_value", request->kind == OPENAI_CHAT ? "messages" : "prompt",
                           "The prompt is empty: there is nothing to continue.");
    }
    return ok;
}

bool text_model_is_end(const struct text_model *text, uint32_t id)
{
    for (size_t i = 0; i < text->desc->eos_count; i++) {
        if (text->desc->eos_ids[i] == id) {
            return true;
        }
    }
    return false;
}
