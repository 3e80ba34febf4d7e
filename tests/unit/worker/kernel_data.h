/* kernel_data: random tensors, activations and key-value memory for the tests of kernels, and the paths to hold against
 * one another. */
#ifndef SHOAL_TESTS_UNIT_WORKER_KERNEL_DATA_H
#define SHOAL_TESTS_UNIT_WORKER_KERNEL_DATA_H

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/rng.h"
#include "worker/engine/cpu/cpu.h"
#include "worker/engine/cpu/half.h"
#include "worker/engine/weights.h"

enum { PATHS_MAX = 3 };

static inline float random_float(struct rng *rng, float scale)
{
    return (float)((rng_unit(rng) * 2.0 - 1.0) * (double)scale);
}

static inline float *random_floats(struct rng *rng, size_t count, float scale)
{
    float *values = mem_new_array(float, count);
    for (size_t i = 0; i < count; i++)
        values[i] = random_float(rng, scale);
    return values;
}

/* A tensor in its file form; all quantised values occur, −128 of Q8_0 too. tensor.data is a new array. */
static inline struct model_tensor random_tensor(struct rng *rng, enum model_type type, size_t rows, size_t columns)
{
    const size_t block = model_type_block(type), block_bytes = model_type_block_bytes(type);
    const size_t bytes = rows * columns / block * block_bytes;
    uint8_t *data = mem_alloc(bytes);
    for (size_t at = 0; at < bytes; at += block_bytes) {
        const float value = random_float(rng, block == 1 ? 1.0f : 0.02f), minimum = random_float(rng, 0.1f);
        const uint16_t half = type == MODEL_BF16 ? bf16_from_float(value) : half_from_float(value);
        const uint16_t half_minimum = half_from_float(minimum);
        for (size_t i = 0; i < block_bytes; i++)
            data[at + i] = (uint8_t)(rng_u64(rng) >> 56);
        memcpy(data + at, type == MODEL_F32 ? (const void *)&value : (const void *)&half, type == MODEL_F32 ? 4 : 2);
        if (type == MODEL_Q4_1)
            memcpy(data + at + 2, &half_minimum, 2);
    }
    return (struct model_tensor){.data = data, .type = type, .rows = rows, .columns = columns};
}

/* Weight (row, column) in double, straight from the file form. */
static inline double tensor_weight(const struct model_tensor *tensor, size_t row, size_t column)
{
    const size_t block = model_type_block(tensor->type), bytes = model_type_block_bytes(tensor->type);
    const uint8_t *at = tensor->data + (row * tensor->columns + column) / block * bytes;
    const size_t i = column % block;
    uint16_t d, m;
    float f;
    memcpy(&d, at, 2);
    switch (tensor->type) {
    case MODEL_F32:
        memcpy(&f, at, 4);
        return (double)f;
    case MODEL_F16:
        return (double)half_to_float(d);
    case MODEL_BF16:
        return (double)bf16_to_float(d);
    case MODEL_Q8_0:
        return (double)half_to_float(d) * (int8_t)at[2 + i];
    case MODEL_Q4_0:
        return (double)half_to_float(d) * ((i < 16 ? at[2 + i] & 15 : at[2 + i - 16] >> 4) - 8);
    default:
        memcpy(&m, at + 2, 2);
        return (double)half_to_float(d) * (i < 16 ? at[4 + i] & 15 : at[4 + i - 16] >> 4) + (double)half_to_float(m);
    }
}

struct packed {
    struct backend_matrix matrix;
    uint8_t *memory;
};

static inline struct packed packed_of(const struct model_tensor *tensor)
{
    struct packed packed = {.memory =
                                mem_alloc(weights_matrix_bytes(tensor->type, tensor->rows, tensor->columns) + 64)};
    uint8_t *aligned = packed.memory + (64 - (uintptr_t)packed.memory % 64) % 64;
    weights_pack(tensor, aligned, &packed.matrix);
    return packed;
}

static inline struct backend_act act_new(size_t tokens, size_t columns)
{
    const size_t blocks = columns / BACKEND_BLOCK;
    return (struct backend_act){.columns = columns,
                                .q = mem_new_array(int8_t, tokens * columns),
                                .d = mem_new_array(float, tokens *blocks),
                                .dsum = mem_new_array(float, tokens *blocks),
                                .sum = mem_new_array(int32_t, tokens * blocks)};
}

static inline void act_free(struct backend_act *act)
{
    mem_free(act->q);
    mem_free(act->d);
    mem_free(act->dsum);
    mem_free(act->sum);
}

#endif
