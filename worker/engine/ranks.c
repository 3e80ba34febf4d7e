/* ranks: see ranks.h. */
#include "worker/engine/ranks.h"

#include "base/mem.h"

struct ranks {
    struct decoder *decoder;
};

enum status ranks_open(const struct decoder_config *config, unsigned ranks, unsigned stages, struct ranks **out,
                       struct error *error)
{
    if (ranks != 1 || stages != 1)
        return error_set(error, STATUS_UNSUPPORTED, "groups of %u ranks and %u stages are not there yet", ranks,
                         stages);
    struct decoder *decoder;
    enum status status = decoder_open(config, &decoder, error);
    if (status != STATUS_OK)
        return status;
    *out = mem_new(struct ranks);
    (*out)->decoder = decoder;
    return STATUS_OK;
}

void ranks_close(struct ranks *ranks)
{
    decoder_close(ranks->decoder);
    mem_free(ranks);
}

void ranks_info(const struct ranks *ranks, struct decoder_info *out)
{
    decoder_info(ranks->decoder, out);
}

enum status ranks_run(struct ranks *ranks, const struct plan *plan, struct plan_result *result, struct error *error)
{
    return decoder_run(ranks->decoder, plan, result, error);
}
