/* lab: see lab.h. */
#include "tests/unit/router/lab.h"

#include "base/crypto.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/desc.h"

static const uint8_t engine_salt[32] = {7};
static const uint8_t secrets[2][32] = {{1}, {2}};
static char node_key[CURVE_TEXT_BYTES];

/* ---- texts: a vocabulary of 256 bytes and one control token */

static struct model_desc *make_desc(void)
{
    static uint8_t bytes[256];
    struct model_desc *desc = mem_new(struct model_desc);
    desc->vocab = mem_new(struct vocab);
    desc->vocab->count = LAB_EOS + 1;
    desc->vocab->tokens = mem_new_array(struct vocab_token, LAB_EOS + 1);
    for (size_t i = 0; i < 256; i++) {
        bytes[i] = (uint8_t)i;
        desc->vocab->tokens[i] = (struct vocab_token){.piece = bytes_of(&bytes[i], 1), .bytes = bytes_of(&bytes[i], 1)};
    }
    desc->vocab->tokens[LAB_EOS] = (struct vocab_token){.piece = BYTES_LITERAL("<|end|>"), .kind = VOCAB_CONTROL};
    desc->tokenizer.model = VOCAB_MODEL_BPE_BYTES;
    desc->tokenizer.unk_id = -1;
    desc->bos_id = -1;
    desc->eos_ids[0] = LAB_EOS;
    desc->eos_count = 1;
    desc->vocab_size = LAB_EOS + 1;
    desc->context_tokens = LAB_CONTEXT;
    return desc;
}

static struct text_model *make_words(void)
{
    struct text_model *words = mem_new(struct text_model);
    struct error why = {0};
    words->users = 1;
    words->desc = make_desc();
    if (tokenizer_new(words->desc, &words->tokenizer, &why) != STATUS_OK) {
        fail_msg("%s", why.text);
    }
    return words;
}

/* model_close does not know a description made by hand. */
static void free_words(struct text_model *words)
{
    assert_int_equal(words->users, 1);
    tokenizer_free(words->tokenizer);
    mem_free(words->desc->vocab->tokens);
    mem_free(words->desc->vocab);
    mem_free(words->desc);
    mem_free(words);
}

static struct bytes prompt_text(const struct openai_request *request)
{
    if (request->kind == OPENAI_COMPLETION) {
        return request->prompt;
    }
    const struct json *messages = json_get(request->context, "messages");
    return json_string(json_get(json_at(messages, json_count(messages) - 1), "content"));
}

static void encode(struct lab *lab, uint64_t number, const struct openai_request *request)
{
    struct router_encoded encoded = {.ok = true};
    ids_init(&encoded.ids, TEXT_MODEL_IDS_MAX);
    struct bytes text = request != NULL ? prompt_text(request) : BYTES_LITERAL("held");
    for (size_t i = 0; i < text.length; i++) {
        assert_int_equal(ids_push(&encoded.ids, text.data[i]), STATUS_OK);
    }
    struct router_event event = {.kind = ROUTER_ENCODED, .target = number, .encoded = &encoded};
    lab_step(lab, &event);
}

void lab_encode(struct lab *lab)
{
    lab->hold_encode = false;
    encode(lab, lab->held_encode, NULL);
}

/* ---- performing */

static struct lab_engine *engine_of_link(struct lab *lab, uint64_t link)
{
    for (size_t i = 0; i < LAB_ENGINES; i++) {
        if (lab->engines[i].link == link) {
            return &lab->engines[i];
        }
    }
    fail_msg("no engine has link %llu", (unsigned long long)link);
    return NULL;
}

static void take_submit(struct lab_engine *engine, const struct proto_submit *submit)
{
    assert_true(engine->submits_count < LAB_SUBMITS_MAX && submit->ids_count <= LAB_IDS_MAX);
    struct lab_submit *kept = &engine->submits[engine->submits_count++];
    *kept = (struct lab_submit){.stream = submit->stream,
                                .attempt = submit->attempt,
                                .ids_count = submit->ids_count,
                                .prompt_tokens = submit->prompt_tokens,
                                .max_tokens = submit->max_tokens,
                                .seed = submit->sampling.seed};
    memcpy(kept->ids, submit->ids, submit->ids_count * sizeof(uint32_t));
    assert_int_equal(submit->cache_key.length, 32);
    memcpy(kept->cache_key, submit->cache_key.data, 32);
    assert_int_equal(submit->epoch, engine->epoch);
}

