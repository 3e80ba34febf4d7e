/* ring: a bounded single-producer single-consumer queue of pointers, between two threads.
 *
 * Lock-free (C11 atomics, acquire/release); capacity is a power of two, allocated at start. ring_push answers
 * STATUS_FULL when there is no room: back-pressure. Waking the other side is the caller's business (uv_async on the
 * loop's side, a futex or condition variable on the computing side). Owns its slots, never the elements. */
#ifndef SHOAL_BASE_RING_H
#define SHOAL_BASE_RING_H

#include <stdatomic.h>
#include <stddef.h>

#include "base/status.h"

struct ring {
    void **slots;
    size_t mask;
    _Alignas(64) _Atomic size_t head; /* next to read; written by the consumer */
    _Alignas(64) _Atomic size_t tail; /* next to write; written by the producer */
};

void ring_init(struct ring *ring, size_t capacity); /* rounded up to a power of two */
void ring_free(struct ring *ring);
MUST_CHECK enum status ring_push(struct ring *ring, void *element); /* producer's thread */
void *ring_pop(struct ring *ring);                                  /* consumer's thread; NULL when empty */
size_t ring_count(struct ring *ring);                               /* either; a snapshot */

#endif
