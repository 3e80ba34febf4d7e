/* batch_plan: makes one step's plan. See batch.h for the policy; in short: blocks for decodes (preempting if need be),
 * decode rows, prefill chunks, admissions. Rows are made only after all preemptions of the step are done, so no row
 * ever belongs to a stream that lost its blocks. */
#include "sched/batch.h"

#include "base/check.h"
#include "sched/batch_state.h"

static bool is_decode(const struct batch_stream *stream)
{
    return stream->known - stream->computed == 1;
}

static void end_marked(struct batch *batch)
{
    for (struct list *node; (node = list_first(&batch->ending)) != NULL;)
        batch_end(batch, BATCH_STREAM(node), BATCH_STREAM(node)->finish);
}

/* The youngest of the lowest priority, but never the oldest of all. NULL: only one stream runs. */
static struct batch_stream *preemption_victim(const struct batch *batch)
{
    const struct batch_stream *oldest = NULL;
    LIST_FOR_EACH (node, &batch->running) {
        if (oldest == NULL || BATCH_STREAM(node)->arrival < oldest->arrival)
            oldest = BATCH_STREAM(node);
    }
    for (struct list *node = batch->running.prev; node != &batch->running; node = node->prev)
        if (BATCH_STREAM(node) != oldest)
            return BATCH_STREAM(node);
    return NULL;
}

static void preempt(struct batch *batch, struct batch_stream *stream)
{
    batch_give_back(batch, stream);
    list_remove(&stream->node);
    stream->state = BATCH_WAITING;
    batch->running_count--;
    batch->waiting_count++;
    batch_insert_sorted(&batch->waiting, stream);
}

/* Gives the decoding stream a block for its next token. False: it was the one that had to go. */
static bool ensure_block(struct batch *batch, struct batch_stream *stream)
{
    if (stream->computed < stream->table_count * KV_BLOCK_TOKENS)
        return true;
    uint32_t block;
    while ((block = kv_take(&batch->kv)) == KV_NONE) {
        struct batch_stream *victim = preemption_victim(batch);
        CHECK(victim != NULL); /* a stream alone always fits: batch_submit saw to it */
        preempt(batch, victim);
        if (victim == stream)
            return false;
    }
    stream->table[stream->table_count++] = block;
    return true;
}

/* After a preemption the walk starts again: the list has changed, and who has its block already is passed by. */
static void ensure_blocks(struct batch *batch)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (struct list *node = batch->running.next; node != &batch->running && !changed; node = node->next) {
            struct batch_stream *stream = BATCH_STREAM(node);
            uint32_t running = batch->running_count;
            if (is_decode(stream) && (!ensure_block(batch, stream) || running != batch->running_count))
                changed = true;
        }
    }
}

static void add_row(struct batch *batch, struct batch_stream *stream, uint32_t count)
{
    CHECK(batch->plan.rows_count < batch->config.slots && count > 0);
    CHECK(stream->computed + count <= stream->known);
    struct batch_row *row = &batch->rows[batch->plan.rows_count++];
    *row = (struct batch_row){
        .handle = stream->handle,
        .stream = (uint32_t)(stream - batch->streams),
        .slot = stream->slot,
        .reset = stream->reset,
        .want_token = stream->computed + count == stream->known,
        .position = stream->computed,
        .count = count,
        .ids = stream->ids + stream->computed,
        .new_blocks = stream->table + stream->table_sent,
        .new_blocks_count = stream->table_count - stream->table_sent,
    };
    stream->reset = false;
    stream->table_sent = stream->table_count;
    batch->plan.tokens += count;
    batch->plan.kv_tokens += cost_kv_tokens(stream->computed, count);
}

/* How much of the stream's prefill this step takes; closes the step's prefill when it is not all of it. */
static uint32_t chunk_of(struct batch *batch, const struct batch_stream *stream, const struct cost *cost)
{
    uint32_t left = stream->known - stream->computed;
    uint32_t room = batch->config.step_tokens_max - batch->plan.tokens;
    uint32_t most = left < room ? left : room;
    uint32_t chunk = cost_chunk_within(cost, batch->plan.tokens, batch->plan.kv_tokens, stream->computed, most,
                                       batch->config.step_budget_s);
    uint32_t least = most < KV_BLOCK_TOKENS ? most : KV_BLOCK_TOKENS;
    if (chunk < least && !batch->prefill_begun)
        chunk = least;
    if (chunk < left) {
        batch->prefill_open = false;
        /* End at a block's border where that leaves anything: the block is findable a step sooner. */
        uint32_t end = (stream->computed + chunk) / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS;
        if (end > stream->computed)
            chunk = end - stream->computed;
    }
    return chunk;
}

