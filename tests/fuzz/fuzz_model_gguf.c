/* Fuzzes model/gguf: any bytes give a description whose tensors lie inside of them, or a reason. */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/crypto.h"
#include "model/gguf.h"
#include "model/owner.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_vocab(const struct model_desc *desc)
{
    if (desc->vocab == NULL)
        return;
    CHECK(desc->vocab->count == desc->vocab_size);
    for (size_t i = 0; i < desc->tokenizer.merges_count; i++) {
        const struct vocab_merge *merge = &desc->tokenizer.merges[i];
        CHECK(merge->left < desc->vocab->count && merge->right < desc->vocab->count);
        CHECK(merge->merged < desc->vocab->count);
    }
    for (size_t i = 0; i < desc->eos_count; i++)
        CHECK(desc->eos_ids[i] < desc->vocab_size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum status status = crypto_init();
    CHECK(status == STATUS_OK);
    for (int vocab_only = 0; vocab_only < 2; vocab_only++) {
        struct model_options options = {.vocab_only = vocab_only == 1};
        struct model_desc *desc = desc_new();
        struct error error = {0};
        status = gguf_load(bytes_of(data, size), &options, desc, &error);
        CHECK(status == STATUS_OK || error.text[0] != '\0');
        if (status == STATUS_OK) {
            CHECK(desc->weights_bytes <= size);
            check_vocab(desc);
            desc_hash(desc); /* reads from every tensor */
        }
        model_close(desc);
    }
    return 0;
}
