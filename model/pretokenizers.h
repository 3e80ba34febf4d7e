/* model/pretokenizers: what the names under tokenizer.ggml.pre mean.
 *
 * A GGUF names the rules that cut text into pieces before byte-pair encoding instead of carrying them. The table lists
 * the names whose rules are certain; any other is refused, because a wrong rule gives wrong ids silently. */
#ifndef SHOAL_MODEL_PRETOKENIZERS_H
#define SHOAL_MODEL_PRETOKENIZERS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"

struct pretokenizer {
    const char *name;
    const char *regexes[5]; /* applied one after the other; NULL ends the list */
    bool ignore_merges;
    bool add_bos; /* unless the file says otherwise */
};

/* The rule of GPT-2, which ByteLevel of tokenizer.json means, too. */
extern const char pretokenizer_gpt2[];

const struct pretokenizer *pretokenizer_find(struct bytes name); /* NULL: unknown */

#endif
