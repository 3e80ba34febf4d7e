/* cli/supervise: the restarting supervisor of `shoal up`: the laptop's stand-in for systemd.
 *
 * Starts the programs that <dir>/up.json asks for, one log each, and starts again what ends, with a back-off from 100
 * ms doubling to 1.6 s (coordinators and others exit on purpose when they can't trust themselves). What it started is
 * in <dir>/children.json, so that a new supervisor takes over living processes instead of starting them twice; one
 * supervisor per folder (<dir>/lock). SIGTERM ends all of it: routers and workers first, coordinators last, SIGKILL
 * after ten seconds. */
#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/command.h"
#include "cli/home.h"
#include "net/loop.h"
#include "net/proc.h"

enum {
    CHILDREN_MAX = HOME_COORDINATORS_MAX + HOME_NODES_MAX + HOME_ROUTERS_MAX,
    CHILD_ARGS_MAX = 24,
    TICK_MS = 50,
    BACKOFF_FIRST_US = 100000,
    BACKOFF_MAX_US = 1600000, /* an agent is back before its node counts as down */
    SETTLED_US = 10000000,    /* a life of that length forgives earlier failures */
    STOP_MAX_US = 10000000,
    CHILDREN_FILE_MAX = 64 << 10
};

enum child_role { CHILD_COORDINATOR, CHILD_ROUTER, CHILD_WORKER };

struct supervisor;

struct child {
    struct supervisor *supervisor;
    enum child_role role;
    char name[32];
    struct proc proc;
    int pid; /* 0: not running */
    uint64_t start_ticks;
    bool adopted;
    uint64_t started_us, retry_us;
    unsigned failures;
    bool told;   /* SIGTERM was sent */
    bool marked; /* coordinators: the bootstrap mark is there */
};

struct supervisor {
    const char *dir;
    struct home_up up;
    struct loop loop;
    struct loop_signals signals;
    struct loop_timer timer;
    struct child children[CHILDREN_MAX];
    size_t children_count;
    bool stopping;
    uint64_t stopping_since_us;
};

struct supervise_options {
    const char *dir;
};

static void write_children(struct supervisor *supervisor)
{
    struct buf text;
    struct error error;
    buf_init(&text, CHILDREN_FILE_MAX);
    buf_append_u8(&text, '{');
    for (size_t i = 0; i < supervisor->children_count; i++) {
        const struct child *child = &supervisor->children[i];
        buf_printf(&text, "%s\"%s\": {\"pid\": %d, \"start_ticks\": %" PRIu64 "}", i > 0 ? ",\n " : "", child->name,
                   child->pid, child->start_ticks);
    }
    buf_append_text(&text, "}\n");
    char *path = home_path(supervisor->dir, "children.json", NULL);
    if (file_write_atomic(path, buf_bytes(&text), 0600, &error) != STATUS_OK) {
        LOG_E("supervisor", "state_unwritable", "detail=%s", log_quoted(error.text));
    }
    mem_free(path);
    buf_free(&text);
}

static void adopt_children(struct supervisor *supervisor)
{
    for (size_t i = 0; i < supervisor->children_count; i++) {
        struct child *child = &supervisor->children[i];
        child->pid = home_child(supervisor->dir, child->name);
        child->start_ticks = child->pid != 0 ? proc_start_ticks(child->pid) : 0;
        if (child->pid != 0) {
            child->adopted = true;
            child->started_us = loop_now_us(&supervisor->loop);
            LOG_I("supervisor", "adopted", "name=%s pid=%d", child->name, child->pid);
        }
    }
}

static void child_ended(struct child *child, int exit_status, int signal_number)
{
    uint64_t now_us = loop_now_us(&child->supervisor->loop);
    uint64_t wait_us = BACKOFF_FIRST_US;
    child->failures = now_us - child->started_us >= SETTLED_US ? 1 : child->failures + 1;
    for (unsigned i = 1; i < child->failures && wait_us < BACKOFF_MAX_US; i++) {
        wait_us *= 2;
    }
    child->retry_us = now_us + MIN_OF(wait_us, (uint64_t)BACKOFF_MAX_US);
    LOG_W("supervisor", "ended", "name=%s pid=%d status=%d signal=%d", child->name, child->pid, exit_status,
          signal_number);
    child->pid = 0;
    child->start_ticks = 0;
    child->adopted = false;
    write_children(child->supervisor);
}

static void child_exited(struct proc *proc, int exit_status, int signal_number)
{
    child_ended(proc->context, exit_status, signal_number);
}

/* The mark that a coordinator's log was made once: it must never be made again under the same raft id. */
static char *bootstrap_mark(const struct child *child)
{
    char name[48];
    snprintf(name, sizeof(name), "%s.bootstrapped", child->name);
    return home_path(child->supervisor->dir, "keys", name);
}