static void take_frame(struct lab *lab, uint64_t link, struct bytes frame)
{
    struct lab_engine *engine = engine_of_link(lab, link);
    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct proto_message message;
    struct error why = {0};
    assert_int_equal(proto_decode(frame, &arena, &message, &why), STATUS_OK);
    switch (message.opcode) {
    case PROTO_ATTACH:
        engine->attaches++;
        break;
    case PROTO_SUBMIT:
        take_submit(engine, &message.any.submit);
        break;
    case PROTO_CANCEL:
        engine->cancels++;
        engine->cancelled_stream = message.any.cancel.stream;
        engine->cancelled_attempt = message.any.cancel.attempt;
        break;
    case PROTO_KV_SNAPSHOT_ASK:
        engine->snapshot_asks++;
        break;
    default:
        fail_msg("unexpected %s", proto_opcode_name(message.opcode));
    }
    arena_free(&arena);
}

static void take_dial(struct lab *lab, const struct router_action *action, struct bytes payload)
{
    for (size_t i = 0; i < LAB_ENGINES; i++) {
        if (strcmp(lab->engines[i].endpoint, (const char *)payload.data) == 0) {
            lab->engines[i].link = action->target;
            return;
        }
    }
    fail_msg("unknown endpoint %s", (const char *)payload.data);
}

static void perform(struct lab *lab, const struct router_action *action)
{
    struct bytes payload = router_action_payload(&lab->actions, action);
    struct lab_client *client = &lab->clients[action->target % LAB_REQUESTS];
    switch (action->kind) {
    case ROUTER_DIAL:
        take_dial(lab, action, payload);
        break;
    case ROUTER_HANG_UP:
        engine_of_link(lab, action->target)->link = 0;
        break;
    case ROUTER_SEND:
        take_frame(lab, action->target, payload);
        break;
    case ROUTER_LOAD_TEXT: {
        struct router_event event = {
            .kind = ROUTER_TEXT_LOADED, .target = action->target, .words = text_model_hold(lab->words)};
        lab->texts_loaded++;
        lab_step(lab, &event);
        break;
    }
    case ROUTER_ENCODE:
        lab->held_encode = action->target;
        if (!lab->hold_encode) {
            encode(lab, action->target, action->request);
        }
        break;
    case ROUTER_ANSWER:
        assert_false(client->begun || client->over);
        client->status = action->http_status;
        client->retry_after_s = action->retry_after_s;
        client->over = true;
        buf_append_bytes(&client->text, payload);
        break;
    case ROUTER_STREAM_BEGIN:
        assert_false(client->begun || client->over);
        client->begun = true;
        client->status = 200;
        break;
    case ROUTER_STREAM_DATA:
        assert_true(client->begun && !client->over && payload.length > 0);
        buf_append_bytes(&client->text, payload);
        break;
    case ROUTER_STREAM_END:
        assert_true(client->begun && !client->over);
        client->over = true;
        break;
    case ROUTER_ABORT:
        client->aborted = true;
        client->over = true;
        break;
    case ROUTER_SAVE_VIEW:
        lab->views_saved++;
        break;
    }
}

void lab_step(struct lab *lab, struct router_event *event)
{
    static bool performing; /* as in the shell: whoever performs comes to what nested steps append */
    event->now_us = lab->now_us;
    router_step(lab->router, event, &lab->actions);
    if (performing) {
        return;
    }
    performing = true;
    for (size_t i = 0; i < lab->actions.count; i++) {
        const struct router_action action = lab->actions.items[i];
        perform(lab, &action);
    }
    router_actions_clear(&lab->actions);
    performing = false;
}

/* ---- the cluster */

static void set_replica(struct proto_view_replica *replica, struct lab *lab, size_t index, uint64_t state)
{
    static const char *const names[LAB_ENGINES] = {"m/0", "m/1", "m/2"};
    *replica = (struct proto_view_replica){
        .name = bytes_of_text(names[index]),
        .model = BYTES_LITERAL("m"),
        .node = BYTES_LITERAL("n"),
        .epoch = lab->engines[index].epoch,
        .state = state,
        .endpoint = bytes_of_text(lab->engines[index].endpoint),
        .key = bytes_of_text(node_key),
        .class_id = 5,
        .context_tokens = LAB_CONTEXT,
        .pool_tokens = LAB_CONTEXT * 10,
    };
}

