/* Promise: token ids and decoded texts equal the references', for every golden set of the shared data. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/file.h"
#include "base/mem.h"
#include "tests/unit/text/golden.h"
#include "text/detok.h"

enum { IDS_MAX = 1 << 20, TEXT_BYTES_MAX = 16 << 20, SHOWN_MAX = 5 };

struct counts {
    size_t texts, ids_differ, decoded_differ;
};

static bool same_ids(const struct ids *ids, const struct json *wanted)
{
    if (ids->count != json_count(wanted))
        return false;
    for (size_t i = 0; i < ids->count; i++) {
        if (json_integer(json_at(wanted, i), -1) != ids->data[i])
            return false;
    }
    return true;
}

static void decode(const struct tokenizer *tokenizer, const struct ids *ids, struct buf *out)
{
    struct detok detok;
    detok_init(&detok, tokenizer, false);
    detok.show_control = true; /* the references decode with special tokens */
    for (size_t i = 0; i < ids->count; i++)
        detok_push(&detok, ids->data[i], out);
    detok_finish(&detok, out);
}

static void compare(const struct tokenizer *tokenizer, const char *set, const struct json *text,
                    const struct json *golden, struct counts *counts)
{
    struct ids ids;
    struct buf decoded;
    struct error error = {0};
    ids_init(&ids, IDS_MAX);
    buf_init(&decoded, TEXT_BYTES_MAX);
    struct bytes source = json_string(json_get(text, "text"));
    assert_true(bytes_equal(json_string(json_get(text, "id")), json_string(json_get(golden, "id"))));
    assert_int_equal(tokenizer_encode(tokenizer, source, TOKENIZER_SPECIALS_ALL, NULL, 0, &ids, &error), STATUS_OK);
    counts->texts++;
    if (!same_ids(&ids, json_get(golden, "ids"))) {
        if (counts->ids_differ++ < SHOWN_MAX)
            print_error("%s %s: ids differ\n", set, json_text(json_get(text, "id")));
    } else {
        decode(tokenizer, &ids, &decoded);
        const struct json *wanted = json_get(golden, "decoded");
        if (!bytes_equal(buf_bytes(&decoded), wanted == NULL ? source : json_string(wanted)) &&
            counts->decoded_differ++ < SHOWN_MAX)
            print_error("%s %s: decoded text differs: %s\n", set, json_text(json_get(text, "id")), buf_text(&decoded));
    }
    ids_free(&ids);
    buf_free(&decoded);
}

static void compare_set(const struct model_desc *desc, const char *set)
{
    struct tokenizer *tokenizer = NULL;
    struct error error = {0};
    char name[128];
    struct buf texts, goldens;
    struct counts counts = {0};
    assert_int_equal(tokenizer_new(desc, &tokenizer, &error), STATUS_OK);
    snprintf(name, sizeof name, "tokenizers/goldens/%s.jsonl.gz", set);
    golden_read("tokenizers/texts.jsonl.gz", &texts);
    golden_read(name, &goldens);
    struct bytes text_rest = buf_bytes(&texts), golden_rest = buf_bytes(&goldens);
    for (;;) {
        struct json *text = golden_next(&text_rest), *golden = golden_next(&golden_rest);
        assert_int_equal(text == NULL, golden == NULL);
        if (text == NULL)
            break;
        compare(tokenizer, set, text, golden, &counts);
        json_free(text);
        json_free(golden);
    }
    printf("%s: %zu texts, %zu ids differ, %zu decoded differ\n", set, counts.texts, counts.ids_differ,
           counts.decoded_differ);
    assert_int_equal(counts.texts, 680);
    assert_int_equal(counts.ids_differ, 0);
    assert_int_equal(counts.decoded_differ, 0);
    buf_free(&texts);
    buf_free(&goldens);
    tokenizer_free(tokenizer);
}

static void run_set(const char *file, const char *set)
{
    struct model_desc *desc = golden_vocab(file);
    compare_set(desc, set);
    model_close(desc);
}

static void gpt2(void **state)
{
    (void)state;
    run_set("tokenizers/gpt2/tokenizer.json.gz", "gpt2");
}

static void qwen2_5(void **state)
{
    (void)state;
    run_set("tokenizers/qwen2.5/tokenizer.json.gz", "qwen2.5");
}

static void mistral_v1(void **state)
{
    (void)state;
    run_set("tokenizers/mistral-v1/tokenizer.json.gz", "mistral-v1");
}

static void stories260k(void **state)
{
    (void)state;
    run_set("models/stories260K/hf-fp32/tokenizer.json", "stories260K");
}

static void smollm2(void **state)
{
    (void)state;
    run_set("tokenizers/smollm2/tokenizer.json.gz", "smollm2");
}

/* The SentencePiece vocabulary of a GGUF, whose scores rank the merges, gives the same ids. */
static void stories260k_gguf(void **state)
{
    (void)state;
    char *path = file_join(golden_folder(), "models/stories260K/gguf/stories260K-F32.gguf");
    struct model_options options = {.vocab_only = true};
    struct model_desc *desc = NULL;
    struct error error = {0};
    enum status status = model_open(path, &options, &desc, &error);
    mem_free(path);
    if (status != STATUS_OK)
        fail_msg("%s", error.text);
    compare_set(desc, "stories260K");
    model_close(desc);
}

