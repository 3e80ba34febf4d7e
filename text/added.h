/* text/added: added tokens: texts that become an id by themselves, before anything else looks at the text.
 *
 * A trie over the texts; at each place the longest admissible token wins (leftmost, then longest). Control tokens are
 * admissible by `enum tokenizer_specials`: where they may not match, they are as if absent, so a shorter or later
 * token is found as usual. Immutable after added_finish; may be shared by threads. */
#ifndef SHOAL_TEXT_ADDED_H
#define SHOAL_TEXT_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "text/tokenizer.h"

struct added_token {
    uint32_t id;
    bool control;
    bool lstrip, rstrip, single_word;
};

struct added {
    struct added_node *nodes; /* node 0 is the root */
    size_t nodes_count, nodes_capacity;
    struct added_token *tokens;
    size_t tokens_count, tokens_capacity;
    uint32_t first[256]; /* the root's children by byte; 0: none */
};

enum { ADDED_TEXT_MAX = 64 << 10, ADDED_NODES_MAX = 16 << 20 };

void added_init(struct added *added);
void added_free(struct added *added);
/* STATUS_LIMIT: longer than ADDED_TEXT_MAX, or too many. An empty text is ignored; of equal texts the last wins. */
MUST_CHECK enum status added_put(struct added *added, struct bytes text, struct added_token token, struct error *error);

/* Which control tokens may match: see text/tokenizer.h. Spans are offsets into the text that is searched. */
struct added_policy {
    enum tokenizer_specials specials;
    const struct span *spans;
    size_t spans_count;
};

struct added_match {
    size_t begin, end; /* with the white space that lstrip and rstrip take along */
    uint32_t id;
};

/* The first match at or behind `from`; false: none. `from` is where the previous match ended. */
bool added_find(const struct added *added, const struct added_policy *policy, struct bytes text, size_t from,
                struct added_match *match);

#endif
