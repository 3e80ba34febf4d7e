/* Promise: docs/PROTOCOL.md is what the tables say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/file.h"
#include "proto/proto.h"

static void page_is_current(void **state)
{
    (void)state;
    struct buf page, committed;
    struct error error = {0};
    buf_init(&page, 1 << 20);
    buf_init(&committed, 1 << 20);
    proto_document(&page);
    assert_false(page.overflow);
    if (file_read("docs/PROTOCOL.md", 1 << 20, &committed, &error) != STATUS_OK) {
        fail_msg("%s Build the target protocol_doc and commit the page.", error.text);
    }
    if (!bytes_equal(buf_bytes(&page), buf_bytes(&committed))) {
        fail_msg(
            "docs/PROTOCOL.md differs from proto/messages.def: build the target protocol_doc and commit the page.");
    }
    buf_free(&page);
    buf_free(&committed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(page_is_current)};
    return cmocka_run_group_tests_name("proto.document", tests, NULL, NULL);
}
