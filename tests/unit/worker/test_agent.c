/* Promises of the agent's core: a replica never has two processes; what must survive is persisted before it happens;
 * epochs never go back; a restarted agent adopts what lives, without a word that could move it; failures back off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/crypto.h"
#include "worker/agent/agent.h"

enum { SECOND = 1000000 };

static const struct agent_config config = {.node = "n1",
                                           .host = "127.0.0.1",
                                           .incarnation = 7,
                                           .cores = 4,
                                           .silent_after_us = 5 * SECOND,
                                           .start_grace_us = 30 * SECOND,
                                           .stop_grace_us = 5 * SECOND,
                                           .settled_after_us = 3000000,
                                           .backoff_first_us = 250000,
                                           .backoff_max_us = 30 * SECOND,
                                           .token_seed = {1, 2, 3}};

static struct proto_assignment assignment(const char *replica, uint64_t epoch)
{
    return (struct proto_assignment){.replica = bytes_of_text(replica),
                                     .epoch = epoch,
                                     .model = BYTES_LITERAL("m"),
                                     .path = BYTES_LITERAL("/models/m.gguf"),
                                     .kv_type = BYTES_LITERAL("f16")};
}

static enum status assign_list(struct agent *agent, uint64_t index, struct proto_assignment *list, size_t count,
                               uint64_t now_us, struct agent_actions *actions)
{
    const struct proto_assign assign = {
        .incarnation = 1, .index = index, .node = BYTES_LITERAL("n1"), .assignments = list, .assignments_count = count};
    actions->count = 0;
    return agent_assign(agent, &assign, now_us, actions);
}

static void assign_one(struct agent *agent, uint64_t index, uint64_t epoch, uint64_t now_us,
                       struct agent_actions *actions)
{
    struct proto_assignment one = assignment("m/1", epoch);
    assert_int_equal(assign_list(agent, index, &one, epoch != 0, now_us, actions), STATUS_OK);
}

static size_t count_of(const struct agent_actions *actions, enum agent_action_kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < actions->count; i++) {
        count += actions->list[i].kind == kind;
    }
    return count;
}

/* Ticks, and gives what there is to do. */
static struct agent_actions ticked(struct agent *agent, uint64_t now_us)
{
    struct agent_actions actions = {0};
    agent_tick(agent, now_us, &actions);
    return actions;
}

static struct proto_engine_state report_of(const struct agent_engine *engine, enum proto_engine_phase state)
{
    return (struct proto_engine_state){.report = {.replica = bytes_of_text(engine->running.replica),
                                                  .epoch = engine->running.epoch,
                                                  .incarnation = 99,
                                                  .state = state,
                                                  .pid = (uint64_t)engine->pid,
                                                  .endpoint = BYTES_LITERAL("tcp://127.0.0.1:9"),
                                                  .class_id = 5},
                                       .session_token = bytes_of(engine->token, AGENT_TOKEN_BYTES)};
}

static void report(struct agent *agent, struct agent_engine *engine, enum proto_engine_phase state, uint64_t now_us)
{
    struct proto_engine_state message = report_of(engine, state);
    assert_int_equal(agent_report(agent, &message, now_us), STATUS_OK);
}

/* An agent whose m/1 runs as pid 100 in epoch 10 and is ready, as of now_us. */
static struct agent_engine *make_live(struct agent *agent, uint64_t now_us)
{
    struct agent_actions actions = {0};
    agent_init(agent, &config);
    assign_one(agent, 10, 10, now_us, &actions);
    struct agent_engine *engine = agent->engines[0];
    agent_started(agent, engine, 100, 1000, now_us, &actions);
    report(agent, engine, PROTO_ENGINE_READY, now_us);
    assert_int_equal(engine->phase, AGENT_LIVE);
    return engine;
}

static struct proto_engine_report heartbeat_of(struct agent *agent, struct proto_heartbeat *heartbeat)
{
    static struct proto_engine_report reports[AGENT_ENGINES_MAX];
    agent_heartbeat(agent, reports, heartbeat);
    return heartbeat->engines_count > 0 ? reports[0] : (struct proto_engine_report){0};
}

