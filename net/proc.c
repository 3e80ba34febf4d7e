/* proc: see proc.h. */
#include "net/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"

enum { STAT_BYTES_MAX = 2048, STAT_FIELD_STATE = 3, STAT_FIELD_START = 22, LOG_MODE = 0640 };

/* Apart from struct proc, so that a proc may go whenever its owner likes; freed by its close callback. */
struct proc_child {
    uv_process_t uv;
    struct proc *proc; /* NULL: detached */
};

static void child_free(uv_handle_t *handle)
{
    mem_free(CONTAINER_OF(handle, struct proc_child, uv));
}

static void child_exited(uv_process_t *uv, int64_t exit_status, int signal_number)
{
    struct proc_child *child = CONTAINER_OF(uv, struct proc_child, uv);
    struct proc *proc = child->proc;
    uv_close((uv_handle_t *)uv, child_free);
    if (proc != NULL) {
        proc->child = NULL;
        proc->pid = 0;
        proc->exited(proc, (int)exit_status, signal_number);
    }
}

static bool same_name(const char *a, const char *b)
{
    size_t length = strcspn(a, "=");
    return strncmp(a, b, length + 1) == 0;
}

static bool overridden(const char *variable, const char *const *added)
{
    for (size_t i = 0; added != NULL && added[i] != NULL; i++) {
        if (same_name(variable, added[i])) {
            return true;
        }
    }
    return false;
}

/* Ours with `added` on top; the strings are borrowed. */
static char **merge_environment(const char *const *added)
{
    size_t ours = 0, more = 0, count = 0;
    while (environ[ours] != NULL) {
        ours++;
    }
    while (added != NULL && added[more] != NULL) {
        more++;
    }
    char **merged = mem_new_array(char *, ours + more + 1);
    for (size_t i = 0; i < ours; i++) {
        if (!overridden(environ[i], added)) {
            merged[count++] = environ[i];
        }
    }
    for (size_t i = 0; i < more; i++) {
        merged[count++] = (char *)added[i];
    }
    return merged;
}

static enum status spawn(struct loop *loop, const struct proc_config *config, int log_fd, struct proc_child *child,
                         struct error *error)
{
    uv_stdio_container_t stdio[3] = {{.flags = UV_IGNORE}, {.flags = UV_INHERIT_FD}, {.flags = UV_INHERIT_FD}};
    stdio[1].data.fd = log_fd >= 0 ? log_fd : STDOUT_FILENO;
    stdio[2].data.fd = log_fd >= 0 ? log_fd : STDERR_FILENO;
    char **environment = merge_environment(config->env);
    uv_process_options_t options = {
        .exit_cb = child_exited,
        .file = config->argv[0],
        .args = (char **)config->argv,
        .env = environment,
        .flags = config->new_session ? UV_PROCESS_DETACHED : 0, /* libuv's name for setsid */
        .stdio = stdio,
        .stdio_count = 3,
    };
    int result = uv_spawn(&loop->uv, &child->uv, &options);
    mem_free(environment);
    return result == 0
               ? STATUS_OK
               : error_set(error, STATUS_IO, "%s could not be started: %s.", config->argv[0], uv_strerror(result));
}

enum status proc_start(struct loop *loop, const struct proc_config *config, struct proc *proc, struct error *error)
{
    CHECK(proc->exited != NULL);
    int log_fd = -1;
    if (config->log_path != NULL) {
        log_fd = open(config->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, LOG_MODE);
        if (log_fd < 0) {
            return error_set_errno(error, STATUS_IO, errno, "The log file %s can't be opened", config->log_path);
        }
    }
    struct proc_child *child = mem_new(struct proc_child);
    enum status status = spawn(loop, config, log_fd, child, error);
    if (log_fd >= 0) {
        close(log_fd);
    }
    if (status != STATUS_OK) {
        uv_close((uv_handle_t *)&child->uv, child_free);
        return status;
    }
    child->proc = proc;
    proc->child = child;
    proc->pid = child->uv.pid;
    if (config->nice != 0) {
        /* A wish, not a promise: without the right to it the child runs at our own level. */
        int ours = getpriority(PRIO_PROCESS, 0);
        (void)setpriority(PRIO_PROCESS, (id_t)proc->pid, ours + config->nice);
    }
    return STATUS_OK;
}

void proc_detach(struct proc *proc)
{
    if (proc->child != NULL) {
        uv_unref((uv_handle_t *)&proc->child->uv);
        proc->child->uv.data = proc->child; /* loop_close frees it, should the child outlive the loop */
        proc->child->proc = NULL;
        proc->child = NULL;
        proc->pid = 0;
    }
}

/* Field `number` (as proc(5) counts) of /proc/PID/stat; NULL: no such process. The name in field 2 may hold anything,
 * so fields are counted from its last parenthesis. */
static const char *stat_field(int pid, int number, char text[STAT_BYTES_MAX])
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    ssize_t length = read(fd, text, STAT_BYTES_MAX - 1);
    close(fd);
    if (length <= 0) {
        return NULL;
    }
    text[length] = 0;
    const char *at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < number; field++) {
        at = strchr(at + 1, ' ');
    }
    return at == NULL ? NULL : at + 1;
}

char proc_state(int pid)
{
    char text[STAT_BYTES_MAX];
    const char *state = stat_field(pid, STAT_FIELD_STATE, text);
    return state == NULL ? 0 : *state;
}

uint64_t proc_start_ticks(int pid)
{
    char text[STAT_BYTES_MAX];
    const char *state = stat_field(pid, STAT_FIELD_STATE, text);
    if (state == NULL || *state == 'Z' || *state == 'X') {
        return 0;
    }
    unsigned long long ticks = 0;
    const char *start = stat_field(pid, STAT_FIELD_START, text);
    return start != NULL && sscanf(start, "%llu", &ticks) == 1 ? ticks : 0;
}

enum status proc_kill(int pid, uint64_t start_ticks, int signal_number)
{
    if (pid <= 0 || start_ticks == 0) {
        return STATUS_NOT_FOUND;
    }
    /* The descriptor pins the process, so that its number can't be taken by another one between look and signal. */
    int fd = pidfd_open(pid, 0);
    if (fd < 0) {
        return errno == ESRCH ? STATUS_NOT_FOUND : STATUS_IO;
    }
    enum status status = STATUS_NOT_FOUND;
    if (proc_start_ticks(pid) == start_ticks) {
        status = pidfd_send_signal(fd, signal_number, NULL, 0) == 0 ? STATUS_OK
                 : errno == ESRCH                                   ? STATUS_NOT_FOUND
                 : errno == EPERM                                   ? STATUS_DENIED
                                                                    : STATUS_IO;
    }
    close(fd);
    return status;
}
