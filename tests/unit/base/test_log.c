/* Tests of base/log: the line's shape, levels, one line per event whatever the bytes, and quoting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "base/log.h"

/* Runs `body` with stderr going into a pipe, and gives what it wrote. */
static char *captured(void (*body)(void))
{
    static char text[65536];
    int ends[2], kept = dup(STDERR_FILENO);
    assert_int_equal(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    body();
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(ends[1]);
    size_t length = 0;
    ssize_t got;
    while ((got = read(ends[0], text + length, sizeof text - 1 - length)) > 0)
        length += (size_t)got;
    close(ends[0]);
    text[length] = '\0';
    return text;
}

static void one_event(void)
{
    log_init(LOG_INFO, "test");
    LOG_I("router", "request_done", "req=%s tokens=%d", "r-1", 5);
}

static void a_line_has_its_shape(void **state)
{
    (void)state;
    char *text = captured(one_event);
    assert_memory_equal(text, "ts=20", 5);
    assert_int_equal(strspn(text + 3, "0123456789-:.TZ"), 24);
    assert_string_equal(text + 27, " level=info proc=test room=router event=request_done req=r-1 tokens=5\n");
}

static void every_level(void)
{
    log_init(LOG_WARN, NULL);
    LOG_D("a", "one", "%s", "");
    LOG_I("a", "two", "%s", "");
    LOG_W("a", "three", "%s", "");
    LOG_E("a", "four", "%s", "");
    log_set_level(LOG_DEBUG);
    LOG_D("a", "five", "%s", "");
    log_set_level(LOG_ERROR);
    LOG_W("a", "six", "%s", "");
}

static void levels_filter(void **state)
{
    (void)state;
    char *text = captured(every_level);
    assert_null(strstr(text, "one"));
    assert_null(strstr(text, "two"));
    assert_non_null(strstr(text, "level=warn room=a event=three"));
    assert_non_null(strstr(text, "level=error room=a event=four"));
    assert_non_null(strstr(text, "level=debug room=a event=five"));
    assert_null(strstr(text, "six"));
    enum log_level level = LOG_DEBUG;
    assert_int_equal(log_level_parse("warn", &level), STATUS_OK);
    assert_int_equal(level, LOG_WARN);
    assert_int_equal(log_level_parse("loud", &level), STATUS_INVALID);
    assert_int_equal(log_level_parse("", &level), STATUS_INVALID);
}

static void hostile_texts(void)
{
    log_init(LOG_INFO, "test");
    static char big[20000];
    memset(big, 'x', sizeof big - 1);
    LOG_I("a", "injected", "text=%s", "x\nts=now level=error\x1b[31m");
    LOG_I("a", "big", "text=%s", big);
}

static void one_event_is_one_line(void **state)
{
    (void)state;
    char *text = captured(hostile_texts);
    char *end = strchr(text, '\n');
    assert_non_null(end);
    assert_null(memchr(text, 0x1b, strlen(text)));
    assert_memory_equal(end + 1, "ts=20", 5);
    char *second_end = strchr(end + 1, '\n');
    assert_non_null(second_end);
    assert_string_equal(second_end - 3, "\xe2\x80\xa6\n");
    assert_true(second_end - end <= 4097);
    assert_int_equal(second_end[1], '\0');
}

static void quoting(void **state)
{
    (void)state;
    assert_string_equal(log_quoted("plain-1.2/x"), "plain-1.2/x");
    assert_string_equal(log_quoted(""), "\"\"");
    assert_string_equal(log_quoted(NULL), "\"\"");
    assert_string_equal(log_quoted("a b"), "\"a b\"");
    assert_string_equal(log_quoted("say \"x\\y\"\n\x01"), "\"say \\\"x\\\\y\\\"\\n?\"");
    assert_string_equal(log_quoted("a=b"), "\"a=b\"");
    static char big[5000];
    memset(big, '"', sizeof big - 1);
    const char *cut = log_quoted(big);
    assert_true(strlen(cut) < 512);
    assert_int_equal(cut[strlen(cut) - 1], '"');
    const char *first = log_quoted("one x"), *second = log_quoted("two x");
    assert_string_equal(first, "\"one x\"");
    assert_string_equal(second, "\"two x\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_its_shape),
        cmocka_unit_test(levels_filter),
        cmocka_unit_test(one_event_is_one_line),
        cmocka_unit_test(quoting),
    };
    return cmocka_run_group_tests_name("base.log", tests, NULL, NULL);
}
