/* jinja_filters: the filters that chat templates use, as Jinja 3.1 defines them; tojson as Hugging Face does.
 *
 * What takes a test or a filter by name (select, map) looks it up when it runs: an unknown name is an error there. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "text/jinja_case.h"
#include "text/jinja_eval.h"
#include "text/unicode.h"
#include "text/utf8.h"

enum { NUMBER_MAX = 400 };

/* ---- texts -------------------------------------------------------------------------------------------------- */

/* Marks a text that was just made as Markup or not. */
static bool set_markup(struct value *out, bool markup)
{
    ((struct text *)(uintptr_t)out->as.text)->markup = markup;
    return true;
}

static bool filter_string(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    const struct text *text;
    if (!value_to_text(render, self, &text))
        return false;
    *out = value_text(text);
    return true;
}

static bool filter_safe(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    const struct text *text;
    return value_to_text(render, self, &text) && text_slice(render, text, 0, text->length, out) &&
           set_markup(out, true);
}

static bool filter_escape(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    struct builder builder;
    const struct text *text;
    builder_init(&builder, render);
    if (!value_to_text(render, self, &text))
        return false;
    if (text->markup) {
        *out = value_text(text);
        return true;
    }
    return builder_add_escaped(&builder, text) && builder_finish(&builder, out) && set_markup(out, true);
}

static bool filter_trim(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    const struct text *text, *set = NULL;
    const struct value *characters = args_get(args, 0, "chars");
    if (characters != NULL && characters->kind == VALUE_NONE)
        characters = NULL;
    return value_to_text(render, self, &text) && (characters == NULL || args_text(render, args, 0, "chars", &set)) &&
           text_strip(render, text, set, true, true, out);
}

static bool change_case(struct render *render, const struct value *self, enum text_case wanted, struct value *out)
{
    const struct text *text;
    return value_to_text(render, self, &text) && text_change_case(render, text, wanted, out);
}

static bool filter_lower(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    return change_case(render, self, CASE_LOWER, out);
}

static bool filter_upper(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    return change_case(render, self, CASE_UPPER, out);
}

static bool filter_capitalize(struct render *render, const struct value *self, const struct args *args,
                              struct value *out)
{
    (void)args;
    return change_case(render, self, CASE_CAPITALIZE, out);
}

/* A word begins behind white space, - ( { [ or <: unlike str.title. */
static bool filter_title(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    const struct text *text;
    struct builder builder;
    builder_init(&builder, render);
    if (!value_to_text(render, self, &text))
        return false;
    struct walker walker = walk_start(text);
    for (bool starts = true; walk(&walker);) {
        uint32_t c = walker.point;
        uint32_t mapped = starts ? unicode_to_upper(c) : unicode_to_lower(c);
        if (!builder_add_point(&builder, mapped, walker.client))
            return false;
        starts = unicode_is_strippable(c) || (c < 0x80 && strchr("-({[<", (int)c) != NULL);
    }
    return render_spend(render, text->points / 8) && builder_finish(&builder, out) && set_markup(out, text->markup);
}

static bool filter_replace(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    const struct value *old = args_get(args, 0, "old"), *new = args_get(args, 1, "new");
    const struct value *count = args_get(args, 2, "count");
    const struct text *text, *from, *to;
    int64_t most = -1;
    if (old == NULL || new == NULL)
        return render_fail(render, TEMPLATE_TYPE, "replace() is missing an argument");
    if (count != NULL && count->kind != VALUE_NONE && !args_integer(render, args, 2, "count", &most))
        return false;
    return value_to_text(render, self, &text) && value_to_text(render, old, &from) && value_to_text(render, new, &to) &&
           text_replace(render, text, from, to, most, out);
}

