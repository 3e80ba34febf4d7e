/* replog_node: see replog_node.h. */
#include "tests/unit/coordinator/replog_node.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "coordinator/consensus/disk.h"
#include "coordinator/consensus/replog.h"

struct node {
    const char *folder;
    uint64_t id;
    int socket;
    unsigned write_ms;
    struct disk disk;
    struct replog *replog;
    struct replog_node_state state;
    uint8_t datagram[1 + REPLOG_NODE_DATAGRAM_MAX];
};

struct node_write {
    struct replog_propose propose;
    struct node *node;
    uint64_t value;
};

static struct node node;

int replog_node_bind(const char *folder, uint64_t number)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int size = 4 << 20;
    int file = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK(file >= 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/%llu.sock", folder, (unsigned long long)number);
    unlink(address.sun_path);
    CHECK(bind(file, (struct sockaddr *)&address, sizeof address) == 0);
    (void)setsockopt(file, SOL_SOCKET, SO_SNDBUF, &size, sizeof size); /* as much as the system lets us have */
    return file;
}

void replog_node_send(int file, const char *folder, uint64_t to, const void *data, unsigned long length)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/%llu.sock", folder, (unsigned long long)to);
    (void)sendto(file, data, length, 0, (struct sockaddr *)&address, sizeof address); /* losing it is allowed */
}

/* ---- callbacks --------------------------------------------------------------------------------------------------- */

static void on_apply(void *context, uint64_t index, struct bytes command)
{
    struct replog_node_state *state = context;
    uint64_t value = 0;
    CHECK(command.length == sizeof value && index > state->index);
    memcpy(&value, command.data, sizeof value);
    CHECK(value < REPLOG_NODE_VALUES_MAX && (state->has[value / 8] & (1 << value % 8)) == 0);
    state->has[value / 8] |= (uint8_t)(1 << value % 8);
    state->index = index;
    state->count++;
    state->hash = hash_xx64(command.data, command.length, state->hash + index);
}

static enum status on_snapshot(void *context, struct buf *out)
{
    buf_append(out, context, sizeof(struct replog_node_state));
    return STATUS_OK;
}

static enum status on_restore(void *context, uint64_t index, struct bytes snapshot)
{
    struct replog_node_state *state = context;
    CHECK(snapshot.length == sizeof *state);
    memcpy(state, snapshot.data, sizeof *state);
    CHECK(state->index <= index);
    return STATUS_OK;
}

static enum status on_send(void *context, uint64_t to, struct bytes frame)
{
    struct node *self = context;
    uint8_t *datagram = mem_alloc(9 + frame.length);
    datagram[0] = 'R';
    memcpy(datagram + 1, &self->id, 8);
    memcpy(datagram + 9, frame.data, frame.length);
    replog_node_send(self->socket, self->folder, to, datagram, 9 + frame.length);
    mem_free(datagram);
    return STATUS_OK;
}

static void on_role(void *context, bool leading, uint64_t leader, uint64_t term)
{
    (void)context;
    (void)leading;
    (void)leader;
    (void)term;
}

static __attribute__((noreturn)) void on_fatal(void *context, enum status status, const char *why)
{
    (void)context;
    fprintf(stderr, "voter %llu: fatal: %s: %s\n", (unsigned long long)node.id, status_name(status), why);
    _exit(REPLOG_NODE_FATAL);
}

/* ---- requests ---------------------------------------------------------------------------------------------------- */

static void answer(uint64_t value, enum status status, uint64_t index)
{
    struct replog_node_answer answer = {node.id, value, (uint64_t)status, index};
    uint8_t datagram[1 + sizeof answer] = {'A'};
    memcpy(datagram + 1, &answer, sizeof answer);
    replog_node_send(node.socket, node.folder, 0, datagram, sizeof datagram);
}

static void on_done(struct replog_propose *propose, enum status status, uint64_t index)
{
    struct node_write *write = CONTAINER_OF(propose, struct node_write, propose);
    answer(write->value, status, index);
    mem_free(write);
}

