/* text/jinja_value: the values of a template at work, and the machine that bounds them.
 *
 * All values live in the render's arena and are immutable, but for namespaces. A text knows which of its bytes came
 * from the client (spans: sorted, disjoint, merged), through every operation; numbers and other scalars carry one flag.
 * Every function that can fail returns false and has set the render's fault; steps, memory and depth are bounded. */
#ifndef SHOAL_TEXT_JINJA_VALUE_H
#define SHOAL_TEXT_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/json.h"
#include "base/status.h"
#include "text/jinja_ast.h"
#include "text/template.h"

enum {
    JINJA_STEPS_MAX = 20000000,
    JINJA_MEMORY_MAX = 256 << 20,
    JINJA_OUTPUT_MAX = 16 << 20,
    JINJA_DEPTH_MAX = 1000,     /* of evaluation, macros included */
    JINJA_VALUE_DEPTH_MAX = 250 /* of values within values: deeper than JSON may be */
};

enum value_kind {
    VALUE_UNDEFINED,
    VALUE_NONE,
    VALUE_BOOL,
    VALUE_INTEGER,
    VALUE_FLOAT,
    VALUE_TEXT,
    VALUE_LIST,
    VALUE_DICT,
    VALUE_NAMESPACE, /* a dict that may be assigned to */
    VALUE_CALLABLE,
    VALUE_LOOP
};

enum list_kind { LIST_LIST, LIST_TUPLE, LIST_RANGE, LIST_GENERATOR, LIST_KEYS, LIST_VALUES, LIST_ITEMS };

struct value {
    uint8_t kind; /* enum value_kind */
    bool client;  /* of scalars: made from what the client wrote */
    union {
        bool boolean;
        int64_t integer;
        double real;
        const struct text *text;
        struct list *list;
        struct dict *dict;
        const struct callable *callable;
        struct loop *loop;
        const struct undefined *undefined; /* NULL: nothing known about it */
    } as;
};

struct text {
    const uint8_t *data; /* valid UTF-8 */
    size_t length;
    const struct span *spans; /* the client's bytes */
    size_t spans_count;
    size_t points; /* code points */
    bool markup;   /* made by `safe`: + escapes what is joined to it */
};

struct render;
struct list;

/* Fills a generator's items when they are first asked for: generators are lazy in the reference, so that an error in
 * one that is never used is none. */
typedef bool list_fill(struct render *render, struct list *list);

struct list {
    struct value *items;
    size_t count;
    enum list_kind kind;
    bool consumed;            /* a generator yields once */
    list_fill *fill;          /* NULL: the items are there */
    int64_t begin, end, step; /* of a range */
    const struct lazy *lazy;  /* what fill works on */
};

struct pair {
    struct value key, value;
};

struct dict {
    struct pair *pairs; /* in order of insertion */
    size_t count, capacity;
    uint32_t *index; /* from DICT_INDEX_MIN pairs on: open addressing, pair + 1 */
    size_t index_size;
};

/* Why something is undefined, for the error when it is used. */
struct undefined {
    struct bytes name;       /* of a variable, attribute or key */
    const char *object_type; /* NULL: a variable */
    bool attribute;          /* else an element: name is its repr */
    bool unsafe;             /* the sandbox refuses it: SecurityError */
};

struct variable {
    symbol_id symbol;
    struct value value;
    struct variable *next;
};

struct frame {
    struct frame *parent;
    struct variable *variables;
};

struct builder;

struct render {
    const struct jinja_template *template;
    const struct json *root;
    struct arena arena;
    uint64_t steps;
    int depth;
    uint32_t line; /* of the node at work */
    enum template_fault fault;
    enum status status;
    struct error *error;
    struct value *globals; /* by symbol: the context; UNDEFINED where it has none */
    struct frame *frame;
    struct builder *out;
    symbol_id loop_symbol, caller_symbol, varargs_symbol, kwargs_symbol; /* NO_SYMBOL: not used by the template */
    uint64_t hash_seed;
    int64_t now_s;
};

/* ---- the machine ---- */
bool render_fail(struct render *render, enum template_fault fault, const char *format, ...) PRINTF_LIKE(3, 4);
bool render_spend(struct render *render, size_t steps);
void *render_alloc(struct render *render, size_t count, size_t size); /* NULL: the fault is set */
/* The UndefinedError of a value that is undefined and was used. */
bool render_fail_undefined(struct render *render, const struct value *value);

