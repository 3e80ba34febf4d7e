/* text/jinja_ast: a parsed template: nodes, what their fields mean, names as numbers.
 *
 * Everything lives in the template's arena and is immutable after parsing. `height` bounds every recursion over a tree
 * when it is built. Names are interned: two nodes speak of the same variable when their symbols are equal. */
#ifndef SHOAL_TEXT_JINJA_AST_H
#define SHOAL_TEXT_JINJA_AST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/status.h"

enum { JINJA_HEIGHT_MAX = 400, JINJA_SYMBOLS_MAX = 4096 };

typedef uint32_t symbol_id;
static const symbol_id NO_SYMBOL = UINT32_MAX;

enum node_kind {
    /* expressions; a, b, c are operands, items are lists of them */
    NODE_NONE,      /* none */
    NODE_BOOL,      /* integer: 0 or 1 */
    NODE_INTEGER,   /* integer */
    NODE_FLOAT,     /* real */
    NODE_STRING,    /* text */
    NODE_NAME,      /* symbol_id */
    NODE_LIST,      /* items */
    NODE_TUPLE,     /* items */
    NODE_DICT,      /* items: key, value, key, value, … */
    NODE_ATTRIBUTE, /* a.text */
    NODE_ITEM,      /* a[b] */
    NODE_SLICE,     /* a[items[0]:items[1]:items[2]], each NULL when absent */
    NODE_CALL,      /* a(call) */
    NODE_FILTER,    /* a | text(call); a is NULL inside of a filter block: the block's text */
    NODE_TEST,      /* a is text(call) */
    NODE_NOT,       /* not a */
    NODE_NEGATE,    /* -a */
    NODE_PLUS,      /* +a */
    NODE_ADD,       /* a + b, and so on */
    NODE_SUB,
    NODE_MUL,
    NODE_DIV,
    NODE_FLOORDIV,
    NODE_MOD,
    NODE_POW,
    NODE_CONCAT,  /* items joined as texts: ~ */
    NODE_COMPARE, /* a op b op c …: items, compares */
    NODE_AND,     /* a and b */
    NODE_OR,
    NODE_CONDITION, /* a if b else c; c may be NULL: undefined */
    /* statements; body and otherwise are lists of them */
    NODE_TEXT,         /* text */
    NODE_OUTPUT,       /* {{ a }} */
    NODE_IF,           /* items: conditions; bodies: one each; otherwise */
    NODE_FOR,          /* for target in a [if b] body else otherwise; recursive */
    NODE_SET,          /* target = a */
    NODE_SET_BLOCK,    /* target = body, through the filters in a (innermost a is NULL) */
    NODE_MACRO,        /* macro symbol(params) body */
    NODE_CALL_BLOCK,   /* call(params) a: body is the caller */
    NODE_FILTER_BLOCK, /* body through the filters in a */
    NODE_WITH,         /* targets are NODE_NAMEs in items, values in values; body */
    NODE_SCOPELESS,    /* body as it is: generation */
    NODE_BREAK,
    NODE_CONTINUE
};

enum compare_kind {
    COMPARE_EQ,
    COMPARE_NE,
    COMPARE_LT,
    COMPARE_LE,
    COMPARE_GT,
    COMPARE_GE,
    COMPARE_IN,
    COMPARE_NOT_IN
};

struct node_list {
    struct node **data;
    size_t count;
};

struct keyword_node {
    struct bytes name;
    struct node *value;
};

/* The arguments of a call, filter or test. */
struct call_node {
    struct node_list positional;
    struct keyword_node *keywords;
    size_t keywords_count;
    struct node *star;      /* *args or NULL */
    struct node *star_star; /* **kwargs or NULL */
};

/* What a for or set assigns to: a name, a tuple of targets, or an attribute of a namespace. */
struct target {
    symbol_id symbol;       /* NO_SYMBOL for a tuple */
    struct bytes attribute; /* of a namespace, empty: none */
    struct target *items;
    size_t count;
};

/* Parameters of a macro: defaults belong to the last ones. */
struct params {
    symbol_id *names;
    size_t count;
    struct node_list defaults;
};

struct node {
    enum node_kind kind;
    uint32_t line;
    uint32_t height;
    symbol_id symbol;
    struct bytes text;
    int64_t integer;
    double real;
    struct node *a, *b, *c;
    struct node_list items;
    struct node_list values;
    struct node_list body, otherwise;
    struct node_list *bodies;
    enum compare_kind *compares;
    struct call_node *call;
    const void *function; /* FILTER, TEST: the entry of their table */
    struct target *target;
    struct params *params;
    bool recursive;
};

struct jinja_template {
    struct arena arena;
    struct node_list body;
    struct bytes *symbols; /* by symbol: the name */
    size_t symbols_count;
};

/* STATUS_INVALID: a syntax error; STATUS_UNSUPPORTED: beyond the language; both with the line. Frees nothing: the arena
 * does. */
MUST_CHECK enum status jinja_parse(struct bytes source, struct jinja_template *out, struct error *error);
/* The symbol of a name that the template uses, or NO_SYMBOL. */
symbol_id jinja_symbol(const struct jinja_template *template, const char *name);

#endif
