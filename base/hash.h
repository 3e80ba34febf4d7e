/* hash: fast non-cryptographic hashes (xxHash) and the disk checksum (CRC-32C, Castagnoli).
 *
 * xxHash is for tables and sharding only; anything an adversary could aim at uses crypto.h. Pure; thread-safe. */
#ifndef SHOAL_BASE_HASH_H
#define SHOAL_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash_xx64(const void *data, size_t length, uint64_t seed);
/* CRC-32C; pass 0 to start, or the previous result to go on over further bytes. Uses SSE4.2 where the CPU has it. */
uint32_t hash_crc32c(uint32_t crc, const void *data, size_t length);
/* The same without special instructions: the fast path's oracle in tests. */
uint32_t hash_crc32c_plain(uint32_t crc, const void *data, size_t length);

#endif
