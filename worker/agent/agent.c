/* worker/agent/agent.c: the state machine of agent.h: one tick that every event re-enters. */
#include "worker/agent/agent.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/crypto.h"
#include "base/mem.h"

static void set_text(char *to, size_t to_size, struct bytes text)
{
    CHECK(text.length < to_size);
    memset(to, 0, to_size);
    if (text.length > 0) { /* an absent text has no data either */
        memcpy(to, text.data, text.length);
    }
}

void agent_init(struct agent *agent, const struct agent_config *config)
{
    *agent = (struct agent){.config = *config};
}

void agent_free(struct agent *agent)
{
    for (size_t i = 0; i < agent->engines_count; i++) {
        mem_free(agent->engines[i]);
    }
    agent->engines_count = 0;
}

const char *agent_phase_name(enum agent_phase phase)
{
    static const char *const names[] = {"waiting", "starting", "live", "stopping", "fencing"};
    return names[phase];
}

static void act(struct agent_actions *actions, enum agent_action_kind kind, struct agent_engine *engine)
{
    CHECK(actions->count < AGENT_ACTIONS_MAX);
    actions->list[actions->count++] = (struct agent_action){.kind = kind, .engine = engine};
}

static void enter(struct agent_engine *engine, enum agent_phase phase, uint64_t now_us)
{
    engine->phase = phase;
    engine->phase_us = now_us;
}

static struct agent_engine *find_engine(const struct agent *agent, struct bytes replica)
{
    for (size_t i = 0; i < agent->engines_count; i++) {
        if (bytes_equal(bytes_of_text(agent->engines[i]->job.replica), replica)) {
            return agent->engines[i];
        }
    }
    return NULL;
}

static struct agent_engine *add_engine(struct agent *agent)
{
    struct agent_engine *engine = mem_new(struct agent_engine);
    agent->engines[agent->engines_count++] = engine;
    return engine;
}

static void forget(struct agent *agent, struct agent_engine *engine)
{
    for (size_t i = 0; i < agent->engines_count; i++) {
        if (agent->engines[i] == engine) {
            memmove(&agent->engines[i], &agent->engines[i + 1],
                    (agent->engines_count - i - 1) * sizeof(agent->engines[0]));
            agent->engines_count--;
            mem_free(engine);
            return;
        }
    }
    UNREACHABLE();
}

static bool jobs_equal(const struct agent_job *a, const struct agent_job *b)
{
    return a->epoch == b->epoch && strcmp(a->path, b->path) == 0 && strcmp(a->model, b->model) == 0 &&
           a->pool_tokens == b->pool_tokens && a->context_tokens == b->context_tokens &&
           strcmp(a->kv_type, b->kv_type) == 0;
}

/* The back-off grows with every failure in a row and starts anew when an engine was ready for settled_after. */
static uint64_t backoff_us(const struct agent *agent, const struct agent_engine *engine)
{
    uint64_t wait_us = agent->config.backoff_first_us;
    for (unsigned i = 1; i < engine->failures && wait_us < agent->config.backoff_max_us; i++) {
        wait_us *= 2;
    }
    return MIN_OF(wait_us, agent->config.backoff_max_us);
}

/* The session token of one start: unguessable without the seed, never the same twice. */
static void draw_token(const struct agent *agent, struct agent_engine *engine, uint64_t now_us)
{
    struct bytes parts[] = {bytes_of_text(engine->job.replica), bytes_of(&engine->job.epoch, sizeof(uint64_t)),
                            bytes_of(&agent->config.incarnation, sizeof(uint64_t)), bytes_of(&now_us, sizeof(now_us))};
    crypto_blake2b(engine->token, bytes_of(agent->config.token_seed, sizeof(agent->config.token_seed)), parts,
                   COUNT_OF(parts));
}

/* Threads are dealt from all wanted engines, so that neighbours don't fight for cores. */
static uint64_t threads_of(const struct agent *agent)
{
    uint64_t wanted = 0;
    for (size_t i = 0; i < agent->engines_count; i++) {
        wanted += agent->engines[i]->wanted;
    }
    return MAX_OF((uint64_t)1, agent->config.cores / MAX_OF((uint64_t)1, wanted));
}

