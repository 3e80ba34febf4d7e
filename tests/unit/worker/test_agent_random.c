/* Random histories of the agent's core against a world of processes: whatever is assigned, dies, hangs, or restarts in
 * whatever order, no replica ever has two processes, START follows a PERSIST that knows of it, epochs only grow, and
 * when the storm is over exactly what is assigned runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/crypto.h"
#include "base/rng.h"
#include "worker/agent/agent.h"

enum { REPLICAS = 4, PROCESSES = 64, STEP_US = 50000 };

struct process {
    int pid; /* 0: free */
    char replica[16];
    uint64_t epoch, incarnation;
    uint8_t token[AGENT_TOKEN_BYTES];
    bool hung, told;
};

struct world {
    struct agent agent;
    struct rng rng;
    uint64_t now_us;
    int next_pid;
    struct process processes[PROCESSES];
    struct buf disk; /* the last persisted text */
    uint64_t incarnation, index;
    uint64_t assigned[REPLICAS]; /* epoch, 0: not assigned */
    uint64_t highest[REPLICAS];  /* ever started, in this incarnation */
};

static struct world *the_world;

static const char *const names[REPLICAS] = {"a/1", "b/1", "c/1", "d/1"};

static struct process *process_of(struct world *world, int pid)
{
    for (size_t i = 0; i < PROCESSES; i++) {
        if (pid != 0 && world->processes[i].pid == pid) {
            return &world->processes[i];
        }
    }
    return NULL;
}

static bool alive(int pid, uint64_t start_ticks)
{
    return start_ticks == (uint64_t)pid * 10 && process_of(the_world, pid) != NULL;
}

static struct agent_config config_of(uint64_t incarnation)
{
    return (struct agent_config){.node = "n1",
                                 .incarnation = incarnation,
                                 .cores = 2,
                                 .silent_after_us = 5000000,
                                 .start_grace_us = 30000000,
                                 .stop_grace_us = 5000000,
                                 .settled_after_us = 3000000,
                                 .backoff_first_us = 250000,
                                 .backoff_max_us = 30000000};
}

static void spawn(struct world *world, struct agent_engine *engine, struct agent_actions *actions)
{
    size_t number = 0;
    while (strcmp(names[number], engine->running.replica) != 0) {
        number++;
    }
    assert_non_null(strstr(buf_text(&world->disk), engine->running.replica)); /* a later agent would know of it */
    for (size_t i = 0; i < PROCESSES; i++) {
        assert_false(world->processes[i].pid != 0 && strcmp(world->processes[i].replica, names[number]) == 0);
    }
    assert_true(engine->running.epoch >= world->highest[number]);
    world->highest[number] = engine->running.epoch;
    if (rng_below(&world->rng, 20) == 0) {
        agent_start_failed(&world->agent, engine, "no luck", world->now_us);
        return;
    }
    struct process *process = world->processes;
    while (process->pid != 0) {
        process++;
    }
    *process = (struct process){.pid = world->next_pid++,
                                .epoch = engine->running.epoch,
                                .incarnation = world->now_us,
                                .hung = rng_below(&world->rng, 10) == 0};
    snprintf(process->replica, sizeof(process->replica), "%s", names[number]);
    memcpy(process->token, engine->token, AGENT_TOKEN_BYTES);
    agent_started(&world->agent, engine, process->pid, (uint64_t)process->pid * 10, world->now_us, actions);
}

static void perform(struct world *world, struct agent_actions *actions)
{
    bool persisted = false;
    for (size_t i = 0; i < actions->count; i++) {
        struct agent_action action = actions->list[i];
        struct process *process = action.engine != NULL ? process_of(world, action.engine->pid) : NULL;
        switch (action.kind) {
        case AGENT_PERSIST:
            buf_clear(&world->disk);
            agent_save(&world->agent, &world->disk);
            persisted = true;
            break;
        case AGENT_START:
            assert_true(persisted);
            assert_null(process);
            spawn(world, action.engine, actions);
            break;
        case AGENT_STOP:
            if (process != NULL) {
                process->told = true;
            }
            break;
        case AGENT_KILL:
            if (process != NULL) {
                process->told = true;
                process->hung = false;
            }
            break;
        }
    }
    actions->count = 0;
}

