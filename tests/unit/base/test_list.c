/* Tests of base/list: order, removal while walking, and harmless double removal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/list.h"

struct item {
    int number;
    struct list node;
};

static int sum_in_order(const struct list *head)
{
    int digits = 0;
    LIST_FOR_EACH (node, (struct list *)(uintptr_t)head)
        digits = digits * 10 + LIST_ENTRY(node, struct item, node)->number;
    return digits;
}

static void order_and_removal(void **state)
{
    (void)state;
    struct list head;
    list_init(&head);
    assert_true(list_empty(&head));
    assert_null(list_first(&head));
    struct item items[5] = {{1, {0}}, {2, {0}}, {3, {0}}, {4, {0}}, {5, {0}}};
    list_push_back(&head, &items[1].node);
    list_push_back(&head, &items[3].node);
    list_push_front(&head, &items[0].node);
    list_insert_before(&items[3].node, &items[2].node);
    list_push_back(&head, &items[4].node);
    assert_int_equal(sum_in_order(&head), 12345);
    assert_ptr_equal(list_first(&head), &items[0].node);
    list_remove(&items[2].node);
    list_remove(&items[2].node);
    assert_int_equal(sum_in_order(&head), 1245);
    LIST_FOR_EACH (node, &head)
        list_remove(node);
    assert_true(list_empty(&head));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(order_and_removal)};
    return cmocka_run_group_tests_name("base.list", tests, NULL, NULL);
}
