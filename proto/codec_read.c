/* codec_read: see codec_read.h. */
#include "proto/codec_read.h"

#include <string.h>

#include "base/check.h"

enum { SKIP_DEPTH_MAX = 8 };

static uint64_t take_be(struct cursor *cursor, unsigned width)
{
    struct bytes raw = cursor_take(cursor, width);
    uint64_t value = 0;
    for (size_t i = 0; i < raw.length; i++) {
        value = value << 8 | raw.data[i];
    }
    return value;
}

static void read_signed(struct cursor *cursor, unsigned width, struct codec_item *out)
{
    unsigned unused_bits = 64 - 8 * width;
    int64_t value = (int64_t)(take_be(cursor, width) << unused_bits) >> unused_bits;
    if (value < 0) {
        out->type = CODEC_NEGATIVE;
        out->negative = value;
    } else {
        out->type = CODEC_UINT;
        out->number = (uint64_t)value;
    }
}

static void read_float(struct cursor *cursor, unsigned width, struct codec_item *out)
{
    uint64_t bits = take_be(cursor, width);
    out->type = CODEC_FLOAT;
    if (width == 4) {
        uint32_t bits32 = (uint32_t)bits;
        float value;
        memcpy(&value, &bits32, sizeof(value));
        out->real = (double)value;
    } else {
        memcpy(&out->real, &bits, sizeof(out->real));
    }
}

static void read_bytes(struct cursor *cursor, enum codec_type type, uint64_t length, struct codec_item *out)
{
    out->type = type;
    if (type == CODEC_EXT) {
        cursor_skip(cursor, 1); /* the application's type, of which shoal has none */
    }
    out->bytes = cursor_take(cursor, length);
}

static void read_container(struct cursor *cursor, enum codec_type type, uint64_t count, struct codec_item *out)
{
    uint64_t bytes_min = type == CODEC_MAP ? 2 * count : count;
    out->type = type;
    out->count = (uint32_t)count;
    if (bytes_min > cursor_left(cursor)) {
        cursor->bad = true;
    }
}

/* Types whose first byte carries a value or a length itself; false: not one of them. */
static bool read_fix(struct cursor *cursor, uint8_t first, struct codec_item *out)
{
    if (first <= 0x7f) {
        out->type = CODEC_UINT;
        out->number = first;
    } else if (first <= 0x8f) {
        read_container(cursor, CODEC_MAP, first & 0x0f, out);
    } else if (first <= 0x9f) {
        read_container(cursor, CODEC_ARRAY, first & 0x0f, out);
    } else if (first <= 0xbf) {
        read_bytes(cursor, CODEC_STR, first & 0x1f, out);
    } else if (first >= 0xe0) {
        out->type = CODEC_NEGATIVE;
        out->negative = (int64_t)first - 0x100;
    } else {
        return false;
    }
    return true;
}

static void read_wide(struct cursor *cursor, uint8_t first, struct codec_item *out)
{
    switch (first) {
    case 0xc0:
        out->type = CODEC_NIL;
        break;
    case 0xc2:
    case 0xc3:
        out->type = CODEC_BOOL;
        out->boolean = first == 0xc3;
        break;
    case 0xc4:
    case 0xc5:
    case 0xc6: /* bin 8, 16, 32 */
        read_bytes(cursor, CODEC_BIN, take_be(cursor, 1u << (first - 0xc4)), out);
        break;
    case 0xc7:
    case 0xc8:
    case 0xc9: /* ext 8, 16, 32 */
        read_bytes(cursor, CODEC_EXT, take_be(cursor, 1u << (first - 0xc7)), out);
        break;
    case 0xca:
    case 0xcb:
        read_float(cursor, first == 0xca ? 4 : 8, out);
        break;
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf: /* uint 8 to 64 */
        out->type = CODEC_UINT;
        out->number = take_be(cursor, 1u << (first - 0xcc));
        break;
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3: /* int 8 to 64 */
        read_signed(cursor, 1u << (first - 0xd0), out);
        break;
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8: /* fixext 1 to 16 */
        read_bytes(cursor, CODEC_EXT, 1u << (first - 0xd4), out);
        break;
    case 0xd9:
    case 0xda:
    case 0xdb: /* str 8, 16, 32 */
        read_bytes(cursor, CODEC_STR, take_be(cursor, 1u << (first - 0xd9)), out);
        break;
    case 0xdc:
    case 0xdd: /* array 16, 32 */
        read_container(cursor, CODEC_ARRAY, take_be(cursor, first == 0xdc ? 2 : 4), out);
        break;
    case 0xde:
    case 0xdf: /* map 16, 32 */
        read_container(cursor, CODEC_MAP, take_be(cursor, first == 0xde ? 2 : 4), out);
        break;
    default: /* 0xc1 is never used */
        cursor->bad = true;
        break;
    }
}

enum status codec_read(struct cursor *cursor, struct codec_item *out)
{
    struct codec_item item = {0};
    uint8_t first = cursor_u8(cursor);
    if (!cursor->bad && !read_fix(cursor, first, &item)) {
        read_wide(cursor, first, &item);
    }
    if (cursor->bad) {
        return STATUS_INVALID;
    }
    *out = item;
    return STATUS_OK;
}

enum status codec_skip(struct cursor *cursor, unsigned depth_max)
{
    CHECK(depth_max <= SKIP_DEPTH_MAX);
    uint64_t open[SKIP_DEPTH_MAX + 1] = {1}; /* items still to come at each level */
    unsigned depth = 0;
    for (;;) {
        while (open[depth] == 0) {
            if (depth == 0) {
                return STATUS_OK;
            }
            depth--;
        }
        struct codec_item item;
        enum status status = codec_read(cursor, &item);
        if (status != STATUS_OK) {
            return status;
        }
        open[depth]--;
        if (item.type != CODEC_ARRAY && item.type != CODEC_MAP) {
            continue;
        }
        if (depth == depth_max) {
            return STATUS_LIMIT;
        }
        depth++;
        open[depth] = item.type == CODEC_MAP ? 2 * (uint64_t)item.count : item.count;
    }
}

const char *codec_type_name(enum codec_type type)
{
    static const char *const names[] = {[CODEC_NIL] = "nil",         [CODEC_BOOL] = "a boolean",
                                        [CODEC_UINT] = "an integer", [CODEC_NEGATIVE] = "a negative integer",
                                        [CODEC_FLOAT] = "a float",   [CODEC_STR] = "a string",
                                        [CODEC_BIN] = "bytes",       [CODEC_EXT] = "an extension",
                                        [CODEC_ARRAY] = "an array",  [CODEC_MAP] = "a map"};
    return names[type];
}

/* Bytes that the character starting at `at` takes; 0: not one (Unicode 15, table 3-7). */
static size_t character_bytes(const uint8_t *at, size_t left)
{
    uint8_t first = at[0];
    if (first < 0x80) {
        return first != 0;
    }
    size_t length = first >= 0xc2 && first <= 0xdf   ? 2
                    : (first & 0xf0) == 0xe0         ? 3
                    : first >= 0xf0 && first <= 0xf4 ? 4
                                                     : 0;
    if (length == 0 || length > left) {
        return 0;
    }
    uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (at[1] < low || at[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return length;
}

bool codec_is_text(struct bytes bytes)
{
    for (size_t at = 0; at < bytes.length;) {
        size_t length = character_bytes(bytes.data + at, bytes.length - at);
        if (length == 0) {
            return false;
        }
        at += length;
    }
    return true;
}
