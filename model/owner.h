/* model/owner: what a description owns behind its back: mappings of the files and one arena for everything else.
 *
 * Private to model/. Readers fill a description through these calls; model_close returns all of it at once, so no
 * reader frees anything on its error paths. */
#ifndef SHOAL_MODEL_OWNER_H
#define SHOAL_MODEL_OWNER_H

#include "base/arena.h"
#include "base/bytes.h"
#include "base/status.h"
#include "model/desc.h"

/* What a description's arena may grow to. Vocabularies are bounded by MODEL_VOCAB_MAX and by the file, so only a
 * broken reader could get there. */
#define MODEL_ARENA_MAX ((size_t)1 << 30)

enum { MODEL_VOCAB_MAX = 1 << 20, MODEL_MERGES_MAX = 1 << 22, MODEL_LAYERS_MAX = 512 };

struct model_desc *desc_new(void); /* empty, without layers; bos_id and unk_id are -1 */
struct arena *desc_arena(struct model_desc *desc);
/* Maps a file for as long as the description lives. */
MUST_CHECK enum status desc_map(struct model_desc *desc, const char *path, struct bytes *out, struct error *error);
/* A zero-terminated copy; NULL when the arena is exhausted. */
const char *desc_text(struct model_desc *desc, struct bytes text);
/* Hyper-parameters within what shoal runs, and consistent with each other; allocates the (empty) layers. */
MUST_CHECK enum status desc_check(struct model_desc *desc, struct error *error);
/* Adds to the set of ids that end generation; the same id twice is one. */
MUST_CHECK enum status desc_add_eos(struct model_desc *desc, uint64_t id, struct error *error);
/* Special ids within the vocabulary, tokenizer within the embedding; fills up the vocabulary with unused ids. */
MUST_CHECK enum status desc_check_vocab(struct model_desc *desc, struct error *error);
void desc_hash(struct model_desc *desc); /* fills desc->hash from what is there */
MUST_CHECK enum status desc_no_memory(struct error *error);

#endif
