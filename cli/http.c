/* cli/http.c: see http.h. One connection per exchange (Connection: close), so the reader has no framing state left. */
#include "cli/http.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"

enum { HEAD_BYTES_MAX = 64 << 10, IDLE_MS = 120000, BODY_BYTES_MAX = 8 << 20, CHUNK_LINE_MAX = 32, CONNECT_MS = 5000 };

struct url_parts {
    char host[256];
    char port[8];
    const char *path;
};

/* No blanks and no control characters: what may stand in a request's head as it is. */
static bool is_one_word(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text <= ' ' || *text == 0x7F) {
            return false;
        }
    }
    return true;
}

static bool split_url(const char *url, struct url_parts *out)
{
    if (strncmp(url, "http://", 7) != 0 || !is_one_word(url)) {
        return false;
    }
    const char *host = url + 7;
    size_t authority = strcspn(host, "/");
    const char *colon = memchr(host, ':', authority);
    size_t host_length = colon != NULL ? (size_t)(colon - host) : authority;
    size_t port_length = colon != NULL ? authority - host_length - 1 : 0;
    if (host_length == 0 || host_length >= sizeof(out->host) || port_length >= sizeof(out->port)) {
        return false;
    }
    snprintf(out->host, sizeof(out->host), "%.*s", (int)host_length, host);
    snprintf(out->port, sizeof(out->port), "%.*s", (int)port_length, colon != NULL ? colon + 1 : "");
    if (port_length == 0) {
        snprintf(out->port, sizeof(out->port), "80");
    }
    out->path = host[authority] == '/' ? host + authority : "/";
    return true;
}

/* connect(2) with a deadline; 0 or errno. Afterwards the socket blocks, and gives up sending after the same time. */
static int connect_within(int fd, const struct addrinfo *to, int timeout_ms)
{
    int flags = fcntl(fd, F_GETFL);
    (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    if (connect(fd, to->ai_addr, to->ai_addrlen) != 0) {
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        int problem = errno;
        socklen_t length = sizeof(problem);
        if (problem != EINPROGRESS) {
            return problem;
        }
        int ready = poll(&wait, 1, timeout_ms);
        if (ready <= 0) {
            return ready < 0 ? errno : ETIMEDOUT;
        }
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &length) != 0 || problem != 0) {
            return problem != 0 ? problem : errno;
        }
    }
    const struct timeval limit = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    (void)fcntl(fd, F_SETFL, flags);
    return 0;
}

static enum status dial(const struct url_parts *url, int *out, struct error *error)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int fd = -1, problem = getaddrinfo(url->host, url->port, &hints, &found);
    if (problem != 0) {
        return error_set(error, STATUS_UNREACHABLE, "%s: %s", url->host, gai_strerror(problem));
    }
    for (const struct addrinfo *at = found; at != NULL && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
        problem = fd >= 0 ? connect_within(fd, at, CONNECT_MS) : errno;
        if (fd >= 0 && problem != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    if (fd < 0) {
        return error_set_errno(error, STATUS_UNREACHABLE, problem, "http://%s:%s does not answer", url->host,
                               url->port);
    }
    *out = fd;
    return STATUS_OK;
}

static enum status send_all(int fd, struct bytes data, struct error *error)
{
    size_t at = 0;
    while (at < data.length) {
        ssize_t sent = send(fd, data.data + at, data.length - at, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            return error_set(error, STATUS_CANCELLED, "interrupted");
        }
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return error_set(error, STATUS_TIMEOUT, "the request was not taken in time");
        }
        if (sent < 0) {
            return error_set_errno(error, STATUS_CLOSED, errno, "the connection broke while sending");
        }
        at += (size_t)sent;
    }
    return STATUS_OK;
}

/* Appends what comes next; *ended when the peer closed. EINTR comes back as CANCELLED, so that Ctrl-C works. */
static enum status receive_more(int fd, int idle_ms, struct buf *into, bool *ended, struct error *error)
{
    uint8_t chunk[16384];
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    int ready = poll(&wait, 1, idle_ms);
    if (ready < 0) {
        return error_set(error, STATUS_CANCELLED, "interrupted");
    }
    if (ready == 0) {
        return error_set(error, STATUS_TIMEOUT, "nothing came for %d s", idle_ms / 1000);
    }
    ssize_t count = recv(fd, chunk, sizeof(chunk), 0);
    if (count < 0) {
        return error_set_errno(error, errno == EINTR ? STATUS_CANCELLED : STATUS_CLOSED, errno, "the connection broke");
    }
    *ended = count == 0;
    buf_append(into, chunk, (size_t)count);
    return into->overflow ? error_set(error, STATUS_LIMIT, "the answer is too large") : STATUS_OK;
}

