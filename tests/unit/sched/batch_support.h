/* batch_support: drives a batch with a pretended model whose KV pool is real: each block holds the ids that were
 * computed into it, a row's "attention" reads them back through the slot's block table, and the next token is a hash
 * of all it read. So a wrong block, a stale table, a freed block that was written again or a wrong position each change
 * tokens, and every token is compared with the undisturbed stream's. Header-only: two tests use it. */
#ifndef SHOAL_TESTS_UNIT_SCHED_BATCH_SUPPORT_H
#define SHOAL_TESTS_UNIT_SCHED_BATCH_SUPPORT_H

#include "base/hash.h"
#include "base/mem.h"
#include "sched/batch.h"
#include "tests/unit/sched/support.h"

enum { VOCAB = 1000, DRIVER_STREAMS = 64, DRIVER_IDS = 512 };

struct driver_stream {
    bool alive, finished;
    uint32_t ids[DRIVER_IDS]; /* what the router would hold */
    uint32_t count;
    uint32_t tokens; /* that came out at this attempt */
    enum batch_finish finish;
    uint32_t cached_tokens, completion_tokens;
    uint32_t restarts; /* rows that began its table anew at or before position 0 of the uncached part */
};

struct driver {
    struct batch *batch;
    struct batch_config config;
    struct cost cost;
    struct batch_plan plan;
    uint8_t tenant;
    uint32_t *pool;   /* [blocks][16] ids */
    uint32_t *tables; /* [slots][blocks] */
    uint32_t *tables_count;
    uint64_t tokens_computed;
    struct driver_stream *streams; /* by handle */
};

/* The first `count` ids of the prompt called `which`. */
static inline void driver_ids(uint32_t *ids, uint32_t which, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        ids[i] = (uint32_t)(hash_xx64(&i, sizeof(i), which) % (VOCAB - 10));
}

static inline uint32_t driver_next_id(const uint32_t *ids, uint32_t count)
{
    return (uint32_t)(hash_xx64(ids, sizeof(*ids) * count, 77) % (VOCAB - 10));
}

static inline void driver_continue(uint32_t *ids, uint32_t count, uint32_t more)
{
    for (uint32_t i = 0; i < more; i++, count++)
        ids[count] = driver_next_id(ids, count);
}

static inline void driver_open(struct driver *driver, const struct batch_config *config)
{
    *driver = (struct driver){.config = *config, .batch = batch_new(config)};
    driver->pool = mem_new_array(uint32_t, (size_t)config->blocks * KV_BLOCK_TOKENS);
    driver->tables = mem_new_array(uint32_t, (size_t)config->slots * config->blocks);
    driver->tables_count = mem_new_array(uint32_t, config->slots);
    driver->streams = mem_new_array(struct driver_stream, DRIVER_STREAMS);
    cost_init(&driver->cost, (struct cost_model){0.001, 0.001, 1e-6});
}

static inline void driver_close(struct driver *driver)
{
    batch_free(driver->batch);
    mem_free(driver->pool);
    mem_free(driver->tables);
    mem_free(driver->tables_count);
    mem_free(driver->streams);
}

static inline enum status driver_request(struct driver *driver, const struct batch_request *request)
{
    struct error error = {0};
    enum status status = batch_submit(driver->batch, request, NULL, &error);
    if (status != STATUS_OK) {
        assert_int_not_equal(error.text[0], 0);
        return status;
    }
    struct driver_stream *stream = &driver->streams[request->handle];
    *stream = (struct driver_stream){.alive = true, .count = request->ids_count};
    memcpy(stream->ids, request->ids, sizeof(*request->ids) * request->ids_count);
    return status;
}

static inline void driver_submit(struct driver *driver, uint64_t handle, uint32_t prompt, uint32_t prompt_tokens,
                                 uint32_t max_tokens, uint8_t priority)
{
    uint32_t ids[DRIVER_IDS];
    driver_ids(ids, prompt, prompt_tokens);
    struct batch_request request = {.handle = handle,
                                    .ids = ids,
                                    .ids_count = prompt_tokens,
                                    .prompt_tokens = prompt_tokens,
                                    .max_tokens = max_tokens,
                                    .cache_key = {driver->tenant},
                                    .priority = priority};
    assert_int_equal(driver_request(driver, &request), STATUS_OK);
}

