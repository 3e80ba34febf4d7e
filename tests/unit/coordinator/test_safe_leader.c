/* What `safe` guards while we lead: A1, A2, F, C, and that there is no second leader. Every script runs twice, with the
 * measure and without: the second run shows that libraft 0.15 really does what the measure is against. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/unit/coordinator/fake_raft.h"

static struct fake_raft fake;

/* ---- A1 ---------------------------------------------------------------------------------------------------------- */

/* Whether the first AppendEntries of a new leader carries its barrier. */
static bool first_append_carries_barrier(unsigned disabled)
{
    static const struct fake_entry log[] = {{1, 0}};
    fake_raft_start(&fake, disabled, 1, log, 1);
    unsigned before = fake.sent_count;
    fake_raft_elect(&fake);
    bool carries = true;
    for (raft_id to = 2; to <= 3; to++) {
        const struct fake_sent *first = fake_raft_first(&fake, RAFT_IO_APPEND_ENTRIES, to, before);
        assert_non_null(first); /* at once, without the wait for a heartbeat */
        const struct raft_append_entries *append = &first->message.append_entries;
        carries = carries && append->n_entries == 1 && first->entries[0].type == RAFT_BARRIER &&
                  first->entries[0].term == append->term && append->prev_log_index == 2;
    }
    fake_raft_stop(&fake);
    return carries;
}

static void test_a1_first_append_carries_the_barrier(void **state)
{
    (void)state;
    assert_true(first_append_carries_barrier(0));
    assert_false(first_append_carries_barrier(SAFE_A1));
}

/* While a leadership transfer of ours is pending, raft_barrier answers NOTLEADER, also in the next term that we lead.
 */
static void test_a1_barrier_waits_for_an_old_transfer(void **state)
{
    (void)state;
    fake_raft_start(&fake, 0, 1, NULL, 0);
    fake_raft_elect(&fake);
    fake_raft_complete_all(&fake);
    raft_term term = fake.raft.current_term;
    struct raft_transfer transfer = {.data = &fake};
    assert_int_equal(raft_transfer(&fake.raft, &transfer, 2, NULL), 0);
    fake_raft_tick(&fake, FAKE_T / 2);
    fake_raft_append_entries(&fake, 3, term + 1, 2, term, 2, NULL, 0); /* 3 leads, and hands leadership to us at once */
    fake_raft_timeout_now(&fake, 3, term + 1, 2, term);
    unsigned before = fake.sent_count;
    fake_raft_vote(&fake, 2, false);
    assert_int_equal(fake.raft.state, RAFT_LEADER);
    assert_non_null(fake.raft.transfer);
    assert_int_equal(fake.safe.barrier, SAFE_BARRIER_NONE);
    assert_null(fake_raft_first(&fake, RAFT_IO_APPEND_ENTRIES, 0, before));
    fake_raft_tick(&fake, FAKE_T / 2); /* libraft gives the transfer up */
    assert_null(fake.raft.transfer);
    const struct fake_sent *first = fake_raft_first(&fake, RAFT_IO_APPEND_ENTRIES, 2, before);
    assert_non_null(first);
    assert_int_equal(first->entries[0].type, RAFT_BARRIER);
    fake_raft_stop(&fake);
}

/* ---- A2 ---------------------------------------------------------------------------------------------------------- */

/* Entry 2 is of an older term. A follower stores it and the barrier while our disk still works on the barrier: the
 * commit index at that moment. */
static raft_index commit_before_barrier_is_stored(unsigned disabled)
{
    static const struct fake_entry log[] = {{1, 0}};
    fake_raft_start(&fake, disabled, 1, log, 1);
    fake_raft_elect(&fake);
    fake_raft_appended(&fake, 2, 3);
    raft_index before = fake.raft.commit_index;
    fake_raft_complete_all(&fake);
    assert_int_equal(fake.raft.commit_index, 3); /* what was held is delivered with the barrier */
    assert_true(safe_leading(&fake.safe));
    fake_raft_stop(&fake);
    return before;
}

