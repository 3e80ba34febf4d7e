/* cli/version: `shoal version`. */
#include <stdio.h>

#include "cli/command.h"

int command_version(int argc, char **argv)
{
    static const struct opts opts = {.usage = "shoal version", .summary = "Prints the version."};
    char **positional;
    size_t positional_count;
    int exit_code, nothing;
    if (!command_parse(&opts, argc, argv, &nothing, &positional, &positional_count, &exit_code)) {
        return exit_code;
    }
    printf("shoal %s\n", SHOAL_VERSION);
    return EXIT_OK;
}
