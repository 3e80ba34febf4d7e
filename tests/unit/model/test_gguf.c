/* Tests of model/gguf and gguf_load: what is read from a good file, which bad files are refused and in which words, and
 * that no damage makes the reader read outside of the file (the copies are exact, ASan watches). */
#include "tests/unit/model/support.h"

#include <math.h>

#include "model/gguf.h"
#include "model/owner.h"

static struct model_desc *open_made(const struct gguf_recipe *recipe, void **copy)
{
    struct buf file;
    struct model_desc *desc;
    struct error error = {0};
    buf_init(&file, 1 << 22);
    make_gguf(recipe, &file);
    if (open_gguf_bytes(buf_bytes(&file), false, &desc, copy, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    buf_free(&file);
    return desc;
}

static void drop(struct model_desc *desc, void *copy)
{
    model_close(desc);
    free(copy);
}

static void hyper_parameters(void **state)
{
    (void)state;
    void *copy;
    struct model_desc *desc = open_made(&(struct gguf_recipe){0}, &copy);
    assert_string_equal(desc->architecture, "llama");
    assert_int_equal(desc->layers, MADE_LAYERS);
    assert_int_equal(desc->hidden, MADE_DIM);
    assert_int_equal(desc->ffn, MADE_FFN);
    assert_int_equal(desc->q_heads, MADE_HEADS);
    assert_int_equal(desc->kv_heads, MADE_KV_HEADS);
    assert_int_equal(desc->head_dim, MADE_HEAD_DIM);
    assert_int_equal(desc->rope_dim, MADE_HEAD_DIM);
    assert_int_equal(desc->vocab_size, MADE_VOCAB);
    assert_int_equal(desc->context_tokens, MADE_CONTEXT);
    assert_true(desc->rms_epsilon == 1e-5F);
    assert_true(desc->rope_base == 50000);
    assert_int_equal(desc->rope_layout, MODEL_ROPE_PAIRS);
    assert_int_equal(desc->rope_scaling, MODEL_ROPE_NONE);
    assert_null(desc->rope_freq_factors);
    assert_true(desc->tied);
    assert_ptr_equal(desc->output.data, desc->embedding.data);
    drop(desc, copy);
}

static void tensors_have_type_shape_and_place(void **state)
{
    (void)state;
    static const struct {
        uint32_t number;
        enum model_type type;
    } types[] = {{MADE_F32, MODEL_F32},   {MADE_F16, MODEL_F16},   {MADE_BF16, MODEL_BF16},
                 {MADE_Q8_0, MODEL_Q8_0}, {MADE_Q4_0, MODEL_Q4_0}, {MADE_Q4_1, MODEL_Q4_1}};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        void *copy;
        struct gguf_recipe recipe = {.type = types[i].number, .version = i % 2 == 0 ? 2 : 3, .output = true};
        struct model_desc *desc = open_made(&recipe, &copy);
        const struct model_layer *layer = &desc->layer[1];
        assert_int_equal(layer->down.type, types[i].type);
        assert_int_equal(layer->down.rows, MADE_DIM);
        assert_int_equal(layer->down.columns, MADE_FFN);
        assert_int_equal(layer->k.rows, MADE_KV_HEADS * MADE_HEAD_DIM);
        assert_int_equal(layer->attn_norm.rows, 1);
        assert_int_equal(layer->attn_norm.columns, MADE_DIM);
        assert_null(layer->q_bias.data);
        /* The writer's first byte of the second tensor, and the two matrices of the vocabulary. */
        assert_int_equal(desc->output_norm.data[0], 2);
        assert_false(desc->tied);
        assert_ptr_not_equal(desc->output.data, desc->embedding.data);
        size_t vocab_bytes =
            MADE_VOCAB * MADE_DIM / model_type_block(types[i].type) * model_type_block_bytes(types[i].type);
        assert_true(desc->weights_bytes > 2 * vocab_bytes);
        drop(desc, copy);
    }
}

static void alignment_is_honoured(void **state)
{
    (void)state;
    void *copy;
    struct model_desc *desc = open_made(&(struct gguf_recipe){.alignment = 256}, &copy);
    assert_int_equal((desc->output_norm.data - (uint8_t *)copy) % 256, 0);
    assert_int_equal(desc->output_norm.data[0], 2);
    drop(desc, copy);
}

static void biases_and_rope_factors(void **state)
{
    (void)state;
    void *copy;
    struct gguf_recipe recipe = {.tensor = "blk.1.attn_k.bias", .columns = MADE_KV_HEADS * MADE_HEAD_DIM};
    struct model_desc *desc = open_made(&recipe, &copy);
    assert_non_null(desc->layer[1].k_bias.data);
    assert_null(desc->layer[0].k_bias.data);
    drop(desc, copy);

    static const float factors[MADE_HEAD_DIM / 2] = {1, 2, 4.5F, 32};
    struct buf file;
    struct error error = {0};
    buf_init(&file, 1 << 22);
    make_gguf(&(struct gguf_recipe){.tensor = "rope_freqs.weight", .columns = MADE_HEAD_DIM / 2}, &file);
    memcpy(file.data + file.length - sizeof factors, factors, sizeof factors);
    assert_int_equal(open_gguf_bytes(buf_bytes(&file), false, &desc, &copy, &error), STATUS_OK);
    assert_memory_equal(desc->rope_freq_factors, factors, sizeof factors);
    drop(desc, copy);
    buf_free(&file);
}

static void rope_scaling(void **state)
{
    (void)state;
    void *copy;
    struct gguf_recipe recipe = {.text_key = "llama.rope.scaling.type", .text_value = "none"};
    struct model_desc *desc = open_made(&recipe, &copy);
    assert_int_equal(desc->rope_scaling, MODEL_ROPE_NONE);
    drop(desc, copy);
}

/* One wrong thing each, and a piece of the sentence that must name it. */
struct refusal {
    const char *says;
    enum status status;
    struct gguf_recipe recipe;
};

static const struct refusal refusals[] = {
    {"version 1", STATUS_UNSUPPORTED, {.version = 1}},
    {"version 4", STATUS_UNSUPPORTED, {.version = 4}},
    {"big-endian", STATUS_UNSUPPORTED, {.version = 0x03000000}},
    {"blk.0.attn_q.weight has type Q4_K", STATUS_UNSUPPORTED, {.without = {"token_embd.weight"}, .type = MADE_Q4_K}},
    {"llama.block_count is there twice", STATUS_INVALID, {.twice = "llama.block_count"}},
    {"blk.1.attn_v.weight is there twice", STATUS_INVALID, {.twice = "blk.1.attn_v.weight"}},
    {"overlap", STATUS_INVALID, {.overlap = true}},
    {"aligned to 32", STATUS_INVALID, {.misaligned = 8}},
    {"general.alignment", STATUS_INVALID, {.u32_key = "general.alignment", .u32_value = 24}},
    {"general.alignment", STATUS_INVALID, {.u32_key = "general.alignment", .u32_value = 0}},
    {"no weights", STATUS_INVALID, {.no_tensors = true}},
    {"architecture falcon",
     STATUS_UNSUPPORTED,
     {.text_key = "general.architecture", .text_value = "falcon", .without = {"llama.block_count"}}},
    {"general.architecture", STATUS_INVALID, {.without = {"general.architecture"}}},
    {"llama.block_count is missing", STATUS_INVALID, {.without = {"llama.block_count"}}},
    {"llama.context_length is missing", STATUS_INVALID, {.without = {"llama.context_length"}}},
    {"llama.embedding_length is not one",
     STATUS_UNSUPPORTED,
     {.text_key = "llama.embedding_length", .text_value = "32"}},
    {"layer_norm_rms_epsilon is missing", STATUS_INVALID, {.without = {"llama.attention.layer_norm_rms_epsilon"}}},
    {"layers: 0", STATUS_LIMIT, {.u32_key = "llama.block_count", .u32_value = 0}},
    {"layers: 513", STATUS_LIMIT, {.u32_key = "llama.block_count", .u32_value = 513}},
    {"hidden size: 65537", STATUS_LIMIT, {.u32_key = "llama.embedding_length", .u32_value = 65537}},
    {"feed-forward size: 4294967295", STATUS_LIMIT, {.u32_key = "llama.feed_forward_length", .u32_value = UINT32_MAX}},
    {"attention heads: 1025", STATUS_LIMIT, {.u32_key = "llama.attention.head_count", .u32_value = 1025}},
    {"4 attention heads don't divide into 3",
     STATUS_INVALID,
     {.u32_key = "llama.attention.head_count_kv", .u32_value = 3}},
    {"head size: 4096", STATUS_LIMIT, {.u32_key = "llama.attention.key_length", .u32_value = 4096}},
    {"head size 7", STATUS_INVALID, {.u32_key = "llama.attention.key_length", .u32_value = 7}},
    {"8 with 10 rotated", STATUS_INVALID, {.u32_key = "llama.rope.dimension_count", .u32_value = 10}},
    {"context length: 0", STATUS_LIMIT, {.u32_key = "llama.context_length", .u32_value = 0}},
    {"llama.expert_count", STATUS_UNSUPPORTED, {.u32_key = "llama.expert_count", .u32_value = 8}},
    {"llama.attention.sliding_window",
     STATUS_UNSUPPORTED,
     {.u32_key = "llama.attention.sliding_window", .u32_value = 128}},
    {"values of 16", STATUS_UNSUPPORTED, {.u32_key = "llama.attention.value_length", .u32_value = 16}},
    {"rope scaling yarn", STATUS_UNSUPPORTED, {.text_key = "llama.rope.scaling.type", .text_value = "yarn"}},
    {"rope.scaling.factor", STATUS_INVALID, {.text_key = "llama.rope.scaling.type", .text_value = "linear"}},
    {"rope.freq_base", STATUS_INVALID, {.text_key = "llama.rope.freq_base", .text_value = "fast"}},
    {"rope_freqs.weight", STATUS_INVALID, {.tensor = "rope_freqs.weight", .columns = 3}},
    {"rope_freqs.weight has", STATUS_INVALID, {.tensor = "rope_freqs.weight", .columns = MADE_HEAD_DIM / 2}},
    {"5 parts of a split model", STATUS_UNSUPPORTED, {.u32_key = "split.count", .u32_value = 5}},
    {"blk.1.ffn_up.weight is missing", STATUS_INVALID, {.without = {"blk.1.ffn_up.weight"}}},
    {"output_norm.weight is missing", STATUS_INVALID, {.without = {"output_norm.weight"}}},
    {"token_embd.weight is missing", STATUS_INVALID, {.without = {"token_embd.weight"}}},
    {"blk.0.attn_k.weight is [16, 32], but the hyper-parameters ask for [8, 32]",
     STATUS_INVALID,
     {.u32_key = "llama.attention.head_count",
      .u32_value = 8,
      .without = {"llama.attention.key_length"},
      .text_key = "general.name",
      .text_value = "eight heads of 4"}},
    {"blk.0.attn_q_norm.weight is not part", STATUS_UNSUPPORTED, {.tensor = "blk.0.attn_q_norm.weight", .columns = 8}},
    {"blk.2.attn_q.weight is not part",
     STATUS_UNSUPPORTED,
     {.tensor = "blk.2.attn_q.weight", .rows = 32, .columns = 32}},
    {"blk.0.attn_k.bias is [1, 8]", STATUS_INVALID, {.tensor = "blk.0.attn_k.bias", .columns = 8}},
    {"begin-of-sequence id", STATUS_INVALID, {.u32_key = "tokenizer.ggml.bos_token_id", .u32_value = MADE_VOCAB}},
    {"end-of-sequence id 12", STATUS_INVALID, {.u32_key = "tokenizer.ggml.eos_token_id", .u32_value = MADE_VOCAB}},
};

static void bad_files_are_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refusals); i++) {
        struct buf file;
        struct model_desc *desc;
        void *copy;
        struct error error = {0};
        buf_init(&file, 1 << 22);
        make_gguf(&refusals[i].recipe, &file);
        enum status status = open_gguf_bytes(buf_bytes(&file), false, &desc, &copy, &error);
        if (status != refusals[i].status || strstr(error.text, refusals[i].says) == NULL)
            fail_msg("row %zu: wanted %s with '%s', got %s: %s", i, status_name(refusals[i].status), refusals[i].says,
                     status_name(status), error.text);
        assert_int_equal(error.status, status);
        buf_free(&file);
    }
}