static void test_a2_old_entries_are_not_committed_by_counting(void **state)
{
    (void)state;
    assert_int_equal(commit_before_barrier_is_stored(0), 1);
    assert_int_equal(commit_before_barrier_is_stored(SAFE_A2), 2);
}

/* A disk slower than the election timeout: held results still are contact, so the leader stays. */
static void test_a2_slow_disk_keeps_its_followers(void **state)
{
    (void)state;
    fake_raft_start(&fake, 0, 1, NULL, 0);
    fake_raft_elect(&fake);
    for (int i = 0; i < 200; i++) {
        fake_raft_tick(&fake, 10);
        fake_raft_appended(&fake, 2, 2);
        assert_int_equal(fake.raft.state, RAFT_LEADER);
    }
    assert_false(safe_leading(&fake.safe));
    fake_raft_complete_all(&fake);
    assert_true(safe_leading(&fake.safe));
    fake_raft_stop(&fake);
}

static void test_a2_rejections_pass(void **state)
{
    (void)state;
    static const struct fake_entry log[] = {{1, 0}, {1, 0}};
    fake_raft_start(&fake, 0, 1, log, 2);
    fake_raft_elect(&fake);
    unsigned before = fake.sent_count;
    struct raft_message message = {
        .type = RAFT_IO_APPEND_ENTRIES_RESULT,
        .server_id = 2,
        .server_address = "c2",
        .append_entries_result = {.term = fake.raft.current_term, .rejected = 3, .last_log_index = 1}};
    fake_raft_tick(&fake, FAKE_HEARTBEAT);
    fake.recv(&fake.inner, &message);
    fake_raft_tick(&fake, FAKE_HEARTBEAT);
    const struct fake_sent *last = fake_raft_last(&fake, RAFT_IO_APPEND_ENTRIES, 2, before);
    assert_non_null(last);
    assert_int_equal(last->message.append_entries.prev_log_index, 1); /* the leader went back */
    fake_raft_stop(&fake);
}

/* ---- F ----------------------------------------------------------------------------------------------------------- */

/* Steady load: our disk is fast, so it has always stored one entry more than the follower has answered for. */
static raft_index commit_under_steady_load(unsigned disabled, raft_index *answered)
{
    fake_raft_start(&fake, disabled, 1, NULL, 0);
    fake_raft_elect(&fake);
    fake_raft_complete_all(&fake);
    fake_raft_appended(&fake, 2, 2);
    assert_int_equal(fake.raft.commit_index, 2);
    for (raft_index index = 3; index < 20; index++) {
        fake_raft_propose(&fake);
        fake_raft_complete_all(&fake);
        fake_raft_appended(&fake, 2, index - 1);
        *answered = index - 1;
    }
    raft_index commit = fake.raft.commit_index;
    fake_raft_stop(&fake);
    return commit;
}

static void test_f_steady_load_commits(void **state)
{
    (void)state;
    raft_index answered;
    assert_int_equal(commit_under_steady_load(0, &answered), 18);
    assert_int_equal(answered, 18);
    assert_int_equal(commit_under_steady_load(SAFE_F, &answered), 2); /* never */
}

static void test_f_held_appends_are_delivered_when_leadership_is_lost(void **state)
{
    (void)state;
    fake_raft_start(&fake, 0, 1, NULL, 0);
    fake_raft_elect(&fake);
    fake_raft_complete_all(&fake);
    fake_raft_appended(&fake, 2, 2);
    fake_raft_propose(&fake);
    fake_raft_propose(&fake);
    fake_raft_complete_all(&fake);
    assert_int_equal(fake.raft.last_stored, 3); /* the second is held */
    fake_raft_append_entries(&fake, 3, fake.raft.current_term + 1, 2, 2, 2, NULL, 0);
    assert_int_equal(fake.raft.state, RAFT_FOLLOWER);
    assert_int_equal(fake.raft.last_stored, 4);
    assert_int_equal(fake.completed, 0); /* lost leadership is not success */
    fake_raft_stop(&fake);
}

