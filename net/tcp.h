/* net/tcp: listening and stream connections on the loop, with bounded write queues.
 *
 * tcp_write copies into the connection's queue; what waits there is tcp_queued. A write that would go beyond queue_max
 * is STATUS_FULL and writes nothing; `writable` is called when at most half of queue_max waits again. The kernel's send
 * buffer is kept small (32 KiB asked for), so that a slow reader shows here and not there. A connection is its owner's
 * from tcp_start on: tcp_close (or tcp_close_after_write), then `closed` is the last callback.
 *
 * A flood of connections can't starve the others: a bounded number is accepted per turn of the loop. Without
 * descriptors, new connections are closed at once. Loop's thread only. */
#ifndef SHOAL_NET_TCP_H
#define SHOAL_NET_TCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "net/loop.h"

struct tcp_listener;
struct tcp;

struct tcp_events {
    void (*received)(void *context, struct bytes data);
    void (*writable)(void *context);
    void (*ended)(void *context);  /* the peer closed its side or the connection broke; call tcp_close */
    void (*closed)(void *context); /* last */
};

struct tcp_listen_config {
    const char *host; /* a name or an address; NULL: 127.0.0.1 */
    uint16_t port;    /* 0: a free one */
    bool reuse_port;  /* SO_REUSEPORT, one router process per core */
    int backlog;      /* 0: 511 */
    size_t queue_max; /* bytes per connection */
    void *context;
    /* A connection is there: call tcp_start (or tcp_close) in here, or it is closed. */
    void (*incoming)(void *context, struct tcp *tcp);
};

/* STATUS_BUSY: the port is taken. */
MUST_CHECK enum status tcp_listen(struct loop *loop, const struct tcp_listen_config *config, struct tcp_listener **out,
                                  struct error *error);
uint16_t tcp_listener_port(const struct tcp_listener *listener);
/* While paused, connections wait in the kernel's backlog. */
void tcp_listener_pause(struct tcp_listener *listener, bool paused);
void tcp_listener_close(struct tcp_listener *listener);

/* Events may be NULL except `received` and `ended`. */
void tcp_start(struct tcp *tcp, const struct tcp_events *events, void *context);
MUST_CHECK enum status tcp_write(struct tcp *tcp, struct bytes data);
size_t tcp_queued(const struct tcp *tcp);
void tcp_read_pause(struct tcp *tcp, bool paused);
/* Sends what is queued, says so to the peer (FIN), takes no more from it, and closes when the peer has closed, too, or
 * after a few seconds. Without this order a peer that is still sending would lose the answer to a reset. */
void tcp_close_after_write(struct tcp *tcp);
void tcp_close(struct tcp *tcp); /* at once; safe in callbacks; a second call does nothing */

#endif
