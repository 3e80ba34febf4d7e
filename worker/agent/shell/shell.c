/* worker/agent/shell/shell.c: start, timers and end of shoal-worker. */
#include "worker/agent/shell/shell.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/proto.h"

enum { HEARTBEAT_MS = 100, TICK_MS = 50, QUEUE_MAX = 256, STATE_FILE_MAX = 4 << 20, STOP_MAX_US = 8000000 };

static void heartbeat_due(struct loop_timer *timer)
{
    shell_send_heartbeat(timer->context);
}

static void tick_due(struct loop_timer *timer)
{
    struct shell *shell = timer->context;
    struct agent_actions actions = {0};
    shell_poll_adopted(shell); /* may start engines: the time of the tick is read behind it */
    uint64_t now_us = loop_now_us(&shell->loop);
    agent_tick(&shell->agent, now_us, &actions);
    shell_perform(shell, &actions);
    if (shell->stopping && (shell->agent.engines_count == 0 || now_us - shell->stopping_since_us >= STOP_MAX_US)) {
        loop_stop(&shell->loop);
    }
}

static void on_stop(struct loop_signals *signals, int number)
{
    struct shell *shell = signals->context;
    LOG_I("agent", "stopping", "signal=%d engines=%s", number,
          shell->options.on_term == SHELL_TERM_STOP ? "stop" : "leave");
    if (shell->options.on_term == SHELL_TERM_LEAVE) {
        loop_stop(&shell->loop);
        return;
    }
    if (!shell->stopping) {
        struct agent_actions actions = {0};
        shell->stopping = true;
        shell->stopping_since_us = loop_now_us(&shell->loop);
        agent_stop_all(&shell->agent, shell->stopping_since_us, &actions);
        shell_perform(shell, &actions);
    }
}

/* The endpoint of an earlier agent of this node, so that living engines find us; else the option's. */
static const char *listen_endpoint(const struct shell *shell, struct buf *kept)
{
    struct error error;
    char *path = file_join(shell->options.state, "endpoint");
    bool read = file_exists(path) && file_read(path, 256, kept, &error) == STATUS_OK && kept->length > 0;
    mem_free(path);
    return read ? buf_text(kept) : shell->options.listen;
}

/* A node has one agent at a time. */
static enum status lock_state(struct shell *shell, struct error *error)
{
    char *path = file_join(shell->options.state, "lock");
    enum status status = file_lock(path, &shell->lock, error);
    mem_free(path);
    return status;
}

static enum status serve_engines(struct shell *shell, struct error *error)
{
    struct buf kept;
    buf_init(&kept, 256);
    struct bus_server_config config = {.endpoint = listen_endpoint(shell, &kept),
                                       .frame_bytes_max = PROTO_FRAME_BYTES_MAX,
                                       .queue_max = QUEUE_MAX,
                                       .context = shell,
                                       .received = shell_engine_received};
    bus_allow(shell->bus, shell->identity.keys.public_key); /* engines carry their node's key; nobody else may come */
    enum status status = bus_serve(shell->bus, &config, &shell->server, error);
    if (status != STATUS_OK && config.endpoint != shell->options.listen) {
        LOG_W("agent", "endpoint_taken", "endpoint=%s detail=%s", config.endpoint, log_quoted(error->text));
        config.endpoint = shell->options.listen; /* adopted engines won't find us, and are started anew */
        status = bus_serve(shell->bus, &config, &shell->server, error);
    }
    buf_free(&kept);
    if (status == STATUS_OK) {
        char *path = file_join(shell->options.state, "endpoint");
        status = file_write_atomic(path, bytes_of_text(bus_server_endpoint(shell->server)), 0600, error);
        mem_free(path);
    }
    return status;
}

static enum status dial_coordinators(struct shell *shell, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < shell->members.count && status == STATUS_OK; i++) {
        const struct member *member = &shell->members.list[i];
        if (member->role != MEMBER_COORDINATOR) {
            continue;
        }
        if (shell->coordinators_count == SHELL_COORDINATORS_MAX) {
            return error_set(error, STATUS_LIMIT, "more than %d coordinators", SHELL_COORDINATORS_MAX);
        }
        struct shell_coordinator *coordinator = &shell->coordinators[shell->coordinators_count++];
        *coordinator = (struct shell_coordinator){.shell = shell, .member = member};
        struct bus_client_config config = {.endpoint = member->endpoint,
                                           .frame_bytes_max = PROTO_FRAME_BYTES_MAX,
                                           .queue_max = QUEUE_MAX,
                                           .context = coordinator,
                                           .received = shell_coordinator_received};
        memcpy(config.server_key, member->public_key, CURVE_KEY_BYTES);
        status = bus_dial(shell->bus, &config, &coordinator->client, error);
    }
    return status;
}

