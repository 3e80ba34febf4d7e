/* path_avx512: the kernels with AVX-512 (F, BW, DQ, VL, VNNI); this file alone is compiled with them. */
#include "worker/engine/cpu/cpu.h"

#if defined(__x86_64__)
#include "worker/engine/cpu/vec_avx512.h"

#define KERNEL_PATH_NAME "avx512"
#include "worker/engine/cpu/kernels.h"

const struct backend *cpu_table_avx512(void)
{
    return &kernel_table;
}
#else
const struct backend *cpu_table_avx512(void)
{
    return NULL;
}
#endif