static void assign(struct world *world)
{
    struct agent_actions actions = {0};
    struct proto_assignment list[REPLICAS];
    struct proto_assign message = {
        .incarnation = world->incarnation, .index = world->index, .node = BYTES_LITERAL("n1"), .assignments = list};
    for (size_t i = 0; i < REPLICAS; i++) {
        if (world->assigned[i] != 0) {
            list[message.assignments_count++] = (struct proto_assignment){.replica = bytes_of_text(names[i]),
                                                                          .epoch = world->assigned[i],
                                                                          .model = BYTES_LITERAL("m"),
                                                                          .path = BYTES_LITERAL("/m")};
        }
    }
    assert_int_equal(agent_assign(&world->agent, &message, world->now_us, &actions), STATUS_OK);
    perform(world, &actions);
}

static void change_assignment(struct world *world)
{
    size_t which = rng_below(&world->rng, REPLICAS);
    world->index++;
    world->assigned[which] = rng_below(&world->rng, 3) == 0 ? 0 : world->index;
    if (rng_below(&world->rng, 40) == 0) { /* disaster recovery: all epochs anew */
        world->incarnation++;
        world->index = 10;
        for (size_t i = 0; i < REPLICAS; i++) {
            world->assigned[i] = world->assigned[i] != 0 ? 10 : 0;
            world->highest[i] = 0;
        }
    }
    assign(world);
}

static void end_process(struct world *world, struct process *process, bool noticed)
{
    struct agent_actions actions = {0};
    int pid = process->pid;
    process->pid = 0;
    if (noticed) {
        agent_exited(&world->agent, pid, 0, process->told ? 0 : 9, world->now_us, &actions);
        perform(world, &actions);
    }
}

/* The next agent reads what was persisted; some processes died meanwhile. */
static void restart_agent(struct world *world)
{
    struct error error;
    struct agent_config config = config_of(world->now_us);
    for (size_t i = 0; i < PROCESSES; i++) {
        if (world->processes[i].pid != 0 && rng_below(&world->rng, 3) == 0) {
            end_process(world, &world->processes[i], false);
        }
    }
    agent_free(&world->agent);
    agent_init(&world->agent, &config);
    if (world->disk.length > 0) {
        assert_int_equal(agent_load(&world->agent, buf_bytes(&world->disk), world->now_us, alive, &error), STATUS_OK);
    }
}

static void processes_act(struct world *world, bool calm)
{
    for (size_t i = 0; i < PROCESSES; i++) {
        struct process *process = &world->processes[i];
        if (process->pid == 0) {
            continue;
        }
        if ((process->told && !process->hung) || (!calm && rng_below(&world->rng, 50) == 0)) {
            end_process(world, process, true);
        } else if (!process->hung) {
            const struct proto_engine_state message = {.report = {.replica = bytes_of_text(process->replica),
                                                                  .epoch = process->epoch,
                                                                  .state = PROTO_ENGINE_READY,
                                                                  .pid = (uint64_t)process->pid},
                                                       .session_token = bytes_of(process->token, AGENT_TOKEN_BYTES)};
            assert_int_equal(agent_report(&world->agent, &message, world->now_us), STATUS_OK);
        }
    }
}

static void tick(struct world *world)
{
    struct agent_actions actions = {0};
    world->now_us += STEP_US;
    agent_tick(&world->agent, world->now_us, &actions);
    perform(world, &actions);
}

static void check_calm(const struct world *world)
{
    size_t running = 0;
    for (size_t i = 0; i < PROCESSES; i++) {
        const struct process *process = &world->processes[i];
        for (size_t j = 0; process->pid != 0 && j < REPLICAS; j++) {
            if (strcmp(names[j], process->replica) == 0) {
                assert_int_equal(process->epoch, world->assigned[j]);
                running++;
            }
        }
    }
    for (size_t j = 0; j < REPLICAS; j++) {
        running -= world->assigned[j] != 0;
    }
    assert_int_equal(running, 0);
}

static void test_random_histories(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        static struct world world;
        memset(&world, 0, sizeof(world));
        the_world = &world;
        rng_init(&world.rng, seed);
        buf_init(&world.disk, 1 << 20);
        world.next_pid = 100;
        world.incarnation = 1;
        struct agent_config config = config_of(1);
        agent_init(&world.agent, &config);
        for (int event = 0; event < 400; event++) {
            switch (rng_below(&world.rng, 12)) {
            case 0:
                change_assignment(&world);
                break;
            case 1:
                if (rng_below(&world.rng, 3) == 0) {
                    restart_agent(&world);
                }
                break;
            default:
                processes_act(&world, false);
                break;
            }
            tick(&world);
        }
        assign(&world);
        for (int step = 0; step < 2 * 120 * 1000000 / STEP_US; step++) { /* the longest back-offs and graces */
            processes_act(&world, true);
            tick(&world);
        }
        check_calm(&world);
        agent_free(&world.agent);
        buf_free(&world.disk);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_histories)};
    return crypto_init() == STATUS_OK ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
