/* assembly: snapshots put together again from their chunks, one per sender.
 *
 * Chunks come in order or not at all: one out of order drops what was there, and the leader sends the snapshot again
 * after its time-out. Memory grows with the bytes that came, up to RPC_SNAPSHOT_BYTES_MAX per sender. */
#ifndef SHOAL_COORDINATOR_CONSENSUS_ASSEMBLY_H
#define SHOAL_COORDINATOR_CONSENSUS_ASSEMBLY_H

#include <raft.h>
#include <stdbool.h>

#include "base/buf.h"
#include "coordinator/consensus/replog.h"
#include "coordinator/consensus/rpc.h"

struct assembly {
    raft_id from;          /* 0: free */
    struct rpc_chunk head; /* the first chunk; its configuration is ours, its data are not used again */
    struct buf data;
};

/* All zero: empty. */
struct assemblies {
    struct assembly list[REPLOG_MEMBERS_MAX];
};

void assemblies_free(struct assemblies *assemblies);
/* Takes the chunk's configuration over. True when the snapshot is whole: *out is then the message for libraft. */
bool assemblies_add(struct assemblies *assemblies, raft_id from, struct rpc_chunk *chunk, struct raft_message *out);

#endif
