/* http1: see http1.h. Lines are checked here as they come, byte by byte and by the letter of RFC 9112; a whole head
 * then goes through http_parser, which takes it apart. So both must agree on what a request is, and what http_parser
 * tolerates for old times' sake (bare LF, folded headers, spaces before colons, "chunked, identity") never gets there.
 *
 *   HEAD --> LENGTH --------------------------------> WHOLE --http1_next--> HEAD
 *     |  \-> CHUNK_SIZE <-> CHUNK_DATA               /
 *     |          \--> TRAILER ----------------------/
 *     \--> BAD from everywhere; nothing leads out of it */
#include "net/http1.h"

#include <http_parser.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "base/mem.h"

enum {
    CHUNK_LINE_BYTES_MAX = 256,
    CHUNK_LINES_BYTES_MAX = 64 << 10, /* extensions and lines of all chunks beyond their data's own size */
    CHUNK_DIGITS_MAX = 8,             /* 4 GiB */
    LENGTH_DIGITS_MAX = 15,
    EMPTY_LINES_MAX = 4, /* before a request line (RFC 9112, 2.2) */
    INPUT_BEYOND_MAX = 64 << 10,
    BUFFER_KEPT_MAX = 4 << 10
};

enum http1_state { IN_HEAD, IN_LENGTH, IN_CHUNK_SIZE, IN_CHUNK_DATA, IN_TRAILER, WHOLE, BAD };

struct http1 {
    enum http1_state state;
    struct buf input; /* what came and is not taken yet; the head while it grows */
    size_t at;        /* taken from input's front */
    struct buf head;  /* of the current request; its views point here */
    struct buf body;
    size_t body_max;
    size_t line_begin; /* of the line that is looked at, from input's `at` */
    size_t scanned;    /* IN_HEAD, IN_CHUNK_SIZE, IN_TRAILER: no LF before here, from input's `at` */
    size_t lines;      /* IN_HEAD: complete ones, the request line included; IN_TRAILER too */
    size_t empty_lines;
    uint64_t left; /* IN_LENGTH, IN_CHUNK_DATA: body bytes still to come */
    uint64_t chunk_overhead;
    bool continue_due;
    struct http1_request request;
    unsigned error_status;
    const char *error_text;
};

/* ---- refusals -----------------------------------------------------------------------------------------------------
 */

/* Returns false, so that a check reads `return refuse(...)`. */
static bool refuse(struct http1 *http1, unsigned status, const char *text)
{
    http1->state = BAD;
    http1->error_status = status;
    http1->error_text = text;
    return false;
}

/* ---- lines --------------------------------------------------------------------------------------------------------
 */

/* RFC 9110, 5.6.2. */
static bool is_token_byte(uint8_t byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') ||
           (byte != 0 && strchr("!#$%&'*+-.^_`|~", byte) != NULL);
}

static size_t token_length(struct bytes text)
{
    size_t length = 0;
    while (length < text.length && is_token_byte(text.data[length])) {
        length++;
    }
    return length;
}

static struct bytes trim(struct bytes text)
{
    while (text.length > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text = bytes_of(text.data + 1, text.length - 1);
    }
    while (text.length > 0 && (text.data[text.length - 1] == ' ' || text.data[text.length - 1] == '\t')) {
        text.length--;
    }
    return text;
}

static bool same_word(struct bytes a, const char *b)
{
    return a.length == strlen(b) && strncasecmp((const char *)a.data, b, a.length) == 0;
}

