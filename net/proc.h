/* net/proc: child processes by uv_spawn: fork and exec at once, descriptors close-on-exec, output to a log file.
 *
 * `exited` runs once on the loop's thread after the child was reaped; the struct may be started again or freed in it.
 * Children outlive us unless they ask otherwise (PR_SET_PDEATHSIG is theirs to set). Loop's thread only. */
#ifndef SHOAL_NET_PROC_H
#define SHOAL_NET_PROC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "net/loop.h"

struct proc_child;

struct proc {
    struct proc_child *child;
    int pid; /* 0: not running */
    void *context;
    void (*exited)(struct proc *proc, int exit_status, int signal_number);
};

struct proc_config {
    const char *const *argv; /* NULL-terminated; argv[0] is a path */
    const char *const *env;  /* "NAME=value" added to ours; NULL-terminated or NULL */
    const char *log_path;    /* stdout and stderr are appended there; NULL: inherited */
    bool new_session;        /* setsid: outlives its parent's terminal and signals */
    int nice;                /* added to ours */
};

/* Fills *proc; `context` and `exited` must be set before. */
MUST_CHECK enum status proc_start(struct loop *loop, const struct proc_config *config, struct proc *proc,
                                  struct error *error);
/* Forgets a running child without touching it: `exited` is not called, the struct may be freed. */
void proc_detach(struct proc *proc);
/* kill(2) on a process that may not be ours (adopted): only if its start time is still `start_ticks`,
 * else STATUS_NOT_FOUND. Race-free (pidfd). */
MUST_CHECK enum status proc_kill(int pid, uint64_t start_ticks, int signal_number);
/* Start time from /proc/PID/stat in clock ticks since boot; 0: no such process. Zombies count as gone. */
uint64_t proc_start_ticks(int pid);
/* Field 3 of /proc/PID/stat (R, S, T, Z, ...); 0: no such process. */
char proc_state(int pid);

#endif
