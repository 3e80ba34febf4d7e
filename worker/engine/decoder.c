/* decoder: opens what a member of a group needs (threads, weights, KV pool, step memory), checks and executes plans.
 *
 * Everything is allocated at open, by the configuration's maxima; a plan that breaks them is refused (INVALID) before
 * anything is changed. decoder_step.c computes. */
#include "worker/engine/decoder_parts.h"

#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crypto.h"
#include "base/hash.h"
#include "base/mem.h"
#include "worker/engine/cpu/cpu.h"
#include "worker/engine/probe.h"

/* ── opening ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static struct kvpool_shape kv_shape(const struct decoder_config *config, const struct weights_slices *slices)
{
    return (struct kvpool_shape){.layers = slices->layers.count,
                                 .kv_heads = slices->kv_heads.count,
                                 .head_dim = config->desc->head_dim,
                                 .type = config->kv_type};
}

static size_t columns_max(const struct model_desc *desc)
{
    const size_t columns = MAX_OF(MAX_OF(desc->hidden, desc->ffn), desc->q_heads * desc->head_dim);
    return (columns + BACKEND_BLOCK - 1) / BACKEND_BLOCK * BACKEND_BLOCK;
}

/* Memory of the step: from the stage's ranks where `shared`, else the decoder's own. */
static void *take(struct decoder *decoder, size_t count, size_t size, bool shared)
{
    void *memory = shared ? decoder->group->ops->shared(decoder->group, count * size) : NULL;
    if (memory != NULL)
        return memory;
    CHECK(decoder->memory_count < COUNT_OF(decoder->memory));
    memory = mem_alloc_array(count, size);
    decoder->memory[decoder->memory_count++] = memory;
    return memory;
}

static void take_act(struct decoder *decoder, struct backend_act *act, size_t tokens)
{
    const size_t columns = decoder->columns_max, blocks = columns / BACKEND_BLOCK;
    act->q = mem_alloc_array(tokens * columns, sizeof *act->q);
    act->d = mem_alloc_array(tokens * blocks, sizeof *act->d);
    act->dsum = mem_alloc_array(tokens * blocks, sizeof *act->dsum);
    act->sum = mem_alloc_array(tokens * blocks, sizeof *act->sum);
    (void)decoder;
}

static void free_act(struct backend_act *act)
{
    mem_free(act->q);
    mem_free(act->d);
    mem_free(act->dsum);
    mem_free(act->sum);
}

static void take_memory(struct decoder *decoder)
{
    const struct model_desc *shape = &decoder->shape;
    const struct weights_slices *slices = &decoder->weights.slices;
    const size_t tokens = decoder->config.tokens_max, slots = decoder->config.slots, half = shape->rope_dim / 2;
    const size_t rows = MAX_OF(tokens, slots); /* the last stage puts one token per slot there */
    const size_t width = MAX_OF(shape->q_heads * shape->head_dim, shape->hidden);
    decoder->x = take(decoder, tokens * shape->hidden, sizeof(float), true);
    decoder->attended = take(decoder, rows * width, sizeof(float), true);
    decoder->gate = take(decoder, tokens * shape->ffn, sizeof(float), true);
    if (slices->vocab.count > 0)
        decoder->logits = take(decoder, slots * shape->vocab_size, sizeof(float), true);
    decoder->normed = take(decoder, rows * shape->hidden, sizeof(float), false);
    decoder->q = take(decoder, tokens * slices->q_heads.count * shape->head_dim, sizeof(float), false);
    decoder->k = take(decoder, tokens * slices->kv_heads.count * shape->head_dim, sizeof(float), false);
    decoder->v = take(decoder, tokens * slices->kv_heads.count * shape->head_dim, sizeof(float), false);
    decoder->up = take(decoder, tokens * MAX_OF(slices->ffn.count, (size_t)1), sizeof(float), false);
    decoder->cosines = take(decoder, tokens * half, sizeof(float), false);
    decoder->sines = take(decoder, tokens * half, sizeof(float), false);
    decoder->frequencies = take(decoder, half, sizeof(double), false);
    decoder->tables = take(decoder, slots * decoder->config.blocks_per_slot_max, sizeof(uint32_t), false);
    decoder->table_count = take(decoder, slots, sizeof(uint32_t), false);
    decoder->token_id = take(decoder, tokens, sizeof(uint32_t), false);
    decoder->token_position = take(decoder, tokens, sizeof(uint32_t), false);
    decoder->token_row = take(decoder, tokens, sizeof(uint32_t), false);
    decoder->tiles = take(decoder, tokens, sizeof(struct decoder_tile), false);
    decoder->wanted = take(decoder, slots, sizeof(uint32_t), false);
    decoder->counters_count = slices->layers.count * DECODER_PHASES_PER_LAYER + DECODER_PHASES_PER_LAYER;
    decoder->counters = take(decoder, decoder->counters_count, sizeof(_Atomic size_t), false);
    take_act(decoder, &decoder->act, rows);
    decoder->thread = mem_new_array(struct decoder_thread, pool_threads(decoder->pool));
    for (unsigned i = 0; i < pool_threads(decoder->pool); i++) {
        struct decoder_thread *own = &decoder->thread[i];
        own->normed = mem_new_array(float, DECODER_PRIVATE_TOKENS * decoder->columns_max);
        take_act(decoder, &own->act, DECODER_PRIVATE_TOKENS);
        if (slices->vocab.count > 0 && decoder->group->rank == 0)
            sampler_open(&own->sampler, shape->vocab_size);
    }
}

