/* The write-ahead log's promises: what was acknowledged is there after any crash, what is damaged is refused, and no
 * folder is mistaken for another one. Each test has a folder of its own; most run without the writer's thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "coordinator/consensus/wal.h"
#include "tests/unit/coordinator/faulty_disk.h"
#include "tests/unit/coordinator/temp_folder.h"

enum { SEGMENT_BYTES = 8192, ENTRY_TYPE = 1 };

static struct temp_folder folder;
static struct wal_config config;

static int set_up(void **state)
{
    (void)state;
    temp_folder_make(&folder);
    config = (struct wal_config){
        .folder = folder.path,
        .identity = {.cluster_id = "cluster", .raft_id = 7, .incarnation = 1},
        .segment_bytes = SEGMENT_BYTES,
        .inline_writes = true,
    };
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    temp_folder_remove(&folder);
    return 0;
}

/* ---- helpers ------------------------------------------------------------------------------------------------------
 */

static struct wal_entry entry_of(uint64_t term, struct bytes data)
{
    return (struct wal_entry){.term = term, .type = ENTRY_TYPE, .data = data};
}

static void create(void)
{
    struct wal_entry first = entry_of(1, BYTES_LITERAL("first"));
    struct error error = {0};
    enum status status = wal_create(&config, 1, &first, &error);
    if (status != STATUS_OK)
        fail_msg("%s", error.text);
}

