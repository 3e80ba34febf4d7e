/* opts: one option table per program or subcommand; parsing, defaults, ranges and --help come from it.
 *
 * Takes --name value, --name=value, -x value, --flag, and `--` to end options; what remains are the positional
 * arguments, in order. Every table has --help and -h. Unknown options and values out of range are usage errors, with a
 * sentence that names the nearest option. Writes into the caller's struct through offsets; texts point into argv or the
 * table. */
#ifndef SHOAL_BASE_OPTS_H
#define SHOAL_BASE_OPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

enum opts_kind {
    OPTS_FLAG,   /* bool */
    OPTS_TEXT,   /* const char * */
    OPTS_INT,    /* int64_t within [min, max] */
    OPTS_REAL,   /* double within [min, max] */
    OPTS_CHOICE, /* int: index into choices, "a|b|c" */
    OPTS_LIST    /* struct opts_list: may be given several times */
};

enum { OPTS_LIST_MAX = 64 };

struct opts_list {
    const char *items[OPTS_LIST_MAX];
    size_t count;
};

struct opts_entry {
    const char *name; /* without dashes */
    char letter;      /* 0: none */
    enum opts_kind kind;
    size_t offset;         /* offsetof(struct my_options, field) */
    const char *otherwise; /* default as text; NULL: leave the field as it is */
    double min, max;       /* OPTS_INT, OPTS_REAL; both 0: any */
    const char *choices;   /* OPTS_CHOICE */
    const char *value;     /* what --help calls the value, e.g. "PATH" */
    const char *help;
};

struct opts {
    const char *usage;   /* "shoal run [options] MODEL [PROMPT]" */
    const char *summary; /* one line */
    const char *details; /* shown behind the options: examples, exit codes; may be NULL */
    const struct opts_entry *entries;
    size_t entries_count;
    size_t positional_min, positional_max;
};

/* Parses argv[1..]. STATUS_CANCELLED: --help was asked for (print it and exit 0). STATUS_INVALID: usage error (exit 2).
 * On success *positional points into argv (which is permuted) and *positional_count says how many. */
MUST_CHECK enum status opts_parse(const struct opts *opts, int argc, char **argv, void *into, char ***positional,
                                  size_t *positional_count, struct error *error);
void opts_help(const struct opts *opts, FILE *to);

#endif
