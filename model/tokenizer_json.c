/* tokenizer_json: see tokenizer_json.h. Here the vocabulary, the added tokens and the merges. */
#include "model/tokenizer_json.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "model/owner.h"

/* One past the highest id of vocabulary and added tokens. */
static enum status count_ids(const struct json *vocab, const struct json *added, uint64_t *out, struct error *error)
{
    void *iterator = NULL;
    struct bytes piece;
    const struct json *value;
    *out = 0;
    while (json_next(vocab, &iterator, &piece, &value)) {
        int64_t id = json_integer(value, -1);
        if (id < 0 || id >= MODEL_VOCAB_MAX)
            return error_set(error, STATUS_INVALID, "model.vocab: '%.64s' has no id within 0 to %d",
                             (const char *)piece.data, MODEL_VOCAB_MAX - 1);
        *out = MAX_OF(*out, (uint64_t)id + 1);
    }
    for (size_t i = 0; i < json_count(added); i++) {
        int64_t id = json_integer(json_get(json_at(added, i), "id"), -1);
        if (id < 0 || id >= MODEL_VOCAB_MAX)
            return error_set(error, STATUS_INVALID, "added_tokens: entry %zu has no id within 0 to %d", i,
                             MODEL_VOCAB_MAX - 1);
        *out = MAX_OF(*out, (uint64_t)id + 1);
    }
    return STATUS_OK;
}

static enum status put_copy(struct vocab_make *make, int64_t id, struct bytes piece, enum vocab_kind kind,
                            struct error *error)
{
    uint8_t *copy = arena_dup(make->arena, piece.data, piece.length);
    if (copy == NULL && piece.length > 0)
        return desc_no_memory(error);
    vocab_make_put(make, (uint32_t)id, bytes_of(copy, piece.length), kind);
    return STATUS_OK;
}

