/* desc: see desc.h and owner.h. Types, limits, the model's hash, and what a description owns. */
#include "model/desc.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/crypto.h"
#include "base/file.h"
#include "base/mem.h"
#include "model/owner.h"

struct model_owner {
    struct arena arena;
    struct file_map *maps;
    size_t maps_count;
};

struct type_row {
    const char *name;
    size_t block, block_bytes;
};

static const struct type_row types[MODEL_TYPE_COUNT] = {
    [MODEL_F32] = {"F32", 1, 4},     [MODEL_F16] = {"F16", 1, 2},     [MODEL_BF16] = {"BF16", 1, 2},
    [MODEL_Q8_0] = {"Q8_0", 32, 34}, [MODEL_Q4_0] = {"Q4_0", 32, 18}, [MODEL_Q4_1] = {"Q4_1", 32, 20},
};

const char *model_type_name(enum model_type type)
{
    CHECK(type < MODEL_TYPE_COUNT);
    return types[type].name;
}

size_t model_type_block(enum model_type type)
{
    CHECK(type < MODEL_TYPE_COUNT);
    return types[type].block;
}

size_t model_type_block_bytes(enum model_type type)
{
    CHECK(type < MODEL_TYPE_COUNT);
    return types[type].block_bytes;
}

struct model_desc *desc_new(void)
{
    struct model_desc *desc = mem_new(struct model_desc);
    struct model_owner *owner = mem_new(struct model_owner);
    arena_init(&owner->arena, MODEL_ARENA_MAX);
    desc->owner = owner;
    desc->bos_id = -1;
    desc->tokenizer.unk_id = -1;
    desc->rope_factor = 1;
    return desc;
}

void model_close(struct model_desc *desc)
{
    if (desc == NULL)
        return;
    struct model_owner *owner = desc->owner;
    for (size_t i = 0; i < owner->maps_count; i++)
        file_unmap(&owner->maps[i]);
    mem_free(owner->maps);
    arena_free(&owner->arena);
    mem_free(owner);
    mem_free(desc);
}

struct arena *desc_arena(struct model_desc *desc)
{
    return &((struct model_owner *)desc->owner)->arena;
}

enum status desc_map(struct model_desc *desc, const char *path, struct bytes *out, struct error *error)
{
    struct model_owner *owner = desc->owner;
    struct file_map map;
    enum status status = file_map(path, &map, error);
    if (status != STATUS_OK)
        return status;
    owner->maps = mem_realloc_array(owner->maps, owner->maps_count + 1, sizeof *owner->maps);
    owner->maps[owner->maps_count++] = map;
    *out = bytes_of(map.data, map.length);
    return STATUS_OK;
}

const char *desc_text(struct model_desc *desc, struct bytes text)
{
    return arena_strndup(desc_arena(desc), (const char *)text.data, text.length);
}

enum status desc_no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for the model's description");
}

/* The sizes that shoal runs. Bounds are generous against real models and keep every product of two of them, times a
 * type's size, far from overflow. */
static enum status check_ranges(const struct model_desc *desc, struct error *error)
{
    const struct {
        const char *name;
        size_t value, min, max;
    } rows[] = {
        {"layers", desc->layers, 1, MODEL_LAYERS_MAX},         {"hidden size", desc->hidden, 1, 65536},
        {"feed-forward size", desc->ffn, 1, 1 << 20},          {"attention heads", desc->q_heads, 1, 1024},
        {"key-value heads", desc->kv_heads, 1, 1024},          {"head size", desc->head_dim, 2, 1024},
        {"rotated part of the head", desc->rope_dim, 2, 1024}, {"vocabulary", desc->vocab_size, 1, MODEL_VOCAB_MAX},
        {"context length", desc->context_tokens, 1, 1 << 28},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (rows[i].value < rows[i].min || rows[i].value > rows[i].max)
            return error_set(error, STATUS_LIMIT, "%s: %zu is outside of what shoal runs (%zu to %zu)", rows[i].name,
                             rows[i].value, rows[i].min, rows[i].max);
    }
    return STATUS_OK;
}

static enum status check_scaling(const struct model_desc *desc, struct error *error)
{
    if (desc->rope_scaling == MODEL_ROPE_NONE)
        return STATUS_OK;
    if (!(desc->rope_factor >= 1 && desc->rope_factor <= 1e6))
        return error_set(error, STATUS_INVALID, "rope scaling factor %g is not within 1 to 1e6", desc->rope_factor);
    if (desc->rope_scaling != MODEL_ROPE_LLAMA3)
        return STATUS_OK;
    if (!(desc->rope_low_freq_factor > 0 && desc->rope_high_freq_factor > desc->rope_low_freq_factor &&
          desc->rope_high_freq_factor <= 1e6))
        return error_set(error, STATUS_INVALID, "llama3 rope scaling: low_freq_factor %g and high_freq_factor %g",
                         desc->rope_low_freq_factor, desc->rope_high_freq_factor);
    if (desc->rope_original_context < 1 || desc->rope_original_context > (1 << 28))
        return error_set(error, STATUS_INVALID, "llama3 rope scaling: original_max_position_embeddings is %zu",
                         desc->rope_original_context);
    return STATUS_OK;
}

