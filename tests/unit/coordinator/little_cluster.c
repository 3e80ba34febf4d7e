/* tests/unit/coordinator/little_cluster.c: see little_cluster.h. */
#include "tests/unit/coordinator/little_cluster.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "tests/unit/coordinator/commands.h"

static const struct health_config health = {.suspect_after_us = 500000, .down_after_us = 3000000};

static struct little_node *asked_node; /* whose processes `alive` looks at */

static struct little_process *process_of(struct little_node *node, int pid)
{
    for (size_t i = 0; i < LITTLE_PROCESSES; i++) {
        if (pid != 0 && node->processes[i].pid == pid) {
            return &node->processes[i];
        }
    }
    return NULL;
}

static bool alive(int pid, uint64_t start_ticks)
{
    return start_ticks == (uint64_t)pid && process_of(asked_node, pid) != NULL;
}

static void open_agent(struct little_cluster *cluster, struct little_node *node)
{
    struct agent_config config = {.host = "127.0.0.1",
                                  .incarnation = cluster->now_us + 1,
                                  .cores = 2,
                                  .silent_after_us = 5000000,
                                  .start_grace_us = 30000000,
                                  .stop_grace_us = 5000000,
                                  .settled_after_us = 3000000,
                                  .backoff_first_us = 250000,
                                  .backoff_max_us = 30000000};
    struct error error;
    snprintf(config.node, sizeof(config.node), "%s", node->name);
    agent_init(&node->agent, &config);
    asked_node = node;
    node->agent_since_us = cluster->now_us;
    if (node->disk.length > 0) {
        assert_int_equal(agent_load(&node->agent, buf_bytes(&node->disk), cluster->now_us, alive, &error), STATUS_OK);
    }
}

static void start_process(struct little_cluster *cluster, struct little_node *node, struct agent_engine *engine,
                          struct agent_actions *actions)
{
    struct little_process *process = node->processes;
    while (process->pid != 0) {
        assert_string_not_equal(process->replica, engine->running.replica); /* never two of one replica on a node */
        process++;
    }
    assert_true(process < node->processes + LITTLE_PROCESSES);
    *process = (struct little_process){
        .pid = cluster->next_pid++, .epoch = engine->running.epoch, .started_us = cluster->now_us};
    snprintf(process->replica, sizeof(process->replica), "%s", engine->running.replica);
    memcpy(process->token, engine->token, AGENT_TOKEN_BYTES);
    agent_started(&node->agent, engine, process->pid, (uint64_t)process->pid, cluster->now_us, actions);
}

static void perform(struct little_cluster *cluster, struct little_node *node, struct agent_actions *actions)
{
    for (size_t i = 0; i < actions->count; i++) {
        struct agent_action action = actions->list[i];
        struct little_process *process = action.engine != NULL ? process_of(node, action.engine->pid) : NULL;
        if (action.kind == AGENT_PERSIST) {
            buf_clear(&node->disk);
            agent_save(&node->agent, &node->disk);
        } else if (action.kind == AGENT_START) {
            start_process(cluster, node, action.engine, actions);
        } else if (process != NULL) {
            process->told = true;
        }
    }
    actions->count = 0;
}

static void end_process(struct little_cluster *cluster, struct little_node *node, struct little_process *process)
{
    struct agent_actions actions = {0};
    int pid = process->pid;
    process->pid = 0;
    agent_exited(&node->agent, pid, 0, process->told ? 0 : 9, cluster->now_us, &actions);
    perform(cluster, node, &actions);
}

