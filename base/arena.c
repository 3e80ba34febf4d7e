/* arena: bump allocation in a chain of doubling blocks. */
#include "base/arena.h"

#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

enum { ALIGNMENT = 16, BLOCK_FIRST = 4096, BLOCK_MAX = 1 << 20 };

struct arena_block {
    struct arena_block *older;
    size_t capacity;
    size_t used;
    _Alignas(ALIGNMENT) uint8_t data[];
};

void arena_init(struct arena *arena, size_t max)
{
    *arena = (struct arena){.max = max};
}

void arena_free(struct arena *arena)
{
    struct arena_block *block = arena->blocks;
    while (block != NULL) {
        struct arena_block *older = block->older;
        mem_free(block);
        block = older;
    }
    arena->blocks = NULL;
    arena->used = 0;
}

/* A fresh newest block with room for `size`; NULL without memory. */
static struct arena_block *grow(struct arena *arena, size_t size)
{
    size_t capacity = BLOCK_FIRST;
    if (arena->blocks != NULL)
        capacity = MIN_OF(MAX_OF(arena->blocks->capacity, (size_t)BLOCK_FIRST) * 2, (size_t)BLOCK_MAX);
    capacity = MAX_OF(capacity, size);
    struct arena_block *block = mem_try_alloc(sizeof *block + capacity);
    if (block == NULL)
        return NULL;
    block->capacity = capacity;
    block->older = arena->blocks;
    arena->blocks = block;
    return block;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    if (size == 0)
        size = 1;
    if (size > arena->max || size > SIZE_MAX / 2)
        return NULL;
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (size > arena->max - MIN_OF(arena->used, arena->max))
        return NULL;
    struct arena_block *block = arena->blocks;
    if (block == NULL || size > block->capacity - block->used) {
        block = grow(arena, size);
        if (block == NULL)
            return NULL;
    }
    void *pointer = block->data + block->used;
    block->used += size;
    arena->used += size;
    return pointer;
}

void *arena_alloc_array(struct arena *arena, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    return arena_alloc(arena, total);
}

char *arena_strndup(struct arena *arena, const char *text, size_t length)
{
    size_t copied = strnlen(text, length);
    char *copy = arena_alloc(arena, copied + 1);
    if (copy != NULL)
        memcpy(copy, text, copied);
    return copy;
}

void *arena_dup(struct arena *arena, const void *bytes, size_t length)
{
    void *copy = arena_alloc(arena, length);
    if (copy != NULL && length > 0)
        memcpy(copy, bytes, length);
    return copy;
}
