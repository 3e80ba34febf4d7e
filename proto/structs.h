/* structs: messages.def expanded into C types: one struct per message, command and record, their enums and opcodes.
 *
 * Included by proto.h only. What a field becomes stands in messages.def's head. */
#ifndef SHOAL_PROTO_STRUCTS_H
#define SHOAL_PROTO_STRUCTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

#define ENUM_BEGIN(name, doc)                                                                                          \
    enum proto_##name                                                                                                  \
    {
#define ENUM_VALUE(NAME, number, doc) NAME = (number),
#define ENUM_END(name)                                                                                                 \
    }                                                                                                                  \
    ;
#include "proto/messages.def"

#define MESSAGE_BEGIN(name, NAME, opcode, from, to, doc) struct proto_##name {
#define COMMAND_BEGIN(name, NAME, opcode, doc)           struct proto_##name {
#define RECORD_BEGIN(name, doc)                          struct proto_##name {
#define MESSAGE_END(name)                                                                                              \
    }                                                                                                                  \
    ;
#define COMMAND_END(name)               MESSAGE_END(name)
#define RECORD_END(name)                MESSAGE_END(name)
#define FIELD_U64(tag, name, max, doc)  uint64_t name;
#define FIELD_F64(tag, name, doc)       double name;
#define FIELD_BOOL(tag, name, doc)      bool name;
#define FIELD_TEXT(tag, name, max, doc) struct bytes name;
#define FIELD_BLOB(tag, name, max, doc) struct bytes name;
#define FIELD_IDS(tag, name, max, doc)                                                                                 \
    const uint32_t *name;                                                                                              \
    size_t name##_count;
#define FIELD_ONE(tag, name, record, doc) struct proto_##record name;
#define FIELD_LIST(tag, name, record, max, doc)                                                                        \
    struct proto_##record *name;                                                                                       \
    size_t name##_count;
#include "proto/messages.def"

enum proto_opcode {
#define MESSAGE_BEGIN(name, NAME, opcode, from, to, doc) PROTO_##NAME = (opcode),
#define COMMAND_BEGIN(name, NAME, opcode, doc)           PROTO_##NAME = (opcode),
#include "proto/messages.def"
};

union proto_any {
#define MESSAGE_BEGIN(name, NAME, opcode, from, to, doc) struct proto_##name name;
#define COMMAND_BEGIN(name, NAME, opcode, doc)           struct proto_##name name;
#include "proto/messages.def"
};

#endif