static struct wal *open_expecting(struct wal_loaded *loaded)
{
    struct wal *wal = NULL;
    struct error error = {0};
    if (wal_open(&config, &wal, loaded, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return wal;
}

static struct wal *reopen(void)
{
    struct wal_loaded loaded;
    struct wal *wal = open_expecting(&loaded);
    wal_loaded_free(&loaded);
    return wal;
}

static void expect_refused(enum status expected)
{
    struct wal *wal = NULL;
    struct wal_loaded loaded;
    struct error error = {0};
    enum status status = wal_open(&config, &wal, &loaded, &error);
    if (status == STATUS_OK)
        fail_msg("a log that must be refused was opened");
    if (status != expected)
        fail_msg("expected %s, got %s: %s", status_name(expected), status_name(status), error.text);
    assert_true(error.text[0] != 0);
}

static void append(struct wal *wal, uint64_t term, struct bytes data)
{
    struct wal_entry entry = entry_of(term, data);
    wal_append(wal, &entry, 1);
    assert_int_equal(wal_flush(wal, NULL), STATUS_OK);
}

static uint64_t last_index(const struct wal_loaded *loaded)
{
    return loaded->first_index + loaded->entries_count - 1;
}

static void flip_file(const char *name, size_t at, uint8_t mask)
{
    struct buf content;
    buf_init(&content, 1 << 20);
    temp_folder_read(folder.path, name, &content);
    content.data[at] ^= mask;
    temp_folder_write(folder.path, name, content.data, content.length);
    buf_free(&content);
}

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

/* ---- round trips ---------------------------------------------------------------------------------------------------
 */

static void test_what_was_written_is_read_back(void **state)
{
    (void)state;
    create();
    struct wal *wal = reopen();
    append(wal, 1, BYTES_LITERAL("two"));
    append(wal, 2, BYTES_LITERAL(""));
    wal_put_hard_state(wal, 3, 9);
    append(wal, 3, BYTES_LITERAL("four"));
    wal_truncate(wal, 4);
    append(wal, 3, BYTES_LITERAL("four again"));
    assert_int_equal(wal_next_index(wal), 5);
    wal_close(wal);

    struct wal_loaded loaded;
    wal = open_expecting(&loaded);
    assert_int_equal(loaded.term, 3);
    assert_int_equal(loaded.vote, 9);
    assert_false(loaded.has_snapshot);
    assert_int_equal(loaded.first_index, 1);
    assert_int_equal(loaded.entries_count, 4);
    assert_true(bytes_equal(loaded.entries[0].data, BYTES_LITERAL("first")));
    assert_int_equal(loaded.entries[2].data.length, 0);
    assert_int_equal(loaded.entries[2].term, 2);
    assert_int_equal(loaded.entries[3].type, ENTRY_TYPE);
    assert_true(bytes_equal(loaded.entries[3].data, BYTES_LITERAL("four again")));
    assert_int_equal(wal_next_index(wal), 5);
    wal_loaded_free(&loaded);
    wal_close(wal);
}

static void test_segments_follow_one_another_and_large_batches_fit(void **state)
{
    (void)state;
    static uint8_t large[3 * SEGMENT_BYTES];
    memset(large, 0x5a, sizeof large);
    create();
    struct wal *wal = reopen();
    for (unsigned i = 2; i <= 100; i++)
        append(wal, 1, bytes_of(large, i == 50 ? sizeof large : 700));
    wal_put_hard_state(wal, 5, 2);
    wal_close(wal);
    struct wal_loaded loaded;
    wal = open_expecting(&loaded);
    assert_int_equal(last_index(&loaded), 100);
    assert_int_equal(loaded.entries[49].data.length, sizeof large);
    assert_int_equal(loaded.term, 5);
    assert_int_equal(loaded.vote, 2);
    wal_loaded_free(&loaded);
    wal_close(wal);
}

/* ---- torn or damaged ------------------------------------------------------------------------------------------------
 */

struct last_batch {
    char name[64];
    struct buf content;
    size_t from, to;
};

/* Two entries, of which the last is a batch with this payload; the log is closed. */
static void write_last_batch(struct last_batch *last, struct bytes payload)
{
    struct buf before;
    create();
    struct wal *wal = reopen();
    append(wal, 1, BYTES_LITERAL("second"));
    temp_folder_find(folder.path, "segment-", last->name);
    buf_init(&before, 1 << 20);
    buf_init(&last->content, 1 << 20);
    temp_folder_read(folder.path, last->name, &before);
    append(wal, 1, payload);
    wal_close(wal);
    temp_folder_read(folder.path, last->name, &last->content);
    find_difference(&before, &last->content, &last->from, &last->to);
    buf_free(&before);
}

static void expect_torn(void)
{
    struct wal_loaded loaded;
    struct wal *wal = open_expecting(&loaded);
    assert_int_equal(last_index(&loaded), 2);
    wal_loaded_free(&loaded);
    append(wal, 2, BYTES_LITERAL("after the crash"));
    wal_close(wal);
    wal = open_expecting(&loaded);
    assert_int_equal(last_index(&loaded), 3);
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
        temp_folder_write(folder.path, last.name, copy.data, copy.length);
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
            flip_file(last.name, at, masks[i]);
            expect_refused(STATUS_CORRUPT);
            flip_file(last.name, at, masks[i]);
        }
    }
    wal_close(reopen()); /* it was only the flips */
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
    flip_file(last.name, last.from + 2000, 1);
    expect_refused(STATUS_CORRUPT);
    flip_file(last.name, last.from + 2000, 1);
    buf_init(&copy, 1 << 20);
    for (size_t sector = last.from / WAL_SECTOR_BYTES; sector * WAL_SECTOR_BYTES < last.to; sector++) {
        size_t from = MAX_OF(last.from, sector * WAL_SECTOR_BYTES);
        size_t to = MIN_OF(last.to, (sector + 1) * WAL_SECTOR_BYTES);
        buf_clear(&copy);
        buf_append(&copy, last.content.data, last.content.length);
        memset(copy.data + from, 0, to - from);
        temp_folder_write(folder.path, last.name, copy.data, copy.length);
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
    struct wal *wal = reopen();
    append(wal, 1, BYTES_LITERAL("later"));
    wal_close(wal);
    temp_folder_read(folder.path, last.name, &last.content);
    size_t sector_end = (last.from / WAL_SECTOR_BYTES + 1) * WAL_SECTOR_BYTES;
    struct buf copy;
    buf_init(&copy, 1 << 20);
    for (int with_header = 0; with_header < 2; with_header++) {
        size_t from = with_header ? last.from : sector_end;
        size_t to = with_header ? sector_end : sector_end + WAL_SECTOR_BYTES;
        buf_clear(&copy);
        buf_append(&copy, last.content.data, last.content.length);
        memset(copy.data + from, 0, to - from);
        temp_folder_write(folder.path, last.name, copy.data, copy.length);
        expect_refused(STATUS_CORRUPT);
    }
    buf_free(&copy);
    buf_free(&last.content);
}

static void test_damage_elsewhere_is_refused(void **state)
{
    (void)state;
    static uint8_t payload[3000];
    char name[64];
    create();
    struct wal *wal = reopen();
    for (int i = 0; i < 10; i++)
        append(wal, 1, bytes_of(payload, sizeof payload));
    wal_close(wal);
    static const char *const first = "segment-0000000000000001";
    static const char *const second = "segment-0000000000000002";
    static const size_t places[] = {0, 9, 16, 40, 64, 100, 200, 400, SEGMENT_BYTES - 1};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        flip_file(second, places[i], 4);
        expect_refused(STATUS_CORRUPT);
        flip_file(second, places[i], 4);
    }
    struct buf content;
    buf_init(&content, 1 << 20);
    temp_folder_read(folder.path, first, &content);
    temp_folder_write(folder.path, first, content.data, content.length - 1);
    expect_refused(STATUS_CORRUPT);
    temp_folder_write(folder.path, first, content.data, content.length);
    temp_folder_read(folder.path, second, &content);
    char *path = NULL;
    assert_true(asprintf(&path, "%s/%s", folder.path, second) > 0);
    assert_int_equal(unlink(path), 0);
    expect_refused(STATUS_CORRUPT); /* a segment is missing in between */
    temp_folder_write(folder.path, second, content.data, content.length);
    wal_close(reopen());
    temp_folder_find(folder.path, "segment-", name);
    assert_string_not_equal(name, second);
    free(path);
    buf_free(&content);
}

