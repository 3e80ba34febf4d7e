/* tensors: see tensors.h. One table says which tensors the llama architecture has, under which names, in which shape.
 */
#include "model/tensors.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/owner.h"

enum dim { DIM_ONE, DIM_HIDDEN, DIM_FFN, DIM_Q, DIM_KV, DIM_VOCAB };

struct slot {
    const char *names[2]; /* by dialect */
    size_t offset;        /* in struct model_layer, or in struct model_desc for whole-model slots */
    enum dim rows, columns;
    bool optional;
};

static const struct slot layer_slots[] = {
    {{"attn_norm.weight", "input_layernorm.weight"},
     offsetof(struct model_layer, attn_norm),
     DIM_ONE,
     DIM_HIDDEN,
     false},
    {{"attn_q.weight", "self_attn.q_proj.weight"}, offsetof(struct model_layer, q), DIM_Q, DIM_HIDDEN, false},
    {{"attn_k.weight", "self_attn.k_proj.weight"}, offsetof(struct model_layer, k), DIM_KV, DIM_HIDDEN, false},
    {{"attn_v.weight", "self_attn.v_proj.weight"}, offsetof(struct model_layer, v), DIM_KV, DIM_HIDDEN, false},
    {{"attn_output.weight", "self_attn.o_proj.weight"}, offsetof(struct model_layer, o), DIM_HIDDEN, DIM_Q, false},
    {{"attn_q.bias", "self_attn.q_proj.bias"}, offsetof(struct model_layer, q_bias), DIM_ONE, DIM_Q, true},
    {{"attn_k.bias", "self_attn.k_proj.bias"}, offsetof(struct model_layer, k_bias), DIM_ONE, DIM_KV, true},
    {{"attn_v.bias", "self_attn.v_proj.bias"}, offsetof(struct model_layer, v_bias), DIM_ONE, DIM_KV, true},
    {{"ffn_norm.weight", "post_attention_layernorm.weight"},
     offsetof(struct model_layer, ffn_norm),
     DIM_ONE,
     DIM_HIDDEN,
     false},
    {{"ffn_gate.weight", "mlp.gate_proj.weight"}, offsetof(struct model_layer, gate), DIM_FFN, DIM_HIDDEN, false},
    {{"ffn_up.weight", "mlp.up_proj.weight"}, offsetof(struct model_layer, up), DIM_FFN, DIM_HIDDEN, false},
    {{"ffn_down.weight", "mlp.down_proj.weight"}, offsetof(struct model_layer, down), DIM_HIDDEN, DIM_FFN, false},
};

static const struct slot model_slots[] = {
    {{"token_embd.weight", "model.embed_tokens.weight"},
     offsetof(struct model_desc, embedding),
     DIM_VOCAB,
     DIM_HIDDEN,
     false},
    {{"output_norm.weight", "model.norm.weight"}, offsetof(struct model_desc, output_norm), DIM_ONE, DIM_HIDDEN, false},
    {{"output.weight", "lm_head.weight"}, offsetof(struct model_desc, output), DIM_VOCAB, DIM_HIDDEN, true},
};

static const char *const layer_prefixes[] = {"blk", "model.layers"};

void tensors_init(struct tensors *tensors, struct arena *arena)
{
    *tensors = (struct tensors){.arena = arena};
    map_init(&tensors->by_name, TENSORS_MAX);
    tensors->last = &tensors->first;
}

void tensors_free(struct tensors *tensors)
{
    map_free(&tensors->by_name);
}

/* Bytes of a matrix, or false when a factor or the product is out of bounds. */
static bool size_of(const struct model_tensor *tensor, uint64_t *bytes)
{
    uint64_t block = model_type_block(tensor->type), blocks;
    if (tensor->columns % block != 0)
        return false;
    return !__builtin_mul_overflow((uint64_t)tensor->rows, tensor->columns / block, &blocks) &&
           !__builtin_mul_overflow(blocks, (uint64_t)model_type_block_bytes(tensor->type), bytes);
}

