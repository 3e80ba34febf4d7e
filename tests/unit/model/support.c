/* support: see support.h. */
#include "tests/unit/model/support.h"

#include <unistd.h>

#include "base/crypto.h"
#include "base/file.h"
#include "model/gguf.h"
#include "model/owner.h"

/* " ab" as byte-level vocabularies write it, and as SentencePiece does. */
#define SPACE_LETTER_AB "\xc4\xa0\x61\x62"
#define SPACE_MARK_AB   "\xe2\x96\x81\x61\x62"

const char made_config[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_act\": \"silu\", "
    "\"hidden_size\": 32, \"intermediate_size\": 64, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "
    "\"num_key_value_heads\": 2, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, \"vocab_size\": 12, "
    "\"tie_word_embeddings\": true, \"eos_token_id\": 0}";

const char made_tokenizer[] =
    "{\"added_tokens\": [{\"id\": 0, \"content\": \"<end>\", \"special\": true}, "
    "{\"id\": 1, \"content\": \"<tool>\", \"special\": false, \"lstrip\": true}], \"normalizer\": null, "
    "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}, \"post_processor\": null, "
    "\"decoder\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 2, \"b\": 3, "
    "\"\\u0120\": 4, \"\\u00e9\": 5, \"ab\": 6, \"\\u0120ab\": 7}, \"merges\": [\"a b\", [\"\\u0120\", \"ab\"]]}}";

struct row {
    const char *gguf, *hf; /* %d: the layer */
    size_t rows, columns;  /* rows 0: a vector */
};

static const struct row whole[] = {
    {"token_embd.weight", "model.embed_tokens.weight", MADE_VOCAB, MADE_DIM},
    {"output_norm.weight", "model.norm.weight", 0, MADE_DIM},
};

static const struct row layer_rows[] = {
    {"blk.%d.attn_norm.weight", "model.layers.%d.input_layernorm.weight", 0, MADE_DIM},
    {"blk.%d.attn_q.weight", "model.layers.%d.self_attn.q_proj.weight", MADE_HEADS *MADE_HEAD_DIM, MADE_DIM},
    {"blk.%d.attn_k.weight", "model.layers.%d.self_attn.k_proj.weight", MADE_KV_HEADS *MADE_HEAD_DIM, MADE_DIM},
    {"blk.%d.attn_v.weight", "model.layers.%d.self_attn.v_proj.weight", MADE_KV_HEADS *MADE_HEAD_DIM, MADE_DIM},
    {"blk.%d.attn_output.weight", "model.layers.%d.self_attn.o_proj.weight", MADE_DIM, MADE_HEADS *MADE_HEAD_DIM},
    {"blk.%d.ffn_norm.weight", "model.layers.%d.post_attention_layernorm.weight", 0, MADE_DIM},
    {"blk.%d.ffn_gate.weight", "model.layers.%d.mlp.gate_proj.weight", MADE_FFN, MADE_DIM},
    {"blk.%d.ffn_up.weight", "model.layers.%d.mlp.up_proj.weight", MADE_FFN, MADE_DIM},
    {"blk.%d.ffn_down.weight", "model.layers.%d.mlp.down_proj.weight", MADE_DIM, MADE_FFN},
};

/* The parts of a GGUF, put together at the end because the header counts them. */
struct maker {
    const struct gguf_recipe *recipe;
    struct buf values, infos, data;
    uint64_t values_count, infos_count;
};

static void put_u32(struct buf *out, uint32_t value)
{
    uint8_t bytes[4];
    store_u32le(bytes, value);
    buf_append(out, bytes, sizeof bytes);
}

static void put_u64(struct buf *out, uint64_t value)
{
    uint8_t bytes[8];
    store_u64le(bytes, value);
    buf_append(out, bytes, sizeof bytes);
}

static void put_text(struct buf *out, const char *text)
{
    put_u64(out, strlen(text));
    buf_append_text(out, text);
}

static bool same(const char *a, const char *b)
{
    return a != NULL && strcmp(a, b) == 0;
}

static bool left_out(const struct gguf_recipe *recipe, const char *name)
{
    for (size_t i = 0; i < COUNT_OF(recipe->without); i++) {
        if (same(recipe->without[i], name))
            return true;
    }
    return false;
}

/* Writes key and type; false when the recipe leaves the entry out. */
static bool begin(struct maker *maker, const char *key, uint32_t type, bool own)
{
    const struct gguf_recipe *recipe = maker->recipe;
    if (!own && (left_out(recipe, key) || same(recipe->u32_key, key) || same(recipe->text_key, key)))
        return false;
    put_text(&maker->values, key);
    put_u32(&maker->values, type);
    maker->values_count++;
    return true;
}

static void value_u32(struct maker *maker, const char *key, uint32_t value)
{
    for (int i = 0; i < (same(maker->recipe->twice, key) ? 2 : 1); i++) {
        if (begin(maker, key, GGUF_U32, false))
            put_u32(&maker->values, value);
    }
}

static void value_f32(struct maker *maker, const char *key, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (begin(maker, key, GGUF_F32, false))
        put_u32(&maker->values, bits);
}

static void value_text(struct maker *maker, const char *key, const char *value)
{
    if (begin(maker, key, GGUF_STRING, false))
        put_text(&maker->values, value);
}

static void value_texts(struct maker *maker, const char *key, const char *const *values, size_t count)
{
    if (!begin(maker, key, GGUF_ARRAY, false))
        return;
    put_u32(&maker->values, GGUF_STRING);
    put_u64(&maker->values, count);
    for (size_t i = 0; i < count; i++)
        put_text(&maker->values, values[i]);
}

static void value_words(struct maker *maker, const char *key, uint32_t element, const uint32_t *values, size_t count)
{
    if (!begin(maker, key, GGUF_ARRAY, false))
        return;
    put_u32(&maker->values, element);
    put_u64(&maker->values, count);
    for (size_t i = 0; i < count; i++)
        put_u32(&maker->values, values[i]);
}

static void tensor(struct maker *maker, const char *name, uint32_t type, size_t rows, size_t columns)
{
    static const size_t sizes[] = {[MADE_F32] = 128, [MADE_F16] = 64,  [MADE_Q4_0] = 18, [MADE_Q4_1] = 20,
                                   [MADE_Q8_0] = 34, [MADE_Q4_K] = 18, [MADE_BF16] = 64};
    if (left_out(maker->recipe, name))
        return;
    uint32_t alignment = maker->recipe->alignment == 0 ? 32 : maker->recipe->alignment;
    while (maker->data.length % alignment != 0)
        buf_append_u8(&maker->data, 0);
    put_text(&maker->infos, name);
    put_u32(&maker->infos, rows == 0 ? 1 : 2);
    put_u64(&maker->infos, columns);
    if (rows > 0)
        put_u64(&maker->infos, rows);
    put_u32(&maker->infos, type);
    put_u64(&maker->infos, (maker->recipe->overlap ? 0 : maker->data.length) +
                               (maker->infos_count == 0 ? maker->recipe->misaligned : 0));
    maker->infos_count++;
    size_t bytes = MAX_OF(rows, (size_t)1) * columns / 4 * sizes[type] / 8;
    for (size_t i = 0; i < bytes; i++)
        buf_append_u8(&maker->data, (uint8_t)(i * 7 + maker->infos_count) & 0x3f); /* small in every number format */
}

static void llama_values(struct maker *maker)
{
    value_text(maker, "general.architecture", "llama");
    if (maker->recipe->alignment != 0)
        value_u32(maker, "general.alignment", maker->recipe->alignment);
    value_u32(maker, "llama.block_count", MADE_LAYERS);
    value_u32(maker, "llama.context_length", MADE_CONTEXT);
    value_u32(maker, "llama.embedding_length", MADE_DIM);
    value_u32(maker, "llama.feed_forward_length", MADE_FFN);
    value_u32(maker, "llama.attention.head_count", MADE_HEADS);
    value_u32(maker, "llama.attention.head_count_kv", MADE_KV_HEADS);
    value_f32(maker, "llama.attention.layer_norm_rms_epsilon", 1e-5F);
    value_f32(maker, "llama.rope.freq_base", 50000);
}

static void byte_level_values(struct maker *maker)
{
    static const char *const tokens[MADE_VOCAB] = {"<end>",         "<tool>",   "a",        "b",
                                                   "\xc4\xa0",      "\xc3\xa9", "ab",       "ba",
                                                   SPACE_LETTER_AB, "<turn>",   "[unused]", "\xe2\x96\x81"};
    static const uint32_t kinds[MADE_VOCAB] = {3, 4, 1, 1, 1, 1, 1, 1, 1, 3, 5, 1};
    static const char *const merges[] = {"a b", "b a", "\xc4\xa0 ab"};
    value_text(maker, "tokenizer.ggml.model", "gpt2");
    value_text(maker, "tokenizer.ggml.pre", "gpt-2");
    value_texts(maker, "tokenizer.ggml.tokens", tokens, MADE_VOCAB);
    value_words(maker, "tokenizer.ggml.token_type", GGUF_I32, kinds, MADE_VOCAB - maker->recipe->types_cut);
    value_texts(maker, "tokenizer.ggml.merges", merges, COUNT_OF(merges));
    value_u32(maker, "tokenizer.ggml.bos_token_id", 9);
    value_u32(maker, "tokenizer.ggml.eos_token_id", 0);
    value_u32(maker, "tokenizer.ggml.eot_token_id", 9);
    value_u32(maker, "tokenizer.ggml.unknown_token_id", 0);
    value_text(maker, "tokenizer.chat_template", "{{ messages }}");
}

static void spm_values(struct maker *maker)
{
    static const char *const tokens[MADE_VOCAB] = {"<unk>", "<s>", "</s>",         "<0x00>", "<0x0A>",      "<0xFF>",
                                                   "a",     "b",   "\xe2\x96\x81", "ab",     SPACE_MARK_AB, "<tool>"};
    static const uint32_t kinds[MADE_VOCAB] = {2, 3, 3, 6, 6, 6, 1, 1, 1, 1, 1, 4};
    static const float scores[MADE_VOCAB] = {0, 0, 0, 0, 0, 0, -3, -4, -5, -1, -2, 0};
    uint32_t bits[MADE_VOCAB];
    memcpy(bits, scores, sizeof bits);
    value_text(maker, "tokenizer.ggml.model", "llama");
    value_texts(maker, "tokenizer.ggml.tokens", tokens, MADE_VOCAB);
    value_words(maker, "tokenizer.ggml.token_type", GGUF_I32, kinds, MADE_VOCAB - maker->recipe->types_cut);
    value_words(maker, "tokenizer.ggml.scores", GGUF_F32, bits, MADE_VOCAB);
    value_u32(maker, "tokenizer.ggml.bos_token_id", 1);
    value_u32(maker, "tokenizer.ggml.eos_token_id", 2);
    value_u32(maker, "tokenizer.ggml.unknown_token_id", 0);
}

static void all_tensors(struct maker *maker)
{
    const struct gguf_recipe *recipe = maker->recipe;
    char name[64];
    for (size_t i = 0; i < COUNT_OF(whole); i++)
        tensor(maker, whole[i].gguf, whole[i].rows == 0 ? MADE_F32 : recipe->type, whole[i].rows, whole[i].columns);
    for (int l = 0; l < MADE_LAYERS; l++) {
        for (size_t i = 0; i < COUNT_OF(layer_rows); i++) {
            const struct row *row = &layer_rows[i];
            snprintf(name, sizeof name, row->gguf, l);
            for (int n = 0; n < (same(recipe->twice, name) ? 2 : 1); n++)
                tensor(maker, name, row->rows == 0 ? MADE_F32 : recipe->type, row->rows, row->columns);
        }
    }
    if (recipe->output)
        tensor(maker, "output.weight", recipe->type, MADE_VOCAB, MADE_DIM);
    if (recipe->tensor != NULL)
        tensor(maker, recipe->tensor, MADE_F32, recipe->rows, recipe->columns);
}

void make_gguf(const struct gguf_recipe *recipe, struct buf *out)
{
    struct maker maker = {.recipe = recipe};
    struct buf *parts[] = {&maker.values, &maker.infos, &maker.data};
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        buf_init(parts[i], 1 << 20);
    llama_values(&maker);
    if (recipe->spm)
        spm_values(&maker);
    else
        byte_level_values(&maker);
    if (recipe->u32_key != NULL && begin(&maker, recipe->u32_key, GGUF_U32, true))
        put_u32(&maker.values, recipe->u32_value);
    if (recipe->text_key != NULL && begin(&maker, recipe->text_key, GGUF_STRING, true))
        put_text(&maker.values, recipe->text_value);
    if (!recipe->no_tensors)
        all_tensors(&maker);
    size_t start = out->length;
    buf_append_text(out, "GGUF");
    put_u32(out, recipe->version == 0 ? 3 : recipe->version);
    put_u64(out, maker.infos_count);
    put_u64(out, maker.values_count);
    buf_append_bytes(out, buf_bytes(&maker.values));
    buf_append_bytes(out, buf_bytes(&maker.infos));
    while ((out->length - start) % (recipe->alignment == 0 ? 32 : recipe->alignment) != 0)
        buf_append_u8(out, 0);
    buf_append_bytes(out, buf_bytes(&maker.data));
    CHECK(!out->overflow);
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        buf_free(parts[i]);
}

static void hf_tensor(struct buf *header, struct buf *data, const char *name, const char *dtype, size_t rows,
                      size_t columns)
{
    size_t bytes = MAX_OF(rows, (size_t)1) * columns * (strcmp(dtype, "F32") == 0 ? 4 : 2);
    buf_printf(header, "%s\"%s\": {\"dtype\": \"%s\", \"shape\": [", header->length == 0 ? "{" : ", ", name, dtype);
    if (rows > 0)
        buf_printf(header, "%zu, ", rows);
    buf_printf(header, "%zu], \"data_offsets\": [%zu, %zu]}", columns, data->length, data->length + bytes);
    for (size_t i = 0; i < bytes; i++)
        buf_append_u8(data, (uint8_t)(i * 5 + 1) & 0x3f);
}

void make_safetensors(const char *dtype, struct buf *out)
{
    struct buf header, data;
    char name[64];
    buf_init(&header, 1 << 20);
    buf_init(&data, 1 << 20);
    for (size_t i = 0; i < COUNT_OF(whole); i++)
        hf_tensor(&header, &data, whole[i].hf, dtype, whole[i].rows, whole[i].columns);
    for (int l = 0; l < MADE_LAYERS; l++) {
        for (size_t i = 0; i < COUNT_OF(layer_rows); i++) {
            snprintf(name, sizeof name, layer_rows[i].hf, l);
            hf_tensor(&header, &data, name, dtype, layer_rows[i].rows, layer_rows[i].columns);
        }
    }
    buf_append_text(&header, "}");
    put_u64(out, header.length);
    buf_append_bytes(out, buf_bytes(&header));
    buf_append_bytes(out, buf_bytes(&data));
    CHECK(!out->overflow);
    buf_free(&header);
    buf_free(&data);
}

enum status open_gguf_bytes(struct bytes bytes, bool vocab_only, struct model_desc **out, void **copy,
                            struct error *error)
{
    struct model_options options = {.vocab_only = vocab_only};
    struct model_desc *desc = desc_new();
    *copy = malloc(bytes.length == 0 ? 1 : bytes.length);
    CHECK(*copy != NULL);
    memcpy(*copy, bytes.data, bytes.length);
    enum status status = gguf_load(bytes_of(*copy, bytes.length), &options, desc, error);
    *out = desc;
    if (status != STATUS_OK) {
        model_close(desc);
        free(*copy);
        *out = NULL;
        *copy = NULL;
    }
    return status;
}

void folder_make(struct folder *folder)
{
    snprintf(folder->path, sizeof folder->path, "/tmp/shoal-test-model-XXXXXX");
    CHECK(mkdtemp(folder->path) != NULL);
}

void folder_drop(struct folder *folder)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder->path);
    CHECK(system(command) == 0);
}

void folder_write(const struct folder *folder, const char *name, struct bytes content)
{
    struct error error;
    char *path = file_join(folder->path, name);
    enum status status = file_write_atomic(path, content, 0644, &error);
    CHECK(status == STATUS_OK);
    mem_free(path);
}

void folder_remove(const struct folder *folder, const char *name)
{
    char *path = file_join(folder->path, name);
    CHECK(unlink(path) == 0);
    mem_free(path);
}
