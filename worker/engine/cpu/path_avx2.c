/* path_avx2: the kernels with AVX2, FMA and F16C; this file alone is compiled with them. */
#include "worker/engine/cpu/cpu.h"

#if defined(__x86_64__)
#include "worker/engine/cpu/vec_avx2.h"

#define KERNEL_PATH_NAME "avx2"
#include "worker/engine/cpu/kernels.h"

const struct backend *cpu_table_avx2(void)
{
    return &kernel_table;
}
#else
const struct backend *cpu_table_avx2(void)
{
    return NULL;
}
#endif
