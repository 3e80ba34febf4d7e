/* bus: see bus.h. This file has the ZeroMQ context, the ZAP handler with its allow-list, and the pump that joins
 * ZeroMQ's edge-triggered sockets to the loop (bus_internal.h says how). */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/bus_internal.h"

enum {
    ALLOWED_MAX = 65536,
    SOCKETS_MAX = 16384,
    PUMP_ROUNDS_MAX = 4,
    ZAP_PARTS_MAX = 8, /* 7 of a CURVE request, and one to see that there are more */
    ZAP_MECHANISM = 5,
    ZAP_CREDENTIALS = 6,
    REFUSED_LOG_EVERY_US = 1000000
};

/* CURVE in libzmq 4.3 crashes when one context of a process ends while another still uses it (they share their random
 * source), so there is one at a time. */
static atomic_bool bus_is_open;

/* ---- sockets and the pump -----------------------------------------------------------------------------------------
 */

void bus_socket_mark(struct bus_socket *socket)
{
    if (socket->zmq != NULL && list_empty(&socket->dirty)) {
        list_push_back(&socket->bus->dirty, &socket->dirty);
    }
}

/* Drains what is dirty now; false: nothing is left. */
static bool pump_round(struct bus *bus)
{
    struct list batch;
    list_init(&batch);
    while (!list_empty(&bus->dirty)) {
        struct list *node = list_first(&bus->dirty);
        list_remove(node);
        list_push_back(&batch, node);
    }
    while (!list_empty(&batch)) {
        struct bus_socket *socket = LIST_ENTRY(list_first(&batch), struct bus_socket, dirty);
        list_remove(&socket->dirty);
        /* A callback in there may close this socket: its memory stays until the loop has gone round. */
        if (socket->drain(socket->owner)) {
            bus_socket_mark(socket);
        }
    }
    return !list_empty(&bus->dirty);
}

static void stay_awake(uv_idle_t *idle)
{
    (void)idle; /* being active is all it does: the loop then polls without waiting */
}

static void pump_before_sleep(uv_prepare_t *prepare)
{
    struct bus *bus = prepare->data;
    bool more = true;
    for (int round = 0; more && round < PUMP_ROUNDS_MAX; round++) {
        more = pump_round(bus);
    }
    if (more) {
        uv_idle_start(&bus->idle, stay_awake);
    } else {
        uv_idle_stop(&bus->idle);
    }
}

static void socket_announced(struct loop_poll *poll)
{
    bus_socket_mark(poll->context);
}

static enum status zmq_error(struct error *error, const char *what)
{
    int number = zmq_errno();
    return error_set(error, STATUS_IO, "ZeroMQ: %s: %s.", what, zmq_strerror(number));
}

enum status bus_socket_open(struct bus *bus, int type, void *owner, bool (*drain)(void *owner), struct bus_socket **out,
                            struct error *error)
{
    void *zmq = zmq_socket(bus->context, type);
    if (zmq == NULL) {
        return zmq_error(error, "no socket");
    }
    int fd;
    size_t size = sizeof(fd);
    CHECK(zmq_getsockopt(zmq, ZMQ_FD, &fd, &size) == 0);
    struct bus_socket *socket = mem_new(struct bus_socket);
    socket->bus = bus;
    socket->owner = owner;
    socket->drain = drain;
    list_init(&socket->dirty);
    enum status status = loop_poll_init(bus->loop, &socket->poll, fd, socket, socket_announced, error);
    if (status != STATUS_OK) {
        zmq_close(zmq);
        mem_free(socket);
        return status;
    }
    socket->zmq = zmq;
    *out = socket;
    status = bus_socket_set(socket, ZMQ_LINGER, 0, error);
    bus_socket_mark(socket);
    return status;
}

void bus_socket_close(struct bus_socket *socket)
{
    if (socket == NULL) {
        return;
    }
    list_remove(&socket->dirty);
    loop_poll_close(&socket->poll);
    zmq_close(socket->zmq);
    socket->zmq = NULL;
    loop_release(socket->bus->loop, socket, mem_free);
}

