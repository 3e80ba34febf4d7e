/* worker/agent/shell/perform.c: the core's actions on processes and files: persist, start, stop, kill. */
#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/proto.h"
#include "worker/agent/shell/shell.h"

enum { STATE_FILE_MAX = 4 << 20, ENGINE_ARGS_MAX = 40, SMALL_FILE_MAX = 64 << 10 };

struct shell_engine *shell_engine_of(struct shell *shell, const char *replica, bool make)
{
    struct shell_engine *unused = NULL;
    for (size_t i = 0; i < AGENT_ENGINES_MAX; i++) {
        struct shell_engine *engine = &shell->engines[i];
        if (strcmp(engine->replica, replica) == 0) {
            return engine;
        }
        if (engine->replica[0] == '\0' || (engine->proc.pid == 0 && unused == NULL)) {
            unused = engine;
        }
    }
    if (!make) {
        return NULL;
    }
    CHECK(unused != NULL);
    memset(unused, 0, sizeof(*unused));
    unused->shell = shell;
    snprintf(unused->replica, sizeof(unused->replica), "%s", replica);
    return unused;
}

static void persist(struct shell *shell)
{
    struct buf text;
    struct error error;
    buf_init(&text, STATE_FILE_MAX);
    agent_save(&shell->agent, &text);
    CHECK(!text.overflow);
    char *path = file_join(shell->options.state, "agent.json");
    if (file_write_atomic(path, buf_bytes(&text), 0600, &error) != STATUS_OK) {
        /* Going on would start engines that a later agent does not know of. */
        LOG_E("shell", "state_unwritable", "detail=%s", log_quoted(error.text));
        _exit(1);
    }
    mem_free(path);
    buf_free(&text);
}

/* <state>/jobs/model_1: one folder per replica, reused by its later engines. */
static char *job_folder(const struct shell *shell, const char *replica)
{
    char name[160];
    snprintf(name, sizeof(name), "jobs/%s", replica);
    for (char *at = name + 5; *at != '\0'; at++) {
        if (*at == '/') {
            *at = '_';
        }
    }
    return file_join(shell->options.state, name);
}

/* Whether a process's command line (arguments with a zero behind each) holds `--job` and this folder. */
static bool runs_job(const struct buf *command, const char *job)
{
    const char *at = buf_text(command), *end = at + command->length;
    bool named = false;
    for (; at < end; at += strlen(at) + 1) {
        if (named && strcmp(at, job) == 0) {
            return true;
        }
        named = strcmp(at, "--job") == 0;
    }
    return false;
}

/* Kills what still runs this very job: started by an agent that died before it could write down what it had started.
 * The process table is asked, not a file: it knows of engines that have not got to writing one. True: there was one. */
static bool end_leftover(const char *job)
{
    DIR *processes = opendir("/proc");
    bool found = false;
    const struct dirent *entry;
    while (processes != NULL && (entry = readdir(processes)) != NULL) {
        char path[64];
        struct buf command;
        struct error error;
        int pid = (int)strtol(entry->d_name, NULL, 10);
        uint64_t start_ticks = pid > 0 ? proc_start_ticks(pid) : 0;
        if (start_ticks == 0 || pid == getpid()) {
            continue;
        }
        snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
        buf_init(&command, SMALL_FILE_MAX);
        if (file_read(path, SMALL_FILE_MAX, &command, &error) == STATUS_OK && runs_job(&command, job)) {
            enum status status = proc_kill(pid, start_ticks, SIGKILL);
            LOG_W("agent", "leftover_engine", "pid=%d job=%s kill=%s", pid, log_quoted(job), status_name(status));
            found = true;
        }
        buf_free(&command);
    }
    if (processes != NULL) {
        (void)closedir(processes);
    }
    return found;
}

static void engine_exited(struct proc *proc, int exit_status, int signal_number)
{
    struct shell_engine *engine = proc->context;
    struct shell *shell = engine->shell;
    LOG_W("agent", "engine_exited", "replica=%s status=%d signal=%d", engine->replica, exit_status, signal_number);
    for (size_t i = 0; i < shell->agent.engines_count; i++) {
        const struct agent_engine *known = shell->agent.engines[i];
        if (known->pid != 0 && strcmp(known->job.replica, engine->replica) == 0) {
            struct agent_actions actions = {0};
            agent_exited(&shell->agent, known->pid, exit_status, signal_number, loop_now_us(&shell->loop), &actions);
            shell_perform(shell, &actions);
            return;
        }
    }
}

static const char *number_text(char *to, size_t to_size, uint64_t value)
{
    snprintf(to, to_size, "%" PRIu64, value);
    return to;
}

static enum status write_token(const char *job, const struct agent_engine *engine, struct error *error)
{
    char hex[2 * AGENT_TOKEN_BYTES + 1];
    crypto_hex(hex, engine->token, AGENT_TOKEN_BYTES);
    char *path = file_join(job, "token");
    enum status status = file_write_atomic(path, bytes_of_text(hex), 0600, error);
    mem_free(path);
    return status;
}

