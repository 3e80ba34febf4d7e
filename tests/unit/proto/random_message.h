/* random_message: any message of the tables, filled from a seed, and deep comparison. For tests of the codec. */
#ifndef SHOAL_TESTS_UNIT_PROTO_RANDOM_MESSAGE_H
#define SHOAL_TESTS_UNIT_PROTO_RANDOM_MESSAGE_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/rng.h"
#include "proto/table.h"

/* Fills `object` (zeroed, table->bytes); arrays, texts and blobs go to the arena. About a third of the fields are
 * left zero, and a tenth hold their maximum. */
void random_message(struct rng *rng, const struct proto_table *table, struct arena *arena, void *object);
bool message_equal(const struct proto_table *table, const void *a, const void *b);

#endif
