/* replog_node: one voter in a process of its own, for tests that kill processes.
 *
 * It talks over Unix datagrams in one folder: voter n is bound to `n.sock`, the test to `0.sock`. Datagrams begin with
 * one byte: R + sender's raft id + frame; P + value: propose (answered by A + node + value + status + index); Q:
 * answered by S + struct replog_node_state. Numbers are u64 in the machine's order. It ends with exit status 42 on a
 * fatal. */
#ifndef SHOAL_TESTS_UNIT_COORDINATOR_REPLOG_NODE_H
#define SHOAL_TESTS_UNIT_COORDINATOR_REPLOG_NODE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    REPLOG_NODES = 3,
    REPLOG_NODE_VALUES_MAX = 1 << 17,
    REPLOG_NODE_DATAGRAM_MAX = 200 << 10,
    REPLOG_NODE_FATAL = 42
};

struct replog_node_state {
    uint64_t node;
    uint64_t leading;
    uint64_t index; /* applied */
    uint64_t count;
    uint64_t hash;
    uint8_t has[REPLOG_NODE_VALUES_MAX / 8];
};

struct replog_node_answer {
    uint64_t node;
    uint64_t value;
    uint64_t status; /* enum status */
    uint64_t index;
};

/* A socket bound to `<folder>/<number>.sock`, whatever was there before. */
int replog_node_bind(const char *folder, uint64_t number);
/* Sends to number's socket; a peer that is away loses it. */
void replog_node_send(int socket, const char *folder, uint64_t to, const void *data, unsigned long length);
/* Runs voter `id` until it is killed. A slow disk takes `write_ms` longer for each write. */
__attribute__((noreturn)) void replog_node_main(const char *folder, uint64_t id, bool first_start, unsigned write_ms);

#endif