enum status desc_check(struct model_desc *desc, struct error *error)
{
    enum status status = check_ranges(desc, error);
    if (status == STATUS_OK)
        status = check_scaling(desc, error);
    if (status != STATUS_OK)
        return status;
    if (desc->q_heads % desc->kv_heads != 0)
        return error_set(error, STATUS_INVALID, "%zu attention heads don't divide into %zu key-value heads",
                         desc->q_heads, desc->kv_heads);
    if (desc->head_dim % 2 != 0 || desc->rope_dim % 2 != 0 || desc->rope_dim > desc->head_dim)
        return error_set(error, STATUS_INVALID, "head size %zu with %zu rotated: both must be even, the second no more",
                         desc->head_dim, desc->rope_dim);
    if (!(desc->rms_epsilon > 0 && desc->rms_epsilon <= 0.1F))
        return error_set(error, STATUS_INVALID, "the norm's epsilon %g is not within 0 to 0.1",
                         (double)desc->rms_epsilon);
    if (!(desc->rope_base >= 1 && desc->rope_base <= 1e12))
        return error_set(error, STATUS_INVALID, "rope base %g is not within 1 to 1e12", desc->rope_base);
    desc->layer = arena_alloc_array(desc_arena(desc), desc->layers, sizeof *desc->layer);
    return desc->layer == NULL ? desc_no_memory(error) : STATUS_OK;
}

enum status desc_add_eos(struct model_desc *desc, uint64_t id, struct error *error)
{
    if (id >= MODEL_VOCAB_MAX)
        return error_set(error, STATUS_INVALID, "end-of-sequence id %llu is no token", (unsigned long long)id);
    for (size_t i = 0; i < desc->eos_count; i++) {
        if (desc->eos_ids[i] == id)
            return STATUS_OK;
    }
    if (desc->eos_count == COUNT_OF(desc->eos_ids))
        return error_set(error, STATUS_LIMIT, "more than %zu end-of-sequence ids", COUNT_OF(desc->eos_ids));
    desc->eos_ids[desc->eos_count++] = (uint32_t)id;
    return STATUS_OK;
}

/* Ids between the tokenizer's and the configuration's vocabulary get a token each, of kind UNUSED. */
static enum status fill_vocab(struct model_desc *desc, struct error *error)
{
    struct vocab *vocab = desc->vocab;
    if (vocab->count >= desc->vocab_size)
        return STATUS_OK;
    struct vocab_token *tokens = arena_alloc_array(desc_arena(desc), desc->vocab_size, sizeof *tokens);
    if (tokens == NULL)
        return desc_no_memory(error);
    memcpy(tokens, vocab->tokens, vocab->count * sizeof *tokens);
    for (size_t i = vocab->count; i < desc->vocab_size; i++)
        tokens[i].kind = VOCAB_UNUSED;
    vocab->tokens = tokens;
    vocab->count = desc->vocab_size;
    return STATUS_OK;
}

enum status desc_check_vocab(struct model_desc *desc, struct error *error)
{
    if (desc->vocab != NULL && desc->vocab_size == 0)
        desc->vocab_size = desc->vocab->count;
    if (desc->vocab_size > MODEL_VOCAB_MAX)
        return error_set(error, STATUS_LIMIT, "a vocabulary of %zu; %d is the limit", desc->vocab_size,
                         MODEL_VOCAB_MAX);
    if (desc->vocab != NULL && desc->vocab->count > desc->vocab_size)
        return error_set(error, STATUS_INVALID,
                         "the tokenizer has %zu ids, the embedding only %zu rows: tokenizer and "
                         "weights don't belong together",
                         desc->vocab->count, desc->vocab_size);
    if (desc->bos_id >= 0 && (size_t)desc->bos_id >= desc->vocab_size)
        return error_set(error, STATUS_INVALID, "begin-of-sequence id %d is outside of the vocabulary of %zu",
                         desc->bos_id, desc->vocab_size);
    for (size_t i = 0; i < desc->eos_count; i++) {
        if (desc->eos_ids[i] >= desc->vocab_size)
            return error_set(error, STATUS_INVALID, "end-of-sequence id %u is outside of the vocabulary of %zu",
                             desc->eos_ids[i], desc->vocab_size);
    }
    return desc->vocab == NULL ? STATUS_OK : fill_vocab(desc, error);
}

