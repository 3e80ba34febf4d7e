/* jinja_builtins: tests (x is y) and global functions: range, dict, namespace, raise_exception, strftime_now, … */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "text/jinja_eval.h"
#include "text/unicode.h"

enum { RANGE_MAX = 100000 };

/* ---- tests -------------------------------------------------------------------------------------------------- */

static bool test_defined(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)render;
    (void)args;
    *out = value->kind != VALUE_UNDEFINED;
    return true;
}

static bool test_undefined(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)render;
    (void)args;
    *out = value->kind == VALUE_UNDEFINED;
    return true;
}

static bool test_none(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)render;
    (void)args;
    *out = value->kind == VALUE_NONE;
    return true;
}

static bool test_string(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)render;
    (void)args;
    *out = value->kind == VALUE_TEXT;
    return true;
}

static bool test_mapping(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)render;
    (void)args;
    *out = value->kind == VALUE_DICT;
    return true;
}

static bool test_number(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)render;
    (void)args;
    *out = value_is_number(value);
    return true;
}

static bool test_integer(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)render;
    (void)args;
    *out = value->kind == VALUE_INTEGER;
    return true;
}

static bool test_float(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)render;
    (void)args;
    *out = value->kind == VALUE_FLOAT;
    return true;
}

static bool test_boolean(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)render;
    (void)args;
    *out = value->kind == VALUE_BOOL;
    return true;
}

static bool test_true(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)render;
    (void)args;
    *out = value->kind == VALUE_BOOL && value->as.boolean;
    return true;
}

static bool test_false(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)render;
    (void)args;
    *out = value->kind == VALUE_BOOL && !value->as.boolean;
    return true;
}

static bool test_iterable(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)render;
    (void)args;
    *out = value->kind == VALUE_UNDEFINED || value->kind == VALUE_TEXT || value->kind == VALUE_LIST ||
           value->kind == VALUE_DICT;
    return true;
}

/* Has a length and elements. */
static bool test_sequence(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)render;
    (void)args;
    *out = value->kind == VALUE_UNDEFINED || value->kind == VALUE_TEXT || value->kind == VALUE_DICT ||
           (value->kind == VALUE_LIST && list_has_places(value->as.list));
    return true;
}

static bool test_callable(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)render;
    (void)args;
    *out = value->kind == VALUE_CALLABLE || value->kind == VALUE_LOOP || value->kind == VALUE_UNDEFINED;
    return true;
}

static bool divides(struct render *render, const struct value *value, const struct value *by, double *rest)
{
    struct value result;
    if (!jinja_arithmetic(render, NODE_MOD, value, by, &result))
        return false;
    *rest = value_number(&result);
    return true;
}

static bool test_odd(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)args;
    struct value two = value_integer(2, false);
    double rest;
    if (!divides(render, value, &two, &rest))
        return false;
    *out = rest == 1;
    return true;
}

static bool test_even(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)args;
    struct value two = value_integer(2, false);
    double rest;
    if (!divides(render, value, &two, &rest))
        return false;
    *out = rest == 0;
    return true;
}

static bool test_divisible(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    double rest;
    if (!divides(render, value, &args->positional[0], &rest))
        return false;
    *out = rest == 0;
    return true;
}

static bool test_equal(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    return value_equal(render, value, &args->positional[0], out);
}

static bool test_not_equal(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    if (!value_equal(render, value, &args->positional[0], out))
        return false;
    *out = !*out;
    return true;
}

static bool test_less(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    int order;
    if (!value_order(render, value, &args->positional[0], "<", &order))
        return false;
    *out = order < 0;
    return true;
}

static bool test_less_equal(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    int order;
    if (!value_order(render, value, &args->positional[0], "<=", &order))
        return false;
    *out = order <= 0;
    return true;
}

static bool test_greater(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    int order;
    if (!value_order(render, value, &args->positional[0], ">", &order))
        return false;
    *out = order > 0;
    return true;
}

static bool test_greater_equal(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    int order;
    if (!value_order(render, value, &args->positional[0], ">=", &order))
        return false;
    *out = order >= 0;
    return true;
}

static bool test_in(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    return value_contains(render, &args->positional[0], value, out);
}

static bool test_same(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    const struct value *other = &args->positional[0];
    (void)render;
    *out = value->kind == other->kind && (value->kind == VALUE_NONE || value->as.integer == other->as.integer);
    if (value->kind == VALUE_BOOL && other->kind == VALUE_BOOL)
        *out = value->as.boolean == other->as.boolean;
    return true;
}

