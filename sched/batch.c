/* batch: the life of a stream: submit, cancel, what a computed step means, the end. See batch.h; batch_plan.c makes
 * the plans. */
#include "sched/batch.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "sched/batch_state.h"

uint32_t batch_blocks_of(uint64_t tokens)
{
    return (uint32_t)((tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS);
}

struct batch *batch_new(const struct batch_config *config)
{
    CHECK(config->blocks > 0 && config->slots > 0 && config->streams_max >= config->slots);
    CHECK(config->step_tokens_max >= config->slots && config->context_tokens > 0);
    struct batch *batch = mem_new(struct batch);
    batch->config = *config;
    batch->end_ids = mem_dup(config->end_ids, config->end_ids_count * sizeof(*config->end_ids));
    batch->config.end_ids = batch->end_ids;
    kv_init(&batch->kv, config->blocks);
    batch->streams = mem_new_array(struct batch_stream, config->streams_max);
    batch->free_slots = mem_new_array(uint32_t, config->slots);
    batch->rows = mem_new_array(struct batch_row, config->slots);
    batch->events = mem_new_array(struct batch_event, 2 * (size_t)config->slots + config->streams_max);
    list_init(&batch->spare);
    list_init(&batch->waiting);
    list_init(&batch->running);
    list_init(&batch->ending);
    map_init(&batch->by_handle, config->streams_max);
    for (uint32_t i = 0; i < config->streams_max; i++)
        list_push_back(&batch->spare, &batch->streams[i].node);
    while (batch->free_slots_count < config->slots) {
        batch->free_slots[batch->free_slots_count] = config->slots - 1 - batch->free_slots_count;
        batch->free_slots_count++;
    }
    return batch;
}

static void free_arrays(struct batch_stream *stream)
{
    mem_free(stream->ids);
    mem_free(stream->hashes);
    mem_free(stream->table);
}

void batch_free(struct batch *batch)
{
    if (batch == NULL)
        return;
    for (uint32_t i = 0; i < batch->config.streams_max; i++)
        free_arrays(&batch->streams[i]);
    map_free(&batch->by_handle);
    kv_free(&batch->kv);
    mem_free(batch->streams);
    mem_free(batch->free_slots);
    mem_free(batch->rows);
    mem_free(batch->events);
    mem_free(batch->end_ids);
    mem_free(batch);
}

static bool goes_before(const struct batch_stream *a, const struct batch_stream *b)
{
    return a->priority != b->priority ? a->priority < b->priority : a->arrival < b->arrival;
}

void batch_insert_sorted(struct list *list, struct batch_stream *stream)
{
    struct list *at = list; /* from the end: new streams usually belong there */
    while (at->prev != list && goes_before(stream, BATCH_STREAM(at->prev)))
        at = at->prev;
    list_insert_before(at, &stream->node);
}

static enum status check_request(const struct batch *batch, const struct batch_request *request, struct error *error)
{
    if (request->prompt_tokens == 0 || request->ids_count < request->prompt_tokens)
        return error_set(error, STATUS_INVALID, "a prompt needs at least one token (%u of %u ids are the prompt)",
                         request->prompt_tokens, request->ids_count);
    if (request->max_tokens == 0)
        return error_set(error, STATUS_INVALID, "max_tokens must be at least 1");
    uint64_t total = (uint64_t)request->prompt_tokens + request->max_tokens;
    uint64_t pool_tokens = (uint64_t)batch->config.blocks * KV_BLOCK_TOKENS;
    if (total > batch->config.context_tokens)
        return error_set(error, STATUS_LIMIT, "%u prompt tokens and max_tokens %u exceed the context of %u tokens",
                         request->prompt_tokens, request->max_tokens, batch->config.context_tokens);
    if (total > pool_tokens)
        return error_set(error, STATUS_LIMIT, "%u prompt tokens and max_tokens %u exceed the KV pool of %llu tokens",
                         request->prompt_tokens, request->max_tokens, (unsigned long long)pool_tokens);
    if (request->ids_count > total)
        return error_set(error, STATUS_INVALID, "%u ids are more than prompt and max_tokens together",
                         request->ids_count);
    if (request->stop_ids_count > BATCH_STOP_IDS_MAX)
        return error_set(error, STATUS_LIMIT, "%u stop ids; at most %d", request->stop_ids_count, BATCH_STOP_IDS_MAX);
    for (uint32_t i = 0; batch->config.vocab_size > 0 && i < request->ids_count; i++)
        if (request->ids[i] >= batch->config.vocab_size)
            return error_set(error, STATUS_INVALID, "id %u at position %u is outside the vocabulary of %u",
                             request->ids[i], i, batch->config.vocab_size);
    return STATUS_OK;
}

/* Hashes of all full blocks of the known ids, as far as they are not there yet. */
static void hash_known(const struct batch *batch, struct batch_stream *stream)
{
    static const uint8_t no_parent[PREFIX_HASH_BYTES];
    for (; (stream->hashes_count + 1) * KV_BLOCK_TOKENS <= stream->known; stream->hashes_count++) {
        uint32_t at = stream->hashes_count;
        prefix_hash_next(stream->hashes[at], at == 0 ? no_parent : stream->hashes[at - 1], stream->cache_key,
                         batch->config.cache_salt, stream->ids + (size_t)at * KV_BLOCK_TOKENS);
    }
}

static bool contains(const uint32_t *ids, size_t count, uint32_t id)
{
    for (size_t i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* True when the stream's last id is produced and ends it. */
static bool reached_end(const struct batch *batch, const struct batch_stream *stream, enum batch_finish *finish)
{
    uint32_t produced = stream->known - stream->prompt_tokens;
    if (produced == 0)
        return false;
    uint32_t last = stream->ids[stream->known - 1];
    if (contains(stream->stop_ids, stream->stop_ids_count, last) ||
        (!stream->ignore_eos && contains(batch->end_ids, batch->config.end_ids_count, last))) {
        *finish = BATCH_FINISH_STOP;
        return true;
    }
    *finish = BATCH_FINISH_LENGTH;
    return produced == stream->max_tokens;
}

static void fill_stream(struct batch *batch, struct batch_stream *stream, const struct batch_request *request)
{
    uint32_t total = request->prompt_tokens + request->max_tokens;
    *stream = (struct batch_stream){
        .handle = request->handle,
        .arrival = batch->arrivals++,
        .priority = request->priority,
        .ignore_eos = request->ignore_eos,
        .known = request->ids_count,
        .prompt_tokens = request->prompt_tokens,
        .max_tokens = request->max_tokens,
        .stop_ids_count = request->stop_ids_count,
    };
    list_init(&stream->node);
    stream->ids = mem_new_array(uint32_t, total);
    memcpy(stream->ids, request->ids, sizeof(*stream->ids) * request->ids_count);
    stream->table = mem_new_array(uint32_t, batch_blocks_of(total));
    stream->hashes = mem_alloc_array(batch_blocks_of(total), sizeof(*stream->hashes));
    for (uint32_t i = 0; i < request->stop_ids_count; i++)
        stream->stop_ids[i] = request->stop_ids[i];
    memcpy(stream->cache_key, request->cache_key, sizeof(stream->cache_key));
    hash_known(batch, stream);
}

enum status batch_submit(struct batch *batch, const struct batch_request *request, uint32_t *index, struct error *error)
{
    enum status status = check_request(batch, request, error);
    if (status != STATUS_OK)
        return status;
    if (map_get_u64(&batch->by_handle, request->handle) != NULL)
        return error_set(error, STATUS_EXISTS, "a stream of this name is alive");
    struct list *node = list_first(&batch->spare);
    if (node == NULL)
        return error_set(error, STATUS_FULL, "all %u streams are in use", batch->config.streams_max);
    struct batch_stream *stream = BATCH_STREAM(node);
    status = map_put_u64(&batch->by_handle, request->handle, stream);
    CHECK(status == STATUS_OK); /* the map holds streams_max */
    list_remove(node);
    fill_stream(batch, stream, request);
    if (reached_end(batch, stream, &stream->finish)) { /* resumed at its very end: only the end is left to say */
        stream->state = BATCH_ENDING;
        list_push_back(&batch->ending, node);
    } else {
        stream->state = BATCH_WAITING;
        batch->waiting_count++;
        batch_insert_sorted(&batch->waiting, stream);
    }
    if (index != NULL)
        *index = (uint32_t)(stream - batch->streams);
    return STATUS_OK;
}

bool batch_cancel(struct batch *batch, uint64_t handle)
{
    struct batch_stream *stream = map_get_u64(&batch->by_handle, handle);
    if (stream == NULL)
        return false;
    if (stream->state == BATCH_ENDING)
        return true;
    if (stream->state == BATCH_WAITING)
        batch->waiting_count--;
    else
        batch->running_count--;
    stream->state = BATCH_ENDING;
    stream->finish = BATCH_FINISH_CANCELLED;
    list_remove(&stream->node);
    list_push_back(&batch->ending, &stream->node);
    return true;
}

bool batch_idle(const struct batch *batch)
{
    return batch->by_handle.count == 0;
}

void batch_give_back(struct batch *batch, struct batch_stream *stream)
{
    if (stream->table_count == 0)
        return;
    kv_drop(&batch->kv, stream->table, stream->table_count);
    batch->free_slots[batch->free_slots_count++] = stream->slot;
    stream->table_count = stream->table_sent = stream->published = stream->computed = 0;
}

static struct batch_event *event_add(struct batch *batch, enum batch_event_kind kind, const struct batch_stream *stream)
{
    CHECK(batch->events_count < 2 * (size_t)batch->config.slots + batch->config.streams_max);
    struct batch_event *event = &batch->events[batch->events_count++];
    *event = (struct batch_event){.kind = kind, .handle = stream->handle};
    return event;
}

void batch_end(struct batch *batch, struct batch_stream *stream, enum batch_finish finish)
{
    struct batch_event *event = event_add(batch, BATCH_FINISHED, stream);
    event->finish = finish;
    event->cached_tokens = stream->cached_tokens;
    event->completion_tokens = stream->known - stream->prompt_tokens;
    batch_give_back(batch, stream);
    CHECK(map_remove_u64(&batch->by_handle, stream->handle) == stream);
    list_remove(&stream->node);
    free_arrays(stream);
    *stream = (struct batch_stream){.state = BATCH_SPARE};
    list_init(&stream->node);
    list_push_front(&batch->spare, &stream->node);
}

/* Blocks that the step filled become findable; a twin that another stream published first replaces ours, and the
 * slot's table is sent anew. */
static void publish_full(struct batch *batch, struct batch_stream *stream)
{
    hash_known(batch, stream);
    while ((stream->published + 1) * KV_BLOCK_TOKENS <= stream->computed) {
        uint32_t at = stream->published;
        uint32_t parent = at == 0 ? KV_NONE : stream->table[at - 1];
        uint32_t block = kv_publish(&batch->kv, stream->table[at], parent, stream->hashes[at]);
        if (block != stream->table[at]) {
            stream->table[at] = block;
            stream->table_sent = 0;
            stream->reset = true;
        }
        stream->published++;
    }
}

static void complete_row(struct batch *batch, const struct batch_row *row, uint32_t id)
{
    struct batch_stream *stream = &batch->streams[row->stream];
    CHECK(stream->computed == row->position && stream->handle == row->handle);
    stream->computed += row->count;
    publish_full(batch, stream);
    if (!row->want_token || stream->state != BATCH_RUNNING) /* cancelled meanwhile */
        return;
    struct batch_event *event = event_add(batch, BATCH_TOKEN, stream);
    event->position = stream->known;
    event->id = id;
    stream->ids[stream->known++] = id;
    enum batch_finish finish;
    if (!reached_end(batch, stream, &finish))
        return;
    batch->running_count--;
    batch_end(batch, stream, finish);
}

void batch_complete(struct batch *batch, const uint32_t *ids)
{
    CHECK(batch->in_flight);
    batch->in_flight = false;
    for (size_t i = 0; i < batch->plan.rows_count; i++)
        complete_row(batch, &batch->rows[i], ids[i]);
}

const struct batch_event *batch_events(const struct batch *batch, size_t *count)
{
    *count = batch->events_count;
    return batch->events;
}

const struct kv_event *batch_kv_events(const struct batch *batch, size_t *count)
{
    *count = batch->kv.events_count;
    return batch->kv.events;
}

const struct kv *batch_kv(const struct batch *batch)
{
    return &batch->kv;
}

void batch_load(const struct batch *batch, struct batch_load *out)
{
    *out = (struct batch_load){
        .running = batch->running_count,
        .waiting = batch->waiting_count,
        .blocks_total = batch->kv.count,
        .blocks_used = batch->kv.count - kv_available(&batch->kv),
        .blocks_cached = batch->kv.idle_count,
    };
    LIST_FOR_EACH (node, &batch->waiting)
        out->queued_tokens += BATCH_STREAM(node)->known;
    LIST_FOR_EACH (node, &batch->running) {
        uint32_t left = BATCH_STREAM(node)->known - BATCH_STREAM(node)->computed;
        out->queued_tokens += left > 1 ? left : 0;
    }
}

static void check_stream(const struct batch *batch, const struct batch_stream *stream, uint32_t *holders)
{
    CHECK(map_get_u64(&batch->by_handle, stream->handle) == stream);
    CHECK(stream->known <= stream->prompt_tokens + stream->max_tokens && stream->computed <= stream->known);
    CHECK(stream->state != BATCH_WAITING || (stream->table_count == 0 && stream->computed == 0));
    CHECK(stream->state != BATCH_RUNNING || stream->computed < stream->known);
    CHECK(stream->published == stream->computed / KV_BLOCK_TOKENS);
    CHECK(stream->computed <= stream->table_count * KV_BLOCK_TOKENS);
    for (uint32_t i = 0; i < stream->table_count; i++) {
        const struct kv_block *block = &batch->kv.blocks[stream->table[i]];
        holders[stream->table[i]]++;
        CHECK((block->state == KV_FINDABLE) == (i < stream->published));
    }
}

void batch_check(const struct batch *batch)
{
    CHECK(!batch->in_flight);
    kv_check(&batch->kv);
    uint32_t *holders = mem_new_array(uint32_t, batch->kv.count);
    uint32_t counts[4] = {0}, with_slot = 0;
    for (uint32_t i = 0; i < batch->config.streams_max; i++) {
        const struct batch_stream *stream = &batch->streams[i];
        counts[stream->state]++;
        with_slot += stream->table_count > 0;
        if (stream->state != BATCH_SPARE)
            check_stream(batch, stream, holders);
    }
    for (uint32_t i = 0; i < batch->kv.count; i++)
        CHECK(holders[i] == batch->kv.blocks[i].holders);
    CHECK(counts[BATCH_WAITING] == batch->waiting_count && counts[BATCH_RUNNING] == batch->running_count);
    CHECK(with_slot + batch->free_slots_count == batch->config.slots);
    CHECK(batch->by_handle.count + counts[BATCH_SPARE] == batch->config.streams_max);
    mem_free(holders);
}
