/* sched/health.c: see health.h. A node that was never heard counts as silent since the leader's begin, so that a new
 * leader gives everybody the same time that it gives itself. */
#include "sched/health.h"

#include "base/check.h"

struct health_verdict health_judge(const struct health_config *config, struct health_node *nodes, size_t nodes_count,
                                   uint64_t leading_since_us, uint64_t now_us)
{
    struct health_verdict verdict = {0};
    size_t believed = 0;
    for (size_t i = 0; i < nodes_count; i++) {
        struct health_node *node = &nodes[i];
        uint64_t since_us = MAX_OF(node->heard_us, leading_since_us);
        uint64_t silence_us = now_us > since_us ? now_us - since_us : 0;
        bool heard = node->heard_us >= leading_since_us && node->heard_us != 0;
        if (node->logged_down) {
            node->state = heard && silence_us < config->suspect_after_us ? HEALTH_UP : HEALTH_DOWN;
            continue;
        }
        believed++;
        node->state = silence_us >= config->down_after_us      ? HEALTH_DOWN
                      : silence_us >= config->suspect_after_us ? HEALTH_SUSPECT
                                                               : HEALTH_UP;
        verdict.silent += node->state != HEALTH_UP;
    }
    verdict.frozen = verdict.silent > 1 && verdict.silent * 3 > believed;
    for (size_t i = 0; verdict.frozen && i < nodes_count; i++) {
        if (!nodes[i].logged_down && nodes[i].state == HEALTH_DOWN) {
            nodes[i].state = HEALTH_SUSPECT;
        }
    }
    return verdict;
}
