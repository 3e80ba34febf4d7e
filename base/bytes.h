/* bytes: a borrowed (pointer, length) view, and little-endian loads and stores that never read past it.
 *
 * The view owns nothing: its memory belongs to whoever made it and must outlive it. `struct cursor` walks a view;
 * a read past its end sets `bad` once and returns zeros from then on, so a parser may check once at the end of a
 * record and still never touch a byte outside. */
#ifndef SHOAL_BASE_BYTES_H
#define SHOAL_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes {
    const uint8_t *data;
    size_t length;
};

#define BYTES_LITERAL(text) ((struct bytes){(const uint8_t *)(text), sizeof(text) - 1})

struct bytes bytes_of(const void *data, size_t length);
struct bytes bytes_of_text(const char *text); /* without the terminating zero */
bool bytes_equal(struct bytes a, struct bytes b);
int bytes_compare(struct bytes a, struct bytes b); /* lexicographic by unsigned byte, shorter first */
bool bytes_starts_with(struct bytes whole, struct bytes prefix);

struct cursor {
    const uint8_t *data;
    size_t length;
    size_t at;
    bool bad;
};

struct cursor cursor_of(struct bytes bytes);
size_t cursor_left(const struct cursor *cursor);
uint8_t cursor_u8(struct cursor *cursor);
uint16_t cursor_u16le(struct cursor *cursor);
uint32_t cursor_u32le(struct cursor *cursor);
uint64_t cursor_u64le(struct cursor *cursor);
struct bytes cursor_take(struct cursor *cursor, uint64_t length); /* a view into the source; empty and bad when short */
void cursor_skip(struct cursor *cursor, uint64_t length);

void store_u16le(uint8_t *to, uint16_t value);
void store_u32le(uint8_t *to, uint32_t value);
void store_u64le(uint8_t *to, uint64_t value);
uint16_t load_u16le(const uint8_t *from);
uint32_t load_u32le(const uint8_t *from);
uint64_t load_u64le(const uint8_t *from);

#endif
