/* Tests of model/safetensors and hf: folders in one file and in shards, every refusal by name, and damage survived. */
#include "tests/unit/model/support.h"

#include "base/file.h"
#include "model/owner.h"
#include "model/safetensors.h"

static struct folder folder;

static int set_up(void **state)
{
    (void)state;
    struct buf weights;
    folder_make(&folder);
    buf_init(&weights, 1 << 22);
    make_safetensors("F32", &weights);
    folder_write(&folder, "config.json", bytes_of_text(made_config));
    folder_write(&folder, "tokenizer.json", bytes_of_text(made_tokenizer));
    folder_write(&folder, "model.safetensors", buf_bytes(&weights));
    buf_free(&weights);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    folder_drop(&folder);
    return 0;
}

/* Opens the folder with one file's content replaced; the sentence must hold `says` when it is refused. */
static void expect(const char *name, const char *content, enum status wanted, const char *says)
{
    struct model_desc *desc = NULL;
    struct error error = {0};
    struct buf before;
    char *path = file_join(folder.path, name);
    bool existed = file_exists(path);
    buf_init(&before, 1 << 22);
    if (existed)
        assert_int_equal(file_read(path, 1 << 22, &before, &error), STATUS_OK);
    folder_write(&folder, name, bytes_of_text(content));
    enum status status = model_open(folder.path, NULL, &desc, &error);
    if (status != wanted || (status != STATUS_OK && strstr(error.text, says) == NULL))
        fail_msg("%s: wanted %s '%s', got %s: %s", name, status_name(wanted), says, status_name(status), error.text);
    if (status == STATUS_OK)
        model_close(desc);
    if (existed)
        folder_write(&folder, name, buf_bytes(&before));
    else
        folder_remove(&folder, name);
    buf_free(&before);
    mem_free(path);
}

/* config.json with one piece of text replaced. */
static void expect_config(const char *old, const char *new, enum status wanted, const char *says)
{
    struct buf text;
    const char *at = strstr(made_config, old);
    assert_non_null(at);
    buf_init(&text, 1 << 16);
    buf_append(&text, made_config, (size_t)(at - made_config));
    buf_append_text(&text, new);
    buf_append_text(&text, at + strlen(old));
    expect("config.json", buf_text(&text), wanted, says);
    buf_free(&text);
}

