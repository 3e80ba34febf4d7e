/* net/http1: an HTTP/1.1 request parser (RFC 9112), stricter than the parser it wraps, and answer writing.
 *
 * Bytes in, requests out; no socket here. Refused with a status code of HTTP's own: both Content-Length and
 * Transfer-Encoding, several or malformed Content-Lengths, unknown transfer codings, obsolete line folding, bare CR or
 * LF ends, control bytes in values, missing or double Host in 1.1, CONNECT, targets and headers beyond the limits.
 * What is parsed depends on the bytes only, never on the pieces that they come in. Keep-alive and pipelining: one
 * request at a time is handed out; the rest waits until http1_next. Not thread-safe. */
#ifndef SHOAL_NET_HTTP1_H
#define SHOAL_NET_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/status.h"

enum { HTTP1_HEADERS_MAX = 64, HTTP1_HEAD_BYTES_MAX = 32 << 10, HTTP1_TARGET_BYTES_MAX = 8 << 10 };

struct http1_header {
    struct bytes name; /* as sent */
    struct bytes value;
};

struct http1_request {
    struct bytes method;
    struct bytes target;
    struct http1_header headers[HTTP1_HEADERS_MAX];
    size_t headers_count;
    struct bytes body;
    unsigned version_minor; /* of HTTP/1.x: 0 or 1 */
    bool keep_alive;
    bool expect_continue;
};

struct http1;

struct http1 *http1_new(size_t body_bytes_max);
void http1_free(struct http1 *http1);

enum http1_result {
    HTTP1_MORE,    /* needs more bytes */
    HTTP1_REQUEST, /* http1_request has a whole one */
    HTTP1_BAD      /* http1_error_status says which answer to give before closing */
};
/* After HTTP1_BAD it takes nothing more. Takes all of data (kept inside, bounded by head and body limits). */
enum http1_result http1_feed(struct http1 *http1, struct bytes data);
/* Forgets the request that was handed out and goes on with what is buffered. */
enum http1_result http1_next(struct http1 *http1);
const struct http1_request *http1_request(const struct http1 *http1); /* views live until http1_next or free */
unsigned http1_error_status(const struct http1 *http1);
const char *http1_error_text(const struct http1 *http1);
/* Buffered bytes; the owner pauses reading above a limit. */
size_t http1_buffered(const struct http1 *http1);
/* True when the head is in, the body is awaited and the client said Expect: 100-continue (once per request). */
bool http1_wants_continue(struct http1 *http1);
struct bytes http1_header(const struct http1_request *request, const char *name); /* case-insensitive; empty: absent */

struct http1_answer {
    unsigned status;
    const char *content_type;
    bool keep_alive;
    bool chunked;              /* a stream: the body follows through http1_write_chunk */
    bool until_close;          /* a stream to an HTTP/1.0 client: the body follows as it is, closing ends it */
    struct bytes body;         /* when neither */
    const char *extra_headers; /* whole lines with CRLF, or NULL */
};
void http1_write_answer(struct buf *out, const struct http1_answer *answer);
void http1_write_continue(struct buf *out);                 /* 100 Continue */
void http1_write_chunk(struct buf *out, struct bytes data); /* nothing for empty data, which would end the stream */
void http1_write_last_chunk(struct buf *out);

#endif
