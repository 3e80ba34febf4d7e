/* Promises of net/bus, against real peers in processes of their own (bus_peer.h): who is not allowed is not heard, no
 * edge of ZeroMQ's descriptor is lost, a full queue is a status, a broken connection is seen on both sides and dialled
 * again, and one peer's fault is nobody else's. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/rng.h"
#include "net/bus.h"
#include "net/proc.h"
#include "tests/unit/net/bus_peer.h"
#include "tests/unit/net/wait.h"

enum { FRAME_MAX = 64 << 10, QUEUE_MAX = 100, PEERS_MAX = 4 };

static const char *own_path;

struct keys {
    struct bus_identity identity;
    char public_text[CURVE_TEXT_BYTES], secret_text[CURVE_TEXT_BYTES];
};

/* What the bus told, on either side. */
struct seen {
    uint64_t frames;
    uint64_t echoes; /* "E..." */
    uint64_t hellos;
    uint64_t reports;
    uint32_t report_count;
    bool report_in_order;
    uint64_t channel; /* of the last frame */
    uint64_t closed;
    uint64_t closed_channel;
    uint64_t connected, disconnected;
    uint8_t key[CURVE_KEY_BYTES];
    char last[64];
};

struct lab {
    struct loop loop;
    struct bus *bus;
    struct bus_server *server;
    struct keys ours;
    struct keys peer_keys[PEERS_MAX];
    struct proc peers[PEERS_MAX];
    uint64_t peers_ended;
    struct seen seen;
};

static void make_keys(struct keys *keys)
{
    crypto_curve_keypair(keys->identity.public_key, keys->identity.secret_key);
    crypto_z85_encode(keys->public_text, keys->identity.public_key);
    crypto_z85_encode(keys->secret_text, keys->identity.secret_key);
}

static void see_frame(struct seen *seen, struct bytes frame)
{
    seen->frames++;
    seen->echoes += bytes_starts_with(frame, BYTES_LITERAL("E"));
    seen->hellos += bytes_equal(frame, BYTES_LITERAL("hello"));
    if (bytes_starts_with(frame, BYTES_LITERAL("C")) && frame.length == 6) {
        seen->reports++;
        seen->report_count = load_u32le(frame.data + 1);
        seen->report_in_order = frame.data[5];
    }
    (void)snprintf(seen->last, sizeof(seen->last), "%.*s", (int)frame.length, (const char *)frame.data);
}

static void server_received(void *context, const struct bus_peer *peer, struct bytes frame)
{
    struct lab *lab = context;
    lab->seen.channel = peer->channel;
    memcpy(lab->seen.key, peer->public_key, CURVE_KEY_BYTES);
    see_frame(&lab->seen, frame);
}

static void server_closed(void *context, uint64_t channel)
{
    struct lab *lab = context;
    lab->seen.closed++;
    lab->seen.closed_channel = channel;
}

static void peer_ended(struct proc *proc, int exit_status, int signal_number)
{
    struct lab *lab = proc->context;
    if (signal_number != SIGKILL && (exit_status != 0 || signal_number != 0)) {
        fail_msg("a peer ended with %d, signal %d", exit_status, signal_number);
    }
    lab->peers_ended++;
}

static int open_lab(void **state)
{
    struct lab *lab = mem_new(struct lab);
    struct error error = {0};
    assert_int_equal(loop_init(&lab->loop, &error), STATUS_OK);
    make_keys(&lab->ours);
    for (int i = 0; i < PEERS_MAX; i++) {
        make_keys(&lab->peer_keys[i]);
        lab->peers[i].context = lab;
        lab->peers[i].exited = peer_ended;
    }
    assert_int_equal(bus_open(&lab->loop, &lab->ours.identity, &lab->bus, &error), STATUS_OK);
    *state = lab;
    return 0;
}

static void kill_peer(struct lab *lab, int index)
{
    if (lab->peers[index].pid != 0) {
        kill(lab->peers[index].pid, SIGKILL);
        WAIT_UNTIL(&lab->loop, lab->peers[index].pid == 0);
    }
}

static int close_lab(void **state)
{
    struct lab *lab = *state;
    for (int i = 0; i < PEERS_MAX; i++) {
        kill_peer(lab, i);
    }
    bus_close(lab->bus);
    loop_close(&lab->loop);
    mem_free(lab);
    return 0;
}

