/* The write-ahead log after crashes, damage and failed disks: what was acknowledged is there, a torn batch is cut off,
 * and everything else that is wrong is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/log.h"
#include "coordinator/consensus/wal.h"
#include "tests/unit/coordinator/faulty_disk.h"
#include "tests/unit/coordinator/temp_folder.h"
#include "tests/unit/coordinator/wal_fixture.h"

/* The bytes of the only batch that was added to the last segment since `before` was read. */
static void find_difference(const struct buf *before, const struct buf *after, size_t *from, size_t *to)
{
    assert_int_equal(before->length, after->length);
    *from = 0;
    while (before->data[*from] == after->data[*from])
        (*from)++;
    *to = after->length;
    while (before->data[*to - 1] == after->data[*to - 1])
        (*to)--;
}

/* ---- torn or damaged --------------------------------------------------------------------------------------------- */

struct last_batch {
    char name[64];
    struct buf content;
    size_t from, to;
};

/* Two entries, of which the last is a batch with this payload; the log is closed. */
static void write_last_batch(struct last_batch *last, struct bytes payload)
{
    struct buf before;
    wal_fixture_create();
    struct wal *wal = wal_fixture_reopen();
    wal_fixture_append(wal, 1, BYTES_LITERAL("second"));
    temp_folder_find(wal_fixture_folder.path, "segment-", last->name);
    buf_init(&before, 1 << 20);
    buf_init(&last->content, 1 << 20);
    temp_folder_read(wal_fixture_folder.path, last->name, &before);
    wal_fixture_append(wal, 1, payload);
    wal_close(wal);
    temp_folder_read(wal_fixture_folder.path, last->name, &last->content);
    find_difference(&before, &last->content, &last->from, &last->to);
    buf_free(&before);
}

static void expect_torn(void)
{
    struct wal_loaded loaded;
    struct wal *wal = wal_fixture_open_expecting(&loaded);
    assert_int_equal(wal_fixture_last_index(&loaded), 2);
    wal_loaded_free(&loaded);
    wal_fixture_append(wal, 2, BYTES_LITERAL("after the crash"));
    wal_close(wal);
    wal = wal_fixture_open_expecting(&loaded);
    assert_int_equal(wal_fixture_last_index(&loaded), 3);
    assert_true(bytes_equal(loaded.entries[2].data, BYTES_LITERAL("after the crash")));
    wal_loaded_free(&loaded);
    wal_close(wal);
}

static void test_last_batch_cut_anywhere_is_torn(void **state)
{
    (void)state;
    struct last_batch last;
    struct buf copy;
    write_last_batch(&last,
                     BYTES_LITERAL("a payload, \0\0\0\0\0\0\0\0 with zeros inside and at its end\0\0\0\0\0\0\0\0"));
    buf_init(&copy, 1 << 20);
    for (size_t cut = last.from; cut < last.to; cut++) {
        buf_clear(&copy);
        buf_append(&copy, last.content.data, last.content.length);
        memset(copy.data + cut, 0, last.to - cut);
        temp_folder_write(wal_fixture_folder.path, last.name, copy.data, copy.length);
        expect_torn();
    }
    buf_free(&copy);
    buf_free(&last.content);
}

static void test_last_batch_flipped_anywhere_is_refused(void **state)
{
    (void)state;
    static const uint8_t masks[] = {0x01, 0x80, 0xff};
    struct last_batch last;
    write_last_batch(&last,
                     BYTES_LITERAL("a payload, \0\0\0\0\0\0\0\0 with zeros inside and at its end\0\0\0\0\0\0\0\0"));
    for (size_t at = last.from; at < last.to; at++) {
        for (size_t i = 0; i < COUNT_OF(masks); i++) {
            wal_fixture_flip_file(last.name, at, masks[i]);
            wal_fixture_expect_refused(STATUS_CORRUPT);
            wal_fixture_flip_file(last.name, at, masks[i]);
        }
    }
    wal_close(wal_fixture_reopen()); /* it was only the flips */
    buf_free(&last.content);
}

/* A payload of zeros must not look like sectors that were never written, and lost sectors must. */
static void test_lost_sectors_are_told_from_zeros(void **state)
{
    (void)state;
    static const uint8_t zeros[4000];
    struct last_batch last;
    struct buf copy;
    write_last_batch(&last, bytes_of(zeros, sizeof zeros));
    wal_fixture_flip_file(last.name, last.from + 2000, 1);
    wal_fixture_expect_refused(STATUS_CORRUPT);
    wal_fixture_flip_file(last.name, last.from + 2000, 1);
    buf_init(&copy, 1 << 20);
    for (size_t sector = last.from / WAL_SECTOR_BYTES; sector * WAL_SECTOR_BYTES < last.to; sector++) {
        size_t from = MAX_OF(last.from, sector * WAL_SECTOR_BYTES);
        size_t to = MIN_OF(last.to, (sector + 1) * WAL_SECTOR_BYTES);
        buf_clear(&copy);
        buf_append(&copy, last.content.data, last.content.length);
        memset(copy.data + from, 0, to - from);
        temp_folder_write(wal_fixture_folder.path, last.name, copy.data, copy.length);
        expect_torn();
    }
    buf_free(&copy);
    buf_free(&last.content);
}

