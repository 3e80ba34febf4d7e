/* router_streams: the flows of a stream through the router: received, encoded, placed, moved, ended; see stream.h. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "router/router_internal.h"

enum {
    REFUSED_AGAIN_US = 100000, /* everybody refused: ask again after this */
    ENDING_US = 1000000,       /* an engine confirms a cancel within a step; don't wait longer for a number */
    FORGOTTEN_US = 2000000,    /* silence about a stream on a replica that says it runs none */
    RETRY_AFTER_S = 2,
    PRIORITY_DEFAULT = 5,
};

/* ---- ends */

/* What the stream counts for on its replica from now on. */
static void weigh(struct stream *stream, uint64_t tokens)
{
    route_load_remove(&stream->replica->load, stream->load_tokens);
    route_load_add(&stream->replica->load, tokens);
    stream->load_tokens = tokens;
}

static void leave(struct stream *stream)
{
    if (stream->replica != NULL) {
        weigh(stream, 0);
        list_remove(&stream->on_replica);
        stream->replica->streams_count--;
        stream->replica = NULL;
    }
}

static void cancel(struct router *router, const struct stream *stream)
{
    if (stream->replica != NULL && stream->replica->state >= REPLICA_ATTACHING) {
        const struct proto_cancel message = {.stream = stream->number, .attempt = stream->attempt};
        actions_send(router->actions, stream->replica->link, PROTO_CANCEL, &message);
    }
}

static void release(struct router *router, struct stream *stream)
{
    (void)map_remove_u64(&router->streams_by_number, stream->number);
    admit_leave(&router->admit, stream->body_bytes);
    stream_free(stream);
}

/* The request is over; what was to be said to the client has been said. */
static void end(struct router *router, struct stream *stream, unsigned http_status)
{
    leave(stream);
    stream_move(stream, STREAM_FINISHED);
    fleet_release(&router->fleet, stream);
    router_count(router, http_status);
    metric_add(router->metrics.cached_tokens, (double)stream->cached_tokens);
    if (stream->encoding) {
        stream->gone = true; /* its memory, and its share of what is admitted, goes when ENCODED comes */
    } else {
        release(router, stream);
    }
}

static void fail(struct router *router, struct stream *stream, const struct openai_error *error)
{
    struct router_actions *actions = router->actions;
    if (stream->head_sent) {
        actions_open(actions, ROUTER_STREAM_DATA, stream->number);
        openai_write_failed(&actions->payload, error);
        openai_write_done(&actions->payload);
        actions_close(actions);
        actions_open(actions, ROUTER_STREAM_END, stream->number);
    } else {
        actions_answer_error(actions, stream->number, error);
    }
    LOG_I("router", "request_failed", "status=%u state=%s attempt=%u req=%" PRIu64, error->http_status,
          stream_state_name(stream->state), stream->attempt, stream->number);
    end(router, stream, error->http_status);
}

/* Events for the text that is ready, the head before the first. */
static void write_ready(struct router *router, struct stream *stream)
{
    struct router_actions *actions = router->actions;
    if (!stream->head_sent) {
        stream->head_sent = true;
        actions_open(actions, ROUTER_STREAM_BEGIN, stream->number);
        if (stream->answer.kind == OPENAI_CHAT) {
            actions_open(actions, ROUTER_STREAM_DATA, stream->number);
            openai_write_begin(&actions->payload, &stream->answer);
            actions_close(actions);
        }
    }
    if (stream->text.length > 0) {
        actions_open(actions, ROUTER_STREAM_DATA, stream->number);
        openai_write_text(&actions->payload, &stream->answer, buf_bytes(&stream->text));
        actions_close(actions);
        buf_clear(&stream->text);
    }
}

static void finish(struct router *router, struct stream *stream, const char *reason, uint64_t completion_tokens)
{
    stream_flush(stream);
    struct router_actions *actions = router->actions;
    const struct openai_usage usage = {
        .prompt_tokens = stream->prompt_tokens,
        .completion_tokens = completion_tokens,
        .cached_tokens = MIN_OF(stream->cached_tokens, stream->prompt_tokens),
    };
    if (stop_hit(stream->stop)) {
        reason = "stop";
    }
    if (stream->request.stream) {
        write_ready(router, stream);
        actions_open(actions, ROUTER_STREAM_DATA, stream->number);
        openai_write_finish(&actions->payload, &stream->answer, reason, &usage);
        openai_write_done(&actions->payload);
        actions_close(actions);
        actions_open(actions, ROUTER_STREAM_END, stream->number);
    } else {
        struct router_action *action = actions_open(actions, ROUTER_ANSWER, stream->number);
        action->http_status = 200;
        action->content_type = "application/json";
        openai_write_completion(&actions->payload, &stream->answer, buf_bytes(&stream->text), reason, &usage);
        actions_close(actions);
    }
    end(router, stream, 200);
}

