/* router_internal: what router.c (events, view, endpoints) and router_streams.c (the streams' flows) share. */
#ifndef SHOAL_ROUTER_ROUTER_INTERNAL_H
#define SHOAL_ROUTER_ROUTER_INTERNAL_H

#include "router/fleet.h"
#include "router/router.h"
#include "router/stream.h"
#include "router/view.h"
#include "sched/admit.h"

enum words_state { WORDS_LOADING, WORDS_READY, WORDS_FAILED };

/* A model of the view, and its texts. */
struct model_words {
    struct list node;
    uint64_t number;
    char name[97];
    char *path;
    enum words_state state;
    struct text_model *words;
    char *why;          /* FAILED */
    uint64_t failed_us; /* tried again some time later */
    bool in_view;
};

struct router_metrics {
    struct metric *resumed, *restarted, *class_changed, *parked, *tokens, *cached_tokens, *open, *serving, *view_index;
    struct metric *ttft, *itl;
};

struct router {
    struct router_config config;
    struct view view;
    struct fleet fleet;
    struct admit admit;
    struct list models;  /* struct model_words */
    struct list streams; /* by arrival */
    struct map streams_by_number;
    uint64_t model_last;
    struct router_metrics metrics;
    /* Of the step that runs; fleet_lost reaches them here. */
    uint64_t now_us;
    struct router_actions *actions;
};

/* Counts a request's end by its HTTP status; 499: the client went first. */
void router_count(struct router *router, unsigned http_status);
void router_answer_error(struct router *router, uint64_t number, const struct openai_error *error);

/* router_streams.c. All act on the step that runs. */
void streams_receive(struct router *router, const struct router_event *event, enum openai_kind kind,
                     const struct proto_view_tenant *tenant);
void streams_words_changed(struct router *router, struct model_words *model);
void streams_encoded(struct router *router, const struct router_event *event);
void streams_client(struct router *router, const struct router_event *event);
void streams_tokens(struct router *router, struct replica *replica, const struct proto_tokens *message);
void streams_finished(struct router *router, struct replica *replica, const struct proto_finished *message);
void streams_refused(struct router *router, struct replica *replica, const struct proto_refused *message);
void streams_replica_lost(void *router, struct replica *replica, const char *why);
void streams_place_waiting(struct router *router); /* a replica opened */
void streams_count_begun(struct router *router);   /* sets streams_begun of every replica that has streams */
void streams_tick(struct router *router);
void streams_end_all(struct router *router);

#endif
