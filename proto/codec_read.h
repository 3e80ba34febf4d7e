/* codec_read: one msgpack item at a time from a bounded cursor (https://github.com/msgpack/msgpack spec, 2013 edition).
 *
 * Reads every encoding of every type, allocates nothing, and believes no length that the bytes left cannot hold: an
 * array of n items needs n more bytes at least, a map of n pairs 2n. Inside proto/ only. Pure. */
#ifndef SHOAL_PROTO_CODEC_READ_H
#define SHOAL_PROTO_CODEC_READ_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"

enum codec_type {
    CODEC_NIL,
    CODEC_BOOL,
    CODEC_UINT, /* any integer that is not negative, whichever its encoding */
    CODEC_NEGATIVE,
    CODEC_FLOAT,
    CODEC_STR,
    CODEC_BIN,
    CODEC_EXT,
    CODEC_ARRAY, /* the items follow */
    CODEC_MAP    /* the pairs follow */
};

struct codec_item {
    enum codec_type type;
    union {
        bool boolean;
        uint64_t number; /* CODEC_UINT */
        int64_t negative;
        double real;
        struct bytes bytes; /* STR, BIN, EXT (without its type byte): a view */
        uint32_t count;     /* items of ARRAY, pairs of MAP */
    };
};

/* STATUS_INVALID: the bytes end before the item does (or could), or 0xc1. The cursor is then unusable. */
MUST_CHECK enum status codec_read(struct cursor *cursor, struct codec_item *out);
/* Steps over one item with all that is in it, without recursion. STATUS_LIMIT: nested deeper than depth_max <= 8. */
MUST_CHECK enum status codec_skip(struct cursor *cursor, unsigned depth_max);
const char *codec_type_name(enum codec_type type);
/* Strict: no surrogates, no overlong forms, nothing above U+10FFFF, no NUL. */
bool codec_is_text(struct bytes bytes);

#endif
