/* Tests of model_open on real files: stories260K in every form, a vocabulary without weights, and the demo model when
 * it is in the user's cache. Without the shared folder these are named skips. */
#include "tests/unit/model/support.h"

#include "base/file.h"
#include "tests/support/shared_data.h"

/* Opens a path below the shared data; skips the test when it isn't there. */
static struct model_desc *open_shared(const char *name, bool vocab_only)
{
    char path[SHARED_DATA_PATH_MAX];
    struct model_options options = {.vocab_only = vocab_only};
    struct model_desc *desc = NULL;
    struct error error = {0};
    if (!shared_data_find("unit.model.open", name, path))
        skip();
    if (model_open(path, &options, &desc, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return desc;
}

static void assert_stories(const struct model_desc *desc)
{
    assert_int_equal(desc->layers, 5);
    assert_int_equal(desc->hidden, 64);
    assert_int_equal(desc->ffn, 172);
    assert_int_equal(desc->q_heads, 8);
    assert_int_equal(desc->kv_heads, 4);
    assert_int_equal(desc->head_dim, 8);
    assert_int_equal(desc->vocab_size, 512);
    assert_int_equal(desc->context_tokens, 512);
    assert_true(desc->rms_epsilon == 1e-5F);
    assert_true(desc->rope_base == 10000);
    assert_true(desc->tied);
    assert_int_equal(desc->bos_id, 1);
    assert_true(desc->add_bos);
    assert_int_equal(desc->vocab->count, 512);
    assert_int_equal(desc->tokenizer.model, VOCAB_MODEL_BPE_SPM);
}

static void stories_as_gguf(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum model_type q, down;
        size_t bytes;
    } rows[] = {{"models/stories260K/gguf/stories260K-F32.gguf", MODEL_F32, MODEL_F32, 1040128},
                {"models/stories260K/gguf/stories260K-F16.gguf", MODEL_F16, MODEL_F16, 521472},
                {"models/stories260K/gguf/stories260K-Q8_0.gguf", MODEL_Q8_0, MODEL_F16, 329952}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct model_desc *desc = open_shared(rows[i].name, false);
        assert_stories(desc);
        assert_string_equal(desc->id, "stories260k");
        assert_int_equal(desc->rope_layout, MODEL_ROPE_PAIRS);
        assert_int_equal(desc->layer[4].q.type, rows[i].q);
        assert_int_equal(desc->layer[4].down.type, rows[i].down); /* 172 columns are no multiple of 32 */
        assert_int_equal(desc->weights_bytes, rows[i].bytes);
        assert_int_equal(desc->eos_count, 1);
        assert_int_equal(desc->eos_ids[0], 2);
        model_close(desc);
    }
}

static void stories_as_folders(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum model_type type;
    } rows[] = {{"models/stories260K/hf-fp32", MODEL_F32},
                {"models/stories260K/hf-fp16", MODEL_F16},
                {"models/stories260K/hf-bf16", MODEL_BF16},
                {"models/stories260K/hf-fp32-sharded", MODEL_F32}};
    uint8_t hashes[COUNT_OF(rows)][32];
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct model_desc *desc = open_shared(rows[i].name, false);
        assert_stories(desc);
        assert_int_equal(desc->rope_layout, MODEL_ROPE_HALVES);
        assert_int_equal(desc->layer[0].q.type, rows[i].type);
        assert_int_equal(desc->weights_bytes, 260032 * model_type_block_bytes(rows[i].type));
        assert_int_equal(desc->eos_count, 2); /* generation_config.json has a list */
        assert_int_equal(desc->eos_ids[0], 1);
        assert_int_equal(desc->tokenizer.merges_count, 165);
        memcpy(hashes[i], desc->hash, 32);
        model_close(desc);
    }
    assert_memory_equal(hashes[0], hashes[3], 32); /* shards make no difference */
    assert_memory_not_equal(hashes[0], hashes[1], 32);
}

