/* vocab_make: see vocab_make.h; also vocab.h's one accessor. */
#include "model/vocab_make.h"

#include <string.h>

#include "base/check.h"
#include "model/owner.h"

const struct vocab_token *vocab_token(const struct vocab *vocab, uint32_t id)
{
    return id < vocab->count ? &vocab->tokens[id] : NULL;
}

enum status vocab_make_init(struct vocab_make *make, struct arena *arena, uint64_t count, struct error *error)
{
    *make = (struct vocab_make){.arena = arena};
    map_init(&make->by_piece, MODEL_VOCAB_MAX);
    if (count == 0 || count > MODEL_VOCAB_MAX)
        return error_set(error, STATUS_LIMIT, "a vocabulary of %llu tokens; 1 to %d are read",
                         (unsigned long long)count, MODEL_VOCAB_MAX);
    make->tokens = arena_alloc_array(arena, count, sizeof *make->tokens);
    if (make->tokens == NULL)
        return desc_no_memory(error);
    make->count = count;
    for (size_t i = 0; i < count; i++)
        make->tokens[i].kind = VOCAB_UNUSED;
    return STATUS_OK;
}

void vocab_make_free(struct vocab_make *make)
{
    map_free(&make->by_piece);
}

void vocab_make_put(struct vocab_make *make, uint32_t id, struct bytes piece, enum vocab_kind kind)
{
    CHECK(id < make->count);
    make->tokens[id].piece = piece;
    make->tokens[id].kind = (uint8_t)kind;
}

enum status vocab_make_index(struct vocab_make *make, struct error *error)
{
    for (size_t i = 0; i < make->count; i++) {
        struct vocab_token *token = &make->tokens[i];
        if (token->piece.length > 0 && map_put(&make->by_piece, token->piece, token) != STATUS_OK)
            return desc_no_memory(error);
    }
    return STATUS_OK;
}

int32_t vocab_make_find(const struct vocab_make *make, struct bytes piece)
{
    const struct vocab_token *token = map_get(&make->by_piece, piece);
    return token == NULL ? -1 : (int32_t)(token - make->tokens);
}

static enum status merge_fails(struct bytes left, struct bytes right, const char *why, struct error *error)
{
    return error_set(error, STATUS_INVALID, "merge of '%.*s' and '%.*s': %s", (int)MIN_OF(left.length, (size_t)64),
                     (const char *)left.data, (int)MIN_OF(right.length, (size_t)64), (const char *)right.data, why);
}

enum status vocab_make_merge(const struct vocab_make *make, struct bytes left, struct bytes right,
                             struct vocab_merge *merge, struct error *error)
{
    uint8_t joined[1024];
    if (left.length == 0 || right.length == 0)
        return merge_fails(left, right, "one side is empty", error);
    if (left.length > sizeof joined || right.length > sizeof joined - left.length)
        return merge_fails(left, right, "the result is longer than 1024 bytes", error);
    memcpy(joined, left.data, left.length);
    memcpy(joined + left.length, right.data, right.length);
    int32_t ids[3] = {vocab_make_find(make, left), vocab_make_find(make, right),
                      vocab_make_find(make, bytes_of(joined, left.length + right.length))};
    if (ids[0] < 0 || ids[1] < 0)
        return merge_fails(left, right, "a side is not in the vocabulary", error);
    if (ids[2] < 0)
        return merge_fails(left, right, "the result is not in the vocabulary", error);
    *merge = (struct vocab_merge){(uint32_t)ids[0], (uint32_t)ids[1], (uint32_t)ids[2]};
    return STATUS_OK;
}

/* The byte that a character of the GPT-2 alphabet stands for, or -1. Printable bytes of Latin-1 stand for themselves;
 * the 68 others follow in order from U+0100 on (0x00–0x20, 0x7f–0xa0, 0xad). */
