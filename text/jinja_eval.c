/* jinja_eval: expressions.
 *
 * Recursion follows the tree and is bounded by render->depth; every node costs a step. */
#include "text/jinja_eval.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

bool jinja_enter(struct render *render, const struct node *node)
{
    render->line = node->line;
    if (!render_spend(render, 1))
        return false;
    if (render->depth >= JINJA_DEPTH_MAX)
        return render_fail(render, TEMPLATE_BOUNDS, "macros or expressions are nested too deeply");
    render->depth++;
    return true;
}

void jinja_leave(struct render *render)
{
    CHECK(render->depth > 0);
    render->depth--;
}

/* ---- names, attributes, items ------------------------------------------------------------------------------- */

static bool lookup(struct render *render, const struct node *node, struct value *out)
{
    for (const struct frame *frame = render->frame; frame != NULL; frame = frame->parent) {
        if (!render_spend(render, 1))
            return false;
        for (const struct variable *variable = frame->variables; variable != NULL; variable = variable->next) {
            if (variable->symbol == node->symbol) {
                *out = variable->value;
                return true;
            }
        }
    }
    *out = render->globals[node->symbol];
    if (out->kind != VALUE_UNDEFINED)
        return true;
    const struct builtin_entry *global = jinja_global_find(node->text);
    if (global == NULL)
        return value_undefined(render, (struct undefined){.name = node->text}, out);
    struct callable *callable = render_alloc(render, 1, sizeof *callable);
    if (callable == NULL)
        return false;
    *callable = (struct callable){.kind = CALL_BUILTIN, .builtin = global, .self = value_none()};
    *out = (struct value){.kind = VALUE_CALLABLE, .as.callable = callable};
    return true;
}

static bool loop_attribute(struct render *render, const struct loop *loop, struct bytes name, struct value *out)
{
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {
        {"index", (int64_t)loop->index0 + 1},
        {"index0", (int64_t)loop->index0},
        {"revindex", (int64_t)(loop->count - loop->index0)},
        {"revindex0", (int64_t)(loop->count - loop->index0) - 1},
        {"length", (int64_t)loop->count},
        {"depth", (int64_t)loop->depth0 + 1},
        {"depth0", (int64_t)loop->depth0},
    };
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        if (bytes_equal(name, bytes_of_text(numbers[i].name))) {
            *out = value_integer(numbers[i].value, false);
            return true;
        }
    }
    bool first = loop->index0 == 0, last = loop->index0 + 1 >= loop->count;
    if (bytes_equal(name, BYTES_LITERAL("first")))
        *out = value_bool(first);
    else if (bytes_equal(name, BYTES_LITERAL("last")))
        *out = value_bool(last);
    else if (bytes_equal(name, BYTES_LITERAL("previtem")) && !first)
        *out = loop->items[loop->index0 - 1];
    else if (bytes_equal(name, BYTES_LITERAL("nextitem")) && !last)
        *out = loop->items[loop->index0 + 1];
    else
        return value_undefined(render,
                               (struct undefined){.name = name, .object_type = "LoopContext", .attribute = true}, out);
    return true;
}

/* What getattr would give, before items are looked at: a bound method, or a namespace's or loop's attribute. */
static bool own_attribute(struct render *render, const struct value *object, struct bytes name, struct value *out,
                          bool *found)
{
    *found = true;
    if (object->kind == VALUE_NAMESPACE) {
        struct value *value = dict_get_name(object->as.dict, name);
        *found = value != NULL;
        if (value != NULL)
            *out = *value;
        return true;
    }
    const struct builtin_entry *method = jinja_method_find(object, name);
    if (method != NULL) {
        struct callable *callable = render_alloc(render, 1, sizeof *callable);
        if (callable == NULL)
            return false;
        *callable = (struct callable){.kind = CALL_BUILTIN, .builtin = method, .self = *object};
        *out = (struct value){.kind = VALUE_CALLABLE, .as.callable = callable};
        return true;
    }
    if (object->kind == VALUE_LOOP)
        return loop_attribute(render, object->as.loop, name, out);
    *found = jinja_method_unsafe(object, name);
    return !*found ||
           value_undefined(render,
                           (struct undefined){
                               .name = name, .object_type = value_type_name(object), .attribute = true, .unsafe = true},
                           out);
}