static void a_vocabulary_needs_no_weights(void **state)
{
    (void)state;
    struct gguf_recipe recipe = {.no_tensors = true, .text_key = "general.architecture", .text_value = "gpt2"};
    struct buf file;
    struct model_desc *desc;
    void *copy;
    struct error error = {0};
    buf_init(&file, 1 << 22);
    make_gguf(&recipe, &file);
    assert_int_equal(open_gguf_bytes(buf_bytes(&file), true, &desc, &copy, &error), STATUS_OK);
    assert_int_equal(desc->vocab_size, MADE_VOCAB);
    assert_null(desc->embedding.data);
    drop(desc, copy);
    buf_free(&file);
}

static void counts_beyond_the_file_allocate_nothing(void **state)
{
    (void)state;
    /* Offsets of the header's two counts, and of the first string's length. */
    static const size_t places[] = {8, 16, 24};
    static const uint64_t values[] = {UINT64_MAX, (uint64_t)1 << 63, (uint64_t)1 << 40, 65537, 60000};
    struct buf file;
    buf_init(&file, 1 << 22);
    make_gguf(&(struct gguf_recipe){0}, &file);
    for (size_t p = 0; p < COUNT_OF(places); p++) {
        for (size_t v = 0; v < COUNT_OF(values); v++) {
            struct model_desc *desc;
            void *copy;
            struct error error = {0};
            uint8_t before[8];
            memcpy(before, file.data + places[p], 8);
            store_u64le(file.data + places[p], values[v]);
            assert_int_not_equal(open_gguf_bytes(buf_bytes(&file), false, &desc, &copy, &error), STATUS_OK);
            assert_true(strlen(error.text) > 0);
            struct arena arena;
            struct gguf gguf;
            arena_init(&arena, (size_t)1 << 30);
            assert_int_not_equal(gguf_read(buf_bytes(&file), &arena, &gguf, &error), STATUS_OK);
            assert_true(arena.used < 4096); /* the count of tensors is looked at behind the true values */
            gguf_free(&gguf);
            arena_free(&arena);
            memcpy(file.data + places[p], before, 8);
        }
    }
    buf_free(&file);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    struct buf file;
    buf_init(&file, 1 << 22);
    make_gguf(&(struct gguf_recipe){.type = MADE_Q4_0, .spm = true}, &file);
    for (size_t length = 0; length < file.length; length++) {
        struct model_desc *desc;
        void *copy;
        struct error error = {0};
        enum status status = open_gguf_bytes(bytes_of(file.data, length), false, &desc, &copy, &error);
        if (status == STATUS_OK)
            fail_msg("cut at %zu of %zu is accepted", length, file.length);
        assert_true(strlen(error.text) > 0);
    }
    buf_free(&file);
}

