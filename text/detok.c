/* detok: a carry of at most three bytes in front of each token's bytes.
 *
 * What the carry and the new bytes make up to the last character boundary goes out, ill-formed parts as U+FFFD. */
#include "text/detok.h"

#include <string.h>

#include "base/check.h"
#include "text/utf8.h"

void detok_init(struct detok *detok, const struct tokenizer *tokenizer, bool continues)
{
    *detok = (struct detok){.tokenizer = tokenizer, .at_start = true, .keep_leading_space = continues};
}

/* How many bytes at the end are an unfinished character: 0..3. */
static size_t unfinished(struct bytes text)
{
    for (size_t back = 1; back <= 3 && back <= text.length; back++) {
        uint8_t byte = text.data[text.length - back];
        if ((byte & 0xc0) == 0x80)
            continue;
        uint32_t ignored;
        return utf8_decode(bytes_of(text.data + text.length - back, back), &ignored) == 0 ? back : 0;
    }
    return 0;
}

/* Completes the waiting bytes as far as they go with `text`; returns how many of its bytes that took. */
static size_t finish_pending(struct detok *detok, struct bytes text, struct buf *out)
{
    uint8_t joined[sizeof detok->pending + 3];
    size_t borrowed = text.length < 3 ? text.length : 3;
    memcpy(joined, detok->pending, detok->pending_count);
    memcpy(joined + detok->pending_count, text.data, borrowed);
    struct bytes start = bytes_of(joined, detok->pending_count + borrowed);
    uint32_t ignored;
    int length = utf8_decode(start, &ignored);
    if (length == 0) { /* still a prefix: all of text went in */
        CHECK(borrowed == text.length && start.length < sizeof detok->pending);
        memcpy(detok->pending, joined, start.length);
        detok->pending_count = (uint8_t)start.length;
        return borrowed;
    }
    size_t used = length > 0 ? (size_t)length : (size_t)-length;
    CHECK(used >= detok->pending_count); /* the waiting bytes were a prefix of a character */
    utf8_replace(bytes_of(joined, used), out);
    used -= detok->pending_count;
    detok->pending_count = 0;
    return used;
}

void detok_push(struct detok *detok, uint32_t id, struct buf *out)
{
    bool control = tokenizer_is_control(detok->tokenizer, id);
    struct bytes text =
        control && detok->show_control ? tokenizer_piece(detok->tokenizer, id) : tokenizer_bytes(detok->tokenizer, id);
    if (text.length == 0)
        return;
    if (detok->at_start && !detok->keep_leading_space && tokenizer_strips_leading_space(detok->tokenizer) &&
        text.data[0] == ' ')
        text = bytes_of(text.data + 1, text.length - 1);
    detok->at_start = false;
    if (detok->pending_count > 0 && text.length > 0) {
        size_t used = finish_pending(detok, text, out);
        text = bytes_of(text.data + used, text.length - used);
    }
    size_t waiting = unfinished(text);
    utf8_replace(bytes_of(text.data, text.length - waiting), out);
    if (waiting > 0) {
        memcpy(detok->pending, text.data + text.length - waiting, waiting);
        detok->pending_count = (uint8_t)waiting;
    }
}

void detok_finish(struct detok *detok, struct buf *out)
{
    utf8_replace(bytes_of(detok->pending, detok->pending_count), out);
    detok->pending_count = 0;
}
