/* map: an open-addressing hash map from short byte strings to pointers.
 *
 * Keys are copied; values are borrowed and never NULL. Growth is amortised; `count_max` bounds it (STATUS_FULL beyond).
 * The hash is seeded per process, so that keys from outside can't be chosen to collide. Iteration order is unspecified:
 * sort where output must be stable. Integer keys go through map_*_u64. Not thread-safe. */
#ifndef SHOAL_BASE_MAP_H
#define SHOAL_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"

struct map_slot;

struct map {
    struct map_slot *slots;
    size_t capacity; /* a power of two, or 0 */
    size_t count;
    size_t tombstones;
    size_t count_max;
};

void map_init(struct map *map, size_t count_max);
void map_free(struct map *map);                                                 /* the values are the caller's */
MUST_CHECK enum status map_put(struct map *map, struct bytes key, void *value); /* replaces */
void *map_get(const struct map *map, struct bytes key);                         /* NULL when absent */
void *map_remove(struct map *map, struct bytes key);                            /* the removed value or NULL */
MUST_CHECK enum status map_put_u64(struct map *map, uint64_t key, void *value);
void *map_get_u64(const struct map *map, uint64_t key);
void *map_remove_u64(struct map *map, uint64_t key);

/* Iterates: start with *at = 0; false at the end. The map must not be changed meanwhile. */
bool map_next(const struct map *map, size_t *at, struct bytes *key, void **value);

#endif
