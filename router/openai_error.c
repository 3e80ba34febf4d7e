/* openai_error: see openai_error.h. Types by status, as the public API has them. */
#include "router/openai_error.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "base/json.h"

static const char *type_of_status(unsigned http_status)
{
    switch (http_status) {
    case 429:
        return "rate_limit_error";
    case 500:
    case 503:
        return "server_error";
    default:
        return "invalid_request_error";
    }
}

static void fill(struct openai_error *error, unsigned http_status, const char *code, const char *param,
                 const char *format, va_list args)
{
    error->http_status = http_status;
    error->type = type_of_status(http_status);
    error->code = code;
    error->retry_after_s = 0;
    (void)snprintf(error->param, sizeof(error->param), "%s", param != NULL ? param : "");
    (void)vsnprintf(error->message, sizeof(error->message), format, args);
}

bool openai_fail(struct openai_error *error, unsigned http_status, const char *code, const char *param,
                 const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(error, http_status, code, param, format, args);
    va_end(args);
    return false;
}

bool openai_missing(struct openai_error *error, const char *param)
{
    return openai_fail(error, 400, "missing_required_parameter", param, "Missing required parameter: '%s'.", param);
}

bool openai_wrong_type(struct openai_error *error, const char *param, const char *expected, const char *got)
{
    return openai_fail(error, 400, "invalid_type", param, "Invalid type for '%s': expected %s, but got %s instead.",
                       param, expected, got);
}

bool openai_unsupported(struct openai_error *error, const char *param, const char *why)
{
    return openai_fail(error, 400, "unsupported_parameter", param, "Unsupported parameter: '%s' %s.", param, why);
}

bool openai_unavailable(struct openai_error *error, unsigned retry_after_s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(error, 503, "service_unavailable", NULL, format, args);
    va_end(args);
    error->retry_after_s = retry_after_s;
    return false;
}

static void write_text_or_null(struct buf *out, const char *text)
{
    if (text == NULL || text[0] == 0) {
        buf_append_text(out, "null");
    } else {
        json_write_text(out, text);
    }
}

void openai_write_error(struct buf *out, const struct openai_error *error)
{
    buf_append_text(out, "{\"error\":{\"message\":");
    json_write_text(out, error->message);
    buf_append_text(out, ",\"type\":");
    json_write_text(out, error->type);
    buf_append_text(out, ",\"param\":");
    write_text_or_null(out, error->param);
    buf_append_text(out, ",\"code\":");
    write_text_or_null(out, error->code);
    buf_append_text(out, "}}");
}