bool jinja_attribute(struct render *render, const struct value *object, struct bytes name, struct value *out)
{
    bool found;
    if (object->kind == VALUE_UNDEFINED)
        return render_fail_undefined(render, object);
    if (!own_attribute(render, object, name, out, &found))
        return false;
    if (found)
        return true;
    if (object->kind == VALUE_DICT) {
        struct value key, *value;
        if (!value_from_bytes(render, name, false, &key) || !dict_get(render, object->as.dict, &key, &value))
            return false;
        if (value != NULL) {
            *out = *value;
            return true;
        }
    }
    return value_undefined(
        render, (struct undefined){.name = name, .object_type = value_type_name(object), .attribute = true}, out);
}

/* A place in a text or sequence, negative from the end; false: outside. */
static bool place(int64_t index, size_t count, size_t *at)
{
    if (index < 0)
        index += (int64_t)count;
    if (index < 0 || (uint64_t)index >= count)
        return false;
    *at = (size_t)index;
    return true;
}

static bool character(struct render *render, const struct text *text, size_t at, struct value *out)
{
    size_t begin = text_offset(text, at), end = begin + 1;
    while (end < text->length && (text->data[end] & 0xc0) == 0x80)
        end++;
    return text_slice(render, text, begin, end, out);
}

static bool missing_item(struct render *render, const struct value *object, const struct value *key, struct value *out)
{
    struct undefined why = {.object_type = value_type_name(object)};
    if (key->kind == VALUE_TEXT) {
        bool found;
        if (!own_attribute(render, object, text_bytes(key->as.text), out, &found) || found)
            return found;
        why.attribute = true;
        why.name = text_bytes(key->as.text);
        return value_undefined(render, why, out);
    }
    struct builder builder;
    struct value name;
    builder_init(&builder, render);
    if (!builder_add_repr(&builder, key) || !builder_finish(&builder, &name))
        return false;
    why.name = text_bytes(name.as.text);
    return value_undefined(render, why, out);
}

bool jinja_item(struct render *render, const struct value *object, const struct value *key, struct value *out)
{
    int64_t index;
    size_t at;
    if (object->kind == VALUE_UNDEFINED)
        return render_fail_undefined(render, object);
    if (object->kind == VALUE_DICT && !(key->kind == VALUE_LIST && key->as.list->kind != LIST_TUPLE) &&
        key->kind != VALUE_DICT) {
        struct value *value;
        if (!dict_get(render, object->as.dict, key, &value))
            return false;
        if (value != NULL) {
            *out = *value;
            return true;
        }
    } else if (value_is_integer(key, &index)) {
        if (object->kind == VALUE_TEXT && place(index, object->as.text->points, &at))
            return character(render, object->as.text, at, out);
        if (object->kind == VALUE_LIST && list_has_places(object->as.list) &&
            place(index, object->as.list->count, &at)) {
            *out = object->as.list->items[at];
            return true;
        }
    }
    return missing_item(render, object, key, out);
}

/* ---- slices ------------------------------------------------------------------------------------------------- */

/* One bound of a slice; false in *given when it is absent or none. */
static bool slice_part(struct render *render, const struct node *node, int64_t *out, bool *given)
{
    struct value value = value_none();
    if (node != NULL && !jinja_eval(render, node, &value))
        return false;
    *given = value.kind != VALUE_NONE;
    if (*given && !value_is_integer(&value, out))
        return render_fail(render, TEMPLATE_TYPE, "slice indices must be integers or None or have an __index__ method");
    return true;
}

static int64_t clamp(int64_t index, int64_t low, int64_t high)
{
    return index < low ? low : index > high ? high : index;
}

/* Python's slice.indices: where it begins, how far it steps, how many there are. */
static bool slice_range(struct render *render, const struct node *node, size_t length, int64_t *begin, int64_t *step,
                        size_t *count)
{
    int64_t size = (int64_t)length, end = 0;
    bool has_begin, has_end, has_step;
    if (!slice_part(render, node->items.data[0], begin, &has_begin) ||
        !slice_part(render, node->items.data[1], &end, &has_end) ||
        !slice_part(render, node->items.data[2], step, &has_step))
        return false;
    if (!has_step)
        *step = 1;
    if (*step == 0)
        return render_fail(render, TEMPLATE_VALUE, "slice step cannot be zero");
    *step = clamp(*step, -size - 1, size + 1); /* beyond the length all are alike */
    int64_t low = *step > 0 ? 0 : -1, high = *step > 0 ? size : size - 1;
    *begin = !has_begin ? (*step > 0 ? low : high) : clamp(*begin < 0 ? *begin + size : *begin, low, high);
    end = !has_end ? (*step > 0 ? high : low) : clamp(end < 0 ? end + size : end, low, high);
    int64_t distance = *step > 0 ? end - *begin : *begin - end, stride = *step > 0 ? *step : -*step;
    *count = distance <= 0 ? 0 : (size_t)((distance + stride - 1) / stride);
    return true;
}

