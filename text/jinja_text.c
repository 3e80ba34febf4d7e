/* jinja_text: texts with their client spans, and values as text: str(), repr() and json.dumps of Python. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "text/jinja_value.h"
#include "text/unicode.h"
#include "text/utf8.h"

enum { COPY_PER_STEP = 64, NUMBER_TEXT_MAX = 40 };

/* ---- building ----------------------------------------------------------------------------------------------- */

void builder_init(struct builder *builder, struct render *render)
{
    *builder = (struct builder){.render = render};
}

static bool reserve(struct builder *builder, size_t more)
{
    if (more > JINJA_OUTPUT_MAX - builder->length)
        return render_fail(builder->render, TEMPLATE_BOUNDS, "a text grows beyond %d MiB", JINJA_OUTPUT_MAX >> 20);
    if (builder->length + more <= builder->capacity)
        return true;
    size_t capacity = MAX_OF(builder->capacity * 2, builder->length + more + 32);
    uint8_t *grown = render_alloc(builder->render, capacity, 1);
    if (grown == NULL)
        return false;
    if (builder->length > 0)
        memcpy(grown, builder->data, builder->length);
    builder->data = grown;
    builder->capacity = capacity;
    return true;
}

/* Marks [begin, end) as the client's; adjoining spans become one. */
static bool mark(struct builder *builder, size_t begin, size_t end)
{
    if (begin == end)
        return true;
    if (builder->spans_count > 0 && builder->spans[builder->spans_count - 1].end == begin) {
        builder->spans[builder->spans_count - 1].end = end;
        return true;
    }
    if (builder->spans_count == builder->spans_capacity) {
        size_t capacity = MAX_OF(builder->spans_capacity * 2, (size_t)4);
        struct span *grown = render_alloc(builder->render, capacity, sizeof *grown);
        if (grown == NULL)
            return false;
        if (builder->spans_count > 0)
            memcpy(grown, builder->spans, builder->spans_count * sizeof *grown);
        builder->spans = grown;
        builder->spans_capacity = capacity;
    }
    builder->spans[builder->spans_count++] = (struct span){.begin = begin, .end = end};
    return true;
}

bool builder_add(struct builder *builder, struct bytes bytes, bool client)
{
    if (!reserve(builder, bytes.length) || !render_spend(builder->render, bytes.length / COPY_PER_STEP))
        return false;
    if (bytes.length > 0)
        memcpy(builder->data + builder->length, bytes.data, bytes.length);
    builder->length += bytes.length;
    return !client || mark(builder, builder->length - bytes.length, builder->length);
}

bool builder_add_text(struct builder *builder, const struct text *text)
{
    size_t at = builder->length;
    if (!builder_add(builder, text_bytes(text), false) || !render_spend(builder->render, text->spans_count))
        return false;
    for (size_t i = 0; i < text->spans_count; i++) {
        if (!mark(builder, at + text->spans[i].begin, at + text->spans[i].end))
            return false;
    }
    return true;
}

bool builder_add_point(struct builder *builder, uint32_t code_point, bool client)
{
    uint8_t bytes[4];
    return builder_add(builder, bytes_of(bytes, utf8_encode(code_point, bytes)), client);
}

bool builder_finish(struct builder *builder, struct value *out)
{
    if (!value_from_bytes(builder->render, bytes_of(builder->data, builder->length), false, out))
        return false;
    struct text *text = (struct text *)(uintptr_t)out->as.text; /* just made, nobody else's yet */
    text->spans = builder->spans;
    text->spans_count = builder->spans_count;
    return true;
}

/* ---- parts of texts ----------------------------------------------------------------------------------------- */