/* The demo model's own metadata: the folder of tools/fetch-model. */
static void smollm2_gguf(void **state)
{
    (void)state;
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char path[1024];
    if (cache != NULL && cache[0] != '\0')
        snprintf(path, sizeof path, "%s/shoal/models/SmolLM2-135M-Instruct.Q4_1.gguf", cache);
    else
        snprintf(path, sizeof path, "%s/.cache/shoal/models/SmolLM2-135M-Instruct.Q4_1.gguf", home == NULL ? "" : home);
    const char *given = getenv("SHOAL_DEMO_MODEL");
    if (given != NULL)
        snprintf(path, sizeof path, "%s", given);
    if (!file_exists(path)) {
        printf("SKIP smollm2_gguf: %s is not there (tools/fetch-model)\n", path);
        skip();
    }
    struct model_options options = {.vocab_only = true};
    struct model_desc *desc = NULL;
    struct error error = {0};
    if (model_open(path, &options, &desc, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    compare_set(desc, "smollm2");
    model_close(desc);
}

/* One line of ids (separated by spaces) against the encoder. */
static bool same_line(const struct ids *ids, struct bytes line)
{
    struct buf text;
    buf_init(&text, IDS_MAX);
    for (size_t i = 0; i < ids->count; i++)
        buf_printf(&text, " %u", ids->data[i]);
    bool same = bytes_equal(buf_bytes(&text), line) || (text.length == 0 && line.length == 0);
    buf_free(&text);
    return same;
}

static struct bytes take_until(struct bytes *rest, const char *mark)
{
    size_t length = strlen(mark);
    const uint8_t *end = rest->length == 0 ? NULL : memmem(rest->data, rest->length, mark, length);
    struct bytes part = end == NULL ? *rest : bytes_of(rest->data, (size_t)(end - rest->data));
    size_t used = end == NULL ? rest->length : part.length + length;
    *rest = bytes_of(rest->data + used, rest->length - used);
    return part;
}

static void run_vectors(const char *file, const char *name)
{
    char path[128];
    struct buf inputs, outputs;
    struct tokenizer *tokenizer = NULL;
    struct error error = {0};
    struct model_desc *desc = golden_vocab(file);
    assert_int_equal(tokenizer_new(desc, &tokenizer, &error), STATUS_OK);
    snprintf(path, sizeof path, "tokenizers/llama.cpp-vectors/ggml-vocab-%s.gguf.inp", name);
    golden_read(path, &inputs);
    snprintf(path, sizeof path, "tokenizers/llama.cpp-vectors/ggml-vocab-%s.gguf.out", name);
    golden_read(path, &outputs);
    struct bytes in = buf_bytes(&inputs), out = buf_bytes(&outputs);
    size_t count = 0, differ = 0;
    while (out.length > 0) {
        struct bytes text = take_until(&in, "\n__ggml_vocab_test__\n"), line = take_until(&out, "\n");
        struct ids ids;
        ids_init(&ids, IDS_MAX);
        assert_int_equal(tokenizer_encode(tokenizer, text, TOKENIZER_SPECIALS_NONE, NULL, 0, &ids, &error), STATUS_OK);
        if (!same_line(&ids, line)) {
            differ++;
            print_error("%s: vector %zu differs\n", name, count);
        }
        count++;
        ids_free(&ids);
    }
    printf("llama.cpp vectors %s: %zu, %zu differ\n", name, count, differ);
    assert_int_equal(count, 46);
    assert_int_equal(differ, 0);
    buf_free(&inputs);
    buf_free(&outputs);
    tokenizer_free(tokenizer);
    model_close(desc);
}

static void llama_cpp_gpt2(void **state)
{
    (void)state;
    run_vectors("tokenizers/gpt2/tokenizer.json.gz", "gpt-2");
}

static void llama_cpp_qwen2(void **state)
{
    (void)state;
    run_vectors("tokenizers/qwen2.5/tokenizer.json.gz", "qwen2");
}

/* Every naughty string comes back as it was: byte-level as it is (NFC leaves these alone in gpt2: it has none), through
 * the stream, one token at a time. */
static void blns_round_trip(void **state)
{
    (void)state;
    static const char *const files[] = {"tokenizers/gpt2/tokenizer.json.gz", "tokenizers/mistral-v1/tokenizer.json.gz"};
    struct buf source;
    struct json *strings;
    struct error error = {0};
    golden_read("badinput/blns.json", &source);
    assert_int_equal(json_parse(buf_bytes(&source), &strings, &error), STATUS_OK);
    assert_int_equal(json_count(strings), 301);
    for (size_t file = 0; file < COUNT_OF(files); file++) {
        struct tokenizer *tokenizer = NULL;
        struct model_desc *desc = golden_vocab(files[file]);
        assert_int_equal(tokenizer_new(desc, &tokenizer, &error), STATUS_OK);
        for (size_t i = 0; i < json_count(strings); i++) {
            struct ids ids;
            struct buf decoded;
            struct bytes text = json_string(json_at(strings, i));
            ids_init(&ids, IDS_MAX);
            buf_init(&decoded, TEXT_BYTES_MAX);
            assert_int_equal(tokenizer_encode(tokenizer, text, TOKENIZER_SPECIALS_NONE, NULL, 0, &ids, &error),
                             STATUS_OK);
            decode(tokenizer, &ids, &decoded);
            assert_int_equal(decoded.length, text.length);
            if (text.length > 0)
                assert_memory_equal(decoded.data, text.data, text.length);
            ids_free(&ids);
            buf_free(&decoded);
        }
        tokenizer_free(tokenizer);
        model_close(desc);
    }
    json_free(strings);
    buf_free(&source);
}

int main(void)
{
    golden_need("tokenizer_golden");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2),
        cmocka_unit_test(qwen2_5),
        cmocka_unit_test(mistral_v1),
        cmocka_unit_test(stories260k),
        cmocka_unit_test(smollm2),
        cmocka_unit_test(stories260k_gguf),
        cmocka_unit_test(smollm2_gguf),
        cmocka_unit_test(llama_cpp_gpt2),
        cmocka_unit_test(llama_cpp_qwen2),
        cmocka_unit_test(blns_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
