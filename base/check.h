/* check: assertions that stay on in release builds.
 *
 * CHECK is for bugs of ours, never for input from outside (that is what `enum status` is for). A failed check prints
 * file, line and expression on stderr and aborts, so that a supervisor restarts a process that can't trust itself. */
#ifndef SHOAL_BASE_CHECK_H
#define SHOAL_BASE_CHECK_H

#include <stddef.h>

__attribute__((noreturn, cold)) void check_failed(const char *expression, const char *file, int line,
                                                  const char *function);

#define CHECK(expression)                                                                                              \
    ((__builtin_expect(!!(expression), 1)) ? (void)0 : check_failed(#expression, __FILE__, __LINE__, __func__))

#define UNREACHABLE() check_failed("unreachable", __FILE__, __LINE__, __func__)

#define COUNT_OF(array)                     (sizeof(array) / sizeof((array)[0]))
#define CONTAINER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))
#define MIN_OF(a, b)                        ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b)                        ((a) > (b) ? (a) : (b))

#endif
