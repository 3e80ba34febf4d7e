/* golden: reads the reference files of shared data for the decoder's tests. */
#ifndef SHOAL_TESTS_UNIT_WORKER_GOLDEN_H
#define SHOAL_TESTS_UNIT_WORKER_GOLDEN_H

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/desc.h"

/* The lines of a .jsonl file as documents. */
struct golden_lines {
    struct json **line;
    size_t count;
};

static inline struct json *golden_json(const char *text, size_t length)
{
    struct json *json;
    struct error error = {0};
    if (json_parse(bytes_of(text, length), &json, &error) != STATUS_OK) {
        fprintf(stderr, "golden: %s\n", error.text);
        abort();
    }
    return json;
}

static inline struct golden_lines golden_read(const char *path)
{
    struct golden_lines lines = {.line = mem_new_array(struct json *, 256)};
    struct buf text;
    struct error error = {0};
    buf_init(&text, 256 << 20);
    CHECK(file_read(path, 256 << 20, &text, &error) == STATUS_OK);
    const char *at = buf_text(&text);
    while (*at != '\0') {
        const char *end = strchr(at, '\n');
        const size_t length = end != NULL ? (size_t)(end - at) : strlen(at);
        CHECK(lines.count < 256);
        if (length > 0)
            lines.line[lines.count++] = golden_json(at, length);
        at += length + (end != NULL);
    }
    buf_free(&text);
    return lines;
}

static inline void golden_free(struct golden_lines *lines)
{
    for (size_t i = 0; i < lines->count; i++)
        json_free(lines->line[i]);
    mem_free(lines->line);
}

/* A new array: mem_free. */
static inline uint32_t *golden_ids(const struct json *array, size_t *count)
{
    *count = json_count(array);
    uint32_t *ids = mem_new_array(uint32_t, *count + 1);
    for (size_t i = 0; i < *count; i++)
        ids[i] = (uint32_t)json_integer(json_at(array, i), 0);
    return ids;
}

static inline struct model_desc *golden_model(const char *path)
{
    struct model_desc *desc;
    struct error error = {0};
    if (model_open(path, NULL, &desc, &error) != STATUS_OK) {
        fprintf(stderr, "golden: %s\n", error.text);
        abort();
    }
    return desc;
}

#endif
