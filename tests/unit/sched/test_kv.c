/* Promises of sched/kv: no block is lost or held twice, a prefix is found again exactly when it should be, the least
 * recently used leaf goes first, events tell the whole truth in order. The last test drives random streams over many
 * seeds beside a model that knows blocks by their content only. */
#include "tests/unit/sched/support.h"

#include "base/hash.h"
#include "sched/kv.h"

enum { DEPTH_MAX = 6, STREAMS = 5, BLOCKS = 14, SYMBOLS = 3, FINDABLE_MAX = 64 };

/* A chain hash good enough to tell contents apart. */
static void chain_next(uint8_t out[16], const uint8_t parent[16], uint32_t symbol)
{
    uint64_t low = hash_xx64(parent, 16, symbol), high = hash_xx64(parent, 16, ~(uint64_t)symbol);
    memcpy(out, &low, 8);
    memcpy(out + 8, &high, 8);
}

static void chain_of(uint8_t (*hashes)[16], const uint32_t *symbols, uint32_t count)
{
    uint8_t zero[16] = {0};
    for (uint32_t i = 0; i < count; i++)
        chain_next(hashes[i], i == 0 ? zero : hashes[i - 1], symbols[i]);
}

/* Takes, claims and publishes a whole chain. */
static void store_chain(struct kv *kv, uint32_t *table, const uint8_t (*hashes)[16], uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        table[i] = kv_take(kv);
        assert_int_not_equal(table[i], KV_NONE);
        kv_claim(kv, table[i], hashes[i]);
    }
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(kv_publish(kv, table[i], i == 0 ? KV_NONE : table[i - 1], hashes[i]), table[i]);
}

static void test_a_stored_prefix_is_found_and_shared(void **state)
{
    (void)state;
    struct kv kv;
    kv_init(&kv, 8);
    uint8_t hashes[4][16];
    chain_of(hashes, (const uint32_t[]){1, 2, 3, 4}, 4);
    uint32_t table[3];
    store_chain(&kv, table, hashes, 3);
    struct kv_match match = kv_match(&kv, hashes, 4);
    assert_int_equal(match.hits, 3);
    assert_int_equal(match.idle, 0);
    assert_false(match.computing);
    assert_int_equal(kv_match(&kv, hashes, 2).hits, 2);
    kv_drop(&kv, table, 3);
    assert_int_equal(kv_match(&kv, hashes, 4).idle, 3);
    assert_int_equal(kv_available(&kv), 8);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(kv_share(&kv, hashes[i]), table[i]);
    assert_int_equal(kv_available(&kv), 5);
    kv_check(&kv);
    kv_free(&kv);
}

static void test_a_block_being_computed_is_seen_until_its_holder_goes(void **state)
{
    (void)state;
    struct kv kv;
    kv_init(&kv, 4);
    uint8_t hashes[2][16];
    chain_of(hashes, (const uint32_t[]){1, 2}, 2);
    uint32_t block = kv_take(&kv);
    assert_false(kv_match(&kv, hashes, 2).computing);
    kv_claim(&kv, block, hashes[0]);
    assert_true(kv_match(&kv, hashes, 2).computing);
    assert_int_equal(kv_match(&kv, hashes, 2).hits, 0);
    kv_drop(&kv, &block, 1);
    assert_false(kv_match(&kv, hashes, 2).computing);
    assert_int_equal(kv.events_count, 0); /* it never was findable */
    kv_check(&kv);
    kv_free(&kv);
}

static void test_the_second_publisher_gets_the_first_ones_block(void **state)
{
    (void)state;
    struct kv kv;
    kv_init(&kv, 4);
    uint8_t hashes[1][16];
    chain_of(hashes, (const uint32_t[]){1}, 1);
    uint32_t a = kv_take(&kv), b = kv_take(&kv), c = kv_take(&kv);
    kv_claim(&kv, a, hashes[0]);
    kv_claim(&kv, b, hashes[0]);                                 /* no effect */
    assert_int_equal(kv_publish(&kv, b, KV_NONE, hashes[0]), b); /* faster than the claimant */
    kv_check(&kv);
    assert_int_equal(kv_publish(&kv, a, KV_NONE, hashes[0]), b);
    assert_int_equal(kv_publish(&kv, c, KV_NONE, hashes[0]), b);
    assert_int_equal(kv.blocks[b].holders, 3);
    assert_int_equal(kv.events_count, 1);
    assert_int_equal(kv_available(&kv), 3);
    kv_check(&kv);
    kv_free(&kv);
}