static void start(const struct agent *agent, struct agent_engine *engine, uint64_t now_us,
                  struct agent_actions *actions)
{
    CHECK(engine->pid == 0);
    engine->running = engine->job;
    if (engine->running.threads == 0) {
        engine->running.threads = threads_of(agent);
    }
    engine->epoch_highest = MAX_OF(engine->epoch_highest, engine->job.epoch);
    engine->heard_us = engine->ready_us = 0;
    engine->adopted = false;
    engine->report = (struct proto_engine_report){0};
    draw_token(agent, engine, now_us);
    enter(engine, AGENT_STARTING, now_us);
    act(actions, AGENT_PERSIST, NULL);
    act(actions, AGENT_START, engine);
}

static void stop(struct agent_engine *engine, uint64_t now_us, struct agent_actions *actions)
{
    enter(engine, AGENT_STOPPING, now_us);
    act(actions, AGENT_STOP, engine);
}

static void fence(struct agent_engine *engine, uint64_t now_us, struct agent_actions *actions)
{
    enter(engine, AGENT_FENCING, now_us);
    act(actions, AGENT_KILL, engine);
}

static void note_reason(struct agent_engine *engine, const char *why)
{
    snprintf(engine->report_reason, sizeof(engine->report_reason), "%s", why);
    engine->report.reason = bytes_of_text(engine->report_reason);
}

/* An event's time may be read a little before the one that it is compared with: that is no eternity. */
static uint64_t elapsed_us(uint64_t now_us, uint64_t since_us)
{
    return now_us > since_us ? now_us - since_us : 0;
}

/* One engine's next step as of now. True when the entry is to be forgotten. */
static bool tick_engine(const struct agent *agent, struct agent_engine *engine, uint64_t now_us,
                        struct agent_actions *actions)
{
    const struct agent_config *config = &agent->config;
    bool stale = !engine->wanted || !jobs_equal(&engine->job, &engine->running);
    uint64_t in_phase_us = elapsed_us(now_us, engine->phase_us);
    switch (engine->phase) {
    case AGENT_WAITING:
        if (!engine->wanted) {
            return true;
        }
        if (now_us >= engine->retry_us) {
            start(agent, engine, now_us, actions);
        }
        break;
    case AGENT_STARTING:
        if (engine->pid == 0) {
            break; /* the shell has not answered yet */
        }
        if (stale && engine->adopted) {
            stop(engine, now_us, actions);
        } else if (stale) {
            fence(engine, now_us, actions); /* nothing is served yet: no grace */
        } else if (in_phase_us >= (engine->adopted ? config->silent_after_us : config->start_grace_us)) {
            note_reason(engine,
                        engine->adopted ? "the adopted engine did not report" : "no report within the start grace");
            fence(engine, now_us, actions);
        }
        break;
    case AGENT_LIVE:
        if (stale) {
            stop(engine, now_us, actions);
        } else if (engine->report.state == PROTO_ENGINE_FAILED) {
            fence(engine, now_us, actions); /* it has said why; should it not end by itself, it ends now */
        } else if (elapsed_us(now_us, engine->heard_us) >= config->silent_after_us) {
            note_reason(engine, "silent: stopped, hung or cut off");
            fence(engine, now_us, actions);
        }
        break;
    case AGENT_STOPPING:
        if (in_phase_us >= config->stop_grace_us) {
            fence(engine, now_us, actions);
        }
        break;
    case AGENT_FENCING:
        if (in_phase_us >= 1000000) { /* SIGKILL can't be refused, but the process table may lag: ask again */
            fence(engine, now_us, actions);
        }
        break;
    }
    return false;
}

void agent_tick(struct agent *agent, uint64_t now_us, struct agent_actions *actions)
{
    for (size_t i = agent->engines_count; i-- > 0;) {
        if (tick_engine(agent, agent->engines[i], now_us, actions)) {
            forget(agent, agent->engines[i]);
            act(actions, AGENT_PERSIST, NULL);
        }
    }
}

void agent_stop_all(struct agent *agent, uint64_t now_us, struct agent_actions *actions)
{
    for (size_t i = 0; i < agent->engines_count; i++) {
        agent->engines[i]->wanted = false;
    }
    agent->assigned = false;
    act(actions, AGENT_PERSIST, NULL);
    agent_tick(agent, now_us, actions);
}

