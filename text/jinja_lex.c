/* jinja_lex: one pass; text up to the next tag, then the tag's tokens up to its end.
 *
 * Follows the lexer of Jinja 3.1: which newline a tag eats, when blanks in front go, that a closing brace inside of
 * open brackets does not end a tag. */
#include "text/jinja_lex.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "text/unicode.h"
#include "text/utf8.h"

enum { BRACKETS_MAX = 200, NUMBER_MAX = 64 };

struct lexer {
    struct bytes source;
    size_t at;
    size_t line_at; /* lines are counted up to here */
    uint32_t line;
    bool line_start; /* the text that follows begins on a fresh line */
    struct arena *arena;
    struct tokens *out;
    size_t capacity;
    struct error *error;
};

static uint32_t line_of(struct lexer *lexer, size_t at)
{
    for (; lexer->line_at < at; lexer->line_at++)
        lexer->line += lexer->source.data[lexer->line_at] == '\n';
    return lexer->line;
}

static enum status fail(struct lexer *lexer, size_t at, const char *what)
{
    return error_set(lexer->error, STATUS_INVALID, "line %u: %s", line_of(lexer, at), what);
}

static struct token *push(struct lexer *lexer, enum token_kind kind, size_t at, struct bytes text)
{
    if (lexer->out->count == lexer->capacity) {
        lexer->capacity = MAX_OF(lexer->capacity * 2, (size_t)64);
        lexer->out->data = mem_realloc_array(lexer->out->data, lexer->capacity, sizeof *lexer->out->data);
    }
    struct token *token = &lexer->out->data[lexer->out->count++];
    *token = (struct token){.kind = kind, .line = line_of(lexer, at), .text = text};
    return token;
}

static uint8_t peek(const struct lexer *lexer, size_t ahead)
{
    return lexer->at + ahead < lexer->source.length ? lexer->source.data[lexer->at + ahead] : 0;
}

static bool at_text(const struct lexer *lexer, size_t at, const char *text)
{
    size_t length = strlen(text);
    return lexer->source.length - at >= length && memcmp(lexer->source.data + at, text, length) == 0;
}

/* The character at `at`; the source is valid UTF-8. */
static uint32_t point(struct bytes text, size_t at, size_t *length)
{
    uint32_t code_point = 0;
    int decoded = utf8_decode(bytes_of(text.data + at, text.length - at), &code_point);
    CHECK(decoded > 0);
    *length = (size_t)decoded;
    return code_point;
}

static size_t skip_space(const struct lexer *lexer, size_t at)
{
    size_t length;
    while (at < lexer->source.length && unicode_is_strippable(point(lexer->source, at, &length)))
        at += length;
    return at;
}

static struct bytes strip_right(struct bytes text)
{
    while (text.length > 0) {
        size_t start = text.length - 1, length;
        while (start > 0 && (text.data[start] & 0xc0) == 0x80)
            start--;
        if (!unicode_is_strippable(point(text, start, &length)))
            break;
        text.length = start;
    }
    return text;
}

/* lstrip_blocks: without the blanks behind the last newline, if nothing else stands there. */
static struct bytes strip_line_start(struct bytes text, bool line_start)
{
    const uint8_t *newline = text.length == 0 ? NULL : memrchr(text.data, '\n', text.length);
    size_t start = newline == NULL ? 0 : (size_t)(newline - text.data) + 1;
    if (start == 0 && !line_start)
        return text;
    return strip_right(bytes_of(text.data + start, text.length - start)).length == 0 ? bytes_of(text.data, start)
                                                                                     : text;
}

/* The end of a tag at `at`, with its sign: how far the source is consumed, or 0 when there is no end here. `close` is
 * two characters; trim: the newline behind it goes, unless a + forbids it. */
static size_t tag_end(const struct lexer *lexer, size_t at, const char *close, bool trim)
{
    if (at_text(lexer, at, close)) {
        bool newline = trim && at + 2 < lexer->source.length && lexer->source.data[at + 2] == '\n';
        return at + 2 + newline;
    }
    if (lexer->source.data[at] == '-' && at_text(lexer, at + 1, close))
        return skip_space(lexer, at + 3);
    if (trim && lexer->source.data[at] == '+' && at_text(lexer, at + 1, close))
        return at + 3;
    return 0;
}

