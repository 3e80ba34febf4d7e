/* A client's text: every tokenizer encodes it without a control id, and what is decoded is the text again (U+FFFD for
 * ill-formed bytes), however the stream is cut; stop strings cut where they must. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/check.h"
#include "text/detok.h"
#include "text/stop.h"
#include "text/tokenizer.h"
#include "text/unicode.h"
#include "text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BYTES = 256, TOKENS = 300, TEXT_MAX = 1 << 20 };

static struct vocab_token tokens[TOKENS];
static struct vocab vocab = {.tokens = tokens};
static struct vocab_merge merges[TOKENS];
static char pieces[TOKENS][8];
static struct model_desc desc = {.vocab = &vocab, .bos_id = -1};

static void add(const char *text, size_t length, enum vocab_kind kind)
{
    uint32_t id = (uint32_t)vocab.count++;
    CHECK(length < sizeof pieces[0]);
    memcpy(pieces[id], text, length);
    tokens[id].piece = tokens[id].bytes = bytes_of(pieces[id], length);
    tokens[id].kind = (uint8_t)kind;
}

static void add_merge(uint32_t left, uint32_t right)
{
    char text[8];
    size_t a = tokens[left].piece.length, b = tokens[right].piece.length;
    memcpy(text, tokens[left].piece.data, a);
    memcpy(text + a, tokens[right].piece.data, b);
    add(text, a + b, VOCAB_NORMAL);
    merges[desc.tokenizer.merges_count++] =
        (struct vocab_merge){.left = left, .right = right, .merged = (uint32_t)vocab.count - 1};
}

static struct tokenizer *make(void)
{
    static const char pairs[] = "aaabbaca 1  e ";
    struct tokenizer *tokenizer;
    struct error error;
    for (unsigned byte = 0; byte < BYTES; byte++) {
        char text = (char)byte;
        add(&text, 1, VOCAB_NORMAL);
    }
    desc.tokenizer = (struct vocab_tokenizer){.model = VOCAB_MODEL_BPE_BYTES, .merges = merges, .unk_id = -1};
    for (size_t i = 0; i + 1 < sizeof pairs - 1; i += 2)
        add_merge((uint8_t)pairs[i], (uint8_t)pairs[i + 1]);
    add_merge(BYTES, BYTES);
    add_merge(0xcc, 0x81);
    add("<e>", 3, VOCAB_CONTROL);
    add("<t>", 3, VOCAB_USER_DEFINED);
    desc.tokenizer.nfc = true;
    desc.tokenizer.regexes[0] = BYTES_LITERAL(" ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+");
    desc.tokenizer.regexes_count = 1;
    CHECK(tokenizer_new(&desc, &tokenizer, &error) == STATUS_OK);
    return tokenizer;
}

static void check_stop(struct bytes text)
{
    static const struct bytes strings[] = {{(const uint8_t *)"ab", 2}, {(const uint8_t *)"a\n\n", 3}};
    struct stop *stop;
    struct error error;
    struct buf out;
    CHECK(stop_new(strings, 2, &stop, &error) == STATUS_OK);
    buf_init(&out, TEXT_MAX);
    for (size_t i = 0; i < text.length; i++)
        stop_push(stop, bytes_of(text.data + i, 1), &out);
    stop_finish(stop, &out);
    CHECK(out.length == 0 || memmem(out.data, out.length, "ab", 2) == NULL);
    CHECK(stop_hit(stop) || out.length == text.length);
    buf_free(&out);
    stop_free(stop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tokenizer *tokenizer;
    if (tokenizer == NULL)
        tokenizer = make();
    if (size > 4096)
        return 0;
    struct ids ids;
    struct error error;
    struct buf valid, wanted, got;
    struct detok detok;
    struct bytes text = bytes_of(data, size);
    ids_init(&ids, TEXT_MAX);
    buf_init(&valid, TEXT_MAX);
    buf_init(&wanted, TEXT_MAX);
    buf_init(&got, TEXT_MAX);
    CHECK(tokenizer_encode(tokenizer, text, TOKENIZER_SPECIALS_NONE, NULL, 0, &ids, &error) == STATUS_OK);
    detok_init(&detok, tokenizer, false);
    for (size_t i = 0; i < ids.count; i++) {
        CHECK(!tokenizer_is_control(tokenizer, ids.data[i]));
        detok_push(&detok, ids.data[i], &got);
    }
    detok_finish(&detok, &got);
    /* Added tokens are found before NFC, and none of these composes with its neighbours but for marks behind it. */
    utf8_replace(text, &valid);
    if (valid.length == 0 || memmem(valid.data, valid.length, "<t>", 3) == NULL) {
        unicode_nfc(buf_bytes(&valid), &wanted);
        CHECK(bytes_equal(buf_bytes(&got), buf_bytes(&wanted)));
    }
    check_stop(text);
    ids_free(&ids);
    buf_free(&valid);
    buf_free(&wanted);
    buf_free(&got);
    return 0;
}
