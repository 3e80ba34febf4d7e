/* gguf: see gguf.h. The container only: what the keys and tensors mean is gguf_load.c's and gguf_vocab.c's business. */
#include "model/gguf.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "model/owner.h"

enum { ALIGNMENT_DEFAULT = 32, KEY_LENGTH_MAX = 65535, ARRAY_DEPTH_MAX = 4 };

static const uint8_t scalar_bytes[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2, [GGUF_I16] = 2,  [GGUF_U32] = 4, [GGUF_I32] = 4,
    [GGUF_F32] = 4, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_BOOL] = 1, [GGUF_F64] = 8,
};

/* ggml's numbers of the tensor types; those without a shoal type are known by name only, to say so. */
struct ggml_type {
    uint32_t number;
    const char *name;
    int type; /* enum model_type, or -1 */
};

static const struct ggml_type ggml_types[] = {
    {0, "F32", MODEL_F32},    {1, "F16", MODEL_F16}, {2, "Q4_0", MODEL_Q4_0}, {3, "Q4_1", MODEL_Q4_1},
    {6, "Q5_0", -1},          {7, "Q5_1", -1},       {8, "Q8_0", MODEL_Q8_0}, {9, "Q8_1", -1},
    {10, "Q2_K", -1},         {11, "Q3_K", -1},      {12, "Q4_K", -1},        {13, "Q5_K", -1},
    {14, "Q6_K", -1},         {15, "Q8_K", -1},      {16, "IQ2_XXS", -1},     {17, "IQ2_XS", -1},
    {18, "IQ3_XXS", -1},      {19, "IQ1_S", -1},     {20, "IQ4_NL", -1},      {21, "IQ3_S", -1},
    {22, "IQ2_S", -1},        {23, "IQ4_XS", -1},    {24, "I8", -1},          {25, "I16", -1},
    {26, "I32", -1},          {27, "I64", -1},       {28, "F64", -1},         {29, "IQ1_M", -1},
    {30, "BF16", MODEL_BF16},
};

static enum status cut_off(const char *where, struct error *error)
{
    return error_set(error, STATUS_INVALID,
                     "the GGUF file ends inside of its %s: it is cut off or damaged, fetch it "
                     "again",
                     where);
}

static struct bytes take_string(struct cursor *cursor)
{
    uint64_t length = cursor_u64le(cursor);
    return cursor_take(cursor, length);
}

/* Walks `count` elements of `type` without keeping anything; false when they don't fit or have an unknown type. */
static bool skip_elements(struct cursor *cursor, uint32_t type, uint64_t count, int depth)
{
    if (type >= GGUF_TYPE_COUNT || depth > ARRAY_DEPTH_MAX)
        return false;
    uint64_t size;
    if (scalar_bytes[type] != 0) {
        if (__builtin_mul_overflow(count, (uint64_t)scalar_bytes[type], &size))
            return false;
        cursor_skip(cursor, size);
        return !cursor->bad;
    }
    /* Each further element takes at least 8 bytes, so the loop is bounded by the file. */
    for (uint64_t i = 0; i < count && !cursor->bad; i++) {
        if (type == GGUF_STRING) {
            take_string(cursor);
            continue;
        }
        uint32_t inner = cursor_u32le(cursor);
        uint64_t inner_count = cursor_u64le(cursor);
        if (!skip_elements(cursor, inner, inner_count, depth + 1))
            return false;
    }
    return !cursor->bad;
}

static bool read_value(struct cursor *cursor, struct gguf_value *value)
{
    uint32_t type = cursor_u32le(cursor);
    if (type >= GGUF_TYPE_COUNT)
        return false;
    value->type = (enum gguf_type)type;
    if (type == GGUF_STRING) {
        value->raw = take_string(cursor);
        return !cursor->bad;
    }
    if (type != GGUF_ARRAY) {
        value->raw = cursor_take(cursor, scalar_bytes[type]);
        return !cursor->bad;
    }
    uint32_t element = cursor_u32le(cursor);
    value->count = cursor_u64le(cursor);
    size_t start = cursor->at;
    if (!skip_elements(cursor, element, value->count, 0))
        return false;
    value->element = (enum gguf_type)element;
    value->raw = bytes_of(cursor->data + start, cursor->at - start);
    return true;
}

