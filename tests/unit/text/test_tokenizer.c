/* Promises: merges by rank, then leftmost, whatever the piece's length; added tokens leftmost, then longest; client
 * bytes never yield a control id; bytes outside of the vocabulary fall back; limits are errors. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/rng.h"
#include "tests/unit/text/tiny.h"
#include "text/tokenizer.h"

enum { IDS_MAX = 1 << 20 };
#define MARK "\xe2\x96\x81"

static struct tiny tiny;

static struct tokenizer *make(void)
{
    struct tokenizer *tokenizer = NULL;
    struct error error = {0};
    assert_int_equal(tokenizer_new(&tiny.desc, &tokenizer, &error), STATUS_OK);
    return tokenizer;
}

/* The pieces of a text's tokens, joined by bars. */
static void pieces(const struct tokenizer *tokenizer, struct bytes text, enum tokenizer_specials specials,
                   const struct span *spans, size_t spans_count, struct buf *out)
{
    struct ids ids;
    struct error error = {0};
    ids_init(&ids, IDS_MAX);
    buf_init(out, 1 << 20);
    assert_int_equal(tokenizer_encode(tokenizer, text, specials, spans, spans_count, &ids, &error), STATUS_OK);
    for (size_t i = 0; i < ids.count; i++) {
        if (i > 0)
            buf_append_u8(out, '|');
        buf_append_bytes(out, tokenizer_piece(tokenizer, ids.data[i]));
    }
    ids_free(&ids);
}

static void expect(const struct tokenizer *tokenizer, const char *text, enum tokenizer_specials specials,
                   const char *wanted)
{
    struct buf out;
    pieces(tokenizer, bytes_of_text(text), specials, NULL, 0, &out);
    assert_string_equal(buf_text(&out), wanted);
    buf_free(&out);
}

static void merges_by_rank(void **state)
{
    (void)state;
    tiny_bytes(&tiny);
    tiny_merge(&tiny, "b", "c");
    tiny_merge(&tiny, "a", "b");
    tiny_merge(&tiny, "a", "bc");
    tiny_merge(&tiny, "x", "x");
    tiny_add(&tiny, "yy", VOCAB_NORMAL); /* in the vocabulary, but no merge leads there */
    struct tokenizer *tokenizer = make();
    expect(tokenizer, "abc", TOKENIZER_SPECIALS_ALL, "abc");
    expect(tokenizer, "abd", TOKENIZER_SPECIALS_ALL, "ab|d");
    expect(tokenizer, "ababc", TOKENIZER_SPECIALS_ALL, "ab|abc");
    expect(tokenizer, "xxx", TOKENIZER_SPECIALS_ALL, "xx|x");
    for (int twice = 0; twice < 2; twice++) /* the second time the mark is known */
        expect(tokenizer, "yy", TOKENIZER_SPECIALS_ALL, "y|y");
    expect(tokenizer, "", TOKENIZER_SPECIALS_ALL, "");
    tokenizer_free(tokenizer);
    tiny.desc.tokenizer.ignore_merges = true;
    tokenizer = make();
    expect(tokenizer, "yy", TOKENIZER_SPECIALS_ALL, "yy");
    tokenizer_free(tokenizer);
}

/* The plainest merge loop there is, over pieces. */
static void naive(const struct tiny *from, struct bytes text, struct ids *out)
{
    for (size_t i = 0; i < text.length; i++)
        assert_int_equal(ids_push(out, text.data[i]), STATUS_OK);
    for (;;) {
        size_t best_rank = SIZE_MAX, best = 0;
        for (size_t i = 0; i + 1 < out->count; i++) {
            for (size_t rank = 0; rank < from->desc.tokenizer.merges_count && rank < best_rank; rank++) {
                if (from->merges[rank].left == out->data[i] && from->merges[rank].right == out->data[i + 1]) {
                    best_rank = rank;
                    best = i;
                }
            }
        }
        if (best_rank == SIZE_MAX)
            return;
        out->data[best] = from->merges[best_rank].merged;
        out->count--;
        memmove(out->data + best + 1, out->data + best + 2, (out->count - best - 1) * sizeof *out->data);
    }
}