static void test_assignment_starts_an_engine_after_persisting(void **state)
{
    (void)state;
    struct agent agent;
    struct agent_actions actions;
    agent_init(&agent, &config);
    assign_one(&agent, 10, 10, 0, &actions);
    assert_int_equal(actions.list[actions.count - 1].kind, AGENT_START);
    assert_int_equal(actions.list[actions.count - 2].kind, AGENT_PERSIST);
    struct agent_engine *engine = agent.engines[0];
    assert_int_equal(engine->running.epoch, 10);
    assert_int_equal(engine->running.threads, 4);
    actions.count = 0;
    agent_started(&agent, engine, 100, 1000, 0, &actions);
    assert_int_equal(actions.count, 1);
    assert_int_equal(actions.list[0].kind, AGENT_PERSIST);
    struct proto_heartbeat heartbeat;
    struct proto_engine_report said = heartbeat_of(&agent, &heartbeat);
    assert_int_equal(heartbeat.assign_index, 10);
    assert_int_equal(said.state, PROTO_ENGINE_STARTING);
    assert_int_equal(said.endpoint.length, 0);
    report(&agent, engine, PROTO_ENGINE_READY, 100000);
    said = heartbeat_of(&agent, &heartbeat);
    assert_int_equal(said.state, PROTO_ENGINE_READY);
    assert_int_equal(said.endpoint.length, 17);
    assert_int_equal(heartbeat.sequence, 2);
    agent_free(&agent);
}

static void test_cores_are_dealt(void **state)
{
    (void)state;
    struct agent agent;
    struct agent_actions actions;
    agent_init(&agent, &config);
    struct proto_assignment list[] = {assignment("a/1", 3), assignment("b/1", 4), assignment("c/1", 5)};
    list[2].threads = 9;
    assert_int_equal(assign_list(&agent, 5, list, 3, 0, &actions), STATUS_OK);
    assert_int_equal(count_of(&actions, AGENT_START), 3);
    assert_int_equal(agent.engines[0]->running.threads, 1);
    assert_int_equal(agent.engines[2]->running.threads, 9);
    agent_free(&agent);
}

static void test_new_epoch_fences_before_it_starts(void **state)
{
    (void)state;
    struct agent agent;
    struct agent_actions actions;
    struct agent_engine *engine = make_live(&agent, 0);
    assign_one(&agent, 20, 20, SECOND, &actions);
    assert_int_equal(count_of(&actions, AGENT_STOP), 1);
    assert_int_equal(count_of(&actions, AGENT_START), 0);
    assert_int_equal(engine->phase, AGENT_STOPPING);
    report(&agent, engine, PROTO_ENGINE_DRAINING, SECOND);
    actions = ticked(&agent, 6 * SECOND - 1);
    assert_int_equal(actions.count, 0);
    actions = ticked(&agent, 6 * SECOND);
    assert_int_equal(count_of(&actions, AGENT_KILL), 1);
    actions = ticked(&agent, 8 * SECOND);
    assert_int_equal(count_of(&actions, AGENT_KILL), 1); /* the table lags: asked again, and nothing started */
    assert_int_equal(count_of(&actions, AGENT_START), 0);
    actions.count = 0;
    agent_exited(&agent, 100, 0, 9, 8 * SECOND, &actions);
    actions.count = 0;
    agent_tick(&agent, 9 * SECOND, &actions);
    assert_int_equal(count_of(&actions, AGENT_START), 1);
    assert_int_equal(engine->running.epoch, 20);
    agent_free(&agent);
}

static void test_unassigned_engine_stops_and_is_forgotten(void **state)
{
    (void)state;
    struct agent agent;
    struct agent_actions actions;
    (void)make_live(&agent, 0);
    assign_one(&agent, 20, 0, SECOND, &actions);
    assert_int_equal(count_of(&actions, AGENT_STOP), 1);
    actions.count = 0;
    agent_exited(&agent, 100, 0, 0, SECOND, &actions);
    assert_int_equal(agent.engines_count, 0);
    assert_int_equal(actions.list[actions.count - 1].kind, AGENT_PERSIST);
    agent_free(&agent);
}

