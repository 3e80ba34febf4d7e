/* Fuzzes proto's codec: any bytes are a message or a reason, cost memory in proportion to their number, and a message
 * that was taken is sent again as a frame that means the same. */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "proto/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The smallest record takes a byte of the frame and its struct of memory; none is larger than this. */
enum { MEMORY_PER_BYTE_MAX = 512, MEMORY_MAX = 64 << 20 };

static enum status decode(struct bytes frame, struct arena *arena, struct proto_message *message)
{
    struct error error = {0};
    arena_init(arena, MEMORY_MAX);
    enum status status = proto_decode(frame, arena, message, &error);
    CHECK(status == STATUS_OK || error.text[0] != '\0');
    CHECK(arena->used <= MEMORY_PER_BYTE_MAX * (frame.length + 1));
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena first_arena, second_arena;
    struct proto_message first, second;
    struct buf once, twice;
    if (decode(bytes_of(data, size), &first_arena, &first) == STATUS_OK) {
        buf_init(&once, PROTO_FRAME_BYTES_MAX);
        buf_init(&twice, PROTO_FRAME_BYTES_MAX);
        enum status status = proto_encode(&once, first.opcode, &first.any, NULL);
        CHECK(status == STATUS_OK);
        status = decode(buf_bytes(&once), &second_arena, &second);
        CHECK(status == STATUS_OK && second.opcode == first.opcode);
        status = proto_encode(&twice, second.opcode, &second.any, NULL);
        CHECK(status == STATUS_OK && bytes_equal(buf_bytes(&once), buf_bytes(&twice)));
        arena_free(&second_arena);
        buf_free(&once);
        buf_free(&twice);
    }
    arena_free(&first_arena);
    return 0;
}
