/* table: see table.h. One function per declaration holds its constant table, because inside a function `self` can name
 * the struct whose offsets the field macros take; the functions' addresses are what tables refer to each other by. */
#include "proto/table.h"

#include "base/check.h"
#include "proto/proto.h"

#define U32_MAX UINT32_MAX
#define U64_MAX UINT64_MAX

#define TABLE_BEGIN(name)                                                                                              \
    static const struct proto_table *table_##name(void)                                                                \
    {                                                                                                                  \
        typedef struct proto_##name self;                                                                              \
        static const struct proto_field fields[] = {
#define TABLE_END(name_, doc_, from_, to_, kind_, opcode_)                                                             \
    }                                                                                                                  \
    ;                                                                                                                  \
    static const struct proto_table table = {.name = name_,                                                            \
                                             .doc = doc_,                                                              \
                                             .from = from_,                                                            \
                                             .to = to_,                                                                \
                                             .fields = fields,                                                         \
                                             .fields_count = COUNT_OF(fields),                                         \
                                             .bytes = sizeof(self),                                                    \
                                             .kind = kind_,                                                            \
                                             .opcode = opcode_};                                                       \
    return &table;                                                                                                     \
    }

/* The head of a declaration (opcode, doc, ...) is needed behind its fields: keep it in constants of its name. */
#define MESSAGE_BEGIN(name, NAME, opcode_, from_, to_, doc_)                                                           \
    enum { name##_opcode = (opcode_) };                                                                                \
    static const char name##_doc[] = doc_, name##_from[] = from_, name##_to[] = to_;                                   \
    TABLE_BEGIN(name)
#define MESSAGE_END(name) TABLE_END(#name, name##_doc, name##_from, name##_to, PROTO_TABLE_MESSAGE, name##_opcode)
#define COMMAND_BEGIN(name, NAME, opcode_, doc_)                                                                       \
    enum { name##_opcode = (opcode_) };                                                                                \
    static const char name##_doc[] = doc_;                                                                             \
    TABLE_BEGIN(name)
#define COMMAND_END(name) TABLE_END(#name, name##_doc, NULL, NULL, PROTO_TABLE_COMMAND, name##_opcode)
#define RECORD_BEGIN(name, doc_)                                                                                       \
    static const char name##_doc[] = doc_;                                                                             \
    TABLE_BEGIN(name)
#define RECORD_END(name) TABLE_END(#name, name##_doc, NULL, NULL, PROTO_TABLE_RECORD, 0)

#define PLAIN(tag_, name_, kind_, max_, doc_)                                                                          \
    {.name = #name_, .doc = doc_, .max = (max_), .offset = offsetof(self, name_), .kind = kind_, .tag = (tag_)},
#define COUNTED(tag_, name_, kind_, max_, record_, doc_)                                                               \
    {.name = #name_,                                                                                                   \
     .doc = doc_,                                                                                                      \
     .max = (max_),                                                                                                    \
     .record = record_,                                                                                                \
     .offset = offsetof(self, name_),                                                                                  \
     .count_offset = offsetof(self, name_##_count),                                                                    \
     .kind = kind_,                                                                                                    \
     .tag = (tag_)},
#define FIELD_U64(tag, name, max, doc)  PLAIN(tag, name, PROTO_KIND_U64, max, doc)
#define FIELD_F64(tag, name, doc)       PLAIN(tag, name, PROTO_KIND_F64, 0, doc)
#define FIELD_BOOL(tag, name, doc)      PLAIN(tag, name, PROTO_KIND_BOOL, 1, doc)
#define FIELD_TEXT(tag, name, max, doc) PLAIN(tag, name, PROTO_KIND_TEXT, max, doc)
#define FIELD_BLOB(tag, name, max, doc) PLAIN(tag, name, PROTO_KIND_BLOB, max, doc)
#define FIELD_IDS(tag, name, max, doc)  COUNTED(tag, name, PROTO_KIND_IDS, max, NULL, doc)
#define FIELD_ONE(tag_, name_, record_, doc_)                                                                          \
    {.name = #name_,                                                                                                   \
     .doc = doc_,                                                                                                      \
     .record = table_##record_,                                                                                        \
     .offset = offsetof(self, name_),                                                                                  \
     .kind = PROTO_KIND_ONE,                                                                                           \
     .tag = (tag_)},
#define FIELD_LIST(tag, name, record, max, doc) COUNTED(tag, name, PROTO_KIND_LIST, max, table_##record, doc)

#define ENUM_BEGIN(name, doc_)                                                                                         \
    static const char name##_doc[] = doc_;                                                                             \
    static const struct proto_enum *enum_##name(void)                                                                  \
    {                                                                                                                  \
        static const struct proto_enum_value values[] = {
#define ENUM_VALUE(NAME, number_, doc_) {.name = #NAME, .doc = doc_, .number = (number_)},
#define ENUM_END(name_)                                                                                                \
    }                                                                                                                  \
    ;                                                                                                                  \
    static const struct proto_enum enumeration = {                                                                     \
        .name = #name_, .doc = name_##_doc, .values = values, .values_count = COUNT_OF(values)};                       \
    return &enumeration;                                                                                               \
    }
#include "proto/messages.def"

#define SECTION(title)                                   {.section = title},
#define ENUM_BEGIN(name, doc)                            {.enumeration = enum_##name},
#define MESSAGE_BEGIN(name, NAME, opcode, from, to, doc) {.table = table_##name},
#define COMMAND_BEGIN(name, NAME, opcode, doc)           {.table = table_##name},
#define RECORD_BEGIN(name, doc)                          {.table = table_##name},
const struct proto_declaration proto_declarations[] = {
#include "proto/messages.def"
};
const size_t proto_declarations_count = COUNT_OF(proto_declarations);

const struct proto_table *proto_table_of_opcode(uint64_t opcode)
{
    switch (opcode) {
#define MESSAGE_BEGIN(name, NAME, opcode, from, to, doc)                                                               \
    case PROTO_##NAME:                                                                                                 \
        return table_##name();
#define COMMAND_BEGIN(name, NAME, opcode, doc) MESSAGE_BEGIN(name, NAME, opcode, , , doc)
#include "proto/messages.def"
    default:
        return NULL;
    }
}

const struct proto_field *proto_table_field(const struct proto_table *table, uint64_t tag)
{
    /* Tags mostly count from 1, so the first look hits. */
    if (tag >= 1 && tag <= table->fields_count && table->fields[tag - 1].tag == tag) {
        return &table->fields[tag - 1];
    }
    for (size_t i = 0; i < table->fields_count; i++) {
        if (table->fields[i].tag == tag) {
            return &table->fields[i];
        }
    }
    return NULL;
}
