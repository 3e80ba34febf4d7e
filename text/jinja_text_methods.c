/* jinja_text_methods: methods of texts, as Python's str has them. */
#include <string.h>

#include "base/check.h"
#include "text/jinja_case.h"
#include "text/jinja_eval.h"
#include "text/unicode.h"
#include "text/utf8.h"

static bool strip_with(struct render *render, const struct value *self, const struct args *args, bool left, bool right,
                       struct value *out)
{
    const struct value *set = args_get(args, 0, NULL);
    const struct text *characters = NULL;
    if (set != NULL && set->kind != VALUE_NONE) {
        if (set->kind != VALUE_TEXT)
            return render_fail(render, TEMPLATE_TYPE, "strip arg must be None or str");
        characters = set->as.text;
    }
    return text_strip(render, self->as.text, characters, left, right, out);
}

static bool method_strip(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    return strip_with(render, self, args, true, true, out);
}

static bool method_lstrip(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    return strip_with(render, self, args, true, false, out);
}

static bool method_rstrip(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    return strip_with(render, self, args, false, true, out);
}

static bool method_lower(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    return text_change_case(render, self->as.text, CASE_LOWER, out);
}

static bool method_upper(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    return text_change_case(render, self->as.text, CASE_UPPER, out);
}

static bool method_capitalize(struct render *render, const struct value *self, const struct args *args,
                              struct value *out)
{
    (void)args;
    return text_change_case(render, self->as.text, CASE_CAPITALIZE, out);
}

static bool method_title(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    return text_change_case(render, self->as.text, CASE_TITLE, out);
}

static bool method_swapcase(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    return text_change_case(render, self->as.text, CASE_SWAP, out);
}

/* Whether text has the affix at its start or end; a tuple of affixes means any. */
static bool has_affix(struct render *render, const struct value *self, const struct args *args, bool at_start,
                      struct value *out)
{
    const struct value *affix = args_get(args, 0, NULL);
    if (args->count > 1)
        return render_fail(render, TEMPLATE_UNSUPPORTED, "startswith and endswith with a range are not supported");
    if (affix == NULL)
        return render_fail(render, TEMPLATE_TYPE, "startswith or endswith is missing an argument");
    bool tuple = affix->kind == VALUE_LIST && affix->as.list->kind == LIST_TUPLE;
    const struct value *items = tuple ? affix->as.list->items : affix;
    size_t count = tuple ? affix->as.list->count : 1;
    const struct text *text = self->as.text;
    bool found = false;
    for (size_t i = 0; i < count && !found; i++) {
        if (items[i].kind != VALUE_TEXT)
            return render_fail(render, TEMPLATE_TYPE,
                               "startswith or endswith first arg must be str or a tuple of str, "
                               "not %s",
                               value_type_name(&items[i]));
        struct bytes part = text_bytes(items[i].as.text);
        found = part.length <= text->length &&
                (part.length == 0 ||
                 memcmp(text->data + (at_start ? 0 : text->length - part.length), part.data, part.length) == 0);
    }
    *out = value_bool(found);
    return true;
}

static bool method_startswith(struct render *render, const struct value *self, const struct args *args,
                              struct value *out)
{
    return has_affix(render, self, args, true, out);
}

static bool method_endswith(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    return has_affix(render, self, args, false, out);
}

static bool remove_affix(struct render *render, const struct value *self, const struct args *args, bool at_start,
                         struct value *out)
{
    struct value has;
    const struct value *affix = args_get(args, 0, NULL);
    if (affix != NULL && affix->kind != VALUE_TEXT)
        return render_fail(render, TEMPLATE_TYPE, "the argument must be str, not %s", value_type_name(affix));
    if (!has_affix(render, self, args, at_start, &has))
        return false;
    size_t cut = has.as.boolean ? affix->as.text->length : 0;
    const struct text *text = self->as.text;
    return text_slice(render, text, at_start ? cut : 0, at_start ? text->length : text->length - cut, out);
}

static bool method_removeprefix(struct render *render, const struct value *self, const struct args *args,
                                struct value *out)
{
    return remove_affix(render, self, args, true, out);
}

