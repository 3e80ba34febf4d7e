/* jinja_parse: statements, and the parser's own tools.
 *
 * A template is a list of statements up to a closing tag, whose name its opener asks for. */
#include "text/jinja_parse.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

enum { ARENA_MAX = 128 << 20 };

/* ---- tools -------------------------------------------------------------------------------------------------- */

void *parser_fail(struct parser *parser, enum status status, const char *format, ...)
{
    if (parser->status != STATUS_OK)
        return NULL; /* the first error counts */
    char text[ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    parser->status = error_set(parser->error, status, "line %u: %s", parser->token->line, text);
    return NULL;
}

static void *out_of_memory(struct parser *parser)
{
    return parser_fail(parser, STATUS_LIMIT, "the template is too large");
}

bool parser_enter(struct parser *parser)
{
    if (parser->nesting == JINJA_NESTING_MAX)
        return parser_fail(parser, STATUS_LIMIT, "the template is nested too deeply") != NULL;
    parser->nesting++;
    return true;
}

void parser_leave(struct parser *parser)
{
    CHECK(parser->nesting > 0);
    parser->nesting--;
}

static bool is_name(const struct token *token, const char *name)
{
    return token->kind == TOKEN_NAME && bytes_equal(token->text, bytes_of_text(name));
}

bool parser_at(const struct parser *parser, enum token_kind kind)
{
    return parser->token->kind == kind;
}

bool parser_at_name(const struct parser *parser, const char *name)
{
    return is_name(parser->token, name);
}

bool parser_next_is_name(const struct parser *parser, const char *name)
{
    return parser->token->kind != TOKEN_EOF && is_name(parser->token + 1, name);
}

bool parser_skip(struct parser *parser, enum token_kind kind)
{
    if (parser->token->kind != kind)
        return false;
    parser->token++;
    return true;
}

bool parser_skip_name(struct parser *parser, const char *name)
{
    if (!is_name(parser->token, name))
        return false;
    parser->token++;
    return true;
}

bool parser_expect(struct parser *parser, enum token_kind kind, const char *what)
{
    if (parser_skip(parser, kind))
        return true;
    return parser_fail(parser, STATUS_INVALID, "%s is expected", what) != NULL;
}

struct node *parser_node(struct parser *parser, enum node_kind kind)
{
    struct node *node = arena_alloc(&parser->out->arena, sizeof *node);
    if (node == NULL)
        return out_of_memory(parser);
    node->kind = kind;
    node->line = parser->token->line;
    node->height = 1;
    node->symbol = NO_SYMBOL;
    return node;
}

struct node *parser_over(struct parser *parser, struct node *node, const struct node *child)
{
    if (node == NULL || child == NULL)
        return NULL;
    node->height = MAX_OF(node->height, child->height + 1);
    return node->height > JINJA_HEIGHT_MAX ? parser_fail(parser, STATUS_LIMIT, "an expression is too long or nested")
                                           : node;
}

/* Lists double: capacity is the next power of two. */
bool parser_append(struct parser *parser, struct node_list *list, struct node *node)
{
    if ((list->count & (list->count - 1)) == 0) {
        size_t capacity = list->count == 0 ? 1 : list->count * 2;
        struct node **grown = arena_alloc_array(&parser->out->arena, capacity, sizeof *grown);
        if (grown == NULL)
            return out_of_memory(parser) != NULL;
        if (list->count > 0)
            memcpy(grown, list->data, list->count * sizeof *grown);
        list->data = grown;
    }
    list->data[list->count++] = node;
    return true;
}

symbol_id parser_symbol(struct parser *parser, struct bytes name)
{
    void *known = map_get(&parser->symbols, name);
    if (known != NULL)
        return (symbol_id)((uintptr_t)known - 1);
    symbol_id symbol = (uint32_t)parser->symbols.count;
    if (map_put(&parser->symbols, name, (void *)((uintptr_t)symbol + 1)) == STATUS_OK)
        return symbol;
    parser_fail(parser, STATUS_LIMIT, "the template has more than %d names", JINJA_SYMBOLS_MAX);
    return NO_SYMBOL;
}

/* ---- statements --------------------------------------------------------------------------------------------- */

static bool parse_body(struct parser *parser, const char *const *ends, struct node_list *body);

static bool expect_block_end(struct parser *parser)
{
    return parser_expect(parser, TOKEN_BLOCK_END, "the end of the tag");
}

/* Statements up to the tag `end`, which is consumed. */
static bool parse_block(struct parser *parser, const char *end, struct node_list *body)
{
    const char *const ends[] = {end, NULL};
    if (!parse_body(parser, ends, body))
        return false;
    parser->token++;
    return expect_block_end(parser);
}

/* Names that can't be assigned to. */
static bool is_constant(struct bytes name)
{
    static const char *const constants[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < COUNT_OF(constants); i++) {
        if (bytes_equal(name, bytes_of_text(constants[i])))
            return true;
    }
    return false;
}

static bool parse_target(struct parser *parser, struct target *target, bool with_attribute);

static bool parse_target_name(struct parser *parser, struct target *target, bool with_attribute)
{
    if (!parser_at(parser, TOKEN_NAME) || is_constant(parser->token->text))
        return parser_fail(parser, STATUS_INVALID, "a name to assign to is expected") != NULL;
    *target = (struct target){.symbol = parser_symbol(parser, parser->token->text)};
    parser->token++;
    if (target->symbol == NO_SYMBOL)
        return false;
    if (!with_attribute || !parser_skip(parser, TOKEN_DOT))
        return true;
    if (!parser_at(parser, TOKEN_NAME))
        return parser_fail(parser, STATUS_INVALID, "an attribute's name is expected") != NULL;
    target->attribute = parser->token->text;
    parser->token++;
    return true;
}

/* A name, or an inner tuple in parentheses. */
static bool parse_target_item(struct parser *parser, struct target *target, bool with_attribute)
{
    if (!parser_skip(parser, TOKEN_LPAREN))
        return parse_target_name(parser, target, with_attribute);
    if (!parser_enter(parser))
        return false;
    bool parsed =
        parse_target(parser, target, with_attribute) && parser_expect(parser, TOKEN_RPAREN, "a closing parenthesis");
    parser_leave(parser);
    return parsed;
}

static bool parse_target(struct parser *parser, struct target *target, bool with_attribute)
{
    if (!parse_target_item(parser, target, with_attribute))
        return false;
    if (!parser_at(parser, TOKEN_COMMA))
        return true;
    struct target tuple = {.symbol = NO_SYMBOL};
    for (struct target item = *target;;) {
        struct target *grown = arena_alloc_array(&parser->out->arena, tuple.count + 1, sizeof *grown);
        if (grown == NULL || tuple.count >= JINJA_NESTING_MAX)
            return out_of_memory(parser) != NULL;
        if (tuple.count > 0)
            memcpy(grown, tuple.items, tuple.count * sizeof *grown);
        grown[tuple.count++] = item;
        tuple.items = grown;
        if (!parser_skip(parser, TOKEN_COMMA) || !(parser_at(parser, TOKEN_NAME) || parser_at(parser, TOKEN_LPAREN)) ||
            parser_at_name(parser, "in"))
            break;
        if (!parse_target_item(parser, &item, with_attribute))
            return false;
    }
    *target = tuple;
    return true;
}

static struct node *parse_if(struct parser *parser)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    struct node *node = parser_node(parser, NODE_IF);
    struct node_list bodies[1] = {{0}};
    size_t capacity = 0;
    while (node != NULL) {
        struct node *condition = parse_tuple(parser, false); /* no inline `if` at its top, as in the reference */
        if (condition == NULL || parser_over(parser, node, condition) == NULL || !expect_block_end(parser) ||
            !parse_body(parser, ends, &bodies[0]))
            return NULL;
        if (node->items.count == capacity) {
            capacity = capacity == 0 ? 2 : capacity * 2;
            struct node_list *grown = arena_alloc_array(&parser->out->arena, capacity, sizeof *grown);
            if (grown == NULL)
                return out_of_memory(parser);
            if (node->items.count > 0)
                memcpy(grown, node->bodies, node->items.count * sizeof *grown);
            node->bodies = grown;
        }
        node->bodies[node->items.count] = bodies[0];
        bodies[0] = (struct node_list){0};
        if (!parser_append(parser, &node->items, condition))
            return NULL;
        if (!parser_skip_name(parser, "elif"))
            break;
    }
    if (node == NULL)
        return NULL;
    if (parser_skip_name(parser, "else"))
        return expect_block_end(parser) && parse_block(parser, "endif", &node->otherwise) ? node : NULL;
    parser->token++; /* endif */
    return expect_block_end(parser) ? node : NULL;
}

