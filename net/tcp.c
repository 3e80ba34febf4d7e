/* tcp: see tcp.h. Two buffers make a connection's queue: one is being written by libuv, the other collects what comes
 * meanwhile, so that many small writes cost neither a request nor a segment each.
 *
 *   OPEN --close_after_write--> FLUSHING --queue empty, FIN sent--> LINGERING --peer's FIN, too much, time--> CLOSED
 *
 * tcp_close leads from everywhere to CLOSED; FLUSHING and LINGERING have a deadline. */
#include "net/tcp.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    SEND_BUFFER_BYTES = 32 << 10, /* the kernel takes twice of it */
    READ_BYTES = 64 << 10,
    BACKLOG_USUAL = 511,
    ACCEPTS_PER_TURN = 64,
    KEEPALIVE_S = 60,
    FLUSH_MS = 10000,
    LINGER_MS = 2000,
    LINGER_BYTES_MAX = 1 << 20,
    BUFFER_KEPT_MAX = 16 << 10 /* what an idle connection may keep */
};

enum tcp_state { TCP_OPEN, TCP_FLUSHING, TCP_LINGERING, TCP_CLOSED };

struct tcp {
    uv_tcp_t uv;
    struct loop *loop;
    struct loop_timer timer; /* FLUSHING, LINGERING: the deadline */
    enum tcp_state state;
    const struct tcp_events *events; /* NULL until tcp_start */
    void *context;
    size_t queue_max;
    struct buf in_flight; /* libuv writes from it while write_busy */
    struct buf waiting;
    uv_write_t write;
    uv_shutdown_t shutdown;
    bool write_busy;
    bool want_writable; /* a write was refused, or more than half of queue_max waited */
    bool reading;
    bool ended; /* `ended` was called */
    size_t discarded;
};

struct tcp_listener {
    uv_tcp_t uv;
    struct loop *loop;
    struct tcp_listen_config config;
    struct loop_timer resume; /* the next turn, after ACCEPTS_PER_TURN */
    int accepts_left;
    bool held; /* libuv waits for us to take a connection */
    bool paused;
    bool closing;
    uint16_t port;
};

/* ---- writing ------------------------------------------------------------------------------------------------------
 */

static void end(struct tcp *tcp)
{
    tcp_read_pause(tcp, true);
    if (tcp->state != TCP_OPEN) {
        tcp_close(tcp);
    } else if (!tcp->ended) {
        tcp->ended = true;
        tcp->events->ended(tcp->context);
    }
}

static void buffer_done(struct buf *buffer)
{
    if (buffer->capacity > BUFFER_KEPT_MAX) {
        size_t max = buffer->max;
        buf_free(buffer);
        buf_init(buffer, max);
    } else {
        buf_clear(buffer);
    }
}

static void write_done(uv_write_t *request, int status);

static void write_in_flight(struct tcp *tcp)
{
    uv_buf_t piece = uv_buf_init((char *)tcp->in_flight.data, (unsigned)tcp->in_flight.length);
    tcp->write.data = tcp;
    tcp->write_busy = true;
    int result = uv_write(&tcp->write, (uv_stream_t *)&tcp->uv, &piece, 1, write_done);
    CHECK(result == 0); /* on an open stream it only fails later, through write_done */
}

static void shutdown_done(uv_shutdown_t *request, int status)
{
    struct tcp *tcp = request->data;
    if (tcp->state == TCP_CLOSED || status == UV_ECANCELED) {
        return;
    }
    if (status != 0 || tcp->ended) {
        tcp_close(tcp); /* the peer has closed or is gone: nothing to wait for */
        return;
    }
    tcp->state = TCP_LINGERING;
    loop_timer_start(&tcp->timer, LINGER_MS, 0);
    tcp_read_pause(tcp, false);
}

static void shut_down(struct tcp *tcp)
{
    tcp->shutdown.data = tcp;
    if (uv_shutdown(&tcp->shutdown, (uv_stream_t *)&tcp->uv, shutdown_done) != 0) {
        tcp_close(tcp);
    }
}

static void write_done(uv_write_t *request, int status)
{
    struct tcp *tcp = request->data;
    tcp->write_busy = false;
    if (tcp->state == TCP_CLOSED || status == UV_ECANCELED) { /* loop_close cancels for those that nobody closed */
        return;
    }
    buffer_done(&tcp->in_flight);
    if (status != 0) {
        end(tcp);
        return;
    }
    if (tcp->waiting.length > 0) {
        struct buf empty = tcp->in_flight;
        tcp->in_flight = tcp->waiting;
        tcp->waiting = empty;
        write_in_flight(tcp);
    } else if (tcp->state == TCP_FLUSHING) {
        shut_down(tcp);
        return;
    }
    if (tcp->state == TCP_OPEN && tcp->want_writable && tcp_queued(tcp) <= tcp->queue_max / 2) {
        tcp->want_writable = false;
        if (tcp->events->writable != NULL) {
            tcp->events->writable(tcp->context);
        }
    }
}

