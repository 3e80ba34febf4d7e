/* status: names of the statuses, and filling `struct error`.
 *
 * Texts longer than ERROR_TEXT_MAX are cut, never overrun. Nothing here allocates, so an error can be told even when
 * memory has run out. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

static const char *const status_names[STATUS_COUNT] = {
    [STATUS_OK] = "ok",
    [STATUS_AGAIN] = "again",
    [STATUS_FULL] = "full",
    [STATUS_INVALID] = "invalid",
    [STATUS_UNSUPPORTED] = "unsupported",
    [STATUS_LIMIT] = "limit",
    [STATUS_NOT_FOUND] = "not_found",
    [STATUS_EXISTS] = "exists",
    [STATUS_DENIED] = "denied",
    [STATUS_CONFLICT] = "conflict",
    [STATUS_NO_MEMORY] = "no_memory",
    [STATUS_IO] = "io",
    [STATUS_CORRUPT] = "corrupt",
    [STATUS_TIMEOUT] = "timeout",
    [STATUS_CANCELLED] = "cancelled",
    [STATUS_CLOSED] = "closed",
    [STATUS_UNREACHABLE] = "unreachable",
    [STATUS_NOT_LEADER] = "not_leader",
    [STATUS_BUSY] = "busy",
};

const char *status_name(enum status status)
{
    if ((unsigned)status >= STATUS_COUNT)
        return "unknown";
    return status_names[status];
}

enum status error_set(struct error *error, enum status status, const char *format, ...)
{
    if (error == NULL)
        return status;
    error->status = status;
    va_list args;
    va_start(args, format);
    vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    return status;
}

enum status error_set_errno(struct error *error, enum status status, int errno_value, const char *format, ...)
{
    if (error == NULL)
        return status;
    error->status = status;
    va_list args;
    va_start(args, format);
    vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    char reason_space[128];
    const char *reason = strerror_r(errno_value, reason_space, sizeof reason_space);
    size_t used = strlen(error->text);
    snprintf(error->text + used, sizeof error->text - used, ": %s", reason);
    return status;
}

void error_prefix(struct error *error, const char *format, ...)
{
    if (error == NULL)
        return;
    char text[ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t prefix_length = strlen(text);
    if (prefix_length > sizeof text - 3)
        prefix_length = sizeof text - 3;
    memcpy(text + prefix_length, ": ", 3);
    prefix_length += 2;
    size_t length = strlen(error->text);
    if (length > sizeof error->text - 1 - prefix_length)
        length = sizeof error->text - 1 - prefix_length;
    CHECK(prefix_length + length < sizeof error->text);
    memmove(error->text + prefix_length, error->text, length);
    memcpy(error->text, text, prefix_length);
    error->text[prefix_length + length] = '\0';
}
