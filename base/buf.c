/* buf: growth by doubling up to the maximum.
 *
 * The hidden terminating zero is why capacity is always at least length + 1. */
#include "base/buf.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

enum { CAPACITY_FIRST = 64 };

void buf_init(struct buf *buf, size_t max)
{
    CHECK(max < SIZE_MAX / 2);
    *buf = (struct buf){.max = max};
}

void buf_free(struct buf *buf)
{
    mem_free(buf->data);
    *buf = (struct buf){.max = buf->max};
}

void buf_clear(struct buf *buf)
{
    buf->length = 0;
    buf->overflow = false;
    if (buf->data != NULL)
        buf->data[0] = 0;
}

uint8_t *buf_reserve(struct buf *buf, size_t length)
{
    if (buf->overflow || length > buf->max - buf->length) {
        buf->overflow = true;
        return NULL;
    }
    size_t needed = buf->length + length + 1;
    if (needed > buf->capacity) {
        size_t capacity = MAX_OF(buf->capacity * 2, (size_t)CAPACITY_FIRST);
        capacity = MAX_OF(MIN_OF(capacity, buf->max + 1), needed);
        buf->data = mem_realloc_array(buf->data, capacity, 1);
        buf->capacity = capacity;
    }
    /* Zeros at both ends: nothing filled yet, and everything filled, are C strings. */
    buf->data[buf->length] = 0;
    buf->data[buf->length + length] = 0;
    return buf->data + buf->length;
}

void buf_append(struct buf *buf, const void *data, size_t length)
{
    if (length == 0)
        return;
    uint8_t *to = buf_reserve(buf, length);
    if (to == NULL)
        return;
    memcpy(to, data, length);
    buf->length += length;
}

void buf_append_bytes(struct buf *buf, struct bytes bytes)
{
    buf_append(buf, bytes.data, bytes.length);
}

void buf_append_text(struct buf *buf, const char *text)
{
    buf_append(buf, text, strlen(text));
}

void buf_append_u8(struct buf *buf, uint8_t value)
{
    buf_append(buf, &value, 1);
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    buf_vprintf(buf, format, args);
    va_end(args);
}

void buf_vprintf(struct buf *buf, const char *format, va_list args)
{
    va_list measured;
    va_copy(measured, args);
    int length = vsnprintf(NULL, 0, format, measured);
    va_end(measured);
    CHECK(length >= 0);
    uint8_t *to = buf_reserve(buf, (size_t)length);
    if (to == NULL)
        return;
    vsnprintf((char *)to, (size_t)length + 1, format, args);
    buf->length += (size_t)length;
}

void buf_consume(struct buf *buf, size_t length)
{
    CHECK(length <= buf->length);
    if (length == 0)
        return;
    memmove(buf->data, buf->data + length, buf->length - length);
    buf->length -= length;
    buf->data[buf->length] = 0;
}

struct bytes buf_bytes(const struct buf *buf)
{
    return (struct bytes){buf->data, buf->length};
}

const char *buf_text(const struct buf *buf)
{
    return buf->data == NULL ? "" : (const char *)buf->data;
}