enum status bus_socket_set(struct bus_socket *socket, int option, int value, struct error *error)
{
    return zmq_setsockopt(socket->zmq, option, &value, sizeof(value)) == 0 ? STATUS_OK
                                                                           : zmq_error(error, "an option was refused");
}

enum status bus_socket_set_key(struct bus_socket *socket, int option, const uint8_t key[CURVE_KEY_BYTES],
                               struct error *error)
{
    return zmq_setsockopt(socket->zmq, option, key, CURVE_KEY_BYTES) == 0 ? STATUS_OK
                                                                          : zmq_error(error, "a CURVE key was refused");
}

enum status bus_socket_set_limits(struct bus_socket *socket, size_t frame_bytes_max, int queue_max, struct error *error)
{
    CHECK(frame_bytes_max > 0 && queue_max > 0);                      /* 0 would mean without limit */
    int64_t message_max = (int64_t)frame_bytes_max + BUS_CURVE_BYTES; /* it counts what is on the wire */
    if (zmq_setsockopt(socket->zmq, ZMQ_MAXMSGSIZE, &message_max, sizeof(message_max)) != 0) {
        return zmq_error(error, "MAXMSGSIZE was refused");
    }
    const struct {
        int option;
        int value;
    } limits[] = {
        {ZMQ_SNDHWM, queue_max},
        {ZMQ_RCVHWM, queue_max},
        {ZMQ_HEARTBEAT_IVL, BUS_HEARTBEAT_MS},
        {ZMQ_HEARTBEAT_TIMEOUT, 4 * BUS_HEARTBEAT_MS},
        {ZMQ_HEARTBEAT_TTL, 4 * BUS_HEARTBEAT_MS},
        {ZMQ_HANDSHAKE_IVL, BUS_HANDSHAKE_MS},
    };
    for (size_t i = 0; i < COUNT_OF(limits); i++) {
        enum status status = bus_socket_set(socket, limits[i].option, limits[i].value, error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

int bus_socket_send(struct bus_socket *socket, const void *data, size_t length, int flags)
{
    bus_socket_mark(socket);
    if (zmq_send(socket->zmq, data, length, flags | ZMQ_DONTWAIT) >= 0) {
        return 0;
    }
    if (zmq_errno() == EAGAIN) {
        int events;
        size_t size = sizeof(events);
        (void)zmq_getsockopt(socket->zmq, ZMQ_EVENTS, &events, &size);
        if (zmq_send(socket->zmq, data, length, flags | ZMQ_DONTWAIT) >= 0) {
            return 0;
        }
    }
    return zmq_errno();
}

void bus_socket_drop_parts(struct bus_socket *socket, bool more)
{
    while (more) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        more = zmq_msg_recv(&part, socket->zmq, ZMQ_DONTWAIT) >= 0 && zmq_msg_more(&part);
        zmq_msg_close(&part);
    }
}

enum status bus_monitor_open(struct bus_socket *watched, int events, void *owner, bool (*drain)(void *owner),
                             struct bus_socket **out, struct error *error)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "inproc://monitor-%llu", (unsigned long long)++watched->bus->monitors);
    if (zmq_socket_monitor(watched->zmq, name, events) != 0) {
        return zmq_error(error, "no monitor");
    }
    enum status status = bus_socket_open(watched->bus, ZMQ_PAIR, owner, drain, out, error);
    if (status != STATUS_OK) {
        return status;
    }
    /* Without limit: ZeroMQ's one I/O thread sends events with a call that blocks while the queue is full. */
    status = bus_socket_set(*out, ZMQ_RCVHWM, 0, error);
    if (status == STATUS_OK && zmq_connect((*out)->zmq, name) != 0) {
        status = zmq_error(error, "the monitor can't be read");
    }
    return status;
}

void bus_monitor_close(struct bus_socket *watched, struct bus_socket *monitor)
{
    if (monitor != NULL) {
        /* The source first: an event that is sent when nobody reads any more blocks the I/O thread for good. */
        (void)zmq_socket_monitor(watched->zmq, NULL, 0);
        bus_socket_close(monitor);
    }
}

