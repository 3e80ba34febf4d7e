/* openai_messages: the messages of a chat, checked and made uniform for the template; see openai_request.h. */
#include <stdio.h>

#include "base/check.h"
#include "router/openai_request.h"

/* A role as it is written for the template; NULL: not known here. */
static const char *role_of(const struct json *role)
{
    static const char *const roles[][2] = {
        {"system", "system"}, {"developer", "system"}, {"user", "user"}, {"assistant", "assistant"}};
    for (size_t i = 0; i < COUNT_OF(roles); i++) {
        if (json_is_string(role, roles[i][0])) {
            return roles[i][1];
        }
    }
    return NULL;
}

static bool write_part(const struct json *part, const char *at, struct buf *text, struct openai_error *error)
{
    char param[OPENAI_PARAM_MAX];
    if (json_kind(part) != JSON_OBJECT) {
        return openai_wrong_type(error, at, "an object", openai_kind_name(part));
    }
    const struct json *type = json_get(part, "type");
    if (!json_is_string(type, "text")) {
        (void)snprintf(param, sizeof(param), "%s.type", at);
        return openai_fail(error, 400, "invalid_value", param, "Invalid value: '%.64s'. Supported values are: 'text'.",
                           json_text(type) != NULL ? json_text(type) : "(none)");
    }
    const struct json *value = json_get(part, "text");
    if (json_kind(value) != JSON_STRING) {
        (void)snprintf(param, sizeof(param), "%s.text", at);
        return openai_wrong_type(error, param, "a string", openai_kind_name(value));
    }
    buf_append_bytes(text, json_string(value));
    return true;
}

static bool write_parts(const struct json *parts, const char *at, struct buf *out, struct openai_error *error)
{
    struct buf text;
    buf_init(&text, JSON_LENGTH_MAX);
    bool ok = true;
    for (size_t i = 0; ok && i < json_count(parts); i++) {
        char param[OPENAI_PARAM_MAX - 8];
        (void)snprintf(param, sizeof(param), "%s[%zu]", at, i);
        if (i > 0) {
            buf_append_u8(&text, '\n');
        }
        ok = write_part(json_at(parts, i), param, &text, error);
    }
    if (ok) {
        json_write_string(out, buf_bytes(&text));
    }
    buf_free(&text);
    return ok;
}

/* null is what an assistant's message with tool calls has; elsewhere it is an error of the client's. */
static bool write_content(const struct json *content, bool null_allowed, const char *at, struct buf *out,
                          struct openai_error *error)
{
    char param[OPENAI_PARAM_MAX - 32];
    (void)snprintf(param, sizeof(param), "%s.content", at);
    switch (json_kind(content)) {
    case JSON_STRING:
        json_write_string(out, json_string(content));
        return true;
    case JSON_ARRAY:
        return write_parts(content, param, out, error);
    case JSON_NULL:
        if (null_allowed) {
            buf_append_text(out, "null");
            return true;
        }
        /* fall through */
    default:
        return openai_wrong_type(error, param, "a string or an array of content parts", openai_kind_name(content));
    }
}

/* Members beside role and content: name goes to the template, empty ones of tool use are dropped, others refused. */
static bool write_others(const struct json *message, const char *at, struct buf *out, struct openai_error *error)
{
    void *iterator = NULL;
    struct bytes key;
    const struct json *value;
    while (json_next(message, &iterator, &key, &value)) {
        if (bytes_equal(key, BYTES_LITERAL("role")) || bytes_equal(key, BYTES_LITERAL("content")) ||
            json_kind(value) == JSON_NULL) {
            continue;
        }
        char param[OPENAI_PARAM_MAX];
        (void)snprintf(param, sizeof(param), "%.40s.%.*s", at, (int)MIN_OF(key.length, 48U), key.data);
        if (bytes_equal(key, BYTES_LITERAL("name"))) {
            if (json_kind(value) != JSON_STRING) {
                return openai_wrong_type(error, param, "a string", openai_kind_name(value));
            }
            buf_append_text(out, ",\"name\":");
            json_write_string(out, json_string(value));
            continue;
        }
        bool list = bytes_equal(key, BYTES_LITERAL("tool_calls")) || bytes_equal(key, BYTES_LITERAL("annotations"));
        if (!(list && json_kind(value) == JSON_ARRAY && json_count(value) == 0)) {
            return openai_unsupported(error, param, "is not supported");
        }
    }
    return true;
}

static bool write_message(const struct json *message, size_t index, struct buf *out, struct openai_error *error)
{
    char at[32], param[OPENAI_PARAM_MAX];
    (void)snprintf(at, sizeof(at), "messages[%zu]", index);
    if (json_kind(message) != JSON_OBJECT) {
        return openai_wrong_type(error, at, "an object", openai_kind_name(message));
    }
    (void)snprintf(param, sizeof(param), "%s.role", at);
    const struct json *role = json_get(message, "role");
    if (json_kind(role) == JSON_NULL) {
        return openai_missing(error, param);
    }
    const char *name = role_of(role);
    if (name == NULL) {
        return openai_fail(error, 400, "invalid_value", param,
                           "Invalid value: '%.64s'. Supported values are: 'system', 'developer', 'user', and "
                           "'assistant'.",
                           json_text(role) != NULL ? json_text(role) : openai_kind_name(role));
    }
    buf_append_text(out, "{\"role\":");
    json_write_text(out, name);
    buf_append_text(out, ",\"content\":");
    if (!write_content(json_get(message, "content"), json_is_string(role, "assistant"), at, out, error) ||
        !write_others(message, at, out, error)) {
        return false;
    }
    buf_append_u8(out, '}');
    return true;
}

bool openai_messages_write(const struct json *messages, struct buf *out, struct openai_error *error)
{
    if (json_kind(messages) != JSON_ARRAY) {
        return openai_wrong_type(error, "messages", "an array of objects", openai_kind_name(messages));
    }
    if (json_count(messages) == 0) {
        return openai_fail(error, 400, "empty_array", "messages",
                           "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty "
                           "array instead.");
    }
    buf_append_u8(out, '[');
    for (size_t i = 0; i < json_count(messages); i++) {
        if (i > 0) {
            buf_append_u8(out, ',');
        }
        if (!write_message(json_at(messages, i), i, out, error)) {
            return false;
        }
    }
    buf_append_u8(out, ']');
    return true;
}
