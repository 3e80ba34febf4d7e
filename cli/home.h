/* cli/home: the state folder of `shoal up`: where its files are, and what was asked for.
 *
 *   <dir>/up.json       what `up` was told: model, nodes, ports (read by the supervisor)
 *   <dir>/client.json   {"url", "api_key", "model"}, mode 0600
 *   <dir>/keys/         one key file per process, and members.json
 *   <dir>/logs/         one log per process
 *   <dir>/NAME/         each process's own state
 *   <dir>/supervisor.json  pid and start time of the supervisor that runs it all */
#ifndef SHOAL_CLI_HOME_H
#define SHOAL_CLI_HOME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum { HOME_COORDINATORS_MAX = 5, HOME_NODES_MAX = 16, HOME_ROUTERS_MAX = 4 };

struct home_up {
    char model_path[4096];
    char model_name[97];
    char kv_type[9];
    int64_t coordinators, nodes, routers, replicas;
    int64_t pool_tokens, context_tokens;
    int64_t http_port;
    int64_t coordinator_ports[HOME_COORDINATORS_MAX];
};

struct home_client {
    char url[256]; /* http://127.0.0.1:8000/v1 */
    char api_key[128];
    char model[97];
};

/* The folder: `given`, or $XDG_STATE_HOME/shoal, or ~/.local/state/shoal. The caller's: mem_free. */
char *home_folder(const char *given);
/* <dir>/part (and <dir>/part/name when name is not NULL): mem_free. */
char *home_path(const char *dir, const char *part, const char *name);

MUST_CHECK enum status home_up_read(const char *dir, struct home_up *out, struct error *error);
MUST_CHECK enum status home_up_write(const char *dir, const struct home_up *up, struct error *error);
MUST_CHECK enum status home_client_read(const char *dir, struct home_client *out, struct error *error);
MUST_CHECK enum status home_client_write(const char *dir, const struct home_client *client, struct error *error);

/* The supervisor that runs now: its pid, 0 when none does. */
int home_supervisor(const char *dir);
MUST_CHECK enum status home_supervisor_write(const char *dir, int pid, struct error *error);
MUST_CHECK enum status home_supervisor_kill(const char *dir, int signal_number);

/* The process that the supervisor started under this name, if it still runs (also when the supervisor doesn't): its
 * pid, else 0. */
int home_child(const char *dir, const char *name);

/* The first port from `first` on that nobody listens on at 127.0.0.1; 0 when 200 in a row are taken. */
int64_t home_free_port(int64_t first);
/* A program beside our own: mem_free. */
char *home_program(const char *name);

#endif