static enum status claim_shape(const struct tensors_claim *claim, struct model_tensor *tensor, struct error *error)
{
    int name_length = (int)MIN_OF(claim->name.length, (size_t)128);
    const char *name = (const char *)claim->name.data;
    if (claim->dims < 1 || claim->dims > 2)
        return error_set(error, STATUS_UNSUPPORTED, "tensor %.*s has %zu dimensions; vectors and matrices are read",
                         name_length, name, claim->dims);
    uint64_t rows = claim->dims == 2 ? claim->shape[0] : 1;
    uint64_t columns = claim->shape[claim->dims - 1];
    if (rows == 0 || columns == 0)
        return error_set(error, STATUS_INVALID, "tensor %.*s is empty", name_length, name);
    if (columns % model_type_block(claim->type) != 0)
        return error_set(error, STATUS_INVALID, "tensor %.*s: %s needs columns in multiples of %zu, the file has %llu",
                         name_length, name, model_type_name(claim->type), model_type_block(claim->type),
                         (unsigned long long)columns);
    tensor->type = claim->type;
    tensor->rows = rows;
    tensor->columns = columns;
    return STATUS_OK;
}

enum status tensors_add(struct tensors *tensors, const struct tensors_claim *claim, struct bytes data, uint64_t *bytes,
                        struct error *error)
{
    int name_length = (int)MIN_OF(claim->name.length, (size_t)128);
    const char *name = (const char *)claim->name.data;
    struct model_tensor tensor = {0};
    enum status status = claim_shape(claim, &tensor, error);
    if (status != STATUS_OK)
        return status;
    if (!size_of(&tensor, bytes) || claim->offset > data.length || *bytes > data.length - claim->offset)
        return error_set(error, STATUS_INVALID,
                         "tensor %.*s ends outside of the file (offset %llu, %zu bytes of weights): the file is cut "
                         "off or damaged, fetch it again",
                         name_length, name, (unsigned long long)claim->offset, data.length);
    tensor.data = data.data + claim->offset;
    if (map_get(&tensors->by_name, claim->name) != NULL)
        return error_set(error, STATUS_INVALID, "tensor %.*s is there twice", name_length, name);
    struct tensors_entry *entry = arena_alloc(tensors->arena, sizeof *entry);
    char *name_copy = arena_strndup(tensors->arena, name, claim->name.length);
    if (entry == NULL || name_copy == NULL)
        return desc_no_memory(error);
    *entry = (struct tensors_entry){
        .name = name_copy, .file = claim->file, .tensor = tensor, .dims = claim->dims, .bytes = *bytes};
    if (map_put(&tensors->by_name, claim->name, entry) != STATUS_OK)
        return error_set(error, STATUS_LIMIT, "more than %d tensors", TENSORS_MAX);
    *tensors->last = entry;
    tensors->last = &entry->next;
    tensors->count++;
    return STATUS_OK;
}

struct tensors_entry *tensors_find(const struct tensors *tensors, const char *name)
{
    return map_get(&tensors->by_name, bytes_of_text(name));
}

static size_t dim_of(const struct model_desc *desc, enum dim dim)
{
    switch (dim) {
    case DIM_ONE:
        return 1;
    case DIM_HIDDEN:
        return desc->hidden;
    case DIM_FFN:
        return desc->ffn;
    case DIM_Q:
        return desc->q_heads * desc->head_dim;
    case DIM_KV:
        return desc->kv_heads * desc->head_dim;
    case DIM_VOCAB:
        return desc->vocab_size;
    }
    UNREACHABLE();
}

/* Looks one slot up under `name`, checks it, and writes it into *into. */
static enum status bind_slot(struct tensors *tensors, const struct slot *slot, const char *name,
                             struct model_desc *desc, struct model_tensor *into, struct error *error)
{
    struct tensors_entry *entry = tensors_find(tensors, name);
    if (entry == NULL && slot->optional)
        return STATUS_OK;
    if (entry == NULL)
        return error_set(error, STATUS_INVALID, "tensor %s is missing: the model is incomplete, fetch it again", name);
    const struct model_tensor *tensor = &entry->tensor;
    size_t rows = dim_of(desc, slot->rows), columns = dim_of(desc, slot->columns);
    if (tensor->rows != rows || tensor->columns != columns || (slot->rows == DIM_ONE) != (entry->dims == 1))
        return error_set(error, STATUS_INVALID,
                         "tensor %s is [%zu, %zu], but the hyper-parameters ask for [%zu, %zu]: file and configuration "
                         "don't belong together",
                         name, tensor->rows, tensor->columns, rows, columns);
    if (slot->rows == DIM_ONE && model_type_block(tensor->type) != 1)
        return error_set(error, STATUS_UNSUPPORTED, "tensor %s is a vector in %s; F32, F16 and BF16 are read", name,
                         model_type_name(tensor->type));
    entry->used = true;
    *into = *tensor;
    desc->weights_bytes += entry->bytes;
    return STATUS_OK;
}

