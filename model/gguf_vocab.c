/* gguf_vocab: the tokenizer in a GGUF's metadata (tokenizer.ggml.*), as a vocabulary and its rules.
 *
 * Two kinds are read: `gpt2` (byte-level byte-pair encoding, rules named by tokenizer.ggml.pre) and `llama`
 * (SentencePiece-style, merges ranked by scores, byte fallback). Others are refused by name. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "model/gguf.h"
#include "model/owner.h"
#include "model/pretokenizers.h"
#include "model/vocab_make.h"

/* tokenizer.ggml.token_type: 1 to 6. */
static const enum vocab_kind kinds[] = {VOCAB_UNUSED,       VOCAB_NORMAL, VOCAB_UNKNOWN, VOCAB_CONTROL,
                                        VOCAB_USER_DEFINED, VOCAB_UNUSED, VOCAB_BYTE};

static enum status kind_of(const struct gguf_value *types, uint64_t id, enum vocab_kind *out, struct error *error)
{
    uint32_t type = types == NULL ? 1 : load_u32le(types->raw.data + 4 * id);
    if (type < 1 || type >= COUNT_OF(kinds))
        return error_set(error, STATUS_UNSUPPORTED, "tokenizer.ggml.token_type: token %llu has type %u",
                         (unsigned long long)id, type);
    *out = kinds[type];
    return STATUS_OK;
}

/* An optional array beside the tokens: of that type, as long as they are. */
static enum status side_array(const struct gguf *gguf, const char *key, enum gguf_type a, enum gguf_type b,
                              uint64_t count, const struct gguf_value **out, struct error *error)
{
    const struct gguf_value *value = gguf_get(gguf, key);
    if (value != NULL && !((gguf_is_array(value, a) || gguf_is_array(value, b)) && value->count == count))
        return error_set(error, STATUS_INVALID, "metadata %s isn't an array of %llu entries, one a token", key,
                         (unsigned long long)count);
    *out = value;
    return STATUS_OK;
}

static enum status load_tokens(const struct gguf *gguf, struct vocab_make *make, struct model_desc *desc,
                               struct error *error)
{
    const struct gguf_value *tokens = gguf_get(gguf, "tokenizer.ggml.tokens"), *types, *scores;
    if (!gguf_is_array(tokens, GGUF_STRING))
        return error_set(error, STATUS_INVALID, "metadata tokenizer.ggml.tokens is missing or no array of strings");
    enum status status = vocab_make_init(make, desc_arena(desc), tokens->count, error);
    if (status == STATUS_OK)
        status = side_array(gguf, "tokenizer.ggml.token_type", GGUF_I32, GGUF_U32, tokens->count, &types, error);
    if (status == STATUS_OK)
        status = side_array(gguf, "tokenizer.ggml.scores", GGUF_F32, GGUF_F32, tokens->count, &scores, error);
    if (status != STATUS_OK)
        return status;
    if (desc->tokenizer.merge_by_score && (scores == NULL || types == NULL))
        return error_set(error, STATUS_INVALID, "metadata tokenizer.ggml.scores or token_type is missing");
    struct cursor cursor = cursor_of(tokens->raw);
    for (uint64_t id = 0; id < tokens->count; id++) {
        enum vocab_kind kind = VOCAB_UNUSED;
        struct bytes piece = cursor_take(&cursor, cursor_u64le(&cursor));
        status = kind_of(types, id, &kind, error);
        if (status != STATUS_OK)
            return status;
        vocab_make_put(make, (uint32_t)id, piece, kind);
        if (scores != NULL) {
            uint32_t bits = load_u32le(scores->raw.data + 4 * id);
            memcpy(&make->tokens[id].score, &bits, sizeof bits);
        }
        if (isnan(make->tokens[id].score))
            return error_set(error, STATUS_INVALID, "tokenizer.ggml.scores: token %llu has no number",
                             (unsigned long long)id);
    }
    CHECK(!cursor.bad); /* gguf_read has walked it */
    return vocab_make_index(make, error);
}

/* "left right": the first space behind the first character parts them, since a piece may begin with a space. */
static enum status load_merges(const struct gguf *gguf, const struct vocab_make *make, struct model_desc *desc,
                               struct error *error)
{
    const struct gguf_value *merges = gguf_get(gguf, "tokenizer.ggml.merges");
    if (!gguf_is_array(merges, GGUF_STRING) || merges->count > MODEL_MERGES_MAX)
        return error_set(error, STATUS_INVALID, "metadata tokenizer.ggml.merges is missing or no array of strings");
    struct vocab_tokenizer *tokenizer = &desc->tokenizer;
    tokenizer->merges = arena_alloc_array(desc_arena(desc), merges->count, sizeof *tokenizer->merges);
    if (tokenizer->merges == NULL && merges->count > 0)
        return desc_no_memory(error);
    struct cursor cursor = cursor_of(merges->raw);
    for (uint64_t i = 0; i < merges->count; i++) {
        struct bytes text = cursor_take(&cursor, cursor_u64le(&cursor));
        const uint8_t *space = text.length < 2 ? NULL : memchr(text.data + 1, ' ', text.length - 1);
        if (space == NULL)
            return error_set(error, STATUS_INVALID, "tokenizer.ggml.merges: entry %llu isn't two pieces",
                             (unsigned long long)i);
        struct bytes left = bytes_of(text.data, (size_t)(space - text.data));
        struct bytes right = bytes_of(space + 1, text.length - left.length - 1);
        enum status status = vocab_make_merge(make, left, right, &tokenizer->merges[i], error);
        if (status != STATUS_OK)
            return status;
    }
    tokenizer->merges_count = merges->count;
    return STATUS_OK;
}

