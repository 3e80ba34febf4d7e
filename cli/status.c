/* cli/status: `shoal status`: the cluster's table, from the leading coordinator. */
#include <inttypes.h>
#include <stdio.h>

#include "base/check.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/command.h"
#include "cli/home.h"
#include "cli/operator.h"
#include "cli/show.h"
#include "cli/table.h"

struct status_options {
    const char *dir;
    int output;
    double timeout_s;
};

static void copy(char *to, size_t to_size, struct bytes text)
{
    snprintf(to, to_size, "%.*s", (int)text.length, (const char *)text.data);
}

void show_status_table(const struct proto_status *status, FILE *to)
{
    struct table *table = table_new(8);
    const char *const head[] = {"ROLE", "NAME", "ADDR", "STATE", "MODEL", "KV%", "REQS", ""};
    table_add(table, head);
    for (size_t i = 0; i < status->rows_count; i++) {
        const struct proto_status_row *row = &status->rows[i];
        char role[20], name[132], address[132], state[36], model[100], reason[488] = "", kv[16] = "-",
                                                                       requests[24] = "-";
        copy(role, sizeof(role), row->role);
        copy(name, sizeof(name), row->name);
        copy(address, sizeof(address), row->address);
        copy(state, sizeof(state), row->state);
        copy(model, sizeof(model), row->model);
        copy(reason, sizeof(reason), row->reason);
        if (row->has_load) {
            bool has_pool = bytes_equal(row->role, bytes_of_text("replica"));
            if (has_pool) {
                snprintf(kv, sizeof(kv), "%.1f", (double)row->kv_permille / 10);
            }
            snprintf(requests, sizeof(requests), "%" PRIu64, row->requests);
        }
        const char *const cells[] = {
            role,     name,  address[0] != '\0' ? address : "-", state, model[0] != '\0' ? model : "-", kv,
            requests, reason};
        table_add(table, cells);
    }
    table_print(table, to);
    table_free(table);
}

void show_status_json(const struct proto_status *status, FILE *to)
{
    struct buf out;
    buf_init(&out, 64 << 20);
    buf_append_text(&out, "{\"leader\": ");
    json_write_string(&out, status->leader);
    buf_printf(&out, ", \"term\": %" PRIu64 ", \"incarnation\": %" PRIu64 ", \"index\": %" PRIu64 ", \"rows\": [",
               status->term, status->incarnation, status->index);
    for (size_t i = 0; i < status->rows_count; i++) {
        const struct proto_status_row *row = &status->rows[i];
        const struct {
            const char *name;
            struct bytes text;
        } fields[] = {{"role", row->role},   {"name", row->name},   {"address", row->address},
                      {"state", row->state}, {"model", row->model}, {"reason", row->reason}};
        buf_append_text(&out, i > 0 ? ",\n  {" : "\n  {");
        for (size_t j = 0; j < COUNT_OF(fields); j++) {
            buf_printf(&out, "%s\"%s\": ", j > 0 ? ", " : "", fields[j].name);
            json_write_string(&out, fields[j].text);
        }
        if (row->has_load) {
            buf_printf(&out, ", \"requests\": %" PRIu64 ", \"kv_percent\": ", row->requests);
            json_write_number(&out, (double)row->kv_permille / 10);
        }
        buf_append_u8(&out, '}');
    }
    buf_append_text(&out, "]}\n");
    fwrite(out.data, 1, out.length, to);
    buf_free(&out);
}

int command_status(int argc, char **argv)
{
    static const struct opts_entry entries[] = {
        {"dir", 0, OPTS_TEXT, offsetof(struct status_options, dir), NULL, 0, 0, NULL, "FOLDER",
         "the cluster's state folder (default ~/.local/state/shoal)"},
        {"output", 'o', OPTS_CHOICE, offsetof(struct status_options, output), "table", 0, 0, "table|json", "FORMAT",
         "how to print"},
        {"timeout", 0, OPTS_REAL, offsetof(struct status_options, timeout_s), "3", 0.1, 600, NULL, "SECONDS",
         "how long to wait for a leading coordinator"},
    };
    static const struct opts opts = {.usage = "shoal status [options]",
                                     .summary = "Shows coordinators, routers, nodes and replicas.",
                                     .details = "Exit codes: 0 ok, 1 failed, 2 usage, 4 no coordinator answered.",
                                     .entries = entries,
                                     .entries_count = COUNT_OF(entries)};
    struct status_options options = {0};
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
    exit_code = status == STATUS_OK ? EXIT_OK : command_fail("status", status, &error);
    if (status == STATUS_OK) {
        (options.output == 1 ? show_status_json : show_status_table)(answer, stdout);
    }
    if (channel != NULL) {
        operator_close(channel);
    }
    mem_free(dir);
    return exit_code;
}