static struct model_desc *open_folder(void)
{
    struct model_desc *desc;
    struct error error = {0};
    if (model_open(folder.path, NULL, &desc, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return desc;
}

static void one_file(void **state)
{
    (void)state;
    struct model_desc *desc = open_folder();
    assert_int_equal(desc->layers, MADE_LAYERS);
    assert_int_equal(desc->head_dim, MADE_HEAD_DIM);
    assert_int_equal(desc->rope_layout, MODEL_ROPE_HALVES);
    assert_true(desc->rope_base == 10000);
    assert_true(desc->tied);
    assert_int_equal(desc->layer[1].down.rows, MADE_DIM);
    assert_int_equal(desc->layer[1].down.columns, MADE_FFN);
    assert_int_equal(desc->eos_count, 1);
    assert_int_equal(desc->vocab->count, MADE_VOCAB);
    assert_int_equal(desc->vocab->tokens[8].kind, VOCAB_UNUSED); /* beyond the tokenizer's ids */
    model_close(desc);
}

/* The same tensors in two files give the same model. */
static void shards(void **state)
{
    (void)state;
    struct model_desc *whole = open_folder();
    struct buf weights, first, second, index;
    struct error error = {0};
    struct folder other;
    struct tensors tensors;
    struct arena arena;
    struct buf *all[] = {&weights, &first, &second, &index};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        buf_init(all[i], 1 << 22);
    make_safetensors("F32", &weights);
    arena_init(&arena, 1 << 20);
    tensors_init(&tensors, &arena);
    assert_int_equal(safetensors_read(buf_bytes(&weights), "w", &tensors, &error), STATUS_OK);
    struct buf *parts[] = {&first, &second}, headers[2], data[2];
    size_t at = 0;
    for (size_t i = 0; i < 2; i++) {
        buf_init(&headers[i], 1 << 20);
        buf_init(&data[i], 1 << 22);
    }
    buf_append_text(&index, "{\"weight_map\": {");
    for (struct tensors_entry *entry = tensors.first; entry != NULL; entry = entry->next, at++) {
        size_t part = at % 2;
        buf_printf(&headers[part], "%s\"%s\": {\"dtype\": \"F32\", \"shape\": [", at < 2 ? "{" : ", ", entry->name);
        if (entry->dims == 2)
            buf_printf(&headers[part], "%zu, ", entry->tensor.rows);
        buf_printf(&headers[part], "%zu], \"data_offsets\": [%zu, %zu]}", entry->tensor.columns, data[part].length,
                   data[part].length + entry->bytes);
        buf_append(&data[part], entry->tensor.data, entry->bytes);
        buf_printf(&index, "%s\"%s\": \"part-%zu.safetensors\"", at == 0 ? "" : ", ", entry->name, part);
    }
    buf_append_text(&index, "}}");
    folder_make(&other);
    for (size_t i = 0; i < 2; i++) {
        uint8_t length[8];
        char name[32];
        buf_append_text(&headers[i], "}");
        store_u64le(length, headers[i].length);
        buf_append(parts[i], length, 8);
        buf_append_bytes(parts[i], buf_bytes(&headers[i]));
        buf_append_bytes(parts[i], buf_bytes(&data[i]));
        snprintf(name, sizeof name, "part-%zu.safetensors", i);
        folder_write(&other, name, buf_bytes(parts[i]));
        buf_free(&headers[i]);
        buf_free(&data[i]);
    }
    folder_write(&other, "config.json", bytes_of_text(made_config));
    folder_write(&other, "model.safetensors.index.json", buf_bytes(&index));
    struct model_desc *split;
    if (model_open(other.path, NULL, &split, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    assert_memory_equal(split->hash, whole->hash, 32);
    assert_int_equal(split->weights_bytes, whole->weights_bytes);
    model_close(split);

    /* A tensor that isn't where the index has it, then a shard that is missing. */
    folder_write(&other, "model.safetensors.index.json",
                 BYTES_LITERAL("{\"weight_map\": {\"model.norm.weight\": \"part-0.safetensors\"}}"));
    assert_int_equal(model_open(other.path, NULL, &split, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "model.norm.weight is not in part-0.safetensors"));
    folder_write(&other, "model.safetensors.index.json", buf_bytes(&index));
    folder_remove(&other, "part-1.safetensors");
    assert_int_equal(model_open(other.path, NULL, &split, &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error.text, "part-1.safetensors is missing"));
    folder_drop(&other);
    model_close(whole);
    tensors_free(&tensors);
    arena_free(&arena);
    for (size_t i = 0; i < COUNT_OF(all); i++)
        buf_free(all[i]);
}

static void bad_configurations(void **state)
{
    (void)state;
    expect_config("\"llama\"", "\"gpt_neox\"", STATUS_UNSUPPORTED, "gpt_neox");
    expect_config("LlamaForCausalLM", "LlamaForSequenceClassification", STATUS_UNSUPPORTED, "LlamaForSequence");
    expect_config("\"silu\"", "\"gelu\"", STATUS_UNSUPPORTED, "hidden_act");
    expect_config("\"hidden_size\": 32, ", "", STATUS_INVALID, "hidden_size is missing");
    expect_config("\"hidden_size\": 32", "\"hidden_size\": -32", STATUS_INVALID, "hidden_size is no size");
    expect_config("\"hidden_size\": 32", "\"hidden_size\": \"32\"", STATUS_INVALID, "hidden_size is no size");
    expect_config("\"hidden_size\": 32", "\"hidden_size\": 1000000000000", STATUS_LIMIT, "hidden size: 1000000000000");
    expect_config("\"hidden_size\": 32", "\"hidden_size\": 64", STATUS_INVALID, "input_layernorm.weight is [1, 32]");
    expect_config("\"vocab_size\": 12", "\"vocab_size\": 13", STATUS_INVALID, "embed_tokens.weight is [12, 32]");
    expect_config("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", STATUS_INVALID, "model.layers.2.");
    expect_config("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", STATUS_UNSUPPORTED, "model.layers.1.");
    expect_config("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false", STATUS_INVALID,
                  "lm_head.weight is missing");
    expect_config("1e-5", "0", STATUS_INVALID, "epsilon");
    expect_config("1e-5", "-1e-5", STATUS_INVALID, "epsilon");
    expect_config("\"eos_token_id\": 0", "\"eos_token_id\": \"end\"", STATUS_INVALID, "eos_token_id");
    expect_config("\"eos_token_id\": 0", "\"eos_token_id\": [0, -1]", STATUS_INVALID, "eos_token_id");
    expect_config("\"eos_token_id\": 0", "\"eos_token_id\": [0, 12]", STATUS_INVALID, "id 12");
    expect_config("\"eos_token_id\": 0", "\"quantization_config\": {}", STATUS_UNSUPPORTED, "quantization_config");
    expect_config("\"eos_token_id\": 0", "\"rope_theta\": \"x\"", STATUS_INVALID, "rope base");
    expect_config("\"eos_token_id\": 0", "\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}", STATUS_UNSUPPORTED,
                  "rope scaling dynamic");
    expect_config("\"eos_token_id\": 0", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}", STATUS_INVALID,
                  "factor 0");
    expect_config("\"eos_token_id\": 0", "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8}", STATUS_INVALID,
                  "low_freq_factor");
    expect_config("\"eos_token_id\": 0", "\"partial_rotary_factor\": 2", STATUS_INVALID, "partial_rotary_factor");
    expect_config("{\"arch", "[\"arch", STATUS_INVALID, "config.json");
    expect("config.json", "[]", STATUS_INVALID, "config.json: no JSON object");
    expect("generation_config.json", "{\"eos_token_id\": [99]}", STATUS_INVALID, "id 99");
    expect("tokenizer.json", "{}", STATUS_UNSUPPORTED, "tokenizer.json");
}

static void configurations_that_are_fine(void **state)
{
    (void)state;
    expect_config("\"eos_token_id\": 0", "\"eos_token_id\": null", STATUS_OK, "");
    expect_config("\"eos_token_id\": 0", "\"rope_scaling\": null, \"sliding_window\": null", STATUS_OK, "");
    expect_config("\"eos_token_id\": 0",
                  "\"rope_parameters\": {\"rope_type\": \"llama3\", \"factor\": 8, \"rope_theta\": 500000.0, "
                  "\"low_freq_factor\": 1, \"high_freq_factor\": 4, \"original_max_position_embeddings\": 64}",
                  STATUS_OK, "");
}

/* generation_config.json decides, as a number or a list. */
static void ends_of_generation(void **state)
{
    (void)state;
    folder_write(&folder, "generation_config.json", BYTES_LITERAL("{\"eos_token_id\": [7, 3, 7]}"));
    struct model_desc *desc = open_folder();
    assert_int_equal(desc->eos_count, 2);
    assert_int_equal(desc->eos_ids[0], 7);
    assert_int_equal(desc->eos_ids[1], 3);
    model_close(desc);
    folder_write(&folder, "generation_config.json", BYTES_LITERAL("{\"eos_token_id\": 5}"));
    desc = open_folder();
    assert_int_equal(desc->eos_count, 1);
    assert_int_equal(desc->eos_ids[0], 5);
    model_close(desc);
    folder_remove(&folder, "generation_config.json");
}

static void chat_templates(void **state)
{
    (void)state;
    folder_write(&folder, "tokenizer_config.json",
                 BYTES_LITERAL("{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"no\"}, "
                               "{\"name\": \"default\", \"template\": \"list\"}]}"));
    struct model_desc *desc = open_folder();
    assert_string_equal(desc->chat_template, "list");
    model_close(desc);
    folder_write(&folder, "chat_template.jinja", BYTES_LITERAL("file"));
    desc = open_folder();
    assert_string_equal(desc->chat_template, "file");
    model_close(desc);
    folder_remove(&folder, "chat_template.jinja");
    folder_remove(&folder, "tokenizer_config.json");
    desc = open_folder();
    assert_null(desc->chat_template);
    model_close(desc);
}

/* Headers alone: what each says, over 16 bytes of data. */
static void bad_headers(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"[]", "no JSON object"},
        {"{", "w: "},
        {"{\"a\": 1}", "tensor a has dtype (none)"},
        {"{\"a\": {\"dtype\": \"I64\", \"shape\": [1], \"data_offsets\": [0, 8]}}", "tensor a has dtype I64"},
        {"{\"a\": {\"dtype\": \"F32\", \"data_offsets\": [0, 8]}}", "its shape"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1, 1, 1, 1, 1], \"data_offsets\": [0, 4]}}", "its shape"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1, 1, 2], \"data_offsets\": [0, 8]}}", "3 dimensions"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [], \"data_offsets\": [0, 4]}}", "0 dimensions"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [0], \"data_offsets\": [0, 0]}}", "a is empty"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [-1], \"data_offsets\": [0, 4]}}", "no size"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2.0], \"data_offsets\": [0, 8]}}", "no size"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 4]}}", "don't fit"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [8, 0]}}", "data_offsets"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0]}}", "data_offsets"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [12, 20]}}", "outside of the file"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [9223372036854775800, 9223372036854775807]}}",
         "outside of the file"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [4611686018427387904, 4], \"data_offsets\": [0, 16]}}",
         "outside of the file"},
        {"{\"a\": {\"dtype\": \"F16\", \"shape\": [4294967296, 4294967296], \"data_offsets\": [0, 16]}}",
         "outside of the file"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct arena arena;
        struct tensors tensors;
        struct error error = {0};
        size_t length = strlen(rows[i][0]), total = 8 + length + 16;
        uint8_t *file = malloc(total);
        assert_non_null(file);
        store_u64le(file, length);
        memcpy(file + 8, rows[i][0], length);
        memset(file + 8 + length, 0, 16);
        arena_init(&arena, 1 << 20);
        tensors_init(&tensors, &arena);
        enum status status = safetensors_read(bytes_of(file, total), "w", &tensors, &error);
        if (status == STATUS_OK || strstr(error.text, rows[i][1]) == NULL)
            fail_msg("row %zu: %s: %s", i, status_name(status), error.text);
        tensors_free(&tensors);
        arena_free(&arena);
        free(file);
    }
}

