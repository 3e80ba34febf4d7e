/* Tests of base/mem: zeroed memory, checked products, the fault hook, and the end of a process without memory. */
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

#include "base/mem.h"

static void memory_is_zeroed(void **state)
{
    (void)state;
    for (int round = 0; round < 8; round++) {
        unsigned char *block = mem_alloc(1000);
        for (int i = 0; i < 1000; i++)
            assert_int_equal(block[i], 0);
        memset(block, 0xff, 1000);
        mem_free(block);
    }
    void *nothing = mem_alloc(0), *nothing_else = mem_alloc(0);
    assert_non_null(nothing);
    assert_ptr_not_equal(nothing, nothing_else);
    mem_free(nothing);
    mem_free(nothing_else);
    mem_free(NULL);
}

static void products_are_checked(void **state)
{
    (void)state;
    assert_null(mem_try_alloc_array(SIZE_MAX / 2, 3));
    assert_null(mem_try_alloc_array(SIZE_MAX, SIZE_MAX));
    int *numbers = mem_new_array(int, 3);
    numbers[2] = 7;
    numbers = mem_realloc_array(numbers, 1000, sizeof *numbers);
    assert_int_equal(numbers[2], 7);
    mem_free(numbers);
}

static void copies(void **state)
{
    (void)state;
    char *whole = mem_strdup("text");
    char *part = mem_strndup("text", 2);
    char *past_end = mem_strndup("ab", 100);
    void *none = mem_dup(NULL, 0);
    assert_string_equal(whole, "text");
    assert_string_equal(part, "te");
    assert_string_equal(past_end, "ab");
    assert_non_null(none);
    mem_free(whole);
    mem_free(part);
    mem_free(past_end);
    mem_free(none);
}

static void fail_after_fails_exactly_one_call(void **state)
{
    (void)state;
    for (long n = 0; n < 5; n++) {
        mem_fail_after(n);
        for (long call = 0; call < 8; call++) {
            void *block = call % 2 ? mem_try_alloc(8) : mem_try_alloc_array(2, 4);
            if (call == n)
                assert_null(block);
            else
                assert_non_null(block);
            mem_free(block);
        }
    }
    mem_fail_after(-1);
    void *block = mem_try_alloc(1);
    assert_non_null(block);
    mem_free(block);
}

static void mem_alloc_never_fails_by_the_hook(void **state)
{
    (void)state;
    mem_fail_after(0);
    void *block = mem_alloc(1);
    assert_non_null(block);
    mem_free(block);
    mem_fail_after(-1);
}

static void impossible_sizes_end_the_process(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        close(STDERR_FILENO);
        void *block = mem_alloc_array(SIZE_MAX / 2, 3);
        _exit(block != NULL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed),
        cmocka_unit_test(products_are_checked),
        cmocka_unit_test(copies),
        cmocka_unit_test(fail_after_fails_exactly_one_call),
        cmocka_unit_test(mem_alloc_never_fails_by_the_hook),
        cmocka_unit_test(impossible_sizes_end_the_process),
    };
    return cmocka_run_group_tests_name("base.mem", tests, NULL, NULL);
}
