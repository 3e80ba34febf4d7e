/* The write-ahead log's promises: what was written is read back, snapshots and the log fit each other after any crash,
 * and no folder is mistaken for another one. (Crashes and damage: test_wal_damage.c.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "coordinator/consensus/wal.h"
#include "tests/unit/coordinator/temp_folder.h"
#include "tests/unit/coordinator/wal_fixture.h"

/* ---- round trips ------------------------------------------------------------------------------------------------- */

static void test_what_was_written_is_read_back(void **state)
{
    (void)state;
    wal_fixture_create();
    struct wal *wal = wal_fixture_reopen();
    wal_fixture_append(wal, 1, BYTES_LITERAL("two"));
    wal_fixture_append(wal, 2, BYTES_LITERAL(""));
    wal_put_hard_state(wal, 3, 9);
    wal_fixture_append(wal, 3, BYTES_LITERAL("four"));
    wal_truncate(wal, 4);
    wal_fixture_append(wal, 3, BYTES_LITERAL("four again"));
    assert_int_equal(wal_next_index(wal), 5);
    wal_close(wal);

    struct wal_loaded loaded;
    wal = wal_fixture_open_expecting(&loaded);
    assert_int_equal(loaded.term, 3);
    assert_int_equal(loaded.vote, 9);
    assert_false(loaded.has_snapshot);
    assert_int_equal(loaded.first_index, 1);
    assert_int_equal(loaded.entries_count, 4);
    assert_true(bytes_equal(loaded.entries[0].data, BYTES_LITERAL("first")));
    assert_int_equal(loaded.entries[2].data.length, 0);
    assert_int_equal(loaded.entries[2].term, 2);
    assert_int_equal(loaded.entries[3].type, WAL_FIXTURE_ENTRY_TYPE);
    assert_true(bytes_equal(loaded.entries[3].data, BYTES_LITERAL("four again")));
    assert_int_equal(wal_next_index(wal), 5);
    wal_loaded_free(&loaded);
    wal_close(wal);
}

static void test_segments_follow_one_another_and_large_batches_fit(void **state)
{
    (void)state;
    static uint8_t large[3 * WAL_FIXTURE_SEGMENT_BYTES];
    memset(large, 0x5a, sizeof large);
    wal_fixture_create();
    struct wal *wal = wal_fixture_reopen();
    for (unsigned i = 2; i <= 100; i++)
        wal_fixture_append(wal, 1, bytes_of(large, i == 50 ? sizeof large : 700));
    wal_put_hard_state(wal, 5, 2);
    wal_close(wal);
    struct wal_loaded loaded;
    wal = wal_fixture_open_expecting(&loaded);
    assert_int_equal(wal_fixture_last_index(&loaded), 100);
    assert_int_equal(loaded.entries[49].data.length, sizeof large);
    assert_int_equal(loaded.term, 5);
    assert_int_equal(loaded.vote, 2);
    wal_loaded_free(&loaded);
    wal_close(wal);
}

/* ---- whose log it is --------------------------------------------------------------------------------------------- */

static void test_first_start_is_explicit(void **state)
{
    (void)state;
    struct wal_entry first = wal_fixture_entry_of(1, BYTES_LITERAL("first"));
    struct error error = {0};
    wal_fixture_expect_refused(STATUS_NOT_FOUND); /* not a first start, and nothing there */
    wal_fixture_create();
    assert_int_equal(wal_create(&wal_fixture_config, 1, &first, &error), STATUS_EXISTS);
    wal_close(wal_fixture_reopen());
    memcpy(wal_fixture_config.identity.cluster_id, "another", 8);
    assert_int_equal(wal_create(&wal_fixture_config, 1, &first, &error), STATUS_CONFLICT);
    wal_fixture_expect_refused(STATUS_CONFLICT);
    memcpy(wal_fixture_config.identity.cluster_id, "cluster", 8);
    wal_fixture_config.identity.raft_id = 8;
    wal_fixture_expect_refused(STATUS_CONFLICT);
    wal_fixture_config.identity.raft_id = 7;
    wal_fixture_config.identity.incarnation = 2;
    wal_fixture_expect_refused(STATUS_CONFLICT);
    wal_fixture_config.identity.incarnation = 1;
    wal_close(wal_fixture_reopen());
}

static void test_one_process_at_a_time(void **state)
{
    (void)state;
    wal_fixture_create();
    struct wal *wal = wal_fixture_reopen();
    wal_fixture_expect_refused(STATUS_BUSY);
    wal_close(wal);
    wal_close(wal_fixture_reopen());
}

static void test_removed_folder_acknowledges_nothing(void **state)
{
    (void)state;
    wal_fixture_config.disk = NULL; /* the real one */
    wal_fixture_create();
    struct wal *wal = wal_fixture_reopen();
    wal_fixture_append(wal, 1, BYTES_LITERAL("there"));
    temp_folder_remove(&wal_fixture_folder);
    struct wal_entry entry = wal_fixture_entry_of(1, BYTES_LITERAL("gone"));
    uint64_t ticket = wal_append(wal, &entry, 1), durable = 0;
    assert_int_equal(wal_flush(wal, NULL), STATUS_IO);
    assert_int_equal(wal_collect(wal, &durable, NULL), STATUS_IO);
    assert_true(durable < ticket);
    wal_close(wal);
    wal_fixture_expect_refused(STATUS_NOT_FOUND);
}

/* ---- snapshots --------------------------------------------------------------------------------------------------- */