/* Reads finished streams off the events, and checks each token. */
static inline void driver_take_events(struct driver *driver, size_t from)
{
    size_t count;
    const struct batch_event *events = batch_events(driver->batch, &count);
    for (size_t i = from; i < count; i++) {
        struct driver_stream *stream = &driver->streams[events[i].handle];
        assert_true(stream->alive);
        if (events[i].kind == BATCH_TOKEN) {
            assert_int_equal(events[i].position, stream->count);
            assert_int_equal(events[i].id, driver_next_id(stream->ids, stream->count));
            stream->ids[stream->count++] = events[i].id;
            stream->tokens++;
            continue;
        }
        stream->alive = false;
        stream->finished = true;
        stream->finish = events[i].finish;
        stream->cached_tokens = events[i].cached_tokens;
        stream->completion_tokens = events[i].completion_tokens;
    }
}

static inline void driver_plan(struct driver *driver)
{
    batch_plan(driver->batch, &driver->cost, &driver->plan);
    assert_true(driver->plan.tokens <= driver->config.step_tokens_max);
    driver_take_events(driver, 0);
}

static inline uint32_t driver_compute_row(struct driver *driver, const struct batch_row *row)
{
    uint32_t *table = driver->tables + (size_t)row->slot * driver->config.blocks;
    uint32_t *table_count = &driver->tables_count[row->slot];
    if (row->reset)
        *table_count = 0;
    driver->streams[row->handle].restarts += row->reset;
    for (uint32_t i = 0; i < row->new_blocks_count; i++) {
        assert_true(*table_count < driver->config.blocks);
        table[(*table_count)++] = row->new_blocks[i];
    }
    assert_true(row->position + row->count <= *table_count * KV_BLOCK_TOKENS);
    for (uint32_t i = 0; i < row->count; i++) {
        uint32_t at = row->position + i;
        driver->pool[table[at / KV_BLOCK_TOKENS] * KV_BLOCK_TOKENS + at % KV_BLOCK_TOKENS] = row->ids[i];
    }
    driver->tokens_computed += row->count;
    return row->position + row->count;
}

static inline void driver_complete(struct driver *driver)
{
    uint32_t ids[DRIVER_IDS], read[DRIVER_IDS], ends[DRIVER_IDS];
    uint32_t tokens = 0;
    for (size_t i = 0; i < driver->plan.rows_count; i++) {
        ends[i] = driver_compute_row(driver, &driver->plan.rows[i]);
        tokens += driver->plan.rows[i].count;
    }
    assert_int_equal(tokens, driver->plan.tokens);
    for (size_t i = 0; i < driver->plan.rows_count; i++) { /* after all writes: a shared mistake shows */
        const uint32_t *table = driver->tables + (size_t)driver->plan.rows[i].slot * driver->config.blocks;
        for (uint32_t at = 0; at < ends[i]; at++)
            read[at] = driver->pool[table[at / KV_BLOCK_TOKENS] * KV_BLOCK_TOKENS + at % KV_BLOCK_TOKENS];
        ids[i] = driver->plan.rows[i].want_token ? driver_next_id(read, ends[i]) : UINT32_MAX;
    }
    size_t before;
    batch_events(driver->batch, &before);
    if (driver->plan.rows_count > 0)
        batch_complete(driver->batch, ids);
    driver_take_events(driver, before);
    batch_check(driver->batch);
}

static inline void driver_step(struct driver *driver)
{
    driver_plan(driver);
    driver_complete(driver);
}

static inline void driver_run(struct driver *driver, int steps_max)
{
    while (!batch_idle(driver->batch)) {
        assert_true(steps_max-- > 0);
        driver_step(driver);
    }
}

static inline int driver_finish_of(const struct driver *driver, uint64_t handle)
{
    assert_true(driver->streams[handle].finished);
    return (int)driver->streams[handle].finish;
}

#endif
