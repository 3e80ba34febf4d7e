/* bus_client: the side that dials. Each attempt has sockets of its own, so that nothing meant for a peer that is gone
 * reaches the one that takes its place, and so that no failure of an attempt (ZeroMQ gives up for good after some of
 * them, a refused key for one) outlives it.
 *
 *               handshake succeeded
 *   DIALLING --------------------------> CONNECTED
 *     |  ^                                  |
 *     |  | the wait is over                 | disconnected
 *     |  |                                  |
 *     +->WAITING <--------------------------+
 *   refused, failed, or not done in ATTEMPT_MS
 *
 * bus_client_close leads from everywhere to CLOSED. The wait doubles from WAIT_FIRST_MS to WAIT_MAX_MS and starts anew
 * with every success. */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/bus_internal.h"

enum { ATTEMPT_MS = 4000, WAIT_FIRST_MS = 10, WAIT_MAX_MS = 250, ENDPOINT_MAX = 256 };

enum client_state { CLIENT_DIALLING, CLIENT_CONNECTED, CLIENT_WAITING, CLIENT_CLOSED };

struct bus_client {
    struct bus *bus;
    struct bus_client_config config;
    enum client_state state;
    struct bus_socket *dealer; /* DIALLING, CONNECTED */
    struct bus_socket *monitor;
    struct loop_timer timer; /* DIALLING: the attempt's end; WAITING: the next one's begin */
    uint64_t wait_ms;
    bool refused_logged;
    struct list link; /* in bus->clients */
    char endpoint[ENDPOINT_MAX];
};

struct bus_client *bus_client_of_link(struct list *link)
{
    return LIST_ENTRY(link, struct bus_client, link);
}

/* ---- states -------------------------------------------------------------------------------------------------------
 */

static bool client_drain(void *owner);

static void drop_sockets(struct bus_client *client)
{
    bus_monitor_close(client->dealer, client->monitor);
    bus_socket_close(client->dealer);
    client->monitor = NULL;
    client->dealer = NULL;
}

static void enter_waiting(struct bus_client *client)
{
    drop_sockets(client);
    client->state = CLIENT_WAITING;
    loop_timer_start(&client->timer, client->wait_ms, 0);
    client->wait_ms = MIN_OF(2 * client->wait_ms, (uint64_t)WAIT_MAX_MS);
}

static void enter_connected(struct bus_client *client)
{
    loop_timer_stop(&client->timer);
    client->state = CLIENT_CONNECTED;
    client->wait_ms = WAIT_FIRST_MS;
    client->refused_logged = false;
    if (client->config.connected != NULL) {
        client->config.connected(client->config.context);
    }
}

static enum status open_dealer(struct bus_client *client, struct error *error)
{
    struct bus *bus = client->bus;
    const struct bus_client_config *config = &client->config;
    enum status status = bus_socket_open(bus, ZMQ_DEALER, client, client_drain, &client->dealer, error);
    if (status == STATUS_OK) {
        status = bus_socket_set_limits(client->dealer, config->frame_bytes_max, config->queue_max, error);
    }
    if (status == STATUS_OK) {
        status = bus_socket_set(client->dealer, ZMQ_RECONNECT_IVL, -1, error); /* we do that */
    }
    if (status == STATUS_OK) {
        /* Queues belong to the connection: what was received before it broke can still be read, what was not sent goes
         * with it. */
        status = bus_socket_set(client->dealer, ZMQ_IMMEDIATE, 1, error);
    }
    if (status == STATUS_OK) {
        status = bus_socket_set_key(client->dealer, ZMQ_CURVE_SERVERKEY, config->server_key, error);
    }
    if (status == STATUS_OK) {
        status = bus_socket_set_key(client->dealer, ZMQ_CURVE_PUBLICKEY, bus->identity.public_key, error);
    }
    if (status == STATUS_OK) {
        status = bus_socket_set_key(client->dealer, ZMQ_CURVE_SECRETKEY, bus->identity.secret_key, error);
    }
    return status;
}

/* On failure the client is where it was, without sockets. */
static enum status enter_dialling(struct bus_client *client, struct error *error)
{
    const int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                       ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_DISCONNECTED |
                       ZMQ_EVENT_CLOSED;
    enum status status = open_dealer(client, error);
    if (status == STATUS_OK) {
        status = bus_monitor_open(client->dealer, events, client, client_drain, &client->monitor, error);
    }
    if (status == STATUS_OK && zmq_connect(client->dealer->zmq, client->endpoint) != 0) {
        status =
            error_set(error, STATUS_INVALID, "%s can't be dialled: %s.", client->endpoint, zmq_strerror(zmq_errno()));
    }
    if (status != STATUS_OK) {
        drop_sockets(client);
        return status;
    }
    client->state = CLIENT_DIALLING;
    loop_timer_start(&client->timer, ATTEMPT_MS, 0);
    return STATUS_OK;
}

