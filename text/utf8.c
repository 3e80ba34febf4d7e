/* utf8: decoding by the table of well-formed sequences (Unicode 15, table 3-7).
 *
 * What follows a lead byte is fully described by the range of the second byte; all further ones are 80..BF. The same
 * table gives the maximal ill-formed part, so validation and replacement cannot disagree. */
#include "text/utf8.h"

#include <string.h>

#include "base/check.h"

static const uint8_t REPLACEMENT[3] = {0xef, 0xbf, 0xbd};

/* Length by the lead byte, 0 when no sequence starts with it; the second byte's range in *low and *high. */
static int lead_length(uint8_t lead, uint8_t *low, uint8_t *high)
{
    *low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    *high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (lead < 0x80)
        return 1;
    if (lead >= 0xc2 && lead <= 0xdf)
        return 2;
    if (lead >= 0xe0 && lead <= 0xef)
        return 3;
    return lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
}

int utf8_decode(struct bytes text, uint32_t *code_point)
{
    CHECK(text.length > 0);
    const uint8_t *at = text.data;
    uint8_t low, high;
    int length = lead_length(at[0], &low, &high);
    if (length == 0)
        return -1;
    if (length == 1) {
        *code_point = at[0];
        return 1;
    }
    uint32_t value = at[0] & (0x7fU >> length);
    for (int i = 1; i < length; i++) {
        if ((size_t)i >= text.length)
            return 0;
        if (at[i] < low || at[i] > high)
            return -i;
        value = value << 6 | (at[i] & 0x3fU);
        low = 0x80;
        high = 0xbf;
    }
    *code_point = value;
    return length;
}

/* The length of the longest well-formed prefix. Eight ASCII bytes at a time. */
static size_t valid_prefix(struct bytes text)
{
    size_t at = 0;
    while (at < text.length) {
        uint64_t eight;
        if (text.length - at >= sizeof eight) {
            memcpy(&eight, text.data + at, sizeof eight);
            if ((eight & 0x8080808080808080U) == 0) {
                at += sizeof eight;
                continue;
            }
        }
        uint32_t ignored;
        int length = utf8_decode(bytes_of(text.data + at, text.length - at), &ignored);
        if (length <= 0)
            break;
        at += (size_t)length;
    }
    return at;
}

bool utf8_valid(struct bytes text)
{
    return valid_prefix(text) == text.length;
}

size_t utf8_encode(uint32_t code_point, uint8_t out[4])
{
    CHECK(code_point <= 0x10ffff && (code_point < 0xd800 || code_point > 0xdfff));
    if (code_point < 0x80) {
        out[0] = (uint8_t)code_point;
        return 1;
    }
    size_t length = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--) {
        out[i] = (uint8_t)(0x80 | (code_point & 0x3f));
        code_point >>= 6;
    }
    out[0] = (uint8_t)((0xf00 >> length & 0xff) | code_point);
    return length;
}

void utf8_replace(struct bytes text, struct buf *out)
{
    while (text.length > 0) {
        size_t good = valid_prefix(text);
        buf_append(out, text.data, good);
        text = bytes_of(text.data + good, text.length - good);
        if (text.length == 0)
            return;
        uint32_t ignored;
        int bad = utf8_decode(text, &ignored);
        CHECK(bad <= 0);
        size_t skip = bad == 0 ? text.length : (size_t)-bad; /* a cut-off sequence at the end is one U+FFFD */
        buf_append(out, REPLACEMENT, sizeof REPLACEMENT);
        text = bytes_of(text.data + skip, text.length - skip);
    }
}
