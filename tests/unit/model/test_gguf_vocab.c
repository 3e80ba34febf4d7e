/* Tests of model/gguf_vocab: both kinds of vocabulary in a GGUF's metadata, special ids, and refusals by name. */
#include "tests/unit/model/support.h"

static enum status open_made(const struct gguf_recipe *recipe, struct model_desc **desc, void **copy,
                             struct error *error)
{
    struct buf file;
    buf_init(&file, 1 << 22);
    make_gguf(recipe, &file);
    enum status status = open_gguf_bytes(buf_bytes(&file), true, desc, copy, error);
    buf_free(&file);
    return status;
}

static void assert_bytes(const struct model_desc *desc, uint32_t id, enum vocab_kind kind, const char *bytes,
                         size_t length)
{
    const struct vocab_token *token = vocab_token(desc->vocab, id);
    assert_non_null(token);
    assert_int_equal(token->kind, kind);
    if (!bytes_equal(token->bytes, bytes_of(bytes, length)))
        fail_msg("token %u: '%.*s'", id, (int)token->bytes.length, (const char *)token->bytes.data);
}

static void byte_level(void **state)
{
    (void)state;
    struct model_desc *desc;
    void *copy;
    struct error error = {0};
    assert_int_equal(open_made(&(struct gguf_recipe){0}, &desc, &copy, &error), STATUS_OK);
    const struct vocab_tokenizer *tokenizer = &desc->tokenizer;
    assert_int_equal(tokenizer->model, VOCAB_MODEL_BPE_BYTES);
    assert_bytes(desc, 0, VOCAB_CONTROL, "", 0);
    assert_bytes(desc, 1, VOCAB_USER_DEFINED, "<tool>", 6);
    assert_bytes(desc, 2, VOCAB_NORMAL, "a", 1);
    assert_bytes(desc, 4, VOCAB_NORMAL, " ", 1);
    assert_bytes(desc, 5, VOCAB_NORMAL, "\xe9", 1);
    assert_bytes(desc, 8, VOCAB_NORMAL, " ab", 3);
    assert_bytes(desc, 10, VOCAB_UNUSED, "", 0);
    assert_bytes(desc, 11, VOCAB_NORMAL, "\xe2\x96\x81", 3); /* outside of the alphabet: as it stands */
    assert_null(vocab_token(desc->vocab, MADE_VOCAB));
    assert_int_equal(tokenizer->merges_count, 3);
    assert_int_equal(tokenizer->merges[2].left, 4);
    assert_int_equal(tokenizer->merges[2].right, 6);
    assert_int_equal(tokenizer->merges[2].merged, 8);
    assert_int_equal(tokenizer->regexes_count, 1);
    assert_int_equal(tokenizer->unk_id, -1); /* bytes that the vocabulary lacks are dropped */
    assert_int_equal(desc->bos_id, 9);
    assert_false(desc->add_bos);
    assert_int_equal(desc->eos_count, 2);
    assert_int_equal(desc->eos_ids[0], 0);
    assert_int_equal(desc->eos_ids[1], 9);
    assert_string_equal(desc->chat_template, "{{ messages }}");
    assert_int_equal(desc->chat_template_length, 14);
    model_close(desc);
    free(copy);
}

