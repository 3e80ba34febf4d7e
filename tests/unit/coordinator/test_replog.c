/* The replicated log's interface, with one voter and a real log: when it starts and when it refuses to, what a proposal
 * answers, what survives a restart, and that no frame from a peer can hurt it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <poll.h>

#include "base/check.h"
#include "base/log.h"
#include "base/rng.h"
#include "coordinator/consensus/replog.h"
#include "proto/proto.h"
#include "tests/unit/coordinator/faulty_disk.h"
#include "tests/unit/coordinator/temp_folder.h"

enum { EXIT_FATAL = 42 };

static struct temp_folder folder;
static struct replog_config config;
static struct replog *replog;
static uint64_t now_us;
static struct buf applied; /* every command, in order */
static uint64_t applied_index;
static unsigned sent, done_ok, done_else, restores;
static bool leading;

/* ---- surroundings ------------------------------------------------------------------------------------------------ */

static void on_apply(void *context, uint64_t index, struct bytes command)
{
    (void)context;
    assert_true(index > applied_index);
    applied_index = index;
    buf_append_bytes(&applied, command);
}

static enum status on_snapshot(void *context, struct buf *out)
{
    (void)context;
    buf_append_bytes(out, buf_bytes(&applied));
    return STATUS_OK;
}

static enum status on_restore(void *context, uint64_t index, struct bytes snapshot)
{
    (void)context;
    buf_clear(&applied);
    buf_append_bytes(&applied, snapshot);
    applied_index = index;
    restores++;
    return STATUS_OK;
}

static enum status on_send(void *context, uint64_t to, struct bytes frame)
{
    (void)context;
    (void)to;
    (void)frame;
    sent++;
    return STATUS_OK;
}

static void on_role(void *context, bool now_leading, uint64_t leader, uint64_t term)
{
    (void)context;
    (void)leader;
    (void)term;
    leading = now_leading;
}

static __attribute__((noreturn)) void on_fatal(void *context, enum status status, const char *why)
{
    (void)context;
    (void)status;
    (void)why;
    _exit(EXIT_FATAL);
}

static int set_up(void **state)
{
    (void)state;
    temp_folder_make(&folder);
    config = (struct replog_config){
        .folder = folder.path,
        .cluster_id = "a cluster",
        .raft_id = 1,
        .members = {{1, "c1"}},
        .members_count = 1,
        .election_timeout_ms = 200,
        .heartbeat_ms = 50,
        .snapshot_threshold = 1000,
        .peers = {.send = on_send},
        .fsm = {.apply = on_apply, .snapshot = on_snapshot, .restore = on_restore},
        .seed = 1,
        .on_role = on_role,
        .fatal = on_fatal,
    };
    buf_init(&applied, 1 << 24);
    applied_index = 0;
    sent = done_ok = done_else = restores = 0;
    leading = false;
    now_us = 5000000;
    replog = NULL;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (replog != NULL)
        replog_close(replog);
    buf_free(&applied);
    temp_folder_remove(&folder);
    return 0;
}

