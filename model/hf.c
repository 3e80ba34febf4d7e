/* hf: a Hugging Face folder as a description: configuration, weights, tokenizer, chat template.
 *
 * config.json and the weights must be there (unless only the vocabulary is asked for); generation_config.json,
 * tokenizer.json, tokenizer_config.json and chat_template.jinja may be. */
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/config.h"
#include "model/owner.h"
#include "model/safetensors.h"
#include "model/tokenizer_json.h"

enum { CONFIG_BYTES_MAX = 16 << 20, TEMPLATE_BYTES_MAX = 1 << 20 };

/* Reads and parses folder/name; *out stays NULL when the file isn't there. */
static enum status read_json(const char *folder, const char *name, size_t bytes_max, struct json **out,
                             struct error *error)
{
    char *path = file_join(folder, name);
    struct buf text;
    enum status status = STATUS_OK;
    *out = NULL;
    buf_init(&text, bytes_max);
    if (file_exists(path)) {
        status = file_read(path, bytes_max, &text, error);
        if (status == STATUS_OK)
            status = json_parse(buf_bytes(&text), out, error);
        if (status == STATUS_OK && json_kind(*out) != JSON_OBJECT)
            status = error_set(error, STATUS_INVALID, "no JSON object");
        if (status != STATUS_OK)
            error_prefix(error, "%s", name);
    }
    buf_free(&text);
    mem_free(path);
    return status;
}

static enum status load_config(const char *folder, const struct model_options *options, struct model_desc *desc,
                               struct error *error)
{
    struct json *config, *generation = NULL;
    enum status status = read_json(folder, "config.json", CONFIG_BYTES_MAX, &config, error);
    if (status == STATUS_OK && config == NULL && !options->vocab_only)
        status = error_set(error, STATUS_NOT_FOUND,
                           "config.json is missing: a model is a Hugging Face folder or a "
                           ".gguf file");
    else if (status == STATUS_OK && config != NULL) {
        status = config_read(config, options, desc, error);
        if (status != STATUS_OK)
            error_prefix(error, "config.json");
    }
    if (status == STATUS_OK)
        status = read_json(folder, "generation_config.json", CONFIG_BYTES_MAX, &generation, error);
    if (status == STATUS_OK && generation != NULL) {
        status = config_read_generation(generation, desc, error);
        if (status != STATUS_OK)
            error_prefix(error, "generation_config.json");
    }
    json_free(config);
    json_free(generation);
    return status;
}

static enum status load_weights(const char *folder, struct model_desc *desc, struct error *error)
{
    struct tensors tensors;
    tensors_init(&tensors, desc_arena(desc));
    enum status status = desc_check(desc, error);
    if (status != STATUS_OK)
        error_prefix(error, "config.json");
    if (status == STATUS_OK)
        status = safetensors_load(folder, desc, &tensors, error);
    if (status == STATUS_OK)
        status = tensors_bind(&tensors, TENSORS_HF, desc, error);
    tensors_free(&tensors);
    return status;
}

static enum status keep_template(struct bytes source, struct model_desc *desc, struct error *error)
{
    if (source.length > TEMPLATE_BYTES_MAX)
        return error_set(error, STATUS_LIMIT, "the chat template is longer than %d bytes", TEMPLATE_BYTES_MAX);
    desc->chat_template = desc_text(desc, source);
    desc->chat_template_length = source.length;
    return desc->chat_template == NULL ? desc_no_memory(error) : STATUS_OK;
}

/* chat_template is a text, or a list of {name, template} of which `default` counts. */
static enum status read_template(const struct json *value, struct model_desc *desc, struct error *error)
{
    if (json_kind(value) == JSON_STRING)
        return keep_template(json_string(value), desc, error);
    for (size_t i = 0; json_kind(value) == JSON_ARRAY && i < json_count(value); i++) {
        const struct json *entry = json_at(value, i);
        if (json_is_string(json_get(entry, "name"), "default"))
            return keep_template(json_string(json_get(entry, "template")), desc, error);
    }
    return STATUS_OK;
}

/* The folder's own file wins over tokenizer_config.json's field. */
static enum status load_template_file(const char *folder, struct model_desc *desc, struct error *error)
{
    char *path = file_join(folder, "chat_template.jinja");
    struct buf text;
    enum status status = STATUS_OK;
    buf_init(&text, TEMPLATE_BYTES_MAX);
    if (file_exists(path)) {
        status = file_read(path, TEMPLATE_BYTES_MAX, &text, error);
        if (status == STATUS_OK)
            status = keep_template(buf_bytes(&text), desc, error);
    }
    buf_free(&text);
    mem_free(path);
    return status;
}

static enum status load_tokenizer(const char *folder, struct model_desc *desc, struct error *error)
{
    struct json *tokenizer, *config = NULL;
    enum status status = read_json(folder, "tokenizer.json", JSON_LENGTH_MAX, &tokenizer, error);
    if (status == STATUS_OK)
        status = read_json(folder, "tokenizer_config.json", CONFIG_BYTES_MAX, &config, error);
    if (status == STATUS_OK && tokenizer != NULL) {
        status = tokenizer_json_read(tokenizer, config, desc, error);
        if (status != STATUS_OK)
            error_prefix(error, "tokenizer.json");
    }
    if (status == STATUS_OK)
        status = read_template(json_get(config, "chat_template"), desc, error);
    if (status == STATUS_OK)
        status = load_template_file(folder, desc, error);
    json_free(tokenizer);
    json_free(config);
    return status;
}

enum status hf_load(const char *folder, const struct model_options *options, struct model_desc *desc,
                    struct error *error)
{
    enum status status = load_config(folder, options, desc, error);
    if (status == STATUS_OK && !options->vocab_only)
        status = load_weights(folder, desc, error);
    if (status == STATUS_OK)
        status = load_tokenizer(folder, desc, error);
    if (status == STATUS_OK && options->vocab_only && desc->vocab == NULL)
        status = error_set(error, STATUS_NOT_FOUND, "tokenizer.json is missing");
    return status == STATUS_OK ? desc_check_vocab(desc, error) : status;
}
