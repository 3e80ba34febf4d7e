/* json: a strict reader over jansson, and a writer by hand.
 *
 * `struct json` is jansson's json_t under another name: a cast, no copy. What jansson leaves open is decided here:
 * the text's size, the nesting depth (checked before jansson recurses), and how doubles are written. */
#include "base/json.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

enum { DEPTH_MAX = 200 };

static const json_t *inner(const struct json *value)
{
    return (const json_t *)(const void *)value;
}

static const struct json *outer(const json_t *value)
{
    return (const struct json *)(const void *)value;
}

/* The deepest nesting of brackets outside strings; jansson recurses once per level. */
static size_t depth_of(struct bytes text)
{
    size_t depth = 0, deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.length; i++) {
        uint8_t c = text.data[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            depth++;
            deepest = MAX_OF(deepest, depth);
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return deepest;
}

enum status json_parse(struct bytes text, struct json **out, struct error *error)
{
    if (text.length > JSON_LENGTH_MAX)
        return error_set(error, STATUS_LIMIT, "JSON text of %zu bytes is longer than %zu", text.length,
                         (size_t)JSON_LENGTH_MAX);
    if (depth_of(text) > DEPTH_MAX)
        return error_set(error, STATUS_INVALID, "JSON is nested deeper than %d levels", DEPTH_MAX);
    json_error_t why;
    json_t *root = json_loadb(text.length == 0 ? "" : (const char *)text.data, text.length,
                              JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
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
    json_decref((json_t *)(void *)root);
}

enum json_kind json_kind(const struct json *value)
{
    if (value == NULL)
        return JSON_KIND_NULL;
    switch (json_typeof(inner(value))) {
    case JSON_OBJECT:
        return JSON_KIND_OBJECT;
    case JSON_ARRAY:
        return JSON_KIND_ARRAY;
    case JSON_STRING:
        return JSON_KIND_STRING;
    case JSON_INTEGER:
        return JSON_KIND_INTEGER;
    case JSON_REAL:
        return JSON_KIND_REAL;
    case JSON_TRUE:
        return JSON_KIND_TRUE;
    case JSON_FALSE:
        return JSON_KIND_FALSE;
    case JSON_NULL:
        return JSON_KIND_NULL;
    }
    UNREACHABLE();
}

const struct json *json_get(const struct json *object, const char *key)
{
    return object == NULL ? NULL : outer(json_object_get(inner(object), key));
}
