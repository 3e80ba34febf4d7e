/* jinja_sequences: filters over sequences: select, map, sort, join, …
 *
 * In the reference many of these give generators, and so here: a list that yields once and has no length. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "text/jinja_case.h"
#include "text/jinja_eval.h"

/* item.a.b or item.0, as the attribute argument of a filter spells it. */
static bool follow(struct render *render, const struct value *item, const struct value *attribute, struct value *out)
{
    *out = *item;
    if (attribute->kind != VALUE_TEXT)
        return jinja_item(render, item, attribute, out);
    struct bytes path = text_bytes(attribute->as.text);
    for (;;) {
        const uint8_t *dot = path.length == 0 ? NULL : memchr(path.data, '.', path.length);
        struct bytes part = bytes_of(path.data, dot == NULL ? path.length : (size_t)(dot - path.data));
        struct value from = *out, key;
        bool digits = part.length > 0 && part.length < 10;
        int64_t index = 0;
        for (size_t i = 0; i < part.length; i++) {
            digits = digits && part.data[i] >= '0' && part.data[i] <= '9';
            index = digits ? index * 10 + part.data[i] - '0' : 0;
        }
        if (digits)
            key = value_integer(index, false);
        else if (!value_from_bytes(render, part, false, &key))
            return false;
        if (!jinja_item(render, &from, &key, out))
            return false;
        if (dot == NULL)
            return true;
        path = bytes_of(dot + 1, path.length - part.length - 1);
    }
}

/* The attribute named by an argument, of each item; without one the items themselves. */
static bool follow_all(struct render *render, const struct value *attribute, struct value *items, size_t count,
                       struct value **out)
{
    *out = items;
    if (attribute == NULL || attribute->kind == VALUE_NONE)
        return true;
    *out = render_alloc(render, count, sizeof **out);
    for (size_t i = 0; *out != NULL && i < count; i++) {
        if (!follow(render, &items[i], attribute, &(*out)[i]))
            return false;
    }
    return *out != NULL;
}

static bool filter_list(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    struct value *items;
    size_t count;
    if (!value_iterate(render, self, &items, &count))
        return false;
    struct list *list = list_new(render, LIST_LIST, count);
    if (list == NULL)
        return false;
    if (count > 0)
        memcpy(list->items, items, count * sizeof *items);
    *out = value_list(list);
    return true;
}

static bool filter_first(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    struct value *items;
    size_t count;
    if (!value_iterate(render, self, &items, &count))
        return false;
    if (count == 0)
        return value_undefined(render, (struct undefined){.name = BYTES_LITERAL("the first item of nothing")}, out);
    *out = items[0];
    return true;
}

static bool filter_last(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    struct value *items;
    size_t count;
    if (self->kind == VALUE_LIST && self->as.list->kind == LIST_GENERATOR)
        return render_fail(render, TEMPLATE_TYPE, "'generator' object is not reversible");
    if (!value_iterate(render, self, &items, &count))
        return false;
    if (count == 0)
        return value_undefined(render, (struct undefined){.name = BYTES_LITERAL("the last item of nothing")}, out);
    *out = items[count - 1];
    return true;
}

static bool filter_reverse(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    struct value *items;
    size_t count;
    if (self->kind != VALUE_TEXT && self->kind != VALUE_LIST && self->kind != VALUE_DICT &&
        self->kind != VALUE_UNDEFINED)
        return render_fail(render, TEMPLATE_ARGUMENT, "argument must be iterable");
    if (!value_iterate(render, self, &items, &count))
        return false;
    if (self->kind == VALUE_TEXT) {
        struct builder builder;
        builder_init(&builder, render);
        for (size_t i = count; i-- > 0;) {
            if (!builder_add_text(&builder, items[i].as.text))
                return false;
        }
        return builder_finish(&builder, out);
    }
    struct list *list = list_new(render, LIST_GENERATOR, count);
    if (list == NULL)
        return false;
    for (size_t i = 0; i < count; i++)
        list->items[i] = items[count - 1 - i];
    *out = value_list(list);
    return true;
}

static bool filter_join(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    const struct value *separator = args_get(args, 0, "d");
    const struct text *between = NULL;
    struct value *items;
    size_t count;
    struct builder builder;
    builder_init(&builder, render);
    if (!value_iterate(render, self, &items, &count) ||
        !follow_all(render, args_get(args, 1, "attribute"), items, count, &items) ||
        (separator != NULL && !value_to_text(render, separator, &between)))
        return false;
    for (size_t i = 0; i < count; i++) {
        if ((i > 0 && between != NULL && !builder_add_text(&builder, between)) ||
            !builder_add_value(&builder, &items[i]))
            return false;
    }
    return builder_finish(&builder, out);
}

