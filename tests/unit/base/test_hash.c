/* Tests of base/hash: RFC 3720's CRC-32C vectors, the fast path against the plain one, and xxHash's empty input. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/hash.h"
#include "base/rng.h"

static void crc32c_vectors(void **state)
{
    (void)state;
    uint8_t data[32];
    assert_true(hash_crc32c(0, "123456789", 9) == 0xe3069283);
    assert_true(hash_crc32c(0, "", 0) == 0);
    memset(data, 0, sizeof data);
    assert_true(hash_crc32c(0, data, sizeof data) == 0x8a9136aa);
    memset(data, 0xff, sizeof data);
    assert_true(hash_crc32c(0, data, sizeof data) == 0x62a8ab43);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)i;
    assert_true(hash_crc32c(0, data, sizeof data) == 0x46dd794e);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(31 - i);
    assert_true(hash_crc32c(0, data, sizeof data) == 0x113fdb5c);
    assert_true(hash_crc32c_plain(0, data, sizeof data) == 0x113fdb5c);
}

/* Every length, alignment and cut gives the same sum on both paths. */
static void crc32c_paths_agree(void **state)
{
    (void)state;
    uint8_t data[300];
    struct rng rng;
    rng_init(&rng, 3);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)rng_u64(&rng);
    for (size_t start = 0; start < 9; start++) {
        for (size_t length = 0; length <= sizeof data - start; length++) {
            uint32_t whole = hash_crc32c_plain(0, data + start, length);
            assert_true(hash_crc32c(0, data + start, length) == whole);
            size_t cut = (size_t)rng_below(&rng, length + 1);
            uint32_t head = hash_crc32c(0, data + start, cut);
            assert_true(hash_crc32c(head, data + start + cut, length - cut) == whole);
        }
    }
}

static void xx64(void **state)
{
    (void)state;
    assert_true(hash_xx64("", 0, 0) == 0x2d06800538d394c2u);
    assert_true(hash_xx64(NULL, 0, 0) == hash_xx64("", 0, 0));
    assert_true(hash_xx64("a", 1, 0) != hash_xx64("a", 1, 1));
    assert_true(hash_xx64("a", 1, 0) != hash_xx64("b", 1, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_vectors),
        cmocka_unit_test(crc32c_paths_agree),
        cmocka_unit_test(xx64),
    };
    return cmocka_run_group_tests_name("base.hash", tests, NULL, NULL);
}
