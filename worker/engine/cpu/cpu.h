/* cpu: the CPU's kernel tables and which of them this machine runs.
 *
 * Three paths compute the same bits: "c" (plain C, the reference), "avx2" (AVX2, FMA, F16C) and "avx512" (F, BW, VL,
 * VNNI). The best that CPU and kernel allow is taken at run time; SHOAL_CPU or the caller may name another. */
#ifndef SHOAL_WORKER_ENGINE_CPU_CPU_H
#define SHOAL_WORKER_ENGINE_CPU_CPU_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "worker/engine/backend.h"

/* name: NULL for SHOAL_CPU, and failing that the best. A path that is unknown or that the machine lacks is refused by
 * name (INVALID, UNSUPPORTED). */
MUST_CHECK enum status cpu_backend(const char *name, const struct backend **out, struct error *error);
/* The paths of this machine, best last; returns how many. */
size_t cpu_backends(const struct backend *out[], size_t out_max);
/* Denormals are zero in every thread that computes. Returns what was in force, for cpu_float_restore. */
unsigned cpu_float_mode(void);
void cpu_float_restore(unsigned mode);

/* Private to cpu/: the tables; NULL where they were not compiled in. */
const struct backend *cpu_table_c(void);
const struct backend *cpu_table_avx2(void);
const struct backend *cpu_table_avx512(void);

#endif
