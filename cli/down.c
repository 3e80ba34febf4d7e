/* cli/down: `shoal down`: ends everything that `shoal up` started. Idempotent. */
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/command.h"
#include "cli/home.h"

enum { DOWN_POLL_MS = 20 };

struct down_options {
    const char *dir;
    double timeout_s;
};

static enum status wait_for_end(const char *dir, double timeout_s, struct error *error)
{
    uint64_t deadline_us = clock_mono_us() + (uint64_t)(timeout_s * 1e6);
    while (home_supervisor(dir) != 0) {
        if (clock_mono_us() >= deadline_us) {
            return error_set(error, STATUS_TIMEOUT, "the supervisor still runs after %.0f s; see %s/logs/supervisor.log",
                             timeout_s, dir);
        }
        const struct timespec pause = {.tv_nsec = DOWN_POLL_MS * 1000000};
        (void)nanosleep(&pause, NULL); /* the supervisor is not our child: its end can only be looked for */
    }
    return STATUS_OK;
}

int command_down(int argc, char **argv)
{
    static const struct opts_entry entries[] = {
        {"dir", 0, OPTS_TEXT, offsetof(struct down_options, dir), NULL, 0, 0, NULL, "FOLDER",
         "the cluster's state folder (default ~/.local/state/shoal)"},
        {"timeout", 0, OPTS_REAL, offsetof(struct down_options, timeout_s), "20", 1, 600, NULL, "SECONDS",
         "how long to wait for the end"},
    };
    static const struct opts opts = {.usage = "shoal down [options]",
                                     .summary = "Stops the cluster that `shoal up` started; its state stays.",
                                     .entries = entries,
                                     .entries_count = COUNT_OF(entries)};
    struct down_options options = {0};
    char **positional;
    size_t positional_count;
    int exit_code;
    if (!command_parse(&opts, argc, argv, &options, &positional, &positional_count, &exit_code)) {
        return exit_code;
    }
    char *dir = home_folder(options.dir);
    struct error error = {0};
    exit_code = EXIT_OK;
    if (home_supervisor(dir) == 0) {
        fprintf(stderr, "nothing runs from %s\n", dir);
    } else {
        enum status status = home_supervisor_kill(dir, SIGTERM);
        if (status == STATUS_OK || status == STATUS_NOT_FOUND) {
            status = wait_for_end(dir, options.timeout_s, &error);
        }
        exit_code = status == STATUS_OK ? EXIT_OK : command_fail("down", status, &error);
    }
    mem_free(dir);
    return exit_code;
}
