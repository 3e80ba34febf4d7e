/* text/detok: token ids to text, as a stream: whole UTF-8 characters only.
 *
 * detok_push appends what became certain; bytes of an unfinished character wait (at most 3). Invalid bytes become
 * U+FFFD as Python's errors="replace" does. A state is a few bytes and lives in its stream. */
#ifndef SHOAL_TEXT_DETOK_H
#define SHOAL_TEXT_DETOK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "text/tokenizer.h"

struct detok {
    const struct tokenizer *tokenizer;
    uint8_t pending[4];
    uint8_t pending_count;
    bool at_start;           /* SPM: the first space of the text is dropped */
    bool keep_leading_space; /* completions continue a prompt: nothing is dropped */
    bool show_control;       /* control tokens come out as their file spells them (off; set it behind detok_init) */
};

/* continues: the stream continues a text that is already there (a prompt), so no leading space is dropped. */
void detok_init(struct detok *detok, const struct tokenizer *tokenizer, bool continues);
void detok_push(struct detok *detok, uint32_t id, struct buf *out);
void detok_finish(struct detok *detok, struct buf *out); /* what still waits becomes U+FFFD */

#endif
