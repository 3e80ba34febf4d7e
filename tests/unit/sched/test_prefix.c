/* Promises of sched/prefix: a block's name depends on everything that decides its content and on the tenant's key. */
#include "tests/unit/sched/support.h"

#include "base/crypto.h"
#include "sched/prefix.h"

static void test_the_layout_is_fixed(void **state)
{
    (void)state;
    /* Routers and engines of different builds meet: the bytes that are hashed never change silently. */
    uint8_t parent[16] = {0}, key[32] = {1}, salt[32] = {2}, out[16];
    uint32_t ids[16];
    uint8_t message[112] = {0};
    message[16] = 2;
    for (uint32_t i = 0; i < 16; i++) {
        ids[i] = 0x01020304u + i;
        message[48 + 4 * i] = (uint8_t)(4 + i);
        message[49 + 4 * i] = 3;
        message[50 + 4 * i] = 2;
        message[51 + 4 * i] = 1;
    }
    uint8_t expected[32];
    crypto_blake2b(expected, bytes_of(key, 32), &(struct bytes){message, sizeof(message)}, 1);
    prefix_hash_next(out, parent, key, salt, ids);
    assert_memory_equal(out, expected, 16);
}

static void test_every_input_matters(void **state)
{
    (void)state;
    uint8_t parent[16] = {0}, key[32] = {0}, salt[32] = {0}, base[16], out[16];
    uint32_t ids[16] = {0};
    prefix_hash_next(base, parent, key, salt, ids);
    parent[15] = 1;
    prefix_hash_next(out, parent, key, salt, ids);
    assert_memory_not_equal(out, base, 16);
    parent[15] = 0, key[31] = 1;
    prefix_hash_next(out, parent, key, salt, ids);
    assert_memory_not_equal(out, base, 16);
    key[31] = 0, salt[31] = 1;
    prefix_hash_next(out, parent, key, salt, ids);
    assert_memory_not_equal(out, base, 16);
    salt[31] = 0, ids[15] = 1;
    prefix_hash_next(out, parent, key, salt, ids);
    assert_memory_not_equal(out, base, 16);
}

static void test_tenants_and_models_have_keys_of_their_own(void **state)
{
    (void)state;
    uint8_t a[32], b[32], secret[32] = {5};
    prefix_cache_key(a, secret, "smollm2-135m-instruct");
    prefix_cache_key(b, secret, "stories260k");
    assert_memory_not_equal(a, b, 32);
    secret[0] = 6;
    prefix_cache_key(b, secret, "smollm2-135m-instruct");
    assert_memory_not_equal(a, b, 32);
}

int main(void)
{
    if (crypto_init() != STATUS_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_layout_is_fixed),
        cmocka_unit_test(test_every_input_matters),
        cmocka_unit_test(test_tenants_and_models_have_keys_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
