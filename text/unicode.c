/* unicode: NFC by segments.
 *
 * Most text is in NFC, so a segment is worked on only from the last character before one that decomposes, combines
 * with what stands in front, or has a combining class. Such a segment is decomposed, ordered and composed. Ordering is
 * a stable counting sort over the 256 combining classes for long runs of marks, an insertion sort for short ones. */
#include "text/unicode.h"

#include <string.h>
#include <utf8proc.h>

#include "base/check.h"
#include "base/mem.h"
#include "text/utf8.h"

enum { FIRST_NOT_INERT = 0x300, DECOMPOSED_MAX = 32, INSERTION_MAX = 24 };
static const uint16_t NO_ENTRY = UINT16_MAX;
static const uint16_t SECOND_OF_PAIR = 0x8000; /* comb_index from here on: may be composed with what precedes */

/* A growing array of code points: the segment at work. */
struct points {
    int32_t *data;
    size_t count;
    size_t capacity;
};

static void points_reserve(struct points *points, size_t more)
{
    if (points->count + more <= points->capacity)
        return;
    points->capacity = MAX_OF(points->capacity * 2, points->count + more + 64);
    points->data = mem_realloc_array(points->data, points->capacity, sizeof *points->data);
}

/* Neither decomposes nor combines with anything in front of it, and is a starter: text may be cut before it. */
static bool inert(uint32_t code_point)
{
    if (code_point < FIRST_NOT_INERT)
        return true;
    if ((code_point >= 0x3400 && code_point <= 0x9fff) || (code_point >= 0xac00 && code_point <= 0xd7a3))
        return true; /* CJK ideographs; Hangul syllables, which are composed already */
    if (code_point >= 0x1160 && code_point <= 0x11ff)
        return false; /* Hangul vowels and finals compose by arithmetic, not by table */
    const utf8proc_property_t *property = utf8proc_get_property((utf8proc_int32_t)code_point);
    return property->combining_class == 0 && property->decomp_seqindex == NO_ENTRY &&
           (property->comb_index == NO_ENTRY || property->comb_index < SECOND_OF_PAIR);
}

static int combining_class(int32_t code_point)
{
    return code_point < FIRST_NOT_INERT ? 0 : utf8proc_get_property(code_point)->combining_class;
}

static void order_short(int32_t *run, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        int32_t mark = run[i];
        int class = combining_class(mark);
        size_t at = i;
        for (; at > 0 && combining_class(run[at - 1]) > class; at--)
            run[at] = run[at - 1];
        run[at] = mark;
    }
}

static void order_long(int32_t *run, size_t count)
{
    size_t start[257] = {0};
    int32_t *sorted = mem_alloc_array(count, sizeof *sorted);
    for (size_t i = 0; i < count; i++)
        start[combining_class(run[i]) + 1]++;
    for (size_t class = 1; class < COUNT_OF(start); class ++)
        start[class] += start[class - 1];
    for (size_t i = 0; i < count; i++)
        sorted[start[combining_class(run[i])]++] = run[i];
    memcpy(run, sorted, count * sizeof *run);
    mem_free(sorted);
}

/* Canonical ordering (UAX #15, D108): each run of marks between starters, by class, stably. */
static void order(struct points *points)
{
    for (size_t i = 0; i < points->count;) {
        if (combining_class(points->data[i]) == 0) {
            i++;
            continue;
        }
        size_t end = i + 1;
        while (end < points->count && combining_class(points->data[end]) != 0)
            end++;
        if (end - i <= INSERTION_MAX)
            order_short(points->data + i, end - i);
        else
            order_long(points->data + i, end - i);
        i = end;
    }
}