static bool filter_indent(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    const struct value *width = args_get(args, 0, "width");
    bool first = args_bool(args, 1, "first", false), blank = args_bool(args, 2, "blank", false);
    const struct text *text, *indent = NULL;
    int64_t spaces = 4;
    struct value lines;
    struct builder builder;
    builder_init(&builder, render);
    if (width != NULL && width->kind == VALUE_TEXT)
        indent = width->as.text;
    else if (!args_integer(render, args, 0, "width", &spaces))
        return false;
    if (spaces > JINJA_OUTPUT_MAX)
        return render_fail(render, TEMPLATE_BOUNDS, "an indentation is too wide");
    if (self->kind == VALUE_UNDEFINED)
        return render_fail_undefined(render, self);
    if (self->kind != VALUE_TEXT)
        return render_fail(
            render, self->kind == VALUE_LIST && self->as.list->kind == LIST_LIST ? TEMPLATE_ATTRIBUTE : TEMPLATE_TYPE,
            "indent needs a string, not %s", value_type_name(self));
    text = self->as.text;
    if (!text_lines(render, text, false, &lines))
        return false;
    /* The reference puts a newline behind the text first: a newline at its end gives an empty last line. */
    bool ends = text->length > 0 && text->data[text->length - 1] == '\n';
    size_t count = lines.as.list->count + (ends || text->length == 0 ? 1 : 0);
    for (size_t i = 0; i < count; i++) {
        bool beyond = i >= lines.as.list->count;
        const struct text *line = beyond ? NULL : lines.as.list->items[i].as.text;
        bool empty = line == NULL || line->length == 0;
        if (i > 0 && !builder_add_literal(&builder, "\n"))
            return false;
        bool indented = i == 0 ? first : blank || !empty;
        for (int64_t s = 0; indented && indent == NULL && s < spaces; s++) {
            if (!builder_add_literal(&builder, " "))
                return false;
        }
        if ((indented && indent != NULL && !builder_add_text(&builder, indent)) ||
            (line != NULL && !builder_add_text(&builder, line)))
            return false;
    }
    return builder_finish(&builder, out);
}

static bool filter_wordcount(struct render *render, const struct value *self, const struct args *args,
                             struct value *out)
{
    (void)args;
    const struct text *text;
    int64_t words = 0;
    bool inside = false;
    if (!value_to_text(render, self, &text))
        return false;
    for (struct walker walker = walk_start(text); walk(&walker);) {
        bool word = unicode_is_word(walker.point);
        words += word && !inside;
        inside = word;
    }
    *out = value_integer(words, false);
    return render_spend(render, text->points / 8);
}

/* separators=(item, key) of json.dumps. */
static bool read_separators(struct render *render, const struct value *value, struct json_style *style)
{
    const struct list *pair = value->kind == VALUE_LIST ? value->as.list : NULL;
    if (pair == NULL || pair->count != 2 || pair->items[0].kind != VALUE_TEXT || pair->items[1].kind != VALUE_TEXT)
        return render_fail(render, TEMPLATE_TYPE, "separators must be two strings");
    style->item_separator = text_bytes(pair->items[0].as.text);
    style->key_separator = text_bytes(pair->items[1].as.text);
    return true;
}

/* Hugging Face's: tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False). */
static bool filter_tojson(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    const struct value *indent = args_get(args, 1, "indent"), *separators = args_get(args, 2, "separators");
    struct json_style style = {.indent = -1, .key_separator = BYTES_LITERAL(": ")};
    struct builder builder;
    builder_init(&builder, render);
    style.ensure_ascii = args_bool(args, 0, "ensure_ascii", false);
    style.sort_keys = args_bool(args, 3, "sort_keys", false);
    if (indent != NULL && indent->kind != VALUE_NONE) {
        if (!args_integer(render, args, 1, "indent", &style.indent))
            return false;
        style.indent = style.indent < 0 ? 0 : style.indent > 64 ? 64 : style.indent;
    }
    style.item_separator = style.indent < 0 ? BYTES_LITERAL(", ") : BYTES_LITERAL(",");
    if (separators != NULL && separators->kind != VALUE_NONE && !read_separators(render, separators, &style))
        return false;
    return builder_add_json(&builder, self, &style) && builder_finish(&builder, out);
}

/* ---- numbers ------------------------------------------------------------------------------------------------ */

/* A text without white space around it and underscores between digits, for strtod and strtoll. */
static bool number_text(const struct text *text, char out[NUMBER_MAX])
{
    size_t begin = 0, end = text->length, length = 0;
    while (begin < end && unicode_is_strippable(text->data[begin]))
        begin++;
    while (end > begin && unicode_is_strippable(text->data[end - 1]))
        end--;
    if (begin == end || end - begin >= NUMBER_MAX)
        return false;
    for (size_t i = begin; i < end; i++) {
        uint8_t c = text->data[i];
        bool digits_around = i > begin && i + 1 < end && text->data[i - 1] >= '0' && text->data[i - 1] <= '9' &&
                             text->data[i + 1] >= '0' && text->data[i + 1] <= '9';
        if (c == '_' && digits_around)
            continue;
        if (c >= 0x80 || c == '_' || c == 'x' || c == 'X' || c == '(' || c == 'p' || c == 'P' || c <= ' ')
            return false; /* strtod would take hexadecimal, nan(…); Python does not */
        out[length++] = (char)c;
    }
    out[length] = '\0';
    return true;
}

