/* Promises of the CLI's HTTP client, against a server that says what the test wants: whole answers in every framing and
 * every way of being cut into packets; a status, never a hang or a half answer taken for whole, for everything else. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/http.h"

enum { REQUEST_MAX = 4096 };

/* One connection: reads a request's head, sends `answer` in pieces, closes (or holds the connection open). */
struct server {
    pthread_t thread;
    int listener;
    char url[64];
    const char *answer;
    size_t answer_length, piece;
    bool hold; /* does not close until the client does */
    char request[REQUEST_MAX];
};

static void *serve(void *context)
{
    struct server *server = context;
    int peer = accept(server->listener, NULL, NULL);
    size_t length = 0;
    while (length < REQUEST_MAX - 1 && strstr(server->request, "\r\n\r\n") == NULL) {
        ssize_t got = recv(peer, server->request + length, REQUEST_MAX - 1 - length, 0);
        if (got <= 0) {
            break;
        }
        length += (size_t)got;
    }
    for (size_t at = 0; at < server->answer_length; at += server->piece) {
        size_t left = server->answer_length - at;
        if (send(peer, server->answer + at, left < server->piece ? left : server->piece, MSG_NOSIGNAL) < 0) {
            break;
        }
    }
    if (server->hold) {
        char byte;
        (void)recv(peer, &byte, 1, 0);
    }
    close(peer);
    return NULL;
}

static void start(struct server *server, const char *answer, size_t piece, bool hold)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    *server = (struct server){.answer = answer, .answer_length = strlen(answer), .piece = piece, .hold = hold};
    server->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(server->listener, 1), 0);
    assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &length), 0);
    snprintf(server->url, sizeof(server->url), "http://127.0.0.1:%u/v1/x", ntohs(address.sin_port));
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

static void finish(struct server *server)
{
    assert_int_equal(pthread_join(server->thread, NULL), 0);
    close(server->listener);
}

static bool collect(void *context, struct bytes data)
{
    buf_append_bytes(context, data);
    return true;
}

static enum status exchange(const char *answer, size_t piece, struct buf *body, unsigned *code)
{
    struct server server;
    struct error error;
    buf_clear(body);
    start(&server, answer, piece, false);
    const struct http_request request = {
        .method = "GET", .url = server.url, .idle_ms = 5000, .context = body, .received = collect};
    enum status status = http_exchange(&request, code, &error);
    finish(&server);
    return status;
}

static void test_every_framing_in_every_piece(void **state)
{
    (void)state;
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
        "HTTP/1.1 200 OK\r\ncontent-length:11\r\nContent-Length: 11\r\n\r\nhello world and more",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding:\tChunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n",
        "HTTP/1.0 200\r\n\r\nhello world",
    };
    struct buf body;
    buf_init(&body, 1 << 20);
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        for (size_t piece = 1; piece < 200; piece = piece * 3 - 1 + (piece == 1)) {
            unsigned code;
            assert_int_equal(exchange(answers[i], piece, &body, &code), STATUS_OK);
            assert_int_equal(code, 200);
            assert_string_equal(buf_text(&body), "hello world");
        }
    }
    buf_free(&body);
}

static void test_error_answers_have_their_body(void **state)
{
    (void)state;
    struct buf body;
    unsigned code;
    buf_init(&body, 1 << 20);
    assert_int_equal(exchange("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", 99, &body, &code), STATUS_OK);
    assert_int_equal(code, 404);
    assert_string_equal(buf_text(&body), "{}");
    assert_int_equal(exchange("HTTP/1.1 503 \r\nContent-Length: 0\r\n\r\n", 99, &body, &code), STATUS_OK);
    assert_int_equal(code, 503);
    buf_free(&body);
}

/* Each prefix of a whole answer is an answer that broke. */
static void test_truncated_answers_are_never_whole(void **state)
{
    (void)state;
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    };
    struct buf body;
    buf_init(&body, 1 << 20);
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        for (size_t length = 0; length < strlen(answers[i]); length++) {
            char text[128];
            unsigned code;
            snprintf(text, sizeof(text), "%.*s", (int)length, answers[i]);
            assert_int_equal(exchange(text, 99, &body, &code), STATUS_CLOSED);
        }
    }
    buf_free(&body);
}

static void test_what_is_not_http_is_refused(void **state)
{
    (void)state;
    static const char *const answers[] = {
        "SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0000000000000000000000000000000000000000000000000000005",
    };
    struct buf body;
    buf_init(&body, 1 << 20);
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        unsigned code;
        assert_int_equal(exchange(answers[i], 7, &body, &code), STATUS_CORRUPT);
    }
    static char endless[70000] = "HTTP/1.1 200 OK\r\nX: ";
    unsigned code;
    memset(endless + 20, 'x', sizeof(endless) - 21);
    assert_int_equal(exchange(endless, 5000, &body, &code), STATUS_CORRUPT);
    buf_free(&body);
}

