/* model/safetensors: the safetensors container: a JSON header of names, types, shapes and places, then the weights.
 *
 * safetensors_read takes one file's bytes; safetensors_load takes a folder with model.safetensors or with shards and
 * model.safetensors.index.json. Every place is checked against the file, and sizes must match shapes exactly. The
 * layout follows the format's own README. */
#ifndef SHOAL_MODEL_SAFETENSORS_H
#define SHOAL_MODEL_SAFETENSORS_H

#include "base/bytes.h"
#include "base/status.h"
#include "model/tensors.h"

enum { SAFETENSORS_HEADER_MAX = 100 << 20, SAFETENSORS_SHARDS_MAX = 1024 };

/* name: of the file, for messages; must live as long as the tensors. */
MUST_CHECK enum status safetensors_read(struct bytes file, const char *name, struct tensors *into, struct error *error);
MUST_CHECK enum status safetensors_load(const char *folder, struct model_desc *desc, struct tensors *into,
                                        struct error *error);

#endif