static void test_epochs_and_assignments_never_go_back(void **state)
{
    (void)state;
    struct agent agent;
    struct agent_actions actions;
    struct agent_engine *engine = make_live(&agent, 0);
    struct proto_assignment old = assignment("m/1", 9);
    assert_int_equal(assign_list(&agent, 9, &old, 1, 0, &actions), STATUS_CONFLICT);
    assert_int_equal(actions.count, 0);
    assert_int_equal(engine->job.epoch, 10);
    assert_int_equal(assign_list(&agent, 11, &old, 1, 0, &actions), STATUS_OK); /* a newer list with an older epoch */
    assert_false(engine->wanted);
    assert_int_equal(engine->job.epoch, 10);
    agent_exited(&agent, 100, 0, 0, 0, &actions);
    agent_free(&agent);

    engine = make_live(&agent, 0);
    struct proto_assign restored = {
        .incarnation = 2, .index = 3, .node = BYTES_LITERAL("n1"), .assignments = &old, .assignments_count = 1};
    old.epoch = 3;
    actions.count = 0;
    assert_int_equal(agent_assign(&agent, &restored, 0, &actions), STATUS_OK); /* a restored cluster counts anew */
    assert_int_equal(engine->job.epoch, 3);
    assert_int_equal(count_of(&actions, AGENT_STOP), 1);
    agent_free(&agent);
}

static void test_unsound_assignments_change_nothing(void **state)
{
    (void)state;
    struct agent agent;
    struct agent_actions actions = {0};
    struct agent_engine *engine = make_live(&agent, 0);
    struct proto_assignment bad = assignment("", 30);
    assert_int_equal(assign_list(&agent, 30, &bad, 1, 0, &actions), STATUS_INVALID);
    bad = assignment("m/2", 30);
    bad.path = (struct bytes){0};
    assert_int_equal(assign_list(&agent, 30, &bad, 1, 0, &actions), STATUS_INVALID);
    const struct proto_assign other = {.incarnation = 1, .index = 30, .node = BYTES_LITERAL("n2")};
    assert_int_equal(agent_assign(&agent, &other, 0, &actions), STATUS_INVALID);
    static char names[AGENT_ENGINES_MAX + 1][8];
    static struct proto_assignment many[AGENT_ENGINES_MAX + 1];
    for (size_t i = 0; i <= AGENT_ENGINES_MAX; i++) {
        snprintf(names[i], sizeof(names[i]), "x/%zu", i + 1);
        many[i] = assignment(names[i], 30);
    }
    assert_int_equal(assign_list(&agent, 30, many, AGENT_ENGINES_MAX + 1, 0, &actions), STATUS_LIMIT);
    assert_true(engine->wanted);
    assert_int_equal(agent.engines_count, 1);
    assert_int_equal(agent.assign_index, 10);
    agent_free(&agent);
}

static void test_a_full_house_fits_the_actions(void **state)
{
    (void)state;
    struct agent agent;
    struct agent_actions actions;
    static char names[AGENT_ENGINES_MAX][8];
    static struct proto_assignment many[AGENT_ENGINES_MAX];
    agent_init(&agent, &config);
    for (size_t i = 0; i < AGENT_ENGINES_MAX; i++) {
        snprintf(names[i], sizeof(names[i]), "x/%zu", i + 1);
        many[i] = assignment(names[i], 30);
    }
    assert_int_equal(assign_list(&agent, 30, many, AGENT_ENGINES_MAX, 0, &actions), STATUS_OK);
    assert_int_equal(count_of(&actions, AGENT_START), AGENT_ENGINES_MAX);
    for (size_t i = 0; i < AGENT_ENGINES_MAX; i++) { /* the shell's way: into the same list */
        agent_started(&agent, agent.engines[i], 100 + (int)i, 5, 0, &actions);
    }
    agent_free(&agent);
}

static void test_crashes_back_off_and_a_long_life_forgives(void **state)
{
    (void)state;
    struct agent agent;
    struct agent_actions actions = {0};
    struct agent_engine *engine = make_live(&agent, 0);
    uint64_t now_us = SECOND, wait_us = 250000;
    for (int crash = 0; crash < 12; crash++) {
        actions.count = 0;
        agent_exited(&agent, 100, 1, 0, now_us, &actions);
        assert_int_equal(engine->phase, AGENT_WAITING);
        actions = ticked(&agent, now_us + wait_us - 1);
        assert_int_equal(count_of(&actions, AGENT_START), 0);
        now_us += wait_us;
        actions = ticked(&agent, now_us);
        assert_int_equal(count_of(&actions, AGENT_START), 1);
        agent_started(&agent, engine, 100, 1000, now_us, &actions);
        wait_us = wait_us * 2 < 30 * SECOND ? wait_us * 2 : 30 * SECOND;
    }
    report(&agent, engine, PROTO_ENGINE_READY, now_us);
    agent_exited(&agent, 100, 1, 0, now_us + 3 * SECOND - 1, &actions); /* ready, but not for long */
    now_us += 3 * SECOND + 30 * SECOND;
    actions = ticked(&agent, now_us);
    assert_int_equal(count_of(&actions, AGENT_START), 1);
    agent_started(&agent, engine, 100, 1000, now_us, &actions);
    report(&agent, engine, PROTO_ENGINE_READY, now_us);
    now_us += 3 * SECOND;
    agent_exited(&agent, 100, 1, 0, now_us, &actions);
    actions = ticked(&agent, now_us + 250000);
    assert_int_equal(count_of(&actions, AGENT_START), 1);
    agent_free(&agent);
}

