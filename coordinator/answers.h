/* coordinator/answers: what askers get, made from applied and soft state: ASSIGN for agents, STATUS for operators.
 *
 * Both append one encoded frame. Pure. */
#ifndef SHOAL_COORDINATOR_ANSWERS_H
#define SHOAL_COORDINATOR_ANSWERS_H

#include "base/buf.h"
#include "coordinator/control.h"
#include "coordinator/fsm.h"

/* Everything that the node shall run, as of the applied state. */
MUST_CHECK enum status answer_assign(const struct fsm *fsm, const char *node, struct buf *out, struct error *error);

struct answer_leader {
    const char *name;
    uint64_t term;
    /* Per coordinator in the fsm's order: whether the leader heard it lately (itself included). */
    const bool *coordinator_up;
};
MUST_CHECK enum status answer_status(const struct fsm *fsm, const struct control *control,
                                     const struct answer_leader *leader, uint64_t request, uint64_t now_us,
                                     struct buf *out, struct error *error);

#endif
