/* cpu: finds out what the CPU and the operating system allow (cpuid, xgetbv) and hands out the kernel tables.
 *
 * Owns nothing; the tables are constants. Fails only when a path was named that is not there. */
#include "worker/engine/cpu/cpu.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

enum {
    LEAF1_ECX_FMA = 1u << 12,
    LEAF1_ECX_OSXSAVE = 1u << 27,
    LEAF1_ECX_AVX = 1u << 28,
    LEAF1_ECX_F16C = 1u << 29,
    LEAF7_EBX_AVX2 = 1u << 5,
    LEAF7_EBX_AVX512F = 1u << 16,
    LEAF7_EBX_AVX512DQ = 1u << 17,
    LEAF7_EBX_AVX512BW = 1u << 30,
    LEAF7_ECX_AVX512VNNI = 1u << 11,
    XCR0_SSE_AVX = 0x6,
    XCR0_AVX512 = 0xe6,
    MXCSR_DAZ_FTZ = 0x8040
};
static const unsigned LEAF7_EBX_AVX512VL = 1u << 31;

static uint64_t xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* Bits that the CPU and the kernel both allow. */
static void detect(bool *avx2, bool *avx512)
{
    unsigned a, b, c, d;
    *avx2 = *avx512 = false;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return;
    const unsigned need1 = LEAF1_ECX_FMA | LEAF1_ECX_OSXSAVE | LEAF1_ECX_AVX | LEAF1_ECX_F16C;
    if ((c & need1) != need1 || (xcr0() & XCR0_SSE_AVX) != XCR0_SSE_AVX)
        return;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return;
    *avx2 = (b & LEAF7_EBX_AVX2) != 0;
    const unsigned need7 = LEAF7_EBX_AVX512F | LEAF7_EBX_AVX512DQ | LEAF7_EBX_AVX512BW | LEAF7_EBX_AVX512VL;
    *avx512 = *avx2 && (b & need7) == need7 && (c & LEAF7_ECX_AVX512VNNI) != 0 && (xcr0() & XCR0_AVX512) == XCR0_AVX512;
}

unsigned cpu_float_mode(void)
{
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | MXCSR_DAZ_FTZ);
    return before;
}

void cpu_float_restore(unsigned mode)
{
    _mm_setcsr(mode);
}
#else
static void detect(bool *avx2, bool *avx512)
{
    *avx2 = *avx512 = false;
}

unsigned cpu_float_mode(void)
{
    return 0;
}

void cpu_float_restore(unsigned mode)
{
    (void)mode;
}
#endif

size_t cpu_backends(const struct backend *out[], size_t out_max)
{
    bool avx2, avx512;
    detect(&avx2, &avx512);
    const struct backend *have[] = {cpu_table_c(), avx2 ? cpu_table_avx2() : NULL, avx512 ? cpu_table_avx512() : NULL};
    size_t count = 0;
    for (size_t i = 0; i < COUNT_OF(have) && count < out_max; i++) {
        if (have[i] != NULL)
            out[count++] = have[i];
    }
    return count;
}

enum status cpu_backend(const char *name, const struct backend **out, struct error *error)
{
    static const char *const known[] = {"c", "avx2", "avx512"};
    const struct backend *have[COUNT_OF(known)];
    size_t count = cpu_backends(have, COUNT_OF(known));
    CHECK(count > 0);
    if (name == NULL || name[0] == '\0')
        name = getenv("SHOAL_CPU");
    if (name == NULL || name[0] == '\0') {
        *out = have[count - 1];
        return STATUS_OK;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(have[i]->name, name) == 0) {
            *out = have[i];
            return STATUS_OK;
        }
    }
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (strcmp(known[i], name) == 0)
            return error_set(error, STATUS_UNSUPPORTED,
                             "The CPU path %s needs instructions that this machine does not have; the best here is %s.",
                             name, have[count - 1]->name);
    }
    return error_set(error, STATUS_INVALID, "There is no CPU path '%s'; it is c, avx2 or avx512.", name);
}
