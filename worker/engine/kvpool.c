/* kvpool: one anonymous mapping, huge pages where the kernel gives them, zeroed by the kernel. */
#include "worker/engine/kvpool.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"

static size_t element_bytes(enum decoder_kv_type type)
{
    static const size_t bytes[] = {
        [DECODER_KV_F32] = 4, [DECODER_KV_F16] = 2, [DECODER_KV_BF16] = 2, [DECODER_KV_INT8] = 1};
    return bytes[type];
}

static size_t round_up(size_t value, size_t to)
{
    return (value + to - 1) / to * to;
}

/* Fills the offsets of a unit and returns its size. */
static size_t unit_layout(const struct kvpool_shape *shape, struct backend_kv *view)
{
    const size_t element = element_bytes(shape->type);
    const size_t scales = shape->type == DECODER_KV_INT8 ? DECODER_BLOCK_TOKENS * sizeof(float) : 0;
    view->type = shape->type;
    view->head_dim = shape->head_dim;
    view->head_dim_padded = round_up(shape->head_dim, 16);
    view->keys = 0;
    view->values = round_up(shape->head_dim * DECODER_BLOCK_TOKENS * element, 64);
    view->key_scales = view->values + round_up(view->head_dim_padded * DECODER_BLOCK_TOKENS * element, 64);
    view->value_scales = view->key_scales + scales;
    return view->value_scales + scales;
}

size_t kvpool_block_bytes(const struct kvpool_shape *shape)
{
    struct backend_kv view;
    return unit_layout(shape, &view) * shape->layers * shape->kv_heads;
}

enum status kvpool_open(struct kvpool *pool, const struct kvpool_shape *shape, uint32_t blocks, struct error *error)
{
    *pool = (struct kvpool){.blocks = blocks, .layers = shape->layers, .kv_heads = shape->kv_heads};
    pool->unit_bytes = unit_layout(shape, &pool->view);
    pool->block_bytes = pool->unit_bytes * shape->layers * shape->kv_heads;
    size_t bytes;
    if (__builtin_mul_overflow(pool->block_bytes, (size_t)blocks, &bytes) || bytes == 0)
        return error_set(error, STATUS_INVALID, "A pool of %u KV blocks of %zu bytes is not possible.", blocks,
                         pool->block_bytes);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return error_set_errno(error, STATUS_NO_MEMORY, errno, "There is no memory for %u KV blocks (%zu bytes)",
                               blocks, bytes);
    (void)madvise(memory, bytes, MADV_HUGEPAGE);
    pool->memory = memory;
    pool->view.blocks = memory;
    pool->view.block_bytes = pool->block_bytes;
    return STATUS_OK;
}

void kvpool_close(struct kvpool *pool)
{
    if (pool->memory != NULL)
        munmap(pool->memory, pool->block_bytes * pool->blocks);
    pool->memory = NULL;
}

struct backend_kv kvpool_view(const struct kvpool *pool, size_t layer, size_t kv_head)
{
    CHECK(layer < pool->layers && kv_head < pool->kv_heads);
    struct backend_kv view = pool->view;
    const size_t unit = (layer * pool->kv_heads + kv_head) * pool->unit_bytes;
    view.keys += unit;
    view.values += unit;
    view.key_scales += unit;
    view.value_scales += unit;
    return view;
}

void kvpool_copy(struct kvpool *pool, uint32_t from, uint32_t to)
{
    CHECK(from < pool->blocks && to < pool->blocks);
    if (from != to)
        memcpy(pool->memory + (size_t)to * pool->block_bytes, pool->memory + (size_t)from * pool->block_bytes,
               pool->block_bytes);
}
