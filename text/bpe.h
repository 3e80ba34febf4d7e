/* text/bpe: byte-pair encoding of one piece of text, byte-level or SentencePiece-style with byte fallback.
 *
 * Symbols (bytes, or characters) are merged pairwise, the pair of lowest rank first and of equals the leftmost, until
 * no pair is left: Sennrich et al. 2016, as tokenizers and SentencePiece do it. Short pieces are merged by scanning,
 * long ones with a heap: O(n log n). A piece that is one token by its merges is found by one look-up; which tokens are
 * is learnt at first use, so there is no cache that text could fill. Immutable but for those marks (atomic); may be
 * shared by threads. */
#ifndef SHOAL_TEXT_BPE_H
#define SHOAL_TEXT_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "model/vocab.h"
#include "text/tokenizer.h"

struct bpe;

/* Work space of one encoding thread; grows to the longest piece. */
struct bpe_scratch {
    struct bpe_symbol *symbols;
    uint64_t *heap;
    size_t capacity;
    size_t heap_capacity;
};
void bpe_scratch_free(struct bpe_scratch *scratch);

enum { BPE_PIECE_MAX = 1 << 30 };

/* Borrows both, which must outlive it. */
MUST_CHECK enum status bpe_new(const struct vocab *vocab, const struct vocab_tokenizer *from, struct bpe **out,
                               struct error *error);
void bpe_free(struct bpe *bpe);
/* Appends the ids of `piece` (valid UTF-8 for SentencePiece). `control`: the vocabulary itself may yield control ids.
 */
MUST_CHECK enum status bpe_encode(const struct bpe *bpe, struct bpe_scratch *scratch, struct bytes piece, bool control,
                                  struct ids *out);

#endif
