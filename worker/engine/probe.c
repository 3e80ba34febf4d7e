/* probe: see probe.h. The inputs come from xoshiro256** with a fixed seed; results are hashed as bytes, in order. */
#include "worker/engine/probe.h"

#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "worker/engine/cpu/cpu.h"
#include "worker/engine/cpu/half.h"
#include "worker/engine/weights.h"

enum { ROWS = 40, COLUMNS = 96, TOKENS = 5, POSITIONS = 300, HEAD_DIM = 32 };

struct probe {
    const struct backend *backend;
    struct rng rng;
    uint64_t hash;
    float x[TOKENS * COLUMNS];
};

static void absorb(struct probe *probe, const float *values, size_t count)
{
    probe->hash = hash_xx64(values, count * sizeof(float), probe->hash);
}

static void fill(struct probe *probe, float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(rng_unit(&probe->rng) * 4.0 - 2.0);
}

/* Random weights of the type; scales are small positive halves. */
static void fill_tensor(struct probe *probe, enum model_type type, uint8_t *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)rng_u64(&probe->rng);
    const size_t step = type == MODEL_F32 ? 4 : model_type_block_bytes(type);
    for (size_t i = 0; i < bytes; i += step) {
        const float value = (float)(rng_unit(&probe->rng) * 0.25 - 0.125);
        const uint16_t half = type == MODEL_BF16 ? bf16_from_float(value) : half_from_float(value);
        memcpy(data + i, type == MODEL_F32 ? (const void *)&value : (const void *)&half, type == MODEL_F32 ? 4 : 2);
        if (type == MODEL_Q4_1)
            memcpy(data + i + 2, &half, 2);
    }
}

static void probe_product(struct probe *probe, enum model_type type, const struct backend_act *act)
{
    const struct model_tensor tensor = {.type = type, .rows = ROWS, .columns = COLUMNS};
    const size_t bytes = ROWS * COLUMNS / model_type_block(type) * model_type_block_bytes(type);
    uint8_t *raw = mem_alloc(bytes);
    uint8_t *packed = mem_alloc(weights_matrix_bytes(type, ROWS, COLUMNS));
    struct model_tensor filled = tensor;
    fill_tensor(probe, type, raw, bytes);
    filled.data = raw;
    struct backend_matrix matrix;
    weights_pack(&filled, packed, &matrix);
    float y[TOKENS * ROWS] = {0};
    const struct backend_matmul call = {.matrix = &matrix,
                                        .act = act,
                                        .x = probe->x,
                                        .x_stride = COLUMNS,
                                        .token_last = TOKENS,
                                        .y = y,
                                        .y_stride = ROWS};
    probe->backend->matmul(&call, 0, matrix.packs);
    absorb(probe, y, TOKENS * ROWS);
    mem_free(packed);
    mem_free(raw);
}

static void probe_products(struct probe *probe)
{
    int8_t q[TOKENS * COLUMNS];
    float d[TOKENS * COLUMNS / 32], dsum[TOKENS * COLUMNS / 32];
    int32_t sum[TOKENS * COLUMNS / 32];
    const struct backend_act act = {.columns = COLUMNS, .q = q, .d = d, .dsum = dsum, .sum = sum};
    for (size_t t = 0; t < TOKENS; t++)
        probe->backend->quantize(&act, t, probe->x + t * COLUMNS);
    absorb(probe, d, COUNT_OF(d));
    for (int type = 0; type < MODEL_TYPE_COUNT; type++)
        probe_product(probe, (enum model_type)type, &act);
}

static void probe_attention(struct probe *probe, enum decoder_kv_type type)
{
    enum { UNIT = HEAD_DIM * 16 * 4 * 2 + 128, BLOCKS = (POSITIONS + 15) / 16 };
    uint8_t *blocks = mem_alloc((size_t)UNIT * BLOCKS);
    const struct backend_kv kv = {.blocks = blocks,
                                  .block_bytes = UNIT,
                                  .type = type,
                                  .head_dim = HEAD_DIM,
                                  .head_dim_padded = HEAD_DIM,
                                  .values = HEAD_DIM * 16 * 4,
                                  .key_scales = HEAD_DIM * 16 * 4 * 2,
                                  .value_scales = HEAD_DIM * 16 * 4 * 2 + 64};
    uint32_t table[BLOCKS];
    float key[HEAD_DIM], value[HEAD_DIM], out[HEAD_DIM];
    for (uint32_t p = 0; p < POSITIONS; p++) {
        table[p / 16] = p / 16;
        fill(probe, key, HEAD_DIM);
        fill(probe, value, HEAD_DIM);
        probe->backend->kv_store(&kv, p / 16, p % 16, key, value);
    }
    float acc[2][HEAD_DIM];
    struct backend_partial partial[] = {{.acc = acc[0]}, {.acc = acc[1]}};
    const struct backend_query query = {.q = key, .position = POSITIONS - 1};
    probe->backend->attend(&kv, table, 0, &query, 1, &partial[0]);
    probe->backend->attend(&kv, table, 1, &query, 1, &partial[1]);
    probe->backend->attend_merge(&partial[0], &partial[1], HEAD_DIM);
    probe->backend->attend_finish(&partial[0], HEAD_DIM, out);
    absorb(probe, out, HEAD_DIM);
    mem_free(blocks);
}

uint64_t probe_class(const struct backend *backend)
{
    struct probe probe = {.backend = backend};
    float gate[COLUMNS], up[COLUMNS];
    const unsigned mode = cpu_float_mode();
    rng_init(&probe.rng, 0x73686f616c);
    fill(&probe, probe.x, COUNT_OF(probe.x));
    fill(&probe, gate, COLUMNS);
    fill(&probe, up, COLUMNS);
    probe_products(&probe);
    for (int type = DECODER_KV_F32; type <= DECODER_KV_INT8; type++)
        probe_attention(&probe, (enum decoder_kv_type)type);
    backend->rope(probe.x, gate, up, HEAD_DIM / 2, HEAD_DIM, 0.125f);
    backend->norm(probe.x, up, 1e-5f, COLUMNS, probe.x + COLUMNS);
    backend->swiglu(gate, up, COLUMNS);
    absorb(&probe, probe.x, 2 * COLUMNS);
    absorb(&probe, gate, COLUMNS);
    const double sum = backend->softmax_weights(up, COLUMNS, 2.0f, 1.5f, gate);
    absorb(&probe, gate, COLUMNS);
    probe.hash = hash_xx64(&sum, sizeof sum, probe.hash);
    cpu_float_restore(mode);
    return probe.hash;
}
