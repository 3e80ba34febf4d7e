/* check: the end of a process whose invariants broke.
 *
 * Writes with write(2) only, so that it works from any thread and state; then aborts, which leaves a core dump where
 * the host keeps them and tells the supervisor that this was no clean exit. */
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void check_failed(const char *expression, const char *file, int line, const char *function)
{
    char text[512];
    int length = snprintf(text, sizeof text, "%s:%d: %s: check failed: %s\n", file, line, function, expression);
    if (length > (int)sizeof text - 1)
        length = (int)sizeof text - 1;
    if (length > 0) {
        ssize_t ignored = write(STDERR_FILENO, text, (size_t)length);
        (void)ignored;
    }
    abort();
}