/* Whether the coordinator's folder holds a log (or what is left of one). */
static bool has_log(const struct child *child)
{
    char *path = home_path(child->supervisor->dir, child->name, NULL);
    DIR *folder = opendir(path);
    bool found = false;
    const struct dirent *entry;
    while (folder != NULL && !found && (entry = readdir(folder)) != NULL) {
        found = strncmp(entry->d_name, "segment-", 8) == 0 || strncmp(entry->d_name, "snapshot-", 9) == 0;
    }
    if (folder != NULL) {
        (void)closedir(folder);
    }
    mem_free(path);
    return found;
}

struct child_command {
    const char *argv[CHILD_ARGS_MAX];
    char *owned[8];
    size_t owned_count;
};

static char *own(struct child_command *command, char *text)
{
    CHECK(command->owned_count < COUNT_OF(command->owned));
    command->owned[command->owned_count++] = text;
    return text;
}

static void build_command(const struct child *child, struct child_command *command)
{
    static const char *const programs[] = {"shoal-coordinator", "shoal-router", "shoal-worker"};
    const struct supervisor *supervisor = child->supervisor;
    size_t at = 0;
    char key_name[48], number[64];
    snprintf(key_name, sizeof(key_name), "%s.key", child->name);
    command->argv[at++] = own(command, home_program(programs[child->role]));
    command->argv[at++] = "--identity";
    command->argv[at++] = own(command, home_path(supervisor->dir, "keys", key_name));
    command->argv[at++] = "--members";
    command->argv[at++] = own(command, home_path(supervisor->dir, "keys", "members.json"));
    command->argv[at++] = "--state";
    command->argv[at++] = own(command, home_path(supervisor->dir, child->name, NULL));
    if (child->role == CHILD_COORDINATOR) {
        char *mark = own(command, bootstrap_mark(child));
        if (!file_exists(mark) && !has_log(child)) {
            command->argv[at++] = "--first-start";
        }
    } else if (child->role == CHILD_ROUTER) {
        int64_t number_of_router = child->name[1] - '1';
        snprintf(number, sizeof(number), "127.0.0.1:%" PRId64, supervisor->up.http_port + number_of_router);
        command->argv[at++] = "--listen";
        command->argv[at++] = own(command, mem_strdup(number));
    } else {
        int64_t cores = sysconf(_SC_NPROCESSORS_ONLN) / supervisor->up.nodes;
        snprintf(number, sizeof(number), "%" PRId64, MAX_OF(cores, (int64_t)1));
        command->argv[at++] = "--cores";
        command->argv[at++] = own(command, mem_strdup(number));
        int64_t pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
        snprintf(number, sizeof(number), "%" PRId64, pages * page_bytes / supervisor->up.nodes >> 20);
        command->argv[at++] = "--memory-mib"; /* the nodes share one machine */
        command->argv[at++] = own(command, mem_strdup(number));
        command->argv[at++] = "--engine-nice";
        command->argv[at++] = "10";
        command->argv[at++] = "--on-term";
        command->argv[at++] = "stop";
    }
    CHECK(at < CHILD_ARGS_MAX);
}

static void start_child(struct child *child)
{
    struct child_command command = {0};
    struct error error;
    char log_name[48];
    snprintf(log_name, sizeof(log_name), "%s.log", child->name);
    char *log_path = home_path(child->supervisor->dir, "logs", log_name);
    build_command(child, &command);
    struct proc_config config = {.argv = command.argv, .log_path = log_path, .new_session = true};
    child->proc = (struct proc){.context = child, .exited = child_exited};
    child->started_us = loop_now_us(&child->supervisor->loop);
    if (proc_start(&child->supervisor->loop, &config, &child->proc, &error) == STATUS_OK) {
        child->pid = child->proc.pid;
        child->start_ticks = proc_start_ticks(child->pid);
        LOG_I("supervisor", "started", "name=%s pid=%d", child->name, child->pid);
        write_children(child->supervisor);
    } else {
        LOG_E("supervisor", "not_started", "name=%s detail=%s", child->name, log_quoted(error.text));
        child_ended(child, -1, 0);
    }
    for (size_t i = 0; i < command.owned_count; i++) {
        mem_free(command.owned[i]);
    }
    mem_free(log_path);
}

static void mark_bootstrapped(struct child *child)
{
    struct error error;
    if (child->role != CHILD_COORDINATOR || child->marked || !has_log(child)) {
        return;
    }
    char *mark = bootstrap_mark(child);
    child->marked = true;
    if (!file_exists(mark) && file_write_atomic(mark, BYTES_LITERAL("once\n"), 0600, &error) != STATUS_OK) {
        LOG_E("supervisor", "mark_unwritable", "detail=%s", log_quoted(error.text));
        child->marked = false;
    }
    mem_free(mark);
}

static void tick_running(struct supervisor *supervisor, uint64_t now_us)
{
    for (size_t i = 0; i < supervisor->children_count; i++) {
        struct child *child = &supervisor->children[i];
        if (child->pid == 0 && now_us >= child->retry_us) {
            start_child(child);
        } else if (child->pid != 0) {
            mark_bootstrapped(child);
        }
    }
}

