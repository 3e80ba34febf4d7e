/* cli/command: the subcommands of `shoal`, one file each, and the exit codes that they share.
 *
 * A command gets its own argv (argv[0] is the command's name) and returns the exit code. */
#ifndef SHOAL_CLI_COMMAND_H
#define SHOAL_CLI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "base/opts.h"
#include "base/status.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_UNREACHABLE = 4 };

int command_up(int argc, char **argv);
int command_down(int argc, char **argv);
int command_status(int argc, char **argv);
int command_chat(int argc, char **argv);
int command_models(int argc, char **argv);
int command_run(int argc, char **argv);
int command_version(int argc, char **argv);
/* The restarting supervisor that `up` starts; not shown in --help, since nobody calls it by hand. */
int command_supervise(int argc, char **argv);

/* Parses; when the command is over already (help, usage error) *exit_code says how and false is returned. */
bool command_parse(const struct opts *opts, int argc, char **argv, void *into, char ***positional,
                   size_t *positional_count, int *exit_code);
/* Prints "shoal NAME: text" on stderr and returns the exit code that fits the status. */
int command_fail(const char *name, enum status status, const struct error *error);

#endif
