/* sched/place.c: see place.h. The observed replicas are walked first (removals free memory for what follows), then
 * every wanted replica in the order of models and numbers. Room taken by an earlier action of the same call counts. */
#include "sched/place.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

struct place_run {
    const struct place_input *input;
    uint64_t *used_bytes; /* per node: what placed replicas take, this call's included */
    size_t *used_slots;   /* per node: how many they are */
    struct place_action *actions;
    size_t actions_count;
    size_t actions_max;
};

static const struct place_model *find_model(const struct place_input *input, const char *name)
{
    for (size_t i = 0; i < input->models_count; i++) {
        if (strcmp(input->models[i].name, name) == 0) {
            return &input->models[i];
        }
    }
    return NULL;
}

static const struct place_replica *find_replica(const struct place_input *input, const char *name)
{
    for (size_t i = 0; i < input->replicas_count; i++) {
        if (strcmp(input->replicas[i].name, name) == 0) {
            return &input->replicas[i];
        }
    }
    return NULL;
}

static int find_node(const struct place_input *input, const char *name)
{
    for (size_t i = 0; i < input->nodes_count; i++) {
        if (strcmp(input->nodes[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

/* The number behind the last slash; 0 when there is none, which no wanted replica has. */
static uint32_t replica_number(const char *name)
{
    const char *slash = strrchr(name, '/');
    uint32_t number = 0;
    if (slash == NULL || slash[1] < '1' || slash[1] > '9') {
        return 0;
    }
    for (const char *at = slash + 1; *at != '\0'; at++) {
        if (*at < '0' || *at > '9' || number > 100000000) {
            return 0;
        }
        number = number * 10 + (uint32_t)(*at - '0');
    }
    return number;
}

static bool replica_wanted(const struct place_input *input, const struct place_replica *replica)
{
    const struct place_model *model = find_model(input, replica->model);
    uint32_t number = replica_number(replica->name);
    return model != NULL && number >= 1 && number <= model->replicas;
}

/* A placement holds while its node is known and not down; a draining node keeps what it has. */
static bool replica_holds(const struct place_input *input, const struct place_replica *replica)
{
    int node = replica->node[0] != '\0' ? find_node(input, replica->node) : -1;
    return node >= 0 && !input->nodes[node].down;
}

/* Whether the node runs another replica of the model, as observed or by an action of this call. */
static bool node_runs_model(const struct place_run *run, const char *node, const char *model)
{
    const struct place_input *input = run->input;
    for (size_t i = 0; i < input->replicas_count; i++) {
        const struct place_replica *replica = &input->replicas[i];
        if (strcmp(replica->node, node) == 0 && strcmp(replica->model, model) == 0 && replica_wanted(input, replica) &&
            replica_holds(input, replica)) {
            return true;
        }
    }
    for (size_t i = 0; i < run->actions_count; i++) {
        const struct place_action *action = &run->actions[i];
        if (action->kind == PLACE_PUT && strcmp(action->node, node) == 0 && strcmp(action->model, model) == 0) {
            return true;
        }
    }
    return false;
}

/* The fitting node with the largest free share, or −1 with the reason. */
static int choose_node(const struct place_run *run, const struct place_model *model, char *reason)
{
    const struct place_input *input = run->input;
    size_t usable = 0, taken = 0, full = 0;
    uint64_t largest_free = 0;
    double best_share = -1;
    int best = -1;
    for (size_t i = 0; i < input->nodes_count; i++) {
        const struct place_node *node = &input->nodes[i];
        if (!node->usable || node->down) {
            continue;
        }
        usable++;
        if (node_runs_model(run, node->name, model->name)) {
            taken++;
            continue;
        }
        if (run->used_slots[i] >= PLACE_NODE_REPLICAS_MAX) {
            full++;
            continue;
        }
        uint64_t free_bytes = node->memory_bytes > run->used_bytes[i] ? node->memory_bytes - run->used_bytes[i] : 0;
        largest_free = MAX_OF(largest_free, free_bytes);
        if (free_bytes < model->memory_bytes) {
            continue;
        }
        double share = node->memory_bytes > 0 ? (double)free_bytes / (double)node->memory_bytes : 0;
        if (share > best_share || (share == best_share && strcmp(node->name, input->nodes[best].name) < 0)) {
            best_share = share;
            best = (int)i;
        }
    }
    if (best >= 0) {
        return best;
    }
    if (usable == 0) {
        snprintf(reason, PLACE_REASON_MAX + 1, "no node is up");
    } else if (taken == usable) {
        snprintf(reason, PLACE_REASON_MAX + 1, "each of the %zu usable nodes runs a replica of it already; add a node",
                 usable);
    } else if (taken + full == usable) {
        snprintf(reason, PLACE_REASON_MAX + 1, "every free node runs %d replicas already; add a node",
                 PLACE_NODE_REPLICAS_MAX);
    } else {
        snprintf(reason, PLACE_REASON_MAX + 1, "needs %llu MiB, but no free node has more than %llu MiB left",
                 (unsigned long long)(model->memory_bytes >> 20), (unsigned long long)(largest_free >> 20));
    }
    return -1;
}

static struct place_action *add_action(struct place_run *run, enum place_kind kind, const char *replica,
                                       const char *model, uint64_t expected_epoch)
{
    if (run->actions_count == run->actions_max) {
        return NULL;
    }
    struct place_action *action = &run->actions[run->actions_count++];
    memset(action, 0, sizeof(*action));
    action->kind = kind;
    action->expected_epoch = expected_epoch;
    snprintf(action->replica, sizeof(action->replica), "%s", replica);
    snprintf(action->model, sizeof(action->model), "%s", model);
    return action;
}

/* One wanted replica. False when there is no room for further actions. */
static bool place_one(struct place_run *run, const struct place_model *model, uint32_t number)
{
    char name[PLACE_NAME_MAX + 1];
    snprintf(name, sizeof(name), "%.110s/%u", model->name, number);
    const struct place_replica *replica = find_replica(run->input, name);
    if (replica != NULL && replica_holds(run->input, replica)) {
        return true;
    }
    char reason[PLACE_REASON_MAX + 1] = "";
    int node = choose_node(run, model, reason);
    if (node < 0 && replica != NULL && replica->node[0] == '\0' && strcmp(replica->reason, reason) == 0) {
        return true; /* pending for the same reason: no news */
    }
    struct place_action *action =
        add_action(run, node >= 0 ? PLACE_PUT : PLACE_PEND, name, model->name, replica != NULL ? replica->epoch : 0);
    if (action == NULL) {
        return false;
    }
    if (node >= 0) {
        snprintf(action->node, sizeof(action->node), "%s", run->input->nodes[node].name);
        run->used_bytes[node] += model->memory_bytes;
        run->used_slots[node]++;
    } else {
        memcpy(action->reason, reason, sizeof(reason));
    }
    return true;
}

size_t place_step(const struct place_input *input, struct place_action *actions, size_t actions_max)
{
    struct place_run run = {.input = input, .actions = actions, .actions_max = actions_max};
    run.used_bytes = mem_new_array(uint64_t, input->nodes_count);
    run.used_slots = mem_new_array(size_t, input->nodes_count);
    for (size_t i = 0; i < input->replicas_count; i++) {
        const struct place_replica *replica = &input->replicas[i];
        if (!replica_wanted(input, replica)) {
            (void)add_action(&run, PLACE_REMOVE, replica->name, replica->model, replica->epoch);
        } else if (replica_holds(input, replica)) {
            int node = find_node(input, replica->node);
            run.used_bytes[node] += find_model(input, replica->model)->memory_bytes;
            run.used_slots[node]++;
        }
    }
    for (size_t i = 0; i < input->models_count; i++) {
        for (uint32_t number = 1; number <= input->models[i].replicas; number++) {
            if (!place_one(&run, &input->models[i], number)) {
                goto full;
            }
        }
    }
full:
    mem_free(run.used_bytes);
    mem_free(run.used_slots);
    return run.actions_count;
}
