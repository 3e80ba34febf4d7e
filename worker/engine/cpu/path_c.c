/* path_c: the kernels in plain C: runs everywhere, and is the oracle of the vector paths. */
#include "worker/engine/cpu/vec_c.h"

#define KERNEL_PATH_NAME "c"
#include "worker/engine/cpu/kernels.h"

#include "worker/engine/cpu/cpu.h"

const struct backend *cpu_table_c(void)
{
    return &kernel_table;
}
