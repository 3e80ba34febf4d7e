/* router: see router.h. Here: events to where they belong, the view and its models, the endpoints that need no engine.
 * The streams' flows are in router_streams.c. */
#include "router/router.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "router/router_internal.h"

enum { FRAME_ARENA_BYTES_MAX = 64 << 20, WORDS_AGAIN_US = 10000000 };

static void register_metrics(struct router *router)
{
    struct metrics *metrics = router->config.metrics;
    router->metrics = (struct router_metrics){
        .resumed =
            metrics_counter(metrics, "shoal_streams_resumed_total",
                            "streams that went on elsewhere, in the middle, when their engine was lost", NULL, NULL),
        .restarted = metrics_counter(metrics, "shoal_streams_restarted_total",
                                     "streams that had to be submitted again before their first token", NULL, NULL),
        .class_changed = metrics_counter(metrics, "shoal_streams_class_changed_total",
                                         "submissions to another numerics class than the stream began in", NULL, NULL),
        .parked = metrics_counter(metrics, "shoal_streams_parked_total",
                                  "times that a stream left its engine because its client did not read", NULL, NULL),
        .tokens =
            metrics_counter(metrics, "shoal_completion_tokens_total", "new tokens received from engines", NULL, NULL),
        .cached_tokens =
            metrics_counter(metrics, "shoal_cached_tokens_total", "prompt tokens that prefix caches gave", NULL, NULL),
        .open = metrics_gauge(metrics, "shoal_open_streams", "requests that are open", NULL, NULL),
        .serving = metrics_gauge(metrics, "shoal_replicas_serving", "replicas that take streams", NULL, NULL),
        .view_index = metrics_gauge(metrics, "shoal_view_index", "of the newest view", NULL, NULL),
        .ttft = metrics_histogram(metrics, "shoal_ttft_seconds", "arrival to first token", NULL, NULL),
        .itl = metrics_histogram(metrics, "shoal_itl_seconds", "between tokens of a stream", NULL, NULL),
    };
}

static void set_defaults(struct router_config *config)
{
    config->silence_us = config->silence_us != 0 ? config->silence_us : 500000;
    config->stall_us = config->stall_us != 0 ? config->stall_us : 10000000;
    config->wait_us = config->wait_us != 0 ? config->wait_us : 30000000;
    config->parked_us = config->parked_us != 0 ? config->parked_us : 60000000;
    config->requests_max = config->requests_max != 0 ? config->requests_max : 4096;
    config->bodies_bytes_max = config->bodies_bytes_max != 0 ? config->bodies_bytes_max : (size_t)256 << 20;
    config->blocks_max = config->blocks_max != 0 ? config->blocks_max : (size_t)1 << 20;
}

struct router *router_new(const struct router_config *config)
{
    struct router *router = mem_new(struct router);
    router->config = *config;
    set_defaults(&router->config);
    view_init(&router->view);
    const struct fleet_config fleet = {
        .router = router->config.name,
        .incarnation = router->config.incarnation,
        .silence_us = router->config.silence_us,
        .stall_us = router->config.stall_us,
        .blocks_max = router->config.blocks_max,
    };
    fleet_init(&router->fleet, &fleet);
    router->admit =
        (struct admit){.open_max = router->config.requests_max, .bytes_max = router->config.bodies_bytes_max};
    list_init(&router->models);
    list_init(&router->streams);
    map_init(&router->streams_by_number, router->config.requests_max);
    register_metrics(router);
    return router;
}

static void drop_words(struct model_words *model)
{
    list_remove(&model->node);
    text_model_drop(model->words);
    mem_free(model->why);
    mem_free(model->path);
    mem_free(model);
}

void router_free(struct router *router)
{
    streams_end_all(router);
    LIST_FOR_EACH (node, &router->models) {
        drop_words(LIST_ENTRY(node, struct model_words, node));
    }
    map_free(&router->streams_by_number);
    fleet_free(&router->fleet);
    view_free(&router->view);
    mem_free(router);
}

uint64_t router_view_incarnation(const struct router *router)
{
    return router->view.now.incarnation;
}

uint64_t router_view_index(const struct router *router)
{
    return router->view.now.index;
}

