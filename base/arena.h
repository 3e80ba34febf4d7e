/* arena: memory of one request or one parse, freed as a whole.
 *
 * Blocks double up to 1 MiB; `max` bounds the total (NULL beyond it, so sizes from outside are safe). Everything is
 * aligned to 16 and zeroed. Not thread-safe. */
#ifndef SHOAL_BASE_ARENA_H
#define SHOAL_BASE_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *blocks;
    size_t used;
    size_t max;
};

void arena_init(struct arena *arena, size_t max);
void arena_free(struct arena *arena);
void *arena_alloc(struct arena *arena, size_t size); /* NULL when max or memory is exhausted */
void *arena_alloc_array(struct arena *arena, size_t count, size_t size);
char *arena_strndup(struct arena *arena, const char *text, size_t length);
void *arena_dup(struct arena *arena, const void *bytes, size_t length);

#endif
