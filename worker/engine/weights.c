/* weights: one walk over the matrices of a slice serves three times: it adds up the slab, lays it out, and makes the
 * list of packing jobs, which the pool's threads then take pack by pack. See backend.h for the packed formats. */
#include "worker/engine/weights.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/mem.h"
#include "worker/engine/cpu/half.h"

enum { SLAB_ALIGN = 64, JOB_PACKS = 8, HUGE_PAGE = 2 << 20 };

/* One matrix or vector to copy. */
struct job {
    const struct model_tensor *tensor;
    struct backend_matrix matrix; /* matrix.data: where to */
    size_t row_first;
    size_t rope_head_dim, rope_dim; /* not 0: rows are heads in pairs layout, wanted in halves */
    float *vector;                  /* not NULL: a vector becomes floats instead */
};

/* The walk's state: with `slab` NULL it only counts. */
struct builder {
    const struct model_desc *desc;
    uint8_t *slab;
    size_t used;
    struct job *jobs;
    size_t jobs_count;
    struct job counted; /* where the counting walk's jobs go */
};

/* ── what a member holds ─────────────────────────────────────────────────────────────────────────────────────── */

/* Rows of a matrix dealt in packs of 16. */
static struct group_slice deal_rows(size_t rows, const struct group *group)
{
    const struct group_slice packs = group_deal(backend_packs(rows), group->ranks, group->rank);
    const size_t first = MIN_OF(packs.first * BACKEND_PACK, rows);
    return (struct group_slice){first, MIN_OF((packs.first + packs.count) * BACKEND_PACK, rows) - first};
}

static enum status check_tensor(const struct model_tensor *tensor, const char *name, struct error *error)
{
    if (backend_type_is_integer(tensor->type) && tensor->columns % BACKEND_BLOCK != 0)
        return error_set(error, STATUS_UNSUPPORTED, "%s is %s with %zu columns, which is no multiple of 32.", name,
                         model_type_name(tensor->type), tensor->columns);
    return STATUS_OK;
}

static enum status check_model(const struct model_desc *desc, struct error *error)
{
    if (desc->head_dim > BACKEND_HEAD_DIM_MAX || desc->head_dim % 2 != 0 || desc->rope_dim > desc->head_dim ||
        desc->rope_dim % 2 != 0)
        return error_set(error, STATUS_UNSUPPORTED, "Heads of %zu with %zu rotated are not supported (even, up to %d).",
                         desc->head_dim, desc->rope_dim, BACKEND_HEAD_DIM_MAX);
    if (desc->kv_heads == 0 || desc->q_heads % desc->kv_heads != 0)
        return error_set(error, STATUS_UNSUPPORTED, "%zu query heads on %zu key heads are not supported.",
                         desc->q_heads, desc->kv_heads);
    enum status status = check_tensor(&desc->embedding, "The embedding", error);
    if (status == STATUS_OK)
        status = check_tensor(&desc->output, "The output matrix", error);
    for (size_t i = 0; i < desc->layers && status == STATUS_OK; i++) {
        const struct model_layer *layer = &desc->layer[i];
        const struct model_tensor *tensors[] = {&layer->q,    &layer->k,  &layer->v,   &layer->o,
                                                &layer->gate, &layer->up, &layer->down};
        for (size_t t = 0; t < COUNT_OF(tensors) && status == STATUS_OK; t++)
            status = check_tensor(tensors[t], "A layer's matrix", error);
    }
    return status;
}

enum status weights_slices(const struct model_desc *desc, const struct group *group, struct weights_slices *out,
                           struct error *error)
{
    enum status status = check_model(desc, error);
    if (status != STATUS_OK)
        return status;
    if (group->stages > desc->layers)
        return error_set(error, STATUS_UNSUPPORTED, "%u stages are more than the model's %zu layers.", group->stages,
                         desc->layers);
    if (group->ranks > desc->q_heads)
        return error_set(error, STATUS_UNSUPPORTED, "%u ranks are more than the model's %zu query heads.", group->ranks,
                         desc->q_heads);
    const size_t per_kv = desc->q_heads / desc->kv_heads;
    struct weights_slices slices = {.layers = group_deal(desc->layers, group->stages, group->stage),
                                    .q_heads = group_deal(desc->q_heads, group->ranks, group->rank),
                                    .hidden = deal_rows(desc->hidden, group),
                                    .ffn = deal_rows(desc->ffn, group),
                                    .embedding = group->stage == 0};
    slices.kv_heads.first = slices.q_heads.first / per_kv;
    slices.kv_heads.count = (slices.q_heads.first + slices.q_heads.count - 1) / per_kv + 1 - slices.kv_heads.first;
    if (group_is_last_stage(group))
        slices.vocab = deal_rows(desc->vocab_size, group);
    *out = slices;
    return STATUS_OK;
}

