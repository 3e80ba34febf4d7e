/* Tests of model/tokenizer_json and tokenizer_rules: both forms of BPE, and each thing that isn't read, by its name. */
#include "tests/unit/model/support.h"

#include "base/json.h"
#include "model/owner.h"
#include "model/tokenizer_json.h"

static const char spm[] =
    "{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"special\": true}, {\"id\": 1, \"content\": \"<s>\", "
    "\"special\": true}], \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", "
    "\"prepend\": \"\\u2581\"}, {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\\u2581\"}]}, "
    "\"pre_tokenizer\": null, \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": "
    "{\"id\": \"<s>\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], \"special_tokens\": "
    "{\"<s>\": {\"id\": \"<s>\", \"ids\": [1], \"tokens\": [\"<s>\"]}}}, \"decoder\": {\"type\": \"Sequence\", "
    "\"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": \"\\u2581\"}, \"content\": \" \"}, {\"type\": "
    "\"ByteFallback\"}, {\"type\": \"Fuse\"}, {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]}, "
    "\"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": \"<unk>\", \"fuse_unk\": true, "
    "\"byte_fallback\": true, \"vocab\": {\"<unk>\": 0, \"<s>\": 1, \"<0x0A>\": 2, \"\\u2581\": 3, \"a\": 4, "
    "\"\\u2581a\": 6}, \"merges\": [\"\\u2581 a\"]}}";

static enum status read_text(const char *text, const char *config, struct model_desc **out, struct error *error)
{
    struct json *root = NULL, *settings = NULL;
    struct model_desc *desc = desc_new();
    if (json_parse(bytes_of_text(text), &root, error) != STATUS_OK ||
        (config != NULL && json_parse(bytes_of_text(config), &settings, error) != STATUS_OK))
        fail_msg("%s: %s", error->text, text);
    enum status status = tokenizer_json_read(root, settings, desc, error);
    json_free(root);
    json_free(settings);
    if (status != STATUS_OK)
        model_close(desc);
    else
        *out = desc;
    return status;
}

