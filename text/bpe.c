/* bpe: the tables and the merge loops.
 *
 * `merges` maps a pair of ids to (rank, merged id), `words` a token's text to its id; both are flat open-addressing
 * tables at half load or less, filled once. A SentencePiece vocabulary has no pre-tokeniser, but none of its merges
 * may put U+2581 behind something else: then text is cut there first, which changes no result and keeps pieces short.
 */
#include "text/bpe.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "text/utf8.h"

__extension__ typedef unsigned __int128 uint128;

enum { SCAN_MAX = 32, SCORED_PIECE_MAX = 1024, CONTROL_BIT = 1 << 30 };
static const uint32_t NO_RANK = UINT32_MAX;
static const uint32_t NO_ID = UINT32_MAX;
static const uint64_t NO_PAIR = UINT64_MAX;

/* Whether BPE turns a token's own text into that token alone. */
enum reach { REACH_UNKNOWN, REACH_YES, REACH_NO };

struct merge_slot {
    uint64_t pair; /* left << 32 | right; NO_PAIR: empty */
    uint32_t rank;
    uint32_t merged; /* with CONTROL_BIT when the id is a control token's */
};

struct word_slot {
    uint32_t tag; /* upper half of the hash */
    uint32_t id_plus_1;
};

struct bpe {
    const struct vocab *vocab;
    const struct vocab_tokenizer *from;
    struct merge_slot *merges;
    size_t merges_mask;
    struct word_slot *words;
    size_t words_mask;
    struct bytes *keys;     /* by id: what the words table finds it by */
    _Atomic uint8_t *reach; /* by id: enum reach */
    uint32_t byte_ids[256]; /* byte-level: the byte's token; SentencePiece: <0xNN>; or NO_ID */
    bool spm;
    bool cut_before_space;
};

struct bpe_symbol {
    uint32_t id;
    uint32_t rank;           /* of the pair with the next symbol, or NO_RANK */
    uint32_t previous, next; /* indices, UINT32_MAX: none */
};

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint128 product = (uint128)(a ^ 0x9e3779b97f4a7c15U) * (b ^ 0xd1b54a32d192ed03U);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash_word(struct bytes word)
{
    const uint8_t *at = word.data;
    size_t left = word.length;
    uint64_t hash = left;
    for (; left > 8; at += 8, left -= 8)
        hash = mix(hash, load_u64le(at));
    uint64_t tail = 0;
    if (left >= 4)
        tail = (uint64_t)load_u32le(at) << 32 | load_u32le(at + left - 4);
    else if (left > 0)
        tail = (uint64_t)at[0] << 16 | (uint64_t)at[left / 2] << 8 | at[left - 1];
    return mix(hash, tail);
}

static size_t table_size(size_t count)
{
    size_t size = 16;
    while (size < count * 2)
        size *= 2;
    return size;
}

/* ---- words -------------------------------------------------------------------------------------------------- */

static bool is_model_token(const struct vocab_token *token)
{
    return token->kind != VOCAB_UNUSED && token->kind != VOCAB_BYTE;
}

static uint32_t find_word(const struct bpe *bpe, struct bytes word)
{
    uint64_t hash = hash_word(word);
    uint32_t tag = (uint32_t)(hash >> 32);
    for (size_t i = hash & bpe->words_mask;; i = (i + 1) & bpe->words_mask) {
        const struct word_slot *slot = &bpe->words[i];
        if (slot->id_plus_1 == 0)
            return NO_ID;
        if (slot->tag == tag && bytes_equal(bpe->keys[slot->id_plus_1 - 1], word))
            return slot->id_plus_1 - 1;
    }
}