bool bus_monitor_next(struct bus_socket *monitor, unsigned *event, unsigned *value)
{
    zmq_msg_t part;
    zmq_msg_init(&part);
    bool taken = zmq_msg_recv(&part, monitor->zmq, ZMQ_DONTWAIT) >= 0;
    if (taken) {
        /* A 16-bit event and a 32-bit value in our own byte order; the address follows in a second part. */
        uint16_t number;
        uint32_t detail;
        CHECK(zmq_msg_size(&part) == BUS_EVENT_BYTES);
        memcpy(&number, zmq_msg_data(&part), sizeof(number));
        memcpy(&detail, (const char *)zmq_msg_data(&part) + sizeof(number), sizeof(detail));
        *event = number;
        *value = detail;
        bus_socket_drop_parts(monitor, zmq_msg_more(&part));
    }
    zmq_msg_close(&part);
    return taken;
}

/* ---- the allow-list and ZAP (https://rfc.zeromq.org/spec/27/) -----------------------------------------------------
 */

void bus_allow(struct bus *bus, const uint8_t public_key[CURVE_KEY_BYTES])
{
    if (map_put(&bus->allowed, bytes_of(public_key, CURVE_KEY_BYTES), bus) != STATUS_OK) {
        log_event(LOG_ERROR, "net", "allow_list_full", "count=%zu", bus->allowed.count);
    }
}

void bus_disallow(struct bus *bus, const uint8_t public_key[CURVE_KEY_BYTES])
{
    (void)map_remove(&bus->allowed, bytes_of(public_key, CURVE_KEY_BYTES));
    LIST_FOR_EACH (node, &bus->servers) {
        bus_server_mute(bus_server_of_link(node), public_key);
    }
}

bool bus_allows(const struct bus *bus, const uint8_t public_key[CURVE_KEY_BYTES])
{
    return map_get(&bus->allowed, bytes_of(public_key, CURVE_KEY_BYTES)) != NULL;
}

uint64_t bus_refused(const struct bus *bus)
{
    return bus->refused;
}

static bool part_is(zmq_msg_t *part, const char *text)
{
    return bytes_equal(bytes_of(zmq_msg_data(part), zmq_msg_size(part)), bytes_of_text(text));
}

/* The key's Z85 text when the request may pass: it becomes the User-Id of every message of that connection. */
static bool zap_judge(struct bus *bus, zmq_msg_t *parts, size_t count, char user_id[CURVE_TEXT_BYTES])
{
    if (count != ZAP_CREDENTIALS + 1 || !part_is(&parts[0], "1.0") || !part_is(&parts[ZAP_MECHANISM], "CURVE") ||
        zmq_msg_size(&parts[ZAP_CREDENTIALS]) != CURVE_KEY_BYTES) {
        return false;
    }
    const uint8_t *key = zmq_msg_data(&parts[ZAP_CREDENTIALS]);
    crypto_z85_encode(user_id, key);
    return bus_allows(bus, key);
}

static void zap_count_refusal(struct bus *bus, const char *user_id)
{
    bus->refused++;
    uint64_t now_us = clock_mono_us();
    if (now_us - bus->refused_logged_us >= REFUSED_LOG_EVERY_US) { /* whoever knocks does not fill the disk */
        bus->refused_logged_us = now_us;
        log_event(LOG_WARN, "net", "peer_refused", "key=%s refused_total=%llu", user_id,
                  (unsigned long long)bus->refused);
    }
}

static void zap_answer(struct bus *bus, zmq_msg_t *request_id, bool pass, const char *user_id)
{
    const struct bytes answer[] = {
        BYTES_LITERAL("1.0"),
        bytes_of(zmq_msg_data(request_id), zmq_msg_size(request_id)),
        bytes_of_text(pass ? "200" : "400"),
        bytes_of_text(pass ? "OK" : "not on the allow-list"),
        bytes_of_text(pass ? user_id : ""),
        BYTES_LITERAL(""),
    };
    for (size_t i = 0; i < COUNT_OF(answer); i++) {
        int flags = i + 1 < COUNT_OF(answer) ? ZMQ_SNDMORE : 0;
        (void)bus_socket_send(bus->zap, answer[i].data, answer[i].length, flags);
    }
}