/* Flips bits of every byte before the weights; the answer may be either, but must come, with a reason if it is no. */
static void every_flip_is_survived(void **state)
{
    (void)state;
    static const uint8_t masks[] = {0x01, 0x80, 0xff, 0x20};
    for (int spm = 0; spm < 2; spm++) {
        struct buf file;
        size_t accepted = 0;
        buf_init(&file, 1 << 22);
        make_gguf(&(struct gguf_recipe){.type = MADE_Q8_0, .spm = spm == 1}, &file);
        size_t header = file.length > 6000 ? 6000 : file.length;
        for (size_t i = 0; i < header * COUNT_OF(masks); i++) {
            struct model_desc *desc;
            void *copy;
            struct error error = {0};
            uint8_t *byte = &file.data[i / COUNT_OF(masks)];
            *byte ^= masks[i % COUNT_OF(masks)];
            if (open_gguf_bytes(buf_bytes(&file), false, &desc, &copy, &error) == STATUS_OK) {
                accepted++;
                drop(desc, copy);
            } else {
                assert_true(strlen(error.text) > 0);
            }
            *byte ^= masks[i % COUNT_OF(masks)];
        }
        assert_true(accepted > 0 && accepted < header * COUNT_OF(masks));
        buf_free(&file);
    }
}

