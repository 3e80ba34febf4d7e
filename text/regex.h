/* text/regex: the pre-tokenisers' patterns, over PCRE2 with its JIT. No other file sees PCRE2's header.
 *
 * The references run Oniguruma; a pattern is translated where the two differ in what a class means (\s \w \h), and
 * refused by name where it could not be. A compiled regex is immutable and shared by threads; matching needs a
 * `struct regex_scratch` per thread, which owns the JIT's stack (at most 8 MiB): a match that needs more is an error
 * for that text, never a silent fallback. */
#ifndef SHOAL_TEXT_REGEX_H
#define SHOAL_TEXT_REGEX_H

#include <stddef.h>

#include "base/bytes.h"
#include "base/status.h"

struct regex;
struct regex_scratch;

/* STATUS_INVALID: a syntax error; STATUS_UNSUPPORTED: a construct that can't be translated; both name the pattern. */
MUST_CHECK enum status regex_compile(struct bytes pattern, struct regex **out, struct error *error);
void regex_free(struct regex *regex);

struct regex_scratch *regex_scratch_new(void);
void regex_scratch_free(struct regex_scratch *scratch);

/* The leftmost match at or behind `from`: [*begin, *end). Text is valid UTF-8. STATUS_NOT_FOUND: there is none;
 * STATUS_LIMIT: the match needs more stack or steps than it may have. */
MUST_CHECK enum status regex_find(const struct regex *regex, struct regex_scratch *scratch, struct bytes text,
                                  size_t from, size_t *begin, size_t *end, struct error *error);

#endif
