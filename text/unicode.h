/* text/unicode: what the rooms of text need of the Unicode tables: NFC, a few classes, simple case.
 *
 * Over utf8proc's tables (Unicode 15; no other file sees its header), but with canonical ordering of our own: the
 * library's is quadratic in a run of combining marks. Input is valid UTF-8. Pure; thread-safe. */
#ifndef SHOAL_TEXT_UNICODE_H
#define SHOAL_TEXT_UNICODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"

/* Appends text in Normalization Form C (UAX #15). Linear in the text. */
void unicode_nfc(struct bytes text, struct buf *out);
/* True when the text is certainly in NFC already; false says nothing. */
bool unicode_nfc_quick(struct bytes text);

bool unicode_is_space(uint32_t code_point);      /* White_Space */
bool unicode_is_strippable(uint32_t code_point); /* Python's str.isspace: also U+001C to U+001F */
bool unicode_is_word(uint32_t code_point);       /* letters, marks, decimal digits, connectors: \w of the references */
bool unicode_is_alpha(uint32_t code_point);      /* Python's str.isalpha: categories L* */
bool unicode_is_digit(uint32_t code_point);      /* decimal digits */
bool unicode_is_upper(uint32_t code_point);
bool unicode_is_lower(uint32_t code_point);
bool unicode_is_printable(uint32_t code_point); /* Python's repr leaves it as it is */
uint32_t unicode_to_lower(uint32_t code_point); /* simple mapping */
uint32_t unicode_to_upper(uint32_t code_point);
uint32_t unicode_to_title(uint32_t code_point);

#endif
