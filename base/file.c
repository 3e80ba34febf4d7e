/* file: see file.h. Plain POSIX calls; EINTR is retried where it can happen. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"

static enum status status_of_errno(int errno_value)
{
    switch (errno_value) {
    case ENOENT:
    case ENOTDIR:
        return STATUS_NOT_FOUND;
    case EACCES:
    case EPERM:
        return STATUS_DENIED;
    case EEXIST:
        return STATUS_EXISTS;
    case ENOMEM:
        return STATUS_NO_MEMORY;
    default:
        return STATUS_IO;
    }
}

static enum status fail(struct error *error, const char *what, const char *path)
{
    int errno_value = errno;
    return error_set_errno(error, status_of_errno(errno_value), errno_value, "can't %s %s", what, path);
}

/* A descriptor for reading, its stat in *info; -1, and why in *status and *error. Refuses folders, and with `regular`
 * whatever isn't a regular file. */
static int open_read(const char *path, bool regular, struct stat *info, enum status *status, struct error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        *status = fail(error, "open", path);
        return -1;
    }
    if (fstat(fd, info) != 0)
        *status = fail(error, "stat", path);
    else if (S_ISDIR(info->st_mode) || (regular && !S_ISREG(info->st_mode)))
        *status = error_set(error, STATUS_INVALID, "%s is not a regular file", path);
    else
        return fd;
    close(fd);
    return -1;
}

/* Whether the file ends here; a byte more than was allowed is an error. */
static enum status expect_end(int fd, const char *path, size_t allowed, struct error *error)
{
    char byte;
    ssize_t got;
    do {
        got = read(fd, &byte, 1);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return fail(error, "read", path);
    return got == 0 ? STATUS_OK : error_set(error, STATUS_LIMIT, "%s is longer than %zu bytes", path, allowed);
}

/* Appends the rest of `fd` to `out`. `hint` is a guess at its size: files in /proc say 0, and a file may grow while it
 * is read. */
static enum status read_all(int fd, const char *path, size_t length_max, size_t hint, struct buf *out,
                            struct error *error)
{
    size_t allowed = MIN_OF(length_max, out->max - out->length), total = 0;
    while (total < allowed) {
        size_t wanted = MIN_OF(hint > total ? hint - total : MAX_OF(total, (size_t)4096), allowed - total);
        uint8_t *to = buf_reserve(out, wanted);
        if (to == NULL)
            return error_set(error, STATUS_LIMIT, "the buffer for %s has overflowed before", path);
        ssize_t got = read(fd, to, wanted);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail(error, "read", path);
        if (got == 0)
            return STATUS_OK;
        out->length += (size_t)got;
        total += (size_t)got;
    }
    return expect_end(fd, path, allowed, error);
}

enum status file_read(const char *path, size_t length_max, struct buf *out, struct error *error)
{
    struct stat info;
    enum status status = STATUS_OK;
    int fd = open_read(path, false, &info, &status, error);
    if (fd < 0)
        return status;
    size_t start = out->length;
    status = read_all(fd, path, length_max, (size_t)info.st_size, out, error);
    close(fd);
    if (status != STATUS_OK)
        out->length = start;
    if (out->data != NULL)
        out->data[out->length] = 0;
    return status;
}

static enum status write_all(int fd, struct bytes content, const char *path, struct error *error)
{
    size_t written = 0;
    while (written < content.length) {
        ssize_t count = write(fd, content.data + written, content.length - written);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail(error, "write", path);
        written += (size_t)count;
    }
    return STATUS_OK;
}

/* A rename is durable only when the folder that holds the name is. */
static enum status sync_folder_of(const char *path, struct error *error)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL ? mem_strdup(".") : mem_strndup(path, slash == path ? 1 : (size_t)(slash - path));
    enum status status = STATUS_OK;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        status = fail(error, "sync the folder", folder);
    if (fd >= 0)
        close(fd);
    mem_free(folder);
    return status;
}

enum status file_write_atomic(const char *path, struct bytes content, unsigned mode, struct error *error)
{
    struct buf neighbour;
    buf_init(&neighbour, strlen(path) + 8);
    buf_printf(&neighbour, "%s.XXXXXX", path);
    char *temporary = (char *)neighbour.data;
    enum status status;
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) {
        status = fail(error, "create a file beside", path);
        buf_free(&neighbour);
        return status;
    }
    status = write_all(fd, content, path, error);
    if (status == STATUS_OK && fchmod(fd, mode) != 0)
        status = fail(error, "set the mode of", path);
    if (status == STATUS_OK && fsync(fd) != 0)
        status = fail(error, "sync", path);
    if (close(fd) != 0 && status == STATUS_OK)
        status = fail(error, "close", path);
    if (status == STATUS_OK && rename(temporary, path) != 0)
        status = fail(error, "rename a new file to", path);
    if (status != STATUS_OK)
        unlink(temporary);
    else
        status = sync_folder_of(path, error);
    buf_free(&neighbour);
    return status;
}

static enum status make_dir(const char *path, unsigned mode, struct error *error)
{
    if (mkdir(path, mode) == 0 || (errno == EEXIST && file_is_dir(path)))
        return STATUS_OK;
    return fail(error, "make the folder", path);
}

enum status file_make_dirs(const char *path, unsigned mode, struct error *error)
{
    char *whole = mem_strdup(path);
    enum status status = STATUS_OK;
    for (char *slash = whole + 1; *whole != '\0' && status == STATUS_OK; slash++) {
        slash = strchrnul(slash, '/');
        char kept = *slash;
        *slash = '\0';
        status = make_dir(whole, mode, error);
        *slash = kept;
        if (kept == '\0')
            break;
    }
    mem_free(whole);
    return status;
}

bool file_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

bool file_is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

enum status file_map(const char *path, struct file_map *out, struct error *error)
{
    struct stat info;
    enum status status = STATUS_OK;
    int fd = open_read(path, true, &info, &status, error);
    if (fd < 0)
        return status;
    if (info.st_size == 0) {
        close(fd);
        return error_set(error, STATUS_INVALID, "%s is empty", path);
    }
    void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        status = fail(error, "map", path);
    close(fd);
    if (status == STATUS_OK)
        *out = (struct file_map){data, (size_t)info.st_size};
    return status;
}

void file_unmap(struct file_map *map)
{
    if (map->data != NULL) {
        int unmapped = munmap((void *)(uintptr_t)map->data, map->length);
        CHECK(unmapped == 0);
    }
    *map = (struct file_map){0};
}

char *file_join(const char *folder, const char *name)
{
    size_t folder_length = strlen(folder), name_length = strlen(name);
    while (folder_length > 1 && folder[folder_length - 1] == '/')
        folder_length--;
    bool needs_slash = folder_length > 0 && folder[folder_length - 1] != '/';
    char *path = mem_alloc(folder_length + needs_slash + name_length + 1);
    memcpy(path, folder, folder_length);
    if (needs_slash)
        path[folder_length] = '/';
    memcpy(path + folder_length + needs_slash, name, name_length);
    return path;
}

enum status file_lock(const char *path, int *fd, struct error *error)
{
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0)
        return fail(error, "open", path);
    if (flock(file, LOCK_EX | LOCK_NB) != 0) {
        bool taken = errno == EWOULDBLOCK;
        enum status status = fail(error, "lock", path);
        close(file);
        return taken ? error_set(error, STATUS_BUSY, "another process holds %s", path) : status;
    }
    *fd = file;
    return STATUS_OK;
}

uint64_t file_raise_open_max(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 0;
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        return before;
    return limit.rlim_cur;
}