static enum status load_rules(const struct gguf *gguf, struct bytes model, struct model_desc *desc, struct error *error)
{
    struct vocab_tokenizer *tokenizer = &desc->tokenizer;
    struct bytes pre = gguf_string(gguf_get(gguf, "tokenizer.ggml.pre"));
    snprintf(tokenizer->source_name, sizeof tokenizer->source_name, "gguf %.*s/%.*s", (int)MIN_OF(model.length, 16ul),
             (const char *)model.data, (int)MIN_OF(pre.length, 32ul), (const char *)pre.data);
    if (bytes_equal(model, BYTES_LITERAL("llama"))) {
        tokenizer->model = VOCAB_MODEL_BPE_SPM;
        tokenizer->merge_by_score = true;
        tokenizer->escape_spaces = true;
        tokenizer->prepend_space = gguf_bool(gguf_get(gguf, "tokenizer.ggml.add_space_prefix"), true);
        tokenizer->strip_leading_space = tokenizer->prepend_space;
        desc->add_bos = true;
        return STATUS_OK;
    }
    if (!bytes_equal(model, BYTES_LITERAL("gpt2")))
        return error_set(error, STATUS_UNSUPPORTED, "tokenizer.ggml.model %.*s isn't supported; gpt2 and llama are",
                         (int)MIN_OF(model.length, 64ul), (const char *)model.data);
    const struct pretokenizer *rules = pretokenizer_find(pre.length == 0 ? BYTES_LITERAL("default") : pre);
    if (rules == NULL)
        return error_set(error, STATUS_UNSUPPORTED,
                         "tokenizer.ggml.pre %.*s isn't known: its rules would have to be "
                         "guessed",
                         (int)MIN_OF(pre.length, 64ul), (const char *)pre.data);
    tokenizer->model = VOCAB_MODEL_BPE_BYTES;
    tokenizer->ignore_merges = rules->ignore_merges;
    tokenizer->add_prefix_space = gguf_bool(gguf_get(gguf, "tokenizer.ggml.add_space_prefix"), false);
    for (size_t i = 0; i < COUNT_OF(rules->regexes) && rules->regexes[i] != NULL; i++)
        tokenizer->regexes[tokenizer->regexes_count++] = bytes_of_text(rules->regexes[i]);
    desc->add_bos = rules->add_bos;
    return STATUS_OK;
}

static enum status load_special_ids(const struct gguf *gguf, const struct vocab_make *make, struct model_desc *desc,
                                    struct error *error)
{
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    uint64_t id;
    enum status status = STATUS_OK;
    if (gguf_unsigned(gguf_get(gguf, "tokenizer.ggml.bos_token_id"), &id))
        desc->bos_id = id < make->count ? (int32_t)id : INT32_MAX; /* desc_check_vocab refuses it */
    /* Byte-level vocabularies drop a byte that they lack, whatever the file calls unknown. */
    if (desc->tokenizer.model == VOCAB_MODEL_BPE_SPM &&
        gguf_unsigned(gguf_get(gguf, "tokenizer.ggml.unknown_token_id"), &id) && id < make->count)
        desc->tokenizer.unk_id = (int32_t)id;
    for (size_t i = 0; i < COUNT_OF(ends) && status == STATUS_OK; i++) {
        if (gguf_unsigned(gguf_get(gguf, ends[i]), &id))
            status = desc_add_eos(desc, id, error);
    }
    desc->add_bos = gguf_bool(gguf_get(gguf, "tokenizer.ggml.add_bos_token"), desc->add_bos) && desc->bos_id >= 0;
    return status;
}

static enum status load(const struct gguf *gguf, struct bytes model, struct vocab_make *make, struct model_desc *desc,
                        struct error *error)
{
    enum status status = load_rules(gguf, model, desc, error);
    if (status == STATUS_OK)
        status = load_tokens(gguf, make, desc, error);
    if (status == STATUS_OK && !desc->tokenizer.merge_by_score)
        status = load_merges(gguf, make, desc, error);
    if (status == STATUS_OK)
        status = load_special_ids(gguf, make, desc, error);
    for (size_t i = 0; i < make->count && status == STATUS_OK; i++)
        desc->tokenizer.byte_fallback = desc->tokenizer.byte_fallback || make->tokens[i].kind == VOCAB_BYTE;
    return status == STATUS_OK ? vocab_make_finish(make, true, desc, error) : status;
}

enum status gguf_vocab_load(const struct gguf *gguf, struct model_desc *desc, struct error *error)
{
    struct bytes model = gguf_string(gguf_get(gguf, "tokenizer.ggml.model"));
    if (model.length == 0 || bytes_equal(model, BYTES_LITERAL("none")) || bytes_equal(model, BYTES_LITERAL("no_vocab")))
        return STATUS_OK;
    struct vocab_make make = {0};
    enum status status = load(gguf, model, &make, desc, error);
    vocab_make_free(&make);
    struct bytes source = gguf_string(gguf_get(gguf, "tokenizer.chat_template"));
    if (status != STATUS_OK || source.length == 0)
        return status;
    desc->chat_template = desc_text(desc, source);
    desc->chat_template_length = source.length;
    return desc->chat_template == NULL ? desc_no_memory(error) : STATUS_OK;
}