/* ---- whose log it is
 * ------------------------------------------------------------------------------------------------- */

static void test_first_start_is_explicit(void **state)
{
    (void)state;
    struct wal_entry first = entry_of(1, BYTES_LITERAL("first"));
    struct error error = {0};
    expect_refused(STATUS_NOT_FOUND); /* not a first start, and nothing there */
    create();
    assert_int_equal(wal_create(&config, 1, &first, &error), STATUS_EXISTS);
    wal_close(reopen());
    memcpy(config.identity.cluster_id, "another", 8);
    assert_int_equal(wal_create(&config, 1, &first, &error), STATUS_CONFLICT);
    expect_refused(STATUS_CONFLICT);
    memcpy(config.identity.cluster_id, "cluster", 8);
    config.identity.raft_id = 8;
    expect_refused(STATUS_CONFLICT);
    config.identity.raft_id = 7;
    config.identity.incarnation = 2;
    expect_refused(STATUS_CONFLICT);
    config.identity.incarnation = 1;
    wal_close(reopen());
}

static void test_one_process_at_a_time(void **state)
{
    (void)state;
    create();
    struct wal *wal = reopen();
    expect_refused(STATUS_BUSY);
    wal_close(wal);
    wal_close(reopen());
}

static void test_removed_folder_acknowledges_nothing(void **state)
{
    (void)state;
    create();
    struct wal *wal = reopen();
    append(wal, 1, BYTES_LITERAL("there"));
    temp_folder_remove(&folder);
    struct wal_entry entry = entry_of(1, BYTES_LITERAL("gone"));
    uint64_t ticket = wal_append(wal, &entry, 1), durable = 0;
    assert_int_equal(wal_flush(wal, NULL), STATUS_IO);
    assert_int_equal(wal_collect(wal, &durable, NULL), STATUS_IO);
    assert_true(durable < ticket);
    wal_close(wal);
    expect_refused(STATUS_NOT_FOUND);
}

/* ---- snapshots
 * --------------------------------------------------------------------------------------------------------- */

static void put_snapshot(struct wal *wal, uint64_t index, uint64_t term, uint64_t trailing)
{
    struct wal_snapshot snapshot = {.index = index,
                                    .term = term,
                                    .configuration_index = 1,
                                    .configuration = BYTES_LITERAL("members"),
                                    .data = BYTES_LITERAL("the state")};
    wal_put_snapshot(wal, &snapshot, trailing);
}

static void test_snapshot_keeps_the_trailing_entries(void **state)
{
    (void)state;
    static uint8_t payload[700];
    create();
    struct wal *wal = reopen();
    for (int i = 2; i <= 100; i++)
        append(wal, 1, bytes_of(payload, sizeof payload));
    put_snapshot(wal, 90, 1, 20);
    assert_int_equal(wal_flush(wal, NULL), STATUS_OK);
    struct wal_snapshot snapshot;
    struct buf file;
    buf_init(&file, 1 << 20);
    assert_int_equal(wal_read_snapshot(wal, 90, &file, &snapshot, NULL), STATUS_OK);
    assert_true(bytes_equal(snapshot.data, BYTES_LITERAL("the state")));
    buf_free(&file);
    wal_close(wal);
    struct wal_loaded loaded;
    wal = open_expecting(&loaded);
    assert_true(loaded.has_snapshot);
    assert_int_equal(loaded.snapshot.index, 90);
    assert_true(bytes_equal(loaded.snapshot.configuration, BYTES_LITERAL("members")));
    assert_true(loaded.first_index > 1 && loaded.first_index <= 71);
    assert_int_equal(last_index(&loaded), 100);
    wal_loaded_free(&loaded);
    wal_close(wal);
}

