/* Promises of net/tcp, against plain sockets: bytes arrive in order, a slow reader costs a bounded queue and is waited
 * for, the end of a connection is told once, a last answer is not lost to a reset, and neither a flood of connections
 * nor a lack of descriptors stops the loop. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "net/tcp.h"
#include "tests/unit/net/wait.h"

enum { QUEUE_MAX = 128 << 10, PIECE = 8 << 10, FLOOD = 200, KERNEL_MAX = 512 << 10 };

struct lab {
    struct loop loop;
    struct tcp_listener *listener;
    struct tcp *tcp; /* the last one that came */
    struct buf received;
    bool echo;
    bool refuse; /* do not take what comes */
    int incoming, ended, writable, closed;
    int turn_incoming, turn_incoming_max;
    uv_prepare_t turn;
};

static void on_received(void *context, struct bytes data)
{
    struct lab *lab = context;
    buf_append_bytes(&lab->received, data);
    if (lab->echo) {
        assert_int_equal(tcp_write(lab->tcp, data), STATUS_OK);
    }
}

static void on_writable(void *context)
{
    struct lab *lab = context;
    lab->writable++;
    assert_true(tcp_queued(lab->tcp) <= QUEUE_MAX / 2);
}

static void on_ended(void *context)
{
    struct lab *lab = context;
    lab->ended++;
    assert_int_equal(tcp_write(lab->tcp, BYTES_LITERAL("x")), STATUS_CLOSED);
    tcp_close(lab->tcp);
}

static void on_closed(void *context)
{
    struct lab *lab = context;
    lab->closed++;
}

static const struct tcp_events events = {
    .received = on_received, .writable = on_writable, .ended = on_ended, .closed = on_closed};

static void on_incoming(void *context, struct tcp *tcp)
{
    struct lab *lab = context;
    lab->incoming++;
    lab->turn_incoming++;
    if (!lab->refuse) {
        lab->tcp = tcp;
        tcp_start(tcp, &events, lab);
    }
}

static void on_turn(uv_prepare_t *turn)
{
    struct lab *lab = turn->data;
    lab->turn_incoming_max = lab->turn_incoming > lab->turn_incoming_max ? lab->turn_incoming : lab->turn_incoming_max;
    lab->turn_incoming = 0;
}

static int open_lab(void **state)
{
    struct lab *lab = mem_new(struct lab);
    struct error error = {0};
    struct tcp_listen_config config = {
        .host = "127.0.0.1", .queue_max = QUEUE_MAX, .context = lab, .incoming = on_incoming};
    assert_int_equal(loop_init(&lab->loop, &error), STATUS_OK);
    buf_init(&lab->received, 16 << 20);
    assert_int_equal(tcp_listen(&lab->loop, &config, &lab->listener, &error), STATUS_OK);
    uv_prepare_init(&lab->loop.uv, &lab->turn);
    lab->turn.data = lab;
    uv_prepare_start(&lab->turn, on_turn);
    *state = lab;
    return 0;
}

static int close_lab(void **state)
{
    struct lab *lab = *state;
    if (lab->listener != NULL) {
        tcp_listener_close(lab->listener);
    }
    loop_close(&lab->loop);
    buf_free(&lab->received);
    mem_free(lab);
    return 0;
}

/* A plain, non-blocking socket; 0 leaves its receive buffer as it is. */
static int client_socket(int receive_bytes)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (receive_bytes > 0) {
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes)), 0);
    }
    return fd;
}

static void client_connect(int fd, const struct lab *lab)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(tcp_listener_port(lab->listener))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EINPROGRESS);
}

static int join(struct lab *lab, int receive_bytes)
{
    int fd = client_socket(receive_bytes), before = lab->incoming;
    client_connect(fd, lab);
    WAIT_UNTIL(&lab->loop, lab->incoming == before + 1);
    return fd;
}

/* What can be read now is appended to *out; 0: the end, -1: a reset, 1: more may come. */
static int client_read(int fd, struct buf *out)
{
    char piece[4096];
    ssize_t length;
    while ((length = read(fd, piece, sizeof(piece))) > 0) {
        buf_append(out, piece, (size_t)length);
    }
    return length == 0 ? 0 : errno == EAGAIN ? 1 : -1;
}

static void bytes_come_back(void **state)
{
    struct lab *lab = *state;
    struct buf got;
    buf_init(&got, 1 << 20);
    lab->echo = true;
    int fd = join(lab, 0);
    for (int i = 1; i <= 50; i++) {
        assert_int_equal(write(fd, "0123456789", 10), 10);
        WAIT_UNTIL(&lab->loop, client_read(fd, &got) == 1 && got.length == (size_t)i * 10);
    }
    assert_true(bytes_equal(buf_bytes(&got), buf_bytes(&lab->received)));
    close(fd);
    WAIT_UNTIL(&lab->loop, lab->closed == 1);
    assert_int_equal(lab->ended, 1);
    buf_free(&got);
}

