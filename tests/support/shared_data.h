/* shared_data: where the shared test data lies, for tests that check against data that this project did not make.
 *
 * The folder is $SHOAL_SHARED_DATA, or ../shared/data seen from the repository's root (CTest runs unit tests there).
 * Users do not have it: a test that misses it prints "SKIP name: reason" and skips. */
#ifndef SHOAL_TESTS_SUPPORT_SHARED_DATA_H
#define SHOAL_TESTS_SUPPORT_SHARED_DATA_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SHARED_DATA_PATH_MAX = 4096 };

/* False: it is not there, and `test`'s SKIP line was printed. */
static inline bool shared_data_find(const char *test, const char *name, char path[SHARED_DATA_PATH_MAX])
{
    const char *folder = getenv("SHOAL_SHARED_DATA");
    if (folder == NULL || folder[0] == 0) {
        folder = "../shared/data";
    }
    int length = snprintf(path, SHARED_DATA_PATH_MAX, "%s/%s", folder, name);
    if (length > 0 && length < SHARED_DATA_PATH_MAX && access(path, R_OK) == 0) {
        return true;
    }
    printf("SKIP %s: no shared data (%s); set SHOAL_SHARED_DATA\n", test, name);
    return false;
}

#endif
