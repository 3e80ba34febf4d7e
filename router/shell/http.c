/* http: the clients' connections: bytes ↔ requests, answers and event streams.
 *
 *   IDLE ──request──▶ BUSY ──whole answer──▶ FLUSHING ──out──▶ IDLE (and the next pipelined request), or CLOSING
 *                       └──head──▶ STREAMING ──end──▶ ▲
 *
 * A connection has one request at a time. It is read from all the while, so that a client's end is seen in the middle
 * of a stream, unless it pipelines more than a request's worth. What a client does not read waits in the connection's
 * queue (at most QUEUE_BYTES_MAX); above half of it the core hears CLIENT_FULL. A whole answer that is larger is held
 * here and handed on in pieces. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/http1.h"
#include "router/shell/shell.h"

enum {
    QUEUE_BYTES_MAX = 256 << 10,
    IDLE_US_MAX = 75000000, /* between requests, and for one to come in whole */
    ANSWER_BYTES_MAX = 1 << 30,
    PIECE_BYTES = 64 << 10,
};

enum conn_state { CONN_IDLE, CONN_BUSY, CONN_STREAMING, CONN_FLUSHING, CONN_CLOSING };

struct conn {
    struct list node;
    struct http *http;
    struct tcp *tcp;
    struct http1 *http1;
    enum conn_state state;
    uint64_t request;  /* BUSY, STREAMING */
    uint64_t random;   /* of the request, for x-request-id */
    uint64_t since_us; /* IDLE: since when; FLUSHING: when something last went out */
    bool keep_alive;   /* after this request */
    bool until_close;  /* HTTP/1.0 client: a stream has no chunks */
    bool full;         /* the core was told CLIENT_FULL */
    struct buf rest;   /* of a whole answer, behind what the queue took */
};

struct http {
    struct shell *shell;
    struct tcp_listener *listener;
    struct list conns;
    size_t conns_count;
    struct map by_request;
    uint64_t request_last;
    struct metric *open, *refused;
};

static void process(struct conn *conn, enum http1_result result);

static void step(struct conn *conn, enum router_event_kind kind)
{
    struct router_event event = {.kind = kind, .target = conn->request};
    shell_step(conn->http->shell, &event);
}

/* ---- writing */

/* As much of rest as the queue takes; conn_writable comes back for more. */
static void write_rest(struct conn *conn)
{
    while (conn->rest.length > 0) {
        struct bytes piece = bytes_of(conn->rest.data, MIN_OF(conn->rest.length, (size_t)PIECE_BYTES));
        if (tcp_write(conn->tcp, piece) != STATUS_OK) {
            return;
        }
        buf_consume(&conn->rest, piece.length);
        conn->since_us = loop_now_us(&conn->http->shell->loop);
    }
    buf_free(&conn->rest);
    buf_init(&conn->rest, ANSWER_BYTES_MAX);
}

/* Bytes that must all go out. */
static void write_all(struct conn *conn, struct bytes data)
{
    enum status status = conn->rest.length == 0 ? tcp_write(conn->tcp, data) : STATUS_FULL;
    if (status == STATUS_FULL) {
        buf_append_bytes(&conn->rest, data);
        write_rest(conn);
    }
    /* Anything else is a connection that broke: conn_ended is on its way. */
}

static void close_conn(struct conn *conn, bool after_write)
{
    if (conn->state != CONN_CLOSING) {
        conn->state = CONN_CLOSING;
        if (after_write && conn->rest.length == 0) {
            tcp_close_after_write(conn->tcp);
        } else {
            tcp_close(conn->tcp);
        }
    }
}

static void write_head(struct conn *conn, const struct http1_answer *answer)
{
    struct buf out;
    buf_init(&out, ANSWER_BYTES_MAX);
    http1_write_answer(&out, answer);
    write_all(conn, buf_bytes(&out));
    buf_free(&out);
}

/* What the last request left is out: the next one, or the end. */
static void go_on(struct conn *conn)
{
    if (!conn->keep_alive || conn->http->shell->stopping) {
        close_conn(conn, true);
        return;
    }
    conn->state = CONN_IDLE;
    conn->since_us = loop_now_us(&conn->http->shell->loop);
    tcp_read_pause(conn->tcp, false);
    process(conn, http1_next(conn->http1));
}

static void request_done(struct conn *conn)
{
    (void)map_remove_u64(&conn->http->by_request, conn->request);
    conn->request = 0;
    conn->full = false;
    conn->state = CONN_FLUSHING;
    if (conn->rest.length == 0) {
        go_on(conn);
    }
}

static struct conn *conn_of(struct http *http, uint64_t request)
{
    return map_get_u64(&http->by_request, request);
}

