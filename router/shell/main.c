/* shoal-router: speaks the OpenAI HTTP API to clients and tokens to engines. */
#include <stddef.h>
#include <stdio.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/opts.h"
#include "router/shell/shell.h"

static const struct opts_entry entries[] = {
    {"identity", 0, OPTS_TEXT, offsetof(struct shell_options, identity), NULL, 0, 0, NULL, "FILE",
     "this router's key file; its name is the router's"},
    {"members", 0, OPTS_TEXT, offsetof(struct shell_options, members), NULL, 0, 0, NULL, "FILE",
     "the cluster's members file: its coordinators and their keys"},
    {"state", 0, OPTS_TEXT, offsetof(struct shell_options, state), NULL, 0, 0, NULL, "FOLDER",
     "where the last view is kept; a router that starts while all coordinators are away serves on it"},
    {"listen", 0, OPTS_TEXT, offsetof(struct shell_options, listen), "127.0.0.1:8000", 0, 0, NULL, "HOST:PORT",
     "where clients come; port 0 takes a free one"},
    {"advertise", 0, OPTS_TEXT, offsetof(struct shell_options, advertise), NULL, 0, 0, NULL, "URL",
     "the address that status shows; by default http:// and --listen"},
    {"reuse-port", 0, OPTS_FLAG, offsetof(struct shell_options, reuse_port), NULL, 0, 0, NULL, NULL,
     "share the port with other router processes of this host (SO_REUSEPORT)"},
    {"requests-max", 0, OPTS_INT, offsetof(struct shell_options, requests_max), "4096", 1, 1000000, NULL, "N",
     "open requests; beyond it clients get 503 with Retry-After"},
    {"connections-max", 0, OPTS_INT, offsetof(struct shell_options, connections_max), "10000", 1, 1000000, NULL, "N",
     "open connections; beyond it they are closed at once"},
    {"body-mib-max", 0, OPTS_INT, offsetof(struct shell_options, body_mib_max), "16", 1, 256, NULL, "MIB",
     "largest request body; beyond it clients get 413"},
    {"log-level", 0, OPTS_CHOICE, offsetof(struct shell_options, log_level), "info", 0, 0, "debug|info|warn|error",
     "LEVEL", "what goes to stderr"},
};

static const struct opts options_table = {
    .usage = "shoal-router --identity FILE --members FILE --state FOLDER [options]",
    .summary = "A router of shoal: the OpenAI HTTP API for clients, streams that outlive their engines.",
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
        fprintf(stderr, "shoal-router: %s\n", error.text);
        return 2;
    }
    log_init((enum log_level)options.log_level, "router");
    (void)file_raise_open_max();
    struct shell *shell = mem_new(struct shell);
    status = shell_open(shell, &options, &error);
    if (status != STATUS_OK) {
        LOG_E("router", "start_failed", "status=%s detail=%s", status_name(status), log_quoted(error.text));
        return 1;
    }
    shell_run(shell);
    shell_close(shell);
    mem_free(shell);
    return 0;
}