/* Each allocation fails in turn, until none is left to fail. */
static void every_lack_of_memory_is_survived(void **state)
{
    (void)state;
    for (int spm = 0; spm < 2; spm++) {
        struct buf file;
        struct model_desc *desc;
        void *copy;
        buf_init(&file, 1 << 22);
        make_gguf(&(struct gguf_recipe){.spm = spm == 1, .tensor = "rope_freqs.weight", .columns = 4}, &file);
        memcpy(file.data + file.length - 16, (float[]){1, 1, 1, 1}, 16);
        enum status status = STATUS_NO_MEMORY;
        long calls = 0;
        for (; status != STATUS_OK; calls++) {
            struct error error = {0};
            mem_fail_after(calls);
            status = open_gguf_bytes(buf_bytes(&file), false, &desc, &copy, &error);
            mem_fail_after(-1);
            if (status != STATUS_OK && status != STATUS_NO_MEMORY)
                fail_msg("after %ld: %s: %s", calls, status_name(status), error.text);
        }
        assert_true(calls > 1);
        drop(desc, copy);
        buf_free(&file);
    }
}

static void values_are_decoded(void **state)
{
    (void)state;
    static const uint8_t minus_one[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    static const uint8_t nan_bits[8] = {0, 0, 0xc0, 0x7f, 0, 0, 0xf8, 0x7f};
    uint64_t number;
    double real;
    for (int type = GGUF_U8; type < GGUF_TYPE_COUNT; type++) {
        struct gguf_value value = {.type = (enum gguf_type)type, .raw = bytes_of(minus_one, 8)};
        bool is_unsigned = type == GGUF_U8 || type == GGUF_U16 || type == GGUF_U32;
        assert_int_equal(gguf_unsigned(&value, &number), is_unsigned);
        if (is_unsigned)
            assert_int_equal(number, type == GGUF_U8 ? 0xff : type == GGUF_U16 ? 0xffff : 0xffffffff);
    }
    struct gguf_value value = {.type = GGUF_F32, .raw = bytes_of(nan_bits, 4)};
    assert_false(gguf_real(&value, &real));
    value = (struct gguf_value){.type = GGUF_F64, .raw = bytes_of(nan_bits, 8)};
    assert_false(gguf_real(&value, &real));
    assert_false(gguf_unsigned(NULL, &number));
    assert_false(gguf_real(NULL, &real));
    assert_true(gguf_bool(NULL, true));
    assert_int_equal(gguf_string(NULL).length, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hyper_parameters),
        cmocka_unit_test(tensors_have_type_shape_and_place),
        cmocka_unit_test(alignment_is_honoured),
        cmocka_unit_test(biases_and_rope_factors),
        cmocka_unit_test(rope_scaling),
        cmocka_unit_test(bad_files_are_refused_by_name),
        cmocka_unit_test(a_vocabulary_needs_no_weights),
        cmocka_unit_test(counts_beyond_the_file_allocate_nothing),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_flip_is_survived),
        cmocka_unit_test(every_lack_of_memory_is_survived),
        cmocka_unit_test(values_are_decoded),
    };
    return cmocka_run_group_tests_name("model.gguf", tests, NULL, NULL);
}
