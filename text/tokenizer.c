/* tokenizer: the pipeline from text to ids.
 *
 *     text ─ added tokens (raw) ─ NFC ─ spaces ─ added tokens (normalised) ─ regexes, one after the other ─ BPE
 *
 * Each step hands pieces to the next one without collecting them. The work space of an encode (buffers, the regex JIT's
 * stack) is kept in the tokenizer for the next caller: one spare, taken and returned by an atomic exchange. */
#include "text/tokenizer.h"

#include <stdatomic.h>
#include <string.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/mem.h"
#include "text/added.h"
#include "text/bpe.h"
#include "text/regex.h"
#include "text/unicode.h"
#include "text/utf8.h"

enum { TEXT_MAX = 32 << 20, NORMALISED_MAX = TEXT_MAX * 4, SPARE_SYMBOLS_MAX = 64 << 10 };
static const uint8_t SPACE_MARK[3] = {0xe2, 0x96, 0x81}; /* U+2581 */

/* What one encode works with. */
struct encoder {
    const struct tokenizer *tokenizer;
    struct added_policy policy;
    struct ids *out;
    struct error *error;
    struct bytes text; /* the whole: a piece that starts with it may get its first space */
    struct workspace *work;
};

struct workspace {
    struct regex_scratch *regex;
    struct bpe_scratch bpe;
    struct buf replaced, composed, spaced, prefixed;
    struct span *spans; /* of a normalised piece */
    size_t spans_capacity;
};

struct tokenizer {
    const struct vocab *vocab;
    const struct vocab_tokenizer *from;
    int32_t bos_id;          /* -1: no BOS in front of a prompt */
    struct added raw;        /* added tokens that match before normalisation */
    struct added normalised; /* and behind it */
    struct regex *regexes[COUNT_OF(((struct vocab_tokenizer *)0)->regexes)];
    size_t regexes_count;
    struct bpe *bpe;
    _Atomic(struct workspace *) spare;
};

/* ---- ids ---------------------------------------------------------------------------------------------------- */

void ids_init(struct ids *ids, size_t max)
{
    *ids = (struct ids){.max = max};
}

void ids_free(struct ids *ids)
{
    mem_free(ids->data);
    ids_init(ids, ids->max);
}

enum status ids_push(struct ids *ids, uint32_t id)
{
    if (ids->count == ids->capacity) {
        if (ids->count >= ids->max)
            return STATUS_LIMIT;
        ids->capacity = MIN_OF(MAX_OF(ids->capacity * 2, (size_t)64), ids->max);
        ids->data = mem_realloc_array(ids->data, ids->capacity, sizeof *ids->data);
    }
    ids->data[ids->count++] = id;
    return STATUS_OK;
}

/* ---- work space --------------------------------------------------------------------------------------------- */

static struct workspace *workspace_new(void)
{
    struct workspace *work = mem_new(struct workspace);
    buf_init(&work->replaced, NORMALISED_MAX);
    buf_init(&work->composed, NORMALISED_MAX);
    buf_init(&work->spaced, NORMALISED_MAX);
    buf_init(&work->prefixed, NORMALISED_MAX);
    return work;
}

static void workspace_free(struct workspace *work)
{
    if (work == NULL)
        return;
    regex_scratch_free(work->regex);
    bpe_scratch_free(&work->bpe);
    buf_free(&work->replaced);
    buf_free(&work->composed);
    buf_free(&work->spaced);
    buf_free(&work->prefixed);
    mem_free(work->spans);
    mem_free(work);
}

static struct workspace *workspace_take(const struct tokenizer *tokenizer)
{
    struct tokenizer *owner = (struct tokenizer *)(uintptr_t)tokenizer; /* only the atomic spare changes */
    struct workspace *work = atomic_exchange(&owner->spare, NULL);
    return work != NULL ? work : workspace_new();
}