/* ---- places */

static void count_submission(struct router *router, const struct stream *stream)
{
    if (stream->resuming) {
        metric_add(stream_new_tokens(stream) > 0 ? router->metrics.resumed : router->metrics.restarted, 1);
    }
    if (stream->class_id != stream->replica->class_id) {
        metric_add(router->metrics.class_changed, 1);
    }
}

static void submit(struct router *router, struct stream *stream, struct replica *replica, uint64_t uncached_tokens)
{
    stream->replica = replica;
    list_push_back(&replica->streams, &stream->on_replica);
    replica->streams_count++;
    weigh(stream, uncached_tokens + 1);
    stream->epoch = replica->epoch;
    stream->attempt++;
    stream->ids_at_submit = stream->ids.count;
    stream->heard_us = router->now_us;
    if (stream->class_id == 0) {
        stream->class_id = replica->class_id;
    }
    count_submission(router, stream);
    stream->resuming = false;
    const struct openai_request *request = &stream->request;
    const struct proto_submit message = {
        .stream = stream->number,
        .attempt = stream->attempt,
        .epoch = stream->epoch,
        .ids = stream->ids.data,
        .ids_count = stream->ids.count,
        .prompt_tokens = stream->prompt_tokens,
        .max_tokens = stream->max_tokens,
        .sampling = {.temperature = request->temperature,
                     .top_k = request->top_k,
                     .top_p = request->top_p,
                     .min_p = request->min_p,
                     .seed = stream->seed},
        .cache_key = bytes_of(stream->cache_key, sizeof(stream->cache_key)),
        .class_id = stream->class_id == replica->class_id ? stream->class_id : 0,
        .priority = PRIORITY_DEFAULT,
        .ignore_eos = request->ignore_eos,
    };
    actions_send(router->actions, replica->link, PROTO_SUBMIT, &message);
    stream_move(stream, STREAM_SUBMITTED);
}

static void fail_poisoned(struct router *router, struct stream *stream)
{
    struct openai_error error;
    openai_fail(&error, 500, "request_quarantined", NULL,
                "The request was present at %u engine failures, the last one alone; it will not be tried again.",
                stream->deaths);
    LOG_E("router", "request_quarantined", "deaths=%u req=%" PRIu64, stream->deaths, stream->number);
    fail(router, stream, &error);
}

/* A WAITING stream goes to a replica, or is over already, or waits on. */
static void place(struct router *router, struct stream *stream)
{
    const char *ended = stream_ended_by_ids(stream);
    if (ended != NULL) {
        finish(router, stream, ended, stream_new_tokens(stream));
        return;
    }
    if (stream->deaths > STREAM_SUSPECT_DEATHS) {
        fail_poisoned(router, stream);
        return;
    }
    const struct fleet_need need = {
        .model = stream->model,
        .ids = stream->ids.data,
        .ids_count = stream->ids.count,
        .capacity_tokens = (uint64_t)stream->prompt_tokens + stream->max_tokens,
        .class_id = stream->class_id,
        .cache_key = stream->cache_key,
        .not_links = stream->refused_links,
        .not_links_count = stream->refused_count,
        .alone = stream_is_suspect(stream) ? stream : NULL,
    };
    uint64_t uncached_tokens;
    struct replica *replica = fleet_pick(&router->fleet, &need, &uncached_tokens);
    if (replica != NULL) {
        submit(router, stream, replica, uncached_tokens);
    } else if (stream->refused_count > 0) {
        stream->refused_count = 0;
        stream->retry_us = router->now_us + REFUSED_AGAIN_US;
    }
}

/* Off its replica, if it is on one, and into the queue for another. */
static void wait_and_place(struct router *router, struct stream *stream)
{
    leave(stream);
    stream_move(stream, STREAM_WAITING);
    stream->waits_us = router->now_us;
    place(router, stream);
}

