/* model/desc: one description of a model, whatever files it came in.
 *
 * model_open reads a Hugging Face folder (config.json, safetensors in one file or sharded with an index,
 * tokenizer.json, tokenizer_config.json, generation_config.json) or a GGUF file (v2, v3), checks every length, offset,
 * type and shape against the file before anything is allocated by it, and refuses by name what shoal does not run.
 * Weights are not read: tensors point into read-only mappings that the description owns. Engine and text take what
 * they need from here and know no file format. Immutable after model_open; may be shared by threads. */
#ifndef SHOAL_MODEL_DESC_H
#define SHOAL_MODEL_DESC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/json.h"
#include "base/status.h"
#include "model/vocab.h"

enum model_type {
    MODEL_F32,
    MODEL_F16,
    MODEL_BF16,
    MODEL_Q8_0, /* 32 weights: fp16 d, 32 int8;          w = d·q */
    MODEL_Q4_0, /* 32 weights: fp16 d, 16 bytes;         w = d·(q − 8); low nibbles are 0..15, high 16..31 */
    MODEL_Q4_1, /* 32 weights: fp16 d, fp16 m, 16 bytes; w = d·q + m */
    MODEL_TYPE_COUNT
};

const char *model_type_name(enum model_type type);
size_t model_type_block(enum model_type type);       /* weights per block: 1 or 32 */
size_t model_type_block_bytes(enum model_type type); /* bytes per block */

/* A matrix [rows, columns], row-major: `rows` outputs, `columns` inputs; vectors have rows = 1. Blocks run along
 * columns. */
struct model_tensor {
    const uint8_t *data; /* in the mapping, perhaps not aligned; NULL: absent (no bias, vocab_only) */
    enum model_type type;
    size_t rows;
    size_t columns;
};

/* How the rows of q and k are laid out in the file: pairs (0,1),(2,3)… (GGUF of the llama architecture) or halves
 * (i, i + d/2) (Hugging Face). The engine permutes whole rows at load, so that one kernel exists. */
enum model_rope_layout { MODEL_ROPE_PAIRS, MODEL_ROPE_HALVES };
enum model_rope_scaling { MODEL_ROPE_NONE, MODEL_ROPE_LINEAR, MODEL_ROPE_LLAMA3 };

struct model_layer {
    struct model_tensor attn_norm;              /* [hidden] */
    struct model_tensor q;                      /* [q_heads · head_dim, hidden] */
    struct model_tensor k;                      /* [kv_heads · head_dim, hidden] */
    struct model_tensor v;                      /* [kv_heads · head_dim, hidden] */
    struct model_tensor o;                      /* [hidden, q_heads · head_dim] */
    struct model_tensor q_bias, k_bias, v_bias; /* optional */
    struct model_tensor ffn_norm;               /* [hidden] */
    struct model_tensor gate;                   /* [ffn, hidden] */
    struct model_tensor up;                     /* [ffn, hidden] */
    struct model_tensor down;                   /* [hidden, ffn] */
};

struct model_desc {
    char id[96];           /* lower-case file stem without the quantisation: smollm2-135m-instruct */
    char architecture[32]; /* "llama" */
    char path[4096];
    size_t layers, hidden, ffn, q_heads, kv_heads, head_dim;
    size_t vocab_size; /* of embedding and output: may exceed the tokenizer's */
    size_t context_tokens;
    float rms_epsilon;
    double rope_base;
    size_t rope_dim; /* rotated part of head_dim */
    enum model_rope_layout rope_layout;
    enum model_rope_scaling rope_scaling;
    double rope_factor, rope_low_freq_factor, rope_high_freq_factor;
    size_t rope_original_context;
    const float *rope_freq_factors; /* rope_freqs.weight, rope_dim / 2 divisors of the frequencies; NULL: none */
    struct model_tensor embedding;  /* [vocab_size, hidden] */
    struct model_tensor output_norm;
    struct model_tensor output; /* [vocab_size, hidden]; data equals embedding's when tied */
    bool tied;
    struct model_layer *layer; /* [layers] */
    size_t weights_bytes;      /* of all tensors, each once */
    uint8_t hash[32];          /* BLAKE2b over the hyper-parameters and every tensor's type, shape and a fixed
                                * sample of its bytes: cheap, tells models apart; not a file digest. With
                                * vocab_only it covers the hyper-parameters alone */
    /* Special ids. */
    int32_t bos_id;       /* -1: none */
    bool add_bos;         /* a raw prompt gets it in front */
    uint32_t eos_ids[16]; /* the set that ends generation */
    size_t eos_count;
    struct vocab *vocab;              /* NULL when the folder has no tokenizer */
    struct vocab_tokenizer tokenizer; /* how to tokenise; kind NONE when there is none */
    const char *chat_template;        /* Jinja source, NULL: none */
    size_t chat_template_length;
    void *owner; /* mappings and texts, private to model/ */
};

struct model_options {
    bool vocab_only; /* for routers: no weights are needed, tensors stay absent */
};

MUST_CHECK enum status model_open(const char *path, const struct model_options *options, struct model_desc **out,
                                  struct error *error);
void model_close(struct model_desc *desc);
/* The id that model_open would give the path, from its name alone. */
void model_id_of_path(const char *path, char *out, size_t out_length);

#endif
