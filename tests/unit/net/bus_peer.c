/* bus_peer: see bus_peer.h. */
#include "tests/unit/net/bus_peer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <signal.h>
#include <zmq.h>

#include "base/check.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "net/bus.h"

enum { QUEUE_MAX = 100, SERVE_FRAME_MAX = 1 << 20, LIFE_SECONDS = 100 };

struct peer {
    struct loop loop;
    struct bus *bus;
    struct bus_client *client; /* either */
    struct bus_server *server;
    uint32_t last_number;
    uint32_t count;
    bool in_order;
};

static void answer(struct peer *peer, uint64_t channel, struct bytes frame)
{
    /* A test's script never makes its own answers overflow. */
    enum status status =
        peer->client != NULL ? bus_client_send(peer->client, frame) : bus_server_send(peer->server, channel, frame);
    CHECK(status == STATUS_OK || status == STATUS_LIMIT || status == STATUS_CLOSED);
}

static void send_many(struct peer *peer, uint64_t channel, uint32_t count, uint32_t size)
{
    uint8_t *frame = mem_alloc(size);
    frame[0] = 's';
    for (uint32_t i = 0; i < count; i++) {
        answer(peer, channel, bytes_of(frame, size));
    }
    mem_free(frame);
}

static void report(struct peer *peer, uint64_t channel)
{
    uint8_t frame[6] = {'C'};
    store_u32le(frame + 1, peer->count);
    frame[5] = peer->in_order;
    answer(peer, channel, bytes_of(frame, sizeof(frame)));
}

static void obey(struct peer *peer, uint64_t channel, struct bytes frame)
{
    struct cursor cursor = cursor_of(frame);
    uint32_t number, size;
    switch (cursor_u8(&cursor)) {
    case 'E':
        answer(peer, channel, frame);
        break;
    case 'S':
        number = cursor_u32le(&cursor);
        size = cursor_u32le(&cursor);
        send_many(peer, channel, number, size);
        break;
    case 'N':
        number = cursor_u32le(&cursor);
        peer->in_order = peer->in_order && (peer->count == 0 || number == peer->last_number + 1);
        peer->last_number = number;
        peer->count++;
        break;
    case 'C':
        report(peer, channel);
        break;
    case 'X':
        _exit(0);
    default:
        _exit(9);
    }
}

static void client_received(void *context, struct bytes frame)
{
    obey(context, 0, frame);
}

static void client_connected(void *context)
{
    answer(context, 0, BYTES_LITERAL("hello"));
}

static void server_received(void *context, const struct bus_peer *from, struct bytes frame)
{
    obey(context, from->channel, frame);
}

static struct bus_identity identity_of(const char *public_text, const char *secret_text)
{
    struct bus_identity identity;
    CHECK(crypto_z85_decode(identity.public_key, public_text) == STATUS_OK);
    CHECK(crypto_z85_decode(identity.secret_key, secret_text) == STATUS_OK);
    return identity;
}

static int dial(char **args)
{
    static struct peer peer = {.in_order = true};
    struct bus_identity identity = identity_of(args[2], args[3]);
    struct bus_client_config config = {.endpoint = args[0],
                                       .frame_bytes_max = strtoul(args[4], NULL, 10),
                                       .queue_max = QUEUE_MAX,
                                       .context = &peer,
                                       .received = client_received,
                                       .connected = client_connected};
    CHECK(crypto_z85_decode(config.server_key, args[1]) == STATUS_OK);
    CHECK(loop_init(&peer.loop, NULL) == STATUS_OK);
    CHECK(bus_open(&peer.loop, &identity, &peer.bus, NULL) == STATUS_OK);
    CHECK(bus_dial(peer.bus, &config, &peer.client, NULL) == STATUS_OK);
    loop_run(&peer.loop);
    return 8;
}

static int serve(char **args)
{
    static struct peer peer = {.in_order = true};
    struct bus_identity identity = identity_of(args[1], args[2]);
    struct bus_server_config config = {.endpoint = args[0],
                                       .frame_bytes_max = SERVE_FRAME_MAX,
                                       .queue_max = QUEUE_MAX,
                                       .context = &peer,
                                       .received = server_received};
    uint8_t allowed[CURVE_KEY_BYTES];
    CHECK(crypto_z85_decode(allowed, args[3]) == STATUS_OK);
    CHECK(loop_init(&peer.loop, NULL) == STATUS_OK);
    CHECK(bus_open(&peer.loop, &identity, &peer.bus, NULL) == STATUS_OK);
    bus_allow(peer.bus, allowed);
    CHECK(bus_serve(peer.bus, &config, &peer.server, NULL) == STATUS_OK);
    loop_run(&peer.loop);
    return 8;
}

static void *raw_dealer(void *context, char **args, const char *routing_id)
{
    int linger = 5000;
    void *dealer = zmq_socket(context, ZMQ_DEALER);
    zmq_setsockopt(dealer, ZMQ_LINGER, &linger, sizeof(linger));
    zmq_setsockopt(dealer, ZMQ_CURVE_SERVERKEY, args[1], strlen(args[1]));
    zmq_setsockopt(dealer, ZMQ_CURVE_PUBLICKEY, args[2], strlen(args[2]));
    zmq_setsockopt(dealer, ZMQ_CURVE_SECRETKEY, args[3], strlen(args[3]));
    if (routing_id != NULL) {
        zmq_setsockopt(dealer, ZMQ_ROUTING_ID, routing_id, strlen(routing_id));
    }
    CHECK(zmq_connect(dealer, args[0]) == 0);
    return dealer;
}

static int raw_id(char **args)
{
    void *context = zmq_ctx_new();
    void *chosen = raw_dealer(context, args, "abcde"), *plain = raw_dealer(context, args, NULL);
    CHECK(zmq_send(chosen, "not heard", 9, 0) == 9);
    CHECK(zmq_send(plain, "part", 4, ZMQ_SNDMORE) == 4);
    CHECK(zmq_send(plain, "part", 4, ZMQ_SNDMORE) == 4);
    CHECK(zmq_send(plain, "part", 4, 0) == 4);
    zmq_close(chosen); /* returns from ctx_term only when all was sent, or after 5 s */
    CHECK(zmq_send(plain, "done", 4, 0) == 4);
    zmq_close(plain);
    zmq_ctx_term(context);
    return 0;
}

static int raw_plain(char **args)
{
    /* Without CURVE the server ends the handshake; the monitor-less sign of that is that nothing is ever delivered. */
    int linger = 500;
    void *context = zmq_ctx_new(), *dealer = zmq_socket(context, ZMQ_DEALER);
    zmq_setsockopt(dealer, ZMQ_LINGER, &linger, sizeof(linger));
    CHECK(zmq_connect(dealer, args[0]) == 0);
    CHECK(zmq_send(dealer, "not heard", 9, 0) == 9);
    zmq_close(dealer);
    zmq_ctx_term(context);
    return 0;
}

int bus_peer_main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int args;
        int (*run)(char **args);
    } roles[] = {{"dial", 5, dial}, {"serve", 4, serve}, {"raw-id", 4, raw_id}, {"raw-plain", 1, raw_plain}};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(LIFE_SECONDS); /* never outlive a test that failed */
    CHECK(crypto_init() == STATUS_OK);
    for (size_t i = 0; i < COUNT_OF(roles); i++) {
        if (strcmp(argv[2], roles[i].name) == 0 && argc == 3 + roles[i].args) {
            return roles[i].run(argv + 3);
        }
    }
    return 2;
}