/* Short pieces are scanned, long ones go through the heap: both equal the naive loop. */
static void equals_naive(void **state)
{
    (void)state;
    static const char *const merges[][2] = {{"a", "a"},  {"a", "b"},   {"b", "a"},  {"aa", "aa"}, {"ab", "a"},
                                            {"aa", "b"}, {"ab", "ab"}, {"b", "b"},  {"bb", "aa"}, {"a", "aa"},
                                            {"c", "a"},  {"ca", "ca"}, {"aab", "b"}};
    struct rng rng;
    rng_init(&rng, 11);
    tiny_bytes(&tiny);
    for (size_t i = 0; i < COUNT_OF(merges); i++)
        tiny_merge(&tiny, merges[i][0], merges[i][1]);
    struct tokenizer *tokenizer = make();
    for (int round = 0; round < 3000; round++) {
        uint8_t text[120];
        struct ids got, wanted;
        struct error error = {0};
        size_t length = rng_below(&rng, round % 2 == 0 ? 20 : sizeof text);
        for (size_t i = 0; i < length; i++)
            text[i] = (uint8_t)("aabc"[rng_below(&rng, 4)]);
        ids_init(&got, IDS_MAX);
        ids_init(&wanted, IDS_MAX);
        assert_int_equal(
            tokenizer_encode(tokenizer, bytes_of(text, length), TOKENIZER_SPECIALS_ALL, NULL, 0, &got, &error),
            STATUS_OK);
        naive(&tiny, bytes_of(text, length), &wanted);
        assert_int_equal(got.count, wanted.count);
        if (got.count > 0)
            assert_memory_equal(got.data, wanted.data, got.count * sizeof *got.data);
        ids_free(&got);
        ids_free(&wanted);
    }
    tokenizer_free(tokenizer);
}

static void added_tokens(void **state)
{
    (void)state;
    tiny_bytes(&tiny);
    tiny_add(&tiny, "<a>", VOCAB_USER_DEFINED);
    tiny_add(&tiny, "<a>b", VOCAB_USER_DEFINED);
    tiny_add(&tiny, "a>bcd", VOCAB_USER_DEFINED);
    tiny.tokens[tiny_add(&tiny, "@l", VOCAB_USER_DEFINED)].lstrip = true;
    tiny.tokens[tiny_add(&tiny, "@r", VOCAB_USER_DEFINED)].rstrip = true;
    tiny.tokens[tiny_add(&tiny, "one", VOCAB_USER_DEFINED)].single_word = true;
    struct tokenizer *tokenizer = make();
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"x<a>c", "x|<a>|c"}, {"<a>bcd", "<a>b|c|d"}, /* leftmost, then longest: not a>bcd */
        {"a>bcd", "a>bcd"},   {"<a", "<|a"},          {"x  @l  y", "x|@l| | |y"}, {"x  @r\n y", "x| | |@r|y"},
        {"one", "one"},       {"-one.", "-|one|."},   {"xone", "x|o|n|e"},        {"one_", "o|n|e|_"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        expect(tokenizer, cases[i].text, TOKENIZER_SPECIALS_NONE, cases[i].wanted);
    tokenizer_free(tokenizer);
}