/* Of equal texts a normal token is preferred, then the lower id. */
static void put_word(struct bpe *bpe, uint32_t id)
{
    uint64_t hash = hash_word(bpe->keys[id]);
    uint32_t tag = (uint32_t)(hash >> 32);
    for (size_t i = hash & bpe->words_mask;; i = (i + 1) & bpe->words_mask) {
        struct word_slot *slot = &bpe->words[i];
        if (slot->id_plus_1 == 0) {
            *slot = (struct word_slot){.tag = tag, .id_plus_1 = id + 1};
            return;
        }
        uint32_t other = slot->id_plus_1 - 1;
        if (slot->tag != tag || !bytes_equal(bpe->keys[other], bpe->keys[id]))
            continue;
        if (bpe->vocab->tokens[other].kind != VOCAB_NORMAL && bpe->vocab->tokens[id].kind == VOCAB_NORMAL)
            slot->id_plus_1 = id + 1;
        return;
    }
}

static void build_words(struct bpe *bpe)
{
    const struct vocab *vocab = bpe->vocab;
    size_t size = table_size(vocab->count);
    bpe->words = mem_new_array(struct word_slot, size);
    bpe->words_mask = size - 1;
    bpe->keys = mem_new_array(struct bytes, vocab->count);
    bpe->reach = mem_alloc_array(vocab->count, sizeof *bpe->reach);
    for (size_t i = 0; i < COUNT_OF(bpe->byte_ids); i++)
        bpe->byte_ids[i] = NO_ID;
    for (uint32_t id = 0; id < vocab->count; id++) {
        const struct vocab_token *token = &vocab->tokens[id];
        if (bpe->spm && token->kind == VOCAB_BYTE && token->bytes.length == 1)
            bpe->byte_ids[token->bytes.data[0]] = id;
        bpe->keys[id] = bpe->spm || token->bytes.length == 0 ? token->piece : token->bytes;
        if (is_model_token(token) && bpe->keys[id].length > 0)
            put_word(bpe, id);
    }
    for (unsigned byte = 0; byte < 256 && !bpe->spm; byte++) {
        uint8_t key = (uint8_t)byte;
        uint32_t id = find_word(bpe, bytes_of(&key, 1));
        if (id != NO_ID && vocab->tokens[id].kind == VOCAB_NORMAL)
            bpe->byte_ids[byte] = id;
    }
}

/* ---- merges ------------------------------------------------------------------------------------------------- */

static size_t hash_pair(uint64_t pair)
{
    return (size_t)mix(pair, 0);
}

static const struct merge_slot *find_merge(const struct bpe *bpe, uint32_t left, uint32_t right)
{
    uint64_t pair = (uint64_t)left << 32 | right;
    for (size_t i = hash_pair(pair) & bpe->merges_mask;; i = (i + 1) & bpe->merges_mask) {
        const struct merge_slot *slot = &bpe->merges[i];
        if (slot->pair == pair)
            return slot;
        if (slot->pair == NO_PAIR)
            return NULL;
    }
}

/* Of equal pairs the last counts, as in the reference. */
static void put_merge(struct bpe *bpe, uint32_t left, uint32_t right, uint32_t rank, uint32_t merged)
{
    uint64_t pair = (uint64_t)left << 32 | right;
    size_t i = hash_pair(pair) & bpe->merges_mask;
    while (bpe->merges[i].pair != NO_PAIR && bpe->merges[i].pair != pair)
        i = (i + 1) & bpe->merges_mask;
    uint8_t kind = bpe->vocab->tokens[merged].kind;
    bool control = kind == VOCAB_CONTROL || kind == VOCAB_UNKNOWN;
    bpe->merges[i] =
        (struct merge_slot){.pair = pair, .rank = rank, .merged = merged | (control ? (uint32_t)CONTROL_BIT : 0)};
}

static void make_merges(struct bpe *bpe, size_t count)
{
    size_t size = table_size(count);
    bpe->merges = mem_new_array(struct merge_slot, size);
    bpe->merges_mask = size - 1;
    for (size_t i = 0; i < size; i++)
        bpe->merges[i].pair = NO_PAIR;
}

static enum status build_ranked_merges(struct bpe *bpe, struct error *error)
{
    const struct vocab_tokenizer *from = bpe->from;
    make_merges(bpe, from->merges_count);
    for (size_t i = 0; i < from->merges_count; i++) {
        const struct vocab_merge *merge = &from->merges[i];
        if (merge->left >= bpe->vocab->count || merge->right >= bpe->vocab->count || merge->merged >= bpe->vocab->count)
            return error_set(error, STATUS_INVALID, "merge %zu of %s names an id beyond the vocabulary", i,
                             from->source_name);
        put_merge(bpe, merge->left, merge->right, (uint32_t)i, merge->merged);
    }
    return STATUS_OK;
}