/* ---- making values ---- */
static inline struct value value_none(void)
{
    return (struct value){.kind = VALUE_NONE};
}
static inline struct value value_bool(bool boolean)
{
    return (struct value){.kind = VALUE_BOOL, .as.boolean = boolean};
}
static inline struct value value_integer(int64_t integer, bool client)
{
    return (struct value){.kind = VALUE_INTEGER, .client = client, .as.integer = integer};
}
static inline struct value value_float(double real, bool client)
{
    return (struct value){.kind = VALUE_FLOAT, .client = client, .as.real = real};
}
static inline struct value value_text(const struct text *text)
{
    return (struct value){.kind = VALUE_TEXT, .as.text = text};
}
static inline struct value value_list(struct list *list)
{
    return (struct value){.kind = VALUE_LIST, .as.list = list};
}
bool value_undefined(struct render *render, struct undefined why, struct value *out);
/* A view of bytes that outlive the render; valid UTF-8. */
bool value_from_bytes(struct render *render, struct bytes bytes, bool client, struct value *out);
bool value_from_json(struct render *render, const struct json *json, struct value *out); /* all of it the client's */

/* A list of `count` items, which the caller fills. */
struct list *list_new(struct render *render, enum list_kind kind, size_t count);
struct dict *dict_new(struct render *render);
bool dict_put(struct render *render, struct dict *dict, struct value key, struct value value); /* replaces */
/* *found stays NULL when there is no such key. TypeError for a key that can't be hashed. */
bool dict_get(struct render *render, const struct dict *dict, const struct value *key, struct value **found);
struct value *dict_get_name(const struct dict *dict, struct bytes name); /* a text key; NULL: absent */

/* Lists, tuples and ranges have places; generators and a dict's views only yield. */
static inline bool list_has_places(const struct list *list)
{
    return list->kind <= LIST_RANGE;
}

/* ---- reading values ---- */
const char *value_type_name(const struct value *value); /* Python's: str, int, NoneType, … */
bool value_truthy(const struct value *value);
bool value_is_number(const struct value *value);                /* int, float, bool */
bool value_is_integer(const struct value *value, int64_t *out); /* int or bool */
double value_number(const struct value *value);
bool value_equal(struct render *render, const struct value *a, const struct value *b, bool *equal);
/* <0, 0, >0; TypeError when the two have no order. `sign` is for its message: "<", ">" … */
bool value_order(struct render *render, const struct value *a, const struct value *b, const char *sign, int *order);
bool value_contains(struct render *render, const struct value *whole, const struct value *part, bool *found);
bool value_length(struct render *render, const struct value *value, size_t *length); /* len() */
/* The items to iterate over (a dict's keys, a text's characters, nothing of an undefined). */
bool value_iterate(struct render *render, const struct value *value, struct value **items, size_t *count);
bool value_to_text(struct render *render, const struct value *value, const struct text **out); /* str() */

/* ---- texts ---- */
struct builder {
    struct render *render;
    uint8_t *data;
    size_t length, capacity;
    struct span *spans;
    size_t spans_count, spans_capacity;
};
void builder_init(struct builder *builder, struct render *render);
bool builder_add(struct builder *builder, struct bytes bytes, bool client);
bool builder_add_text(struct builder *builder, const struct text *text);
bool builder_add_point(struct builder *builder, uint32_t code_point, bool client);
bool builder_add_value(struct builder *builder, const struct value *value); /* str() */
bool builder_add_repr(struct builder *builder, const struct value *value);  /* repr() */
bool builder_add_escaped(struct builder *builder, const struct text *text); /* for HTML, as markupsafe */
bool builder_finish(struct builder *builder, struct value *out);
static inline bool builder_add_literal(struct builder *builder, const char *text)
{
    return builder_add(builder, bytes_of_text(text), false);
}

/* [begin, end) in bytes, on character boundaries. */
bool text_slice(struct render *render, const struct text *text, size_t begin, size_t end, struct value *out);
size_t text_offset(const struct text *text, size_t point); /* the byte where code point number `point` starts */
size_t text_find(const struct text *text, struct bytes part, size_t from); /* SIZE_MAX: not there */
bool text_equals(const struct text *text, const char *literal);
static inline struct bytes text_bytes(const struct text *text)
{
    return bytes_of(text->data, text->length);
}

/* Walks a text's characters and knows whose each is. */
struct walker {
    const struct text *text;
    size_t at, span;
    /* of the character that walk() stepped over */
    uint32_t point;
    size_t begin;
    bool client;
};
static inline struct walker walk_start(const struct text *text)
{
    return (struct walker){.text = text};
}
bool walk(struct walker *walker); /* false at the end */

/* Text for tojson: Python's json.dumps with ensure_ascii=False. indent < 0: on one line. */
struct json_style {
    int64_t indent;
    struct bytes item_separator, key_separator;
    bool sort_keys;
    bool ensure_ascii;
};
bool builder_add_json(struct builder *builder, const struct value *value, const struct json_style *style);

#endif
