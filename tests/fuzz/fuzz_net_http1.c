/* Fuzzes net/http1: the pieces in which bytes come make no difference, sizes stay bounded, and what is handed out keeps
 * the promises that the rest of the router builds on. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "net/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BODY_MAX = 2000, TRANSCRIPT_MAX = 16 << 20 };

static void check_text(struct bytes text)
{
    for (size_t i = 0; i < text.length; i++) {
        CHECK((text.data[i] >= ' ' || text.data[i] == '\t') && text.data[i] != 0x7f);
    }
}

static void note_request(const struct http1_request *request, struct buf *transcript)
{
    CHECK(request->method.length > 0 && request->target.length > 0 && request->headers_count <= HTTP1_HEADERS_MAX);
    CHECK(request->body.length <= BODY_MAX && request->version_minor <= 1);
    check_text(request->method);
    check_text(request->target);
    buf_append_bytes(transcript, request->method);
    buf_append_bytes(transcript, request->target);
    for (size_t i = 0; i < request->headers_count; i++) {
        CHECK(request->headers[i].name.length > 0);
        check_text(request->headers[i].name);
        check_text(request->headers[i].value);
        buf_append_bytes(transcript, request->headers[i].name);
        buf_append_bytes(transcript, request->headers[i].value);
    }
    buf_append_bytes(transcript, request->body);
    buf_printf(transcript, "|%d%d", request->keep_alive, request->expect_continue);
}

static void transcribe(struct bytes data, size_t piece, struct buf *transcript)
{
    struct http1 *http1 = http1_new(BODY_MAX);
    enum http1_result result = HTTP1_MORE;
    for (size_t at = 0; at < data.length && result != HTTP1_BAD; at += piece) {
        size_t length = MIN_OF(piece, data.length - at);
        void *exact = mem_dup(data.data + at, length);
        result = http1_feed(http1, bytes_of(exact, length));
        mem_free(exact);
        while (result == HTTP1_REQUEST) {
            note_request(http1_request(http1), transcript);
            result = http1_next(http1);
        }
    }
    buf_printf(transcript, "%d %u", result, http1_error_status(http1));
    CHECK(!transcript->overflow);
    http1_free(http1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf whole, pieces;
    if (size < 1) {
        return 0;
    }
    buf_init(&whole, TRANSCRIPT_MAX);
    buf_init(&pieces, TRANSCRIPT_MAX);
    struct bytes rest = bytes_of(data + 1, size - 1);
    transcribe(rest, size, &whole);
    transcribe(rest, 1 + data[0] % 32, &pieces); /* the first byte says how large the pieces are */
    CHECK(bytes_equal(buf_bytes(&whole), buf_bytes(&pieces)));
    buf_free(&whole);
    buf_free(&pieces);
    return 0;
}
