/* model/config: config.json and generation_config.json of a Hugging Face folder, as hyper-parameters.
 *
 * What changes the arithmetic and isn't known is refused by name; keys without effect on it are passed over. */
#ifndef SHOAL_MODEL_CONFIG_H
#define SHOAL_MODEL_CONFIG_H

#include "base/json.h"
#include "base/status.h"
#include "model/desc.h"

/* Sizes, rope, tied, bos and eos of config.json. For a vocabulary only, any architecture will do. */
MUST_CHECK enum status config_read(const struct json *config, const struct model_options *options,
                                   struct model_desc *desc, struct error *error);
/* generation_config.json, if there is one, decides on the ids that end generation: a number or a list. */
MUST_CHECK enum status config_read_generation(const struct json *generation, struct model_desc *desc,
                                              struct error *error);
/* A Hugging Face folder, all of it. */
MUST_CHECK enum status hf_load(const char *folder, const struct model_options *options, struct model_desc *desc,
                               struct error *error);

#endif
