/* kvpool: the paged memory of keys and values of one rank's stage.
 *
 * A block holds 16 tokens of all the stage's layers and the rank's kv heads, contiguously:
 *   block[layer][kv head]{ keys [head_dim][16], values [16][head_dim_padded], int8: key scales [16], value scales [16]
 * } so that (block, layer, kv head) is one range of bytes: the unit of checksums and pulls. Every unit starts at a
 * multiple of 64 bytes. Who uses which block is not known here: plans say it. Opening fails with NO_MEMORY. */
#ifndef SHOAL_WORKER_ENGINE_KVPOOL_H
#define SHOAL_WORKER_ENGINE_KVPOOL_H

#include "base/status.h"
#include "worker/engine/backend.h"

struct kvpool {
    uint8_t *memory;
    uint32_t blocks;
    size_t block_bytes;
    size_t unit_bytes;
    size_t layers, kv_heads;
    struct backend_kv view; /* of layer 0, head 0 */
};

struct kvpool_shape {
    size_t layers, kv_heads, head_dim;
    enum decoder_kv_type type;
};

size_t kvpool_block_bytes(const struct kvpool_shape *shape);
MUST_CHECK enum status kvpool_open(struct kvpool *pool, const struct kvpool_shape *shape, uint32_t blocks,
                                   struct error *error);
void kvpool_close(struct kvpool *pool);
struct backend_kv kvpool_view(const struct kvpool *pool, size_t layer, size_t kv_head);
void kvpool_copy(struct kvpool *pool, uint32_t from, uint32_t to);

#endif
