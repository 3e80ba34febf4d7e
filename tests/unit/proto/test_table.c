/* Promises of the tables: tags are unique, ascending and within 1..127; opcodes are unique and found; records, whose
 * nesting bounds the decoder's recursion, never nest deeper than the protocol allows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "proto/proto.h"
#include "proto/table.h"

static void tags_ascend(void **state)
{
    (void)state;
    for (size_t i = 0; i < proto_declarations_count; i++) {
        if (proto_declarations[i].table == NULL) {
            continue;
        }
        const struct proto_table *table = proto_declarations[i].table();
        unsigned last = 0;
        for (size_t f = 0; f < table->fields_count; f++) {
            assert_true(table->fields[f].tag > last);
            assert_true(table->fields[f].tag <= 127);
            assert_true(table->fields[f].offset < table->bytes);
            assert_ptr_equal(proto_table_field(table, table->fields[f].tag), &table->fields[f]);
            last = table->fields[f].tag;
        }
        assert_null(proto_table_field(table, 0));
        assert_null(proto_table_field(table, last + 1));
        assert_null(proto_table_field(table, UINT64_MAX));
    }
}

static void opcodes_are_found(void **state)
{
    (void)state;
    size_t declared = 0, found = 0;
    for (size_t i = 0; i < proto_declarations_count; i++) {
        if (proto_declarations[i].table == NULL || proto_declarations[i].table()->kind == PROTO_TABLE_RECORD) {
            continue;
        }
        declared++;
        assert_ptr_equal(proto_table_of_opcode(proto_declarations[i].table()->opcode), proto_declarations[i].table());
    }
    for (uint64_t opcode = 0; opcode < 300; opcode++) {
        found += proto_table_of_opcode(opcode) != NULL;
    }
    assert_int_equal(declared, found); /* so no two share one */
    assert_string_equal(proto_opcode_name(PROTO_SUBMIT), "submit");
    assert_string_equal(proto_opcode_name((enum proto_opcode)0), "unknown");
    assert_true(proto_opcode_is_command(PROTO_CMD_PLACE));
    assert_false(proto_opcode_is_command(PROTO_VIEW));
}

static unsigned depth_of(const struct proto_table *table)
{
    unsigned deepest = 0;
    for (size_t f = 0; f < table->fields_count; f++) {
        const struct proto_field *field = &table->fields[f];
        unsigned depth = field->kind == PROTO_KIND_IDS    ? 1
                         : field->kind == PROTO_KIND_ONE  ? depth_of(field->record())
                         : field->kind == PROTO_KIND_LIST ? 1 + depth_of(field->record())
                                                          : 0;
        deepest = depth > deepest ? depth : deepest;
    }
    return 1 + deepest;
}

static void nesting_stays_within_the_protocol(void **state)
{
    (void)state;
    for (size_t i = 0; i < proto_declarations_count; i++) {
        if (proto_declarations[i].table != NULL) {
            assert_true(1 + depth_of(proto_declarations[i].table()) < PROTO_DEPTH_MAX); /* room for fields to come */
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tags_ascend),
        cmocka_unit_test(opcodes_are_found),
        cmocka_unit_test(nesting_stays_within_the_protocol),
    };
    return cmocka_run_group_tests_name("proto.table", tests, NULL, NULL);
}
