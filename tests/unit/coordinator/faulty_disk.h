/* faulty_disk: the file system with a countdown: the operation after the next `left` ones fails, and all after it.
 *
 * It does not wait for the medium: what these tests call a crash ends a log, not the machine, and takes nothing from
 * the page cache. */
#ifndef SHOAL_TESTS_UNIT_COORDINATOR_FAULTY_DISK_H
#define SHOAL_TESTS_UNIT_COORDINATOR_FAULTY_DISK_H

#include "coordinator/consensus/disk.h"

enum faulty_kind { FAULTY_CREATE = 1, FAULTY_WRITE = 2, FAULTY_SYNC = 4, FAULTY_RENAME = 8, FAULTY_ALL = 15 };

struct faulty_disk {
    struct disk disk;
    unsigned kinds; /* of operations that are counted and fail */
    long left;      /* negative: none fails */
    long done;      /* operations of these kinds that were asked for */
};

void faulty_disk_init(struct faulty_disk *faulty);

#endif