struct scored {
    float score;
    uint32_t id;
};

static int compare_scored(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static size_t next_point(struct bytes text, size_t at)
{
    do
        at++;
    while (at < text.length && (text.data[at] & 0xc0) == 0x80);
    return at;
}

/* Every way to cut a token's text into two tokens is a merge; equal scores rank equal, so that the leftmost pair wins
 * as in SentencePiece. Called twice: to count (put = false), then to fill. */
static size_t scored_merges(struct bpe *bpe, const struct scored *order, size_t count, bool put)
{
    size_t found = 0;
    uint32_t rank = 0;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && order[i].score != order[i - 1].score)
            rank++;
        struct bytes key = bpe->keys[order[i].id];
        for (size_t cut = next_point(key, 0); cut < key.length; cut = next_point(key, cut)) {
            uint32_t left = find_word(bpe, bytes_of(key.data, cut));
            uint32_t right = left == NO_ID ? NO_ID : find_word(bpe, bytes_of(key.data + cut, key.length - cut));
            if (right == NO_ID)
                continue;
            found++;
            if (put)
                put_merge(bpe, left, right, rank, order[i].id);
        }
    }
    return found;
}

static enum status build_scored_merges(struct bpe *bpe, struct error *error)
{
    const struct vocab *vocab = bpe->vocab;
    struct scored *order = mem_new_array(struct scored, vocab->count);
    size_t count = 0;
    for (uint32_t id = 0; id < vocab->count; id++) {
        const struct vocab_token *token = &vocab->tokens[id];
        if (token->kind != VOCAB_NORMAL || token->piece.length == 0 || token->score != token->score)
            continue;
        if (token->piece.length > SCORED_PIECE_MAX) {
            mem_free(order);
            return error_set(error, STATUS_LIMIT, "token %u of %s has %zu bytes, more than %d", id,
                             bpe->from->source_name, token->piece.length, SCORED_PIECE_MAX);
        }
        if (find_word(bpe, bpe->keys[id]) == id)
            order[count++] = (struct scored){.score = token->score, .id = id};
    }
    qsort(order, count, sizeof *order, compare_scored);
    make_merges(bpe, scored_merges(bpe, order, count, false));
    scored_merges(bpe, order, count, true);
    mem_free(order);
    return STATUS_OK;
}

static const uint8_t SPACE_MARK[3] = {0xe2, 0x96, 0x81}; /* U+2581 */

static bool mark_at(struct bytes text, size_t at)
{
    return text.length - at >= sizeof SPACE_MARK && memcmp(text.data + at, SPACE_MARK, sizeof SPACE_MARK) == 0;
}

/* Where U+2581 next follows something else, from `at` on; the text's length if nowhere. */
static size_t next_cut(struct bytes text, size_t at)
{
    while (at < text.length && mark_at(text, at))
        at += sizeof SPACE_MARK;
    while (at < text.length) {
        const uint8_t *found = memchr(text.data + at, SPACE_MARK[0], text.length - at);
        if (found == NULL)
            return text.length;
        at = (size_t)(found - text.data);
        if (mark_at(text, at))
            return at;
        at++;
    }
    return text.length;
}

static bool may_cut_before_space(const struct bpe *bpe)
{
    if (!bpe->spm || find_word(bpe, bytes_of(SPACE_MARK, sizeof SPACE_MARK)) == NO_ID)
        return false;
    for (size_t i = 0; i <= bpe->merges_mask; i++) {
        if (bpe->merges[i].pair == NO_PAIR)
            continue;
        struct bytes piece = bpe->vocab->tokens[bpe->merges[i].merged & ~(uint32_t)CONTROL_BIT].piece;
        if (next_cut(piece, 0) < piece.length)
            return false;
    }
    return true;
}