static void resubmit(struct router *router, struct stream *stream, const char *why)
{
    LOG_I("router", "resubmit", "why=%s replica=%s position=%zu attempt=%u req=%" PRIu64, why, stream->replica->name,
          stream->ids.count, stream->attempt, stream->number);
    stream->resuming = true;
    wait_and_place(router, stream);
}

/* What a request can have caused. Silence is not among it: an engine reports from a thread of its own, so a silent one
 * is stopped, cut off or starved, whatever it computes. */
static bool why_is_death(const char *why)
{
    return strcmp(why, "disconnected") == 0 || strcmp(why, "stalled") == 0 || strcmp(why, "new_incarnation") == 0;
}

void streams_replica_lost(void *context, struct replica *replica, const char *why)
{
    struct router *router = context;
    bool death = why_is_death(why);
    /* All are off before the first is placed: whoever must run alone sees who is really left. */
    struct list moved;
    list_init(&moved);
    LIST_FOR_EACH (node, &replica->streams) {
        struct stream *stream = LIST_ENTRY(node, struct stream, on_replica);
        cancel(router, stream); /* it may only be slow: what it still makes would be dropped */
        if (stream->state == STREAM_ENDING) {
            finish(router, stream, "stop", stream_new_tokens(stream));
            continue;
        }
        if (stream->ids.count - stream->ids_at_submit >= STREAM_PROGRESS_TOKENS) {
            stream->deaths = 0;
        }
        stream->deaths += death;
        fleet_release(&router->fleet, stream);
        stream->resuming = true;
        leave(stream);
        stream_move(stream, STREAM_WAITING);
        stream->waits_us = router->now_us;
        list_push_back(&moved, &stream->on_replica);
    }
    LIST_FOR_EACH (node, &moved) {
        struct stream *stream = LIST_ENTRY(node, struct stream, on_replica);
        list_remove(&stream->on_replica);
        place(router, stream);
    }
}

void streams_count_begun(struct router *router)
{
    LIST_FOR_EACH (node, &router->fleet.replicas) {
        LIST_ENTRY(node, struct replica, node)->streams_begun = 0;
    }
    LIST_FOR_EACH (node, &router->streams) {
        const struct stream *stream = LIST_ENTRY(node, struct stream, node);
        if (stream->replica != NULL && stream_new_tokens(stream) > 0) {
            stream->replica->streams_begun++;
        }
    }
}

void streams_place_waiting(struct router *router)
{
    LIST_FOR_EACH (node, &router->streams) {
        struct stream *stream = LIST_ENTRY(node, struct stream, node);
        if (stream->state == STREAM_WAITING && router->now_us >= stream->retry_us) {
            place(router, stream);
        }
    }
}

/* ---- from the client */

static struct stream *stream_of(const struct router *router, uint64_t number)
{
    return map_get_u64(&router->streams_by_number, number);
}

static struct model_words *words_of(struct router *router, const struct stream *stream)
{
    LIST_FOR_EACH (node, &router->models) {
        struct model_words *model = LIST_ENTRY(node, struct model_words, node);
        if (strcmp(model->name, stream->model) == 0) {
            return model;
        }
    }
    return NULL;
}

/* An ENCODING stream's next step, as far as its model's texts allow. */
static void encode(struct router *router, struct stream *stream)
{
    struct model_words *model = words_of(router, stream);
    struct openai_error error;
    if (model == NULL || model->state == WORDS_FAILED) {
        openai_unavailable(&error, RETRY_AFTER_S, "The router can't read the model's tokenizer: %.300s",
                           model != NULL ? model->why : "the model is gone");
        fail(router, stream, &error);
        return;
    }
    if (model->state == WORDS_LOADING) {
        return; /* streams_words_changed comes back here */
    }
    stream->words = text_model_hold(model->words);
    stream->encoding = true;
    struct router_action *action = actions_open(router->actions, ROUTER_ENCODE, stream->number);
    action->text = stream->words;
    action->request = &stream->request;
    action->wall_s = stream->wall_s;
    action->body_bytes = stream->body_bytes;
}