bool text_slice(struct render *render, const struct text *text, size_t begin, size_t end, struct value *out)
{
    CHECK(begin <= end && end <= text->length);
    if (!value_from_bytes(render, bytes_of(text->data + begin, end - begin), false, out))
        return false;
    struct text *part = (struct text *)(uintptr_t)out->as.text;
    part->markup = text->markup;
    size_t low = 0, high = text->spans_count; /* the first span that ends behind `begin` */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (text->spans[middle].end > begin)
            high = middle;
        else
            low = middle + 1;
    }
    while (high < text->spans_count && text->spans[high].begin < end)
        high++;
    if (low == high)
        return true;
    struct span *spans = render_alloc(render, high - low, sizeof *spans);
    if (spans == NULL || !render_spend(render, high - low))
        return false;
    for (size_t i = low; i < high; i++)
        spans[i - low] = (struct span){.begin = MAX_OF(text->spans[i].begin, begin) - begin,
                                       .end = MIN_OF(text->spans[i].end, end) - begin};
    part->spans = spans;
    part->spans_count = high - low;
    return true;
}

size_t text_offset(const struct text *text, size_t point)
{
    if (text->points == text->length)
        return MIN_OF(point, text->length);
    size_t at = 0;
    for (; at < text->length; at++) {
        if ((text->data[at] & 0xc0) != 0x80 && point-- == 0)
            break;
    }
    return at;
}

size_t text_find(const struct text *text, struct bytes part, size_t from)
{
    if (from > text->length || part.length > text->length - from)
        return SIZE_MAX;
    if (part.length == 0)
        return from;
    const uint8_t *found = memmem(text->data + from, text->length - from, part.data, part.length);
    return found == NULL ? SIZE_MAX : (size_t)(found - text->data);
}

bool text_equals(const struct text *text, const char *literal)
{
    return bytes_equal(text_bytes(text), bytes_of_text(literal));
}

bool walk(struct walker *walker)
{
    const struct text *text = walker->text;
    if (walker->at >= text->length)
        return false;
    int length = utf8_decode(bytes_of(text->data + walker->at, text->length - walker->at), &walker->point);
    CHECK(length > 0);
    while (walker->span < text->spans_count && text->spans[walker->span].end <= walker->at)
        walker->span++;
    walker->client = walker->span < text->spans_count && text->spans[walker->span].begin <= walker->at;
    walker->begin = walker->at;
    walker->at += (size_t)length;
    return true;
}

/* The bytes that walk() stepped over. */
static struct bytes walked(const struct walker *walker)
{
    return bytes_of(walker->text->data + walker->begin, walker->at - walker->begin);
}

bool builder_add_escaped(struct builder *builder, const struct text *text)
{
    static const struct {
        uint32_t point;
        const char *escape;
    } table[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'\'', "&#39;"}, {'"', "&#34;"}};
    struct walker walker = walk_start(text);
    while (walk(&walker)) {
        struct bytes bytes = walked(&walker);
        for (size_t i = 0; i < COUNT_OF(table); i++) {
            if (table[i].point == walker.point)
                bytes = bytes_of_text(table[i].escape);
        }
        if (!builder_add(builder, bytes, walker.client))
            return false;
    }
    return render_spend(builder->render, text->points / 8);
}

/* ---- str and repr ------------------------------------------------------------------------------------------- */

/* The shortest digits that read back, as Python's repr writes them. */
static void format_float(double real, char out[NUMBER_TEXT_MAX])
{
    if (!isfinite(real)) {
        snprintf(out, NUMBER_TEXT_MAX, "%s", isnan(real) ? "nan" : real > 0 ? "inf" : "-inf");
        return;
    }
    char digits[NUMBER_TEXT_MAX];
    int precision = 0;
    for (; precision < 17; precision++) {
        snprintf(digits, sizeof digits, "%.*e", precision, real);
        if (strtod(digits, NULL) == real)
            break;
    }
    const char *mark_e = strchr(digits, 'e');
    CHECK(mark_e != NULL);
    long exponent = strtol(mark_e + 1, NULL, 10);
    if (exponent < -4 || exponent >= 16) {
        snprintf(out, NUMBER_TEXT_MAX, "%.*se%c%02ld", (int)(mark_e - digits), digits, exponent < 0 ? '-' : '+',
                 labs(exponent));
        return;
    }
    long decimals = MAX_OF((long)precision - exponent, 1L);
    snprintf(out, NUMBER_TEXT_MAX, "%.*f", (int)decimals, real);
}

