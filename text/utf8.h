/* text/utf8: UTF-8 as Unicode defines it (no surrogates, no overlongs, at most U+10FFFF). Pure. */
#ifndef SHOAL_TEXT_UTF8_H
#define SHOAL_TEXT_UTF8_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"

bool utf8_valid(struct bytes text);
/* Decodes one character at text[0]. Returns its length 1..4, 0 when text is a prefix of one (needs more), or −n: the
 * first n bytes are a maximal ill-formed part, which errors="replace" turns into one U+FFFD. */
int utf8_decode(struct bytes text, uint32_t *code_point);
size_t utf8_encode(uint32_t code_point, uint8_t out[4]);
/* Appends text with ill-formed parts replaced by U+FFFD, as Python's bytes.decode("utf-8", "replace"). */
void utf8_replace(struct bytes text, struct buf *out);

#endif