static void take_job(struct agent_job *job, const struct proto_assignment *from)
{
    *job = (struct agent_job){.epoch = from->epoch,
                              .pool_tokens = from->pool_tokens,
                              .context_tokens = from->context_tokens,
                              .threads = from->threads};
    set_text(job->replica, sizeof(job->replica), from->replica);
    set_text(job->model, sizeof(job->model), from->model);
    set_text(job->path, sizeof(job->path), from->path);
    set_text(job->kv_type, sizeof(job->kv_type), from->kv_type);
}

static bool assign_is_old(const struct agent *agent, const struct proto_assign *assign)
{
    return assign->incarnation < agent->assign_incarnation ||
           (assign->incarnation == agent->assign_incarnation && assign->index < agent->assign_index);
}

/* What no coordinator sends, and no state file could bring back. */
static bool assign_is_sound(const struct agent *agent, const struct proto_assign *assign)
{
    for (size_t i = 0; i < assign->assignments_count; i++) {
        if (assign->assignments[i].replica.length == 0 || assign->assignments[i].path.length == 0) {
            return false;
        }
    }
    return bytes_equal(assign->node, bytes_of_text(agent->config.node));
}

enum status agent_assign(struct agent *agent, const struct proto_assign *assign, uint64_t now_us,
                         struct agent_actions *actions)
{
    if (!assign_is_sound(agent, assign)) {
        return STATUS_INVALID;
    }
    if (assign_is_old(agent, assign)) {
        return STATUS_CONFLICT;
    }
    size_t fresh = 0;
    for (size_t i = 0; i < assign->assignments_count; i++) {
        fresh += find_engine(agent, assign->assignments[i].replica) == NULL;
    }
    if (agent->engines_count + fresh > AGENT_ENGINES_MAX) {
        return STATUS_LIMIT;
    }
    bool counts_anew = assign->incarnation > agent->assign_incarnation;
    agent->assign_incarnation = assign->incarnation;
    agent->assign_index = assign->index;
    agent->assigned = true;
    for (size_t i = 0; i < agent->engines_count; i++) {
        agent->engines[i]->wanted = false;
        agent->engines[i]->epoch_highest = counts_anew ? 0 : agent->engines[i]->epoch_highest;
    }
    for (size_t i = 0; i < assign->assignments_count; i++) {
        const struct proto_assignment *from = &assign->assignments[i];
        struct agent_engine *engine = find_engine(agent, from->replica);
        if (engine == NULL) {
            engine = add_engine(agent);
            enter(engine, AGENT_WAITING, now_us);
        }
        if (from->epoch < engine->epoch_highest) {
            continue; /* a placement that this node has outlived; it stays unwanted */
        }
        if (from->epoch != engine->job.epoch) {
            engine->failures = 0;
            engine->retry_us = 0;
        }
        take_job(&engine->job, from);
        engine->wanted = true;
    }
    act(actions, AGENT_PERSIST, NULL);
    agent_tick(agent, now_us, actions);
    return STATUS_OK;
}

void agent_started(struct agent *agent, struct agent_engine *engine, int pid, uint64_t start_ticks, uint64_t now_us,
                   struct agent_actions *actions)
{
    (void)agent;
    CHECK(engine->phase == AGENT_STARTING && engine->pid == 0);
    engine->pid = pid;
    engine->start_ticks = start_ticks;
    enter(engine, AGENT_STARTING, now_us);
    act(actions, AGENT_PERSIST, NULL);
}

void agent_start_failed(struct agent *agent, struct agent_engine *engine, const char *why, uint64_t now_us)
{
    CHECK(engine->phase == AGENT_STARTING && engine->pid == 0);
    engine->failures++;
    engine->retry_us = now_us + backoff_us(agent, engine);
    engine->report.state = PROTO_ENGINE_FAILED;
    note_reason(engine, why);
    enter(engine, AGENT_WAITING, now_us);
}

static void note_exit(struct agent_engine *engine, int exit_status, int signal_number)
{
    char why[160];
    if (engine->report.reason.length > 0 && engine->report.state == PROTO_ENGINE_FAILED) {
        return; /* it said itself why */
    }
    if (engine->phase == AGENT_FENCING && engine->report.reason.length > 0) {
        return; /* we said why when we killed it */
    }
    if (engine->adopted) {
        snprintf(why, sizeof(why), "the adopted engine (pid %d) is gone", engine->pid);
    } else if (signal_number != 0) {
        snprintf(why, sizeof(why), "ended by signal %d", signal_number);
    } else {
        snprintf(why, sizeof(why), "exited with status %d", exit_status);
    }
    note_reason(engine, why);
}