static void serve(struct lab *lab)
{
    struct bus_server_config config = {.endpoint = "tcp://127.0.0.1:*",
                                       .frame_bytes_max = FRAME_MAX,
                                       .queue_max = QUEUE_MAX,
                                       .context = lab,
                                       .received = server_received,
                                       .closed = server_closed};
    struct error error = {0};
    if (bus_serve(lab->bus, &config, &lab->server, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
}

static void start_peer(struct lab *lab, int index, const char *role, const char *const *args)
{
    const char *argv[12] = {own_path, "peer", role};
    for (size_t i = 0; args[i] != NULL; i++) {
        argv[3 + i] = args[i];
    }
    struct proc_config config = {.argv = argv};
    struct error error = {0};
    if (proc_start(&lab->loop, &config, &lab->peers[index], &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
}

static void start_dialling_peer(struct lab *lab, int index)
{
    const struct keys *keys = &lab->peer_keys[index];
    const char *args[] = {
        bus_server_endpoint(lab->server), lab->ours.public_text, keys->public_text, keys->secret_text, "1048576", NULL};
    start_peer(lab, index, "dial", args);
}

/* An allowed peer that has said hello; its channel. */
static uint64_t join_peer(struct lab *lab, int index)
{
    uint64_t hellos = lab->seen.hellos;
    bus_allow(lab->bus, lab->peer_keys[index].identity.public_key);
    start_dialling_peer(lab, index);
    WAIT_UNTIL(&lab->loop, lab->seen.hellos == hellos + 1);
    assert_memory_equal(lab->seen.key, lab->peer_keys[index].identity.public_key, CURVE_KEY_BYTES);
    return lab->seen.channel;
}

static enum status send_text(struct lab *lab, uint64_t channel, const char *text)
{
    return bus_server_send(lab->server, channel, bytes_of_text(text));
}

static enum status send_number(struct lab *lab, uint64_t channel, uint32_t number)
{
    uint8_t frame[5] = {'N'};
    store_u32le(frame + 1, number);
    return bus_server_send(lab->server, channel, bytes_of(frame, sizeof(frame)));
}

static void unknown_keys_are_refused(void **state)
{
    struct lab *lab = *state;
    serve(lab);
    bus_allow(lab->bus, lab->peer_keys[1].identity.public_key); /* somebody is allowed, but not this one */
    start_dialling_peer(lab, 0);
    WAIT_UNTIL(&lab->loop, bus_refused(lab->bus) >= 3);
    assert_int_equal(lab->seen.frames, 0);
    bus_allow(lab->bus, lab->peer_keys[0].identity.public_key); /* it keeps trying, and gets in now */
    WAIT_UNTIL(&lab->loop, lab->seen.hellos == 1);
    assert_memory_equal(lab->seen.key, lab->peer_keys[0].identity.public_key, CURVE_KEY_BYTES);
    assert_int_equal(send_text(lab, lab->seen.channel, "E1"), STATUS_OK);
    WAIT_UNTIL(&lab->loop, lab->seen.echoes == 1);
    bus_disallow(lab->bus, lab->peer_keys[0].identity.public_key);
    assert_int_equal(send_text(lab, lab->seen.channel, "E2"), STATUS_CLOSED);
}

static void peers_without_curve_are_not_heard(void **state)
{
    struct lab *lab = *state;
    serve(lab);
    const char *args[] = {bus_server_endpoint(lab->server), NULL};
    start_peer(lab, 0, "raw-plain", args);
    WAIT_UNTIL(&lab->loop, lab->peers_ended == 1);
    uint64_t channel = join_peer(lab, 1);
    assert_int_equal(lab->seen.frames, 1);
    assert_int_not_equal(channel, 0);
}

static void odd_peers_are_not_heard(void **state)
{
    struct lab *lab = *state;
    serve(lab);
    const struct keys *keys = &lab->peer_keys[0];
    const char *args[] = {bus_server_endpoint(lab->server), lab->ours.public_text, keys->public_text, keys->secret_text,
                          NULL};
    bus_allow(lab->bus, keys->identity.public_key);
    start_peer(lab, 0, "raw-id", args);
    WAIT_UNTIL(&lab->loop, lab->peers_ended == 1 && lab->seen.frames == 1);
    assert_string_equal(lab->seen.last, "done");
}

/* A lost edge shows as a hang at once, mostly within the first rounds. */
static void no_edge_is_lost(void **state)
{
    struct lab *lab = *state;
    serve(lab);
    uint64_t channels[2] = {join_peer(lab, 0), join_peer(lab, 1)};
    struct rng rng;
    rng_init(&rng, 1);
    uint64_t sent = 0;
    for (int round = 0; round < 400; round++) {
        uint64_t burst = 1 + rng_below(&rng, 40);
        for (uint64_t i = 0; i < burst; i++) {
            assert_int_equal(send_text(lab, channels[rng_below(&rng, 2)], "E burst"), STATUS_OK);
        }
        sent += burst;
        WAIT_UNTIL(&lab->loop, lab->seen.echoes == sent);
    }
    assert_int_equal(lab->seen.closed, 0);
}

/* A send that lets ZeroMQ look into its mailbox takes the news of a waiting frame with it; nothing announces that frame
 * again. ZeroMQ looks once in some 3 million cycles, so the loop is held up for longer than that. */
static void a_send_swallows_no_edge(void **state)
{
    struct lab *lab = *state;
    serve(lab);
    uint64_t channel = join_peer(lab, 0);
    for (uint32_t round = 0; round < 50; round++) {
        assert_int_equal(send_text(lab, channel, "E"), STATUS_OK);
        uv_run(&lab->loop.uv, UV_RUN_NOWAIT);
        uint64_t begin_us = loop_now_us(&lab->loop);
        while (loop_now_us(&lab->loop) - begin_us < 4000) {
        }
        assert_int_equal(send_number(lab, channel, round), STATUS_OK);
        WAIT_UNTIL(&lab->loop, lab->seen.echoes == round + 1);
    }
}

static void a_full_queue_is_a_status(void **state)
{
    struct lab *lab = *state;
    serve(lab);
    uint64_t stopped = join_peer(lab, 0), other = join_peer(lab, 1);
    kill(lab->peers[0].pid, SIGSTOP);
    uint32_t sent = 0;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && sent < 100000) {
        status = send_number(lab, stopped, sent);
        sent += status == STATUS_OK;
        if (sent % 16 == 0) { /* lets ZeroMQ's thread fill the kernel's buffers */
            uv_run(&lab->loop.uv, UV_RUN_NOWAIT);
        }
    }
    assert_int_equal(status, STATUS_FULL);
    assert_int_equal(send_text(lab, other, "E"), STATUS_OK); /* a peer of its own queue */
    WAIT_UNTIL(&lab->loop, lab->seen.echoes == 1);
    kill(lab->peers[0].pid, SIGCONT);
    bool asked = false;
    WAIT_UNTIL(&lab->loop, (asked = asked || send_text(lab, stopped, "C") == STATUS_OK));
    WAIT_UNTIL(&lab->loop, lab->seen.reports == 1);
    assert_int_equal(lab->seen.report_count, sent); /* what was taken arrived, once and in order */
    assert_true(lab->seen.report_in_order);
}

static void the_dead_are_seen(void **state)
{
    struct lab *lab = *state;
    serve(lab);
    uint64_t first = join_peer(lab, 0), second = join_peer(lab, 1);
    uint64_t begin_us = loop_now_us(&lab->loop);
    kill_peer(lab, 0);
    WAIT_UNTIL(&lab->loop, lab->seen.closed == 1);
    assert_int_equal(lab->seen.closed_channel, first);
    assert_true(loop_now_us(&lab->loop) - begin_us < 1000000); /* by the connection's end, not by heartbeats (2 s) */
    assert_int_equal(send_text(lab, first, "E"), STATUS_CLOSED);
    assert_int_equal(send_text(lab, 12345, "E"), STATUS_CLOSED);
    uint64_t third = join_peer(lab, 0); /* on the same descriptor number, most likely */
    assert_int_not_equal(third, first);
    assert_int_equal(send_text(lab, third, "E"), STATUS_OK);
    assert_int_equal(send_text(lab, second, "E"), STATUS_OK);
    WAIT_UNTIL(&lab->loop, lab->seen.echoes == 2);
    assert_int_equal(lab->seen.closed, 1);
}

static void last_words_come_before_closed(void **state)
{
    struct lab *lab = *state;
    serve(lab);
    for (int round = 0; round < 10; round++) {
        uint64_t channel = join_peer(lab, 0), closed = lab->seen.closed, echoes = lab->seen.echoes;
        for (int i = 0; i < 20; i++) {
            assert_int_equal(send_text(lab, channel, "E"), STATUS_OK);
        }
        WAIT_UNTIL(&lab->loop, lab->seen.closed > closed || lab->seen.echoes > echoes);
        kill_peer(lab, 0);
        WAIT_UNTIL(&lab->loop, lab->seen.closed == closed + 1);
        echoes = lab->seen.echoes;
        uint64_t hellos = lab->seen.hellos;
        (void)join_peer(lab, 1); /* goes through the same socket: whatever had come of the dead one would be here now */
        assert_int_equal(lab->seen.echoes, echoes);
        assert_int_equal(lab->seen.hellos, hellos + 1);
        kill_peer(lab, 1);
        WAIT_UNTIL(&lab->loop, lab->seen.closed == closed + 2);
    }
}

static void an_oversized_frame_costs_its_sender_only(void **state)
{
    struct lab *lab = *state;
    serve(lab);
    uint64_t good = join_peer(lab, 0), bad = join_peer(lab, 1);
    uint8_t order[9] = {'S'};
    store_u32le(order + 1, 1);
    store_u32le(order + 5, FRAME_MAX + 1);
    uint64_t frames = lab->seen.frames;
    assert_int_equal(bus_server_send(lab->server, bad, bytes_of(order, sizeof(order))), STATUS_OK);
    WAIT_UNTIL(&lab->loop, lab->seen.closed == 1);
    assert_int_equal(lab->seen.closed_channel, bad);
    WAIT_UNTIL(&lab->loop, lab->seen.hellos == 3); /* it dials again and is a new channel */
    assert_int_not_equal(lab->seen.channel, bad);
    assert_int_equal(lab->seen.frames, frames + 1);
    store_u32le(order + 5, FRAME_MAX); /* as large as may be */
    assert_int_equal(bus_server_send(lab->server, good, bytes_of(order, sizeof(order))), STATUS_OK);
    WAIT_UNTIL(&lab->loop, lab->seen.frames == frames + 2);
    assert_int_equal(lab->seen.last[0], 's');
    assert_int_equal(lab->seen.closed, 1);
    uint8_t *big = mem_alloc(FRAME_MAX + 1);
    assert_int_equal(bus_server_send(lab->server, good, bytes_of(big, FRAME_MAX + 1)), STATUS_LIMIT);
    mem_free(big);
}

/* ---- the dialling side --------------------------------------------------------------------------------------------
 */

static void client_received(void *context, struct bytes frame)
{
    struct lab *lab = context;
    see_frame(&lab->seen, frame);
}

static void client_connected(void *context)
{
    struct lab *lab = context;
    lab->seen.connected++;
}

static void client_disconnected(void *context)
{
    struct lab *lab = context;
    lab->seen.disconnected++;
}

static struct bus_client *dial(struct lab *lab, const char *endpoint, const uint8_t server_key[CURVE_KEY_BYTES])
{
    struct bus_client_config config = {.endpoint = endpoint,
                                       .frame_bytes_max = FRAME_MAX,
                                       .queue_max = QUEUE_MAX,
                                       .context = lab,
                                       .received = client_received,
                                       .connected = client_connected,
                                       .disconnected = client_disconnected};
    memcpy(config.server_key, server_key, CURVE_KEY_BYTES);
    struct bus_client *client;
    struct error error = {0};
    if (bus_dial(lab->bus, &config, &client, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    return client;
}

static void start_serving_peer(struct lab *lab, int index, const char *endpoint)
{
    const struct keys *keys = &lab->peer_keys[0];
    const char *args[] = {endpoint, keys->public_text, keys->secret_text, lab->ours.public_text, NULL};
    start_peer(lab, index, "serve", args);
}

static bool can_be_bound(const char *endpoint)
{
    int port = 0, one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_true(fd >= 0 && sscanf(endpoint, "tcp://127.0.0.1:%d", &port) == 1);
    address.sin_port = htons((uint16_t)port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    bool bound = bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 1) == 0;
    close(fd);
    return bound;
}

/* A port that nobody listens on: the bus's own, given back, which ZeroMQ's thread does a moment later. */
static void free_endpoint(struct lab *lab, char out[64])
{
    serve(lab);
    (void)snprintf(out, 64, "%s", bus_server_endpoint(lab->server));
    bus_server_close(lab->server);
    WAIT_UNTIL(&lab->loop, can_be_bound(out));
}

static enum status client_number(struct bus_client *client, uint32_t number)
{
    uint8_t frame[5] = {'N'};
    store_u32le(frame + 1, number);
    return bus_client_send(client, bytes_of(frame, sizeof(frame)));
}

static void a_restarted_server_is_found_again(void **state)
{
    struct lab *lab = *state;
    char endpoint[64];
    free_endpoint(lab, endpoint);
    struct bus_client *client = dial(lab, endpoint, lab->peer_keys[0].identity.public_key);
    assert_int_equal(bus_client_send(client, BYTES_LITERAL("E")), STATUS_CLOSED);
    start_serving_peer(lab, 0, endpoint); /* after the first attempts have failed */
    WAIT_UNTIL(&lab->loop, lab->seen.connected == 1);
    assert_true(bus_client_connected(client));
    assert_int_equal(bus_client_send(client, BYTES_LITERAL("E")), STATUS_OK);
    WAIT_UNTIL(&lab->loop, lab->seen.echoes == 1);

    /* What a stopped server never took is not for its successor. */
    kill(lab->peers[0].pid, SIGSTOP);
    uint32_t number = 0;
    while (number < 100000 && client_number(client, number) == STATUS_OK) {
        number++;
        uv_run(&lab->loop.uv, UV_RUN_NOWAIT);
    }
    assert_int_equal(client_number(client, number), STATUS_FULL);
    kill_peer(lab, 0);
    WAIT_UNTIL(&lab->loop, lab->seen.disconnected == 1);
    assert_false(bus_client_connected(client));
    assert_int_equal(client_number(client, number), STATUS_CLOSED);
    start_serving_peer(lab, 1, endpoint);
    WAIT_UNTIL(&lab->loop, lab->seen.connected == 2);
    assert_int_equal(client_number(client, 7), STATUS_OK);
    assert_int_equal(bus_client_send(client, BYTES_LITERAL("C")), STATUS_OK);
    WAIT_UNTIL(&lab->loop, lab->seen.reports == 1);
    assert_int_equal(lab->seen.report_count, 1);
    assert_int_equal(lab->seen.disconnected, 1);
}

static void an_oversized_answer_breaks_and_is_dialled_again(void **state)
{
    struct lab *lab = *state;
    char endpoint[64];
    free_endpoint(lab, endpoint);
    struct bus_client *client = dial(lab, endpoint, lab->peer_keys[0].identity.public_key);
    start_serving_peer(lab, 0, endpoint);
    WAIT_UNTIL(&lab->loop, lab->seen.connected == 1);
    uint8_t order[9] = {'S'};
    store_u32le(order + 1, 1);
    store_u32le(order + 5, FRAME_MAX + 1);
    assert_int_equal(bus_client_send(client, bytes_of(order, sizeof(order))), STATUS_OK);
    WAIT_UNTIL(&lab->loop, lab->seen.disconnected == 1 && lab->seen.connected == 2);
    assert_int_equal(lab->seen.frames, 0);
}

static void another_servers_key_is_refused(void **state)
{
    struct lab *lab = *state;
    char endpoint[64];
    free_endpoint(lab, endpoint);
    start_serving_peer(lab, 0, endpoint);
    struct bus_client *right = dial(lab, endpoint, lab->peer_keys[0].identity.public_key);
    WAIT_UNTIL(&lab->loop, bus_client_connected(right));
    struct bus_client *wrong = dial(lab, endpoint, lab->peer_keys[1].identity.public_key);
    for (uint64_t echo = 1; echo <= 200; echo++) { /* time enough, counted in round trips over the same threads */
        assert_int_equal(bus_client_send(right, BYTES_LITERAL("E")), STATUS_OK);
        WAIT_UNTIL(&lab->loop, lab->seen.echoes == echo);
    }
    assert_false(bus_client_connected(wrong));
    assert_int_equal(lab->seen.connected, 1);
}

/* ZeroMQ's I/O thread must survive whatever an attempt is doing when it is given up. */
static void attempts_can_be_given_up_at_any_time(void **state)
{
    struct lab *lab = *state;
    char endpoint[64];
    free_endpoint(lab, endpoint);
    start_serving_peer(lab, 0, endpoint);
    struct bus_client *right = dial(lab, endpoint, lab->peer_keys[0].identity.public_key);
    WAIT_UNTIL(&lab->loop, bus_client_connected(right));
    uint64_t echoes = 0;
    for (uint64_t attempt = 0; attempt < 300; attempt++) {
        struct bus_client *given_up = dial(lab, endpoint, lab->peer_keys[attempt % 2].identity.public_key);
        for (uint64_t turn = 0; turn < attempt % 4; turn++) { /* round trips are the clock */
            assert_int_equal(bus_client_send(right, BYTES_LITERAL("E")), STATUS_OK);
            echoes++;
            WAIT_UNTIL(&lab->loop, lab->seen.echoes == echoes);
        }
        bus_client_close(given_up);
    }
    assert_int_equal(bus_client_send(right, BYTES_LITERAL("E")), STATUS_OK);
    WAIT_UNTIL(&lab->loop, lab->seen.echoes == echoes + 1);
}

struct closer {
    struct lab *lab;
    struct bus_client *client;
    uint64_t frames;
};

static void close_in_callback(void *context, struct bytes frame)
{
    struct closer *closer = context;
    (void)frame;
    closer->frames++;
    bus_client_close(closer->client);
}

static void no_callback_follows_close(void **state)
{
    struct lab *lab = *state;
    char endpoint[64];
    free_endpoint(lab, endpoint);
    start_serving_peer(lab, 0, endpoint);
    struct closer closer = {.lab = lab};
    struct bus_client_config config = {.endpoint = endpoint,
                                       .frame_bytes_max = FRAME_MAX,
                                       .queue_max = QUEUE_MAX,
                                       .context = &closer,
                                       .received = close_in_callback};
    memcpy(config.server_key, lab->peer_keys[0].identity.public_key, CURVE_KEY_BYTES);
    assert_int_equal(bus_dial(lab->bus, &config, &closer.client, NULL), STATUS_OK);
    WAIT_UNTIL(&lab->loop, bus_client_connected(closer.client));
    uint8_t order[9] = {'S'};
    store_u32le(order + 1, 50);
    store_u32le(order + 5, 10);
    assert_int_equal(bus_client_send(closer.client, bytes_of(order, sizeof(order))), STATUS_OK);
    WAIT_UNTIL(&lab->loop, closer.frames == 1);
    struct bus_client *other = dial(lab, endpoint, lab->peer_keys[0].identity.public_key);
    WAIT_UNTIL(&lab->loop, bus_client_connected(other));
    assert_int_equal(bus_client_send(other, BYTES_LITERAL("E")), STATUS_OK);
    WAIT_UNTIL(&lab->loop, lab->seen.echoes == 1);
    assert_int_equal(closer.frames, 1);
}

static void faults_are_statuses(void **state)
{
    struct lab *lab = *state;
    struct error error = {0};
    struct bus *second;
    assert_int_equal(bus_open(&lab->loop, &lab->ours.identity, &second, &error), STATUS_BUSY);
    serve(lab);
    struct bus_server *server;
    struct bus_server_config config = {.endpoint = bus_server_endpoint(lab->server),
                                       .frame_bytes_max = FRAME_MAX,
                                       .queue_max = QUEUE_MAX,
                                       .context = lab,
                                       .received = server_received};
    assert_int_equal(bus_serve(lab->bus, &config, &server, &error), STATUS_BUSY);
    assert_non_null(strstr(error.text, config.endpoint));
    config.endpoint = "tcp://nonsense";
    assert_int_equal(bus_serve(lab->bus, &config, &server, &error), STATUS_IO);
    struct bus_client *client;
    struct bus_client_config dialling = {.endpoint = "nonsense",
                                         .frame_bytes_max = FRAME_MAX,
                                         .queue_max = QUEUE_MAX,
                                         .context = lab,
                                         .received = client_received};
    assert_int_equal(bus_dial(lab->bus, &dialling, &client, &error), STATUS_INVALID);
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "peer") == 0) {
        return bus_peer_main(argc, argv);
    }
    CHECK(crypto_init() == STATUS_OK);
    own_path = argv[0];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(unknown_keys_are_refused, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(peers_without_curve_are_not_heard, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(odd_peers_are_not_heard, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(no_edge_is_lost, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(a_send_swallows_no_edge, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(a_full_queue_is_a_status, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(the_dead_are_seen, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(last_words_come_before_closed, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(an_oversized_frame_costs_its_sender_only, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(a_restarted_server_is_found_again, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(an_oversized_answer_breaks_and_is_dialled_again, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(another_servers_key_is_refused, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(attempts_can_be_given_up_at_any_time, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(no_callback_follows_close, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(faults_are_statuses, open_lab, close_lab),
    };
    return cmocka_run_group_tests_name("net.bus", tests, NULL, NULL);
}
