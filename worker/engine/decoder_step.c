/* decoder_step: the arithmetic of one step, as every thread of one rank executes it.
 *
 * All threads walk the same phases; a phase deals items (tokens, packs of outputs, attention tiles) and ends with a
 * meeting where the next one reads what others wrote. Of the four meetings of a layer marked GATHER the ranks of the
 * stage take part too: before them each has written its slice of the outputs into the shared activations.
 *
 *   embed │ per layer: norm, q k v │ rotate, store k v │ attend GATHER │ o, add GATHER │ norm, gate up, swiglu GATHER │
 *   down, add GATHER │ … norm, logits GATHER │ sample
 *
 * With few tokens every thread prepares (norms, quantises) all inputs in memory of its own, which is cheaper than a
 * meeting. What is summed, and in which order, is the kernels' business alone. */
#include "worker/engine/decoder_parts.h"

#include <math.h>
#include <string.h>

#include "base/check.h"

struct walk {
    struct decoder *decoder;
    unsigned thread, threads;
    size_t counter; /* the next dynamic counter; the same on all threads */
};

/* One phase's items as this thread gets them. */
struct dealer {
    size_t count, chunk;
    _Atomic size_t *counter; /* NULL: one static share */
    struct pool_range share;
};

/* What a product reads. */
struct input {
    const struct backend_act *act;
    const float *x;
    size_t x_stride;
};

/* ── walking ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static void meet(struct walk *walk)
{
    pool_meet(walk->decoder->pool);
}

static void fail(struct decoder *decoder, enum status status)
{
    int expected = STATUS_OK;
    if (status != STATUS_OK)
        atomic_compare_exchange_strong(&decoder->failed, &expected, (int)status);
}

static void gather(struct walk *walk)
{
    struct decoder *decoder = walk->decoder;
    meet(walk);
    if (decoder->group->ranks == 1)
        return;
    if (walk->thread == 0)
        fail(decoder, decoder->group->ops->gather(decoder->group));
    meet(walk);
}

/* Few items per thread, or a step that streams weights once: static shares, which keep each thread's reads in one
 * stream. Otherwise chunks from a counter, so that a thread that was held up doesn't hold up the others. */
static struct dealer deal(struct walk *walk, size_t count, size_t chunk, bool dynamic)
{
    struct dealer dealer = {.count = count, .chunk = chunk};
    if (dynamic && walk->threads > 1) {
        CHECK(walk->counter < walk->decoder->counters_count);
        dealer.counter = &walk->decoder->counters[walk->counter++];
    } else {
        dealer.share = pool_share(count, walk->thread, walk->threads);
    }
    return dealer;
}

static bool deal_next(struct dealer *dealer, struct pool_range *range)
{
    if (dealer->counter != NULL) {
        *range = pool_take(dealer->counter, dealer->count, dealer->chunk);
    } else {
        *range = dealer->share;
        dealer->share.first = dealer->share.last;
    }
    return range->first < range->last;
}

static bool many_tokens(const struct decoder *decoder)
{
    return decoder->tokens >= 16;
}

/* ── inputs ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Prepares rows [0, tokens) of x for products: the norm if there is a weight, quantised if `integer`. Ends with a
 * meeting unless the rows are few. */
static struct input prepare(struct walk *walk, const float *x, size_t columns, size_t tokens, const float *norm,
                            bool integer)
{
    struct decoder *decoder = walk->decoder;
    const bool private = tokens <= DECODER_PRIVATE_TOKENS;
    struct decoder_thread *own = &decoder->thread[walk->thread];
    struct backend_act *act = private ? &own->act : &decoder->act;
    float *normed = private ? own->normed : decoder->normed;
    if (private || walk->thread == 0)
        act->columns = columns;
    const struct backend_act view = {.columns = columns, .q = act->q, .d = act->d, .dsum = act->dsum, .sum = act->sum};
    const struct pool_range range =
        private ? (struct pool_range){0, tokens} : pool_share(tokens, walk->thread, walk->threads);
    for (size_t token = range.first; token < range.last; token++) {
        const float *row = x + token * columns;
        if (norm != NULL) {
            decoder->backend->norm(row, norm, decoder->shape.rms_epsilon, columns, normed + token * columns);
            row = normed + token * columns;
        }
        if (integer)
            decoder->backend->quantize(&view, token, row);
    }
    if (!private)
        meet(walk);
    return (struct input){.act = act, .x = norm != NULL ? normed : x, .x_stride = columns};
}

/* ── products ────────────────────────────────────────────────────────────────────────────────────────────────── */

struct product {
    const struct backend_matrix *matrix;
    float *y;
    size_t y_stride;
};

