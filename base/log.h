/* log: one logfmt line per event on stderr: ts level room event key=value… req=…
 *
 * Levels are filtered by log_level (option --log-level, or SHOAL_LOG). Lines are written with one write(2), so lines
 * of threads and processes sharing a file never mix. No prompt text and no secret may be logged. Thread-safe. */
#ifndef SHOAL_BASE_LOG_H
#define SHOAL_BASE_LOG_H

#include "base/status.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_init(enum log_level level, const char *process_name); /* name: shows as proc=… ; copied */
void log_set_level(enum log_level level);
/* "debug", "info", "warn" or "error"; anything else is STATUS_INVALID. */
MUST_CHECK enum status log_level_parse(const char *text, enum log_level *out);

/* `format` makes the key=value part; quote texts with %s through log_quoted when they may hold spaces. */
void log_event(enum log_level level, const char *room, const char *event, const char *format, ...) PRINTF_LIKE(4, 5);
const char *log_quoted(const char *text); /* a quoted copy in one of 8 rotating thread-local buffers */

#define LOG_D(room, event, ...) log_event(LOG_DEBUG, room, event, __VA_ARGS__)
#define LOG_I(room, event, ...) log_event(LOG_INFO, room, event, __VA_ARGS__)
#define LOG_W(room, event, ...) log_event(LOG_WARN, room, event, __VA_ARGS__)
#define LOG_E(room, event, ...) log_event(LOG_ERROR, room, event, __VA_ARGS__)

#endif