static bool check_version(struct http1 *http1, struct bytes version)
{
    if (version.length != 8 || memcmp(version.data, "HTTP/", 5) != 0 || version.data[6] != '.') {
        return refuse(http1, 400, "The request line does not end with HTTP/1.1.");
    }
    bool spoken = version.data[5] == '1' && (version.data[7] == '0' || version.data[7] == '1');
    return spoken || refuse(http1, 505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.");
}

/* method SP target SP version, single spaces, visible ASCII. */
static bool check_request_line(struct http1 *http1, struct bytes line)
{
    size_t method = token_length(line);
    if (method == 0 || method == line.length || line.data[method] != ' ') {
        return refuse(http1, 400, "The request line does not begin with a method.");
    }
    size_t target = method + 1, end = target;
    while (end < line.length && line.data[end] > ' ' && line.data[end] < 0x7f) {
        end++;
    }
    if (end == target || end == line.length || line.data[end] != ' ') {
        return refuse(http1, 400, "The request target is malformed.");
    }
    if (end - target > HTTP1_TARGET_BYTES_MAX) {
        return refuse(http1, 414, "The request target is too long.");
    }
    if (same_word(bytes_of(line.data, method), "CONNECT")) {
        return refuse(http1, 501, "This is no proxy: CONNECT is not supported.");
    }
    return check_version(http1, bytes_of(line.data + end + 1, line.length - end - 1));
}

/* name ":" OWS value OWS; for headers and trailers. */
static bool check_field_line(struct http1 *http1, struct bytes line)
{
    if (line.data[0] == ' ' || line.data[0] == '\t') {
        return refuse(http1, 400, "Folded header lines are obsolete.");
    }
    size_t name = token_length(line);
    if (name == 0 || name == line.length || line.data[name] != ':') {
        return refuse(http1, 400, "A header line has no valid name.");
    }
    for (size_t i = name + 1; i < line.length; i++) {
        uint8_t byte = line.data[i];
        if ((byte < ' ' && byte != '\t') || byte == 0x7f) {
            return refuse(http1, 400, "A header value holds a control byte.");
        }
    }
    return true;
}

/* The next line without its CRLF; its end, LF included, lies at most `limit` bytes behind `at`. False: it is not whole,
 * or it is refused (state BAD). What is found first in the bytes' order decides, so that pieces make no difference. */
static bool next_line(struct http1 *http1, size_t limit, unsigned long_status, struct bytes *out)
{
    const uint8_t *data = http1->input.data + http1->at;
    size_t length = http1->input.length - http1->at, begin = http1->scanned;
    size_t seen = MIN_OF(length, limit);
    const uint8_t *lf = begin < seen ? memchr(data + begin, '\n', seen - begin) : NULL;
    size_t end = lf == NULL ? seen : (size_t)(lf - data);
    const uint8_t *cr = begin < end ? memchr(data + begin, '\r', end - begin) : NULL;
    size_t line_end = cr == NULL ? end : (size_t)(cr - data);
    if (cr != NULL && line_end + 1 != end) {
        return refuse(http1, 400, "A CR is not followed by LF.");
    }
    if (lf != NULL && cr == NULL) {
        return refuse(http1, 400, "A line ends without CR.");
    }
    if (lf == NULL) {
        http1->scanned = line_end; /* a CR at the end is looked at again */
        return length <= limit ? false : refuse(http1, long_status, "A line or the head is too long.");
    }
    *out = bytes_of(data + http1->line_begin, line_end - http1->line_begin);
    http1->scanned = end + 1;
    return true;
}

static void take(struct http1 *http1, size_t length)
{
    http1->at += length;
    http1->scanned = 0;
    http1->line_begin = 0;
}

/* ---- heads --------------------------------------------------------------------------------------------------------
 */

static int on_url(http_parser *parser, const char *at, size_t length)
{
    struct http1 *http1 = parser->data;
    http1->request.target = bytes_of(at, length); /* the head comes in one piece, so callbacks do, too */
    return 0;
}

static int on_header_field(http_parser *parser, const char *at, size_t length)
{
    struct http1_request *request = &((struct http1 *)parser->data)->request;
    CHECK(request->headers_count < HTTP1_HEADERS_MAX);
    request->headers[request->headers_count++].name = bytes_of(at, length);
    return 0;
}

static int on_header_value(http_parser *parser, const char *at, size_t length)
{
    struct http1_request *request = &((struct http1 *)parser->data)->request;
    CHECK(request->headers_count > 0);
    request->headers[request->headers_count - 1].value = trim(bytes_of(at, length));
    return 0;
}

static int on_headers_complete(http_parser *parser)
{
    struct http1 *http1 = parser->data;
    http1->request.keep_alive = http_should_keep_alive(parser) != 0;
    http1->request.version_minor = parser->http_minor;
    return 1; /* it is shown no body */
}

/* Takes http1->head apart into http1->request. */
static bool parse_head(struct http1 *http1)
{
    http_parser parser;
    http_parser_settings settings;
    http_parser_settings_init(&settings);
    settings.on_url = on_url;
    settings.on_header_field = on_header_field;
    settings.on_header_value = on_header_value;
    settings.on_headers_complete = on_headers_complete;
    http_parser_init(&parser, HTTP_REQUEST);
    parser.data = http1;
    memset(&http1->request, 0, sizeof(http1->request));
    size_t parsed = http_parser_execute(&parser, &settings, (const char *)http1->head.data, http1->head.length);
    enum http_errno number = HTTP_PARSER_ERRNO(&parser);
    if (number == HPE_INVALID_METHOD) {
        return refuse(http1, 501, "The method is not known.");
    }
    if (number != HPE_OK) {
        return refuse(http1, 400, http_errno_description(number));
    }
    if (parsed != http1->head.length) {
        return refuse(http1, 400, "The head is malformed.");
    }
    http1->request.method = bytes_of(http1->head.data, token_length(buf_bytes(&http1->head)));
    return true;
}

/* Decimal digits only, in range; false otherwise. */
static bool parse_length(struct bytes text, uint64_t *out)
{
    if (text.length == 0 || text.length > LENGTH_DIGITS_MAX) {
        return false;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
        value = value * 10 + (text.data[i] - '0');
    }
    *out = value;
    return true;
}

struct framing {
    size_t hosts, lengths, codings, expects;
    struct bytes length, coding, expect;
};

static struct framing find_framing(const struct http1_request *request)
{
    struct framing found = {0};
    for (size_t i = 0; i < request->headers_count; i++) {
        struct bytes name = request->headers[i].name, value = request->headers[i].value;
        if (same_word(name, "host")) {
            found.hosts++;
        } else if (same_word(name, "content-length")) {
            found.lengths++;
            found.length = value;
        } else if (same_word(name, "transfer-encoding")) {
            found.codings++;
            found.coding = value;
        } else if (same_word(name, "expect")) {
            found.expects++;
            found.expect = value;
        }
    }
    return found;
}

static bool enter_coded_body(struct http1 *http1, const struct framing *found)
{
    if (found->lengths > 0) {
        return refuse(http1, 400, "Content-Length and Transfer-Encoding contradict each other.");
    }
    if (http1->request.version_minor == 0) {
        return refuse(http1, 400, "HTTP/1.0 has no Transfer-Encoding.");
    }
    if (found->codings > 1 || !same_word(found->coding, "chunked")) {
        return refuse(http1, 501, "The only Transfer-Encoding supported is chunked.");
    }
    http1->state = IN_CHUNK_SIZE;
    return true;
}

/* Which body follows the head (RFC 9112, 6). */
static bool enter_body(struct http1 *http1)
{
    struct framing found = find_framing(&http1->request);
    if (found.hosts > 1 || (found.hosts == 0 && http1->request.version_minor == 1)) {
        return refuse(http1, 400, "A request has exactly one Host header.");
    }
    if (found.expects > 0 && !same_word(found.expect, "100-continue")) {
        return refuse(http1, 417, "The only expectation supported is 100-continue.");
    }
    http1->left = 0;
    http1->chunk_overhead = 0;
    if (found.codings > 0) {
        if (!enter_coded_body(http1, &found)) {
            return false;
        }
    } else {
        if (found.lengths > 1 || (found.lengths == 1 && !parse_length(found.length, &http1->left))) {
            return refuse(http1, 400, "Content-Length is malformed or comes twice.");
        }
        if (http1->left > http1->body_max) {
            return refuse(http1, 413, "The body is too large.");
        }
        http1->state = http1->left > 0 ? IN_LENGTH : WHOLE;
    }
    http1->request.expect_continue = found.expects > 0 && http1->request.version_minor == 1;
    http1->continue_due = http1->request.expect_continue && http1->state != WHOLE;
    return true;
}

static bool end_head(struct http1 *http1)
{
    buf_clear(&http1->head);
    buf_clear(&http1->body);
    buf_append(&http1->head, http1->input.data + http1->at, http1->scanned);
    CHECK(!http1->head.overflow);
    take(http1, http1->scanned);
    http1->lines = 0;
    http1->empty_lines = 0;
    return parse_head(http1) && enter_body(http1);
}

/* True: a step was made. False: needs more bytes, or BAD. */
static bool step_head(struct http1 *http1)
{
    struct bytes line;
    if (!next_line(http1, HTTP1_HEAD_BYTES_MAX, 431, &line)) {
        return false;
    }
    if (line.length == 0) {
        if (http1->lines > 0) {
            return end_head(http1);
        }
        take(http1, http1->scanned);
        return ++http1->empty_lines <= EMPTY_LINES_MAX || refuse(http1, 400, "There is no request line.");
    }
    if (http1->lines == HTTP1_HEADERS_MAX + 1) {
        return refuse(http1, 431, "There are too many headers.");
    }
    bool fine = http1->lines == 0 ? check_request_line(http1, line) : check_field_line(http1, line);
    http1->lines++;
    http1->line_begin = http1->scanned;
    return fine;
}

/* ---- bodies -------------------------------------------------------------------------------------------------------
 */

static void take_body(struct http1 *http1)
{
    size_t length = MIN_OF(http1->input.length - http1->at, http1->left);
    buf_append(&http1->body, http1->input.data + http1->at, length);
    CHECK(!http1->body.overflow); /* every size was held against the maximum */
    take(http1, length);
    http1->left -= length;
}

static bool step_length(struct http1 *http1)
{
    take_body(http1);
    if (http1->left > 0) {
        return false;
    }
    http1->state = WHOLE;
    return true;
}

static bool hex_digit(uint8_t byte, unsigned *out)
{
    if (byte >= '0' && byte <= '9') {
        *out = byte - '0';
    } else if ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'f') {
        *out = (byte | 0x20u) - 'a' + 10;
    } else {
        return false;
    }
    return true;
}

