/* bus_server: the side that binds. One ROUTER socket, whose routing ids are turned into channels.
 *
 * ZeroMQ gives each connection a routing id (a zero byte and a counter) and tells the receiver neither when it came nor
 * when it went; its monitor tells of descriptors only. Every message carries the descriptor that it came over
 * ("__fd", the property behind ZMQ_SRCFD), which joins the two:
 *
 *   first message of a routing id   a channel is made and remembers key and descriptor
 *   monitor: descriptor closed      the channel with that descriptor is dying; `closed` follows within the same drain
 *
 * The monitor's event is queued before the descriptor is closed, so before its number can come again; emptying the
 * monitor's queue before a channel is made keeps old and new apart. A message that still arrives for a channel that is
 * gone (it was decoded before, and handed over after the event) is dropped. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/bus_internal.h"

enum { CHANNELS_MAX = 65536, ROUTING_ID_BYTES = 5, GONE_REMEMBERED = 256, ENDPOINT_MAX = 256 };

struct channel {
    struct bus_peer peer;
    uint32_t routing; /* the routing id's counter */
    int fd;
    bool muted;        /* its key was taken off the allow-list */
    struct list dying; /* in server->dying, or alone */
    char user_id[CURVE_TEXT_BYTES];
};

struct bus_server {
    struct bus *bus;
    struct bus_server_config config;
    struct bus_socket *router;
    struct bus_socket *monitor;
    struct map by_number;
    struct map by_routing;
    struct map by_fd;
    struct list dying;
    struct list link; /* in bus->servers */
    uint32_t gone[GONE_REMEMBERED];
    size_t gone_next;
    size_t gone_count;
    bool closing;
    char endpoint[ENDPOINT_MAX];
};

/* Unique in the process's life, whichever server the connection belongs to. Loop's thread only, like everything. */
static uint64_t channels_made;

struct bus_server *bus_server_of_link(struct list *link)
{
    return LIST_ENTRY(link, struct bus_server, link);
}

/* ---- channels -----------------------------------------------------------------------------------------------------
 */

static void channel_die(struct bus_server *server, struct channel *channel)
{
    if (list_empty(&channel->dying)) {
        list_push_back(&server->dying, &channel->dying);
        if (map_get_u64(&server->by_fd, (uint64_t)channel->fd) == channel) {
            (void)map_remove_u64(&server->by_fd, (uint64_t)channel->fd);
        }
        bus_socket_mark(server->monitor);
    }
}

static void channel_forget(struct bus_server *server, struct channel *channel)
{
    list_remove(&channel->dying);
    (void)map_remove_u64(&server->by_number, channel->peer.channel);
    (void)map_remove_u64(&server->by_routing, channel->routing);
    server->gone[server->gone_next] = channel->routing;
    server->gone_next = (server->gone_next + 1) % GONE_REMEMBERED;
    server->gone_count = MIN_OF(server->gone_count + 1, (size_t)GONE_REMEMBERED);
    mem_free(channel);
}

static bool is_gone(const struct bus_server *server, uint32_t routing)
{
    for (size_t i = 0; i < server->gone_count; i++) {
        if (server->gone[i] == routing) {
            return true;
        }
    }
    return false;
}

/* Marks the channels whose descriptors the monitor reports closed. */
static void read_monitor(struct bus_server *server)
{
    unsigned event, fd;
    while (bus_monitor_next(server->monitor, &event, &fd)) {
        struct channel *channel = map_get_u64(&server->by_fd, fd);
        if (event == ZMQ_EVENT_DISCONNECTED && channel != NULL) {
            channel_die(server, channel);
        }
    }
}

static void bury_the_dying(struct bus_server *server)
{
    while (!list_empty(&server->dying) && !server->closing) {
        struct channel *channel = LIST_ENTRY(list_first(&server->dying), struct channel, dying);
        uint64_t number = channel->peer.channel;
        channel_forget(server, channel);
        if (server->config.closed != NULL) {
            server->config.closed(server->config.context, number);
        }
    }
}

