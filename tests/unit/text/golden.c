/* golden: see golden.h. gzip is run as a program: no test needs zlib. */
#include "tests/unit/text/golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/mem.h"

enum { EXIT_SKIP = 77, BYTES_MAX = 64 << 20 };

const char *golden_folder(void)
{
    const char *folder = getenv("SHOAL_SHARED_DATA");
    if (folder == NULL)
        folder = "../shared/data";
    return file_is_dir(folder) ? folder : NULL;
}

void golden_need(const char *test_name)
{
    if (golden_folder() != NULL)
        return;
    printf("SKIP %s: no shared data (SHOAL_SHARED_DATA)\n", test_name);
    exit(EXIT_SKIP);
}

static void unpack(const char *path, struct buf *out)
{
    char command[512];
    CHECK(strchr(path, '\'') == NULL);
    CHECK(snprintf(command, sizeof command, "gzip -dc -- '%s'", path) < (int)sizeof command);
    FILE *pipe = popen(command, "r");
    CHECK(pipe != NULL);
    uint8_t chunk[65536];
    size_t got;
    while ((got = fread(chunk, 1, sizeof chunk, pipe)) > 0)
        buf_append(out, chunk, got);
    CHECK(pclose(pipe) == 0 && !out->overflow);
}

void golden_read(const char *name, struct buf *out)
{
    char *path = file_join(golden_folder(), name);
    struct error error;
    size_t length = strlen(name);
    buf_init(out, BYTES_MAX);
    if (length > 3 && strcmp(name + length - 3, ".gz") == 0)
        unpack(path, out);
    else
        CHECK(file_read(path, BYTES_MAX, out, &error) == STATUS_OK);
    mem_free(path);
}

struct json *golden_next(struct bytes *rest)
{
    while (rest->length > 0 && rest->data[0] == '\n')
        *rest = bytes_of(rest->data + 1, rest->length - 1);
    if (rest->length == 0)
        return NULL;
    const uint8_t *end = memchr(rest->data, '\n', rest->length);
    size_t length = end == NULL ? rest->length : (size_t)(end - rest->data);
    struct json *line;
    struct error error;
    CHECK(json_parse(bytes_of(rest->data, length), &line, &error) == STATUS_OK);
    *rest = bytes_of(rest->data + length, rest->length - length);
    return line;
}

struct model_desc *golden_vocab(const char *name)
{
    char folder[] = "/tmp/shoal-vocab-XXXXXX";
    CHECK(mkdtemp(folder) != NULL);
    char *path = file_join(folder, "tokenizer.json");
    struct buf text;
    struct error error;
    golden_read(name, &text);
    CHECK(file_write_atomic(path, buf_bytes(&text), 0600, &error) == STATUS_OK);
    buf_free(&text);
    struct model_options options = {.vocab_only = true};
    struct model_desc *desc = NULL;
    enum status status = model_open(folder, &options, &desc, &error);
    if (status != STATUS_OK)
        fprintf(stderr, "%s: %s\n", name, error.text);
    CHECK(status == STATUS_OK);
    unlink(path);
    rmdir(folder);
    mem_free(path);
    return desc;
}
