/* jinja_arith: + - * / // % ** by Python's rules, on 64-bit integers, doubles, texts and lists.
 *
 * Python's integers have no bound; here a result beyond 64 bits is an error, never a wrong number. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "text/jinja_eval.h"

static const char *sign_of(enum node_kind kind)
{
    static const char *const signs[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};
    return signs[kind - NODE_ADD];
}

static bool too_large(struct render *render)
{
    return render_fail(render, TEMPLATE_OVERFLOW, "an integer does not fit 64 bits");
}

static int64_t floor_div(int64_t a, int64_t b)
{
    int64_t quotient = a / b;
    return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

static bool integer_power(struct render *render, int64_t base, int64_t exponent, int64_t *out)
{
    int64_t result = 1;
    for (; exponent > 0; exponent >>= 1) {
        if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result))
            return too_large(render);
        if (exponent > 1 && __builtin_mul_overflow(base, base, &base))
            return too_large(render);
    }
    *out = result;
    return true;
}

static bool integers(struct render *render, enum node_kind kind, int64_t a, int64_t b, int64_t *out)
{
    switch (kind) {
    case NODE_ADD:
        return !__builtin_add_overflow(a, b, out) || too_large(render);
    case NODE_SUB:
        return !__builtin_sub_overflow(a, b, out) || too_large(render);
    case NODE_MUL:
        return !__builtin_mul_overflow(a, b, out) || too_large(render);
    case NODE_POW:
        return integer_power(render, a, b, out);
    default:
        break;
    }
    if (a == INT64_MIN && b == -1)
        return too_large(render);
    *out = kind == NODE_FLOORDIV ? floor_div(a, b) : a - floor_div(a, b) * b;
    return true;
}

static double float_modulo(double a, double b)
{
    double rest = fmod(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

static bool numbers(struct render *render, enum node_kind kind, const struct value *a, const struct value *b,
                    struct value *out)
{
    int64_t x, y, result = 0;
    bool client = a->client || b->client;
    bool whole = value_is_integer(a, &x) && value_is_integer(b, &y);
    double p = value_number(a), q = value_number(b);
    if ((kind == NODE_DIV || kind == NODE_FLOORDIV || kind == NODE_MOD) && q == 0)
        return render_fail(render, TEMPLATE_DIVISION, "division by zero");
    if (whole && kind != NODE_DIV && !(kind == NODE_POW && y < 0)) {
        if (!integers(render, kind, x, y, &result))
            return false;
        *out = value_integer(result, client);
        return true;
    }
    double real = kind == NODE_ADD        ? p + q
                  : kind == NODE_SUB      ? p - q
                  : kind == NODE_MUL      ? p * q
                  : kind == NODE_DIV      ? p / q
                  : kind == NODE_FLOORDIV ? floor(p / q)
                  : kind == NODE_MOD      ? float_modulo(p, q)
                                          : pow(p, q);
    *out = value_float(real, client);
    return true;
}

/* text + text; beside a Markup the other one is escaped, as markupsafe does. */
static bool join_texts(struct render *render, const struct text *a, const struct text *b, struct value *out)
{
    struct builder builder;
    bool markup = a->markup || b->markup;
    builder_init(&builder, render);
    if (!(markup && !a->markup ? builder_add_escaped(&builder, a) : builder_add_text(&builder, a)) ||
        !(markup && !b->markup ? builder_add_escaped(&builder, b) : builder_add_text(&builder, b)) ||
        !builder_finish(&builder, out))
        return false;
    ((struct text *)(uintptr_t)out->as.text)->markup = markup; /* just made here */
    return true;
}

static bool join_lists(struct render *render, const struct list *a, const struct list *b, struct value *out)
{
    struct list *list = list_new(render, a->kind, a->count + b->count);
    if (list == NULL)
        return false;
    if (a->count > 0)
        memcpy(list->items, a->items, a->count * sizeof *a->items);
    if (b->count > 0)
        memcpy(list->items + a->count, b->items, b->count * sizeof *b->items);
    *out = value_list(list);
    return true;
}

static bool repeat_text(struct render *render, const struct text *text, int64_t times, struct value *out)
{
    struct builder builder;
    builder_init(&builder, render);
    for (int64_t i = 0; i < times && text->length > 0; i++) {
        if (!render_spend(render, 1) || !builder_add_text(&builder, text))
            return false;
    }
    if (!builder_finish(&builder, out))
        return false;
    ((struct text *)(uintptr_t)out->as.text)->markup = text->markup;
    return true;
}

static bool repeat_list(struct render *render, const struct list *list, int64_t times, struct value *out)
{
    size_t total, count = times < 0 ? 0 : (size_t)times;
    if (__builtin_mul_overflow(count, list->count, &total) || total > JINJA_STEPS_MAX)
        return render_fail(render, TEMPLATE_BOUNDS, "a list grows too long");
    struct list *result = list_new(render, list->kind, total);
    if (result == NULL)
        return false;
    for (size_t i = 0; i < total; i++)
        result->items[i] = list->items[i % list->count];
    *out = value_list(result);
    return true;
}

