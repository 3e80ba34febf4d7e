/* Tests of model/desc: type table, ids from paths, and the hash that tells models apart. */
#include "tests/unit/model/support.h"

#include "base/crypto.h"
#include "model/owner.h"

static void types(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t block, bytes;
    } rows[MODEL_TYPE_COUNT] = {{"F32", 1, 4},    {"F16", 1, 2},    {"BF16", 1, 2},
                                {"Q8_0", 32, 34}, {"Q4_0", 32, 18}, {"Q4_1", 32, 20}};
    for (int i = 0; i < MODEL_TYPE_COUNT; i++) {
        assert_string_equal(model_type_name((enum model_type)i), rows[i].name);
        assert_int_equal(model_type_block((enum model_type)i), rows[i].block);
        assert_int_equal(model_type_block_bytes((enum model_type)i), rows[i].bytes);
    }
}

static void ids_of_paths(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"/models/SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct"},
        {"stories260K-F16.gguf", "stories260k"},
        {"a/b/Llama-3.2-1B.bf16.GGUF", "llama-3.2-1b"},
        {"x-Q4_K_M.gguf", "x"},
        {"x.IQ2_XXS.gguf", "x"},
        {"model_q8_0.gguf", "model"},
        {"fast-model.gguf", "fast-model"},
        {"very_fast_model.gguf", "very_fast_model"},
        {"Qwen2.5-0.5B", "qwen2.5-0.5b"},
        {"/models/hf-fp32/", "hf-fp32"},
        {"my model (new).gguf", "my-model--new-"},
        {"/", "model"},
        {".", "model"},
        {".gguf", ".gguf"},
        {"Q8_0.gguf", "q8_0"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char id[96];
        model_id_of_path(rows[i][0], id, sizeof id);
        assert_string_equal(id, rows[i][1]);
    }
    char small[4];
    model_id_of_path("/models/abcdef.gguf", small, sizeof small);
    assert_string_equal(small, "abc");
}

static void hash_of(const struct gguf_recipe *recipe, size_t flip_from_end, uint8_t hash[32])
{
    struct buf file;
    struct model_desc *desc;
    void *copy;
    struct error error = {0};
    buf_init(&file, 1 << 22);
    make_gguf(recipe, &file);
    if (flip_from_end > 0)
        file.data[file.length - flip_from_end] ^= 1;
    assert_int_equal(open_gguf_bytes(buf_bytes(&file), false, &desc, &copy, &error), STATUS_OK);
    desc_hash(desc);
    memcpy(hash, desc->hash, 32);
    model_close(desc);
    free(copy);
    buf_free(&file);
}

static void hash_tells_models_apart(void **state)
{
    (void)state;
    static const struct gguf_recipe recipes[] = {
        {0},
        {.type = MADE_F16},
        {.type = MADE_BF16}, /* same bytes as F16, other type */
        {.type = MADE_Q8_0},
        {.u32_key = "llama.context_length", .u32_value = 128},
        {.output = true},
        {.tensor = "blk.0.attn_q.bias", .columns = 32},
        {.text_key = "llama.rope.scaling.type", .text_value = "none", .without = {"llama.rope.freq_base"}},
    };
    enum { COUNT = COUNT_OF(recipes) };
    uint8_t hashes[COUNT + 1][32], again[32];
    assert_int_equal(crypto_init(), STATUS_OK);
    for (size_t i = 0; i < COUNT; i++)
        hash_of(&recipes[i], 0, hashes[i]);
    hash_of(&recipes[0], 4 * MADE_DIM * MADE_FFN, hashes[COUNT]); /* one bit of the last tensor's first weight */
    for (size_t i = 0; i <= COUNT; i++) {
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(hashes[i], hashes[j], 32);
    }
    hash_of(&recipes[0], 0, again);
    assert_memory_equal(hashes[0], again, 32);
}

static void a_set_of_ends(void **state)
{
    (void)state;
    struct model_desc *desc = desc_new();
    struct error error = {0};
    for (int twice = 0; twice < 2; twice++) {
        for (uint64_t id = 0; id < 16; id++)
            assert_int_equal(desc_add_eos(desc, id, &error), STATUS_OK);
    }
    assert_int_equal(desc->eos_count, 16);
    assert_int_equal(desc_add_eos(desc, 16, &error), STATUS_LIMIT);
    assert_int_equal(desc_add_eos(desc, UINT64_MAX, &error), STATUS_INVALID);
    model_close(desc);
    model_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types),
        cmocka_unit_test(ids_of_paths),
        cmocka_unit_test(hash_tells_models_apart),
        cmocka_unit_test(a_set_of_ends),
    };
    return cmocka_run_group_tests_name("model.desc", tests, NULL, NULL);
}
