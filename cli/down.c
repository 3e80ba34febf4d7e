/* cli/down: `shoal down`: ends everything that `shoal up` started. Idempotent.
 *
 * The supervisor does it, in order; where it is gone, its living children are ended from here in the same order. */
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/command.h"
#include "cli/home.h"
#include "net/proc.h"

enum { DOWN_POLL_MS = 20 };

struct down_options {
    const char *dir;
    double timeout_s;
};

static void pause_a_little(void)
{
    const struct timespec pause = {.tv_nsec = DOWN_POLL_MS * 1000000};
    (void)nanosleep(&pause, NULL); /* not our children: their end can only be looked for */
}

static enum status wait_for_end(const char *dir, double timeout_s, struct error *error)
{
    uint64_t deadline_us = clock_mono_us() + (uint64_t)(timeout_s * 1e6);
    while (home_supervisor(dir) != 0) {
        if (clock_mono_us() >= deadline_us) {
            return error_set(error, STATUS_TIMEOUT,
                             "the supervisor still runs after %.0f s; see %s/logs/supervisor.log", timeout_s, dir);
        }
        pause_a_little();
    }
    return STATUS_OK;
}

/* How many of the children with that letter live; each is sent the signal unless it is 0. */
static size_t signal_children(const char *dir, char letter, int count_max, int signal_number)
{
    size_t living = 0;
    for (int i = 1; i <= count_max; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%c%d", letter, i);
        int pid = home_child(dir, name);
        living += pid != 0;
        if (pid != 0 && signal_number != 0 && proc_kill(pid, proc_start_ticks(pid), signal_number) != STATUS_OK) {
            living--; /* gone in between */
        }
    }
    return living;
}

/* Ends what a supervisor that is gone has left; the number of processes that there were. */
static enum status end_orphans(const char *dir, double timeout_s, size_t *ended, struct error *error)
{
    static const struct {
        char letter;
        int count_max;
    } kinds[] = {{'r', HOME_ROUTERS_MAX}, {'n', HOME_NODES_MAX}, {'c', HOME_COORDINATORS_MAX}};
    uint64_t deadline_us = clock_mono_us() + (uint64_t)(timeout_s * 1e6);
    *ended = 0;
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        *ended += signal_children(dir, kinds[i].letter, kinds[i].count_max, SIGTERM);
        while (signal_children(dir, kinds[i].letter, kinds[i].count_max, 0) > 0) {
            if (clock_mono_us() >= deadline_us) {
                return error_set(error, STATUS_TIMEOUT, "some processes still run after %.0f s; see %s/children.json",
                                 timeout_s, dir);
            }
            pause_a_little();
        }
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
        size_t ended = 0;
        enum status status = end_orphans(dir, options.timeout_s, &ended, &error);
        if (status == STATUS_OK && ended == 0) {
            fprintf(stderr, "nothing runs from %s\n", dir);
        }
        exit_code = status == STATUS_OK ? EXIT_OK : command_fail("down", status, &error);
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
