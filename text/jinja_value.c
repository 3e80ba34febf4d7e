/* jinja_value: making, reading and comparing values, by Python's rules. */
#include "text/jinja_value.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "text/utf8.h"

enum { DICT_INDEX_MIN = 8, COPY_PER_STEP = 64 };

/* ---- the machine -------------------------------------------------------------------------------------------- */

bool render_fail(struct render *render, enum template_fault fault, const char *format, ...)
{
    if (render->fault != TEMPLATE_OK)
        return false; /* the first one counts */
    char text[ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    render->fault = fault;
    render->status = fault == TEMPLATE_BOUNDS        ? STATUS_LIMIT
                     : fault == TEMPLATE_UNSUPPORTED ? STATUS_UNSUPPORTED
                                                     : STATUS_INVALID;
    if (fault == TEMPLATE_RAISED) /* the template's own sentence, for people: the line would say nothing */
        error_set(render->error, render->status, "%s", text);
    else
        error_set(render->error, render->status, "line %u: %s", render->line, text);
    return false;
}

bool render_spend(struct render *render, size_t steps)
{
    render->steps += steps;
    if (render->steps <= JINJA_STEPS_MAX)
        return true;
    return render_fail(render, TEMPLATE_BOUNDS, "the template takes more than %d steps", JINJA_STEPS_MAX);
}

void *render_alloc(struct render *render, size_t count, size_t size)
{
    void *memory = arena_alloc_array(&render->arena, count, size);
    if (memory == NULL)
        render_fail(render, TEMPLATE_BOUNDS, "the template takes more than %d MiB", JINJA_MEMORY_MAX >> 20);
    return memory;
}

bool render_fail_undefined(struct render *render, const struct value *value)
{
    const struct undefined *why = value->as.undefined;
    int length = why == NULL ? 0 : (int)MIN_OF(why->name.length, (size_t)200);
    const char *name = why == NULL ? "" : (const char *)why->name.data;
    if (why == NULL)
        return render_fail(render, TEMPLATE_UNDEFINED, "a value is undefined");
    if (why->unsafe)
        return render_fail(render, TEMPLATE_SECURITY, "access to attribute '%.*s' of '%s' object is unsafe.", length,
                           name, why->object_type);
    if (why->object_type == NULL)
        return render_fail(render, TEMPLATE_UNDEFINED, "'%.*s' is undefined", length, name);
    bool none = strcmp(why->object_type, "NoneType") == 0;
    const char *type = none ? "None" : why->object_type, *object = none ? "" : " object";
    return why->attribute
               ? render_fail(render, TEMPLATE_UNDEFINED, "'%s%s' has no attribute '%.*s'", type, object, length, name)
               : render_fail(render, TEMPLATE_UNDEFINED, "%s%s has no element %.*s", type, object, length, name);
}

/* ---- making values ------------------------------------------------------------------------------------------ */

bool value_undefined(struct render *render, struct undefined why, struct value *out)
{
    struct undefined *copy = render_alloc(render, 1, sizeof *copy);
    if (copy == NULL)
        return false;
    *copy = why;
    *out = (struct value){.kind = VALUE_UNDEFINED, .as.undefined = copy};
    return true;
}

static size_t count_points(struct bytes bytes)
{
    size_t points = 0;
    for (size_t i = 0; i < bytes.length; i++)
        points += (bytes.data[i] & 0xc0) != 0x80;
    return points;
}

bool value_from_bytes(struct render *render, struct bytes bytes, bool client, struct value *out)
{
    struct text *text = render_alloc(render, 1, sizeof *text);
    struct span *span = client && bytes.length > 0 ? render_alloc(render, 1, sizeof *span) : NULL;
    if (text == NULL || (client && bytes.length > 0 && span == NULL) ||
        !render_spend(render, bytes.length / COPY_PER_STEP))
        return false;
    /* An empty text has a place, too: pointers into it are computed. */
    if (bytes.length == 0)
        bytes = BYTES_LITERAL("");
    *text = (struct text){.data = bytes.data, .length = bytes.length, .points = count_points(bytes)};
    if (span != NULL) {
        *span = (struct span){.begin = 0, .end = bytes.length};
        text->spans = span;
        text->spans_count = 1;
    }
    *out = value_text(text);
    return true;
}

static bool list_from_json(struct render *render, const struct json *json, struct value *out)
{
    struct list *list = list_new(render, LIST_LIST, json_count(json));
    if (list == NULL)
        return false;
    for (size_t i = 0; i < list->count; i++) {
        if (!value_from_json(render, json_at(json, i), &list->items[i]))
            return false;
    }
    *out = value_list(list);
    return true;
}

static bool dict_from_json(struct render *render, const struct json *json, struct value *out)
{
    struct dict *dict = dict_new(render);
    void *iterator = NULL;
    struct bytes name;
    const struct json *member;
    if (dict == NULL)
        return false;
    while (json_next(json, &iterator, &name, &member)) {
        struct value key, value;
        if (!value_from_bytes(render, name, true, &key) || !value_from_json(render, member, &value) ||
            !dict_put(render, dict, key, value))
            return false;
    }
    *out = (struct value){.kind = VALUE_DICT, .as.dict = dict};
    return true;
}

/* Recurses at most JSON_DEPTH_MAX deep: the tree was parsed. */
bool value_from_json(struct render *render, const struct json *json, struct value *out)
{
    switch (json_kind(json)) {
    case JSON_NULL:
        *out = value_none();
        break;
    case JSON_FALSE:
    case JSON_TRUE:
        *out = value_bool(json_bool(json, false));
        break;
    case JSON_INTEGER:
        *out = value_integer(json_integer(json, 0), true);
        break;
    case JSON_REAL:
        *out = value_float(json_number(json, 0), true);
        break;
    case JSON_STRING:
        return value_from_bytes(render, json_string(json), true, out);
    case JSON_ARRAY:
        return list_from_json(render, json, out);
    case JSON_OBJECT:
        return dict_from_json(render, json, out);
    }
    out->client = true;
    return render_spend(render, 1);
}

struct list *list_new(struct render *render, enum list_kind kind, size_t count)
{
    struct list *list = render_alloc(render, 1, sizeof *list);
    struct value *items = render_alloc(render, count, sizeof *items);
    if (list == NULL || items == NULL || !render_spend(render, count))
        return NULL;
    *list = (struct list){.items = items, .count = count, .kind = kind};
    return list;
}

/* ---- dicts -------------------------------------------------------------------------------------------------- */

struct dict *dict_new(struct render *render)
{
    return render_alloc(render, 1, sizeof(struct dict));
}

/* Keys compare as in Python: 1, 1.0 and True are one. False: can't be hashed. */
static bool hash_key(const struct render *render, const struct value *key, uint64_t *hash)
{
    switch (key->kind) {
    case VALUE_TEXT:
        *hash = hash_xx64(key->as.text->data, key->as.text->length, render->hash_seed);
        return true;
    case VALUE_BOOL:
    case VALUE_INTEGER:
    case VALUE_FLOAT: {
        double number = value_number(key);
        number = number == 0 ? 0 : number; /* -0.0 equals 0 */
        *hash = hash_xx64(&number, sizeof number, render->hash_seed);
        return true;
    }
    case VALUE_LIST: {
        *hash = 7;
        if (key->as.list->kind != LIST_TUPLE)
            return false;
        return true; /* tuples share a chain: rare as keys */
    }
    case VALUE_DICT:
        return false;
    default:
        *hash = key->kind;
        return true;
    }
}

static bool find_pair(struct render *render, const struct dict *dict, const struct value *key, struct pair **found)
{
    uint64_t hash;
    *found = NULL;
    if (!hash_key(render, key, &hash))
        return render_fail(render, TEMPLATE_TYPE, "unhashable type: '%s'", value_type_name(key));
    if (dict->index == NULL) {
        for (size_t i = 0; i < dict->count && *found == NULL; i++) {
            bool equal;
            if (!value_equal(render, &dict->pairs[i].key, key, &equal))
                return false;
            *found = equal ? &dict->pairs[i] : NULL;
        }
        return true;
    }
    for (size_t slot = hash & (dict->index_size - 1); dict->index[slot] != 0;
         slot = (slot + 1) & (dict->index_size - 1)) {
        struct pair *pair = &dict->pairs[dict->index[slot] - 1];
        bool equal;
        if (!render_spend(render, 1) || !value_equal(render, &pair->key, key, &equal))
            return false;
        if (equal) {
            *found = pair;
            return true;
        }
    }
    return true;
}

static void index_pair(const struct render *render, struct dict *dict, size_t pair)
{
    uint64_t hash = 0;
    bool hashable = hash_key(render, &dict->pairs[pair].key, &hash);
    CHECK(hashable);
    size_t slot = hash & (dict->index_size - 1);
    while (dict->index[slot] != 0)
        slot = (slot + 1) & (dict->index_size - 1);
    dict->index[slot] = (uint32_t)pair + 1;
}

/* Twice the room, and an index four times the pairs (two when it is full). */
static bool grow(struct render *render, struct dict *dict)
{
    size_t capacity = MAX_OF(dict->capacity * 2, (size_t)4);
    struct pair *pairs = render_alloc(render, capacity, sizeof *pairs);
    if (pairs == NULL || !render_spend(render, capacity))
        return false;
    if (dict->count > 0)
        memcpy(pairs, dict->pairs, dict->count * sizeof *pairs);
    dict->pairs = pairs;
    dict->capacity = capacity;
    if (capacity <= DICT_INDEX_MIN)
        return true;
    dict->index_size = capacity * 2;
    dict->index = render_alloc(render, dict->index_size, sizeof *dict->index);
    if (dict->index == NULL)
        return false;
    for (size_t i = 0; i < dict->count; i++)
        index_pair(render, dict, i);
    return true;
}

bool dict_put(struct render *render, struct dict *dict, struct value key, struct value value)
{
    struct pair *pair;
    if (!find_pair(render, dict, &key, &pair))
        return false;
    if (pair != NULL) {
        pair->value = value;
        return true;
    }
    if (dict->count == dict->capacity && !grow(render, dict))
        return false;
    dict->pairs[dict->count] = (struct pair){.key = key, .value = value};
    if (dict->index != NULL)
        index_pair(render, dict, dict->count);
    dict->count++;
    return true;
}

bool dict_get(struct render *render, const struct dict *dict, const struct value *key, struct value **found)
{
    struct pair *pair;
    if (!find_pair(render, dict, key, &pair))
        return false;
    *found = pair == NULL ? NULL : &pair->value;
    return true;
}

struct value *dict_get_name(const struct dict *dict, struct bytes name)
{
    for (size_t i = 0; i < dict->count; i++) {
        const struct value *key = &dict->pairs[i].key;
        if (key->kind == VALUE_TEXT && bytes_equal(text_bytes(key->as.text), name))
            return &dict->pairs[i].value;
    }
    return NULL;
}

/* ---- reading values ----------------------------------------------------------------------------------------- */

const char *value_type_name(const struct value *value)
{
    static const char *const lists[] = {
        [LIST_LIST] = "list",      [LIST_TUPLE] = "tuple",        [LIST_GENERATOR] = "generator",
        [LIST_KEYS] = "dict_keys", [LIST_VALUES] = "dict_values", [LIST_ITEMS] = "dict_items",
        [LIST_RANGE] = "range"};
    static const char *const names[] = {
        [VALUE_UNDEFINED] = "Undefined", [VALUE_NONE] = "NoneType",    [VALUE_BOOL] = "bool",
        [VALUE_INTEGER] = "int",         [VALUE_FLOAT] = "float",      [VALUE_TEXT] = "str",
        [VALUE_LIST] = "list",           [VALUE_DICT] = "dict",        [VALUE_NAMESPACE] = "Namespace",
        [VALUE_CALLABLE] = "function",   [VALUE_LOOP] = "LoopContext",
    };
    return value->kind == VALUE_LIST ? lists[value->as.list->kind] : names[value->kind];
}

bool value_truthy(const struct value *value)
{
    switch (value->kind) {
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        return false;
    case VALUE_BOOL:
        return value->as.boolean;
    case VALUE_INTEGER:
        return value->as.integer != 0;
    case VALUE_FLOAT:
        return value->as.real != 0;
    case VALUE_TEXT:
        return value->as.text->length > 0;
    case VALUE_LIST:
        return value->as.list->kind == LIST_GENERATOR || value->as.list->count > 0;
    case VALUE_DICT:
        return value->as.dict->count > 0;
    default:
        return true;
    }
}

bool value_is_number(const struct value *value)
{
    return value->kind == VALUE_BOOL || value->kind == VALUE_INTEGER || value->kind == VALUE_FLOAT;
}

bool value_is_integer(const struct value *value, int64_t *out)
{
    if (value->kind == VALUE_INTEGER)
        *out = value->as.integer;
    else if (value->kind == VALUE_BOOL)
        *out = value->as.boolean;
    else
        return false;
    return true;
}

double value_number(const struct value *value)
{
    return value->kind == VALUE_FLOAT     ? value->as.real
           : value->kind == VALUE_INTEGER ? (double)value->as.integer
           : value->kind == VALUE_BOOL    ? value->as.boolean
                                          : 0;
}

static bool equal_within(struct render *render, const struct value *a, const struct value *b, int depth, bool *equal);

static bool equal_lists(struct render *render, const struct list *a, const struct list *b, int depth, bool *equal)
{
    *equal = a == b || (a->kind == b->kind && a->count == b->count && a->kind != LIST_GENERATOR);
    for (size_t i = 0; a != b && *equal && i < a->count; i++) {
        if (!equal_within(render, &a->items[i], &b->items[i], depth + 1, equal))
            return false;
    }
    return true;
}

static bool equal_dicts(struct render *render, const struct dict *a, const struct dict *b, int depth, bool *equal)
{
    *equal = a->count == b->count;
    for (size_t i = 0; a != b && *equal && i < a->count; i++) {
        struct value *other;
        if (!dict_get(render, b, &a->pairs[i].key, &other))
            return false;
        *equal = other != NULL;
        if (*equal && !equal_within(render, &a->pairs[i].value, other, depth + 1, equal))
            return false;
    }
    return true;
}

static bool equal_within(struct render *render, const struct value *a, const struct value *b, int depth, bool *equal)
{
    int64_t x, y;
    if (depth > JINJA_VALUE_DEPTH_MAX)
        return render_fail(render, TEMPLATE_BOUNDS, "a value is nested too deeply");
    if (!render_spend(render, 1))
        return false;
    if (value_is_integer(a, &x) && value_is_integer(b, &y)) {
        *equal = x == y;
    } else if (value_is_number(a) && value_is_number(b)) {
        *equal = value_number(a) == value_number(b);
    } else if (a->kind != b->kind) {
        *equal = false;
    } else if (a->kind == VALUE_TEXT) {
        if (!render_spend(render, a->as.text->length / COPY_PER_STEP))
            return false;
        *equal = bytes_equal(text_bytes(a->as.text), text_bytes(b->as.text));
    } else if (a->kind == VALUE_LIST) {
        return equal_lists(render, a->as.list, b->as.list, depth, equal);
    } else if (a->kind == VALUE_DICT) {
        return equal_dicts(render, a->as.dict, b->as.dict, depth, equal);
    } else {
        *equal = a->kind == VALUE_NONE || a->kind == VALUE_UNDEFINED || a->as.dict == b->as.dict;
    }
    return true;
}

bool value_equal(struct render *render, const struct value *a, const struct value *b, bool *equal)
{
    return equal_within(render, a, b, 0, equal);
}

static bool order_within(struct render *render, const struct value *a, const struct value *b, const char *sign,
                         int depth, int *order)
{
    int64_t x, y;
    if (depth > JINJA_VALUE_DEPTH_MAX)
        return render_fail(render, TEMPLATE_BOUNDS, "a value is nested too deeply");
    if (!render_spend(render, 1))
        return false;
    if (value_is_integer(a, &x) && value_is_integer(b, &y)) {
        *order = (x > y) - (x < y);
        return true;
    }
    if (value_is_number(a) && value_is_number(b)) {
        double left = value_number(a), right = value_number(b);
        *order = (left > right) - (left < right);
        return true;
    }
    if (a->kind == VALUE_TEXT && b->kind == VALUE_TEXT) { /* UTF-8 orders as its code points do */
        *order = bytes_compare(text_bytes(a->as.text), text_bytes(b->as.text));
        return render_spend(render, a->as.text->length / COPY_PER_STEP);
    }
    if (a->kind == VALUE_UNDEFINED || b->kind == VALUE_UNDEFINED)
        return render_fail_undefined(render, a->kind == VALUE_UNDEFINED ? a : b);
    if (a->kind != VALUE_LIST || b->kind != VALUE_LIST || a->as.list->kind != b->as.list->kind ||
        a->as.list->kind > LIST_TUPLE)
        return render_fail(render, TEMPLATE_TYPE, "'%s' not supported between instances of '%s' and '%s'", sign,
                           value_type_name(a), value_type_name(b));
    const struct list *left = a->as.list, *right = b->as.list;
    for (size_t i = 0; i < left->count && i < right->count; i++) {
        bool equal;
        if (!value_equal(render, &left->items[i], &right->items[i], &equal))
            return false;
        if (!equal)
            return order_within(render, &left->items[i], &right->items[i], sign, depth + 1, order);
    }
    *order = (left->count > right->count) - (left->count < right->count);
    return true;
}

bool value_order(struct render *render, const struct value *a, const struct value *b, const char *sign, int *order)
{
    return order_within(render, a, b, sign, 0, order);
}

static bool contains_text(struct render *render, const struct text *whole, const struct value *part, bool *found)
{
    if (part->kind == VALUE_UNDEFINED)
        return render_fail(render, TEMPLATE_TYPE, "'in <string>' requires string as left operand, not Undefined");
    if (part->kind != VALUE_TEXT)
        return render_fail(render, TEMPLATE_TYPE, "'in <string>' requires string as left operand, not %s",
                           value_type_name(part));
    *found = text_find(whole, text_bytes(part->as.text), 0) != SIZE_MAX;
    return render_spend(render, whole->length / COPY_PER_STEP);
}

bool value_contains(struct render *render, const struct value *whole, const struct value *part, bool *found)
{
    *found = false;
    if (whole->kind == VALUE_TEXT)
        return contains_text(render, whole->as.text, part, found);
    if (whole->kind == VALUE_DICT) {
        struct value *value;
        if (!dict_get(render, whole->as.dict, part, &value))
            return false;
        *found = value != NULL;
        return true;
    }
    if (whole->kind != VALUE_LIST && whole->kind != VALUE_UNDEFINED)
        return render_fail(render, TEMPLATE_TYPE, "argument of type '%s' is not iterable", value_type_name(whole));
    struct value *items;
    size_t count;
    if (!value_iterate(render, whole, &items, &count))
        return false;
    for (size_t i = 0; i < count && !*found; i++) {
        if (!value_equal(render, &items[i], part, found))
            return false;
    }
    return true;
}

bool value_length(struct render *render, const struct value *value, size_t *length)
{
    if (value->kind == VALUE_TEXT)
        *length = value->as.text->points;
    else if (value->kind == VALUE_DICT)
        *length = value->as.dict->count;
    else if (value->kind == VALUE_LIST && value->as.list->kind != LIST_GENERATOR)
        *length = value->as.list->count;
    else if (value->kind == VALUE_UNDEFINED)
        *length = 0;
    else
        return render_fail(render, TEMPLATE_TYPE, "object of type '%s' has no len()", value_type_name(value));
    return true;
}

static bool iterate_text(struct render *render, const struct text *text, struct value **items, size_t *count)
{
    size_t begin = 0;
    *items = render_alloc(render, text->points, sizeof **items);
    if (*items == NULL || !render_spend(render, text->points))
        return false;
    for (*count = 0; begin < text->length; (*count)++) {
        size_t end = begin + 1;
        while (end < text->length && (text->data[end] & 0xc0) == 0x80)
            end++;
        if (!text_slice(render, text, begin, end, &(*items)[*count]))
            return false;
        begin = end;
    }
    return true;
}

/* A generator may iterate over another one, and so on. */
static bool fill_list(struct render *render, struct list *list)
{
    list_fill *fill = list->fill;
    list->fill = NULL;
    if (render->depth >= JINJA_DEPTH_MAX)
        return render_fail(render, TEMPLATE_BOUNDS, "filters are nested too deeply");
    render->depth++;
    bool filled = fill(render, list);
    render->depth--;
    return filled;
}

bool value_iterate(struct render *render, const struct value *value, struct value **items, size_t *count)
{
    *items = NULL;
    *count = 0;
    switch (value->kind) {
    case VALUE_UNDEFINED:
        return true;
    case VALUE_TEXT:
        return iterate_text(render, value->as.text, items, count);
    case VALUE_LIST:
        if (value->as.list->consumed)
            return true;
        value->as.list->consumed = value->as.list->kind == LIST_GENERATOR;
        if (value->as.list->fill != NULL && !fill_list(render, value->as.list))
            return false;
        *items = value->as.list->items;
        *count = value->as.list->count;
        return render_spend(render, *count);
    case VALUE_DICT:
        *items = render_alloc(render, value->as.dict->count, sizeof **items);
        if (*items == NULL)
            return false;
        for (; *count < value->as.dict->count; (*count)++)
            (*items)[*count] = value->as.dict->pairs[*count].key;
        return render_spend(render, *count);
    default:
        return render_fail(render, TEMPLATE_TYPE, "'%s' object is not iterable", value_type_name(value));
    }
}

bool value_to_text(struct render *render, const struct value *value, const struct text **out)
{
    struct builder builder;
    struct value text;
    if (value->kind == VALUE_TEXT) {
        *out = value->as.text;
        return true;
    }
    builder_init(&builder, render);
    if (!builder_add_value(&builder, value) || !builder_finish(&builder, &text))
        return false;
    *out = text.as.text;
    return true;
}