/* Truncations of the whole file and flips of its header, from exact copies. */
static void damage_is_survived(void **state)
{
    (void)state;
    struct buf weights;
    buf_init(&weights, 1 << 22);
    make_safetensors("BF16", &weights);
    size_t header = 8 + (size_t)load_u64le(weights.data);
    for (size_t i = 0; i < 3 * header; i++) {
        bool cut = i < header;
        size_t length = cut ? i : weights.length;
        struct arena arena;
        struct tensors tensors;
        struct error error = {0};
        uint8_t *copy = malloc(length == 0 ? 1 : length);
        assert_non_null(copy);
        memcpy(copy, weights.data, length);
        if (!cut)
            copy[(i - header) / 2] ^= i % 2 == 0 ? 0x01 : 0x80;
        arena_init(&arena, 1 << 20);
        tensors_init(&tensors, &arena);
        enum status status = safetensors_read(bytes_of(copy, length), "w", &tensors, &error);
        assert_true(!cut || status != STATUS_OK);
        assert_true(status == STATUS_OK || strlen(error.text) > 0);
        tensors_free(&tensors);
        arena_free(&arena);
        free(copy);
    }
    buf_free(&weights);
}

/* Two tensors of one size at one place. */
static void overlapping_tensors(void **state)
{
    (void)state;
    struct buf weights;
    struct model_desc *desc;
    struct error error = {0};
    struct folder other;
    buf_init(&weights, 1 << 22);
    make_safetensors("F32", &weights);
    char *first = strstr((char *)weights.data + 8, "model.layers.0.self_attn.k_proj.weight");
    char *second = strstr((char *)weights.data + 8, "model.layers.0.self_attn.v_proj.weight");
    assert_true(first != NULL && second != NULL);
    char *from = strstr(first, "offsets\": ["), *to = strstr(second, "offsets\": [");
    assert_int_equal(strcspn(from, "]"), strcspn(to, "]"));
    memcpy(to, from, strcspn(from, "]"));
    folder_make(&other);
    folder_write(&other, "config.json", bytes_of_text(made_config));
    folder_write(&other, "model.safetensors", buf_bytes(&weights));
    assert_int_equal(model_open(other.path, NULL, &desc, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "overlap in the file"));
    folder_drop(&other);
    buf_free(&weights);
}

