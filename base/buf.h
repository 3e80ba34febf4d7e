/* buf: a growable byte buffer with a maximum.
 *
 * Appending past `max` sets `overflow` and changes nothing else, so a writer may append a whole message and check
 * once. Owns its memory; buf_free returns it. Always keeps one zero byte behind `length`, so `data` may be read as a
 * C string when it holds text. Not thread-safe. */
#ifndef SHOAL_BASE_BUF_H
#define SHOAL_BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"

struct buf {
    uint8_t *data; /* NULL until the first append */
    size_t length;
    size_t capacity;
    size_t max;
    bool overflow;
};

void buf_init(struct buf *buf, size_t max);
void buf_free(struct buf *buf);
void buf_clear(struct buf *buf); /* keeps the memory; clears overflow */
void buf_append(struct buf *buf, const void *data, size_t length);
void buf_append_bytes(struct buf *buf, struct bytes bytes);
void buf_append_text(struct buf *buf, const char *text);
void buf_append_u8(struct buf *buf, uint8_t value);
void buf_printf(struct buf *buf, const char *format, ...) PRINTF_LIKE(2, 3);
void buf_vprintf(struct buf *buf, const char *format, va_list args);
uint8_t *buf_reserve(struct buf *buf, size_t length); /* room behind length, NULL on overflow; add to length yourself */
void buf_consume(struct buf *buf, size_t length);     /* drops from the front */
struct bytes buf_bytes(const struct buf *buf);
const char *buf_text(const struct buf *buf); /* "" when empty */

#endif
