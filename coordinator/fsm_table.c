/* coordinator/fsm_table.c: see fsm_table.h. Binary search; insertion moves pointers only. */
#include "coordinator/fsm_table.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

static const char *item_name(const void *item)
{
    return item;
}

/* Position of the first item whose name is not below `name`. */
static size_t lower_bound(const struct fsm_table *table, const char *name)
{
    size_t low = 0, high = table->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(item_name(table->items[middle]), name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool is_at(const struct fsm_table *table, size_t position, const char *name)
{
    return position < table->count && strcmp(item_name(table->items[position]), name) == 0;
}

void *fsm_table_find(const struct fsm_table *table, const char *name)
{
    size_t position = lower_bound(table, name);
    return is_at(table, position, name) ? table->items[position] : NULL;
}

void *fsm_table_put(struct fsm_table *table, const char *name, size_t size)
{
    size_t position = lower_bound(table, name);
    if (is_at(table, position, name)) {
        return table->items[position];
    }
    if (table->count == table->capacity) {
        table->capacity = table->capacity == 0 ? 8 : table->capacity * 2;
        table->items = mem_realloc_array(table->items, table->capacity, sizeof(*table->items));
    }
    memmove(&table->items[position + 1], &table->items[position], (table->count - position) * sizeof(*table->items));
    void *item = mem_alloc(size);
    CHECK(size > FSM_NAME_MAX);
    snprintf(item, FSM_NAME_MAX + 1, "%s", name);
    table->items[position] = item;
    table->count++;
    return item;
}

void fsm_table_remove(struct fsm_table *table, const char *name)
{
    size_t position = lower_bound(table, name);
    if (!is_at(table, position, name)) {
        return;
    }
    mem_free(table->items[position]);
    table->count--;
    memmove(&table->items[position], &table->items[position + 1], (table->count - position) * sizeof(*table->items));
}

void fsm_table_free(struct fsm_table *table)
{
    for (size_t i = 0; i < table->count; i++) {
        mem_free(table->items[i]);
    }
    mem_free(table->items);
    *table = (struct fsm_table){0};
}

void fsm_text_set(char *to, size_t to_size, struct bytes text)
{
    CHECK(text.length < to_size);
    memset(to, 0, to_size);
    if (text.length > 0) { /* an absent text has no data either */
        memcpy(to, text.data, text.length);
    }
}