static void processes_act(struct little_cluster *cluster, struct little_node *node)
{
    for (size_t i = 0; i < LITTLE_PROCESSES; i++) {
        struct little_process *process = &node->processes[i];
        if (process->pid == 0) {
            continue;
        }
        if (process->told) {
            end_process(cluster, node, process);
            continue;
        }
        if (process->started_us < node->agent_since_us && cluster->now_us - node->agent_since_us < LITTLE_FIND_US) {
            continue;
        }
        bool ready = cluster->now_us - process->started_us >= LITTLE_READY_AFTER_US;
        const char *problem = cluster->engine_problem;
        const struct proto_engine_state state = {.report = {.replica = bytes_of_text(process->replica),
                                                            .epoch = process->epoch,
                                                            .incarnation = process->started_us,
                                                            .state = problem != NULL ? PROTO_ENGINE_FAILED
                                                                     : ready         ? PROTO_ENGINE_READY
                                                                                     : PROTO_ENGINE_LOADING,
                                                            .pid = (uint64_t)process->pid,
                                                            .endpoint = bytes_of_text(ready ? "tcp://127.0.0.1:1" : ""),
                                                            .reason = bytes_of_text(problem != NULL ? problem : ""),
                                                            .blocks_total = 200,
                                                            .blocks_used = 50,
                                                            .running = 3,
                                                            .waiting = 1},
                                                 .session_token = bytes_of(process->token, AGENT_TOKEN_BYTES)};
        assert_int_equal(agent_report(&node->agent, &state, cluster->now_us), STATUS_OK);
    }
}

/* What the coordinator's shell does with a heartbeat, over the wire's bytes. */
static void heartbeat(struct little_cluster *cluster, struct little_node *node)
{
    struct proto_engine_report reports[AGENT_ENGINES_MAX];
    struct proto_heartbeat message;
    struct agent_actions actions = {0};
    agent_heartbeat(&node->agent, reports, &message);
    message.inventory.cores = 2;
    message.inventory.memory_bytes = 10000;
    control_heartbeat(&cluster->control, &message, "key", cluster->now_us);
    if (message.assign_index == cluster->fsm.placement_index) {
        return;
    }
    struct buf frame;
    struct arena arena;
    struct error error;
    struct proto_message answer;
    buf_init(&frame, PROTO_FRAME_BYTES_MAX);
    arena_init(&arena, 1 << 20);
    assert_int_equal(answer_assign(&cluster->fsm, node->name, &frame, &error), STATUS_OK);
    assert_int_equal(proto_decode(buf_bytes(&frame), &arena, &answer, &error), STATUS_OK);
    assert_int_equal(agent_assign(&node->agent, &answer.any.assign, cluster->now_us, &actions), STATUS_OK);
    perform(cluster, node, &actions);
    arena_free(&arena);
    buf_free(&frame);
}

static void step_control(struct little_cluster *cluster)
{
    static struct control_commands commands;
    static struct buf frames[CONTROL_COMMANDS_MAX];
    control_step(&cluster->control, &cluster->fsm, cluster->now_us, &commands);
    size_t count = commands.count;
    for (size_t i = 0; i < count; i++) { /* all are encoded before any changes the state that they point into */
        struct error error;
        buf_init(&frames[i], 1 << 16);
        assert_int_equal(proto_encode(&frames[i], commands.list[i].opcode, &commands.list[i].any, &error), STATUS_OK);
    }
    control_commands_free(&commands);
    for (size_t i = 0; i < count; i++) {
        cluster->commands++;
        cluster->refused += apply_frame(&cluster->fsm, buf_bytes(&frames[i])) != STATUS_OK;
        buf_free(&frames[i]);
    }
}

static void step(struct little_cluster *cluster)
{
    cluster->now_us += LITTLE_STEP_US;
    for (size_t i = 0; i < LITTLE_NODES; i++) {
        struct little_node *node = &cluster->nodes[i];
        if (!node->up) {
            continue;
        }
        struct agent_actions actions = {0};
        processes_act(cluster, node);
        agent_tick(&node->agent, cluster->now_us, &actions);
        perform(cluster, node, &actions);
        if (!node->cut && (cluster->now_us / LITTLE_STEP_US) % 2 == 0) {
            heartbeat(cluster, node);
        }
    }
    step_control(cluster);
}

void little_cluster_run(struct little_cluster *cluster, uint64_t duration_us)
{
    for (uint64_t end_us = cluster->now_us + duration_us; cluster->now_us < end_us;) {
        step(cluster);
    }
}