/* ---- tokens inside of a tag --------------------------------------------------------------------------------- */

static bool is_name_start(uint32_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= 0x80 && unicode_is_alpha(c));
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static void lex_name(struct lexer *lexer)
{
    size_t start = lexer->at, length;
    while (lexer->at < lexer->source.length) {
        uint32_t c = point(lexer->source, lexer->at, &length);
        if (!is_name_start(c) && !(c >= '0' && c <= '9') && !(c >= 0x80 && unicode_is_word(c)))
            break;
        lexer->at += length;
    }
    push(lexer, TOKEN_NAME, start, bytes_of(lexer->source.data + start, lexer->at - start));
}

/* Copies digits without their underscores; false when the number is too long. */
static bool copy_digits(struct lexer *lexer, char *digits, size_t *count)
{
    while (is_digit(peek(lexer, 0)) || (peek(lexer, 0) == '_' && is_digit(peek(lexer, 1)))) {
        if (*count == NUMBER_MAX)
            return false;
        if (peek(lexer, 0) != '_')
            digits[(*count)++] = (char)peek(lexer, 0);
        lexer->at++;
    }
    return true;
}

static enum status lex_number(struct lexer *lexer)
{
    char digits[NUMBER_MAX + 4];
    size_t start = lexer->at, count = 0;
    bool real = false;
    if (!copy_digits(lexer, digits, &count))
        return fail(lexer, start, "a number is too long");
    if (peek(lexer, 0) == '.' && is_digit(peek(lexer, 1))) {
        real = true;
        digits[count++] = '.';
        lexer->at++;
        if (!copy_digits(lexer, digits, &count) || count + 2 > NUMBER_MAX)
            return fail(lexer, start, "a number is too long");
    }
    bool sign = peek(lexer, 1) == '+' || peek(lexer, 1) == '-';
    if ((peek(lexer, 0) | 0x20) == 'e' && is_digit(peek(lexer, sign ? 2 : 1))) {
        real = true;
        digits[count++] = 'e';
        if (sign)
            digits[count++] = (char)peek(lexer, 1);
        lexer->at += sign ? 2 : 1;
        if (!copy_digits(lexer, digits, &count))
            return fail(lexer, start, "a number is too long");
    }
    digits[count] = '\0';
    struct token *token =
        push(lexer, real ? TOKEN_FLOAT : TOKEN_INTEGER, start, bytes_of(lexer->source.data + start, lexer->at - start));
    errno = 0;
    if (real)
        token->real = strtod(digits, NULL);
    else
        token->integer = strtoll(digits, NULL, 10);
    return !real && errno != 0 ? fail(lexer, start, "an integer does not fit 64 bits") : STATUS_OK;
}

/* Reads `digits` digits of a base; false when they are not there. */
static bool read_code(struct bytes text, size_t *at, size_t digits, unsigned base, uint32_t *value)
{
    *value = 0;
    for (size_t i = 0; i < digits; i++) {
        if (*at >= text.length)
            return false;
        uint8_t c = text.data[*at];
        unsigned digit = is_digit(c)                              ? c - 0U - '0'
                         : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10U
                                                                  : 99U;
        if (digit >= base)
            return base == 8 && i > 0;
        *value = *value * base + digit;
        (*at)++;
    }
    return true;
}