static enum status read_values(struct cursor *cursor, uint64_t count, struct arena *arena, struct gguf *out,
                               struct error *error)
{
    if (count > GGUF_VALUES_MAX || count > cursor_left(cursor) / 13) /* the shortest entry: empty key, type, one byte */
        return error_set(error, STATUS_INVALID, "the GGUF file claims %llu metadata entries in %zu bytes",
                         (unsigned long long)count, cursor_left(cursor));
    struct gguf_value *values = arena_alloc_array(arena, count, sizeof *values);
    if (values == NULL && count > 0)
        return desc_no_memory(error);
    for (uint64_t i = 0; i < count; i++) {
        struct bytes key = take_string(cursor);
        if (cursor->bad)
            return cut_off("metadata", error);
        if (key.length > KEY_LENGTH_MAX)
            return error_set(error, STATUS_INVALID, "metadata key %llu is %zu bytes long", (unsigned long long)i,
                             key.length);
        int key_length = (int)MIN_OF(key.length, (size_t)128);
        if (!read_value(cursor, &values[i]))
            return error_set(error, STATUS_INVALID, "metadata %.*s has an unknown type or ends outside of the file",
                             key_length, (const char *)key.data);
        if (map_get(&out->by_key, key) != NULL)
            return error_set(error, STATUS_INVALID, "metadata %.*s is there twice", key_length, (const char *)key.data);
        if (map_put(&out->by_key, key, &values[i]) != STATUS_OK)
            return desc_no_memory(error);
    }
    return STATUS_OK;
}

static enum status type_of(uint32_t number, struct bytes name, enum model_type *out, struct error *error)
{
    int length = (int)MIN_OF(name.length, (size_t)128);
    for (size_t i = 0; i < COUNT_OF(ggml_types); i++) {
        if (ggml_types[i].number != number)
            continue;
        if (ggml_types[i].type < 0)
            return error_set(error, STATUS_UNSUPPORTED,
                             "tensor %.*s has type %s; shoal reads F32, F16, BF16, Q8_0, "
                             "Q4_0 and Q4_1: take a file in one of these",
                             length, (const char *)name.data, ggml_types[i].name);
        *out = (enum model_type)ggml_types[i].type;
        return STATUS_OK;
    }
    return error_set(error, STATUS_UNSUPPORTED, "tensor %.*s has the unknown type %u", length, (const char *)name.data,
                     number);
}

/* One tensor's row of the header. ggml's dimensions are innermost first, a claim's outermost first. */
static enum status read_claim(struct cursor *cursor, struct tensors_claim *claim, struct error *error)
{
    *claim = (struct tensors_claim){.file = ""};
    claim->name = take_string(cursor);
    uint32_t dims = cursor_u32le(cursor);
    if (cursor->bad)
        return cut_off("table of tensors", error);
    int length = (int)MIN_OF(claim->name.length, (size_t)128);
    if (dims < 1 || dims > TENSORS_DIMS_MAX)
        return error_set(error, STATUS_INVALID, "tensor %.*s claims %u dimensions", length,
                         (const char *)claim->name.data, dims);
    for (size_t i = 0; i < dims; i++)
        claim->shape[dims - 1 - i] = cursor_u64le(cursor);
    claim->dims = dims;
    uint32_t type = cursor_u32le(cursor);
    claim->offset = cursor_u64le(cursor);
    if (cursor->bad)
        return cut_off("table of tensors", error);
    return type_of(type, claim->name, &claim->type, error);
}

static enum status alignment_of(const struct gguf *gguf, uint64_t *out, struct error *error)
{
    const struct gguf_value *value = gguf_get(gguf, "general.alignment");
    *out = ALIGNMENT_DEFAULT;
    if (value == NULL)
        return STATUS_OK;
    if (!gguf_unsigned(value, out) || *out < 8 || *out > 65536 || (*out & (*out - 1)) != 0)
        return error_set(error, STATUS_INVALID, "general.alignment must be a power of two within 8 to 65536");
    return STATUS_OK;
}

/* The claims come first, the weights behind them, so the table is walked twice: once to find where the weights begin.
 */