static bool method_removesuffix(struct render *render, const struct value *self, const struct args *args,
                                struct value *out)
{
    return remove_affix(render, self, args, false, out);
}

/* A list that grows while a text is split. */
struct pieces {
    struct render *render;
    const struct text *text;
    struct list *list;
    size_t capacity;
};

static bool add_piece(struct pieces *pieces, size_t begin, size_t end)
{
    if (pieces->list->count == pieces->capacity) {
        size_t capacity = MAX_OF(pieces->capacity * 2, (size_t)8);
        struct value *grown = render_alloc(pieces->render, capacity, sizeof *grown);
        if (grown == NULL)
            return false;
        if (pieces->list->count > 0)
            memcpy(grown, pieces->list->items, pieces->list->count * sizeof *grown);
        pieces->list->items = grown;
        pieces->capacity = capacity;
    }
    return render_spend(pieces->render, 1) &&
           text_slice(pieces->render, pieces->text, begin, end, &pieces->list->items[pieces->list->count++]);
}

static bool split_space(struct pieces *pieces, int64_t most)
{
    struct walker walker = walk_start(pieces->text);
    size_t begin = SIZE_MAX; /* of the word at hand */
    while (walk(&walker)) {
        bool space = unicode_is_strippable(walker.point);
        if (!space && begin == SIZE_MAX) {
            begin = walker.begin;
            if (most == 0) { /* the rest is one piece, without the white space at its end */
                struct value rest;
                return text_strip(pieces->render, pieces->text, NULL, false, true, &rest) &&
                       add_piece(pieces, begin, rest.as.text->length);
            }
        } else if (space && begin != SIZE_MAX) {
            if (!add_piece(pieces, begin, walker.begin))
                return false;
            begin = SIZE_MAX;
            most--;
        }
    }
    return begin == SIZE_MAX || add_piece(pieces, begin, pieces->text->length);
}

static bool split_by(struct pieces *pieces, struct bytes separator, int64_t most)
{
    size_t done = 0;
    for (; most != 0; most--) {
        size_t found = text_find(pieces->text, separator, done);
        if (found == SIZE_MAX)
            break;
        if (!add_piece(pieces, done, found))
            return false;
        done = found + separator.length;
    }
    return add_piece(pieces, done, pieces->text->length);
}

/* From the right: the last `most` separators, found backwards. */
static bool split_by_right(struct pieces *pieces, struct bytes separator, int64_t most)
{
    const struct text *text = pieces->text;
    size_t end = text->length;
    for (size_t at = text->length; most != 0 && at >= separator.length;) {
        if (memcmp(text->data + at - separator.length, separator.data, separator.length) != 0) {
            at--;
            continue;
        }
        if (!add_piece(pieces, at, end))
            return false;
        at -= separator.length;
        end = at;
        most--;
    }
    if (!add_piece(pieces, 0, end))
        return false;
    struct value *items = pieces->list->items;
    for (size_t low = 0, high = pieces->list->count - 1; low < high; low++, high--) {
        struct value swapped = items[low];
        items[low] = items[high];
        items[high] = swapped;
    }
    return render_spend(pieces->render, text->length / 16);
}

static bool split_with(struct render *render, const struct value *self, const struct args *args, bool right,
                       struct value *out)
{
    struct pieces pieces = {.render = render, .text = self->as.text, .list = list_new(render, LIST_LIST, 0)};
    const struct value *separator = args_get(args, 0, "sep");
    int64_t most = -1;
    if (pieces.list == NULL || !args_integer(render, args, 1, "maxsplit", &most) ||
        !render_spend(render, self->as.text->length / 16))
        return false;
    bool done;
    if (separator == NULL || separator->kind == VALUE_NONE) {
        if (right && most >= 0)
            return render_fail(render, TEMPLATE_UNSUPPORTED, "rsplit at white space with a maximum is not supported");
        done = split_space(&pieces, most);
    } else if (separator->kind != VALUE_TEXT) {
        return render_fail(render, TEMPLATE_TYPE, "must be str or None, not %s", value_type_name(separator));
    } else if (separator->as.text->length == 0) {
        return render_fail(render, TEMPLATE_VALUE, "empty separator");
    } else {
        struct bytes bytes = text_bytes(separator->as.text);
        done = right ? split_by_right(&pieces, bytes, most) : split_by(&pieces, bytes, most);
    }
    *out = value_list(pieces.list);
    return done;
}