/* ── packing ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static size_t pack_bytes(enum model_type type, size_t columns)
{
    switch (type) {
    case MODEL_F32:
        return columns * BACKEND_PACK * 4;
    case MODEL_F16:
    case MODEL_BF16:
        return columns * BACKEND_PACK * 2;
    default: /* the blocks of 16 rows, interleaved */
        return columns / BACKEND_BLOCK * BACKEND_PACK * model_type_block_bytes(type);
    }
}

size_t weights_matrix_bytes(enum model_type type, size_t rows, size_t columns)
{
    return backend_packs(rows) * pack_bytes(type, columns);
}

/* rows[o]: where row o begins in the file, NULL: zeros. */
static void pack_integer(enum model_type type, const uint8_t *const rows[BACKEND_PACK], size_t columns, uint8_t *to)
{
    const size_t block_bytes = model_type_block_bytes(type);
    const size_t halves = type == MODEL_Q4_1 ? 2 : 1, words = (block_bytes - 2 * halves) / 4;
    for (size_t b = 0; b < columns / BACKEND_BLOCK; b++, to += BACKEND_PACK * block_bytes) {
        for (size_t o = 0; o < BACKEND_PACK; o++) {
            if (rows[o] == NULL)
                continue; /* the slab is zeroed */
            const uint8_t *from = rows[o] + b * block_bytes;
            for (size_t h = 0; h < halves; h++)
                memcpy(to + 32 * h + 2 * o, from + 2 * h, 2);
            for (size_t w = 0; w < words; w++)
                memcpy(to + 32 * halves + 64 * w + 4 * o, from + 2 * halves + 4 * w, 4);
        }
    }
}

static void pack_float(size_t element, const uint8_t *const rows[BACKEND_PACK], size_t columns, uint8_t *to)
{
    for (size_t o = 0; o < BACKEND_PACK; o++) {
        if (rows[o] == NULL)
            continue;
        for (size_t k = 0; k < columns; k++)
            memcpy(to + (k * BACKEND_PACK + o) * element, rows[o] + k * element, element);
    }
}

/* Which row of the file becomes row `row`, both counted within whole heads. */
static size_t source_row(const struct job *job, size_t row)
{
    if (job->rope_head_dim == 0)
        return row;
    const size_t head = row / job->rope_head_dim, i = row % job->rope_head_dim, half = job->rope_dim / 2;
    if (i >= job->rope_dim)
        return row;
    return head * job->rope_head_dim + (i < half ? 2 * i : 2 * (i - half) + 1);
}

static size_t row_bytes(const struct model_tensor *tensor)
{
    return tensor->columns / model_type_block(tensor->type) * model_type_block_bytes(tensor->type);
}

static void pack_one(const struct job *job, size_t pack)
{
    const struct model_tensor *tensor = job->tensor;
    const uint8_t *rows[BACKEND_PACK];
    for (size_t o = 0; o < BACKEND_PACK; o++) {
        const size_t row = pack * BACKEND_PACK + o;
        rows[o] =
            row < job->matrix.rows ? tensor->data + source_row(job, job->row_first + row) * row_bytes(tensor) : NULL;
    }
    uint8_t *to = job->matrix.data + pack * job->matrix.pack_bytes;
    if (backend_type_is_integer(tensor->type))
        pack_integer(tensor->type, rows, tensor->columns, to);
    else
        pack_float(tensor->type == MODEL_F32 ? 4 : 2, rows, tensor->columns, to);
}

