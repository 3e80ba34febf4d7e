/* text/jinja_lex: a template's source as tokens, with Jinja's treatment of white space around tags.
 *
 * The setting is the one of chat templates: trim_blocks (a block tag or comment eats the newline behind it),
 * lstrip_blocks (and the blanks in front of it on its line), `-` strips all white space on its side, `+` none; one
 * newline at the very end is dropped; CR LF and CR read as LF. The tokens' texts live in the arena. */
#ifndef SHOAL_TEXT_JINJA_LEX_H
#define SHOAL_TEXT_JINJA_LEX_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/status.h"

enum token_kind {
    TOKEN_DATA, /* text outside of tags */
    TOKEN_VARIABLE_BEGIN,
    TOKEN_VARIABLE_END,
    TOKEN_BLOCK_BEGIN,
    TOKEN_BLOCK_END,
    TOKEN_NAME,
    TOKEN_STRING, /* text: decoded */
    TOKEN_INTEGER,
    TOKEN_FLOAT,
    TOKEN_FLOORDIV,
    TOKEN_POW,
    TOKEN_EQ,
    TOKEN_NE,
    TOKEN_GE,
    TOKEN_LE,
    TOKEN_GT,
    TOKEN_LT,
    TOKEN_ADD,
    TOKEN_SUB,
    TOKEN_DIV,
    TOKEN_MUL,
    TOKEN_MOD,
    TOKEN_TILDE,
    TOKEN_LBRACKET,
    TOKEN_RBRACKET,
    TOKEN_LPAREN,
    TOKEN_RPAREN,
    TOKEN_LBRACE,
    TOKEN_RBRACE,
    TOKEN_ASSIGN,
    TOKEN_DOT,
    TOKEN_COLON,
    TOKEN_PIPE,
    TOKEN_COMMA,
    TOKEN_SEMICOLON,
    TOKEN_EOF
};

struct token {
    enum token_kind kind;
    uint32_t line;
    struct bytes text; /* DATA, NAME, STRING; of others as written */
    int64_t integer;
    double real;
};

struct tokens {
    struct token *data; /* ends with TOKEN_EOF */
    size_t count;
};

enum { JINJA_SOURCE_MAX = 1 << 20 };

/* Free the tokens in any case. */
MUST_CHECK enum status jinja_lex(struct bytes source, struct arena *arena, struct tokens *out, struct error *error);
void tokens_free(struct tokens *tokens);

#endif