static void test_failure_is_reported_with_its_reason(void **state)
{
    (void)state;
    struct agent agent;
    struct agent_actions actions;
    struct proto_heartbeat heartbeat;
    agent_init(&agent, &config);
    assign_one(&agent, 10, 10, 0, &actions);
    struct agent_engine *engine = agent.engines[0];
    agent_start_failed(&agent, engine, "no such program", 0);
    struct proto_engine_report said = heartbeat_of(&agent, &heartbeat);
    assert_int_equal(said.state, PROTO_ENGINE_FAILED);
    assert_memory_equal(said.reason.data, "no such program", said.reason.length);
    actions = ticked(&agent, 250000);
    agent_started(&agent, engine, 100, 1000, 250000, &actions);
    struct proto_engine_state failed = report_of(engine, PROTO_ENGINE_FAILED);
    failed.report.reason = BYTES_LITERAL("model file is damaged");
    assert_int_equal(agent_report(&agent, &failed, 250000), STATUS_OK);
    actions = ticked(&agent, 300000);
    assert_int_equal(count_of(&actions, AGENT_KILL), 1); /* it need not end by itself */
    agent_exited(&agent, 100, 1, 0, 300000, &actions);
    said = heartbeat_of(&agent, &heartbeat);
    assert_int_equal(said.state, PROTO_ENGINE_FAILED);
    assert_memory_equal(said.reason.data, "model file is damaged", said.reason.length);
    agent_free(&agent);
}

static void test_silence_is_fenced(void **state)
{
    (void)state;
    struct agent agent;
    struct agent_actions actions;
    struct proto_heartbeat heartbeat;
    struct agent_engine *engine = make_live(&agent, 0);
    actions = ticked(&agent, 5 * SECOND - 1);
    assert_int_equal(actions.count, 0);
    actions = ticked(&agent, 5 * SECOND);
    assert_int_equal(count_of(&actions, AGENT_KILL), 1);
    report(&agent, engine, PROTO_ENGINE_READY, 5 * SECOND); /* its last words change nothing */
    struct proto_engine_report said = heartbeat_of(&agent, &heartbeat);
    assert_int_equal(said.state, PROTO_ENGINE_STARTING);
    assert_int_equal(said.endpoint.length, 0);
    assert_non_null(memmem(said.reason.data, said.reason.length, "silent", 6));
    agent_free(&agent);

    agent_init(&agent, &config);
    assign_one(&agent, 10, 10, 0, &actions);
    agent_started(&agent, agent.engines[0], 100, 1000, 0, &actions);
    actions = ticked(&agent, 30 * SECOND - 1);
    assert_int_equal(actions.count, 0);
    actions = ticked(&agent, 30 * SECOND);
    assert_int_equal(count_of(&actions, AGENT_KILL), 1);
    agent_free(&agent);
}

static void test_a_tick_that_lags_fences_nobody(void **state)
{
    (void)state;
    struct agent agent;
    struct agent_actions actions;
    agent_init(&agent, &config);
    assign_one(&agent, 10, 10, SECOND, &actions);
    agent_started(&agent, agent.engines[0], 100, 1000, SECOND, &actions);
    actions = ticked(&agent, SECOND - 1);
    assert_int_equal(actions.count, 0);
    report(&agent, agent.engines[0], PROTO_ENGINE_READY, 2 * SECOND);
    actions = ticked(&agent, 2 * SECOND - 1);
    assert_int_equal(actions.count, 0);
    agent_free(&agent);
}

