/* kill -9: three voters as real processes over real disks, one client, and a checker.
 *
 * Each round kills one voter at random, or the leader, or all of them, in the middle of the load, and starts them
 * again. At the end every acknowledged write must be in every state, and the states must be equal. SHOAL_ROUNDS sets
 * how many rounds run (10), SHOAL_SEED which. Nothing waits for time to pass: every wait is for a state, with a
 * deadline. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/rng.h"
#include "base/status.h"
#include "tests/unit/coordinator/replog_node.h"
#include "tests/unit/coordinator/temp_folder.h"

enum {
    WINDOW = 24,
    SILENCE_US = 250000,
    PAUSE_US = 5000,
    DEADLINE_US = 30000000,
    ACKNOWLEDGED_A_ROUND = 40,
    SLOW_WRITE_MS = 5
};

static struct temp_folder folder;
static int client;
static pid_t pids[REPLOG_NODES + 1];
static uint64_t next_value, leader, last_heard_us, hold_until_us;
static uint64_t again[WINDOW]; /* values that were certainly not taken */
static unsigned again_count;
static unsigned outstanding;
static uint8_t acknowledged[REPLOG_NODE_VALUES_MAX];
static unsigned acknowledged_count, refused, unknown;
static struct replog_node_state states[REPLOG_NODES + 1];
static bool has_state[REPLOG_NODES + 1];

/* Every second life is one with a slow disk, so that much is under way when it ends. */
static void start_voter(uint64_t id, bool first_start)
{
    static unsigned lives;
    unsigned write_ms = first_start ? 0 : lives++ % 2 * SLOW_WRITE_MS;
    fflush(NULL);
    pids[id] = fork();
    assert_true(pids[id] >= 0);
    if (pids[id] == 0)
        replog_node_main(folder.path, id, first_start, write_ms);
}

static void kill_voter(uint64_t id)
{
    int status;
    if (pids[id] == 0)
        return;
    assert_int_equal(kill(pids[id], SIGKILL), 0);
    assert_int_equal(waitpid(pids[id], &status, 0), pids[id]);
    assert_true(WIFSIGNALED(status)); /* it had not ended by itself, over a fatal or a broken check */
    assert_int_equal(WTERMSIG(status), SIGKILL);
    pids[id] = 0;
}

/* ---- the client -------------------------------------------------------------------------------------------------- */

static void take_answer(const struct replog_node_answer *answer)
{
    last_heard_us = clock_mono_us();
    outstanding -= outstanding > 0;
    if (answer->status == STATUS_OK) {
        leader = answer->node;
        assert_int_equal(acknowledged[answer->value], 0);
        acknowledged[answer->value] = 1;
        acknowledged_count++;
    } else if (answer->status == STATUS_UNREACHABLE) {
        unknown++;
    } else {
        refused++;
        if (again_count < WINDOW)
            again[again_count++] = answer->value;
        hold_until_us = last_heard_us + PAUSE_US; /* no use in asking faster than they elect */
        if (answer->node == leader)
            leader = leader % REPLOG_NODES + 1;
    }
}

static void take_datagrams(int wait_ms)
{
    static uint8_t datagram[1 + sizeof(struct replog_node_state)];
    struct pollfd file = {.fd = client, .events = POLLIN};
    poll(&file, 1, wait_ms);
    for (ssize_t length; (length = recv(client, datagram, sizeof datagram, 0)) > 0;) {
        if (datagram[0] == 'A') {
            struct replog_node_answer answer;
            memcpy(&answer, datagram + 1, sizeof answer);
            take_answer(&answer);
        } else if (datagram[0] == 'S') {
            struct replog_node_state state;
            memcpy(&state, datagram + 1, sizeof state);
            states[state.node] = state;
            has_state[state.node] = true;
        }
    }
}

/* Keeps the window full; after some silence the leader is somebody else, and what was under way stays unknown. */
static void pump(void)
{
    uint64_t now_us = clock_mono_us();
    if (now_us > last_heard_us + SILENCE_US) {
        leader = leader % REPLOG_NODES + 1;
        outstanding = 0;
        last_heard_us = now_us;
    }
    while (outstanding < WINDOW && now_us >= hold_until_us) {
        uint64_t value = again_count > 0 ? again[--again_count] : next_value++;
        uint8_t datagram[9] = {'P'};
        assert_true(value < REPLOG_NODE_VALUES_MAX);
        memcpy(datagram + 1, &value, 8);
        replog_node_send(client, folder.path, leader, datagram, sizeof datagram);
        outstanding++;
    }
    take_datagrams(2);
}