static void test_installed_snapshot_replaces_the_log(void **state)
{
    (void)state;
    create();
    struct wal *wal = reopen();
    append(wal, 1, BYTES_LITERAL("two"));
    put_snapshot(wal, 50, 3, 0);
    assert_int_equal(wal_next_index(wal), 51);
    append(wal, 3, BYTES_LITERAL("fifty-one"));
    wal_close(wal);
    struct wal_loaded loaded;
    wal = open_expecting(&loaded);
    assert_int_equal(loaded.first_index, 51);
    assert_int_equal(loaded.entries_count, 1);
    assert_int_equal(loaded.snapshot.term, 3);
    wal_loaded_free(&loaded);
    wal_close(wal);
}

/* The crash between a snapshot's rename and the removal of the log that it replaces: the log ends before it, or has
 * another term there. With `keep` the log leads up to it and must stay. */
static void check_log_against_snapshot(uint64_t snapshot_index, uint64_t snapshot_term, bool keep)
{
    create();
    struct wal *wal = reopen();
    append(wal, 1, BYTES_LITERAL("two"));
    append(wal, 1, BYTES_LITERAL("three"));
    put_snapshot(wal, snapshot_index, snapshot_term, 1000); /* keeps the log, as if the crash came before its end */
    wal_close(wal);
    for (int round = 0; round < 2; round++) { /* the decision must also hold the second time */
        struct wal_loaded loaded;
        wal = open_expecting(&loaded);
        assert_int_equal(loaded.entries_count, keep ? 3 : round);
        assert_int_equal(loaded.first_index, keep ? 1 : snapshot_index + 1);
        wal_loaded_free(&loaded);
        if (!keep && round == 0)
            append(wal, snapshot_term, BYTES_LITERAL("next"));
        wal_close(wal);
    }
}

static void test_log_that_ends_before_the_snapshot_is_discarded(void **state)
{
    (void)state;
    check_log_against_snapshot(10, 1, false);
}

static void test_log_with_another_term_at_the_snapshot_is_discarded(void **state)
{
    (void)state;
    check_log_against_snapshot(2, 2, false);
}

static void test_log_that_leads_up_to_the_snapshot_stays(void **state)
{
    (void)state;
    check_log_against_snapshot(2, 1, true);
}

static void test_damaged_snapshot_is_refused(void **state)
{
    (void)state;
    char name[64];
    struct buf content;
    create();
    struct wal *wal = reopen();
    append(wal, 1, BYTES_LITERAL("two"));
    put_snapshot(wal, 2, 1, 10);
    wal_close(wal);
    temp_folder_find(folder.path, "snapshot-", name);
    buf_init(&content, 1 << 20);
    temp_folder_read(folder.path, name, &content);
    for (size_t at = 0; at < content.length; at++) {
        flip_file(name, at, 0x10);
        expect_refused(STATUS_CORRUPT);
        flip_file(name, at, 0x10);
    }
    temp_folder_write(folder.path, name, content.data, content.length - 1);
    expect_refused(STATUS_CORRUPT);
    buf_free(&content);
}

/* ---- faults
 * ------------------------------------------------------------------------------------------------------------ */

struct acknowledged {
    uint64_t index, term, vote, snapshot;
};