static void append_nfc(struct points *points, struct bytes segment, struct buf *out)
{
    points->count = 0;
    for (size_t at = 0; at < segment.length;) {
        uint32_t code_point = 0;
        int length = utf8_decode(bytes_of(segment.data + at, segment.length - at), &code_point);
        CHECK(length > 0);
        at += (size_t)length;
        points_reserve(points, DECOMPOSED_MAX);
        utf8proc_ssize_t made = utf8proc_decompose_char((utf8proc_int32_t)code_point, points->data + points->count,
                                                        DECOMPOSED_MAX, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, NULL);
        CHECK(made > 0 && made <= DECOMPOSED_MAX);
        points->count += (size_t)made;
    }
    order(points);
    utf8proc_ssize_t count =
        utf8proc_normalize_utf32(points->data, (utf8proc_ssize_t)points->count, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    CHECK(count >= 0);
    for (utf8proc_ssize_t i = 0; i < count; i++) {
        uint8_t bytes[4];
        buf_append(out, bytes, utf8_encode((uint32_t)points->data[i], bytes));
    }
}

/* Where the next character that is not inert starts, from `at` on; *before is where the one in front of it starts. */
static size_t find_active(struct bytes text, size_t at, size_t *before)
{
    *before = at;
    while (at < text.length) {
        /* Below U+0300 nothing is active: lead bytes up to CB. */
        if (text.data[at] < 0x80) {
            *before = at++;
            continue;
        }
        uint32_t code_point = 0;
        int length = utf8_decode(bytes_of(text.data + at, text.length - at), &code_point);
        CHECK(length > 0);
        if (!inert(code_point))
            return at;
        *before = at;
        at += (size_t)length;
    }
    return at;
}

static size_t find_inert(struct bytes text, size_t at)
{
    while (at < text.length) {
        uint32_t code_point = 0;
        int length = utf8_decode(bytes_of(text.data + at, text.length - at), &code_point);
        CHECK(length > 0);
        if (inert(code_point))
            break;
        at += (size_t)length;
    }
    return at;
}

bool unicode_nfc_quick(struct bytes text)
{
    size_t before;
    return find_active(text, 0, &before) == text.length;
}

void unicode_nfc(struct bytes text, struct buf *out)
{
    struct points points = {0};
    for (size_t at = 0; at < text.length;) {
        size_t segment;
        size_t active = find_active(text, at, &segment);
        if (active == text.length) {
            buf_append(out, text.data + at, text.length - at);
            break;
        }
        size_t end = find_inert(text, active);
        buf_append(out, text.data + at, segment - at);
        append_nfc(&points, bytes_of(text.data + segment, end - segment), out);
        at = end;
    }
    mem_free(points.data);
}

bool unicode_is_space(uint32_t code_point)
{
    if (code_point < 0x80)
        return code_point == ' ' || (code_point >= '\t' && code_point <= '\r');
    return code_point == 0x85 || code_point == 0xa0 || code_point == 0x1680 ||
           (code_point >= 0x2000 && code_point <= 0x200a) || code_point == 0x2028 || code_point == 0x2029 ||
           code_point == 0x202f || code_point == 0x205f || code_point == 0x3000;
}

bool unicode_is_strippable(uint32_t code_point)
{
    return unicode_is_space(code_point) || (code_point >= 0x1c && code_point <= 0x1f);
}

static utf8proc_category_t category(uint32_t code_point)
{
    return utf8proc_category((utf8proc_int32_t)code_point);
}

bool unicode_is_word(uint32_t code_point)
{
    utf8proc_category_t c = category(code_point);
    return (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_ND) || c == UTF8PROC_CATEGORY_NL ||
           c == UTF8PROC_CATEGORY_PC || code_point == 0x200c || code_point == 0x200d;
}

bool unicode_is_alpha(uint32_t code_point)
{
    utf8proc_category_t c = category(code_point);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool unicode_is_digit(uint32_t code_point)
{
    return category(code_point) == UTF8PROC_CATEGORY_ND;
}

bool unicode_is_upper(uint32_t code_point)
{
    return utf8proc_isupper((utf8proc_int32_t)code_point) != 0;
}

bool unicode_is_lower(uint32_t code_point)
{
    return utf8proc_islower((utf8proc_int32_t)code_point) != 0;
}

bool unicode_is_printable(uint32_t code_point)
{
    if (code_point < 0x7f)
        return code_point >= 0x20;
    switch (category(code_point)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

uint32_t unicode_to_lower(uint32_t code_point)
{
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)code_point);
}

uint32_t unicode_to_upper(uint32_t code_point)
{
    return (uint32_t)utf8proc_toupper((utf8proc_int32_t)code_point);
}

uint32_t unicode_to_title(uint32_t code_point)
{
    return (uint32_t)utf8proc_totitle((utf8proc_int32_t)code_point);
}
