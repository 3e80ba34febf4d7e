/* Promises of shoal-engine as routers and agents see it: the real program as a process, over the real bus. What its
 * engine computes is test_engine's; here it is who gets which message, and what ends what. */
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "net/bus.h"
#include "net/identity.h"
#include "net/proc.h"
#include "proto/proto.h"
#include "tests/unit/net/wait.h"

enum { STREAMS_MAX = 16, IDS_MAX = 2048, HASHES_MAX = 4096, EPOCH = 7, PROMPT = 40 };

struct seen_stream {
    uint32_t ids[IDS_MAX];
    uint32_t count;
    uint64_t first_position, attempt_awaited;
    bool finished, refused, elsewhere;
    uint64_t reason, cached_tokens, completion_tokens, attempt;
    char status[33];
};

/* One router's channel and all that it was told. */
struct router {
    struct lab *lab;
    struct bus_client *client;
    bool hello, connected;
    uint64_t class_id, context_tokens, incarnation;
    struct seen_stream streams[STREAMS_MAX];
    struct proto_load load;
    uint64_t loads, kv_sequence, snapshots;
    uint8_t held[HASHES_MAX][16];
    size_t held_count;
    uint8_t snapshot[HASHES_MAX][16];
    size_t snapshot_count;
    uint64_t snapshot_sequence;
};

struct lab {
    char folder[64];
    struct loop loop;
    struct bus *bus;
    struct bus_server *agent; /* the engine's agent, as far as it can tell */
    uint64_t agent_channel;
    uint64_t agent_state; /* last reported engine_phase */
    char agent_endpoint[129];
    bool agent_token_right;
    struct identity node;
    struct proc engine;
    int exit_status;
    char endpoint[129];
    struct router *routers[2];
};

static char *path_in(const struct lab *lab, const char *name)
{
    return file_join(lab->folder, name);
}

static void must(enum status status, const struct error *error)
{
    if (status != STATUS_OK)
        fail_msg("%s: %s", status_name(status), error->text);
}

/* What the engine says to a router. */

static void see_tokens(struct router *router, const struct proto_tokens *tokens)
{
    for (size_t i = 0; i < tokens->streams_count; i++) {
        const struct proto_stream_tokens *from = &tokens->streams[i];
        struct seen_stream *stream = &router->streams[from->stream % STREAMS_MAX];
        if (from->attempt < stream->attempt_awaited)
            continue; /* as routers do */
        assert_false(stream->finished);
        stream->attempt = from->attempt;
        if (stream->count == 0)
            stream->first_position = from->position;
        assert_int_equal(from->position, stream->first_position + stream->count); /* in order, none missing */
        for (size_t j = 0; j < from->ids_count && stream->count < IDS_MAX; j++)
            stream->ids[stream->count++] = from->ids[j];
    }
}

static void see_finished(struct router *router, const struct proto_finished *finished)
{
    struct seen_stream *stream = &router->streams[finished->stream % STREAMS_MAX];
    if (finished->attempt < stream->attempt_awaited)
        return;
    stream->finished = true;
    stream->reason = finished->reason;
    stream->attempt = finished->attempt;
    stream->cached_tokens = finished->cached_tokens;
    stream->completion_tokens = finished->completion_tokens;
}

static void see_refused(struct router *router, const struct proto_refused *refused)
{
    struct seen_stream *stream = &router->streams[refused->stream % STREAMS_MAX];
    stream->refused = true;
    stream->elsewhere = refused->elsewhere;
    snprintf(stream->status, sizeof(stream->status), "%.*s", (int)refused->status.length,
             (const char *)refused->status.data);
}

static size_t find_hash(uint8_t (*hashes)[16], size_t count, const uint8_t *hash)
{
    size_t at = 0;
    while (at < count && memcmp(hashes[at], hash, 16) != 0)
        at++;
    return at;
}