/* One escape, text[*at] being behind the backslash, into out; the bytes written, or SIZE_MAX for a broken one. */
static size_t decode_escape(struct bytes text, size_t *at, uint8_t *out)
{
    static const char simple[] = "n\nt\tr\r\\\\'\'\"\"a\ab\bf\fv\v";
    uint8_t c = text.data[*at];
    for (size_t i = 0; i + 1 < sizeof simple; i += 2) {
        if ((uint8_t)simple[i] == c) {
            (*at)++;
            out[0] = (uint8_t)simple[i + 1];
            return 1;
        }
    }
    if (c == '\n') { /* a continued line */
        (*at)++;
        return 0;
    }
    size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    uint32_t value;
    if (digits > 0 || (c >= '0' && c <= '7')) {
        *at += digits > 0;
        if (!read_code(text, at, digits > 0 ? digits : 3, digits > 0 ? 16 : 8, &value) || value > 0x10ffff ||
            (value >= 0xd800 && value <= 0xdfff))
            return SIZE_MAX;
        return utf8_encode(value, out);
    }
    if (c == 'N')
        return SIZE_MAX; /* names of characters: no table of them here */
    out[0] = '\\';       /* not an escape: both characters stay */
    return 1;
}

static enum status lex_string(struct lexer *lexer)
{
    size_t start = lexer->at;
    uint8_t quote = lexer->source.data[lexer->at++];
    size_t end = lexer->at;
    while (end < lexer->source.length && lexer->source.data[end] != quote)
        end += lexer->source.data[end] == '\\' ? 2 : 1;
    if (end >= lexer->source.length)
        return fail(lexer, start, "a string does not end");
    struct bytes raw = bytes_of(lexer->source.data + lexer->at, end - lexer->at);
    uint8_t *text = arena_alloc(lexer->arena, raw.length + 4);
    if (text == NULL)
        return error_set(lexer->error, STATUS_NO_MEMORY, "no memory for the template");
    size_t length = 0;
    for (size_t at = 0; at < raw.length;) {
        if (raw.data[at] != '\\') {
            text[length++] = raw.data[at++];
            continue;
        }
        at++;
        size_t written = decode_escape(raw, &at, text + length);
        if (written == SIZE_MAX)
            return fail(lexer, start, "a string has an escape that is broken or not supported");
        length += written;
    }
    lexer->at = end + 1;
    push(lexer, TOKEN_STRING, start, bytes_of(text, length));
    return STATUS_OK;
}

struct operator_text {
    char text[3];
    enum token_kind kind;
};
static const struct operator_text OPERATORS[] = {
    {"//", TOKEN_FLOORDIV}, {"**", TOKEN_POW},   {"==", TOKEN_EQ},    {"!=", TOKEN_NE},    {">=", TOKEN_GE},
    {"<=", TOKEN_LE},       {">", TOKEN_GT},     {"<", TOKEN_LT},     {"+", TOKEN_ADD},    {"-", TOKEN_SUB},
    {"/", TOKEN_DIV},       {"*", TOKEN_MUL},    {"%", TOKEN_MOD},    {"~", TOKEN_TILDE},  {"[", TOKEN_LBRACKET},
    {"]", TOKEN_RBRACKET},  {"(", TOKEN_LPAREN}, {")", TOKEN_RPAREN}, {"{", TOKEN_LBRACE}, {"}", TOKEN_RBRACE},
    {"=", TOKEN_ASSIGN},    {".", TOKEN_DOT},    {":", TOKEN_COLON},  {"|", TOKEN_PIPE},   {",", TOKEN_COMMA},
    {";", TOKEN_SEMICOLON},
};

struct brackets {
    uint8_t open[BRACKETS_MAX];
    size_t count;
};

static enum status balance(struct lexer *lexer, struct brackets *brackets, enum token_kind kind, size_t at)
{
    static const uint8_t closing[] = {
        [TOKEN_LBRACKET] = ']', [TOKEN_LPAREN] = ')', [TOKEN_LBRACE] = '}', [TOKEN_EOF] = 0};
    if (kind == TOKEN_LBRACKET || kind == TOKEN_LPAREN || kind == TOKEN_LBRACE) {
        if (brackets->count == BRACKETS_MAX)
            return fail(lexer, at, "brackets are nested too deeply");
        brackets->open[brackets->count++] = closing[kind];
    } else if (kind == TOKEN_RBRACKET || kind == TOKEN_RPAREN || kind == TOKEN_RBRACE) {
        if (brackets->count == 0 || brackets->open[--brackets->count] != lexer->source.data[at])
            return fail(lexer, at, "a closing bracket has no matching opening one");
    }
    return STATUS_OK;
}

