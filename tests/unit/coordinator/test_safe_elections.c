/* What `safe` guards around elections: B, D, E. Every script runs twice, with the measure and without: the second run
 * shows that libraft 0.15 really does what the measure is against. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/unit/coordinator/fake_raft.h"

static struct fake_raft fake;
static const struct fake_entry one = {1, 0};

/* ---- B ----------------------------------------------------------------------------------------------------------- */

static void wait_ms(unsigned ms)
{
    for (unsigned i = 0; i < ms; i += 10)
        fake_raft_tick(&fake, 10);
}

static unsigned short state_after_timeout_with_append(unsigned disabled)
{
    fake_raft_start(&fake, disabled, 1, NULL, 0);
    fake_raft_append_entries(&fake, 2, 1, 1, 1, 1, &one, 1);
    wait_ms(3 * FAKE_T);
    unsigned short state = fake.raft.state;
    fake_raft_complete_all(&fake);
    if (state == RAFT_FOLLOWER) { /* once durable, time counts again */
        wait_ms(3 * FAKE_T);
        assert_int_equal(fake.raft.state, RAFT_CANDIDATE);
    }
    fake_raft_stop(&fake);
    return state;
}

static void test_b_no_timeout_while_an_append_is_written(void **state)
{
    (void)state;
    assert_int_equal(state_after_timeout_with_append(0), RAFT_FOLLOWER);
    assert_int_equal(state_after_timeout_with_append(SAFE_B), RAFT_CANDIDATE);
}

static unsigned short state_after_timeout_with_install(unsigned disabled)
{
    fake_raft_start(&fake, disabled, 1, NULL, 0);
    fake_raft_install(&fake, 2, 1, 10, 1);
    wait_ms(3 * FAKE_T);
    unsigned short state = fake.raft.state;
    if (state != RAFT_FOLLOWER) { /* its answer would read a leader's address out of the candidate's votes */
        fake.raft.snapshot.put.data = NULL;
        return state;
    }
    fake_raft_complete_put(&fake, 0);
    fake_raft_stop(&fake);
    return state;
}

static void script_candidate_with_install(unsigned disabled)
{
    if (state_after_timeout_with_install(disabled) == RAFT_CANDIDATE)
        fake.safe.config.fatal(&fake, STATUS_CONFLICT, "candidate while installing");
}

static void test_b_no_timeout_while_a_snapshot_is_installed(void **state)
{
    (void)state;
    assert_int_equal(state_after_timeout_with_install(0), RAFT_FOLLOWER);
    assert_true(fake_raft_dies(script_candidate_with_install, SAFE_B, "candidate while installing"));
}

/* A TimeoutNow for a log that is not durable yet. */
static bool campaigns_with_append(unsigned disabled)
{
    fake_raft_start(&fake, disabled, 1, NULL, 0);
    fake_raft_append_entries(&fake, 2, 1, 1, 1, 1, &one, 1);
    fake_raft_timeout_now(&fake, 2, 1, 2, 1);
    bool campaigns = fake.raft.state == RAFT_CANDIDATE;
    fake_raft_complete_all(&fake);
    assert_int_equal(fake.raft.state, RAFT_CANDIDATE); /* delayed, not lost */
    const struct fake_sent *ask = fake_raft_last(&fake, RAFT_IO_REQUEST_VOTE, 2, 0);
    assert_non_null(ask);
    assert_true(ask->message.request_vote.disrupt_leader);
    fake_raft_stop(&fake);
    return campaigns;
}

static void test_b_timeout_now_waits_for_the_disk(void **state)
{
    (void)state;
    assert_false(campaigns_with_append(0));
    assert_true(campaigns_with_append(SAFE_B));
}

static void test_b_timeout_now_is_void_in_a_higher_term(void **state)
{
    (void)state;
    fake_raft_start(&fake, 0, 1, NULL, 0);
    fake_raft_append_entries(&fake, 2, 1, 1, 1, 1, &one, 1);
    fake_raft_timeout_now(&fake, 2, 1, 2, 1);
    fake_raft_ask_vote(&fake, 3, 2, 2, 1);
    fake_raft_complete_all(&fake);
    assert_int_equal(fake.raft.state, RAFT_FOLLOWER);
    assert_int_equal(fake.raft.current_term, 2);
    fake_raft_stop(&fake);
}

