/* jinja_expr: expressions, from the loosest operator to the tightest.
 *
 *     condition: a if b else c → or → and → not → comparison → + - → ~ → * / // % → ** → unary → primary, postfix,
 * filters
 */
#include <string.h>

#include "base/check.h"
#include "text/jinja_eval.h"
#include "text/jinja_parse.h"

static struct node *binary(struct parser *parser, enum node_kind kind, uint32_t line, struct node *a, struct node *b)
{
    struct node *node = parser_node(parser, kind);
    if (node == NULL || a == NULL || b == NULL)
        return NULL;
    node->line = line;
    node->a = a;
    node->b = b;
    return parser_over(parser, parser_over(parser, node, a), b);
}

static struct node *unary(struct parser *parser, enum node_kind kind, uint32_t line, struct node *a)
{
    struct node *node = parser_node(parser, kind);
    if (node == NULL || a == NULL)
        return NULL;
    node->line = line;
    node->a = a;
    return parser_over(parser, node, a);
}

/* Appends a child to a node's items. */
static bool add_item(struct parser *parser, struct node *node, struct node *item)
{
    return parser_over(parser, node, item) != NULL && parser_append(parser, &node->items, item);
}

struct node *parse_expression(struct parser *parser)
{
    if (!parser_enter(parser))
        return NULL;
    uint32_t line = parser->token->line;
    struct node *value = parse_or(parser);
    while (value != NULL && parser_skip_name(parser, "if")) {
        struct node *condition = parse_or(parser), *otherwise = NULL;
        if (condition != NULL && parser_skip_name(parser, "else")) {
            otherwise = parse_expression(parser);
            condition = otherwise == NULL ? NULL : condition;
        }
        value = binary(parser, NODE_CONDITION, line, value, condition);
        if (value != NULL && otherwise != NULL) {
            value->c = otherwise;
            value = parser_over(parser, value, otherwise);
        }
    }
    parser_leave(parser);
    return value;
}

static struct node *parse_not(struct parser *parser);

static struct node *parse_and(struct parser *parser)
{
    uint32_t line = parser->token->line;
    struct node *left = parse_not(parser);
    while (left != NULL && parser_skip_name(parser, "and"))
        left = binary(parser, NODE_AND, line, left, parse_not(parser));
    return left;
}

struct node *parse_or(struct parser *parser)
{
    uint32_t line = parser->token->line;
    struct node *left = parse_and(parser);
    while (left != NULL && parser_skip_name(parser, "or"))
        left = binary(parser, NODE_OR, line, left, parse_and(parser));
    return left;
}

static struct node *parse_compare(struct parser *parser);

static struct node *parse_not(struct parser *parser)
{
    uint32_t line = parser->token->line;
    if (!parser_skip_name(parser, "not"))
        return parse_compare(parser);
    if (!parser_enter(parser))
        return NULL;
    struct node *node = unary(parser, NODE_NOT, line, parse_not(parser));
    parser_leave(parser);
    return node;
}

/* Consumes a comparison operator if one is there. */
static bool compare_operator(struct parser *parser, enum compare_kind *kind)
{
    static const struct {
        enum token_kind token;
        enum compare_kind compare;
    } table[] = {{TOKEN_EQ, COMPARE_EQ}, {TOKEN_NE, COMPARE_NE}, {TOKEN_LT, COMPARE_LT},
                 {TOKEN_LE, COMPARE_LE}, {TOKEN_GT, COMPARE_GT}, {TOKEN_GE, COMPARE_GE}};
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        if (parser_skip(parser, table[i].token)) {
            *kind = table[i].compare;
            return true;
        }
    }
    *kind = COMPARE_IN;
    if (parser_skip_name(parser, "in"))
        return true;
    *kind = COMPARE_NOT_IN;
    return parser_at_name(parser, "not") && parser_next_is_name(parser, "in") && parser_skip_name(parser, "not") &&
           parser_skip_name(parser, "in");
}

static struct node *parse_sum(struct parser *parser);

static struct node *parse_compare(struct parser *parser)
{
    uint32_t line = parser->token->line;
    struct node *first = parse_sum(parser), *node = NULL;
    enum compare_kind kind;
    while (first != NULL && compare_operator(parser, &kind)) {
        if (node == NULL) {
            node = parser_node(parser, NODE_COMPARE);
            if (node == NULL || !add_item(parser, node, first))
                return NULL;
            node->line = line;
        }
        size_t count = node->items.count;
        enum compare_kind *grown = arena_alloc_array(&parser->out->arena, count, sizeof *grown);
        struct node *operand = parse_sum(parser);
        if (grown == NULL || operand == NULL || !add_item(parser, node, operand))
            return NULL;
        if (count > 1)
            memcpy(grown, node->compares, (count - 1) * sizeof *grown);
        grown[count - 1] = kind;
        node->compares = grown;
    }
    return node != NULL ? node : first;
}

