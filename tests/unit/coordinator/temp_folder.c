/* temp_folder: see temp_folder.h. */
#include "tests/unit/coordinator/temp_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/mem.h"

void temp_folder_make(struct temp_folder *folder)
{
    const char *where = getenv("TMPDIR");
    snprintf(folder->path, sizeof folder->path, "%s/shoal-test-XXXXXX", where != NULL ? where : "/tmp");
    CHECK(mkdtemp(folder->path) != NULL);
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info;
    (void)kind;
    (void)walk;
    return remove(path);
}

void temp_folder_remove(const struct temp_folder *folder)
{
    nftw(folder->path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

void temp_folder_find(const char *folder, const char *prefix, char name[64])
{
    DIR *dir = opendir(folder);
    CHECK(dir != NULL);
    name[0] = 0;
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0 && strcmp(entry->d_name, name) > 0)
            snprintf(name, 64, "%.63s", entry->d_name);
    }
    closedir(dir);
    CHECK(name[0] != 0);
}

void temp_folder_read(const char *folder, const char *name, struct buf *out)
{
    char *path = file_join(folder, name);
    buf_clear(out);
    CHECK(file_read(path, out->max, out, NULL) == STATUS_OK);
    mem_free(path);
}

void temp_folder_write(const char *folder, const char *name, const void *data, size_t length)
{
    char *path = file_join(folder, name);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(file >= 0);
    CHECK(write(file, data, length) == (ssize_t)length);
    close(file);
    mem_free(path);
}