static void see_kv_events(struct router *router, const struct proto_kv_events *events)
{
    assert_int_equal(events->generation, router->incarnation);
    if (router->kv_sequence != 0)
        assert_int_equal(events->sequence, router->kv_sequence + 1);
    router->kv_sequence = events->sequence;
    assert_true(events->stored.length == 0 || events->removed.length == 0);
    for (size_t at = 0; at < events->removed.length; at += 16) {
        size_t found = find_hash(router->held, router->held_count, events->removed.data + at);
        if (found < router->held_count)
            memcpy(router->held[found], router->held[--router->held_count], 16);
    }
    for (size_t at = 0; at < events->stored.length; at += 16)
        memcpy(router->held[router->held_count++], events->stored.data + at, 16);
}

static void router_received(void *context, struct bytes frame)
{
    struct router *router = context;
    struct arena arena;
    struct proto_message message;
    struct error error = {0};
    arena_init(&arena, 1 << 20);
    must(proto_decode(frame, &arena, &message, &error), &error);
    switch ((int)message.opcode) {
    case PROTO_HELLO:
        router->hello = true;
        router->class_id = message.any.hello.class_id;
        router->context_tokens = message.any.hello.context_tokens;
        router->incarnation = message.any.hello.incarnation;
        assert_int_equal(message.any.hello.epoch, EPOCH);
        assert_int_equal(message.any.hello.cache_salt.length, 32);
        break;
    case PROTO_TOKENS:
        see_tokens(router, &message.any.tokens);
        break;
    case PROTO_FINISHED:
        see_finished(router, &message.any.finished);
        break;
    case PROTO_REFUSED:
        see_refused(router, &message.any.refused);
        break;
    case PROTO_LOAD:
        router->load = message.any.load;
        router->loads++;
        break;
    case PROTO_KV_EVENTS:
        see_kv_events(router, &message.any.kv_events);
        break;
    case PROTO_KV_SNAPSHOT:
        router->snapshots++;
        router->snapshot_count = message.any.kv_snapshot.hashes.length / 16;
        router->snapshot_sequence = message.any.kv_snapshot.sequence;
        memcpy(router->snapshot, message.any.kv_snapshot.hashes.data, message.any.kv_snapshot.hashes.length);
        break;
    default:
        fail_msg("%s is not for a router", proto_opcode_name(message.opcode));
    }
    arena_free(&arena);
}

static void router_connected(void *context)
{
    ((struct router *)context)->connected = true;
}

static void say(struct router *router, enum proto_opcode opcode, const void *message)
{
    struct buf frame;
    struct error error = {0};
    buf_init(&frame, PROTO_FRAME_BYTES_MAX);
    must(proto_encode(&frame, opcode, message, &error), &error);
    assert_int_equal(bus_client_send(router->client, buf_bytes(&frame)), STATUS_OK);
    buf_free(&frame);
}

static struct router *attach(struct lab *lab, int index)
{
    struct router *router = lab->routers[index] = mem_new(struct router);
    struct error error = {0};
    router->lab = lab;
    struct bus_client_config config = {.endpoint = lab->endpoint,
                                       .frame_bytes_max = PROTO_FRAME_BYTES_MAX,
                                       .queue_max = 1000,
                                       .context = router,
                                       .received = router_received,
                                       .connected = router_connected};
    memcpy(config.server_key, lab->node.keys.public_key, CURVE_KEY_BYTES);
    must(bus_dial(lab->bus, &config, &router->client, &error), &error);
    WAIT_UNTIL(&lab->loop, router->connected);
    say(router, PROTO_ATTACH, &(struct proto_attach){.router = BYTES_LITERAL("r1"), .incarnation = 1});
    WAIT_UNTIL(&lab->loop, router->hello && router->loads > 0);
    return router;
}

static void detach(struct lab *lab, int index)
{
    bus_client_close(lab->routers[index]->client);
    mem_free(lab->routers[index]);
    lab->routers[index] = NULL;
}