static struct node *parse_concat(struct parser *parser);
static struct node *parse_product(struct parser *parser);
static struct node *parse_power(struct parser *parser);
static struct node *parse_unary(struct parser *parser, bool with_filters);

static struct node *parse_sum(struct parser *parser)
{
    uint32_t line = parser->token->line;
    struct node *left = parse_concat(parser);
    while (left != NULL && (parser_at(parser, TOKEN_ADD) || parser_at(parser, TOKEN_SUB))) {
        enum node_kind kind = parser_at(parser, TOKEN_ADD) ? NODE_ADD : NODE_SUB;
        parser->token++;
        left = binary(parser, kind, line, left, parse_concat(parser));
    }
    return left;
}

static struct node *parse_concat(struct parser *parser)
{
    uint32_t line = parser->token->line;
    struct node *first = parse_product(parser), *node = NULL;
    while (first != NULL && parser_skip(parser, TOKEN_TILDE)) {
        if (node == NULL) {
            node = parser_node(parser, NODE_CONCAT);
            if (node == NULL || !add_item(parser, node, first))
                return NULL;
            node->line = line;
        }
        struct node *operand = parse_product(parser);
        if (operand == NULL || !add_item(parser, node, operand))
            return NULL;
    }
    return node != NULL ? node : first;
}

static struct node *parse_product(struct parser *parser)
{
    static const struct {
        enum token_kind token;
        enum node_kind node;
    } table[] = {{TOKEN_MUL, NODE_MUL}, {TOKEN_DIV, NODE_DIV}, {TOKEN_FLOORDIV, NODE_FLOORDIV}, {TOKEN_MOD, NODE_MOD}};
    uint32_t line = parser->token->line;
    struct node *left = parse_power(parser);
    for (size_t i = 0; left != NULL && i < COUNT_OF(table);) {
        if (!parser_skip(parser, table[i].token)) {
            i++;
            continue;
        }
        left = binary(parser, table[i].node, line, left, parse_power(parser));
        i = 0;
    }
    return left;
}

static struct node *parse_power(struct parser *parser)
{
    uint32_t line = parser->token->line;
    struct node *left = parse_unary(parser, true);
    while (left != NULL && parser_skip(parser, TOKEN_POW))
        left = binary(parser, NODE_POW, line, left, parse_unary(parser, true));
    return left;
}

/* ---- primaries ---------------------------------------------------------------------------------------------- */

static struct node *parse_list(struct parser *parser)
{
    struct node *node = parser_node(parser, NODE_LIST);
    parser->token++;
    while (node != NULL && !parser_at(parser, TOKEN_RBRACKET)) {
        if (node->items.count > 0 && !parser_expect(parser, TOKEN_COMMA, "a comma"))
            return NULL;
        if (parser_at(parser, TOKEN_RBRACKET))
            break;
        struct node *item = parse_expression(parser);
        if (item == NULL || !add_item(parser, node, item))
            return NULL;
    }
    parser->token++;
    return node;
}

static struct node *parse_dict(struct parser *parser)
{
    struct node *node = parser_node(parser, NODE_DICT);
    parser->token++;
    while (node != NULL && !parser_at(parser, TOKEN_RBRACE)) {
        if (node->items.count > 0 && !parser_expect(parser, TOKEN_COMMA, "a comma"))
            return NULL;
        if (parser_at(parser, TOKEN_RBRACE))
            break;
        struct node *key = parse_expression(parser);
        if (key == NULL || !add_item(parser, node, key) || !parser_expect(parser, TOKEN_COLON, "a colon"))
            return NULL;
        struct node *value = parse_expression(parser);
        if (value == NULL || !add_item(parser, node, value))
            return NULL;
    }
    parser->token++;
    return node;
}

