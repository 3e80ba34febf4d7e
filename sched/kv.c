/* kv: see kv.h. Lists and buckets are indices into one array, so the whole state is three allocations and prints well.
 * Hashes come from a keyed BLAKE2b, which nobody outside can aim, so their first bytes are the bucket. */
#include "sched/kv.h"

#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/mem.h"

void kv_init(struct kv *kv, uint32_t blocks)
{
    CHECK(blocks > 0 && blocks < KV_NONE / 2);
    *kv = (struct kv){.count = blocks, .free_count = blocks, .idle_oldest = KV_NONE, .idle_newest = KV_NONE};
    kv->blocks = mem_new_array(struct kv_block, blocks);
    uint32_t buckets = 16;
    while (buckets < 2 * blocks)
        buckets *= 2;
    kv->buckets = mem_new_array(uint32_t, buckets);
    kv->bucket_mask = buckets - 1;
    memset(kv->buckets, 0xff, sizeof(*kv->buckets) * buckets);
    for (uint32_t i = 0; i < blocks; i++)
        kv->blocks[i].next = i + 1 < blocks ? i + 1 : KV_NONE;
}

void kv_free(struct kv *kv)
{
    mem_free(kv->blocks);
    mem_free(kv->buckets);
    mem_free(kv->events);
    *kv = (struct kv){0};
}

uint32_t kv_available(const struct kv *kv)
{
    return kv->free_count + kv->idle_count;
}

/* The index: COMPUTING and FINDABLE blocks by hash. */

static uint32_t *bucket_of(const struct kv *kv, const uint8_t hash[PREFIX_HASH_BYTES])
{
    return &kv->buckets[load_u32le(hash) & kv->bucket_mask];
}

static uint32_t index_find(const struct kv *kv, const uint8_t hash[PREFIX_HASH_BYTES])
{
    uint32_t at = *bucket_of(kv, hash);
    while (at != KV_NONE && memcmp(kv->blocks[at].hash, hash, PREFIX_HASH_BYTES) != 0)
        at = kv->blocks[at].bucket_next;
    return at;
}

static void index_add(struct kv *kv, uint32_t block, const uint8_t hash[PREFIX_HASH_BYTES])
{
    uint32_t *bucket = bucket_of(kv, hash);
    memcpy(kv->blocks[block].hash, hash, PREFIX_HASH_BYTES);
    kv->blocks[block].bucket_next = *bucket;
    *bucket = block;
}

static void index_remove(struct kv *kv, uint32_t block)
{
    uint32_t *link = bucket_of(kv, kv->blocks[block].hash);
    while (*link != block) {
        CHECK(*link != KV_NONE);
        link = &kv->blocks[*link].bucket_next;
    }
    *link = kv->blocks[block].bucket_next;
}

/* The idle list: findable blocks without a holder, by the time of their last drop. */

static void idle_push(struct kv *kv, uint32_t block)
{
    struct kv_block *b = &kv->blocks[block];
    b->prev = kv->idle_newest;
    b->next = KV_NONE;
    if (kv->idle_newest == KV_NONE)
        kv->idle_oldest = block;
    else
        kv->blocks[kv->idle_newest].next = block;
    kv->idle_newest = block;
    kv->idle_count++;
}

static void idle_remove(struct kv *kv, uint32_t block)
{
    const struct kv_block *b = &kv->blocks[block];
    if (b->prev == KV_NONE)
        kv->idle_oldest = b->next;
    else
        kv->blocks[b->prev].next = b->next;
    if (b->next == KV_NONE)
        kv->idle_newest = b->prev;
    else
        kv->blocks[b->next].prev = b->prev;
    CHECK(kv->idle_count > 0);
    kv->idle_count--;
}