/* Prompts of one text: `which` differs from the first id on. */
static struct proto_submit submit_of(uint32_t *ids, uint32_t which, uint64_t stream, uint64_t max_tokens)
{
    static const uint8_t cache_key[32] = {1};
    for (uint32_t i = 0; i < PROMPT; i++)
        ids[i] = 3 + (which * 31 + i * 7) % 200;
    return (struct proto_submit){.stream = stream,
                                 .attempt = 1,
                                 .epoch = EPOCH,
                                 .ids = ids,
                                 .ids_count = PROMPT,
                                 .prompt_tokens = PROMPT,
                                 .max_tokens = max_tokens,
                                 .cache_key = bytes_of(cache_key, 32),
                                 .ignore_eos = true};
}

/* The agent's side. */

static void agent_received(void *context, const struct bus_peer *peer, struct bytes frame)
{
    struct lab *lab = context;
    struct arena arena;
    struct proto_message message;
    struct error error = {0};
    arena_init(&arena, 1 << 20);
    must(proto_decode(frame, &arena, &message, &error), &error);
    assert_int_equal(message.opcode, PROTO_ENGINE_STATE);
    const struct proto_engine_report *report = &message.any.engine_state.report;
    lab->agent_channel = peer->channel;
    lab->agent_state = report->state;
    uint8_t token[32];
    memset(token, 0xab, sizeof(token));
    lab->agent_token_right = bytes_equal(message.any.engine_state.session_token, bytes_of(token, 32));
    assert_int_equal(report->epoch, EPOCH);
    assert_int_equal(report->pid, lab->engine.pid);
    snprintf(lab->agent_endpoint, sizeof(lab->agent_endpoint), "%.*s", (int)report->endpoint.length,
             (const char *)report->endpoint.data);
    arena_free(&arena);
}

static void engine_exited(struct proc *proc, int exit_status, int signal_number)
{
    struct lab *lab = proc->context;
    lab->exit_status = signal_number != 0 ? 128 + signal_number : exit_status;
    proc->pid = 0;
}

/* One process plays the router and the agent over one bus, so both have the node's key. */
static void write_files(struct lab *lab)
{
    struct error error = {0};
    char *key_path = path_in(lab, "n1.key"), *members_path = path_in(lab, "members.json");
    char *token_path = path_in(lab, "token");
    must(identity_create(key_path, "n1", &lab->node, &error), &error);
    struct bus_identity other;
    crypto_curve_keypair(other.public_key, other.secret_key);
    struct member list[] = {
        {.role = MEMBER_COORDINATOR, .name = "c1", .endpoint = "tcp://127.0.0.1:1", .raft_id = 1}, /* nobody dials it */
        {.role = MEMBER_ROUTER, .name = "r1"},
    };
    memcpy(list[0].public_key, other.public_key, CURVE_KEY_BYTES);
    memcpy(list[1].public_key, lab->node.keys.public_key, CURVE_KEY_BYTES);
    for (size_t i = 0; i < COUNT_OF(list); i++)
        crypto_z85_encode(list[i].key_text, list[i].public_key);
    const struct members members = {.list = list, .count = COUNT_OF(list)};
    must(members_write(members_path, &members, &error), &error);
    char token[64];
    for (size_t i = 0; i < sizeof(token); i++)
        token[i] = i % 2 == 0 ? 'a' : 'b';
    must(file_write_atomic(token_path, bytes_of(token, sizeof(token)), 0600, &error), &error);
    mem_free(key_path);
    mem_free(members_path);
    mem_free(token_path);
}

static const char *engine_program(void)
{
    const char *program = getenv("SHOAL_ENGINE"); /* another build of it, e.g. under a sanitizer */
    return program != NULL ? program : SHOAL_ENGINE_PROGRAM;
}