/* Adjacent strings are one. */
static struct node *parse_string(struct parser *parser)
{
    struct node *node = parser_node(parser, NODE_STRING);
    if (node == NULL)
        return NULL;
    node->text = parser->token->text;
    for (parser->token++; parser_at(parser, TOKEN_STRING); parser->token++) {
        size_t length = node->text.length + parser->token->text.length;
        uint8_t *joined = arena_alloc(&parser->out->arena, length);
        if (joined == NULL)
            return parser_fail(parser, STATUS_LIMIT, "the template is too large");
        memcpy(joined, node->text.data, node->text.length);
        memcpy(joined + node->text.length, parser->token->text.data, parser->token->text.length);
        node->text = bytes_of(joined, length);
    }
    return node;
}

static struct node *parse_name(struct parser *parser)
{
    static const struct {
        const char *name;
        enum node_kind kind;
        int64_t value;
    } constants[] = {{"true", NODE_BOOL, 1},  {"True", NODE_BOOL, 1}, {"false", NODE_BOOL, 0},
                     {"False", NODE_BOOL, 0}, {"none", NODE_NONE, 0}, {"None", NODE_NONE, 0}};
    for (size_t i = 0; i < COUNT_OF(constants); i++) {
        if (!parser_at_name(parser, constants[i].name))
            continue;
        struct node *node = parser_node(parser, constants[i].kind);
        if (node != NULL)
            node->integer = constants[i].value;
        parser->token++;
        return node;
    }
    struct node *node = parser_node(parser, NODE_NAME);
    symbol_id name = parser_symbol(parser, parser->token->text);
    if (node == NULL || name == NO_SYMBOL)
        return NULL;
    node->symbol = name;
    node->text = parser->token->text;
    parser->token++;
    return node;
}

static struct node *parse_parenthesis(struct parser *parser)
{
    parser->token++;
    if (parser_at(parser, TOKEN_RPAREN)) { /* the empty tuple */
        parser->token++;
        return parser_node(parser, NODE_TUPLE);
    }
    struct node *node = parse_tuple(parser, true);
    return node != NULL && parser_expect(parser, TOKEN_RPAREN, "a closing parenthesis") ? node : NULL;
}

static struct node *parse_primary(struct parser *parser)
{
    struct node *node;
    switch (parser->token->kind) {
    case TOKEN_NAME:
        return parse_name(parser);
    case TOKEN_STRING:
        return parse_string(parser);
    case TOKEN_INTEGER:
    case TOKEN_FLOAT:
        node = parser_node(parser, parser_at(parser, TOKEN_INTEGER) ? NODE_INTEGER : NODE_FLOAT);
        if (node != NULL) {
            node->integer = parser->token->integer;
            node->real = parser->token->real;
        }
        parser->token++;
        return node;
    case TOKEN_LPAREN:
        return parse_parenthesis(parser);
    case TOKEN_LBRACKET:
        return parse_list(parser);
    case TOKEN_LBRACE:
        return parse_dict(parser);
    default:
        return parser_fail(parser, STATUS_INVALID, "an expression is expected");
    }
}

struct node *parse_tuple(struct parser *parser, bool with_condition)
{
    struct node *first = with_condition ? parse_expression(parser) : parse_or(parser);
    if (first == NULL || !parser_at(parser, TOKEN_COMMA))
        return first;
    struct node *tuple = parser_node(parser, NODE_TUPLE);
    if (tuple == NULL || !add_item(parser, tuple, first))
        return NULL;
    tuple->line = first->line;
    while (parser_skip(parser, TOKEN_COMMA)) {
        if (parser_at(parser, TOKEN_RPAREN) || parser_at(parser, TOKEN_BLOCK_END) ||
            parser_at(parser, TOKEN_VARIABLE_END) || parser_at_name(parser, "recursive"))
            break;
        struct node *item = with_condition ? parse_expression(parser) : parse_or(parser);
        if (item == NULL || !add_item(parser, tuple, item))
            return NULL;
    }
    return tuple;
}

/* ---- what follows a primary --------------------------------------------------------------------------------- */

static bool parse_argument(struct parser *parser, struct call_node *call)
{
    if (parser_skip(parser, TOKEN_MUL))
        return (call->star = parse_expression(parser)) != NULL;
    if (parser_skip(parser, TOKEN_POW))
        return (call->star_star = parse_expression(parser)) != NULL;
    if (parser_at(parser, TOKEN_NAME) && parser->token[1].kind == TOKEN_ASSIGN) {
        struct keyword_node *grown = arena_alloc_array(&parser->out->arena, call->keywords_count + 1, sizeof *grown);
        struct bytes name = parser->token->text;
        parser->token += 2;
        struct node *value = parse_expression(parser);
        if (grown == NULL || value == NULL)
            return false;
        if (call->keywords_count > 0)
            memcpy(grown, call->keywords, call->keywords_count * sizeof *grown);
        grown[call->keywords_count++] = (struct keyword_node){.name = name, .value = value};
        call->keywords = grown;
        return true;
    }
    if (call->keywords_count > 0 || call->star_star != NULL)
        return parser_fail(parser, STATUS_INVALID, "a positional argument follows a named one") != NULL;
    struct node *value = parse_expression(parser);
    return value != NULL && parser_append(parser, &call->positional, value);
}