void lab_view(struct lab *lab, size_t engines, uint64_t state)
{
    uint8_t hashes[2][32];
    const struct bytes keys_text[] = {BYTES_LITERAL("sk-1"), BYTES_LITERAL("sk-2")};
    struct proto_view_key keys[2] = {{.tenant = BYTES_LITERAL("t1")}, {.tenant = BYTES_LITERAL("t2")}};
    struct proto_view_tenant tenants[2] = {{.name = BYTES_LITERAL("t1")}, {.name = BYTES_LITERAL("t2")}};
    for (size_t i = 0; i < 2; i++) {
        crypto_blake2b(hashes[i], bytes_of(NULL, 0), &keys_text[i], 1);
        keys[i].hash = bytes_of(hashes[i], 32);
        tenants[i].secret = bytes_of(secrets[i], 32);
    }
    struct proto_view_model models[] = {{.name = BYTES_LITERAL("m"), .path = BYTES_LITERAL("/m.gguf"), .created_s = 3}};
    struct proto_view_replica replicas[LAB_ENGINES];
    for (size_t i = 0; i < engines; i++) {
        set_replica(&replicas[i], lab, i, i == 0 ? state : PROTO_REPLICA_READY);
    }
    const struct proto_view view = {.incarnation = 1,
                                    .index = ++lab->view_index,
                                    .models = models,
                                    .models_count = 1,
                                    .replicas = replicas,
                                    .replicas_count = engines,
                                    .tenants = tenants,
                                    .tenants_count = 2,
                                    .keys = keys,
                                    .keys_count = 2};
    struct buf frame;
    struct error why = {0};
    buf_init(&frame, PROTO_FRAME_BYTES_MAX);
    assert_int_equal(proto_encode(&frame, PROTO_VIEW, &view, &why), STATUS_OK);
    struct router_event event = {.kind = ROUTER_VIEW, .frame = buf_bytes(&frame)};
    lab_step(lab, &event);
    buf_free(&frame);
}

void lab_frame(struct lab *lab, size_t engine, enum proto_opcode opcode, const void *message)
{
    struct buf frame;
    struct error why = {0};
    buf_init(&frame, PROTO_FRAME_BYTES_MAX);
    assert_int_equal(proto_encode(&frame, opcode, message, &why), STATUS_OK);
    struct router_event event = {.kind = ROUTER_FRAME, .target = lab->engines[engine].link, .frame = buf_bytes(&frame)};
    lab_step(lab, &event);
    buf_free(&frame);
}

void lab_load(struct lab *lab, size_t engine, bool draining)
{
    struct lab_engine *it = &lab->engines[engine];
    const struct proto_load load = {.epoch = it->epoch,
                                    .incarnation = it->incarnation,
                                    .step = ++it->step,
                                    .running = it->running,
                                    .step_token_s = 1e-3,
                                    .draining = draining};
    lab_frame(lab, engine, PROTO_LOAD, &load);
}

void lab_up(struct lab *lab, size_t engine)
{
    static const char *const names[LAB_ENGINES] = {"m/0", "m/1", "m/2"};
    struct lab_engine *it = &lab->engines[engine];
    struct router_event event = {.kind = ROUTER_LINK_UP, .target = it->link};
    lab_step(lab, &event);
    const struct proto_hello hello = {.replica = bytes_of_text(names[engine]),
                                      .model = BYTES_LITERAL("m"),
                                      .epoch = it->epoch,
                                      .incarnation = ++it->incarnation,
                                      .class_id = 5,
                                      .context_tokens = LAB_CONTEXT,
                                      .pool_tokens = LAB_CONTEXT * 10,
                                      .block_tokens = 16,
                                      .cache_salt = bytes_of(engine_salt, 32)};
    lab_frame(lab, engine, PROTO_HELLO, &hello);
    lab_load(lab, engine, false);
    const struct proto_kv_snapshot snapshot = {.epoch = it->epoch, .generation = it->incarnation, .parts = 1};
    lab_frame(lab, engine, PROTO_KV_SNAPSHOT, &snapshot);
}

void lab_down(struct lab *lab, size_t engine)
{
    struct router_event event = {.kind = ROUTER_LINK_DOWN, .target = lab->engines[engine].link};
    lab_step(lab, &event);
}

