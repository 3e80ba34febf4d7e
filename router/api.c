/* api: see api.h. */
#include "router/api.h"

#include <strings.h>

#include "base/check.h"

static const struct endpoint {
    const char *path; /* ending in '/': a prefix with a name behind it */
    const char *method;
    enum api_endpoint endpoint;
    bool needs_key;
} endpoints[] = {
    {"/v1/chat/completions", "POST", API_CHAT, true},
    {"/v1/completions", "POST", API_COMPLETIONS, true},
    {"/v1/models", "GET", API_MODELS, true},
    {"/v1/models/", "GET", API_MODEL, true},
    {"/health", "GET", API_HEALTH, false},
    {"/metrics", "GET", API_METRICS, false},
};

static const struct endpoint *find_endpoint(struct bytes path)
{
    for (size_t i = 0; i < COUNT_OF(endpoints); i++) {
        struct bytes known = bytes_of_text(endpoints[i].path);
        bool prefix = known.data[known.length - 1] == '/';
        if (prefix ? bytes_starts_with(path, known) && path.length > known.length : bytes_equal(path, known)) {
            return &endpoints[i];
        }
    }
    return NULL;
}

/* "application/json", whatever parameters follow. An absent type is taken for it, as clients by hand leave it out. */
static bool is_json(struct bytes type)
{
    static const char json[] = "application/json";
    size_t length = sizeof(json) - 1;
    if (type.length == 0) {
        return true;
    }
    if (type.length < length || strncasecmp((const char *)type.data, json, length) != 0) {
        return false;
    }
    return type.length == length || type.data[length] == ';' || type.data[length] == ' ';
}

bool api_resolve(const struct api_http *http, struct api_call *call, struct openai_error *error)
{
    struct bytes path = http->target;
    for (size_t i = 0; i < path.length; i++) {
        if (path.data[i] == '?') {
            path.length = i;
        }
    }
    *call = (struct api_call){0};
    const struct endpoint *endpoint = find_endpoint(path);
    if (endpoint == NULL) {
        return openai_fail(error, 404, "unknown_url", NULL, "Unknown request URL: %.*s %.*s.",
                           (int)MIN_OF(http->method.length, 16U), http->method.data, (int)MIN_OF(path.length, 200U),
                           path.data);
    }
    if (!bytes_equal(http->method, bytes_of_text(endpoint->method))) {
        call->allow = endpoint->method;
        return openai_fail(error, 405, "method_not_supported", NULL, "Not allowed to %.*s on %.*s; use %s.",
                           (int)MIN_OF(http->method.length, 16U), http->method.data, (int)MIN_OF(path.length, 200U),
                           path.data, endpoint->method);
    }
    bool post = bytes_equal(http->method, BYTES_LITERAL("POST"));
    if (post && !is_json(http->content_type)) {
        return openai_fail(error, 415, "unsupported_content_type", NULL,
                           "Unsupported Content-Type: the body must be application/json.");
    }
    size_t known = bytes_of_text(endpoint->path).length;
    call->endpoint = endpoint->endpoint;
    call->needs_key = endpoint->needs_key;
    call->rest = bytes_of(path.data + known, path.length - known);
    return true;
}

bool api_key(const struct api_http *http, struct bytes *key, struct openai_error *error)
{
    static const char scheme[] = "Bearer ";
    size_t length = sizeof(scheme) - 1;
    struct bytes value = http->authorization;
    if (value.length <= length || strncasecmp((const char *)value.data, scheme, length) != 0) {
        return openai_fail(error, 401, NULL, NULL,
                           "You didn't provide an API key. Give it in an Authorization header: 'Authorization: Bearer "
                           "YOUR_KEY'.");
    }
    while (length < value.length && value.data[length] == ' ') {
        length++;
    }
    *key = bytes_of(value.data + length, value.length - length);
    return true;
}

void api_wrong_key(struct openai_error *error)
{
    openai_fail(error, 401, "invalid_api_key", NULL, "Incorrect API key provided.");
}

static int hex_digit(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

bool api_unescape(struct bytes text, char *out, size_t out_size)
{
    size_t length = 0;
    for (size_t i = 0; i < text.length; i++) {
        int value = text.data[i];
        if (value == '%') {
            if (text.length - i < 3) {
                return false;
            }
            int high = hex_digit(text.data[i + 1]), low = hex_digit(text.data[i + 2]);
            value = high * 16 + low;
            if (high < 0 || low < 0 || value == 0) {
                return false;
            }
            i += 2;
        }
        if (length + 1 >= out_size) {
            return false;
        }
        out[length++] = (char)value;
    }
    out[length] = 0;
    return true;
}
