/* opts: see opts.h. The table is ours, so a broken default there is a bug (CHECK); argv is the user's, so everything
 * in it ends in a sentence. */
#include "base/opts.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum { HELP_COLUMN = 30, HELP_WIDTH = 100 };

static void *field_of(void *into, const struct opts_entry *entry)
{
    return (char *)into + entry->offset;
}

static bool in_range(const struct opts_entry *entry, double value)
{
    return (entry->min == 0 && entry->max == 0) || (value >= entry->min && value <= entry->max);
}

static enum status out_of_range(const struct opts_entry *entry, const char *text, struct error *error)
{
    return error_set(error, STATUS_INVALID, "--%s must be between %.15g and %.15g, not %s", entry->name, entry->min,
                     entry->max, text);
}

static enum status set_int(const struct opts_entry *entry, const char *text, int64_t *field, struct error *error)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || text[0] == ' ')
        return error_set(error, STATUS_INVALID, "--%s needs a whole number, not \"%s\"", entry->name, text);
    if (errno == ERANGE)
        return error_set(error, STATUS_INVALID, "--%s: %s does not fit into 64 bits", entry->name, text);
    if (!in_range(entry, (double)value))
        return out_of_range(entry, text, error);
    *field = value;
    return STATUS_OK;
}

static enum status set_real(const struct opts_entry *entry, const char *text, double *field, struct error *error)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || text[0] == ' ' || !isfinite(value))
        return error_set(error, STATUS_INVALID, "--%s needs a number, not \"%s\"", entry->name, text);
    if (!in_range(entry, value))
        return out_of_range(entry, text, error);
    *field = value;
    return STATUS_OK;
}

static enum status set_choice(const struct opts_entry *entry, const char *text, int *field, struct error *error)
{
    size_t length = strlen(text);
    int index = 0;
    for (const char *at = entry->choices;; index++) {
        const char *end = strchrnul(at, '|');
        if ((size_t)(end - at) == length && memcmp(at, text, length) == 0) {
            *field = index;
            return STATUS_OK;
        }
        if (*end == '\0')
            break;
        at = end + 1;
    }
    return error_set(error, STATUS_INVALID, "--%s must be one of %s, not \"%s\"", entry->name, entry->choices, text);
}

static enum status add_item(const struct opts_entry *entry, const char *text, struct opts_list *list,
                            struct error *error)
{
    if (list->count == OPTS_LIST_MAX)
        return error_set(error, STATUS_INVALID, "--%s may be given %d times at most", entry->name, OPTS_LIST_MAX);
    list->items[list->count++] = text;
    return STATUS_OK;
}

/* Reads `text` into the entry's field. `text` is NULL for flags only. */
static enum status set_field(const struct opts_entry *entry, const char *text, void *into, struct error *error)
{
    void *field = field_of(into, entry);
    switch (entry->kind) {
    case OPTS_FLAG:
        *(bool *)field = text == NULL || strcmp(text, "true") == 0;
        return STATUS_OK;
    case OPTS_TEXT:
        *(const char **)field = text;
        return STATUS_OK;
    case OPTS_INT:
        return set_int(entry, text, field, error);
    case OPTS_REAL:
        return set_real(entry, text, field, error);
    case OPTS_CHOICE:
        return set_choice(entry, text, field, error);
    case OPTS_LIST:
        return add_item(entry, text, field, error);
    }
    UNREACHABLE();
}

static void set_defaults(const struct opts *opts, void *into)
{
    for (size_t i = 0; i < opts->entries_count; i++) {
        if (opts->entries[i].otherwise == NULL)
            continue;
        enum status status = set_field(&opts->entries[i], opts->entries[i].otherwise, into, NULL);
        CHECK(status == STATUS_OK);
    }
}

/* Levenshtein's distance, by rows; long names count as far. */
static size_t distance(const char *a, const char *b, size_t b_length)
{
    size_t row[64];
    if (b_length >= COUNT_OF(row))
        return COUNT_OF(row);
    for (size_t j = 0; j <= b_length; j++)
        row[j] = j;
    for (size_t i = 0; a[i] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < b_length; j++) {
            size_t substituted = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = MIN_OF(substituted, MIN_OF(row[j], row[j + 1]) + 1);
        }
    }
    return row[b_length];
}

static enum status unknown_option(const struct opts *opts, const char *argument, const char *name, size_t length,
                                  struct error *error)
{
    const char *nearest = NULL;
    size_t nearest_distance = length / 3 + 2;
    for (size_t i = 0; i < opts->entries_count && length > 1; i++) {
        size_t d = distance(opts->entries[i].name, name, length);
        if (d < nearest_distance) {
            nearest = opts->entries[i].name;
            nearest_distance = d;
        }
    }
    if (nearest == NULL)
        return error_set(error, STATUS_INVALID, "unknown option %s; see --help", argument);
    return error_set(error, STATUS_INVALID, "unknown option %s; did you mean --%s?", argument, nearest);
}

/* The entry of "--name…" or "-x", or NULL. `name` is without dashes and need not end at `length`. */
static const struct opts_entry *find(const struct opts *opts, bool is_long, const char *name, size_t length)
{
    for (size_t i = 0; i < opts->entries_count; i++) {
        const struct opts_entry *entry = &opts->entries[i];
        if (is_long ? strlen(entry->name) == length && memcmp(entry->name, name, length) == 0
                    : length == 1 && entry->letter == name[0])
            return entry;
    }
    return NULL;
}

