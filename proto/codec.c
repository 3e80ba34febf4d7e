/* codec: frames out of structs and structs out of frames, both walking the field tables of table.h.
 *
 * The encoder packs with msgpack-c. The decoder reads through codec_read's bounded cursor; msgpack-c's unpacker
 * reserves gigabytes for five hostile bytes, so it is not used. What the decoder reserves is bounded by the frame: ids
 * take at least one byte of frame each, and so do records, whose count the table limits besides; the arena's own
 * maximum is the last fence. Recursion goes along the tables (records in records), never along the input. */
#include <math.h>
#include <msgpack.h>
#include <string.h>

#include "base/check.h"
#include "proto/codec_read.h"
#include "proto/proto.h"
#include "proto/table.h"

enum { ENVELOPE_ITEMS = 3, TAG_MAX = 127 };

/* Where a field lives in its struct. */
static const void *field_at(const struct proto_field *field, const void *object)
{
    return (const char *)object + field->offset;
}

static size_t field_count(const struct proto_field *field, const void *object)
{
    size_t count;
    memcpy(&count, (const char *)object + field->count_offset, sizeof(count));
    return count;
}

/* ---- encoder ---------------------------------------------------------------------------------------------------- */

struct encoder {
    msgpack_packer packer;
    const struct proto_table *message;
    struct error *error;
};

static int append_packed(void *context, const char *data, size_t length)
{
    buf_append(context, data, length);
    return 0; /* an overflow is looked at once, at the end */
}

static enum status field_error(struct error *error, enum status status, const struct proto_table *message,
                               const struct proto_table *table, const struct proto_field *field, const char *what)
{
    if (message == table) {
        return error_set(error, status, "%s.%s %s.", table->name, field->name, what);
    }
    return error_set(error, status, "%s: %s.%s %s.", message->name, table->name, field->name, what);
}

static bool record_is_zero(const struct proto_table *table, const void *object);

/* Zero values are left out of the frame. A double is zero by its bits, so that -0.0 survives. */
static bool field_is_zero(const struct proto_field *field, const void *object)
{
    const void *at = field_at(field, object);
    switch (field->kind) {
    case PROTO_KIND_U64:
    case PROTO_KIND_F64: {
        uint64_t bits;
        memcpy(&bits, at, sizeof(bits));
        return bits == 0;
    }
    case PROTO_KIND_BOOL:
        return !*(const bool *)at;
    case PROTO_KIND_TEXT:
    case PROTO_KIND_BLOB:
        return ((const struct bytes *)at)->length == 0;
    case PROTO_KIND_IDS:
    case PROTO_KIND_LIST:
        return field_count(field, object) == 0;
    case PROTO_KIND_ONE:
        return record_is_zero(field->record(), at);
    }
    UNREACHABLE();
}

static bool record_is_zero(const struct proto_table *table, const void *object)
{
    for (size_t i = 0; i < table->fields_count; i++) {
        if (!field_is_zero(&table->fields[i], object)) {
            return false;
        }
    }
    return true;
}

/* Why a field's value may not be sent; NULL: it may. */
static const char *field_fault(const struct proto_field *field, const void *object, enum status *status)
{
    const void *at = field_at(field, object);
    *status = STATUS_LIMIT;
    switch (field->kind) {
    case PROTO_KIND_U64:
        return *(const uint64_t *)at > field->max ? "is above its maximum" : NULL;
    case PROTO_KIND_BLOB:
        return ((const struct bytes *)at)->length > field->max ? "is too long" : NULL;
    case PROTO_KIND_IDS:
    case PROTO_KIND_LIST:
        return field_count(field, object) > field->max ? "has too many items" : NULL;
    case PROTO_KIND_TEXT:
        if (((const struct bytes *)at)->length > field->max) {
            return "is too long";
        }
        *status = STATUS_INVALID;
        return codec_is_text(*(const struct bytes *)at) ? NULL : "is not valid UTF-8 without NUL";
    case PROTO_KIND_F64:
        *status = STATUS_INVALID;
        return isfinite(*(const double *)at) ? NULL : "is not finite";
    case PROTO_KIND_BOOL:
    case PROTO_KIND_ONE:
        return NULL;
    }
    UNREACHABLE();
}