enum status bpe_new(const struct vocab *vocab, const struct vocab_tokenizer *from, struct bpe **out,
                    struct error *error)
{
    if (vocab->count == 0 || vocab->count >= CONTROL_BIT)
        return error_set(error, STATUS_INVALID, "%s has %zu tokens", from->source_name, vocab->count);
    if (from->unk_id >= 0 && (size_t)from->unk_id >= vocab->count)
        return error_set(error, STATUS_INVALID, "the unknown token's id of %s is beyond the vocabulary",
                         from->source_name);
    struct bpe *bpe = mem_new(struct bpe);
    bpe->vocab = vocab;
    bpe->from = from;
    bpe->spm = from->model == VOCAB_MODEL_BPE_SPM;
    build_words(bpe);
    enum status status = from->merge_by_score ? build_scored_merges(bpe, error) : build_ranked_merges(bpe, error);
    if (status != STATUS_OK) {
        bpe_free(bpe);
        return status;
    }
    bpe->cut_before_space = may_cut_before_space(bpe);
    *out = bpe;
    return STATUS_OK;
}

void bpe_free(struct bpe *bpe)
{
    if (bpe == NULL)
        return;
    mem_free(bpe->merges);
    mem_free(bpe->words);
    mem_free(bpe->keys);
    mem_free((void *)bpe->reach);
    mem_free(bpe);
}

void bpe_scratch_free(struct bpe_scratch *scratch)
{
    mem_free(scratch->symbols);
    mem_free(scratch->heap);
    *scratch = (struct bpe_scratch){0};
}

/* ---- encoding ----------------------------------------------------------------------------------------------- */

static void reserve_symbols(struct bpe_scratch *scratch, size_t count)
{
    if (count <= scratch->capacity)
        return;
    scratch->capacity = MAX_OF(count, scratch->capacity * 2);
    scratch->symbols = mem_realloc_array(scratch->symbols, scratch->capacity, sizeof *scratch->symbols);
}

static bool is_control(const struct bpe *bpe, uint32_t id)
{
    uint8_t kind = bpe->vocab->tokens[id].kind;
    return kind == VOCAB_CONTROL || kind == VOCAB_UNKNOWN;
}

static size_t byte_symbols(const struct bpe *bpe, struct bytes piece, struct bpe_symbol *symbols)
{
    size_t count = 0;
    for (size_t i = 0; i < piece.length; i++) {
        uint32_t id = bpe->byte_ids[piece.data[i]];
        if (id == NO_ID && bpe->from->unk_id >= 0) {
            id = (uint32_t)bpe->from->unk_id;
            if (bpe->from->fuse_unk && count > 0 && symbols[count - 1].id == id)
                continue;
        }
        if (id != NO_ID) /* without an unknown token the references drop what the vocabulary lacks */
            symbols[count++].id = id;
    }
    return count;
}

/* Appends a character without a token of its own: its bytes', if all are there, else the unknown token. */
static size_t fall_back(const struct bpe *bpe, struct bytes character, bool *after_unknown, struct bpe_symbol *symbols,
                        size_t count)
{
    bool whole = bpe->from->byte_fallback;
    for (size_t i = 0; i < character.length && whole; i++)
        whole = bpe->byte_ids[character.data[i]] != NO_ID;
    if (whole) {
        *after_unknown = false;
        for (size_t i = 0; i < character.length; i++)
            symbols[count++].id = bpe->byte_ids[character.data[i]];
        return count;
    }
    if (bpe->from->unk_id < 0 || (*after_unknown && bpe->from->fuse_unk))
        return count;
    *after_unknown = true;
    symbols[count++].id = (uint32_t)bpe->from->unk_id;
    return count;
}

static size_t spm_symbols(const struct bpe *bpe, struct bytes piece, bool control, struct bpe_symbol *symbols)
{
    size_t count = 0;
    bool after_unknown = false;
    for (size_t at = 0; at < piece.length;) {
        size_t end = next_point(piece, at);
        struct bytes character = bytes_of(piece.data + at, end - at);
        uint32_t id = find_word(bpe, character);
        if (id != NO_ID && (control || !is_control(bpe, id))) {
            symbols[count++].id = id;
            after_unknown = false;
        } else {
            count = fall_back(bpe, character, &after_unknown, symbols, count);
        }
        at = end;
    }
    return count;
}

