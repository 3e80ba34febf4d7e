/* support: what the tests of model/ share: cmocka's includes in their order, a writer of small model files in memory,
 * and a temporary folder.
 *
 * The writer makes one llama model of fixed sizes; a test says what to leave out, to add or to write otherwise, so each
 * refusal is one row of a table. */
#ifndef SHOAL_TESTS_UNIT_MODEL_SUPPORT_H
#define SHOAL_TESTS_UNIT_MODEL_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/mem.h"
#include "model/desc.h"

enum { MADE_DIM = 32, MADE_FFN = 64, MADE_HEADS = 4, MADE_KV_HEADS = 2, MADE_HEAD_DIM = 8, MADE_LAYERS = 2 };
enum { MADE_VOCAB = 12, MADE_CONTEXT = 64 };
/* ggml's numbers */
enum { MADE_F32 = 0, MADE_F16 = 1, MADE_Q4_0 = 2, MADE_Q4_1 = 3, MADE_Q8_0 = 8, MADE_Q4_K = 12, MADE_BF16 = 30 };

struct gguf_recipe {
    uint32_t version;       /* 0: 3 */
    uint32_t type;          /* of matrices */
    uint32_t alignment;     /* 0: the default, 32, unsaid */
    const char *without[4]; /* keys or tensors to leave out */
    const char *u32_key;    /* an entry of its own; replaces the recipe's of that name */
    uint32_t u32_value;
    const char *text_key;
    const char *text_value;
    const char *tensor;   /* a further tensor, F32 */
    size_t rows, columns; /* of it; rows 0: a vector */
    const char *twice;    /* a key or tensor that comes twice */
    bool output;          /* not tied */
    bool spm;             /* SentencePiece-style vocabulary */
    size_t types_cut;     /* entries that token_type lacks */
    bool no_tensors;
    bool overlap;      /* all tensors at offset 0 */
    size_t misaligned; /* added to the first tensor's offset */
};

/* Appends the file to *out. */
void make_gguf(const struct gguf_recipe *recipe, struct buf *out);
/* A safetensors file with the recipe's tensors under their Hugging Face names; dtype F32, F16 or BF16. */
void make_safetensors(const char *dtype, struct buf *out);
/* config.json of the same model. */
extern const char made_config[];
/* A byte-level tokenizer.json of MADE_VOCAB ids. */
extern const char made_tokenizer[];

/* Opens bytes as a GGUF: from a copy of exactly their length, so that ASan sees a read outside. */
enum status open_gguf_bytes(struct bytes bytes, bool vocab_only, struct model_desc **out, void **copy,
                            struct error *error);

/* A fresh folder under /tmp; text files in it. folder_drop removes it. */
struct folder {
    char path[64];
};
void folder_make(struct folder *folder);
void folder_drop(struct folder *folder);
void folder_write(const struct folder *folder, const char *name, struct bytes content);
void folder_remove(const struct folder *folder, const char *name);

#endif
