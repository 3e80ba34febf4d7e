/* random_model: a small model made in memory from a seed, in any mix of weight types: q heads that share kv heads
 * across ranks (6 on 3), odd vocabulary, more layers than stages. */
#ifndef SHOAL_TESTS_UNIT_WORKER_RANDOM_MODEL_H
#define SHOAL_TESTS_UNIT_WORKER_RANDOM_MODEL_H

#include "tests/unit/worker/kernel_data.h"

enum {
    RANDOM_LAYERS = 3,
    RANDOM_HIDDEN = 96,
    RANDOM_FFN = 160,
    RANDOM_Q_HEADS = 6,
    RANDOM_KV_HEADS = 3,
    RANDOM_HEAD_DIM = 16,
    RANDOM_VOCAB = 101
};

struct random_model {
    struct model_desc desc;
    struct model_layer layers[RANDOM_LAYERS];
    void *owned[64];
    size_t owned_count;
};

static inline struct model_tensor random_model_tensor(struct random_model *model, struct rng *rng, enum model_type type,
                                                      size_t rows, size_t columns)
{
    struct model_tensor tensor = random_tensor(rng, type, rows, columns);
    CHECK(model->owned_count < COUNT_OF(model->owned));
    model->owned[model->owned_count++] = (void *)tensor.data;
    return tensor;
}

/* A norm's weights around 1, or a bias around 0. */
static inline struct model_tensor random_model_vector(struct random_model *model, struct rng *rng, size_t n,
                                                      float center)
{
    struct model_tensor tensor = random_model_tensor(model, rng, MODEL_F32, 1, n);
    for (size_t i = 0; i < n; i++) {
        const float value = center + random_float(rng, 0.2f);
        memcpy((uint8_t *)tensor.data + 4 * i, &value, 4);
    }
    return tensor;
}

/* types: of q, k, v, o, gate, up, down, output, in turn; embedding has the output's type. */
static inline struct random_model *random_model_new(uint64_t seed, const enum model_type types[8], bool tied,
                                                    bool biases)
{
    struct random_model *model = mem_new(struct random_model);
    struct rng rng;
    rng_init(&rng, seed);
    const size_t q = RANDOM_Q_HEADS * RANDOM_HEAD_DIM, kv = RANDOM_KV_HEADS * RANDOM_HEAD_DIM;
    model->desc = (struct model_desc){.architecture = "llama",
                                      .layers = RANDOM_LAYERS,
                                      .hidden = RANDOM_HIDDEN,
                                      .ffn = RANDOM_FFN,
                                      .q_heads = RANDOM_Q_HEADS,
                                      .kv_heads = RANDOM_KV_HEADS,
                                      .head_dim = RANDOM_HEAD_DIM,
                                      .vocab_size = RANDOM_VOCAB,
                                      .context_tokens = 1024,
                                      .rms_epsilon = 1e-5f,
                                      .rope_base = 10000.0,
                                      .rope_dim = RANDOM_HEAD_DIM,
                                      .rope_layout = MODEL_ROPE_HALVES,
                                      .layer = model->layers,
                                      .tied = tied};
    for (size_t i = 0; i < RANDOM_LAYERS; i++) {
        struct model_layer *layer = &model->layers[i];
        layer->attn_norm = random_model_vector(model, &rng, RANDOM_HIDDEN, 1.0f);
        layer->q = random_model_tensor(model, &rng, types[0], q, RANDOM_HIDDEN);
        layer->k = random_model_tensor(model, &rng, types[1], kv, RANDOM_HIDDEN);
        layer->v = random_model_tensor(model, &rng, types[2], kv, RANDOM_HIDDEN);
        layer->o = random_model_tensor(model, &rng, types[3], RANDOM_HIDDEN, q);
        layer->ffn_norm = random_model_vector(model, &rng, RANDOM_HIDDEN, 1.0f);
        layer->gate = random_model_tensor(model, &rng, types[4], RANDOM_FFN, RANDOM_HIDDEN);
        layer->up = random_model_tensor(model, &rng, types[5], RANDOM_FFN, RANDOM_HIDDEN);
        layer->down = random_model_tensor(model, &rng, types[6], RANDOM_HIDDEN, RANDOM_FFN);
        if (biases) {
            layer->q_bias = random_model_vector(model, &rng, q, 0.0f);
            layer->k_bias = random_model_vector(model, &rng, kv, 0.0f);
            layer->v_bias = random_model_vector(model, &rng, kv, 0.0f);
        }
    }
    model->desc.embedding = random_model_tensor(model, &rng, types[7], RANDOM_VOCAB, RANDOM_HIDDEN);
    model->desc.output =
        tied ? model->desc.embedding : random_model_tensor(model, &rng, types[7], RANDOM_VOCAB, RANDOM_HIDDEN);
    model->desc.output_norm = random_model_vector(model, &rng, RANDOM_HIDDEN, 1.0f);
    return model;
}

static inline void random_model_free(struct random_model *model)
{
    for (size_t i = 0; i < model->owned_count; i++)
        mem_free(model->owned[i]);
    mem_free(model);
}

#endif