static bool one_case(struct render *render, const struct value *value, bool upper, bool *out)
{
    const struct text *text;
    bool any = false, all = true;
    if (!value_to_text(render, value, &text))
        return false;
    for (struct walker walker = walk_start(text); walk(&walker);) {
        any |= upper ? unicode_is_upper(walker.point) : unicode_is_lower(walker.point);
        all &= upper ? !unicode_is_lower(walker.point) : !unicode_is_upper(walker.point);
    }
    *out = any && all;
    return render_spend(render, text->points / 8);
}

static bool test_upper(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)args;
    return one_case(render, value, true, out);
}

static bool test_lower(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)args;
    return one_case(render, value, false, out);
}

static bool test_escaped(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)render;
    (void)args;
    *out = value->kind == VALUE_TEXT && value->as.text->markup;
    return true;
}

static bool test_filter(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)render;
    (void)args;
    *out = value->kind == VALUE_TEXT && jinja_filter_find(text_bytes(value->as.text)) != NULL;
    return true;
}

static bool test_test(struct render *render, const struct value *value, const struct args *args, bool *out)
{
    (void)render;
    (void)args;
    *out = value->kind == VALUE_TEXT && jinja_test_find(text_bytes(value->as.text)) != NULL;
    return true;
}

static const struct test_entry TESTS[] = {
    {"defined", test_defined, 0},
    {"undefined", test_undefined, 0},
    {"none", test_none, 0},
    {"string", test_string, 0},
    {"mapping", test_mapping, 0},
    {"number", test_number, 0},
    {"integer", test_integer, 0},
    {"float", test_float, 0},
    {"boolean", test_boolean, 0},
    {"true", test_true, 0},
    {"false", test_false, 0},
    {"iterable", test_iterable, 0},
    {"sequence", test_sequence, 0},
    {"callable", test_callable, 0},
    {"odd", test_odd, 0},
    {"even", test_even, 0},
    {"divisibleby", test_divisible, 1},
    {"sameas", test_same, 1},
    {"equalto", test_equal, 1},
    {"eq", test_equal, 1},
    {"==", test_equal, 1},
    {"ne", test_not_equal, 1},
    {"!=", test_not_equal, 1},
    {"lt", test_less, 1},
    {"<", test_less, 1},
    {"lessthan", test_less, 1},
    {"le", test_less_equal, 1},
    {"<=", test_less_equal, 1},
    {"gt", test_greater, 1},
    {">", test_greater, 1},
    {"greaterthan", test_greater, 1},
    {"ge", test_greater_equal, 1},
    {">=", test_greater_equal, 1},
    {"in", test_in, 1},
    {"upper", test_upper, 0},
    {"lower", test_lower, 0},
    {"escaped", test_escaped, 0},
    {"filter", test_filter, 0},
    {"test", test_test, 0},
};

const struct test_entry *jinja_test_find(struct bytes name)
{
    for (size_t i = 0; i < COUNT_OF(TESTS); i++) {
        if (bytes_equal(name, bytes_of_text(TESTS[i].name)))
            return &TESTS[i];
    }
    return NULL;
}

/* ---- globals ------------------------------------------------------------------------------------------------ */

static bool global_raise(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)self;
    (void)out;
    const struct value *message = args_get(args, 0, "message");
    const struct text *text;
    if (message == NULL)
        return render_fail(render, TEMPLATE_TYPE, "raise_exception() is missing an argument");
    if (!value_to_text(render, message, &text))
        return false;
    return render_fail(render, TEMPLATE_RAISED, "%.*s", (int)MIN_OF(text->length, (size_t)ERROR_TEXT_MAX),
                       (const char *)text->data);
}

static bool global_range(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)self;
    int64_t begin = 0, end = 0, step = 1;
    size_t first = args->count > 1;
    if (args->count == 0)
        return render_fail(render, TEMPLATE_TYPE, "range expected at least 1 argument, got 0");
    if ((first != 0 && !args_integer(render, args, 0, NULL, &begin)) ||
        !args_integer(render, args, first, NULL, &end) || !args_integer(render, args, 2, NULL, &step))
        return false;
    if (step == 0)
        return render_fail(render, TEMPLATE_VALUE, "range() arg 3 must not be zero");
    uint64_t distance = step > 0 ? (end > begin ? (uint64_t)end - (uint64_t)begin : 0)
                                 : (begin > end ? (uint64_t)begin - (uint64_t)end : 0);
    uint64_t stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    uint64_t count = distance / stride + (distance % stride != 0);
    if (count > RANGE_MAX)
        return render_fail(render, TEMPLATE_OVERFLOW, "Range too big. The sandbox blocks ranges larger than %d.",
                           RANGE_MAX);
    struct list *list = list_new(render, LIST_RANGE, (size_t)count);
    if (list == NULL)
        return false;
    for (size_t i = 0; i < list->count; i++)
        list->items[i] = value_integer(begin + (int64_t)i * step, false);
    list->begin = begin;
    list->end = end;
    list->step = step;
    *out = value_list(list);
    return true;
}

