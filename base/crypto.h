/* crypto: the few primitives that shoal needs, over libsodium.
 *
 * crypto_init must have succeeded once before anything else (it is idempotent and thread-safe). Secrets are wiped by
 * the caller with crypto_wipe. Key texts are Z85 for CURVE (as libzmq writes them) and hex elsewhere. */
#ifndef SHOAL_BASE_CRYPTO_H
#define SHOAL_BASE_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"

enum { CRYPTO_HASH_BYTES = 32, CRYPTO_KEY_BYTES = 32, CURVE_KEY_BYTES = 32, CURVE_TEXT_BYTES = 41 };

MUST_CHECK enum status crypto_init(void);
void crypto_random(void *out, size_t length);
/* The kernel's random bytes, straight from getrandom(2): the one call that works before crypto_init. */
void crypto_entropy(void *out, size_t length);
/* Keyed BLAKE2b-256 (RFC 7693) over the parts in order; key may be empty (unkeyed) or up to 64 bytes. */
void crypto_blake2b(uint8_t out[CRYPTO_HASH_BYTES], struct bytes key, const struct bytes *parts, size_t parts_count);
/* SHA-256, for file digests. */
struct crypto_sha256 {
    _Alignas(16) uint8_t opaque[128];
};
void crypto_sha256_init(struct crypto_sha256 *sha);
void crypto_sha256_update(struct crypto_sha256 *sha, const void *data, size_t length);
void crypto_sha256_final(struct crypto_sha256 *sha, uint8_t out[32]);
bool crypto_equal(const void *a, const void *b, size_t length); /* constant time */
void crypto_wipe(void *data, size_t length);
void crypto_hex(char *out, const void *data, size_t length); /* out: 2 * length + 1 bytes */
MUST_CHECK enum status crypto_unhex(uint8_t *out, size_t out_length,
                                    const char *hex); /* exactly 2 * out_length digits */
/* A CURVE25519 key pair as libzmq's CURVE takes it, raw and as Z85 text (40 characters and a zero). */
void crypto_curve_keypair(uint8_t public_key[CURVE_KEY_BYTES], uint8_t secret_key[CURVE_KEY_BYTES]);
/* The public key that belongs to a secret one. */
void crypto_curve_public(uint8_t public_key[CURVE_KEY_BYTES], const uint8_t secret_key[CURVE_KEY_BYTES]);
void crypto_z85_encode(char out[CURVE_TEXT_BYTES], const uint8_t key[CURVE_KEY_BYTES]);
MUST_CHECK enum status crypto_z85_decode(uint8_t key[CURVE_KEY_BYTES], const char *text);

#endif