static void event_add(struct kv *kv, const uint8_t hash[PREFIX_HASH_BYTES], bool stored)
{
    if (kv->events_count == kv->events_capacity) {
        kv->events_capacity = kv->events_capacity == 0 ? 64 : 2 * kv->events_capacity;
        kv->events = mem_realloc_array(kv->events, kv->events_capacity, sizeof(*kv->events));
    }
    struct kv_event *event = &kv->events[kv->events_count++];
    memcpy(event->hash, hash, PREFIX_HASH_BYTES);
    event->stored = stored;
}

struct kv_match kv_match(const struct kv *kv, const uint8_t (*hashes)[PREFIX_HASH_BYTES], uint32_t count)
{
    struct kv_match match = {0};
    while (match.hits < count) {
        uint32_t block = index_find(kv, hashes[match.hits]);
        if (block == KV_NONE)
            break;
        if (kv->blocks[block].state == KV_COMPUTING) {
            match.computing = true;
            break;
        }
        match.hits++;
        match.idle += kv->blocks[block].holders == 0;
    }
    return match;
}

static void hold(struct kv *kv, uint32_t block)
{
    struct kv_block *b = &kv->blocks[block];
    CHECK(b->state == KV_FINDABLE);
    if (b->holders++ == 0)
        idle_remove(kv, block);
}

uint32_t kv_share(struct kv *kv, const uint8_t hash[PREFIX_HASH_BYTES])
{
    uint32_t block = index_find(kv, hash);
    CHECK(block != KV_NONE);
    hold(kv, block);
    return block;
}

static void put_free(struct kv *kv, uint32_t block)
{
    struct kv_block *b = &kv->blocks[block];
    *b = (struct kv_block){.state = KV_FREE, .parent = KV_NONE, .next = kv->free_first};
    kv->free_first = block;
    kv->free_count++;
}

/* The oldest idle block leaves the index and is free. */
static void evict(struct kv *kv)
{
    uint32_t block = kv->idle_oldest;
    struct kv_block *b = &kv->blocks[block];
    CHECK(b->holders == 0 && b->children == 0);
    idle_remove(kv, block);
    index_remove(kv, block);
    event_add(kv, b->hash, false);
    if (b->parent != KV_NONE)
        kv->blocks[b->parent].children--;
    put_free(kv, block);
}

uint32_t kv_take(struct kv *kv)
{
    if (kv->free_count == 0 && kv->idle_count > 0)
        evict(kv);
    if (kv->free_count == 0)
        return KV_NONE;
    uint32_t block = kv->free_first;
    struct kv_block *b = &kv->blocks[block];
    CHECK(b->state == KV_FREE);
    kv->free_first = b->next;
    kv->free_count--;
    *b = (struct kv_block){.state = KV_PRIVATE, .holders = 1, .parent = KV_NONE};
    return block;
}

void kv_claim(struct kv *kv, uint32_t block, const uint8_t hash[PREFIX_HASH_BYTES])
{
    CHECK(block < kv->count && kv->blocks[block].state == KV_PRIVATE);
    if (index_find(kv, hash) != KV_NONE)
        return;
    kv->blocks[block].state = KV_COMPUTING;
    index_add(kv, block, hash);
}

uint32_t kv_publish(struct kv *kv, uint32_t block, uint32_t parent, const uint8_t hash[PREFIX_HASH_BYTES])
{
    struct kv_block *b = &kv->blocks[block];
    CHECK(block < kv->count && b->holders == 1 && (b->state == KV_PRIVATE || b->state == KV_COMPUTING));
    CHECK(parent == KV_NONE || (kv->blocks[parent].state == KV_FINDABLE && kv->blocks[parent].holders > 0));
    uint32_t there = index_find(kv, hash);
    if (there != KV_NONE && kv->blocks[there].state == KV_FINDABLE) {
        CHECK(kv->blocks[there].parent == parent);
        if (b->state == KV_COMPUTING)
            index_remove(kv, block);
        hold(kv, there);
        put_free(kv, block);
        return there;
    }
    if (there != KV_NONE && there != block) { /* another claimed it, we were faster */
        index_remove(kv, there);
        kv->blocks[there].state = KV_PRIVATE;
    }
    if (b->state == KV_PRIVATE)
        index_add(kv, block, hash);
    CHECK(memcmp(b->hash, hash, PREFIX_HASH_BYTES) == 0);
    b->state = KV_FINDABLE;
    b->parent = parent;
    if (parent != KV_NONE)
        kv->blocks[parent].children++;
    event_add(kv, hash, true);
    return block;
}