/* A long text's work space is not kept: memory stays bounded by what short ones need. */
static void workspace_return(const struct tokenizer *tokenizer, struct workspace *work)
{
    struct tokenizer *owner = (struct tokenizer *)(uintptr_t)tokenizer;
    if (work->bpe.capacity > SPARE_SYMBOLS_MAX || work->spaced.capacity > SPARE_SYMBOLS_MAX ||
        work->composed.capacity > SPARE_SYMBOLS_MAX || work->replaced.capacity > SPARE_SYMBOLS_MAX) {
        workspace_free(work);
        return;
    }
    workspace_free(atomic_exchange(&owner->spare, work));
}

/* Whether spaces are the pre-tokeniser's (Metaspace) and not the normaliser's: then they come behind the normalised
 * added tokens, and nothing is put in front of what begins with a space already. */
static bool metaspace(const struct vocab_tokenizer *from)
{
    return from->prepend_unless_space;
}

/* ---- building ----------------------------------------------------------------------------------------------- */

static void add_spaces(const struct vocab_tokenizer *from, struct bytes text, bool prepend, struct buf *out)
{
    if (prepend)
        buf_append(out, from->escape_spaces ? (const void *)SPACE_MARK : " ",
                   from->escape_spaces ? sizeof SPACE_MARK : 1);
    while (from->escape_spaces) {
        const uint8_t *space = text.length == 0 ? NULL : memchr(text.data, ' ', text.length);
        if (space == NULL)
            break;
        size_t before = (size_t)(space - text.data);
        buf_append(out, text.data, before);
        buf_append(out, SPACE_MARK, sizeof SPACE_MARK);
        text = bytes_of(space + 1, text.length - before - 1);
    }
    buf_append_bytes(out, text);
}

/* A normalised added token is searched as the normaliser would spell it, as the reference does. */
static enum status put_normalised(struct tokenizer *tokenizer, struct bytes text, struct added_token token,
                                  struct error *error)
{
    const struct vocab_tokenizer *from = tokenizer->from;
    struct buf composed, spaced;
    buf_init(&composed, NORMALISED_MAX);
    buf_init(&spaced, NORMALISED_MAX);
    if (from->nfc)
        unicode_nfc(text, &composed);
    else
        buf_append_bytes(&composed, text);
    if (metaspace(from))
        buf_append_bytes(&spaced, buf_bytes(&composed));
    else
        add_spaces(from, buf_bytes(&composed), from->prepend_space, &spaced);
    enum status status = added_put(&tokenizer->normalised, buf_bytes(&spaced), token, error);
    buf_free(&composed);
    buf_free(&spaced);
    return status;
}

