/* cli/models: `shoal models`: what the cluster serves, as its coordinators see it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/command.h"
#include "cli/home.h"
#include "cli/operator.h"
#include "cli/table.h"

enum { MODELS_MAX = 1024 };

struct models_options {
    const char *dir;
    int output;
    double timeout_s;
};

struct model_line {
    struct bytes name;
    uint64_t replicas, ready;
};

struct model_lines {
    struct model_line list[MODELS_MAX];
    size_t count;
};

static void count_replicas(const struct proto_status *status, struct model_lines *lines)
{
    for (size_t i = 0; i < status->rows_count; i++) {
        const struct proto_status_row *row = &status->rows[i];
        if (!bytes_equal(row->role, bytes_of_text("replica"))) {
            continue;
        }
        size_t at = 0;
        while (at < lines->count && !bytes_equal(lines->list[at].name, row->model)) {
            at++;
        }
        if (at == MODELS_MAX) {
            continue;
        }
        if (at == lines->count) {
            lines->list[lines->count++] = (struct model_line){.name = row->model};
        }
        lines->list[at].replicas++;
        lines->list[at].ready += bytes_equal(row->state, bytes_of_text("ready"));
    }
}

static void show_table(const struct model_lines *lines)
{
    struct table *table = table_new(3);
    const char *const head[] = {"MODEL", "READY", "REPLICAS"};
    table_add(table, head);
    for (size_t i = 0; i < lines->count; i++) {
        char name[100], ready[24], replicas[24];
        snprintf(name, sizeof(name), "%.*s", (int)lines->list[i].name.length, (const char *)lines->list[i].name.data);
        snprintf(ready, sizeof(ready), "%" PRIu64, lines->list[i].ready);
        snprintf(replicas, sizeof(replicas), "%" PRIu64, lines->list[i].replicas);
        const char *const cells[] = {name, ready, replicas};
        table_add(table, cells);
    }
    table_print(table, stdout);
    table_free(table);
}

static void show_json(const struct model_lines *lines)
{
    struct buf out;
    buf_init(&out, 1 << 20);
    buf_append_u8(&out, '[');
    for (size_t i = 0; i < lines->count; i++) {
        buf_append_text(&out, i > 0 ? ",\n {\"model\": " : "{\"model\": ");
        json_write_string(&out, lines->list[i].name);
        buf_printf(&out, ", \"ready\": %" PRIu64 ", \"replicas\": %" PRIu64 "}", lines->list[i].ready,
                   lines->list[i].replicas);
    }
    printf("%s]\n", buf_text(&out));
    buf_free(&out);
}

int command_models(int argc, char **argv)
{
    static const struct opts_entry entries[] = {
        {"dir", 0, OPTS_TEXT, offsetof(struct models_options, dir), NULL, 0, 0, NULL, "FOLDER",
         "the cluster's state folder (default ~/.local/state/shoal)"},
        {"output", 'o', OPTS_CHOICE, offsetof(struct models_options, output), "table", 0, 0, "table|json", "FORMAT",
         "how to print"},
        {"timeout", 0, OPTS_REAL, offsetof(struct models_options, timeout_s), "3", 0.1, 600, NULL, "SECONDS",
         "how long to wait for a leading coordinator"},
    };
    static const struct opts opts = {.usage = "shoal models [options]",
                                     .summary = "Lists the models of the cluster and how many replicas are ready.",
                                     .entries = entries,
                                     .entries_count = COUNT_OF(entries)};
    struct models_options options = {0};
    char **positional;
    size_t positional_count;
    int exit_code;
    if (!command_parse(&opts, argc, argv, &options, &positional, &positional_count, &exit_code)) {
        return exit_code;
    }
    struct operator_channel *channel = NULL;
    struct error error = {0};
    const struct proto_status *answer = NULL;
    char *dir = home_folder(options.dir);
    enum status status = operator_open_dir(dir, &channel, &error);
    if (status == STATUS_OK) {
        status = operator_status(channel, (uint64_t)(options.timeout_s * 1000), &answer, &error);
    }
    if (status == STATUS_OK) {
        struct model_lines *lines = mem_new(struct model_lines);
        count_replicas(answer, lines);
        if (options.output == 1) {
            show_json(lines);
        } else {
            show_table(lines);
        }
        mem_free(lines);
        exit_code = EXIT_OK;
    } else {
        exit_code = command_fail("models", status, &error);
    }
    if (channel != NULL) {
        operator_close(channel);
    }
    mem_free(dir);
    return exit_code;
}
