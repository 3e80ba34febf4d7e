/* http1_answer: writing answers; the other half of http1.h. */
#include "base/check.h"
#include "net/http1.h"

static const char *reason_of(unsigned status)
{
    static const struct {
        unsigned status;
        const char *reason;
    } reasons[] = {
        {100, "Continue"},
        {200, "OK"},
        {204, "No Content"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < COUNT_OF(reasons); i++) {
        if (reasons[i].status == status) {
            return reasons[i].reason;
        }
    }
    return "Unknown";
}

void http1_write_answer(struct buf *out, const struct http1_answer *answer)
{
    bool stream = answer->chunked || answer->until_close;
    CHECK(answer->status >= 200 && answer->status <= 599);
    CHECK(!stream || answer->body.length == 0);
    buf_printf(out, "HTTP/1.1 %u %s\r\n", answer->status, reason_of(answer->status));
    if (answer->content_type != NULL) {
        buf_printf(out, "Content-Type: %s\r\n", answer->content_type);
    }
    if (answer->chunked) {
        buf_append_text(out, "Transfer-Encoding: chunked\r\n");
    } else if (!stream && answer->status != 204) {
        buf_printf(out, "Content-Length: %zu\r\n", answer->body.length);
    }
    if (!answer->keep_alive || answer->until_close) {
        buf_append_text(out, "Connection: close\r\n");
    } else {
        buf_append_text(out, "Connection: keep-alive\r\n"); /* HTTP/1.0 clients that asked for it look for it */
    }
    if (answer->extra_headers != NULL) {
        buf_append_text(out, answer->extra_headers);
    }
    buf_append_text(out, "\r\n");
    buf_append_bytes(out, answer->body);
}

void http1_write_continue(struct buf *out)
{
    buf_append_text(out, "HTTP/1.1 100 Continue\r\n\r\n");
}

void http1_write_chunk(struct buf *out, struct bytes data)
{
    if (data.length > 0) {
        buf_printf(out, "%zx\r\n", data.length);
        buf_append_bytes(out, data);
        buf_append_text(out, "\r\n");
    }
}

void http1_write_last_chunk(struct buf *out)
{
    buf_append_text(out, "0\r\n\r\n");
}
