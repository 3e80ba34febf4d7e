/* Tests of base/opts: every kind and spelling, defaults, ranges, sentences for mistakes, and --help from the table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/opts.h"

struct settings {
    bool verbose;
    const char *name;
    int64_t port;
    double ratio;
    int mode;
    struct opts_list peers;
};

static const struct opts_entry entries[] = {
    {.name = "verbose",
     .letter = 'v',
     .kind = OPTS_FLAG,
     .offset = offsetof(struct settings, verbose),
     .help = "say more"},
    {.name = "name",
     .kind = OPTS_TEXT,
     .offset = offsetof(struct settings, name),
     .otherwise = "shoal",
     .value = "NAME",
     .help = "what to call it"},
    {.name = "port",
     .letter = 'p',
     .kind = OPTS_INT,
     .offset = offsetof(struct settings, port),
     .otherwise = "8000",
     .min = 1,
     .max = 65535,
     .value = "PORT",
     .help = "where to listen, which is explained in a text that is too long for one line of the terminal, so wraps"},
    {.name = "ratio",
     .kind = OPTS_REAL,
     .offset = offsetof(struct settings, ratio),
     .otherwise = "0.5",
     .max = 1,
     .help = "a share"},
    {.name = "mode",
     .kind = OPTS_CHOICE,
     .offset = offsetof(struct settings, mode),
     .otherwise = "slow",
     .choices = "fast|slow|off",
     .help = "how"},
    {.name = "peer", .kind = OPTS_LIST, .offset = offsetof(struct settings, peers), .value = "ADDR", .help = "a peer"},
};

static const struct opts table = {
    .usage = "shoal test [options] [FILE…]",
    .summary = "Tests the options.",
    .details = "Exit codes: 0, 1, 2.",
    .entries = entries,
    .entries_count = COUNT_OF(entries),
    .positional_max = 2,
};

static struct settings settings;
static char **positional;
static size_t positional_count;
static struct error error;

/* Splits `line` at spaces into argv and parses it. */
static enum status parse(const char *line)
{
    static char copy[512];
    static char *argv[64];
    snprintf(copy, sizeof copy, "%s", line);
    int argc = 0;
    argv[argc++] = "shoal";
    for (char *at = copy; *at != '\0';) {
        argv[argc++] = at;
        at += strcspn(at, " ");
        if (*at == ' ')
            *at++ = '\0';
    }
    argv[argc] = NULL;
    memset(&settings, 0, sizeof settings);
    memset(&error, 0, sizeof error);
    return opts_parse(&table, argc, argv, &settings, &positional, &positional_count, &error);
}

static void defaults(void **state)
{
    (void)state;
    assert_int_equal(parse(""), STATUS_OK);
    assert_false(settings.verbose);
    assert_string_equal(settings.name, "shoal");
    assert_int_equal(settings.port, 8000);
    assert_true(settings.ratio == 0.5);
    assert_int_equal(settings.mode, 1);
    assert_int_equal(settings.peers.count, 0);
    assert_int_equal(positional_count, 0);
}

static void every_spelling(void **state)
{
    (void)state;
    assert_int_equal(parse("one --port=1 -v --name x=y --peer a two --ratio 0 --peer=b --mode off"), STATUS_OK);
    assert_true(settings.verbose);
    assert_string_equal(settings.name, "x=y");
    assert_int_equal(settings.port, 1);
    assert_true(settings.ratio == 0);
    assert_int_equal(settings.mode, 2);
    assert_int_equal(settings.peers.count, 2);
    assert_string_equal(settings.peers.items[0], "a");
    assert_string_equal(settings.peers.items[1], "b");
    assert_int_equal(positional_count, 2);
    assert_string_equal(positional[0], "one");
    assert_string_equal(positional[1], "two");
    assert_int_equal(parse("-p 65535 -- --verbose -"), STATUS_OK);
    assert_int_equal(settings.port, 65535);
    assert_false(settings.verbose);
    assert_string_equal(positional[0], "--verbose");
    assert_string_equal(positional[1], "-");
    assert_int_equal(parse("--name="), STATUS_OK);
    assert_string_equal(settings.name, "");
    assert_int_equal(parse("--name --port"), STATUS_OK); /* a value is a value */
    assert_string_equal(settings.name, "--port");
}