static bool text_to_float(const struct text *text, double *out)
{
    char number[NUMBER_MAX], *end;
    if (!number_text(text, number))
        return false;
    *out = strtod(number, &end);
    return *end == '\0';
}

static bool text_to_integer(struct render *render, const struct text *text, int64_t base, int64_t *out, bool *read)
{
    char number[NUMBER_MAX], *end;
    *read = number_text(text, number);
    if (!*read)
        return true;
    errno = 0;
    *out = strtoll(number, &end, (int)base);
    *read = *end == '\0' && end != number;
    return !*read || errno == 0 || render_fail(render, TEMPLATE_OVERFLOW, "an integer does not fit 64 bits");
}

static bool float_to_integer(struct render *render, double real, int64_t *out, bool *read)
{
    *read = isfinite(real);
    if (*read && fabs(real) >= 0x1p63)
        return render_fail(render, TEMPLATE_OVERFLOW, "an integer does not fit 64 bits");
    if (*read)
        *out = (int64_t)real;
    return true;
}

static bool filter_int(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    int64_t number = 0, otherwise = 0, base = 10;
    bool read = value_is_integer(self, &number), client = self->client;
    if (!args_integer(render, args, 0, "default", &otherwise) || !args_integer(render, args, 1, "base", &base))
        return false;
    if (base != 10)
        return render_fail(render, TEMPLATE_UNSUPPORTED, "int with a base is not supported");
    if (self->kind == VALUE_FLOAT && !float_to_integer(render, self->as.real, &number, &read))
        return false;
    if (self->kind == VALUE_TEXT) {
        double real;
        client = self->as.text->spans_count > 0;
        if (!text_to_integer(render, self->as.text, base, &number, &read))
            return false;
        if (!read && text_to_float(self->as.text, &real) && !float_to_integer(render, real, &number, &read))
            return false;
    }
    if (self->kind == VALUE_UNDEFINED)
        return render_fail_undefined(render, self);
    *out = value_integer(read ? number : otherwise, client);
    return true;
}

static bool filter_float(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    const struct value *otherwise = args_get(args, 0, "default");
    double real;
    if (self->kind == VALUE_UNDEFINED)
        return render_fail_undefined(render, self);
    if (value_is_number(self))
        *out = value_float(value_number(self), self->client);
    else if (self->kind == VALUE_TEXT && text_to_float(self->as.text, &real))
        *out = value_float(real, self->as.text->spans_count > 0);
    else
        *out = otherwise != NULL ? *otherwise : value_float(0, false);
    return true;
}

static bool filter_abs(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    int64_t number;
    if (value_is_integer(self, &number) && number != INT64_MIN)
        *out = value_integer(number < 0 ? -number : number, self->client);
    else if (self->kind == VALUE_FLOAT)
        *out = value_float(fabs(self->as.real), self->client);
    else
        return render_fail(render, TEMPLATE_TYPE, "bad operand type for abs(): '%s'", value_type_name(self));
    return true;
}

static bool filter_round(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    const struct text *method = NULL;
    int64_t precision = 0;
    if (!args_integer(render, args, 0, "precision", &precision) || !args_text(render, args, 1, "method", &method))
        return false;
    if (!value_is_number(self))
        return render_fail(render, TEMPLATE_TYPE, "type %s doesn't define __round__ method", value_type_name(self));
    if (precision < -300 || precision > 300)
        return render_fail(render, TEMPLATE_UNSUPPORTED, "a precision beyond 300 digits is not supported");
    double scale = pow(10, (double)precision), real = value_number(self);
    int64_t whole;
    if (precision >= 0 && (method == NULL || text_equals(method, "common")) && value_is_integer(self, &whole)) {
        *out = value_integer(whole, self->client); /* an integer stays one */
        return true;
    }
    if (method == NULL || text_equals(method, "common")) {
        char digits[700];
        if (precision >= 0 && isfinite(real)) { /* printf rounds the exact value, as Python does */
            snprintf(digits, sizeof digits, "%.*f", (int)precision, real);
            real = strtod(digits, NULL);
        } else {
            real = nearbyint(real * scale) / scale;
        }
    } else if (text_equals(method, "ceil") || text_equals(method, "floor")) {
        real = (text_equals(method, "ceil") ? ceil(real * scale) : floor(real * scale)) / scale;
    } else {
        return render_fail(render, TEMPLATE_RUNTIME, "method must be common, ceil or floor");
    }
    *out = value_float(real, self->client);
    return true;
}