static void test_silence_times_out(void **state)
{
    (void)state;
    static const char *const answers[] = {"", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"};
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct server server;
        struct buf body;
        struct error error;
        unsigned code;
        buf_init(&body, 100);
        start(&server, answers[i], 99, true);
        const struct http_request request = {
            .method = "GET", .url = server.url, .idle_ms = 30, .context = &body, .received = collect};
        assert_int_equal(http_exchange(&request, &code, &error), STATUS_TIMEOUT);
        finish(&server);
        buf_free(&body);
    }
}

static bool enough(void *context, struct bytes data)
{
    (void)context;
    (void)data;
    return false;
}

static void test_callback_ends_the_exchange(void **state)
{
    (void)state;
    struct server server;
    struct error error;
    unsigned code;
    start(&server, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 99, true);
    const struct http_request request = {.method = "GET", .url = server.url, .received = enough};
    assert_int_equal(http_exchange(&request, &code, &error), STATUS_CANCELLED);
    assert_int_equal(code, 200);
    finish(&server);
}

static void test_request_is_as_asked(void **state)
{
    (void)state;
    struct server server;
    struct buf body;
    struct error error;
    unsigned code;
    buf_init(&body, 100);
    start(&server, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 99, false);
    const struct http_request request = {.method = "POST",
                                         .url = server.url,
                                         .api_key = "sk-1",
                                         .body = BYTES_LITERAL("{\"a\": 1}"),
                                         .context = &body,
                                         .received = collect};
    assert_int_equal(http_exchange(&request, &code, &error), STATUS_OK);
    finish(&server);
    assert_ptr_equal(strstr(server.request, "POST /v1/x HTTP/1.1\r\n"), server.request);
    assert_non_null(strstr(server.request, "\r\nAuthorization: Bearer sk-1\r\n"));
    assert_non_null(strstr(server.request, "\r\nContent-Length: 8\r\n"));
    buf_free(&body);
}

static void test_bad_addresses_and_keys_are_refused(void **state)
{
    (void)state;
    static const char *const urls[] = {"",           "https://x/",  "http://",           "http:///x",
                                       "ftp://x/y",  "http://a b/", "http://a/\r\nX: y", "http://a:123456789/",
                                       "http://:80/"};
    struct error error;
    unsigned code;
    struct http_request request = {.method = "GET", .received = enough};
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        request.url = urls[i];
        assert_int_equal(http_exchange(&request, &code, &error), STATUS_INVALID);
    }
    request.url = "http://127.0.0.1:1/";
    request.api_key = "sk\r\nX: y";
    assert_int_equal(http_exchange(&request, &code, &error), STATUS_INVALID);
}

static void test_nobody_there_is_unreachable(void **state)
{
    (void)state;
    struct server server;
    struct error error;
    struct buf body;
    unsigned code;
    char url[64];
    start(&server, "", 1, false); /* takes a free port; its one connection ends at once */
    snprintf(url, sizeof(url), "%s", server.url);
    assert_int_equal(http_get(url, NULL, &code, &body, &error), STATUS_CLOSED);
    buf_free(&body);
    finish(&server);
    assert_int_equal(http_get(url, NULL, &code, &body, &error), STATUS_UNREACHABLE);
    assert_int_equal(code, 0);
    buf_free(&body);
}

static void test_get_bounds_the_body(void **state)
{
    (void)state;
    struct server server;
    struct error error;
    struct buf body;
    unsigned code;
    static char answer[(9 << 20) + 64];
    int head = snprintf(answer, sizeof(answer), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 9 << 20);
    memset(answer + head, 'x', 9 << 20);
    start(&server, answer, 1 << 20, false);
    assert_int_equal(http_get(server.url, NULL, &code, &body, &error), STATUS_LIMIT);
    buf_free(&body);
    finish(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_framing_in_every_piece),
        cmocka_unit_test(test_error_answers_have_their_body),
        cmocka_unit_test(test_truncated_answers_are_never_whole),
        cmocka_unit_test(test_what_is_not_http_is_refused),
        cmocka_unit_test(test_silence_times_out),
        cmocka_unit_test(test_callback_ends_the_exchange),
        cmocka_unit_test(test_request_is_as_asked),
        cmocka_unit_test(test_bad_addresses_and_keys_are_refused),
        cmocka_unit_test(test_nobody_there_is_unreachable),
        cmocka_unit_test(test_get_bounds_the_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
