/* safetensors: see safetensors.h. */
#include "model/safetensors.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/owner.h"

static enum status type_of(const struct json *value, struct bytes name, enum model_type *out, struct error *error)
{
    static const struct {
        const char *name;
        enum model_type type;
    } types[] = {{"F32", MODEL_F32}, {"F16", MODEL_F16}, {"BF16", MODEL_BF16}};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        if (json_is_string(value, types[i].name)) {
            *out = types[i].type;
            return STATUS_OK;
        }
    }
    return error_set(error, STATUS_UNSUPPORTED, "tensor %.128s has dtype %.32s; F32, F16 and BF16 are read",
                     (const char *)name.data, json_kind(value) == JSON_STRING ? json_text(value) : "(none)");
}

static enum status damaged(struct bytes name, const char *what, struct error *error)
{
    return error_set(error, STATUS_INVALID, "tensor %.128s: %s", (const char *)name.data, what);
}

/* {"dtype": "F16", "shape": [64, 32], "data_offsets": [0, 4096]} */
static enum status read_entry(struct bytes name, const struct json *entry, struct bytes data, struct tensors *into,
                              const char *file, struct error *error)
{
    struct tensors_claim claim = {.name = name, .file = file};
    enum status status = type_of(json_get(entry, "dtype"), name, &claim.type, error);
    if (status != STATUS_OK)
        return status;
    const struct json *shape = json_get(entry, "shape"), *offsets = json_get(entry, "data_offsets");
    claim.dims = json_count(shape);
    if (json_kind(shape) != JSON_ARRAY || claim.dims > TENSORS_DIMS_MAX)
        return damaged(name, "its shape is no list of up to 4 numbers", error);
    for (size_t i = 0; i < claim.dims; i++) {
        int64_t size = json_integer(json_at(shape, i), -1);
        if (size < 0)
            return damaged(name, "its shape has an entry that is no size", error);
        claim.shape[i] = (uint64_t)size;
    }
    int64_t begin = json_integer(json_at(offsets, 0), -1), end = json_integer(json_at(offsets, 1), -1);
    if (json_kind(offsets) != JSON_ARRAY || json_count(offsets) != 2 || begin < 0 || end < begin)
        return damaged(name, "its data_offsets are no begin and end", error);
    claim.offset = (uint64_t)begin;
    uint64_t bytes = 0;
    status = tensors_add(into, &claim, data, &bytes, error);
    if (status == STATUS_OK && bytes != (uint64_t)(end - begin))
        return damaged(name, "its data_offsets don't fit its dtype and shape", error);
    return status;
}