static void test_lost_sector_before_a_later_batch_is_damage(void **state)
{
    (void)state;
    static uint8_t payload[1500];
    struct last_batch last;
    memset(payload, 'x', sizeof payload);
    write_last_batch(&last, bytes_of(payload, sizeof payload));
    struct wal *wal = wal_fixture_reopen();
    wal_fixture_append(wal, 1, BYTES_LITERAL("later"));
    wal_close(wal);
    temp_folder_read(wal_fixture_folder.path, last.name, &last.content);
    size_t sector_end = (last.from / WAL_SECTOR_BYTES + 1) * WAL_SECTOR_BYTES;
    struct buf copy;
    buf_init(&copy, 1 << 20);
    for (int with_header = 0; with_header < 2; with_header++) {
        size_t from = with_header ? last.from : sector_end;
        size_t to = with_header ? sector_end : sector_end + WAL_SECTOR_BYTES;
        buf_clear(&copy);
        buf_append(&copy, last.content.data, last.content.length);
        memset(copy.data + from, 0, to - from);
        temp_folder_write(wal_fixture_folder.path, last.name, copy.data, copy.length);
        wal_fixture_expect_refused(STATUS_CORRUPT);
    }
    buf_free(&copy);
    buf_free(&last.content);
}

static void test_damage_elsewhere_is_refused(void **state)
{
    (void)state;
    static uint8_t payload[3000];
    char name[64];
    wal_fixture_create();
    struct wal *wal = wal_fixture_reopen();
    for (int i = 0; i < 10; i++)
        wal_fixture_append(wal, 1, bytes_of(payload, sizeof payload));
    wal_close(wal);
    static const char *const first = "segment-0000000000000001";
    static const char *const second = "segment-0000000000000002";
    static const size_t places[] = {0, 9, 16, 40, 64, 100, 200, 400, WAL_FIXTURE_SEGMENT_BYTES - 1};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        wal_fixture_flip_file(second, places[i], 4);
        wal_fixture_expect_refused(STATUS_CORRUPT);
        wal_fixture_flip_file(second, places[i], 4);
    }
    struct buf content;
    buf_init(&content, 1 << 20);
    temp_folder_read(wal_fixture_folder.path, first, &content);
    temp_folder_write(wal_fixture_folder.path, first, content.data, content.length - 1);
    wal_fixture_expect_refused(STATUS_CORRUPT);
    temp_folder_write(wal_fixture_folder.path, first, content.data, content.length);
    temp_folder_read(wal_fixture_folder.path, second, &content);
    char *path = NULL;
    assert_true(asprintf(&path, "%s/%s", wal_fixture_folder.path, second) > 0);
    assert_int_equal(unlink(path), 0);
    wal_fixture_expect_refused(STATUS_CORRUPT); /* a segment is missing in between */
    temp_folder_write(wal_fixture_folder.path, second, content.data, content.length);
    wal_close(wal_fixture_reopen());
    temp_folder_find(wal_fixture_folder.path, "segment-", name);
    assert_string_not_equal(name, second);
    free(path);
    buf_free(&content);
}

/* ---- faults ------------------------------------------------------------------------------------------------------ */

struct acknowledged {
    uint64_t index, term, vote, snapshot;
};

/* One life of a log over a disk that may fail at any operation; says what it acknowledged. */
static bool live(struct acknowledged *acknowledged)
{
    static uint8_t payload[900];
    struct wal *wal = NULL;
    struct wal_loaded loaded;
    struct wal_entry entry = wal_fixture_entry_of(1, bytes_of(payload, sizeof payload));
    if (wal_create(&wal_fixture_config, 1, &entry, NULL) != STATUS_OK)
        return false;
    acknowledged->index = 1;
    acknowledged->term = 1;
    if (wal_open(&wal_fixture_config, &wal, &loaded, NULL) != STATUS_OK)
        return false;
    wal_loaded_free(&loaded);
    bool well = true;
    for (uint64_t i = 2; well && i <= 20; i++) {
        wal_append(wal, &entry, 1);
        if (i % 5 == 0)
            wal_put_hard_state(wal, i, i + 1);
        if (i % 8 == 0)
            wal_fixture_put_snapshot(wal, i - 1, 1, 3);
        well = wal_flush(wal, NULL) == STATUS_OK;
        if (!well)
            break;
        acknowledged->index = i;
        if (i % 5 == 0) {
            acknowledged->term = i;
            acknowledged->vote = i + 1;
        }
        if (i % 8 == 0)
            acknowledged->snapshot = i - 1;
    }
    wal_close(wal);
    return well;
}

