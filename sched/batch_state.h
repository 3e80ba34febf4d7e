/* batch_state: the inside of sched/batch, shared by batch.c (life of a stream) and batch_plan.c (one step's plan). */
#ifndef SHOAL_SCHED_BATCH_STATE_H
#define SHOAL_SCHED_BATCH_STATE_H

#include "base/list.h"
#include "base/map.h"
#include "sched/batch.h"

enum batch_stream_state { BATCH_SPARE, BATCH_WAITING, BATCH_RUNNING, BATCH_ENDING };

struct batch_stream {
    struct list node; /* in the list of its state */
    enum batch_stream_state state;
    uint64_t handle;
    uint64_t arrival;
    uint8_t priority;
    bool ignore_eos;
    bool admitted;            /* at least once */
    enum batch_finish finish; /* ENDING */
    uint32_t *ids;            /* [prompt_tokens + max_tokens] */
    uint32_t known;           /* ids that are there */
    uint32_t prompt_tokens, max_tokens;
    uint32_t computed; /* leading ids whose k and v are in the table's blocks */
    uint32_t stop_ids[BATCH_STOP_IDS_MAX];
    uint32_t stop_ids_count;
    uint8_t cache_key[32];
    uint8_t (*hashes)[PREFIX_HASH_BYTES]; /* of the full blocks of ids, as far as hashes_count */
    uint32_t hashes_count;
    uint32_t *table; /* RUNNING and ENDING: blocks held, for ids 0 … 16 · table_count − 1 */
    uint32_t table_count;
    uint32_t table_sent; /* how many of them the slot's table has; 0 and reset: all must be sent */
    bool reset;
    uint32_t published; /* leading blocks that are findable */
    uint32_t slot;      /* with a table */
    uint32_t cached_tokens;
};

struct batch {
    struct batch_config config;
    uint32_t *end_ids;
    struct kv kv;
    struct batch_stream *streams; /* [streams_max] */
    struct list spare;
    struct list waiting, running; /* sorted: important first, then old first */
    struct list ending;
    struct map by_handle;
    uint64_t arrivals;
    uint32_t *free_slots;
    uint32_t free_slots_count, waiting_count, running_count;
    struct batch_row *rows; /* [slots] */
    struct batch_plan plan; /* the one in flight, or the last one */
    bool in_flight;
    bool prefill_open; /* while planning: the step's budget is not used up */
    bool prefill_begun;
    struct batch_event *events;
    size_t events_count;
};

#define BATCH_STREAM(list_node) LIST_ENTRY(list_node, struct batch_stream, node)

uint32_t batch_blocks_of(uint64_t tokens);
/* Puts the stream, which is in no list, where its priority and age belong. */
void batch_insert_sorted(struct list *list, struct batch_stream *stream);
/* The stream holds nothing any more: blocks, last to first, and the slot. */
void batch_give_back(struct batch *batch, struct batch_stream *stream);
/* Reports the end and forgets the stream. */
void batch_end(struct batch *batch, struct batch_stream *stream, enum batch_finish finish);

#endif
