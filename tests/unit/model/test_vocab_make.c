/* Tests of model/vocab_make: the byte alphabet, byte pieces, merges. */
#include "tests/unit/model/support.h"

#include "model/owner.h"
#include "model/vocab_make.h"

/* The alphabet by its definition (Radford et al., GPT-2's encoder): printable bytes keep their code point, the others
 * get the next free one from U+0100 on. */
static void the_alphabet_is_a_bijection(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    unsigned next = 0x100;
    for (unsigned byte = 0; byte < 256; byte++) {
        bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
        unsigned point = printable ? byte : next++;
        uint8_t text[2] = {(uint8_t)(0xc0 | point >> 6), (uint8_t)(0x80 | (point & 0x3f))};
        uint8_t ascii = (uint8_t)point;
        bool ok;
        struct bytes piece = point < 0x80 ? bytes_of(&ascii, 1) : bytes_of(text, 2);
        struct bytes bytes = vocab_bytes_of_byte_level(&arena, piece, &ok);
        assert_true(ok);
        assert_int_equal(bytes.length, 1);
        assert_int_equal(bytes.data[0], byte);
    }
    assert_int_equal(next, 0x100 + 68);
    arena_free(&arena);
}

static void pieces_outside_of_the_alphabet_stand_for_themselves(void **state)
{
    (void)state;
    static const char *const pieces[] = {" ",
                                         "a b",
                                         "\xc5\x84", /* U+0144, one behind the last */
                                         "\xe2\x96\x81",
                                         "\xc4",
                                         "\xff",
                                         "a\xc2",
                                         "\n"};
    struct arena arena;
    arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < COUNT_OF(pieces); i++) {
        bool ok;
        struct bytes bytes = vocab_bytes_of_byte_level(&arena, bytes_of_text(pieces[i]), &ok);
        assert_true(ok);
        assert_true(bytes_equal(bytes, bytes_of_text(pieces[i])));
    }
    arena_free(&arena);
}

static void byte_pieces(void **state)
{
    (void)state;
    static const char *const none[] = {"<0x0a>", "<0x0A", "<0xGG>", "0x0A", "<0x00A>", "", "<0x 1>"};
    for (int byte = 0; byte < 256; byte++) {
        char text[16];
        snprintf(text, sizeof text, "<0x%02X>", byte);
        assert_int_equal(vocab_byte_of_piece(bytes_of_text(text)), byte);
    }
    for (size_t i = 0; i < COUNT_OF(none); i++)
        assert_int_equal(vocab_byte_of_piece(bytes_of_text(none[i])), -1);
}

static void merges(void **state)
{
    (void)state;
    struct arena arena;
    struct vocab_make make;
    struct vocab_merge merge;
    struct error error = {0};
    char big[1100];
    memset(big, 'x', sizeof big);
    arena_init(&arena, 1 << 20);
    assert_int_equal(vocab_make_init(&make, &arena, 4, &error), STATUS_OK);
    vocab_make_put(&make, 0, BYTES_LITERAL("a"), VOCAB_NORMAL);
    vocab_make_put(&make, 1, BYTES_LITERAL("b"), VOCAB_NORMAL);
    vocab_make_put(&make, 3, BYTES_LITERAL("ab"), VOCAB_NORMAL);
    assert_int_equal(vocab_make_index(&make, &error), STATUS_OK);
    assert_int_equal(vocab_make_find(&make, BYTES_LITERAL("ab")), 3);
    assert_int_equal(vocab_make_find(&make, BYTES_LITERAL("")), -1); /* the hole has no piece */
    struct bytes a = BYTES_LITERAL("a"), b = BYTES_LITERAL("b"), c = BYTES_LITERAL("c");
    assert_int_equal(vocab_make_merge(&make, a, b, &merge, &error), STATUS_OK);
    assert_true(merge.left == 0 && merge.right == 1 && merge.merged == 3);
    assert_int_equal(vocab_make_merge(&make, b, a, &merge, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "merge of 'b' and 'a': the result is not in the vocabulary"));
    assert_int_equal(vocab_make_merge(&make, a, c, &merge, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "a side is not in the vocabulary"));
    assert_int_equal(vocab_make_merge(&make, a, bytes_of(NULL, 0), &merge, &error), STATUS_INVALID);
    assert_int_equal(vocab_make_merge(&make, a, bytes_of(big, sizeof big), &merge, &error), STATUS_INVALID);
    assert_int_equal(vocab_make_merge(&make, bytes_of(big, sizeof big), a, &merge, &error), STATUS_INVALID);
    assert_int_equal(vocab_make_merge(&make, bytes_of(big, 1024), a, &merge, &error), STATUS_INVALID);
    vocab_make_free(&make);
    assert_int_equal(vocab_make_init(&make, &arena, 0, &error), STATUS_LIMIT);
    assert_int_equal(vocab_make_init(&make, &arena, MODEL_VOCAB_MAX + 1, &error), STATUS_LIMIT);
    assert_int_equal(vocab_make_init(&make, &arena, MODEL_VOCAB_MAX, &error), STATUS_NO_MEMORY); /* arena of 1 MiB */
    vocab_make_free(&make);
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_alphabet_is_a_bijection),
        cmocka_unit_test(pieces_outside_of_the_alphabet_stand_for_themselves),
        cmocka_unit_test(byte_pieces),
        cmocka_unit_test(merges),
    };
    return cmocka_run_group_tests_name("model.vocab_make", tests, NULL, NULL);
}