/* Fills the queue of a peer that does not read; returns the bytes taken. */
static size_t write_until_full(struct lab *lab)
{
    static uint8_t piece[PIECE];
    size_t sent = 0;
    enum status status = STATUS_OK;
    while (sent < (64 << 20)) {
        for (size_t i = 0; i < PIECE; i++) {
            piece[i] = (uint8_t)((sent + i) % 251);
        }
        status = tcp_write(lab->tcp, bytes_of(piece, PIECE));
        if (status != STATUS_OK) {
            break;
        }
        sent += PIECE;
        assert_true(tcp_queued(lab->tcp) <= QUEUE_MAX);
        uv_run(&lab->loop.uv, UV_RUN_NOWAIT);
    }
    assert_int_equal(status, STATUS_FULL);
    return sent;
}

static void a_slow_reader_is_bounded_and_waited_for(void **state)
{
    struct lab *lab = *state;
    struct buf got;
    buf_init(&got, 16 << 20);
    int fd = join(lab, 4096);
    size_t sent = write_until_full(lab);
    assert_true(tcp_queued(lab->tcp) > QUEUE_MAX - PIECE);
    assert_true(sent < QUEUE_MAX + KERNEL_MAX); /* the kernel did not swallow megabytes */
    assert_int_equal(lab->writable, 0);
    WAIT_UNTIL(&lab->loop, client_read(fd, &got) == 1 && got.length == sent);
    for (size_t i = 0; i < sent; i++) {
        assert_int_equal(got.data[i], i % 251);
    }
    WAIT_UNTIL(&lab->loop, lab->writable == 1);
    WAIT_UNTIL(&lab->loop, tcp_queued(lab->tcp) == 0);
    uint8_t *big = mem_alloc(QUEUE_MAX + 1);
    assert_int_equal(tcp_write(lab->tcp, bytes_of(big, QUEUE_MAX + 1)), STATUS_FULL); /* and never will fit */
    assert_int_equal(tcp_write(lab->tcp, bytes_of(big, QUEUE_MAX)), STATUS_OK);
    mem_free(big);
    close(fd);
    buf_free(&got);
    WAIT_UNTIL(&lab->loop, lab->closed == 1);
}

static void a_vanished_reader_is_told_once(void **state)
{
    struct lab *lab = *state;
    int fd = join(lab, 4096);
    (void)write_until_full(lab);
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(fd); /* with a reset: reading and writing both fail */
    WAIT_UNTIL(&lab->loop, lab->closed == 1);
    assert_int_equal(lab->ended, 1);
}

/* A process that ends closes its loop as it stands. */
static void a_loop_closes_over_open_writes(void **state)
{
    struct lab *lab = *state;
    int fd = join(lab, 4096);
    (void)write_until_full(lab);
    static struct tcp *tcp; /* their memory goes with the process that would end here */
    static struct tcp_listener *listener;
    tcp = lab->tcp;
    listener = lab->listener;
    loop_close(&lab->loop);
    assert_int_equal(lab->ended, 0);
    assert_true(tcp != NULL && listener != NULL);
    struct error error = {0};
    assert_int_equal(loop_init(&lab->loop, &error), STATUS_OK); /* for close_lab */
    lab->listener = NULL;
    close(fd);
}

static void a_last_answer_is_not_lost_to_a_reset(void **state)
{
    struct lab *lab = *state;
    struct buf got;
    uint8_t *answer = mem_alloc(100000), upload[1000] = {0};
    buf_init(&got, 1 << 20);
    int fd = join(lab, 0);
    assert_int_equal(write(fd, upload, sizeof(upload)), (ssize_t)sizeof(upload));
    WAIT_UNTIL(&lab->loop, lab->received.length == sizeof(upload));
    assert_int_equal(tcp_write(lab->tcp, bytes_of(answer, 100000)), STATUS_OK);
    tcp_close_after_write(lab->tcp);
    assert_int_equal(tcp_write(lab->tcp, BYTES_LITERAL("x")), STATUS_CLOSED);
    for (int i = 0; i < 50; i++) { /* goes on sending all the while */
        assert_int_equal(write(fd, upload, sizeof(upload)), (ssize_t)sizeof(upload));
        uv_run(&lab->loop.uv, UV_RUN_NOWAIT);
    }
    int state_now;
    WAIT_UNTIL(&lab->loop, (state_now = client_read(fd, &got)) != 1);
    assert_int_equal(state_now, 0); /* an orderly end, no reset */
    assert_int_equal(got.length, 100000);
    assert_int_equal(lab->closed, 0);                       /* it waits for ours */
    assert_int_equal(lab->received.length, sizeof(upload)); /* what came late was nobody's */
    close(fd);
    WAIT_UNTIL(&lab->loop, lab->closed == 1);
    assert_int_equal(lab->ended, 0);
    mem_free(answer);
    buf_free(&got);
}