static void test_eviction_takes_the_least_recently_used_leaf(void **state)
{
    (void)state;
    struct kv kv;
    kv_init(&kv, 4);
    uint8_t left[2][16], right[2][16];
    chain_of(left, (const uint32_t[]){1, 2}, 2);
    chain_of(right, (const uint32_t[]){7, 8}, 2);
    uint32_t a[2], b[2];
    store_chain(&kv, a, left, 2);
    store_chain(&kv, b, right, 2);
    kv_drop(&kv, a, 2);
    kv_drop(&kv, b, 2);
    assert_int_equal(kv_share(&kv, left[0]), a[0]); /* used again: now younger than the right chain, its leaf is not */
    kv_drop(&kv, a, 1);
    kv_events_clear(&kv);
    const uint8_t *const order[] = {left[1], right[1], right[0], left[0]};
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_not_equal(kv_take(&kv), KV_NONE);
        assert_int_equal(kv.events_count, i + 1);
        assert_false(kv.events[i].stored);
        assert_memory_equal(kv.events[i].hash, order[i], 16);
        kv_check(&kv);
    }
    assert_int_equal(kv_take(&kv), KV_NONE);
    kv_free(&kv);
}

/* The model: contents that are findable, with holders and the time of the last drop. */
struct model {
    struct {
        uint8_t hash[16];
        uint32_t holders;
        uint64_t dropped_at;
    } findable[FINDABLE_MAX];
    uint32_t count;
    uint64_t now;
    uint32_t private_blocks;
};

struct stream {
    bool alive;
    uint32_t depth, published;
    uint8_t hashes[DEPTH_MAX][16];
    uint32_t table[DEPTH_MAX];
};

static int model_find(const struct model *model, const uint8_t hash[16])
{
    for (uint32_t i = 0; i < model->count; i++)
        if (memcmp(model->findable[i].hash, hash, 16) == 0)
            return (int)i;
    return -1;
}

static void model_evict(struct model *model, const struct kv *kv)
{
    int oldest = -1;
    for (uint32_t i = 0; i < model->count; i++)
        if (model->findable[i].holders == 0 &&
            (oldest < 0 || model->findable[i].dropped_at < model->findable[oldest].dropped_at))
            oldest = (int)i;
    assert_true(oldest >= 0);
    assert_int_equal(kv->events_count, 1);
    assert_false(kv->events[0].stored);
    assert_memory_equal(kv->events[0].hash, model->findable[oldest].hash, 16);
    model->findable[oldest] = model->findable[--model->count];
}

static bool computing_elsewhere(const struct stream *streams, const uint8_t hash[16])
{
    for (uint32_t i = 0; i < STREAMS; i++)
        for (uint32_t j = streams[i].published; streams[i].alive && j < streams[i].depth; j++)
            if (memcmp(streams[i].hashes[j], hash, 16) == 0)
                return true;
    return false;
}

static void take_rest(struct kv *kv, struct model *model, struct stream *stream, uint32_t from)
{
    for (uint32_t i = from; i < stream->depth; i++) {
        bool must_evict = model->count + model->private_blocks == kv->count;
        kv_events_clear(kv);
        stream->table[i] = kv_take(kv);
        assert_int_not_equal(stream->table[i], KV_NONE);
        if (must_evict)
            model_evict(model, kv);
        else
            assert_int_equal(kv->events_count, 0);
        model->private_blocks++;
        kv_claim(kv, stream->table[i], stream->hashes[i]);
    }
}