/* What besides ids and class decides a block's content. */
static void layout_hash(const struct decoder *decoder, const struct model_desc *desc, uint8_t out[32])
{
    uint8_t numbers[64];
    const uint64_t values[] = {(uint64_t)decoder->config.kv_type,
                               DECODER_BLOCK_TOKENS,
                               BACKEND_SPAN,
                               desc->layers,
                               desc->kv_heads,
                               desc->head_dim,
                               desc->rope_dim,
                               1 /* version of the layout */};
    for (size_t i = 0; i < COUNT_OF(values); i++)
        store_u64le(numbers + 8 * i, values[i]);
    const struct bytes parts[] = {BYTES_LITERAL("shoal kv layout"), bytes_of(desc->hash, sizeof desc->hash),
                                  bytes_of(numbers, sizeof numbers),
                                  bytes_of(decoder->frequencies, desc->rope_dim / 2 * sizeof(double))};
    crypto_blake2b(out, bytes_of(NULL, 0), parts, COUNT_OF(parts));
}

static enum status check_config(const struct decoder_config *config, struct error *error)
{
    CHECK(config->desc != NULL);
    if (config->blocks == 0 || config->slots == 0 || config->tokens_max == 0 || config->blocks_per_slot_max == 0)
        return error_set(error, STATUS_INVALID, "A decoder needs blocks, slots and tokens.");
    if (config->desc->layer == NULL || config->desc->embedding.data == NULL || config->desc->output.data == NULL)
        return error_set(error, STATUS_INVALID, "The model was opened without its weights.");
    return STATUS_OK;
}

enum status decoder_open(const struct decoder_config *config, struct decoder **out, struct error *error)
{
    enum status status = check_config(config, error);
    if (status != STATUS_OK)
        return status;
    if (crypto_init() != STATUS_OK)
        return error_set(error, STATUS_IO, "libsodium could not be initialised.");
    struct decoder *decoder = mem_new(struct decoder);
    decoder->config = *config;
    decoder->config.desc = NULL; /* not needed any more once open */
    decoder->shape = *config->desc;
    decoder->self = group_self();
    decoder->group = config->group != NULL ? config->group : &decoder->self;
    decoder->columns_max = columns_max(config->desc);
    decoder->query_scale = 1.0f / sqrtf((float)config->desc->head_dim);
    const unsigned members = decoder->group->ranks * decoder->group->stages;
    struct weights_slices slices;
    struct kvpool_shape kv;
    status = cpu_backend(config->cpu_path, &decoder->backend, error);
    if (status == STATUS_OK)
        status = weights_slices(config->desc, decoder->group, &slices, error);
    if (status == STATUS_OK)
        status = pool_open(config->threads, config->threads * members, &decoder->pool, error);
    if (status == STATUS_OK)
        status = weights_open(&decoder->weights, config->desc, &slices, decoder->pool, error);
    if (status == STATUS_OK) {
        kv = kv_shape(config, &slices);
        status = kvpool_open(&decoder->kv, &kv, config->blocks, error);
    }
    if (status != STATUS_OK) {
        decoder_close(decoder);
        return status;
    }
    take_memory(decoder);
    rope_frequencies(config->desc, decoder->frequencies);
    decoder->info.class_id = probe_class(decoder->backend);
    layout_hash(decoder, config->desc, decoder->info.layout_hash);
    memcpy(decoder->info.cpu_path, decoder->backend->name, strlen(decoder->backend->name) + 1);
    decoder->info.block_bytes = decoder->kv.block_bytes;
    decoder->info.weights_bytes = decoder->weights.slab_bytes;
    decoder->shape.layer = NULL;
    decoder->shape.embedding.data = decoder->shape.output.data = NULL;
    *out = decoder;
    return STATUS_OK;
}