static struct node *parse_for(struct parser *parser)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    struct node *node = parser_node(parser, NODE_FOR);
    struct target *target = arena_alloc(&parser->out->arena, sizeof *target);
    if (node == NULL || target == NULL || !parse_target(parser, target, false))
        return NULL;
    node->target = target;
    if (!parser_skip_name(parser, "in"))
        return parser_fail(parser, STATUS_INVALID, "'in' is expected");
    node->a = parse_tuple(parser, false);
    if (parser_over(parser, node, node->a) == NULL)
        return NULL;
    if (parser_skip_name(parser, "if") &&
        ((node->b = parse_expression(parser)) == NULL || parser_over(parser, node, node->b) == NULL))
        return NULL;
    node->recursive = parser_skip_name(parser, "recursive");
    parser->loops++;
    bool parsed = expect_block_end(parser) && parse_body(parser, ends, &node->body);
    parser->loops--;
    if (!parsed)
        return NULL;
    if (parser_skip_name(parser, "else"))
        return expect_block_end(parser) && parse_block(parser, "endfor", &node->otherwise) ? node : NULL;
    parser->token++; /* endfor */
    return expect_block_end(parser) ? node : NULL;
}

static struct node *parse_set(struct parser *parser)
{
    struct node *node = parser_node(parser, NODE_SET);
    struct target *target = arena_alloc(&parser->out->arena, sizeof *target);
    if (node == NULL || target == NULL || !parse_target(parser, target, true))
        return NULL;
    node->target = target;
    if (parser_skip(parser, TOKEN_ASSIGN)) {
        node->a = parse_tuple(parser, true);
        return parser_over(parser, node, node->a) != NULL && expect_block_end(parser) ? node : NULL;
    }
    node->kind = NODE_SET_BLOCK;
    if (parser_at(parser, TOKEN_PIPE) && (node->a = parse_filters(parser, NULL, false)) == NULL)
        return NULL;
    return expect_block_end(parser) && parse_block(parser, "endset", &node->body) ? node : NULL;
}

