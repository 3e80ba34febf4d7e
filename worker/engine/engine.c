/* engine: sched's batch tied to a decoder. See engine.h. What is decided here is only how big things are; every
 * scheduling decision is the batch's, every number the decoder's. This file translates between their structs, measures
 * steps for the cost model, and keeps each stream's sampling beside the batch, which knows none. */
#include "worker/engine/engine.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "sched/batch.h"
#include "worker/engine/ranks.h"

enum { STREAMS_DEFAULT = 64, STEP_TOKENS_DEFAULT = 512, POOL_CONTEXTS_DEFAULT = 4 };

struct engine {
    struct engine_info info;
    struct ranks *ranks;
    struct batch *batch;
    struct cost cost;
    uint64_t step;
    struct plan_sampling *sampling; /* by the batch's stream index */
    /* Of one step, at their largest. */
    struct plan_row *rows;
    uint32_t *ids;
    struct engine_event *events;
    struct engine_kv_event *kv_events; /* grows with the batch's */
    size_t kv_events_capacity;
};

/* The configuration with every 0 replaced, and what follows from it. */
struct sizes {
    uint32_t slots, streams, step_tokens, context_tokens, blocks;
};

static uint64_t machine_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0;
}

/* Four contexts, as far as they take no more than an eighth of the machine's memory; one context at least. */
static uint64_t default_pool_tokens(const struct decoder_config *config, uint64_t context_tokens)
{
    uint64_t fixed_bytes, block_bytes;
    decoder_estimate(config, &fixed_bytes, &block_bytes);
    uint64_t wanted = POOL_CONTEXTS_DEFAULT * context_tokens;
    uint64_t affordable = block_bytes == 0 ? wanted : machine_bytes() / 8 / block_bytes * DECODER_BLOCK_TOKENS;
    return MAX_OF(MIN_OF(wanted, affordable), context_tokens);
}

static enum status choose_sizes(const struct engine_config *config, struct decoder_config *decoder, struct sizes *out,
                                struct error *error)
{
    uint32_t streams = config->streams_max > 0 ? config->streams_max : STREAMS_DEFAULT;
    uint32_t waiting = config->waiting_max > 0 ? config->waiting_max : 4 * streams;
    uint32_t step_tokens = config->step_tokens_max > 0 ? config->step_tokens_max : STEP_TOKENS_DEFAULT;
    if (streams > 4096 || waiting > 65536 || step_tokens > 65536)
        return error_set(error, STATUS_LIMIT, "at most 4096 streams, 65536 waiting and 65536 tokens a step");
    uint64_t context = config->desc->context_tokens;
    if (config->context_tokens > context)
        return error_set(error, STATUS_LIMIT, "a context of %u tokens is more than the model's %llu",
                         config->context_tokens, (unsigned long long)context);
    if (config->context_tokens > 0)
        context = config->context_tokens;
    uint64_t pool = config->pool_tokens > 0 ? config->pool_tokens : default_pool_tokens(decoder, context);
    uint64_t blocks = (pool + DECODER_BLOCK_TOKENS - 1) / DECODER_BLOCK_TOKENS;
    if (context == 0 || context > UINT32_MAX || blocks == 0 || blocks > UINT32_MAX / 4)
        return error_set(error, STATUS_LIMIT, "a context of %llu tokens over %llu KV blocks",
                         (unsigned long long)context, (unsigned long long)blocks);
    context = MIN_OF(context, blocks * DECODER_BLOCK_TOKENS);
    *out = (struct sizes){.slots = streams,
                          .streams = streams + waiting,
                          .step_tokens = MAX_OF(step_tokens, streams),
                          .context_tokens = (uint32_t)context,
                          .blocks = (uint32_t)blocks};
    decoder->blocks = out->blocks;
    decoder->slots = out->slots;
    decoder->tokens_max = out->step_tokens;
    decoder->blocks_per_slot_max = (uint32_t)((context + DECODER_BLOCK_TOKENS - 1) / DECODER_BLOCK_TOKENS);
    return STATUS_OK;
}

/* Before the first step nothing is known but the weights' size: as if memory gave 10 GB/s, a token of prefill took a
 * quarter of a pass over the weights, and attention hardly counted. */
static struct cost_model cost_prior(const struct decoder_info *info)
{
    double pass_s = (double)info->weights_bytes / 10e9 + 1e-5;
    return (struct cost_model){.base_s = pass_s, .token_s = pass_s / 4, .kv_token_s = pass_s / 1e5};
}