static void start_engine(struct lab *lab, const char *model)
{
    struct error error = {0};
    char *identity = path_in(lab, "n1.key"), *members = path_in(lab, "members.json"), *log = path_in(lab, "log");
    const char *folder = getenv("SHOAL_TINY_MODELS");
    char *path = file_join(folder != NULL ? folder : "build/tiny", model);
    const char *const argv[] = {engine_program(),
                                "--identity",
                                identity,
                                "--members",
                                members,
                                "--model",
                                path,
                                "--job",
                                lab->folder,
                                "--replica",
                                "tiny/0",
                                "--epoch",
                                "7",
                                "--threads",
                                "1",
                                "--pool-tokens",
                                "2048",
                                "--agent-endpoint",
                                bus_server_endpoint(lab->agent),
                                NULL};
    const struct proc_config config = {.argv = argv, .log_path = log};
    lab->engine = (struct proc){.context = lab, .exited = engine_exited};
    must(proc_start(&lab->loop, &config, &lab->engine, &error), &error);
    mem_free(identity);
    mem_free(members);
    mem_free(log);
    mem_free(path);
}

static int open_lab(void **state)
{
    struct lab *lab = mem_new(struct lab);
    struct error error = {0};
    snprintf(lab->folder, sizeof(lab->folder), "/tmp/shoal-engine-XXXXXX");
    assert_non_null(mkdtemp(lab->folder));
    write_files(lab);
    must(loop_init(&lab->loop, &error), &error);
    must(bus_open(&lab->loop, &lab->node.keys, &lab->bus, &error), &error);
    bus_allow(lab->bus, lab->node.keys.public_key);
    const struct bus_server_config config = {.endpoint = "tcp://127.0.0.1:0",
                                             .frame_bytes_max = PROTO_FRAME_BYTES_MAX,
                                             .queue_max = 100,
                                             .context = lab,
                                             .received = agent_received};
    must(bus_serve(lab->bus, &config, &lab->agent, &error), &error);
    *state = lab;
    return 0;
}

static int open_ready_lab(void **state)
{
    if (open_lab(state) != 0)
        return 1;
    struct lab *lab = *state;
    start_engine(lab, "tiny-Q8_0.gguf");
    WAIT_UNTIL(&lab->loop, lab->agent_state == PROTO_ENGINE_READY);
    assert_true(lab->agent_token_right);
    snprintf(lab->endpoint, sizeof(lab->endpoint), "%s", lab->agent_endpoint);
    return 0;
}

static void remove_file(const struct lab *lab, const char *name)
{
    char *path = path_in(lab, name);
    (void)unlink(path);
    mem_free(path);
}

static int close_lab(void **state)
{
    struct lab *lab = *state;
    for (int i = 0; i < 2; i++)
        if (lab->routers[i] != NULL)
            detach(lab, i);
    if (lab->engine.pid != 0) {
        kill(lab->engine.pid, SIGTERM);
        WAIT_UNTIL(&lab->loop, lab->engine.pid == 0);
        assert_int_equal(lab->exit_status, 0);
    }
    bus_close(lab->bus);
    loop_close(&lab->loop);
    static const char *const files[] = {"n1.key", "members.json", "token", "log", "engine.json"};
    for (size_t i = 0; i < COUNT_OF(files); i++)
        remove_file(lab, files[i]);
    (void)rmdir(lab->folder);
    mem_free(lab);
    return 0;
}

static void test_a_stream_comes_whole_and_in_order(void **state)
{
    struct lab *lab = *state;
    struct router *router = attach(lab, 0);
    uint32_t ids[PROMPT];
    struct proto_submit submit = submit_of(ids, 1, 1, 20);
    say(router, PROTO_SUBMIT, &submit);
    WAIT_UNTIL(&lab->loop, router->streams[1].finished);
    const struct seen_stream *stream = &router->streams[1];
    assert_int_equal(stream->count, 20);
    assert_int_equal(stream->first_position, PROMPT);
    assert_int_equal(stream->reason, PROTO_FINISH_LENGTH);
    assert_int_equal(stream->completion_tokens, 20);
    assert_int_equal(stream->cached_tokens, 0);

    /* Again, resumed behind its fifth token under a new attempt: the same tokens, and the prefix is found. */
    uint32_t resumed[PROMPT + 5];
    memcpy(resumed, ids, sizeof(ids));
    memcpy(resumed + PROMPT, stream->ids, 5 * sizeof(uint32_t));
    submit.stream = 2, submit.attempt = 3;
    submit.ids = resumed, submit.ids_count = PROMPT + 5;
    say(router, PROTO_SUBMIT, &submit);
    WAIT_UNTIL(&lab->loop, router->streams[2].finished);
    assert_int_equal(router->streams[2].count, 15);
    assert_int_equal(router->streams[2].first_position, PROMPT + 5);
    assert_int_equal(router->streams[2].attempt, 3);
    assert_memory_equal(router->streams[2].ids, stream->ids + 5, 15 * sizeof(uint32_t));
    assert_int_equal(router->streams[2].completion_tokens, 20);
    assert_int_equal(router->streams[2].cached_tokens, 32);
}