void streams_words_changed(struct router *router, struct model_words *model)
{
    LIST_FOR_EACH (node, &router->streams) {
        struct stream *stream = LIST_ENTRY(node, struct stream, node);
        if (stream->state == STREAM_ENCODING && !stream->encoding && strcmp(stream->model, model->name) == 0) {
            encode(router, stream);
        }
    }
}

static bool read_request(struct router *router, struct stream *stream, const struct router_event *event,
                         enum openai_kind kind, struct openai_error *error)
{
    if (!openai_request_read(&stream->request, kind, event->http->body, error)) {
        return false;
    }
    struct bytes model = stream->request.model;
    if (view_model(&router->view, model) == NULL || model.length >= sizeof(stream->model)) {
        return openai_fail(error, 404, "model_not_found", NULL,
                           "The model `%.*s` does not exist or you do not have access to it.",
                           (int)MIN_OF(model.length, 96U), model.data);
    }
    memcpy(stream->model, model.data, model.length);
    return true;
}

void streams_receive(struct router *router, const struct router_event *event, enum openai_kind kind,
                     const struct proto_view_tenant *tenant)
{
    struct openai_error error;
    size_t body_bytes = event->http->body.length;
    if (!admit_enter(&router->admit, body_bytes)) {
        openai_unavailable(&error, RETRY_AFTER_S, "The router has all the requests open that it can hold.");
        error.code = "overloaded";
        router_answer_error(router, event->target, &error);
        return;
    }
    struct stream *stream = stream_new(event->target, event->now_us);
    stream->body_bytes = body_bytes;
    list_push_back(&router->streams, &stream->node);
    CHECK(map_put_u64(&router->streams_by_number, stream->number, stream) == STATUS_OK);
    if (!read_request(router, stream, event, kind, &error)) {
        fail(router, stream, &error);
        return;
    }
    (void)snprintf(stream->answer_id, sizeof(stream->answer_id), "%s-%016" PRIx64 "%016" PRIx64,
                   kind == OPENAI_CHAT ? "chatcmpl" : "cmpl", event->random[0], event->random[1]);
    stream->answer = (struct openai_answer){
        .kind = kind,
        .id = stream->answer_id,
        .model = stream->request.model,
        .created_s = event->wall_s,
        .include_usage = stream->request.include_usage,
    };
    stream->wall_s = (int64_t)event->wall_s;
    stream->seed = stream->request.has_seed ? stream->request.seed : event->random[2];
    prefix_cache_key(stream->cache_key, tenant->secret.data, stream->model);
    stream_move(stream, STREAM_ENCODING);
    encode(router, stream);
}

/* Sets max_tokens where the client left it open. */
static bool fit_context(struct router *router, struct stream *stream, struct openai_error *error)
{
    uint64_t prompt = stream->ids.count;
    uint64_t capacity = fleet_capacity(&router->fleet, stream->model);
    if (capacity == 0) {
        capacity = stream->words->desc->context_tokens;
    }
    uint64_t wanted = stream->request.max_tokens;
    const char *param = stream->request.kind == OPENAI_CHAT ? "messages" : "prompt";
    if (prompt + MAX_OF(wanted, 1U) <= capacity) {
        stream->prompt_tokens = (uint32_t)prompt;
        stream->max_tokens = (uint32_t)(wanted != 0 ? wanted : capacity - prompt);
        return true;
    }
    if (wanted == 0) {
        return openai_fail(error, 400, "context_length_exceeded", param,
                           "This model's maximum context length is %" PRIu64
                           " tokens. However, your prompt has %" PRIu64 " tokens. Please reduce its length.",
                           capacity, prompt);
    }
    return openai_fail(error, 400, "context_length_exceeded", param,
                       "This model's maximum context length is %" PRIu64 " tokens. However, you requested %" PRIu64
                       " tokens (%" PRIu64 " in the prompt, %" PRIu64
                       " in the completion). Please reduce the length of "
                       "the prompt or of the completion.",
                       capacity, prompt + wanted, prompt, wanted);
}

void streams_encoded(struct router *router, const struct router_event *event)
{
    struct router_encoded *encoded = event->encoded;
    struct stream *stream = stream_of(router, event->target);
    CHECK(stream != NULL && stream->encoding);
    stream->encoding = false;
    ids_free(&stream->ids);
    stream->ids = encoded->ids;
    if (stream->gone) {
        release(router, stream);
        return;
    }
    struct openai_error error = encoded->error;
    if (!encoded->ok || !fit_context(router, stream, &error) || !stream_begin_text(stream, &error)) {
        fail(router, stream, &error);
        return;
    }
    wait_and_place(router, stream);
}