/* ---- C ----------------------------------------------------------------------------------------------------------- */

static void script_failed_completion(unsigned disabled)
{
    fake_raft_start(&fake, disabled, 1, NULL, 0);
    fake_raft_elect(&fake);
    fake_raft_complete(&fake, RAFT_IOERR);
}

static void script_failed_append(unsigned disabled)
{
    fake_raft_start(&fake, disabled, 1, NULL, 0);
    static const struct fake_entry entry = {1, 0};
    fake.fails = true;
    fake_raft_append_entries(&fake, 2, 1, 1, 1, 1, &entry, 1);
}

static void script_failed_term(unsigned disabled)
{
    fake_raft_start(&fake, disabled, 1, NULL, 0);
    fake.fails = true;
    fake_raft_append_entries(&fake, 2, 2, 1, 1, 1, NULL, 0);
}

static void script_failed_truncate(unsigned disabled)
{
    static const struct fake_entry log[] = {{1, 0}}, entry = {2, 0};
    fake_raft_start(&fake, disabled, 2, log, 1);
    fake.fails = true;
    fake_raft_append_entries(&fake, 2, 2, 1, 1, 1, &entry, 1);
}

static void script_failed_snapshot(unsigned disabled)
{
    fake_raft_start(&fake, disabled, 1, NULL, 0);
    fake_raft_install(&fake, 2, 1, 10, 1);
    fake_raft_complete_put(&fake, RAFT_IOERR);
}

static void test_c_failed_disk_operations_are_fatal(void **state)
{
    (void)state;
    assert_true(fake_raft_dies(script_failed_completion, 0, "an append failed"));
    assert_false(fake_raft_dies(script_failed_completion, SAFE_C, "an append failed"));
    assert_true(fake_raft_dies(script_failed_append, 0, "can't append"));
    assert_true(fake_raft_dies(script_failed_term, 0, "can't store the term"));
    assert_true(fake_raft_dies(script_failed_truncate, 0, "can't truncate"));
    assert_true(fake_raft_dies(script_failed_snapshot, 0, "a snapshot failed"));
    assert_false(fake_raft_dies(script_failed_snapshot, SAFE_C, "a snapshot failed"));
}

/* Without C libraft itself stops on a failed call; then that is fatal. */
static void test_libraft_that_stopped_is_fatal(void **state)
{
    (void)state;
    assert_true(fake_raft_dies(script_failed_term, SAFE_C, "libraft stopped"));
}

static void script_two_leaders(unsigned disabled)
{
    fake_raft_start(&fake, disabled, 1, NULL, 0);
    fake_raft_elect(&fake);
    fake_raft_append_entries(&fake, 2, fake.raft.current_term, 1, 1, 1, NULL, 0);
}

static void script_two_leaders_by_snapshot(unsigned disabled)
{
    fake_raft_start(&fake, disabled, 1, NULL, 0);
    fake_raft_elect(&fake);
    fake_raft_install(&fake, 2, fake.raft.current_term, 10, 1);
}

static void test_another_leader_in_our_term_is_fatal(void **state)
{
    (void)state;
    assert_true(fake_raft_dies(script_two_leaders, 0, "another leader"));
    assert_true(fake_raft_dies(script_two_leaders_by_snapshot, 0, "another leader"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a1_first_append_carries_the_barrier),
        cmocka_unit_test(test_a1_barrier_waits_for_an_old_transfer),
        cmocka_unit_test(test_a2_old_entries_are_not_committed_by_counting),
        cmocka_unit_test(test_a2_slow_disk_keeps_its_followers),
        cmocka_unit_test(test_a2_rejections_pass),
        cmocka_unit_test(test_f_steady_load_commits),
        cmocka_unit_test(test_f_held_appends_are_delivered_when_leadership_is_lost),
        cmocka_unit_test(test_c_failed_disk_operations_are_fatal),
        cmocka_unit_test(test_libraft_that_stopped_is_fatal),
        cmocka_unit_test(test_another_leader_in_our_term_is_fatal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
