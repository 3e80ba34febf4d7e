/* proto: shoal's wire messages as structs, and their bounded codec; everything is made from messages.def.
 *
 * A decoded message's texts and blobs are views into the frame, its arrays live in the caller's arena: both must
 * outlive it. The decoder allocates nothing that the bytes present could not hold, and refuses wrong versions, unknown
 * opcodes, wrong types, values out of range, too deep nesting, duplicate tags and trailing bytes with a status and a
 * sentence that names message and field. Pure: no I/O, no global state. */
#ifndef SHOAL_PROTO_PROTO_H
#define SHOAL_PROTO_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/bytes.h"
#include "base/status.h"

enum { PROTO_VERSION = 1, PROTO_FRAME_BYTES_MAX = 8 << 20, PROTO_DEPTH_MAX = 8 };

enum proto_node_state { PROTO_NODE_UP, PROTO_NODE_SUSPECT, PROTO_NODE_DOWN, PROTO_NODE_DRAINING };
enum proto_engine_state {
    PROTO_ENGINE_STARTING,
    PROTO_ENGINE_LOADING,
    PROTO_ENGINE_READY,
    PROTO_ENGINE_DRAINING,
    PROTO_ENGINE_STOPPED,
    PROTO_ENGINE_FAILED
};
enum proto_replica_state {
    PROTO_REPLICA_PENDING,  /* no node fits */
    PROTO_REPLICA_PLACED,   /* assigned; the engine is not ready */
    PROTO_REPLICA_READY,
    PROTO_REPLICA_DRAINING,
    PROTO_REPLICA_FAILED,   /* the engine could not start; reason says why */
    PROTO_REPLICA_LOST      /* its node is down; about to be placed again */
};
enum proto_finish { PROTO_FINISH_STOP, PROTO_FINISH_LENGTH, PROTO_FINISH_CANCELLED, PROTO_FINISH_FAULT };

/* struct proto_NAME for every message, command and record; enum proto_opcode with PROTO_NAME (upper case). */
#include "proto/structs.h"

struct proto_message {
    enum proto_opcode opcode;
    union proto_any any; /* any.submit, any.tokens, ... */
};

/* Appends one frame. `message` is a `const struct proto_NAME *` of that opcode. STATUS_LIMIT when a field breaks its
 * own maximum (a bug or too large input of the caller's) or the frame its. */
MUST_CHECK enum status proto_encode(struct buf *out, enum proto_opcode opcode, const void *message,
                                    struct error *error);
MUST_CHECK enum status proto_decode(struct bytes frame, struct arena *arena, struct proto_message *out,
                                    struct error *error);
const char *proto_opcode_name(enum proto_opcode opcode); /* "submit"; "unknown" */
/* docs/PROTOCOL.md, from the tables. */
void proto_document(struct buf *out);

#endif