/* ---- anything ----------------------------------------------------------------------------------------------- */

static bool filter_default(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    const struct value *otherwise = args_get(args, 0, "default_value");
    bool missing = self->kind == VALUE_UNDEFINED || (args_bool(args, 1, "boolean", false) && !value_truthy(self));
    if (!missing)
        *out = *self;
    else if (otherwise != NULL)
        *out = *otherwise;
    else
        return value_from_bytes(render, bytes_of(NULL, 0), false, out);
    return true;
}

static bool filter_length(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    size_t length;
    if (!value_length(render, self, &length))
        return false;
    *out = value_integer((int64_t)length, false);
    return true;
}

static bool filter_attr(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    const struct text *name = NULL;
    if (!args_text(render, args, 0, "name", &name))
        return false;
    if (name == NULL)
        return render_fail(render, TEMPLATE_TYPE, "attr() is missing an argument");
    if (self->kind == VALUE_DICT && jinja_method_find(self, text_bytes(name)) == NULL) /* never an item */
        return value_undefined(
            render, (struct undefined){.name = text_bytes(name), .object_type = "dict", .attribute = true}, out);
    return jinja_attribute(render, self, text_bytes(name), out);
}

static bool fill_items(struct render *render, struct list *list)
{
    const struct value *self = &list->lazy->self;
    struct value pairs;
    if (self->kind == VALUE_UNDEFINED)
        return true;
    if (self->kind != VALUE_DICT)
        return render_fail(render, TEMPLATE_TYPE, "Can only get item pairs from a mapping.");
    if (!jinja_method_find(self, BYTES_LITERAL("items"))->function(render, self, &list->lazy->args, &pairs))
        return false;
    list->items = pairs.as.list->items;
    list->count = pairs.as.list->count;
    return true;
}

static bool filter_items(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    return jinja_generator(render, fill_items, (struct lazy){.self = *self, .args = *args}, out);
}

/* ---- tables ------------------------------------------------------------------------------------------------- */

static const struct builtin_entry FILTERS[] = {
    {"abs", filter_abs, {NULL}},
    {"attr", filter_attr, {"name"}},
    {"capitalize", filter_capitalize, {NULL}},
    {"count", filter_length, {NULL}},
    {"d", filter_default, {"default_value", "boolean"}},
    {"default", filter_default, {"default_value", "boolean"}},
    {"e", filter_escape, {NULL}},
    {"escape", filter_escape, {NULL}},
    {"float", filter_float, {"default"}},
    {"indent", filter_indent, {"width", "first", "blank"}},
    {"int", filter_int, {"default", "base"}},
    {"items", filter_items, {NULL}},
    {"length", filter_length, {NULL}},
    {"lower", filter_lower, {NULL}},
    {"replace", filter_replace, {"old", "new", "count"}},
    {"round", filter_round, {"precision", "method"}},
    {"safe", filter_safe, {NULL}},
    {"string", filter_string, {NULL}},
    {"title", filter_title, {NULL}},
    {"tojson", filter_tojson, {"ensure_ascii", "indent", "separators", "sort_keys"}},
    {"trim", filter_trim, {"chars"}},
    {"upper", filter_upper, {NULL}},
    {"wordcount", filter_wordcount, {NULL}},
};

const struct builtin_entry *jinja_filter_find(struct bytes name)
{
    const struct builtin_entry *found = builtin_find(FILTERS, COUNT_OF(FILTERS), name);
    return found != NULL ? found : builtin_find(JINJA_SEQUENCE_FILTERS, JINJA_SEQUENCE_FILTERS_COUNT, name);
}