struct answer_head {
    unsigned code;
    bool chunked;
    bool has_length;
    size_t length;
};

static bool header_is(const char *line, size_t length, const char *name, const char **value)
{
    size_t name_length = strlen(name);
    if (length <= name_length || strncasecmp(line, name, name_length) != 0 || line[name_length] != ':') {
        return false;
    }
    *value = line + name_length + 1;
    while (**value == ' ' || **value == '\t') {
        (*value)++;
    }
    return true;
}

/* A number in digits of `base` (10 or 16), at most 15 of them; *end is what follows. False when there is none. */
static bool parse_size(const char *text, int base, size_t *out, const char **end)
{
    size_t value = 0;
    int digits = 0;
    for (; digits < 16; text++, digits++) {
        unsigned digit = (unsigned char)*text - '0';
        if (base == 16 && digit > 9) {
            digit = ((unsigned char)*text | 0x20u) - 'a' + 10;
            digit = digit < 10 ? 16 : digit;
        }
        if (digit >= (unsigned)base) {
            break;
        }
        value = value * (size_t)base + digit;
    }
    *out = value;
    *end = text;
    return digits > 0 && digits < 16;
}

static bool take_header(const char *line, size_t length, struct answer_head *head)
{
    const char *value, *end;
    if (header_is(line, length, "transfer-encoding", &value)) {
        head->chunked = true; /* the only encoding that we can read */
        return strncasecmp(value, "chunked", 7) == 0 && value + 7 == line + length;
    }
    if (header_is(line, length, "content-length", &value)) {
        size_t before = head->length;
        bool repeated = head->has_length;
        head->has_length = true;
        return parse_size(value, 10, &head->length, &end) && end == line + length &&
               (!repeated || before == head->length);
    }
    return true;
}

static bool parse_head(const char *text, size_t length, struct answer_head *head)
{
    *head = (struct answer_head){0};
    if (length < 12 || strncmp(text, "HTTP/1.", 7) != 0 || text[8] != ' ' ||
        (length > 12 && text[12] != ' ' && text[12] != '\r')) {
        return false;
    }
    for (int i = 9; i < 12; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        head->code = head->code * 10 + (unsigned)(text[i] - '0');
    }
    for (const char *line = text; line < text + length;) {
        const char *end = memchr(line, '\r', (size_t)(text + length - line));
        size_t line_length = end != NULL ? (size_t)(end - line) : (size_t)(text + length - line);
        if (!take_header(line, line_length, head)) {
            return false;
        }
        line += line_length + 2;
    }
    return head->code >= 200 && !(head->chunked && head->has_length);
}

struct body_reader {
    const struct http_request *request;
    int fd;
    int idle_ms;
    struct buf *buffered;
    bool ended;
};

static enum status need(struct body_reader *reader, struct error *error)
{
    if (reader->ended) {
        return error_set(error, STATUS_CLOSED, "the answer ended too early");
    }
    return receive_more(reader->fd, reader->idle_ms, reader->buffered, &reader->ended, error);
}

