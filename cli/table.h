/* cli/table: rows of text in aligned columns (the last one ragged), as `shoal status` prints them. */
#ifndef SHOAL_CLI_TABLE_H
#define SHOAL_CLI_TABLE_H

#include <stddef.h>
#include <stdio.h>

enum { TABLE_COLUMNS_MAX = 12, TABLE_ROWS_MAX = 4096 };

struct table {
    size_t columns;
    size_t rows;
    char *cells[TABLE_ROWS_MAX][TABLE_COLUMNS_MAX]; /* owned */
};

struct table *table_new(size_t columns);
void table_free(struct table *table);
/* Copies `columns` texts, with '?' for control characters (texts come from other machines, and go to a terminal); rows
 * beyond TABLE_ROWS_MAX are dropped. */
void table_add(struct table *table, const char *const *cells);
void table_print(const struct table *table, FILE *to);

#endif
