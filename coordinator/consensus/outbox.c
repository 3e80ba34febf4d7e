/* outbox: see outbox.h. */
#include "coordinator/consensus/outbox.h"

#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "coordinator/consensus/rpc.h"

struct frame {
    struct list node;
    size_t length;
    uint8_t data[];
};

struct outgoing {
    struct list node;
    struct list frames;
    raft_id to;
    uint64_t ticket;
    struct raft_io_send *request;
    raft_io_send_cb cb;
    int rv;
};

void outbox_init(struct outbox *outbox, const struct replog_peers *peers)
{
    outbox->peers = *peers;
    list_init(&outbox->messages);
    list_init(&outbox->snapshots);
    list_init(&outbox->sent);
}

static void add_frame(void *context, struct bytes from)
{
    struct outgoing *message = context;
    struct frame *frame = mem_alloc(sizeof *frame + from.length);
    frame->length = from.length;
    memcpy(frame->data, from.data, from.length);
    list_push_back(&message->frames, &frame->node);
}

static struct frame *first_frame(const struct outgoing *message)
{
    return LIST_ENTRY(list_first(&message->frames), struct frame, node);
}

static void drop_frame(struct frame *frame)
{
    list_remove(&frame->node);
    mem_free(frame);
}

static void drop_frames(struct outgoing *message)
{
    while (!list_empty(&message->frames))
        drop_frame(first_frame(message));
}

int outbox_add(struct outbox *outbox, const struct raft_message *from, uint64_t ticket, struct raft_io_send *request,
               raft_io_send_cb cb)
{
    struct error error = {0};
    struct outgoing *message = mem_new(struct outgoing);
    list_init(&message->frames);
    if (rpc_encode(from, add_frame, message, &error) != STATUS_OK) {
        LOG_E("consensus", "message_not_sent", "to=%llu why=%s", from->server_id, log_quoted(error.text));
        drop_frames(message);
        mem_free(message);
        return RAFT_TOOBIG;
    }
    message->to = from->server_id;
    message->ticket = ticket;
    message->request = request;
    message->cb = cb;
    list_push_back(from->type == RAFT_IO_INSTALL_SNAPSHOT ? &outbox->snapshots : &outbox->messages, &message->node);
    return 0;
}

static void finish(struct outbox *outbox, struct outgoing *message)
{
    drop_frames(message);
    list_remove(&message->node);
    list_push_back(&outbox->sent, &message->node);
}

/* Sends up to `limit` frames; false when some are left for later. */
static bool send_frames(struct outbox *outbox, struct outgoing *message, unsigned limit, bool patient)
{
    for (; !list_empty(&message->frames); limit--) {
        struct frame *frame = first_frame(message);
        if (limit == 0)
            return false;
        enum status status =
            outbox->peers.send(outbox->peers.context, message->to, bytes_of(frame->data, frame->length));
        if (status == STATUS_FULL && patient)
            return false;
        if (status != STATUS_OK) {
            message->rv = RAFT_NOCONNECTION;
            return true;
        }
        drop_frame(frame);
    }
    return true;
}

void outbox_send(struct outbox *outbox, uint64_t durable)
{
    while (!list_empty(&outbox->messages)) {
        struct outgoing *message = LIST_ENTRY(list_first(&outbox->messages), struct outgoing, node);
        if (message->ticket > durable)
            return;
        send_frames(outbox, message, UINT32_MAX, false);
        finish(outbox, message);
    }
}

void outbox_send_chunks(struct outbox *outbox, uint64_t durable)
{
    LIST_FOR_EACH (node, &outbox->snapshots) {
        struct outgoing *message = LIST_ENTRY(node, struct outgoing, node);
        if (message->ticket <= durable && send_frames(outbox, message, OUTBOX_CHUNKS_PER_TICK, true))
            finish(outbox, message);
    }
}

bool outbox_run_callback(struct outbox *outbox)
{
    if (list_empty(&outbox->sent))
        return false;
    struct outgoing *message = LIST_ENTRY(list_first(&outbox->sent), struct outgoing, node);
    list_remove(&message->node);
    if (message->cb != NULL)
        message->cb(message->request, message->rv);
    mem_free(message);
    return true;
}

static void cancel(struct outbox *outbox, struct list *messages)
{
    while (!list_empty(messages)) {
        struct outgoing *message = LIST_ENTRY(list_first(messages), struct outgoing, node);
        message->rv = RAFT_CANCELED;
        finish(outbox, message);
    }
}

void outbox_close(struct outbox *outbox)
{
    cancel(outbox, &outbox->messages);
    cancel(outbox, &outbox->snapshots);
    while (outbox_run_callback(outbox))
        continue;
}