static int byte_of_character(uint32_t character)
{
    if ((character >= 0x21 && character <= 0x7e) || (character >= 0xa1 && character <= 0xff && character != 0xad))
        return (int)character;
    if (character < 0x100 || character >= 0x100 + 68)
        return -1;
    uint32_t n = character - 0x100;
    return n < 33 ? (int)n : n < 67 ? (int)(0x7f + n - 33) : 0xad;
}

struct bytes vocab_bytes_of_byte_level(struct arena *arena, struct bytes piece, bool *ok)
{
    uint8_t *out = arena_alloc(arena, piece.length);
    *ok = out != NULL || piece.length == 0;
    if (out == NULL)
        return piece;
    size_t length = 0;
    for (size_t i = 0; i < piece.length; length++) {
        uint8_t lead = piece.data[i];
        uint32_t character = lead;
        size_t width = 1;
        if (lead >= 0xc2 && lead <= 0xdf && i + 1 < piece.length && (piece.data[i + 1] & 0xc0) == 0x80) {
            character = (uint32_t)(lead & 0x1f) << 6 | (piece.data[i + 1] & 0x3f);
            width = 2;
        } else if (lead >= 0x80) {
            return piece; /* longer sequences are outside of the alphabet */
        }
        int byte = byte_of_character(character);
        if (byte < 0)
            return piece;
        out[length] = (uint8_t)byte;
        i += width;
    }
    return bytes_of(out, length);
}

int vocab_byte_of_piece(struct bytes piece)
{
    if (piece.length != 6 || memcmp(piece.data, "<0x", 3) != 0 || piece.data[5] != '>')
        return -1;
    int value = 0;
    for (size_t i = 3; i < 5; i++) {
        uint8_t c = piece.data[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* Every U+2581 (e2 96 81) as a space. */
static struct bytes unescape_spaces(struct arena *arena, struct bytes piece, bool *ok)
{
    static const uint8_t block[] = {0xe2, 0x96, 0x81};
    *ok = true;
    if (piece.length < 3 || memmem(piece.data, piece.length, block, 3) == NULL)
        return piece;
    uint8_t *out = arena_alloc(arena, piece.length);
    *ok = out != NULL;
    if (out == NULL)
        return piece;
    size_t length = 0;
    for (size_t i = 0; i < piece.length;) {
        bool space = piece.length - i >= 3 && memcmp(piece.data + i, block, 3) == 0;
        out[length++] = space ? ' ' : piece.data[i];
        i += space ? 3 : 1;
    }
    return bytes_of(out, length);
}

static const uint8_t *every_byte(struct arena *arena)
{
    uint8_t *bytes = arena_alloc(arena, 256);
    for (size_t i = 0; bytes != NULL && i < 256; i++)
        bytes[i] = (uint8_t)i;
    return bytes;
}

enum status vocab_make_finish(struct vocab_make *make, bool plain_added, struct model_desc *desc, struct error *error)
{
    const uint8_t *single = every_byte(make->arena);
    struct vocab *vocab = arena_alloc(make->arena, sizeof *vocab);
    bool ok = single != NULL && vocab != NULL;
    bool byte_level = desc->tokenizer.model == VOCAB_MODEL_BPE_BYTES;
    for (size_t i = 0; i < make->count && ok; i++) {
        struct vocab_token *token = &make->tokens[i];
        if (token->kind == VOCAB_BYTE) {
            int value = vocab_byte_of_piece(token->piece);
            if (value < 0)
                return error_set(error, STATUS_INVALID, "token %zu stands for a byte, but isn't written like <0x0A>",
                                 i);
            token->bytes = bytes_of(single + value, 1);
        } else if (token->kind == VOCAB_USER_DEFINED && plain_added) {
            token->bytes = token->piece;
        } else if (token->kind == VOCAB_NORMAL || token->kind == VOCAB_USER_DEFINED) {
            token->bytes = byte_level ? vocab_bytes_of_byte_level(make->arena, token->piece, &ok)
                                      : unescape_spaces(make->arena, token->piece, &ok);
        }
    }
    if (!ok)
        return desc_no_memory(error);
    *vocab = (struct vocab){make->tokens, make->count};
    desc->vocab = vocab;
    return STATUS_OK;
}
