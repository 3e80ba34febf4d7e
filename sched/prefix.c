/* prefix: see prefix.h. Layout of the hashed bytes: parent (16) ‖ cache_salt (32) ‖ 16 ids as u32le (64). */
#include "sched/prefix.h"

#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crypto.h"

void prefix_hash_next(uint8_t out[PREFIX_HASH_BYTES], const uint8_t parent[PREFIX_HASH_BYTES],
                      const uint8_t cache_key[32], const uint8_t cache_salt[32],
                      const uint32_t ids[PREFIX_BLOCK_TOKENS])
{
    uint8_t text[4 * PREFIX_BLOCK_TOKENS];
    for (size_t i = 0; i < PREFIX_BLOCK_TOKENS; i++)
        store_u32le(text + 4 * i, ids[i]);
    const struct bytes parts[] = {
        bytes_of(parent, PREFIX_HASH_BYTES),
        bytes_of(cache_salt, 32),
        bytes_of(text, sizeof(text)),
    };
    uint8_t digest[CRYPTO_HASH_BYTES];
    crypto_blake2b(digest, bytes_of(cache_key, 32), parts, COUNT_OF(parts));
    memcpy(out, digest, PREFIX_HASH_BYTES);
}

void prefix_cache_key(uint8_t out[32], const uint8_t tenant_secret[32], const char *model)
{
    const struct bytes parts[] = {BYTES_LITERAL("shoal prefix cache key 1"), bytes_of_text(model)};
    crypto_blake2b(out, bytes_of(tenant_secret, 32), parts, COUNT_OF(parts));
}
