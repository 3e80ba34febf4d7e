/* replay: runs a fuzz target over the files of the folders that are named, without libFuzzer: every build thus checks
 * its seeds, and what was once found. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_BYTES_MAX = 16 << 20 };

static void replay_file(const char *path)
{
    struct buf input;
    struct error error = {0};
    buf_init(&input, INPUT_BYTES_MAX);
    if (file_read(path, INPUT_BYTES_MAX, &input, &error) != STATUS_OK) {
        fprintf(stderr, "%s\n", error.text);
        exit(EXIT_FAILURE);
    }
    /* A block of exactly its size, so that a sanitizer sees a read past the end. */
    uint8_t *exact = mem_dup(input.data, input.length);
    (void)LLVMFuzzerTestOneInput(exact, input.length);
    mem_free(exact);
    buf_free(&input);
}

int main(int argc, char **argv)
{
    size_t count = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
            if (entry->d_name[0] != '.') {
                char *path = file_join(argv[i], entry->d_name);
                replay_file(path);
                mem_free(path);
                count++;
            }
        }
        if (folder != NULL) {
            closedir(folder);
        }
    }
    printf("%zu inputs\n", count);
    return count > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
