/* coordinator/fsm_table: the sorted tables of the state machine, and text fields of fixed size. Private to fsm*.c. */
#ifndef SHOAL_COORDINATOR_FSM_TABLE_H
#define SHOAL_COORDINATOR_FSM_TABLE_H

#include <stddef.h>

#include "base/bytes.h"
#include "coordinator/fsm.h"

void *fsm_table_find(const struct fsm_table *table, const char *name);
/* The item of that name, made (zeroed, `size` bytes, named) when it is absent. */
void *fsm_table_put(struct fsm_table *table, const char *name, size_t size);
void fsm_table_remove(struct fsm_table *table, const char *name);
void fsm_table_free(struct fsm_table *table);

/* Copies a text field; the codec has checked its length against the same maximum. */
void fsm_text_set(char *to, size_t to_size, struct bytes text);
#define FSM_SET(field, text) fsm_text_set((field), sizeof(field), (text))

#endif
