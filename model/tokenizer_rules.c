/* tokenizer_rules: normalizer, pre_tokenizer, post_processor and decoder of a tokenizer.json.
 *
 * Each is an object with a `type`, or a Sequence of such. The rules know two families: byte-level, where regexes cut
 * the text and bytes become printable characters, and SentencePiece's, where spaces become U+2581. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/check.h"
#include "model/owner.h"
#include "model/pretokenizers.h"
#include "model/tokenizer_json.h"

#define SPACE_MARK "\xe2\x96\x81"

enum { SEQUENCE_DEPTH_MAX = 4 };

struct reader {
    struct model_desc *desc;
    struct error *error;
    bool byte_level; /* a ByteLevel pre-tokenizer has been seen */
    bool metaspace;
};

typedef enum status rule_reader(struct reader *reader, const struct json *rule);

static enum status refuse(struct reader *reader, const char *part, const struct json *rule, const char *why)
{
    const struct json *type = json_get(rule, "type");
    return error_set(reader->error, STATUS_UNSUPPORTED, "%s %.64s %s", part,
                     json_kind(type) == JSON_STRING ? json_text(type) : "without a type", why);
}

/* Calls `read` for the rule, or for each of a Sequence, whose list is under `list`. */
static enum status each_rule(struct reader *reader, const struct json *rule, const char *list, rule_reader *read,
                             int depth)
{
    if (json_kind(rule) == JSON_NULL)
        return STATUS_OK;
    if (!json_is_string(json_get(rule, "type"), "Sequence"))
        return read(reader, rule);
    if (depth == SEQUENCE_DEPTH_MAX)
        return refuse(reader, list, rule, "is nested too deeply");
    const struct json *rules = json_get(rule, list);
    for (size_t i = 0; i < json_count(rules); i++) {
        enum status status = each_rule(reader, json_at(rules, i), list, read, depth + 1);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static bool replaces(const struct json *rule, const char *pattern, const char *content)
{
    return json_is_string(json_get(rule, "type"), "Replace") &&
           json_is_string(json_get(json_get(rule, "pattern"), "String"), pattern) &&
           json_is_string(json_get(rule, "content"), content);
}

static enum status read_normalizer(struct reader *reader, const struct json *rule)
{
    struct vocab_tokenizer *tokenizer = &reader->desc->tokenizer;
    const struct json *type = json_get(rule, "type");
    if (json_is_string(type, "NFC")) {
        tokenizer->nfc = true;
        return STATUS_OK;
    }
    if (json_is_string(type, "Prepend")) {
        if (!json_is_string(json_get(rule, "prepend"), SPACE_MARK))
            return refuse(reader, "normalizer", rule, "of anything but U+2581 isn't supported");
        tokenizer->prepend_space = true;
        return STATUS_OK;
    }
    if (json_is_string(type, "Replace")) {
        if (!replaces(rule, " ", SPACE_MARK))
            return refuse(reader, "normalizer", rule, "of anything but a space by U+2581 isn't supported");
        tokenizer->escape_spaces = true;
        return STATUS_OK;
    }
    return refuse(reader, "normalizer", rule, "isn't supported");
}

static enum status add_regex(struct reader *reader, struct bytes source)
{
    struct vocab_tokenizer *tokenizer = &reader->desc->tokenizer;
    if (tokenizer->regexes_count == COUNT_OF(tokenizer->regexes))
        return error_set(reader->error, STATUS_LIMIT, "pre_tokenizer: more than %zu rules",
                         COUNT_OF(tokenizer->regexes));
    const char *copy = desc_text(reader->desc, source);
    if (copy == NULL)
        return desc_no_memory(reader->error);
    tokenizer->regexes[tokenizer->regexes_count++] = bytes_of(copy, source.length);
    return STATUS_OK;
}

/* A text that matches itself, as a regex. */
static enum status add_literal(struct reader *reader, struct bytes text)
{
    struct buf regex;
    buf_init(&regex, 1 << 20);
    for (size_t i = 0; i < text.length; i++) {
        if (memchr("\\^$.[]|()?*+{}-#&~ ", text.data[i], 19) != NULL)
            buf_append_u8(&regex, '\\');
        buf_append_u8(&regex, text.data[i]);
    }
    enum status status = regex.overflow ? error_set(reader->error, STATUS_LIMIT, "pre_tokenizer: a pattern too long")
                                        : add_regex(reader, buf_bytes(&regex));
    buf_free(&regex);
    return status;
}

static enum status read_split(struct reader *reader, const struct json *rule)
{
    const struct json *pattern = json_get(rule, "pattern");
    if (!json_is_string(json_get(rule, "behavior"), "Isolated") || json_bool(json_get(rule, "invert"), false))
        return refuse(reader, "pre_tokenizer", rule, "is supported with behavior Isolated, not inverted, only");
    if (json_string(json_get(pattern, "Regex")).length > 0)
        return add_regex(reader, json_string(json_get(pattern, "Regex")));
    if (json_string(json_get(pattern, "String")).length > 0)
        return add_literal(reader, json_string(json_get(pattern, "String")));
    return refuse(reader, "pre_tokenizer", rule, "has neither a Regex nor a String");
}

static enum status read_byte_level(struct reader *reader, const struct json *rule)
{
    struct vocab_tokenizer *tokenizer = &reader->desc->tokenizer;
    reader->byte_level = true;
    if (json_bool(json_get(rule, "add_prefix_space"), true)) {
        if (tokenizer->regexes_count > 0) /* it would put a space in front of every piece of the rules before */
            return refuse(reader, "pre_tokenizer", rule, "with add_prefix_space behind another rule isn't supported");
        tokenizer->add_prefix_space = true;
    }
    if (json_bool(json_get(rule, "use_regex"), true))
        return add_regex(reader, bytes_of_text(pretokenizer_gpt2));
    return STATUS_OK;
}

/* prepend_scheme since tokenizers 0.15; before, add_prefix_space told always from never. */
static enum status read_metaspace(struct reader *reader, const struct json *rule)
{
    struct vocab_tokenizer *tokenizer = &reader->desc->tokenizer;
    const struct json *scheme = json_get(rule, "prepend_scheme");
    if (!json_is_string(json_get(rule, "replacement"), SPACE_MARK))
        return refuse(reader, "pre_tokenizer", rule, "with a replacement other than U+2581 isn't supported");
    if (tokenizer->prepend_space || tokenizer->escape_spaces || tokenizer->regexes_count > 0)
        return refuse(reader, "pre_tokenizer", rule, "beside other rules isn't supported");
    bool never =
        scheme == NULL ? !json_bool(json_get(rule, "add_prefix_space"), true) : json_is_string(scheme, "never");
    reader->metaspace = true;
    tokenizer->escape_spaces = true;
    tokenizer->prepend_space = !never;
    tokenizer->prepend_first_only = json_is_string(scheme, "first");
    tokenizer->prepend_unless_space = true;
    if (json_bool(json_get(rule, "split"), true)) /* each mark begins a piece */
        return add_regex(reader, BYTES_LITERAL(SPACE_MARK "[^" SPACE_MARK "]*"));
    return STATUS_OK;
}

static enum status read_pre_tokenizer(struct reader *reader, const struct json *rule)
{
    const struct json *type = json_get(rule, "type");
    if (reader->byte_level || reader->metaspace)
        return refuse(reader, "pre_tokenizer", rule, "behind ByteLevel or Metaspace isn't supported");
    if (json_is_string(type, "ByteLevel"))
        return read_byte_level(reader, rule);
    if (json_is_string(type, "Metaspace"))
        return read_metaspace(reader, rule);
    if (json_is_string(type, "Split"))
        return read_split(reader, rule);
    if (json_is_string(type, "Digits"))
        return add_regex(reader, json_bool(json_get(rule, "individual_digits"), false) ? BYTES_LITERAL("\\p{N}")
                                                                                       : BYTES_LITERAL("\\p{N}+"));
    return refuse(reader, "pre_tokenizer", rule, "isn't supported");
}

static enum status read_decoder(struct reader *reader, const struct json *rule)
{
    struct vocab_tokenizer *tokenizer = &reader->desc->tokenizer;
    const struct json *type = json_get(rule, "type");
    bool bytes = tokenizer->model == VOCAB_MODEL_BPE_BYTES;
    if (json_is_string(type, "Fuse") || (bytes && json_is_string(type, "ByteLevel")) ||
        (!bytes && (json_is_string(type, "ByteFallback") || replaces(rule, SPACE_MARK, " "))))
        return STATUS_OK;
    if (!bytes && json_is_string(type, "Metaspace")) {
        tokenizer->strip_leading_space = tokenizer->prepend_space;
        return STATUS_OK;
    }
    if (!bytes && json_is_string(type, "Strip") && json_is_string(json_get(rule, "content"), " ") &&
        json_integer(json_get(rule, "start"), -1) == 1 && json_integer(json_get(rule, "stop"), -1) == 0) {
        tokenizer->strip_leading_space = true;
        return STATUS_OK;
    }
    return refuse(reader, "decoder", rule, "isn't supported for this model");
}

enum status tokenizer_rules_read(const struct json *root, struct model_desc *desc, struct error *error)
{
    struct reader reader = {.desc = desc, .error = error};
    struct vocab_tokenizer *tokenizer = &desc->tokenizer;
    enum status status = each_rule(&reader, json_get(root, "normalizer"), "normalizers", read_normalizer, 0);
    if (status == STATUS_OK)
        status = each_rule(&reader, json_get(root, "pre_tokenizer"), "pretokenizers", read_pre_tokenizer, 0);
    if (status != STATUS_OK)
        return status;
    if (!reader.byte_level && !tokenizer->byte_fallback)
        return error_set(error, STATUS_UNSUPPORTED, "BPE with neither ByteLevel nor byte_fallback isn't supported");
    if (reader.byte_level && (tokenizer->prepend_space || tokenizer->escape_spaces || tokenizer->byte_fallback))
        return error_set(error, STATUS_UNSUPPORTED, "ByteLevel together with U+2581 or byte_fallback isn't supported");
    tokenizer->model = reader.byte_level ? VOCAB_MODEL_BPE_BYTES : VOCAB_MODEL_BPE_SPM;
    return each_rule(&reader, json_get(root, "decoder"), "decoders", read_decoder, 0);
}

/* TemplateProcessing's list for one text: at most one token in front of it, nothing behind. */
static enum status read_template(struct reader *reader, const struct json *rule, const struct vocab_make *make)
{
    const struct json *list = json_get(rule, "single");
    size_t count = json_count(list);
    const struct json *front = json_get(json_get(json_at(list, 0), "SpecialToken"), "id");
    const struct json *text = json_get(json_at(list, count - 1), "Sequence");
    if (count < 1 || count > 2 || text == NULL || (count == 2 && json_kind(front) != JSON_STRING))
        return refuse(reader, "post_processor", rule, "with more than one token in front of the text isn't supported");
    reader->desc->add_bos = count == 2;
    if (count == 1)
        return STATUS_OK;
    const struct json *special = json_get(json_get(rule, "special_tokens"), json_text(front));
    const struct json *ids = json_get(special, "ids");
    int64_t id = json_integer(json_at(ids, 0), -1);
    if (json_count(ids) != 1 || id < 0 || (uint64_t)id >= make->count)
        return refuse(reader, "post_processor", rule, "has a token in front that isn't one id of the vocabulary");
    reader->desc->bos_id = (int32_t)id;
    return STATUS_OK;
}

static enum status read_post(struct reader *reader, const struct json *rule, const struct vocab_make *make)
{
    const struct json *type = json_get(rule, "type");
    if (json_kind(rule) == JSON_NULL || json_is_string(type, "ByteLevel")) /* ByteLevel only trims offsets */
        return STATUS_OK;
    if (json_is_string(type, "TemplateProcessing"))
        return read_template(reader, rule, make);
    return refuse(reader, "post_processor", rule, "isn't supported");
}

enum status tokenizer_post_read(const struct json *root, const struct vocab_make *make, struct model_desc *desc,
                                struct error *error)
{
    struct reader reader = {.desc = desc, .error = error};
    const struct json *rule = json_get(root, "post_processor");
    if (!json_is_string(json_get(rule, "type"), "Sequence"))
        return read_post(&reader, rule, make);
    const struct json *rules = json_get(rule, "processors");
    enum status status = STATUS_OK;
    for (size_t i = 0; i < json_count(rules) && status == STATUS_OK; i++)
        status = read_post(&reader, json_at(rules, i), make);
    return status;
}
