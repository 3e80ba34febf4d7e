/* path_avx512: not written yet. */
#include "worker/engine/cpu/cpu.h"

const struct backend *cpu_table_avx512(void)
{
    return NULL;
}
