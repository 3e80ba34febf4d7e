/* temp_folder: a fresh folder for one test, and the bytes of the files in it. */
#ifndef SHOAL_TESTS_UNIT_COORDINATOR_TEMP_FOLDER_H
#define SHOAL_TESTS_UNIT_COORDINATOR_TEMP_FOLDER_H

#include <stddef.h>

#include "base/buf.h"

struct temp_folder {
    char path[128]; /* under TMPDIR or /tmp */
};

void temp_folder_make(struct temp_folder *folder);
void temp_folder_remove(const struct temp_folder *folder); /* with everything in it */
/* The last file, by name, that begins with `prefix`; fails the test when there is none. */
void temp_folder_find(const char *folder, const char *prefix, char name[64]);
void temp_folder_read(const char *folder, const char *name, struct buf *out);
void temp_folder_write(const char *folder, const char *name, const void *data, size_t length);

#endif