static enum status build_added(struct tokenizer *tokenizer, struct error *error)
{
    for (uint32_t id = 0; id < tokenizer->vocab->count; id++) {
        const struct vocab_token *token = &tokenizer->vocab->tokens[id];
        bool control = tokenizer_is_control(tokenizer, id);
        if (!control && token->kind != VOCAB_USER_DEFINED)
            continue;
        if (!utf8_valid(token->piece))
            continue; /* no valid text contains it */
        struct added_token added = {.id = id,
                                    .control = control,
                                    .lstrip = token->lstrip,
                                    .rstrip = token->rstrip,
                                    .single_word = token->single_word};
        enum status status = token->normalized ? put_normalised(tokenizer, token->piece, added, error)
                                               : added_put(&tokenizer->raw, token->piece, added, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status build(struct tokenizer *tokenizer, struct error *error)
{
    const struct vocab_tokenizer *from = tokenizer->from;
    for (size_t i = 0; i < from->regexes_count; i++) {
        enum status status = regex_compile(from->regexes[i], &tokenizer->regexes[i], error);
        if (status != STATUS_OK)
            return status;
        tokenizer->regexes_count++;
    }
    enum status status = build_added(tokenizer, error);
    return status != STATUS_OK ? status : bpe_new(tokenizer->vocab, from, &tokenizer->bpe, error);
}

enum status tokenizer_new(const struct model_desc *desc, struct tokenizer **out, struct error *error)
{
    if (desc->vocab == NULL || desc->tokenizer.model == VOCAB_MODEL_NONE)
        return error_set(error, STATUS_UNSUPPORTED, "the model has no tokenizer");
    struct tokenizer *tokenizer = mem_new(struct tokenizer);
    tokenizer->vocab = desc->vocab;
    tokenizer->from = &desc->tokenizer;
    tokenizer->bos_id = desc->add_bos ? desc->bos_id : -1;
    added_init(&tokenizer->raw);
    added_init(&tokenizer->normalised);
    enum status status = build(tokenizer, error);
    if (status != STATUS_OK) {
        tokenizer_free(tokenizer);
        return status;
    }
    *out = tokenizer;
    return STATUS_OK;
}

void tokenizer_free(struct tokenizer *tokenizer)
{
    if (tokenizer == NULL)
        return;
    workspace_free(atomic_load(&tokenizer->spare));
    for (size_t i = 0; i < tokenizer->regexes_count; i++)
        regex_free(tokenizer->regexes[i]);
    bpe_free(tokenizer->bpe);
    added_free(&tokenizer->raw);
    added_free(&tokenizer->normalised);
    mem_free(tokenizer);
}

/* ---- encoding, from the last step to the first -------------------------------------------------------------- */

/* Applies the regexes from `level` on; matches and what lies between them are pieces of their own. */
static enum status split(struct encoder *encoder, size_t level, struct bytes piece)
{
    const struct tokenizer *tokenizer = encoder->tokenizer;
    if (piece.length == 0)
        return STATUS_OK;
    if (level == tokenizer->regexes_count)
        return bpe_encode(tokenizer->bpe, &encoder->work->bpe, piece,
                          encoder->policy.specials == TOKENIZER_SPECIALS_ALL, encoder->out);
    if (encoder->work->regex == NULL)
        encoder->work->regex = regex_scratch_new();
    size_t done = 0; /* everything in front is handed on */
    for (size_t from = 0; from < piece.length;) {
        size_t begin, end;
        enum status status =
            regex_find(tokenizer->regexes[level], encoder->work->regex, piece, from, &begin, &end, encoder->error);
        if (status == STATUS_NOT_FOUND)
            break;
        if (status != STATUS_OK)
            return status;
        if (end == begin) { /* an empty match splits nothing: step over one character */
            do
                from++;
            while (from < piece.length && (piece.data[from] & 0xc0) == 0x80);
            continue;
        }
        status = split(encoder, level + 1, bytes_of(piece.data + done, begin - done));
        if (status == STATUS_OK)
            status = split(encoder, level + 1, bytes_of(piece.data + begin, end - begin));
        if (status != STATUS_OK)
            return status;
        done = from = end;
    }
    return split(encoder, level + 1, bytes_of(piece.data + done, piece.length - done));
}

static enum status pretokenize(struct encoder *encoder, struct bytes piece, bool first)
{
    const struct vocab_tokenizer *from = encoder->tokenizer->from;
    if (piece.length == 0)
        return STATUS_OK;
    if (metaspace(from)) {
        bool marked = piece.data[0] == ' ' ||
                      (piece.length >= sizeof SPACE_MARK && memcmp(piece.data, SPACE_MARK, sizeof SPACE_MARK) == 0);
        bool prepend = from->prepend_space && !marked && (first || !from->prepend_first_only);
        struct buf *spaced = &encoder->work->prefixed;
        buf_clear(spaced);
        add_spaces(from, piece, prepend, spaced);
        return split(encoder, 0, buf_bytes(spaced));
    }
    if (from->add_prefix_space && piece.data[0] != ' ') {
        struct buf *prefixed = &encoder->work->prefixed;
        buf_clear(prefixed);
        buf_append_u8(prefixed, ' ');
        buf_append_bytes(prefixed, piece);
        return split(encoder, 0, buf_bytes(prefixed));
    }
    return split(encoder, 0, piece);
}

/* The client's spans in a normalised piece whose only changes are the spaces that add_spaces made: every space in
 * front of a place moves it by what U+2581 is longer. */
static size_t map_spans(struct encoder *encoder, size_t at, struct bytes piece, size_t prepended)
{
    struct workspace *work = encoder->work;
    const struct added_policy *policy = &encoder->policy;
    size_t growth =
        encoder->tokenizer->from->escape_spaces && !metaspace(encoder->tokenizer->from) ? sizeof SPACE_MARK - 1 : 0;
    size_t count = 0, walked = 0, moved = prepended;
    for (size_t i = 0; i < policy->spans_count; i++) {
        size_t begin = MAX_OF(policy->spans[i].begin, at), end = MIN_OF(policy->spans[i].end, at + piece.length);
        if (begin >= end)
            continue;
        if (count == work->spans_capacity) {
            work->spans_capacity = MAX_OF(work->spans_capacity * 2, (size_t)16);
            work->spans = mem_realloc_array(work->spans, work->spans_capacity, sizeof *work->spans);
        }
        struct span *span = &work->spans[count++];
        for (; walked < begin - at; walked++)
            moved += piece.data[walked] == ' ' ? growth : 0;
        span->begin = walked + moved;
        for (; walked < end - at; walked++)
            moved += piece.data[walked] == ' ' ? growth : 0;
        span->end = walked + moved;
    }
    return count;
}

/* The policy for normalised added tokens of a piece. A composed piece counts as the client's as a whole if any of it
 * does: that is stricter than need be and never lets a control token be forged. */
static struct added_policy normalised_policy(struct encoder *encoder, struct bytes piece, bool composed,
                                             size_t prepended)
{
    struct added_policy policy = encoder->policy;
    if (policy.specials != TOKENIZER_SPECIALS_SPANS)
        return policy;
    policy.spans_count = map_spans(encoder, (size_t)(piece.data - encoder->text.data), piece, prepended);
    policy.spans = encoder->work->spans;
    if (composed && policy.spans_count > 0)
        policy.specials = TOKENIZER_SPECIALS_NONE;
    return policy;
}

/* A piece between raw added tokens. */
static enum status normalise(struct encoder *encoder, struct bytes piece)
{
    const struct tokenizer *tokenizer = encoder->tokenizer;
    const struct vocab_tokenizer *from = tokenizer->from;
    struct workspace *work = encoder->work;
    if (piece.length == 0)
        return STATUS_OK;
    bool first = piece.data == encoder->text.data;
    bool prepend = !metaspace(from) && from->prepend_space && (first || !from->prepend_first_only);
    bool compose = from->nfc && !unicode_nfc_quick(piece);
    struct bytes text = piece;
    if (compose) {
        buf_clear(&work->composed);
        unicode_nfc(text, &work->composed);
        text = buf_bytes(&work->composed);
    }
    if (!metaspace(from) && (prepend || from->escape_spaces)) {
        buf_clear(&work->spaced);
        add_spaces(from, text, prepend, &work->spaced);
        text = buf_bytes(&work->spaced);
    }
    if (tokenizer->normalised.tokens_count == 0)
        return pretokenize(encoder, text, first);
    size_t prepended = prepend ? (from->escape_spaces ? sizeof SPACE_MARK : 1) : 0;
    struct added_policy policy = normalised_policy(encoder, piece, compose, prepended);
    struct added_match match;
    size_t done = 0;
    while (added_find(&tokenizer->normalised, &policy, text, done, &match)) {
        enum status status = pretokenize(encoder, bytes_of(text.data + done, match.begin - done), first && done == 0);
        if (status == STATUS_OK)
            status = ids_push(encoder->out, match.id);
        if (status != STATUS_OK)
            return status;
        done = match.end;
    }
    return pretokenize(encoder, bytes_of(text.data + done, text.length - done), first && done == 0);
}

static enum status encode_valid(struct encoder *encoder, struct bytes text)
{
    struct added_match match;
    size_t done = 0;
    encoder->text = text;
    while (added_find(&encoder->tokenizer->raw, &encoder->policy, text, done, &match)) {
        enum status status = normalise(encoder, bytes_of(text.data + done, match.begin - done));
        if (status == STATUS_OK)
            status = ids_push(encoder->out, match.id);
        if (status != STATUS_OK)
            return status;
        done = match.end;
    }
    return normalise(encoder, bytes_of(text.data + done, text.length - done));
}

enum status tokenizer_encode(const struct tokenizer *tokenizer, struct bytes text, enum tokenizer_specials specials,
                             const struct span *spans, size_t spans_count, struct ids *out, struct error *error)
{
    if (text.length > TEXT_MAX)
        return error_set(error, STATUS_LIMIT, "a text of %zu bytes is longer than %d", text.length, TEXT_MAX);
    bool valid = utf8_valid(text);
    if (!valid && specials == TOKENIZER_SPECIALS_SPANS)
        return error_set(error, STATUS_INVALID, "the rendered chat is not valid UTF-8");
    struct encoder encoder = {
        .tokenizer = tokenizer,
        .policy = {.specials = specials, .spans = spans, .spans_count = spans_count},
        .out = out,
        .error = error,
        .work = workspace_take(tokenizer),
    };
    if (!valid) {
        buf_clear(&encoder.work->replaced);
        utf8_replace(text, &encoder.work->replaced);
        text = buf_bytes(&encoder.work->replaced);
    }
    if (error != NULL)
        error->text[0] = '\0';
    enum status status = encode_valid(&encoder, text);
    workspace_return(tokenizer, encoder.work);
    if (status == STATUS_LIMIT && (error == NULL || error->text[0] == '\0'))
        return error_set(error, STATUS_LIMIT, "the text has more than %zu tokens", out->max);
    return status;
}

enum status tokenizer_encode_prompt(const struct tokenizer *tokenizer, struct bytes text, struct ids *out,
                                    struct error *error)
{
    if (tokenizer->bos_id >= 0) {
        enum status status = ids_push(out, (uint32_t)tokenizer->bos_id);
        if (status != STATUS_OK)
            return error_set(error, status, "the text has more than %zu tokens", out->max);
    }
    return tokenizer_encode(tokenizer, text, TOKENIZER_SPECIALS_NONE, NULL, 0, out, error);
}

/* ---- what a vocabulary says --------------------------------------------------------------------------------- */

size_t tokenizer_vocab_size(const struct tokenizer *tokenizer)
{
    return tokenizer->vocab->count;
}

struct bytes tokenizer_bytes(const struct tokenizer *tokenizer, uint32_t id)
{
    if (id >= tokenizer->vocab->count || tokenizer_is_control(tokenizer, id))
        return bytes_of(NULL, 0);
    return tokenizer->vocab->tokens[id].bytes;
}

struct bytes tokenizer_piece(const struct tokenizer *tokenizer, uint32_t id)
{
    return id < tokenizer->vocab->count ? tokenizer->vocab->tokens[id].piece : bytes_of(NULL, 0);
}

bool tokenizer_is_control(const struct tokenizer *tokenizer, uint32_t id)
{
    if (id >= tokenizer->vocab->count)
        return false;
    uint8_t kind = tokenizer->vocab->tokens[id].kind;
    return kind == VOCAB_CONTROL || kind == VOCAB_UNKNOWN;
}

bool tokenizer_strips_leading_space(const struct tokenizer *tokenizer)
{
    return tokenizer->from->strip_leading_space;
}

/* Rare (at start, for a template's tokens), so the vocabulary is walked. */
int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *piece)
{
    struct bytes wanted = bytes_of_text(piece);
    for (size_t id = 0; id < tokenizer->vocab->count; id++) {
        const struct vocab_token *token = &tokenizer->vocab->tokens[id];
        if (token->kind != VOCAB_UNUSED && bytes_equal(token->piece, wanted))
            return (int32_t)id;
    }
    return -1;
}
