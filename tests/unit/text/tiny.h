/* tests/unit/text/tiny: small vocabularies made by hand: byte-level and SentencePiece-style. */
#ifndef SHOAL_TESTS_UNIT_TEXT_TINY_H
#define SHOAL_TESTS_UNIT_TEXT_TINY_H

#include "model/desc.h"

enum { TINY_MAX = 400 };

struct tiny {
    struct model_desc desc;
    struct vocab vocab;
    struct vocab_token tokens[TINY_MAX];
    struct vocab_merge merges[TINY_MAX];
    char texts[TINY_MAX][64];
};

/* 256 single bytes; nothing merges yet. */
void tiny_bytes(struct tiny *tiny);
/* U+2581, the letters a to e, and <0xNN> for every byte; spaces are escaped, one is put in front. */
void tiny_spm(struct tiny *tiny);
/* The id of the new token. */
uint32_t tiny_add(struct tiny *tiny, const char *text, enum vocab_kind kind);
/* A token that two others merge into; the next rank. */
uint32_t tiny_merge(struct tiny *tiny, const char *left, const char *right);
uint32_t tiny_id(const struct tiny *tiny, const char *text);

#endif