size_t tcp_queued(const struct tcp *tcp)
{
    return uv_stream_get_write_queue_size((const uv_stream_t *)&tcp->uv) + tcp->waiting.length;
}

enum status tcp_write(struct tcp *tcp, struct bytes data)
{
    if (tcp->state != TCP_OPEN || tcp->ended) {
        return STATUS_CLOSED;
    }
    size_t queued = tcp_queued(tcp);
    if (data.length > tcp->queue_max - MIN_OF(queued, tcp->queue_max)) {
        tcp->want_writable = true;
        return STATUS_FULL;
    }
    if (tcp->write_busy) {
        buf_append_bytes(&tcp->waiting, data);
    } else if (data.length > 0) {
        uv_buf_t piece = uv_buf_init((char *)data.data, (unsigned)data.length);
        int sent = uv_try_write((uv_stream_t *)&tcp->uv, &piece, 1);
        size_t done = sent > 0 ? (size_t)sent : 0; /* an error comes again, and to write_done */
        if (done < data.length) {
            buf_append(&tcp->in_flight, data.data + done, data.length - done);
            write_in_flight(tcp);
        }
    }
    CHECK(!tcp->waiting.overflow && !tcp->in_flight.overflow);
    tcp->want_writable = tcp->want_writable || tcp_queued(tcp) > tcp->queue_max / 2;
    return STATUS_OK;
}

/* ---- reading ------------------------------------------------------------------------------------------------------
 */

static void give_read_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    /* Between this and the callback that empties it nothing else of this thread reads. */
    static _Thread_local char buffer[READ_BYTES];
    (void)handle;
    (void)suggested;
    *out = uv_buf_init(buffer, sizeof(buffer));
}

static void read_done(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
    struct tcp *tcp = CONTAINER_OF(stream, struct tcp, uv);
    if (length < 0) {
        end(tcp);
    } else if (length > 0 && tcp->state == TCP_OPEN) {
        tcp->events->received(tcp->context, bytes_of(buffer->base, (size_t)length));
    } else if (length > 0) {
        tcp->discarded += (size_t)length;
        if (tcp->discarded > LINGER_BYTES_MAX) {
            tcp_close(tcp);
        }
    }
}

void tcp_read_pause(struct tcp *tcp, bool paused)
{
    if (tcp->state == TCP_CLOSED || tcp->reading == !paused) {
        return;
    }
    tcp->reading = !paused;
    if (paused) {
        uv_read_stop((uv_stream_t *)&tcp->uv);
    } else if (uv_read_start((uv_stream_t *)&tcp->uv, give_read_buffer, read_done) != 0) {
        tcp->reading = false; /* the connection is broken: the next write says so */
    }
}

/* ---- life of a connection -----------------------------------------------------------------------------------------
 */

static void deadline_passed(struct loop_timer *timer)
{
    tcp_close(timer->context);
}

static struct tcp *tcp_new(struct loop *loop, size_t queue_max)
{
    struct tcp *tcp = mem_new(struct tcp);
    tcp->loop = loop;
    tcp->queue_max = queue_max;
    buf_init(&tcp->in_flight, queue_max);
    buf_init(&tcp->waiting, queue_max);
    CHECK(uv_tcp_init(&loop->uv, &tcp->uv) == 0);
    loop_timer_init(loop, &tcp->timer, tcp, deadline_passed);
    return tcp;
}

void tcp_start(struct tcp *tcp, const struct tcp_events *events, void *context)
{
    CHECK(events->received != NULL && events->ended != NULL && tcp->events == NULL);
    tcp->events = events;
    tcp->context = context;
    tcp_read_pause(tcp, false);
}

static void tcp_gone(void *memory)
{
    struct tcp *tcp = memory;
    buf_free(&tcp->in_flight);
    buf_free(&tcp->waiting);
    if (tcp->events != NULL && tcp->events->closed != NULL) {
        tcp->events->closed(tcp->context);
    }
    mem_free(tcp);
}

void tcp_close(struct tcp *tcp)
{
    if (tcp->state == TCP_CLOSED) {
        return;
    }
    tcp->state = TCP_CLOSED;
    uv_close((uv_handle_t *)&tcp->uv, NULL);
    loop_timer_close(&tcp->timer);
    loop_release(tcp->loop, tcp, tcp_gone);
}

void tcp_close_after_write(struct tcp *tcp)
{
    if (tcp->state != TCP_OPEN) {
        return;
    }
    tcp->state = TCP_FLUSHING;
    tcp_read_pause(tcp, true);
    loop_timer_start(&tcp->timer, FLUSH_MS, 0);
    if (!tcp->write_busy) {
        shut_down(tcp);
    }
}

/* ---- listening ----------------------------------------------------------------------------------------------------
 */

