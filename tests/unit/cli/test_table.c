/* Promises of the table: columns line up by characters, not bytes; lines end without blanks; nothing that a terminal
 * would obey gets through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cli/table.h"

static void assert_prints(struct table *table, const char *expected)
{
    char *text = NULL;
    size_t length = 0;
    FILE *to = open_memstream(&text, &length);
    assert_non_null(to);
    table_print(table, to);
    assert_int_equal(fclose(to), 0);
    assert_string_equal(text, expected);
    free(text);
    table_free(table);
}

static void test_columns_line_up(void **state)
{
    (void)state;
    struct table *table = table_new(3);
    table_add(table, (const char *const[]){"NAME", "STATE", ""});
    table_add(table, (const char *const[]){"größer", "up", "why"});
    table_add(table, (const char *const[]){"n", "", "reason"});
    assert_prints(table, "NAME    STATE\n"
                         "größer  up     why\n"
                         "n              reason\n");
}

static void test_control_characters_are_shown_as_such(void **state)
{
    (void)state;
    struct table *table = table_new(1);
    table_add(table, (const char *const[]){"a\x1b[2Jb\nc\x7f"});
    assert_prints(table, "a?[2Jb?c?\n");
}

static void test_rows_beyond_the_maximum_are_dropped(void **state)
{
    (void)state;
    struct table *table = table_new(1);
    for (int i = 0; i < TABLE_ROWS_MAX + 5; i++) {
        table_add(table, (const char *const[]){"x"});
    }
    assert_int_equal(table->rows, TABLE_ROWS_MAX);
    table_free(table);
    assert_prints(table_new(2), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns_line_up),
        cmocka_unit_test(test_control_characters_are_shown_as_such),
        cmocka_unit_test(test_rows_beyond_the_maximum_are_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
