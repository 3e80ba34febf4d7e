/* text/tokenizer: text to token ids, equal to the reference implementations (text.md says what equal means).
 *
 * Built once per model from model/vocab, then immutable and shared by threads. Input is valid UTF-8 (broken bytes are
 * first replaced, see text/utf8.h). Work and memory are linear in the input (BPE with a heap per piece). */
#ifndef SHOAL_TEXT_TOKENIZER_H
#define SHOAL_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "model/desc.h"

struct tokenizer;

/* Growable array of ids; `max` bounds it. */
struct ids {
    uint32_t *data;
    size_t count;
    size_t capacity;
    size_t max;
};
void ids_init(struct ids *ids, size_t max);
void ids_free(struct ids *ids);
MUST_CHECK enum status ids_push(struct ids *ids, uint32_t id); /* STATUS_LIMIT beyond max */

/* A part of the text that the client wrote: control tokens never match where they touch such a byte. */
struct span {
    size_t begin, end;
};

MUST_CHECK enum status tokenizer_new(const struct model_desc *desc, struct tokenizer **out, struct error *error);
void tokenizer_free(struct tokenizer *tokenizer);

enum tokenizer_specials {
    TOKENIZER_SPECIALS_ALL,  /* control tokens match anywhere (the reference's encode) */
    TOKENIZER_SPECIALS_NONE, /* control tokens never match: a raw client prompt */
    TOKENIZER_SPECIALS_SPANS /* they match only outside the client's spans: a rendered chat */
};
/* Appends the ids. `spans` are sorted and disjoint, used with SPANS only. Adds no BOS: see tokenizer_encode_prompt. */
MUST_CHECK enum status tokenizer_encode(const struct tokenizer *tokenizer, struct bytes text,
                                        enum tokenizer_specials specials, const struct span *spans, size_t spans_count,
                                        struct ids *out, struct error *error);
/* A raw prompt: BOS where the model asks for it, then the text without control tokens. */
MUST_CHECK enum status tokenizer_encode_prompt(const struct tokenizer *tokenizer, struct bytes text, struct ids *out,
                                               struct error *error);
size_t tokenizer_vocab_size(const struct tokenizer *tokenizer);
/* Bytes that a token adds to the text (empty for control tokens and unknown ids). */
struct bytes tokenizer_bytes(const struct tokenizer *tokenizer, uint32_t id);
/* The token as its file spells it; empty for unknown ids. */
struct bytes tokenizer_piece(const struct tokenizer *tokenizer, uint32_t id);
/* The decoder drops one space at the very start of a text. */
bool tokenizer_strips_leading_space(const struct tokenizer *tokenizer);
bool tokenizer_is_control(const struct tokenizer *tokenizer, uint32_t id);
int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *piece); /* -1: absent */

#endif