static void park(struct router *router, struct stream *stream)
{
    if (stream->state != STREAM_WAITING && stream->state != STREAM_SUBMITTED && stream->state != STREAM_STREAMING) {
        return;
    }
    cancel(router, stream);
    leave(stream);
    fleet_release(&router->fleet, stream);
    stream_move(stream, STREAM_PARKED);
    stream->waits_us = router->now_us;
    metric_add(router->metrics.parked, 1);
}

void streams_client(struct router *router, const struct router_event *event)
{
    struct stream *stream = stream_of(router, event->target);
    if (stream == NULL || stream->gone) {
        return;
    }
    if (event->kind == ROUTER_CLIENT_GONE) {
        cancel(router, stream);
        end(router, stream, 499);
    } else if (event->kind == ROUTER_CLIENT_FULL) {
        park(router, stream);
    } else if (stream->state == STREAM_PARKED) {
        wait_and_place(router, stream);
    }
}

/* ---- from engines */

static void observe_ids(struct router *router, struct stream *stream, uint64_t count)
{
    if (count == 0) {
        return;
    }
    metric_add(router->metrics.tokens, (double)count);
    if (stream->last_id_us == 0) {
        metric_observe(router->metrics.ttft, (double)(router->now_us - stream->arrived_us) / 1e6);
    } else {
        metric_observe(router->metrics.itl, (double)(router->now_us - stream->last_id_us) / 1e6);
    }
    stream->last_id_us = router->now_us;
    stream->heard_us = router->now_us;
    stream->refused_count = 0;
}

static void take_tokens(struct router *router, struct stream *stream, const struct proto_stream_tokens *tokens)
{
    if (stream->state == STREAM_SUBMITTED) {
        stream_move(stream, STREAM_STREAMING);
        weigh(stream, 1);
    }
    size_t had = stream->ids.count;
    enum stream_took took = stream_take(stream, tokens->position, tokens->ids, tokens->ids_count);
    observe_ids(router, stream, stream->ids.count - had);
    if (took == STREAM_GAP) {
        LOG_W("router", "gap", "position=%" PRIu64 " awaited=%zu req=%" PRIu64, tokens->position, stream->ids.count,
              stream->number);
        cancel(router, stream);
        resubmit(router, stream, "gap");
        return;
    }
    if (stream->request.stream && (stream->text.length > 0 || !stream->head_sent)) {
        write_ready(router, stream);
    }
    if (took == STREAM_STOPPED) {
        cancel(router, stream);
        stream_move(stream, STREAM_ENDING);
        stream->waits_us = router->now_us;
    }
}

void streams_tokens(struct router *router, struct replica *replica, const struct proto_tokens *message)
{
    for (size_t i = 0; i < message->streams_count; i++) {
        const struct proto_stream_tokens *tokens = &message->streams[i];
        struct stream *stream = stream_of(router, tokens->stream);
        if (stream != NULL && stream_awaits(stream, replica, message->epoch, tokens->attempt) &&
            stream->state != STREAM_ENDING) {
            take_tokens(router, stream, tokens);
        }
    }
}

/* The replica won't go on with it: somebody else. */
static void turn_away(struct router *router, struct stream *stream, const char *why)
{
    if (stream->refused_count < STREAM_REFUSED_MAX) {
        stream->refused_links[stream->refused_count++] = stream->replica->link;
    }
    resubmit(router, stream, why);
}

static void finished_by_fault(struct router *router, struct stream *stream, struct bytes detail)
{
    if (++stream->faults < STREAM_FAULTS_MAX) {
        turn_away(router, stream, "fault");
        return;
    }
    struct openai_error error;
    openai_fail(&error, 500, "engine_fault", NULL, "%u engines could not go on with the request: %.*s", stream->faults,
                (int)MIN_OF(detail.length, 200U), detail.data != NULL ? (const char *)detail.data : "");
    fail(router, stream, &error);
}

