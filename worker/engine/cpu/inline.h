/* inline: how kernel code is forced inline and unrolled; shared by the paths. */
#ifndef SHOAL_WORKER_ENGINE_CPU_INLINE_H
#define SHOAL_WORKER_ENGINE_CPU_INLINE_H

#define KERNEL_INLINE static inline __attribute__((always_inline))

#if defined(__clang__)
#define KERNEL_UNROLL _Pragma("clang loop unroll(full)")
#define KERNEL_ROLLED _Pragma("clang loop unroll(disable)")
#else
#define KERNEL_UNROLL _Pragma("GCC unroll 16")
#define KERNEL_ROLLED _Pragma("GCC unroll 1")
#endif

#endif
