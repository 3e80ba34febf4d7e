/* added: the trie and the search.
 *
 * Nodes hold their children as a linked list of siblings: the tries of real models are long and thin below the root,
 * whose children have a table. A search costs at most the longest token per place where a first byte fits. */
#include "text/added.h"

#include "base/check.h"
#include "base/mem.h"
#include "text/unicode.h"
#include "text/utf8.h"

enum { NO_TOKEN = UINT32_MAX };

struct added_node {
    uint32_t child;   /* 0: none */
    uint32_t sibling; /* 0: none */
    uint32_t token;   /* index, or NO_TOKEN */
    uint8_t byte;
};

static uint32_t new_node(struct added *added, uint8_t byte)
{
    if (added->nodes_count == added->nodes_capacity) {
        added->nodes_capacity = MAX_OF(added->nodes_capacity * 2, (size_t)64);
        added->nodes = mem_realloc_array(added->nodes, added->nodes_capacity, sizeof *added->nodes);
    }
    added->nodes[added->nodes_count] = (struct added_node){.token = NO_TOKEN, .byte = byte};
    return (uint32_t)added->nodes_count++;
}

void added_init(struct added *added)
{
    *added = (struct added){0};
    new_node(added, 0);
}

void added_free(struct added *added)
{
    mem_free(added->nodes);
    mem_free(added->tokens);
    *added = (struct added){0};
}

static uint32_t find_child(const struct added *added, uint32_t node, uint8_t byte)
{
    if (node == 0)
        return added->first[byte];
    uint32_t child = added->nodes[node].child;
    while (child != 0 && added->nodes[child].byte != byte)
        child = added->nodes[child].sibling;
    return child;
}

enum status added_put(struct added *added, struct bytes text, struct added_token token, struct error *error)
{
    if (text.length == 0)
        return STATUS_OK;
    if (text.length > ADDED_TEXT_MAX || added->nodes_count + text.length > ADDED_NODES_MAX)
        return error_set(error, STATUS_LIMIT, "the added token %u is too long (%zu bytes), or there are too many",
                         token.id, text.length);
    uint32_t node = 0;
    for (size_t i = 0; i < text.length; i++) {
        uint32_t child = find_child(added, node, text.data[i]);
        if (child == 0) {
            child = new_node(added, text.data[i]);
            if (node == 0) {
                added->first[text.data[i]] = child;
            } else {
                added->nodes[child].sibling = added->nodes[node].child;
                added->nodes[node].child = child;
            }
        }
        node = child;
    }
    if (added->nodes[node].token != NO_TOKEN) {
        added->tokens[added->nodes[node].token] = token;
        return STATUS_OK;
    }
    if (added->tokens_count == added->tokens_capacity) {
        added->tokens_capacity = MAX_OF(added->tokens_capacity * 2, (size_t)16);
        added->tokens = mem_realloc_array(added->tokens, added->tokens_capacity, sizeof *added->tokens);
    }
    added->nodes[node].token = (uint32_t)added->tokens_count;
    added->tokens[added->tokens_count++] = token;
    return STATUS_OK;
}

/* Whether [begin, end) has a byte in one of the sorted, disjoint spans. */
static bool touches(const struct added_policy *policy, size_t begin, size_t end)
{
    size_t low = 0, high = policy->spans_count; /* the first span that ends behind `begin` */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (policy->spans[middle].end > begin)
            high = middle;
        else
            low = middle + 1;
    }
    return low < policy->spans_count && policy->spans[low].begin < end;
}

static bool admissible(const struct added_policy *policy, const struct added_token *token, size_t begin, size_t end)
{
    if (!token->control || policy->specials == TOKENIZER_SPECIALS_ALL)
        return true;
    return policy->specials == TOKENIZER_SPECIALS_SPANS && !touches(policy, begin, end);
}

/* The longest admissible token that starts at `at`. */
static const struct added_token *longest_at(const struct added *added, const struct added_policy *policy,
                                            struct bytes text, size_t at, size_t *end)
{
    const struct added_token *best = NULL;
    uint32_t node = 0;
    for (size_t i = at; i < text.length; i++) {
        node = find_child(added, node, text.data[i]);
        if (node == 0)
            break;
        if (added->nodes[node].token == NO_TOKEN)
            continue;
        const struct added_token *token = &added->tokens[added->nodes[node].token];
        if (admissible(policy, token, at, i + 1)) {
            best = token;
            *end = i + 1;
        }
    }
    return best;
}

static size_t previous_start(struct bytes text, size_t at)
{
    do
        at--;
    while (at > 0 && (text.data[at] & 0xc0) == 0x80);
    return at;
}

/* The character that starts at `at`; text is valid. */
static uint32_t point_at(struct bytes text, size_t at, size_t *length)
{
    uint32_t code_point = 0;
    int decoded = utf8_decode(bytes_of(text.data + at, text.length - at), &code_point);
    CHECK(decoded > 0);
    *length = (size_t)decoded;
    return code_point;
}

static bool stands_alone(struct bytes text, size_t begin, size_t end)
{
    size_t ignored;
    if (begin > 0 && unicode_is_word(point_at(text, previous_start(text, begin), &ignored)))
        return false;
    return end == text.length || !unicode_is_word(point_at(text, end, &ignored));
}

static void take_space(const struct added_token *token, struct bytes text, size_t from, struct added_match *match)
{
    size_t length;
    while (token->lstrip && match->begin > from) {
        size_t before = previous_start(text, match->begin);
        if (!unicode_is_space(point_at(text, before, &length)))
            break;
        match->begin = before;
    }
    while (token->rstrip && match->end < text.length && unicode_is_space(point_at(text, match->end, &length)))
        match->end += length;
}

bool added_find(const struct added *added, const struct added_policy *policy, struct bytes text, size_t from,
                struct added_match *match)
{
    if (added->tokens_count == 0)
        return false;
    for (size_t at = from; at < text.length; at++) {
        if (added->first[text.data[at]] == 0)
            continue;
        size_t end = 0;
        const struct added_token *token = longest_at(added, policy, text, at, &end);
        if (token == NULL)
            continue;
        if (token->single_word && !stands_alone(text, at, end)) {
            at = end - 1; /* as the reference: what the refused match covers is not searched again */
            continue;
        }
        *match = (struct added_match){.begin = at, .end = end, .id = token->id};
        take_space(token, text, from, match);
        return true;
    }
    return false;
}