static void test_what_is_refused_says_whether_elsewhere_helps(void **state)
{
    struct lab *lab = *state;
    struct router *router = attach(lab, 0);
    uint32_t ids[PROMPT];
    struct proto_submit submit = submit_of(ids, 1, 1, 20);
    submit.epoch = EPOCH + 1;
    say(router, PROTO_SUBMIT, &submit);
    submit = submit_of(ids, 1, 2, 1000000);
    say(router, PROTO_SUBMIT, &submit);
    submit = submit_of(ids, 1, 3, 20);
    submit.cache_key.length = 31;
    say(router, PROTO_SUBMIT, &submit);
    submit = submit_of(ids, 1, 4, 20);
    submit.class_id = router->class_id ^ 1;
    say(router, PROTO_SUBMIT, &submit);
    submit = submit_of(ids, 1, 5, 20);
    submit.class_id = router->class_id;
    ids[7] = 1000000;
    say(router, PROTO_SUBMIT, &submit);
    WAIT_UNTIL(&lab->loop, router->streams[5].refused);
    static const char *const statuses[] = {NULL, "conflict", "limit", "invalid", "conflict", "invalid"};
    for (int i = 1; i <= 5; i++) {
        assert_true(router->streams[i].refused);
        assert_string_equal(router->streams[i].status, statuses[i]);
        assert_int_equal(router->streams[i].elsewhere, strcmp(statuses[i], "conflict") == 0);
    }
}

static void test_cancel_ends_a_stream_and_frees_its_blocks(void **state)
{
    struct lab *lab = *state;
    struct router *router = attach(lab, 0);
    uint32_t ids[PROMPT];
    struct proto_submit submit = submit_of(ids, 1, 1, 1900);
    say(router, PROTO_SUBMIT, &submit);
    WAIT_UNTIL(&lab->loop, router->streams[1].count >= 3);
    say(router, PROTO_CANCEL, &(struct proto_cancel){.stream = 1, .attempt = 9}); /* of another attempt: ignored */
    uint32_t had = router->streams[1].count;
    WAIT_UNTIL(&lab->loop, router->streams[1].count > had + 3);
    say(router, PROTO_CANCEL, &(struct proto_cancel){.stream = 1, .attempt = 1});
    WAIT_UNTIL(&lab->loop, router->streams[1].finished);
    assert_int_equal(router->streams[1].reason, PROTO_FINISH_CANCELLED);
    assert_true(router->streams[1].count < 1900);
    WAIT_UNTIL(&lab->loop, router->load.running == 0 && router->load.blocks_used == 0);
}

static void test_a_new_attempt_replaces_the_old_one(void **state)
{
    struct lab *lab = *state;
    struct router *router = attach(lab, 0);
    uint32_t ids[PROMPT];
    struct proto_submit submit = submit_of(ids, 1, 1, 1900);
    say(router, PROTO_SUBMIT, &submit);
    WAIT_UNTIL(&lab->loop, router->streams[1].count >= 3);
    memset(&router->streams[1], 0, sizeof(router->streams[1]));
    router->streams[1].attempt_awaited = 2;
    submit.attempt = 2, submit.max_tokens = 10;
    say(router, PROTO_SUBMIT, &submit);
    WAIT_UNTIL(&lab->loop, router->streams[1].finished);
    assert_int_equal(router->streams[1].attempt, 2);
    assert_int_equal(router->streams[1].completion_tokens, 10);
    WAIT_UNTIL(&lab->loop, router->load.running == 0 && router->load.blocks_used == 0);
    memset(&router->streams[1], 0, sizeof(router->streams[1]));
    submit.attempt = 1; /* late: but nothing of this stream runs any more, so it is a stream like any other */
    say(router, PROTO_SUBMIT, &submit);
    WAIT_UNTIL(&lab->loop, router->streams[1].finished);
}