static void mistakes_get_a_sentence(void **state)
{
    (void)state;
    static const struct {
        const char *line, *text;
    } cases[] = {
        {"--prot 1", "unknown option --prot; did you mean --port?"},
        {"--prt=1", "unknown option --prt=1; did you mean --port?"},
        {"--zzzzzzzz", "unknown option --zzzzzzzz; see --help"},
        {"-x", "unknown option -x; see --help"},
        {"-vp 1", "unknown option -vp; see --help"},
        {"--port", "--port needs a value (PORT)"},
        {"--port 0", "--port must be between 1 and 65535, not 0"},
        {"--port 65536", "--port must be between 1 and 65535, not 65536"},
        {"--port 1x", "--port needs a whole number, not \"1x\""},
        {"--port 99999999999999999999", "--port: 99999999999999999999 does not fit into 64 bits"},
        {"--port=", "--port needs a whole number, not \"\""},
        {"--ratio 1.5", "--ratio must be between 0 and 1, not 1.5"},
        {"--ratio nan", "--ratio needs a number, not \"nan\""},
        {"--mode fas", "--mode must be one of fast|slow|off, not \"fas\""},
        {"--mode fast|slow", "--mode must be one of fast|slow|off, not \"fast|slow\""},
        {"--verbose=1", "--verbose takes no value"},
        {"a b c", "\"c\" is one argument too many; usage: shoal test [options] [FILE…]"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(parse(cases[i].line), STATUS_INVALID);
        assert_string_equal(error.text, cases[i].text);
    }
}

static void lists_are_bounded(void **state)
{
    (void)state;
    static char *argv[2 * OPTS_LIST_MAX + 4];
    int argc = 0;
    argv[argc++] = "shoal";
    for (int i = 0; i <= OPTS_LIST_MAX; i++) {
        argv[argc++] = "--peer";
        argv[argc++] = "x";
    }
    memset(&settings, 0, sizeof settings);
    assert_int_equal(opts_parse(&table, argc, argv, &settings, &positional, &positional_count, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "64 times"));
    memset(&settings, 0, sizeof settings);
    assert_int_equal(opts_parse(&table, argc - 2, argv, &settings, &positional, &positional_count, &error), STATUS_OK);
    assert_int_equal(settings.peers.count, OPTS_LIST_MAX);
}

static void help_comes_from_the_table(void **state)
{
    (void)state;
    assert_int_equal(parse("--help"), STATUS_CANCELLED);
    assert_int_equal(parse("-v -h"), STATUS_CANCELLED);
    char *text = NULL;
    size_t length = 0;
    FILE *to = open_memstream(&text, &length);
    opts_help(&table, to);
    fclose(to);
    assert_memory_equal(text, "Usage: shoal test [options] [FILE…]\n\nTests the options.\n\nOptions:\n", 68);
    assert_non_null(strstr(text, "  -v, --verbose               say more\n"));
    assert_non_null(strstr(text, "      --name NAME             what to call it (default: shoal)\n"));
    assert_non_null(strstr(text, "      --mode fast|slow|off    how (default: slow)\n"));
    assert_non_null(strstr(text, "      --peer ADDR             a peer (may be repeated)\n"));
    assert_non_null(strstr(text, "  -h, --help                  show this text and exit\n"));
    assert_non_null(strstr(text, "\nExit codes: 0, 1, 2.\n"));
    for (char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= 102);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(every_spelling),
        cmocka_unit_test(mistakes_get_a_sentence),
        cmocka_unit_test(lists_are_bounded),
        cmocka_unit_test(help_comes_from_the_table),
    };
    return cmocka_run_group_tests_name("base.opts", tests, NULL, NULL);
}