static void hash_number(struct buf *out, uint64_t value)
{
    uint8_t bytes[8];
    store_u64le(bytes, value);
    buf_append(out, bytes, sizeof bytes);
}

static void hash_real(struct buf *out, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    hash_number(out, bits);
}

/* Four slices of up to 256 bytes: enough to tell two trainings apart, few enough pages to touch at start. */
static void hash_tensor(struct buf *out, const struct model_tensor *tensor)
{
    enum { SLICES = 4, SLICE_BYTES = 256 };
    hash_number(out, tensor->data != NULL);
    if (tensor->data == NULL)
        return;
    hash_number(out, tensor->type);
    hash_number(out, tensor->rows);
    hash_number(out, tensor->columns);
    size_t bytes =
        tensor->rows * (tensor->columns / model_type_block(tensor->type)) * model_type_block_bytes(tensor->type);
    for (size_t i = 0; i < SLICES; i++) {
        size_t at = bytes / SLICES * i;
        buf_append(out, tensor->data + at, MIN_OF(bytes - at, (size_t)SLICE_BYTES));
    }
}

void desc_hash(struct model_desc *desc)
{
    struct buf buf;
    buf_init(&buf, (size_t)64 << 20);
    buf_append(&buf, desc->architecture, sizeof desc->architecture);
    const size_t sizes[] = {desc->layers,   desc->hidden,      desc->ffn,          desc->q_heads,
                            desc->kv_heads, desc->head_dim,    desc->vocab_size,   desc->context_tokens,
                            desc->rope_dim, desc->rope_layout, desc->rope_scaling, desc->rope_original_context,
                            desc->tied};
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        hash_number(&buf, sizes[i]);
    const double reals[] = {(double)desc->rms_epsilon, desc->rope_base, desc->rope_factor, desc->rope_low_freq_factor,
                            desc->rope_high_freq_factor};
    for (size_t i = 0; i < COUNT_OF(reals); i++)
        hash_real(&buf, reals[i]);
    if (desc->rope_freq_factors != NULL)
        buf_append(&buf, desc->rope_freq_factors, desc->rope_dim / 2 * sizeof(float));
    hash_tensor(&buf, &desc->embedding);
    hash_tensor(&buf, &desc->output_norm);
    hash_tensor(&buf, &desc->output);
    for (size_t l = 0; desc->layer != NULL && l < desc->layers; l++) {
        const struct model_layer *layer = &desc->layer[l];
        const struct model_tensor *all[] = {&layer->attn_norm, &layer->q,      &layer->k,      &layer->v,
                                            &layer->o,         &layer->q_bias, &layer->k_bias, &layer->v_bias,
                                            &layer->ffn_norm,  &layer->gate,   &layer->up,     &layer->down};
        for (size_t i = 0; i < COUNT_OF(all); i++)
            hash_tensor(&buf, all[i]);
    }
    CHECK(!buf.overflow);
    struct bytes part = buf_bytes(&buf);
    crypto_blake2b(desc->hash, bytes_of(NULL, 0), &part, 1);
    buf_free(&buf);
}

/* The length of `name` without a last part that names a number format: .Q4_1, -F16, _q4_k_m, .IQ2_XXS. */
static size_t without_format(const char *name, size_t length)
{
    static const char *const plain[] = {"f32", "f16", "bf16", "fp32", "fp16", "mxfp4"};
    for (size_t at = length; at-- > 1;) {
        if (strchr(".-_", name[at]) == NULL)
            continue;
        const char *part = name + at + 1;
        size_t part_length = length - at - 1;
        for (size_t i = 0; i < COUNT_OF(plain); i++) {
            if (part_length == strlen(plain[i]) && memcmp(part, plain[i], part_length) == 0)
                return at;
        }
        size_t q = part_length > 1 && part[0] == 'i' ? 1 : 0;
        if (part_length >= q + 4 && part[q] == 'q' && isdigit((unsigned char)part[q + 1]) && part[q + 2] == '_')
            return at;
        if (name[at] != '_') /* a format's own parts are joined by _ */
            break;
    }
    return length;
}

void model_id_of_path(const char *path, char *out, size_t out_length)
{
    CHECK(out_length > 0);
    size_t end = strlen(path);
    while (end > 0 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    bool gguf = end - start > 5 && strncasecmp(path + end - 5, ".gguf", 5) == 0;
    size_t length = MIN_OF(end - start - (gguf ? 5 : 0), out_length - 1);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)path[start + i];
        bool plain = c < 0x80 && (isalnum(c) || strchr("._-", c) != NULL);
        out[i] = plain ? (char)tolower(c) : '-';
    }
    if (gguf)
        length = without_format(out, length);
    out[length] = '\0';
    if (length == 0 || strspn(out, ".-_") == length)
        snprintf(out, out_length, "model");
}