/* The rank of a pair, NO_RANK when it doesn't merge (for this text). */
static uint32_t pair_rank(const struct bpe *bpe, uint32_t left, uint32_t right, bool control)
{
    const struct merge_slot *slot = find_merge(bpe, left, right);
    if (slot == NULL || (!control && (slot->merged & CONTROL_BIT) != 0))
        return NO_RANK;
    return slot->rank;
}

static uint32_t merged_id(const struct bpe *bpe, uint32_t left, uint32_t right)
{
    const struct merge_slot *slot = find_merge(bpe, left, right);
    CHECK(slot != NULL);
    return slot->merged & ~(uint32_t)CONTROL_BIT;
}

/* For short pieces: the array stays dense, the lowest rank is found by scanning. Returns the new count. */
static size_t merge_scanning(const struct bpe *bpe, struct bpe_symbol *symbols, size_t count, bool control)
{
    for (size_t i = 0; i + 1 < count; i++)
        symbols[i].rank = pair_rank(bpe, symbols[i].id, symbols[i + 1].id, control);
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++) {
            if (symbols[i].rank < symbols[best].rank)
                best = i;
        }
        if (symbols[best].rank == NO_RANK)
            break;
        symbols[best].id = merged_id(bpe, symbols[best].id, symbols[best + 1].id);
        count--;
        for (size_t i = best + 1; i < count; i++)
            symbols[i] = symbols[i + 1];
        if (best > 0)
            symbols[best - 1].rank = pair_rank(bpe, symbols[best - 1].id, symbols[best].id, control);
        if (best + 1 < count)
            symbols[best].rank = pair_rank(bpe, symbols[best].id, symbols[best + 1].id, control);
    }
    return count;
}

/* A binary heap of rank << 32 | index of the left symbol. */
struct heap {
    uint64_t *data;
    size_t count;
};

static void sift_down(struct heap *heap, size_t at)
{
    uint64_t value = heap->data[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= heap->count)
            break;
        if (child + 1 < heap->count && heap->data[child + 1] < heap->data[child])
            child++;
        if (value <= heap->data[child])
            break;
        heap->data[at] = heap->data[child];
        at = child;
    }
    heap->data[at] = value;
}

static uint64_t heap_pop(struct heap *heap)
{
    uint64_t top = heap->data[0];
    heap->data[0] = heap->data[--heap->count];
    if (heap->count > 0)
        sift_down(heap, 0);
    return top;
}