static void add_prefill(struct batch *batch, struct batch_stream *stream, const struct cost *cost)
{
    uint32_t chunk = chunk_of(batch, stream, cost);
    if (chunk == 0)
        return;
    add_row(batch, stream, chunk);
    batch->prefill_begun = true;
    if (batch->plan.tokens == batch->config.step_tokens_max)
        batch->prefill_open = false;
}

enum admission { ADMITTED, AWAITS_ANOTHER, NO_MEMORY };

static enum admission admit(struct batch *batch, struct batch_stream *stream)
{
    uint32_t hits_max = (stream->known - 1) / KV_BLOCK_TOKENS;
    struct kv_match match = kv_match(&batch->kv, stream->hashes, hits_max);
    if (match.computing)
        return AWAITS_ANOTHER;
    uint32_t blocks = batch_blocks_of(stream->known);
    uint32_t blocks_final = batch_blocks_of((uint64_t)stream->prompt_tokens + stream->max_tokens);
    uint32_t spare = blocks_final > blocks ? 1 : 0;
    if (kv_available(&batch->kv) - match.idle < blocks - match.hits + spare)
        return NO_MEMORY;

    for (uint32_t i = 0; i < match.hits; i++)
        stream->table[i] = kv_share(&batch->kv, stream->hashes[i]);
    for (uint32_t i = match.hits; i < blocks; i++) {
        stream->table[i] = kv_take(&batch->kv);
        CHECK(stream->table[i] != KV_NONE);
        if (i < stream->hashes_count)
            kv_claim(&batch->kv, stream->table[i], stream->hashes[i]);
    }
    stream->table_count = blocks;
    stream->table_sent = 0;
    stream->reset = true;
    stream->published = match.hits;
    stream->computed = match.hits * KV_BLOCK_TOKENS;
    if (!stream->admitted) {
        stream->cached_tokens = stream->computed < stream->prompt_tokens ? stream->computed : stream->prompt_tokens;
        stream->admitted = true;
    }
    stream->slot = batch->free_slots[--batch->free_slots_count];
    return ADMITTED;
}

static void admit_waiting(struct batch *batch, const struct cost *cost)
{
    LIST_FOR_EACH (node, &batch->waiting) {
        if (batch->free_slots_count == 0 || !batch->prefill_open)
            return;
        struct batch_stream *stream = BATCH_STREAM(node);
        enum admission admission = admit(batch, stream);
        if (admission == NO_MEMORY)
            return;
        if (admission == AWAITS_ANOTHER)
            continue;
        list_remove(node);
        stream->state = BATCH_RUNNING;
        batch->waiting_count--;
        batch->running_count++;
        batch_insert_sorted(&batch->running, stream);
        add_prefill(batch, stream, cost);
    }
}

void batch_plan(struct batch *batch, const struct cost *cost, struct batch_plan *out)
{
    CHECK(!batch->in_flight);
    batch->events_count = 0;
    kv_events_clear(&batch->kv);
    end_marked(batch);
    batch->plan = (struct batch_plan){.rows = batch->rows};
    batch->prefill_open = true;
    batch->prefill_begun = false;

    ensure_blocks(batch);
    LIST_FOR_EACH (node, &batch->running) {
        if (is_decode(BATCH_STREAM(node)))
            add_row(batch, BATCH_STREAM(node), 1);
    }
    if (batch->plan.tokens == batch->config.step_tokens_max)
        batch->prefill_open = false;
    LIST_FOR_EACH (node, &batch->running) {
        if (!is_decode(BATCH_STREAM(node)) && batch->prefill_open)
            add_prefill(batch, BATCH_STREAM(node), cost);
    }
    admit_waiting(batch, cost);
    batch->in_flight = batch->plan.rows_count > 0;
    CHECK(batch->in_flight || batch_idle(batch)); /* whoever is alive makes progress */
    *out = batch->plan;
}