void http_answer(struct http *http, const struct router_action *action, struct bytes body)
{
    struct conn *conn = conn_of(http, action->target);
    if (conn == NULL) {
        return;
    }
    char extra[256];
    int length = snprintf(extra, sizeof(extra), "x-request-id: req_%016" PRIx64 "\r\n", conn->random);
    if (action->retry_after_s > 0) {
        length +=
            snprintf(extra + length, sizeof(extra) - (size_t)length, "Retry-After: %u\r\n", action->retry_after_s);
    }
    if (action->allow != NULL) {
        length += snprintf(extra + length, sizeof(extra) - (size_t)length, "Allow: %s\r\n", action->allow);
    }
    if (action->http_status == 401) {
        (void)snprintf(extra + length, sizeof(extra) - (size_t)length, "WWW-Authenticate: Bearer\r\n");
    }
    const struct http1_answer answer = {
        .status = action->http_status,
        .content_type = action->content_type,
        .keep_alive = conn->keep_alive,
        .body = body,
        .extra_headers = extra,
    };
    write_head(conn, &answer);
    request_done(conn);
}

void http_stream_begin(struct http *http, uint64_t request)
{
    struct conn *conn = conn_of(http, request);
    if (conn == NULL) {
        return;
    }
    char extra[160];
    (void)snprintf(extra, sizeof(extra),
                   "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\nx-request-id: req_%016" PRIx64 "\r\n",
                   conn->random);
    const struct http1_answer answer = {
        .status = 200,
        .content_type = "text/event-stream; charset=utf-8",
        .keep_alive = conn->keep_alive,
        .chunked = !conn->until_close,
        .until_close = conn->until_close,
        .extra_headers = extra,
    };
    conn->state = CONN_STREAMING;
    conn->keep_alive = conn->keep_alive && !conn->until_close;
    write_head(conn, &answer);
}

void http_stream_data(struct http *http, uint64_t request, struct bytes data)
{
    struct conn *conn = conn_of(http, request);
    if (conn == NULL) {
        return;
    }
    if (conn->until_close) {
        write_all(conn, data);
    } else {
        struct buf out;
        buf_init(&out, ANSWER_BYTES_MAX);
        http1_write_chunk(&out, data);
        write_all(conn, buf_bytes(&out));
        buf_free(&out);
    }
    if (!conn->full && tcp_queued(conn->tcp) + conn->rest.length > QUEUE_BYTES_MAX / 2) {
        conn->full = true;
        step(conn, ROUTER_CLIENT_FULL);
    }
}

void http_stream_end(struct http *http, uint64_t request)
{
    struct conn *conn = conn_of(http, request);
    if (conn == NULL) {
        return;
    }
    if (!conn->until_close) {
        struct buf out;
        buf_init(&out, 64);
        http1_write_last_chunk(&out);
        write_all(conn, buf_bytes(&out));
        buf_free(&out);
    }
    request_done(conn);
}

void http_abort(struct http *http, uint64_t request)
{
    struct conn *conn = conn_of(http, request);
    if (conn != NULL) {
        (void)map_remove_u64(&http->by_request, request);
        conn->request = 0;
        close_conn(conn, false);
    }
}

/* ---- reading */

static void dispatch(struct conn *conn)
{
    struct http *http = conn->http;
    const struct http1_request *request = http1_request(conn->http1);
    const struct api_http api = {
        .method = request->method,
        .target = request->target,
        .content_type = http1_header(request, "Content-Type"),
        .authorization = http1_header(request, "Authorization"),
        .body = request->body,
    };
    conn->state = CONN_BUSY;
    conn->request = ++http->request_last;
    conn->keep_alive = request->keep_alive;
    conn->until_close = request->version_minor == 0;
    struct router_event event = {
        .kind = ROUTER_REQUEST, .target = conn->request, .http = &api, .wall_s = clock_wall_us() / 1000000};
    crypto_random(event.random, sizeof(event.random));
    conn->random = event.random[1];
    CHECK(map_put_u64(&http->by_request, conn->request, conn) == STATUS_OK);
    shell_step(http->shell, &event);
}

/* What the parser refuses is answered in the API's own error body; then the connection ends. */
static void refuse(struct conn *conn)
{
    struct openai_error error;
    struct buf body;
    buf_init(&body, 4096);
    unsigned status = http1_error_status(conn->http1);
    (void)openai_fail(&error, status, NULL, NULL, "%s", http1_error_text(conn->http1));
    openai_write_error(&body, &error);
    const struct http1_answer answer = {.status = status, .content_type = "application/json", .body = buf_bytes(&body)};
    metric_add(conn->http->refused, 1);
    write_head(conn, &answer);
    buf_free(&body);
    close_conn(conn, true);
}

static void process(struct conn *conn, enum http1_result result)
{
    switch (result) {
    case HTTP1_MORE:
        if (http1_wants_continue(conn->http1)) {
            struct buf out;
            buf_init(&out, 256);
            http1_write_continue(&out);
            write_all(conn, buf_bytes(&out));
            buf_free(&out);
        }
        return;
    case HTTP1_REQUEST:
        dispatch(conn);
        return;
    case HTTP1_BAD:
        refuse(conn);
        return;
    }
}

