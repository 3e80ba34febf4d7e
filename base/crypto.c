/* crypto: libsodium behind shoal's own names; no other file sees sodium.h. */
#include "base/crypto.h"

#include <sodium.h>
#include <string.h>
#include <sys/random.h>

#include "base/check.h"

_Static_assert(sizeof(crypto_hash_sha256_state) <= sizeof(struct crypto_sha256), "crypto_sha256 is too small");
_Static_assert(_Alignof(crypto_hash_sha256_state) <= _Alignof(struct crypto_sha256), "crypto_sha256 is misaligned");

enum status crypto_init(void)
{
    return sodium_init() < 0 ? STATUS_IO : STATUS_OK;
}

void crypto_random(void *out, size_t length)
{
    randombytes_buf(out, length);
}

void crypto_entropy(void *out, size_t length)
{
    CHECK(length <= 256); /* up to here getrandom is never short */
    ssize_t got = getrandom(out, length, 0);
    CHECK(got == (ssize_t)length);
}

void crypto_blake2b(uint8_t out[CRYPTO_HASH_BYTES], struct bytes key, const struct bytes *parts, size_t parts_count)
{
    CHECK(key.length <= crypto_generichash_KEYBYTES_MAX);
    crypto_generichash_state state;
    int failed = crypto_generichash_init(&state, key.length == 0 ? NULL : key.data, key.length, CRYPTO_HASH_BYTES);
    CHECK(!failed);
    for (size_t i = 0; i < parts_count; i++) {
        if (parts[i].length > 0)
            crypto_generichash_update(&state, parts[i].data, parts[i].length);
    }
    crypto_generichash_final(&state, out, CRYPTO_HASH_BYTES);
    sodium_memzero(&state, sizeof state);
}

void crypto_sha256_init(struct crypto_sha256 *sha)
{
    crypto_hash_sha256_init((crypto_hash_sha256_state *)(void *)sha->opaque);
}

void crypto_sha256_update(struct crypto_sha256 *sha, const void *data, size_t length)
{
    if (length > 0)
        crypto_hash_sha256_update((crypto_hash_sha256_state *)(void *)sha->opaque, data, length);
}

void crypto_sha256_final(struct crypto_sha256 *sha, uint8_t out[32])
{
    crypto_hash_sha256_final((crypto_hash_sha256_state *)(void *)sha->opaque, out);
}

bool crypto_equal(const void *a, const void *b, size_t length)
{
    return sodium_memcmp(a, b, length) == 0;
}

void crypto_wipe(void *data, size_t length)
{
    sodium_memzero(data, length);
}

void crypto_hex(char *out, const void *data, size_t length)
{
    sodium_bin2hex(out, length * 2 + 1, data, length);
}

enum status crypto_unhex(uint8_t *out, size_t out_length, const char *hex)
{
    size_t hex_length = strlen(hex), written = 0;
    const char *end = NULL;
    if (sodium_hex2bin(out, out_length, hex, hex_length, NULL, &written, &end) != 0 || written != out_length ||
        end != hex + hex_length)
        return STATUS_INVALID;
    return STATUS_OK;
}

void crypto_curve_keypair(uint8_t public_key[CURVE_KEY_BYTES], uint8_t secret_key[CURVE_KEY_BYTES])
{
    /* libzmq's own zmq_curve_keypair makes this call too. */
    int failed = crypto_box_keypair(public_key, secret_key);
    CHECK(!failed);
}

void crypto_curve_public(uint8_t public_key[CURVE_KEY_BYTES], const uint8_t secret_key[CURVE_KEY_BYTES])
{
    int made = crypto_scalarmult_base(public_key, secret_key);
    CHECK(made == 0); /* fails for no input */
}

/* Z85 (ZeroMQ RFC 32): four bytes, big-endian, are five digits in base 85. */
static const char z85_digits[86] =
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

void crypto_z85_encode(char out[CURVE_TEXT_BYTES], const uint8_t key[CURVE_KEY_BYTES])
{
    for (size_t group = 0; group < CURVE_KEY_BYTES / 4; group++) {
        const uint8_t *from = key + group * 4;
        uint32_t value = (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
        for (size_t digit = 5; digit-- > 0; value /= 85)
            out[group * 5 + digit] = z85_digits[value % 85];
    }
    out[CURVE_TEXT_BYTES - 1] = '\0';
}

enum status crypto_z85_decode(uint8_t key[CURVE_KEY_BYTES], const char *text)
{
    if (strlen(text) != CURVE_TEXT_BYTES - 1)
        return STATUS_INVALID;
    uint8_t decoded[CURVE_KEY_BYTES];
    for (size_t group = 0; group < CURVE_KEY_BYTES / 4; group++) {
        uint64_t value = 0;
        for (size_t digit = 0; digit < 5; digit++) {
            const char *found = memchr(z85_digits, text[group * 5 + digit], 85);
            if (found == NULL)
                return STATUS_INVALID;
            value = value * 85 + (uint64_t)(found - z85_digits);
        }
        if (value > UINT32_MAX)
            return STATUS_INVALID;
        for (size_t byte = 0; byte < 4; byte++)
            decoded[group * 4 + byte] = (uint8_t)(value >> (24 - 8 * byte));
    }
    memcpy(key, decoded, sizeof decoded);
    sodium_memzero(decoded, sizeof decoded);
    return STATUS_OK;
}
