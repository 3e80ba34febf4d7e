/* shoal: the operator's tool: one table of subcommands, one file each. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "cli/command.h"

struct command {
    const char *name;
    const char *summary; /* NULL: not shown */
    int (*run)(int argc, char **argv);
};

static const struct command commands[] = {
    {"up", "start a whole cluster on this machine and wait until it serves", command_up},
    {"down", "stop it; its state stays", command_down},
    {"status", "coordinators, routers, nodes and replicas", command_status},
    {"models", "the models that the cluster serves", command_models},
    {"chat", "chat with the cluster's model", command_chat},
    {"run", "run a model right here, without a cluster", command_run},
    {"version", "print the version", command_version},
    {"supervise", NULL, command_supervise},
};

static void usage(FILE *to)
{
    fputs("Usage: shoal COMMAND [options]\n\n", to);
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        if (commands[i].summary != NULL) {
            fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].summary);
        }
    }
    fputs("\n`shoal COMMAND --help` says more. Exit codes: 0 ok, 1 failed, 2 usage, 4 unreachable.\n", to);
}

bool command_parse(const struct opts *opts, int argc, char **argv, void *into, char ***positional,
                   size_t *positional_count, int *exit_code)
{
    struct error error = {0};
    enum status status = opts_parse(opts, argc, argv, into, positional, positional_count, &error);
    *exit_code = EXIT_OK;
    if (status == STATUS_CANCELLED) {
        opts_help(opts, stdout);
        return false;
    }
    if (status != STATUS_OK) {
        fprintf(stderr, "shoal %s: %s\n", argv[0], error.text);
        *exit_code = EXIT_USAGE;
        return false;
    }
    return true;
}

int command_fail(const char *name, enum status status, const struct error *error)
{
    fprintf(stderr, "shoal %s: %s\n", name, error->text[0] != '\0' ? error->text : status_name(status));
    return status == STATUS_UNREACHABLE ? EXIT_UNREACHABLE : EXIT_FAILED;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        usage(stdout);
        return EXIT_OK;
    }
    if (strcmp(name, "--version") == 0) {
        name = "version";
    }
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    if (argc > 1) {
        fprintf(stderr, "shoal: there is no command %s\n\n", name);
    }
    usage(stderr);
    return EXIT_USAGE;
}