static void test_b_leaders_tick_while_they_write(void **state)
{
    (void)state;
    fake_raft_start(&fake, 0, 1, NULL, 0);
    fake_raft_elect(&fake);
    unsigned before = fake.sent_count;
    fake_raft_tick(&fake, FAKE_HEARTBEAT);
    assert_int_equal(fake.appends_count, 1);
    assert_non_null(fake_raft_first(&fake, RAFT_IO_APPEND_ENTRIES, 3, before));
    fake_raft_stop(&fake);
}

/* ---- D ----------------------------------------------------------------------------------------------------------- */

static raft_term term_after_timeout(unsigned disabled)
{
    fake_raft_start(&fake, disabled, 5, NULL, 0);
    wait_ms(3 * FAKE_T);
    assert_int_equal(fake.raft.state, RAFT_CANDIDATE);
    raft_term term = fake.term;
    const struct fake_sent *ask = fake_raft_first(&fake, RAFT_IO_REQUEST_VOTE, 0, 0);
    assert_non_null(ask);
    assert_int_equal(ask->message.request_vote.pre_vote, term == 5);
    fake_raft_stop(&fake);
    return term;
}

static void test_d_a_lonely_server_does_not_raise_its_term(void **state)
{
    (void)state;
    assert_int_equal(term_after_timeout(0), 5);
    assert_true(term_after_timeout(SAFE_D) > 5);
}

static void test_d_timeouts_are_staggered_by_rank(void **state)
{
    (void)state;
    for (unsigned rank = 0; rank < 5; rank++) {
        fake_raft_start(&fake, 0, 1, NULL, 0);
        fake.safe.config.rank = rank;
        for (int i = 0; i < 100; i++) {
            int value = fake.safe.io.random(&fake.safe.io, FAKE_T, 2 * FAKE_T);
            assert_in_range(value, FAKE_T + 15 * rank, FAKE_T + 15 * rank + 10);
        }
        fake.safe.config.rank = 1000;
        assert_int_equal(fake.safe.io.random(&fake.safe.io, FAKE_T, 2 * FAKE_T), 2 * FAKE_T);
        fake_raft_stop(&fake);
    }
}

/* ---- E ----------------------------------------------------------------------------------------------------------- */

/* We hand leadership to 2, but 3 asks for our vote in the next term first; libraft grants the transferee a second. */
static void script_two_votes(unsigned disabled)
{
    fake_raft_start(&fake, disabled, 1, NULL, 0);
    fake_raft_elect(&fake);
    fake_raft_complete_all(&fake);
    raft_term term = fake.raft.current_term;
    static struct raft_transfer transfer;
    CHECK(raft_transfer(&fake.raft, &transfer, 2, NULL) == 0);
    fake_raft_ask_vote(&fake, 3, term + 1, 2, term);
    CHECK(fake.vote == 3 && fake.term == term + 1);
    unsigned written = fake.votes_written;
    unsigned before = fake.sent_count;
    fake_raft_ask_vote(&fake, 2, term + 1, 2, term);
    const struct fake_sent *answer = fake_raft_last(&fake, RAFT_IO_REQUEST_VOTE_RESULT, 2, before);
    CHECK(answer != NULL && answer->message.request_vote_result.vote_granted);
    CHECK(fake.votes_written == written + 1 && fake.vote == 2 && fake.term == term + 1);
}

static void test_e_second_vote_in_a_term_is_fatal(void **state)
{
    (void)state;
    assert_true(fake_raft_dies(script_two_votes, 0, "a second vote"));
    assert_false(fake_raft_dies(script_two_votes, SAFE_E, "a second vote"));
}

static void test_e_votes_of_different_terms_are_fine(void **state)
{
    (void)state;
    fake_raft_start(&fake, 0, 1, NULL, 0);
    fake_raft_ask_vote(&fake, 3, 2, 1, 1);
    fake_raft_ask_vote(&fake, 3, 2, 1, 1);
    fake_raft_ask_vote(&fake, 2, 3, 1, 1);
    assert_int_equal(fake.vote, 2);
    fake_raft_stop(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_b_no_timeout_while_an_append_is_written),
        cmocka_unit_test(test_b_no_timeout_while_a_snapshot_is_installed),
        cmocka_unit_test(test_b_timeout_now_waits_for_the_disk),
        cmocka_unit_test(test_b_timeout_now_is_void_in_a_higher_term),
        cmocka_unit_test(test_b_leaders_tick_while_they_write),
        cmocka_unit_test(test_d_a_lonely_server_does_not_raise_its_term),
        cmocka_unit_test(test_d_timeouts_are_staggered_by_rank),
        cmocka_unit_test(test_e_second_vote_in_a_term_is_fatal),
        cmocka_unit_test(test_e_votes_of_different_terms_are_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
