/* text/jinja_eval: evaluation: statements, expressions, and the tables of filters, tests, methods and globals.
 *
 * An entry of a table is a name and a function; arguments come evaluated. Functions return false when the render's
 * fault is set. */
#ifndef SHOAL_TEXT_JINJA_EVAL_H
#define SHOAL_TEXT_JINJA_EVAL_H

#include "text/jinja_value.h"

struct keyword {
    struct bytes name;
    struct value value;
};

struct args {
    struct value *positional;
    size_t count;
    struct keyword *keywords;
    size_t keywords_count;
};

typedef bool builtin(struct render *render, const struct value *self, const struct args *args, struct value *out);

struct builtin_entry {
    const char *name;
    builtin *function;
    const char *params[5]; /* names of its arguments, in order; NULL ends; "*": any */
};

typedef bool test_function(struct render *render, const struct value *value, const struct args *args, bool *out);

struct test_entry {
    const char *name;
    test_function *function;
    size_t args_count;
};

enum callable_kind { CALL_BUILTIN, CALL_MACRO, CALL_LOOP };

struct callable {
    enum callable_kind kind;
    const struct builtin_entry *builtin; /* a global, or a method of `self` */
    struct value self;
    struct value state; /* of a cycler or joiner: a namespace */
    const struct node *macro;
    struct frame *closure;
};

struct loop {
    struct value *items;
    size_t count, index0;
    size_t depth0;
    const struct node *node;
    struct frame *frame;  /* around the loop */
    struct value changed; /* what loop.changed saw last */
    bool seen;
};

/* Tables of their own files: jinja_sequences.c, jinja_text_methods.c. */
extern const struct builtin_entry JINJA_SEQUENCE_FILTERS[], JINJA_TEXT_METHODS[];
extern const size_t JINJA_SEQUENCE_FILTERS_COUNT, JINJA_TEXT_METHODS_COUNT;

/* What a generator was made of. */
struct lazy {
    struct value self;
    struct args args;
    bool by_attribute, wanted; /* of select and its kin */
};
/* A generator that `fill` makes when it is first asked. */
bool jinja_generator(struct render *render, list_fill *fill, struct lazy lazy, struct value *out);

const struct builtin_entry *jinja_filter_find(struct bytes name); /* NULL: there is none */
const struct test_entry *jinja_test_find(struct bytes name);
const struct builtin_entry *jinja_global_find(struct bytes name);
const struct builtin_entry *builtin_find(const struct builtin_entry *table, size_t count, struct bytes name);
const struct builtin_entry *jinja_method_find(const struct value *self, struct bytes name);
bool jinja_method_unsafe(const struct value *self, struct bytes name); /* it exists, and changes the object */

/* The argument of that name or place; NULL: not given. */
const struct value *args_get(const struct args *args, size_t index, const char *name);
/* TypeError unless args fit the entry's parameters. */
bool args_check(struct render *render, const struct builtin_entry *entry, const struct args *args);
/* Reads an argument, leaving *out as it is when it is not given. TypeError for another type. */
bool args_integer(struct render *render, const struct args *args, size_t index, const char *name, int64_t *out);
bool args_bool(const struct args *args, size_t index, const char *name, bool otherwise);
bool args_text(struct render *render, const struct args *args, size_t index, const char *name, const struct text **out);

bool jinja_render_body(struct render *render, const struct node_list *body); /* the whole template, into render->out */
bool jinja_eval(struct render *render, const struct node *node, struct value *out);
bool jinja_eval_args(struct render *render, const struct call_node *call, struct args *out); /* call NULL: none */
bool jinja_enter(struct render *render, const struct node *node); /* one level deeper; one step */
void jinja_leave(struct render *render);
/* A macro's body with its arguments bound; caller: the value of `caller`, or NULL. */
bool jinja_call_macro(struct render *render, const struct callable *callable, const struct args *args,
                      const struct value *caller, struct value *out);
bool jinja_attribute(struct render *render, const struct value *object, struct bytes name, struct value *out); /* a.b */
bool jinja_item(struct render *render, const struct value *object, const struct value *key,
                struct value *out); /* a[b] */
bool jinja_call(struct render *render, const struct value *callee, const struct args *args, struct value *out);
bool jinja_apply_filter(struct render *render, const struct builtin_entry *filter, const struct value *value,
                        const struct args *args, struct value *out);
bool jinja_apply_test(struct render *render, const struct test_entry *test, const struct value *value,
                      const struct args *args, bool *out);
/* loop(items) of a recursive loop. */
bool jinja_recurse(struct render *render, const struct loop *loop, const struct value *items, struct value *out);
/* a + b and the other arithmetic, by NODE_ADD … NODE_POW. */
bool jinja_arithmetic(struct render *render, enum node_kind kind, const struct value *a, const struct value *b,
                      struct value *out);

/* strftime of a UTC time (jinja_date.c): the C locale's names. UnsupportedError for a directive that is not known. */
bool jinja_date(struct render *render, const struct text *format, int64_t now_s, struct value *out);

#endif