size_t router_open_requests(const struct router *router)
{
    return router->admit.open;
}

const struct proto_view *router_view(const struct router *router)
{
    return &router->view.now;
}

void router_count(struct router *router, unsigned http_status)
{
    char code[8];
    (void)snprintf(code, sizeof(code), "%u", http_status);
    metric_add(metrics_counter(router->config.metrics, "shoal_requests_total", "requests by HTTP status", "code", code),
               1);
}

void router_answer_error(struct router *router, uint64_t number, const struct openai_error *error)
{
    router_count(router, error->http_status);
    actions_answer_error(router->actions, number, error);
}

/* ---- the view and its models */

static void load_words(struct router *router, struct model_words *model)
{
    model->number = ++router->model_last;
    model->state = WORDS_LOADING;
    actions_open(router->actions, ROUTER_LOAD_TEXT, model->number);
    buf_append_text(&router->actions->payload, model->path);
    buf_append_u8(&router->actions->payload, 0);
    actions_close(router->actions);
}

static struct model_words *find_words(struct router *router, struct bytes name)
{
    LIST_FOR_EACH (node, &router->models) {
        struct model_words *model = LIST_ENTRY(node, struct model_words, node);
        if (bytes_equal(name, bytes_of_text(model->name))) {
            return model;
        }
    }
    return NULL;
}

static void take_model(struct router *router, const struct proto_view_model *seen)
{
    struct model_words *model = find_words(router, seen->name);
    if (model != NULL && !bytes_equal(seen->path, bytes_of_text(model->path))) {
        drop_words(model);
        model = NULL;
    }
    if (model == NULL) {
        model = mem_new(struct model_words);
        (void)snprintf(model->name, sizeof(model->name), "%.*s", (int)seen->name.length, seen->name.data);
        model->path = mem_strndup((const char *)seen->path.data, seen->path.length);
        list_push_back(&router->models, &model->node);
        load_words(router, model);
    }
    model->in_view = true;
}

static void take_models(struct router *router)
{
    LIST_FOR_EACH (node, &router->models) {
        LIST_ENTRY(node, struct model_words, node)->in_view = false;
    }
    for (size_t i = 0; i < router->view.now.models_count; i++) {
        take_model(router, &router->view.now.models[i]);
    }
    LIST_FOR_EACH (node, &router->models) {
        struct model_words *model = LIST_ENTRY(node, struct model_words, node);
        if (!model->in_view) {
            drop_words(model);
        }
    }
}

static struct fleet_lost lost_of(struct router *router)
{
    return (struct fleet_lost){.context = router, .lost = streams_replica_lost};
}

static void on_view(struct router *router, const struct router_event *event)
{
    struct error why = {0};
    enum status status = view_offer(&router->view, event->frame, &why);
    if (status == STATUS_AGAIN) {
        return;
    }
    if (status != STATUS_OK) {
        LOG_W("router", "view_refused", "status=%s error=%s", status_name(status), log_quoted(why.text));
        return;
    }
    const struct proto_view *view = &router->view.now;
    LOG_I("router", "view", "incarnation=%" PRIu64 " index=%" PRIu64 " models=%zu replicas=%zu", view->incarnation,
          view->index, view->models_count, view->replicas_count);
    actions_open(router->actions, ROUTER_SAVE_VIEW, 0);
    buf_append_bytes(&router->actions->payload, buf_bytes(&router->view.frame));
    actions_close(router->actions);
    const struct fleet_lost lost = lost_of(router);
    take_models(router);
    fleet_take_view(&router->fleet, view, event->now_us, &lost, router->actions);
    streams_place_waiting(router);
}

static void on_text_loaded(struct router *router, const struct router_event *event)
{
    LIST_FOR_EACH (node, &router->models) {
        struct model_words *model = LIST_ENTRY(node, struct model_words, node);
        if (model->number != event->target) {
            continue;
        }
        mem_free(model->why);
        model->why = event->words == NULL ? mem_strdup(event->why) : NULL;
        model->words = event->words;
        model->state = event->words != NULL ? WORDS_READY : WORDS_FAILED;
        model->failed_us = event->now_us;
        if (model->why != NULL) {
            LOG_E("router", "text_failed", "model=%s error=%s", model->name, log_quoted(model->why));
        }
        streams_words_changed(router, model);
        return;
    }
    text_model_drop(event->words); /* the view has moved on */
}