static float element_of(const struct model_tensor *tensor, size_t i)
{
    uint16_t half;
    float value;
    if (tensor->type == MODEL_F32) {
        memcpy(&value, tensor->data + 4 * i, 4);
        return value;
    }
    memcpy(&half, tensor->data + 2 * i, 2);
    return tensor->type == MODEL_F16 ? half_to_float(half) : bf16_to_float(half);
}

static void copy_vector(const struct job *job)
{
    for (size_t i = 0; i < job->matrix.rows; i++)
        job->vector[i] = element_of(job->tensor, source_row(job, job->row_first + i));
}

void weights_pack(const struct model_tensor *tensor, uint8_t *data, struct backend_matrix *out)
{
    const struct job job = {.tensor = tensor,
                            .matrix = {.type = tensor->type,
                                       .rows = tensor->rows,
                                       .columns = tensor->columns,
                                       .packs = backend_packs(tensor->rows),
                                       .pack_bytes = pack_bytes(tensor->type, tensor->columns),
                                       .data = data}};
    memset(data, 0, weights_matrix_bytes(tensor->type, tensor->rows, tensor->columns));
    for (size_t pack = 0; pack < job.matrix.packs; pack++)
        pack_one(&job, pack);
    *out = job.matrix;
}

/* ── the walk ────────────────────────────────────────────────────────────────────────────────────────────────── */

static uint8_t *builder_take(struct builder *builder, size_t bytes)
{
    uint8_t *at = builder->slab == NULL ? NULL : builder->slab + builder->used;
    builder->used += (bytes + SLAB_ALIGN - 1) / SLAB_ALIGN * SLAB_ALIGN;
    return at;
}

static struct job *builder_job(struct builder *builder, const struct model_tensor *tensor, struct group_slice rows,
                               bool rope)
{
    struct job *job = builder->slab == NULL ? &builder->counted : &builder->jobs[builder->jobs_count];
    builder->jobs_count++;
    *job = (struct job){.tensor = tensor, .row_first = rows.first};
    job->matrix.rows = rows.count;
    if (rope && builder->desc->rope_layout == MODEL_ROPE_PAIRS) {
        job->rope_head_dim = builder->desc->head_dim;
        job->rope_dim = builder->desc->rope_dim;
    }
    return job;
}

static struct backend_matrix add_matrix(struct builder *builder, const struct model_tensor *tensor,
                                        struct group_slice rows, bool rope)
{
    uint8_t *data = builder_take(builder, weights_matrix_bytes(tensor->type, rows.count, tensor->columns));
    const struct backend_matrix matrix = {.type = tensor->type,
                                          .rows = rows.count,
                                          .columns = tensor->columns,
                                          .packs = backend_packs(rows.count),
                                          .pack_bytes = pack_bytes(tensor->type, tensor->columns),
                                          .data = data};
    builder_job(builder, tensor, rows, rope)->matrix = matrix;
    return matrix;
}

static const float *add_vector(struct builder *builder, const struct model_tensor *tensor, struct group_slice range,
                               bool rope)
{
    if (tensor->data == NULL)
        return NULL;
    float *data = (float *)(void *)builder_take(builder, range.count * sizeof(float));
    builder_job(builder, tensor, range, rope)->vector = data;
    return data;
}

static struct group_slice heads_rows(struct group_slice heads, size_t head_dim)
{
    return (struct group_slice){heads.first * head_dim, heads.count * head_dim};
}

static void add_layer(struct builder *builder, const struct weights_slices *slices, const struct model_layer *from,
                      struct weights_layer *to)
{
    const struct group_slice hidden = {0, builder->desc->hidden};
    const struct group_slice q = heads_rows(slices->q_heads, builder->desc->head_dim);
    const struct group_slice kv = heads_rows(slices->kv_heads, builder->desc->head_dim);
    /* In the order of use, so that a step reads the slab from front to back. */
    to->attn_norm = add_vector(builder, &from->attn_norm, hidden, false);
    to->q = add_matrix(builder, &from->q, q, true);
    to->k = add_matrix(builder, &from->k, kv, true);
    to->v = add_matrix(builder, &from->v, kv, false);
    to->q_bias = add_vector(builder, &from->q_bias, q, true);
    to->k_bias = add_vector(builder, &from->k_bias, kv, true);
    to->v_bias = add_vector(builder, &from->v_bias, kv, false);
    to->o = add_matrix(builder, &from->o, slices->hidden, false);
    to->ffn_norm = add_vector(builder, &from->ffn_norm, hidden, false);
    to->gate = add_matrix(builder, &from->gate, slices->ffn, false);
    to->up = add_matrix(builder, &from->up, slices->ffn, false);
    to->down = add_matrix(builder, &from->down, slices->hidden, false);
}

