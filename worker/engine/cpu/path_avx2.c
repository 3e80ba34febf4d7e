/* path_avx2: not written yet. */
#include "worker/engine/cpu/cpu.h"

const struct backend *cpu_table_avx2(void)
{
    return NULL;
}
