/* bytes: views, the bounded cursor, and byte order by shifts.
 *
 * Compilers turn the shifts into single loads on little-endian machines; on big-endian ones they stay right. */
#include "base/bytes.h"

#include <string.h>

#include "base/check.h"

struct bytes bytes_of(const void *data, size_t length)
{
    return (struct bytes){data, length};
}

struct bytes bytes_of_text(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

int bytes_compare(struct bytes a, struct bytes b)
{
    size_t common = MIN_OF(a.length, b.length);
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    if (order != 0)
        return order < 0 ? -1 : 1;
    return (a.length > b.length) - (a.length < b.length);
}

bool bytes_starts_with(struct bytes whole, struct bytes prefix)
{
    return whole.length >= prefix.length && (prefix.length == 0 || memcmp(whole.data, prefix.data, prefix.length) == 0);
}

struct cursor cursor_of(struct bytes bytes)
{
    return (struct cursor){.data = bytes.data, .length = bytes.length};
}

size_t cursor_left(const struct cursor *cursor)
{
    CHECK(cursor->at <= cursor->length);
    return cursor->length - cursor->at;
}

/* The next `length` bytes, or NULL, and the cursor goes bad and stands at the end. */
static const uint8_t *advance(struct cursor *cursor, uint64_t length)
{
    if (cursor->bad || length > cursor_left(cursor)) {
        cursor->bad = true;
        cursor->at = cursor->length;
        return NULL;
    }
    const uint8_t *from = cursor->data + cursor->at;
    cursor->at += (size_t)length;
    return from;
}

uint8_t cursor_u8(struct cursor *cursor)
{
    const uint8_t *from = advance(cursor, 1);
    return from == NULL ? 0 : from[0];
}

uint16_t cursor_u16le(struct cursor *cursor)
{
    const uint8_t *from = advance(cursor, 2);
    return from == NULL ? 0 : load_u16le(from);
}

uint32_t cursor_u32le(struct cursor *cursor)
{
    const uint8_t *from = advance(cursor, 4);
    return from == NULL ? 0 : load_u32le(from);
}

uint64_t cursor_u64le(struct cursor *cursor)
{
    const uint8_t *from = advance(cursor, 8);
    return from == NULL ? 0 : load_u64le(from);
}

struct bytes cursor_take(struct cursor *cursor, uint64_t length)
{
    if (length == 0 && !cursor->bad)
        return (struct bytes){cursor->data, 0};
    const uint8_t *from = advance(cursor, length);
    return from == NULL ? (struct bytes){NULL, 0} : (struct bytes){from, (size_t)length};
}

void cursor_skip(struct cursor *cursor, uint64_t length)
{
    if (length > 0)
        (void)advance(cursor, length);
}

void store_u16le(uint8_t *to, uint16_t value)
{
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
}

void store_u32le(uint8_t *to, uint32_t value)
{
    store_u16le(to, (uint16_t)value);
    store_u16le(to + 2, (uint16_t)(value >> 16));
}

void store_u64le(uint8_t *to, uint64_t value)
{
    store_u32le(to, (uint32_t)value);
    store_u32le(to + 4, (uint32_t)(value >> 32));
}

uint16_t load_u16le(const uint8_t *from)
{
    return (uint16_t)(from[0] | (uint16_t)(from[1] << 8));
}

uint32_t load_u32le(const uint8_t *from)
{
    return load_u16le(from) | (uint32_t)load_u16le(from + 2) << 16;
}

uint64_t load_u64le(const uint8_t *from)
{
    return load_u32le(from) | (uint64_t)load_u32le(from + 4) << 32;
}