static bool process_alive(int pid, uint64_t start_ticks)
{
    return start_ticks != 0 && proc_start_ticks(pid) == start_ticks;
}

static enum status open_agent(struct shell *shell, struct error *error)
{
    struct agent_config config = {.incarnation = clock_wall_us(),
                                  .silent_after_us = 5000000,
                                  .start_grace_us = 30000000,
                                  .stop_grace_us = 5000000,
                                  .settled_after_us = 3000000,
                                  .backoff_first_us = 250000,
                                  .backoff_max_us = 30000000};
    inventory_read(&shell->inventory);
    config.cores = shell->options.cores > 0 ? (uint64_t)shell->options.cores : shell->inventory.cores;
    snprintf(config.node, sizeof(config.node), "%s", shell->identity.name);
    snprintf(config.host, sizeof(config.host), "%s", shell->options.host);
    crypto_random(config.token_seed, sizeof(config.token_seed));
    agent_init(&shell->agent, &config);
    char *path = file_join(shell->options.state, "agent.json");
    enum status status = STATUS_OK;
    if (file_exists(path)) {
        struct buf text;
        buf_init(&text, STATE_FILE_MAX);
        status = file_read(path, STATE_FILE_MAX, &text, error);
        if (status == STATUS_OK) {
            status = agent_load(&shell->agent, buf_bytes(&text), loop_now_us(&shell->loop), process_alive, error);
        }
        if (status != STATUS_OK) {
            error_prefix(error, "%s", path);
        }
        buf_free(&text);
    }
    mem_free(path);
    return status;
}

static enum status check_self(const struct shell *shell, struct error *error)
{
    const struct member *self = members_by_key(&shell->members, shell->identity.keys.public_key);
    if (self == NULL || self->role != MEMBER_NODE || strcmp(self->name, shell->identity.name) != 0) {
        return error_set(error, STATUS_DENIED, "%s is no node of %s", shell->identity.name, shell->options.members);
    }
    return STATUS_OK;
}

enum status shell_open(struct shell *shell, const struct shell_options *options, struct error *error)
{
    shell->options = *options;
    enum status status = crypto_init();
    if (status != STATUS_OK) {
        return error_set(error, status, "libsodium can't be initialised");
    }
    if ((status = identity_read(options->identity, &shell->identity, error)) != STATUS_OK ||
        (status = members_read(options->members, &shell->members, error)) != STATUS_OK ||
        (status = check_self(shell, error)) != STATUS_OK ||
        (status = file_make_dirs(options->state, 0700, error)) != STATUS_OK ||
        (status = lock_state(shell, error)) != STATUS_OK || (status = loop_init(&shell->loop, error)) != STATUS_OK ||
        (status = bus_open(&shell->loop, &shell->identity.keys, &shell->bus, error)) != STATUS_OK ||
        (status = serve_engines(shell, error)) != STATUS_OK || (status = open_agent(shell, error)) != STATUS_OK ||
        (status = dial_coordinators(shell, error)) != STATUS_OK) {
        return status;
    }
    loop_signals_init(&shell->loop, &shell->signals, shell, on_stop);
    loop_timer_init(&shell->loop, &shell->heartbeat_timer, shell, heartbeat_due);
    loop_timer_init(&shell->loop, &shell->tick_timer, shell, tick_due);
    loop_timer_start(&shell->heartbeat_timer, HEARTBEAT_MS, HEARTBEAT_MS);
    loop_timer_start(&shell->tick_timer, TICK_MS, TICK_MS);
    LOG_I("agent", "started", "node=%s endpoint=%s cores=%llu engines=%zu", shell->identity.name,
          bus_server_endpoint(shell->server), (unsigned long long)shell->agent.config.cores,
          shell->agent.engines_count);
    return STATUS_OK;
}

void shell_run(struct shell *shell)
{
    loop_run(&shell->loop);
}

void shell_close(struct shell *shell)
{
    for (size_t i = 0; i < AGENT_ENGINES_MAX; i++) {
        if (shell->engines[i].proc.pid != 0) {
            proc_detach(&shell->engines[i].proc); /* engines outlive their agent */
        }
    }
    loop_timer_close(&shell->heartbeat_timer);
    loop_timer_close(&shell->tick_timer);
    loop_signals_close(&shell->signals);
    bus_close(shell->bus);
    loop_close(&shell->loop);
    agent_free(&shell->agent);
    members_free(&shell->members);
    crypto_wipe(&shell->identity, sizeof(shell->identity));
    close(shell->lock);
}