/* *( BWS ";" BWS name ... ): each begins with a name; what it says is ignored, so the rest is only held to visible
 * bytes. */
static bool check_chunk_extensions(struct http1 *http1, struct bytes text)
{
    enum { SEMICOLON_DUE, NAME_DUE, WITHIN } expected = SEMICOLON_DUE;
    for (size_t i = 0; i < text.length; i++) {
        uint8_t byte = text.data[i];
        bool space = byte == ' ' || byte == '\t';
        bool fits = expected == SEMICOLON_DUE ? byte == ';'
                    : expected == NAME_DUE    ? is_token_byte(byte)
                                              : byte > ' ' && byte != 0x7f;
        if (!space && !fits) {
            return refuse(http1, 400, "A chunk's size or extension is malformed.");
        }
        if (!space) {
            expected = byte == ';' ? NAME_DUE : WITHIN;
        }
    }
    return text.length == 0 || expected == WITHIN || refuse(http1, 400, "A chunk's size or extension is malformed.");
}

/* 1*HEXDIG, then nothing or an extension, which is ignored (RFC 9112, 7.1.1). */
static bool parse_chunk_line(struct http1 *http1, struct bytes line, uint64_t *size)
{
    size_t digits = 0;
    unsigned digit;
    *size = 0;
    while (digits < line.length && hex_digit(line.data[digits], &digit)) {
        *size = *size * 16 + digit;
        if (++digits > CHUNK_DIGITS_MAX) {
            return refuse(http1, 413, "A chunk is too large.");
        }
    }
    if (digits == 0) {
        return refuse(http1, 400, "A chunk has no size.");
    }
    return check_chunk_extensions(http1, bytes_of(line.data + digits, line.length - digits));
}

