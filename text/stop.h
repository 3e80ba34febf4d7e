/* text/stop: stop strings over a text stream.
 *
 * stop_push takes new text and appends to `out` what can no longer be part of a stop string; text that may still grow
 * into one is held back (Aho-Corasick over the bytes; the earliest ending match wins, then the longest). Once a stop
 * string is complete, `hit` is set, the text up to it is out, and everything further is dropped. */
#ifndef SHOAL_TEXT_STOP_H
#define SHOAL_TEXT_STOP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/status.h"

enum { STOP_STRINGS_MAX = 16, STOP_BYTES_MAX = 256 };

struct stop;

/* STATUS_INVALID: an empty string; STATUS_LIMIT: too many or too long. count 0 is fine: everything passes. */
MUST_CHECK enum status stop_new(const struct bytes *strings, size_t count, struct stop **out, struct error *error);
void stop_free(struct stop *stop);
void stop_push(struct stop *stop, struct bytes text, struct buf *out);
void stop_finish(struct stop *stop, struct buf *out); /* the stream ended: what was held back comes out */
bool stop_hit(const struct stop *stop);

#endif
