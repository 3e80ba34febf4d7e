/* model/tokenizer_json: the tokenizer.json of Hugging Face's `tokenizers`, as a vocabulary and its rules.
 *
 * Byte-pair encoding is read in its two common forms: byte-level (GPT-2, Llama 3, Qwen, SmolLM) and SentencePiece-style
 * with byte fallback (Llama 2, Mistral). Any other model, normalizer, pre-tokenizer, post-processor or decoder is
 * refused by its name, since passing over one would give wrong ids silently. */
#ifndef SHOAL_MODEL_TOKENIZER_JSON_H
#define SHOAL_MODEL_TOKENIZER_JSON_H

#include "base/json.h"
#include "base/status.h"
#include "model/desc.h"
#include "model/vocab_make.h"

/* root: tokenizer.json. config: tokenizer_config.json (bos_token, add_bos_token), or NULL. Copies what it keeps. Sets
 * vocab, tokenizer, and bos_id and add_bos where these files decide. */
MUST_CHECK enum status tokenizer_json_read(const struct json *root, const struct json *config, struct model_desc *desc,
                                           struct error *error);

/* The rules (model/tokenizer_rules.c): normalizer, pre_tokenizer and decoder into desc->tokenizer. */
MUST_CHECK enum status tokenizer_rules_read(const struct json *root, struct model_desc *desc, struct error *error);
/* The post-processor into add_bos and bos_id. */
MUST_CHECK enum status tokenizer_post_read(const struct json *root, const struct vocab_make *make,
                                           struct model_desc *desc, struct error *error);

#endif
