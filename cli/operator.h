/* cli/operator: an operator's channel to the coordinators, made synchronous: ask, and wait with a deadline.
 *
 * Dials every coordinator of members.json with the operator's key, asks all of them, takes the leader's answer.
 * STATUS_UNREACHABLE: no leader answered in time. One thread; owns a loop of its own. */
#ifndef SHOAL_CLI_OPERATOR_H
#define SHOAL_CLI_OPERATOR_H

#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "proto/proto.h"

struct operator_channel;

MUST_CHECK enum status operator_open(const char *identity_path, const char *members_path, struct operator_channel **out,
                                     struct error *error);
/* From the state folder of `shoal up`. */
MUST_CHECK enum status operator_open_dir(const char *dir, struct operator_channel **out, struct error *error);
void operator_close(struct operator_channel *channel);

/* The answer lives in the operator until its next call. */
MUST_CHECK enum status operator_status(struct operator_channel *channel, uint64_t timeout_ms,
                                       const struct proto_status **out, struct error *error);
/* One command through the log; its own outcome's status and text on refusal. Retries with the same id while it is
 * unknown whether it was applied. */
MUST_CHECK enum status operator_propose(struct operator_channel *channel, enum proto_opcode opcode, const void *command,
                                        uint64_t timeout_ms, struct error *error);

#endif
