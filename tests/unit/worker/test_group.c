/* Groups and the pool under them: slices cover everything once, barriers let nobody through early, members of an
 * in-process group see each other's writes and each other's activations. Run under TSan too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/resource.h>

#include "base/check.h"
#include "base/mem.h"
#include "tests/unit/worker/random_model.h"
#include "worker/engine/cpu/pool.h"
#include "worker/engine/group.h"
#include "worker/engine/weights.h"

static void test_deal_covers_everything_once(void **state)
{
    (void)state;
    static const size_t nine_on_four[] = {3, 2, 2, 2};
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(group_deal(9, 4, i).count, nine_on_four[i]);
    for (size_t count = 0; count < 40; count++) {
        for (unsigned members = 1; members < 9; members++) {
            size_t next = 0;
            for (unsigned i = 0; i < members; i++) {
                const struct group_slice slice = group_deal(count, members, i);
                assert_int_equal(slice.first, next);
                next += slice.count;
            }
            assert_int_equal(next, count);
        }
    }
}

static void test_slices_of_a_model_cover_it(void **state)
{
    (void)state;
    static const enum model_type types[8] = {MODEL_F32};
    struct random_model *model = random_model_new(1, types, true, false);
    struct error error;
    for (unsigned ranks = 1; ranks <= 4; ranks++) {
        size_t q = 0, hidden = 0, ffn = 0, vocab = 0;
        for (unsigned rank = 0; rank < ranks; rank++) {
            const struct group group = {.rank = rank, .ranks = ranks, .stages = 1};
            struct weights_slices slices;
            assert_int_equal(weights_slices(&model->desc, &group, &slices, &error), STATUS_OK);
            assert_int_equal(slices.q_heads.first, q);
            assert_int_equal(slices.ffn.first % 16 + slices.hidden.first % 16 + slices.vocab.first % 16, 0);
            /* Every q head finds its kv head. */
            const size_t last = slices.q_heads.first + slices.q_heads.count - 1;
            assert_true(slices.kv_heads.first == slices.q_heads.first / 2);
            assert_true(slices.kv_heads.first + slices.kv_heads.count - 1 == last / 2);
            q += slices.q_heads.count;
            hidden += slices.hidden.count;
            ffn += slices.ffn.count;
            vocab += slices.vocab.count;
        }
        assert_true(q == RANDOM_Q_HEADS && hidden == RANDOM_HIDDEN && ffn == RANDOM_FFN && vocab == RANDOM_VOCAB);
    }
    const struct group too_many_ranks = {.ranks = 7, .stages = 1}, too_many_stages = {.ranks = 1, .stages = 4};
    struct weights_slices slices;
    assert_int_equal(weights_slices(&model->desc, &too_many_ranks, &slices, &error), STATUS_UNSUPPORTED);
    assert_int_equal(weights_slices(&model->desc, &too_many_stages, &slices, &error), STATUS_UNSUPPORTED);
    model->layers[1].down.type = MODEL_Q8_0;
    model->layers[1].down.columns = 172; /* as stories260K would have it: blocks don't fit */
    const struct group self = group_self();
    assert_int_equal(weights_slices(&model->desc, &self, &slices, &error), STATUS_UNSUPPORTED);
    random_model_free(model);
}

struct counting {
    struct pool *pool;
    uint32_t plain[8]; /* written without atomics: the meetings order them */
    _Atomic size_t taken;
    uint8_t seen[1000];
};

static void count_rounds(void *context, unsigned thread)
{
    struct counting *counting = context;
    for (uint32_t round = 1; round <= 500; round++) {
        counting->plain[thread] = round;
        pool_meet(counting->pool);
        for (unsigned i = 0; i < pool_threads(counting->pool); i++)
            CHECK(counting->plain[i] == round);
        pool_meet(counting->pool);
    }
    for (;;) {
        const struct pool_range range = pool_take(&counting->taken, COUNT_OF(counting->seen), 7);
        if (range.first == range.last)
            break;
        for (size_t i = range.first; i < range.last; i++)
            counting->seen[i]++;
    }
}