static void test_snapshot_keeps_the_trailing_entries(void **state)
{
    (void)state;
    static uint8_t payload[700];
    wal_fixture_create();
    struct wal *wal = wal_fixture_reopen();
    for (int i = 2; i <= 100; i++)
        wal_fixture_append(wal, 1, bytes_of(payload, sizeof payload));
    wal_fixture_put_snapshot(wal, 90, 1, 20);
    assert_int_equal(wal_flush(wal, NULL), STATUS_OK);
    struct wal_snapshot snapshot;
    struct buf file;
    buf_init(&file, 1 << 20);
    assert_int_equal(wal_read_snapshot(wal, 90, &file, &snapshot, NULL), STATUS_OK);
    assert_true(bytes_equal(snapshot.data, BYTES_LITERAL("the state")));
    buf_free(&file);
    wal_close(wal);
    struct wal_loaded loaded;
    wal = wal_fixture_open_expecting(&loaded);
    assert_true(loaded.has_snapshot);
    assert_int_equal(loaded.snapshot.index, 90);
    assert_true(bytes_equal(loaded.snapshot.configuration, BYTES_LITERAL("members")));
    assert_true(loaded.first_index > 1 && loaded.first_index <= 71);
    assert_int_equal(wal_fixture_last_index(&loaded), 100);
    wal_loaded_free(&loaded);
    wal_close(wal);
}

static void test_installed_snapshot_replaces_the_log(void **state)
{
    (void)state;
    wal_fixture_create();
    struct wal *wal = wal_fixture_reopen();
    wal_fixture_append(wal, 1, BYTES_LITERAL("two"));
    wal_fixture_put_snapshot(wal, 50, 3, 0);
    assert_int_equal(wal_next_index(wal), 51);
    wal_fixture_append(wal, 3, BYTES_LITERAL("fifty-one"));
    wal_close(wal);
    struct wal_loaded loaded;
    wal = wal_fixture_open_expecting(&loaded);
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
    wal_fixture_create();
    struct wal *wal = wal_fixture_reopen();
    wal_fixture_append(wal, 1, BYTES_LITERAL("two"));
    wal_fixture_append(wal, 1, BYTES_LITERAL("three"));
    wal_fixture_put_snapshot(wal, snapshot_index, snapshot_term,
                             1000); /* keeps the log, as if the crash came before its end */
    wal_close(wal);
    for (int round = 0; round < 2; round++) { /* the decision must also hold the second time */
        struct wal_loaded loaded;
        wal = wal_fixture_open_expecting(&loaded);
        assert_int_equal(loaded.entries_count, keep ? 3 : round);
        assert_int_equal(loaded.first_index, keep ? 1 : snapshot_index + 1);
        wal_loaded_free(&loaded);
        if (!keep && round == 0)
            wal_fixture_append(wal, snapshot_term, BYTES_LITERAL("next"));
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
    wal_fixture_create();
    struct wal *wal = wal_fixture_reopen();
    wal_fixture_append(wal, 1, BYTES_LITERAL("two"));
    wal_fixture_put_snapshot(wal, 2, 1, 10);
    wal_close(wal);
    temp_folder_find(wal_fixture_folder.path, "snapshot-", name);
    buf_init(&content, 1 << 20);
    temp_folder_read(wal_fixture_folder.path, name, &content);
    for (size_t at = 0; at < content.length; at++) {
        wal_fixture_flip_file(name, at, 0x10);
        wal_fixture_expect_refused(STATUS_CORRUPT);
        wal_fixture_flip_file(name, at, 0x10);
    }
    temp_folder_write(wal_fixture_folder.path, name, content.data, content.length - 1);
    wal_fixture_expect_refused(STATUS_CORRUPT);
    buf_free(&content);
}

/* ---- the writer's thread ----------------------------------------------------------------------------------------- */

static void test_thread_completes_in_order(void **state)
{
    (void)state;
    enum { ENTRIES = 2000 };
    wal_fixture_config.disk = NULL;
    wal_fixture_config.inline_writes = false;
    wal_fixture_config.segment_bytes = 64 << 10;
    wal_fixture_create();
    struct wal *wal = wal_fixture_reopen();
    uint64_t durable = 0, seen = 0;
    for (unsigned i = 2; i <= ENTRIES; i++) {
        char text[32];
        snprintf(text, sizeof text, "entry %u", i);
        struct wal_entry entry = wal_fixture_entry_of(1, bytes_of_text(text));
        wal_append(wal, &entry, 1);
        if (i % 100 == 0)
            wal_put_hard_state(wal, i, 1);
        if (i % 500 == 0)
            wal_fixture_put_snapshot(wal, i - 1, 1, 10);
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
    wal = wal_fixture_open_expecting(&loaded);
    assert_int_equal(wal_fixture_last_index(&loaded), ENTRIES);
    assert_int_equal(loaded.snapshot.index, ENTRIES - 1);
    wal_loaded_free(&loaded);
    wal_abandon(wal);
}

int main(void)
{
#define WAL_TEST(name) cmocka_unit_test_setup_teardown(name, wal_fixture_set_up, wal_fixture_tear_down)
    const struct CMUnitTest tests[] = {
        WAL_TEST(test_what_was_written_is_read_back),
        WAL_TEST(test_segments_follow_one_another_and_large_batches_fit),
        WAL_TEST(test_first_start_is_explicit),
        WAL_TEST(test_one_process_at_a_time),
        WAL_TEST(test_removed_folder_acknowledges_nothing),
        WAL_TEST(test_snapshot_keeps_the_trailing_entries),
        WAL_TEST(test_installed_snapshot_replaces_the_log),
        WAL_TEST(test_log_that_ends_before_the_snapshot_is_discarded),
        WAL_TEST(test_log_with_another_term_at_the_snapshot_is_discarded),
        WAL_TEST(test_log_that_leads_up_to_the_snapshot_stays),
        WAL_TEST(test_damaged_snapshot_is_refused),
        WAL_TEST(test_thread_completes_in_order),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