/* Both files hold the same vocabulary, written in different ways. */
static void stories_have_one_vocabulary(void **state)
{
    (void)state;
    struct model_desc *a = open_shared("models/stories260K/gguf/stories260K-F32.gguf", true);
    struct model_desc *b = open_shared("models/stories260K/hf-fp32", true);
    assert_null(a->layer);
    assert_null(b->embedding.data);
    for (uint32_t id = 0; id < 512; id++) {
        const struct vocab_token *one = vocab_token(a->vocab, id), *other = vocab_token(b->vocab, id);
        assert_true(bytes_equal(one->piece, other->piece));
        assert_true(bytes_equal(one->bytes, other->bytes));
    }
    model_close(a);
    model_close(b);
}

/* A path to the unpacked gzip file, or a skip. */
static void unpack(const char *name, char path[64])
{
    char packed[SHARED_DATA_PATH_MAX];
    struct buf command;
    if (!shared_data_find("unit.model.open", name, packed))
        skip();
    snprintf(path, 64, "/tmp/shoal-test-open-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    buf_init(&command, 3 * SHARED_DATA_PATH_MAX);
    buf_printf(&command, "gzip -dc '%s' > '%s'", packed, path);
    assert_int_equal(system(buf_text(&command)), 0);
    buf_free(&command);
}

static void a_vocabulary_without_weights(void **state)
{
    (void)state;
    char path[64];
    struct model_options options = {.vocab_only = true};
    struct model_desc *desc;
    struct error error = {0};
    unpack("tokenizers/gguf-vocab-only/ggml-vocab-gpt-2.gguf.gz", path);
    assert_int_equal(model_open(path, NULL, &desc, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "the file has no weights"));
    assert_non_null(strstr(error.text, path));
    assert_int_equal(model_open(path, &options, &desc, &error), STATUS_OK);
    assert_int_equal(desc->vocab_size, 50257);
    assert_int_equal(desc->tokenizer.merges_count, 50000);
    assert_int_equal(vocab_token(desc->vocab, 50256)->kind, VOCAB_CONTROL);
    model_close(desc);
    unlink(path);
}

static void the_demo_model(void **state)
{
    (void)state;
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    struct buf path;
    struct model_desc *desc;
    struct error error = {0};
    buf_init(&path, 8192);
    buf_printf(&path, "%s%s/shoal/models/SmolLM2-135M-Instruct.Q4_1.gguf",
               cache != NULL && cache[0] != '\0' ? cache
               : home == NULL                    ? ""
                                                 : home,
               cache != NULL && cache[0] != '\0' ? "" : "/.cache");
    if (!file_exists(buf_text(&path))) {
        buf_free(&path);
        printf("SKIP unit.model.open: the demo model is not in the cache; tools/fetch-model gets it\n");
        skip();
    }
    if (model_open(buf_text(&path), NULL, &desc, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    assert_string_equal(desc->id, "smollm2-135m-instruct");
    assert_int_equal(desc->layers, 30);
    assert_int_equal(desc->q_heads, 9);
    assert_int_equal(desc->kv_heads, 3);
    assert_int_equal(desc->embedding.type, MODEL_Q8_0);
    assert_int_equal(desc->layer[29].up.type, MODEL_Q4_1);
    assert_int_equal(desc->weights_bytes, 96576768);
    assert_int_equal(desc->bos_id, 1);
    assert_false(desc->add_bos);
    assert_int_equal(desc->eos_ids[0], 2);
    assert_int_equal(desc->chat_template_length, 368);
    model_close(desc);
    buf_free(&path);
}

static void paths_that_are_no_model(void **state)
{
    (void)state;
    struct model_desc *desc;
    struct error error = {0};
    char path[5000];
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    assert_int_equal(model_open(path, NULL, &desc, &error), STATUS_LIMIT);
    assert_int_equal(model_open("/nonexistent/model.gguf", NULL, &desc, &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error.text, "/nonexistent/model.gguf"));
    assert_int_equal(model_open("CMakeLists.txt", NULL, &desc, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "not a GGUF file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stories_as_gguf),
        cmocka_unit_test(stories_as_folders),
        cmocka_unit_test(stories_have_one_vocabulary),
        cmocka_unit_test(a_vocabulary_without_weights),
        cmocka_unit_test(the_demo_model),
        cmocka_unit_test(paths_that_are_no_model),
    };
    return cmocka_run_group_tests_name("model.open", tests, NULL, NULL);
}
