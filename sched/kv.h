/* sched/kv: which KV block is whose, and where a prefix is found again. Bookkeeping only: the bytes are the decoder's.
 *
 * A block is in one of four states:
 *
 *   FREE ──take──▶ PRIVATE ──claim──▶ COMPUTING ──publish──▶ FINDABLE ──(last drop)──▶ idle, still FINDABLE
 *     ▲               │ ▲  ────────────publish──────────────────▲ │                        │        │
 *     └─────drop──────┘ └── its hash was published elsewhere      └──────────share─────────┘        │
 *     └──────────────────────────────── evicted by take when nothing is free ───────────────────────┘
 *
 * PRIVATE belongs to one stream. COMPUTING does too, and tells other streams with the same prefix to wait for it.
 * FINDABLE is full, computed, named by its content's hash (sched/prefix) and may be held by many streams. Idle blocks
 * (FINDABLE, no holder) are evicted least recently used first.
 *
 * Only full blocks are shared. Sharing a partly filled one would save at most 15 tokens of prefill, and would cost a
 * copy of the whole block at the first write of each holder; so every write goes to a PRIVATE or COMPUTING block and
 * nothing is ever copied (plan.h's copies stay for forks within a block, which nothing here makes).
 *
 * A holder of a block holds all blocks before it in its chain, and drops them last to first. Hence a parent is never
 * dropped before its children, and the oldest idle block is always a leaf: eviction never cuts a chain in the middle.
 *
 * Memory is taken once, in kv_init. Pure; one thread. */
#ifndef SHOAL_SCHED_KV_H
#define SHOAL_SCHED_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sched/prefix.h"

enum { KV_BLOCK_TOKENS = PREFIX_BLOCK_TOKENS };
#define KV_NONE UINT32_MAX

enum kv_state { KV_FREE, KV_PRIVATE, KV_COMPUTING, KV_FINDABLE };

struct kv_block {
    uint8_t hash[PREFIX_HASH_BYTES]; /* COMPUTING, FINDABLE */
    uint32_t holders;
    uint32_t parent;     /* FINDABLE: the block before it in its chain; KV_NONE: it is a first one */
    uint32_t children;   /* findable blocks whose parent it is */
    uint32_t next, prev; /* in the idle list; next alone in the free list */
    uint32_t bucket_next;
    enum kv_state state;
};

/* A block became findable or went away, in order. */
struct kv_event {
    uint8_t hash[PREFIX_HASH_BYTES];
    bool stored; /* else removed */
};

struct kv {
    struct kv_block *blocks;
    uint32_t count;
    uint32_t *buckets; /* hash → block, chained */
    uint32_t bucket_mask;
    uint32_t free_first, free_count;
    uint32_t idle_oldest, idle_newest, idle_count;
    struct kv_event *events;
    size_t events_count, events_capacity;
};

void kv_init(struct kv *kv, uint32_t blocks);
void kv_free(struct kv *kv);

/* Blocks that kv_take can give: free ones and idle ones. */
uint32_t kv_available(const struct kv *kv);

/* How much of a chain of hashes is there. */
struct kv_match {
    uint32_t hits;  /* leading findable blocks */
    uint32_t idle;  /* how many of them have no holder, so that sharing them lowers kv_available */
    bool computing; /* the block behind the hits is being computed by another stream */
};
struct kv_match kv_match(const struct kv *kv, const uint8_t (*hashes)[PREFIX_HASH_BYTES], uint32_t count);

/* Holds a findable block (kv_match has just seen it) and returns it. */
uint32_t kv_share(struct kv *kv, const uint8_t hash[PREFIX_HASH_BYTES]);
/* A PRIVATE block: a free one, else the least recently used idle one, which is then removed. KV_NONE: there is none. */
uint32_t kv_take(struct kv *kv);
/* The holder is about to compute this content: PRIVATE → COMPUTING. No effect when another has it already. */
void kv_claim(struct kv *kv, uint32_t block, const uint8_t hash[PREFIX_HASH_BYTES]);
/* The block is full and computed. Returns the block that the holder holds from now on: usually the same; another one,
 * with equal content, when that was published meanwhile (the given one is then free). `parent` is the holder's block
 * before it, published already, or KV_NONE. */
uint32_t kv_publish(struct kv *kv, uint32_t block, uint32_t parent, const uint8_t hash[PREFIX_HASH_BYTES]);
/* Gives blocks[0..count) of one chain back, last to first. */
void kv_drop(struct kv *kv, const uint32_t *blocks, uint32_t count);

/* Events since the last kv_events_clear. */
void kv_events_clear(struct kv *kv);
/* Calls `each` for every findable block, in the order of block ids. */
void kv_each_findable(const struct kv *kv, void *context, void (*each)(void *context, const uint8_t hash[16]));
/* Aborts when an invariant of this file's head does not hold. Linear; for tests. */
void kv_check(const struct kv *kv);

#endif