static enum status read_tensors(struct bytes file, struct cursor *cursor, uint64_t count, struct gguf *out,
                                struct error *error)
{
    if (count > TENSORS_MAX)
        return error_set(error, STATUS_LIMIT, "the GGUF file claims %llu tensors; %d is the limit",
                         (unsigned long long)count, TENSORS_MAX);
    uint64_t alignment;
    struct tensors_claim claim;
    enum status status = alignment_of(out, &alignment, error);
    struct cursor table = *cursor;
    for (uint64_t i = 0; i < count && status == STATUS_OK; i++)
        status = read_claim(&table, &claim, error);
    if (status != STATUS_OK)
        return status;
    uint64_t start = (table.at + alignment - 1) / alignment * alignment;
    struct bytes data = start < file.length ? bytes_of(file.data + start, file.length - start) : bytes_of(file.data, 0);
    for (uint64_t i = 0; i < count && status == STATUS_OK; i++) {
        uint64_t size = 0;
        status = read_claim(cursor, &claim, error);
        if (status == STATUS_OK && claim.offset % alignment != 0)
            status = error_set(error, STATUS_INVALID, "tensor %.*s begins at %llu, which isn't aligned to %llu",
                               (int)MIN_OF(claim.name.length, (size_t)128), (const char *)claim.name.data,
                               (unsigned long long)claim.offset, (unsigned long long)alignment);
        if (status == STATUS_OK)
            status = tensors_add(&out->tensors, &claim, data, &size, error);
    }
    return status;
}

enum status gguf_read(struct bytes file, struct arena *arena, struct gguf *out, struct error *error)
{
    *out = (struct gguf){0};
    map_init(&out->by_key, GGUF_VALUES_MAX);
    tensors_init(&out->tensors, arena);
    struct cursor cursor = cursor_of(file);
    struct bytes magic = cursor_take(&cursor, 4);
    if (!bytes_equal(magic, BYTES_LITERAL("GGUF")))
        return error_set(error, STATUS_INVALID, "not a GGUF file: it doesn't begin with GGUF");
    out->version = cursor_u32le(&cursor);
    if (__builtin_bswap32(out->version) >= 1 && __builtin_bswap32(out->version) <= 3)
        return error_set(error, STATUS_UNSUPPORTED, "a big-endian GGUF file; shoal reads little-endian ones");
    if (!cursor.bad && out->version != 2 && out->version != 3)
        return error_set(error, STATUS_UNSUPPORTED, "GGUF version %u; shoal reads 2 and 3: convert the model anew",
                         out->version);
    uint64_t tensors_count = cursor_u64le(&cursor);
    uint64_t values_count = cursor_u64le(&cursor);
    if (cursor.bad)
        return cut_off("header", error);
    enum status status = read_values(&cursor, values_count, arena, out, error);
    return status == STATUS_OK ? read_tensors(file, &cursor, tensors_count, out, error) : status;
}

void gguf_free(struct gguf *gguf)
{
    map_free(&gguf->by_key);
    tensors_free(&gguf->tensors);
}

const struct gguf_value *gguf_get(const struct gguf *gguf, const char *key)
{
    return map_get(&gguf->by_key, bytes_of_text(key));
}

bool gguf_unsigned(const struct gguf_value *value, uint64_t *out)
{
    if (value == NULL)
        return false;
    const uint8_t *raw = value->raw.data;
    int64_t number;
    switch (value->type) {
    case GGUF_U8:
        number = raw[0];
        break;
    case GGUF_I8:
        number = (int8_t)raw[0];
        break;
    case GGUF_U16:
        number = load_u16le(raw);
        break;
    case GGUF_I16:
        number = (int16_t)load_u16le(raw);
        break;
    case GGUF_U32:
        number = load_u32le(raw);
        break;
    case GGUF_I32:
        number = (int32_t)load_u32le(raw);
        break;
    case GGUF_U64:
    case GGUF_I64:
        number = (int64_t)load_u64le(raw); /* beyond int64_t is as absurd as below zero */
        break;
    default:
        return false;
    }
    if (number < 0)
        return false;
    *out = (uint64_t)number;
    return true;
}

bool gguf_real(const struct gguf_value *value, double *out)
{
    if (value == NULL)
        return false;
    if (value->type == GGUF_F32) {
        uint32_t bits = load_u32le(value->raw.data);
        float number;
        memcpy(&number, &bits, sizeof number);
        *out = (double)number;
        return isfinite(number);
    }
    if (value->type == GGUF_F64) {
        uint64_t bits = load_u64le(value->raw.data);
        memcpy(out, &bits, sizeof *out);
        return isfinite(*out);
    }
    return false;
}

bool gguf_bool(const struct gguf_value *value, bool otherwise)
{
    return value != NULL && value->type == GGUF_BOOL ? value->raw.data[0] != 0 : otherwise;
}

struct bytes gguf_string(const struct gguf_value *value)
{
    return value != NULL && value->type == GGUF_STRING ? value->raw : bytes_of(NULL, 0);
}

bool gguf_is_array(const struct gguf_value *value, enum gguf_type element)
{
    return value != NULL && value->type == GGUF_ARRAY && value->element == element;
}
