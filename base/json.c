/* json: a strict reader over jansson, and a writer by hand.
 *
 * `struct json` is jansson's json_t under another name: a cast, no copy. What jansson leaves open is decided here:
 * the text's size, the nesting depth (checked before jansson recurses), integers beyond 64 bits, and how doubles and
 * broken UTF-8 are written. */

/* Both headers name things alike; jansson's step aside, and none of these is called here. */
#define JSON_NULL    JANSSON_NULL
#define JSON_FALSE   JANSSON_FALSE
#define JSON_TRUE    JANSSON_TRUE
#define JSON_INTEGER JANSSON_INTEGER
#define JSON_REAL    JANSSON_REAL
#define JSON_STRING  JANSSON_STRING
#define JSON_ARRAY   JANSSON_ARRAY
#define JSON_OBJECT  JANSSON_OBJECT
#define json_string  jansson_string
#define json_integer jansson_integer
#include <jansson.h>
#undef JSON_NULL
#undef JSON_FALSE
#undef JSON_TRUE
#undef JSON_INTEGER
#undef JSON_REAL
#undef JSON_STRING
#undef JSON_ARRAY
#undef JSON_OBJECT
#undef json_string
#undef json_integer
#undef json_is_number
#undef json_is_string

#include "base/json.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static json_t *inner(const struct json *value)
{
    return (json_t *)(uintptr_t)value; /* jansson isn't const-correct; nothing here changes a tree */
}

static const struct json *outer(const json_t *value)
{
    return (const struct json *)(const void *)value;
}

/* Where the string that opens at `at` ends: behind its closing quote, or the text's end. */
static size_t skip_string(struct bytes text, size_t at)
{
    for (at++; at < text.length && text.data[at] != '"'; at++) {
        if (text.data[at] == '\\')
            at++;
    }
    return at + 1;
}

/* Jansson recurses once per bracket. */
static bool too_deep(struct bytes text)
{
    size_t depth = 0;
    for (size_t i = 0; i < text.length;) {
        uint8_t c = text.data[i];
        if (c == '"') {
            i = skip_string(text, i);
            continue;
        }
        if ((c == '[' || c == '{') && ++depth > JSON_DEPTH_MAX)
            return true;
        if ((c == ']' || c == '}') && depth > 0)
            depth--;
        i++;
    }
    return false;
}

static bool fits_int64(const char *digits, size_t length)
{
    char copy[24];
    if (length >= sizeof copy)
        return false;
    memcpy(copy, digits, length);
    copy[length] = '\0';
    errno = 0;
    strtoll(copy, NULL, 10);
    return errno == 0;
}

/* Appends ".0" to integers beyond int64_t, which makes reals of them: files of real models have such values ("no limit"
 * as 10^30), and RFC 8259 lets a reader choose the nearest double. */
static void widen_integers(struct bytes text, struct buf *out)
{
    for (size_t i = 0; i < text.length;) {
        size_t start = i;
        uint8_t c = text.data[i];
        if (c == '"') {
            i = MIN_OF(skip_string(text, i), text.length);
            buf_append(out, text.data + start, i - start);
            continue;
        }
        if (c != '-' && (c < '0' || c > '9')) {
            buf_append_u8(out, c);
            i++;
            continue;
        }
        bool integer = true;
        for (i++; i < text.length && strchr("0123456789+-.eE", text.data[i]) != NULL && text.data[i] != 0; i++)
            integer = integer && text.data[i] >= '0' && text.data[i] <= '9';
        buf_append(out, text.data + start, i - start);
        if (integer && !fits_int64((const char *)text.data + start, i - start))
            buf_append_text(out, ".0");
    }
}

static json_t *load(struct bytes text, json_error_t *why)
{
    return json_loadb(text.length == 0 ? "" : (const char *)text.data, text.length,
                      JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, why);
}

