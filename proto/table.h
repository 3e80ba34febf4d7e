/* table: messages.def expanded into data: what encoder, decoder, documentation and tests walk over.
 *
 * Inside proto/ and its tests only. Everything is constant. */
#ifndef SHOAL_PROTO_TABLE_H
#define SHOAL_PROTO_TABLE_H

#include <stddef.h>
#include <stdint.h>

enum proto_kind {
    PROTO_KIND_U64,  /* uint64_t; max: the largest value */
    PROTO_KIND_F64,  /* double */
    PROTO_KIND_BOOL, /* bool */
    PROTO_KIND_TEXT, /* struct bytes; max: bytes */
    PROTO_KIND_BLOB, /* struct bytes; max: bytes */
    PROTO_KIND_IDS,  /* const uint32_t * and count; max: count */
    PROTO_KIND_ONE,  /* the record itself */
    PROTO_KIND_LIST  /* struct * and count; max: count */
};

struct proto_table;

struct proto_field {
    const char *name;
    const char *doc;
    uint64_t max;
    const struct proto_table *(*record)(void); /* ONE, LIST */
    size_t offset;                             /* of the value in its struct */
    size_t count_offset;                       /* IDS, LIST: of the size_t count */
    enum proto_kind kind;
    uint8_t tag;
};

enum proto_table_kind { PROTO_TABLE_RECORD, PROTO_TABLE_MESSAGE, PROTO_TABLE_COMMAND };

struct proto_table {
    const char *name;
    const char *doc;
    const char *from; /* messages */
    const char *to;
    const struct proto_field *fields; /* by ascending tag */
    size_t fields_count;
    size_t bytes; /* sizeof the struct */
    enum proto_table_kind kind;
    uint8_t opcode; /* 0 for records */
};

struct proto_enum_value {
    const char *name;
    const char *doc;
    unsigned number;
};

struct proto_enum {
    const char *name;
    const char *doc;
    const struct proto_enum_value *values;
    size_t values_count;
};

/* What messages.def declares, in its order; exactly one of the three is set. */
struct proto_declaration {
    const char *section;
    const struct proto_enum *(*enumeration)(void);
    const struct proto_table *(*table)(void);
};

extern const struct proto_declaration proto_declarations[];
extern const size_t proto_declarations_count;

/* NULL: no such message or command. */
const struct proto_table *proto_table_of_opcode(uint64_t opcode);
/* NULL: no such tag. */
const struct proto_field *proto_table_field(const struct proto_table *table, uint64_t tag);

#endif