void decoder_close(struct decoder *decoder)
{
    if (decoder == NULL)
        return;
    for (unsigned i = 0; decoder->thread != NULL && i < pool_threads(decoder->pool); i++) {
        mem_free(decoder->thread[i].normed);
        free_act(&decoder->thread[i].act);
        sampler_close(&decoder->thread[i].sampler);
    }
    mem_free(decoder->thread);
    free_act(&decoder->act);
    for (size_t i = 0; i < decoder->memory_count; i++)
        mem_free(decoder->memory[i]);
    kvpool_close(&decoder->kv);
    weights_close(&decoder->weights);
    pool_close(decoder->pool);
    mem_free(decoder);
}

void decoder_info(const struct decoder *decoder, struct decoder_info *out)
{
    *out = decoder->info;
}

void decoder_estimate(const struct decoder_config *config, uint64_t *fixed_bytes, uint64_t *block_bytes)
{
    const struct model_desc *desc = config->desc;
    const struct group self = group_self();
    const struct group *group = config->group != NULL ? config->group : &self;
    struct weights_slices slices;
    *fixed_bytes = *block_bytes = 0;
    if (weights_slices(desc, group, &slices, NULL) != STATUS_OK)
        return;
    const struct kvpool_shape kv = kv_shape(config, &slices);
    const uint64_t per_token = sizeof(float) * (3 * desc->hidden + 2 * desc->ffn + 2 * desc->q_heads * desc->head_dim +
                                                2 * desc->kv_heads * desc->head_dim + desc->rope_dim) +
                               2 * columns_max(desc);
    const uint64_t per_slot =
        sizeof(uint32_t) * config->blocks_per_slot_max + sizeof(float) * (desc->vocab_size + desc->hidden);
    const uint64_t threads = config->threads != 0 ? config->threads : pool_cores();
    *fixed_bytes = weights_bytes(desc, &slices) + per_token * config->tokens_max + per_slot * config->slots +
                   threads * desc->vocab_size * (sizeof(float) + sizeof(uint64_t));
    *block_bytes = kvpool_block_bytes(&kv);
}