/* The packs of several matrices with one input, dealt as if they were one matrix. */
static void multiply(struct walk *walk, const struct input *input, size_t tokens, const struct product *products,
                     size_t products_count, bool add)
{
    size_t packs = 0;
    for (size_t i = 0; i < products_count; i++)
        packs += products[i].matrix->packs;
    struct dealer dealer =
        deal(walk, packs, MAX_OF(packs / (walk->threads * 8), (size_t)1), many_tokens(walk->decoder));
    struct pool_range range;
    while (deal_next(&dealer, &range)) {
        size_t begin = 0;
        for (size_t i = 0; i < products_count; begin += products[i].matrix->packs, i++) {
            const size_t end = begin + products[i].matrix->packs;
            const size_t first = MAX_OF(range.first, begin), last = MIN_OF(range.last, end);
            if (first >= last)
                continue;
            const struct backend_matmul call = {.matrix = products[i].matrix,
                                                .act = input->act,
                                                .x = input->x,
                                                .x_stride = input->x_stride,
                                                .token_last = tokens,
                                                .y = products[i].y,
                                                .y_stride = products[i].y_stride,
                                                .add = add};
            walk->decoder->backend->matmul(&call, first - begin, last - begin);
        }
    }
}

static bool is_integer(const struct backend_matrix *matrix)
{
    return backend_type_is_integer(matrix->type);
}

/* ── attention ───────────────────────────────────────────────────────────────────────────────────────────────── */

static void add_bias(float *y, const float *bias, size_t n)
{
    for (size_t i = 0; bias != NULL && i < n; i++)
        y[i] = y[i] + bias[i];
}

/* Rotates a token's queries and keys and puts its keys and values into the pool. */
static void rotate_and_store(struct decoder *decoder, size_t layer, size_t token)
{
    const struct backend *backend = decoder->backend;
    const struct weights_layer *weights = &decoder->weights.layer[layer];
    const size_t d = decoder->shape.head_dim, half = decoder->shape.rope_dim / 2;
    const float *cosines = decoder->cosines + token * half, *sines = decoder->sines + token * half;
    const uint32_t position = decoder->token_position[token];
    const struct plan_row *row = &decoder->plan->rows[decoder->token_row[token]];
    const uint32_t *table = decoder->tables + (size_t)row->slot * decoder->config.blocks_per_slot_max;
    float *q = decoder->q + token * weights->q.rows, *k = decoder->k + token * weights->k.rows;
    float *v = decoder->v + token * weights->v.rows;
    add_bias(q, weights->q_bias, weights->q.rows);
    add_bias(k, weights->k_bias, weights->k.rows);
    add_bias(v, weights->v_bias, weights->v.rows);
    for (size_t h = 0; h < decoder->weights.slices.q_heads.count; h++)
        backend->rope(q + h * d, cosines, sines, half, d, decoder->query_scale);
    for (size_t h = 0; h < decoder->weights.slices.kv_heads.count; h++) {
        const struct backend_kv view = kvpool_view(&decoder->kv, layer, h);
        backend->rope(k + h * d, cosines, sines, half, d, 1.0f);
        backend->kv_store(&view, table[position / DECODER_BLOCK_TOKENS], position % DECODER_BLOCK_TOKENS, k + h * d,
                          v + h * d);
    }
}

/* Queries of one kv head that share a pass: positions ascending. */
static void attend_queries(struct decoder *decoder, const struct backend_kv *view, const uint32_t *table,
                           const struct backend_query *queries, float *const *outs, size_t count)
{
    _Alignas(64) float acc[BACKEND_QUERIES_MAX][BACKEND_HEAD_DIM_MAX],
        next_acc[BACKEND_QUERIES_MAX][BACKEND_HEAD_DIM_MAX];
    struct backend_partial total[BACKEND_QUERIES_MAX], next[BACKEND_QUERIES_MAX];
    for (size_t i = 0; i < count; i++) {
        total[i].acc = acc[i];
        next[i].acc = next_acc[i];
    }
    const size_t spans = queries[count - 1].position / BACKEND_SPAN + 1;
    decoder->backend->attend(view, table, 0, queries, count, total);
    for (size_t span = 1, first = 0; span < spans; span++) {
        while (queries[first].position < span * BACKEND_SPAN)
            first++;
        decoder->backend->attend(view, table, span, queries + first, count - first, next + first);
        for (size_t i = first; i < count; i++)
            decoder->backend->attend_merge(&total[i], &next[i], decoder->shape.head_dim);
    }
    for (size_t i = 0; i < count; i++)
        decoder->backend->attend_finish(&total[i], decoder->shape.head_dim, outs[i]);
}

