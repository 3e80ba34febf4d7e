/* Promises of net/http1: what RFC 9112 allows is taken, what could be read in two ways is refused with the right
 * status, the pieces in which bytes come make no difference, sizes are bounded, and answers are framed. Checked against
 * our own cases, llhttp's test vectors and h2o's fuzzing corpus. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "net/http1.h"
#include "tests/support/shared_data.h"

enum { BODY_MAX = 1000, TRANSCRIPT_MAX = 1 << 20 };

/* ---- what a sequence of bytes comes to -----------------------------------------------------------------------------
 */

static void write_request(const struct http1_request *request, struct buf *out)
{
    buf_printf(out, "[%.*s %.*s 1.%u", (int)request->method.length, (const char *)request->method.data,
               (int)request->target.length, (const char *)request->target.data, request->version_minor);
    for (size_t i = 0; i < request->headers_count; i++) {
        buf_append_text(out, " ");
        buf_append_bytes(out, request->headers[i].name);
        buf_append_text(out, "=");
        buf_append_bytes(out, request->headers[i].value);
    }
    buf_append_text(out, " body=");
    buf_append_bytes(out, request->body);
    buf_printf(out, "%s%s]", request->keep_alive ? "" : " close", request->expect_continue ? " expect" : "");
}

/* Every request, then "more", "closed" (what follows a request that ends the connection is nobody's) or the refusal.
 * Bytes are fed in pieces from blocks of exactly their size, so that a sanitizer sees a read past the end. */
static void transcribe(struct bytes data, size_t piece, struct buf *out)
{
    struct http1 *http1 = http1_new(BODY_MAX);
    for (size_t at = 0; at < data.length; at += piece) {
        size_t length = MIN_OF(piece, data.length - at);
        void *exact = mem_dup(data.data + at, length);
        enum http1_result result = http1_feed(http1, bytes_of(exact, length));
        mem_free(exact);
        while (result == HTTP1_REQUEST) {
            write_request(http1_request(http1), out);
            if (!http1_request(http1)->keep_alive) {
                buf_append_text(out, "closed");
                http1_free(http1);
                return;
            }
            result = http1_next(http1);
        }
        if (result == HTTP1_BAD) {
            assert_true(http1_error_status(http1) >= 400 && http1_error_text(http1)[0] != 0);
            buf_printf(out, "%u", http1_error_status(http1));
            assert_int_equal(http1_feed(http1, BYTES_LITERAL("GET / HTTP/1.1\r\nHost: a\r\n\r\n")), HTTP1_BAD);
            http1_free(http1);
            return;
        }
    }
    buf_append_text(out, "more");
    http1_free(http1);
}

/* The transcript, which is the same for every piece size. */
static void transcript_of(struct bytes data, struct buf *whole)
{
    const size_t pieces[] = {1, 2, 7};
    buf_clear(whole);
    transcribe(data, MAX_OF(data.length, (size_t)1), whole);
    for (size_t i = 0; i < COUNT_OF(pieces); i++) {
        struct buf other;
        buf_init(&other, TRANSCRIPT_MAX);
        transcribe(data, pieces[i], &other);
        if (!bytes_equal(buf_bytes(&other), buf_bytes(whole))) {
            fail_msg("in pieces of %zu: %s\nas a whole: %s", pieces[i], buf_text(&other), buf_text(whole));
        }
        buf_free(&other);
    }
}

#define HOST "Host: a\r\n"

