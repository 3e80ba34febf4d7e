/* cli/home.c: see home.h. */
#include "cli/home.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "net/proc.h"

enum { HOME_FILE_MAX = 64 << 10, PORTS_TRIED = 200 };

char *home_folder(const char *given)
{
    if (given != NULL) {
        char here[4096];
        return given[0] == '/' || getcwd(here, sizeof(here)) == NULL ? mem_strdup(given) : file_join(here, given);
    }
    const char *state = getenv("XDG_STATE_HOME");
    if (state != NULL && state[0] == '/') {
        return file_join(state, "shoal");
    }
    const char *home = getenv("HOME");
    return file_join(home != NULL ? home : "/root", ".local/state/shoal");
}

char *home_path(const char *dir, const char *part, const char *name)
{
    char *path = file_join(dir, part);
    if (name == NULL) {
        return path;
    }
    char *whole = file_join(path, name);
    mem_free(path);
    return whole;
}

static enum status read_json(const char *dir, const char *name, struct json **out, struct error *error)
{
    char *path = home_path(dir, name, NULL);
    struct buf text;
    buf_init(&text, HOME_FILE_MAX);
    enum status status = file_exists(path) ? file_read(path, HOME_FILE_MAX, &text, error)
                                           : error_set(error, STATUS_NOT_FOUND, "there is no %s", path);
    if (status == STATUS_OK) {
        status = json_parse(buf_bytes(&text), out, error);
        if (status != STATUS_OK) {
            error_prefix(error, "%s", path);
        }
    }
    buf_free(&text);
    mem_free(path);
    return status;
}

static enum status write_json(const char *dir, const char *name, const struct buf *text, struct error *error)
{
    char *path = home_path(dir, name, NULL);
    enum status status = file_write_atomic(path, buf_bytes(text), 0600, error);
    mem_free(path);
    return status;
}

static void take_text(char *to, size_t to_size, const struct json *value)
{
    const char *text = json_text(value);
    snprintf(to, to_size, "%s", text != NULL ? text : "");
}

enum status home_up_read(const char *dir, struct home_up *out, struct error *error)
{
    struct json *root = NULL;
    enum status status = read_json(dir, "up.json", &root, error);
    if (status != STATUS_OK) {
        return status;
    }
    struct home_up up = {.coordinators = json_integer(json_get(root, "coordinators"), 0),
                         .nodes = json_integer(json_get(root, "nodes"), 0),
                         .routers = json_integer(json_get(root, "routers"), 0),
                         .replicas = json_integer(json_get(root, "replicas"), 0),
                         .pool_tokens = json_integer(json_get(root, "pool_tokens"), 0),
                         .context_tokens = json_integer(json_get(root, "context_tokens"), 0),
                         .http_port = json_integer(json_get(root, "http_port"), 0)};
    take_text(up.model_path, sizeof(up.model_path), json_get(root, "model_path"));
    take_text(up.model_name, sizeof(up.model_name), json_get(root, "model_name"));
    take_text(up.kv_type, sizeof(up.kv_type), json_get(root, "kv_type"));
    const struct json *ports = json_get(root, "coordinator_ports");
    bool sound = up.coordinators >= 1 && up.coordinators <= HOME_COORDINATORS_MAX && up.nodes >= 1 &&
                 up.nodes <= HOME_NODES_MAX && up.routers >= 1 && up.routers <= HOME_ROUTERS_MAX &&
                 json_count(ports) == (size_t)up.coordinators;
    for (size_t i = 0; sound && i < json_count(ports); i++) {
        up.coordinator_ports[i] = json_integer(json_at(ports, i), 0);
    }
    json_free(root);
    if (!sound) {
        return error_set(error, STATUS_CORRUPT, "%s/up.json is damaged: remove %s and run shoal up anew", dir, dir);
    }
    *out = up;
    return STATUS_OK;
}