static bool slice_text(struct render *render, const struct text *text, int64_t begin, int64_t step, size_t count,
                       struct value *out)
{
    if (count == 0)
        return text_slice(render, text, 0, 0, out);
    if (step == 1)
        return text_slice(render, text, text_offset(text, (size_t)begin), text_offset(text, (size_t)begin + count),
                          out);
    struct value whole = value_text(text), *items;
    struct builder builder;
    size_t ignored;
    if (!value_iterate(render, &whole, &items, &ignored))
        return false;
    builder_init(&builder, render);
    for (size_t i = 0; i < count; i++) {
        if (!builder_add_text(&builder, items[begin + (int64_t)i * step].as.text))
            return false;
    }
    return builder_finish(&builder, out);
}

static bool eval_slice(struct render *render, const struct node *node, struct value *out)
{
    struct value object;
    int64_t begin = 0, step = 1;
    size_t length, count = 0;
    if (!jinja_eval(render, node->a, &object))
        return false;
    if (object.kind == VALUE_UNDEFINED)
        return render_fail_undefined(render, &object);
    bool sliceable = object.kind == VALUE_TEXT || (object.kind == VALUE_LIST && list_has_places(object.as.list));
    if (!sliceable)
        return render_fail(render, TEMPLATE_TYPE, "'%s' object is not subscriptable", value_type_name(&object));
    if (!value_length(render, &object, &length) || !slice_range(render, node, length, &begin, &step, &count))
        return false;
    if (object.kind == VALUE_TEXT)
        return slice_text(render, object.as.text, begin, step, count, out);
    struct list *list = list_new(render, object.as.list->kind, count);
    if (list == NULL)
        return false;
    for (size_t i = 0; i < count; i++)
        list->items[i] = object.as.list->items[begin + (int64_t)i * step];
    *out = value_list(list);
    return true;
}

/* ---- calls -------------------------------------------------------------------------------------------------- */

static bool add_keyword(struct render *render, struct args *args, struct bytes name, struct value value)
{
    struct keyword *grown = render_alloc(render, args->keywords_count + 1, sizeof *grown);
    if (grown == NULL)
        return false;
    if (args->keywords_count > 0)
        memcpy(grown, args->keywords, args->keywords_count * sizeof *grown);
    grown[args->keywords_count++] = (struct keyword){.name = name, .value = value};
    args->keywords = grown;
    return true;
}

static bool add_star_star(struct render *render, const struct node *node, struct args *out)
{
    struct value value;
    if (!jinja_eval(render, node, &value))
        return false;
    if (value.kind != VALUE_DICT)
        return render_fail(render, TEMPLATE_TYPE, "argument after ** must be a mapping, not %s",
                           value_type_name(&value));
    for (size_t i = 0; i < value.as.dict->count; i++) {
        const struct pair *pair = &value.as.dict->pairs[i];
        if (pair->key.kind != VALUE_TEXT)
            return render_fail(render, TEMPLATE_TYPE, "keywords must be strings");
        if (!add_keyword(render, out, text_bytes(pair->key.as.text), pair->value))
            return false;
    }
    return true;
}

bool jinja_eval_args(struct render *render, const struct call_node *call, struct args *out)
{
    *out = (struct args){0};
    if (call == NULL)
        return true;
    struct value star = {.kind = VALUE_UNDEFINED}, *more = NULL;
    size_t more_count = 0;
    if (call->star != NULL &&
        (!jinja_eval(render, call->star, &star) || !value_iterate(render, &star, &more, &more_count)))
        return false;
    out->positional = render_alloc(render, call->positional.count + more_count, sizeof *out->positional);
    if (out->positional == NULL)
        return false;
    for (size_t i = 0; i < call->positional.count; i++) {
        if (!jinja_eval(render, call->positional.data[i], &out->positional[out->count++]))
            return false;
    }
    for (size_t i = 0; i < more_count; i++)
        out->positional[out->count++] = more[i];
    for (size_t i = 0; i < call->keywords_count; i++) {
        struct value value;
        if (!jinja_eval(render, call->keywords[i].value, &value) ||
            !add_keyword(render, out, call->keywords[i].name, value))
            return false;
    }
    return call->star_star == NULL || add_star_star(render, call->star_star, out);
}

