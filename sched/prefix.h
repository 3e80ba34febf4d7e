/* sched/prefix: content hashes of KV blocks, equal in router and engine.
 *
 * hash(block i) = keyed BLAKE2b (cache_key; parent ‖ cache_salt ‖ 16 ids as u32le), cut to 16 bytes; the parent of the
 * first block is 16 zero bytes. cache_salt covers everything else that decides a block's content (engine.md). Without
 * the tenant's key nobody can name, probe or forge a block. Pure. */
#ifndef SHOAL_SCHED_PREFIX_H
#define SHOAL_SCHED_PREFIX_H

#include <stddef.h>
#include <stdint.h>

enum { PREFIX_HASH_BYTES = 16, PREFIX_BLOCK_TOKENS = 16 };

void prefix_hash_next(uint8_t out[PREFIX_HASH_BYTES], const uint8_t parent[PREFIX_HASH_BYTES],
                      const uint8_t cache_key[32], const uint8_t cache_salt[32],
                      const uint32_t ids[PREFIX_BLOCK_TOKENS]);
/* The key of a tenant's blocks of one model, from the tenant's secret: what SUBMIT carries. */
void prefix_cache_key(uint8_t out[32], const uint8_t tenant_secret[32], const char *model);

#endif
