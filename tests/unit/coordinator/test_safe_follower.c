/* What `safe` guards while we follow: A3, G, H. Every script runs twice, with the measure and without: the second run
 * shows that libraft 0.15 really does what the measure is against. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/unit/coordinator/fake_raft.h"

static struct fake_raft fake;

static raft_index last_answer(unsigned since)
{
    const struct fake_sent *answer = fake_raft_last(&fake, RAFT_IO_APPEND_ENTRIES_RESULT, 0, since);
    assert_non_null(answer);
    assert_int_equal(answer->message.append_entries_result.rejected, 0);
    return answer->message.append_entries_result.last_log_index;
}

/* ---- A3 ---------------------------------------------------------------------------------------------------------- */

/* Entries 2 and 3 are a stale tail; the new leader's log has only entry 1 in common, and says so. */
static void hear_of_new_leader(unsigned disabled, raft_index leader_commit)
{
    static const struct fake_entry log[] = {{1, 0}, {1, 0}};
    fake_raft_start(&fake, disabled, 1, log, 2);
    fake_raft_append_entries(&fake, 2, 2, 1, 1, leader_commit, NULL, 0);
}

static raft_index answer_with_stale_tail(unsigned disabled)
{
    hear_of_new_leader(disabled, 1);
    raft_index answer = last_answer(0);
    fake_raft_stop(&fake);
    return answer;
}

static void test_a3_stale_tail_is_no_match(void **state)
{
    (void)state;
    assert_int_equal(answer_with_stale_tail(0), 1);
    assert_int_equal(answer_with_stale_tail(SAFE_A3), 3);
}

static unsigned applied_of_stale_tail(unsigned disabled)
{
    hear_of_new_leader(disabled, 3); /* the leader has committed a 2 and 3 of its own */
    unsigned applied = fake.applied;
    fake_raft_stop(&fake);
    return applied;
}

static void test_a3_commit_index_stops_at_what_was_proved(void **state)
{
    (void)state;
    assert_int_equal(applied_of_stale_tail(0), 0);
    assert_int_equal(applied_of_stale_tail(SAFE_A3), 2);
}

/* An append of term 1 completes when a leader of term 2, which does not have these entries, is known. */
static raft_index answer_of_old_append(unsigned disabled)
{
    static const struct fake_entry entries[] = {{1, 0}, {1, 0}};
    fake_raft_start(&fake, disabled | SAFE_H, 1, NULL, 0);
    fake_raft_append_entries(&fake, 2, 1, 1, 1, 1, entries, 2);
    fake_raft_append_entries(&fake, 3, 2, 1, 1, 1, NULL, 0);
    unsigned before = fake.sent_count;
    fake_raft_complete_all(&fake);
    raft_index answer = last_answer(before);
    fake_raft_stop(&fake);
    return answer;
}

static void test_a3_old_append_proves_nothing_in_a_new_term(void **state)
{
    (void)state;
    assert_int_equal(answer_of_old_append(0), 1);
    assert_int_equal(answer_of_old_append(SAFE_A3), 3);
}

static void test_a3_accepted_entries_and_snapshots_are_reported(void **state)
{
    (void)state;
    static const struct fake_entry entries[] = {{1, 0}, {1, 0}};
    fake_raft_start(&fake, 0, 1, NULL, 0);
    fake_raft_append_entries(&fake, 2, 1, 1, 1, 1, entries, 2);
    fake_raft_complete_all(&fake);
    assert_int_equal(last_answer(0), 3);
    unsigned before = fake.sent_count;
    fake_raft_append_entries(&fake, 2, 1, 1, 1, 3, entries, 2); /* once more: nothing to write */
    assert_int_equal(last_answer(before), 3);
    assert_int_equal(fake.applied, 2);
    before = fake.sent_count;
    fake_raft_install(&fake, 2, 1, 10, 1);
    fake_raft_complete_put(&fake, 0);
    assert_int_equal(last_answer(before), 10);
    fake_raft_stop(&fake);
}

/* ---- G ----------------------------------------------------------------------------------------------------------- */

static void script_truncate_change(unsigned disabled)
{
    static const struct fake_entry old[] = {{1, 0}, {1, RAFT_CHANGE}, {1, 0}}, entry = {2, 0};
    fake_raft_start(&fake, disabled, 1, NULL, 0);
    fake_raft_append_entries(&fake, 2, 1, 1, 1, 1, old, 3);
    fake_raft_complete_all(&fake);
    CHECK(fake.raft.configuration.n == 4);
    fake_raft_append_entries(&fake, 3, 2, 2, 1, 1, &entry, 1);
    CHECK(fake.truncates == 1);
}

static void script_truncate_behind_change(unsigned disabled)
{
    static const struct fake_entry old[] = {{1, 0}, {1, RAFT_CHANGE}, {1, 0}}, entry = {2, 0};
    fake_raft_start(&fake, disabled, 1, NULL, 0);
    fake_raft_append_entries(&fake, 2, 1, 1, 1, 1, old, 3);
    fake_raft_complete_all(&fake);
    fake_raft_append_entries(&fake, 3, 2, 3, 1, 1, &entry, 1);
    CHECK(fake.truncates == 1 && fake.flushes == 0);
}