static void fill_info(struct engine *engine, const struct engine_config *config, const struct decoder_info *decoder,
                      const struct sizes *sizes)
{
    engine->info = (struct engine_info){.class_id = decoder->class_id,
                                        .context_tokens = sizes->context_tokens,
                                        .pool_tokens = (uint64_t)sizes->blocks * DECODER_BLOCK_TOKENS,
                                        .block_tokens = DECODER_BLOCK_TOKENS,
                                        .vocab_size = (uint32_t)config->desc->vocab_size};
    memcpy(engine->info.cpu_path, decoder->cpu_path, sizeof(engine->info.cpu_path));
    uint8_t class_id[8];
    store_u64le(class_id, decoder->class_id);
    const struct bytes parts[] = {BYTES_LITERAL("shoal cache salt 1"),
                                  bytes_of(decoder->layout_hash, sizeof(decoder->layout_hash)),
                                  bytes_of(class_id, sizeof(class_id))};
    crypto_blake2b(engine->info.cache_salt, (struct bytes){0}, parts, COUNT_OF(parts));
}

static struct batch *new_batch(const struct engine *engine, const struct engine_config *config,
                               const struct sizes *sizes)
{
    struct batch_config batch = {.blocks = sizes->blocks,
                                 .slots = sizes->slots,
                                 .streams_max = sizes->streams,
                                 .step_tokens_max = sizes->step_tokens,
                                 .context_tokens = sizes->context_tokens,
                                 .step_budget_s = (double)config->step_budget_us / 1e6,
                                 .end_ids = config->desc->eos_ids,
                                 .end_ids_count = config->desc->eos_count,
                                 .vocab_size = (uint32_t)config->desc->vocab_size};
    memcpy(batch.cache_salt, engine->info.cache_salt, sizeof(batch.cache_salt));
    return batch_new(&batch);
}

enum status engine_open(const struct engine_config *config, struct engine **out, struct error *error)
{
    CHECK((int)KV_BLOCK_TOKENS == (int)DECODER_BLOCK_TOKENS);
    if (crypto_init() != STATUS_OK)
        return error_set(error, STATUS_IO, "the cryptography library does not start");
    struct decoder_config decoder = {
        .desc = config->desc, .cpu_path = config->cpu_path, .threads = config->threads, .kv_type = config->kv_type};
    struct sizes sizes = {0};
    enum status status = choose_sizes(config, &decoder, &sizes, error);
    if (status != STATUS_OK)
        return status;
    struct engine *engine = mem_new(struct engine);
    status = ranks_open(&decoder, MAX_OF(config->ranks, 1u), MAX_OF(config->stages, 1u), &engine->ranks, error);
    if (status != STATUS_OK) {
        mem_free(engine);
        return status;
    }
    struct decoder_info info;
    ranks_info(engine->ranks, &info);
    fill_info(engine, config, &info, &sizes);
    cost_init(&engine->cost, cost_prior(&info));
    engine->batch = new_batch(engine, config, &sizes);
    engine->sampling = mem_new_array(struct plan_sampling, sizes.streams);
    engine->rows = mem_new_array(struct plan_row, sizes.slots);
    engine->ids = mem_new_array(uint32_t, sizes.slots);
    engine->events = mem_new_array(struct engine_event, 2 * (size_t)sizes.slots + sizes.streams);
    *out = engine;
    return STATUS_OK;
}

void engine_close(struct engine *engine)
{
    if (engine == NULL)
        return;
    ranks_close(engine->ranks);
    batch_free(engine->batch);
    mem_free(engine->sampling);
    mem_free(engine->rows);
    mem_free(engine->ids);
    mem_free(engine->events);
    mem_free(engine->kv_events);
    mem_free(engine);
}

const struct engine_info *engine_info(const struct engine *engine)
{
    return &engine->info;
}

static enum status check_sampling(const struct plan_sampling *sampling, struct error *error)
{
    if (!(sampling->temperature >= 0 && sampling->temperature <= 100))
        return error_set(error, STATUS_INVALID, "temperature must be between 0 and 100");
    if (!(sampling->top_p > 0 && sampling->top_p <= 1))
        return error_set(error, STATUS_INVALID, "top_p must be above 0 and at most 1");
    if (!(sampling->min_p >= 0 && sampling->min_p < 1))
        return error_set(error, STATUS_INVALID, "min_p must be at least 0 and below 1");
    return STATUS_OK;
}

enum status engine_submit(struct engine *engine, const struct engine_request *request, struct error *error)
{
    enum status status = check_sampling(&request->sampling, error);
    if (status != STATUS_OK)
        return status;
    struct batch_request batch = {.handle = request->handle,
                                  .ids = request->ids,
                                  .ids_count = request->ids_count,
                                  .prompt_tokens = request->prompt_tokens,
                                  .max_tokens = request->max_tokens,
                                  .stop_ids = request->stop_ids,
                                  .stop_ids_count = request->stop_ids_count,
                                  .priority = request->priority,
                                  .ignore_eos = request->ignore_eos};
    memcpy(batch.cache_key, request->cache_key, sizeof(batch.cache_key));
    uint32_t stream;
    status = batch_submit(engine->batch, &batch, &stream, error);
    if (status == STATUS_OK)
        engine->sampling[stream] = request->sampling;
    return status;
}

