/* ring: the classic one-producer one-consumer queue with free-running indices.
 *
 * Each side writes one index only; release on that write pairs with acquire on the other side's read, which makes the
 * slot's content visible before its index. Indices wrap around by unsigned arithmetic, so full is tail - head ==
 * capacity and no slot is wasted. */
#include "base/ring.h"

#include <stdint.h>

#include "base/check.h"
#include "base/mem.h"

void ring_init(struct ring *ring, size_t capacity)
{
    CHECK(capacity > 0 && capacity <= SIZE_MAX / 4);
    size_t rounded = 1;
    while (rounded < capacity)
        rounded *= 2;
    ring->slots = mem_new_array(void *, rounded);
    ring->mask = rounded - 1;
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
}

void ring_free(struct ring *ring)
{
    mem_free(ring->slots);
    ring->slots = NULL;
}

enum status ring_push(struct ring *ring, void *element)
{
    CHECK(element != NULL); /* NULL is how ring_pop says "empty" */
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    size_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    if (tail - head > ring->mask)
        return STATUS_FULL;
    ring->slots[tail & ring->mask] = element;
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    return STATUS_OK;
}

void *ring_pop(struct ring *ring)
{
    size_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    if (head == tail)
        return NULL;
    void *element = ring->slots[head & ring->mask];
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    return element;
}

size_t ring_count(struct ring *ring)
{
    /* Head first: the tail can only have grown since, so the difference is never negative. */
    size_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    return MIN_OF(tail - head, ring->mask + 1);
}