/* One life of a log over a disk that may fail at any operation; says what it acknowledged. */
static bool live(struct acknowledged *acknowledged)
{
    static uint8_t payload[900];
    struct wal *wal = NULL;
    struct wal_loaded loaded;
    struct wal_entry entry = entry_of(1, bytes_of(payload, sizeof payload));
    if (wal_create(&config, 1, &entry, NULL) != STATUS_OK)
        return false;
    acknowledged->index = 1;
    acknowledged->term = 1;
    if (wal_open(&config, &wal, &loaded, NULL) != STATUS_OK)
        return false;
    wal_loaded_free(&loaded);
    bool well = true;
    for (uint64_t i = 2; well && i <= 20; i++) {
        wal_append(wal, &entry, 1);
        if (i % 5 == 0)
            wal_put_hard_state(wal, i, i + 1);
        if (i % 8 == 0)
            put_snapshot(wal, i - 1, 1, 3);
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
    unsigned faults = 0;
    for (size_t kind = 0; kind < COUNT_OF(kinds); kind++) {
        bool well = false;
        for (long left = 0; !well; left++) {
            struct faulty_disk faulty;
            struct acknowledged acknowledged = {0};
            faulty_disk_init(&faulty);
            faulty.kinds = kinds[kind];
            faulty.left = left;
            config.disk = &faulty.disk;
            well = live(&acknowledged);
            faults += !well;
            config.disk = NULL;
            if (acknowledged.index > 0) {
                struct wal_loaded loaded;
                struct wal *wal = open_expecting(&loaded);
                assert_true(last_index(&loaded) >= acknowledged.index);
                assert_true(loaded.term >= acknowledged.term);
                assert_true(loaded.term > acknowledged.term || loaded.vote == acknowledged.vote);
                assert_true(acknowledged.snapshot == 0 || loaded.has_snapshot);
                wal_loaded_free(&loaded);
                append(wal, 30, BYTES_LITERAL("goes on"));
                wal_close(wal);
            }
            temp_folder_remove(&folder);
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
    create();
    faulty_disk_init(&faulty);
    faulty.kinds = FAULTY_SYNC;
    config.disk = &faulty.disk;
    struct wal *wal = reopen();
    append(wal, 1, BYTES_LITERAL("two"));
    uint64_t before = wal_ticket(wal);
    faulty.left = 0;
    struct wal_entry entry = entry_of(1, BYTES_LITERAL("three"));
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
    create();
    faulty_disk_init(&faulty);
    faulty.kinds = FAULTY_WRITE;
    config.disk = &faulty.disk;
    wal_close(reopen());
    assert_int_equal(faulty.done, 1);
    faulty.kinds = FAULTY_SYNC;
    faulty.left = 1; /* the folder's sync passes, the segment's fails */
    expect_refused(STATUS_IO);
}

/* ---- the writer's thread
 * --------------------------------------------------------------------------------------------- */

static void test_thread_completes_in_order(void **state)
{
    (void)state;
    enum { ENTRIES = 2000 };
    config.inline_writes = false;
    config.segment_bytes = 64 << 10;
    create();
    struct wal *wal = reopen();
    uint64_t durable = 0, seen = 0;
    for (unsigned i = 2; i <= ENTRIES; i++) {
        char text[32];
        snprintf(text, sizeof text, "entry %u", i);
        struct wal_entry entry = entry_of(1, bytes_of_text(text));
        wal_append(wal, &entry, 1);
        if (i % 100 == 0)
            wal_put_hard_state(wal, i, 1);
        if (i % 500 == 0)
            put_snapshot(wal, i - 1, 1, 10);
        assert_int_equal(wal_collect(wal, &durable, NULL), STATUS_OK);
        assert_true(durable >= seen && durable <= wal_ticket(wal));
        seen = durable;
    }
    assert_int_equal(wal_flush(wal, NULL), STATUS_OK);
    assert_int_equal(wal_collect(wal, &durable, NULL), STATUS_OK);
    assert_int_equal(durable, wal_ticket(wal));
    assert_int_equal(wal_queued_bytes(wal), 0);
    wal_close(wal);
    struct wal_loaded loaded;
    wal = open_expecting(&loaded);
    assert_int_equal(last_index(&loaded), ENTRIES);
    assert_int_equal(loaded.snapshot.index, ENTRIES - 1);
    wal_loaded_free(&loaded);
    wal_abandon(wal);
}

int main(void)
{
#define WAL_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WAL_TEST(test_what_was_written_is_read_back),
        WAL_TEST(test_segments_follow_one_another_and_large_batches_fit),
        WAL_TEST(test_last_batch_cut_anywhere_is_torn),
        WAL_TEST(test_last_batch_flipped_anywhere_is_refused),
        WAL_TEST(test_lost_sectors_are_told_from_zeros),
        WAL_TEST(test_lost_sector_before_a_later_batch_is_damage),
        WAL_TEST(test_damage_elsewhere_is_refused),
        WAL_TEST(test_first_start_is_explicit),
        WAL_TEST(test_one_process_at_a_time),
        WAL_TEST(test_removed_folder_acknowledges_nothing),
        WAL_TEST(test_snapshot_keeps_the_trailing_entries),
        WAL_TEST(test_installed_snapshot_replaces_the_log),
        WAL_TEST(test_log_that_ends_before_the_snapshot_is_discarded),
        WAL_TEST(test_log_with_another_term_at_the_snapshot_is_discarded),
        WAL_TEST(test_log_that_leads_up_to_the_snapshot_stays),
        WAL_TEST(test_damaged_snapshot_is_refused),
        WAL_TEST(test_no_fault_loses_what_was_acknowledged),
        WAL_TEST(test_failed_sync_is_final),
        WAL_TEST(test_restart_rewrites_the_last_segment),
        WAL_TEST(test_thread_completes_in_order),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
