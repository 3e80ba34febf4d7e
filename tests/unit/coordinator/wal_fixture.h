/* wal_fixture: a write-ahead log in a folder of its own, for the tests of wal. Without the writer's thread unless a
 * test changes the configuration. */
#ifndef SHOAL_TESTS_UNIT_COORDINATOR_WAL_FIXTURE_H
#define SHOAL_TESTS_UNIT_COORDINATOR_WAL_FIXTURE_H

#include "coordinator/consensus/wal.h"
#include "tests/unit/coordinator/temp_folder.h"

enum { WAL_FIXTURE_SEGMENT_BYTES = 8192, WAL_FIXTURE_ENTRY_TYPE = 1 };

extern struct temp_folder wal_fixture_folder;
extern struct wal_config wal_fixture_config;

int wal_fixture_set_up(void **state);
int wal_fixture_tear_down(void **state);

struct wal_entry wal_fixture_entry_of(uint64_t term, struct bytes data);
void wal_fixture_create(void); /* entry 1 is "first", term 1 */
struct wal *wal_fixture_open_expecting(struct wal_loaded *loaded);
struct wal *wal_fixture_reopen(void);
void wal_fixture_expect_refused(enum status expected);
void wal_fixture_append(struct wal *wal, uint64_t term, struct bytes data); /* durable when it returns */
uint64_t wal_fixture_last_index(const struct wal_loaded *loaded);
void wal_fixture_flip_file(const char *name, size_t at, uint8_t mask);
void wal_fixture_put_snapshot(struct wal *wal, uint64_t index, uint64_t term, uint64_t trailing);

#endif
