/* route_prefix: see route_prefix.h. Removal shifts back what was probed past the hole, so there are no tombstones. */
#include "sched/route_prefix.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"

static const uint8_t empty_hash[PREFIX_HASH_BYTES];

static bool slot_empty(const struct route_prefix *prefix, size_t slot)
{
    return memcmp(prefix->slots[slot], empty_hash, PREFIX_HASH_BYTES) == 0;
}

static size_t home_of(const struct route_prefix *prefix, const uint8_t *hash)
{
    return (size_t)load_u64le(hash) & (prefix->capacity - 1);
}

/* The hash's slot, or the empty one where it would go. */
static size_t slot_of(const struct route_prefix *prefix, const uint8_t *hash)
{
    size_t slot = home_of(prefix, hash);
    while (!slot_empty(prefix, slot) && memcmp(prefix->slots[slot], hash, PREFIX_HASH_BYTES) != 0) {
        slot = (slot + 1) & (prefix->capacity - 1);
    }
    return slot;
}

void route_prefix_init(struct route_prefix *prefix, size_t blocks_max)
{
    *prefix = (struct route_prefix){.blocks_max = blocks_max};
}

void route_prefix_free(struct route_prefix *prefix)
{
    mem_free(prefix->slots);
    *prefix = (struct route_prefix){0};
}

static void clear(struct route_prefix *prefix)
{
    if (prefix->capacity > 0) {
        memset(prefix->slots, 0, prefix->capacity * PREFIX_HASH_BYTES);
    }
    prefix->count = 0;
}

void route_prefix_forget(struct route_prefix *prefix)
{
    clear(prefix);
    prefix->fresh = false;
    prefix->parts_taken = 0;
    prefix->sequence = 0;
    prefix->generation = 0;
}

static void grow(struct route_prefix *prefix)
{
    struct route_prefix larger = *prefix;
    larger.capacity = MAX_OF(prefix->capacity * 2, 256U);
    larger.slots = mem_alloc_array(larger.capacity, PREFIX_HASH_BYTES);
    for (size_t i = 0; i < prefix->capacity; i++) {
        if (!slot_empty(prefix, i)) {
            memcpy(larger.slots[slot_of(&larger, prefix->slots[i])], prefix->slots[i], PREFIX_HASH_BYTES);
        }
    }
    mem_free(prefix->slots);
    *prefix = larger;
}

/* False: the set is full. */
static bool add(struct route_prefix *prefix, const uint8_t *hash)
{
    if (memcmp(hash, empty_hash, PREFIX_HASH_BYTES) == 0) {
        return true; /* cannot be a real one: 2^-128 */
    }
    if ((prefix->count + 1) * 2 > prefix->capacity) {
        grow(prefix);
    }
    size_t slot = slot_of(prefix, hash);
    if (slot_empty(prefix, slot)) {
        if (prefix->count >= prefix->blocks_max) {
            return false;
        }
        memcpy(prefix->slots[slot], hash, PREFIX_HASH_BYTES);
        prefix->count++;
    }
    return true;
}

/* Knuth, TAOCP 6.4, algorithm R: closes the hole with later members of the run that may stand there. */
static void drop(struct route_prefix *prefix, const uint8_t *hash)
{
    if (prefix->capacity == 0) {
        return;
    }
    size_t mask = prefix->capacity - 1;
    size_t hole = slot_of(prefix, hash);
    if (slot_empty(prefix, hole)) {
        return;
    }
    for (size_t next = (hole + 1) & mask; !slot_empty(prefix, next); next = (next + 1) & mask) {
        size_t home = home_of(prefix, prefix->slots[next]);
        if (((next - home) & mask) >= ((next - hole) & mask)) {
            memcpy(prefix->slots[hole], prefix->slots[next], PREFIX_HASH_BYTES);
            hole = next;
        }
    }
    memset(prefix->slots[hole], 0, PREFIX_HASH_BYTES);
    prefix->count--;
}

static bool add_all(struct route_prefix *prefix, struct bytes hashes)
{
    for (size_t at = 0; at < hashes.length; at += PREFIX_HASH_BYTES) {
        if (!add(prefix, hashes.data + at)) {
            return false;
        }
    }
    return true;
}

static bool whole_hashes(struct bytes hashes)
{
    return hashes.length % PREFIX_HASH_BYTES == 0;
}

bool route_prefix_events(struct route_prefix *prefix, uint64_t generation, uint64_t sequence, struct bytes stored,
                         struct bytes removed)
{
    if (!prefix->fresh) {
        return false; /* the snapshot that was asked for covers these, or its own check finds the gap */
    }
    if (generation == prefix->generation && sequence <= prefix->sequence) {
        return false; /* the snapshot had it already */
    }
    bool in_order = generation == prefix->generation && sequence == prefix->sequence + 1;
    if (!in_order || !whole_hashes(stored) || !whole_hashes(removed)) {
        route_prefix_forget(prefix);
        return true;
    }
    prefix->sequence = sequence;
    /* What went away first: a block that is evicted and computed again within one message is then held. */
    for (size_t at = 0; at < removed.length; at += PREFIX_HASH_BYTES) {
        drop(prefix, removed.data + at);
    }
    (void)add_all(prefix, stored); /* beyond blocks_max: not known, so not counted on */
    return false;
}

bool route_prefix_snapshot(struct route_prefix *prefix, uint64_t generation, uint64_t sequence, uint64_t part,
                           uint64_t parts, struct bytes hashes)
{
    if (part == 0) {
        route_prefix_forget(prefix);
        prefix->generation = generation;
        prefix->sequence = sequence;
    }
    if (part != prefix->parts_taken || generation != prefix->generation || sequence != prefix->sequence ||
        prefix->fresh || !whole_hashes(hashes)) {
        route_prefix_forget(prefix);
        return true;
    }
    (void)add_all(prefix, hashes);
    prefix->parts_taken++;
    prefix->fresh = prefix->parts_taken >= parts;
    return false;
}

bool route_prefix_check(const struct route_prefix *prefix, uint64_t sequence)
{
    return prefix->fresh && sequence > prefix->sequence;
}

bool route_prefix_holds(const struct route_prefix *prefix, const uint8_t hash[PREFIX_HASH_BYTES])
{
    return prefix->fresh && prefix->capacity > 0 && !slot_empty(prefix, slot_of(prefix, hash));
}

void route_prefix_match(const struct route_prefix *const *prefixes, size_t prefixes_count, const uint32_t *ids,
                        size_t ids_count, const uint8_t cache_key[32], const uint8_t cache_salt[32],
                        uint64_t *cached_tokens)
{
    for (size_t i = 0; i < prefixes_count; i++) {
        cached_tokens[i] = 0;
    }
    size_t blocks = ids_count > 0 ? (ids_count - 1) / PREFIX_BLOCK_TOKENS : 0;
    uint8_t hash[PREFIX_HASH_BYTES] = {0};
    bool any = true;
    for (size_t block = 0; any && block < blocks; block++) {
        uint8_t parent[PREFIX_HASH_BYTES];
        memcpy(parent, hash, sizeof(parent));
        prefix_hash_next(hash, parent, cache_key, cache_salt, ids + block * PREFIX_BLOCK_TOKENS);
        any = false;
        for (size_t i = 0; i < prefixes_count; i++) {
            bool had_all = cached_tokens[i] == block * PREFIX_BLOCK_TOKENS;
            if (had_all && route_prefix_holds(prefixes[i], hash)) {
                cached_tokens[i] += PREFIX_BLOCK_TOKENS;
                any = true;
            }
        }
    }
}