static struct model_desc *read_good(const char *text, const char *config)
{
    struct model_desc *desc;
    struct error error = {0};
    if (read_text(text, config, &desc, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return desc;
}

/* A copy of `text` with the first `old` replaced; free it. */
static char *replaced(const char *text, const char *old, const char *new)
{
    struct buf out;
    const char *at = strstr(text, old);
    if (at == NULL)
        fail_msg("'%s' is not in the text", old);
    buf_init(&out, 1 << 16);
    buf_append(&out, text, (size_t)(at - text));
    buf_append_text(&out, new);
    buf_append_text(&out, at + strlen(old));
    char *copy = mem_strdup(buf_text(&out));
    buf_free(&out);
    return copy;
}

static void assert_token(const struct model_desc *desc, uint32_t id, enum vocab_kind kind, const char *bytes)
{
    const struct vocab_token *token = vocab_token(desc->vocab, id);
    assert_non_null(token);
    assert_int_equal(token->kind, kind);
    assert_true(bytes_equal(token->bytes, bytes_of_text(bytes)));
}

static void byte_level(void **state)
{
    (void)state;
    struct model_desc *desc = read_good(made_tokenizer, NULL);
    assert_int_equal(desc->tokenizer.model, VOCAB_MODEL_BPE_BYTES);
    assert_token(desc, 0, VOCAB_CONTROL, "");
    assert_token(desc, 1, VOCAB_USER_DEFINED, "<tool>");
    assert_true(desc->vocab->tokens[1].lstrip);
    assert_true(desc->vocab->tokens[1].normalized);
    assert_false(desc->vocab->tokens[0].normalized);
    assert_token(desc, 4, VOCAB_NORMAL, " ");
    assert_token(desc, 5, VOCAB_NORMAL, "\xe9");
    assert_token(desc, 7, VOCAB_NORMAL, " ab");
    assert_int_equal(desc->tokenizer.merges_count, 2); /* one as a text, one as a pair */
    assert_true(desc->tokenizer.merges[1].left == 4 && desc->tokenizer.merges[1].right == 6);
    assert_int_equal(desc->tokenizer.merges[1].merged, 7);
    assert_int_equal(desc->tokenizer.regexes_count, 1); /* ByteLevel's own */
    assert_int_equal(desc->bos_id, -1);
    assert_false(desc->add_bos);
    model_close(desc);
}

static void sentencepiece_style(void **state)
{
    (void)state;
    struct model_desc *desc = read_good(spm, NULL);
    const struct vocab_tokenizer *tokenizer = &desc->tokenizer;
    assert_int_equal(tokenizer->model, VOCAB_MODEL_BPE_SPM);
    assert_true(tokenizer->prepend_space && tokenizer->escape_spaces && tokenizer->strip_leading_space);
    assert_false(tokenizer->prepend_first_only || tokenizer->prepend_unless_space || tokenizer->merge_by_score);
    assert_true(tokenizer->byte_fallback && tokenizer->fuse_unk);
    assert_int_equal(tokenizer->unk_id, 0);
    assert_int_equal(tokenizer->regexes_count, 0);
    assert_token(desc, 0, VOCAB_CONTROL, "");
    assert_token(desc, 2, VOCAB_BYTE, "\n");
    assert_token(desc, 5, VOCAB_UNUSED, ""); /* a hole */
    assert_token(desc, 6, VOCAB_NORMAL, " a");
    assert_int_equal(desc->bos_id, 1);
    assert_true(desc->add_bos);
    model_close(desc);
}

static void metaspace(void **state)
{
    (void)state;
    /* Llama 2 as newer converters write it: no normalizer, Metaspace in front only. */
    const char *from = strstr(spm, "\"normalizer\": ") + strlen("\"normalizer\": ");
    const char *to = strstr(spm, ", \"post_processor\"");
    char *old = mem_strndup(from, (size_t)(to - from));
    char *text = replaced(spm, old,
                          "null, \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", "
                          "\"prepend_scheme\": \"first\", \"split\": false}");
    struct model_desc *desc = read_good(text, NULL);
    assert_true(desc->tokenizer.prepend_space && desc->tokenizer.prepend_first_only);
    assert_true(desc->tokenizer.prepend_unless_space && desc->tokenizer.escape_spaces);
    assert_int_equal(desc->tokenizer.regexes_count, 0);
    model_close(desc);
    mem_free(text);
    text = replaced(spm, old,
                    "null, \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", "
                    "\"prepend_scheme\": \"never\"}");
    desc = read_good(text, NULL);
    assert_false(desc->tokenizer.prepend_space);
    assert_int_equal(desc->tokenizer.regexes_count, 1);
    model_close(desc);
    mem_free(text);
    mem_free(old);
}

static void begin_of_sequence(void **state)
{
    (void)state;
    struct model_desc *desc = read_good(made_tokenizer, "{\"bos_token\": \"<end>\", \"add_bos_token\": true}");
    assert_int_equal(desc->bos_id, 0);
    assert_true(desc->add_bos);
    model_close(desc);
    desc = read_good(made_tokenizer, "{\"bos_token\": {\"content\": \"<tool>\"}}");
    assert_int_equal(desc->bos_id, 1);
    assert_false(desc->add_bos);
    model_close(desc);
    desc = read_good(made_tokenizer, "{\"bos_token\": \"absent\", \"add_bos_token\": true}");
    assert_int_equal(desc->bos_id, -1);
    assert_false(desc->add_bos);
    model_close(desc);
    /* The post-processor's word is the last. */
    char *text = replaced(spm, "{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}}, ", "");
    desc = read_good(text, "{\"bos_token\": \"<s>\", \"add_bos_token\": true}");
    assert_int_equal(desc->bos_id, 1);
    assert_false(desc->add_bos);
    model_close(desc);
    mem_free(text);
}

static void split_rules(void **state)
{
    (void)state;
    char *text = replaced(made_tokenizer, "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}",
                          "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", "
                          "\"individual_digits\": true}, {\"type\": \"Split\", \"pattern\": {\"Regex\": \"a+\"}, "
                          "\"behavior\": \"Isolated\", \"invert\": false}, {\"type\": \"Split\", \"pattern\": "
                          "{\"String\": \"(.\"}, \"behavior\": \"Isolated\"}, {\"type\": \"ByteLevel\", "
                          "\"add_prefix_space\": false, \"use_regex\": false}]}");
    struct model_desc *desc = read_good(text, NULL);
    static const char *const regexes[] = {"\\p{N}", "a+", "\\(\\."};
    assert_int_equal(desc->tokenizer.regexes_count, COUNT_OF(regexes));
    for (size_t i = 0; i < COUNT_OF(regexes); i++)
        assert_true(bytes_equal(desc->tokenizer.regexes[i], bytes_of_text(regexes[i])));
    model_close(desc);
    mem_free(text);
}

struct refusal {
    const char *base, *old, *new, *says;
};

#define LEVEL "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}"

static const struct refusal refusals[] = {
    {made_tokenizer, "\"BPE\"", "\"Unigram\"", "model type Unigram"},
    {made_tokenizer, "\"BPE\"", "\"WordPiece\"", "model type WordPiece"},
    {made_tokenizer, "\"BPE\"", "\"BPE\", \"dropout\": 0.1", "dropout"},
    {made_tokenizer, "\"BPE\"", "\"BPE\", \"end_of_word_suffix\": \"</w>\"", "end_of_word_suffix"},
    {made_tokenizer, "\"BPE\"", "\"BPE\", \"continuing_subword_prefix\": \"##\"", "continuing_subword_prefix"},
    {made_tokenizer, "\"normalizer\": null", "\"normalizer\": {\"type\": \"NFKC\"}", "normalizer NFKC"},
    {made_tokenizer, "\"normalizer\": null", "\"normalizer\": {\"type\": \"Lowercase\"}", "normalizer Lowercase"},
    {made_tokenizer, "\"normalizer\": null", "\"normalizer\": {}", "normalizer without a type"},
    {spm, "\"prepend\": \"\\u2581\"", "\"prepend\": \"x\"", "normalizer Prepend"},
    {spm, "\"String\": \" \"", "\"Regex\": \" +\"", "normalizer Replace"},
    {made_tokenizer, LEVEL, "{\"type\": \"Whitespace\"}", "pre_tokenizer Whitespace"},
    {made_tokenizer, LEVEL, "{\"type\": \"BertPreTokenizer\"}", "pre_tokenizer BertPreTokenizer"},
    {made_tokenizer, LEVEL, "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"a\"}, \"behavior\": \"Removed\"}",
     "behavior Isolated"},
    {made_tokenizer, LEVEL,
     "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"a\"}, \"behavior\": \"Isolated\", \"invert\": true}",
     "not inverted"},
    {made_tokenizer, LEVEL, "{\"type\": \"Split\", \"pattern\": {}, \"behavior\": \"Isolated\"}", "neither a Regex"},
    {made_tokenizer, LEVEL,
     "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\"}, {\"type\": \"ByteLevel\"}]}",
     "add_prefix_space behind another rule"},
    {made_tokenizer, LEVEL,
     "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"ByteLevel\"}, {\"type\": \"Digits\"}]}",
     "pre_tokenizer Digits behind ByteLevel"},
    {made_tokenizer, LEVEL, "null", "neither ByteLevel nor byte_fallback"},
    {made_tokenizer, LEVEL,
     "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\"}, {\"type\": \"Digits\"}, {\"type\": "
     "\"Digits\"}, {\"type\": \"Digits\"}, {\"type\": \"Digits\"}, {\"type\": \"Digits\"}, {\"type\": \"Digits\"}, "
     "{\"type\": \"Digits\"}, {\"type\": \"Digits\"}]}",
     "more than 8 rules"},
    {made_tokenizer, "\"post_processor\": null", "\"post_processor\": {\"type\": \"RobertaProcessing\"}",
     "post_processor RobertaProcessing"},
    {spm, "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}]",
     "{\"Sequence\": {\"id\": \"A\"}}, {\"SpecialToken\": {\"id\": \"<s>\"}}]", "more than one token"},
    {spm, "\"ids\": [1]", "\"ids\": [1, 1]", "one id of the vocabulary"},
    {spm, "\"ids\": [1]", "\"ids\": [7]", "one id of the vocabulary"},
    {made_tokenizer, "\"decoder\": {\"type\": \"ByteLevel\"}", "\"decoder\": {\"type\": \"CTC\"}", "decoder CTC"},
    {spm, "\"start\": 1", "\"start\": 2", "decoder Strip"},
    {made_tokenizer, "\"ab\": 6", "\"ab\": -6", "'ab' has no id"},
    {made_tokenizer, "\"ab\": 6", "\"ab\": 1048576", "'ab' has no id"},
    {made_tokenizer, "\"ab\": 6", "\"ab\": 6.5", "'ab' has no id"},
    {made_tokenizer, "\"ab\": 6", "\"ab\": 3", "'ab' has the id 3"},
    {made_tokenizer, "\"ab\": 6, ", "", "merge of 'a' and 'b'"},
    {made_tokenizer, "\"a b\"", "\"a b c\"", "entry 0 isn't two pieces"},
    {made_tokenizer, "\"a b\"", "\"ab\"", "entry 0 isn't two pieces"},
    {made_tokenizer, "\"a b\"", "[\"a\"]", "entry 0 isn't two pieces"},
    {made_tokenizer, "\"a b\"", "7", "entry 0 isn't two pieces"},
    {made_tokenizer, "\"merges\"", "\"merge\"", "model.merges"},
    {made_tokenizer, "\"content\": \"<end>\"", "\"content\": \"\"", "entry 0 has no content"},
    {made_tokenizer, "\"id\": 0", "\"id\": 4294967296", "entry 0 has no id"},
    {made_tokenizer, "\"vocab\"", "\"vocabulary\"", "model.vocab"},
};

static void everything_else_is_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refusals); i++) {
        struct model_desc *desc;
        struct error error = {0};
        char *text = replaced(refusals[i].base, refusals[i].old, refusals[i].new);
        enum status status = read_text(text, NULL, &desc, &error);
        if (status == STATUS_OK || strstr(error.text, refusals[i].says) == NULL)
            fail_msg("row %zu: wanted '%s', got %s: %s", i, refusals[i].says, status_name(status), error.text);
        mem_free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_level),  cmocka_unit_test(sentencepiece_style),
        cmocka_unit_test(metaspace),   cmocka_unit_test(begin_of_sequence),
        cmocka_unit_test(split_rules), cmocka_unit_test(everything_else_is_refused_by_name),
    };
    return cmocka_run_group_tests_name("model.tokenizer_json", tests, NULL, NULL);
}
