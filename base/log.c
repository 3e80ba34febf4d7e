/* log: formats one line on the stack and writes it with one write(2).
 *
 * Lines longer than LINE_MAX_BYTES are cut and end in "…". A failing stderr is ignored: logging must never take the
 * process down. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"

enum { LINE_MAX_BYTES = 4096, QUOTED_COUNT = 8, QUOTED_BYTES = 512 };

static atomic_int level_min = LOG_INFO;
static char process[32];

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_init(enum log_level level, const char *process_name)
{
    snprintf(process, sizeof process, "%s", process_name == NULL ? "" : process_name);
    log_set_level(level);
}

void log_set_level(enum log_level level)
{
    CHECK((unsigned)level < COUNT_OF(level_names));
    atomic_store_explicit(&level_min, (int)level, memory_order_relaxed);
}

enum status log_level_parse(const char *text, enum log_level *out)
{
    for (size_t i = 0; i < COUNT_OF(level_names); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return STATUS_OK;
        }
    }
    return STATUS_INVALID;
}

/* snprintf into what is left of the line; answers the new length, at most LINE_MAX_BYTES - 1. */
__attribute__((format(printf, 3, 0))) static size_t put(char *line, size_t length, const char *format, va_list args)
{
    int added = vsnprintf(line + length, LINE_MAX_BYTES - length, format, args);
    if (added < 0)
        return length;
    return MIN_OF(length + (size_t)added, (size_t)LINE_MAX_BYTES - 1);
}

static size_t putf(char *line, size_t length, const char *format, ...) PRINTF_LIKE(3, 4);
static size_t putf(char *line, size_t length, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    length = put(line, length, format, args);
    va_end(args);
    return length;
}

/* UTC with milliseconds, as RFC 3339 has it. */
static size_t put_time(char *line, size_t length)
{
    uint64_t now_us = clock_wall_us();
    time_t seconds = (time_t)(now_us / 1000000);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    return putf(line, length, "ts=%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", parts.tm_year + 1900, parts.tm_mon + 1,
                parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, (int)(now_us / 1000 % 1000));
}

void log_event(enum log_level level, const char *room, const char *event, const char *format, ...)
{
    if ((int)level < atomic_load_explicit(&level_min, memory_order_relaxed))
        return;
    int errno_kept = errno;
    char line[LINE_MAX_BYTES];
    size_t length = put_time(line, 0);
    length = putf(line, length, " level=%s", level_names[level]);
    if (process[0] != '\0')
        length = putf(line, length, " proc=%s", process);
    length = putf(line, length, " room=%s event=%s", room, event);
    if (format[0] != '\0')
        length = putf(line, length, " ");
    va_list args;
    va_start(args, format);
    length = put(line, length, format, args);
    va_end(args);
    if (length == LINE_MAX_BYTES - 1) {
        memcpy(line + LINE_MAX_BYTES - 4, "\xe2\x80\xa6", 3);
        length = LINE_MAX_BYTES - 1;
    }
    /* One event is one line, whatever bytes a text brought along. */
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = ' ';
    }
    line[length++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, length);
    (void)ignored;
    errno = errno_kept;
}

static bool needs_quotes(const char *text)
{
    if (text[0] == '\0')
        return true;
    for (const char *at = text; *at != '\0'; at++) {
        unsigned char c = (unsigned char)*at;
        if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7f)
            return true;
    }
    return false;
}

const char *log_quoted(const char *text)
{
    static _Thread_local char buffers[QUOTED_COUNT][QUOTED_BYTES];
    static _Thread_local unsigned next;
    if (text == NULL)
        return "\"\"";
    char *out = buffers[next++ % QUOTED_COUNT];
    if (!needs_quotes(text)) {
        snprintf(out, QUOTED_BYTES, "%s", text);
        return out;
    }
    size_t length = 0;
    out[length++] = '"';
    for (const char *at = text; *at != '\0' && length < QUOTED_BYTES - 6; at++) {
        char c = *at;
        if (c == '"' || c == '\\')
            out[length++] = '\\';
        if (c == '\n' || c == '\t' || c == '\r') {
            out[length++] = '\\';
            c = c == '\n' ? 'n' : c == '\t' ? 't' : 'r';
        }
        out[length++] = (unsigned char)c < 0x20 || c == 0x7f ? '?' : c;
    }
    out[length++] = '"';
    out[length] = '\0';
    return out;
}