static void reading_can_be_paused(void **state)
{
    struct lab *lab = *state;
    int fd = join(lab, 0), other;
    struct tcp *paused = lab->tcp;
    tcp_read_pause(paused, true);
    assert_int_equal(write(fd, "a", 1), 1);
    other = join(lab, 0); /* the loop has been round the paused one's descriptor by then */
    assert_int_equal(write(other, "b", 1), 1);
    WAIT_UNTIL(&lab->loop, lab->received.length == 1);
    assert_int_equal(lab->received.data[0], 'b');
    tcp_read_pause(paused, false);
    WAIT_UNTIL(&lab->loop, lab->received.length == 2);
    tcp_close(paused);
    tcp_close(paused); /* does nothing */
    close(fd);
    close(other);
    WAIT_UNTIL(&lab->loop, lab->closed == 2);
}

static void what_is_not_taken_is_closed(void **state)
{
    struct lab *lab = *state;
    struct buf got;
    buf_init(&got, 16);
    lab->refuse = true;
    int fd = join(lab, 0);
    WAIT_UNTIL(&lab->loop, client_read(fd, &got) != 1);
    assert_int_equal(lab->closed, 0); /* nobody had asked to be told */
    close(fd);
    buf_free(&got);
}

static void a_flood_leaves_others_their_turn(void **state)
{
    struct lab *lab = *state;
    int clients[FLOOD];
    lab->refuse = true;
    for (int i = 0; i < FLOOD; i++) {
        clients[i] = client_socket(0);
        client_connect(clients[i], lab);
    }
    WAIT_UNTIL(&lab->loop, lab->incoming == FLOOD);
    assert_in_range(lab->turn_incoming_max, 2, 65);
    for (int i = 0; i < FLOOD; i++) {
        close(clients[i]);
    }
}

static void a_paused_listener_lets_wait(void **state)
{
    struct lab *lab = *state;
    lab->refuse = true;
    tcp_listener_pause(lab->listener, true);
    int clients[3];
    for (int i = 0; i < 3; i++) {
        clients[i] = client_socket(0);
        client_connect(clients[i], lab);
    }
    for (int i = 0; i < 20; i++) {
        uv_run(&lab->loop.uv, UV_RUN_NOWAIT);
    }
    assert_int_equal(lab->incoming, 0);
    tcp_listener_pause(lab->listener, false);
    WAIT_UNTIL(&lab->loop, lab->incoming == 3);
    for (int i = 0; i < 3; i++) {
        close(clients[i]);
    }
}

static void a_lack_of_descriptors_stops_nothing(void **state)
{
    struct lab *lab = *state;
    struct rlimit before, none;
    struct buf got;
    buf_init(&got, 16);
    lab->refuse = true; /* so that nothing looks at lab->tcp */
    int first = client_socket(0), second = client_socket(0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)second + 1; /* the highest in use */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    client_connect(first, lab);
    WAIT_UNTIL(&lab->loop, client_read(first, &got) <= 0); /* closed, not left hanging */
    assert_int_equal(lab->incoming, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    client_connect(second, lab);
    WAIT_UNTIL(&lab->loop, lab->incoming == 1);
    close(first);
    close(second);
    buf_free(&got);
}

static void faults_are_statuses(void **state)
{
    struct lab *lab = *state;
    struct tcp_listener *second;
    struct error error = {0};
    struct tcp_listen_config config = {
        .port = tcp_listener_port(lab->listener), .queue_max = QUEUE_MAX, .context = lab, .incoming = on_incoming};
    assert_int_equal(tcp_listen(&lab->loop, &config, &second, &error), STATUS_BUSY);
    config.host = "no such host";
    assert_int_equal(tcp_listen(&lab->loop, &config, &second, &error), STATUS_INVALID);
    config = (struct tcp_listen_config){
        .host = "127.0.0.1", .reuse_port = true, .queue_max = QUEUE_MAX, .context = lab, .incoming = on_incoming};
    assert_int_equal(tcp_listen(&lab->loop, &config, &second, &error), STATUS_OK);
    struct tcp_listener *third;
    config.port = tcp_listener_port(second);
    assert_int_equal(tcp_listen(&lab->loop, &config, &third, &error), STATUS_OK); /* one process per core */
    tcp_listener_close(second);
    tcp_listener_close(third);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bytes_come_back, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(a_slow_reader_is_bounded_and_waited_for, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(a_vanished_reader_is_told_once, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(a_loop_closes_over_open_writes, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(a_last_answer_is_not_lost_to_a_reset, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(reading_can_be_paused, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(what_is_not_taken_is_closed, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(a_flood_leaves_others_their_turn, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(a_paused_listener_lets_wait, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(a_lack_of_descriptors_stops_nothing, open_lab, close_lab),
        cmocka_unit_test_setup_teardown(faults_are_statuses, open_lab, close_lab),
    };
    return cmocka_run_group_tests_name("net.tcp", tests, NULL, NULL);
}