static enum status lex_operator(struct lexer *lexer, struct brackets *brackets)
{
    for (size_t i = 0; i < COUNT_OF(OPERATORS); i++) {
        if (!at_text(lexer, lexer->at, OPERATORS[i].text))
            continue;
        size_t start = lexer->at, length = strlen(OPERATORS[i].text);
        push(lexer, OPERATORS[i].kind, start, bytes_of(lexer->source.data + start, length));
        lexer->at += length;
        return balance(lexer, brackets, OPERATORS[i].kind, start);
    }
    return fail(lexer, lexer->at, "a character that is no part of the language");
}

/* From behind the opening {{ or {% to behind the closing one. */
static enum status lex_tag(struct lexer *lexer, bool block)
{
    struct brackets brackets = {.count = 0};
    size_t opened = lexer->at;
    for (;;) {
        lexer->at = skip_space(lexer, lexer->at);
        if (lexer->at >= lexer->source.length)
            return fail(lexer, opened, "a tag does not end");
        size_t end = brackets.count > 0 ? 0 : tag_end(lexer, lexer->at, block ? "%}" : "}}", block);
        if (end > 0) {
            push(lexer, block ? TOKEN_BLOCK_END : TOKEN_VARIABLE_END, lexer->at, bytes_of(NULL, 0));
            lexer->at = end;
            return STATUS_OK;
        }
        size_t length;
        uint32_t c = point(lexer->source, lexer->at, &length);
        enum status status = STATUS_OK;
        if (is_name_start(c))
            lex_name(lexer);
        else if (c >= '0' && c <= '9')
            status = lex_number(lexer);
        else if (c == '"' || c == '\'')
            status = lex_string(lexer);
        else
            status = lex_operator(lexer, &brackets);
        if (status != STATUS_OK)
            return status;
    }
}

/* ---- text between tags -------------------------------------------------------------------------------------- */

/* Where the next {{, {% or {# starts; the source's length if nowhere. */
static size_t find_tag(const struct lexer *lexer)
{
    size_t at = lexer->at;
    while (at < lexer->source.length) {
        const uint8_t *brace = memchr(lexer->source.data + at, '{', lexer->source.length - at);
        if (brace == NULL)
            break;
        at = (size_t)(brace - lexer->source.data);
        if (at + 1 < lexer->source.length && strchr("{%#", lexer->source.data[at + 1]) != NULL &&
            lexer->source.data[at + 1] != 0)
            return at;
        at++;
    }
    return lexer->source.length;
}

/* Emits the text [from, to) in front of a tag that opens with `sign`. */
static void push_data(struct lexer *lexer, size_t from, size_t to, uint8_t sign, bool variable)
{
    struct bytes text = bytes_of(lexer->source.data + from, to - from);
    if (sign == '-')
        text = strip_right(text);
    else if (sign != '+' && !variable)
        text = strip_line_start(text, lexer->line_start);
    if (text.length > 0)
        push(lexer, TOKEN_DATA, from, text);
}

static enum status skip_comment(struct lexer *lexer)
{
    size_t opened = lexer->at;
    for (; lexer->at + 1 < lexer->source.length; lexer->at++) {
        size_t end = tag_end(lexer, lexer->at, "#}", true);
        if (end > 0) {
            lexer->at = end;
            return STATUS_OK;
        }
    }
    return fail(lexer, opened, "a comment does not end");
}

/* Whether `word` alone stands in the block tag whose inside starts at `at`: where its end sign starts, or 0. */
static size_t lone_word(const struct lexer *lexer, size_t at, const char *word)
{
    at = skip_space(lexer, at);
    if (at >= lexer->source.length || !at_text(lexer, at, word))
        return 0;
    at = skip_space(lexer, at + strlen(word));
    return at < lexer->source.length ? at : 0;
}