void streams_finished(struct router *router, struct replica *replica, const struct proto_finished *message)
{
    struct stream *stream = stream_of(router, message->stream);
    if (stream == NULL || !stream_awaits(stream, replica, message->epoch, message->attempt)) {
        return;
    }
    stream->cached_tokens = MIN_OF(message->cached_tokens, stream->prompt_tokens);
    uint64_t made = stream_new_tokens(stream);
    if (stream->state == STREAM_ENDING) {
        finish(router, stream, "stop", made);
        return;
    }
    switch ((enum proto_finish)message->reason) {
    case PROTO_FINISH_STOP:
        finish(router, stream, "stop", MAX_OF(made, message->completion_tokens));
        break;
    case PROTO_FINISH_LENGTH:
        finish(router, stream, "length", MAX_OF(made, message->completion_tokens));
        break;
    case PROTO_FINISH_CANCELLED:
        turn_away(router, stream, "cancelled");
        break;
    case PROTO_FINISH_FAULT:
        finished_by_fault(router, stream, message->detail);
        break;
    }
}

void streams_refused(struct router *router, struct replica *replica, const struct proto_refused *message)
{
    struct stream *stream = stream_of(router, message->stream);
    /* The epoch in it is the engine's own, which may be why it refuses. */
    if (stream == NULL || !stream_awaits(stream, replica, stream->epoch, message->attempt)) {
        return;
    }
    if (stream->state == STREAM_ENDING) {
        finish(router, stream, "stop", stream_new_tokens(stream));
        return;
    }
    if (message->elsewhere) {
        turn_away(router, stream, "refused");
        return;
    }
    bool ours = bytes_equal(message->status, BYTES_LITERAL("invalid")) ||
                bytes_equal(message->status, BYTES_LITERAL("limit")) ||
                bytes_equal(message->status, BYTES_LITERAL("unsupported"));
    struct openai_error error;
    openai_fail(&error, ours ? 400 : 500, ours ? "invalid_value" : "engine_refused", NULL,
                "The engine refused the request: %.*s", (int)MIN_OF(message->detail.length, 300U),
                message->detail.data != NULL ? (const char *)message->detail.data : "");
    fail(router, stream, &error);
}

/* ---- time */

static void tick_waiting(struct router *router, struct stream *stream)
{
    if (router->now_us < stream->retry_us) {
        return;
    }
    bool for_itself = stream_is_suspect(stream) && fleet_serving(&router->fleet, stream->model) > 0;
    if (router->now_us - stream->waits_us >= router->config.wait_us && !for_itself) {
        struct openai_error error;
        openai_unavailable(&error, RETRY_AFTER_S, "No replica of the model could take the request in time.");
        fail(router, stream, &error);
        return;
    }
    place(router, stream);
}

static void tick_on_replica(struct router *router, struct stream *stream)
{
    struct replica *replica = stream->replica;
    if (router->now_us - stream->heard_us >= FORGOTTEN_US && replica->running == 0 &&
        replica->load_us >= stream->heard_us + FORGOTTEN_US / 2) {
        resubmit(router, stream, "forgotten");
    } else if (replica->state == REPLICA_SERVING && !replica_open(replica) && replica->alone == NULL &&
               fleet_serving(&router->fleet, stream->model) > 0) {
        cancel(router, stream);
        resubmit(router, stream, "draining");
    }
}

void streams_tick(struct router *router)
{
    LIST_FOR_EACH (node, &router->streams) {
        struct stream *stream = LIST_ENTRY(node, struct stream, node);
        uint64_t waited_us = router->now_us - stream->waits_us;
        switch (stream->state) {
        case STREAM_WAITING:
            tick_waiting(router, stream);
            break;
        case STREAM_SUBMITTED:
        case STREAM_STREAMING:
            tick_on_replica(router, stream);
            break;
        case STREAM_ENDING:
            if (waited_us >= ENDING_US) {
                finish(router, stream, "stop", stream_new_tokens(stream));
            }
            break;
        case STREAM_PARKED:
            if (waited_us >= router->config.parked_us) {
                actions_open(router->actions, ROUTER_ABORT, stream->number);
                end(router, stream, 499);
            }
            break;
        default:
            break;
        }
    }
}

void streams_end_all(struct router *router)
{
    LIST_FOR_EACH (node, &router->streams) {
        struct stream *stream = LIST_ENTRY(node, struct stream, node);
        leave(stream);
        stream->encoding = false;
        release(router, stream);
    }
}
