/* disk: see disk.h. The file system's side: plain POSIX calls that retry what a signal interrupted. */
#include "coordinator/consensus/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/mem.h"

enum { FILE_MODE = 0600, FOLDER_MODE = 0700 };

static const char lock_name[] = "lock";

static enum status fail(struct error *error, const char *what, const char *folder, const char *name)
{
    int errno_value = errno;
    enum status status = errno_value == ENOENT ? STATUS_NOT_FOUND : STATUS_IO;
    return error_set_errno(error, status, errno_value, "can't %s %s/%s", what, folder, name);
}

static enum status posix_sync_folder(void *context, const char *folder, struct error *error);

static enum status posix_make_folder(void *context, const char *folder, struct error *error)
{
    enum status status = file_make_dirs(folder, FOLDER_MODE, error);
    if (status != STATUS_OK)
        return status;
    char *parent = file_join(folder, "..");
    status = posix_sync_folder(context, parent, error);
    mem_free(parent);
    return status;
}

static int open_in(const char *folder, const char *name, int flags)
{
    char *path = file_join(folder, name);
    int file;
    do {
        file = open(path, flags | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
    } while (file < 0 && errno == EINTR);
    int errno_value = errno;
    mem_free(path);
    errno = errno_value;
    return file;
}

static enum status posix_lock(void *context, const char *folder, int *handle, struct error *error)
{
    (void)context;
    int file = open_in(folder, lock_name, O_RDWR | O_CREAT);
    if (file < 0)
        return fail(error, "open", folder, lock_name);
    if (flock(file, LOCK_EX | LOCK_NB) != 0) {
        bool taken = errno == EWOULDBLOCK;
        enum status status = fail(error, "lock", folder, lock_name);
        close(file);
        return taken ? error_set(error, STATUS_BUSY, "another process uses %s", folder) : status;
    }
    *handle = file;
    return STATUS_OK;
}

static void posix_close(void *context, int file)
{
    (void)context;
    close(file);
}

static enum status posix_list(void *context, const char *folder, disk_list_cb each, void *each_context,
                              struct error *error)
{
    (void)context;
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return fail(error, "list", folder, "");
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL)
            break;
        if (entry->d_name[0] != '.' && strlen(entry->d_name) < DISK_NAME_MAX)
            each(each_context, entry->d_name);
    }
    enum status status = errno == 0 ? STATUS_OK : fail(error, "list", folder, "");
    closedir(dir);
    return status;
}

static enum status posix_read(void *context, const char *folder, const char *name, size_t length_max, struct buf *out,
                              struct error *error)
{
    (void)context;
    char *path = file_join(folder, name);
    enum status status = file_read(path, length_max, out, error);
    mem_free(path);
    return status;
}

static enum status posix_create(void *context, const char *folder, const char *name, int *file, struct error *error)
{
    (void)context;
    *file = open_in(folder, name, O_WRONLY | O_CREAT | O_TRUNC);
    return *file < 0 ? fail(error, "create", folder, name) : STATUS_OK;
}

static enum status posix_open(void *context, const char *folder, const char *name, int *file, struct error *error)
{
    (void)context;
    *file = open_in(folder, name, O_WRONLY);
    return *file < 0 ? fail(error, "open", folder, name) : STATUS_OK;
}

static enum status posix_write(void *context, int file, uint64_t offset, struct bytes bytes, struct error *error)
{
    (void)context;
    for (size_t done = 0; done < bytes.length;) {
        ssize_t wrote = pwrite(file, bytes.data + done, bytes.length - done, (off_t)(offset + done));
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return error_set_errno(error, STATUS_IO, wrote < 0 ? errno : ENOSPC, "can't write the log");
        done += (size_t)wrote;
    }
    return STATUS_OK;
}

/* fdatasync is not retried on EINTR: after any failure the kernel may have dropped the dirty pages and forgotten. */
static enum status posix_sync(void *context, int file, struct error *error)
{
    (void)context;
    struct stat info;
    if (fdatasync(file) != 0)
        return error_set_errno(error, STATUS_IO, errno, "can't sync the log");
    if (fstat(file, &info) != 0)
        return error_set_errno(error, STATUS_IO, errno, "can't stat the log");
    if (info.st_nlink == 0)
        return error_set(error, STATUS_IO, "the log's file was removed under the running process");
    return STATUS_OK;
}

static enum status posix_rename(void *context, const char *folder, const char *from, const char *to,
                                struct error *error)
{
    (void)context;
    char *from_path = file_join(folder, from);
    char *to_path = file_join(folder, to);
    enum status status = rename(from_path, to_path) == 0 ? STATUS_OK : fail(error, "rename", folder, from);
    mem_free(from_path);
    mem_free(to_path);
    return status;
}

static enum status posix_remove(void *context, const char *folder, const char *name, struct error *error)
{
    (void)context;
    char *path = file_join(folder, name);
    enum status status = unlink(path) == 0 ? STATUS_OK : fail(error, "remove", folder, name);
    mem_free(path);
    return status;
}

static enum status posix_sync_folder(void *context, const char *folder, struct error *error)
{
    (void)context;
    int file = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0)
        return fail(error, "open", folder, "");
    enum status status = fsync(file) == 0 ? STATUS_OK : fail(error, "sync", folder, "");
    close(file);
    return status;
}

const struct disk *disk_posix(void)
{
    static const struct disk disk = {
        .make_folder = posix_make_folder,
        .lock = posix_lock,
        .unlock = posix_close,
        .list = posix_list,
        .read = posix_read,
        .create = posix_create,
        .open = posix_open,
        .write = posix_write,
        .sync = posix_sync,
        .close = posix_close,
        .rename = posix_rename,
        .remove = posix_remove,
        .sync_folder = posix_sync_folder,
    };
    return &disk;
}
