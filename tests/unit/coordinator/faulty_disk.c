/* faulty_disk: see faulty_disk.h. */
#include "tests/unit/coordinator/faulty_disk.h"

static bool fails(struct faulty_disk *faulty, enum faulty_kind kind)
{
    if ((faulty->kinds & kind) == 0)
        return false;
    faulty->done++;
    if (faulty->left < 0)
        return false;
    if (faulty->left == 0)
        return true;
    faulty->left--;
    return false;
}

static enum status injected(struct error *error)
{
    return error_set(error, STATUS_IO, "injected fault");
}

static enum status faulty_create(void *context, const char *folder, const char *name, int *file, struct error *error)
{
    const struct disk *disk = disk_posix();
    return fails(context, FAULTY_CREATE) ? injected(error) : disk->create(disk->context, folder, name, file, error);
}

static enum status faulty_write(void *context, int file, uint64_t offset, struct bytes bytes, struct error *error)
{
    const struct disk *disk = disk_posix();
    return fails(context, FAULTY_WRITE) ? injected(error) : disk->write(disk->context, file, offset, bytes, error);
}

static enum status faulty_sync(void *context, int file, struct error *error)
{
    (void)file;
    return fails(context, FAULTY_SYNC) ? injected(error) : STATUS_OK;
}

static enum status faulty_rename(void *context, const char *folder, const char *from, const char *to,
                                 struct error *error)
{
    const struct disk *disk = disk_posix();
    return fails(context, FAULTY_RENAME) ? injected(error) : disk->rename(disk->context, folder, from, to, error);
}

static enum status faulty_sync_folder(void *context, const char *folder, struct error *error)
{
    (void)folder;
    return fails(context, FAULTY_SYNC) ? injected(error) : STATUS_OK;
}

void faulty_disk_init(struct faulty_disk *faulty)
{
    *faulty = (struct faulty_disk){.disk = *disk_posix(), .kinds = FAULTY_ALL, .left = -1};
    faulty->disk.context = faulty;
    faulty->disk.create = faulty_create;
    faulty->disk.write = faulty_write;
    faulty->disk.sync = faulty_sync;
    faulty->disk.rename = faulty_rename;
    faulty->disk.sync_folder = faulty_sync_folder;
}