static void test_no_fault_loses_what_was_acknowledged(void **state)
{
    (void)state;
    static const unsigned kinds[] = {FAULTY_ALL, FAULTY_SYNC, FAULTY_WRITE, FAULTY_RENAME, FAULTY_CREATE};
    const struct disk *usual = wal_fixture_config.disk;
    unsigned faults = 0;
    for (size_t kind = 0; kind < COUNT_OF(kinds); kind++) {
        bool well = false;
        for (long left = 0; !well; left++) {
            struct faulty_disk faulty;
            struct acknowledged acknowledged = {0};
            faulty_disk_init(&faulty);
            faulty.kinds = kinds[kind];
            faulty.left = left;
            wal_fixture_config.disk = &faulty.disk;
            well = live(&acknowledged);
            faults += !well;
            wal_fixture_config.disk = usual;
            if (acknowledged.index > 0) {
                struct wal_loaded loaded;
                struct wal *wal = wal_fixture_open_expecting(&loaded);
                assert_true(wal_fixture_last_index(&loaded) >= acknowledged.index);
                assert_true(loaded.term >= acknowledged.term);
                assert_true(loaded.term > acknowledged.term || loaded.vote == acknowledged.vote);
                assert_true(acknowledged.snapshot == 0 || loaded.has_snapshot);
                wal_loaded_free(&loaded);
                wal_fixture_append(wal, 30, BYTES_LITERAL("goes on"));
                wal_close(wal);
            }
            temp_folder_remove(&wal_fixture_folder);
        }
    }
    assert_true(faults > 100);
}

/* After a failed sync nothing completes any more, also if a later sync would succeed. */
static void test_failed_sync_is_final(void **state)
{
    (void)state;
    struct faulty_disk faulty;
    uint64_t durable = 0;
    struct error error = {0};
    wal_fixture_create();
    faulty_disk_init(&faulty);
    faulty.kinds = FAULTY_SYNC;
    wal_fixture_config.disk = &faulty.disk;
    struct wal *wal = wal_fixture_reopen();
    wal_fixture_append(wal, 1, BYTES_LITERAL("two"));
    uint64_t before = wal_ticket(wal);
    faulty.left = 0;
    struct wal_entry entry = wal_fixture_entry_of(1, BYTES_LITERAL("three"));
    wal_append(wal, &entry, 1);
    assert_int_equal(wal_flush(wal, NULL), STATUS_IO);
    faulty.left = -1;
    wal_append(wal, &entry, 1);
    assert_false(wal_work(wal));
    assert_int_equal(wal_collect(wal, &durable, &error), STATUS_IO);
    assert_int_equal(durable, before);
    assert_true(strstr(error.text, "injected") != NULL);
    wal_close(wal);
}

/* A restart after a failed sync must not trust the page cache: the last segment is written and synced anew. */
static void test_restart_rewrites_the_last_segment(void **state)
{
    (void)state;
    struct faulty_disk faulty;
    wal_fixture_create();
    faulty_disk_init(&faulty);
    faulty.kinds = FAULTY_WRITE;
    wal_fixture_config.disk = &faulty.disk;
    wal_close(wal_fixture_reopen());
    assert_int_equal(faulty.done, 1);
    faulty.kinds = FAULTY_SYNC;
    faulty.left = 1; /* the folder's sync passes, the segment's fails */
    wal_fixture_expect_refused(STATUS_IO);
}

int main(void)
{
#define WAL_TEST(name) cmocka_unit_test_setup_teardown(name, wal_fixture_set_up, wal_fixture_tear_down)
    const struct CMUnitTest tests[] = {
        WAL_TEST(test_last_batch_cut_anywhere_is_torn),
        WAL_TEST(test_last_batch_flipped_anywhere_is_refused),
        WAL_TEST(test_lost_sectors_are_told_from_zeros),
        WAL_TEST(test_lost_sector_before_a_later_batch_is_damage),
        WAL_TEST(test_damage_elsewhere_is_refused),
        WAL_TEST(test_no_fault_loses_what_was_acknowledged),
        WAL_TEST(test_failed_sync_is_final),
        WAL_TEST(test_restart_rewrites_the_last_segment),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