/* ---- frames of engines */

static void on_frame(struct router *router, const struct router_event *event)
{
    struct replica *replica = fleet_of_link(&router->fleet, event->target);
    if (replica == NULL) {
        return;
    }
    struct arena arena;
    arena_init(&arena, FRAME_ARENA_BYTES_MAX);
    struct proto_message message;
    struct error why = {0};
    if (proto_decode(event->frame, &arena, &message, &why) != STATUS_OK) {
        LOG_W("router", "frame_refused", "replica=%s error=%s", replica->name, log_quoted(why.text));
        arena_free(&arena);
        return;
    }
    struct fleet *fleet = &router->fleet;
    const struct fleet_lost lost = lost_of(router);
    switch (message.opcode) {
    case PROTO_HELLO:
        fleet_hello(fleet, replica, &message.any.hello, event->now_us, &lost, router->actions);
        streams_place_waiting(router);
        break;
    case PROTO_LOAD:
        fleet_load(fleet, replica, &message.any.load, event->now_us, router->actions);
        break;
    case PROTO_TOKENS:
        streams_tokens(router, replica, &message.any.tokens);
        break;
    case PROTO_FINISHED:
        streams_finished(router, replica, &message.any.finished);
        break;
    case PROTO_REFUSED:
        streams_refused(router, replica, &message.any.refused);
        break;
    case PROTO_KV_EVENTS:
        fleet_kv_events(fleet, replica, &message.any.kv_events, event->now_us, router->actions);
        break;
    case PROTO_KV_SNAPSHOT:
        fleet_kv_snapshot(fleet, replica, &message.any.kv_snapshot, event->now_us, router->actions);
        break;
    default:
        LOG_W("router", "frame_unexpected", "replica=%s message=%s", replica->name, proto_opcode_name(message.opcode));
    }
    arena_free(&arena);
}

/* ---- endpoints */

static void answer_body(struct router *router, uint64_t number, const char *content_type, const struct buf *body)
{
    router_count(router, 200);
    struct router_action *action = actions_open(router->actions, ROUTER_ANSWER, number);
    action->http_status = 200;
    action->content_type = content_type;
    buf_append_bytes(&router->actions->payload, buf_bytes(body));
    actions_close(router->actions);
}

static void answer_models(struct router *router, uint64_t number, struct buf *body)
{
    const struct proto_view *view = &router->view.now;
    openai_write_models_begin(body);
    for (size_t i = 0; i < view->models_count; i++) {
        openai_write_model(body, i == 0, view->models[i].name, view->models[i].created_s);
    }
    openai_write_models_end(body);
    answer_body(router, number, "application/json", body);
}

static void answer_model(struct router *router, uint64_t number, struct bytes escaped, struct buf *body)
{
    char name[97];
    const struct proto_view_model *model = NULL;
    if (api_unescape(escaped, name, sizeof(name))) {
        model = view_model(&router->view, bytes_of_text(name));
    }
    if (model == NULL) {
        struct openai_error error;
        openai_fail(&error, 404, "model_not_found", "model", "The model '%.*s' does not exist",
                    (int)MIN_OF(escaped.length, 96U), escaped.data);
        router_answer_error(router, number, &error);
        return;
    }
    openai_write_model(body, true, model->name, model->created_s);
    answer_body(router, number, "application/json", body);
}

static void answer_health(struct router *router, uint64_t number, struct buf *body)
{
    if (router_view_index(router) == 0) {
        struct openai_error error;
        openai_unavailable(&error, 1, "The router has no view of the cluster yet.");
        router_answer_error(router, number, &error);
        return;
    }
    buf_printf(body, "{\"status\":\"ok\",\"view_index\":%" PRIu64 ",\"replicas_serving\":%zu,\"open_requests\":%zu}",
               router_view_index(router), fleet_serving(&router->fleet, NULL), router->admit.open);
    answer_body(router, number, "application/json", body);
}

