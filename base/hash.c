/* hash: xxHash behind one function, and CRC-32C (polynomial 0x1EDC6F41, reflected 0x82F63B78; RFC 3720 appendix B.4).
 *
 * The CRC runs on SSE4.2's instruction where the CPU has it (looked up once), else byte by byte from a table. */
#include "base/hash.h"

#include <string.h>
#include <xxhash.h>

#include "base/bytes.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

uint64_t hash_xx64(const void *data, size_t length, uint64_t seed)
{
    return XXH3_64bits_withSeed(length == 0 ? "" : data, length, seed);
}

static uint32_t crc_table[256];

static uint32_t crc_by_table(uint32_t crc, const uint8_t *data, size_t length)
{
    for (size_t i = 0; i < length; i++)
        crc = crc >> 8 ^ crc_table[(crc ^ data[i]) & 0xff];
    return crc;
}

static uint32_t (*crc_run)(uint32_t crc, const uint8_t *data, size_t length) = crc_by_table;

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_by_sse42(uint32_t crc, const uint8_t *data, size_t length)
{
    uint64_t wide = crc;
    for (; length >= 8; data += 8, length -= 8)
        wide = _mm_crc32_u64(wide, load_u64le(data));
    crc = (uint32_t)wide;
    for (; length > 0; data++, length--)
        crc = _mm_crc32_u8(crc, *data);
    return crc;
}
#endif

/* Before main, so that the choice needs no lock. */
__attribute__((constructor)) static void crc_choose(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0x82f63b78u & (0u - (crc & 1)));
        crc_table[byte] = crc;
    }
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("sse4.2"))
        crc_run = crc_by_sse42;
#endif
}

uint32_t hash_crc32c(uint32_t crc, const void *data, size_t length)
{
    return ~crc_run(~crc, data, length);
}

uint32_t hash_crc32c_plain(uint32_t crc, const void *data, size_t length)
{
    return ~crc_by_table(~crc, data, length);
}
