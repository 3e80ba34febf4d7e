/* gguf_load: what a GGUF file's keys say about a llama model, as a description.
 *
 * Keys that change the arithmetic in a way shoal doesn't know are refused by name; keys without effect on it (names,
 * licences, file types) are passed over. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "model/gguf.h"
#include "model/owner.h"

/* The value under <architecture>.<name>. */
static const struct gguf_value *get(const struct gguf *gguf, const struct model_desc *desc, const char *name)
{
    char key[128];
    snprintf(key, sizeof key, "%s.%s", desc->architecture, name);
    return gguf_get(gguf, key);
}

struct size_key {
    const char *name;
    size_t offset;
    bool required;
};

static const struct size_key size_keys[] = {
    {"block_count", offsetof(struct model_desc, layers), true},
    {"embedding_length", offsetof(struct model_desc, hidden), true},
    {"feed_forward_length", offsetof(struct model_desc, ffn), true},
    {"attention.head_count", offsetof(struct model_desc, q_heads), true},
    {"attention.head_count_kv", offsetof(struct model_desc, kv_heads), false},
    {"attention.key_length", offsetof(struct model_desc, head_dim), false},
    {"rope.dimension_count", offsetof(struct model_desc, rope_dim), false},
    {"context_length", offsetof(struct model_desc, context_tokens), true},
    {"vocab_size", offsetof(struct model_desc, vocab_size), false},
    {"rope.scaling.original_context_length", offsetof(struct model_desc, rope_original_context), false},
};

static enum status load_sizes(const struct gguf *gguf, bool required, struct model_desc *desc, struct error *error)
{
    for (size_t i = 0; i < COUNT_OF(size_keys); i++) {
        const struct gguf_value *value = get(gguf, desc, size_keys[i].name);
        uint64_t number;
        if (value == NULL && !(size_keys[i].required && required))
            continue;
        if (!gguf_unsigned(value, &number))
            return error_set(error, value == NULL ? STATUS_INVALID : STATUS_UNSUPPORTED, "metadata %s.%s %s",
                             desc->architecture, size_keys[i].name,
                             value == NULL ? "is missing" : "is not one non-negative number");
        memcpy((char *)desc + size_keys[i].offset, &(size_t){number}, sizeof(size_t));
    }
    if (desc->kv_heads == 0)
        desc->kv_heads = desc->q_heads;
    if (desc->head_dim == 0 && desc->q_heads > 0)
        desc->head_dim = desc->hidden / desc->q_heads;
    if (desc->rope_dim == 0)
        desc->rope_dim = desc->head_dim;
    return STATUS_OK;
}

/* Keys of the llama family that shoal doesn't run unless they have the value that means "not used". */
static enum status refuse_extras(const struct gguf *gguf, const struct model_desc *desc, struct error *error)
{
    static const struct {
        const char *name;
        double unused;
    } extras[] = {
        {"expert_count", 0},
        {"attention.sliding_window", 0},
        {"attention.scale", 0},
        {"logit_scale", 0},
        {"residual_scale", 0},
        {"embedding_scale", 0},
        {"attention.clamp_kqv", 0},
        {"attention.logit_softcapping", 0},
        {"final_logit_softcapping", 0},
        {"attention.temperature_scale", 0},
    };
    for (size_t i = 0; i < COUNT_OF(extras); i++) {
        const struct gguf_value *value = get(gguf, desc, extras[i].name);
        uint64_t whole = 0;
        double number;
        if (value == NULL)
            continue;
        if (gguf_unsigned(value, &whole))
            number = (double)whole;
        else if (!gguf_real(value, &number))
            number = NAN;
        if (number != extras[i].unused)
            return error_set(error, STATUS_UNSUPPORTED, "metadata %s.%s asks for what shoal doesn't run yet",
                             desc->architecture, extras[i].name);
    }
    uint64_t value_length = desc->head_dim;
    const struct gguf_value *value = get(gguf, desc, "attention.value_length");
    if (value != NULL && (!gguf_unsigned(value, &value_length) || value_length != desc->head_dim))
        return error_set(error, STATUS_UNSUPPORTED, "keys of %zu with values of %llu a head: shoal runs equal sizes",
                         desc->head_dim, (unsigned long long)value_length);
    return STATUS_OK;
}