struct call_node *parse_call(struct parser *parser)
{
    struct call_node *call = arena_alloc(&parser->out->arena, sizeof *call);
    if (call == NULL)
        return parser_fail(parser, STATUS_LIMIT, "the template is too large");
    parser->token++;
    for (bool first = true; !parser_at(parser, TOKEN_RPAREN); first = false) {
        if (!first && !parser_expect(parser, TOKEN_COMMA, "a comma"))
            return NULL;
        if (!first && parser_at(parser, TOKEN_RPAREN))
            break;
        if (!parse_argument(parser, call))
            return NULL;
    }
    parser->token++;
    return call;
}

/* Takes the heights of a call's arguments into account. */
static struct node *over_call(struct parser *parser, struct node *node)
{
    const struct call_node *call = node->call;
    for (size_t i = 0; call != NULL && i < call->positional.count && node != NULL; i++)
        node = parser_over(parser, node, call->positional.data[i]);
    for (size_t i = 0; call != NULL && i < call->keywords_count && node != NULL; i++)
        node = parser_over(parser, node, call->keywords[i].value);
    if (node != NULL && call != NULL && call->star != NULL)
        node = parser_over(parser, node, call->star);
    if (node != NULL && call != NULL && call->star_star != NULL)
        node = parser_over(parser, node, call->star_star);
    return node;
}

struct node *parse_postfix_call(struct parser *parser, struct node *callee)
{
    struct node *node = unary(parser, NODE_CALL, parser->token->line, callee);
    if (node == NULL || (node->call = parse_call(parser)) == NULL)
        return NULL;
    return over_call(parser, node);
}

/* Between brackets: an expression, or begin:end:step. */
static struct node *parse_subscript(struct parser *parser, struct node *value)
{
    struct node *slice = unary(parser, NODE_SLICE, parser->token->line, value);
    struct node *part[3] = {NULL, NULL, NULL};
    size_t parts = 0;
    parser->token++;
    for (;; parts++) {
        if (!parser_at(parser, TOKEN_COLON) && !parser_at(parser, TOKEN_RBRACKET)) {
            part[parts] = parts == 0 ? parse_tuple(parser, true) : parse_expression(parser);
            if (part[parts] == NULL)
                return NULL;
        }
        if (parts == 2 || !parser_skip(parser, TOKEN_COLON))
            break;
    }
    if (!parser_expect(parser, TOKEN_RBRACKET, "a closing bracket") || slice == NULL)
        return NULL;
    if (parts == 0)
        return part[0] == NULL ? parser_fail(parser, STATUS_INVALID, "an index is expected")
                               : binary(parser, NODE_ITEM, slice->line, value, part[0]);
    for (size_t i = 0; i < COUNT_OF(part); i++) {
        if (!parser_append(parser, &slice->items, part[i]) ||
            (part[i] != NULL && parser_over(parser, slice, part[i]) == NULL))
            return NULL;
    }
    return slice;
}

static struct node *parse_attribute(struct parser *parser, struct node *value)
{
    parser->token++;
    if (parser_at(parser, TOKEN_INTEGER)) {
        struct node *index = parse_primary(parser);
        return index == NULL ? NULL : binary(parser, NODE_ITEM, index->line, value, index);
    }
    if (!parser_at(parser, TOKEN_NAME))
        return parser_fail(parser, STATUS_INVALID, "a name or a number is expected behind the dot");
    struct node *node = unary(parser, NODE_ATTRIBUTE, parser->token->line, value);
    if (node != NULL)
        node->text = parser->token->text;
    parser->token++;
    return node;
}

static struct node *parse_postfix(struct parser *parser, struct node *node)
{
    while (node != NULL) {
        if (parser_at(parser, TOKEN_DOT))
            node = parse_attribute(parser, node);
        else if (parser_at(parser, TOKEN_LBRACKET))
            node = parse_subscript(parser, node);
        else if (parser_at(parser, TOKEN_LPAREN))
            node = parse_postfix_call(parser, node);
        else
            break;
    }
    return node;
}