void agent_exited(struct agent *agent, int pid, int exit_status, int signal_number, uint64_t now_us,
                  struct agent_actions *actions)
{
    struct agent_engine *engine = NULL;
    for (size_t i = 0; i < agent->engines_count; i++) {
        if (agent->engines[i]->pid == pid) {
            engine = agent->engines[i];
        }
    }
    if (pid == 0 || engine == NULL) {
        return;
    }
    note_exit(engine, exit_status, signal_number);
    bool on_purpose = engine->phase == AGENT_STOPPING;
    bool lived = engine->ready_us != 0 && elapsed_us(now_us, engine->ready_us) >= agent->config.settled_after_us;
    engine->failures = on_purpose || lived ? 0 : engine->failures + 1;
    engine->retry_us = now_us + (on_purpose ? 0 : lived ? agent->config.backoff_first_us : backoff_us(agent, engine));
    engine->pid = 0;
    engine->start_ticks = 0;
    bool failed = engine->report.state == PROTO_ENGINE_FAILED || engine->heard_us == 0;
    engine->report.state = failed && !on_purpose ? PROTO_ENGINE_FAILED : PROTO_ENGINE_STARTING;
    engine->report.endpoint = (struct bytes){0};
    enter(engine, AGENT_WAITING, now_us);
    act(actions, AGENT_PERSIST, NULL);
    agent_tick(agent, now_us, actions);
}

enum status agent_report(struct agent *agent, const struct proto_engine_state *state, uint64_t now_us)
{
    struct agent_engine *engine = find_engine(agent, state->report.replica);
    if (engine == NULL || engine->pid == 0 || engine->running.epoch != state->report.epoch ||
        state->report.pid != (uint64_t)engine->pid || state->session_token.length != AGENT_TOKEN_BYTES ||
        !crypto_equal(state->session_token.data, engine->token, AGENT_TOKEN_BYTES)) {
        return STATUS_DENIED;
    }
    if (engine->phase == AGENT_FENCING) {
        return STATUS_OK; /* last words, sent before the signal: the reason for it stands */
    }
    engine->heard_us = now_us;
    if (state->report.state == PROTO_ENGINE_READY && engine->ready_us == 0) {
        engine->ready_us = now_us;
    }
    engine->report = state->report;
    set_text(engine->report_endpoint, sizeof(engine->report_endpoint), state->report.endpoint);
    set_text(engine->report_reason, sizeof(engine->report_reason), state->report.reason);
    engine->report.endpoint = bytes_of_text(engine->report_endpoint);
    engine->report.reason = bytes_of_text(engine->report_reason);
    if (engine->phase == AGENT_STARTING) {
        enter(engine, AGENT_LIVE, now_us);
    }
    return STATUS_OK;
}

static void fill_report(const struct agent_engine *engine, struct proto_engine_report *out)
{
    *out = engine->report;
    const struct agent_job *job = engine->pid != 0 ? &engine->running : &engine->job;
    out->replica = bytes_of_text(job->replica);
    out->epoch = job->epoch;
    out->pid = (uint64_t)engine->pid;
    if (engine->phase == AGENT_STOPPING) {
        out->state = PROTO_ENGINE_DRAINING;
    } else if (engine->phase == AGENT_FENCING || engine->phase == AGENT_STARTING) {
        out->state = PROTO_ENGINE_STARTING;
        out->endpoint = (struct bytes){0};
    }
}

void agent_heartbeat(struct agent *agent, struct proto_engine_report *engines, struct proto_heartbeat *heartbeat)
{
    *heartbeat = (struct proto_heartbeat){
        .node = bytes_of_text(agent->config.node),
        .incarnation = agent->config.incarnation,
        .sequence = ++agent->heartbeats,
        .host = bytes_of_text(agent->config.host),
        .assign_index = agent->assigned ? agent->assign_index : 0,
        .engines = engines,
    };
    for (size_t i = 0; i < agent->engines_count; i++) {
        const struct agent_engine *engine = agent->engines[i];
        if (engine->adopted && engine->phase == AGENT_STARTING) {
            heartbeat->assign_index = 0; /* it serves, for all that we know */
        } else {
            fill_report(engine, &engines[heartbeat->engines_count++]);
        }
    }
}