/* (a, b=1): parameters of a macro or a caller. */
static struct params *parse_params(struct parser *parser)
{
    struct params *params = arena_alloc(&parser->out->arena, sizeof *params);
    if (params == NULL || !parser_expect(parser, TOKEN_LPAREN, "an opening parenthesis"))
        return NULL;
    while (!parser_at(parser, TOKEN_RPAREN)) {
        struct target name;
        if (params->count > 0 && !parser_expect(parser, TOKEN_COMMA, "a comma"))
            return NULL;
        if (!parse_target_name(parser, &name, false))
            return NULL;
        symbol_id *grown = arena_alloc_array(&parser->out->arena, params->count + 1, sizeof *grown);
        if (grown == NULL || params->count >= JINJA_NESTING_MAX)
            return out_of_memory(parser);
        if (params->count > 0)
            memcpy(grown, params->names, params->count * sizeof *grown);
        grown[params->count++] = name.symbol;
        params->names = grown;
        if (parser_skip(parser, TOKEN_ASSIGN)) {
            struct node *value = parse_expression(parser);
            if (value == NULL || !parser_append(parser, &params->defaults, value))
                return NULL;
        } else if (params->defaults.count > 0) {
            return parser_fail(parser, STATUS_INVALID, "a parameter without a default follows one with");
        }
    }
    parser->token++;
    return params;
}

