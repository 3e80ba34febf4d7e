/* protocol_doc: prints docs/PROTOCOL.md. Run by the target `protocol_doc`. */
#include <stdio.h>
#include <stdlib.h>

#include "proto/proto.h"

int main(void)
{
    struct buf page;
    buf_init(&page, 1 << 20);
    proto_document(&page);
    bool written = !page.overflow && fwrite(page.data, 1, page.length, stdout) == page.length && fflush(stdout) == 0;
    buf_free(&page);
    return written ? EXIT_SUCCESS : EXIT_FAILURE;
}
