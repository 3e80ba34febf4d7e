/* shoal-worker: a node's agent: starts, stops and fences the engines that the coordinators assign to it. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/opts.h"
#include "worker/agent/shell/shell.h"

static const struct opts_entry entries[] = {
    {"identity", 0, OPTS_TEXT, offsetof(struct shell_options, identity), NULL, 0, 0, NULL, "FILE",
     "this node's key file; its name is the node's"},
    {"members", 0, OPTS_TEXT, offsetof(struct shell_options, members), NULL, 0, 0, NULL, "FILE",
     "the cluster's members file"},
    {"state", 0, OPTS_TEXT, offsetof(struct shell_options, state), NULL, 0, 0, NULL, "FOLDER",
     "what the agent remembers, and its engines' jobs"},
    {"host", 0, OPTS_TEXT, offsetof(struct shell_options, host), "127.0.0.1", 0, 0, NULL, "ADDRESS",
     "where routers reach this node's engines"},
    {"listen", 0, OPTS_TEXT, offsetof(struct shell_options, listen), "tcp://127.0.0.1:0", 0, 0, NULL, "ENDPOINT",
     "where engines report; kept over restarts"},
    {"engine", 0, OPTS_TEXT, offsetof(struct shell_options, engine), NULL, 0, 0, NULL, "PATH",
     "the engine's program; by default shoal-engine beside this one"},
    {"cores", 0, OPTS_INT, offsetof(struct shell_options, cores), "0", 0, 4096, NULL, "N",
     "cores for engines; 0: all that this process may use"},
    {"memory-mib", 0, OPTS_INT, offsetof(struct shell_options, memory_mib), "0", 0, 1e9, NULL, "MIB",
     "memory to count on; 0: the machine's"},
    {"engine-nice", 0, OPTS_INT, offsetof(struct shell_options, engine_nice), "0", 0, 19, NULL, "N",
     "niceness of the engines' compute threads"},
    {"on-term", 0, OPTS_CHOICE, offsetof(struct shell_options, on_term), "leave", 0, 0, "leave|stop", "WHAT",
     "at SIGTERM, leave the engines running for the next agent, or stop them too"},
    {"log-level", 0, OPTS_CHOICE, offsetof(struct shell_options, log_level), "info", 0, 0, "debug|info|warn|error",
     "LEVEL", "what goes to stderr"},
};

static const struct opts options_table = {
    .usage = "shoal-worker --identity FILE --members FILE --state FOLDER [options]",
    .summary = "The agent of one node: runs the engines that the coordinators assign.",
    .entries = entries,
    .entries_count = sizeof(entries) / sizeof(entries[0]),
};

/* shoal-engine in the folder of our own program. */
static char *engine_beside_us(void)
{
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (length <= 0) {
        return mem_strdup("shoal-engine");
    }
    path[length] = '\0';
    char *slash = strrchr(path, '/');
    *slash = '\0';
    return file_join(path, "shoal-engine");
}

int main(int argc, char **argv)
{
    struct shell_options options = {0};
    struct error error = {0};
    char **positional;
    size_t positional_count;
    enum status status = opts_parse(&options_table, argc, argv, &options, &positional, &positional_count, &error);
    if (status == STATUS_CANCELLED) {
        opts_help(&options_table, stdout);
        return 0;
    }
    if (status == STATUS_OK && (options.identity == NULL || options.members == NULL || options.state == NULL)) {
        status = error_set(&error, STATUS_INVALID, "--identity, --members and --state are needed");
    }
    if (status != STATUS_OK) {
        fprintf(stderr, "shoal-worker: %s\n", error.text);
        return 2;
    }
    log_init((enum log_level)options.log_level, "worker");
    (void)file_raise_open_max();
    char *beside = engine_beside_us();
    if (options.engine == NULL) {
        options.engine = beside;
    }
    struct shell *shell = mem_new(struct shell);
    status = shell_open(shell, &options, &error);
    if (status != STATUS_OK) {
        LOG_E("agent", "start_failed", "status=%s detail=%s", status_name(status), log_quoted(error.text));
        return 1;
    }
    shell_run(shell);
    shell_close(shell);
    mem_free(shell);
    mem_free(beside);
    return 0;
}
