/* model/vocab: a vocabulary: id → (bytes, kind, score), and how text becomes ids, as data.
 *
 * Made from tokenizer.json or from a GGUF's metadata by model/; text/tokenizer builds its machines from it. For
 * byte-level vocabularies `piece` is the text as the file spells it (the GPT-2 alphabet) and `bytes` what it stands
 * for. Immutable. */
#ifndef SHOAL_MODEL_VOCAB_H
#define SHOAL_MODEL_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

enum vocab_kind {
    VOCAB_NORMAL,
    VOCAB_BYTE,         /* <0xNN> of byte fallback: bytes is that one byte */
    VOCAB_USER_DEFINED, /* added, not special: matches in client text (<tool_call>) */
    VOCAB_CONTROL,      /* added, special: never matches in client text (<|im_end|>) */
    VOCAB_UNKNOWN,
    VOCAB_UNUSED /* a hole, or an id beyond the tokenizer's */
};

struct vocab_token {
    struct bytes piece; /* as the file spells it */
    struct bytes bytes; /* what it adds to the text; empty for CONTROL and UNUSED */
    float score;
    uint8_t kind;                                 /* enum vocab_kind */
    bool lstrip, rstrip, single_word, normalized; /* of added tokens */
};

struct vocab {
    struct vocab_token *tokens;
    size_t count;
};

/* token of id, or NULL when out of range */
const struct vocab_token *vocab_token(const struct vocab *vocab, uint32_t id);

struct vocab_merge {
    uint32_t left, right, merged; /* ids; the rank is the index */
};

enum vocab_model { VOCAB_MODEL_NONE, VOCAB_MODEL_BPE_BYTES, VOCAB_MODEL_BPE_SPM };

/* How the pieces between added tokens are made, in a form both sources can fill. */
struct vocab_tokenizer {
    enum vocab_model model;
    struct vocab_merge *merges; /* BPE; for SPM from GGUF there are none: scores rank the merges */
    size_t merges_count;
    bool merge_by_score; /* SPM from a GGUF: the pair with the higher score of the merged token first */
    bool byte_fallback;
    bool fuse_unk;
    bool ignore_merges; /* a whole pre-token that is in the vocabulary is taken as it is */
    int32_t unk_id;     /* -1: none */
    /* Normalisation, in this order: NFC, then prepend, then replacement of spaces by U+2581. */
    bool nfc;
    bool prepend_space; /* SPM: U+2581 in front; `prepend_first_only`: only at the very start of the text */
    bool prepend_first_only;
    bool prepend_unless_space; /* Metaspace: nothing is put in front of what begins with a space or U+2581 */
    bool escape_spaces;        /* " " → U+2581 */
    bool metaspace;        /* prepend and escape are the pre-tokeniser's (Metaspace): they come behind the normalised
                            * added tokens, and nothing is prepended where a space or U+2581 stands already */
    bool add_prefix_space; /* ByteLevel's add_prefix_space */
    /* Pre-tokenisation: regexes applied one after the other, each splitting what the last one left (isolated, matches
     * and gaps are both pieces). Sources are PCRE2-compatible with UTF and UCP. Empty: none. */
    struct bytes regexes[8];
    size_t regexes_count;
    /* Decoding. */
    bool strip_leading_space; /* the decoder drops one space at the very start */
    char source_name[64];     /* tokenizer.json, or gguf's tokenizer.ggml.model/pre, for messages */
};

#endif