static enum status load_rope(const struct gguf *gguf, struct model_desc *desc, struct error *error)
{
    double real;
    desc->rope_layout = MODEL_ROPE_PAIRS;
    desc->rope_base = 10000;
    if (get(gguf, desc, "rope.freq_base") != NULL && !gguf_real(get(gguf, desc, "rope.freq_base"), &desc->rope_base))
        return error_set(error, STATUS_INVALID, "metadata %s.rope.freq_base is no number", desc->architecture);
    struct bytes type = gguf_string(get(gguf, desc, "rope.scaling.type"));
    if (bytes_equal(type, BYTES_LITERAL("linear"))) {
        desc->rope_scaling = MODEL_ROPE_LINEAR;
        if (!gguf_real(get(gguf, desc, "rope.scaling.factor"), &desc->rope_factor))
            return error_set(error, STATUS_INVALID, "metadata %s.rope.scaling.factor is missing", desc->architecture);
    } else if (type.length > 0 && !bytes_equal(type, BYTES_LITERAL("none"))) {
        return error_set(error, STATUS_UNSUPPORTED, "rope scaling %.*s isn't supported", (int)MIN_OF(type.length, 64ul),
                         (const char *)type.data);
    } else if (gguf_real(get(gguf, desc, "rope.scale_linear"), &real) && real != 1) {
        desc->rope_scaling = MODEL_ROPE_LINEAR; /* the key's old name */
        desc->rope_factor = real;
    }
    return STATUS_OK;
}

/* rope_freqs.weight: one divisor a frequency, which is how a converter writes llama3's scaling. */
static enum status load_rope_freqs(struct gguf *gguf, struct model_desc *desc, struct error *error)
{
    struct tensors_entry *entry = tensors_find(&gguf->tensors, "rope_freqs.weight");
    if (entry == NULL)
        return STATUS_OK;
    if (entry->tensor.type != MODEL_F32 || entry->dims != 1 || entry->tensor.columns != desc->rope_dim / 2)
        return error_set(error, STATUS_INVALID, "tensor rope_freqs.weight isn't %zu numbers in F32",
                         desc->rope_dim / 2);
    float *factors = arena_dup(desc_arena(desc), entry->tensor.data, entry->bytes);
    if (factors == NULL)
        return desc_no_memory(error);
    for (size_t i = 0; i < desc->rope_dim / 2; i++) {
        if (!(factors[i] >= 1e-3F && factors[i] <= 1e9F))
            return error_set(error, STATUS_INVALID, "tensor rope_freqs.weight has %g at %zu", (double)factors[i], i);
    }
    desc->rope_freq_factors = factors;
    entry->used = true;
    return STATUS_OK;
}

static enum status load_weights(struct gguf *gguf, struct model_desc *desc, struct error *error)
{
    double epsilon;
    if (!gguf_real(get(gguf, desc, "attention.layer_norm_rms_epsilon"), &epsilon))
        return error_set(error, STATUS_INVALID, "metadata llama.attention.layer_norm_rms_epsilon is missing");
    desc->rms_epsilon = (float)epsilon;
    enum status status = refuse_extras(gguf, desc, error);
    if (status == STATUS_OK)
        status = load_rope(gguf, desc, error);
    if (status == STATUS_OK)
        status = desc_check(desc, error);
    if (status == STATUS_OK)
        status = load_rope_freqs(gguf, desc, error);
    return status == STATUS_OK ? tensors_bind(&gguf->tensors, TENSORS_GGUF, desc, error) : status;
}

static enum status load(struct gguf *gguf, const struct model_options *options, struct model_desc *desc,
                        struct error *error)
{
    uint64_t parts;
    if (gguf_unsigned(gguf_get(gguf, "split.count"), &parts) && parts > 1)
        return error_set(error, STATUS_UNSUPPORTED,
                         "one of %llu parts of a split model: join them into one file first "
                         "(llama-gguf-split --merge)",
                         (unsigned long long)parts);
    struct bytes architecture = gguf_string(gguf_get(gguf, "general.architecture"));
    if (architecture.length == 0 || architecture.length >= sizeof desc->architecture)
        return error_set(error, STATUS_INVALID, "metadata general.architecture is missing");
    memcpy(desc->architecture, architecture.data, architecture.length);
    if (gguf->tensors.count == 0 && !options->vocab_only)
        return error_set(error, STATUS_INVALID, "the file has no weights: it carries a vocabulary only");
    if (!options->vocab_only && strcmp(desc->architecture, "llama") != 0)
        return error_set(error, STATUS_UNSUPPORTED, "architecture %s isn't supported; shoal runs llama",
                         desc->architecture);
    enum status status = load_sizes(gguf, !options->vocab_only, desc, error);
    struct tensors_entry *embedding = tensors_find(&gguf->tensors, "token_embd.weight");
    if (embedding != NULL)
        desc->vocab_size = embedding->tensor.rows;
    else if (!options->vocab_only && status == STATUS_OK)
        status = error_set(error, STATUS_INVALID,
                           "tensor token_embd.weight is missing: the model is incomplete, fetch "
                           "it again");
    if (status == STATUS_OK && !options->vocab_only)
        status = load_weights(gguf, desc, error);
    if (status == STATUS_OK)
        status = gguf_vocab_load(gguf, desc, error);
    return status == STATUS_OK ? desc_check_vocab(desc, error) : status;
}

enum status gguf_load(struct bytes file, const struct model_options *options, struct model_desc *desc,
                      struct error *error)
{
    struct gguf gguf;
    enum status status = gguf_read(file, desc_arena(desc), &gguf, error);
    if (status == STATUS_OK)
        status = load(&gguf, options, desc, error);
    gguf_free(&gguf);
    return status;
}