enum status json_parse(struct bytes text, struct json **out, struct error *error)
{
    if (text.length > JSON_LENGTH_MAX)
        return error_set(error, STATUS_LIMIT, "JSON of %zu bytes is longer than %d", text.length, JSON_LENGTH_MAX);
    if (too_deep(text))
        return error_set(error, STATUS_INVALID, "JSON is nested deeper than %d levels", JSON_DEPTH_MAX);
    /* Jansson takes a NUL behind the value for the text's end, whatever follows it. */
    if (text.length > 0 && memchr(text.data, 0, text.length) != NULL)
        return error_set(error, STATUS_INVALID, "JSON holds a NUL byte");
    json_error_t why;
    json_t *root = load(text, &why);
    if (root == NULL && json_error_code(&why) == json_error_numeric_overflow) {
        struct buf widened;
        buf_init(&widened, text.length * 3);
        widen_integers(text, &widened);
        root = load(buf_bytes(&widened), &why);
        buf_free(&widened);
    }
    if (root == NULL) {
        if (json_error_code(&why) == json_error_out_of_memory)
            return error_set(error, STATUS_NO_MEMORY, "no memory to read JSON of %zu bytes", text.length);
        return error_set(error, STATUS_INVALID, "line %d, column %d: %s", why.line, why.column, why.text);
    }
    *out = (struct json *)(void *)root;
    return STATUS_OK;
}

void json_free(struct json *root)
{
    json_decref(inner(root));
}

enum json_kind json_kind(const struct json *value)
{
    static const enum json_kind kinds[] = {
        [JANSSON_NULL] = JSON_NULL,   [JANSSON_FALSE] = JSON_FALSE,     [JANSSON_TRUE] = JSON_TRUE,
        [JANSSON_REAL] = JSON_REAL,   [JANSSON_INTEGER] = JSON_INTEGER, [JANSSON_STRING] = JSON_STRING,
        [JANSSON_ARRAY] = JSON_ARRAY, [JANSSON_OBJECT] = JSON_OBJECT,
    };
    return value == NULL ? JSON_NULL : kinds[json_typeof(inner(value))];
}

const struct json *json_get(const struct json *object, const char *key)
{
    return outer(json_object_get(inner(object), key));
}

size_t json_count(const struct json *value)
{
    return json_kind(value) == JSON_ARRAY ? json_array_size(inner(value)) : json_object_size(inner(value));
}

const struct json *json_at(const struct json *array, size_t index)
{
    return outer(json_array_get(inner(array), index));
}

bool json_next(const struct json *object, void **iterator, struct bytes *key, const struct json **value)
{
    *iterator = *iterator == NULL ? json_object_iter(inner(object)) : json_object_iter_next(inner(object), *iterator);
    if (*iterator == NULL)
        return false;
    if (key != NULL)
        *key = bytes_of(json_object_iter_key(*iterator), json_object_iter_key_len(*iterator));
    if (value != NULL)
        *value = outer(json_object_iter_value(*iterator));
    return true;
}

struct bytes json_string(const struct json *value)
{
    return bytes_of(json_string_value(inner(value)), json_string_length(inner(value)));
}

const char *json_text(const struct json *value)
{
    return json_string_value(inner(value));
}

bool json_is_string(const struct json *value, const char *text)
{
    return json_kind(value) == JSON_STRING && bytes_equal(json_string(value), bytes_of_text(text));
}

int64_t json_integer(const struct json *value, int64_t otherwise)
{
    return json_kind(value) == JSON_INTEGER ? json_integer_value(inner(value)) : otherwise;
}

double json_number(const struct json *value, double otherwise)
{
    return json_is_number(value) ? json_number_value(inner(value)) : otherwise;
}

bool json_bool(const struct json *value, bool otherwise)
{
    enum json_kind kind = json_kind(value);
    return kind == JSON_TRUE || (kind == JSON_FALSE ? false : otherwise);
}

bool json_is_number(const struct json *value)
{
    enum json_kind kind = json_kind(value);
    return kind == JSON_INTEGER || kind == JSON_REAL;
}

/* The length of the well-formed UTF-8 sequence at `text` (Unicode 15, table 3-7), or 0. On 0, *broken says how many
 * bytes one U+FFFD replaces: the longest prefix of a well-formed sequence, at least one. */
