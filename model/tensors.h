/* model/tensors: the tensors of a file by name, whatever the format, and their binding to the description.
 *
 * A format's reader adds what the file declares (tensors_add checks type, shape, product and place against the bytes
 * that are there); tensors_bind then looks up each tensor that the architecture needs under its name in the file's
 * dialect, checks its shape against the hyper-parameters, and refuses tensors that overlap and, by name, one that
 * nothing would use: a model with an unknown weight would run, and answer nonsense. Entries live in the caller's arena.
 * Not thread-safe. */
#ifndef SHOAL_MODEL_TENSORS_H
#define SHOAL_MODEL_TENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/map.h"
#include "base/status.h"
#include "model/desc.h"

enum { TENSORS_MAX = 65536, TENSORS_DIMS_MAX = 4 };

struct tensors_entry {
    struct tensors_entry *next; /* in the file's order */
    const char *name;
    const char *file; /* for messages: the shard's name, or "" */
    struct model_tensor tensor;
    size_t dims; /* as the file says; 1 for vectors */
    size_t bytes;
    bool used;
};

struct tensors {
    struct arena *arena;
    struct map by_name;
    struct tensors_entry *first, **last;
    size_t count;
};

/* What a file says about one tensor. The shape is outermost first: [rows, columns]. */
struct tensors_claim {
    struct bytes name;
    const char *file;
    enum model_type type;
    uint64_t shape[TENSORS_DIMS_MAX];
    size_t dims;
    uint64_t offset; /* in data */
};

enum tensors_dialect { TENSORS_GGUF, TENSORS_HF };

void tensors_init(struct tensors *tensors, struct arena *arena);
void tensors_free(struct tensors *tensors); /* the table only; entries are the arena's */
/* *bytes: the tensor's size. Refuses a name that is there already, and a place outside `data`. */
MUST_CHECK enum status tensors_add(struct tensors *tensors, const struct tensors_claim *claim, struct bytes data,
                                   uint64_t *bytes, struct error *error);
struct tensors_entry *tensors_find(const struct tensors *tensors, const char *name); /* NULL: absent */
/* desc has passed desc_check. Sets tensors, tied (in: whether the file asks for it), weights_bytes. */
MUST_CHECK enum status tensors_bind(struct tensors *tensors, enum tensors_dialect dialect, struct model_desc *desc,
                                    struct error *error);

#endif