const struct value *args_get(const struct args *args, size_t index, const char *name)
{
    if (index < args->count)
        return &args->positional[index];
    for (size_t i = 0; name != NULL && i < args->keywords_count; i++) {
        if (bytes_equal(args->keywords[i].name, bytes_of_text(name)))
            return &args->keywords[i].value;
    }
    return NULL;
}

bool args_check(struct render *render, const struct builtin_entry *entry, const struct args *args)
{
    size_t count = 0;
    while (count < COUNT_OF(entry->params) && entry->params[count] != NULL) {
        if (strcmp(entry->params[count], "*") == 0)
            return true;
        count++;
    }
    if (args->count > count)
        return render_fail(render, TEMPLATE_TYPE, "%s() takes at most %zu arguments (%zu given)", entry->name, count,
                           args->count);
    for (size_t i = 0; i < args->keywords_count; i++) {
        bool known = false;
        for (size_t p = 0; p < count; p++)
            known |= bytes_equal(args->keywords[i].name, bytes_of_text(entry->params[p]));
        if (!known)
            return render_fail(render, TEMPLATE_TYPE, "%s() got an unexpected keyword argument '%.*s'", entry->name,
                               (int)MIN_OF(args->keywords[i].name.length, (size_t)64),
                               (const char *)args->keywords[i].name.data);
    }
    return true;
}

bool args_integer(struct render *render, const struct args *args, size_t index, const char *name, int64_t *out)
{
    const struct value *value = args_get(args, index, name);
    if (value == NULL || value_is_integer(value, out))
        return true;
    if (value->kind == VALUE_UNDEFINED)
        return render_fail_undefined(render, value);
    return render_fail(render, TEMPLATE_TYPE, "'%s' object cannot be interpreted as an integer",
                       value_type_name(value));
}

bool args_bool(const struct args *args, size_t index, const char *name, bool otherwise)
{
    const struct value *value = args_get(args, index, name);
    return value == NULL ? otherwise : value_truthy(value);
}

bool args_text(struct render *render, const struct args *args, size_t index, const char *name, const struct text **out)
{
    const struct value *value = args_get(args, index, name);
    if (value == NULL)
        return true;
    if (value->kind != VALUE_TEXT)
        return render_fail(render, TEMPLATE_TYPE, "'%s' must be str, not %s", name, value_type_name(value));
    *out = value->as.text;
    return true;
}

bool jinja_call(struct render *render, const struct value *callee, const struct args *args, struct value *out)
{
    if (callee->kind == VALUE_UNDEFINED)
        return render_fail_undefined(render, callee);
    if (callee->kind == VALUE_LOOP) {
        const struct value *items = args_get(args, 0, "iterable");
        return items != NULL ? jinja_recurse(render, callee->as.loop, items, out)
                             : render_fail(render, TEMPLATE_TYPE, "loop() is missing an argument");
    }
    if (callee->kind != VALUE_CALLABLE)
        return render_fail(render, TEMPLATE_TYPE, "'%s' object is not callable", value_type_name(callee));
    const struct callable *callable = callee->as.callable;
    if (callable->kind == CALL_MACRO)
        return jinja_call_macro(render, callable, args, NULL, out);
    const struct value *self = callable->state.kind == VALUE_NAMESPACE ? &callable->state : &callable->self;
    return args_check(render, callable->builtin, args) && callable->builtin->function(render, self, args, out);
}

bool jinja_apply_filter(struct render *render, const struct builtin_entry *filter, const struct value *value,
                        const struct args *args, struct value *out)
{
    return args_check(render, filter, args) && filter->function(render, value, args, out);
}