static enum status encode_record(struct encoder *encoder, const struct proto_table *table, const void *object);

static enum status encode_list(struct encoder *encoder, const struct proto_field *field, const void *object)
{
    const struct proto_table *record = field->record();
    size_t count = field_count(field, object);
    const char *items = *(const char *const *)field_at(field, object);
    msgpack_pack_array(&encoder->packer, count);
    for (size_t i = 0; i < count; i++) {
        enum status status = encode_record(encoder, record, items + i * record->bytes);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static void encode_ids(struct encoder *encoder, const struct proto_field *field, const void *object)
{
    size_t count = field_count(field, object);
    const uint32_t *ids = *(const uint32_t *const *)field_at(field, object);
    msgpack_pack_array(&encoder->packer, count);
    for (size_t i = 0; i < count; i++) {
        msgpack_pack_uint32(&encoder->packer, ids[i]);
    }
}

static enum status encode_value(struct encoder *encoder, const struct proto_field *field, const void *object)
{
    msgpack_packer *packer = &encoder->packer;
    const void *at = field_at(field, object);
    const struct bytes *bytes = at;
    switch (field->kind) {
    case PROTO_KIND_U64:
        msgpack_pack_uint64(packer, *(const uint64_t *)at);
        return STATUS_OK;
    case PROTO_KIND_F64:
        msgpack_pack_double(packer, *(const double *)at);
        return STATUS_OK;
    case PROTO_KIND_BOOL:
        msgpack_pack_true(packer); /* false is left out */
        return STATUS_OK;
    case PROTO_KIND_TEXT:
        msgpack_pack_str_with_body(packer, bytes->data, bytes->length);
        return STATUS_OK;
    case PROTO_KIND_BLOB:
        msgpack_pack_bin_with_body(packer, bytes->data, bytes->length);
        return STATUS_OK;
    case PROTO_KIND_IDS:
        encode_ids(encoder, field, object);
        return STATUS_OK;
    case PROTO_KIND_ONE:
        return encode_record(encoder, field->record(), at);
    case PROTO_KIND_LIST:
        return encode_list(encoder, field, object);
    }
    UNREACHABLE();
}

static enum status encode_record(struct encoder *encoder, const struct proto_table *table, const void *object)
{
    size_t present = 0;
    for (size_t i = 0; i < table->fields_count; i++) {
        present += !field_is_zero(&table->fields[i], object);
    }
    msgpack_pack_map(&encoder->packer, present);
    for (size_t i = 0; i < table->fields_count; i++) {
        const struct proto_field *field = &table->fields[i];
        if (field_is_zero(field, object)) {
            continue;
        }
        enum status status;
        const char *fault = field_fault(field, object, &status);
        if (fault != NULL) {
            return field_error(encoder->error, status, encoder->message, table, field, fault);
        }
        msgpack_pack_uint8(&encoder->packer, field->tag);
        status = encode_value(encoder, field, object);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

enum status proto_encode(struct buf *out, enum proto_opcode opcode, const void *message, struct error *error)
{
    const struct proto_table *table = proto_table_of_opcode(opcode);
    CHECK(table != NULL);
    CHECK(message != NULL);
    size_t start = out->length;
    struct encoder encoder = {.message = table, .error = error};
    msgpack_packer_init(&encoder.packer, out, append_packed);
    msgpack_pack_array(&encoder.packer, ENVELOPE_ITEMS);
    msgpack_pack_uint8(&encoder.packer, PROTO_VERSION);
    msgpack_pack_uint8(&encoder.packer, table->opcode);
    enum status status = encode_record(&encoder, table, message);
    if (status == STATUS_OK && (out->overflow || out->length - start > PROTO_FRAME_BYTES_MAX)) {
        status = error_set(error, STATUS_LIMIT, "A %s frame is larger than its buffer or %d bytes.", table->name,
                           PROTO_FRAME_BYTES_MAX);
    }
    if (status != STATUS_OK && out->data != NULL) {
        out->length = start;
        out->data[start] = 0;
        out->overflow = false;
    }
    return status;
}

/* ---- decoder ---------------------------------------------------------------------------------------------------- */

struct decoder {
    struct cursor cursor;
    struct arena *arena;
    const struct proto_table *message;
    struct error *error;
};

static enum status decode_fault(struct decoder *decoder, enum status status, const struct proto_table *table,
                                const struct proto_field *field, const char *what)
{
    return field_error(decoder->error, status, decoder->message, table, field, what);
}

static enum status decode_map(struct decoder *decoder, const struct proto_table *table, const struct codec_item *map,
                              unsigned depth, void *object);

/* A whole number, whichever type it travels in. */
static bool item_is_number(const struct codec_item *item, uint64_t *out)
{
    if (item->type == CODEC_UINT) {
        *out = item->number;
        return true;
    }
    const double two_to_64 = 18446744073709551616.0;
    if (item->type == CODEC_FLOAT && item->real >= 0 && item->real < two_to_64 && trunc(item->real) == item->real) {
        *out = (uint64_t)item->real;
        return true;
    }
    return false;
}

static bool item_is_real(const struct codec_item *item, double *out)
{
    switch (item->type) {
    case CODEC_UINT:
        *out = (double)item->number;
        return true;
    case CODEC_NEGATIVE:
        *out = (double)item->negative;
        return true;
    case CODEC_FLOAT:
        *out = item->real;
        return true;
    default:
        return false;
    }
}

static enum status decode_bytes(struct decoder *decoder, const struct proto_table *table,
                                const struct proto_field *field, const struct codec_item *item, struct bytes *out)
{
    bool text = field->kind == PROTO_KIND_TEXT;
    if (item->type != (text ? CODEC_STR : CODEC_BIN)) {
        return decode_fault(decoder, STATUS_INVALID, table, field, text ? "must be a string" : "must be bytes");
    }
    if (item->bytes.length > field->max) {
        return decode_fault(decoder, STATUS_LIMIT, table, field, "is too long");
    }
    if (text && !codec_is_text(item->bytes)) {
        return decode_fault(decoder, STATUS_INVALID, table, field, "is not valid UTF-8 without NUL");
    }
    *out = item->bytes;
    return STATUS_OK;
}

static enum status decode_ids(struct decoder *decoder, const struct proto_table *table, const struct proto_field *field,
                              size_t count, const uint32_t **out)
{
    uint32_t *ids = arena_alloc_array(decoder->arena, count, sizeof(*ids));
    if (ids == NULL) {
        return decode_fault(decoder, STATUS_NO_MEMORY, table, field, "does not fit into memory");
    }
    for (size_t i = 0; i < count; i++) {
        struct codec_item item;
        uint64_t id;
        if (codec_read(&decoder->cursor, &item) != STATUS_OK || !item_is_number(&item, &id)) {
            return decode_fault(decoder, STATUS_INVALID, table, field, "must hold whole numbers only");
        }
        if (id > UINT32_MAX) {
            return decode_fault(decoder, STATUS_LIMIT, table, field, "holds a number above 2^32 - 1");
        }
        ids[i] = (uint32_t)id;
    }
    *out = ids;
    return STATUS_OK;
}

static enum status decode_list(struct decoder *decoder, const struct proto_table *table,
                               const struct proto_field *field, size_t count, unsigned depth, void **out)
{
    const struct proto_table *record = field->record();
    char *items = arena_alloc_array(decoder->arena, count, record->bytes);
    if (items == NULL) {
        return decode_fault(decoder, STATUS_NO_MEMORY, table, field, "does not fit into memory");
    }
    for (size_t i = 0; i < count; i++) {
        struct codec_item item;
        if (codec_read(&decoder->cursor, &item) != STATUS_OK) {
            return decode_fault(decoder, STATUS_INVALID, table, field, "is cut short");
        }
        enum status status = decode_map(decoder, record, &item, depth, items + i * record->bytes);
        if (status != STATUS_OK) {
            return status;
        }
    }
    *out = items;
    return STATUS_OK;
}

static enum status decode_array(struct decoder *decoder, const struct proto_table *table,
                                const struct proto_field *field, const struct codec_item *item, unsigned depth,
                                void *object)
{
    if (item->type != CODEC_ARRAY) {
        return decode_fault(decoder, STATUS_INVALID, table, field, "must be an array");
    }
    size_t count = item->count; /* codec_read saw that as many bytes are left */
    if (count > field->max) {
        return decode_fault(decoder, STATUS_LIMIT, table, field, "has too many items");
    }
    void *at = (char *)object + field->offset;
    if (count > 0) {
        enum status status = field->kind == PROTO_KIND_IDS ? decode_ids(decoder, table, field, count, at)
                                                           : decode_list(decoder, table, field, count, depth, at);
        if (status != STATUS_OK) {
            return status;
        }
    }
    memcpy((char *)object + field->count_offset, &count, sizeof(count));
    return STATUS_OK;
}

static enum status decode_value(struct decoder *decoder, const struct proto_table *table,
                                const struct proto_field *field, unsigned depth, void *object)
{
    struct codec_item item;
    if (codec_read(&decoder->cursor, &item) != STATUS_OK) {
        return decode_fault(decoder, STATUS_INVALID, table, field, "is cut short");
    }
    void *at = (char *)object + field->offset;
    switch (field->kind) {
    case PROTO_KIND_U64: {
        uint64_t *number = at;
        if (!item_is_number(&item, number)) {
            return decode_fault(decoder, STATUS_INVALID, table, field, "must be a whole number");
        }
        return *number <= field->max ? STATUS_OK
                                     : decode_fault(decoder, STATUS_LIMIT, table, field, "is above its maximum");
    }
    case PROTO_KIND_F64:
        if (!item_is_real(&item, at) || !isfinite(*(double *)at)) {
            return decode_fault(decoder, STATUS_INVALID, table, field, "must be a finite number");
        }
        return STATUS_OK;
    case PROTO_KIND_BOOL:
        if (item.type != CODEC_BOOL) {
            return decode_fault(decoder, STATUS_INVALID, table, field, "must be a boolean");
        }
        *(bool *)at = item.boolean;
        return STATUS_OK;
    case PROTO_KIND_TEXT:
    case PROTO_KIND_BLOB:
        return decode_bytes(decoder, table, field, &item, at);
    case PROTO_KIND_ONE:
        return decode_map(decoder, field->record(), &item, depth, at);
    case PROTO_KIND_IDS:
    case PROTO_KIND_LIST:
        return decode_array(decoder, table, field, &item, depth + 1, object);
    }
    UNREACHABLE();
}

/* A field of a later version: stepped over in messages, refused in commands, which every replica must read alike. */
static enum status decode_unknown(struct decoder *decoder, const struct proto_table *table, uint64_t tag,
                                  unsigned depth)
{
    if (decoder->message->kind == PROTO_TABLE_COMMAND) {
        return error_set(decoder->error, STATUS_UNSUPPORTED, "%s: %s has a field %llu that this version does not know.",
                         decoder->message->name, table->name, (unsigned long long)tag);
    }
    enum status status = codec_skip(&decoder->cursor, PROTO_DEPTH_MAX - depth);
    return status == STATUS_OK
               ? status
               : error_set(decoder->error, status, "%s: %s's field %llu is %s.", decoder->message->name, table->name,
                           (unsigned long long)tag, status == STATUS_LIMIT ? "nested too deep" : "cut short");
}

/* `map` is the item at the cursor, `depth` how many containers it is in; `object` is zeroed. */
static enum status decode_map(struct decoder *decoder, const struct proto_table *table, const struct codec_item *map,
                              unsigned depth, void *object)
{
    if (map->type != CODEC_MAP) {
        return error_set(decoder->error, STATUS_INVALID, "%s: %s must be a map, not %s.", decoder->message->name,
                         table->name, codec_type_name(map->type));
    }
    if (depth + 1 > PROTO_DEPTH_MAX) {
        return error_set(decoder->error, STATUS_LIMIT, "%s: %s is nested too deep.", decoder->message->name,
                         table->name);
    }
    uint64_t seen[2] = {0, 0};
    for (uint32_t i = 0; i < map->count; i++) {
        struct codec_item key;
        if (codec_read(&decoder->cursor, &key) != STATUS_OK || key.type != CODEC_UINT || key.number < 1 ||
            key.number > TAG_MAX) {
            return error_set(decoder->error, STATUS_INVALID, "%s: a tag of %s is not a number from 1 to %d.",
                             decoder->message->name, table->name, TAG_MAX);
        }
        uint64_t bit = UINT64_C(1) << (key.number % 64);
        if (seen[key.number / 64] & bit) {
            return error_set(decoder->error, STATUS_INVALID, "%s: tag %llu of %s comes twice.", decoder->message->name,
                             (unsigned long long)key.number, table->name);
        }
        seen[key.number / 64] |= bit;
        const struct proto_field *field = proto_table_field(table, key.number);
        enum status status = field != NULL ? decode_value(decoder, table, field, depth + 1, object)
                                           : decode_unknown(decoder, table, key.number, depth + 1);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

/* [version, opcode, map]: leaves the cursor behind the map's header. */
static enum status decode_envelope(struct cursor *cursor, const struct proto_table **table, struct codec_item *map,
                                   struct error *error)
{
    struct codec_item array, version, opcode;
    if (codec_read(cursor, &array) != STATUS_OK || array.type != CODEC_ARRAY || array.count != ENVELOPE_ITEMS ||
        codec_read(cursor, &version) != STATUS_OK || version.type != CODEC_UINT ||
        codec_read(cursor, &opcode) != STATUS_OK || opcode.type != CODEC_UINT) {
        return error_set(error, STATUS_INVALID, "A frame is not [version, opcode, fields].");
    }
    if (version.number != PROTO_VERSION) {
        return error_set(error, STATUS_UNSUPPORTED, "A frame has version %llu; this is version %d.",
                         (unsigned long long)version.number, PROTO_VERSION);
    }
    *table = proto_table_of_opcode(opcode.number);
    if (*table == NULL) {
        return error_set(error, STATUS_UNSUPPORTED, "A frame has the unknown opcode %llu.",
                         (unsigned long long)opcode.number);
    }
    if (codec_read(cursor, map) != STATUS_OK) {
        return error_set(error, STATUS_INVALID, "%s is cut short.", (*table)->name);
    }
    return STATUS_OK;
}

enum status proto_decode(struct bytes frame, struct arena *arena, struct proto_message *out, struct error *error)
{
    if (frame.length > PROTO_FRAME_BYTES_MAX) {
        return error_set(error, STATUS_LIMIT, "A frame of %zu bytes is larger than %d.", frame.length,
                         PROTO_FRAME_BYTES_MAX);
    }
    struct decoder decoder = {.cursor = cursor_of(frame), .arena = arena, .error = error};
    struct codec_item map;
    enum status status = decode_envelope(&decoder.cursor, &decoder.message, &map, error);
    if (status != STATUS_OK) {
        return status;
    }
    struct proto_message message;
    memset(&message, 0, sizeof(message));
    message.opcode = (enum proto_opcode)decoder.message->opcode;
    status = decode_map(&decoder, decoder.message, &map, 1, &message.any);
    if (status == STATUS_OK && cursor_left(&decoder.cursor) != 0) {
        status = error_set(error, STATUS_INVALID, "%zu bytes trail a %s frame.", cursor_left(&decoder.cursor),
                           decoder.message->name);
    }
    if (status == STATUS_OK) {
        *out = message;
    }
    return status;
}

const char *proto_opcode_name(enum proto_opcode opcode)
{
    const struct proto_table *table = proto_table_of_opcode(opcode);
    return table != NULL ? table->name : "unknown";
}

bool proto_opcode_is_command(enum proto_opcode opcode)
{
    const struct proto_table *table = proto_table_of_opcode(opcode);
    return table != NULL && table->kind == PROTO_TABLE_COMMAND;
}

unsigned proto_peek_opcode(struct bytes frame)
{
    struct cursor cursor = cursor_of(frame);
    const struct proto_table *table = NULL;
    struct codec_item map;
    return decode_envelope(&cursor, &table, &map, NULL) == STATUS_OK ? table->opcode : 0;
}