enum status home_up_write(const char *dir, const struct home_up *up, struct error *error)
{
    struct buf text;
    buf_init(&text, HOME_FILE_MAX);
    buf_append_text(&text, "{\"model_path\": ");
    json_write_text(&text, up->model_path);
    buf_append_text(&text, ", \"model_name\": ");
    json_write_text(&text, up->model_name);
    buf_append_text(&text, ", \"kv_type\": ");
    json_write_text(&text, up->kv_type);
    buf_printf(&text,
               ",\n \"coordinators\": %" PRId64 ", \"nodes\": %" PRId64 ", \"routers\": %" PRId64
               ", \"replicas\": %" PRId64 ", \"pool_tokens\": %" PRId64 ", \"context_tokens\": %" PRId64
               ",\n \"http_port\": %" PRId64 ", \"coordinator_ports\": [",
               up->coordinators, up->nodes, up->routers, up->replicas, up->pool_tokens, up->context_tokens,
               up->http_port);
    for (int64_t i = 0; i < up->coordinators; i++) {
        buf_printf(&text, "%s%" PRId64, i > 0 ? ", " : "", up->coordinator_ports[i]);
    }
    buf_append_text(&text, "]}\n");
    enum status status = write_json(dir, "up.json", &text, error);
    buf_free(&text);
    return status;
}

enum status home_client_read(const char *dir, struct home_client *out, struct error *error)
{
    struct json *root = NULL;
    enum status status = read_json(dir, "client.json", &root, error);
    if (status != STATUS_OK) {
        return status;
    }
    take_text(out->url, sizeof(out->url), json_get(root, "url"));
    take_text(out->api_key, sizeof(out->api_key), json_get(root, "api_key"));
    take_text(out->model, sizeof(out->model), json_get(root, "model"));
    json_free(root);
    return STATUS_OK;
}

enum status home_client_write(const char *dir, const struct home_client *client, struct error *error)
{
    struct buf text;
    buf_init(&text, HOME_FILE_MAX);
    buf_append_text(&text, "{\"url\": ");
    json_write_text(&text, client->url);
    buf_append_text(&text, ", \"api_key\": ");
    json_write_text(&text, client->api_key);
    buf_append_text(&text, ", \"model\": ");
    json_write_text(&text, client->model);
    buf_append_text(&text, "}\n");
    enum status status = write_json(dir, "client.json", &text, error);
    buf_free(&text);
    return status;
}

static int read_supervisor(const char *dir, uint64_t *start_ticks)
{
    struct json *root = NULL;
    struct error error;
    if (read_json(dir, "supervisor.json", &root, &error) != STATUS_OK) {
        return 0;
    }
    int64_t pid = json_integer(json_get(root, "pid"), 0);
    *start_ticks = (uint64_t)json_integer(json_get(root, "start_ticks"), 0);
    json_free(root);
    return pid > 0 && pid <= INT32_MAX && *start_ticks != 0 ? (int)pid : 0;
}

int home_supervisor(const char *dir)
{
    uint64_t start_ticks = 0;
    int pid = read_supervisor(dir, &start_ticks);
    return pid != 0 && proc_start_ticks(pid) == start_ticks ? pid : 0;
}

enum status home_supervisor_write(const char *dir, int pid, struct error *error)
{
    struct buf text;
    buf_init(&text, HOME_FILE_MAX);
    buf_printf(&text, "{\"pid\": %d, \"start_ticks\": %" PRIu64 "}\n", pid, proc_start_ticks(pid));
    enum status status = write_json(dir, "supervisor.json", &text, error);
    buf_free(&text);
    return status;
}

enum status home_supervisor_kill(const char *dir, int signal_number)
{
    uint64_t start_ticks = 0;
    int pid = read_supervisor(dir, &start_ticks);
    return pid != 0 ? proc_kill(pid, start_ticks, signal_number) : STATUS_NOT_FOUND;
}

int home_child(const char *dir, const char *name)
{
    struct json *root = NULL;
    struct error error;
    if (read_json(dir, "children.json", &root, &error) != STATUS_OK) {
        return 0;
    }
    int64_t pid = json_integer(json_get(json_get(root, name), "pid"), 0);
    uint64_t start_ticks = (uint64_t)json_integer(json_get(json_get(root, name), "start_ticks"), 0);
    json_free(root);
    bool runs = pid > 0 && pid <= INT32_MAX && start_ticks != 0 && proc_start_ticks((int)pid) == start_ticks;
    return runs ? (int)pid : 0;
}

static bool port_is_free(int64_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return false;
    }
    int yes = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bool is_free = bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 1) == 0;
    close(fd);
    return is_free;
}

int64_t home_free_port(int64_t first)
{
    for (int64_t port = first; port < first + PORTS_TRIED && port < 65536; port++) {
        if (port_is_free(port)) {
            return port;
        }
    }
    return 0;
}

char *home_program(const char *name)
{
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (length <= 0) {
        return mem_strdup(name);
    }
    path[length] = '\0';
    char *slash = strrchr(path, '/');
    *slash = '\0';
    return file_join(path, name);
}
