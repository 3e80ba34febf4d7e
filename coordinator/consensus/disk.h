/* disk: the few file operations that the write-ahead log needs, as a table.
 *
 * `disk_posix` is the real one. Tests put their own in front of it that fails the nth operation; the simulator has one
 * in memory that loses what was not synced. All calls block. The log calls them from the thread that opens it and, from
 * then on, from its writer's thread only, except `read`, which may come from either.
 *
 * A status other than STATUS_OK means that the operation's outcome on the medium is unknown. `sync` must also fail when
 * the file has no name any more: bytes in an unlinked file are gone with the process, however well they are synced. */
#ifndef SHOAL_COORDINATOR_CONSENSUS_DISK_H
#define SHOAL_COORDINATOR_CONSENSUS_DISK_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/status.h"

enum { DISK_NAME_MAX = 64 };

/* Called once per regular file of a folder, in no order. */
typedef void (*disk_list_cb)(void *context, const char *name);

struct disk {
    void *context;
    enum status (*make_folder)(void *context, const char *folder, struct error *error);
    /* Holds the folder for this process until unlock (or death); BUSY when another one has it. */
    enum status (*lock)(void *context, const char *folder, int *handle, struct error *error);
    void (*unlock)(void *context, int handle);
    enum status (*list)(void *context, const char *folder, disk_list_cb each, void *each_context, struct error *error);
    enum status (*read)(void *context, const char *folder, const char *name, size_t length_max, struct buf *out,
                        struct error *error);
    enum status (*create)(void *context, const char *folder, const char *name, int *file, struct error *error);
    enum status (*open)(void *context, const char *folder, const char *name, int *file, struct error *error);
    enum status (*write)(void *context, int file, uint64_t offset, struct bytes bytes, struct error *error);
    enum status (*sync)(void *context, int file, struct error *error); /* the data, as fdatasync(2) does */
    void (*close)(void *context, int file);
    enum status (*rename)(void *context, const char *folder, const char *from, const char *to, struct error *error);
    enum status (*remove)(void *context, const char *folder, const char *name, struct error *error);
    enum status (*sync_folder)(void *context, const char *folder, struct error *error);
};

const struct disk *disk_posix(void);

#endif
