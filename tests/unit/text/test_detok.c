/* Promise: only whole characters come out, however tokens cut them; ill-formed bytes become U+FFFD as in one piece; the
 * first space of a SentencePiece text goes, unless the stream continues another text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/rng.h"
#include "tests/unit/text/tiny.h"
#include "text/detok.h"
#include "text/utf8.h"

static struct tiny tiny;

static struct tokenizer *make(void)
{
    struct tokenizer *tokenizer = NULL;
    struct error error = {0};
    assert_int_equal(tokenizer_new(&tiny.desc, &tokenizer, &error), STATUS_OK);
    return tokenizer;
}

/* Random bytes, many of them parts of characters, in tokens of 1 to 3 bytes. */
static void equals_one_piece(void **state)
{
    (void)state;
    static const uint8_t alphabet[] = {'a', 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x98, 0x80, 0xc3, 0xa9, 0xff, 0xed, 0xa0};
    struct rng rng;
    rng_init(&rng, 3);
    tiny_bytes(&tiny);
    tiny_add(&tiny, "\x9f\x98", VOCAB_NORMAL);
    tiny_add(&tiny, "\xf0\x9f\x98", VOCAB_NORMAL);
    tiny_add(&tiny, "\x80 \xe2", VOCAB_NORMAL);
    struct tokenizer *tokenizer = make();
    for (int round = 0; round < 3000; round++) {
        struct detok detok;
        struct buf source, streamed, whole;
        buf_init(&source, 1000);
        buf_init(&streamed, 1000);
        buf_init(&whole, 1000);
        detok_init(&detok, tokenizer, false);
        for (size_t i = rng_below(&rng, 20); i > 0; i--) {
            uint32_t id = rng_below(&rng, 4) == 0 ? (uint32_t)(256 + rng_below(&rng, 3))
                                                  : alphabet[rng_below(&rng, sizeof alphabet)];
            buf_append_bytes(&source, tokenizer_bytes(tokenizer, id));
            detok_push(&detok, id, &streamed);
            assert_true(utf8_valid(buf_bytes(&streamed)));
        }
        detok_finish(&detok, &streamed);
        utf8_replace(buf_bytes(&source), &whole);
        assert_string_equal(buf_text(&streamed), buf_text(&whole));
        buf_free(&source);
        buf_free(&streamed);
        buf_free(&whole);
    }
    tokenizer_free(tokenizer);
}

static void waits_for_whole_characters(void **state)
{
    (void)state;
    struct detok detok;
    struct buf out;
    tiny_bytes(&tiny);
    struct tokenizer *tokenizer = make();
    buf_init(&out, 100);
    detok_init(&detok, tokenizer, false);
    detok_push(&detok, 0xf0, &out);
    detok_push(&detok, 0x9f, &out);
    detok_push(&detok, 0x98, &out);
    assert_int_equal(out.length, 0);
    detok_push(&detok, 0x80, &out);
    assert_string_equal(buf_text(&out), "\xf0\x9f\x98\x80");
    buf_free(&out);
    tokenizer_free(tokenizer);
}

static void leading_space(void **state)
{
    (void)state;
    static const struct {
        bool continues, control;
        const char *wanted;
    } cases[] = {{false, false, " a"}, {true, false, "  a"}, {false, true, "<s>  a"}};
    tiny_spm(&tiny);
    uint32_t control = tiny_add(&tiny, "<s>", VOCAB_CONTROL), space = tiny_id(&tiny, "\xe2\x96\x81");
    struct tokenizer *tokenizer = make();
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct detok detok;
        struct buf out;
        buf_init(&out, 100);
        detok_init(&detok, tokenizer, cases[i].continues);
        detok.show_control = cases[i].control;
        detok_push(&detok, control, &out);
        detok_push(&detok, space, &out);
        detok_push(&detok, space, &out);
        detok_push(&detok, tiny_id(&tiny, "a"), &out);
        detok_push(&detok, 1U << 20, &out); /* an unknown id adds nothing */
        detok_finish(&detok, &out);
        assert_string_equal(buf_text(&out), cases[i].wanted);
        buf_free(&out);
    }
    tokenizer_free(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(equals_one_piece), cmocka_unit_test(waits_for_whole_characters),
                                       cmocka_unit_test(leading_space)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
