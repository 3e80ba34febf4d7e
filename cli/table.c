/* cli/table.c: see table.h. Widths count UTF-8 characters; no line ends in spaces. */
#include "cli/table.h"

#include "base/check.h"
#include "base/mem.h"

struct table *table_new(size_t columns)
{
    CHECK(columns > 0 && columns <= TABLE_COLUMNS_MAX);
    struct table *table = mem_new(struct table);
    table->columns = columns;
    return table;
}

void table_free(struct table *table)
{
    for (size_t row = 0; row < table->rows; row++) {
        for (size_t column = 0; column < table->columns; column++) {
            mem_free(table->cells[row][column]);
        }
    }
    mem_free(table);
}

void table_add(struct table *table, const char *const *cells)
{
    if (table->rows == TABLE_ROWS_MAX) {
        return;
    }
    for (size_t column = 0; column < table->columns; column++) {
        char *cell = table->cells[table->rows][column] = mem_strdup(cells[column]);
        for (; *cell != '\0'; cell++) {
            *cell = (unsigned char)*cell < ' ' || *cell == 0x7F ? '?' : *cell;
        }
    }
    table->rows++;
}

static int width_of(const char *text)
{
    int width = 0;
    for (; *text != '\0'; text++) {
        width += ((unsigned char)*text & 0xC0) != 0x80;
    }
    return width;
}

void table_print(const struct table *table, FILE *to)
{
    int widths[TABLE_COLUMNS_MAX] = {0};
    for (size_t row = 0; row < table->rows; row++) {
        for (size_t column = 0; column < table->columns; column++) {
            widths[column] = MAX_OF(widths[column], width_of(table->cells[row][column]));
        }
    }
    for (size_t row = 0; row < table->rows; row++) {
        int gap = 0; /* before the next text that is not empty */
        for (size_t column = 0; column < table->columns; column++) {
            const char *text = table->cells[row][column];
            if (text[0] != '\0') {
                fprintf(to, "%*s%s", gap, "", text);
                gap = 0;
            }
            gap += widths[column] - width_of(text) + 2;
        }
        fputc('\n', to);
    }
}