static void accept_one(struct tcp_listener *listener)
{
    struct tcp *tcp = tcp_new(listener->loop, listener->config.queue_max);
    int send_buffer = SEND_BUFFER_BYTES;
    listener->held = false;
    if (uv_accept((uv_stream_t *)&listener->uv, (uv_stream_t *)&tcp->uv) != 0) {
        tcp_close(tcp);
        return;
    }
    /* Best effort: a connection that broke meanwhile shows at the first read. */
    (void)uv_tcp_nodelay(&tcp->uv, 1);
    (void)uv_tcp_keepalive(&tcp->uv, 1, KEEPALIVE_S);
    (void)uv_send_buffer_size((uv_handle_t *)&tcp->uv, &send_buffer);
    listener->accepts_left--;
    listener->config.incoming(listener->config.context, tcp);
    if (tcp->events == NULL) {
        tcp_close(tcp);
    }
}

/* libuv accepts on and on, and stops as soon as a connection is not taken from it; taking it lets it go on. */
static void connection_came(uv_stream_t *stream, int status)
{
    struct tcp_listener *listener = CONTAINER_OF(stream, struct tcp_listener, uv);
    if (status != 0) {
        /* Not for want of descriptors: libuv keeps one in reserve to accept and close with. */
        log_event(LOG_WARN, "net", "accept_failed", "port=%u error=%s", (unsigned)listener->port,
                  log_quoted(uv_strerror(status)));
        return;
    }
    listener->held = true;
    if (listener->paused) {
        return;
    }
    if (listener->accepts_left > 0) {
        accept_one(listener);
    }
    if (!listener->closing && listener->accepts_left < ACCEPTS_PER_TURN) {
        loop_timer_start(&listener->resume, 0, 0);
    }
}

static void next_turn(struct loop_timer *timer)
{
    struct tcp_listener *listener = timer->context;
    listener->accepts_left = ACCEPTS_PER_TURN;
    if (listener->held && !listener->paused) {
        accept_one(listener);
    }
}

static enum status bind_to(struct tcp_listener *listener, const struct addrinfo *address, struct error *error)
{
    const struct tcp_listen_config *config = &listener->config;
    int fd, one = 1;
    int result = uv_tcp_init_ex(&listener->loop->uv, &listener->uv, (unsigned)address->ai_family);
    CHECK(result == 0 || result == UV_EMFILE || result == UV_ENFILE || result == UV_EAFNOSUPPORT);
    if (result == 0 && config->reuse_port && uv_fileno((uv_handle_t *)&listener->uv, &fd) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) != 0) {
        result = -errno;
    }
    if (result == 0) {
        result = uv_tcp_bind(&listener->uv, address->ai_addr, 0);
    }
    if (result == 0) {
        result = uv_listen((uv_stream_t *)&listener->uv, config->backlog, connection_came);
    }
    if (result != 0) {
        return error_set(error, result == UV_EADDRINUSE ? STATUS_BUSY : STATUS_IO,
                         "%s port %u can't be listened on: %s.", config->host, (unsigned)config->port,
                         uv_strerror(result));
    }
    return STATUS_OK;
}

static uint16_t bound_port(const struct tcp_listener *listener)
{
    struct sockaddr_storage address;
    int length = sizeof(address);
    CHECK(uv_tcp_getsockname(&listener->uv, (struct sockaddr *)&address, &length) == 0);
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

enum status tcp_listen(struct loop *loop, const struct tcp_listen_config *config, struct tcp_listener **out,
                       struct error *error)
{
    CHECK(config->incoming != NULL && config->queue_max > 0);
    const char *host = config->host == NULL ? "127.0.0.1" : config->host;
    char service[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *addresses;
    (void)snprintf(service, sizeof(service), "%u", (unsigned)config->port);
    int result = getaddrinfo(host, service, &hints, &addresses);
    if (result != 0) {
        return error_set(error, STATUS_INVALID, "%s is no address to listen on: %s.", host, gai_strerror(result));
    }
    struct tcp_listener *listener = mem_new(struct tcp_listener);
    listener->loop = loop;
    listener->config = *config;
    listener->config.host = host;
    listener->config.backlog = config->backlog > 0 ? config->backlog : BACKLOG_USUAL;
    listener->accepts_left = ACCEPTS_PER_TURN;
    loop_timer_init(loop, &listener->resume, listener, next_turn);
    enum status status = bind_to(listener, addresses, error);
    freeaddrinfo(addresses);
    if (status != STATUS_OK) {
        tcp_listener_close(listener);
        return status;
    }
    listener->port = bound_port(listener);
    *out = listener;
    return STATUS_OK;
}

uint16_t tcp_listener_port(const struct tcp_listener *listener)
{
    return listener->port;
}

void tcp_listener_pause(struct tcp_listener *listener, bool paused)
{
    listener->paused = paused;
    if (!paused && listener->held) {
        loop_timer_start(&listener->resume, 0, 0); /* not within this call */
    }
}

void tcp_listener_close(struct tcp_listener *listener)
{
    listener->closing = true;
    uv_close((uv_handle_t *)&listener->uv, NULL);
    loop_timer_close(&listener->resume);
    loop_release(listener->loop, listener, mem_free);
}