bool jinja_apply_test(struct render *render, const struct test_entry *test, const struct value *value,
                      const struct args *args, bool *out)
{
    if (args->count + args->keywords_count != test->args_count)
        return render_fail(render, TEMPLATE_TYPE, "the test '%s' takes %zu arguments", test->name, test->args_count);
    if (args->keywords_count > 0)
        return render_fail(render, TEMPLATE_TYPE, "the test '%s' takes no named arguments", test->name);
    return test->function(render, value, args, out);
}

/* ---- operators ---------------------------------------------------------------------------------------------- */

static bool compare_once(struct render *render, enum compare_kind kind, const struct value *a, const struct value *b,
                         bool *result)
{
    static const char *const signs[] = {
        [COMPARE_LT] = "<", [COMPARE_LE] = "<=", [COMPARE_GT] = ">", [COMPARE_GE] = ">="};
    int order;
    switch (kind) {
    case COMPARE_EQ:
    case COMPARE_NE:
        if (!value_equal(render, a, b, result))
            return false;
        *result ^= kind == COMPARE_NE;
        return true;
    case COMPARE_IN:
    case COMPARE_NOT_IN:
        if (!value_contains(render, b, a, result))
            return false;
        *result ^= kind == COMPARE_NOT_IN;
        return true;
    default:
        if (value_is_number(a) && value_is_number(b) &&
            !(value_number(a) == value_number(a) && value_number(b) == value_number(b))) {
            *result = false; /* nan has no order */
            return true;
        }
        if (!value_order(render, a, b, signs[kind], &order))
            return false;
        *result = kind == COMPARE_LT   ? order < 0
                  : kind == COMPARE_LE ? order <= 0
                  : kind == COMPARE_GT ? order > 0
                                       : order >= 0;
        return true;
    }
}

static bool eval_compare(struct render *render, const struct node *node, struct value *out)
{
    struct value left, right;
    bool result = true;
    if (!jinja_eval(render, node->items.data[0], &left))
        return false;
    for (size_t i = 1; i < node->items.count && result; i++) {
        if (!jinja_eval(render, node->items.data[i], &right) ||
            !compare_once(render, node->compares[i - 1], &left, &right, &result))
            return false;
        left = right;
    }
    *out = value_bool(result);
    return true;
}

static bool eval_sign(struct render *render, const struct node *node, struct value *out)
{
    struct value value;
    int64_t integer;
    if (!jinja_eval(render, node->a, &value))
        return false;
    bool negate = node->kind == NODE_NEGATE;
    if (value_is_integer(&value, &integer)) {
        if (negate && integer == INT64_MIN)
            return render_fail(render, TEMPLATE_OVERFLOW, "an integer does not fit 64 bits");
        *out = value_integer(negate ? -integer : integer, value.client);
        return true;
    }
    if (value.kind == VALUE_UNDEFINED)
        return render_fail_undefined(render, &value);
    if (value.kind != VALUE_FLOAT)
        return render_fail(render, TEMPLATE_TYPE, "bad operand type for unary %c: '%s'", negate ? '-' : '+',
                           value_type_name(&value));
    *out = value_float(negate ? -value.as.real : value.as.real, value.client);
    return true;
}

static bool eval_list(struct render *render, const struct node *node, enum list_kind kind, struct value *out)
{
    struct list *list = list_new(render, kind, node->items.count);
    if (list == NULL)
        return false;
    for (size_t i = 0; i < node->items.count; i++) {
        if (!jinja_eval(render, node->items.data[i], &list->items[i]))
            return false;
    }
    *out = value_list(list);
    return true;
}

static bool eval_dict(struct render *render, const struct node *node, struct value *out)
{
    struct dict *dict = dict_new(render);
    if (dict == NULL)
        return false;
    for (size_t i = 0; i + 1 < node->items.count; i += 2) {
        struct value key, value;
        if (!jinja_eval(render, node->items.data[i], &key) || !jinja_eval(render, node->items.data[i + 1], &value) ||
            !dict_put(render, dict, key, value))
            return false;
    }
    *out = (struct value){.kind = VALUE_DICT, .as.dict = dict};
    return true;
}

static bool eval_concat(struct render *render, const struct node *node, struct value *out)
{
    struct builder builder;
    builder_init(&builder, render);
    for (size_t i = 0; i < node->items.count; i++) {
        struct value value;
        if (!jinja_eval(render, node->items.data[i], &value) || !builder_add_value(&builder, &value))
            return false;
    }
    return builder_finish(&builder, out);
}

