/* jinja_methods: methods of dicts, lists and loops, and the look-up of all (those of texts: jinja_text_methods.c).
 *
 * What would change an object is refused, as the sandbox of the references does: see jinja_method_unsafe. */
#include <string.h>

#include "base/check.h"
#include "text/jinja_eval.h"

/* ---- dicts and lists ---------------------------------------------------------------------------------------- */

static bool method_get(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    const struct value *key = args_get(args, 0, NULL), *otherwise = args_get(args, 1, NULL);
    struct value *found;
    if (key == NULL)
        return render_fail(render, TEMPLATE_TYPE, "get expected at least 1 argument, got 0");
    if (!dict_get(render, self->as.dict, key, &found))
        return false;
    *out = found != NULL ? *found : otherwise != NULL ? *otherwise : value_none();
    return true;
}

enum part { PART_KEY, PART_VALUE, PART_PAIR };

static bool dict_parts(struct render *render, const struct dict *dict, enum part part, struct value *out)
{
    static const enum list_kind kinds[] = {LIST_KEYS, LIST_VALUES, LIST_ITEMS};
    struct list *list = list_new(render, kinds[part], dict->count);
    if (list == NULL)
        return false;
    for (size_t i = 0; i < dict->count; i++) {
        list->items[i] = part == PART_KEY ? dict->pairs[i].key : dict->pairs[i].value;
        if (part != PART_PAIR)
            continue;
        struct list *pair = list_new(render, LIST_TUPLE, 2);
        if (pair == NULL)
            return false;
        pair->items[0] = dict->pairs[i].key;
        pair->items[1] = dict->pairs[i].value;
        list->items[i] = value_list(pair);
    }
    *out = value_list(list);
    return true;
}

static bool method_keys(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    return dict_parts(render, self->as.dict, PART_KEY, out);
}

static bool method_values(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    return dict_parts(render, self->as.dict, PART_VALUE, out);
}

static bool method_items(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)args;
    return dict_parts(render, self->as.dict, PART_PAIR, out);
}

/* Dicts don't change, so a copy is the dict. */
static bool method_copy(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)render;
    (void)args;
    *out = *self;
    return true;
}

static bool search_list(struct render *render, const struct value *self, const struct args *args, size_t *first,
                        int64_t *count)
{
    const struct value *wanted = args_get(args, 0, NULL);
    *first = SIZE_MAX;
    *count = 0;
    if (wanted == NULL)
        return render_fail(render, TEMPLATE_TYPE, "an argument is missing");
    for (size_t i = 0; i < self->as.list->count; i++) {
        bool equal;
        if (!value_equal(render, &self->as.list->items[i], wanted, &equal))
            return false;
        if (equal && (*count)++ == 0)
            *first = i;
    }
    return true;
}

static bool method_list_index(struct render *render, const struct value *self, const struct args *args,
                              struct value *out)
{
    size_t first;
    int64_t count;
    if (!search_list(render, self, args, &first, &count))
        return false;
    if (first == SIZE_MAX)
        return render_fail(render, TEMPLATE_VALUE, "the value is not in list");
    *out = value_integer((int64_t)first, false);
    return true;
}

static bool method_list_count(struct render *render, const struct value *self, const struct args *args,
                              struct value *out)
{
    size_t first;
    int64_t count;
    if (!search_list(render, self, args, &first, &count))
        return false;
    *out = value_integer(count, false);
    return true;
}

static bool method_list_copy(struct render *render, const struct value *self, const struct args *args,
                             struct value *out)
{
    (void)args;
    struct list *list = list_new(render, self->as.list->kind, self->as.list->count);
    if (list == NULL)
        return false;
    if (list->count > 0)
        memcpy(list->items, self->as.list->items, list->count * sizeof *list->items);
    *out = value_list(list);
    return true;
}

