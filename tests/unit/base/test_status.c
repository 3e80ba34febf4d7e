/* Tests of base/status: names are complete and distinct; error texts are cut, never overrun. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/status.h"

static void names_are_complete_and_distinct(void **state)
{
    (void)state;
    for (int a = 0; a < STATUS_COUNT; a++) {
        assert_non_null(status_name((enum status)a));
        assert_true(strlen(status_name((enum status)a)) > 1);
        for (int b = 0; b < a; b++)
            assert_string_not_equal(status_name((enum status)a), status_name((enum status)b));
    }
    assert_string_equal(status_name(STATUS_NOT_FOUND), "not_found");
    assert_string_equal(status_name((enum status)STATUS_COUNT), "unknown");
    assert_string_equal(status_name((enum status) - 1), "unknown");
}

static void set_fills_and_returns(void **state)
{
    (void)state;
    struct error error = {0};
    assert_int_equal(error_set(&error, STATUS_LIMIT, "%d is too many", 7), STATUS_LIMIT);
    assert_int_equal(error.status, STATUS_LIMIT);
    assert_string_equal(error.text, "7 is too many");
    assert_int_equal(error_set(NULL, STATUS_BUSY, "nobody listens"), STATUS_BUSY);
    assert_int_equal(error_set_errno(NULL, STATUS_IO, EIO, "nobody listens"), STATUS_IO);
    error_prefix(NULL, "nobody");
}

static void errno_text_is_appended(void **state)
{
    (void)state;
    struct error error = {0};
    assert_int_equal(error_set_errno(&error, STATUS_IO, ENOSPC, "can't write %s", "x"), STATUS_IO);
    assert_string_equal(error.text, "can't write x: No space left on device");
}

static void long_texts_are_cut(void **state)
{
    (void)state;
    char big[2 * ERROR_TEXT_MAX];
    memset(big, 'a', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    struct {
        struct error error;
        char guard[64];
    } box;
    memset(&box, 'g', sizeof box);
    error_set(&box.error, STATUS_IO, "%s", big);
    assert_int_equal(strlen(box.error.text), ERROR_TEXT_MAX - 1);
    error_set_errno(&box.error, STATUS_IO, EIO, "%s", big);
    assert_int_equal(strlen(box.error.text), ERROR_TEXT_MAX - 1);
    error_prefix(&box.error, "%s", "head");
    assert_int_equal(strlen(box.error.text), ERROR_TEXT_MAX - 1);
    assert_memory_equal(box.error.text, "head: aaa", 9);
    error_prefix(&box.error, "%s", big);
    assert_true(strlen(box.error.text) < ERROR_TEXT_MAX);
    for (size_t i = 0; i < sizeof box.guard; i++)
        assert_int_equal(box.guard[i], 'g');
}

static void prefixes_stack(void **state)
{
    (void)state;
    struct error error = {0};
    error_set(&error, STATUS_INVALID, "bad value");
    error_prefix(&error, "line %d", 3);
    error_prefix(&error, "%s", "f.json");
    assert_string_equal(error.text, "f.json: line 3: bad value");
    assert_int_equal(error.status, STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_complete_and_distinct),
        cmocka_unit_test(set_fills_and_returns),
        cmocka_unit_test(errno_text_is_appended),
        cmocka_unit_test(long_texts_are_cut),
        cmocka_unit_test(prefixes_stack),
    };
    return cmocka_run_group_tests_name("base.status", tests, NULL, NULL);
}