/* NULL: the message is not one of a connection that may speak. */
static struct channel *channel_make(struct bus_server *server, uint32_t routing, zmq_msg_t *payload)
{
    const char *user_id = zmq_msg_gets(payload, "User-Id"), *fd_text = zmq_msg_gets(payload, "__fd");
    read_monitor(server);
    if (user_id == NULL || fd_text == NULL || strlen(user_id) != CURVE_TEXT_BYTES - 1 || is_gone(server, routing) ||
        server->by_number.count >= CHANNELS_MAX) {
        return NULL;
    }
    struct channel *channel = mem_new(struct channel);
    memcpy(channel->user_id, user_id, CURVE_TEXT_BYTES);
    if (crypto_z85_decode(channel->peer.public_key, user_id) != STATUS_OK ||
        !bus_allows(server->bus, channel->peer.public_key)) { /* taken off the list since its handshake */
        mem_free(channel);
        return NULL;
    }
    channel->peer.channel = ++channels_made;
    channel->routing = routing;
    channel->fd = (int)strtol(fd_text, NULL, 10);
    list_init(&channel->dying);
    struct channel *before = map_get_u64(&server->by_fd, (uint64_t)channel->fd);
    if (before != NULL) {
        channel_die(server, before); /* two can't share a descriptor: the monitor lost an event */
    }
    CHECK(map_put_u64(&server->by_number, channel->peer.channel, channel) == STATUS_OK);
    CHECK(map_put_u64(&server->by_routing, routing, channel) == STATUS_OK);
    CHECK(map_put_u64(&server->by_fd, (uint64_t)channel->fd, channel) == STATUS_OK);
    return channel;
}

void bus_server_mute(struct bus_server *server, const uint8_t public_key[CURVE_KEY_BYTES])
{
    size_t at = 0;
    struct bytes key;
    void *value;
    while (map_next(&server->by_number, &at, &key, &value)) {
        struct channel *channel = value;
        if (memcmp(channel->peer.public_key, public_key, CURVE_KEY_BYTES) == 0) {
            channel->muted = true;
        }
    }
}

/* ---- receiving ----------------------------------------------------------------------------------------------------
 */

/* The counter in a routing id that ZeroMQ made. A peer may choose one of its own, which never starts with a zero byte;
 * ours do not, and such a peer is not heard. */
static bool routing_of(zmq_msg_t *identity, uint32_t *out)
{
    const uint8_t *data = zmq_msg_data(identity);
    if (zmq_msg_size(identity) != ROUTING_ID_BYTES || data[0] != 0) {
        return false;
    }
    memcpy(out, data + 1, sizeof(*out));
    return true;
}

static void deliver(struct bus_server *server, uint32_t routing, zmq_msg_t *payload)
{
    struct channel *channel = map_get_u64(&server->by_routing, routing);
    if (channel == NULL) {
        channel = channel_make(server, routing, payload);
    }
    /* The key is the payload's own (the first part's properties may be another connection's): never another one than
     * the channel's, and checked all the same. */
    const char *user_id = zmq_msg_gets(payload, "User-Id");
    if (channel == NULL || channel->muted || user_id == NULL || strcmp(user_id, channel->user_id) != 0) {
        return;
    }
    struct bus_peer peer = channel->peer;
    server->config.received(server->config.context, &peer, bytes_of(zmq_msg_data(payload), zmq_msg_size(payload)));
}

/* False: nothing waits. A message is [routing id, frame]; other shapes are dropped. */
static bool receive_one(struct bus_server *server)
{
    zmq_msg_t identity, payload;
    zmq_msg_init(&identity);
    zmq_msg_init(&payload);
    bool taken = zmq_msg_recv(&identity, server->router->zmq, ZMQ_DONTWAIT) >= 0;
    if (taken && zmq_msg_more(&identity) && zmq_msg_recv(&payload, server->router->zmq, ZMQ_DONTWAIT) >= 0) {
        uint32_t routing;
        if (zmq_msg_more(&payload)) {
            bus_socket_drop_parts(server->router, true);
        } else if (routing_of(&identity, &routing)) {
            deliver(server, routing, &payload);
        }
    }
    zmq_msg_close(&identity);
    zmq_msg_close(&payload);
    return taken;
}

/* Messages first, so that a peer's last words come before its `closed`. */
static bool server_drain(void *owner)
{
    struct bus_server *server = owner;
    bool more = true;
    for (int i = 0; more && i < BUS_DRAIN_MAX; i++) {
        more = receive_one(server);
        if (server->closing) {
            return false;
        }
    }
    read_monitor(server);
    bury_the_dying(server);
    return more && !server->closing;
}