void lab_pass_silent(struct lab *lab, uint64_t us, size_t silent_engine)
{
    for (uint64_t end = lab->now_us + us; lab->now_us < end;) {
        lab->now_us += 50000;
        for (size_t i = 0; i < LAB_ENGINES; i++) {
            if (lab->engines[i].link != 0 && i != silent_engine) {
                lab_load(lab, i, false);
            }
        }
        struct router_event event = {.kind = ROUTER_TICK};
        lab_step(lab, &event);
    }
}

void lab_pass(struct lab *lab, uint64_t us)
{
    lab_pass_silent(lab, us, LAB_ENGINES);
}

struct lab *lab_new(size_t engines)
{
    assert_int_equal(crypto_init(), STATUS_OK);
    log_set_level(LOG_ERROR);
    uint8_t public_key[32], secret_key[32];
    crypto_curve_keypair(public_key, secret_key);
    crypto_z85_encode(node_key, public_key);
    struct lab *lab = mem_new(struct lab);
    lab->metrics = metrics_new();
    lab->now_us = 1000000;
    lab->words = make_words();
    const struct router_config config = {
        .name = "r1", .incarnation = 1, .metrics = lab->metrics, .requests_max = LAB_OPEN_MAX};
    lab->router = router_new(&config);
    router_actions_init(&lab->actions);
    for (size_t i = 0; i < LAB_ENGINES; i++) {
        (void)snprintf(lab->engines[i].endpoint, sizeof(lab->engines[i].endpoint), "tcp://e%zu:1", i);
        lab->engines[i].epoch = 10 + i;
    }
    for (size_t i = 0; i < LAB_REQUESTS; i++) {
        buf_init(&lab->clients[i].text, 1 << 24);
    }
    lab_view(lab, engines, PROTO_REPLICA_READY);
    for (size_t i = 0; i < engines; i++) {
        lab_up(lab, i);
    }
    lab_pass(lab, 50000);
    return lab;
}

void lab_free(struct lab *lab)
{
    router_free(lab->router);
    free_words(lab->words);
    router_actions_free(&lab->actions);
    metrics_free(lab->metrics);
    for (size_t i = 0; i < LAB_REQUESTS; i++) {
        buf_free(&lab->clients[i].text);
    }
    mem_free(lab);
}

/* ---- clients */

uint64_t lab_request(struct lab *lab, const char *method, const char *target, const char *key, const char *body)
{
    char authorization[128];
    (void)snprintf(authorization, sizeof(authorization), "Bearer %s", key != NULL ? key : "");
    const struct api_http http = {
        .method = bytes_of_text(method),
        .target = bytes_of_text(target),
        .content_type = BYTES_LITERAL("application/json"),
        .authorization = key != NULL ? bytes_of_text(authorization) : bytes_of(NULL, 0),
        .body = bytes_of_text(body),
    };
    struct router_event event = {.kind = ROUTER_REQUEST,
                                 .target = ++lab->request_last,
                                 .http = &http,
                                 .wall_s = 1700000000,
                                 .random = {1, 2, 33}};
    assert_true(lab->request_last < LAB_REQUESTS);
    lab_step(lab, &event);
    return lab->request_last;
}

uint64_t lab_complete(struct lab *lab, const char *prompt, const char *members)
{
    char body[2048];
    (void)snprintf(body, sizeof(body), "{\"model\":\"m\",\"prompt\":\"%s\"%s%s}", prompt, members[0] != 0 ? "," : "",
                   members);
    return lab_request(lab, "POST", "/v1/completions", "sk-1", body);
}

void lab_client(struct lab *lab, uint64_t request, enum router_event_kind kind)
{
    struct router_event event = {.kind = kind, .target = request};
    lab_step(lab, &event);
}

struct lab_client *lab_of(struct lab *lab, uint64_t request)
{
    return &lab->clients[request % LAB_REQUESTS];
}

/* ---- engines */

struct lab_submit *lab_last(struct lab *lab, size_t engine)
{
    struct lab_engine *it = &lab->engines[engine];
    assert_true(it->submits_count > 0);
    return &it->submits[it->submits_count - 1];
}

struct lab_submit *lab_submit_of(struct lab *lab, size_t engine, uint64_t request)
{
    struct lab_engine *it = &lab->engines[engine];
    for (size_t i = it->submits_count; i > 0; i--) {
        if (it->submits[i - 1].stream == request) {
            return &it->submits[i - 1];
        }
    }
    return NULL;
}

