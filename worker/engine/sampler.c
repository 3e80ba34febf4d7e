/* sampler: see sampler.h for the rules. The candidates' order is made in batches: everything within 4 temperatures of
 * the largest logit first, then within 8, 16, 32, and then the rest; most draws end in the first batch. */
#include "worker/engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/rng.h"

/* The sorted prefix of the candidates that is known so far. */
struct prefix {
    struct sampler *sampler;
    const float *logits;
    size_t limit; /* top_k, or the vocabulary */
    size_t count;
    unsigned batch;
    float temperature;
    float top;   /* the largest logit */
    float floor; /* logits ≥ this are in the prefix */
};

void sampler_open(struct sampler *sampler, size_t vocab)
{
    sampler->vocab = vocab;
    sampler->weights = mem_new_array(float, vocab);
    sampler->candidates = mem_new_array(uint64_t, vocab);
}

void sampler_close(struct sampler *sampler)
{
    mem_free(sampler->weights);
    mem_free(sampler->candidates);
    *sampler = (struct sampler){0};
}

double sampler_random(const struct plan_sampling *sampling, uint32_t position, uint32_t draw)
{
    const uint32_t key[2] = {(uint32_t)sampling->seed, (uint32_t)(sampling->seed >> 32)};
    const uint32_t counter[4] = {position, draw, sampling->choice, 0};
    uint32_t out[4];
    philox4x32(key, counter, out);
    return (double)(((uint64_t)out[0] << 32 | out[1]) >> 11) * 0x1p-53;
}

/* Ascending keys are (logit descending, id ascending). */
static uint64_t key_of(float logit, uint32_t id)
{
    uint32_t bits;
    logit += 0.0f; /* −0 becomes 0: they are one value */
    memcpy(&bits, &logit, sizeof bits);
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return (uint64_t)~bits << 32 | id;
}

static uint32_t id_of(uint64_t key)
{
    return (uint32_t)key;
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

/* Keeps the `k` smallest keys of all logits: a heap with the largest kept key on top. */
static void sift_down(uint64_t *heap, size_t count, size_t at)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= count)
            return;
        if (child + 1 < count && heap[child + 1] > heap[child])
            child++;
        if (heap[at] >= heap[child])
            return;
        const uint64_t swap = heap[at];
        heap[at] = heap[child];
        heap[child] = swap;
        at = child;
    }
}

static size_t select_top(struct sampler *sampler, const float *logits, size_t k)
{
    uint64_t *heap = sampler->candidates;
    size_t count = 0, i = 0;
    for (; i < sampler->vocab && count < k; i++) {
        if (!isnan(logits[i]))
            heap[count++] = key_of(logits[i], (uint32_t)i);
    }
    for (size_t at = count / 2; at-- > 0;)
        sift_down(heap, count, at);
    float worst = count > 0 ? logits[id_of(heap[0])] : 0.0f;
    for (; i < sampler->vocab; i++) {
        if (!(logits[i] > worst)) /* an equal logit has the higher id: not better */
            continue;
        heap[0] = key_of(logits[i], (uint32_t)i);
        sift_down(heap, count, 0);
        worst = logits[id_of(heap[0])];
    }
    qsort(heap, count, sizeof *heap, compare_keys);
    return count;
}

/* Appends the next batch in order; false when nothing is left. */
static bool prefix_extend(struct prefix *prefix)
{
    static const float within[] = {4.0f, 8.0f, 16.0f, 32.0f, INFINITY};
    while (prefix->batch < COUNT_OF(within)) {
        const float above = prefix->floor, reach = within[prefix->batch++];
        const float floor = isinf(reach) ? -INFINITY : prefix->top - reach * prefix->temperature;
        const size_t before = prefix->count;
        for (size_t i = 0; i < prefix->sampler->vocab; i++) {
            const float logit = prefix->logits[i];
            if (logit >= floor && !(before > 0 && logit >= above))
                prefix->sampler->candidates[prefix->count++] = key_of(logit, (uint32_t)i);
        }
        prefix->floor = floor;
        if (prefix->count > before) {
            qsort(prefix->sampler->candidates + before, prefix->count - before, sizeof(uint64_t), compare_keys);
            return true;
        }
    }
    return false;
}

/* How many candidates top_p and min_p leave, and the sum of their weights. The first always stays. */
static size_t truncate(struct prefix *prefix, const struct plan_sampling *sampling, double total, double *kept_total)
{
    const double top_p = (double)sampling->top_p * total;
    double sum = 0.0, best = 0.0;
    size_t kept = 0;
    for (; kept < prefix->limit; kept++) {
        if (kept == prefix->count && !prefix_extend(prefix))
            break;
        const double weight = (double)prefix->sampler->weights[id_of(prefix->sampler->candidates[kept])];
        if (kept == 0)
            best = weight;
        else if ((sampling->top_p < 1.0f && sum >= top_p) || weight < (double)sampling->min_p * best)
            break;
        sum += weight;
    }
    *kept_total = sum;
    return kept;
}

static uint32_t walk(struct prefix *prefix, size_t kept, double target)
{
    double sum = 0.0;
    uint32_t id = 0;
    for (size_t i = 0; i < kept; i++) {
        if (i == prefix->count && !prefix_extend(prefix))
            break;
        id = id_of(prefix->sampler->candidates[i]);
        sum += (double)prefix->sampler->weights[id];
        if (sum > target)
            break;
    }
    return id;
}

uint32_t sampler_draw(struct sampler *sampler, const struct backend *backend, const float *logits,
                      const struct plan_sampling *sampling, uint32_t position)
{
    const uint32_t best = (uint32_t)backend->argmax(logits, sampler->vocab);
    const float factor = sampling->temperature > 0.0f ? 1.0f / sampling->temperature : INFINITY;
    if (isinf(factor) || sampling->top_k == 1 || !isfinite(logits[best]))
        return best;
    double total = backend->softmax_weights(logits, sampler->vocab, logits[best], factor, sampler->weights);
    struct prefix prefix = {.sampler = sampler,
                            .logits = logits,
                            .limit = sampler->vocab,
                            .temperature = sampling->temperature,
                            .top = logits[best],
                            .floor = INFINITY};
    const bool has_top_k = sampling->top_k > 0 && sampling->top_k < sampler->vocab;
    if (has_top_k) {
        prefix.limit = prefix.count = select_top(sampler, logits, sampling->top_k);
        total = 0.0;
        for (size_t i = 0; i < prefix.count; i++)
            total += (double)sampler->weights[id_of(sampler->candidates[i])];
    }
    if (isnan(total)) /* some logits are no numbers: there is no distribution to draw from */
        return best;
    size_t kept = prefix.limit;
    if (sampling->top_p < 1.0f || sampling->min_p > 0.0f)
        kept = truncate(&prefix, sampling, total, &total);
    return walk(&prefix, kept, sampler_random(sampling, position, 0) * total);
}