/* ── plans ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static enum status check_row(const struct decoder *decoder, const struct plan_row *row, struct error *error)
{
    const struct decoder_config *config = &decoder->config;
    if (row->slot >= config->slots || row->count == 0)
        return error_set(error, STATUS_INVALID, "A plan's row has slot %u and %u tokens.", row->slot, row->count);
    const uint64_t blocks = (row->reset ? 0 : (uint64_t)decoder->table_count[row->slot]) + row->new_blocks_count;
    const uint64_t end = (uint64_t)row->position + row->count;
    if (blocks > config->blocks_per_slot_max || end > blocks * DECODER_BLOCK_TOKENS)
        return error_set(error, STATUS_INVALID, "A plan's row ends at %llu with %llu blocks in its table.",
                         (unsigned long long)end, (unsigned long long)blocks);
    for (uint32_t i = 0; i < row->new_blocks_count; i++) {
        if (row->new_blocks[i] >= config->blocks)
            return error_set(error, STATUS_INVALID, "A plan names block %u of %u.", row->new_blocks[i], config->blocks);
    }
    for (uint32_t i = 0; i < row->count; i++) {
        if (row->ids[i] >= decoder->shape.vocab_size)
            return error_set(error, STATUS_INVALID, "A plan has token id %u of %zu.", row->ids[i],
                             decoder->shape.vocab_size);
    }
    return STATUS_OK;
}

static enum status check_plan(const struct decoder *decoder, const struct plan *plan, struct error *error)
{
    if (decoder->started && plan->epoch == decoder->epoch && plan->step != decoder->step + 1)
        return error_set(error, STATUS_CONFLICT, "Plan %llu follows plan %llu: there is a gap.",
                         (unsigned long long)plan->step, (unsigned long long)decoder->step);
    size_t tokens = 0;
    for (size_t i = 0; i < plan->copies_count; i++) {
        if (plan->copies[i].from >= decoder->config.blocks || plan->copies[i].to >= decoder->config.blocks)
            return error_set(error, STATUS_INVALID, "A plan copies block %u to %u of %u.", plan->copies[i].from,
                             plan->copies[i].to, decoder->config.blocks);
    }
    for (size_t i = 0; i < plan->rows_count; i++) {
        enum status status = check_row(decoder, &plan->rows[i], error);
        if (status != STATUS_OK)
            return status;
        tokens += plan->rows[i].count;
    }
    if (tokens > decoder->config.tokens_max || plan->rows_count > decoder->config.slots)
        return error_set(error, STATUS_INVALID, "A plan has %zu rows and %zu tokens; at most %u and %u are possible.",
                         plan->rows_count, tokens, decoder->config.slots, decoder->config.tokens_max);
    return STATUS_OK;
}

/* A row's tokens in tiles that attend together. */
static void add_tiles(struct decoder *decoder, uint32_t row, size_t token, uint32_t count)
{
    const size_t per_kv = decoder->shape.q_heads / decoder->shape.kv_heads;
    const uint32_t each = (uint32_t)MAX_OF(BACKEND_QUERIES_MAX / per_kv, (size_t)1);
    for (uint32_t i = 0; i < count; i += each)
        decoder->tiles[decoder->tiles_count++] =
            (struct decoder_tile){.row = row, .token = (uint32_t)token + i, .count = MIN_OF(each, count - i)};
}

/* Extends the slots' tables and lists tokens, tiles and wanted rows. */
static void take_plan(struct decoder *decoder, const struct plan *plan)
{
    decoder->started = true;
    decoder->epoch = plan->epoch;
    decoder->step = plan->step;
    decoder->tokens = decoder->tiles_count = decoder->wanted_count = 0;
    for (size_t i = 0; i < plan->copies_count; i++)
        kvpool_copy(&decoder->kv, plan->copies[i].from, plan->copies[i].to);
    for (uint32_t r = 0; r < plan->rows_count; r++) {
        const struct plan_row *row = &plan->rows[r];
        uint32_t *table = decoder->tables + (size_t)row->slot * decoder->config.blocks_per_slot_max;
        uint32_t *count = &decoder->table_count[row->slot];
        if (row->reset)
            *count = 0;
        for (uint32_t i = 0; i < row->new_blocks_count; i++)
            table[(*count)++] = row->new_blocks[i];
        add_tiles(decoder, r, decoder->tokens, row->count);
        for (uint32_t i = 0; i < row->count; i++, decoder->tokens++) {
            decoder->token_id[decoder->tokens] = row->ids[i];
            decoder->token_position[decoder->tokens] = row->position + i;
            decoder->token_row[decoder->tokens] = r;
        }
        if (row->want_token)
            decoder->wanted[decoder->wanted_count++] = r;
    }
}

enum status decoder_run(struct decoder *decoder, const struct plan *plan, struct plan_result *result,
                        struct error *error)
{
    enum status status = check_plan(decoder, plan, error);
    if (status != STATUS_OK)
        return status;
    /* The last stage writes ids after it got activations from the first, so the head's clearing comes before. */
    for (size_t i = 0; i < plan->rows_count && group_is_head(decoder->group); i++)
        result->ids[i] = UINT32_MAX;
    take_plan(decoder, plan);
    decoder->plan = plan;
    decoder->result = result;
    atomic_store(&decoder->failed, STATUS_OK);
    for (size_t i = 0; i < decoder->counters_count; i++)
        atomic_store_explicit(&decoder->counters[i], 0, memory_order_relaxed);
    if (decoder->tokens > 0)
        pool_run(decoder->pool, decoder_forward, decoder);
    status = (enum status)atomic_load(&decoder->failed);
    return status == STATUS_OK ? STATUS_OK : error_set(error, status, "The group is lost.");
}
