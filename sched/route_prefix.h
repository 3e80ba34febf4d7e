/* sched/route_prefix: which KV blocks a replica holds, as its own events tell.
 *
 * A set of block hashes (sched/prefix) per replica, kept by kv_events in sequence; a gap or another generation makes it
 * *stale*: it then holds nothing until a whole snapshot has come. A stale or wrong entry only costs a
 * recomputation. Events that come while it is stale are dropped: the channel is ordered, so the snapshot has them.
 * Hashes are keyed with the tenant's secret, so they are uniform and need no further hashing. Memory is bounded by
 * blocks_max; blocks beyond it are not known. Pure. */
#ifndef SHOAL_SCHED_ROUTE_PREFIX_H
#define SHOAL_SCHED_ROUTE_PREFIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "sched/prefix.h"

struct route_prefix {
    uint8_t (*slots)[PREFIX_HASH_BYTES]; /* open addressing, linear probing; all zero: empty */
    size_t capacity;                     /* a power of two, or 0 */
    size_t count;
    size_t blocks_max;
    uint64_t generation;
    uint64_t sequence;    /* of the last events applied */
    uint64_t parts_taken; /* of the snapshot that is coming in */
    bool fresh;           /* false: stale, a snapshot is needed */
};

void route_prefix_init(struct route_prefix *prefix, size_t blocks_max);
void route_prefix_free(struct route_prefix *prefix);
/* The channel is new: nothing is known, a snapshot must be asked for. */
void route_prefix_forget(struct route_prefix *prefix);

/* Each returns true when a snapshot should be asked for. Lengths that are no multiple of 16 count as a gap. */
bool route_prefix_events(struct route_prefix *prefix, uint64_t generation, uint64_t sequence, struct bytes stored,
                         struct bytes removed);
bool route_prefix_snapshot(struct route_prefix *prefix, uint64_t generation, uint64_t sequence, uint64_t part,
                           uint64_t parts, struct bytes hashes);
/* What load says of the last events sent: a lost tail shows here. */
bool route_prefix_check(const struct route_prefix *prefix, uint64_t sequence);

bool route_prefix_holds(const struct route_prefix *prefix, const uint8_t hash[PREFIX_HASH_BYTES]);

/* How many leading tokens of ids each replica holds: cached_tokens[i] of prefixes[i]. All replicas share cache_salt. At
 * most ⌊(count − 1) / 16⌋ blocks count, since the last token is always computed. Hashes only as far as one still has
 * the chain. */
void route_prefix_match(const struct route_prefix *const *prefixes, size_t prefixes_count, const uint32_t *ids,
                        size_t ids_count, const uint8_t cache_key[32], const uint8_t cache_salt[32],
                        uint64_t *cached_tokens);

#endif
