/* outbox: libraft's messages on their way to the peers.
 *
 * A message waits until the hard state that it speaks for is durable, then its frames go out in order; it is lost when
 * a peer can't be reached, and libraft is told so. A snapshot's chunks go out a few per tick, so that they never fill
 * the peers' queues, and try again where these are full. Callbacks are run by outbox_run_callback, never by outbox_add.
 */
#ifndef SHOAL_COORDINATOR_CONSENSUS_OUTBOX_H
#define SHOAL_COORDINATOR_CONSENSUS_OUTBOX_H

#include <raft.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "coordinator/consensus/replog.h"

enum { OUTBOX_CHUNKS_PER_TICK = 4 }; /* of one snapshot */

struct outbox {
    struct replog_peers peers;
    struct list messages;
    struct list snapshots;
    struct list sent; /* callback due */
};

void outbox_init(struct outbox *outbox, const struct replog_peers *peers);
/* Runs every callback, with RAFT_CANCELED for what was not sent. */
void outbox_close(struct outbox *outbox);
/* `ticket`: sent once that is durable. `cb` NULL: the request is not touched again, libraft may free it. */
int outbox_add(struct outbox *outbox, const struct raft_message *message, uint64_t ticket, struct raft_io_send *request,
               raft_io_send_cb cb);
void outbox_send(struct outbox *outbox, uint64_t durable);
void outbox_send_chunks(struct outbox *outbox, uint64_t durable); /* once per tick */
bool outbox_run_callback(struct outbox *outbox);                  /* false: none was due */

#endif
