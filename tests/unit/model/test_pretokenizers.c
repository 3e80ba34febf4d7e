/* Tests of model/pretokenizers: names that are known, and those that are not. Their effect is tested by text/, against
 * golden tokenizations. */
#include "tests/unit/model/support.h"

#include "model/pretokenizers.h"

static void known_names(void **state)
{
    (void)state;
    static const char *const names[] = {"default", "gpt-2", "smollm", "llama-bpe", "qwen2", "refact", "starcoder"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const struct pretokenizer *rules = pretokenizer_find(bytes_of_text(names[i]));
        assert_non_null(rules);
        assert_string_equal(rules->name, names[i]);
        assert_non_null(rules->regexes[0]);
    }
    assert_string_equal(pretokenizer_find(BYTES_LITERAL("gpt-2"))->regexes[0], pretokenizer_gpt2);
    assert_string_equal(pretokenizer_find(BYTES_LITERAL("smollm"))->regexes[0], "\\p{N}");
    assert_true(pretokenizer_find(BYTES_LITERAL("llama-bpe"))->ignore_merges);
    assert_false(pretokenizer_find(BYTES_LITERAL("qwen2"))->ignore_merges);
}

static void unknown_names(void **state)
{
    (void)state;
    assert_null(pretokenizer_find(BYTES_LITERAL("")));
    assert_null(pretokenizer_find(BYTES_LITERAL("gpt-2 ")));
    assert_null(pretokenizer_find(BYTES_LITERAL("gpt")));
    assert_null(pretokenizer_find(BYTES_LITERAL("GPT-2")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_names), cmocka_unit_test(unknown_names)};
    return cmocka_run_group_tests_name("model.pretokenizers", tests, NULL, NULL);
}
