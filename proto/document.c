/* document: docs/PROTOCOL.md out of the tables of messages.def. */
#include "proto/proto.h"
#include "proto/table.h"

static const char *const introduction =
    "# shoal's wire protocol\n"
    "\n"
    "Generated from `proto/messages.def` by the target `protocol_doc`; a test fails when this page differs.\n"
    "\n"
    "A frame on the bus is one envelope: the msgpack array `[version, opcode, fields]`, where `fields` is a map from "
    "tag\n"
    "(1 to 127) to value.\n"
    "\n"
    "- An absent field is zero (0, false, empty), and encoders leave zeros out.\n"
    "- Receivers step over unknown tags. Commands of the replicated log are the exception: there an unknown tag is an\n"
    "  error, because replicas that skip what others apply would diverge.\n"
    "- Refused with a status: another version, an unknown opcode, a wrong type, a value, length or count above the\n"
    "  field's maximum, a tag that comes twice, trailing bytes.\n"
    "- Integers, strings, bytes and containers may come in any width that msgpack has; a whole number may be a float.\n"
    "- A tag or opcode is never reused for something else.\n"
    "\n"
    "| type | msgpack | meaning |\n"
    "|---|---|---|\n"
    "| u64 | integer | 0 up to the maximum (2^64 - 1 where none is given) |\n"
    "| f64 | float or integer | finite |\n"
    "| bool | boolean | |\n"
    "| text | string | UTF-8 without NUL; the maximum counts bytes |\n"
    "| blob | binary | the maximum counts bytes |\n"
    "| ids | array of integers | token ids below 2^32 |\n"
    "| record | map | a record below, by its tags |\n"
    "| list of record | array of maps | |\n";

static void document_type(const struct proto_field *field, struct buf *out)
{
    static const char *const names[] = {
        [PROTO_KIND_U64] = "u64",   [PROTO_KIND_F64] = "f64",   [PROTO_KIND_BOOL] = "bool",
        [PROTO_KIND_TEXT] = "text", [PROTO_KIND_BLOB] = "blob", [PROTO_KIND_IDS] = "ids"};
    if (field->kind == PROTO_KIND_ONE) {
        buf_printf(out, "%s", field->record()->name);
    } else if (field->kind == PROTO_KIND_LIST) {
        buf_printf(out, "list of %s", field->record()->name);
    } else {
        buf_append_text(out, names[field->kind]);
    }
}

static void document_max(const struct proto_field *field, struct buf *out)
{
    bool unbounded = field->kind == PROTO_KIND_F64 || field->kind == PROTO_KIND_BOOL || field->kind == PROTO_KIND_ONE ||
                     field->max == UINT64_MAX;
    if (unbounded) {
        return;
    }
    if (field->max == UINT32_MAX) {
        buf_append_text(out, "2^32 - 1");
    } else {
        buf_printf(out, "%llu", (unsigned long long)field->max);
    }
}

static void document_title(const struct proto_table *table, struct buf *out)
{
    switch (table->kind) {
    case PROTO_TABLE_RECORD:
        buf_printf(out, "\n### %s (record)\n", table->name);
        break;
    case PROTO_TABLE_MESSAGE:
        buf_printf(out, "\n### %s (0x%02x): %s to %s\n", table->name, table->opcode, table->from, table->to);
        break;
    case PROTO_TABLE_COMMAND:
        buf_printf(out, "\n### %s (0x%02x): command\n", table->name, table->opcode);
        break;
    }
    if (table->doc[0] != 0) {
        buf_printf(out, "\n%s\n", table->doc);
    }
}

static void document_table(const struct proto_table *table, struct buf *out)
{
    document_title(table, out);
    buf_append_text(out, "\n| tag | field | type | maximum | |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < table->fields_count; i++) {
        const struct proto_field *field = &table->fields[i];
        buf_printf(out, "| %u | %s | ", field->tag, field->name);
        document_type(field, out);
        buf_append_text(out, " | ");
        document_max(field, out);
        buf_printf(out, " | %s |\n", field->doc);
    }
}

static void document_enum(const struct proto_enum *enumeration, struct buf *out)
{
    buf_printf(out, "\n### %s (values)\n\n%s\n\n| value | name | |\n|---|---|---|\n", enumeration->name,
               enumeration->doc);
    for (size_t i = 0; i < enumeration->values_count; i++) {
        const struct proto_enum_value *value = &enumeration->values[i];
        buf_printf(out, "| %u | %s | %s |\n", value->number, value->name, value->doc);
    }
}

void proto_document(struct buf *out)
{
    buf_append_text(out, introduction);
    for (size_t i = 0; i < proto_declarations_count; i++) {
        const struct proto_declaration *declaration = &proto_declarations[i];
        if (declaration->section != NULL) {
            buf_printf(out, "\n## %s\n", declaration->section);
        } else if (declaration->enumeration != NULL) {
            document_enum(declaration->enumeration(), out);
        } else {
            document_table(declaration->table(), out);
        }
    }
}