/* The configuration that holds is only in a snapshot: libraft's roll-back would read an entry that is not there. */
static void script_truncate_change_behind_snapshot(unsigned disabled)
{
    static const struct fake_entry change = {2, RAFT_CHANGE}, entry = {3, 0};
    fake_raft_start(&fake, disabled, 1, NULL, 0);
    fake_raft_install(&fake, 2, 2, 10, 1);
    fake_raft_complete_put(&fake, 0);
    fake.log_count = 10; /* as the snapshot has it */
    fake_raft_append_entries(&fake, 2, 2, 10, 1, 10, &change, 1);
    fake_raft_complete_all(&fake);
    CHECK(fake.raft.configuration.n == 4);
    fake_raft_append_entries(&fake, 3, 3, 10, 1, 10, &entry, 1);
}

static void test_g_truncated_configuration_is_fatal(void **state)
{
    (void)state;
    assert_true(fake_raft_dies(script_truncate_change, 0, "a configuration was truncated"));
    assert_false(fake_raft_dies(script_truncate_change, SAFE_G, "a configuration was truncated"));
    assert_false(fake_raft_dies(script_truncate_behind_change, 0, "a configuration was truncated"));
    assert_true(fake_raft_dies(script_truncate_change_behind_snapshot, 0, "a configuration was truncated"));
}

/* The threshold is reached while the log holds a configuration that is not committed: members in the snapshot. */
static unsigned members_in_snapshot(unsigned disabled)
{
    static const struct fake_entry entries[] = {{1, 0}, {1, 0}, {1, RAFT_CHANGE}};
    fake.snapshot_threshold = 2;
    fake_raft_start(&fake, disabled, 1, NULL, 0);
    fake.snapshot_threshold = 0;
    fake_raft_append_entries(&fake, 2, 1, 1, 1, 1, entries, 3);
    fake_raft_complete_all(&fake);
    fake_raft_append_entries(&fake, 2, 1, 3, 1, 3, NULL, 0);
    assert_int_equal(fake.applied, 2);
    unsigned members = fake.puts > 0 ? fake.put_servers : 0;
    if (fake.puts == 0) { /* once the configuration is applied, the snapshot comes, and has it rightly */
        fake_raft_append_entries(&fake, 2, 1, 4, 1, 4, NULL, 0);
        assert_int_equal(fake.puts, 1);
        assert_int_equal(fake.put_index, 4);
        assert_int_equal(fake.put_servers, 4);
    }
    fake_raft_complete_put(&fake, 0);
    fake_raft_stop(&fake);
    return members;
}

static void test_g_no_snapshot_with_an_uncommitted_configuration(void **state)
{
    (void)state;
    assert_int_equal(members_in_snapshot(0), 0);
    assert_int_equal(members_in_snapshot(SAFE_G), 4); /* which at that index were three */
}

/* ---- H ----------------------------------------------------------------------------------------------------------- */

/* Entries 2 and 3 of term 1 are on their way to the disk; a leader of term 2 replaces them, one of term 3 brings them
 * back. Then the very first append completes, and nothing else. (Going on, libraft would free entries twice.) */
static void script_replaced_twice(unsigned disabled)
{
    static const struct fake_entry first[] = {{1, 0}, {1, 0}}, second[] = {{2, 0}};
    fake_raft_start(&fake, disabled, 1, NULL, 0);
    fake_raft_append_entries(&fake, 2, 1, 1, 1, 1, first, 2);
    fake_raft_append_entries(&fake, 3, 2, 1, 1, 1, second, 1);
    fake_raft_append_entries(&fake, 2, 3, 1, 1, 1, first, 2);
    fake_raft_complete(&fake, 0);
    if (fake.truncates == 2 && fake.raft.last_stored == 3)
        fake.safe.config.fatal(&fake, STATUS_CONFLICT, "counts what was truncated as stored");
}

static void test_h_an_old_append_is_not_taken_for_a_new_one(void **state)
{
    (void)state;
    assert_false(fake_raft_dies(script_replaced_twice, 0, "counts what was truncated"));
    assert_true(fake_raft_dies(script_replaced_twice, SAFE_H, "counts what was truncated"));
}

static void test_h_the_new_leader_is_heard_once_the_disk_is_done(void **state)
{
    (void)state;
    static const struct fake_entry first[] = {{1, 0}, {1, 0}}, second[] = {{2, 0}};
    fake_raft_start(&fake, 0, 1, NULL, 0);
    fake_raft_append_entries(&fake, 2, 1, 1, 1, 1, first, 2);
    fake_raft_append_entries(&fake, 3, 2, 1, 1, 1, second, 1);
    assert_int_equal(fake.raft.current_term, 1);
    fake_raft_complete_all(&fake);
    fake_raft_append_entries(&fake, 3, 2, 1, 1, 1, second, 1);
    assert_int_equal(fake.truncates, 1);
    fake_raft_complete_all(&fake);
    assert_int_equal(last_answer(0), 2);
    fake_raft_stop(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a3_stale_tail_is_no_match),
        cmocka_unit_test(test_a3_commit_index_stops_at_what_was_proved),
        cmocka_unit_test(test_a3_old_append_proves_nothing_in_a_new_term),
        cmocka_unit_test(test_a3_accepted_entries_and_snapshots_are_reported),
        cmocka_unit_test(test_g_truncated_configuration_is_fatal),
        cmocka_unit_test(test_g_no_snapshot_with_an_uncommitted_configuration),
        cmocka_unit_test(test_h_an_old_append_is_not_taken_for_a_new_one),
        cmocka_unit_test(test_h_the_new_leader_is_heard_once_the_disk_is_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