/* dict(**kwargs) and namespace(**kwargs), over a mapping if one is given. */
static bool make_dict(struct render *render, const struct args *args, struct dict **out)
{
    struct dict *dict = dict_new(render);
    if (dict == NULL)
        return false;
    if (args->count > 0 && args->positional[0].kind != VALUE_DICT)
        return render_fail(render, TEMPLATE_TYPE, "only a mapping can be given, not %s",
                           value_type_name(&args->positional[0]));
    for (size_t i = 0; args->count > 0 && i < args->positional[0].as.dict->count; i++) {
        const struct pair *pair = &args->positional[0].as.dict->pairs[i];
        if (!dict_put(render, dict, pair->key, pair->value))
            return false;
    }
    for (size_t i = 0; i < args->keywords_count; i++) {
        struct value key;
        if (!value_from_bytes(render, args->keywords[i].name, false, &key) ||
            !dict_put(render, dict, key, args->keywords[i].value))
            return false;
    }
    *out = dict;
    return true;
}

static bool global_dict(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)self;
    *out = (struct value){.kind = VALUE_DICT};
    return make_dict(render, args, &out->as.dict);
}

static bool global_namespace(struct render *render, const struct value *self, const struct args *args,
                             struct value *out)
{
    (void)self;
    *out = (struct value){.kind = VALUE_NAMESPACE};
    return make_dict(render, args, &out->as.dict);
}

/* The time of the call is the router's: UTC. */
static bool global_strftime(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)self;
    const struct text *format = NULL;
    if (!args_text(render, args, 0, "format", &format))
        return false;
    if (format == NULL)
        return render_fail(render, TEMPLATE_TYPE, "strftime_now() is missing an argument");
    return jinja_date(render, format, render->now_s, out);
}

/* joiner(sep): an object that is empty when called first, and `sep` from then on. */
static bool call_joiner(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    struct value *used = dict_get_name(self->as.dict, BYTES_LITERAL("used"));
    struct value *separator = dict_get_name(self->as.dict, BYTES_LITERAL("sep"));
    CHECK(used != NULL && separator != NULL);
    bool first = !value_truthy(used);
    *used = value_bool(true);
    if (first)
        return value_from_bytes(render, bytes_of(NULL, 0), false, out);
    *out = *separator;
    return true;
}

static bool put(struct render *render, struct dict *dict, const char *name, struct value value)
{
    struct value key;
    return value_from_bytes(render, bytes_of_text(name), false, &key) && dict_put(render, dict, key, value);
}

static bool global_joiner(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)self;
    static const struct builtin_entry entry = {"joiner", call_joiner, {NULL}};
    const struct value *given = args_get(args, 0, "sep");
    struct callable *callable = render_alloc(render, 1, sizeof *callable);
    struct dict *state = dict_new(render);
    struct value separator;
    if (callable == NULL || state == NULL || !value_from_bytes(render, BYTES_LITERAL(", "), false, &separator))
        return false;
    if (given != NULL)
        separator = *given;
    if (!put(render, state, "sep", separator) || !put(render, state, "used", value_bool(false)))
        return false;
    *callable = (struct callable){
        .kind = CALL_BUILTIN, .builtin = &entry, .state = {.kind = VALUE_NAMESPACE, .as.dict = state}};
    *out = (struct value){.kind = VALUE_CALLABLE, .as.callable = callable};
    return true;
}

static const struct builtin_entry GLOBALS[] = {
    {"raise_exception", global_raise, {"message"}},
    {"range", global_range, {"start", "stop", "step"}},
    {"dict", global_dict, {"*"}},
    {"namespace", global_namespace, {"*"}},
    {"strftime_now", global_strftime, {"format"}},
    {"joiner", global_joiner, {"sep"}},
};

const struct builtin_entry *jinja_global_find(struct bytes name)
{
    return builtin_find(GLOBALS, COUNT_OF(GLOBALS), name);
}
