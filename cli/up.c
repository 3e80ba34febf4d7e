/* cli/up: `shoal up`: a whole cluster on this machine: keys, supervisor, model, API key, and the wait until it serves.
 *
 * Idempotent: what exists is kept, what is missing is made or started, and the key is shown again. One function per
 * step of the main line in `bring_up`; each says what it waits for, and an error names the log to look at. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/command.h"
#include "cli/home.h"
#include "cli/http.h"
#include "cli/operator.h"
#include "cli/show.h"
#include "cli/up_keys.h"
#include "model/desc.h"
#include "net/loop.h"
#include "net/proc.h"

enum { HTTP_PORT_FIRST = 8000, COORDINATOR_PORT_FIRST = 7401, UP_POLL_MS = 50 };

struct up_options {
    const char *dir;
    const char *model;
    const char *kv_type;
    int64_t nodes, replicas, coordinators, routers, port, pool_tokens, context_tokens;
    double timeout_s;
    bool quiet;
};

struct up {
    const struct up_options *options;
    char *dir;
    struct home_up asked;
    char former_model[97]; /* what an earlier `up` served; "": nothing */
    struct home_client client;
    struct operator_channel *channel;
    uint64_t deadline_us;
};

static void say(const struct up *up, const char *text)
{
    if (!up->options->quiet) {
        fprintf(stderr, "shoal up: %s\n", text);
    }
}

static void pause_ms(long ms)
{
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000};
    (void)nanosleep(&pause, NULL); /* other processes' progress can only be looked for; every loop has a deadline */
}

static bool out_of_time(const struct up *up)
{
    return clock_mono_us() >= up->deadline_us;
}

