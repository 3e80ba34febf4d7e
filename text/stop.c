/* stop: an Aho-Corasick automaton (Aho and Corasick 1975) that runs over the bytes as they come.
 *
 * A state is the longest suffix of the text so far that starts a stop string, so its depth is how many bytes must be
 * held back. Nodes keep their children as a list of siblings: at most sixteen. */
#include "text/stop.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"

struct stop_node {
    uint16_t child, sibling; /* 0: none */
    uint16_t fail;
    uint16_t depth;
    uint16_t match; /* length of the longest stop string that ends here, 0: none */
    uint8_t byte;
};

struct stop {
    struct stop_node *nodes; /* 0 is the root */
    size_t count;
    uint16_t state;
    bool hit;
    uint8_t held[STOP_BYTES_MAX]; /* the text that may still become a stop string: the state's own bytes */
};

static uint16_t find_child(const struct stop *stop, uint16_t node, uint8_t byte)
{
    uint16_t child = stop->nodes[node].child;
    while (child != 0 && stop->nodes[child].byte != byte)
        child = stop->nodes[child].sibling;
    return child;
}

static void insert(struct stop *stop, struct bytes text)
{
    uint16_t node = 0;
    for (size_t i = 0; i < text.length; i++) {
        uint16_t child = find_child(stop, node, text.data[i]);
        if (child == 0) {
            child = (uint16_t)stop->count++;
            stop->nodes[child] = (struct stop_node){
                .byte = text.data[i], .depth = (uint16_t)(i + 1), .sibling = stop->nodes[node].child};
            stop->nodes[node].child = child;
        }
        node = child;
    }
    stop->nodes[node].match = (uint16_t)text.length;
}

static uint16_t step(const struct stop *stop, uint16_t state, uint8_t byte)
{
    for (;;) {
        uint16_t child = find_child(stop, state, byte);
        if (child != 0 || state == 0)
            return child;
        state = stop->nodes[state].fail;
    }
}

/* Failure links in order of depth; a node inherits the longest match of its suffixes if it has none of its own (its own
 * is always longer). */
static void link_failures(struct stop *stop)
{
    uint16_t *queue = mem_new_array(uint16_t, stop->count);
    size_t head = 0, tail = 0;
    queue[tail++] = 0;
    while (head < tail) {
        uint16_t node = queue[head++];
        for (uint16_t child = stop->nodes[node].child; child != 0; child = stop->nodes[child].sibling) {
            stop->nodes[child].fail = node == 0 ? 0 : step(stop, stop->nodes[node].fail, stop->nodes[child].byte);
            if (stop->nodes[child].match == 0)
                stop->nodes[child].match = stop->nodes[stop->nodes[child].fail].match;
            queue[tail++] = child;
        }
    }
    mem_free(queue);
}

enum status stop_new(const struct bytes *strings, size_t count, struct stop **out, struct error *error)
{
    if (count > STOP_STRINGS_MAX)
        return error_set(error, STATUS_LIMIT, "%zu stop strings are more than %d", count, STOP_STRINGS_MAX);
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        if (strings[i].length == 0)
            return error_set(error, STATUS_INVALID, "a stop string is empty");
        if (strings[i].length > STOP_BYTES_MAX)
            return error_set(error, STATUS_LIMIT, "a stop string of %zu bytes is longer than %d", strings[i].length,
                             STOP_BYTES_MAX);
        total += strings[i].length;
    }
    struct stop *stop = mem_new(struct stop);
    stop->nodes = mem_new_array(struct stop_node, total + 1);
    stop->count = 1;
    for (size_t i = 0; i < count; i++)
        insert(stop, strings[i]);
    link_failures(stop);
    *out = stop;
    return STATUS_OK;
}

void stop_free(struct stop *stop)
{
    if (stop == NULL)
        return;
    mem_free(stop->nodes);
    mem_free(stop);
}

/* Lets out the first `count` of the held bytes. */
static void release(struct stop *stop, size_t held, size_t count, struct buf *out)
{
    buf_append(out, stop->held, count);
    memmove(stop->held, stop->held + count, held - count);
}

void stop_push(struct stop *stop, struct bytes text, struct buf *out)
{
    for (size_t i = 0; i < text.length && !stop->hit; i++) {
        size_t held = stop->nodes[stop->state].depth;
        stop->state = step(stop, stop->state, text.data[i]);
        const struct stop_node *node = &stop->nodes[stop->state];
        if (node->match > 0) {
            stop->hit = true;
            /* held + 1 bytes end in the match; what stands in front of it is text */
            release(stop, held, held + 1 - node->match, out);
            return;
        }
        if (node->depth == 0) {
            release(stop, held, held, out);
            buf_append_u8(out, text.data[i]);
        } else {
            release(stop, held, held + 1 - node->depth, out);
            stop->held[node->depth - 1] = text.data[i];
        }
    }
}

void stop_finish(struct stop *stop, struct buf *out)
{
    if (!stop->hit)
        buf_append(out, stop->held, stop->nodes[stop->state].depth);
    stop->state = 0;
}

bool stop_hit(const struct stop *stop)
{
    return stop->hit;
}