/* Hands `length` body bytes to the callback as they come. CANCELLED when it has had enough. */
static enum status pass_on(struct body_reader *reader, size_t length, struct error *error)
{
    while (length > 0) {
        size_t part = MIN_OF(length, reader->buffered->length);
        if (part > 0) {
            if (!reader->request->received(reader->request->context, bytes_of(reader->buffered->data, part))) {
                return error_set(error, STATUS_CANCELLED, "cancelled");
            }
            buf_consume(reader->buffered, part);
            length -= part;
            continue;
        }
        enum status status = need(reader, error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status chunk_length(struct body_reader *reader, size_t *out, struct error *error)
{
    const char *end;
    while ((end = reader->buffered->length > 0 ? memchr(reader->buffered->data, '\n', reader->buffered->length)
                                               : NULL) == NULL) {
        if (reader->buffered->length > CHUNK_LINE_MAX) {
            return error_set(error, STATUS_CORRUPT, "a chunk without a length");
        }
        enum status status = need(reader, error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    size_t line = (size_t)(end - (const char *)reader->buffered->data) + 1;
    char text[CHUNK_LINE_MAX + 4] = "";
    memcpy(text, reader->buffered->data, MIN_OF(line, sizeof(text) - 1));
    const char *rest;
    if (!parse_size(text, 16, out, &rest) || (*rest != '\r' && *rest != '\n' && *rest != ';')) {
        return error_set(error, STATUS_CORRUPT, "a chunk without a length");
    }
    buf_consume(reader->buffered, line);
    return STATUS_OK;
}

/* The line's end behind a chunk. */
static enum status drop_line_end(struct body_reader *reader, struct error *error)
{
    while (reader->buffered->length < 2) {
        enum status status = need(reader, error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (memcmp(reader->buffered->data, "\r\n", 2) != 0) {
        return error_set(error, STATUS_CORRUPT, "a chunk that is longer than it said");
    }
    buf_consume(reader->buffered, 2);
    return STATUS_OK;
}

static enum status read_chunked(struct body_reader *reader, struct error *error)
{
    for (;;) {
        size_t length = 0;
        enum status status = chunk_length(reader, &length, error);
        if (status != STATUS_OK || length == 0) {
            return status;
        }
        if ((status = pass_on(reader, length, error)) != STATUS_OK ||
            (status = drop_line_end(reader, error)) != STATUS_OK) {
            return status;
        }
    }
}

static enum status read_to_end(struct body_reader *reader, struct error *error)
{
    for (;;) {
        enum status status = pass_on(reader, reader->buffered->length, error);
        if (status != STATUS_OK || reader->ended) {
            return status;
        }
        if ((status = need(reader, error)) != STATUS_OK) {
            return status;
        }
    }
}

static enum status read_answer(int fd, const struct http_request *request, unsigned *code, struct error *error)
{
    struct buf buffered;
    buf_init(&buffered, HEAD_BYTES_MAX + (1 << 20));
    struct body_reader reader = {.request = request,
                                 .fd = fd,
                                 .idle_ms = request->idle_ms > 0 ? request->idle_ms : IDLE_MS,
                                 .buffered = &buffered};
    const char *end = NULL;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && end == NULL) {
        status = buffered.length > HEAD_BYTES_MAX ? error_set(error, STATUS_CORRUPT, "a head without an end")
                                                  : need(&reader, error);
        end = strstr(buf_text(&buffered), "\r\n\r\n");
    }
    struct answer_head head = {0};
    if (status == STATUS_OK) {
        size_t head_length = (size_t)(end - buf_text(&buffered));
        if (!parse_head(buf_text(&buffered), head_length, &head)) {
            status = error_set(error, STATUS_CORRUPT, "the answer is not HTTP");
        } else {
            *code = head.code;
            buf_consume(&buffered, head_length + 4);
            status = head.chunked      ? read_chunked(&reader, error)
                     : head.has_length ? pass_on(&reader, head.length, error)
                                       : read_to_end(&reader, error);
        }
    }
    buf_free(&buffered);
    return status;
}

enum status http_exchange(const struct http_request *request, unsigned *code, struct error *error)
{
    struct url_parts url;
    int fd = -1;
    *code = 0;
    if (!split_url(request->url, &url)) {
        return error_set(error, STATUS_INVALID, "%s is no http:// address", request->url);
    }
    if (request->api_key != NULL && !is_one_word(request->api_key)) {
        return error_set(error, STATUS_INVALID, "an API key has no blanks");
    }
    enum status status = dial(&url, &fd, error);
    if (status != STATUS_OK) {
        return status;
    }
    struct buf out;
    buf_init(&out, BODY_BYTES_MAX + HEAD_BYTES_MAX);
    buf_printf(&out, "%s %s HTTP/1.1\r\nHost: %s:%s\r\nConnection: close\r\n", request->method, url.path, url.host,
               url.port);
    if (request->api_key != NULL) {
        buf_printf(&out, "Authorization: Bearer %s\r\n", request->api_key);
    }
    if (request->body.length > 0) {
        buf_printf(&out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", request->body.length);
    }
    buf_append_text(&out, "\r\n");
    buf_append_bytes(&out, request->body);
    status = out.overflow ? error_set(error, STATUS_LIMIT, "the request is too large")
                          : send_all(fd, buf_bytes(&out), error);
    if (status == STATUS_OK) {
        status = read_answer(fd, request, code, error);
    }
    buf_free(&out);
    close(fd);
    return status;
}

static bool collect(void *context, struct bytes data)
{
    struct buf *body = context;
    buf_append_bytes(body, data);
    return !body->overflow;
}

enum status http_get(const char *url, const char *api_key, unsigned *code, struct buf *body, struct error *error)
{
    struct http_request request = {
        .method = "GET", .url = url, .api_key = api_key, .idle_ms = 5000, .context = body, .received = collect};
    buf_init(body, BODY_BYTES_MAX);
    enum status status = http_exchange(&request, code, error);
    return body->overflow ? error_set(error, STATUS_LIMIT, "the answer is too large") : status;
}
