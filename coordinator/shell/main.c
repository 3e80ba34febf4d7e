/* shoal-coordinator: one voter of the replicated truth: nodes, models, placements, tenants, keys. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/opts.h"
#include "coordinator/shell/shell.h"

static const struct opts_entry entries[] = {
    {"identity", 0, OPTS_TEXT, offsetof(struct shell_options, identity), NULL, 0, 0, NULL, "FILE",
     "this coordinator's key file"},
    {"members", 0, OPTS_TEXT, offsetof(struct shell_options, members), NULL, 0, 0, NULL, "FILE",
     "the cluster's members file"},
    {"state", 0, OPTS_TEXT, offsetof(struct shell_options, state), NULL, 0, 0, NULL, "FOLDER",
     "write-ahead log and snapshots"},
    {"first-start", 0, OPTS_FLAG, offsetof(struct shell_options, first_start), NULL, 0, 0, NULL, NULL,
     "bootstrap a new cluster; refuses a folder that holds a log"},
    {"election-ms", 0, OPTS_INT, offsetof(struct shell_options, election_ms), "300", 50, 60000, NULL, "MS",
     "election timeout"},
    {"heartbeat-ms", 0, OPTS_INT, offsetof(struct shell_options, heartbeat_ms), "50", 10, 10000, NULL, "MS",
     "the leader's heartbeats"},
    {"down-ms", 0, OPTS_INT, offsetof(struct shell_options, down_ms), "3000", 200, 3600000, NULL, "MS",
     "a node that is silent for so long is down"},
    {"snapshot-entries", 0, OPTS_INT, offsetof(struct shell_options, snapshot_entries), "4096", 16, 1000000, NULL, "N",
     "log entries between snapshots"},
    {"log-level", 0, OPTS_CHOICE, offsetof(struct shell_options, log_level), "info", 0, 0, "debug|info|warn|error",
     "LEVEL", "what goes to stderr"},
};

static const struct opts options_table = {
    .usage = "shoal-coordinator --identity FILE --members FILE --state FOLDER [options]",
    .summary = "One voter of shoal's replicated control plane.",
    .entries = entries,
    .entries_count = sizeof(entries) / sizeof(entries[0]),
};

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
        fprintf(stderr, "shoal-coordinator: %s\n", error.text);
        return 2;
    }
    log_init((enum log_level)options.log_level, "coordinator");
    (void)file_raise_open_max();
    struct shell *shell = mem_new(struct shell);
    status = shell_open(shell, &options, &error);
    if (status != STATUS_OK) {
        LOG_E("shell", "start_failed", "status=%s detail=%s", status_name(status), log_quoted(error.text));
        return 1;
    }
    shell_run(shell);
    shell_close(shell);
    mem_free(shell);
    return 0;
}
