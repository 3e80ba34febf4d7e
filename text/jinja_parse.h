/* text/jinja_parse: what the two halves of the parser share: statements (jinja_parse.c), expressions (jinja_expr.c).
 *
 * A parser walks the tokens by recursive descent, as Jinja's does, so precedence and error places are the same. Every
 * function returns NULL or false on an error, which is in parser->error then; nesting is bounded. */
#ifndef SHOAL_TEXT_JINJA_PARSE_H
#define SHOAL_TEXT_JINJA_PARSE_H

#include "base/map.h"
#include "text/jinja_ast.h"
#include "text/jinja_lex.h"

enum { JINJA_NESTING_MAX = 100 };

struct parser {
    const struct token *token; /* the current one; the last is TOKEN_EOF */
    struct jinja_template *out;
    struct map symbols; /* name → symbol + 1 */
    int nesting;
    int loops; /* for loops around: break and continue need one */
    enum status status;
    struct error *error;
};

/* Sets the error and returns NULL. */
void *parser_fail(struct parser *parser, enum status status, const char *format, ...) PRINTF_LIKE(3, 4);
bool parser_enter(struct parser *parser); /* one level deeper; false when that is too deep */
void parser_leave(struct parser *parser);

bool parser_at(const struct parser *parser, enum token_kind kind);
bool parser_at_name(const struct parser *parser, const char *name);
bool parser_next_is_name(const struct parser *parser, const char *name); /* the token behind the current one */
bool parser_skip(struct parser *parser, enum token_kind kind);           /* true when it was there */
bool parser_skip_name(struct parser *parser, const char *name);
bool parser_expect(struct parser *parser, enum token_kind kind, const char *what);

struct node *parser_node(struct parser *parser, enum node_kind kind);
/* Raises node's height above its children's; returns node, or NULL when it is too high or the child is NULL. */
struct node *parser_over(struct parser *parser, struct node *node, const struct node *child);
bool parser_append(struct parser *parser, struct node_list *list, struct node *node);
symbol_id parser_symbol(struct parser *parser, struct bytes name); /* NO_SYMBOL on an error */

/* An expression with `if … else` at its top (Jinja's parse_expression). */
struct node *parse_expression(struct parser *parser);
/* One without: a for's source, where `if` begins the filter. */
struct node *parse_or(struct parser *parser);
/* Expressions separated by commas are a tuple. */
struct node *parse_tuple(struct parser *parser, bool with_condition);
struct node *parse_filters(struct parser *parser, struct node *node, bool first_is_filter); /* | a | b … */
struct call_node *parse_call(struct parser *parser); /* from the opening parenthesis */
struct node *parse_postfix_call(struct parser *parser, struct node *node);

#endif
