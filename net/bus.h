/* net/bus: encrypted message channels between shoal's processes: ZeroMQ DEALER to ROUTER, CURVE and a ZAP allow-list.
 *
 * One bus per process (one ZeroMQ context), on one loop. A *server* binds and talks to many peers, told apart by their
 * CURVE public key and a channel number; a *client* dials one server. Frames are opaque here. Who is not on the
 * allow-list never gets a byte through. All sockets have finite high-water marks, MAXMSGSIZE, ZMTP heartbeats,
 * LINGER 0 and ROUTER_MANDATORY; a send that would block is STATUS_FULL, one to a vanished peer STATUS_CLOSED.
 *
 * Loop's thread only. ZMQ_FD is edge-triggered: the implementation drains after every send and receive and looks again
 * in a prepare handle. */
#ifndef SHOAL_NET_BUS_H
#define SHOAL_NET_BUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/crypto.h"
#include "base/status.h"
#include "net/loop.h"

struct bus;
struct bus_server;
struct bus_client;

struct bus_identity {
    uint8_t public_key[CURVE_KEY_BYTES];
    uint8_t secret_key[CURVE_KEY_BYTES];
};

MUST_CHECK enum status bus_open(struct loop *loop, const struct bus_identity *identity, struct bus **out,
                                struct error *error);
/* Closes its servers and clients too, without their callbacks. May block for milliseconds while ZeroMQ's thread ends;
 * what is still queued is dropped (LINGER 0). */
void bus_close(struct bus *bus);

/* The allow-list of the whole process: public keys that may connect to its servers. Who is taken off it is not heard
 * any more, though its connection may stay open until it ends by itself. */
void bus_allow(struct bus *bus, const uint8_t public_key[CURVE_KEY_BYTES]);
void bus_disallow(struct bus *bus, const uint8_t public_key[CURVE_KEY_BYTES]);
uint64_t bus_refused(const struct bus *bus); /* handshakes that the allow-list refused */

/* Who sent: the authenticated key, and the channel (one per connection, unique in the process's life). */
struct bus_peer {
    uint8_t public_key[CURVE_KEY_BYTES];
    uint64_t channel;
};

struct bus_server_config {
    const char *endpoint;   /* tcp://host:port; port 0 or * takes a free one */
    size_t frame_bytes_max; /* a peer that sends a larger one loses its connection, and nobody else does */
    int queue_max;          /* messages per peer and direction, beside what the kernel's buffers hold */
    void *context;
    void (*received)(void *context, const struct bus_peer *peer, struct bytes frame);
    /* The connection is gone: at once when its process died or closed it, after some 2 s of silence otherwise. Called
     * once for each channel that `received` has seen, never before its last frame, never for others. May be NULL. */
    void (*closed)(void *context, uint64_t channel);
};
MUST_CHECK enum status bus_serve(struct bus *bus, const struct bus_server_config *config, struct bus_server **out,
                                 struct error *error);
const char *bus_server_endpoint(const struct bus_server *server); /* with the real port */
/* STATUS_FULL, STATUS_CLOSED (also for unknown channels), or STATUS_LIMIT above frame_bytes_max. OK means queued: what
 * the peer did not take before it went is lost. */
MUST_CHECK enum status bus_server_send(struct bus_server *server, uint64_t channel, struct bytes frame);
/* No callback comes after it; safe inside a callback of its own. The port is free again a moment later. */
void bus_server_close(struct bus_server *server);

struct bus_client_config {
    const char *endpoint;
    uint8_t server_key[CURVE_KEY_BYTES];
    size_t frame_bytes_max;
    int queue_max;
    void *context;
    void (*received)(void *context, struct bytes frame);
    /* The connection's handshake succeeded / it broke (it is dialled again by itself until bus_client_close). Each may
     * be NULL. Nothing that was sent before a break reaches the peer's successor. */
    void (*connected)(void *context);
    void (*disconnected)(void *context);
};
MUST_CHECK enum status bus_dial(struct bus *bus, const struct bus_client_config *config, struct bus_client **out,
                                struct error *error);
/* STATUS_CLOSED while not connected; else as bus_server_send. */
MUST_CHECK enum status bus_client_send(struct bus_client *client, struct bytes frame);
bool bus_client_connected(const struct bus_client *client);
void bus_client_close(struct bus_client *client); /* no callback comes after it; safe inside a callback of its own */

#endif