/* q heads [first, last) of the slice, all of one kv head, for the tokens of a tile. */
static void attend_tile(struct decoder *decoder, size_t layer, const struct decoder_tile *tile, size_t kv_head,
                        size_t first, size_t last)
{
    const struct plan_row *row = &decoder->plan->rows[tile->row];
    const uint32_t *table = decoder->tables + (size_t)row->slot * decoder->config.blocks_per_slot_max;
    const struct backend_kv view = kvpool_view(&decoder->kv, layer, kv_head);
    const struct weights_slices *slices = &decoder->weights.slices;
    const size_t d = decoder->shape.head_dim, width = decoder->shape.q_heads * d;
    struct backend_query queries[BACKEND_QUERIES_MAX];
    float *outs[BACKEND_QUERIES_MAX];
    size_t count = 0;
    for (size_t token = tile->token; token < tile->token + tile->count; token++) {
        for (size_t h = first; h < last; h++) {
            queries[count].q = decoder->q + (token * slices->q_heads.count + h) * d;
            queries[count].position = decoder->token_position[token];
            outs[count++] = decoder->attended + token * width + (slices->q_heads.first + h) * d;
            if (count == BACKEND_QUERIES_MAX) {
                attend_queries(decoder, &view, table, queries, outs, count);
                count = 0;
            }
        }
    }
    if (count > 0)
        attend_queries(decoder, &view, table, queries, outs, count);
}

static void attend(struct walk *walk, size_t layer)
{
    struct decoder *decoder = walk->decoder;
    const struct weights_slices *slices = &decoder->weights.slices;
    const size_t per_kv = decoder->shape.q_heads / decoder->shape.kv_heads;
    /* Heads of one kv head go together where there is enough to deal, else one by one. */
    const bool together = decoder->tiles_count * slices->kv_heads.count >= (size_t)4 * walk->threads;
    const size_t units = together ? slices->kv_heads.count : slices->q_heads.count;
    struct dealer dealer = deal(walk, decoder->tiles_count * units, 1, decoder->tiles_count * units > walk->threads);
    struct pool_range range;
    while (deal_next(&dealer, &range)) {
        for (size_t item = range.first; item < range.last; item++) {
            const struct decoder_tile *tile = &decoder->tiles[item / units];
            const size_t unit = item % units;
            const size_t kv_head = together ? unit : (slices->q_heads.first + unit) / per_kv - slices->kv_heads.first;
            size_t first = unit, last = unit + 1;
            if (together) {
                const size_t begin = (slices->kv_heads.first + kv_head) * per_kv;
                first = MAX_OF(begin, slices->q_heads.first) - slices->q_heads.first;
                last = MIN_OF(begin + per_kv, slices->q_heads.first + slices->q_heads.count) - slices->q_heads.first;
            }
            attend_tile(decoder, layer, tile, kv_head, first, last);
        }
    }
}

/* ── layers ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static void attention_block(struct walk *walk, size_t layer)
{
    struct decoder *decoder = walk->decoder;
    const struct weights_layer *weights = &decoder->weights.layer[layer];
    const size_t hidden = decoder->shape.hidden, width = decoder->shape.q_heads * decoder->shape.head_dim;
    const bool integer = is_integer(&weights->q) || is_integer(&weights->k) || is_integer(&weights->v);
    struct input input = prepare(walk, decoder->x, hidden, decoder->tokens, weights->attn_norm, integer);
    const struct product qkv[] = {{&weights->q, decoder->q, weights->q.rows},
                                  {&weights->k, decoder->k, weights->k.rows},
                                  {&weights->v, decoder->v, weights->v.rows}};
    multiply(walk, &input, decoder->tokens, qkv, COUNT_OF(qkv), false);
    meet(walk);
    const struct pool_range tokens = pool_share(decoder->tokens, walk->thread, walk->threads);
    for (size_t token = tokens.first; token < tokens.last; token++)
        rotate_and_store(decoder, layer, token);
    meet(walk);
    attend(walk, layer);
    gather(walk);
    input = prepare(walk, decoder->attended, width, decoder->tokens, NULL, is_integer(&weights->o));
    const struct product o = {&weights->o, decoder->x + decoder->weights.slices.hidden.first, hidden};
    multiply(walk, &input, decoder->tokens, &o, 1, true);
    gather(walk);
}

static void ffn_block(struct walk *walk, size_t layer)
{
    struct decoder *decoder = walk->decoder;
    const struct weights_layer *weights = &decoder->weights.layer[layer];
    const struct group_slice slice = decoder->weights.slices.ffn;
    const size_t hidden = decoder->shape.hidden, ffn = decoder->shape.ffn, tokens = decoder->tokens;
    const bool integer = is_integer(&weights->gate) || is_integer(&weights->up);
    struct input input = prepare(walk, decoder->x, hidden, tokens, weights->ffn_norm, integer);
    struct dealer dealer = deal(walk, weights->gate.packs, 1, many_tokens(decoder));
    struct pool_range range;
    while (deal_next(&dealer, &range)) {
        struct backend_matmul call = {.matrix = &weights->gate,
                                      .act = input.act,
                                      .x = input.x,
                                      .x_stride = input.x_stride,
                                      .token_last = tokens,
                                      .y = decoder->gate + slice.first,
                                      .y_stride = ffn};
        decoder->backend->matmul(&call, range.first, range.last);
        call.matrix = &weights->up;
        call.y = decoder->up;
        call.y_stride = slice.count;
        decoder->backend->matmul(&call, range.first, range.last);
        const size_t row = range.first * BACKEND_PACK, last = MIN_OF(range.last * BACKEND_PACK, slice.count);
        for (size_t token = 0; token < tokens; token++)
            decoder->backend->swiglu(decoder->gate + token * ffn + slice.first + row,
                                     decoder->up + token * slice.count + row, last - row);
    }
    gather(walk);
    input = prepare(walk, decoder->gate, ffn, tokens, NULL, is_integer(&weights->down));
    const struct product down = {&weights->down, decoder->x + decoder->weights.slices.hidden.first, hidden};
    multiply(walk, &input, tokens, &down, 1, true);
    gather(walk);
}

/* ── both ends ───────────────────────────────────────────────────────────────────────────────────────────────── */

