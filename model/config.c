/* config: see config.h. */
#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "model/owner.h"

struct size_key {
    const char *name;
    size_t offset;
    bool required;
};

static const struct size_key size_keys[] = {
    {"num_hidden_layers", offsetof(struct model_desc, layers), true},
    {"hidden_size", offsetof(struct model_desc, hidden), true},
    {"intermediate_size", offsetof(struct model_desc, ffn), true},
    {"num_attention_heads", offsetof(struct model_desc, q_heads), true},
    {"num_key_value_heads", offsetof(struct model_desc, kv_heads), false},
    {"head_dim", offsetof(struct model_desc, head_dim), false},
    {"vocab_size", offsetof(struct model_desc, vocab_size), true},
    {"max_position_embeddings", offsetof(struct model_desc, context_tokens), true},
};

static enum status read_sizes(const struct json *config, bool required, struct model_desc *desc, struct error *error)
{
    for (size_t i = 0; i < COUNT_OF(size_keys); i++) {
        const struct json *value = json_get(config, size_keys[i].name);
        int64_t number = json_integer(value, -1);
        if (json_kind(value) == JSON_NULL && !(size_keys[i].required && required))
            continue;
        if (json_kind(value) == JSON_NULL)
            return error_set(error, STATUS_INVALID, "%s is missing", size_keys[i].name);
        if (number < 0)
            return error_set(error, STATUS_INVALID, "%s is no size", size_keys[i].name);
        memcpy((char *)desc + size_keys[i].offset, &(size_t){(size_t)number}, sizeof(size_t));
    }
    if (desc->kv_heads == 0)
        desc->kv_heads = desc->q_heads;
    if (desc->head_dim == 0 && desc->q_heads > 0)
        desc->head_dim = desc->hidden / desc->q_heads;
    return STATUS_OK;
}

static enum status read_architecture(const struct json *config, const struct model_options *options,
                                     struct model_desc *desc, struct error *error)
{
    const char *type = json_text(json_get(config, "model_type"));
    if (type == NULL && !options->vocab_only)
        return error_set(error, STATUS_INVALID, "model_type is missing");
    snprintf(desc->architecture, sizeof desc->architecture, "%s", type == NULL ? "" : type);
    if (options->vocab_only)
        return STATUS_OK;
    const struct json *name = json_at(json_get(config, "architectures"), 0);
    if (strcmp(type, "llama") != 0 || (name != NULL && !json_is_string(name, "LlamaForCausalLM")))
        return error_set(error, STATUS_UNSUPPORTED, "model_type %.64s (%.64s) isn't supported; shoal runs llama", type,
                         name == NULL || json_kind(name) != JSON_STRING ? "no architecture" : json_text(name));
    const struct json *activation = json_get(config, "hidden_act");
    if (activation != NULL && !json_is_string(activation, "silu"))
        return error_set(error, STATUS_UNSUPPORTED, "hidden_act isn't silu, the one that shoal runs");
    if (json_kind(json_get(config, "quantization_config")) != JSON_NULL)
        return error_set(error, STATUS_UNSUPPORTED,
                         "quantization_config: take the model in F32, F16 or BF16, or as "
                         "a GGUF");
    return STATUS_OK;
}

/* rope_scaling as written until 2025, or rope_parameters since; `type` was `rope_type`'s older name. */
static enum status read_scaling(const struct json *scaling, struct model_desc *desc, struct error *error)
{
    const struct json *type = json_get(scaling, "rope_type");
    if (type == NULL)
        type = json_get(scaling, "type");
    if (json_kind(scaling) == JSON_NULL || type == NULL || json_is_string(type, "default"))
        return STATUS_OK;
    desc->rope_factor = json_number(json_get(scaling, "factor"), 0);
    if (json_is_string(type, "linear")) {
        desc->rope_scaling = MODEL_ROPE_LINEAR;
        return STATUS_OK;
    }
    if (!json_is_string(type, "llama3"))
        return error_set(error, STATUS_UNSUPPORTED, "rope scaling %.64s isn't supported",
                         json_kind(type) == JSON_STRING ? json_text(type) : "of no name");
    desc->rope_scaling = MODEL_ROPE_LLAMA3;
    desc->rope_low_freq_factor = json_number(json_get(scaling, "low_freq_factor"), 0);
    desc->rope_high_freq_factor = json_number(json_get(scaling, "high_freq_factor"), 0);
    int64_t original = json_integer(json_get(scaling, "original_max_position_embeddings"), 0);
    desc->rope_original_context = original < 0 ? 0 : (size_t)original;
    return STATUS_OK;
}

static enum status read_rope(const struct json *config, struct model_desc *desc, struct error *error)
{
    const struct json *parameters = json_get(config, "rope_parameters");
    const struct json *scaling = json_get(config, "rope_scaling");
    const struct json *base = json_get(config, "rope_theta");
    if (base == NULL)
        base = json_get(parameters, "rope_theta");
    desc->rope_layout = MODEL_ROPE_HALVES;
    desc->rope_base = json_number(base, base == NULL ? 10000 : NAN);
    double part = json_number(json_get(config, "partial_rotary_factor"), 1);
    if (!(part > 0 && part <= 1))
        return error_set(error, STATUS_INVALID, "partial_rotary_factor %g is not within 0 to 1", part);
    desc->rope_dim = (size_t)((double)desc->head_dim * part);
    return read_scaling(json_kind(scaling) == JSON_NULL ? parameters : scaling, desc, error);
}

static enum status read_eos(const struct json *value, struct model_desc *desc, struct error *error)
{
    if (json_kind(value) == JSON_NULL)
        return STATUS_OK;
    bool list = json_kind(value) == JSON_ARRAY;
    size_t count = list ? json_count(value) : 1;
    desc->eos_count = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t id = json_integer(list ? json_at(value, i) : value, -1);
        enum status status = id < 0 ? error_set(error, STATUS_INVALID, "eos_token_id is no id and no list of ids")
                                    : desc_add_eos(desc, (uint64_t)id, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static int32_t id_of(const struct json *value)
{
    int64_t id = json_integer(value, -1);
    return id < 0 ? -1 : (int32_t)MIN_OF(id, (int64_t)INT32_MAX);
}

enum status config_read(const struct json *config, const struct model_options *options, struct model_desc *desc,
                        struct error *error)
{
    enum status status = read_architecture(config, options, desc, error);
    if (status == STATUS_OK)
        status = read_sizes(config, !options->vocab_only, desc, error);
    if (status == STATUS_OK)
        status = read_rope(config, desc, error);
    if (status == STATUS_OK)
        status = read_eos(json_get(config, "eos_token_id"), desc, error);
    desc->bos_id = id_of(json_get(config, "bos_token_id"));
    desc->rms_epsilon = (float)json_number(json_get(config, "rms_norm_eps"), 1e-6);
    desc->tied = json_bool(json_get(config, "tie_word_embeddings"), false);
    return status;
}

enum status config_read_generation(const struct json *generation, struct model_desc *desc, struct error *error)
{
    return read_eos(json_get(generation, "eos_token_id"), desc, error);
}
