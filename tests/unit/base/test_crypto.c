/* Tests of base/crypto: published vectors for each primitive, and refusal of texts that are no keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/crypto.h"

static int set_up(void **state)
{
    (void)state;
    return crypto_init() == STATUS_OK && crypto_init() == STATUS_OK ? 0 : -1;
}

static void assert_hex(const void *data, size_t length, const char *expected)
{
    char text[129];
    crypto_hex(text, data, length);
    assert_string_equal(text, expected);
}

/* From Python's hashlib, an independent implementation. */
static void blake2b_vectors(void **state)
{
    (void)state;
    uint8_t out[CRYPTO_HASH_BYTES], key[32];
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)i;
    crypto_blake2b(out, (struct bytes){0}, NULL, 0);
    assert_hex(out, sizeof out, "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
    struct bytes parts[] = {BYTES_LITERAL("abc"), {0}, BYTES_LITERAL("def")};
    crypto_blake2b(out, (struct bytes){0}, parts, 1);
    assert_hex(out, sizeof out, "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
    crypto_blake2b(out, bytes_of(key, sizeof key), parts, 3);
    assert_hex(out, sizeof out, "4b27895482b5a5b9dc579b795d730c2adf4d190169065b22be5c1f913365c399");
}

static void sha256_vectors(void **state)
{
    (void)state;
    struct crypto_sha256 sha;
    uint8_t out[32];
    crypto_sha256_init(&sha);
    crypto_sha256_update(&sha, NULL, 0);
    crypto_sha256_update(&sha, "a", 1);
    crypto_sha256_update(&sha, "bc", 2);
    crypto_sha256_final(&sha, out);
    assert_hex(out, sizeof out, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void hex_round_trip_and_refusals(void **state)
{
    (void)state;
    uint8_t out[3];
    assert_int_equal(crypto_unhex(out, 3, "00fFa1"), STATUS_OK);
    assert_memory_equal(out, "\x00\xff\xa1", 3);
    static const char *const bad[] = {"", "00ffa", "00ffa1b", "00ffa1b2", "00fg11", "00 f11", "0x0011", NULL};
    for (size_t i = 0; bad[i] != NULL; i++)
        assert_int_equal(crypto_unhex(out, 3, bad[i]), STATUS_INVALID);
    assert_int_equal(crypto_unhex(out, 0, ""), STATUS_OK);
}

/* The key pair of libzmq's manual, zmq_curve(7). */
static void z85_vectors(void **state)
{
    (void)state;
    static const struct {
        const char *hex, *text;
    } keys[] = {
        {"bb88471d65e2659b30c55a5321cebb5aab2b70a398645c26dca2b2fcb43fc518",
         "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"},
        {"7bb864b489afa3671fbe69101f94b38972f24816dfb01b51656b3fec8dfd0888",
         "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"},
    };
    for (size_t i = 0; i < 2; i++) {
        uint8_t key[CURVE_KEY_BYTES], decoded[CURVE_KEY_BYTES];
        char text[CURVE_TEXT_BYTES];
        assert_int_equal(crypto_unhex(key, sizeof key, keys[i].hex), STATUS_OK);
        crypto_z85_encode(text, key);
        assert_string_equal(text, keys[i].text);
        assert_int_equal(crypto_z85_decode(decoded, text), STATUS_OK);
        assert_memory_equal(decoded, key, sizeof key);
    }
}

static void z85_refusals(void **state)
{
    (void)state;
    uint8_t key[CURVE_KEY_BYTES];
    char text[CURVE_TEXT_BYTES + 1];
    memset(text, '0', sizeof text);
    text[40] = '\0';
    assert_int_equal(crypto_z85_decode(key, text), STATUS_OK);
    text[7] = ' ';
    assert_int_equal(crypto_z85_decode(key, text), STATUS_INVALID);
    memset(text, '#', 40); /* 85^5 - 1 does not fit into four bytes */
    assert_int_equal(crypto_z85_decode(key, text), STATUS_INVALID);
    memset(text, '0', 41);
    text[41] = '\0';
    assert_int_equal(crypto_z85_decode(key, text), STATUS_INVALID);
    assert_int_equal(crypto_z85_decode(key, ""), STATUS_INVALID);
}

static void key_pairs_are_fresh_and_belong_together(void **state)
{
    (void)state;
    uint8_t public_a[32], secret_a[32], public_b[32], secret_b[32];
    crypto_curve_keypair(public_a, secret_a);
    crypto_curve_keypair(public_b, secret_b);
    uint8_t again[CURVE_KEY_BYTES];
    crypto_curve_public(again, secret_a);
    assert_memory_equal(again, public_a, CURVE_KEY_BYTES);
    assert_memory_not_equal(public_a, public_b, 32);
    assert_memory_not_equal(secret_a, secret_b, 32);
    assert_memory_not_equal(public_a, secret_a, 32);
}

static void equal_wipe_random(void **state)
{
    (void)state;
    uint8_t a[32], b[32], zero[32] = {0};
    crypto_random(a, sizeof a);
    crypto_random(b, sizeof b);
    assert_false(crypto_equal(a, b, sizeof a));
    assert_true(crypto_equal(a, a, sizeof a));
    crypto_entropy(b, sizeof b);
    assert_false(crypto_equal(b, zero, sizeof b));
    crypto_wipe(a, sizeof a);
    assert_true(crypto_equal(a, zero, sizeof a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blake2b_vectors),
        cmocka_unit_test(sha256_vectors),
        cmocka_unit_test(hex_round_trip_and_refusals),
        cmocka_unit_test(z85_vectors),
        cmocka_unit_test(z85_refusals),
        cmocka_unit_test(key_pairs_are_fresh_and_belong_together),
        cmocka_unit_test(equal_wipe_random),
    };
    return cmocka_run_group_tests_name("base.crypto", tests, set_up, NULL);
}