static void requests_become_what_they_say(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        const char *transcript;
    } cases[] = {
        {"", "more"},
        {"GET / HTTP/1.1\r\n" HOST "\r\n", "[GET / 1.1 Host=a body=]more"},
        {"GET / HTTP/1.0\r\n\r\n", "[GET / 1.0 body= close]closed"},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "[GET / 1.0 Connection=keep-alive body=]more"},
        {"GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\nGET",
         "[GET / 1.1 Host=a Connection=close body= close]closed"},
        {"\r\n\r\nGET /a?b=%20 HTTP/1.1\r\nHost:a:80\r\nX:\t y \t\r\n\r\n",
         "[GET /a?b=%20 1.1 Host=a:80 X=y body=]more"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n" HOST "\r\nPO",
         "[POST / 1.1 Host=a Content-Length=3 body=abc][GET / 1.1 Host=a body=]more"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", "[POST / 1.1 Host=a Content-Length=0 body=]more"},
        {"POST / HTTP/1.1\r\n" HOST
         "Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n00\r\nT: v\r\n\r\n",
         "[POST / 1.1 Host=a Transfer-Encoding=Chunked body=abc0123456789]more"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 2\r\nExpect: 100-continue\r\n\r\nab",
         "[POST / 1.1 Host=a Content-Length=2 Expect=100-continue body=ab expect]more"},
        {"GET / HTTP/1.1\r\nHost:\r\nEmpty:\r\n\r\n", "[GET / 1.1 Host= Empty= body=]more"},
        {"GET / HTTP/1.1\r\n" HOST "X: \xc3\xa9\r\n\r\n", "[GET / 1.1 Host=a X=\xc3\xa9 body=]more"},
        {"GET / HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
         "[GET / 1.1 Host=a Connection=Upgrade Upgrade=websocket body=]more"},
    };
    struct buf transcript;
    buf_init(&transcript, TRANSCRIPT_MAX);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        transcript_of(bytes_of_text(cases[i].bytes), &transcript);
        assert_string_equal(buf_text(&transcript), cases[i].transcript);
    }
    buf_free(&transcript);
}

