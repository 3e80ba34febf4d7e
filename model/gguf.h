/* model/gguf: the GGUF container (v2 and v3, little-endian): typed metadata and tensors, over bytes in memory.
 *
 * gguf_read walks the whole header once with a bounded cursor: every string, array and tensor is known to lie inside
 * the file before anything points there. Values stay where they are in the file; accessors decode on demand. The
 * layout follows docs/gguf.md of the ggml project. Not thread-safe while reading, immutable afterwards. */
#ifndef SHOAL_MODEL_GGUF_H
#define SHOAL_MODEL_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/map.h"
#include "base/status.h"
#include "model/tensors.h"

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPE_COUNT
};

enum { GGUF_VALUES_MAX = 65536 };

struct gguf_value {
    enum gguf_type type;
    enum gguf_type element; /* of an array */
    uint64_t count;         /* of an array's elements */
    struct bytes raw;       /* a scalar's bytes, a string's text, an array's elements */
};

struct gguf {
    uint32_t version;
    struct map by_key; /* → struct gguf_value */
    struct tensors tensors;
};

MUST_CHECK enum status gguf_read(struct bytes file, struct arena *arena, struct gguf *out, struct error *error);
void gguf_free(struct gguf *gguf); /* also after gguf_read has failed */

const struct gguf_value *gguf_get(const struct gguf *gguf, const char *key); /* NULL: absent */
/* Decode a value of any fitting type; false when it is NULL or of another kind. */
bool gguf_unsigned(const struct gguf_value *value, uint64_t *out); /* any integer that isn't negative */
bool gguf_real(const struct gguf_value *value, double *out);
bool gguf_bool(const struct gguf_value *value, bool otherwise);
struct bytes gguf_string(const struct gguf_value *value); /* empty when it is none */
bool gguf_is_array(const struct gguf_value *value, enum gguf_type element);

/* Fills desc from the bytes of a GGUF file; they must outlive it. */
MUST_CHECK enum status gguf_load(struct bytes file, const struct model_options *options, struct model_desc *desc,
                                 struct error *error);
/* The tokenizer that the metadata describes (model/gguf_vocab.c). */
MUST_CHECK enum status gguf_vocab_load(const struct gguf *gguf, struct model_desc *desc, struct error *error);

#endif