static bool eval_condition(struct render *render, const struct node *node, struct value *out)
{
    struct value condition;
    if (!jinja_eval(render, node->b, &condition))
        return false;
    if (value_truthy(&condition))
        return jinja_eval(render, node->a, out);
    if (node->c != NULL)
        return jinja_eval(render, node->c, out);
    return value_undefined(render,
                           (struct undefined){.name = BYTES_LITERAL("the inline if-expression without an else")}, out);
}

static bool eval_filter(struct render *render, const struct node *node, struct value *out)
{
    struct value value;
    struct args args;
    CHECK(node->a != NULL);
    if (!jinja_eval(render, node->a, &value) || !jinja_eval_args(render, node->call, &args))
        return false;
    render->line = node->line;
    return jinja_apply_filter(render, node->function, &value, &args, out);
}

static bool eval_test(struct render *render, const struct node *node, struct value *out)
{
    struct value value;
    struct args args;
    bool result = false;
    if (!jinja_eval(render, node->a, &value) || !jinja_eval_args(render, node->call, &args) ||
        !jinja_apply_test(render, node->function, &value, &args, &result))
        return false;
    *out = value_bool(result);
    return true;
}

static bool eval_call(struct render *render, const struct node *node, struct value *out)
{
    struct value callee;
    struct args args;
    if (!jinja_eval(render, node->a, &callee) || !jinja_eval_args(render, node->call, &args))
        return false;
    render->line = node->line;
    return jinja_call(render, &callee, &args, out);
}

static bool eval_two(struct render *render, const struct node *node, struct value *a, struct value *b)
{
    return jinja_eval(render, node->a, a) && jinja_eval(render, node->b, b);
}

static bool eval_node(struct render *render, const struct node *node, struct value *out)
{
    struct value a, b;
    switch (node->kind) {
    case NODE_NONE:
        *out = value_none();
        return true;
    case NODE_BOOL:
        *out = value_bool(node->integer != 0);
        return true;
    case NODE_INTEGER:
        *out = value_integer(node->integer, false);
        return true;
    case NODE_FLOAT:
        *out = value_float(node->real, false);
        return true;
    case NODE_STRING:
        return value_from_bytes(render, node->text, false, out);
    case NODE_NAME:
        return lookup(render, node, out);
    case NODE_LIST:
        return eval_list(render, node, LIST_LIST, out);
    case NODE_TUPLE:
        return eval_list(render, node, LIST_TUPLE, out);
    case NODE_DICT:
        return eval_dict(render, node, out);
    case NODE_ATTRIBUTE:
        return jinja_eval(render, node->a, &a) && jinja_attribute(render, &a, node->text, out);
    case NODE_ITEM:
        return eval_two(render, node, &a, &b) && jinja_item(render, &a, &b, out);
    case NODE_SLICE:
        return eval_slice(render, node, out);
    case NODE_CALL:
        return eval_call(render, node, out);
    case NODE_FILTER:
        return eval_filter(render, node, out);
    case NODE_TEST:
        return eval_test(render, node, out);
    case NODE_NOT:
        if (!jinja_eval(render, node->a, &a))
            return false;
        *out = value_bool(!value_truthy(&a));
        return true;
    case NODE_NEGATE:
    case NODE_PLUS:
        return eval_sign(render, node, out);
    case NODE_ADD:
    case NODE_SUB:
    case NODE_MUL:
    case NODE_DIV:
    case NODE_FLOORDIV:
    case NODE_MOD:
    case NODE_POW:
        return eval_two(render, node, &a, &b) && jinja_arithmetic(render, node->kind, &a, &b, out);
    case NODE_CONCAT:
        return eval_concat(render, node, out);
    case NODE_COMPARE:
        return eval_compare(render, node, out);
    case NODE_AND:
    case NODE_OR:
        if (!jinja_eval(render, node->a, out))
            return false;
        return value_truthy(out) == (node->kind == NODE_OR) || jinja_eval(render, node->b, out);
    case NODE_CONDITION:
        return eval_condition(render, node, out);
    default:
        UNREACHABLE(); /* statements are executed, not evaluated */
    }
}

bool jinja_eval(struct render *render, const struct node *node, struct value *out)
{
    if (!jinja_enter(render, node))
        return false;
    bool done = eval_node(render, node, out);
    jinja_leave(render);
    return done;
}
