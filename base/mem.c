/* mem: the allocator's front. See mem.h for which call may fail and which may not.
 *
 * Over libc's allocator, so sanitizers and valgrind see every block. The fault hook counts only mem_try_* calls:
 * those are the ones whose failure a caller must survive. */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Calls until mem_try_* fails once; negative: off. */
static atomic_long fail_countdown = -1;

static _Noreturn void out_of_memory(size_t size)
{
    char text[96];
    int length = snprintf(text, sizeof text, "out of memory: could not allocate %zu bytes; ending\n", size);
    if (length > 0) {
        ssize_t ignored = write(STDERR_FILENO, text, (size_t)length);
        (void)ignored;
    }
    abort();
}

static void *allocate(size_t size)
{
    return calloc(1, size == 0 ? 1 : size);
}

void *mem_alloc(size_t size)
{
    void *pointer = allocate(size);
    if (pointer == NULL)
        out_of_memory(size);
    return pointer;
}

void *mem_alloc_array(size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        out_of_memory(SIZE_MAX);
    return mem_alloc(total);
}

void *mem_realloc_array(void *old, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        out_of_memory(SIZE_MAX);
    void *pointer = realloc(old, total == 0 ? 1 : total);
    if (pointer == NULL)
        out_of_memory(total);
    return pointer;
}

/* True once, at the call that mem_fail_after chose. */
static int must_fail(void)
{
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) < 0)
        return 0;
    return atomic_fetch_sub(&fail_countdown, 1) == 0;
}

void *mem_try_alloc(size_t size)
{
    return must_fail() ? NULL : allocate(size);
}

void *mem_try_alloc_array(size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    return mem_try_alloc(total);
}

char *mem_strdup(const char *text)
{
    return mem_dup(text, strlen(text) + 1);
}

char *mem_strndup(const char *text, size_t length)
{
    size_t copied = strnlen(text, length);
    char *copy = mem_alloc(copied + 1);
    memcpy(copy, text, copied);
    return copy;
}

void *mem_dup(const void *bytes, size_t length)
{
    void *copy = mem_alloc(length);
    if (length > 0)
        memcpy(copy, bytes, length);
    return copy;
}

void mem_free(void *pointer)
{
    free(pointer);
}

void mem_fail_after(long calls)
{
    atomic_store(&fail_countdown, calls);
}
