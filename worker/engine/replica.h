/* replica: a model's files and their engine, opened, warmed up and closed together: what a shell holds. */
#ifndef SHOAL_WORKER_ENGINE_REPLICA_H
#define SHOAL_WORKER_ENGINE_REPLICA_H

#include "worker/engine/engine.h"

struct replica {
    struct model_desc *desc;
    struct engine *engine;
};

/* `config->desc` is ignored. */
MUST_CHECK enum status replica_open(const char *path, const struct engine_config *config, struct replica *out,
                                    struct error *error);
void replica_close(struct replica *replica);
/* Runs a few steps on made-up ids, so that the first request meets touched pages, awake threads and a fitted cost. */
MUST_CHECK enum status replica_warm_up(struct replica *replica, uint64_t (*clock_us)(void), struct error *error);
/* What a model at this path is called when nobody names it. */
void replica_model_name(const char *path, char *out, size_t out_length);

#endif