static size_t utf8_sequence(const uint8_t *text, size_t length, size_t *broken)
{
    uint8_t lead = text[0];
    *broken = 1;
    if (lead < 0x80)
        return 1;
    size_t wanted = lead >= 0xc2 && lead <= 0xdf ? 2 : (lead & 0xf0) == 0xe0 ? 3 : lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
    uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    for (size_t i = 1; i < wanted; i++) {
        if (i >= length || text[i] < low || text[i] > high)
            return 0;
        *broken = i + 1;
        low = 0x80;
        high = 0xbf;
    }
    return wanted;
}

static void write_escape(struct buf *out, uint8_t c)
{
    static const char short_escapes[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    for (size_t i = 0; i + 1 < sizeof short_escapes; i += 2) {
        if ((uint8_t)short_escapes[i] == c) {
            buf_append_u8(out, '\\');
            buf_append_u8(out, (uint8_t)short_escapes[i + 1]);
            return;
        }
    }
    buf_printf(out, "\\u%04x", c);
}

void json_write_string(struct buf *out, struct bytes text)
{
    buf_append_u8(out, '"');
    size_t plain = 0; /* where the run that needs no change began */
    for (size_t i = 0; i < text.length;) {
        uint8_t c = text.data[i];
        size_t broken = 1;
        size_t length = utf8_sequence(text.data + i, text.length - i, &broken);
        if (length > 0 && c >= 0x20 && c != '"' && c != '\\') {
            i += length;
            continue;
        }
        buf_append(out, text.data + plain, i - plain);
        if (length == 0)
            buf_append_text(out, "\xef\xbf\xbd");
        else
            write_escape(out, c);
        i += broken;
        plain = i;
    }
    if (plain < text.length) /* empty texts may have no data to point into */
        buf_append(out, text.data + plain, text.length - plain);
    buf_append_u8(out, '"');
}

void json_write_text(struct buf *out, const char *text)
{
    json_write_string(out, bytes_of_text(text));
}

void json_write_number(struct buf *out, double value)
{
    if (!isfinite(value)) {
        buf_append_text(out, "null"); /* JSON has no word for these */
        return;
    }
    if (value == trunc(value) && fabs(value) < 0x1p53 && !(value == 0 && signbit(value))) {
        buf_printf(out, "%" PRId64, (int64_t)value);
        return;
    }
    char text[32];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    buf_append_text(out, text);
    if (strpbrk(text, ".e") == NULL)
        buf_append_text(out, ".0");
}

static void write_array(struct buf *out, const struct json *array)
{
    buf_append_u8(out, '[');
    for (size_t i = 0; i < json_count(array); i++) {
        if (i > 0)
            buf_append_u8(out, ',');
        json_write_value(out, json_at(array, i));
    }
    buf_append_u8(out, ']');
}

static void write_object(struct buf *out, const struct json *object)
{
    void *iterator = NULL;
    struct bytes key;
    const struct json *value;
    const char *before = "";
    buf_append_u8(out, '{');
    while (json_next(object, &iterator, &key, &value)) {
        buf_append_text(out, before);
        json_write_string(out, key);
        buf_append_u8(out, ':');
        json_write_value(out, value);
        before = ",";
    }
    buf_append_u8(out, '}');
}

/* Recurses at most JSON_DEPTH_MAX deep: every tree was parsed here. */
void json_write_value(struct buf *out, const struct json *value)
{
    switch (json_kind(value)) {
    case JSON_NULL:
        buf_append_text(out, "null");
        return;
    case JSON_FALSE:
        buf_append_text(out, "false");
        return;
    case JSON_TRUE:
        buf_append_text(out, "true");
        return;
    case JSON_INTEGER:
        buf_printf(out, "%" PRId64, json_integer(value, 0));
        return;
    case JSON_REAL: {
        /* A real stays one: 1.0 is not written as 1. */
        size_t start = out->length;
        json_write_number(out, json_number(value, 0));
        if (!out->overflow && strpbrk(buf_text(out) + start, ".en") == NULL)
            buf_append_text(out, ".0");
        return;
    }
    case JSON_STRING:
        json_write_string(out, json_string(value));
        return;
    case JSON_ARRAY:
        write_array(out, value);
        return;
    case JSON_OBJECT:
        write_object(out, value);
        return;
    }
    UNREACHABLE();
}