static enum status read_header(const struct json *header, struct bytes data, const char *name, struct tensors *into,
                               struct error *error)
{
    if (json_kind(header) != JSON_OBJECT)
        return error_set(error, STATUS_INVALID, "the header is no JSON object");
    void *iterator = NULL;
    struct bytes key;
    const struct json *entry;
    while (json_next(header, &iterator, &key, &entry)) {
        if (bytes_equal(key, BYTES_LITERAL("__metadata__")))
            continue;
        enum status status = read_entry(key, entry, data, into, name, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

enum status safetensors_read(struct bytes file, const char *name, struct tensors *into, struct error *error)
{
    struct cursor cursor = cursor_of(file);
    uint64_t length = cursor_u64le(&cursor);
    if (!cursor.bad && length > SAFETENSORS_HEADER_MAX)
        return error_set(error, STATUS_INVALID, "%s claims a header of %llu bytes: not a safetensors file", name,
                         (unsigned long long)length);
    struct bytes text = cursor_take(&cursor, length);
    if (cursor.bad)
        return error_set(error, STATUS_INVALID, "%s ends inside of its header: it is cut off, fetch it again", name);
    struct json *header = NULL;
    enum status status = json_parse(text, &header, error);
    if (status == STATUS_OK) {
        struct bytes data = bytes_of(file.data + cursor.at, file.length - cursor.at);
        status = read_header(header, data, name, into, error);
    }
    if (status != STATUS_OK)
        error_prefix(error, "%s", name);
    json_free(header);
    return status;
}

static enum status load_file(const char *folder, const char *name, struct model_desc *desc, struct tensors *into,
                             struct error *error)
{
    char *path = file_join(folder, name);
    const char *kept = desc_text(desc, bytes_of_text(name));
    struct bytes bytes;
    enum status status = kept == NULL ? desc_no_memory(error) : desc_map(desc, path, &bytes, error);
    if (status == STATUS_OK)
        status = safetensors_read(bytes, kept, into, error);
    else if (status == STATUS_NOT_FOUND)
        error_set(error, status, "%s is missing: the model is incomplete, fetch it again", path);
    mem_free(path);
    return status;
}

static bool plain_name(const char *name)
{
    return name != NULL && name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL && strlen(name) < 256;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Loads every file that the map names, once, in the order of their names. */
static enum status load_shards(const char *folder, const struct json *map, struct model_desc *desc,
                               struct tensors *into, struct error *error)
{
    size_t count = json_count(map), shards = 0;
    const char **names = mem_alloc_array(count, sizeof *names);
    void *iterator = NULL;
    const struct json *value;
    enum status status = STATUS_OK;
    for (size_t i = 0; json_next(map, &iterator, NULL, &value) && status == STATUS_OK; i++) {
        names[i] = json_text(value);
        if (!plain_name(names[i]))
            status = error_set(error, STATUS_INVALID, "the index names a file that isn't one of the folder");
    }
    if (status == STATUS_OK)
        qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        if (i > 0 && strcmp(names[i], names[i - 1]) == 0)
            continue;
        if (++shards > SAFETENSORS_SHARDS_MAX)
            status = error_set(error, STATUS_LIMIT, "more than %d shards", SAFETENSORS_SHARDS_MAX);
        else
            status = load_file(folder, names[i], desc, into, error);
    }
    mem_free(names);
    return status;
}

/* Each tensor of the index must be in the file that the index names. */
static enum status check_places(const struct json *map, const struct tensors *tensors, struct error *error)
{
    void *iterator = NULL;
    struct bytes key;
    const struct json *value;
    while (json_next(map, &iterator, &key, &value)) {
        const struct tensors_entry *entry = map_get(&tensors->by_name, key);
        if (entry == NULL || strcmp(entry->file, json_text(value)) != 0)
            return error_set(error, STATUS_INVALID,
                             "tensor %.128s is not in %.128s, where the index has it: the "
                             "model is incomplete or mixed, fetch it again",
                             (const char *)key.data, json_text(value));
    }
    return STATUS_OK;
}

static enum status load_index(const char *folder, const char *path, struct model_desc *desc, struct tensors *into,
                              struct error *error)
{
    struct buf text;
    struct json *index = NULL;
    buf_init(&text, SAFETENSORS_HEADER_MAX);
    enum status status = file_read(path, SAFETENSORS_HEADER_MAX, &text, error);
    if (status == STATUS_OK)
        status = json_parse(buf_bytes(&text), &index, error);
    const struct json *map = json_get(index, "weight_map");
    if (status == STATUS_OK && (json_kind(map) != JSON_OBJECT || json_count(map) == 0 || json_count(map) > TENSORS_MAX))
        status = error_set(error, STATUS_INVALID, "weight_map is missing, empty or too long");
    if (status == STATUS_OK)
        status = load_shards(folder, map, desc, into, error);
    if (status == STATUS_OK)
        status = check_places(map, into, error);
    if (status != STATUS_OK)
        error_prefix(error, "model.safetensors.index.json");
    json_free(index);
    buf_free(&text);
    return status;
}

enum status safetensors_load(const char *folder, struct model_desc *desc, struct tensors *into, struct error *error)
{
    char *single = file_join(folder, "model.safetensors");
    char *index = file_join(folder, "model.safetensors.index.json");
    enum status status;
    if (file_exists(single))
        status = load_file(folder, "model.safetensors", desc, into, error);
    else if (file_exists(index))
        status = load_index(folder, index, desc, into, error);
    else
        status = error_set(error, STATUS_NOT_FOUND,
                           "the folder has no weights: neither model.safetensors nor "
                           "model.safetensors.index.json is there");
    mem_free(single);
    mem_free(index);
    return status;
}
