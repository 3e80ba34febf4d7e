/* ranks: the decoders of all ranks and stages of one replica that live in this process, run as one.
 *
 * 1 × 1 is a decoder and nothing else. More are an in-process group: each further rank has a thread that waits for a
 * plan and runs it; the caller's thread is rank 0 of stage 0. Serving uses 1 × 1 until groups span processes; tests
 * hold 2 × 2 against it, bit for bit. */
#ifndef SHOAL_WORKER_ENGINE_RANKS_H
#define SHOAL_WORKER_ENGINE_RANKS_H

#include "base/status.h"
#include "worker/engine/decoder.h"
#include "worker/engine/plan.h"

struct ranks;

/* `config` is every rank's, but for the group. */
MUST_CHECK enum status ranks_open(const struct decoder_config *config, unsigned ranks, unsigned stages,
                                  struct ranks **out, struct error *error);
void ranks_close(struct ranks *ranks);
void ranks_info(const struct ranks *ranks, struct decoder_info *out);
/* Runs the plan on all of them; the result is the last stage's. */
MUST_CHECK enum status ranks_run(struct ranks *ranks, const struct plan *plan, struct plan_result *result,
                                 struct error *error);

#endif
