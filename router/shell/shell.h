/* router/shell: the router's process around its core: loop, HTTP connections, channels to engines and coordinators, a
 * thread for what is slow about texts, and the kept view.
 *
 * Everything here translates, steps and performs; the core decides. All on the loop's thread, but words.c's worker. */
#ifndef SHOAL_ROUTER_SHELL_SHELL_H
#define SHOAL_ROUTER_SHELL_SHELL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/map.h"
#include "base/metrics.h"
#include "net/bus.h"
#include "net/identity.h"
#include "net/loop.h"
#include "net/tcp.h"
#include "router/coordinators.h"
#include "router/router.h"

struct shell_options {
    const char *identity;
    const char *members;
    const char *state;
    const char *listen;    /* host:port */
    const char *advertise; /* what status shows; NULL: http:// and listen */
    int64_t body_mib_max;
    int64_t connections_max;
    int64_t requests_max;
    bool reuse_port;
    int log_level;
};

struct shell;

struct shell_coordinator {
    struct shell *shell;
    size_t index;
    struct bus_client *client;
};

struct shell {
    struct shell_options options;
    struct identity identity;
    struct members members;
    struct loop loop;
    struct loop_signals signals;
    struct loop_timer tick;
    struct bus *bus;
    struct metrics *metrics;
    struct router *router;
    struct router_actions actions;
    bool performing;
    bool stopping;
    uint64_t stopping_since_us;

    struct http *http;
    struct words *words;
    struct map links; /* number → struct link (links.c) */
    struct coordinators asking;
    struct shell_coordinator coordinators[COORDINATORS_MAX];
    char host[256];
    uint16_t port;
    char address[128]; /* http://host:port, for status */
};

MUST_CHECK enum status shell_open(struct shell *shell, const struct shell_options *options, struct error *error);
void shell_run(struct shell *shell);
void shell_close(struct shell *shell);
/* Steps the core with this event (its now_us is set here) and performs what comes of it. Safe inside performing. */
void shell_step(struct shell *shell, struct router_event *event);

/* http.c: connections. */
struct http;
MUST_CHECK enum status http_open(struct shell *shell, struct http **out, struct error *error);
void http_close(struct http *http);
void http_stop_listening(struct http *http);
void http_tick(struct http *http);
void http_answer(struct http *http, const struct router_action *action, struct bytes body);
void http_stream_begin(struct http *http, uint64_t request);
void http_stream_data(struct http *http, uint64_t request, struct bytes data);
void http_stream_end(struct http *http, uint64_t request);
void http_abort(struct http *http, uint64_t request);

/* links.c: channels to engines and coordinators. */
void links_dial(struct shell *shell, uint64_t number, const char *endpoint, const uint8_t key[CURVE_KEY_BYTES]);
void links_hang_up(struct shell *shell, uint64_t number);
void links_send(struct shell *shell, uint64_t number, struct bytes frame);
void links_close(struct shell *shell);
MUST_CHECK enum status links_dial_coordinators(struct shell *shell, struct error *error);
void links_ask_coordinators(struct shell *shell);

/* words.c: model texts, opened and used for long encodes on a thread of their own. */
struct words;
struct words *words_open(struct shell *shell);
void words_close(struct words *words); /* waits for the job that runs */
void words_load(struct words *words, uint64_t model, const char *path);
void words_encode(struct words *words, const struct router_action *action);

#endif