static bool step_chunk_size(struct http1 *http1)
{
    struct bytes line;
    uint64_t size;
    if (!next_line(http1, CHUNK_LINE_BYTES_MAX, 400, &line) || !parse_chunk_line(http1, line, &size)) {
        return false;
    }
    /* Lines may cost as much as the data they carry, and some more: bytes that make no body are bounded. */
    http1->chunk_overhead += http1->scanned;
    if (http1->chunk_overhead > http1->body.length + CHUNK_LINES_BYTES_MAX) {
        return refuse(http1, 400, "The chunks are too small for what they carry.");
    }
    if (size > http1->body_max - http1->body.length) {
        return refuse(http1, 413, "The body is too large.");
    }
    take(http1, http1->scanned);
    http1->left = size;
    http1->state = size > 0 ? IN_CHUNK_DATA : IN_TRAILER;
    return true;
}

/* The data, then CRLF. */
static bool step_chunk_data(struct http1 *http1)
{
    take_body(http1);
    size_t length = http1->input.length - http1->at;
    const uint8_t *data = http1->input.data + http1->at;
    if (http1->left > 0 || length == 0) {
        return false;
    }
    if (data[0] != '\r' || (length > 1 && data[1] != '\n')) {
        return refuse(http1, 400, "A chunk is longer than its size.");
    }
    if (length == 1) {
        return false;
    }
    take(http1, 2);
    http1->state = IN_CHUNK_SIZE;
    return true;
}