static void conn_received(void *context, struct bytes data)
{
    struct conn *conn = context;
    if (conn->state == CONN_CLOSING) {
        return;
    }
    if (conn->state == CONN_IDLE && http1_buffered(conn->http1) == 0) {
        conn->since_us = loop_now_us(&conn->http->shell->loop);
    }
    enum http1_result result = http1_feed(conn->http1, data);
    if (conn->state == CONN_IDLE) {
        process(conn, result);
    } else if (http1_buffered(conn->http1) > HTTP1_HEAD_BYTES_MAX) {
        tcp_read_pause(conn->tcp, true); /* it pipelines; go_on reads on */
    }
}

static void conn_writable(void *context)
{
    struct conn *conn = context;
    if (conn->state == CONN_CLOSING) {
        return;
    }
    write_rest(conn);
    if (conn->rest.length > 0) {
        return;
    }
    if (conn->full) {
        conn->full = false;
        step(conn, ROUTER_CLIENT_WRITABLE);
    } else if (conn->state == CONN_FLUSHING) {
        go_on(conn);
    }
}

static void conn_ended(void *context)
{
    struct conn *conn = context;
    if (conn->state == CONN_BUSY || conn->state == CONN_STREAMING) {
        uint64_t request = conn->request;
        (void)map_remove_u64(&conn->http->by_request, request);
        step(conn, ROUTER_CLIENT_GONE);
        conn->request = 0;
    }
    close_conn(conn, false);
}

static void conn_closed(void *context)
{
    struct conn *conn = context;
    list_remove(&conn->node);
    conn->http->conns_count--;
    metric_set(conn->http->open, (double)conn->http->conns_count);
    http1_free(conn->http1);
    buf_free(&conn->rest);
    mem_free(conn);
}

static const struct tcp_events conn_events = {
    .received = conn_received, .writable = conn_writable, .ended = conn_ended, .closed = conn_closed};

static void incoming(void *context, struct tcp *tcp)
{
    struct http *http = context;
    if (http->conns_count >= (size_t)http->shell->options.connections_max) {
        return; /* not taken: closed */
    }
    struct conn *conn = mem_new(struct conn);
    conn->http = http;
    conn->tcp = tcp;
    conn->http1 = http1_new((size_t)http->shell->options.body_mib_max << 20);
    conn->since_us = loop_now_us(&http->shell->loop);
    conn->keep_alive = true;
    buf_init(&conn->rest, ANSWER_BYTES_MAX);
    list_push_back(&http->conns, &conn->node);
    metric_set(http->open, (double)++http->conns_count);
    tcp_start(tcp, &conn_events, conn);
}

enum status http_open(struct shell *shell, struct http **out, struct error *error)
{
    struct http *http = mem_new(struct http);
    http->shell = shell;
    list_init(&http->conns);
    map_init(&http->by_request, (size_t)shell->options.connections_max);
    http->open = metrics_gauge(shell->metrics, "shoal_connections", "open HTTP connections", NULL, NULL);
    http->refused = metrics_counter(shell->metrics, "shoal_http_refused_total",
                                    "requests that are no HTTP, or too large", NULL, NULL);
    const struct tcp_listen_config config = {
        .host = shell->host,
        .port = shell->port,
        .reuse_port = shell->options.reuse_port,
        .queue_max = QUEUE_BYTES_MAX,
        .context = http,
        .incoming = incoming,
    };
    enum status status = tcp_listen(&shell->loop, &config, &http->listener, error);
    if (status != STATUS_OK) {
        map_free(&http->by_request);
        mem_free(http);
        return status;
    }
    shell->port = tcp_listener_port(http->listener);
    *out = http;
    return STATUS_OK;
}

void http_stop_listening(struct http *http)
{
    if (http->listener != NULL) {
        tcp_listener_close(http->listener);
        http->listener = NULL;
    }
}

void http_tick(struct http *http)
{
    uint64_t now_us = loop_now_us(&http->shell->loop);
    LIST_FOR_EACH (node, &http->conns) {
        struct conn *conn = LIST_ENTRY(node, struct conn, node);
        bool waits = conn->state == CONN_IDLE || conn->state == CONN_FLUSHING;
        if (waits && (now_us - conn->since_us >= IDLE_US_MAX || http->shell->stopping)) {
            close_conn(conn, false);
        }
    }
}

static void http_gone(void *memory)
{
    struct http *http = memory;
    map_free(&http->by_request);
    mem_free(http);
}

void http_close(struct http *http)
{
    http_stop_listening(http);
    LIST_FOR_EACH (node, &http->conns) {
        close_conn(LIST_ENTRY(node, struct conn, node), false);
    }
    loop_release(&http->shell->loop, http, http_gone);
}