/* Frames that could be read in two ways, and their answers. */
static const struct {
    struct bytes bytes;
    const char *transcript;
} ambiguous[] = {
#define CASE(text, transcript_)                                                                                        \
    {                                                                                                                  \
        {(const uint8_t *)(text), sizeof(text) - 1}, transcript_                                                       \
    }
    /* Framing: whose body is it? */
    CASE("POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
    CASE("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", "400"),
    CASE("POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", "400"),
    CASE("POST / HTTP/1.1\r\n" HOST "Content-Length: 3, 3\r\n\r\n", "400"),
    CASE("POST / HTTP/1.1\r\n" HOST "Content-Length: +3\r\n\r\n", "400"),
    CASE("POST / HTTP/1.1\r\n" HOST "Content-Length: 0x3\r\n\r\n", "400"),
    CASE("POST / HTTP/1.1\r\n" HOST "Content-Length: 3 3\r\n\r\n", "400"),
    CASE("POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\n", "400"),
    CASE("POST / HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n", "400"),
    CASE("POST / HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n\r\n", "400"),
    CASE("POST / HTTP/1.1\r\n" HOST "Content-Length : 3\r\n\r\n", "400"),
    CASE("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", "501"),
    CASE("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "501"),
    CASE("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n", "501"),
    CASE("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: \x0b"
         "chunked\r\n\r\n",
         "400"),
    CASE("POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", "400"),
    /* Lines */
    CASE("GET / HTTP/1.1\n" HOST "\r\n", "400"),
    CASE("GET / HTTP/1.1\r\nHost: a\n\r\n", "400"),
    CASE("GET / HTTP/1.1\r\n" HOST "\n", "400"),
    CASE("GET / HTTP/1.1\r\n" HOST "\r\r\n", "400"),
    CASE("GET / HTTP/1.1\r\n" HOST "A: b\rC: d\r\n\r\n", "400"),
    CASE("GET / HTTP/1.1\r\n" HOST "A: b\r\n c\r\n\r\n", "400"),
    CASE("GET / HTTP/1.1\r\n" HOST "A: b\r\n\tc\r\n\r\n", "400"),
    CASE("GET / HTTP/1.1\r\n " HOST "\r\n", "400"),
    CASE("GET / HTTP/1.1\r\n" HOST "A: b\0c\r\n\r\n", "400"),
    CASE("GET / HTTP/1.1\r\n" HOST "A: b\x7f\r\n\r\n", "400"),
    CASE("GET / HTTP/1.1\r\n" HOST "A\r\n\r\n", "400"),
    CASE("GET / HTTP/1.1\r\n" HOST ": b\r\n\r\n", "400"),
    CASE("GET / HTTP/1.1\r\n" HOST "A(: b\r\n\r\n", "400"),
    CASE("\r\n\r\n\r\n\r\n\r\nGET", "400"),
    /* Request lines */
    CASE("GET  / HTTP/1.1\r\n" HOST "\r\n", "400"),
    CASE("GET / HTTP/1.1 \r\n" HOST "\r\n", "400"),
    CASE(" GET / HTTP/1.1\r\n" HOST "\r\n", "400"),
    CASE("GET\t/\tHTTP/1.1\r\n" HOST "\r\n", "400"),
    CASE("GET /\r\n", "400"),
    CASE("GET / http/1.1\r\n" HOST "\r\n", "400"),
    CASE("GET /\x80 HTTP/1.1\r\n" HOST "\r\n", "400"),
    CASE("GET / HTTP/1.2\r\n" HOST "\r\n", "505"),
    CASE("GET / HTTP/2.0\r\n" HOST "\r\n", "505"),
    CASE("GET / HTTP/1.11\r\n" HOST "\r\n", "400"),
    CASE("get / HTTP/1.1\r\n" HOST "\r\n", "501"),
    CASE("BREW / HTTP/1.1\r\n" HOST "\r\n", "501"),
    CASE("CONNECT a:80 HTTP/1.1\r\n" HOST "\r\n", "501"),
    /* Host, Expect */
    CASE("GET / HTTP/1.1\r\n\r\n", "400"),
    CASE("GET / HTTP/1.1\r\n" HOST HOST "\r\n", "400"),
    CASE("GET / HTTP/1.1\r\n" HOST "Expect: tea\r\n\r\n", "417"),
/* Chunks */
#define CHUNKED "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
    CASE(CHUNKED "\r\n", "400"),
    CASE(CHUNKED "g\r\n", "400"),
    CASE(CHUNKED "-1\r\n", "400"),
    CASE(CHUNKED "0x3\r\nabc\r\n", "400"),
    CASE(CHUNKED " 3\r\nabc\r\n", "400"),
    CASE(CHUNKED "3 \r\nabc\r\n", "400"),
    CASE(CHUNKED "3;\r\nabc\r\n", "400"),
    CASE(CHUNKED "3;=\r\nabc\r\n", "400"),
    CASE(CHUNKED "3;a\x01\r\nabc\r\n", "400"),
    CASE(CHUNKED "3\nabc\r\n", "400"),
    CASE(CHUNKED "3\r\nabcd", "400"),
    CASE(CHUNKED "3\r\nabc\n0\r\n", "400"),
    CASE(CHUNKED "3\r\nabc\rX", "400"),
    CASE(CHUNKED "0\r\nbad trailer\r\n\r\n", "400"),
    CASE(CHUNKED "000000003\r\nabc\r\n", "413"),
    CASE(CHUNKED "fffffffff\r\n", "413"),
    CASE(CHUNKED "3e9\r\n", "413"), /* 1001 bytes */
    CASE("POST / HTTP/1.1\r\n" HOST "Content-Length: 1001\r\n\r\n", "413"),
#undef CASE
};

static void ambiguity_is_refused(void **state)
{
    (void)state;
    struct buf transcript;
    buf_init(&transcript, TRANSCRIPT_MAX);
    for (size_t i = 0; i < COUNT_OF(ambiguous); i++) {
        transcript_of(ambiguous[i].bytes, &transcript);
        if (strcmp(buf_text(&transcript), ambiguous[i].transcript) != 0) {
            fail_msg("case %zu, %.60s: %s, not %s", i, (const char *)ambiguous[i].bytes.data, buf_text(&transcript),
                     ambiguous[i].transcript);
        }
    }
    buf_free(&transcript);
}

/* ---- bounds --------------------------------------------------------------------------------------------------------
 */

static void repeat(struct buf *out, const char *text, size_t times)
{
    for (size_t i = 0; i < times; i++) {
        buf_append_text(out, text);
    }
}

static void expect_transcript(struct buf *bytes, const char *beginning)
{
    struct buf transcript;
    buf_init(&transcript, TRANSCRIPT_MAX);
    transcript_of(buf_bytes(bytes), &transcript);
    if (strncmp(buf_text(&transcript), beginning, strlen(beginning)) != 0) {
        fail_msg("%.100s, not %s", buf_text(&transcript), beginning);
    }
    buf_free(&transcript);
    buf_clear(bytes);
}

static void sizes_are_bounded(void **state)
{
    (void)state;
    struct buf bytes;
    buf_init(&bytes, 1 << 20);

    buf_append_text(&bytes, "GET /");
    repeat(&bytes, "x", HTTP1_TARGET_BYTES_MAX);
    buf_append_text(&bytes, " HTTP/1.1\r\n" HOST "\r\n");
    expect_transcript(&bytes, "414");

    buf_append_text(&bytes, "GET / HTTP/1.1\r\n" HOST "X: ");
    repeat(&bytes, "x", HTTP1_HEAD_BYTES_MAX - bytes.length - 4);
    buf_append_text(&bytes, "\r\n\r\n"); /* exactly the maximum */
    expect_transcript(&bytes, "[GET / 1.1 Host=a X=xxx");

    buf_append_text(&bytes, "GET / HTTP/1.1\r\n" HOST "X: ");
    repeat(&bytes, "x", HTTP1_HEAD_BYTES_MAX - bytes.length - 3);
    buf_append_text(&bytes, "\r\n\r\n");
    expect_transcript(&bytes, "431");

    repeat(&bytes, "x", HTTP1_HEAD_BYTES_MAX + 1); /* no line end ever */
    expect_transcript(&bytes, "431");

    buf_append_text(&bytes, "GET / HTTP/1.1\r\n" HOST);
    repeat(&bytes, "X: y\r\n", HTTP1_HEADERS_MAX - 1);
    buf_append_text(&bytes, "\r\n");
    expect_transcript(&bytes, "[GET / 1.1 Host=a X=y");

    buf_append_text(&bytes, "GET / HTTP/1.1\r\n" HOST);
    repeat(&bytes, "X: y\r\n", HTTP1_HEADERS_MAX);
    expect_transcript(&bytes, "431");

    buf_append_text(&bytes, CHUNKED "1;");
    repeat(&bytes, "x", 300);
    expect_transcript(&bytes, "400");

    buf_append_text(&bytes, CHUNKED);
    repeat(&bytes, "1\r\nx\r\n", BODY_MAX); /* as small as can be, and fine */
    buf_append_text(&bytes, "0\r\n\r\n");
    expect_transcript(&bytes, "[POST");

    buf_append_text(&bytes, CHUNKED);
    for (int i = 0; i < 600; i++) { /* lines that weigh a hundred times what they carry */
        buf_append_text(&bytes, "1;a=0123456789012345678901234567890123456789012345678901234567890123456789"
                                "0123456789012345678901234567890123456789\r\nx\r\n");
    }
    expect_transcript(&bytes, "400");

    buf_append_text(&bytes, CHUNKED "0\r\n");
    repeat(&bytes, "T: v\r\n", HTTP1_HEADERS_MAX + 1);
    expect_transcript(&bytes, "431");

    buf_append_text(&bytes, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\n");
    repeat(&bytes, "x", BODY_MAX);
    expect_transcript(&bytes, "[POST / 1.1 Host=a Content-Length=1000 body=xxx");
    buf_free(&bytes);
}

static void what_nobody_asked_for_is_bounded(void **state)
{
    (void)state;
    struct http1 *http1 = http1_new(BODY_MAX);
    uint8_t *flood = mem_alloc(1 << 16);
    assert_int_equal(http1_feed(http1, BYTES_LITERAL("GET / HTTP/1.1\r\n" HOST "\r\n")), HTTP1_REQUEST);
    enum http1_result result = HTTP1_REQUEST;
    size_t fed = 0;
    for (; result == HTTP1_REQUEST && fed < (64 << 20); fed += 1 << 16) {
        result = http1_feed(http1, bytes_of(flood, 1 << 16));
    }
    assert_int_equal(result, HTTP1_BAD);
    assert_int_equal(http1_error_status(http1), 413);
    assert_true(fed <= 4 << 16);
    assert_true(http1_buffered(http1) < fed);
    mem_free(flood);
    http1_free(http1);
}

static void continue_is_wanted_once(void **state)
{
    (void)state;
    struct http1 *http1 = http1_new(BODY_MAX);
    const char *head = "POST / HTTP/1.1\r\n" HOST "Content-Length: 2\r\nExpect: 100-Continue\r\n\r\n";
    assert_int_equal(http1_feed(http1, bytes_of(head, strlen(head) - 1)), HTTP1_MORE);
    assert_false(http1_wants_continue(http1));
    assert_int_equal(http1_feed(http1, BYTES_LITERAL("\n")), HTTP1_MORE);
    assert_true(http1_wants_continue(http1));
    assert_false(http1_wants_continue(http1));
    assert_int_equal(http1_feed(http1, BYTES_LITERAL("ab")), HTTP1_REQUEST);
    assert_false(http1_wants_continue(http1));
    assert_int_equal(http1_next(http1), HTTP1_MORE);
    assert_int_equal(http1_feed(http1, bytes_of_text(head)), HTTP1_MORE);
    assert_true(http1_wants_continue(http1)); /* each request anew */
    struct bytes value = http1_header(&(struct http1_request){0}, "host");
    assert_int_equal(value.length, 0);
    http1_free(http1);
}

static void headers_are_found_whatever_their_case(void **state)
{
    (void)state;
    struct http1 *http1 = http1_new(BODY_MAX);
    assert_int_equal(http1_feed(http1, BYTES_LITERAL("GET / HTTP/1.1\r\nhOsT: a\r\nAuthorization: Bearer k\r\n\r\n")),
                     HTTP1_REQUEST);
    assert_true(bytes_equal(http1_header(http1_request(http1), "Host"), BYTES_LITERAL("a")));
    assert_true(bytes_equal(http1_header(http1_request(http1), "authorization"), BYTES_LITERAL("Bearer k")));
    assert_int_equal(http1_header(http1_request(http1), "Auth").length, 0);
    http1_free(http1);
}

/* ---- answers -------------------------------------------------------------------------------------------------------
 */

static void answers_are_framed(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 4096);
    http1_write_answer(&out, &(struct http1_answer){.status = 404,
                                                    .content_type = "application/json",
                                                    .keep_alive = true,
                                                    .body = BYTES_LITERAL("{}"),
                                                    .extra_headers = "Retry-After: 1\r\n"});
    assert_string_equal(buf_text(&out),
                        "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
                        "Connection: keep-alive\r\nRetry-After: 1\r\n\r\n{}");
    buf_clear(&out);
    http1_write_answer(&out,
                       &(struct http1_answer){.status = 200, .content_type = "text/event-stream", .chunked = true});
    http1_write_chunk(&out, BYTES_LITERAL("0123456789abcdef"));
    http1_write_chunk(&out, BYTES_LITERAL("")); /* must not end the stream */
    http1_write_last_chunk(&out);
    assert_string_equal(buf_text(&out),
                        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
                        "Connection: close\r\n\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n");
    buf_clear(&out);
    http1_write_answer(&out, &(struct http1_answer){.status = 200, .keep_alive = true, .until_close = true});
    assert_string_equal(buf_text(&out), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    buf_clear(&out);
    http1_write_answer(&out, &(struct http1_answer){.status = 204, .keep_alive = true});
    assert_null(strstr(buf_text(&out), "Content-Length"));
    buf_free(&out);
}

/* ---- other people's data -------------------------------------------------------------------------------------------
 */

static size_t decode_base64(const char *text, uint8_t *out)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    size_t count = 0, length = 0;
    for (; *text != 0 && *text != '='; text++) {
        const char *digit = strchr(alphabet, *text);
        assert_non_null(digit);
        bits = bits << 6 | (uint32_t)(digit - alphabet);
        if (++count % 4 != 1) {
            out[length++] = (uint8_t)(bits >> (6 - 2 * ((count - 1) % 4)));
        }
    }
    return length;
}

/* llhttp asks for no Host; give each head one unless the vector is about that itself. */
static void add_hosts(struct bytes vector, struct buf *out)
{
    const char *version = " HTTP/1.1\r\n";
    bool has_host = memmem(vector.data, vector.length, "Host:", 5) != NULL;
    while (vector.length > 0) {
        const uint8_t *found = has_host ? NULL : memmem(vector.data, vector.length, version, strlen(version));
        size_t length = found == NULL ? vector.length : (size_t)(found - vector.data) + strlen(version);
        buf_append(out, vector.data, length);
        if (found != NULL) {
            buf_append_text(out, HOST);
        }
        vector = bytes_of(vector.data + length, vector.length - length);
    }
}

/* Where we differ from llhttp on purpose. */
static const char *known_difference(const char *id)
{
    static const struct {
        const char *id, *why;
    } known[] = {
        {"request/method:382", "ICE is not spoken here"},
        {"request/method:412", "RTSP is not spoken here"},
        {"request/method:440", "RTSP is not spoken here"},
        {"request/method:495", "QUERY is younger than http_parser"},
        {"request/sample:323", "HTTP/0.9 is not spoken here"},
        {"request/transfer-encoding:809", "no coding but chunked is taken"},
        {"request/connection:553", "an Upgrade is ignored, as RFC 9110, 7.8 allows"},
        {"request/connection:690", "an Upgrade is ignored"},
        {"request/connection:826", "an Upgrade is ignored"},
    };
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (strcmp(known[i].id, id) == 0) {
            return known[i].why;
        }
    }
    return NULL;
}

static void check_vector(const struct json *vector, struct buf *transcript)
{
    const char *id = json_text(json_get(vector, "id")), *type = json_text(json_get(vector, "type"));
    const char *base64 = json_text(json_get(vector, "bytes_b64"));
    uint8_t *raw = mem_alloc(strlen(base64) + 1);
    struct buf bytes;
    buf_init(&bytes, 1 << 20);
    add_hosts(bytes_of(raw, decode_base64(base64, raw)), &bytes);
    mem_free(raw);
    transcript_of(buf_bytes(&bytes), transcript); /* whatever the type: no harm, and the same in pieces */
    bool llhttp_refuses = json_kind(json_get(vector, "llhttp_error")) != JSON_NULL;
    if (llhttp_refuses && strstr(buf_text(transcript), "more") != NULL) {
        buf_append_text(&bytes, "\r\n\r\n"); /* a vector may end within the line that is wrong */
        transcript_of(buf_bytes(&bytes), transcript);
    }
    const char *text = buf_text(transcript);
    bool open = strstr(text, "more") != NULL, closed = strstr(text, "closed") != NULL;
    bool agrees = llhttp_refuses ? !open : open || closed;
    if (strcmp(type, "request") == 0 && !agrees && known_difference(id) == NULL) {
        fail_msg("%s: llhttp %s, we: %s", id, llhttp_refuses ? "refuses" : "accepts", text);
    }
    buf_free(&bytes);
}

static void llhttp_vectors_agree(void **state)
{
    (void)state;
    char path[SHARED_DATA_PATH_MAX];
    if (!shared_data_find("net.http1", "badinput/llhttp-vectors.jsonl", path)) {
        skip();
    }
    struct buf lines, transcript;
    struct error error = {0};
    buf_init(&lines, 1 << 20);
    buf_init(&transcript, TRANSCRIPT_MAX);
    assert_int_equal(file_read(path, 1 << 20, &lines, &error), STATUS_OK);
    size_t count = 0;
    for (const char *line = buf_text(&lines), *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        struct json *vector;
        assert_int_equal(json_parse(bytes_of(line, (size_t)(end - line)), &vector, &error), STATUS_OK);
        check_vector(vector, &transcript);
        json_free(vector);
        count++;
    }
    assert_int_equal(count, 141);
    buf_free(&lines);
    buf_free(&transcript);
}

enum { TAR_BLOCK = 512, TAR_SIZE_AT = 124, TAR_TYPE_AT = 156 };

/* The next regular file of a tar stream; false at its end. */
static bool next_tar_file(FILE *tar, struct buf *out)
{
    char block[TAR_BLOCK];
    while (fread(block, 1, sizeof(block), tar) == sizeof(block) && block[0] != 0) {
        size_t size = strtoul(block + TAR_SIZE_AT, NULL, 8);
        char type = block[TAR_TYPE_AT];
        buf_clear(out);
        for (size_t left = size; left > 0; left -= MIN_OF(left, (size_t)TAR_BLOCK)) {
            assert_int_equal(fread(block, 1, sizeof(block), tar), sizeof(block));
            buf_append(out, block, MIN_OF(left, (size_t)TAR_BLOCK));
        }
        if (type == '0' || type == 0) {
            return true;
        }
    }
    return false;
}

static void h2o_corpus_does_no_harm(void **state)
{
    (void)state;
    char path[SHARED_DATA_PATH_MAX], command[SHARED_DATA_PATH_MAX + 32];
    if (!shared_data_find("net.http1", "badinput/h2o-http1-corpus.tar.gz", path)) {
        skip();
    }
    (void)snprintf(command, sizeof(command), "gzip -dc '%s'", path);
    FILE *tar = popen(command, "r");
    assert_non_null(tar);
    struct buf file, transcript;
    buf_init(&file, 1 << 20);
    buf_init(&transcript, TRANSCRIPT_MAX);
    size_t count = 0;
    while (next_tar_file(tar, &file)) {
        transcript_of(buf_bytes(&file), &transcript);
        count++;
    }
    assert_int_equal(count, 657);
    pclose(tar);
    buf_free(&file);
    buf_free(&transcript);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_become_what_they_say),
        cmocka_unit_test(ambiguity_is_refused),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(what_nobody_asked_for_is_bounded),
        cmocka_unit_test(continue_is_wanted_once),
        cmocka_unit_test(headers_are_found_whatever_their_case),
        cmocka_unit_test(answers_are_framed),
        cmocka_unit_test(llhttp_vectors_agree),
        cmocka_unit_test(h2o_corpus_does_no_harm),
    };
    return cmocka_run_group_tests_name("net.http1", tests, NULL, NULL);
}