static struct node *parse_macro(struct parser *parser)
{
    struct node *node = parser_node(parser, NODE_MACRO);
    struct target name;
    if (node == NULL || !parse_target_name(parser, &name, false))
        return NULL;
    node->symbol = name.symbol;
    node->params = parse_params(parser);
    int loops = parser->loops;
    parser->loops = 0;
    bool parsed = node->params != NULL && expect_block_end(parser) && parse_block(parser, "endmacro", &node->body);
    parser->loops = loops;
    return parsed ? node : NULL;
}

static struct node *parse_call_block(struct parser *parser)
{
    struct node *node = parser_node(parser, NODE_CALL_BLOCK);
    if (node == NULL)
        return NULL;
    node->params =
        parser_at(parser, TOKEN_LPAREN) ? parse_params(parser) : arena_alloc(&parser->out->arena, sizeof *node->params);
    node->a = node->params == NULL ? NULL : parse_expression(parser);
    if (parser_over(parser, node, node->a) == NULL)
        return NULL;
    if (node->a->kind != NODE_CALL)
        return parser_fail(parser, STATUS_INVALID, "a call is expected");
    int loops = parser->loops;
    parser->loops = 0;
    bool parsed = expect_block_end(parser) && parse_block(parser, "endcall", &node->body);
    parser->loops = loops;
    return parsed ? node : NULL;
}

static struct node *parse_filter_block(struct parser *parser)
{
    struct node *node = parser_node(parser, NODE_FILTER_BLOCK);
    if (node == NULL || (node->a = parse_filters(parser, NULL, true)) == NULL)
        return NULL;
    return expect_block_end(parser) && parse_block(parser, "endfilter", &node->body) ? node : NULL;
}

static struct node *parse_with(struct parser *parser)
{
    struct node *node = parser_node(parser, NODE_WITH);
    while (node != NULL && !parser_at(parser, TOKEN_BLOCK_END)) {
        struct target name;
        if (node->items.count > 0 && !parser_expect(parser, TOKEN_COMMA, "a comma"))
            return NULL;
        struct node *item = parser_node(parser, NODE_NAME);
        if (item == NULL || !parse_target_name(parser, &name, false) ||
            !parser_expect(parser, TOKEN_ASSIGN, "an equals sign"))
            return NULL;
        item->symbol = name.symbol;
        struct node *value = parse_expression(parser);
        if (parser_over(parser, node, value) == NULL || !parser_append(parser, &node->items, item) ||
            !parser_append(parser, &node->values, value))
            return NULL;
    }
    return node != NULL && expect_block_end(parser) && parse_block(parser, "endwith", &node->body) ? node : NULL;
}

/* {% generation %}: marks what the model wrote, for training; here its body as it is. */
static struct node *parse_generation(struct parser *parser)
{
    struct node *node = parser_node(parser, NODE_SCOPELESS);
    return node != NULL && expect_block_end(parser) && parse_block(parser, "endgeneration", &node->body) ? node : NULL;
}

static struct node *parse_jump(struct parser *parser, enum node_kind kind)
{
    if (parser->loops == 0)
        return parser_fail(parser, STATUS_INVALID, "break or continue outside of a loop");
    struct node *node = parser_node(parser, kind);
    return node != NULL && expect_block_end(parser) ? node : NULL;
}

static struct node *parse_break(struct parser *parser)
{
    return parse_jump(parser, NODE_BREAK);
}

static struct node *parse_continue(struct parser *parser)
{
    return parse_jump(parser, NODE_CONTINUE);
}

static struct node *parse_statement(struct parser *parser)
{
    static const struct {
        const char *name;
        struct node *(*parse)(struct parser *parser);
    } statements[] = {
        {"if", parse_if},           {"for", parse_for},
        {"set", parse_set},         {"macro", parse_macro},
        {"break", parse_break},     {"continue", parse_continue},
        {"call", parse_call_block}, {"filter", parse_filter_block},
        {"with", parse_with},       {"generation", parse_generation},
    };
    if (!parser_at(parser, TOKEN_NAME))
        return parser_fail(parser, STATUS_INVALID, "a tag's name is expected");
    for (size_t i = 0; i < COUNT_OF(statements); i++) {
        if (!parser_skip_name(parser, statements[i].name))
            continue;
        if (!parser_enter(parser))
            return NULL;
        struct node *node = statements[i].parse(parser);
        parser_leave(parser);
        return node;
    }
    struct bytes name = parser->token->text;
    bool closing = bytes_starts_with(name, BYTES_LITERAL("end")) || parser_at_name(parser, "else") ||
                   parser_at_name(parser, "elif");
    return parser_fail(parser, closing ? STATUS_INVALID : STATUS_UNSUPPORTED, "the tag '%.*s' is %s",
                       (int)MIN_OF(name.length, (size_t)64), (const char *)name.data,
                       closing ? "not expected here" : "not supported");
}

