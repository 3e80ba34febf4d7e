/* Promises of net/proc: exit codes and signals arrive once, output and environment go where they should, a failed start
 * is a status, and a process is only signalled while it is still the one that was meant. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "net/proc.h"
#include "tests/unit/net/wait.h"

struct seen {
    struct loop loop;
    struct proc proc;
    int exits;
    int exit_status;
    int signal_number;
};

static void on_exit_of_child(struct proc *proc, int exit_status, int signal_number)
{
    struct seen *seen = proc->context;
    assert_int_equal(proc->pid, 0);
    seen->exits++;
    seen->exit_status = exit_status;
    seen->signal_number = signal_number;
}

static int open_loop(void **state)
{
    struct seen *seen = mem_new(struct seen);
    struct error error = {0};
    assert_int_equal(loop_init(&seen->loop, &error), STATUS_OK);
    seen->proc.context = seen;
    seen->proc.exited = on_exit_of_child;
    *state = seen;
    return 0;
}

static int close_loop(void **state)
{
    struct seen *seen = *state;
    loop_close(&seen->loop);
    mem_free(seen);
    return 0;
}

static void start(struct seen *seen, struct proc_config config)
{
    struct error error = {0};
    if (proc_start(&seen->loop, &config, &seen->proc, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    assert_true(seen->proc.pid > 0);
}

static void start_shell(struct seen *seen, const char *script)
{
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    start(seen, (struct proc_config){.argv = argv});
}

static void exit_codes_arrive(void **state)
{
    struct seen *seen = *state;
    start_shell(seen, "exit 7");
    WAIT_UNTIL(&seen->loop, seen->exits == 1);
    assert_int_equal(seen->exit_status, 7);
    assert_int_equal(seen->signal_number, 0);
    start_shell(seen, "exit 0"); /* the struct may be used again */
    WAIT_UNTIL(&seen->loop, seen->exits == 2);
    assert_int_equal(seen->exit_status, 0);
}

static void kill_needs_the_same_process(void **state)
{
    struct seen *seen = *state;
    start_shell(seen, "exec sleep 1000");
    int pid = seen->proc.pid;
    uint64_t ticks = proc_start_ticks(pid);
    assert_true(ticks > 0);
    assert_int_equal(proc_kill(pid, ticks + 1, SIGKILL), STATUS_NOT_FOUND);
    assert_int_equal(proc_kill(pid, 0, SIGKILL), STATUS_NOT_FOUND);
    assert_int_equal(proc_kill(0, ticks, SIGKILL), STATUS_NOT_FOUND);
    assert_int_equal(proc_kill(pid, ticks, SIGSTOP), STATUS_OK);
    WAIT_UNTIL(&seen->loop, proc_state(pid) == 'T');
    assert_int_equal(seen->exits, 0);
    assert_int_equal(proc_kill(pid, ticks, SIGKILL), STATUS_OK);
    WAIT_UNTIL(&seen->loop, seen->exits == 1);
    assert_int_equal(seen->signal_number, SIGKILL);
    assert_int_equal(proc_state(pid), 0);
    assert_int_equal(proc_start_ticks(pid), 0);
    assert_int_equal(proc_kill(pid, ticks, SIGKILL), STATUS_NOT_FOUND);
}

static void zombies_count_as_gone(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0); /* it has ended and is not reaped */
    assert_int_equal(proc_state(pid), 'Z');
    assert_int_equal(proc_start_ticks(pid), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void failed_starts_are_statuses(void **state)
{
    struct seen *seen = *state;
    struct error error = {0};
    const char *argv[] = {"/nonexistent/program", NULL};
    struct proc_config config = {.argv = argv};
    assert_int_equal(proc_start(&seen->loop, &config, &seen->proc, &error), STATUS_IO);
    assert_non_null(strstr(error.text, "/nonexistent/program"));
    assert_int_equal(seen->proc.pid, 0);
    const char *shell[] = {"/bin/sh", "-c", "true", NULL};
    config = (struct proc_config){.argv = shell, .log_path = "/nonexistent/log"};
    assert_int_equal(proc_start(&seen->loop, &config, &seen->proc, &error), STATUS_IO);
    uv_run(&seen->loop.uv, UV_RUN_NOWAIT);
    assert_int_equal(seen->exits, 0);
}

/* A descriptor of ours (close-on-exec), a session of its own, an environment of ours and theirs, output appended. */
static void children_get_what_they_should(void **state)
{
    struct seen *seen = *state;
    char log[] = "/tmp/shoal-test-proc-XXXXXX", script[256];
    int log_fd = mkstemp(log);
    assert_true(log_fd >= 0);
    close(log_fd);
    int secret = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(secret > 2);
    (void)snprintf(script, sizeof(script),
                   "echo $SHOAL_A-$SHOAL_B; test -e /proc/self/fd/%d && echo leaked; "
                   "test $(cut -d' ' -f6 /proc/$$/stat) = $$ && echo session; echo err >&2; read x || echo eof",
                   secret);
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    const char *env[] = {"SHOAL_B=new", NULL};
    setenv("SHOAL_A", "ours", 1);
    setenv("SHOAL_B", "old", 1);
    start(seen, (struct proc_config){.argv = argv, .env = env, .log_path = log, .new_session = true, .nice = 1});
    WAIT_UNTIL(&seen->loop, seen->exits == 1);
    struct buf text;
    struct error error = {0};
    buf_init(&text, 4096);
    assert_int_equal(file_read(log, 4096, &text, &error), STATUS_OK);
    assert_string_equal(buf_text(&text), "ours-new\nsession\nerr\neof\n");
    buf_free(&text);
    close(secret);
    unlink(log);
}

static void detached_children_are_left_alone(void **state)
{
    struct seen *seen = *state;
    start_shell(seen, "exec sleep 1000");
    int pid = seen->proc.pid;
    uint64_t ticks = proc_start_ticks(pid);
    proc_detach(&seen->proc);
    assert_int_equal(seen->proc.pid, 0);
    assert_int_equal(proc_start_ticks(pid), ticks);
    assert_int_equal(proc_kill(pid, ticks, SIGKILL), STATUS_OK);
    WAIT_UNTIL(&seen->loop, proc_state(pid) == 0); /* libuv still reaps it */
    assert_int_equal(seen->exits, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(exit_codes_arrive, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(kill_needs_the_same_process, open_loop, close_loop),
        cmocka_unit_test(zombies_count_as_gone),
        cmocka_unit_test_setup_teardown(failed_starts_are_statuses, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(children_get_what_they_should, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(detached_children_are_left_alone, open_loop, close_loop),
    };
    return cmocka_run_group_tests_name("net.proc", tests, NULL, NULL);
}
