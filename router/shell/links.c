/* links: channels over the bus: one per replica, as the core dials them, and one per coordinator. */
#include <string.h>

#include "base/arena.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/proto.h"
#include "router/shell/shell.h"

enum { LINK_QUEUE_MAX = 8192, COORDINATOR_QUEUE_MAX = 64, COORDINATOR_ARENA_BYTES_MAX = 256 << 20 };

struct link {
    struct shell *shell;
    uint64_t number;
    struct bus_client *client;
};

static void step_link(struct link *link, enum router_event_kind kind, struct bytes frame)
{
    struct router_event event = {.kind = kind, .target = link->number, .frame = frame};
    shell_step(link->shell, &event);
}

static void link_received(void *context, struct bytes frame)
{
    step_link(context, ROUTER_FRAME, frame);
}

static void link_connected(void *context)
{
    step_link(context, ROUTER_LINK_UP, bytes_of(NULL, 0));
}

static void link_disconnected(void *context)
{
    step_link(context, ROUTER_LINK_DOWN, bytes_of(NULL, 0));
}

void links_dial(struct shell *shell, uint64_t number, const char *endpoint, const uint8_t key[CURVE_KEY_BYTES])
{
    struct link *link = mem_new(struct link);
    *link = (struct link){.shell = shell, .number = number};
    struct bus_client_config config = {
        .endpoint = endpoint,
        .frame_bytes_max = PROTO_FRAME_BYTES_MAX,
        .queue_max = LINK_QUEUE_MAX,
        .context = link,
        .received = link_received,
        .connected = link_connected,
        .disconnected = link_disconnected,
    };
    memcpy(config.server_key, key, CURVE_KEY_BYTES);
    struct error error = {0};
    enum status status = bus_dial(shell->bus, &config, &link->client, &error);
    if (status == STATUS_OK) {
        status = map_put_u64(&shell->links, number, link);
    }
    if (status != STATUS_OK) {
        LOG_E("router", "dial_failed", "endpoint=%s error=%s", endpoint, log_quoted(error.text));
        mem_free(link);
    }
}

void links_hang_up(struct shell *shell, uint64_t number)
{
    struct link *link = map_remove_u64(&shell->links, number);
    if (link != NULL) {
        bus_client_close(link->client);
        mem_free(link);
    }
}

void links_send(struct shell *shell, uint64_t number, struct bytes frame)
{
    struct link *link = map_get_u64(&shell->links, number);
    if (link == NULL) {
        return;
    }
    enum status status = bus_client_send(link->client, frame);
    if (status != STATUS_OK) {
        /* A full or broken channel is a dead engine to its streams; the core dials on after it has heard so. */
        LOG_W("router", "send_failed", "link=%llu status=%s", (unsigned long long)number, status_name(status));
        step_link(link, ROUTER_LINK_DOWN, bytes_of(NULL, 0));
    }
}

void links_close(struct shell *shell)
{
    size_t at = 0;
    struct bytes key;
    void *link;
    while (map_next(&shell->links, &at, &key, &link)) {
        mem_free(link); /* the bus closes its clients itself */
    }
    map_free(&shell->links);
}

/* ---- coordinators */

static void coordinator_received(void *context, struct bytes frame)
{
    struct shell_coordinator *coordinator = context;
    struct shell *shell = coordinator->shell;
    struct arena arena;
    arena_init(&arena, COORDINATOR_ARENA_BYTES_MAX);
    struct proto_message message;
    struct error error = {0};
    if (proto_decode(frame, &arena, &message, &error) != STATUS_OK) {
        LOG_W("router", "frame_refused", "coordinator=%zu error=%s", coordinator->index, log_quoted(error.text));
    } else if (message.opcode == PROTO_VIEW) {
        struct router_event event = {.kind = ROUTER_VIEW, .frame = frame};
        shell_step(shell, &event);
    }
    arena_free(&arena);
}

enum status links_dial_coordinators(struct shell *shell, struct error *error)
{
    for (size_t i = 0; i < shell->members.count; i++) {
        const struct member *member = &shell->members.list[i];
        if (member->role != MEMBER_COORDINATOR) {
            continue;
        }
        if (shell->asking.count == COORDINATORS_MAX) {
            return error_set(error, STATUS_LIMIT, "more than %d coordinators", COORDINATORS_MAX);
        }
        size_t index = shell->asking.count++;
        shell->coordinators[index] = (struct shell_coordinator){.shell = shell, .index = index};
        struct bus_client_config config = {
            .endpoint = member->endpoint,
            .frame_bytes_max = PROTO_FRAME_BYTES_MAX,
            .queue_max = COORDINATOR_QUEUE_MAX,
            .context = &shell->coordinators[index],
            .received = coordinator_received,
        };
        memcpy(config.server_key, member->public_key, CURVE_KEY_BYTES);
        enum status status = bus_dial(shell->bus, &config, &shell->coordinators[index].client, error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

void links_ask_coordinators(struct shell *shell)
{
    size_t index = coordinators_ask(&shell->asking, loop_now_us(&shell->loop));
    if (index == COORDINATORS_NONE) {
        return;
    }
    const struct proto_view_ask ask = {
        .incarnation = router_view_incarnation(shell->router),
        .index = router_view_index(shell->router),
        .router = {.name = bytes_of_text(shell->identity.name),
                   .address = bytes_of_text(shell->address),
                   .requests = router_open_requests(shell->router)},
    };
    struct buf frame;
    struct error error;
    buf_init(&frame, PROTO_FRAME_BYTES_MAX);
    struct bus_client *client = shell->coordinators[index].client;
    if (proto_encode(&frame, PROTO_VIEW_ASK, &ask, &error) != STATUS_OK || !bus_client_connected(client) ||
        bus_client_send(client, buf_bytes(&frame)) != STATUS_OK) {
        coordinators_unsent(&shell->asking);
    }
    buf_free(&frame);
}