static struct node *parse_output(struct parser *parser)
{
    struct node *node = parser_node(parser, NODE_OUTPUT);
    if (node == NULL || (node->a = parse_tuple(parser, true)) == NULL || parser_over(parser, node, node->a) == NULL)
        return NULL;
    return parser_expect(parser, TOKEN_VARIABLE_END, "the end of the tag") ? node : NULL;
}

static bool at_end(const struct parser *parser, const char *const *ends)
{
    for (; ends != NULL && *ends != NULL; ends++) {
        if (parser_at_name(parser, *ends))
            return true;
    }
    return false;
}

/* Statements up to a block tag named in `ends`, at whose name the parser stops; NULL: up to the end of the source. */
static bool parse_body(struct parser *parser, const char *const *ends, struct node_list *body)
{
    for (;;) {
        struct node *node = NULL;
        if (parser_at(parser, TOKEN_EOF)) {
            if (ends == NULL)
                return true;
            return parser_fail(parser, STATUS_INVALID, "the template ends, but '%s' is missing", ends[0]) != NULL;
        }
        if (parser_at(parser, TOKEN_DATA)) {
            node = parser_node(parser, NODE_TEXT);
            if (node != NULL)
                node->text = parser->token->text;
            parser->token++;
        } else if (parser_skip(parser, TOKEN_VARIABLE_BEGIN)) {
            node = parse_output(parser);
        } else {
            CHECK(parser_at(parser, TOKEN_BLOCK_BEGIN));
            parser->token++;
            if (at_end(parser, ends))
                return true;
            node = parse_statement(parser);
        }
        if (node == NULL || !parser_append(parser, body, node))
            return false;
    }
}

static bool keep_symbols(struct parser *parser)
{
    struct jinja_template *out = parser->out;
    size_t at = 0;
    struct bytes name;
    void *value;
    out->symbols_count = parser->symbols.count;
    out->symbols = arena_alloc_array(&out->arena, out->symbols_count, sizeof *out->symbols);
    if (out->symbols == NULL)
        return out_of_memory(parser) != NULL;
    while (map_next(&parser->symbols, &at, &name, &value)) {
        void *copy = arena_dup(&out->arena, name.data, name.length);
        if (copy == NULL)
            return out_of_memory(parser) != NULL;
        out->symbols[(uintptr_t)value - 1] = bytes_of(copy, name.length);
    }
    return true;
}

enum status jinja_parse(struct bytes source, struct jinja_template *out, struct error *error)
{
    struct tokens tokens;
    *out = (struct jinja_template){0};
    arena_init(&out->arena, ARENA_MAX);
    enum status status = jinja_lex(source, &out->arena, &tokens, error);
    if (status == STATUS_OK) {
        struct parser parser = {.token = tokens.data, .out = out, .error = error};
        map_init(&parser.symbols, JINJA_SYMBOLS_MAX);
        if (!parse_body(&parser, NULL, &out->body) || !keep_symbols(&parser))
            out_of_memory(&parser); /* unless the reason is known already */
        map_free(&parser.symbols);
        status = parser.status;
    }
    tokens_free(&tokens);
    return status;
}

symbol_id jinja_symbol(const struct jinja_template *template, const char *name)
{
    for (size_t i = 0; i < template->symbols_count; i++) {
        if (bytes_equal(template->symbols[i], bytes_of_text(name)))
            return (symbol_id)i;
    }
    return NO_SYMBOL;
}
