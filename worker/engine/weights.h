/* weights: one rank's slices of one stage's layers, packed for the kernels and kept in their own types.
 *
 * weights_slices says what a member of a group holds: q heads are dealt (9 on 4 ranks: 3, 2, 2, 2) with the kv heads
 * that they need, all other matrices by packs of 16 outputs; layers are dealt to the stages. weights_open copies these
 * rows out of the description's mappings into one slab, rows of q and k permuted to halves layout, in parallel on the
 * pool. Nothing points into the description afterwards. Refuses by name what the kernels can't do (UNSUPPORTED), fails
 * with NO_MEMORY. Immutable once open. */
#ifndef SHOAL_WORKER_ENGINE_WEIGHTS_H
#define SHOAL_WORKER_ENGINE_WEIGHTS_H

#include "base/status.h"
#include "model/desc.h"
#include "worker/engine/backend.h"
#include "worker/engine/cpu/pool.h"
#include "worker/engine/group.h"

struct weights_slices {
    struct group_slice layers;
    struct group_slice q_heads;
    struct group_slice kv_heads;
    struct group_slice hidden; /* rows of o and down */
    struct group_slice ffn;    /* rows of gate and up */
    struct group_slice vocab;  /* rows of output; none but on the last stage */
    bool embedding;            /* on the first stage */
};

struct weights_layer {
    const float *attn_norm, *ffn_norm;     /* [hidden] */
    const float *q_bias, *k_bias, *v_bias; /* [rows of the slice] or NULL */
    struct backend_matrix q, k, v, o, gate, up, down;
};

struct weights {
    struct weights_slices slices;
    struct weights_layer *layer; /* [slices.layers.count] */
    struct backend_matrix embedding, output;
    const float *output_norm;
    uint8_t *slab;
    size_t slab_bytes;
};

MUST_CHECK enum status weights_slices(const struct model_desc *desc, const struct group *group,
                                      struct weights_slices *out, struct error *error);
size_t weights_bytes(const struct model_desc *desc, const struct weights_slices *slices);
MUST_CHECK enum status weights_open(struct weights *weights, const struct model_desc *desc,
                                    const struct weights_slices *slices, struct pool *pool, struct error *error);
void weights_close(struct weights *weights);

/* Packs one matrix; for tests of the kernels. `data` must hold weights_matrix_bytes and be aligned to 64. */
size_t weights_matrix_bytes(enum model_type type, size_t rows, size_t columns);
void weights_pack(const struct model_tensor *tensor, uint8_t *data, struct backend_matrix *out);

#endif