/* Where tools/fetch-model puts the demo model. */
static char *demo_model(void)
{
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    char *base =
        cache != NULL && cache[0] == '/' ? mem_strdup(cache) : file_join(home != NULL ? home : "/root", ".cache");
    char *path = file_join(base, "shoal/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    mem_free(base);
    return path;
}

static enum status take_model(struct up *up, struct error *error)
{
    struct home_up *asked = &up->asked;
    char *path = NULL;
    if (up->options->model != NULL) {
        path = realpath(up->options->model, NULL);
        if (path == NULL) {
            return error_set(error, STATUS_NOT_FOUND, "there is no %s", up->options->model);
        }
    } else if (asked->model_path[0] == '\0') {
        path = demo_model();
        if (!file_exists(path)) {
            mem_free(path);
            return error_set(error, STATUS_NOT_FOUND,
                             "no model: give --model PATH (a .gguf file or a folder), or run tools/fetch-model first");
        }
    }
    if (path == NULL) {
        return STATUS_OK;
    }
    bool fits = strlen(path) < sizeof(asked->model_path);
    snprintf(up->former_model, sizeof(up->former_model), "%s", asked->model_name);
    snprintf(asked->model_path, sizeof(asked->model_path), "%s", path);
    free(path);
    if (!fits) {
        return error_set(error, STATUS_LIMIT, "the model's path is too long");
    }
    struct model_desc *desc = NULL;
    const struct model_options options = {.vocab_only = true};
    enum status status = model_open(asked->model_path, &options, &desc, error);
    if (status == STATUS_OK) {
        snprintf(asked->model_name, sizeof(asked->model_name), "%s", desc->id);
        model_close(desc);
    }
    return status;
}

/* What up.json says (or the defaults), with this call's options on top. The shape can't change under way. */
static enum status take_shape(struct up *up, struct error *error)
{
    const struct up_options *options = up->options;
    struct home_up *asked = &up->asked;
    char *path = home_path(up->dir, "up.json", NULL);
    bool known = file_exists(path);
    mem_free(path);
    if (known) {
        enum status status = home_up_read(up->dir, asked, error);
        if (status != STATUS_OK) {
            return status;
        }
        if ((options->coordinators != 0 && options->coordinators != asked->coordinators) ||
            (home_supervisor(up->dir) != 0 && ((options->nodes != 0 && options->nodes != asked->nodes) ||
                                               (options->routers != 0 && options->routers != asked->routers)))) {
            return error_set(error, STATUS_CONFLICT,
                             "this cluster has %" PRId64 " coordinators, %" PRId64 " routers and %" PRId64
                             " nodes; stop it first (shoal down), or take another --dir",
                             asked->coordinators, asked->routers, asked->nodes);
        }
    } else {
        *asked = (struct home_up){.coordinators = 3, .nodes = 2, .routers = 1};
    }
    asked->coordinators = options->coordinators != 0 ? options->coordinators : asked->coordinators;
    asked->nodes = options->nodes != 0 ? options->nodes : asked->nodes;
    asked->routers = options->routers != 0 ? options->routers : asked->routers;
    asked->replicas = options->replicas != 0 ? options->replicas : known ? asked->replicas : asked->nodes;
    asked->pool_tokens = options->pool_tokens != 0 ? options->pool_tokens : asked->pool_tokens;
    asked->context_tokens = options->context_tokens != 0 ? options->context_tokens : asked->context_tokens;
    if (options->kv_type != NULL) {
        snprintf(asked->kv_type, sizeof(asked->kv_type), "%s", options->kv_type);
    }
    return STATUS_OK;
}

/* Whether the port is free, or in use by this cluster's own process of that name (whose supervisor may be gone). */
static bool port_is_ours(const struct up *up, int64_t port, const char *name)
{
    return port != 0 && (home_child(up->dir, name) != 0 || home_free_port(port) == port);
}

/* Ports are kept over restarts; a port that somebody else took meanwhile is replaced by the next free one. */
static enum status take_ports(struct up *up, struct error *error)
{
    struct home_up *asked = &up->asked;
    if (home_supervisor(up->dir) != 0) {
        return STATUS_OK; /* they are ours, in use */
    }
    int64_t first = up->options->port != 0  ? up->options->port
                    : asked->http_port != 0 ? asked->http_port
                                            : HTTP_PORT_FIRST;
    asked->http_port = first == asked->http_port && port_is_ours(up, first, "r1") ? first : home_free_port(first);
    int64_t next = COORDINATOR_PORT_FIRST;
    for (int64_t i = 0; i < asked->coordinators; i++) {
        char name[32];
        snprintf(name, sizeof(name), "c%" PRId64, i + 1);
        if (!port_is_ours(up, asked->coordinator_ports[i], name)) {
            asked->coordinator_ports[i] = home_free_port(next);
        }
        next = asked->coordinator_ports[i] + 1;
        if (asked->coordinator_ports[i] == 0) {
            break;
        }
    }
    if (asked->http_port == 0 || next == 1) {
        return error_set(error, STATUS_UNREACHABLE, "no free port near %" PRId64 " or %d on 127.0.0.1", first,
                         COORDINATOR_PORT_FIRST);
    }
    if (asked->http_port != first) {
        fprintf(stderr, "shoal up: port %" PRId64 " is taken, using %" PRId64 "\n", first, asked->http_port);
    }
    return STATUS_OK;
}

static void supervisor_exited(struct proc *proc, int exit_status, int signal_number)
{
    (void)proc;
    (void)exit_status;
    (void)signal_number;
}

static enum status start_supervisor(struct up *up, struct error *error)
{
    if (home_supervisor(up->dir) != 0) {
        return STATUS_OK;
    }
    struct loop loop;
    enum status status = loop_init(&loop, error);
    if (status != STATUS_OK) {
        return status;
    }
    char *program = home_program("shoal");
    char *log_path = home_path(up->dir, "logs", "supervisor.log");
    const char *const argv[] = {program, "supervise", "--dir", up->dir, NULL};
    const struct proc_config config = {.argv = argv, .log_path = log_path, .new_session = true};
    struct proc proc = {.exited = supervisor_exited};
    say(up, "starting the supervisor");
    status = proc_start(&loop, &config, &proc, error);
    if (status == STATUS_OK) {
        proc_detach(&proc);
    }
    loop_close(&loop);
    while (status == STATUS_OK && home_supervisor(up->dir) == 0) {
        if (out_of_time(up)) {
            status = error_set(error, STATUS_TIMEOUT, "the supervisor does not start; see %s", log_path);
        }
        pause_ms(UP_POLL_MS);
    }
    mem_free(program);
    mem_free(log_path);
    return status;
}

static uint64_t ms_left(const struct up *up)
{
    uint64_t now_us = clock_mono_us();
    return now_us < up->deadline_us ? (up->deadline_us - now_us) / 1000 + 1 : 1;
}

static enum status wait_for_leader(struct up *up, struct error *error)
{
    const struct proto_status *answer;
    say(up, "waiting for the coordinators to elect a leader");
    enum status status = operator_open_dir(up->dir, &up->channel, error);
    if (status == STATUS_OK) {
        status = operator_status(up->channel, ms_left(up), &answer, error);
        if (status != STATUS_OK) {
            error_prefix(error, "%s/logs/c1.log and its neighbours may say why", up->dir);
        }
    }
    return status;
}

static enum status put_tenant(struct up *up, struct error *error)
{
    uint8_t secret[32];
    crypto_random(secret, sizeof(secret));
    const struct proto_cmd_tenant_put command = {
        .tenant = {.name = bytes_of_text("default"), .secret = bytes_of(secret, sizeof(secret))}};
    enum status status = operator_propose(up->channel, PROTO_CMD_TENANT_PUT, &command, ms_left(up), error);
    crypto_wipe(secret, sizeof(secret));
    return status;
}

static enum status put_key(struct up *up, struct error *error)
{
    uint8_t hash[CRYPTO_HASH_BYTES];
    struct bytes key = bytes_of_text(up->client.api_key);
    crypto_blake2b(hash, (struct bytes){0}, &key, 1);
    const struct proto_cmd_key_put command = {.key = {.hash = bytes_of(hash, sizeof(hash)),
                                                      .tenant = bytes_of_text("default"),
                                                      .label = bytes_of_text("shoal up")}};
    return operator_propose(up->channel, PROTO_CMD_KEY_PUT, &command, ms_left(up), error);
}

/* The key of client.json, or a new one; the log refuses a key of a tenant that it does not know yet. */
static enum status put_access(struct up *up, struct error *error)
{
    char *path = home_path(up->dir, "client.json", NULL);
    enum status status = STATUS_OK;
    if (file_exists(path)) {
        status = home_client_read(up->dir, &up->client, error);
    }
    mem_free(path);
    if (status != STATUS_OK) {
        return status;
    }
    if (up->client.api_key[0] == '\0') {
        uint8_t random[24];
        char hex[2 * sizeof(random) + 1];
        crypto_random(random, sizeof(random));
        crypto_hex(hex, random, sizeof(random));
        snprintf(up->client.api_key, sizeof(up->client.api_key), "sk-shoal-%s", hex);
    }
    snprintf(up->client.url, sizeof(up->client.url), "http://127.0.0.1:%" PRId64 "/v1", up->asked.http_port);
    snprintf(up->client.model, sizeof(up->client.model), "%s", up->asked.model_name);
    status = home_client_write(up->dir, &up->client, error);
    if (status == STATUS_OK) {
        status = put_key(up, error);
    }
    if (status == STATUS_NOT_FOUND) {
        status = put_tenant(up, error);
        if (status == STATUS_OK) {
            status = put_key(up, error);
        }
    }
    return status;
}

/* What one replica takes: the weights once packed, and room for its KV pool and buffers. */
static uint64_t replica_bytes(const char *path)
{
    struct stat info;
    uint64_t weights = 256ull << 20;
    if (stat(path, &info) == 0 && S_ISREG(info.st_mode)) {
        weights = (uint64_t)info.st_size;
    }
    return weights + weights / 2 + (512ull << 20);
}

static enum status put_model(struct up *up, struct error *error)
{
    const struct home_up *asked = &up->asked;
    const struct proto_cmd_model_put command = {.model = {.name = bytes_of_text(asked->model_name),
                                                          .path = bytes_of_text(asked->model_path),
                                                          .replicas = (uint64_t)asked->replicas,
                                                          .pool_tokens = (uint64_t)asked->pool_tokens,
                                                          .context_tokens = (uint64_t)asked->context_tokens,
                                                          .kv_type = bytes_of_text(asked->kv_type),
                                                          .memory_bytes = replica_bytes(asked->model_path),
                                                          .created_s = clock_wall_us() / 1000000}};
    enum status status = operator_propose(up->channel, PROTO_CMD_MODEL_PUT, &command, ms_left(up), error);
    if (status == STATUS_OK && up->former_model[0] != '\0' && strcmp(up->former_model, asked->model_name) != 0) {
        const struct proto_cmd_model_remove former = {.name = bytes_of_text(up->former_model)};
        status = operator_propose(up->channel, PROTO_CMD_MODEL_REMOVE, &former, ms_left(up), error);
        status = status == STATUS_NOT_FOUND ? STATUS_OK : status;
    }
    return status;
}

struct readiness {
    int64_t ready, pending;
    char reason[600];
};

static struct readiness readiness_of(const struct up *up, const struct proto_status *status)
{
    struct readiness result = {0};
    for (size_t i = 0; i < status->rows_count; i++) {
        const struct proto_status_row *row = &status->rows[i];
        if (!bytes_equal(row->role, bytes_of_text("replica")) ||
            !bytes_equal(row->model, bytes_of_text(up->asked.model_name))) {
            continue;
        }
        /* The log may call ready what ran before the last `shoal down`: a living engine also reports its load. */
        result.ready += bytes_equal(row->state, bytes_of_text("ready")) && row->has_load;
        result.pending += bytes_equal(row->state, bytes_of_text("pending"));
        if (row->reason.length > 0) {
            snprintf(result.reason, sizeof(result.reason), "%.*s is %.*s: %.*s", (int)row->name.length,
                     (const char *)row->name.data, (int)row->state.length, (const char *)row->state.data,
                     (int)row->reason.length, (const char *)row->reason.data);
        }
    }
    return result;
}

/* All replicas that have a node are ready, and there is at least one. */
static enum status wait_for_replicas(struct up *up, struct error *error)
{
    int64_t shown = -1;
    for (;;) {
        const struct proto_status *answer;
        enum status status = operator_status(up->channel, ms_left(up), &answer, error);
        if (status != STATUS_OK) {
            return status;
        }
        struct readiness state = readiness_of(up, answer);
        if (state.ready != shown && !up->options->quiet) {
            fprintf(stderr, "shoal up: %" PRId64 " of %" PRId64 " replicas of %s are ready\n", state.ready,
                    up->asked.replicas, up->asked.model_name);
            shown = state.ready;
        }
        if (state.ready > 0 && state.ready + state.pending >= up->asked.replicas) {
            return STATUS_OK;
        }
        if (out_of_time(up)) {
            return error_set(error, STATUS_TIMEOUT, "only %" PRId64 " of %" PRId64 " replicas got ready%s%s; see %s/n1",
                             state.ready, up->asked.replicas, state.reason[0] != '\0' ? ": " : "", state.reason,
                             up->dir);
        }
        pause_ms(UP_POLL_MS);
    }
}

/* The router has the view, the model and a live channel: it lists the model, and reports itself healthy. */
static enum status wait_for_router(struct up *up, struct error *error)
{
    char url[400];
    snprintf(url, sizeof(url), "%s/models/%s", up->client.url, up->client.model);
    for (;;) {
        unsigned code = 0;
        struct buf body;
        enum status status = http_get(url, up->client.api_key, &code, &body, error);
        buf_free(&body);
        if (status == STATUS_OK && code == 200) {
            return STATUS_OK;
        }
        if (out_of_time(up)) {
            return error_set(error, STATUS_TIMEOUT,
                             "the router at %s does not serve %s (last answer %u); see %s/logs/r1.log", up->client.url,
                             up->client.model, code, up->dir);
        }
        pause_ms(UP_POLL_MS);
    }
}

static enum status show_result(struct up *up, struct error *error)
{
    const struct proto_status *answer;
    enum status status = operator_status(up->channel, ms_left(up), &answer, error);
    if (status == STATUS_OK) {
        show_status_table(answer, stdout);
        printf("API %s   key %s   stop: shoal down   chat: shoal chat\n", up->client.url, up->client.api_key);
        fflush(stdout);
    }
    return status;
}

static enum status bring_up(struct up *up, struct error *error)
{
    char *logs = home_path(up->dir, "logs", NULL);
    enum status status = file_make_dirs(logs, 0700, error);
    mem_free(logs);
    if (status != STATUS_OK || (status = take_shape(up, error)) != STATUS_OK ||
        (status = take_model(up, error)) != STATUS_OK || (status = take_ports(up, error)) != STATUS_OK ||
        (status = home_up_write(up->dir, &up->asked, error)) != STATUS_OK ||
        (status = up_keys(up->dir, &up->asked, error)) != STATUS_OK ||
        (status = start_supervisor(up, error)) != STATUS_OK || (status = wait_for_leader(up, error)) != STATUS_OK ||
        (status = put_access(up, error)) != STATUS_OK || (status = put_model(up, error)) != STATUS_OK ||
        (status = wait_for_replicas(up, error)) != STATUS_OK || (status = wait_for_router(up, error)) != STATUS_OK) {
        return status;
    }
    return show_result(up, error);
}

static const struct opts_entry entries[] = {
    {"dir", 0, OPTS_TEXT, offsetof(struct up_options, dir), NULL, 0, 0, NULL, "FOLDER",
     "the cluster's state folder (default ~/.local/state/shoal)"},
    {"model", 'm', OPTS_TEXT, offsetof(struct up_options, model), NULL, 0, 0, NULL, "PATH",
     "a .gguf file or a Hugging Face folder (default: the demo model)"},
    {"nodes", 0, OPTS_INT, offsetof(struct up_options, nodes), NULL, 1, HOME_NODES_MAX, NULL, "N",
     "worker nodes (default 2)"},
    {"replicas", 0, OPTS_INT, offsetof(struct up_options, replicas), NULL, 1, HOME_NODES_MAX, NULL, "N",
     "replicas of the model (default: one per node)"},
    {"coordinators", 0, OPTS_INT, offsetof(struct up_options, coordinators), NULL, 1, HOME_COORDINATORS_MAX, NULL, "N",
     "coordinators (default 3); fixed once the cluster exists"},
    {"routers", 0, OPTS_INT, offsetof(struct up_options, routers), NULL, 1, HOME_ROUTERS_MAX, NULL, "N",
     "routers, on ports one behind the other (default 1)"},
    {"port", 'p', OPTS_INT, offsetof(struct up_options, port), NULL, 1, 65535, NULL, "PORT",
     "the first router's port (default 8000, or the next free one)"},
    {"pool-tokens", 0, OPTS_INT, offsetof(struct up_options, pool_tokens), NULL, 1, 1e9, NULL, "N",
     "KV pool of each replica (default: the engine's choice)"},
    {"context", 0, OPTS_INT, offsetof(struct up_options, context_tokens), NULL, 1, 1e9, NULL, "N",
     "context of the model (default: its own)"},
    {"kv-type", 0, OPTS_TEXT, offsetof(struct up_options, kv_type), NULL, 0, 0, NULL, "TYPE",
     "f32, f16, bf16 or int8 (default f16)"},
    {"timeout", 0, OPTS_REAL, offsetof(struct up_options, timeout_s), "60", 1, 3600, NULL, "SECONDS",
     "how long to wait until it serves"},
    {"quiet", 'q', OPTS_FLAG, offsetof(struct up_options, quiet), NULL, 0, 0, NULL, NULL, "no progress lines"},
};

int command_up(int argc, char **argv)
{
    static const struct opts opts = {.usage = "shoal up [options]",
                                     .summary = "Starts a whole cluster on this machine and waits until it serves.",
                                     .details = "Run again, it starts what is missing and shows the key again.\n"
                                                "Exit codes: 0 ok, 1 failed, 2 usage, 4 no coordinator answered.",
                                     .entries = entries,
                                     .entries_count = COUNT_OF(entries)};
    struct up_options options = {0};
    char **positional;
    size_t positional_count;
    int exit_code;
    if (!command_parse(&opts, argc, argv, &options, &positional, &positional_count, &exit_code)) {
        return exit_code;
    }
    struct up up = {.options = &options, .dir = home_folder(options.dir)};
    struct error error = {0};
    up.deadline_us = clock_mono_us() + (uint64_t)(options.timeout_s * 1e6);
    enum status status = crypto_init();
    if (status == STATUS_OK) {
        status = bring_up(&up, &error);
    }
    exit_code = status == STATUS_OK ? EXIT_OK : command_fail("up", status, &error);
    if (up.channel != NULL) {
        operator_close(up.channel);
    }
    mem_free(up.dir);
    return exit_code;
}