static void open_log(bool first_start)
{
    struct error error = {0};
    config.first_start = first_start;
    buf_clear(&applied);
    applied_index = 0;
    if (replog_open(&config, &replog, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

static void expect_refused(bool first_start, enum status expected)
{
    struct error error = {0};
    config.first_start = first_start;
    assert_int_equal(replog_open(&config, &replog, &error), expected);
    assert_true(error.text[0] != 0);
    replog = NULL;
}

/* Runs until `wanted` holds; ten seconds are a fault. */
static void run_until(bool (*wanted)(uint64_t argument), uint64_t argument)
{
    for (int i = 0; i < 1000 && !wanted(argument); i++) {
        struct pollfd poll_fd = {.fd = replog_disk_fd(replog), .events = POLLIN};
        if (config.disk_inline || poll(&poll_fd, 1, 10) > 0)
            replog_disk_ready(replog, now_us);
        now_us += 10000;
        replog_tick(replog, now_us);
    }
    assert_true(wanted(argument));
}

static bool is_leading(uint64_t argument)
{
    (void)argument;
    return leading && replog_leading(replog);
}

static bool all_done(uint64_t count)
{
    return done_ok + done_else >= count;
}

static void on_done(struct replog_propose *propose, enum status status, uint64_t index)
{
    assert_true(status != STATUS_OK || index <= applied_index);
    done_ok += status == STATUS_OK;
    done_else += status != STATUS_OK;
    free(propose);
}

static enum status propose(struct bytes command)
{
    struct replog_propose *one = calloc(1, sizeof *one);
    assert_non_null(one);
    one->done = on_done;
    enum status status = replog_propose(replog, one, command);
    if (status != STATUS_OK)
        free(one);
    return status;
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static void test_what_was_applied_is_there_after_a_restart(void **state)
{
    (void)state;
    open_log(true);
    run_until(is_leading, 0);
    assert_int_equal(replog_leader(replog), 1);
    assert_int_equal(propose(BYTES_LITERAL("one,")), STATUS_OK);
    assert_int_equal(propose(BYTES_LITERAL("two,")), STATUS_OK);
    assert_int_equal(done_ok, 0); /* never inside the call */
    run_until(all_done, 2);
    assert_int_equal(done_ok, 2);
    assert_string_equal(buf_text(&applied), "one,two,");
    replog_close(replog);
    open_log(false);
    run_until(is_leading, 0);
    assert_int_equal(propose(BYTES_LITERAL("three,")), STATUS_OK);
    run_until(all_done, 3);
    assert_string_equal(buf_text(&applied), "one,two,three,");
    assert_int_equal(restores, 0);
    assert_int_equal(replog_applied(replog), applied_index);
}

static void test_snapshot_and_restart(void **state)
{
    (void)state;
    config.snapshot_threshold = 10;
    open_log(true);
    run_until(is_leading, 0);
    for (int i = 0; i < 25; i++)
        assert_int_equal(propose(BYTES_LITERAL("x")), STATUS_OK);
    run_until(all_done, 25);
    replog_close(replog);
    open_log(false);
    run_until(is_leading, 0);
    assert_int_equal(restores, 1);
    assert_int_equal(applied.length, 25);
}

static void test_first_start_rules(void **state)
{
    (void)state;
    expect_refused(false, STATUS_NOT_FOUND);
    open_log(true);
    replog_close(replog);
    expect_refused(true, STATUS_EXISTS);
    config.cluster_id[0] ^= 1;
    expect_refused(false, STATUS_CONFLICT);
    expect_refused(true, STATUS_CONFLICT);
    config.cluster_id[0] ^= 1;
    config.raft_id = 2;
    expect_refused(false, STATUS_CONFLICT);
    config.raft_id = 1;
    open_log(false);
}

static void test_bad_configurations_are_refused(void **state)
{
    (void)state;
    config.members[1] = (struct replog_member){1, "c2"};
    config.members_count = 2;
    expect_refused(true, STATUS_INVALID);
    config.members[1] = (struct replog_member){2, "c1"};
    expect_refused(true, STATUS_INVALID);
    config.members_count = 0;
    expect_refused(true, STATUS_INVALID);
    config.members_count = 1;
    config.heartbeat_ms = 150;
    expect_refused(true, STATUS_INVALID);
}

static void test_proposals_wait_for_the_barrier(void **state)
{
    (void)state;
    open_log(true); /* the only voter leads at once, but its barrier is not even on disk */
    assert_int_equal(propose(BYTES_LITERAL("too early")), STATUS_NOT_LEADER);
    run_until(is_leading, 0);
    assert_int_equal(propose(BYTES_LITERAL("")), STATUS_INVALID);
    static const uint8_t large[(1 << 20) + 1];
    assert_int_equal(propose(bytes_of(large, sizeof large)), STATUS_LIMIT);
    assert_int_equal(propose(bytes_of(large, sizeof large - 1)), STATUS_OK);
    run_until(all_done, 1);
    assert_int_equal(applied.length, 1 << 20);
}

static void test_too_many_proposals_are_back_pressure(void **state)
{
    (void)state;
    open_log(true);
    run_until(is_leading, 0);
    unsigned taken = 0;
    while (propose(BYTES_LITERAL("y")) == STATUS_OK)
        taken++;
    assert_int_equal(propose(BYTES_LITERAL("y")), STATUS_FULL);
    assert_int_equal(taken, 4096);
    run_until(all_done, taken);
    assert_int_equal(propose(BYTES_LITERAL("y")), STATUS_OK);
    run_until(all_done, taken + 1);
    assert_int_equal(done_else, 0);
}

static void test_failed_disk_ends_the_process(void **state)
{
    (void)state;
    struct faulty_disk faulty;
    faulty_disk_init(&faulty);
    faulty.kinds = FAULTY_SYNC;
    config.disk = &faulty.disk;
    config.disk_inline = true; /* no thread, since the child forks */
    open_log(true);
    replog_close(replog);
    replog = NULL;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        open_log(false);
        run_until(is_leading, 0);
        faulty.left = 0;
        CHECK(propose(BYTES_LITERAL("never acknowledged")) == STATUS_OK);
        run_until(all_done, 1);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), EXIT_FATAL);
}

/* ---- frames ------------------------------------------------------------------------------------------------------ */

static enum status receive(enum proto_opcode opcode, const void *message)
{
    struct buf frame;
    buf_init(&frame, PROTO_FRAME_BYTES_MAX);
    assert_int_equal(proto_encode(&frame, opcode, message, NULL), STATUS_OK);
    enum status status = replog_receive(replog, 2, buf_bytes(&frame), now_us);
    buf_free(&frame);
    return status;
}

static void open_follower(void)
{
    config.members[1] = (struct replog_member){2, "c2"};
    config.members[2] = (struct replog_member){3, "c3"};
    config.members_count = 3;
    open_log(true);
}

/* What libraft would take on trust is refused before it. */
static void test_frames_that_contradict_themselves_are_refused(void **state)
{
    (void)state;
    open_follower();
    struct proto_raft_entry entry = {.term = 2, .type = 1, .data = BYTES_LITERAL("entry")};
    const struct proto_raft_append good = {
        .term = 2, .prev_log_index = 1, .prev_log_term = 1, .entries = &entry, .entries_count = 1};
    struct proto_raft_append append = good;
    append.term = 0;
    assert_int_equal(receive(PROTO_RAFT_APPEND, &append), STATUS_INVALID);
    append = good;
    append.term = UINT64_MAX;
    assert_int_equal(receive(PROTO_RAFT_APPEND, &append), STATUS_INVALID);
    append = good;
    append.prev_log_term = 0;
    assert_int_equal(receive(PROTO_RAFT_APPEND, &append), STATUS_INVALID);
    append = good;
    append.prev_log_term = 3;
    assert_int_equal(receive(PROTO_RAFT_APPEND, &append), STATUS_INVALID);
    append = good;
    append.prev_log_index = UINT64_MAX;
    assert_int_equal(receive(PROTO_RAFT_APPEND, &append), STATUS_INVALID);
    for (uint64_t type = 0; type < 256; type += type == 0 ? 3 : 1) { /* 0, then all but command and barrier */
        entry.type = type;
        assert_int_equal(receive(PROTO_RAFT_APPEND, &good), STATUS_INVALID); /* also a change of bytes like these */
    }
    entry.type = 1;
    entry.term = 3;
    assert_int_equal(receive(PROTO_RAFT_APPEND, &good), STATUS_INVALID);
    entry.term = 2;
    struct proto_raft_vote_ask ask = {.term = 9, .candidate = 3, .last_log_index = 1, .last_log_term = 1};
    assert_int_equal(receive(PROTO_RAFT_VOTE_ASK, &ask), STATUS_INVALID); /* from 2 in the name of 3 */
    struct proto_raft_timeout_now now = {.term = 1, .last_log_index = 0, .last_log_term = 1};
    assert_int_equal(receive(PROTO_RAFT_TIMEOUT_NOW, &now), STATUS_INVALID);
    struct proto_cancel other = {.stream = 1};
    assert_int_equal(receive(PROTO_CANCEL, &other), STATUS_INVALID); /* no message of this channel */
    assert_int_equal(replog_term(replog), 1);
    assert_int_equal(receive(PROTO_RAFT_APPEND, &good), STATUS_OK);
    assert_int_equal(replog_term(replog), 2);
    assert_int_equal(replog_leader(replog), 2);
}

static void test_snapshot_chunks_that_contradict_themselves_are_refused(void **state)
{
    (void)state;
    open_follower();
    struct proto_raft_server servers[2] = {{1, BYTES_LITERAL("c1"), 1}, {2, BYTES_LITERAL("c2"), 1}};
    const struct proto_raft_install good = {.term = 2,
                                            .last_index = 10,
                                            .last_term = 2,
                                            .configuration_index = 1,
                                            .configuration = servers,
                                            .configuration_count = 2,
                                            .total_bytes = 8,
                                            .data = BYTES_LITERAL("half")};
    struct proto_raft_install install = good;
    install.offset = 5;
    assert_int_equal(receive(PROTO_RAFT_INSTALL, &install), STATUS_INVALID);
    install = good;
    install.total_bytes = 1ULL << 40;
    assert_int_equal(receive(PROTO_RAFT_INSTALL, &install), STATUS_INVALID);
    install = good;
    install.configuration_index = 11;
    assert_int_equal(receive(PROTO_RAFT_INSTALL, &install), STATUS_INVALID);
    install = good;
    install.last_term = 3;
    assert_int_equal(receive(PROTO_RAFT_INSTALL, &install), STATUS_INVALID);
    install = good;
    install.configuration_count = 0;
    assert_int_equal(receive(PROTO_RAFT_INSTALL, &install), STATUS_INVALID);
    servers[1].id = 1;
    assert_int_equal(receive(PROTO_RAFT_INSTALL, &good), STATUS_INVALID);
    servers[1].id = 2;
    /* a chunk without its predecessor is ignored, both in order are the snapshot */
    struct proto_raft_install second = good;
    second.offset = 4;
    second.data = BYTES_LITERAL("half");
    assert_int_equal(receive(PROTO_RAFT_INSTALL, &second), STATUS_OK);
    assert_int_equal(replog_term(replog), 1);
    assert_int_equal(receive(PROTO_RAFT_INSTALL, &good), STATUS_OK);
    second.last_index = 11; /* of another snapshot */
    assert_int_equal(receive(PROTO_RAFT_INSTALL, &second), STATUS_OK);
    second.last_index = 10;
    assert_int_equal(receive(PROTO_RAFT_INSTALL, &second), STATUS_OK);
    assert_int_equal(replog_term(replog), 1);
    assert_int_equal(receive(PROTO_RAFT_INSTALL, &good), STATUS_OK);
    assert_int_equal(receive(PROTO_RAFT_INSTALL, &second), STATUS_OK);
    assert_int_equal(replog_term(replog), 2);
    while (restores == 0) {
        struct pollfd poll_fd = {.fd = replog_disk_fd(replog), .events = POLLIN};
        assert_int_equal(poll(&poll_fd, 1, 10000), 1);
        replog_disk_ready(replog, now_us);
    }
    assert_string_equal(buf_text(&applied), "halfhalf");
    assert_int_equal(applied_index, 10);
}

static void test_random_bytes_are_refused(void **state)
{
    (void)state;
    open_follower();
    struct rng rng;
    rng_init(&rng, 1);
    uint8_t bytes[64];
    for (int i = 0; i < 20000; i++) {
        size_t length = rng_below(&rng, sizeof bytes);
        for (size_t j = 0; j < length; j++)
            bytes[j] = (uint8_t)rng_u64(&rng);
        assert_int_not_equal(replog_receive(replog, 2, bytes_of(bytes, length), now_us), STATUS_OK);
    }
    assert_int_equal(replog_receive(replog, 0, BYTES_LITERAL("x"), now_us), STATUS_INVALID);
}

/* A vote must be on disk before anybody hears of it. */
static void test_messages_wait_for_the_hard_state(void **state)
{
    (void)state;
    config.disk_inline = true;
    open_follower();
    unsigned before = sent;
    struct proto_raft_vote_ask ask = {.term = 9, .candidate = 2, .last_log_index = 1, .last_log_term = 1};
    assert_int_equal(receive(PROTO_RAFT_VOTE_ASK, &ask), STATUS_OK);
    for (int i = 0; i < 5; i++)
        replog_tick(replog, now_us += 10000);
    assert_int_equal(replog_term(replog), 9);
    assert_int_equal(sent, before);
    replog_disk_ready(replog, now_us);
    assert_int_equal(sent, before + 1);
}

int main(void)
{
#define REPLOG_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        REPLOG_TEST(test_what_was_applied_is_there_after_a_restart),
        REPLOG_TEST(test_snapshot_and_restart),
        REPLOG_TEST(test_first_start_rules),
        REPLOG_TEST(test_bad_configurations_are_refused),
        REPLOG_TEST(test_proposals_wait_for_the_barrier),
        REPLOG_TEST(test_too_many_proposals_are_back_pressure),
        REPLOG_TEST(test_failed_disk_ends_the_process),
        REPLOG_TEST(test_frames_that_contradict_themselves_are_refused),
        REPLOG_TEST(test_snapshot_chunks_that_contradict_themselves_are_refused),
        REPLOG_TEST(test_random_bytes_are_refused),
        REPLOG_TEST(test_messages_wait_for_the_hard_state),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