struct node *parse_filters(struct parser *parser, struct node *value, bool first_is_filter)
{
    struct node *node = value;
    while (first_is_filter || parser_skip(parser, TOKEN_PIPE)) {
        first_is_filter = false;
        if (!parser_at(parser, TOKEN_NAME))
            return parser_fail(parser, STATUS_INVALID, "a filter's name is expected");
        struct node *filter = parser_node(parser, NODE_FILTER);
        if (filter == NULL)
            return NULL;
        filter->a = node;
        filter->text = parser->token->text;
        filter->function = jinja_filter_find(filter->text);
        if (filter->function == NULL)
            return parser_fail(parser, STATUS_UNSUPPORTED, "the filter '%.*s' is not supported",
                               (int)MIN_OF(filter->text.length, (size_t)64), (const char *)filter->text.data);
        parser->token++;
        if (parser_at(parser, TOKEN_LPAREN) && (filter->call = parse_call(parser)) == NULL)
            return NULL;
        if ((node != NULL && parser_over(parser, filter, node) == NULL) || over_call(parser, filter) == NULL)
            return NULL;
        node = filter;
    }
    return node;
}

/* A test's argument without parentheses: any primary. Of the language's keywords only these three end a test in the
 * reference, so only these do here. */
static bool bare_argument(const struct parser *parser)
{
    switch (parser->token->kind) {
    case TOKEN_NAME:
        return !parser_at_name(parser, "else") && !parser_at_name(parser, "or") && !parser_at_name(parser, "and");
    case TOKEN_STRING:
    case TOKEN_INTEGER:
    case TOKEN_FLOAT:
    case TOKEN_LPAREN:
    case TOKEN_LBRACKET:
    case TOKEN_LBRACE:
        return true;
    default:
        return false;
    }
}

static struct node *parse_test(struct parser *parser, struct node *value)
{
    uint32_t line = parser->token->line;
    parser->token++;
    bool negated = parser_skip_name(parser, "not");
    if (!parser_at(parser, TOKEN_NAME))
        return parser_fail(parser, STATUS_INVALID, "a test's name is expected");
    struct node *test = unary(parser, NODE_TEST, line, value);
    if (test == NULL)
        return NULL;
    test->text = parser->token->text;
    test->function = jinja_test_find(test->text);
    if (test->function == NULL)
        return parser_fail(parser, STATUS_UNSUPPORTED, "the test '%.*s' is not supported",
                           (int)MIN_OF(test->text.length, (size_t)64), (const char *)test->text.data);
    parser->token++;
    if (parser_at(parser, TOKEN_LPAREN)) {
        test->call = parse_call(parser);
        if (test->call == NULL)
            return NULL;
    } else if (parser_at_name(parser, "is")) {
        return parser_fail(parser, STATUS_INVALID, "tests cannot be chained with is");
    } else if (bare_argument(parser)) {
        struct node *argument = parse_postfix(parser, parse_primary(parser));
        test->call = arena_alloc(&parser->out->arena, sizeof *test->call);
        if (argument == NULL || test->call == NULL || !parser_append(parser, &test->call->positional, argument))
            return NULL;
    }
    if (over_call(parser, test) == NULL)
        return NULL;
    return negated ? unary(parser, NODE_NOT, line, test) : test;
}

static struct node *parse_unary(struct parser *parser, bool with_filters)
{
    struct node *node;
    uint32_t line = parser->token->line;
    if (parser_at(parser, TOKEN_SUB) || parser_at(parser, TOKEN_ADD)) {
        enum node_kind kind = parser_at(parser, TOKEN_SUB) ? NODE_NEGATE : NODE_PLUS;
        if (!parser_enter(parser))
            return NULL;
        parser->token++;
        node = unary(parser, kind, line, parse_unary(parser, false));
        parser_leave(parser);
    } else {
        node = parse_primary(parser);
    }
    node = parse_postfix(parser, node);
    while (with_filters && node != NULL) {
        if (parser_at(parser, TOKEN_PIPE))
            node = parse_filters(parser, node, false);
        else if (parser_at_name(parser, "is"))
            node = parse_test(parser, node);
        else if (parser_at(parser, TOKEN_LPAREN))
            node = parse_postfix_call(parser, node);
        else
            break;
    }
    return node;
}