static void test_pools_meet_and_deal(void **state)
{
    (void)state;
    struct error error;
    for (unsigned threads = 1; threads <= 5; threads++) {
        struct counting *counting = mem_new(struct counting);
        assert_int_equal(pool_open(threads, 0, &counting->pool, &error), STATUS_OK);
        assert_int_equal(pool_threads(counting->pool), threads);
        for (int run = 1; run <= 3; run++) {
            counting->taken = 0;
            pool_run(counting->pool, count_rounds, counting);
            for (size_t i = 0; i < COUNT_OF(counting->seen); i++)
                assert_int_equal(counting->seen[i], run);
        }
        pool_close(counting->pool);
        mem_free(counting);
    }
}

/* A thread that can't be started is an error of opening, not a hang: here the address space ends. */
static void test_a_pool_that_cannot_start_says_so(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* they need the address space themselves */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    skip();
#endif
#endif
    struct rlimit before, tight;
    struct pool *pool = NULL;
    struct error error = {0};
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    tight = before;
    tight.rlim_cur = (rlim_t)1 << 30;
    assert_int_equal(setrlimit(RLIMIT_AS, &tight), 0);
    const enum status status = pool_open(1000, 0, &pool, &error);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(status, STATUS_IO);
    assert_non_null(strstr(error.text, "thread"));
}

/* One member's part of the exchange below. */
struct member {
    struct group *group;
    struct pool_thread *thread;
    float got;
};

static void exchange(struct member *member, float plan_number)
{
    const struct group_ops *ops = member->group->ops;
    float *shared = ops->shared(member->group, 8 * sizeof(float));
    if (member->group->stage == 0) {
        shared[member->group->rank] = plan_number + (float)member->group->rank;
    } else if (member->group->rank == 0) {
        CHECK(ops->receive(member->group, shared, 8) == STATUS_OK);
    }
    CHECK(ops->gather(member->group) == STATUS_OK);
    member->got = 0.0f;
    for (unsigned i = 0; i < member->group->ranks; i++)
        member->got += shared[i];
    CHECK(ops->gather(member->group) == STATUS_OK);
    if (member->group->rank == 0 && !group_is_last_stage(member->group))
        CHECK(ops->send(member->group, shared, 8) == STATUS_OK);
}

static void follow(void *argument)
{
    struct member *member = argument;
    const struct plan *plan;
    struct plan_result *result;
    while (member->group->ops->next(member->group, &plan, &result) == STATUS_OK) {
        exchange(member, (float)plan->step);
        if (group_is_last_stage(member->group) && member->group->rank == 0)
            result->ids[0] = (uint32_t)member->got;
        CHECK(member->group->ops->complete(member->group) == STATUS_OK);
    }
}

static void test_a_local_group_passes_plans_and_activations(void **state)
{
    (void)state;
    enum { RANKS = 2, STAGES = 3 };
    struct group_local *local = group_local_open(RANKS, STAGES);
    struct member members[RANKS * STAGES] = {0};
    struct error error;
    for (unsigned i = 0; i < RANKS * STAGES; i++) {
        members[i].group = group_local_member(local, i);
        if (i > 0)
            assert_int_equal(pool_thread_start(follow, &members[i], &members[i].thread, &error), STATUS_OK);
    }
    assert_true(group_is_head(members[0].group) && !group_is_head(members[1].group));
    for (uint64_t step = 1; step <= 5; step++) {
        const struct plan plan = {.step = step};
        uint32_t id = 0;
        struct plan_result result = {.ids = &id};
        assert_int_equal(members[0].group->ops->publish(members[0].group, &plan, &result), STATUS_OK);
        exchange(&members[0], (float)step);
        assert_int_equal(members[0].group->ops->complete(members[0].group), STATUS_OK);
        assert_int_equal(id, 2 * step + 1);
        for (unsigned i = 0; i < RANKS * STAGES; i++)
            assert_true(members[i].got == (float)(2 * step + 1));
    }
    group_local_stop(local);
    for (unsigned i = 1; i < RANKS * STAGES; i++)
        pool_thread_join(members[i].thread);
    group_local_close(local);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deal_covers_everything_once),
        cmocka_unit_test(test_slices_of_a_model_cover_it),
        cmocka_unit_test(test_pools_meet_and_deal),
        cmocka_unit_test(test_a_pool_that_cannot_start_says_so),
        cmocka_unit_test(test_a_local_group_passes_plans_and_activations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
