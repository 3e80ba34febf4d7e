/* Fuzzes model/safetensors: whatever is accepted lies inside of the bytes. */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct tensors tensors;
    struct error error = {0};
    arena_init(&arena, (size_t)64 << 20);
    tensors_init(&tensors, &arena);
    enum status status = safetensors_read(bytes_of(data, size), "fuzz", &tensors, &error);
    CHECK(status == STATUS_OK || error.text[0] != '\0');
    for (const struct tensors_entry *entry = tensors.first; entry != NULL; entry = entry->next) {
        CHECK(entry->tensor.data >= data && entry->tensor.data + entry->bytes <= data + size);
        CHECK(entry->tensor.rows * entry->tensor.columns * model_type_block_bytes(entry->tensor.type) == entry->bytes);
    }
    tensors_free(&tensors);
    arena_free(&arena);
    return 0;
}
