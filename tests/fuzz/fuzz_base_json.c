/* Fuzzes base/json: whatever is accepted must write itself, and what was written must read back to the same text. */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json *first = NULL, *second = NULL;
    struct error error;
    struct buf once, twice;
    if (json_parse(bytes_of(data, size), &first, &error) != STATUS_OK)
        return 0;
    buf_init(&once, size * 32 + 64);
    buf_init(&twice, size * 32 + 64);
    json_write_value(&once, first);
    CHECK(!once.overflow);
    enum status status = json_parse(buf_bytes(&once), &second, &error);
    CHECK(status == STATUS_OK);
    json_write_value(&twice, second);
    CHECK(bytes_equal(buf_bytes(&once), buf_bytes(&twice)));
    json_free(first);
    json_free(second);
    buf_free(&once);
    buf_free(&twice);
    return 0;
}