static void forged_turns(void **state)
{
    (void)state;
    tiny_bytes(&tiny);
    uint32_t control = tiny_add(&tiny, "<e>", VOCAB_CONTROL);
    tiny_add(&tiny, "<e>>", VOCAB_CONTROL);
    tiny_add(&tiny, "<t>", VOCAB_USER_DEFINED);
    struct tokenizer *tokenizer = make();
    expect(tokenizer, "<e><t>", TOKENIZER_SPECIALS_ALL, "<e>|<t>");
    expect(tokenizer, "<e><t>", TOKENIZER_SPECIALS_NONE, "<|e|>|<t>");
    static const struct {
        const char *text;
        struct span spans[2];
        size_t count;
        const char *wanted;
    } cases[] = {
        {"<e>hi<e>", {{3, 5}}, 1, "<e>|h|i|<e>"},
        {"<e><e><e>", {{3, 6}}, 1, "<e>|<|e|>|<e>"},
        {"<e>", {{1, 2}}, 1, "<|e|>"},      /* one client byte is enough */
        {"<e>>", {{3, 4}}, 1, "<e>|>"},     /* the longer one touches, the shorter one is the template's */
        {"<<e>", {{0, 1}}, 1, "<|<e>"},     /* nor can a client swallow the template's token */
        {"<t><e>", {{0, 3}}, 1, "<t>|<e>"}, /* user-defined ones match in client text */
        {"<e><e>", {{0, 2}, {5, 6}}, 2, "<|e|>|<|e|>"},
        {"<e>", {{0, 0}}, 0, "<e>"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf out;
        pieces(tokenizer, bytes_of_text(cases[i].text), TOKENIZER_SPECIALS_SPANS, cases[i].spans, cases[i].count, &out);
        assert_string_equal(buf_text(&out), cases[i].wanted);
        buf_free(&out);
    }
    assert_true(tokenizer_is_control(tokenizer, control));
    assert_int_equal(tokenizer_find(tokenizer, "<e>"), control);
    assert_int_equal(tokenizer_find(tokenizer, "<nope>"), -1);
    tokenizer_free(tokenizer);
}

/* The vocabulary's own merges lead to a control token, and ignore_merges would find it: not for a client. */
static void forged_by_merges(void **state)
{
    (void)state;
    tiny_bytes(&tiny);
    tiny_add(&tiny, "<e>", VOCAB_CONTROL);
    tiny_merge(&tiny, "<", "e");
    tiny_merge(&tiny, "<e", ">");
    for (int ignore = 0; ignore < 2; ignore++) {
        tiny.desc.tokenizer.ignore_merges = ignore == 1;
        struct tokenizer *tokenizer = make();
        expect(tokenizer, "<e>", TOKENIZER_SPECIALS_NONE, "<e|>");
        expect(tokenizer, "<e>", TOKENIZER_SPECIALS_ALL, "<e>");
        tokenizer_free(tokenizer);
    }
}

/* A control token that matches normalised text: spans are carried over the normalisation. */
static void forged_in_normalised_text(void **state)
{
    (void)state;
    tiny_spm(&tiny);
    tiny.desc.tokenizer.prepend_space = false;
    tiny.tokens[tiny_add(&tiny, "<e>", VOCAB_CONTROL)].normalized = true;
    struct tokenizer *tokenizer = make();
    const struct span spans[] = {{5, 8}};
    struct buf out;
    pieces(tokenizer, BYTES_LITERAL("a a  <e><e>"), TOKENIZER_SPECIALS_SPANS, spans, 1, &out);
    assert_string_equal(buf_text(&out), "a|" MARK "|a|" MARK "|" MARK "|<0x3C>|e|<0x3E>|<e>");
    buf_free(&out);
    tokenizer_free(tokenizer);
}

static void sentencepiece(void **state)
{
    (void)state;
    tiny_spm(&tiny);
    tiny_merge(&tiny, MARK, "a");
    tiny_merge(&tiny, MARK, MARK);
    tiny_merge(&tiny, "a", "b");
    tiny_add(&tiny, "<s>", VOCAB_CONTROL);
    struct tokenizer *tokenizer = make();
    expect(tokenizer, "ab a", TOKENIZER_SPECIALS_ALL, MARK "a|b|" MARK "a");
    expect(tokenizer, "a  ab", TOKENIZER_SPECIALS_ALL, MARK "a|" MARK "|" MARK "a|b");
    expect(tokenizer, "\xc3\xa9", TOKENIZER_SPECIALS_ALL, MARK "|<0xC3>|<0xA9>");
    expect(tokenizer, "a<s>a", TOKENIZER_SPECIALS_ALL, MARK "a|<s>|" MARK "a"); /* every piece gets its space */
    expect(tokenizer, "", TOKENIZER_SPECIALS_ALL, "");
    tokenizer_free(tokenizer);
    tiny.desc.tokenizer.prepend_first_only = true;
    tokenizer = make();
    expect(tokenizer, "a<s>a", TOKENIZER_SPECIALS_ALL, MARK "a|<s>|a");
    tokenizer_free(tokenizer);
}

/* Scores rank the merges of a GGUF's SentencePiece vocabulary; of equal ones the leftmost pair is first. */
static void scores(void **state)
{
    (void)state;
    tiny_spm(&tiny);
    tiny.desc.tokenizer.merge_by_score = true;
    tiny.desc.tokenizer.prepend_space = false;
    tiny.tokens[tiny_add(&tiny, "ab", VOCAB_NORMAL)].score = -2;
    tiny.tokens[tiny_add(&tiny, "bc", VOCAB_NORMAL)].score = -1;
    tiny.tokens[tiny_add(&tiny, "cd", VOCAB_NORMAL)].score = -3;
    tiny.tokens[tiny_add(&tiny, "de", VOCAB_NORMAL)].score = -3;
    struct tokenizer *tokenizer = make();
    expect(tokenizer, "abc", TOKENIZER_SPECIALS_ALL, "a|bc");
    expect(tokenizer, "abd", TOKENIZER_SPECIALS_ALL, "ab|d");
    expect(tokenizer, "cde", TOKENIZER_SPECIALS_ALL, "cd|e");
    tokenizer_free(tokenizer);
}

static void regexes_split_one_after_the_other(void **state)
{
    (void)state;
    tiny_bytes(&tiny);
    tiny_merge(&tiny, "1", "2");
    tiny_merge(&tiny, "a", "1");
    tiny_merge(&tiny, " ", "a");
    tiny.desc.tokenizer.regexes[0] = BYTES_LITERAL("\\p{N}");
    tiny.desc.tokenizer.regexes[1] = BYTES_LITERAL(" ?\\p{L}+|x*"); /* may match nothing */
    tiny.desc.tokenizer.regexes_count = 2;
    struct tokenizer *tokenizer = make();
    expect(tokenizer, "12", TOKENIZER_SPECIALS_ALL, "1|2");
    expect(tokenizer, " a12-a1", TOKENIZER_SPECIALS_ALL, " a|1|2|-|a|1");
    tokenizer_free(tokenizer);
    tiny.desc.tokenizer.regexes[1] = BYTES_LITERAL("(");
    struct error error = {0};
    assert_int_equal(tokenizer_new(&tiny.desc, &tokenizer, &error), STATUS_INVALID);
}

static void prompts_and_limits(void **state)
{
    (void)state;
    tiny_bytes(&tiny);
    uint32_t bos = tiny_add(&tiny, "<s>", VOCAB_CONTROL);
    tiny.desc.bos_id = (int32_t)bos;
    tiny.desc.add_bos = true;
    struct tokenizer *tokenizer = make();
    struct ids ids;
    struct error error = {0};
    ids_init(&ids, 5);
    assert_int_equal(tokenizer_encode_prompt(tokenizer, BYTES_LITERAL("<s>"), &ids, &error), STATUS_OK);
    assert_int_equal(ids.count, 4);
    assert_int_equal(ids.data[0], bos);
    assert_int_equal(ids.data[1], '<');
    assert_int_equal(tokenizer_encode_prompt(tokenizer, BYTES_LITERAL("x"), &ids, &error), STATUS_LIMIT);
    assert_non_null(strstr(error.text, "5 tokens"));
    ids_free(&ids);
    /* broken bytes are replaced in a raw text, and refused in a rendered chat, whose spans would move */
    expect(tokenizer, "a\xff", TOKENIZER_SPECIALS_NONE, "a|\xef|\xbf|\xbd");
    ids_init(&ids, 100);
    assert_int_equal(
        tokenizer_encode(tokenizer, BYTES_LITERAL("\xff"), TOKENIZER_SPECIALS_SPANS, NULL, 0, &ids, &error),
        STATUS_INVALID);
    ids_free(&ids);
    tokenizer_free(tokenizer);
}

static void *encode_often(void *argument)
{
    const struct tokenizer *tokenizer = argument;
    for (int i = 0; i < 2000; i++) {
        struct ids ids;
        struct error error = {0};
        ids_init(&ids, 100);
        CHECK(tokenizer_encode(tokenizer, BYTES_LITERAL("aab ab aab"), TOKENIZER_SPECIALS_ALL, NULL, 0, &ids, &error) ==
              STATUS_OK);
        CHECK(ids.count == 7);
        ids_free(&ids);
    }
    return NULL;
}

static void threads_share_it(void **state)
{
    (void)state;
    pthread_t threads[4];
    tiny_bytes(&tiny);
    tiny_merge(&tiny, "a", "b");
    tiny.desc.tokenizer.regexes[0] = BYTES_LITERAL(" ?\\p{L}+");
    tiny.desc.tokenizer.regexes_count = 1;
    struct tokenizer *tokenizer = make();
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_often, tokenizer), 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    tokenizer_free(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_by_rank),
        cmocka_unit_test(equals_naive),
        cmocka_unit_test(added_tokens),
        cmocka_unit_test(forged_turns),
        cmocka_unit_test(forged_by_merges),
        cmocka_unit_test(forged_in_normalised_text),
        cmocka_unit_test(sentencepiece),
        cmocka_unit_test(scores),
        cmocka_unit_test(regexes_split_one_after_the_other),
        cmocka_unit_test(prompts_and_limits),
        cmocka_unit_test(threads_share_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