static void missing_parts(void **state)
{
    (void)state;
    struct folder empty;
    struct model_desc *desc;
    struct error error = {0};
    folder_make(&empty);
    assert_int_equal(model_open(empty.path, NULL, &desc, &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error.text, "config.json is missing"));
    assert_non_null(strstr(error.text, empty.path));
    folder_write(&empty, "config.json", bytes_of_text(made_config));
    assert_int_equal(model_open(empty.path, NULL, &desc, &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error.text, "no weights"));
    static const char *const outside[] = {"../w", "a/w", "/w", ".w", ""};
    for (size_t i = 0; i < COUNT_OF(outside); i++) {
        char index[64];
        snprintf(index, sizeof index, "{\"weight_map\": {\"a\": \"%s\"}}", outside[i]);
        folder_write(&empty, "model.safetensors.index.json", bytes_of_text(index));
        assert_int_equal(model_open(empty.path, NULL, &desc, &error), STATUS_INVALID);
        assert_non_null(strstr(error.text, "isn't one of the folder"));
    }
    struct model_options vocab_only = {.vocab_only = true};
    assert_int_equal(model_open(empty.path, &vocab_only, &desc, &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error.text, "tokenizer.json is missing"));
    folder_write(&empty, "tokenizer.json", bytes_of_text(made_tokenizer));
    assert_int_equal(model_open(empty.path, &vocab_only, &desc, &error), STATUS_OK);
    assert_int_equal(desc->vocab_size, MADE_VOCAB);
    assert_int_equal(desc->context_tokens, MADE_CONTEXT);
    model_close(desc);
    folder_drop(&empty);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_file),
        cmocka_unit_test(shards),
        cmocka_unit_test(bad_configurations),
        cmocka_unit_test(configurations_that_are_fine),
        cmocka_unit_test(ends_of_generation),
        cmocka_unit_test(chat_templates),
        cmocka_unit_test(bad_headers),
        cmocka_unit_test(damage_is_survived),
        cmocka_unit_test(overlapping_tensors),
        cmocka_unit_test(missing_parts),
    };
    return cmocka_run_group_tests_name("model.safetensors", tests, set_up, tear_down);
}