/* ---- order -------------------------------------------------------------------------------------------------- */

struct sort_item {
    struct value key, item;
};

struct sorter {
    struct render *render;
    bool reverse;
    bool failed;
};

/* Texts compare without case unless asked to: lower() of them. */
static bool sort_key(struct render *render, bool case_sensitive, struct value *key)
{
    return case_sensitive || key->kind != VALUE_TEXT || text_change_case(render, key->as.text, CASE_LOWER, key);
}

/* A stable merge sort: b is put behind a unless it comes before it. */
static void merge_sort(struct sorter *sorter, struct sort_item *items, struct sort_item *spare, size_t count)
{
    if (count < 2 || sorter->failed)
        return;
    size_t half = count / 2, left = 0, right = half, out = 0;
    merge_sort(sorter, items, spare, half);
    merge_sort(sorter, items + half, spare + half, count - half);
    while (left < half && right < count) {
        int order = 0;
        if (!value_order(sorter->render, &items[right].key, &items[left].key, "<", &order)) {
            sorter->failed = true;
            return;
        }
        bool take_right = sorter->reverse ? order > 0 : order < 0;
        spare[out++] = take_right ? items[right++] : items[left++];
    }
    while (left < half)
        spare[out++] = items[left++];
    memcpy(items, spare, out * sizeof *items); /* the rest of the right half is in place */
}

static bool sorted(struct render *render, struct value *items, struct value *keys, size_t count, bool reverse,
                   bool case_sensitive, struct value *out)
{
    struct sort_item *order = render_alloc(render, count, sizeof *order);
    struct sort_item *spare = render_alloc(render, count, sizeof *spare);
    struct list *list = list_new(render, LIST_LIST, count);
    struct sorter sorter = {.render = render, .reverse = reverse};
    if (order == NULL || spare == NULL || list == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        order[i] = (struct sort_item){.key = keys[i], .item = items[i]};
        if (!sort_key(render, case_sensitive, &order[i].key))
            return false;
    }
    merge_sort(&sorter, order, spare, count);
    for (size_t i = 0; i < count; i++)
        list->items[i] = order[i].item;
    *out = value_list(list);
    return !sorter.failed;
}

/* The keys of sort: lists, of one attribute or of several separated by commas, so that equal ones need no order. */
static bool sort_keys(struct render *render, const struct value *attribute, struct value *items, size_t count,
                      bool case_sensitive, struct value *keys)
{
    struct value whole = attribute == NULL ? value_none() : *attribute, *parts = &whole;
    size_t parts_count = 1;
    if (whole.kind == VALUE_TEXT) {
        struct value comma, list, separated = whole;
        struct args args = {.positional = &comma, .count = 1};
        if (!value_from_bytes(render, BYTES_LITERAL(","), false, &comma) ||
            !jinja_method_find(&separated, BYTES_LITERAL("split"))->function(render, &separated, &args, &list))
            return false;
        parts = list.as.list->items;
        parts_count = list.as.list->count;
    }
    for (size_t i = 0; i < count; i++) {
        struct list *key = list_new(render, LIST_LIST, parts_count);
        if (key == NULL)
            return false;
        for (size_t p = 0; p < parts_count; p++) {
            key->items[p] = items[i];
            if ((parts[p].kind != VALUE_NONE && !follow(render, &items[i], &parts[p], &key->items[p])) ||
                !sort_key(render, case_sensitive, &key->items[p]))
                return false;
        }
        keys[i] = value_list(key);
    }
    return true;
}

static bool filter_sort(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    struct value *items, *keys;
    size_t count;
    if (!value_iterate(render, self, &items, &count))
        return false;
    keys = render_alloc(render, count, sizeof *keys);
    return keys != NULL &&
           sort_keys(render, args_get(args, 2, "attribute"), items, count, args_bool(args, 1, "case_sensitive", false),
                     keys) &&
           sorted(render, items, keys, count, args_bool(args, 0, "reverse", false), true, out);
}

static bool filter_dictsort(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    const struct text *by = NULL;
    if (!args_text(render, args, 1, "by", &by))
        return false;
    if (self->kind != VALUE_DICT)
        return self->kind == VALUE_UNDEFINED
                   ? render_fail_undefined(render, self)
                   : render_fail(render, TEMPLATE_ATTRIBUTE, "'%s' object has no attribute 'items'",
                                 value_type_name(self));
    struct value pairs, *keys = render_alloc(render, self->as.dict->count, sizeof *keys);
    const struct args none = {0};
    const struct builtin_entry *method = jinja_method_find(self, BYTES_LITERAL("items"));
    if (keys == NULL || !method->function(render, self, &none, &pairs))
        return false;
    size_t part = by != NULL && text_equals(by, "value");
    for (size_t i = 0; i < pairs.as.list->count; i++)
        keys[i] = pairs.as.list->items[i].as.list->items[part];
    return sorted(render, pairs.as.list->items, keys, pairs.as.list->count, args_bool(args, 2, "reverse", false),
                  args_bool(args, 0, "case_sensitive", false), out);
}