static void build(struct builder *builder, const struct weights_slices *slices, struct weights *weights)
{
    const struct model_desc *desc = builder->desc;
    const bool last = slices->vocab.count > 0;
    for (size_t i = 0; i < slices->layers.count; i++)
        add_layer(builder, slices, &desc->layer[slices->layers.first + i], &weights->layer[i]);
    if (last) {
        weights->output_norm = add_vector(builder, &desc->output_norm, (struct group_slice){0, desc->hidden}, false);
        weights->output = add_matrix(builder, &desc->output, slices->vocab, false);
    }
    if (slices->embedding) {
        const bool shared = desc->output.data == desc->embedding.data && slices->vocab.count == desc->vocab_size;
        weights->embedding =
            shared ? weights->output
                   : add_matrix(builder, &desc->embedding, (struct group_slice){0, desc->vocab_size}, false);
    }
}

size_t weights_bytes(const struct model_desc *desc, const struct weights_slices *slices)
{
    struct weights scratch = {.layer = mem_new_array(struct weights_layer, slices->layers.count)};
    struct builder builder = {.desc = desc};
    build(&builder, slices, &scratch);
    mem_free(scratch.layer);
    return builder.used;
}

struct packing {
    const struct job *jobs;
    size_t jobs_count;
    _Atomic size_t *next; /* [jobs_count]: the next pack to take */
};

static void pack_jobs(void *context, unsigned thread)
{
    struct packing *packing = context;
    for (size_t i = 0; i < packing->jobs_count; i++) {
        const struct job *job = &packing->jobs[(i + thread * packing->jobs_count / 8) % packing->jobs_count];
        const size_t count = job->vector != NULL ? 1 : job->matrix.packs;
        for (;;) {
            struct pool_range range = pool_take(&packing->next[job - packing->jobs], count, JOB_PACKS);
            if (range.first == range.last)
                break;
            if (job->vector != NULL)
                copy_vector(job);
            for (size_t pack = range.first; pack < range.last && job->vector == NULL; pack++)
                pack_one(job, pack);
        }
    }
}

enum status weights_open(struct weights *weights, const struct model_desc *desc, const struct weights_slices *slices,
                         struct pool *pool, struct error *error)
{
    *weights = (struct weights){.slices = *slices, .layer = mem_new_array(struct weights_layer, slices->layers.count)};
    struct builder builder = {.desc = desc};
    build(&builder, slices, weights);
    weights->slab_bytes = (builder.used + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    void *slab = mmap(NULL, weights->slab_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (slab == MAP_FAILED) {
        weights_close(weights);
        return error_set_errno(error, STATUS_NO_MEMORY, errno, "There is no memory for the weights (%zu bytes)",
                               builder.used);
    }
    (void)madvise(slab, weights->slab_bytes, MADV_HUGEPAGE);
    weights->slab = slab;
    struct packing packing = {.jobs = mem_new_array(struct job, builder.jobs_count),
                              .next = mem_new_array(_Atomic size_t, builder.jobs_count)};
    builder = (struct builder){.desc = desc, .slab = slab, .jobs = (struct job *)packing.jobs};
    build(&builder, slices, weights);
    packing.jobs_count = builder.jobs_count;
    pool_run(pool, pack_jobs, &packing);
    mem_free((void *)packing.jobs);
    mem_free((void *)packing.next);
    return STATUS_OK;
}

void weights_close(struct weights *weights)
{
    if (weights->slab != NULL)
        munmap(weights->slab, weights->slab_bytes);
    mem_free(weights->layer);
    *weights = (struct weights){0};
}