/* Trailer fields are checked like headers and dropped. */
static bool step_trailer(struct http1 *http1)
{
    struct bytes line;
    if (!next_line(http1, HTTP1_HEAD_BYTES_MAX, 431, &line)) {
        return false;
    }
    if (line.length == 0) {
        take(http1, http1->scanned);
        http1->lines = 0;
        http1->state = WHOLE;
        return true;
    }
    if (++http1->lines > HTTP1_HEADERS_MAX) {
        return refuse(http1, 431, "There are too many trailers.");
    }
    http1->line_begin = http1->scanned;
    return check_field_line(http1, line);
}

/* ---- public -------------------------------------------------------------------------------------------------------
 */

struct http1 *http1_new(size_t body_bytes_max)
{
    struct http1 *http1 = mem_new(struct http1);
    http1->body_max = body_bytes_max;
    /* What may wait beside a request that was handed out: one more head and body, and a read's worth. */
    buf_init(&http1->input, HTTP1_HEAD_BYTES_MAX + body_bytes_max + INPUT_BEYOND_MAX);
    buf_init(&http1->head, HTTP1_HEAD_BYTES_MAX);
    buf_init(&http1->body, body_bytes_max);
    return http1;
}

void http1_free(struct http1 *http1)
{
    if (http1 != NULL) {
        buf_free(&http1->input);
        buf_free(&http1->head);
        buf_free(&http1->body);
        mem_free(http1);
    }
}

static bool step(struct http1 *http1)
{
    switch (http1->state) {
    case IN_HEAD:
        return step_head(http1);
    case IN_LENGTH:
        return step_length(http1);
    case IN_CHUNK_SIZE:
        return step_chunk_size(http1);
    case IN_CHUNK_DATA:
        return step_chunk_data(http1);
    case IN_TRAILER:
        return step_trailer(http1);
    case WHOLE:
    case BAD:
        return false;
    }
    UNREACHABLE();
}

static enum http1_result go_on(struct http1 *http1)
{
    if (http1->input.data != NULL) {
        while (step(http1)) {
        }
        buf_consume(&http1->input, http1->at);
        http1->at = 0;
    }
    if (http1->state == WHOLE) {
        http1->continue_due = false;
        http1->request.body = buf_bytes(&http1->body);
        return HTTP1_REQUEST;
    }
    return http1->state == BAD ? HTTP1_BAD : HTTP1_MORE;
}

enum http1_result http1_feed(struct http1 *http1, struct bytes data)
{
    if (http1->state == BAD) {
        return HTTP1_BAD;
    }
    /* In pieces, so that input holds little beyond what can't be taken yet. */
    while (data.length > 0 && http1->state != BAD) {
        size_t length = MIN_OF(data.length, (size_t)INPUT_BEYOND_MAX);
        buf_append(&http1->input, data.data, length);
        if (http1->input.overflow) {
            (void)refuse(http1, 413, "Too much was sent before it was asked for.");
            break;
        }
        data = bytes_of(data.data + length, data.length - length);
        (void)go_on(http1);
    }
    return go_on(http1);
}

/* An idle connection, of which there are thousands, keeps no more than this of an empty buffer. */
static void shrink(struct buf *buffer)
{
    if (buffer->length == 0 && buffer->capacity > BUFFER_KEPT_MAX) {
        size_t max = buffer->max;
        buf_free(buffer);
        buf_init(buffer, max);
    }
}

enum http1_result http1_next(struct http1 *http1)
{
    CHECK(http1->state == WHOLE || http1->state == BAD);
    if (http1->state == WHOLE) {
        http1->state = IN_HEAD;
        buf_clear(&http1->head);
        buf_clear(&http1->body);
        shrink(&http1->body);
        shrink(&http1->input);
        memset(&http1->request, 0, sizeof(http1->request));
    }
    return go_on(http1);
}

const struct http1_request *http1_request(const struct http1 *http1)
{
    CHECK(http1->state == WHOLE);
    return &http1->request;
}

unsigned http1_error_status(const struct http1 *http1)
{
    return http1->error_status;
}

const char *http1_error_text(const struct http1 *http1)
{
    return http1->error_text != NULL ? http1->error_text : "";
}

size_t http1_buffered(const struct http1 *http1)
{
    return http1->input.length - http1->at;
}

bool http1_wants_continue(struct http1 *http1)
{
    bool due = http1->continue_due && http1->state != BAD;
    http1->continue_due = false;
    return due;
}

struct bytes http1_header(const struct http1_request *request, const char *name)
{
    for (size_t i = 0; i < request->headers_count; i++) {
        if (same_word(request->headers[i].name, name)) {
            return request->headers[i].value;
        }
    }
    return (struct bytes){0};
}