static void sentencepiece_style(void **state)
{
    (void)state;
    struct model_desc *desc;
    void *copy;
    struct error error = {0};
    assert_int_equal(open_made(&(struct gguf_recipe){.spm = true}, &desc, &copy, &error), STATUS_OK);
    const struct vocab_tokenizer *tokenizer = &desc->tokenizer;
    assert_int_equal(tokenizer->model, VOCAB_MODEL_BPE_SPM);
    assert_true(tokenizer->merge_by_score);
    assert_true(tokenizer->byte_fallback);
    assert_true(tokenizer->prepend_space);
    assert_true(tokenizer->escape_spaces);
    assert_true(tokenizer->strip_leading_space);
    assert_int_equal(tokenizer->merges_count, 0);
    assert_int_equal(tokenizer->unk_id, 0);
    assert_bytes(desc, 0, VOCAB_UNKNOWN, "", 0);
    assert_bytes(desc, 3, VOCAB_BYTE, "\0", 1);
    assert_bytes(desc, 4, VOCAB_BYTE, "\n", 1);
    assert_bytes(desc, 5, VOCAB_BYTE, "\xff", 1);
    assert_bytes(desc, 8, VOCAB_NORMAL, " ", 1);
    assert_bytes(desc, 10, VOCAB_NORMAL, " ab", 3);
    assert_bytes(desc, 11, VOCAB_USER_DEFINED, "<tool>", 6);
    assert_true(vocab_token(desc->vocab, 9)->score == -1);
    assert_true(desc->add_bos);
    assert_int_equal(desc->bos_id, 1);
    model_close(desc);
    free(copy);
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *says;
        struct gguf_recipe recipe;
    } rows[] = {
        {"tokenizer.ggml.pre new-fashion", {.text_key = "tokenizer.ggml.pre", .text_value = "new-fashion"}},
        {"tokenizer.ggml.model t5", {.text_key = "tokenizer.ggml.model", .text_value = "t5"}},
        {"tokenizer.ggml.tokens", {.without = {"tokenizer.ggml.tokens"}}},
        {"tokenizer.ggml.tokens", {.text_key = "tokenizer.ggml.tokens", .text_value = "a"}},
        {"tokenizer.ggml.merges", {.without = {"tokenizer.ggml.merges"}}},
        {"tokenizer.ggml.scores", {.without = {"tokenizer.ggml.scores"}, .spm = true}},
        {"token_type", {.without = {"tokenizer.ggml.token_type"}, .spm = true}},
        {"an array of 12 entries", {.types_cut = 1}},
        {"an array of 12 entries", {.types_cut = MADE_VOCAB, .spm = true}},
        {"tokenizer.ggml.token_type", {.text_key = "tokenizer.ggml.token_type", .text_value = "x"}},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct model_desc *desc;
        void *copy;
        struct error error = {0};
        enum status status = open_made(&rows[i].recipe, &desc, &copy, &error);
        if (status == STATUS_OK || strstr(error.text, rows[i].says) == NULL)
            fail_msg("row %zu: %s: %s", i, status_name(status), error.text);
    }
}

static void no_tokenizer_is_fine(void **state)
{
    (void)state;
    struct model_desc *desc;
    void *copy;
    struct error error = {0};
    struct gguf_recipe recipe = {.text_key = "tokenizer.ggml.model", .text_value = "none"};
    assert_int_equal(open_made(&recipe, &desc, &copy, &error), STATUS_OK);
    assert_null(desc->vocab);
    assert_int_equal(desc->tokenizer.model, VOCAB_MODEL_NONE);
    assert_null(desc->chat_template);
    model_close(desc);
    free(copy);
}

static void rules_that_ask_for_bos(void **state)
{
    (void)state;
    struct model_desc *desc;
    void *copy;
    struct error error = {0};
    struct gguf_recipe recipe = {.text_key = "tokenizer.ggml.pre", .text_value = "llama-bpe"};
    assert_int_equal(open_made(&recipe, &desc, &copy, &error), STATUS_OK);
    assert_true(desc->add_bos);
    assert_true(desc->tokenizer.ignore_merges);
    model_close(desc);
    free(copy);
    recipe.without[0] = "tokenizer.ggml.bos_token_id"; /* nothing to add */
    assert_int_equal(open_made(&recipe, &desc, &copy, &error), STATUS_OK);
    assert_false(desc->add_bos);
    assert_int_equal(desc->bos_id, -1);
    model_close(desc);
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_level),           cmocka_unit_test(sentencepiece_style),    cmocka_unit_test(refusals),
        cmocka_unit_test(no_tokenizer_is_fine), cmocka_unit_test(rules_that_ask_for_bos),
    };
    return cmocka_run_group_tests_name("model.gguf_vocab", tests, NULL, NULL);
}