/* ---- life ---------------------------------------------------------------------------------------------------------
 */

static enum status server_open(struct bus_server *server, struct error *error)
{
    struct bus *bus = server->bus;
    enum status status = bus_socket_open(bus, ZMQ_ROUTER, server, server_drain, &server->router, error);
    if (status == STATUS_OK) {
        status = bus_socket_set_limits(server->router, server->config.frame_bytes_max, server->config.queue_max, error);
    }
    if (status == STATUS_OK) {
        status = bus_socket_set(server->router, ZMQ_ROUTER_MANDATORY, 1, error);
    }
    if (status == STATUS_OK) {
        status = bus_socket_set(server->router, ZMQ_CURVE_SERVER, 1, error); /* each handshake asks the ZAP handler */
    }
    if (status == STATUS_OK) {
        status = bus_socket_set_key(server->router, ZMQ_CURVE_SECRETKEY, bus->identity.secret_key, error);
    }
    if (status == STATUS_OK) {
        status =
            bus_monitor_open(server->router, ZMQ_EVENT_DISCONNECTED, server, server_drain, &server->monitor, error);
    }
    return status;
}

enum status bus_serve(struct bus *bus, const struct bus_server_config *config, struct bus_server **out,
                      struct error *error)
{
    CHECK(config->received != NULL);
    struct bus_server *server = mem_new(struct bus_server);
    server->bus = bus;
    server->config = *config;
    map_init(&server->by_number, CHANNELS_MAX);
    map_init(&server->by_routing, CHANNELS_MAX);
    map_init(&server->by_fd, CHANNELS_MAX);
    list_init(&server->dying);
    list_push_back(&bus->servers, &server->link);
    enum status status = server_open(server, error);
    if (status == STATUS_OK && zmq_bind(server->router->zmq, config->endpoint) != 0) {
        status = error_set(error, zmq_errno() == EADDRINUSE ? STATUS_BUSY : STATUS_IO, "%s can't be listened on: %s.",
                           config->endpoint, zmq_strerror(zmq_errno()));
    }
    if (status != STATUS_OK) {
        bus_server_close(server);
        return status;
    }
    size_t size = sizeof(server->endpoint);
    CHECK(zmq_getsockopt(server->router->zmq, ZMQ_LAST_ENDPOINT, server->endpoint, &size) == 0);
    *out = server;
    return STATUS_OK;
}

const char *bus_server_endpoint(const struct bus_server *server)
{
    return server->endpoint;
}

enum status bus_server_send(struct bus_server *server, uint64_t number, struct bytes frame)
{
    struct channel *channel = map_get_u64(&server->by_number, number);
    if (channel == NULL || channel->muted || !list_empty(&channel->dying)) {
        return STATUS_CLOSED;
    }
    if (frame.length > server->config.frame_bytes_max) {
        return STATUS_LIMIT;
    }
    uint8_t identity[ROUTING_ID_BYTES] = {0};
    memcpy(identity + 1, &channel->routing, sizeof(channel->routing));
    int fault = bus_socket_send(server->router, identity, sizeof(identity), ZMQ_SNDMORE);
    if (fault == 0) {
        /* Room and route were settled with the routing id; the rest of the message can't be refused. */
        fault = bus_socket_send(server->router, frame.data, frame.length, 0);
    }
    if (fault == 0) {
        return STATUS_OK;
    }
    if (fault == EAGAIN) {
        return STATUS_FULL;
    }
    channel_die(server, channel);
    return STATUS_CLOSED;
}

static void server_free(void *memory)
{
    struct bus_server *server = memory;
    size_t at = 0;
    struct bytes key;
    void *channel;
    while (map_next(&server->by_number, &at, &key, &channel)) {
        mem_free(channel);
    }
    map_free(&server->by_number);
    map_free(&server->by_routing);
    map_free(&server->by_fd);
    mem_free(server);
}

void bus_server_close(struct bus_server *server)
{
    server->closing = true;
    list_remove(&server->link);
    bus_monitor_close(server->router, server->monitor);
    bus_socket_close(server->router);
    loop_release(server->bus->loop, server, server_free);
}