static void test_reports_of_strangers_are_denied(void **state)
{
    (void)state;
    struct agent agent;
    struct agent_engine *engine = make_live(&agent, 0);
    struct proto_engine_state message;
    uint8_t token[AGENT_TOKEN_BYTES] = {0};
    message = report_of(engine, PROTO_ENGINE_FAILED);
    message.session_token = bytes_of(token, sizeof(token));
    assert_int_equal(agent_report(&agent, &message, 1), STATUS_DENIED);
    message = report_of(engine, PROTO_ENGINE_FAILED);
    message.session_token.length--;
    assert_int_equal(agent_report(&agent, &message, 1), STATUS_DENIED);
    message = report_of(engine, PROTO_ENGINE_FAILED);
    message.report.epoch--;
    assert_int_equal(agent_report(&agent, &message, 1), STATUS_DENIED);
    message = report_of(engine, PROTO_ENGINE_FAILED);
    message.report.pid++;
    assert_int_equal(agent_report(&agent, &message, 1), STATUS_DENIED);
    message = report_of(engine, PROTO_ENGINE_FAILED);
    message.report.replica = BYTES_LITERAL("m/2");
    assert_int_equal(agent_report(&agent, &message, 1), STATUS_DENIED);
    assert_int_equal(engine->report.state, PROTO_ENGINE_READY);
    agent_free(&agent);
}

static void test_tokens_differ_between_starts(void **state)
{
    (void)state;
    struct agent agent;
    struct agent_actions actions = {0};
    uint8_t first[AGENT_TOKEN_BYTES];
    struct agent_engine *engine = make_live(&agent, 0);
    memcpy(first, engine->token, sizeof(first));
    agent_exited(&agent, 100, 1, 0, 1, &actions);
    actions = ticked(&agent, SECOND);
    assert_memory_not_equal(first, engine->token, sizeof(first));
    agent_free(&agent);
}

static int alive_pid;

static bool alive(int pid, uint64_t start_ticks)
{
    return pid == alive_pid && start_ticks == 1000;
}

/* Saves `agent`, frees it, and loads it as the next agent process would. */
static void restart(struct agent *agent, uint64_t now_us, int living_pid)
{
    struct buf text;
    struct error error;
    buf_init(&text, 1 << 20);
    agent_save(agent, &text);
    agent_free(agent);
    agent_init(agent, &config);
    alive_pid = living_pid;
    assert_int_equal(agent_load(agent, buf_bytes(&text), now_us, alive, &error), STATUS_OK);
    buf_free(&text);
}

static void test_restarted_agent_adopts_without_a_word(void **state)
{
    (void)state;
    struct agent agent;
    struct agent_actions actions;
    struct proto_heartbeat heartbeat;
    uint8_t token[AGENT_TOKEN_BYTES];
    struct agent_engine *engine = make_live(&agent, 0);
    memcpy(token, engine->token, sizeof(token));
    restart(&agent, SECOND, 100);
    engine = agent.engines[0];
    actions = ticked(&agent, SECOND);
    assert_int_equal(actions.count, 0);
    assert_int_equal(engine->pid, 100);
    assert_memory_equal(engine->token, token, sizeof(token));
    (void)heartbeat_of(&agent, &heartbeat);
    assert_int_equal(heartbeat.engines_count, 0);
    assert_int_equal(heartbeat.assign_index, 0);
    assign_one(&agent, 10, 10, SECOND, &actions);
    assert_int_equal(count_of(&actions, AGENT_START) + count_of(&actions, AGENT_STOP), 0);
    (void)heartbeat_of(&agent, &heartbeat);
    assert_int_equal(heartbeat.assign_index, 0); /* the adopted one has not spoken yet */
    report(&agent, engine, PROTO_ENGINE_READY, SECOND + 1);
    assert_int_equal(heartbeat_of(&agent, &heartbeat).state, PROTO_ENGINE_READY);
    assert_int_equal(heartbeat.assign_index, 10);
    agent_free(&agent);
}

static void test_restarted_agent_replaces_what_died(void **state)
{
    (void)state;
    struct agent agent;
    struct agent_actions actions;
    (void)make_live(&agent, 0);
    restart(&agent, SECOND, 0);
    actions = ticked(&agent, SECOND);
    assert_int_equal(count_of(&actions, AGENT_START), 1);
    assert_int_equal(agent.engines[0]->running.epoch, 10);
    agent_free(&agent);
}

