/* tiny: see tiny.h. */
#include "tests/unit/text/tiny.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

uint32_t tiny_add(struct tiny *tiny, const char *text, enum vocab_kind kind)
{
    uint32_t id = (uint32_t)tiny->vocab.count++;
    CHECK(id < TINY_MAX && strlen(text) < sizeof tiny->texts[0]);
    snprintf(tiny->texts[id], sizeof tiny->texts[id], "%s", text);
    struct bytes piece = bytes_of_text(tiny->texts[id]);
    tiny->tokens[id] = (struct vocab_token){.piece = piece, .bytes = piece, .kind = (uint8_t)kind};
    if (kind == VOCAB_CONTROL)
        tiny->tokens[id].bytes = bytes_of(NULL, 0);
    return id;
}

uint32_t tiny_id(const struct tiny *tiny, const char *text)
{
    for (uint32_t id = 0; id < tiny->vocab.count; id++) {
        if (bytes_equal(tiny->tokens[id].piece, bytes_of_text(text)))
            return id;
    }
    return UINT32_MAX;
}

uint32_t tiny_merge(struct tiny *tiny, const char *left, const char *right)
{
    char joined[64];
    snprintf(joined, sizeof joined, "%s%s", left, right);
    uint32_t merged = tiny_id(tiny, joined);
    if (merged == UINT32_MAX)
        merged = tiny_add(tiny, joined, VOCAB_NORMAL);
    struct vocab_tokenizer *tokenizer = &tiny->desc.tokenizer;
    tiny->merges[tokenizer->merges_count++] =
        (struct vocab_merge){.left = tiny_id(tiny, left), .right = tiny_id(tiny, right), .merged = merged};
    return merged;
}

static void start(struct tiny *tiny, enum vocab_model model)
{
    memset(tiny, 0, sizeof *tiny);
    tiny->vocab.tokens = tiny->tokens;
    tiny->desc.vocab = &tiny->vocab;
    tiny->desc.bos_id = -1;
    tiny->desc.tokenizer = (struct vocab_tokenizer){.model = model, .merges = tiny->merges, .unk_id = -1};
    snprintf(tiny->desc.tokenizer.source_name, sizeof tiny->desc.tokenizer.source_name, "tiny");
}

void tiny_bytes(struct tiny *tiny)
{
    start(tiny, VOCAB_MODEL_BPE_BYTES);
    for (unsigned byte = 0; byte < 256; byte++) {
        uint32_t id = tiny_add(tiny, "", VOCAB_NORMAL);
        tiny->texts[id][0] = (char)byte;
        tiny->tokens[id].piece = tiny->tokens[id].bytes = bytes_of(tiny->texts[id], 1);
    }
}

void tiny_spm(struct tiny *tiny)
{
    start(tiny, VOCAB_MODEL_BPE_SPM);
    struct vocab_tokenizer *tokenizer = &tiny->desc.tokenizer;
    tokenizer->byte_fallback = tokenizer->fuse_unk = true;
    tokenizer->prepend_space = tokenizer->escape_spaces = tokenizer->strip_leading_space = true;
    for (unsigned byte = 0; byte < 256; byte++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", byte);
        uint32_t id = tiny_add(tiny, name, VOCAB_BYTE);
        tiny->texts[id][32] = (char)byte;
        tiny->tokens[id].bytes = bytes_of(tiny->texts[id] + 32, 1);
    }
    static const char *const characters[] = {"\xe2\x96\x81", "a", "b", "c", "d", "e"};
    for (size_t i = 0; i < COUNT_OF(characters); i++) {
        uint32_t id = tiny_add(tiny, characters[i], VOCAB_NORMAL);
        if (i == 0)
            tiny->tokens[id].bytes = BYTES_LITERAL(" ");
    }
}