/* False: no request waits. */
static bool zap_serve(struct bus *bus)
{
    zmq_msg_t parts[ZAP_PARTS_MAX];
    size_t count = 0;
    bool more = true;
    while (more && count < ZAP_PARTS_MAX) {
        zmq_msg_init(&parts[count]);
        if (zmq_msg_recv(&parts[count], bus->zap->zmq, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&parts[count]);
            break;
        }
        more = zmq_msg_more(&parts[count]);
        count++;
    }
    if (count == 0) {
        return false;
    }
    bus_socket_drop_parts(bus->zap, more);
    char user_id[CURVE_TEXT_BYTES] = "";
    bool pass = zap_judge(bus, parts, count, user_id);
    if (!pass) {
        zap_count_refusal(bus, user_id);
    }
    zap_answer(bus, &parts[count > 1 ? 1 : 0], pass, user_id);
    for (size_t i = 0; i < count; i++) {
        zmq_msg_close(&parts[i]);
    }
    return true;
}

static bool zap_drain(void *owner)
{
    struct bus *bus = owner;
    for (int i = 0; i < BUS_DRAIN_MAX; i++) {
        if (!zap_serve(bus)) {
            return false;
        }
    }
    return true;
}

/* ---- the bus ------------------------------------------------------------------------------------------------------
 */

static void bus_free(void *memory)
{
    struct bus *bus = memory;
    map_free(&bus->allowed);
    crypto_wipe(&bus->identity, sizeof(bus->identity));
    mem_free(bus);
}

static void pump_open(struct bus *bus)
{
    uv_prepare_init(&bus->loop->uv, &bus->prepare);
    uv_idle_init(&bus->loop->uv, &bus->idle);
    bus->prepare.data = bus;
    CHECK(uv_prepare_start(&bus->prepare, pump_before_sleep) == 0);
}

enum status bus_open(struct loop *loop, const struct bus_identity *identity, struct bus **out, struct error *error)
{
    if (atomic_exchange(&bus_is_open, true)) {
        return error_set(error, STATUS_BUSY, "A process has one bus at a time.");
    }
    struct bus *bus = mem_new(struct bus);
    bus->loop = loop;
    bus->identity = *identity;
    map_init(&bus->allowed, ALLOWED_MAX);
    list_init(&bus->servers);
    list_init(&bus->clients);
    list_init(&bus->dirty);
    pump_open(bus);
    bus->context = zmq_ctx_new();
    CHECK(bus->context != NULL);
    (void)zmq_ctx_set(bus->context, ZMQ_MAX_SOCKETS, SOCKETS_MAX);
    enum status status = bus_socket_open(bus, ZMQ_REP, bus, zap_drain, &bus->zap, error);
    if (status == STATUS_OK && zmq_bind(bus->zap->zmq, "inproc://zeromq.zap.01") != 0) {
        status = zmq_error(error, "no ZAP handler");
    }
    if (status != STATUS_OK) {
        bus_close(bus);
        return status;
    }
    *out = bus;
    return STATUS_OK;
}

void bus_close(struct bus *bus)
{
    while (!list_empty(&bus->clients)) {
        bus_client_close(bus_client_of_link(list_first(&bus->clients)));
    }
    while (!list_empty(&bus->servers)) {
        bus_server_close(bus_server_of_link(list_first(&bus->servers)));
    }
    bus_socket_close(bus->zap);
    uv_close((uv_handle_t *)&bus->prepare, NULL);
    uv_close((uv_handle_t *)&bus->idle, NULL);
    while (zmq_ctx_term(bus->context) != 0 && zmq_errno() == EINTR) {
    }
    loop_release(bus->loop, bus, bus_free);
    atomic_store(&bus_is_open, false);
}

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
/* The packaged libzmq (C++) and the libsodium that decrypts for it are not instrumented: ThreadSanitizer sees what
 * libzmq's threads touch, and not what keeps them apart. What this process's own code does stays watched. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "called_from_lib:libzmq.so\ncalled_from_lib:libstdc++.so\ncalled_from_lib:libsodium.so\n";
}
#endif
#endif