/* One conversion of a format: %s, %r, %d, %i, %%. */
static bool add_conversion(struct builder *builder, uint8_t conversion, const struct value *value)
{
    int64_t integer;
    if (conversion == 's')
        return builder_add_value(builder, value);
    if (conversion == 'r')
        return builder_add_repr(builder, value);
    if (conversion != 'd' && conversion != 'i')
        return render_fail(builder->render, TEMPLATE_UNSUPPORTED, "the format %%%c is not supported", conversion);
    if (value->kind == VALUE_FLOAT && isfinite(value->as.real) && fabs(value->as.real) < 0x1p62)
        integer = (int64_t)value->as.real;
    else if (!value_is_integer(value, &integer))
        return render_fail(builder->render, TEMPLATE_TYPE, "%%d format: a number is required, not %s",
                           value_type_name(value));
    struct value number = value_integer(integer, value->client);
    return builder_add_value(builder, &number);
}

/* text % values: Python's printf, of which templates use little. */
static bool format_text(struct render *render, const struct text *format, const struct value *values, struct value *out)
{
    bool tuple = values->kind == VALUE_LIST && values->as.list->kind == LIST_TUPLE;
    const struct value *items = tuple ? values->as.list->items : values;
    size_t count = tuple ? values->as.list->count : 1, used = 0;
    struct walker walker = walk_start(format);
    struct builder builder;
    builder_init(&builder, render);
    while (walk(&walker)) {
        struct bytes bytes = bytes_of(format->data + walker.begin, walker.at - walker.begin);
        if (walker.point != '%') {
            if (!builder_add(&builder, bytes, walker.client))
                return false;
            continue;
        }
        if (!walk(&walker))
            return render_fail(render, TEMPLATE_VALUE, "incomplete format");
        if (walker.point == '%') {
            if (!builder_add(&builder, bytes, walker.client))
                return false;
            continue;
        }
        if (used == count)
            return render_fail(render, TEMPLATE_TYPE, "not enough arguments for format string");
        if (!add_conversion(&builder, walker.point < 0x80 ? (uint8_t)walker.point : '?', &items[used++]))
            return false;
    }
    /* What can be indexed counts as a mapping there, and may hold more than the format asks for. */
    bool mapping =
        values->kind == VALUE_DICT || values->kind == VALUE_UNDEFINED ||
        (values->kind == VALUE_LIST && (values->as.list->kind == LIST_LIST || values->as.list->kind == LIST_RANGE));
    if (used < count && !mapping)
        return render_fail(render, TEMPLATE_TYPE, "not all arguments converted during string formatting");
    return builder_finish(&builder, out);
}

static bool type_error(struct render *render, enum node_kind kind, const struct value *a, const struct value *b)
{
    if (kind == NODE_ADD && a->kind == VALUE_TEXT)
        return render_fail(render, TEMPLATE_TYPE, "can only concatenate str (not \"%s\") to str", value_type_name(b));
    if (kind == NODE_ADD && a->kind == VALUE_LIST && a->as.list->kind <= LIST_TUPLE)
        return render_fail(render, TEMPLATE_TYPE, "can only concatenate %s (not \"%s\") to %s", value_type_name(a),
                           value_type_name(b), value_type_name(a));
    return render_fail(render, TEMPLATE_TYPE, "unsupported operand type(s) for %s: '%s' and '%s'", sign_of(kind),
                       value_type_name(a), value_type_name(b));
}

bool jinja_arithmetic(struct render *render, enum node_kind kind, const struct value *a, const struct value *b,
                      struct value *out)
{
    int64_t times;
    if (kind == NODE_MOD && a->kind == VALUE_TEXT)
        return format_text(render, a->as.text, b, out);
    if (a->kind == VALUE_UNDEFINED || b->kind == VALUE_UNDEFINED)
        return render_fail_undefined(render, a->kind == VALUE_UNDEFINED ? a : b);
    if (value_is_number(a) && value_is_number(b))
        return numbers(render, kind, a, b, out);
    if (kind == NODE_ADD && a->kind == VALUE_TEXT && b->kind == VALUE_TEXT)
        return join_texts(render, a->as.text, b->as.text, out);
    if (kind == NODE_ADD && a->kind == VALUE_LIST && b->kind == VALUE_LIST && a->as.list->kind <= LIST_TUPLE &&
        a->as.list->kind == b->as.list->kind)
        return join_lists(render, a->as.list, b->as.list, out);
    if (kind == NODE_MUL) {
        const struct value *sequence = value_is_integer(b, &times) ? a : b;
        if ((sequence == a || value_is_integer(a, &times)) && sequence->kind == VALUE_TEXT)
            return repeat_text(render, sequence->as.text, times, out);
        if ((sequence == a || value_is_integer(a, &times)) && sequence->kind == VALUE_LIST &&
            sequence->as.list->kind <= LIST_TUPLE)
            return repeat_list(render, sequence->as.list, times, out);
    }
    return type_error(render, kind, a, b);
}
