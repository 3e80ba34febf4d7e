/* random_message: see random_message.h. */
#include "tests/unit/proto/random_message.h"

#include <string.h>

#include "base/bytes.h"
#include "base/check.h"

enum { COUNT_USUAL_MAX = 5, TEXT_USUAL_MAX = 40, MAXIMUM_TRIED_MAX = 4096 };

static uint64_t random_length(struct rng *rng, uint64_t max, uint64_t usual_max)
{
    if (max <= MAXIMUM_TRIED_MAX && rng_below(rng, 10) == 0) {
        return max;
    }
    return 1 + rng_below(rng, MIN_OF(max, usual_max));
}

static struct bytes random_bytes(struct rng *rng, struct arena *arena, uint64_t length)
{
    uint8_t *data = arena_alloc(arena, length);
    CHECK(data != NULL);
    for (uint64_t i = 0; i < length; i++) {
        data[i] = (uint8_t)rng_u64(rng);
    }
    return bytes_of(data, length);
}

/* Characters of 1 to 4 bytes, exactly `length` bytes. */
static struct bytes random_text(struct rng *rng, struct arena *arena, uint64_t length)
{
    static const char *const characters[] = {"a", "\x7f", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\n"};
    char *text = arena_alloc(arena, length);
    CHECK(text != NULL);
    for (uint64_t at = 0; at < length;) {
        const char *character = characters[rng_below(rng, COUNT_OF(characters))];
        size_t bytes = strlen(character);
        if (bytes <= length - at) {
            memcpy(text + at, character, bytes);
            at += bytes;
        }
    }
    return bytes_of(text, length);
}

static uint64_t random_number(struct rng *rng, uint64_t max)
{
    uint64_t number = rng_u64(rng) >> rng_below(rng, 64);
    return rng_below(rng, 10) == 0 ? max : MIN_OF(number, max);
}

static void *random_array(struct rng *rng, const struct proto_field *field, struct arena *arena, void *object)
{
    uint64_t count = field->kind == PROTO_KIND_IDS ? random_length(rng, field->max, 50)
                                                   : 1 + rng_below(rng, MIN_OF(field->max, COUNT_USUAL_MAX));
    memcpy((char *)object + field->count_offset, &count, sizeof(count));
    size_t item_bytes = field->kind == PROTO_KIND_IDS ? sizeof(uint32_t) : field->record()->bytes;
    char *items = arena_alloc_array(arena, count, item_bytes);
    CHECK(items != NULL);
    for (uint64_t i = 0; i < count; i++) {
        if (field->kind == PROTO_KIND_IDS) {
            uint32_t id = (uint32_t)random_number(rng, UINT32_MAX);
            memcpy(items + i * item_bytes, &id, sizeof(id));
        } else {
            random_message(rng, field->record(), arena, items + i * item_bytes);
        }
    }
    return items;
}

void random_message(struct rng *rng, const struct proto_table *table, struct arena *arena, void *object)
{
    for (size_t i = 0; i < table->fields_count; i++) {
        const struct proto_field *field = &table->fields[i];
        void *at = (char *)object + field->offset;
        if (rng_below(rng, 3) == 0) {
            continue;
        }
        switch (field->kind) {
        case PROTO_KIND_U64:
            *(uint64_t *)at = random_number(rng, field->max);
            break;
        case PROTO_KIND_F64:
            *(double *)at = (rng_unit(rng) - 0.5) * (double)random_number(rng, UINT64_MAX);
            break;
        case PROTO_KIND_BOOL:
            *(bool *)at = true;
            break;
        case PROTO_KIND_TEXT:
            *(struct bytes *)at = random_text(rng, arena, random_length(rng, field->max, TEXT_USUAL_MAX));
            break;
        case PROTO_KIND_BLOB:
            *(struct bytes *)at = random_bytes(rng, arena, random_length(rng, field->max, TEXT_USUAL_MAX));
            break;
        case PROTO_KIND_ONE:
            random_message(rng, field->record(), arena, at);
            break;
        case PROTO_KIND_IDS:
        case PROTO_KIND_LIST:
            *(void **)at = random_array(rng, field, arena, object);
            break;
        }
    }
}

static bool field_equal(const struct proto_field *field, const void *a, const void *b)
{
    const char *at_a = (const char *)a + field->offset, *at_b = (const char *)b + field->offset;
    size_t count_a, count_b;
    switch (field->kind) {
    case PROTO_KIND_U64:
    case PROTO_KIND_F64:
        return memcmp(at_a, at_b, sizeof(uint64_t)) == 0;
    case PROTO_KIND_BOOL:
        return *(const bool *)at_a == *(const bool *)at_b;
    case PROTO_KIND_TEXT:
    case PROTO_KIND_BLOB:
        return bytes_equal(*(const struct bytes *)(const void *)at_a, *(const struct bytes *)(const void *)at_b);
    case PROTO_KIND_ONE:
        return message_equal(field->record(), at_a, at_b);
    case PROTO_KIND_IDS:
    case PROTO_KIND_LIST:
        break;
    }
    memcpy(&count_a, (const char *)a + field->count_offset, sizeof(count_a));
    memcpy(&count_b, (const char *)b + field->count_offset, sizeof(count_b));
    const char *items_a = *(const char *const *)(const void *)at_a, *items_b = *(const char *const *)(const void *)at_b;
    if (count_a != count_b || count_a == 0) {
        return count_a == count_b;
    }
    if (field->kind == PROTO_KIND_IDS) {
        return memcmp(items_a, items_b, count_a * sizeof(uint32_t)) == 0;
    }
    size_t bytes = field->record()->bytes;
    for (size_t i = 0; i < count_a; i++) {
        if (!message_equal(field->record(), items_a + i * bytes, items_b + i * bytes)) {
            return false;
        }
    }
    return true;
}

bool message_equal(const struct proto_table *table, const void *a, const void *b)
{
    for (size_t i = 0; i < table->fields_count; i++) {
        if (!field_equal(&table->fields[i], a, b)) {
            return false;
        }
    }
    return true;
}
