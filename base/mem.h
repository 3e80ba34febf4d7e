/* mem: allocation that either succeeds or ends the process, and the fault hook for tests.
 *
 * Small, bounded allocations use mem_new/mem_alloc: running out there ends the process with a clear line (a serving
 * process without memory for a few kilobytes can't degrade gracefully; its supervisor and the routers' failover can).
 * Sizes that come from outside go through mem_try_alloc after they were checked, and fail with STATUS_NO_MEMORY.
 * mem_fail_after(n) lets a test make one mem_try_* call fail: the one behind the next n. Thread-safe. */
#ifndef SHOAL_BASE_MEM_H
#define SHOAL_BASE_MEM_H

#include <stddef.h>

void *mem_alloc(size_t size);                     /* zeroed; never NULL (size 0 gives a unique pointer) */
void *mem_alloc_array(size_t count, size_t size); /* zeroed; checks the product */
void *mem_realloc_array(void *old, size_t count, size_t size);
void *mem_try_alloc(size_t size); /* zeroed; NULL when there is none */
void *mem_try_alloc_array(size_t count, size_t size);
char *mem_strdup(const char *text);
char *mem_strndup(const char *text, size_t length);
void *mem_dup(const void *bytes, size_t length);
void mem_free(void *pointer);    /* NULL is fine */
void mem_fail_after(long calls); /* tests only; negative switches it off */

#define mem_new(type)              ((type *)mem_alloc(sizeof(type)))
#define mem_new_array(type, count) ((type *)mem_alloc_array((count), sizeof(type)))

#endif