static void answer_metrics(struct router *router, uint64_t number, struct buf *body)
{
    metric_set(router->metrics.open, (double)router->admit.open);
    metric_set(router->metrics.serving, (double)fleet_serving(&router->fleet, NULL));
    metric_set(router->metrics.view_index, (double)router_view_index(router));
    metrics_print(router->config.metrics, body);
    streams_count_begun(router);
    fleet_print(&router->fleet, body);
    answer_body(router, number, "text/plain; version=0.0.4", body);
}

/* Who asks. NULL: *error says why nobody we know. */
static const struct proto_view_tenant *authenticate(struct router *router, const struct api_http *http,
                                                    struct openai_error *error)
{
    struct bytes key;
    if (!api_key(http, &key, error)) {
        return NULL;
    }
    if (router_view_index(router) == 0) {
        openai_unavailable(error, 1, "The router has no view of the cluster yet.");
        return NULL;
    }
    const struct proto_view_tenant *tenant = view_tenant_of_key(&router->view, key);
    if (tenant == NULL) {
        api_wrong_key(error);
    }
    return tenant;
}

static void on_request(struct router *router, const struct router_event *event)
{
    struct openai_error error;
    struct api_call call;
    if (!api_resolve(event->http, &call, &error)) {
        router_answer_error(router, event->target, &error);
        router->actions->items[router->actions->count - 1].allow = call.allow;
        return;
    }
    const struct proto_view_tenant *tenant = NULL;
    if (call.needs_key && (tenant = authenticate(router, event->http, &error)) == NULL) {
        router_answer_error(router, event->target, &error);
        return;
    }
    struct buf body;
    buf_init(&body, PROTO_FRAME_BYTES_MAX);
    switch (call.endpoint) {
    case API_CHAT:
        streams_receive(router, event, OPENAI_CHAT, tenant);
        break;
    case API_COMPLETIONS:
        streams_receive(router, event, OPENAI_COMPLETION, tenant);
        break;
    case API_MODELS:
        answer_models(router, event->target, &body);
        break;
    case API_MODEL:
        answer_model(router, event->target, call.rest, &body);
        break;
    case API_HEALTH:
        answer_health(router, event->target, &body);
        break;
    case API_METRICS:
        answer_metrics(router, event->target, &body);
        break;
    }
    buf_free(&body);
}

static void on_tick(struct router *router)
{
    const struct fleet_lost lost = lost_of(router);
    fleet_tick(&router->fleet, router->now_us, &lost, router->actions);
    streams_tick(router);
    LIST_FOR_EACH (node, &router->models) {
        struct model_words *model = LIST_ENTRY(node, struct model_words, node);
        if (model->state == WORDS_FAILED && router->now_us - model->failed_us >= WORDS_AGAIN_US) {
            load_words(router, model);
        }
    }
}

void router_step(struct router *router, const struct router_event *event, struct router_actions *actions)
{
    router->now_us = event->now_us;
    router->actions = actions;
    struct replica *replica;
    const struct fleet_lost lost = lost_of(router);
    switch (event->kind) {
    case ROUTER_TICK:
        on_tick(router);
        break;
    case ROUTER_VIEW:
        on_view(router, event);
        break;
    case ROUTER_TEXT_LOADED:
        on_text_loaded(router, event);
        break;
    case ROUTER_LINK_UP:
        if ((replica = fleet_of_link(&router->fleet, event->target)) != NULL) {
            fleet_link_up(&router->fleet, replica, event->now_us, actions);
        }
        break;
    case ROUTER_LINK_DOWN:
        if ((replica = fleet_of_link(&router->fleet, event->target)) != NULL) {
            fleet_link_down(&router->fleet, replica, &lost);
        }
        break;
    case ROUTER_FRAME:
        on_frame(router, event);
        break;
    case ROUTER_REQUEST:
        on_request(router, event);
        break;
    case ROUTER_ENCODED:
        streams_encoded(router, event);
        break;
    case ROUTER_CLIENT_GONE:
    case ROUTER_CLIENT_FULL:
    case ROUTER_CLIENT_WRITABLE:
        streams_client(router, event);
        break;
    }
}