static void propose(uint64_t value)
{
    struct node_write *write = mem_new(struct node_write);
    write->propose.done = on_done;
    write->value = value;
    enum status status = replog_propose(node.replog, &write->propose, bytes_of(&value, sizeof value));
    if (status != STATUS_OK) {
        answer(value, status, 0);
        mem_free(write);
    }
}

static void report_state(void)
{
    static uint8_t datagram[1 + sizeof node.state];
    struct replog_node_state state = node.state;
    state.node = node.id;
    state.leading = replog_leading(node.replog);
    state.index = replog_applied(node.replog);
    datagram[0] = 'S';
    memcpy(datagram + 1, &state, sizeof state);
    replog_node_send(node.socket, node.folder, 0, datagram, sizeof datagram);
}

static void take_datagrams(void)
{
    for (;;) {
        ssize_t length = recv(node.socket, node.datagram, sizeof node.datagram, 0);
        if (length < 0)
            return;
        uint64_t number = 0;
        if (length >= 9)
            memcpy(&number, node.datagram + 1, 8);
        if (length > 9 && node.datagram[0] == 'R')
            CHECK(replog_receive(node.replog, number, bytes_of(node.datagram + 9, (size_t)length - 9),
                                 clock_mono_us()) != STATUS_INVALID);
        else if (length == 9 && node.datagram[0] == 'P')
            propose(number);
        else if (length == 1 && node.datagram[0] == 'Q')
            report_state();
    }
}

/* ---- a slow disk ------------------------------------------------------------------------------------------------- */

/* Makes what is queued but not written last longer, for kill -9 to find: what was written survives the process. */
static enum status slow_write(void *context, int file, uint64_t offset, struct bytes bytes, struct error *error)
{
    poll(NULL, 0, (int)node.write_ms);
    return disk_posix()->write(context, file, offset, bytes, error);
}

/* ---- the process ------------------------------------------------------------------------------------------------- */

static void open_log(bool first_start)
{
    char folder[160];
    snprintf(folder, sizeof folder, "%s/%llu", node.folder, (unsigned long long)node.id);
    struct replog_config config = {
        .folder = folder,
        .cluster_id = "kill -9",
        .raft_id = node.id,
        .rank = (unsigned)node.id - 1,
        .first_start = first_start,
        .members = {{1, "c1"}, {2, "c2"}, {3, "c3"}},
        .members_count = REPLOG_NODES,
        .election_timeout_ms = 200,
        .heartbeat_ms = 50,
        .snapshot_threshold = 200,
        .peers = {.context = &node, .send = on_send},
        .fsm = {.context = &node.state, .apply = on_apply, .snapshot = on_snapshot, .restore = on_restore},
        .disk = &node.disk,
        .on_role = on_role,
        .fatal = on_fatal,
    };
    node.disk = *disk_posix();
    if (node.write_ms > 0)
        node.disk.write = slow_write;
    struct error error = {0};
    if (replog_open(&config, &node.replog, &error) != STATUS_OK)
        on_fatal(NULL, error.status, error.text);
}

void replog_node_main(const char *folder, uint64_t id, bool first_start, unsigned write_ms)
{
    enum { TICK_US = 10000 };
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    log_init(LOG_ERROR, "voter");
    node.folder = folder;
    node.id = id;
    node.write_ms = write_ms;
    node.socket = replog_node_bind(folder, id);
    open_log(first_start);
    uint64_t next_us = clock_mono_us();
    for (;;) {
        uint64_t now_us = clock_mono_us();
        if (now_us >= next_us) {
            replog_tick(node.replog, now_us);
            next_us = now_us + TICK_US;
        }
        struct pollfd files[] = {{.fd = node.socket, .events = POLLIN},
                                 {.fd = replog_disk_fd(node.replog), .events = POLLIN}};
        int ready = poll(files, 2, (int)((next_us - now_us) / 1000 + 1));
        CHECK(ready >= 0 || errno == EINTR);
        if (ready > 0 && files[1].revents != 0)
            replog_disk_ready(node.replog, clock_mono_us());
        if (ready > 0 && files[0].revents != 0)
            take_datagrams();
    }
}