/* min and max: the first item that none comes before. */
static bool extreme(struct render *render, const struct value *self, const struct args *args, int wanted,
                    struct value *out)
{
    struct value *items, *keys;
    size_t count, best = 0;
    struct value best_key = value_none();
    if (!value_iterate(render, self, &items, &count) ||
        !follow_all(render, args_get(args, 1, "attribute"), items, count, &keys))
        return false;
    if (count == 0)
        return value_undefined(render, (struct undefined){.name = BYTES_LITERAL("the extreme of nothing")}, out);
    for (size_t i = 0; i < count; i++) {
        struct value key = keys[i];
        int order = wanted;
        if (!sort_key(render, args_bool(args, 0, "case_sensitive", false), &key) ||
            (i > 0 && !value_order(render, &key, &best_key, wanted < 0 ? "<" : ">", &order)))
            return false;
        if (order * wanted > 0) {
            best = i;
            best_key = key;
        }
    }
    *out = items[best];
    return true;
}

static bool filter_min(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    return extreme(render, self, args, -1, out);
}

static bool filter_max(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    return extreme(render, self, args, 1, out);
}

static bool filter_sum(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    struct value *items;
    size_t count;
    const struct value *start = args_get(args, 1, "start");
    if (!value_iterate(render, self, &items, &count) ||
        !follow_all(render, args_get(args, 0, "attribute"), items, count, &items))
        return false;
    *out = start != NULL ? *start : value_integer(0, false);
    for (size_t i = 0; i < count; i++) {
        struct value sum = *out;
        if (!jinja_arithmetic(render, NODE_ADD, &sum, &items[i], out))
            return false;
    }
    return true;
}

bool jinja_generator(struct render *render, list_fill *fill, struct lazy lazy, struct value *out)
{
    struct lazy *copy = render_alloc(render, 1, sizeof *copy);
    struct list *list = list_new(render, LIST_GENERATOR, 0);
    if (copy == NULL || list == NULL)
        return false;
    *copy = lazy;
    list->fill = fill;
    list->lazy = copy;
    *out = value_list(list);
    return true;
}

/* Room for at most `count` items, which are then appended. */
static bool make_room(struct render *render, struct list *list, size_t count)
{
    list->count = 0;
    list->items = render_alloc(render, count, sizeof *list->items);
    return list->items != NULL;
}

static bool fill_unique(struct render *render, struct list *list)
{
    const struct args *args = &list->lazy->args;
    struct value *items, *keys;
    size_t count;
    struct dict *seen = dict_new(render);
    if (seen == NULL || !value_iterate(render, &list->lazy->self, &items, &count) ||
        !follow_all(render, args_get(args, 1, "attribute"), items, count, &keys) || !make_room(render, list, count))
        return false;
    for (size_t i = 0; i < count; i++) {
        struct value key = keys[i], *known;
        if (!sort_key(render, args_bool(args, 0, "case_sensitive", false), &key) ||
            !dict_get(render, seen, &key, &known))
            return false;
        if (known != NULL)
            continue;
        if (!dict_put(render, seen, key, value_none()))
            return false;
        list->items[list->count++] = items[i];
    }
    return true;
}

static bool filter_unique(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    return jinja_generator(render, fill_unique, (struct lazy){.self = *self, .args = *args}, out);
}

/* ---- select, reject, map ------------------------------------------------------------------------------------ */

/* The arguments behind the first `skip`, which are of the filter itself. */
static struct args rest_of(const struct args *args, size_t skip)
{
    struct args rest = *args;
    skip = MIN_OF(skip, args->count);
    rest.positional = args->count > 0 ? args->positional + skip : args->positional;
    rest.count = args->count - skip;
    return rest;
}

/* The test named by an argument; without one truth counts. */
static bool find_test(struct render *render, const struct args *args, size_t index, const struct test_entry **out)
{
    *out = NULL;
    if (index >= args->count)
        return true;
    const struct value *name = &args->positional[index];
    if (name->kind != VALUE_TEXT)
        return render_fail(render, TEMPLATE_TYPE, "a test's name must be str");
    *out = jinja_test_find(text_bytes(name->as.text));
    return *out != NULL ||
           render_fail(render, TEMPLATE_RUNTIME, "No test named '%.*s'.",
                       (int)MIN_OF(name->as.text->length, (size_t)64), (const char *)name->as.text->data);
}