static void client_timer_fired(struct loop_timer *timer)
{
    struct bus_client *client = timer->context;
    struct error error = {0};
    if (client->state == CLIENT_DIALLING) {
        enter_waiting(client);
    } else if (client->state == CLIENT_WAITING && enter_dialling(client, &error) != STATUS_OK) {
        log_event(LOG_WARN, "net", "dial_failed", "endpoint=%s error=%s", client->endpoint, log_quoted(error.text));
        enter_waiting(client);
    }
}

/* ---- events -------------------------------------------------------------------------------------------------------
 */

static void client_broke(struct bus_client *client, unsigned event)
{
    if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH && !client->refused_logged) {
        client->refused_logged = true;
        log_event(LOG_WARN, "net", "refused_by_peer", "endpoint=%s", client->endpoint);
    }
    bool was_connected = client->state == CLIENT_CONNECTED;
    enter_waiting(client);
    if (was_connected && client->config.disconnected != NULL) {
        client->config.disconnected(client->config.context);
    }
}

/* Takes up to BUS_DRAIN_MAX frames; false: nothing waits. `dealer` tells whether a callback ended this attempt. */
static bool receive_some(struct bus_client *client, const struct bus_socket *dealer)
{
    for (int i = 0; i < BUS_DRAIN_MAX; i++) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        bool taken = zmq_msg_recv(&frame, dealer->zmq, ZMQ_DONTWAIT) >= 0;
        bool whole = taken && !zmq_msg_more(&frame);
        if (taken && !whole) {
            bus_socket_drop_parts(client->dealer, true);
        }
        if (whole) {
            client->config.received(client->config.context, bytes_of(zmq_msg_data(&frame), zmq_msg_size(&frame)));
        }
        zmq_msg_close(&frame);
        if (!taken || client->dealer != dealer) {
            return false;
        }
    }
    return true;
}

static void read_events(struct bus_client *client, const struct bus_socket *monitor)
{
    unsigned event, value;
    while (client->monitor == monitor && bus_monitor_next(client->monitor, &event, &value)) {
        if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
            enter_connected(client);
            continue;
        }
        /* Events are seen a moment before the frames that came last can be: take those first. */
        const struct bus_socket *dealer = client->dealer;
        while (receive_some(client, dealer)) {
        }
        if (client->monitor == monitor) {
            client_broke(client, event);
        }
    }
}

static bool client_drain(void *owner)
{
    struct bus_client *client = owner;
    const struct bus_socket *dealer = client->dealer, *monitor = client->monitor;
    if (dealer == NULL) {
        return false;
    }
    /* Frames can't come before the handshake, but may be seen before its event: connected comes first. */
    if (client->state == CLIENT_DIALLING) {
        read_events(client, monitor);
    }
    if (client->dealer != dealer) {
        return false;
    }
    bool more = receive_some(client, dealer);
    if (client->dealer == dealer && !more) {
        read_events(client, monitor);
    }
    return more && client->dealer == dealer;
}

/* ---- life ---------------------------------------------------------------------------------------------------------
 */

enum status bus_dial(struct bus *bus, const struct bus_client_config *config, struct bus_client **out,
                     struct error *error)
{
    CHECK(config->received != NULL);
    if (strlen(config->endpoint) >= ENDPOINT_MAX) {
        return error_set(error, STATUS_INVALID, "An endpoint has at most %d characters.", ENDPOINT_MAX - 1);
    }
    struct bus_client *client = mem_new(struct bus_client);
    client->bus = bus;
    client->config = *config;
    client->wait_ms = WAIT_FIRST_MS;
    memcpy(client->endpoint, config->endpoint, strlen(config->endpoint) + 1);
    client->config.endpoint = client->endpoint;
    loop_timer_init(bus->loop, &client->timer, client, client_timer_fired);
    list_push_back(&bus->clients, &client->link);
    enum status status = enter_dialling(client, error);
    if (status != STATUS_OK) {
        bus_client_close(client);
        return status;
    }
    *out = client;
    return STATUS_OK;
}

enum status bus_client_send(struct bus_client *client, struct bytes frame)
{
    if (client->state != CLIENT_CONNECTED) {
        return STATUS_CLOSED;
    }
    if (frame.length > client->config.frame_bytes_max) {
        return STATUS_LIMIT;
    }
    int fault = bus_socket_send(client->dealer, frame.data, frame.length, 0);
    return fault == 0 ? STATUS_OK : fault == EAGAIN ? STATUS_FULL : STATUS_CLOSED;
}

bool bus_client_connected(const struct bus_client *client)
{
    return client->state == CLIENT_CONNECTED;
}

void bus_client_close(struct bus_client *client)
{
    CHECK(client->state != CLIENT_CLOSED);
    client->state = CLIENT_CLOSED;
    list_remove(&client->link);
    drop_sockets(client);
    loop_timer_close(&client->timer);
    loop_release(client->bus->loop, client, mem_free);
}
