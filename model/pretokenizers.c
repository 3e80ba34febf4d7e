/* pretokenizers: see pretokenizers.h. The rules are those of the models' own tokenizers (GPT-2's encoder, Llama 3's
 * and Qwen 2's tokenizer.json), in the form in which llama.cpp's vocabularies mean them. */
#include "model/pretokenizers.h"

#include "base/check.h"

#define CONTRACTIONS          "'s|'t|'re|'ve|'m|'ll|'d"
#define CONTRACTIONS_ANY_CASE "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
#define WORDS                 " ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+"
#define GPT2                  CONTRACTIONS "|" WORDS "|\\s+(?!\\S)|\\s+"
/* Llama 3 and Qwen 2 differ in how many digits stay together. */
#define WORDS_AND_LINES(digits)                                                                                        \
    CONTRACTIONS_ANY_CASE "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits                                                     \
                          "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3 WORDS_AND_LINES("\\p{N}{1,3}")
#define QWEN2  WORDS_AND_LINES("\\p{N}")
#define DIGIT  "\\p{N}"

const char pretokenizer_gpt2[] = GPT2;

static const struct pretokenizer table[] = {
    {"default", {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}, false, false},
    {"gpt-2", {GPT2}, false, false},
    {"phi-2", {GPT2}, false, false},
    {"mpt", {GPT2}, false, false},
    {"olmo", {GPT2}, false, false},
    {"smollm", {DIGIT, GPT2}, false, false},
    {"starcoder", {DIGIT, GPT2}, false, false},
    {"refact", {DIGIT, GPT2}, false, false},
    {"command-r", {DIGIT, GPT2}, false, false},
    {"codeshell", {DIGIT, GPT2}, false, false},
    {"llama3", {LLAMA3}, true, true},
    {"llama-v3", {LLAMA3}, true, true},
    {"llama-bpe", {LLAMA3}, true, true},
    {"smaug-bpe", {LLAMA3}, false, false},
    {"dbrx", {LLAMA3}, false, false},
    {"qwen2", {QWEN2}, false, false},
    {"deepseek-r1-qwen", {QWEN2}, false, false},
    {"stablelm2", {QWEN2}, false, false},
};

const struct pretokenizer *pretokenizer_find(struct bytes name)
{
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        if (bytes_equal(name, bytes_of_text(table[i].name)))
            return &table[i];
    }
    return NULL;
}
