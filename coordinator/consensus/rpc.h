/* rpc: libraft's messages as frames of proto, and back.
 *
 * Outgoing, one message can become several frames: an AppendEntries above the size limit is split into several valid
 * ones (each with its own previous entry, and a leader_commit that it proves itself), a snapshot into chunks.
 * Incoming, everything is checked that libraft would take on trust: its binary has no assertions, and a wrong term,
 * type or configuration would corrupt its memory. Pure; what libraft takes over is allocated with raft_malloc. */
#ifndef SHOAL_COORDINATOR_CONSENSUS_RPC_H
#define SHOAL_COORDINATOR_CONSENSUS_RPC_H

#include <raft.h>
#include <stdbool.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/status.h"

enum {
    RPC_APPEND_BYTES_MAX = 1 << 20, /* payload of one frame; one entry may have as much */
    RPC_APPEND_ENTRIES_MAX = 1024,
    RPC_CHUNK_BYTES_MAX = 1 << 20,
    RPC_ENTRY_BYTES_MAX = 1 << 20,
    RPC_SERVERS_MAX = 64,
    RPC_SNAPSHOT_BYTES_MAX = 256 << 20,
};

/* A part of a snapshot; views into the frame and the arena. */
struct rpc_chunk {
    raft_term term;
    raft_index last_index;
    raft_term last_term;
    raft_index configuration_index;
    struct raft_configuration configuration; /* raft_configuration_close */
    uint64_t offset;
    uint64_t total_bytes;
    struct bytes data;
};

struct rpc_incoming {
    bool is_chunk;
    struct raft_message message; /* without sender's id and address; entries are raft_malloc'ed */
    struct rpc_chunk chunk;
};

/* Called with each frame of a message, in order; the frame is its own only until it returns. */
typedef void (*rpc_emit)(void *context, struct bytes frame);

/* STATUS_LIMIT when an entry or a snapshot is larger than any frame may be. */
MUST_CHECK enum status rpc_encode(const struct raft_message *message, rpc_emit emit, void *context,
                                  struct error *error);
/* A message from `from`. Refused frames leave nothing to free. */
MUST_CHECK enum status rpc_decode(struct bytes frame, raft_id from, struct rpc_incoming *out, struct error *error);

/* Reads a configuration as libraft encodes it (raft_configuration_encode), with all the checks that libraft's own
 * decoder lacks; `out` may be NULL. */
MUST_CHECK enum status rpc_decode_configuration(struct bytes encoded, struct raft_configuration *out);
/* Whether an entry of the log is one that libraft can be given. */
bool rpc_entry_valid(unsigned type, struct bytes data);

#endif