/* {% raw %}, the lexer standing behind its sign. *is_raw tells whether it was one; then all up to endraw is text. */
static enum status lex_raw(struct lexer *lexer, bool *is_raw)
{
    size_t opened = lexer->at, close = lone_word(lexer, lexer->at, "raw");
    size_t begin = close == 0 ? 0 : tag_end(lexer, close, "%}", false);
    *is_raw = begin > 0;
    if (!*is_raw)
        return STATUS_OK;
    lexer->line_start = lexer->source.data[begin - 1] == '\n';
    for (size_t at = begin; at + 1 < lexer->source.length; at++) {
        if (!at_text(lexer, at, "{%"))
            continue;
        uint8_t sign = lexer->source.data[MIN_OF(at + 2, lexer->source.length - 1)];
        bool has_sign = sign == '-' || sign == '+';
        close = lone_word(lexer, at + 2 + has_sign, "endraw");
        size_t end = close == 0 ? 0 : tag_end(lexer, close, "%}", true);
        if (end == 0)
            continue;
        push_data(lexer, begin, at, has_sign ? sign : 0, false);
        lexer->at = end;
        return STATUS_OK;
    }
    return fail(lexer, opened, "a raw block does not end");
}

static enum status lex_all(struct lexer *lexer)
{
    while (lexer->at < lexer->source.length) {
        size_t from = lexer->at, tag = find_tag(lexer);
        if (tag == lexer->source.length) {
            push(lexer, TOKEN_DATA, from, bytes_of(lexer->source.data + from, tag - from));
            break;
        }
        uint8_t kind = lexer->source.data[tag + 1];
        uint8_t sign = tag + 2 < lexer->source.length ? lexer->source.data[tag + 2] : 0;
        bool has_sign = sign == '-' || sign == '+';
        push_data(lexer, from, tag, has_sign ? sign : 0, kind == '{');
        lexer->at = tag + 2 + has_sign;
        enum status status = STATUS_OK;
        bool raw = false;
        if (kind == '#')
            status = skip_comment(lexer);
        else if (kind == '%')
            status = lex_raw(lexer, &raw);
        if (status == STATUS_OK && kind != '#' && !raw) {
            push(lexer, kind == '%' ? TOKEN_BLOCK_BEGIN : TOKEN_VARIABLE_BEGIN, tag, bytes_of(NULL, 0));
            status = lex_tag(lexer, kind == '%');
        }
        if (status != STATUS_OK)
            return status;
        lexer->line_start = lexer->source.data[lexer->at - 1] == '\n';
    }
    push(lexer, TOKEN_EOF, lexer->source.length, bytes_of(NULL, 0));
    return STATUS_OK;
}

/* CR LF and CR become LF; one newline at the end goes. */
static struct bytes normalise_newlines(struct bytes source, uint8_t *copy)
{
    size_t length = 0;
    for (size_t i = 0; i < source.length; i++) {
        if (source.data[i] == '\r' && i + 1 < source.length && source.data[i + 1] == '\n')
            continue;
        copy[length++] = source.data[i] == '\r' ? '\n' : source.data[i];
    }
    if (length > 0 && copy[length - 1] == '\n')
        length--;
    return bytes_of(copy, length);
}

void tokens_free(struct tokens *tokens)
{
    mem_free(tokens->data);
    *tokens = (struct tokens){0};
}

enum status jinja_lex(struct bytes source, struct arena *arena, struct tokens *out, struct error *error)
{
    *out = (struct tokens){0};
    if (source.length > JINJA_SOURCE_MAX)
        return error_set(error, STATUS_LIMIT, "a template of %zu bytes is longer than %d", source.length,
                         JINJA_SOURCE_MAX);
    if (!utf8_valid(source))
        return error_set(error, STATUS_INVALID, "the template is not valid UTF-8");
    uint8_t *copy = arena_alloc(arena, source.length + 1);
    if (copy == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the template");
    struct lexer lexer = {
        .source = normalise_newlines(source, copy),
        .line = 1,
        .line_start = true,
        .arena = arena,
        .out = out,
        .error = error,
    };
    return lex_all(&lexer);
}