static void drop_one(struct kv *kv, uint32_t block)
{
    CHECK(block < kv->count);
    struct kv_block *b = &kv->blocks[block];
    CHECK(b->holders > 0);
    if (--b->holders > 0)
        return;
    if (b->state == KV_FINDABLE) {
        idle_push(kv, block);
        return;
    }
    if (b->state == KV_COMPUTING)
        index_remove(kv, block);
    put_free(kv, block);
}

void kv_drop(struct kv *kv, const uint32_t *blocks, uint32_t count)
{
    while (count > 0)
        drop_one(kv, blocks[--count]);
}

void kv_events_clear(struct kv *kv)
{
    kv->events_count = 0;
}

void kv_each_findable(const struct kv *kv, void *context, void (*each)(void *context, const uint8_t hash[16]))
{
    for (uint32_t i = 0; i < kv->count; i++)
        if (kv->blocks[i].state == KV_FINDABLE)
            each(context, kv->blocks[i].hash);
}

static void check_block(const struct kv *kv, uint32_t block, uint32_t *children)
{
    const struct kv_block *b = &kv->blocks[block];
    bool indexed = b->state == KV_COMPUTING || b->state == KV_FINDABLE;
    if (indexed)
        CHECK(index_find(kv, b->hash) == block);
    if (b->state == KV_FREE)
        CHECK(b->holders == 0);
    if (b->state == KV_PRIVATE || b->state == KV_COMPUTING)
        CHECK(b->holders == 1 && b->children == 0);
    if (b->state != KV_FINDABLE || b->parent == KV_NONE)
        return;
    CHECK(kv->blocks[b->parent].state == KV_FINDABLE);
    CHECK(b->holders == 0 || kv->blocks[b->parent].holders > 0);
    children[b->parent]++;
}

void kv_check(const struct kv *kv)
{
    uint32_t *children = mem_new_array(uint32_t, kv->count);
    uint32_t *seen = mem_new_array(uint32_t, kv->count); /* place in the idle list, from 1 */
    uint32_t free_count = 0, idle_count = 0;
    for (uint32_t at = kv->free_first; at != KV_NONE && kv->free_count > 0; at = kv->blocks[at].next) {
        CHECK(kv->blocks[at].state == KV_FREE && ++free_count <= kv->count);
    }
    for (uint32_t at = kv->idle_oldest; at != KV_NONE; at = kv->blocks[at].next) {
        CHECK(kv->blocks[at].state == KV_FINDABLE && kv->blocks[at].holders == 0 && idle_count < kv->count);
        seen[at] = ++idle_count;
    }
    CHECK(free_count == kv->free_count && idle_count == kv->idle_count);
    uint32_t states[4] = {0};
    for (uint32_t i = 0; i < kv->count; i++) {
        check_block(kv, i, children);
        const struct kv_block *b = &kv->blocks[i];
        states[b->state]++;
        CHECK((seen[i] != 0) == (b->state == KV_FINDABLE && b->holders == 0));
        if (seen[i] != 0 && b->parent != KV_NONE && kv->blocks[b->parent].holders == 0)
            CHECK(seen[i] < seen[b->parent]); /* children are older, so the oldest is a leaf */
    }
    CHECK(states[KV_FREE] == free_count);
    for (uint32_t i = 0; i < kv->count; i++)
        CHECK(children[i] == kv->blocks[i].children);
    mem_free(children);
    mem_free(seen);
}