/* The references' sandbox forbids what changes a list, but for pop and clear: some templates use pop. */
static bool method_pop(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    struct list *list = self->as.list;
    int64_t index = -1;
    if (!args_integer(render, args, 0, NULL, &index))
        return false;
    if (list->count == 0)
        return render_fail(render, TEMPLATE_INDEX, "pop from empty list");
    if (index < 0)
        index += (int64_t)list->count;
    if (index < 0 || (uint64_t)index >= list->count)
        return render_fail(render, TEMPLATE_INDEX, "pop index out of range");
    *out = list->items[index];
    list->count--;
    memmove(list->items + index, list->items + index + 1, (list->count - (size_t)index) * sizeof *list->items);
    return render_spend(render, list->count);
}

static bool method_clear(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    (void)render;
    (void)args;
    self->as.list->count = 0;
    *out = value_none();
    return true;
}

/* ---- loops -------------------------------------------------------------------------------------------------- */

static bool method_cycle(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    if (args->count == 0)
        return render_fail(render, TEMPLATE_TYPE, "no items for cycling given");
    *out = args->positional[self->as.loop->index0 % args->count];
    return true;
}

static bool method_changed(struct render *render, const struct value *self, const struct args *args, struct value *out)
{
    struct loop *loop = self->as.loop;
    struct list *list = list_new(render, LIST_TUPLE, args->count);
    bool equal = false;
    if (list == NULL)
        return false;
    for (size_t i = 0; i < args->count; i++)
        list->items[i] = args->positional[i];
    struct value now = value_list(list);
    if (loop->seen && !value_equal(render, &loop->changed, &now, &equal))
        return false;
    loop->changed = now;
    loop->seen = true;
    *out = value_bool(!equal);
    return true;
}

/* ---- tables ------------------------------------------------------------------------------------------------- */

static const struct builtin_entry DICT_METHODS[] = {
    {"get", method_get, {"key", "default"}}, {"keys", method_keys, {NULL}}, {"values", method_values, {NULL}},
    {"items", method_items, {NULL}},         {"copy", method_copy, {NULL}},
};
enum { TUPLE_METHODS_COUNT = 2 }; /* the first ones are a tuple's, too */
static const struct builtin_entry LIST_METHODS[] = {
    {"index", method_list_index, {"value"}}, {"count", method_list_count, {"value"}},
    {"copy", method_list_copy, {NULL}},      {"pop", method_pop, {"index"}},
    {"clear", method_clear, {NULL}},
};
static const struct builtin_entry LOOP_METHODS[] = {
    {"cycle", method_cycle, {"*"}},
    {"changed", method_changed, {"*"}},
};

const struct builtin_entry *builtin_find(const struct builtin_entry *table, size_t count, struct bytes name)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes_equal(name, bytes_of_text(table[i].name)))
            return &table[i];
    }
    return NULL;
}

const struct builtin_entry *jinja_method_find(const struct value *self, struct bytes name)
{
    switch (self->kind) {
    case VALUE_TEXT:
        return builtin_find(JINJA_TEXT_METHODS, JINJA_TEXT_METHODS_COUNT, name);
    case VALUE_DICT:
        return builtin_find(DICT_METHODS, COUNT_OF(DICT_METHODS), name);
    case VALUE_LIST:
        return self->as.list->kind == LIST_LIST    ? builtin_find(LIST_METHODS, COUNT_OF(LIST_METHODS), name)
               : self->as.list->kind == LIST_TUPLE ? builtin_find(LIST_METHODS, TUPLE_METHODS_COUNT, name)
                                                   : NULL;
    case VALUE_LOOP:
        return builtin_find(LOOP_METHODS, COUNT_OF(LOOP_METHODS), name);
    default:
        return NULL;
    }
}

bool jinja_method_unsafe(const struct value *self, struct bytes name)
{
    static const char *const list[] = {"append", "extend", "insert", "remove", "reverse", "sort"};
    static const char *const dict[] = {"clear", "pop", "popitem", "setdefault", "update"};
    bool is_list = self->kind == VALUE_LIST && self->as.list->kind == LIST_LIST;
    if (!is_list && self->kind != VALUE_DICT)
        return false;
    const char *const *names = is_list ? list : dict;
    size_t count = is_list ? COUNT_OF(list) : COUNT_OF(dict);
    for (size_t i = 0; i < count; i++) {
        if (bytes_equal(name, bytes_of_text(names[i])))
            return true;
    }
    return false;
}