/* Takes the option at argv[*at] and its value; *at stands on the last argument used. */
static enum status take_option(const struct opts *opts, int argc, char **argv, int *at, void *into, struct error *error)
{
    const char *argument = argv[*at];
    bool is_long = argument[1] == '-';
    const char *name = argument + (is_long ? 2 : 1);
    size_t length = is_long ? (size_t)(strchrnul(name, '=') - name) : strlen(name);
    const char *value = is_long && name[length] == '=' ? name + length + 1 : NULL;
    const struct opts_entry *entry = find(opts, is_long, name, length);
    if (entry == NULL && (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0))
        return error_set(error, STATUS_CANCELLED, "help");
    if (entry == NULL)
        return unknown_option(opts, argument, name, length, error);
    if (entry->kind == OPTS_FLAG && value != NULL)
        return error_set(error, STATUS_INVALID, "--%s takes no value", entry->name);
    if (entry->kind != OPTS_FLAG && value == NULL) {
        if (*at + 1 >= argc)
            return error_set(error, STATUS_INVALID, "--%s needs a value (%s)", entry->name,
                             entry->value == NULL ? "see --help" : entry->value);
        value = argv[++*at];
    }
    return set_field(entry, value, into, error);
}

static enum status check_positionals(const struct opts *opts, size_t count, char **positional, struct error *error)
{
    if (count < opts->positional_min)
        return error_set(error, STATUS_INVALID, "an argument is missing; usage: %s", opts->usage);
    if (count > opts->positional_max)
        return error_set(error, STATUS_INVALID, "\"%s\" is one argument too many; usage: %s",
                         positional[opts->positional_max], opts->usage);
    return STATUS_OK;
}

enum status opts_parse(const struct opts *opts, int argc, char **argv, void *into, char ***positional,
                       size_t *positional_count, struct error *error)
{
    set_defaults(opts, into);
    size_t count = 0;
    bool options_ended = false;
    for (int at = 1; at < argc; at++) {
        char *argument = argv[at];
        if (!options_ended && strcmp(argument, "--") == 0) {
            options_ended = true;
        } else if (!options_ended && argument[0] == '-' && argument[1] != '\0') {
            enum status status = take_option(opts, argc, argv, &at, into, error);
            if (status != STATUS_OK)
                return status;
        } else {
            /* Positionals gather at the front; fields keep pointing at the strings, whose places don't matter. */
            argv[at] = argv[1 + count];
            argv[1 + count++] = argument;
        }
    }
    enum status status = check_positionals(opts, count, argv + 1, error);
    if (status != STATUS_OK)
        return status;
    *positional = argv + 1;
    *positional_count = count;
    return STATUS_OK;
}

/* Breaks `text` at spaces so that no line passes HELP_WIDTH; lines start in HELP_COLUMN. */
static void print_wrapped(const char *text, size_t column, FILE *to)
{
    for (;;) {
        size_t word = strcspn(text, " ");
        if (column + word > HELP_WIDTH && column > HELP_COLUMN) {
            fprintf(to, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        }
        fprintf(to, "%.*s", (int)word, text);
        column += word;
        if (text[word] == '\0')
            break;
        fputc(' ', to);
        column++;
        text += word + 1;
    }
    fputc('\n', to);
}

static void print_entry(const struct opts_entry *entry, FILE *to)
{
    char left[160], right[1024];
    const char *value = entry->kind == OPTS_FLAG     ? NULL
                        : entry->kind == OPTS_CHOICE ? entry->choices
                        : entry->value != NULL       ? entry->value
                                                     : "VALUE";
    char letter[8] = "    ";
    if (entry->letter != 0)
        snprintf(letter, sizeof letter, "-%c, ", entry->letter);
    int width = snprintf(left, sizeof left, "  %s--%s%s%s", letter, entry->name, value == NULL ? "" : " ",
                         value == NULL ? "" : value);
    const char *otherwise = entry->otherwise;
    if (otherwise == NULL || entry->kind == OPTS_FLAG)
        snprintf(right, sizeof right, "%s%s", entry->help, entry->kind == OPTS_LIST ? " (may be repeated)" : "");
    else
        snprintf(right, sizeof right, "%s (default: %s)", entry->help, otherwise);
    if (width < HELP_COLUMN - 1)
        fprintf(to, "%-*s", HELP_COLUMN, left);
    else
        fprintf(to, "%s\n%*s", left, HELP_COLUMN, "");
    print_wrapped(right, HELP_COLUMN, to);
}

void opts_help(const struct opts *opts, FILE *to)
{
    fprintf(to, "Usage: %s\n\n%s\n\nOptions:\n", opts->usage, opts->summary);
    for (size_t i = 0; i < opts->entries_count; i++)
        print_entry(&opts->entries[i], to);
    if (find(opts, true, "help", 4) == NULL) {
        static const struct opts_entry help = {
            .name = "help", .letter = 'h', .kind = OPTS_FLAG, .help = "show this text and exit"};
        print_entry(&help, to);
    }
    if (opts->details != NULL)
        fprintf(to, "\n%s\n", opts->details);
}