static void start(struct kv *kv, struct model *model, struct stream *streams, uint32_t which, struct rng *rng)
{
    struct stream *stream = &streams[which];
    uint32_t symbols[DEPTH_MAX];
    stream->depth = 1 + (uint32_t)rng_below(rng, DEPTH_MAX);
    for (uint32_t i = 0; i < stream->depth; i++)
        symbols[i] = (uint32_t)rng_below(rng, SYMBOLS);
    chain_of(stream->hashes, symbols, stream->depth);

    uint32_t hits = 0, idle = 0;
    for (int at; hits < stream->depth && (at = model_find(model, stream->hashes[hits])) >= 0; hits++)
        idle += model->findable[at].holders == 0;
    struct kv_match match = kv_match(kv, stream->hashes, stream->depth);
    assert_int_equal(match.hits, hits);
    assert_int_equal(match.idle, idle);
    /* Not the other way round: who comes second with the same content does not take over the claim of the first. */
    if (match.computing)
        assert_true(computing_elsewhere(streams, stream->hashes[hits]));
    if (kv_available(kv) - idle < stream->depth - hits)
        return;
    for (uint32_t i = 0; i < hits; i++) {
        stream->table[i] = kv_share(kv, stream->hashes[i]);
        model->findable[model_find(model, stream->hashes[i])].holders++;
    }
    take_rest(kv, model, stream, hits);
    stream->published = hits;
    stream->alive = true;
}

static void advance(struct kv *kv, struct model *model, struct stream *stream)
{
    uint32_t at = stream->published;
    kv_events_clear(kv);
    stream->table[at] =
        kv_publish(kv, stream->table[at], at == 0 ? KV_NONE : stream->table[at - 1], stream->hashes[at]);
    stream->published++;
    model->private_blocks--;
    int there = model_find(model, stream->hashes[at]);
    assert_int_equal(kv->events_count, there < 0);
    if (there < 0) {
        assert_true(kv->events[0].stored && model->count < FINDABLE_MAX);
        there = (int)model->count++;
        memcpy(model->findable[there].hash, stream->hashes[at], 16);
        model->findable[there].holders = 0;
    }
    model->findable[there].holders++;
}

static void finish(struct kv *kv, struct model *model, struct stream *stream)
{
    kv_drop(kv, stream->table, stream->depth);
    model->private_blocks -= stream->depth - stream->published;
    for (uint32_t i = stream->published; i-- > 0;) {
        int at = model_find(model, stream->hashes[i]);
        assert_true(at >= 0);
        model->findable[at].holders--;
        model->findable[at].dropped_at = ++model->now;
    }
    stream->alive = false;
}

static void agree(const struct kv *kv, const struct model *model)
{
    kv_check(kv);
    uint32_t held = 0;
    for (uint32_t i = 0; i < model->count; i++)
        held += model->findable[i].holders > 0;
    assert_int_equal(kv_available(kv), kv->count - model->private_blocks - held);
    assert_int_equal(kv->idle_count, model->count - held);
}

static void test_random_streams_agree_with_the_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct rng rng;
        rng_init(&rng, seed);
        struct kv kv;
        kv_init(&kv, BLOCKS);
        struct model model = {0};
        struct stream streams[STREAMS] = {0};
        for (int operation = 0; operation < 200; operation++) {
            uint32_t which = (uint32_t)rng_below(&rng, STREAMS);
            struct stream *stream = &streams[which];
            if (!stream->alive)
                start(&kv, &model, streams, which, &rng);
            else if (stream->published < stream->depth && rng_below(&rng, 8) != 0)
                advance(&kv, &model, stream);
            else
                finish(&kv, &model, stream);
            agree(&kv, &model);
        }
        for (uint32_t i = 0; i < STREAMS; i++)
            if (streams[i].alive)
                finish(&kv, &model, &streams[i]);
        assert_int_equal(kv_available(&kv), BLOCKS);
        kv_free(&kv);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stored_prefix_is_found_and_shared),
        cmocka_unit_test(test_a_block_being_computed_is_seen_until_its_holder_goes),
        cmocka_unit_test(test_the_second_publisher_gets_the_first_ones_block),
        cmocka_unit_test(test_eviction_takes_the_least_recently_used_leaf),
        cmocka_unit_test(test_random_streams_agree_with_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
