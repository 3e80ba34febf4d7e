/* model/vocab_make: puts a vocabulary together; shared by the readers of tokenizer.json and of GGUF.
 *
 * In order: init with the number of ids, put every token, index the pieces, resolve merges, finish (which works out
 * each token's bytes and hands the vocabulary to the description). Memory is the description's arena; only the index
 * must be freed. Holes stay of kind UNUSED. */
#ifndef SHOAL_MODEL_VOCAB_MAKE_H
#define SHOAL_MODEL_VOCAB_MAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/map.h"
#include "base/status.h"
#include "model/desc.h"

struct vocab_make {
    struct arena *arena;
    struct vocab_token *tokens;
    size_t count;
    struct map by_piece; /* → struct vocab_token in tokens */
};

MUST_CHECK enum status vocab_make_init(struct vocab_make *make, struct arena *arena, uint64_t count,
                                       struct error *error);
void vocab_make_free(struct vocab_make *make);
/* piece must live as long as the vocabulary. */
void vocab_make_put(struct vocab_make *make, uint32_t id, struct bytes piece, enum vocab_kind kind);
MUST_CHECK enum status vocab_make_index(struct vocab_make *make, struct error *error);
int32_t vocab_make_find(const struct vocab_make *make, struct bytes piece); /* -1: absent */
/* The ids of left, right and left + right; *merge as the next of the tokenizer's merges. */
MUST_CHECK enum status vocab_make_merge(const struct vocab_make *make, struct bytes left, struct bytes right,
                                        struct vocab_merge *merge, struct error *error);
/* plain_added: the bytes of a user-defined token are its piece as it stands; otherwise as of a normal one. */
MUST_CHECK enum status vocab_make_finish(struct vocab_make *make, bool plain_added, struct model_desc *desc,
                                         struct error *error);
/* A piece in the GPT-2 alphabet, where every byte is one printable character, as its bytes: the piece itself when it
 * has a character from outside. *ok is false when there is no memory. */
struct bytes vocab_bytes_of_byte_level(struct arena *arena, struct bytes piece, bool *ok);
/* The value of a piece like <0x0A>, or -1. */
int vocab_byte_of_piece(struct bytes piece);

#endif
