/* Tests of base/ring: order, back-pressure, wrap-around of the indices, and two threads under TSan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>

#include "base/ring.h"

enum { ELEMENTS = 200000 };

static int numbers[ELEMENTS];

static void order_and_back_pressure(void **state)
{
    (void)state;
    struct ring ring;
    ring_init(&ring, 3); /* rounded up to 4 */
    assert_null(ring_pop(&ring));
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 4; i++)
            assert_int_equal(ring_push(&ring, &numbers[i]), STATUS_OK);
        assert_int_equal(ring_push(&ring, &numbers[4]), STATUS_FULL);
        assert_int_equal(ring_count(&ring), 4);
        for (int i = 0; i < 4; i++)
            assert_ptr_equal(ring_pop(&ring), &numbers[i]);
        assert_null(ring_pop(&ring));
        assert_int_equal(ring_count(&ring), 0);
    }
    ring_free(&ring);
}

static void indices_wrap_around(void **state)
{
    (void)state;
    struct ring ring;
    ring_init(&ring, 2);
    atomic_store(&ring.head, SIZE_MAX);
    atomic_store(&ring.tail, SIZE_MAX);
    assert_int_equal(ring_push(&ring, &numbers[0]), STATUS_OK);
    assert_int_equal(ring_push(&ring, &numbers[1]), STATUS_OK);
    assert_int_equal(ring_push(&ring, &numbers[2]), STATUS_FULL);
    assert_int_equal(ring_count(&ring), 2);
    assert_ptr_equal(ring_pop(&ring), &numbers[0]);
    assert_ptr_equal(ring_pop(&ring), &numbers[1]);
    assert_null(ring_pop(&ring));
    ring_free(&ring);
}

static void *produce(void *argument)
{
    struct ring *ring = argument;
    for (int i = 0; i < ELEMENTS; i++) {
        numbers[i] = i; /* plain writes: the ring's release must publish them */
        while (ring_push(ring, &numbers[i]) == STATUS_FULL)
            sched_yield();
    }
    return NULL;
}

static void two_threads_keep_order_and_content(void **state)
{
    (void)state;
    struct ring ring;
    ring_init(&ring, 64);
    pthread_t producer;
    assert_int_equal(pthread_create(&producer, NULL, produce, &ring), 0);
    for (int i = 0; i < ELEMENTS;) {
        int *element = ring_pop(&ring);
        if (element == NULL) {
            sched_yield();
            continue;
        }
        if (*element != i)
            fail_msg("expected %d, got %d", i, *element);
        i++;
        if (ring_count(&ring) > 64)
            fail_msg("count beyond capacity");
    }
    pthread_join(producer, NULL);
    assert_null(ring_pop(&ring));
    ring_free(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_and_back_pressure),
        cmocka_unit_test(indices_wrap_around),
        cmocka_unit_test(two_threads_keep_order_and_content),
    };
    return cmocka_run_group_tests_name("base.ring", tests, NULL, NULL);
}
