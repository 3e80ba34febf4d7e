/* run_model: opens a model's files, tokenizer, chat template and engine, and turns prompts and chats into ids. */
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "cli/run.h"

enum { CHAT_IDS_MAX = 1 << 20 };

static char *piece_of(const struct model_desc *desc, int64_t id)
{
    const struct vocab_token *token = id < 0 || desc->vocab == NULL ? NULL : vocab_token(desc->vocab, (uint32_t)id);
    return token == NULL ? NULL : mem_strndup((const char *)token->piece.data, token->piece.length);
}

static enum status open_text(struct run_model *model, struct error *error)
{
    const struct model_desc *desc = model->desc;
    if (desc->vocab == NULL || desc->tokenizer.model == VOCAB_MODEL_NONE)
        return STATUS_OK;
    enum status status = tokenizer_new(desc, &model->tokenizer, error);
    if (status != STATUS_OK || desc->chat_template == NULL)
        return status;
    model->bos_text = piece_of(desc, desc->bos_id);
    model->eos_text = desc->eos_count > 0 ? piece_of(desc, desc->eos_ids[0]) : NULL;
    return template_parse(bytes_of(desc->chat_template, desc->chat_template_length), &model->template, error);
}

static enum status open_engine(const struct run_options *options, struct run_model *model, struct error *error)
{
    struct engine_config config = {
        .desc = model->desc,
        .cpu_path = options->cpu,
        .threads = (unsigned)options->threads,
        .kv_type = (enum decoder_kv_type)options->kv_type,
        .pool_tokens = (uint64_t)options->pool_tokens,
        .context_tokens = (uint32_t)options->context,
        .streams_max = options->jsonl ? 0 : 1,
    };
    if (!options->jsonl && config.pool_tokens == 0) /* one stream needs one context */
        config.pool_tokens = options->context > 0 ? (uint64_t)options->context : model->desc->context_tokens;
    return engine_open(&config, &model->engine, error);
}

enum status run_model_open(const struct run_options *options, struct run_model *out, struct error *error)
{
    *out = (struct run_model){0};
    if (crypto_init() != STATUS_OK)
        return error_set(error, STATUS_IO, "the cryptography library does not start");
    uint64_t begin_us = clock_mono_us();
    const struct model_options model_options = {0};
    enum status status = model_open(options->model_path, &model_options, &out->desc, error);
    if (status == STATUS_OK)
        status = open_text(out, error);
    if (status == STATUS_OK)
        status = open_engine(options, out, error);
    if (status != STATUS_OK)
        run_model_close(out);
    out->load_s = (double)(clock_mono_us() - begin_us) / 1e6;
    return status;
}

void run_model_close(struct run_model *model)
{
    if (model->engine != NULL)
        engine_close(model->engine);
    if (model->template != NULL)
        template_free(model->template);
    if (model->tokenizer != NULL)
        tokenizer_free(model->tokenizer);
    if (model->desc != NULL)
        model_close(model->desc);
    mem_free(model->bos_text);
    mem_free(model->eos_text);
    *model = (struct run_model){0};
}

enum status run_model_encode_prompt(const struct run_model *model, struct bytes prompt, struct ids *out,
                                    struct error *error)
{
    if (model->tokenizer == NULL)
        return error_set(error, STATUS_UNSUPPORTED, "the model has no tokenizer: give \"ids\"");
    return tokenizer_encode_prompt(model->tokenizer, prompt, out, error);
}

enum status run_model_encode_chat(const struct run_model *model, const struct json *root, struct ids *out,
                                  struct error *error)
{
    if (model->template == NULL)
        return error_set(error, STATUS_UNSUPPORTED, "the model has no chat template: give a \"prompt\"");
    const struct template_context context = {.root = root,
                                             .bos_token = model->bos_text,
                                             .eos_token = model->eos_text,
                                             .add_generation_prompt = true,
                                             .now_s = (int64_t)(clock_wall_us() / 1000000)};
    struct template_result result;
    enum status status = template_render(model->template, &context, &result, error);
    if (status == STATUS_OK)
        status = tokenizer_encode(model->tokenizer, buf_bytes(&result.text), TOKENIZER_SPECIALS_SPANS, result.spans,
                                  result.spans_count, out, error);
    template_result_free(&result);
    return status;
}