size_t lab_where(struct lab *lab, uint64_t request)
{
    size_t where = LAB_ENGINES;
    uint64_t attempt = 0;
    for (size_t i = 0; i < LAB_ENGINES; i++) {
        const struct lab_submit *submit = lab_submit_of(lab, i, request);
        if (submit != NULL && submit->attempt > attempt) {
            attempt = submit->attempt;
            where = i;
        }
    }
    return where;
}

void lab_tokens_at(struct lab *lab, size_t engine, uint64_t request, uint64_t attempt, uint64_t position,
                   const char *text)
{
    uint32_t ids[LAB_IDS_MAX];
    size_t count = strlen(text);
    for (size_t i = 0; i < count; i++) {
        ids[i] = text[i] == '$' ? LAB_EOS : (uint8_t)text[i];
    }
    struct proto_stream_tokens stream = {
        .stream = request, .attempt = attempt, .position = position, .ids = ids, .ids_count = count};
    const struct proto_tokens tokens = {.epoch = lab->engines[engine].epoch, .streams = &stream, .streams_count = 1};
    lab_frame(lab, engine, PROTO_TOKENS, &tokens);
}

void lab_tokens(struct lab *lab, size_t engine, uint64_t request, size_t skip, const char *text)
{
    const struct lab_submit *submit = lab_submit_of(lab, engine, request);
    assert_non_null(submit);
    lab_tokens_at(lab, engine, request, submit->attempt, submit->ids_count + skip, text);
}

void lab_finished(struct lab *lab, size_t engine, uint64_t request, enum proto_finish reason, uint64_t cached)
{
    const struct lab_submit *submit = lab_submit_of(lab, engine, request);
    assert_non_null(submit);
    const struct proto_finished finished = {.epoch = lab->engines[engine].epoch,
                                            .stream = request,
                                            .attempt = submit->attempt,
                                            .reason = reason,
                                            .cached_tokens = cached};
    lab_frame(lab, engine, PROTO_FINISHED, &finished);
}

void lab_refused(struct lab *lab, size_t engine, uint64_t request, bool elsewhere, const char *status)
{
    const struct lab_submit *submit = lab_submit_of(lab, engine, request);
    assert_non_null(submit);
    const struct proto_refused refused = {.epoch = lab->engines[engine].epoch,
                                          .stream = request,
                                          .attempt = submit->attempt,
                                          .elsewhere = elsewhere,
                                          .status = bytes_of_text(status),
                                          .detail = BYTES_LITERAL("because")};
    lab_frame(lab, engine, PROTO_REFUSED, &refused);
}

void lab_text(const struct lab_client *client, char *out, size_t out_size)
{
    size_t length = 0;
    const char *at = buf_text(&client->text);
    while ((at = strstr(at, "data: {")) != NULL) {
        const char *end = strstr(at, "\n\n");
        struct json *event;
        struct error why;
        assert_int_equal(json_parse(bytes_of(at + 6, (size_t)(end - at - 6)), &event, &why), STATUS_OK);
        const struct json *choice = json_at(json_get(event, "choices"), 0);
        const struct json *delta = json_get(choice, "delta");
        struct bytes text = json_string(delta != NULL ? json_get(delta, "content") : json_get(choice, "text"));
        assert_true(length + text.length < out_size);
        memcpy(out + length, text.length > 0 ? text.data : (const uint8_t *)"", text.length);
        length += text.length;
        json_free(event);
        at = end;
    }
    out[length] = 0;
}

double lab_metric(struct lab *lab, const char *name)
{
    return metric_value(metrics_counter(lab->metrics, name, "", NULL, NULL));
}

void assert_over(struct lab *lab, uint64_t request, unsigned status)
{
    const struct lab_client *client = lab_of(lab, request);
    assert_true(client->over);
    if (client->status != status) {
        fail_msg("status %u: %s", client->status, buf_text(&client->text));
    }
    assert_int_equal(router_open_requests(lab->router), 0);
}

void assert_text(struct lab *lab, uint64_t request, const char *expected)
{
    char text[4096];
    lab_text(lab_of(lab, request), text, sizeof(text));
    assert_string_equal(text, expected);
}

bool said(struct lab *lab, uint64_t request, const char *part)
{
    return strstr(buf_text(&lab_of(lab, request)->text), part) != NULL;
}