/* The residual stream at the stage's begin, and every token's angles. */
static void enter(struct walk *walk)
{
    struct decoder *decoder = walk->decoder;
    const size_t hidden = decoder->shape.hidden, half = decoder->shape.rope_dim / 2;
    const struct pool_range tokens = pool_share(decoder->tokens, walk->thread, walk->threads);
    for (size_t token = tokens.first; token < tokens.last; token++)
        rope_angles(decoder->frequencies, half, decoder->token_position[token], decoder->cosines + token * half,
                    decoder->sines + token * half);
    if (decoder->group->stage > 0) {
        if (walk->thread == 0 && decoder->group->rank == 0)
            fail(decoder, decoder->group->ops->receive(decoder->group, decoder->x, decoder->tokens * hidden));
        gather(walk);
        return;
    }
    /* Ranks share x: one of them fills it. */
    for (size_t token = tokens.first; token < tokens.last && decoder->group->rank == 0; token++)
        decoder->backend->gather(&decoder->weights.embedding, decoder->token_id[token], decoder->x + token * hidden);
    gather(walk);
}

static void sample(struct walk *walk)
{
    struct decoder *decoder = walk->decoder;
    const size_t vocab = decoder->shape.vocab_size;
    for (size_t i = walk->thread; i < decoder->wanted_count; i += walk->threads) {
        const uint32_t index = decoder->wanted[i];
        const struct plan_row *row = &decoder->plan->rows[index];
        const float *logits = decoder->logits + i * vocab;
        if (decoder->result->logits != NULL && decoder->result->logits[index] != NULL)
            memcpy(decoder->result->logits[index], logits, vocab * sizeof(float));
        decoder->result->ids[index] = sampler_draw(&decoder->thread[walk->thread].sampler, decoder->backend, logits,
                                                   &row->sampling, row->position + row->count);
    }
}

/* Logits of the rows that want a token, and the tokens. The rows' last tokens move to the front of `attended`, which
 * nobody needs any more. */
static void finish(struct walk *walk)
{
    struct decoder *decoder = walk->decoder;
    const size_t hidden = decoder->shape.hidden;
    float *last = decoder->attended;
    for (size_t i = walk->thread; i < decoder->wanted_count && decoder->group->rank == 0; i += walk->threads) {
        size_t token = 0;
        for (uint32_t r = 0; r <= decoder->wanted[i]; r++)
            token += decoder->plan->rows[r].count;
        memcpy(last + i * hidden, decoder->x + (token - 1) * hidden, hidden * sizeof(float));
    }
    gather(walk);
    if (decoder->wanted_count > 0) {
        const struct backend_matrix *output = &decoder->weights.output;
        const struct input input =
            prepare(walk, last, hidden, decoder->wanted_count, decoder->weights.output_norm, is_integer(output));
        const struct product product = {output, decoder->logits + decoder->weights.slices.vocab.first,
                                        decoder->shape.vocab_size};
        multiply(walk, &input, decoder->wanted_count, &product, 1, false);
    }
    gather(walk);
    if (decoder->group->rank == 0)
        sample(walk);
}

void decoder_forward(void *context, unsigned thread)
{
    struct decoder *decoder = context;
    struct walk walk = {.decoder = decoder, .thread = thread, .threads = pool_threads(decoder->pool)};
    enter(&walk);
    for (size_t layer = 0; layer < decoder->weights.slices.layers.count; layer++) {
        attention_block(&walk, layer);
        ffn_block(&walk, layer);
    }
    if (group_is_last_stage(decoder->group))
        finish(&walk);
    else if (thread == 0 && decoder->group->rank == 0)
        fail(decoder, decoder->group->ops->send(decoder->group, decoder->x, decoder->tokens * decoder->shape.hidden));
}
