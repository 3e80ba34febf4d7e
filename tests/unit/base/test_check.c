/* Tests of base/check: a failed check says where on stderr and aborts; a true one costs nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"

static void failed_check_aborts_with_a_line(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        dup2(ends[1], STDERR_FILENO);
        CHECK(1 + 1 == 3);
        _exit(0);
    }
    close(ends[1]);
    char text[512] = "";
    size_t length = 0;
    ssize_t got;
    while ((got = read(ends[0], text + length, sizeof text - 1 - length)) > 0)
        length += (size_t)got;
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(text, "test_check.c:"));
    assert_non_null(strstr(text, "check failed: 1 + 1 == 3"));
}

static void helpers(void **state)
{
    (void)state;
    struct pair {
        int a, b;
    } pair;
    int three[3] = {0};
    CHECK(COUNT_OF(three) == 3);
    assert_ptr_equal(CONTAINER_OF(&pair.b, struct pair, b), &pair);
    assert_int_equal(MIN_OF(1, 2), 1);
    assert_int_equal(MAX_OF(1, 2), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failed_check_aborts_with_a_line),
        cmocka_unit_test(helpers),
    };
    return cmocka_run_group_tests_name("base.check", tests, NULL, NULL);
}