static void pump_until_acknowledged(unsigned more)
{
    unsigned wanted = acknowledged_count + more;
    uint64_t deadline_us = clock_mono_us() + DEADLINE_US;
    while (acknowledged_count < wanted) {
        assert_true(clock_mono_us() < deadline_us);
        pump();
    }
}

/* ---- the checker ------------------------------------------------------------------------------------------------- */

/* Equal, and one of them leads: where all were killed, none has applied the end of its log before an election. */
static bool states_equal(void)
{
    bool led = false;
    for (uint64_t id = 1; id <= REPLOG_NODES; id++) {
        if (!has_state[id] || states[id].index != states[1].index || states[id].hash != states[1].hash)
            return false;
        led |= states[id].leading;
    }
    return led;
}

/* Writes may still be under way, so only those that were acknowledged before a state was asked for must be in it. */
static void check_states(void)
{
    static uint8_t before[REPLOG_NODE_VALUES_MAX];
    uint64_t deadline_us = clock_mono_us() + DEADLINE_US;
    outstanding = WINDOW; /* no further load */
    do {
        assert_true(clock_mono_us() < deadline_us);
        memcpy(before, acknowledged, sizeof before);
        for (uint64_t id = 1; id <= REPLOG_NODES; id++) {
            has_state[id] = false;
            replog_node_send(client, folder.path, id, "Q", 1);
        }
        for (int i = 0; i < 50 && !(has_state[1] && has_state[2] && has_state[3]); i++)
            take_datagrams(2);
    } while (!states_equal());
    for (uint64_t id = 1; id <= REPLOG_NODES; id++) {
        for (uint64_t value = 0; value < next_value; value++) {
            bool there = (states[id].has[value / 8] & (1 << value % 8)) != 0;
            if (before[value] && !there)
                fail_msg("voter %llu lost the acknowledged write %llu", (unsigned long long)id,
                         (unsigned long long)value);
        }
    }
    last_heard_us = 0; /* the load goes on at once */
}

/* ---- rounds ------------------------------------------------------------------------------------------------------ */

static void one_round(struct rng *rng)
{
    uint64_t kind = rng_below(rng, 4);
    pump_until_acknowledged(1 + (unsigned)rng_below(rng, ACKNOWLEDGED_A_ROUND));
    if (kind == 0) { /* all of them, as at a power failure that spares the disks */
        for (uint64_t id = 1; id <= REPLOG_NODES; id++)
            kill_voter(id);
        for (uint64_t id = 1; id <= REPLOG_NODES; id++)
            start_voter(id, false);
    } else {
        uint64_t victim = kind == 1 ? 1 + rng_below(rng, REPLOG_NODES) : leader;
        kill_voter(victim);
        if (rng_below(rng, 2) == 0) /* the others go on without it for a while */
            pump_until_acknowledged(ACKNOWLEDGED_A_ROUND);
        start_voter(victim, false);
    }
}

static void test_kill_9_loses_nothing(void **state)
{
    (void)state;
    const char *rounds_text = getenv("SHOAL_ROUNDS"), *seed_text = getenv("SHOAL_SEED");
    unsigned rounds = rounds_text != NULL ? (unsigned)strtoul(rounds_text, NULL, 10) : 10;
    struct rng rng;
    rng_init(&rng, seed_text != NULL ? strtoull(seed_text, NULL, 10) : 1);
    temp_folder_make(&folder);
    client = replog_node_bind(folder.path, 0);
    leader = 1;
    for (uint64_t id = 1; id <= REPLOG_NODES; id++)
        start_voter(id, true);
    pump_until_acknowledged(1);
    for (unsigned round = 1; round <= rounds; round++) {
        one_round(&rng);
        if (round % 10 == 0)
            check_states();
    }
    pump_until_acknowledged(1);
    check_states();
    print_message("rounds %u, acknowledged %u, refused %u, unknown %u, proposed %llu\n", rounds, acknowledged_count,
                  refused, unknown, (unsigned long long)next_value);
    for (uint64_t id = 1; id <= REPLOG_NODES; id++)
        kill_voter(id);
    close(client);
    temp_folder_remove(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill_9_loses_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