static void test_adopted_engine_that_is_silent_or_unwanted_ends(void **state)
{
    (void)state;
    struct agent agent;
    struct agent_actions actions;
    (void)make_live(&agent, 0);
    restart(&agent, SECOND, 100);
    assign_one(&agent, 11, 0, SECOND, &actions); /* it serves streams: in order, not by force */
    assert_int_equal(count_of(&actions, AGENT_STOP), 1);
    assert_int_equal(count_of(&actions, AGENT_KILL), 0);
    agent_free(&agent);

    (void)make_live(&agent, 0);
    restart(&agent, SECOND, 100);
    actions = ticked(&agent, 6 * SECOND);
    assert_int_equal(count_of(&actions, AGENT_KILL), 1);
    agent_exited(&agent, 100, 0, 0, 6 * SECOND, &actions); /* found gone by polling */
    actions = ticked(&agent, 7 * SECOND);
    assert_int_equal(count_of(&actions, AGENT_START), 1);
    assert_false(agent.engines[0]->adopted);
    agent_free(&agent);
}

static void test_highest_epoch_survives_the_agent(void **state)
{
    (void)state;
    struct agent agent;
    struct agent_actions actions;
    (void)make_live(&agent, 0);
    restart(&agent, SECOND, 100);
    struct proto_assignment old = assignment("m/1", 9);
    assert_int_equal(assign_list(&agent, 12, &old, 1, SECOND, &actions), STATUS_OK);
    assert_false(agent.engines[0]->wanted);
    assert_int_equal(assign_list(&agent, 11, &old, 1, SECOND, &actions), STATUS_CONFLICT);
    agent_free(&agent);
}

static void test_damaged_state_is_refused_whole(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "{}",
        "{\"format\":2,\"engines\":[]}",
        "{\"format\":1,\"engines\":[{}]}",
        "{\"format\":1,\"engines\":[{\"job\":{\"replica\":\"m/1\"},\"running\":{},\"token\":\"00\"}]}",
        "{\"format\":1,\"engines\":[7]}",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct agent agent;
        struct error error;
        agent_init(&agent, &config);
        assert_int_not_equal(agent_load(&agent, bytes_of_text(texts[i]), 0, alive, &error), STATUS_OK);
        assert_int_equal(agent.engines_count, 0);
    }
}

static void test_leaving_node_stops_all_and_the_next_agent_asks_anew(void **state)
{
    (void)state;
    struct agent agent;
    struct agent_actions actions = {0};
    struct proto_heartbeat heartbeat;
    (void)make_live(&agent, 0);
    agent_stop_all(&agent, SECOND, &actions);
    assert_int_equal(actions.list[0].kind, AGENT_PERSIST);
    assert_int_equal(count_of(&actions, AGENT_STOP), 1);
    actions.count = 0;
    agent_exited(&agent, 100, 0, 0, SECOND, &actions);
    assert_int_equal(agent.engines_count, 0);
    restart(&agent, 2 * SECOND, 0);
    (void)heartbeat_of(&agent, &heartbeat);
    assert_int_equal(heartbeat.assign_index, 0);
    assign_one(&agent, 10, 10, 2 * SECOND, &actions); /* the same assignment, once more */
    assert_int_equal(count_of(&actions, AGENT_START), 1);
    agent_free(&agent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_assignment_starts_an_engine_after_persisting),
        cmocka_unit_test(test_cores_are_dealt),
        cmocka_unit_test(test_new_epoch_fences_before_it_starts),
        cmocka_unit_test(test_unassigned_engine_stops_and_is_forgotten),
        cmocka_unit_test(test_epochs_and_assignments_never_go_back),
        cmocka_unit_test(test_unsound_assignments_change_nothing),
        cmocka_unit_test(test_a_full_house_fits_the_actions),
        cmocka_unit_test(test_crashes_back_off_and_a_long_life_forgives),
        cmocka_unit_test(test_failure_is_reported_with_its_reason),
        cmocka_unit_test(test_silence_is_fenced),
        cmocka_unit_test(test_a_tick_that_lags_fences_nobody),
        cmocka_unit_test(test_reports_of_strangers_are_denied),
        cmocka_unit_test(test_tokens_differ_between_starts),
        cmocka_unit_test(test_restarted_agent_adopts_without_a_word),
        cmocka_unit_test(test_restarted_agent_replaces_what_died),
        cmocka_unit_test(test_adopted_engine_that_is_silent_or_unwanted_ends),
        cmocka_unit_test(test_highest_epoch_survives_the_agent),
        cmocka_unit_test(test_damaged_state_is_refused_whole),
        cmocka_unit_test(test_leaving_node_stops_all_and_the_next_agent_asks_anew),
    };
    return crypto_init() == STATUS_OK ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