static enum status load_vocab(const struct json *vocab, bool byte_fallback, struct vocab_make *make,
                              struct error *error)
{
    void *iterator = NULL;
    struct bytes piece;
    const struct json *value;
    while (json_next(vocab, &iterator, &piece, &value)) {
        int64_t id = json_integer(value, -1);
        if (make->tokens[id].kind != VOCAB_UNUSED)
            return error_set(error, STATUS_INVALID, "model.vocab: '%.64s' has the id %lld of another piece",
                             (const char *)piece.data, (long long)id);
        bool byte = byte_fallback && vocab_byte_of_piece(piece) >= 0;
        enum status status = put_copy(make, id, piece, byte ? VOCAB_BYTE : VOCAB_NORMAL, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status load_added(const struct json *added, struct vocab_make *make, struct error *error)
{
    for (size_t i = 0; i < json_count(added); i++) {
        const struct json *entry = json_at(added, i);
        int64_t id = json_integer(json_get(entry, "id"), -1);
        struct bytes content = json_string(json_get(entry, "content"));
        if (content.length == 0)
            return error_set(error, STATUS_INVALID, "added_tokens: entry %zu has no content", i);
        bool special = json_bool(json_get(entry, "special"), false);
        enum status status = put_copy(make, id, content, special ? VOCAB_CONTROL : VOCAB_USER_DEFINED, error);
        if (status != STATUS_OK)
            return status;
        struct vocab_token *token = &make->tokens[id];
        token->lstrip = json_bool(json_get(entry, "lstrip"), false);
        token->rstrip = json_bool(json_get(entry, "rstrip"), false);
        token->single_word = json_bool(json_get(entry, "single_word"), false);
        token->normalized = json_bool(json_get(entry, "normalized"), !special);
    }
    return STATUS_OK;
}

/* "left right", or ["left", "right"] since tokenizers 0.20. */
static bool merge_sides(const struct json *value, struct bytes *left, struct bytes *right)
{
    if (json_kind(value) == JSON_ARRAY && json_count(value) == 2) {
        *left = json_string(json_at(value, 0));
        *right = json_string(json_at(value, 1));
        return true;
    }
    struct bytes text = json_string(value);
    const uint8_t *space = text.length == 0 ? NULL : memchr(text.data, ' ', text.length);
    if (space == NULL)
        return false;
    *left = bytes_of(text.data, (size_t)(space - text.data));
    *right = bytes_of(space + 1, text.length - left->length - 1);
    return memchr(right->data, ' ', right->length) == NULL;
}

static enum status load_merges(const struct json *merges, const struct vocab_make *make, struct model_desc *desc,
                               struct error *error)
{
    size_t count = json_count(merges);
    if (json_kind(merges) != JSON_ARRAY || count > MODEL_MERGES_MAX)
        return error_set(error, STATUS_INVALID, "model.merges is missing, no list, or too long");
    struct vocab_merge *list = arena_alloc_array(make->arena, count, sizeof *list);
    if (list == NULL && count > 0)
        return desc_no_memory(error);
    for (size_t i = 0; i < count; i++) {
        struct bytes left, right;
        if (!merge_sides(json_at(merges, i), &left, &right))
            return error_set(error, STATUS_INVALID, "model.merges: entry %zu isn't two pieces", i);
        enum status status = vocab_make_merge(make, left, right, &list[i], error);
        if (status != STATUS_OK)
            return status;
    }
    desc->tokenizer.merges = list;
    desc->tokenizer.merges_count = count;
    return STATUS_OK;
}

static enum status check_model(const struct json *model, struct error *error)
{
    const struct json *type = json_get(model, "type");
    if (json_kind(model) != JSON_OBJECT || json_kind(json_get(model, "vocab")) != JSON_OBJECT)
        return error_set(error, STATUS_UNSUPPORTED, "model.vocab is no object: only BPE is read");
    if (json_kind(type) != JSON_NULL && !json_is_string(type, "BPE"))
        return error_set(error, STATUS_UNSUPPORTED, "model type %.64s isn't supported; BPE is",
                         json_kind(type) == JSON_STRING ? json_text(type) : "(no name)");
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < COUNT_OF(affixes); i++) {
        if (json_string(json_get(model, affixes[i])).length > 0)
            return error_set(error, STATUS_UNSUPPORTED, "model.%s isn't supported", affixes[i]);
    }
    if (json_number(json_get(model, "dropout"), 0) != 0)
        return error_set(error, STATUS_UNSUPPORTED, "model.dropout: encoding would be random");
    return STATUS_OK;
}

static enum status load(const struct json *root, const struct json *config, struct vocab_make *make,
                        struct model_desc *desc, struct error *error)
{
    const struct json *model = json_get(root, "model"), *added = json_get(root, "added_tokens");
    struct vocab_tokenizer *tokenizer = &desc->tokenizer;
    uint64_t count;
    enum status status = check_model(model, error);
    tokenizer->byte_fallback = json_bool(json_get(model, "byte_fallback"), false);
    tokenizer->fuse_unk = json_bool(json_get(model, "fuse_unk"), false);
    tokenizer->ignore_merges = json_bool(json_get(model, "ignore_merges"), false);
    snprintf(tokenizer->source_name, sizeof tokenizer->source_name, "tokenizer.json");
    if (status == STATUS_OK)
        status = tokenizer_rules_read(root, desc, error);
    if (status == STATUS_OK)
        status = count_ids(json_get(model, "vocab"), added, &count, error);
    if (status == STATUS_OK)
        status = vocab_make_init(make, desc_arena(desc), count, error);
    if (status == STATUS_OK)
        status = load_vocab(json_get(model, "vocab"), tokenizer->byte_fallback, make, error);
    if (status == STATUS_OK)
        status = load_added(added, make, error);
    if (status == STATUS_OK)
        status = vocab_make_index(make, error);
    if (status == STATUS_OK)
        status = load_merges(json_get(model, "merges"), make, desc, error);
    if (status != STATUS_OK)
        return status;
    const struct json *bos = json_get(config, "bos_token");
    bos = json_kind(bos) == JSON_OBJECT ? json_get(bos, "content") : bos;
    if (json_kind(bos) == JSON_STRING && vocab_make_find(make, json_string(bos)) >= 0)
        desc->bos_id = vocab_make_find(make, json_string(bos));
    desc->add_bos = json_bool(json_get(config, "add_bos_token"), false);
    if (json_kind(json_get(model, "unk_token")) == JSON_STRING)
        tokenizer->unk_id = vocab_make_find(make, json_string(json_get(model, "unk_token")));
    status = tokenizer_post_read(root, make, desc, error);
    desc->add_bos = desc->add_bos && desc->bos_id >= 0;
    return status == STATUS_OK ? vocab_make_finish(make, false, desc, error) : status;
}

enum status tokenizer_json_read(const struct json *root, const struct json *config, struct model_desc *desc,
                                struct error *error)
{
    struct vocab_make make = {0};
    enum status status = load(root, config, &make, desc, error);
    vocab_make_free(&make);
    return status;
}
