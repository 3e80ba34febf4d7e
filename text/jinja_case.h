/* text/jinja_case: what filters and methods of texts share: stripping, changing case, splitting, replacing. */
#ifndef SHOAL_TEXT_JINJA_CASE_H
#define SHOAL_TEXT_JINJA_CASE_H

#include "text/jinja_value.h"

enum text_case { CASE_LOWER, CASE_UPPER, CASE_CAPITALIZE, CASE_TITLE, CASE_SWAP };

/* Python's str.lower, upper, capitalize, title, swapcase (simple mappings, and ß → SS). */
bool text_change_case(struct render *render, const struct text *text, enum text_case wanted, struct value *out);
/* Python's str.strip: characters of `set` (NULL: white space) from the sides. */
bool text_strip(struct render *render, const struct text *text, const struct text *set, bool left, bool right,
                struct value *out);
/* str.replace; most < 0: all. */
bool text_replace(struct render *render, const struct text *text, const struct text *old, const struct text *new,
                  int64_t most, struct value *out);
/* str.splitlines without line ends. */
bool text_lines(struct render *render, const struct text *text, bool keep_ends, struct value *out);

#endif
