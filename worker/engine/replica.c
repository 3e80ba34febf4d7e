/* replica: see replica.h. */
#include "worker/engine/replica.h"

#include "base/check.h"
#include "base/crypto.h"

enum { WARM_UP_PROMPT = 64, WARM_UP_TOKENS = 4 };

enum status replica_open(const char *path, const struct engine_config *config, struct replica *out, struct error *error)
{
    const struct model_options options = {0};
    struct engine_config own = *config;
    *out = (struct replica){0};
    enum status status = model_open(path, &options, &out->desc, error);
    if (status != STATUS_OK)
        return status;
    own.desc = out->desc;
    status = engine_open(&own, &out->engine, error);
    if (status != STATUS_OK)
        replica_close(out);
    return status;
}

void replica_close(struct replica *replica)
{
    engine_close(replica->engine);
    if (replica->desc != NULL)
        model_close(replica->desc);
    *replica = (struct replica){0};
}

enum status replica_warm_up(struct replica *replica, uint64_t (*clock_us)(void), struct error *error)
{
    const struct engine_info *info = engine_info(replica->engine);
    uint32_t ids[WARM_UP_PROMPT];
    uint32_t count = info->context_tokens > WARM_UP_PROMPT + WARM_UP_TOKENS ? WARM_UP_PROMPT : 1;
    if (info->context_tokens < 1 + WARM_UP_TOKENS)
        return STATUS_OK;
    for (uint32_t i = 0; i < count; i++)
        ids[i] = i % info->vocab_size;
    struct engine_request request = {.ids = ids,
                                     .ids_count = count,
                                     .prompt_tokens = count,
                                     .max_tokens = WARM_UP_TOKENS,
                                     .sampling = {.top_p = 1},
                                     .ignore_eos = true};
    crypto_random(request.cache_key, sizeof(request.cache_key)); /* nobody finds its blocks */
    enum status status = engine_submit(replica->engine, &request, error);
    while (status == STATUS_OK && !engine_idle(replica->engine)) {
        struct engine_step step;
        status = engine_step(replica->engine, clock_us, &step, error);
    }
    return status;
}

void replica_model_name(const char *path, char *out, size_t out_length)
{
    model_id_of_path(path, out, out_length);
}