void engine_cancel(struct engine *engine, uint64_t handle)
{
    (void)batch_cancel(engine->batch, handle);
}

bool engine_idle(const struct engine *engine)
{
    return batch_idle(engine->batch);
}

static void fill_rows(struct engine *engine, const struct batch_plan *plan)
{
    for (size_t i = 0; i < plan->rows_count; i++) {
        const struct batch_row *row = &plan->rows[i];
        engine->rows[i] = (struct plan_row){.slot = row->slot,
                                            .reset = row->reset,
                                            .position = row->position,
                                            .count = row->count,
                                            .ids = row->ids,
                                            .new_blocks = row->new_blocks,
                                            .new_blocks_count = row->new_blocks_count,
                                            .want_token = row->want_token,
                                            .sampling = engine->sampling[row->stream]};
    }
}

static enum status compute(struct engine *engine, const struct batch_plan *batch_plan, uint64_t (*clock_us)(void),
                           struct error *error)
{
    fill_rows(engine, batch_plan);
    const struct plan plan = {.step = ++engine->step,
                              .rows = engine->rows,
                              .rows_count = batch_plan->rows_count,
                              .tokens = batch_plan->tokens};
    struct plan_result result = {.ids = engine->ids};
    uint64_t begin_us = clock_us != NULL ? clock_us() : 0;
    enum status status = ranks_run(engine->ranks, &plan, &result, error);
    if (status != STATUS_OK)
        return status;
    if (clock_us != NULL)
        cost_observe(&engine->cost, batch_plan->tokens, batch_plan->kv_tokens, (double)(clock_us() - begin_us) / 1e6);
    batch_complete(engine->batch, engine->ids);
    return STATUS_OK;
}

static enum engine_finish finish_of(enum batch_finish finish)
{
    switch (finish) {
    case BATCH_FINISH_STOP:
        return ENGINE_FINISH_STOP;
    case BATCH_FINISH_LENGTH:
        return ENGINE_FINISH_LENGTH;
    case BATCH_FINISH_CANCELLED:
        return ENGINE_FINISH_CANCELLED;
    }
    UNREACHABLE();
}

static void take_events(struct engine *engine, struct engine_step *out)
{
    const struct batch_event *events = batch_events(engine->batch, &out->events_count);
    for (size_t i = 0; i < out->events_count; i++)
        engine->events[i] = (struct engine_event){
            .kind = events[i].kind == BATCH_TOKEN ? ENGINE_TOKEN : ENGINE_FINISHED,
            .handle = events[i].handle,
            .position = events[i].position,
            .id = events[i].id,
            .finish = finish_of(events[i].finish),
            .cached_tokens = events[i].cached_tokens,
            .completion_tokens = events[i].completion_tokens,
        };
    out->events = engine->events;
}

static void take_kv_events(struct engine *engine, struct engine_step *out)
{
    const struct kv_event *events = batch_kv_events(engine->batch, &out->kv_events_count);
    if (out->kv_events_count > engine->kv_events_capacity) {
        engine->kv_events_capacity = 2 * out->kv_events_count;
        engine->kv_events =
            mem_realloc_array(engine->kv_events, engine->kv_events_capacity, sizeof(*engine->kv_events));
    }
    for (size_t i = 0; i < out->kv_events_count; i++) {
        memcpy(engine->kv_events[i].hash, events[i].hash, sizeof(events[i].hash));
        engine->kv_events[i].stored = events[i].stored;
    }
    out->kv_events = engine->kv_events;
}

enum status engine_step(struct engine *engine, uint64_t (*clock_us)(void), struct engine_step *out, struct error *error)
{
    struct batch_plan plan;
    batch_plan(engine->batch, &engine->cost, &plan);
    if (plan.rows_count > 0) {
        enum status status = compute(engine, &plan, clock_us, error);
        if (status != STATUS_OK)
            return status;
    }
    *out = (struct engine_step){.tokens = plan.tokens};
    take_events(engine, out);
    take_kv_events(engine, out);
    return STATUS_OK;
}

void engine_load(const struct engine *engine, struct engine_load *out)
{
    struct batch_load load;
    batch_load(engine->batch, &load);
    *out = (struct engine_load){.step = engine->step,
                                .running = load.running,
                                .waiting = load.waiting,
                                .queued_tokens = load.queued_tokens,
                                .blocks_total = load.blocks_total,
                                .blocks_used = load.blocks_used,
                                .blocks_cached = load.blocks_cached,
                                .step_base_s = engine->cost.model.base_s,
                                .step_token_s = engine->cost.model.token_s,
                                .step_kv_token_s = engine->cost.model.kv_token_s};
}

void engine_kv_snapshot(const struct engine *engine, void *context, void (*each)(void *context, const uint8_t hash[16]))
{
    kv_each_findable(batch_kv(engine->batch), context, each);
}
