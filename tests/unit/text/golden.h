/* tests/unit/text/golden: the shared reference data: where it is, unpacked, line by line.
 *
 * The folder is SHOAL_SHARED_DATA or ../shared/data beside the repository (tests run in its root). Without it a test
 * prints SKIP and why, and exits with 77. */
#ifndef SHOAL_TESTS_UNIT_TEXT_GOLDEN_H
#define SHOAL_TESTS_UNIT_TEXT_GOLDEN_H

#include "base/buf.h"
#include "base/json.h"
#include "model/desc.h"
#include "text/tokenizer.h"

const char *golden_folder(void);         /* NULL: not there */
void golden_need(const char *test_name); /* exits with 77 when there is no folder */
/* Reads folder/name, through gzip when it ends with .gz. Ends the test when it can't. */
void golden_read(const char *name, struct buf *out);
/* The next line as JSON; NULL at the end. The caller frees it. */
struct json *golden_next(struct bytes *rest);

/* A model with only a vocabulary: from a tokenizer.json(.gz) below the folder. */
struct model_desc *golden_vocab(const char *name);

#endif
