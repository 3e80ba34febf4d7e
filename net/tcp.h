/* net/tcp: listening and stream connections on the loop, with bounded write queues.
 *
 * tcp_write copies into the connection's queue; what waits there is tcp_queued, and writable is called when it falls
 * below half of queue_max again. A write beyond queue_max is STATUS_FULL and writes nothing. The connection is its
 * owner's from accept on: tcp_close, then `closed` is the last callback and the memory may go. */
#ifndef SHOAL_NET_TCP_H
#define SHOAL_NET_TCP_H

#include <stdbool.h>
#include <stddef.h>

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
    const char *host;
    uint16_t port;   /* 0: a free one */
    bool reuse_port; /* SO_REUSEPORT, one router process per core */
    int backlog;
    size_t queue_max; /* bytes per connection */
    void *context;
    /* A connection waits: call tcp_accept in here, or it is closed. */
    void (*incoming)(void *context, struct tcp *tcp);
};

MUST_CHECK enum status tcp_listen(struct loop *loop, const struct tcp_listen_config *config, struct tcp_listener **out,
                                  struct error *error);
uint16_t tcp_listener_port(const struct tcp_listener *listener);
void tcp_listener_pause(struct tcp_listener *listener, bool paused);
void tcp_listener_close(struct tcp_listener *listener);

void tcp_start(struct tcp *tcp, const struct tcp_events *events, void *context);
MUST_CHECK enum status tcp_write(struct tcp *tcp, struct bytes data);
size_t tcp_queued(const struct tcp *tcp);
void tcp_read_pause(struct tcp *tcp, bool paused);
void tcp_close_after_write(struct tcp *tcp); /* flushes what is queued, then closes */
void tcp_close(struct tcp *tcp);

#endif
