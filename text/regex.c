/* regex: translation from Oniguruma's classes, compilation, matching.
 *
 * Translation copies the pattern and replaces class escapes by explicit lists of ranges, which mean the same inside and
 * outside of brackets. White space is Unicode's White_Space (PCRE2's \s adds U+180E); \w is alphabetic, mark, decimal
 * digit or connector; \h is a hexadecimal digit. */
#include "text/regex.h"

#include <stdbool.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/mem.h"

enum { PATTERN_MAX = 64 << 10, JIT_STACK_FIRST = 32 << 10, JIT_STACK_MAX = 8 << 20, MATCH_STEPS_MAX = 10000000 };

struct regex {
    pcre2_code *code;
    bool jit;
};

struct regex_scratch {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

/* White_Space and its complement, as ranges for a bracketed class. */
#define SPACES                                                                                                         \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NOT_SPACES                                                                                                     \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}" \
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
#define WORDS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"

struct class_escape {
    char letter;
    const char *inside; /* between brackets; NULL: can't be said there */
    const char *outside;
};
static const struct class_escape ESCAPES[] = {
    {'s', SPACES, "[" SPACES "]"},     {'S', NOT_SPACES, "[^" SPACES "]"}, {'w', WORDS, "[" WORDS "]"},
    {'W', NULL, "[^" WORDS "]"},       {'d', "\\p{Nd}", "\\p{Nd}"},        {'D', "\\P{Nd}", "\\P{Nd}"},
    {'h', "0-9a-fA-F", "[0-9a-fA-F]"}, {'H', NULL, "[^0-9a-fA-F]"},
};

static enum status refuse(struct error *error, struct bytes pattern, const char *what)
{
    return error_set(error, STATUS_UNSUPPORTED, "the regex \"%.*s\" uses %s, which shoal does not translate",
                     (int)MIN_OF(pattern.length, (size_t)200), (const char *)pattern.data, what);
}

static enum status translate_escape(struct bytes pattern, size_t at, bool in_class, struct buf *out,
                                    struct error *error)
{
    char letter = (char)pattern.data[at + 1];
    for (size_t i = 0; i < COUNT_OF(ESCAPES); i++) {
        if (ESCAPES[i].letter != letter)
            continue;
        const char *replacement = in_class ? ESCAPES[i].inside : ESCAPES[i].outside;
        if (replacement == NULL)
            return refuse(error, pattern, "a negated class inside a class");
        buf_append_text(out, replacement);
        return STATUS_OK;
    }
    if (letter == 'Z' || letter == 'R' || letter == 'X' || letter == 'G' || letter == 'K' || letter == 'y' ||
        letter == 'Y' || (!in_class && (letter == 'b' || letter == 'B')))
        return refuse(error, pattern, "an assertion of another dialect");
    buf_append(out, pattern.data + at, 2);
    return STATUS_OK;
}

/* Ruby's ^ and $ are multi-line, which the compile options say; here only what PCRE2 would read differently. */
static enum status translate(struct bytes pattern, struct buf *out, struct error *error)
{
    bool in_class = false;
    size_t class_start = 0;
    for (size_t at = 0; at < pattern.length; at++) {
        uint8_t c = pattern.data[at];
        if (c == '\\' && at + 1 < pattern.length) {
            enum status status = translate_escape(pattern, at, in_class, out, error);
            if (status != STATUS_OK)
                return status;
            at++;
            continue;
        }
        if (in_class && c == '[')
            return refuse(error, pattern, "a class inside a class");
        if (in_class && c == '&' && at + 1 < pattern.length && pattern.data[at + 1] == '&')
            return refuse(error, pattern, "an intersection of classes");
        if (!in_class && c == '[') {
            in_class = true;
            class_start = at + 1;
            if (class_start < pattern.length && pattern.data[class_start] == '^')
                class_start++;
        } else if (in_class && c == ']' && at > class_start) {
            in_class = false;
        }
        buf_append_u8(out, c);
    }
    return STATUS_OK;
}

enum status regex_compile(struct bytes pattern, struct regex **out, struct error *error)
{
    if (pattern.length > PATTERN_MAX)
        return error_set(error, STATUS_LIMIT, "a regex of %zu bytes is longer than %d", pattern.length, PATTERN_MAX);
    struct buf translated;
    buf_init(&translated, PATTERN_MAX * 64);
    enum status status = translate(pattern, &translated, error);
    if (status != STATUS_OK) {
        buf_free(&translated);
        return status;
    }
    int code = 0;
    PCRE2_SIZE where = 0;
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)buf_text(&translated), translated.length,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &where, NULL);
    buf_free(&translated);
    if (compiled == NULL) {
        char why[160];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        return error_set(error, STATUS_INVALID, "the regex \"%.*s\" does not compile: %s",
                         (int)MIN_OF(pattern.length, (size_t)200), (const char *)pattern.data, why);
    }
    struct regex *regex = mem_new(struct regex);
    regex->code = compiled;
    regex->jit = pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE) == 0;
    *out = regex;
    return STATUS_OK;
}

void regex_free(struct regex *regex)
{
    if (regex == NULL)
        return;
    pcre2_code_free(regex->code);
    mem_free(regex);
}

struct regex_scratch *regex_scratch_new(void)
{
    struct regex_scratch *scratch = mem_new(struct regex_scratch);
    scratch->match = pcre2_match_data_create(1, NULL); /* one pair: the whole match */
    scratch->context = pcre2_match_context_create(NULL);
    scratch->stack = pcre2_jit_stack_create(JIT_STACK_FIRST, JIT_STACK_MAX, NULL);
    CHECK(scratch->match != NULL && scratch->context != NULL && scratch->stack != NULL);
    pcre2_jit_stack_assign(scratch->context, NULL, scratch->stack);
    pcre2_set_match_limit(scratch->context, MATCH_STEPS_MAX);
    return scratch;
}

void regex_scratch_free(struct regex_scratch *scratch)
{
    if (scratch == NULL)
        return;
    pcre2_jit_stack_free(scratch->stack);
    pcre2_match_context_free(scratch->context);
    pcre2_match_data_free(scratch->match);
    mem_free(scratch);
}

enum status regex_find(const struct regex *regex, struct regex_scratch *scratch, struct bytes text, size_t from,
                       size_t *begin, size_t *end, struct error *error)
{
    PCRE2_SPTR subject = text.length == 0 ? (PCRE2_SPTR) "" : text.data;
    int found = regex->jit ? pcre2_jit_match(regex->code, subject, text.length, from, PCRE2_NO_UTF_CHECK,
                                             scratch->match, scratch->context)
                           : pcre2_match(regex->code, subject, text.length, from, PCRE2_NO_UTF_CHECK, scratch->match,
                                         scratch->context);
    if (found == PCRE2_ERROR_NOMATCH)
        return STATUS_NOT_FOUND;
    if (found < 0)
        return error_set(error, STATUS_LIMIT, "the text needs more than the tokenizer's regex may use (PCRE2 %d)",
                         found);
    const PCRE2_SIZE *pair = pcre2_get_ovector_pointer(scratch->match);
    *begin = pair[0];
    *end = pair[1];
    return STATUS_OK;
}
