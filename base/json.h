/* json: reading and writing JSON (RFC 8259) over jansson; no other file sees jansson's header.
 *
 * Reading is strict: valid UTF-8, no trailing bytes, no duplicate keys, depth and size bounded. NUL is allowed inside
 * strings, not in keys. An integer that int64_t can't hold reads as a real. Values are owned by their document: one
 * json_free for the tree; a `const struct json *` is borrowed. Writing appends to a buf by hand (json_write_*), for SSE
 * and logs without a tree. Not thread-safe per document. */
#ifndef SHOAL_BASE_JSON_H
#define SHOAL_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/status.h"

enum { JSON_LENGTH_MAX = 256 << 20, JSON_DEPTH_MAX = 200 };

struct json; /* any value; opaque */

enum json_kind { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_INTEGER, JSON_REAL, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* Parses one document. On STATUS_INVALID the error says line, column and why. */
MUST_CHECK enum status json_parse(struct bytes text, struct json **out, struct error *error);
void json_free(struct json *root); /* NULL is fine */

enum json_kind json_kind(const struct json *value);                      /* NULL counts as JSON_NULL */
const struct json *json_get(const struct json *object, const char *key); /* NULL when absent or not an object */
size_t json_count(const struct json *value);                             /* of an array or object, else 0 */
const struct json *json_at(const struct json *array, size_t index);
/* Members in the document's order: start with *iterator = NULL; false at the end. */
bool json_next(const struct json *object, void **iterator, struct bytes *key, const struct json **value);
/* Empty when not a string; zero-terminated besides. (jansson exports functions of these two names, hence the others for
 * the linker.) */
struct bytes json_string(const struct json *value) __asm__("shoal_json_string");
int64_t json_integer(const struct json *value, int64_t otherwise) __asm__("shoal_json_integer");
const char *json_text(const struct json *value); /* NULL when not a string */
bool json_is_string(const struct json *value, const char *text);
double json_number(const struct json *value, double otherwise); /* integers too */
bool json_bool(const struct json *value, bool otherwise);
bool json_is_number(const struct json *value);

void json_write_string(struct buf *out, struct bytes text); /* with quotes; invalid UTF-8 becomes U+FFFD */
void json_write_text(struct buf *out, const char *text);
void json_write_number(struct buf *out, double value); /* shortest that reads back; integers without a point */
void json_write_value(struct buf *out, const struct json *value); /* compact, keys in the document's order */

#endif