static void test_a_channel_that_closes_takes_its_streams_with_it(void **state)
{
    struct lab *lab = *state;
    struct router *stays = attach(lab, 0), *goes = attach(lab, 1);
    uint32_t ids[PROMPT], other[PROMPT];
    struct proto_submit submit = submit_of(ids, 1, 1, 1900);
    say(goes, PROTO_SUBMIT, &submit);
    submit = submit_of(other, 2, 1, 60); /* the same number on another channel is another stream */
    say(stays, PROTO_SUBMIT, &submit);
    WAIT_UNTIL(&lab->loop, goes->streams[1].count >= 3);
    detach(lab, 1);
    WAIT_UNTIL(&lab->loop, stays->streams[1].finished);
    assert_int_equal(stays->streams[1].reason, PROTO_FINISH_LENGTH);
    assert_int_equal(stays->streams[1].count, 60);
    WAIT_UNTIL(&lab->loop, stays->load.running == 0 && stays->load.blocks_used == 0);
}

static void test_kv_events_and_snapshots_agree(void **state)
{
    struct lab *lab = *state;
    struct router *router = attach(lab, 0);
    say(router, PROTO_KV_SNAPSHOT_ASK, &(struct proto_kv_snapshot_ask){.epoch = EPOCH});
    WAIT_UNTIL(&lab->loop, router->snapshots == 1);
    memcpy(router->held, router->snapshot, sizeof(router->held));
    router->held_count = router->snapshot_count;
    router->kv_sequence = router->snapshot_sequence;
    for (uint32_t i = 0; i < 8; i++) { /* more than the pool of 128 blocks holds: some must go */
        static uint32_t ids[8][PROMPT];
        struct proto_submit submit = submit_of(ids[i], i, i, 400);
        say(router, PROTO_SUBMIT, &submit);
    }
    for (uint32_t i = 0; i < 8; i++)
        WAIT_UNTIL(&lab->loop, router->streams[i].finished);
    WAIT_UNTIL(&lab->loop, router->load.kv_sequence > 0 && router->kv_sequence == router->load.kv_sequence &&
                               router->load.running == 0);
    assert_int_equal(router->load.blocks_cached, router->held_count);
    say(router, PROTO_KV_SNAPSHOT_ASK, &(struct proto_kv_snapshot_ask){.epoch = EPOCH});
    WAIT_UNTIL(&lab->loop, router->snapshots == 2);
    assert_int_equal(router->snapshot_sequence, router->kv_sequence);
    assert_int_equal(router->snapshot_count, router->held_count);
    for (size_t i = 0; i < router->snapshot_count; i++)
        assert_true(find_hash(router->held, router->held_count, router->snapshot[i]) < router->held_count);
}

static void test_loads_keep_coming(void **state)
{
    struct lab *lab = *state;
    struct router *router = attach(lab, 0);
    uint64_t loads = router->loads, begin_us = loop_now_us(&lab->loop);
    WAIT_UNTIL(&lab->loop, router->loads >= loads + 5);
    assert_true(loop_now_us(&lab->loop) - begin_us >= 300000); /* every 100 ms, the first perhaps at once */
    assert_false(router->load.draining);
    assert_int_equal(router->load.blocks_total, 128);
}