/* Tells the children to end, in order; true when all are gone. */
static bool tick_stopping(struct supervisor *supervisor, uint64_t now_us)
{
    bool clients_left = false, any_left = false;
    bool late = now_us - supervisor->stopping_since_us >= STOP_MAX_US;
    for (size_t i = 0; i < supervisor->children_count; i++) {
        const struct child *child = &supervisor->children[i];
        any_left = any_left || child->pid != 0;
        clients_left = clients_left || (child->pid != 0 && child->role != CHILD_COORDINATOR);
    }
    for (size_t i = 0; i < supervisor->children_count; i++) {
        struct child *child = &supervisor->children[i];
        bool turn = child->role != CHILD_COORDINATOR || !clients_left;
        if (child->pid == 0 || (!late && (child->told || !turn))) {
            continue;
        }
        child->told = true;
        if (proc_kill(child->pid, child->start_ticks, late ? SIGKILL : SIGTERM) != STATUS_OK) {
            LOG_D("supervisor", "gone", "name=%s", child->name);
        }
    }
    return !any_left;
}

static void tick(struct loop_timer *timer)
{
    struct supervisor *supervisor = timer->context;
    uint64_t now_us = loop_now_us(&supervisor->loop);
    for (size_t i = 0; i < supervisor->children_count; i++) {
        struct child *child = &supervisor->children[i];
        if (child->adopted && child->pid != 0 && proc_start_ticks(child->pid) != child->start_ticks) {
            child_ended(child, 0, 0);
        }
    }
    if (!supervisor->stopping) {
        tick_running(supervisor, now_us);
    } else if (tick_stopping(supervisor, now_us)) {
        loop_stop(&supervisor->loop);
    }
}

static void on_stop(struct loop_signals *signals, int number)
{
    struct supervisor *supervisor = signals->context;
    LOG_I("supervisor", "stopping", "signal=%d", number);
    if (!supervisor->stopping) {
        supervisor->stopping = true;
        supervisor->stopping_since_us = loop_now_us(&supervisor->loop);
    }
}

static void add_children(struct supervisor *supervisor, enum child_role role, char letter, int64_t count)
{
    for (int64_t i = 1; i <= count; i++) {
        struct child *child = &supervisor->children[supervisor->children_count++];
        *child = (struct child){.supervisor = supervisor, .role = role};
        snprintf(child->name, sizeof(child->name), "%c%" PRId64, letter, i);
    }
}

static enum status supervise(struct supervisor *supervisor, struct error *error)
{
    int lock; /* held to the end of the process */
    char *lock_path = home_path(supervisor->dir, "lock", NULL);
    enum status status = file_lock(lock_path, &lock, error);
    mem_free(lock_path);
    if (status == STATUS_OK) {
        status = home_up_read(supervisor->dir, &supervisor->up, error);
    }
    if (status == STATUS_OK) {
        status = loop_init(&supervisor->loop, error);
    }
    if (status == STATUS_OK) {
        status = home_supervisor_write(supervisor->dir, getpid(), error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    add_children(supervisor, CHILD_COORDINATOR, 'c', supervisor->up.coordinators);
    add_children(supervisor, CHILD_WORKER, 'n', supervisor->up.nodes);
    add_children(supervisor, CHILD_ROUTER, 'r', supervisor->up.routers);
    adopt_children(supervisor);
    loop_signals_init(&supervisor->loop, &supervisor->signals, supervisor, on_stop);
    loop_timer_init(&supervisor->loop, &supervisor->timer, supervisor, tick);
    loop_timer_start(&supervisor->timer, 0, TICK_MS);
    loop_run(&supervisor->loop);
    loop_timer_close(&supervisor->timer);
    loop_signals_close(&supervisor->signals);
    loop_close(&supervisor->loop);
    char *path = home_path(supervisor->dir, "supervisor.json", NULL);
    (void)unlink(path);
    mem_free(path);
    return STATUS_OK;
}

int command_supervise(int argc, char **argv)
{
    static const struct opts_entry entries[] = {
        {"dir", 0, OPTS_TEXT, offsetof(struct supervise_options, dir), NULL, 0, 0, NULL, "FOLDER", "the state folder"},
    };
    static const struct opts opts = {.usage = "shoal supervise --dir FOLDER",
                                     .summary = "Runs and restarts what `shoal up` asked for.",
                                     .entries = entries,
                                     .entries_count = COUNT_OF(entries)};
    struct supervise_options options = {0};
    char **positional;
    size_t positional_count;
    int exit_code;
    if (!command_parse(&opts, argc, argv, &options, &positional, &positional_count, &exit_code)) {
        return exit_code;
    }
    char *dir = home_folder(options.dir);
    struct supervisor *supervisor = mem_new(struct supervisor);
    struct error error = {0};
    supervisor->dir = dir;
    log_init(LOG_INFO, "supervisor");
    enum status status = supervise(supervisor, &error);
    exit_code = status == STATUS_OK ? EXIT_OK : command_fail("supervise", status, &error);
    mem_free(supervisor);
    mem_free(dir);
    return exit_code;
}
