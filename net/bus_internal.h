/* bus_internal: what bus.c, bus_server.c and bus_client.c share: the bus itself and its ZeroMQ sockets on the loop.
 *
 * A bus_socket is one ZeroMQ socket whose descriptor is watched. ZeroMQ's descriptor announces only news since its
 * inner mailbox was last emptied, and every send and receive may empty it. So: whoever sends or receives marks the
 * socket dirty; a prepare handle, which runs before the loop sleeps, drains the dirty ones until ZeroMQ says that
 * nothing is left; the descriptor's own event marks dirty, too. A drain that stops early says so and keeps the loop
 * awake (an idle handle), so that a flood on one socket can't starve the others. */
#ifndef SHOAL_NET_BUS_INTERNAL_H
#define SHOAL_NET_BUS_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <zmq.h>

#include "base/list.h"
#include "base/map.h"
#include "net/bus.h"

enum {
    BUS_DRAIN_MAX = 256,    /* messages taken from a socket at a time */
    BUS_HEARTBEAT_MS = 500, /* a peer that is silent for four of them is gone */
    BUS_HANDSHAKE_MS = 3000,
    BUS_CURVE_BYTES = 33, /* what CURVE adds to a frame: command name, nonce, tag, flags (rfc.zeromq.org/spec/26) */
    BUS_EVENT_BYTES = 6
};

struct bus_socket {
    struct bus *bus;
    void *zmq;
    void *owner;
    bool (*drain)(void *owner); /* true: it stopped early, there may be more */
    struct list dirty;          /* in bus->dirty, or alone */
    struct loop_poll poll;
};

struct bus {
    struct loop *loop;
    void *context;
    struct bus_identity identity;
    struct map allowed; /* by public key; the values mean nothing */
    struct bus_socket *zap;
    struct list servers;
    struct list clients;
    struct list dirty;
    uv_prepare_t prepare;
    uv_idle_t idle;
    uint64_t refused;
    uint64_t refused_logged_us;
    uint64_t monitors; /* so far; makes their names */
};

MUST_CHECK enum status bus_socket_open(struct bus *bus, int type, void *owner, bool (*drain)(void *owner),
                                       struct bus_socket **out, struct error *error);
void bus_socket_close(struct bus_socket *socket); /* NULL is fine; drain does not run again */
void bus_socket_mark(struct bus_socket *socket);
MUST_CHECK enum status bus_socket_set(struct bus_socket *socket, int option, int value, struct error *error);
MUST_CHECK enum status bus_socket_set_key(struct bus_socket *socket, int option, const uint8_t key[CURVE_KEY_BYTES],
                                          struct error *error);
/* Limits that every message socket has: HWM, MAXMSGSIZE, heartbeats, handshake time, LINGER 0. */
MUST_CHECK enum status bus_socket_set_limits(struct bus_socket *socket, size_t frame_bytes_max, int queue_max,
                                             struct error *error);
/* One frame, copied. Once more after EAGAIN, because only reading ZMQ_EVENTS makes ZeroMQ take notice at once that
 * there is room again. errno of ZeroMQ, 0: sent. Marks dirty. */
int bus_socket_send(struct bus_socket *socket, const void *data, size_t length, int flags);
/* The monitor of `watched`, open in *out. */
MUST_CHECK enum status bus_monitor_open(struct bus_socket *watched, int events, void *owner, bool (*drain)(void *owner),
                                        struct bus_socket **out, struct error *error);
/* Both may be NULL. Always this way, and before `watched` is closed. */
void bus_monitor_close(struct bus_socket *watched, struct bus_socket *monitor);
/* False: no event waits. */
bool bus_monitor_next(struct bus_socket *monitor, unsigned *event, unsigned *value);
/* Receives what is left of a message of many parts. */
void bus_socket_drop_parts(struct bus_socket *socket, bool more);
bool bus_allows(const struct bus *bus, const uint8_t public_key[CURVE_KEY_BYTES]);
/* bus_disallow's half in bus_server.c: channels of that key fall silent. */
void bus_server_mute(struct bus_server *server, const uint8_t public_key[CURVE_KEY_BYTES]);
struct bus_server *bus_server_of_link(struct list *link);
struct bus_client *bus_client_of_link(struct list *link);

#endif