void little_cluster_await(struct little_cluster *cluster, const char *replica, enum proto_replica_state state,
                          uint64_t duration_us)
{
    for (uint64_t end_us = cluster->now_us + duration_us; cluster->now_us < end_us;) {
        const struct fsm_replica *found = fsm_replica(&cluster->fsm, replica);
        if (found != NULL && found->state == state) {
            return;
        }
        step(cluster);
    }
    fail_msg("%s does not get into state %d", replica, (int)state);
}

void little_cluster_open(struct little_cluster *cluster, size_t nodes)
{
    memset(cluster, 0, sizeof(*cluster));
    cluster->now_us = 1000000;
    cluster->next_pid = 100;
    fsm_init(&cluster->fsm);
    control_init(&cluster->control, &health);
    control_lead(&cluster->control, true, cluster->now_us);
    for (size_t i = 0; i < LITTLE_NODES; i++) {
        snprintf(cluster->nodes[i].name, sizeof(cluster->nodes[i].name), "n%zu", i + 1);
        buf_init(&cluster->nodes[i].disk, 1 << 20);
        if (i < nodes) {
            little_cluster_join(cluster, i);
        }
    }
}

void little_cluster_close(struct little_cluster *cluster)
{
    for (size_t i = 0; i < LITTLE_NODES; i++) {
        if (cluster->nodes[i].up) {
            agent_free(&cluster->nodes[i].agent);
        }
        buf_free(&cluster->nodes[i].disk);
    }
    control_free(&cluster->control);
    fsm_free(&cluster->fsm);
}

void little_cluster_model(struct little_cluster *cluster, const char *name, uint64_t replicas, uint64_t memory_bytes)
{
    const struct proto_cmd_model_put command = {.model = {.name = bytes_of_text(name),
                                                          .path = BYTES_LITERAL("/models/x.gguf"),
                                                          .replicas = replicas,
                                                          .memory_bytes = memory_bytes,
                                                          .kv_type = BYTES_LITERAL("f16")}};
    assert_int_equal(apply(&cluster->fsm, PROTO_CMD_MODEL_PUT, &command), STATUS_OK);
}

void little_cluster_remove_model(struct little_cluster *cluster, const char *name)
{
    const struct proto_cmd_model_remove command = {.name = bytes_of_text(name)};
    assert_int_equal(apply(&cluster->fsm, PROTO_CMD_MODEL_REMOVE, &command), STATUS_OK);
}

void little_cluster_join(struct little_cluster *cluster, size_t node)
{
    cluster->nodes[node].exists = true;
    little_cluster_start_node(cluster, node);
}

void little_cluster_kill_node(struct little_cluster *cluster, size_t node)
{
    struct little_node *dead = &cluster->nodes[node];
    dead->up = dead->cut = false;
    agent_free(&dead->agent);
    memset(dead->processes, 0, sizeof(dead->processes));
}

void little_cluster_start_node(struct little_cluster *cluster, size_t node)
{
    cluster->nodes[node].up = true;
    open_agent(cluster, &cluster->nodes[node]);
}

void little_cluster_restart_agent(struct little_cluster *cluster, size_t node)
{
    agent_free(&cluster->nodes[node].agent);
    open_agent(cluster, &cluster->nodes[node]);
}

void little_cluster_kill_engine(struct little_cluster *cluster, size_t node, const char *replica)
{
    struct little_node *home = &cluster->nodes[node];
    for (size_t i = 0; i < LITTLE_PROCESSES; i++) {
        if (home->processes[i].pid != 0 && strcmp(home->processes[i].replica, replica) == 0) {
            end_process(cluster, home, &home->processes[i]);
        }
    }
}

void little_cluster_new_leader(struct little_cluster *cluster)
{
    control_free(&cluster->control);
    control_init(&cluster->control, &health);
    control_lead(&cluster->control, true, cluster->now_us);
}

size_t little_cluster_processes(const struct little_cluster *cluster, const char *replica)
{
    size_t count = 0;
    for (size_t i = 0; i < LITTLE_NODES; i++) {
        for (size_t j = 0; j < LITTLE_PROCESSES; j++) {
            const struct little_process *process = &cluster->nodes[i].processes[j];
            count += process->pid != 0 && strcmp(process->replica, replica) == 0;
        }
    }
    return count;
}