static void heap_push(struct heap *heap, uint64_t value)
{
    size_t at = heap->count++;
    while (at > 0 && heap->data[(at - 1) / 2] > value) {
        heap->data[at] = heap->data[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap->data[at] = value;
}

/* Sets the rank of the pair that starts at `index` and enters it. */
static void rank_pair(const struct bpe *bpe, struct bpe_symbol *symbols, uint32_t index, bool control,
                      struct heap *heap)
{
    uint32_t next = symbols[index].next;
    symbols[index].rank = next == NO_ID ? NO_RANK : pair_rank(bpe, symbols[index].id, symbols[next].id, control);
    if (symbols[index].rank != NO_RANK)
        heap_push(heap, (uint64_t)symbols[index].rank << 32 | index);
}

/* Room for the heap: a pair per symbol at first, and every merge (fewer than symbols) enters at most two and has left
 * one. */
static void reserve_heap(struct bpe_scratch *scratch, size_t symbols)
{
    size_t needed = symbols * 2 + 2;
    if (needed <= scratch->heap_capacity)
        return;
    scratch->heap_capacity = MAX_OF(needed, scratch->heap_capacity * 2);
    scratch->heap = mem_realloc_array(scratch->heap, scratch->heap_capacity, sizeof *scratch->heap);
}

/* For long pieces: a linked list and a heap. An entry is stale, and skipped, when its symbol is gone or the pair there
 * has another rank by now. Returns the new count; the symbols are dense again. */
static size_t merge_with_heap(const struct bpe *bpe, struct bpe_scratch *scratch, size_t count, bool control)
{
    struct bpe_symbol *symbols = scratch->symbols;
    reserve_heap(scratch, count);
    struct heap heap = {.data = scratch->heap};
    for (uint32_t i = 0; i < count; i++) {
        symbols[i].previous = i == 0 ? NO_ID : i - 1;
        symbols[i].next = i + 1 == count ? NO_ID : i + 1;
        symbols[i].rank = i + 1 == count ? NO_RANK : pair_rank(bpe, symbols[i].id, symbols[i + 1].id, control);
        if (symbols[i].rank != NO_RANK)
            heap.data[heap.count++] = (uint64_t)symbols[i].rank << 32 | i;
    }
    for (size_t i = heap.count / 2; i-- > 0;)
        sift_down(&heap, i);
    while (heap.count > 0) {
        uint64_t top = heap_pop(&heap);
        uint32_t left = (uint32_t)top;
        if (symbols[left].id == NO_ID || symbols[left].rank != (uint32_t)(top >> 32))
            continue;
        uint32_t right = symbols[left].next;
        symbols[left].id = merged_id(bpe, symbols[left].id, symbols[right].id);
        symbols[left].next = symbols[right].next;
        symbols[right].id = NO_ID;
        if (symbols[left].next != NO_ID)
            symbols[symbols[left].next].previous = left;
        rank_pair(bpe, symbols, left, control, &heap);
        if (symbols[left].previous != NO_ID)
            rank_pair(bpe, symbols, symbols[left].previous, control, &heap);
    }
    size_t kept = 0;
    for (uint32_t at = 0; at != NO_ID; at = symbols[at].next)
        symbols[kept++].id = symbols[at].id;
    return kept;
}

/* Merges `piece` in scratch->symbols; returns how many symbols are left. */
static size_t merge_piece(const struct bpe *bpe, struct bpe_scratch *scratch, struct bytes piece, bool control)
{
    reserve_symbols(scratch, piece.length);
    size_t count =
        bpe->spm ? spm_symbols(bpe, piece, control, scratch->symbols) : byte_symbols(bpe, piece, scratch->symbols);
    if (count < 2)
        return count;
    return count <= SCAN_MAX ? merge_scanning(bpe, scratch->symbols, count, control)
                             : merge_with_heap(bpe, scratch, count, control);
}

static enum status encode_word(const struct bpe *bpe, struct bpe_scratch *scratch, struct bytes piece, bool control,
                               struct ids *out)
{
    uint32_t word = find_word(bpe, piece);
    if (word != NO_ID && bpe->vocab->tokens[word].kind != VOCAB_NORMAL)
        word = NO_ID;
    uint8_t reach = REACH_NO;
    if (word != NO_ID) {
        reach = atomic_load_explicit(&bpe->reach[word], memory_order_relaxed);
        if (reach == REACH_YES || bpe->from->ignore_merges)
            return ids_push(out, word);
    }
    size_t count = merge_piece(bpe, scratch, piece, control);
    if (reach == REACH_UNKNOWN) {
        reach = count == 1 && scratch->symbols[0].id == word ? REACH_YES : REACH_NO;
        atomic_store_explicit(&bpe->reach[word], reach, memory_order_relaxed);
    }
    for (size_t i = 0; i < count; i++) {
        enum status status = ids_push(out, scratch->symbols[i].id);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

enum status bpe_encode(const struct bpe *bpe, struct bpe_scratch *scratch, struct bytes piece, bool control,
                       struct ids *out)
{
    CHECK(piece.length <= BPE_PIECE_MAX);
    while (piece.length > 0) {
        size_t end = bpe->cut_before_space ? next_cut(piece, 0) : piece.length;
        enum status status = encode_word(bpe, scratch, bytes_of(piece.data, end), control, out);
        if (status != STATUS_OK)
            return status;
        piece = bytes_of(piece.data + end, piece.length - end);
    }
    return STATUS_OK;
}