/* select, reject (by_attribute false), selectattr, rejectattr. */
static bool fill_select(struct render *render, struct list *list)
{
    const struct lazy *lazy = list->lazy;
    const struct args *args = &lazy->args;
    const struct test_entry *test;
    struct value *items;
    size_t count;
    if (!value_truthy(&lazy->self))
        return true;
    if (lazy->by_attribute && args->count == 0)
        return render_fail(render, TEMPLATE_ARGUMENT, "Missing parameter for attribute name");
    if (!find_test(render, args, lazy->by_attribute, &test) || !value_iterate(render, &lazy->self, &items, &count) ||
        !make_room(render, list, count))
        return false;
    struct args rest = rest_of(args, lazy->by_attribute ? 2 : 1);
    for (size_t i = 0; i < count; i++) {
        struct value subject = items[i];
        if (lazy->by_attribute && !follow(render, &items[i], &args->positional[0], &subject))
            return false;
        bool holds = value_truthy(&subject);
        if (test != NULL && !jinja_apply_test(render, test, &subject, &rest, &holds))
            return false;
        if (holds == lazy->wanted)
            list->items[list->count++] = items[i];
    }
    return true;
}

static bool select_items(struct render *render, const struct value *self, const struct args *args, bool by_attribute,
                         bool wanted, struct value *out)
{
    return jinja_generator(render, fill_select,
                           (struct lazy){.self = *self, .args = *args, .by_attribute = by_attribute, .wanted = wanted},
                           out);
}

static bool filter_select(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    return select_items(render, self, args, false, true, out);
}

static bool filter_reject(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    return select_items(render, self, args, false, false, out);
}

static bool filter_selectattr(struct render *render, const struct value *self, const struct args *args,
                              struct value *out)
{
    return select_items(render, self, args, true, true, out);
}

static bool filter_rejectattr(struct render *render, const struct value *self, const struct args *args,
                              struct value *out)
{
    return select_items(render, self, args, true, false, out);
}

static bool map_item(struct render *render, const struct value *item, const struct args *args,
                     const struct builtin_entry *filter, struct value *out)
{
    const struct value *attribute = args_get(args, SIZE_MAX, "attribute");
    const struct value *otherwise = args_get(args, SIZE_MAX, "default");
    struct args rest = rest_of(args, 1);
    if (filter != NULL)
        return jinja_apply_filter(render, filter, item, &rest, out);
    if (!follow(render, item, attribute, out))
        return false;
    if (out->kind == VALUE_UNDEFINED && otherwise != NULL)
        *out = *otherwise;
    return true;
}

static bool fill_map(struct render *render, struct list *list)
{
    const struct lazy *lazy = list->lazy;
    const struct args *args = &lazy->args;
    const struct builtin_entry *filter = NULL;
    struct value *items;
    size_t count;
    if (!value_truthy(&lazy->self))
        return true;
    if (args->count > 0) {
        const struct value *name = &args->positional[0];
        filter = name->kind == VALUE_TEXT ? jinja_filter_find(text_bytes(name->as.text)) : NULL;
        if (filter == NULL)
            return render_fail(render, TEMPLATE_RUNTIME, "map: no such filter");
    } else if (args_get(args, SIZE_MAX, "attribute") == NULL) {
        return render_fail(render, TEMPLATE_ARGUMENT, "map requires a filter argument");
    }
    if (!value_iterate(render, &lazy->self, &items, &count) || !make_room(render, list, count))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!map_item(render, &items[i], args, filter, &list->items[list->count++]))
            return false;
    }
    return true;
}

static bool filter_map(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    return jinja_generator(render, fill_map, (struct lazy){.self = *self, .args = *args}, out);
}

const struct builtin_entry JINJA_SEQUENCE_FILTERS[] = {
    {"dictsort", filter_dictsort, {"case_sensitive", "by", "reverse"}},
    {"first", filter_first, {NULL}},
    {"join", filter_join, {"d", "attribute"}},
    {"last", filter_last, {NULL}},
    {"list", filter_list, {NULL}},
    {"map", filter_map, {"*"}},
    {"max", filter_max, {"case_sensitive", "attribute"}},
    {"min", filter_min, {"case_sensitive", "attribute"}},
    {"reject", filter_reject, {"*"}},
    {"rejectattr", filter_rejectattr, {"*"}},
    {"reverse", filter_reverse, {NULL}},
    {"select", filter_select, {"*"}},
    {"selectattr", filter_selectattr, {"*"}},
    {"sort", filter_sort, {"reverse", "case_sensitive", "attribute"}},
    {"sum", filter_sum, {"attribute", "start"}},
    {"unique", filter_unique, {"case_sensitive", "attribute"}},
};
const size_t JINJA_SEQUENCE_FILTERS_COUNT = COUNT_OF(JINJA_SEQUENCE_FILTERS);
