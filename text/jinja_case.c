/* jinja_case: see jinja_case.h. Whose a character is stays true through every change. */
#include "text/jinja_case.h"

#include <string.h>

#include "base/check.h"
#include "text/unicode.h"
#include "text/utf8.h"

enum { SHARP_S = 0xdf };

static bool is_cased(uint32_t point)
{
    return unicode_is_upper(point) || unicode_is_lower(point) || unicode_to_title(point) != point;
}

static uint32_t map_point(uint32_t point, enum text_case wanted, bool starts)
{
    switch (wanted) {
    case CASE_LOWER:
        return unicode_to_lower(point);
    case CASE_UPPER:
        return unicode_to_upper(point);
    case CASE_SWAP:
        return unicode_is_upper(point) ? unicode_to_lower(point) : unicode_to_upper(point);
    case CASE_CAPITALIZE:
    case CASE_TITLE:
        return starts ? unicode_to_title(point) : unicode_to_lower(point);
    }
    UNREACHABLE();
}

bool text_change_case(struct render *render, const struct text *text, enum text_case wanted, struct value *out)
{
    struct walker walker = walk_start(text);
    struct builder builder;
    bool starts = true; /* of the text; for a title, of a word */
    builder_init(&builder, render);
    if (!render_spend(render, text->points / 8))
        return false;
    while (walk(&walker)) {
        bool done;
        if (walker.point == SHARP_S && (wanted == CASE_UPPER || wanted == CASE_SWAP))
            done = builder_add(&builder, BYTES_LITERAL("SS"), walker.client);
        else if (walker.point == SHARP_S && starts && wanted != CASE_LOWER)
            done = builder_add(&builder, BYTES_LITERAL("Ss"), walker.client);
        else
            done = builder_add_point(&builder, map_point(walker.point, wanted, starts), walker.client);
        if (!done)
            return false;
        starts = wanted == CASE_TITLE && !is_cased(walker.point);
    }
    if (!builder_finish(&builder, out))
        return false;
    ((struct text *)(uintptr_t)out->as.text)->markup = text->markup; /* just made here */
    return true;
}

static bool in_set(uint32_t point, const struct text *set)
{
    if (set == NULL)
        return unicode_is_strippable(point);
    struct walker walker = walk_start(set);
    while (walk(&walker)) {
        if (walker.point == point)
            return true;
    }
    return false;
}

bool text_strip(struct render *render, const struct text *text, const struct text *set, bool left, bool right,
                struct value *out)
{
    size_t begin = 0, end = text->length, set_points = set == NULL ? 1 : set->points + 1;
    struct walker walker = walk_start(text);
    while (left && walk(&walker) && in_set(walker.point, set)) {
        begin = walker.at;
        if (!render_spend(render, set_points))
            return false;
    }
    while (right && end > begin) {
        size_t start = end - 1;
        uint32_t point = 0;
        while ((text->data[start] & 0xc0) == 0x80)
            start--;
        int length = utf8_decode(bytes_of(text->data + start, end - start), &point);
        CHECK(length > 0);
        if (!in_set(point, set))
            break;
        end = start;
        if (!render_spend(render, set_points))
            return false;
    }
    return text_slice(render, text, begin, end, out);
}

/* Appends text[begin, end) with its spans. */
static bool add_part(struct builder *builder, const struct text *text, size_t begin, size_t end)
{
    struct value part;
    return begin == end ||
           (text_slice(builder->render, text, begin, end, &part) && builder_add_text(builder, part.as.text));
}

/* An empty `old` stands in front of every character and at the end. */
static bool replace_empty(struct builder *builder, const struct text *text, const struct text *new, int64_t most)
{
    struct walker walker = walk_start(text);
    size_t done = 0;
    while (most != 0 && walk(&walker)) {
        if (!builder_add_text(builder, new) || !add_part(builder, text, walker.begin, walker.at))
            return false;
        done = walker.at;
        most--;
    }
    return add_part(builder, text, done, text->length) && (most == 0 || builder_add_text(builder, new));
}

bool text_replace(struct render *render, const struct text *text, const struct text *old, const struct text *new,
                  int64_t most, struct value *out)
{
    struct builder builder;
    size_t done = 0;
    builder_init(&builder, render);
    if (!render_spend(render, text->length / 16))
        return false;
    if (old->length == 0)
        return replace_empty(&builder, text, new, most) && builder_finish(&builder, out);
    for (; most != 0; most--) {
        size_t found = text_find(text, text_bytes(old), done);
        if (found == SIZE_MAX)
            break;
        if (!add_part(&builder, text, done, found) || !builder_add_text(&builder, new))
            return false;
        done = found + old->length;
    }
    return add_part(&builder, text, done, text->length) && builder_finish(&builder, out);
}

static bool ends_line(uint32_t point)
{
    return (point >= '\n' && point <= '\r') || (point >= 0x1c && point <= 0x1e) || point == 0x85 || point == 0x2028 ||
           point == 0x2029;
}

bool text_lines(struct render *render, const struct text *text, bool keep_ends, struct value *out)
{
    struct list *list = list_new(render, LIST_LIST, text->points);
    struct walker walker = walk_start(text);
    size_t begin = 0;
    if (list == NULL)
        return false;
    list->count = 0;
    while (walk(&walker)) {
        if (!ends_line(walker.point))
            continue;
        size_t end = walker.begin;
        if (walker.point == '\r' && walker.at < text->length && text->data[walker.at] == '\n')
            walk(&walker);
        if (!text_slice(render, text, begin, keep_ends ? walker.at : end, &list->items[list->count++]))
            return false;
        begin = walker.at;
    }
    if (begin < text->length && !text_slice(render, text, begin, text->length, &list->items[list->count++]))
        return false;
    *out = value_list(list);
    return true;
}