/* `ask` makes it stop: its streams are given back, and it ends with 0. */
static void stops_in_order(struct lab *lab, void (*ask)(struct lab *lab))
{
    struct router *router = attach(lab, 0);
    uint32_t ids[PROMPT];
    struct proto_submit submit = submit_of(ids, 1, 1, 1900);
    say(router, PROTO_SUBMIT, &submit);
    WAIT_UNTIL(&lab->loop, router->streams[1].count >= 3);
    ask(lab);
    WAIT_UNTIL(&lab->loop, router->streams[1].finished && lab->agent_state == PROTO_ENGINE_STOPPED);
    assert_int_equal(router->streams[1].reason, PROTO_FINISH_CANCELLED);
    assert_true(router->load.draining);
    WAIT_UNTIL(&lab->loop, lab->engine.pid == 0);
    assert_int_equal(lab->exit_status, 0);
}

static void by_signal(struct lab *lab)
{
    kill(lab->engine.pid, SIGTERM);
}

static void by_agent(struct lab *lab)
{
    struct buf frame;
    struct error error = {0};
    buf_init(&frame, 1 << 16);
    must(proto_encode(&frame, PROTO_ENGINE_STOP, &(struct proto_engine_stop){.epoch = EPOCH}, &error), &error);
    assert_int_equal(bus_server_send(lab->agent, lab->agent_channel, buf_bytes(&frame)), STATUS_OK);
    buf_free(&frame);
}

static void test_sigterm_ends_it_in_order(void **state)
{
    stops_in_order(*state, by_signal);
}

static void test_its_agent_ends_it_in_order(void **state)
{
    stops_in_order(*state, by_agent);
}

static void test_the_job_file_says_who_runs(void **state)
{
    struct lab *lab = *state;
    struct error error = {0};
    struct buf text;
    struct json *root = NULL;
    buf_init(&text, 1 << 16);
    char *path = path_in(lab, "engine.json");
    must(file_read(path, 1 << 16, &text, &error), &error);
    must(json_parse(buf_bytes(&text), &root, &error), &error);
    assert_int_equal(json_integer(json_get(root, "pid"), 0), lab->engine.pid);
    assert_int_equal(json_integer(json_get(root, "epoch"), 0), EPOCH);
    assert_string_equal(json_text(json_get(root, "state")), "ready");
    assert_string_equal(json_text(json_get(root, "endpoint")), lab->endpoint);
    json_free(root);
    buf_free(&text);
    mem_free(path);
}

static void test_a_model_that_is_not_there_is_a_reported_failure(void **state)
{
    struct lab *lab = *state;
    start_engine(lab, "nothing.gguf");
    WAIT_UNTIL(&lab->loop, lab->agent_state == PROTO_ENGINE_FAILED);
    WAIT_UNTIL(&lab->loop, lab->engine.pid == 0);
    assert_int_equal(lab->exit_status, 1);
}

int main(void)
{
    if (crypto_init() != STATUS_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_stream_comes_whole_and_in_order, open_ready_lab, close_lab),
        cmocka_unit_test_setup_teardown(test_what_is_refused_says_whether_elsewhere_helps, open_ready_lab, close_lab),
        cmocka_unit_test_setup_teardown(test_cancel_ends_a_stream_and_frees_its_blocks, open_ready_lab, close_lab),
        cmocka_unit_test_setup_teardown(test_a_new_attempt_replaces_the_old_one, open_ready_lab, close_lab),
        cmocka_unit_test_setup_teardown(test_a_channel_that_closes_takes_its_streams_with_it, open_ready_lab,
                                        close_lab),
        cmocka_unit_test_setup_teardown(test_kv_events_and_snapshots_agree, open_ready_lab, close_lab),
        cmocka_unit_test_setup_teardown(test_loads_keep_coming, open_ready_lab, close_lab),
        cmocka_unit_test_setup_teardown(test_sigterm_ends_it_in_order, open_ready_lab, close_lab),
        cmocka_unit_test_setup_teardown(test_its_agent_ends_it_in_order, open_ready_lab, close_lab),
        cmocka_unit_test_setup_teardown(test_the_job_file_says_who_runs, open_ready_lab, close_lab),
        cmocka_unit_test_setup_teardown(test_a_model_that_is_not_there_is_a_reported_failure, open_lab, close_lab),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