static bool method_split(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    return split_with(render, self, args, false, out);
}

static bool method_rsplit(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    return split_with(render, self, args, true, out);
}

static bool method_splitlines(struct render *render, const struct value *self, const struct args *args,
                              struct value *out)
{
    return text_lines(render, self->as.text, args_bool(args, 0, "keepends", false), out);
}

static bool method_partition(struct render *render, const struct value *self, const struct args *args,
                             struct value *out)
{
    const struct text *text = self->as.text, *separator = NULL;
    struct list *list = list_new(render, LIST_TUPLE, 3);
    if (list == NULL || !args_text(render, args, 0, "sep", &separator))
        return false;
    if (separator == NULL || separator->length == 0)
        return render_fail(render, TEMPLATE_VALUE, "empty separator");
    size_t found = text_find(text, text_bytes(separator), 0);
    size_t begin = found == SIZE_MAX ? text->length : found;
    size_t end = found == SIZE_MAX ? text->length : found + separator->length;
    *out = value_list(list);
    return text_slice(render, text, 0, begin, &list->items[0]) &&
           text_slice(render, text, begin, end, &list->items[1]) &&
           text_slice(render, text, end, text->length, &list->items[2]);
}

static bool method_replace(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    const struct text *old = NULL, *new = NULL;
    int64_t most = -1;
    if (!args_text(render, args, 0, "old", &old) || !args_text(render, args, 1, "new", &new) ||
        !args_integer(render, args, 2, "count", &most))
        return false;
    if (old == NULL || new == NULL)
        return render_fail(render, TEMPLATE_TYPE, "replace expected at least 2 arguments");
    return text_replace(render, self->as.text, old, new, most, out);
}

/* Code points in front of a byte. */
static int64_t points_before(const struct text *text, size_t at)
{
    int64_t points = 0;
    for (size_t i = 0; i < at; i++)
        points += (text->data[i] & 0xc0) != 0x80;
    return points;
}

static bool find_part(struct render *render, const struct value *self, const struct args *args, size_t *found)
{
    const struct text *part = NULL;
    if (args->count > 1)
        return render_fail(render, TEMPLATE_UNSUPPORTED, "find with a range is not supported");
    if (!args_text(render, args, 0, "sub", &part))
        return false;
    if (part == NULL)
        return render_fail(render, TEMPLATE_TYPE, "find is missing an argument");
    *found = text_find(self->as.text, text_bytes(part), 0);
    return render_spend(render, self->as.text->length / 16);
}

static bool method_find(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    size_t found;
    if (!find_part(render, self, args, &found))
        return false;
    *out = value_integer(found == SIZE_MAX ? -1 : points_before(self->as.text, found), false);
    return true;
}

static bool method_index(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    size_t found;
    if (!find_part(render, self, args, &found))
        return false;
    if (found == SIZE_MAX)
        return render_fail(render, TEMPLATE_VALUE, "substring not found");
    *out = value_integer(points_before(self->as.text, found), false);
    return true;
}

static bool method_rfind(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    size_t found, last = SIZE_MAX;
    if (!find_part(render, self, args, &found))
        return false;
    const struct text *part = args->positional[0].as.text, *text = self->as.text;
    for (; found != SIZE_MAX && render_spend(render, 1); found = text_find(text, text_bytes(part), found + 1))
        last = found;
    *out = value_integer(last == SIZE_MAX ? -1 : points_before(text, last), false);
    return render->fault == TEMPLATE_OK;
}

static bool method_count(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    size_t found;
    int64_t count = 0;
    if (!find_part(render, self, args, &found))
        return false;
    const struct text *part = args->positional[0].as.text;
    if (part->length == 0)
        count = (int64_t)self->as.text->points + 1;
    for (; part->length > 0 && found != SIZE_MAX && render_spend(render, 1); count++)
        found = text_find(self->as.text, text_bytes(part), found + part->length);
    *out = value_integer(count, false);
    return render->fault == TEMPLATE_OK;
}

