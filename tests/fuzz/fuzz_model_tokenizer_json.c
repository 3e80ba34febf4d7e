/* Fuzzes model/tokenizer_json: whatever is accepted has ids within its vocabulary. */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "model/owner.h"
#include "model/tokenizer_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_tokenizer(const struct model_desc *desc)
{
    const struct vocab_tokenizer *tokenizer = &desc->tokenizer;
    CHECK(desc->vocab != NULL && tokenizer->model != VOCAB_MODEL_NONE);
    CHECK(tokenizer->regexes_count <= COUNT_OF(tokenizer->regexes));
    CHECK(tokenizer->unk_id < (int32_t)desc->vocab->count && desc->bos_id < (int32_t)desc->vocab->count);
    for (size_t i = 0; i < tokenizer->merges_count; i++) {
        const struct vocab_merge *merge = &tokenizer->merges[i];
        CHECK(merge->left < desc->vocab->count && merge->right < desc->vocab->count);
        CHECK(merge->merged < desc->vocab->count);
    }
    size_t bytes = 0;
    for (size_t i = 0; i < desc->vocab->count; i++) {
        const struct vocab_token *token = &desc->vocab->tokens[i];
        for (size_t k = 0; k < token->bytes.length; k++)
            bytes += token->bytes.data[k]; /* ASan sees a view that is out of bounds */
    }
    CHECK(bytes < SIZE_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json *root = NULL;
    struct error error = {0};
    if (json_parse(bytes_of(data, size), &root, &error) != STATUS_OK)
        return 0;
    struct model_desc *desc = desc_new();
    enum status status = tokenizer_json_read(root, root, desc, &error);
    json_free(root);
    CHECK(status == STATUS_OK || error.text[0] != '\0');
    if (status == STATUS_OK)
        check_tokenizer(desc);
    model_close(desc);
    return 0;
}