/* Numbers, None, booleans: the same for str and repr. */
static bool add_scalar(struct builder *builder, const struct value *value)
{
    char text[NUMBER_TEXT_MAX];
    if (value->kind == VALUE_INTEGER)
        snprintf(text, sizeof text, "%" PRId64, value->as.integer);
    else if (value->kind == VALUE_FLOAT)
        format_float(value->as.real, text);
    else
        snprintf(text, sizeof text, "%s", value->kind == VALUE_NONE ? "None" : value->as.boolean ? "True" : "False");
    return builder_add(builder, bytes_of_text(text), value->client);
}

static bool add_text_repr(struct builder *builder, const struct text *text)
{
    bool single = text_find(text, BYTES_LITERAL("'"), 0) != SIZE_MAX;
    bool doubled = text_find(text, BYTES_LITERAL("\""), 0) != SIZE_MAX;
    uint32_t quote = single && !doubled ? '"' : '\'';
    struct walker walker = walk_start(text);
    if (!builder_add_point(builder, quote, false))
        return false;
    while (walk(&walker)) {
        char escape[16] = "";
        uint32_t c = walker.point;
        if (c == quote || c == '\\')
            snprintf(escape, sizeof escape, "\\%c", (int)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            snprintf(escape, sizeof escape, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (!unicode_is_printable(c))
            snprintf(escape, sizeof escape, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
        if (!builder_add(builder, escape[0] != '\0' ? bytes_of_text(escape) : walked(&walker), walker.client))
            return false;
    }
    return render_spend(builder->render, text->points / 8) && builder_add_point(builder, quote, false);
}

static bool add_repr(struct builder *builder, const struct value *value, int depth);

static bool add_list_repr(struct builder *builder, const struct list *list, int depth)
{
    bool tuple = list->kind == LIST_TUPLE, view = list->kind >= LIST_KEYS;
    struct value self = {.kind = VALUE_LIST, .as.list = (struct list *)(uintptr_t)list};
    if (view && (!builder_add_literal(builder, value_type_name(&self)) || !builder_add_literal(builder, "(")))
        return false;
    if (!builder_add_literal(builder, tuple ? "(" : "["))
        return false;
    for (size_t i = 0; i < list->count; i++) {
        if ((i > 0 && !builder_add_literal(builder, ", ")) || !add_repr(builder, &list->items[i], depth + 1))
            return false;
    }
    return builder_add_literal(builder, tuple ? (list->count == 1 ? ",)" : ")") : view ? "])" : "]");
}

static bool add_dict_repr(struct builder *builder, const struct dict *dict, int depth)
{
    if (!builder_add_literal(builder, "{"))
        return false;
    for (size_t i = 0; i < dict->count; i++) {
        if ((i > 0 && !builder_add_literal(builder, ", ")) || !add_repr(builder, &dict->pairs[i].key, depth + 1) ||
            !builder_add_literal(builder, ": ") || !add_repr(builder, &dict->pairs[i].value, depth + 1))
            return false;
    }
    return builder_add_literal(builder, "}");
}

static bool add_range_repr(struct builder *builder, const struct list *range)
{
    char text[3 * NUMBER_TEXT_MAX];
    int length = snprintf(text, sizeof text, "range(%" PRId64 ", %" PRId64, range->begin, range->end);
    if (range->step != 1)
        length += snprintf(text + length, sizeof text - (size_t)length, ", %" PRId64, range->step);
    return builder_add(builder, bytes_of(text, (size_t)length), false) && builder_add_literal(builder, ")");
}

static bool add_repr(struct builder *builder, const struct value *value, int depth)
{
    if (depth > JINJA_VALUE_DEPTH_MAX)
        return render_fail(builder->render, TEMPLATE_BOUNDS, "a value is nested too deeply");
    if (!render_spend(builder->render, 1))
        return false;
    switch (value->kind) {
    case VALUE_UNDEFINED:
        return depth == 0 || builder_add_literal(builder, "Undefined");
    case VALUE_TEXT:
        if (value->as.text->markup)
            return builder_add_literal(builder, "Markup(") && add_text_repr(builder, value->as.text) &&
                   builder_add_literal(builder, ")");
        return add_text_repr(builder, value->as.text);
    case VALUE_LIST:
        if (value->as.list->kind == LIST_GENERATOR)
            break;
        if (value->as.list->kind == LIST_RANGE && value->as.list->step == 0) /* a slice of one */
            break;
        if (value->as.list->kind == LIST_RANGE)
            return add_range_repr(builder, value->as.list);
        return add_list_repr(builder, value->as.list, depth);
    case VALUE_DICT:
        return add_dict_repr(builder, value->as.dict, depth);
    case VALUE_NAMESPACE:
    case VALUE_CALLABLE:
    case VALUE_LOOP:
        break;
    default:
        return add_scalar(builder, value);
    }
    /* The reference would print an address of its memory. */
    return render_fail(builder->render, TEMPLATE_UNSUPPORTED, "a %s can't be written as text", value_type_name(value));
}

bool builder_add_repr(struct builder *builder, const struct value *value)
{
    return add_repr(builder, value, 0);
}

bool builder_add_value(struct builder *builder, const struct value *value)
{
    if (value->kind == VALUE_TEXT)
        return builder_add_text(builder, value->as.text);
    return value->kind == VALUE_UNDEFINED || builder_add_repr(builder, value);
}

/* ---- JSON --------------------------------------------------------------------------------------------------- */

struct json_writer {
    struct builder *builder;
    const struct json_style *style;
};

static bool add_json(const struct json_writer *writer, const struct value *value, int depth);

static bool add_json_text(const struct json_writer *writer, const struct text *text)
{
    static const char simple[] = "\"\"\\\\\nn\rr\tt\bb\ff";
    struct builder *builder = writer->builder;
    struct walker walker = walk_start(text);
    if (!builder_add_literal(builder, "\""))
        return false;
    while (walk(&walker)) {
        char escape[16] = "";
        uint32_t c = walker.point;
        for (size_t i = 0; i + 1 < sizeof simple; i += 2) {
            if (c == (uint8_t)simple[i])
                snprintf(escape, sizeof escape, "\\%c", simple[i + 1]);
        }
        if (escape[0] == '\0' && (c < 0x20 || (writer->style->ensure_ascii && c >= 0x7f && c < 0x10000 && c != 0x7f)))
            snprintf(escape, sizeof escape, "\\u%04x", c);
        else if (escape[0] == '\0' && writer->style->ensure_ascii && c >= 0x10000)
            snprintf(escape, sizeof escape, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
                     0xdc00 + ((c - 0x10000) & 0x3ff));
        if (!builder_add(builder, escape[0] != '\0' ? bytes_of_text(escape) : walked(&walker), walker.client))
            return false;
    }
    return render_spend(builder->render, text->points / 8) && builder_add_literal(builder, "\"");
}

static bool add_json_break(const struct json_writer *writer, int depth)
{
    if (writer->style->indent < 0)
        return true;
    if (!builder_add_literal(writer->builder, "\n"))
        return false;
    for (int64_t i = 0; i < writer->style->indent * depth; i++) {
        if (!builder_add_literal(writer->builder, " "))
            return false;
    }
    return true;
}

static bool add_json_list(const struct json_writer *writer, const struct list *list, int depth)
{
    if (list->count == 0)
        return builder_add_literal(writer->builder, "[]");
    if (!builder_add_literal(writer->builder, "["))
        return false;
    for (size_t i = 0; i < list->count; i++) {
        if ((i > 0 && !builder_add(writer->builder, writer->style->item_separator, false)) ||
            !add_json_break(writer, depth + 1) || !add_json(writer, &list->items[i], depth + 1))
            return false;
    }
    return add_json_break(writer, depth) && builder_add_literal(writer->builder, "]");
}

/* Keys are texts, or scalars as texts. */
static bool add_json_key(const struct json_writer *writer, const struct value *key)
{
    if (key->kind == VALUE_TEXT)
        return add_json_text(writer, key->as.text);
    if (key->kind > VALUE_FLOAT || key->kind == VALUE_UNDEFINED)
        return render_fail(writer->builder->render, TEMPLATE_TYPE, "keys must be str, int, float, bool or None, not %s",
                           value_type_name(key));
    return builder_add_literal(writer->builder, "\"") && add_json(writer, key, 0) &&
           builder_add_literal(writer->builder, "\"");
}

struct sorter {
    struct render *render;
    bool failed;
};

static int compare_pairs(const void *a, const void *b, void *context)
{
    struct sorter *sorter = context;
    const struct pair *const *x = a, *const *y = b;
    int order = 0;
    sorter->failed |= !value_order(sorter->render, &(*x)->key, &(*y)->key, "<", &order);
    return order;
}

static bool add_json_dict(const struct json_writer *writer, const struct dict *dict, int depth)
{
    struct render *render = writer->builder->render;
    if (dict->count == 0)
        return builder_add_literal(writer->builder, "{}");
    const struct pair **pairs = render_alloc(render, dict->count, sizeof *pairs);
    if (pairs == NULL || !builder_add_literal(writer->builder, "{"))
        return false;
    for (size_t i = 0; i < dict->count; i++)
        pairs[i] = &dict->pairs[i];
    if (writer->style->sort_keys) {
        struct sorter sorter = {.render = render};
        qsort_r(pairs, dict->count, sizeof *pairs, compare_pairs, &sorter);
        if (sorter.failed)
            return false;
    }
    for (size_t i = 0; i < dict->count; i++) {
        if ((i > 0 && !builder_add(writer->builder, writer->style->item_separator, false)) ||
            !add_json_break(writer, depth + 1) || !add_json_key(writer, &pairs[i]->key) ||
            !builder_add(writer->builder, writer->style->key_separator, false) ||
            !add_json(writer, &pairs[i]->value, depth + 1))
            return false;
    }
    return add_json_break(writer, depth) && builder_add_literal(writer->builder, "}");
}

static bool add_json(const struct json_writer *writer, const struct value *value, int depth)
{
    struct builder *builder = writer->builder;
    if (depth > JINJA_VALUE_DEPTH_MAX)
        return render_fail(builder->render, TEMPLATE_BOUNDS, "a value is nested too deeply");
    if (!render_spend(builder->render, 1))
        return false;
    switch (value->kind) {
    case VALUE_NONE:
        return builder_add(builder, BYTES_LITERAL("null"), value->client);
    case VALUE_BOOL:
        return builder_add(builder, bytes_of_text(value->as.boolean ? "true" : "false"), value->client);
    case VALUE_INTEGER:
        return add_scalar(builder, value);
    case VALUE_FLOAT:
        if (!isfinite(value->as.real))
            return builder_add(builder,
                               bytes_of_text(isnan(value->as.real) ? "NaN"
                                             : value->as.real > 0  ? "Infinity"
                                                                   : "-Infinity"),
                               value->client);
        return add_scalar(builder, value);
    case VALUE_TEXT:
        return add_json_text(writer, value->as.text);
    case VALUE_LIST:
        if (value->as.list->kind > LIST_TUPLE)
            break;
        return add_json_list(writer, value->as.list, depth);
    case VALUE_DICT:
        return add_json_dict(writer, value->as.dict, depth);
    default:
        break;
    }
    return render_fail(builder->render, TEMPLATE_TYPE, "Object of type %s is not JSON serializable",
                       value_type_name(value));
}

bool builder_add_json(struct builder *builder, const struct value *value, const struct json_style *style)
{
    struct json_writer writer = {.builder = builder, .style = style};
    return add_json(&writer, value, 0);
}
