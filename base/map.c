/* map: linear probing over slots that remember their hash, with tombstones for removed keys.
 *
 * Short keys live inside the slot (no allocation for integers and most ids). The table grows, or is rebuilt in place
 * size, when live keys and tombstones pass three quarters, so a probe always meets an empty slot. */
#include "base/map.h"

#include <string.h>

#include "base/check.h"
#include "base/crypto.h"
#include "base/hash.h"
#include "base/mem.h"

enum { CAPACITY_FIRST = 16, KEY_INLINE_MAX = 24 };

enum slot_state { SLOT_EMPTY, SLOT_USED, SLOT_REMOVED };

struct map_slot {
    uint64_t hash;
    void *value;
    union {
        uint8_t near[KEY_INLINE_MAX];
        uint8_t *far;
    } key;
    uint32_t key_length;
    enum slot_state state;
};

static uint64_t hash_seed;

/* Before main: no thread exists yet, and every map of the process shares the seed. */
__attribute__((constructor)) static void seed_hash(void)
{
    crypto_entropy(&hash_seed, sizeof hash_seed);
}

void map_init(struct map *map, size_t count_max)
{
    *map = (struct map){.count_max = count_max};
}

static const uint8_t *slot_key(const struct map_slot *slot)
{
    return slot->key_length <= KEY_INLINE_MAX ? slot->key.near : slot->key.far;
}

static void slot_drop_key(struct map_slot *slot)
{
    if (slot->state == SLOT_USED && slot->key_length > KEY_INLINE_MAX)
        mem_free(slot->key.far);
}

void map_free(struct map *map)
{
    for (size_t i = 0; i < map->capacity; i++)
        slot_drop_key(&map->slots[i]);
    mem_free(map->slots);
    map_init(map, map->count_max);
}

static struct map_slot *find(const struct map *map, struct bytes key, uint64_t hash)
{
    if (map->capacity == 0)
        return NULL;
    for (size_t i = hash & (map->capacity - 1);; i = (i + 1) & (map->capacity - 1)) {
        struct map_slot *slot = &map->slots[i];
        if (slot->state == SLOT_EMPTY)
            return NULL;
        if (slot->state == SLOT_USED && slot->hash == hash && slot->key_length == key.length &&
            (key.length == 0 || memcmp(slot_key(slot), key.data, key.length) == 0))
            return slot;
    }
}

/* The first slot on the key's way that holds no live key. */
static struct map_slot *find_free(struct map_slot *slots, size_t capacity, uint64_t hash)
{
    size_t i = hash & (capacity - 1);
    while (slots[i].state == SLOT_USED)
        i = (i + 1) & (capacity - 1);
    return &slots[i];
}

/* Moves the live slots into a table with at most half of it in use, which also sheds the tombstones. */
static void rebuild(struct map *map)
{
    size_t capacity = CAPACITY_FIRST;
    while (capacity < (map->count + 1) * 2)
        capacity *= 2;
    struct map_slot *slots = mem_new_array(struct map_slot, capacity);
    for (size_t i = 0; i < map->capacity; i++) {
        if (map->slots[i].state == SLOT_USED)
            *find_free(slots, capacity, map->slots[i].hash) = map->slots[i];
    }
    mem_free(map->slots);
    map->slots = slots;
    map->capacity = capacity;
    map->tombstones = 0;
}

enum status map_put(struct map *map, struct bytes key, void *value)
{
    CHECK(value != NULL); /* NULL is how map_get says "absent" */
    if (key.length > UINT32_MAX)
        return STATUS_LIMIT;
    uint64_t hash = hash_xx64(key.data, key.length, hash_seed);
    struct map_slot *slot = find(map, key, hash);
    if (slot != NULL) {
        slot->value = value;
        return STATUS_OK;
    }
    if (map->count >= map->count_max)
        return STATUS_FULL;
    if ((map->count + map->tombstones + 1) * 4 > map->capacity * 3)
        rebuild(map);
    slot = find_free(map->slots, map->capacity, hash);
    if (slot->state == SLOT_REMOVED)
        map->tombstones--;
    *slot = (struct map_slot){.hash = hash, .value = value, .key_length = (uint32_t)key.length, .state = SLOT_USED};
    if (key.length > KEY_INLINE_MAX)
        slot->key.far = mem_dup(key.data, key.length);
    else if (key.length > 0)
        memcpy(slot->key.near, key.data, key.length);
    map->count++;
    return STATUS_OK;
}

void *map_get(const struct map *map, struct bytes key)
{
    struct map_slot *slot = find(map, key, hash_xx64(key.data, key.length, hash_seed));
    return slot == NULL ? NULL : slot->value;
}

void *map_remove(struct map *map, struct bytes key)
{
    struct map_slot *slot = find(map, key, hash_xx64(key.data, key.length, hash_seed));
    if (slot == NULL)
        return NULL;
    void *value = slot->value;
    slot_drop_key(slot);
    *slot = (struct map_slot){.state = SLOT_REMOVED};
    map->count--;
    map->tombstones++;
    return value;
}

enum status map_put_u64(struct map *map, uint64_t key, void *value)
{
    return map_put(map, bytes_of(&key, sizeof key), value);
}

void *map_get_u64(const struct map *map, uint64_t key)
{
    return map_get(map, bytes_of(&key, sizeof key));
}

void *map_remove_u64(struct map *map, uint64_t key)
{
    return map_remove(map, bytes_of(&key, sizeof key));
}

bool map_next(const struct map *map, size_t *at, struct bytes *key, void **value)
{
    while (*at < map->capacity) {
        const struct map_slot *slot = &map->slots[(*at)++];
        if (slot->state != SLOT_USED)
            continue;
        if (key != NULL)
            *key = bytes_of(slot_key(slot), slot->key_length);
        if (value != NULL)
            *value = slot->value;
        return true;
    }
    return false;
}
