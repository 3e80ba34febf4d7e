/* cli/http: a small blocking HTTP/1.1 client for the router's API: one request, its answer streamed to a callback.
 *
 * Plain http:// to a host and port; deadlines on connecting, on sending and between bytes; answers are bounded and
 * checked strictly (status line, Content-Length or chunked). For the CLI's own use against shoal's routers, not a
 * general client. */
#ifndef SHOAL_CLI_HTTP_H
#define SHOAL_CLI_HTTP_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/status.h"

struct http_request {
    const char *method;  /* GET or POST */
    const char *url;     /* http://host:port/path */
    const char *api_key; /* NULL: none */
    struct bytes body;   /* JSON */
    int idle_ms;         /* longest silence; 0: 120,000 */
    void *context;
    /* Body bytes as they come, whatever the status; false ends the exchange (the connection is closed). */
    bool (*received)(void *context, struct bytes data);
};

/* UNREACHABLE: no connection; TIMEOUT; CLOSED: it broke, or ended too early; CORRUPT: not HTTP; INVALID: no http://
 * address, or a key that no header can hold; CANCELLED: `received` had enough, or a signal came. *code is the answer's
 * status code, 0 when none came. */
MUST_CHECK enum status http_exchange(const struct http_request *request, unsigned *code, struct error *error);
/* The whole body of a GET; LIMIT beyond 8 MiB. The body is the caller's to free, whatever the status. */
MUST_CHECK enum status http_get(const char *url, const char *api_key, unsigned *code, struct buf *body,
                                struct error *error);

#endif