static enum status spawn(struct shell *shell, const struct agent_engine *engine, const char *job,
                         struct shell_engine *slot, struct error *error)
{
    const struct agent_job *running = &engine->running;
    char epoch[24], threads[24], pool[24], context[24], nice_text[24], listen[160];
    char *log_path = file_join(job, "engine.log");
    snprintf(listen, sizeof(listen), "tcp://%s:0", shell->options.host);
    /* clang-format off */
    const char *argv[ENGINE_ARGS_MAX] = {
        shell->options.engine,
        "--identity", shell->options.identity,
        "--members", shell->options.members,
        "--agent-endpoint", bus_server_endpoint(shell->server),
        "--job", job,
        "--listen", listen,
        "--replica", running->replica,
        "--epoch", number_text(epoch, sizeof(epoch), running->epoch),
        "--model", running->path,
        "--model-name", running->model,
        "--threads", number_text(threads, sizeof(threads), running->threads),
        "--nice", number_text(nice_text, sizeof(nice_text), (uint64_t)shell->options.engine_nice),
        "--pool-tokens", number_text(pool, sizeof(pool), running->pool_tokens),
        "--context", number_text(context, sizeof(context), running->context_tokens),
        "--kv-type", running->kv_type[0] != '\0' ? running->kv_type : "f16",
    };
    /* clang-format on */
    struct proc_config config = {.argv = argv, .log_path = log_path, .new_session = true};
    slot->proc = (struct proc){.context = slot, .exited = engine_exited};
    enum status status = proc_start(&shell->loop, &config, &slot->proc, error);
    mem_free(log_path);
    return status;
}

static void start_engine(struct shell *shell, struct agent_engine *engine, struct agent_actions *actions)
{
    struct error error = {0};
    char *job = job_folder(shell, engine->running.replica);
    struct shell_engine *slot = shell_engine_of(shell, engine->running.replica, true);
    slot->channel = 0;
    enum status status = file_make_dirs(job, 0700, &error);
    if (status == STATUS_OK && end_leftover(job)) {
        status = error_set(&error, STATUS_BUSY, "an engine of an earlier agent is being ended");
    }
    if (status == STATUS_OK) {
        status = write_token(job, engine, &error);
    }
    if (status == STATUS_OK) {
        status = spawn(shell, engine, job, slot, &error);
    }
    uint64_t now_us = loop_now_us(&shell->loop);
    if (status == STATUS_OK) {
        LOG_I("agent", "engine_started", "replica=%s epoch=%" PRIu64 " pid=%d threads=%" PRIu64,
              engine->running.replica, engine->running.epoch, slot->proc.pid, engine->running.threads);
        agent_started(&shell->agent, engine, slot->proc.pid, proc_start_ticks(slot->proc.pid), now_us, actions);
    } else {
        LOG_E("agent", "engine_not_started", "replica=%s detail=%s", engine->running.replica, log_quoted(error.text));
        agent_start_failed(&shell->agent, engine, error.text, now_us);
    }
    mem_free(job);
}

static void stop_engine(struct shell *shell, const struct agent_engine *engine)
{
    struct shell_engine *slot = shell_engine_of(shell, engine->running.replica, false);
    struct proto_engine_stop stop = {.epoch = engine->running.epoch};
    struct buf frame;
    struct error error;
    enum status status = STATUS_CLOSED;
    buf_init(&frame, SMALL_FILE_MAX);
    LOG_I("agent", "engine_stop", "replica=%s epoch=%" PRIu64 " pid=%d", engine->running.replica, engine->running.epoch,
          engine->pid);
    if (slot != NULL && slot->channel != 0 && proto_encode(&frame, PROTO_ENGINE_STOP, &stop, &error) == STATUS_OK) {
        status = bus_server_send(shell->server, slot->channel, buf_bytes(&frame));
    }
    if (status != STATUS_OK && proc_kill(engine->pid, engine->start_ticks, SIGTERM) != STATUS_OK) {
        LOG_D("agent", "engine_gone", "pid=%d", engine->pid);
    }
    buf_free(&frame);
}

static void kill_engine(const struct agent_engine *engine)
{
    LOG_W("agent", "engine_fenced", "replica=%s epoch=%" PRIu64 " pid=%d reason=%s", engine->running.replica,
          engine->running.epoch, engine->pid, log_quoted(engine->report_reason));
    if (proc_kill(engine->pid, engine->start_ticks, SIGKILL) != STATUS_OK) {
        LOG_D("agent", "engine_gone", "pid=%d", engine->pid); /* its end is noticed by SIGCHLD or by polling */
    }
}

void shell_perform(struct shell *shell, struct agent_actions *actions)
{
    for (size_t i = 0; i < actions->count; i++) { /* starting appends to the list */
        struct agent_action action = actions->list[i];
        switch (action.kind) {
        case AGENT_PERSIST:
            persist(shell);
            break;
        case AGENT_START:
            start_engine(shell, action.engine, actions);
            break;
        case AGENT_STOP:
            stop_engine(shell, action.engine);
            break;
        case AGENT_KILL:
            kill_engine(action.engine);
            break;
        }
    }
}

void shell_poll_adopted(struct shell *shell)
{
    for (size_t i = 0; i < shell->agent.engines_count; i++) {
        const struct agent_engine *engine = shell->agent.engines[i];
        if (engine->adopted && engine->pid != 0 && proc_start_ticks(engine->pid) != engine->start_ticks) {
            struct agent_actions actions = {0};
            LOG_W("agent", "adopted_engine_gone", "replica=%s pid=%d", engine->job.replica, engine->pid);
            agent_exited(&shell->agent, engine->pid, 0, 0, loop_now_us(&shell->loop), &actions);
            shell_perform(shell, &actions);
            return; /* the table may have changed: the rest at the next tick */
        }
    }
}
