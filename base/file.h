/* file: whole files in and out, folders, and read-only mappings.
 *
 * file_write_atomic writes a neighbour, syncs it, renames it and syncs the folder: after a crash either the old or the
 * new file is there, whole. Paths are byte strings; errors name the path. Blocking: not for a loop's thread except at
 * start and for small state files. */
#ifndef SHOAL_BASE_FILE_H
#define SHOAL_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/status.h"

struct file_map {
    const uint8_t *data;
    size_t length;
};

MUST_CHECK enum status file_read(const char *path, size_t length_max, struct buf *out, struct error *error);
MUST_CHECK enum status file_write_atomic(const char *path, struct bytes content, unsigned mode, struct error *error);
MUST_CHECK enum status file_make_dirs(const char *path, unsigned mode, struct error *error); /* like mkdir -p */
bool file_exists(const char *path);
bool file_is_dir(const char *path);
MUST_CHECK enum status file_map(const char *path, struct file_map *out, struct error *error); /* empty files: INVALID */
void file_unmap(struct file_map *map);
char *file_join(const char *folder, const char *name); /* a new string: mem_free */
/* Takes the lock file `path` (made when absent) for as long as this process lives; *fd is its descriptor,
 * close-on-exec. STATUS_BUSY: another process has it. */
MUST_CHECK enum status file_lock(const char *path, int *fd, struct error *error);
/* Replaces the calling process's limit of open files by its hard limit; returns what is in force. */
uint64_t file_raise_open_max(void);

#endif