static bool method_join(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    const struct value *iterable = args_get(args, 0, NULL);
    struct value *items;
    size_t count;
    struct builder builder;
    builder_init(&builder, render);
    if (iterable == NULL)
        return render_fail(render, TEMPLATE_TYPE, "join() is missing an argument");
    if (!value_iterate(render, iterable, &items, &count))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (items[i].kind != VALUE_TEXT)
            return render_fail(render, TEMPLATE_TYPE, "sequence item %zu: expected str instance, %s found", i,
                               value_type_name(&items[i]));
        if ((i > 0 && !builder_add_text(&builder, self->as.text)) || !builder_add_text(&builder, items[i].as.text))
            return false;
    }
    return builder_finish(&builder, out);
}

/* Every character passes, and there is one. */
static bool all_points(struct render *render, const struct value *self, bool (*passes)(uint32_t), struct value *out)
{
    struct walker walker = walk_start(self->as.text);
    bool all = self->as.text->length > 0;
    while (all && walk(&walker))
        all = passes(walker.point);
    *out = value_bool(all);
    return render_spend(render, self->as.text->points / 8);
}

static bool is_alphanumeric(uint32_t point)
{
    return unicode_is_alpha(point) || unicode_is_digit(point);
}

static bool method_isdigit(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    return all_points(render, self, unicode_is_digit, out);
}

static bool method_isalpha(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    return all_points(render, self, unicode_is_alpha, out);
}

static bool method_isalnum(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    return all_points(render, self, is_alphanumeric, out);
}

static bool method_isspace(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    return all_points(render, self, unicode_is_strippable, out);
}

/* Cased characters are all of one case, and there is one. */
static bool one_case(struct render *render, const struct value *self, bool upper, struct value *out)
{
    struct walker walker = walk_start(self->as.text);
    bool all = true, any = false;
    while (all && walk(&walker)) {
        any |= upper ? unicode_is_upper(walker.point) : unicode_is_lower(walker.point);
        all = upper ? !unicode_is_lower(walker.point) : !unicode_is_upper(walker.point);
    }
    *out = value_bool(all && any);
    return render_spend(render, self->as.text->points / 8);
}

static bool method_isupper(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    return one_case(render, self, true, out);
}

static bool method_islower(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    return one_case(render, self, false, out);
}

const struct builtin_entry JINJA_TEXT_METHODS[] = {
    {"strip", method_strip, {"chars"}},
    {"lstrip", method_lstrip, {"chars"}},
    {"rstrip", method_rstrip, {"chars"}},
    {"lower", method_lower, {NULL}},
    {"casefold", method_lower, {NULL}},
    {"upper", method_upper, {NULL}},
    {"capitalize", method_capitalize, {NULL}},
    {"title", method_title, {NULL}},
    {"swapcase", method_swapcase, {NULL}},
    {"startswith", method_startswith, {"prefix", "start", "end"}},
    {"endswith", method_endswith, {"suffix", "start", "end"}},
    {"removeprefix", method_removeprefix, {"prefix"}},
    {"removesuffix", method_removesuffix, {"suffix"}},
    {"split", method_split, {"sep", "maxsplit"}},
    {"rsplit", method_rsplit, {"sep", "maxsplit"}},
    {"splitlines", method_splitlines, {"keepends"}},
    {"partition", method_partition, {"sep"}},
    {"replace", method_replace, {"old", "new", "count"}},
    {"find", method_find, {"sub", "start", "end"}},
    {"rfind", method_rfind, {"sub"}},
    {"index", method_index, {"sub", "start", "end"}},
    {"count", method_count, {"sub", "start", "end"}},
    {"join", method_join, {"iterable"}},
    {"isdigit", method_isdigit, {NULL}},
    {"isdecimal", method_isdigit, {NULL}},
    {"isnumeric", method_isdigit, {NULL}},
    {"isalpha", method_isalpha, {NULL}},
    {"isalnum", method_isalnum, {NULL}},
    {"isspace", method_isspace, {NULL}},
    {"isupper", method_isupper, {NULL}},
    {"islower", method_islower, {NULL}},
};
const size_t JINJA_TEXT_METHODS_COUNT = COUNT_OF(JINJA_TEXT_METHODS);
