/* runner: drives decoders as a head's batch would, for tests: streams in slots, fed with ids, answering with tokens
 * and logits. Blocks are dealt in a scrambled order, so that nothing leans on neighbours in the pool. */
#ifndef SHOAL_TESTS_UNIT_WORKER_RUNNER_H
#define SHOAL_TESTS_UNIT_WORKER_RUNNER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "worker/engine/decoder.h"
#include "worker/engine/ranks.h"

enum { RUNNER_SLOTS_MAX = 64 };

struct runner_options {
    const char *cpu_path;
    enum decoder_kv_type kv_type;
    unsigned threads, ranks, stages;
    uint32_t slots, context, tokens_max;
};

struct runner {
    struct ranks *ranks;
    uint32_t slots, blocks_per_slot, tokens_max;
    size_t vocab;
    uint32_t position[RUNNER_SLOTS_MAX], blocks[RUNNER_SLOTS_MAX];
    uint64_t step;
};

/* One stream's part in a step. */
struct runner_row {
    uint32_t slot;
    const uint32_t *ids;
    uint32_t count;
    float *logits; /* of the last token; NULL: not wanted */
    struct plan_sampling sampling;
    uint32_t token; /* out */
};

static inline struct runner runner_open(const struct model_desc *desc, const struct runner_options *options)
{
    struct runner runner = {.slots = options->slots, .tokens_max = options->tokens_max, .vocab = desc->vocab_size};
    runner.blocks_per_slot = (options->context + DECODER_BLOCK_TOKENS - 1) / DECODER_BLOCK_TOKENS;
    const struct decoder_config config = {.desc = desc,
                                          .cpu_path = options->cpu_path,
                                          .threads = options->threads,
                                          .kv_type = options->kv_type,
                                          .blocks = runner.blocks_per_slot * runner.slots,
                                          .slots = runner.slots,
                                          .tokens_max = options->tokens_max,
                                          .blocks_per_slot_max = runner.blocks_per_slot};
    struct error error = {0};
    enum status status = ranks_open(&config, options->ranks, options->stages, &runner.ranks, &error);
    if (status != STATUS_OK) {
        fprintf(stderr, "runner: %s\n", error.text);
        abort();
    }
    return runner;
}

static inline void runner_close(struct runner *runner)
{
    ranks_close(runner->ranks);
}

static inline void runner_reset(struct runner *runner, uint32_t slot)
{
    runner->position[slot] = runner->blocks[slot] = 0;
}

static inline void runner_step(struct runner *runner, struct runner_row *rows, size_t count)
{
    struct plan_row plan_rows[RUNNER_SLOTS_MAX];
    uint32_t ids[RUNNER_SLOTS_MAX], *new_blocks[RUNNER_SLOTS_MAX];
    float *logits[RUNNER_SLOTS_MAX];
    size_t tokens = 0;
    CHECK(count <= RUNNER_SLOTS_MAX);
    for (size_t i = 0; i < count; i++) {
        const uint32_t slot = rows[i].slot, end = runner->position[slot] + rows[i].count;
        const uint32_t total = runner->blocks_per_slot * runner->slots;
        const uint32_t needed = (end + DECODER_BLOCK_TOKENS - 1) / DECODER_BLOCK_TOKENS;
        new_blocks[i] = mem_new_array(uint32_t, needed + 1);
        plan_rows[i] = (struct plan_row){.slot = slot,
                                         .reset = runner->position[slot] == 0,
                                         .position = runner->position[slot],
                                         .count = rows[i].count,
                                         .ids = rows[i].ids,
                                         .new_blocks = new_blocks[i],
                                         .want_token = true,
                                         .sampling = rows[i].sampling};
        for (; runner->blocks[slot] < needed; runner->blocks[slot]++) {
            const uint64_t index = (uint64_t)slot + (uint64_t)runner->slots * runner->blocks[slot];
            new_blocks[i][plan_rows[i].new_blocks_count++] = (uint32_t)(total - 1 - index); /* the slots interleaved */
        }
        logits[i] = rows[i].logits;
        tokens += rows[i].count;
        runner->position[slot] = end;
    }
    const struct plan plan = {
        .epoch = 1, .step = ++runner->step, .rows = plan_rows, .rows_count = count, .tokens = tokens};
    struct plan_result result = {.ids = ids, .logits = logits};
    struct error error = {0};
    enum status status = ranks_run(runner->ranks, &plan, &result, &error);
    if (status != STATUS_OK) {
        fprintf(stderr, "runner: %s\n", error.text);
        abort();
    }
    for (size_t i = 0; i < count; i++) {
        rows[i].token = ids[i];
        mem_free(new_blocks[i]);
    }
}

#endif
