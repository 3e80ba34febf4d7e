/* wal_fixture: see wal_fixture.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "coordinator/consensus/wal.h"
#include "tests/unit/coordinator/faulty_disk.h"
#include "tests/unit/coordinator/temp_folder.h"
#include "tests/unit/coordinator/wal_fixture.h"

struct temp_folder wal_fixture_folder;
struct wal_config wal_fixture_config;

static struct faulty_disk disk; /* without faults, and fast */

int wal_fixture_set_up(void **state)
{
    (void)state;
    faulty_disk_init(&disk);
    temp_folder_make(&wal_fixture_folder);
    wal_fixture_config = (struct wal_config){
        .disk = &disk.disk,
        .folder = wal_fixture_folder.path,
        .identity = {.cluster_id = "cluster", .raft_id = 7, .incarnation = 1},
        .segment_bytes = WAL_FIXTURE_SEGMENT_BYTES,
        .inline_writes = true,
    };
    return 0;
}

int wal_fixture_tear_down(void **state)
{
    (void)state;
    temp_folder_remove(&wal_fixture_folder);
    return 0;
}

struct wal_entry wal_fixture_entry_of(uint64_t term, struct bytes data)
{
    return (struct wal_entry){.term = term, .type = WAL_FIXTURE_ENTRY_TYPE, .data = data};
}

void wal_fixture_create(void)
{
    struct wal_entry first = wal_fixture_entry_of(1, BYTES_LITERAL("first"));
    struct error error = {0};
    enum status status = wal_create(&wal_fixture_config, 1, &first, &error);
    if (status != STATUS_OK)
        fail_msg("%s", error.text);
}

struct wal *wal_fixture_open_expecting(struct wal_loaded *loaded)
{
    struct wal *wal = NULL;
    struct error error = {0};
    if (wal_open(&wal_fixture_config, &wal, loaded, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return wal;
}

struct wal *wal_fixture_reopen(void)
{
    struct wal_loaded loaded;
    struct wal *wal = wal_fixture_open_expecting(&loaded);
    wal_loaded_free(&loaded);
    return wal;
}

void wal_fixture_expect_refused(enum status expected)
{
    struct wal *wal = NULL;
    struct wal_loaded loaded;
    struct error error = {0};
    enum status status = wal_open(&wal_fixture_config, &wal, &loaded, &error);
    if (status == STATUS_OK)
        fail_msg("a log that must be refused was opened");
    if (status != expected)
        fail_msg("expected %s, got %s: %s", status_name(expected), status_name(status), error.text);
    assert_true(error.text[0] != 0);
}

void wal_fixture_append(struct wal *wal, uint64_t term, struct bytes data)
{
    struct wal_entry entry = wal_fixture_entry_of(term, data);
    wal_append(wal, &entry, 1);
    assert_int_equal(wal_flush(wal, NULL), STATUS_OK);
}

uint64_t wal_fixture_last_index(const struct wal_loaded *loaded)
{
    return loaded->first_index + loaded->entries_count - 1;
}

void wal_fixture_flip_file(const char *name, size_t at, uint8_t mask)
{
    struct buf content;
    buf_init(&content, 1 << 20);
    temp_folder_read(wal_fixture_folder.path, name, &content);
    content.data[at] ^= mask;
    temp_folder_write(wal_fixture_folder.path, name, content.data, content.length);
    buf_free(&content);
}

void wal_fixture_put_snapshot(struct wal *wal, uint64_t index, uint64_t term, uint64_t trailing)
{
    struct wal_snapshot snapshot = {.index = index,
                                    .term = term,
                                    .configuration_index = 1,
                                    .configuration = BYTES_LITERAL("members"),
                                    .data = BYTES_LITERAL("the state")};
    wal_put_snapshot(wal, &snapshot, trailing);
}