static enum status bind_layers(struct tensors *tensors, enum tensors_dialect dialect, struct model_desc *desc,
                               struct error *error)
{
    for (size_t l = 0; l < desc->layers; l++) {
        for (size_t i = 0; i < COUNT_OF(layer_slots); i++) {
            const struct slot *slot = &layer_slots[i];
            char name[128];
            snprintf(name, sizeof name, "%s.%zu.%s", layer_prefixes[dialect], l, slot->names[dialect]);
            struct model_tensor *into = (void *)((char *)&desc->layer[l] + slot->offset);
            enum status status = bind_slot(tensors, slot, name, desc, into, error);
            if (status != STATUS_OK)
                return status;
        }
    }
    return STATUS_OK;
}

/* A tied output is the embedding's matrix. A GGUF says so by leaving the output away; a Hugging Face configuration says
 * so, and then a copy in the file counts for nothing. */
static enum status bind_output(struct tensors *tensors, enum tensors_dialect dialect, struct model_desc *desc,
                               struct error *error)
{
    const char *name = model_slots[2].names[dialect];
    struct tensors_entry *entry = tensors_find(tensors, name);
    if (dialect == TENSORS_GGUF)
        desc->tied = entry == NULL;
    if (desc->tied) {
        if (entry != NULL)
            entry->used = true;
        desc->output = desc->embedding;
        return STATUS_OK;
    }
    if (entry == NULL)
        return error_set(error, STATUS_INVALID, "tensor %s is missing, and config.json doesn't say tie_word_embeddings",
                         name);
    return bind_slot(tensors, &model_slots[2], name, desc, &desc->output, error);
}

static bool harmless(const char *name)
{
    /* Old exports carry the rotary frequencies, which follow from the configuration. */
    static const char suffix[] = "rotary_emb.inv_freq";
    size_t length = strlen(name);
    return length >= sizeof suffix - 1 && memcmp(name + length - (sizeof suffix - 1), suffix, sizeof suffix - 1) == 0;
}

static int compare_places(const void *a, const void *b)
{
    const struct tensors_entry *one = *(const struct tensors_entry *const *)a;
    const struct tensors_entry *other = *(const struct tensors_entry *const *)b;
    return (one->tensor.data > other->tensor.data) - (one->tensor.data < other->tensor.data);
}

/* No byte belongs to two tensors; so all of them together are no larger than the files. */
static enum status check_overlap(const struct tensors *tensors, struct error *error)
{
    const struct tensors_entry **sorted = mem_alloc_array(tensors->count, sizeof *sorted);
    enum status status = STATUS_OK;
    size_t count = 0;
    for (const struct tensors_entry *entry = tensors->first; entry != NULL; entry = entry->next)
        sorted[count++] = entry;
    qsort(sorted, count, sizeof *sorted, compare_places);
    for (size_t i = 1; i < count && status == STATUS_OK; i++) {
        if (sorted[i - 1]->tensor.data + sorted[i - 1]->bytes > sorted[i]->tensor.data)
            status = error_set(error, STATUS_INVALID, "tensors %.128s and %.128s overlap in the file",
                               sorted[i - 1]->name, sorted[i]->name);
    }
    mem_free(sorted);
    return status;
}

enum status tensors_bind(struct tensors *tensors, enum tensors_dialect dialect, struct model_desc *desc,
                         struct error *error)
{
    enum status status = check_overlap(tensors, error);
    if (status == STATUS_OK)
        status = bind_layers(tensors, dialect, desc, error);
    for (size_t i = 0; i < 2 && status == STATUS_OK; i++) {
        struct model_tensor *into = (void *)((char *)desc + model_slots[i].offset);
        status = bind_slot(tensors, &model_slots[i], model_slots[i].names[dialect], desc, into, error);
    }
    if (status == STATUS_OK)
        status = bind_output(tensors, dialect, desc, error);
    for (struct tensors_entry *entry = tensors->first; entry != NULL && status == STATUS_OK; entry = entry->next) {
        if (!entry->used && !harmless(entry->name))
            status = error_set(error, STATUS_UNSUPPORTED,
                               "tensor %.128s is not part of the llama architecture as shoal runs it", entry->name);
    }
    return status;
}
