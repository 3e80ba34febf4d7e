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

/* struct proto_name for every message, command and record; enum proto_opcode with PROTO_NAME; union proto_any; and the
 * enums that fields take (proto_node_state, proto_engine_phase, proto_replica_state, proto_finish). */
#include "proto/structs.h"

struct proto_message {
    enum proto_opcode opcode;
    union proto_any any; /* any.submit, any.tokens, ... */
};

/* Appends one frame. `message` is a `const struct proto_NAME *` of that opcode. STATUS_LIMIT when a field breaks its
 * own maximum (a bug or too large input of the caller's) or the frame its, STATUS_INVALID for a text that is not UTF-8
 * or a number that is not finite; `out` is then as it was. The bytes are a function of the message alone. */
MUST_CHECK enum status proto_encode(struct buf *out, enum proto_opcode opcode, const void *message,
                                    struct error *error);
/* STATUS_UNSUPPORTED: another version, an unknown opcode, or an unknown tag in a command. STATUS_LIMIT: beyond a
 * field's maximum, the frame's or the depth. STATUS_NO_MEMORY: beyond the arena's maximum. STATUS_INVALID: anything
 * else. */
MUST_CHECK enum status proto_decode(struct bytes frame, struct arena *arena, struct proto_message *out,
                                    struct error *error);
const char *proto_opcode_name(enum proto_opcode opcode); /* "submit"; "unknown" */
bool proto_opcode_is_command(enum proto_opcode opcode);  /* belongs into the replicated log, and nothing else does */
/* The opcode of a frame whose envelope is sound, without decoding the rest; 0 otherwise. */
unsigned proto_peek_opcode(struct bytes frame);
/* docs/PROTOCOL.md, from the tables. */
void proto_document(struct buf *out);

#endif
