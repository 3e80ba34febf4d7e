/* What a request body means: every field's rule, and the answer to what breaks it. */
#include "router/openai_request.h"
#include "tests/unit/router/support.h"

static struct openai_request request;
static struct openai_error error;

static bool read_body(enum openai_kind kind, const char *body)
{
    error = (struct openai_error){0};
    return openai_request_read(&request, kind, bytes_of_text(body), &error);
}

/* A chat with these further members, e.g. "\"n\":1". */
static bool chat_with(const char *members)
{
    char body[2048];
    (void)snprintf(body, sizeof(body), "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],%s}",
                   members);
    return read_body(OPENAI_CHAT, body);
}

static bool completion_with(const char *members)
{
    char body[2048];
    (void)snprintf(body, sizeof(body), "{\"model\":\"m\",\"prompt\":\"hi\",%s}", members);
    return read_body(OPENAI_COMPLETION, body);
}

static void assert_context(const char *expected)
{
    struct buf out;
    buf_init(&out, 1 << 20);
    json_write_value(&out, request.context);
    assert_string_equal(buf_text(&out), expected);
    buf_free(&out);
}

static void defaults_are_the_public_ones(void **state)
{
    (void)state;
    assert_true(read_body(OPENAI_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"));
    assert_true(bytes_equal(request.model, BYTES_LITERAL("m")));
    assert_true(request.temperature == 1 && request.top_p == 1 && request.min_p == 0);
    assert_int_equal(request.top_k, 0);
    assert_int_equal(request.max_tokens, 0);
    assert_false(request.stream || request.include_usage || request.has_seed || request.ignore_eos);
    assert_int_equal(request.stop_count, 0);
    assert_context("{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}");
    openai_request_free(&request);
    assert_true(read_body(OPENAI_COMPLETION, "{\"model\":\"m\",\"prompt\":\"hi\"}"));
    assert_int_equal(request.max_tokens, 16);
    assert_true(bytes_equal(request.prompt, BYTES_LITERAL("hi")));
    openai_request_free(&request);
}

static void every_field_is_read(void **state)
{
    (void)state;
    assert_true(chat_with("\"stream\":true,\"stream_options\":{\"include_usage\":true,\"include_obfuscation\":false},"
                          "\"max_completion_tokens\":7,\"max_tokens\":7,\"temperature\":0,\"top_p\":0.5,\"top_k\":40,"
                          "\"min_p\":0.1,\"seed\":-3,\"stop\":[\"a\",\"b\"],\"ignore_eos\":true,"
                          "\"chat_template_kwargs\":{\"enable_thinking\":false}"));
    assert_true(request.stream && request.include_usage && request.has_seed && request.ignore_eos);
    assert_int_equal(request.max_tokens, 7);
    assert_true(request.temperature == 0 && request.top_p == 0.5 && request.min_p == 0.1);
    assert_int_equal(request.top_k, 40);
    assert_true(request.seed == (uint64_t)-3);
    assert_int_equal(request.stop_count, 2);
    assert_true(bytes_equal(request.stop[1], BYTES_LITERAL("b")));
    assert_context("{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"enable_thinking\":false}");
    openai_request_free(&request);
    assert_true(completion_with("\"stop\":\"x\",\"top_k\":-1,\"top_p\":0,\"seed\":null"));
    assert_int_equal(request.stop_count, 1);
    assert_int_equal(request.top_k, 0);
    assert_true(request.top_p > 0 && request.top_p < 1e-6);
    assert_false(request.has_seed);
    openai_request_free(&request);
}

static void neutral_values_and_null_are_accepted(void **state)
{
    (void)state;
    static const char *const chats[] = {
        "\"n\":1",
        "\"n\":null",
        "\"logprobs\":false",
        "\"top_logprobs\":0",
        "\"frequency_penalty\":0.0",
        "\"presence_penalty\":0",
        "\"logit_bias\":{}",
        "\"tools\":[]",
        "\"tools\":null",
        "\"tool_choice\":\"none\"",
        "\"tool_choice\":\"auto\"",
        "\"response_format\":{\"type\":\"text\"}",
        "\"modalities\":[\"text\"]",
        "\"service_tier\":\"auto\"",
        "\"store\":false",
        "\"user\":\"me\"",
        "\"metadata\":{\"a\":\"b\"}",
        "\"parallel_tool_calls\":true",
        "\"repetition_penalty\":1.0",
        "\"add_generation_prompt\":true",
        "\"stream\":null",
        "\"temperature\":null",
        "\"stop\":null",
        "\"stop\":[]",
        "\"max_tokens\":null",
        "\"stream_options\":null",
        "\"reasoning_effort\":null",
        "\"min_tokens\":0",
    };
    for (size_t i = 0; i < COUNT_OF(chats); i++) {
        if (!chat_with(chats[i])) {
            fail_msg("%s: %s", chats[i], error.message);
        }
        openai_request_free(&request);
    }
    static const char *const completions[] = {"\"best_of\":1", "\"echo\":false", "\"suffix\":null", "\"suffix\":\"\"",
                                              "\"logprobs\":null"};
    for (size_t i = 0; i < COUNT_OF(completions); i++) {
        if (!completion_with(completions[i])) {
            fail_msg("%s: %s", completions[i], error.message);
        }
        openai_request_free(&request);
    }
}

struct refusal {
    const char *members;
    const char *param;
    const char *code;
};

static void assert_refused(bool taken, const struct refusal *refusal)
{
    if (taken) {
        fail_msg("taken: %s", refusal->members);
    }
    assert_int_equal(error.http_status, 400);
    assert_string_equal(error.type, "invalid_request_error");
    assert_string_equal(error.param, refusal->param);
    assert_string_equal(error.code != NULL ? error.code : "", refusal->code);
    assert_true(refusal->param[0] == 0 || strstr(error.message, refusal->param) != NULL);
}

static void what_would_change_the_result_is_refused_by_name(void **state)
{
    (void)state;
    static const struct refusal chats[] = {
        {"\"n\":2", "n", "unsupported_parameter"},
        {"\"logprobs\":true", "logprobs", "unsupported_parameter"},
        {"\"top_logprobs\":3", "top_logprobs", "unsupported_parameter"},
        {"\"frequency_penalty\":0.5", "frequency_penalty", "unsupported_parameter"},
        {"\"presence_penalty\":-1", "presence_penalty", "unsupported_parameter"},
        {"\"logit_bias\":{\"5\":1}", "logit_bias", "unsupported_parameter"},
        {"\"tools\":[{\"type\":\"function\"}]", "tools", "unsupported_parameter"},
        {"\"tool_choice\":\"required\"", "tool_choice", "unsupported_parameter"},
        {"\"response_format\":{\"type\":\"json_object\"}", "response_format", "unsupported_parameter"},
        {"\"modalities\":[\"text\",\"audio\"]", "modalities", "unsupported_parameter"},
        {"\"store\":true", "store", "unsupported_parameter"},
        {"\"reasoning_effort\":\"high\"", "reasoning_effort", "unsupported_parameter"},
        {"\"prompt\":\"x\"", "prompt", "unknown_parameter"},
        {"\"frobnicate\":0", "frobnicate", "unknown_parameter"},
        {"\"stream\":true,\"stream_options\":{\"x\":1}", "stream_options.x", "unknown_parameter"},
        {"\"stream_options\":{\"include_usage\":true}", "stream_options", ""},
        {"\"temperature\":2.5", "temperature", "decimal_above_max_value"},
        {"\"temperature\":-0.1", "temperature", "decimal_below_min_value"},
        {"\"temperature\":\"hot\"", "temperature", "invalid_type"},
        {"\"top_p\":1.5", "top_p", "decimal_above_max_value"},
        {"\"max_tokens\":0", "max_tokens", "integer_below_min_value"},
        {"\"max_tokens\":5000000000", "max_tokens", "integer_above_max_value"},
        {"\"max_tokens\":1.5", "max_tokens", "invalid_type"},
        {"\"max_tokens\":5,\"max_completion_tokens\":6", "max_completion_tokens", "invalid_value"},
        {"\"seed\":1e30", "seed", "invalid_type"},
        {"\"stream\":1", "stream", "invalid_type"},
        {"\"stop\":[\"\"]", "stop[0]", "invalid_value"},
        {"\"stop\":7", "stop", "invalid_type"},
        {"\"stop\":[\"a\",1]", "stop[1]", "invalid_type"},
        {"\"chat_template_kwargs\":{\"messages\":[]}", "chat_template_kwargs", "invalid_value"},
        {"\"chat_template_kwargs\":3", "chat_template_kwargs", "invalid_type"},
    };
    for (size_t i = 0; i < COUNT_OF(chats); i++) {
        assert_refused(chat_with(chats[i].members), &chats[i]);
    }
    static const struct refusal completions[] = {
        {"\"best_of\":2", "best_of", "unsupported_parameter"},
        {"\"echo\":true", "echo", "unsupported_parameter"},
        {"\"suffix\":\"x\"", "suffix", "unsupported_parameter"},
        {"\"logprobs\":0", "logprobs", "unsupported_parameter"},
        {"\"messages\":[]", "messages", "unknown_parameter"},
    };
    for (size_t i = 0; i < COUNT_OF(completions); i++) {
        assert_refused(completion_with(completions[i].members), &completions[i]);
    }
}

static void too_many_stop_strings_are_refused(void **state)
{
    (void)state;
    const struct refusal refusal = {"17 stops", "stop", "array_above_max_length"};
    assert_refused(chat_with("\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"a\",\"b\",\"c\",\"d\","
                             "\"e\",\"f\",\"g\",\"h\"]"),
                   &refusal);
}

static void bodies_that_are_no_requests(void **state)
{
    (void)state;
    static const struct refusal bodies[] = {
        {"", "", ""},
        {"{\"model\":", "", ""},
        {"[]", "", ""},
        {"{\"model\":\"m\",\"model\":\"n\"}", "", ""},
        {"{}", "model", "missing_required_parameter"},
        {"{\"model\":3}", "model", "invalid_type"},
        {"{\"model\":\"m\"}", "messages", "missing_required_parameter"},
        {"{\"model\":\"m\",\"messages\":null}", "messages", "missing_required_parameter"},
        {"{\"model\":\"m\",\"messages\":\"hi\"}", "messages", "invalid_type"},
        {"{\"model\":\"m\",\"messages\":[]}", "messages", "empty_array"},
        {"{\"model\":\"m\",\"messages\":[3]}", "messages[0]", "invalid_type"},
        {"{\"model\":\"m\",\"messages\":[{\"content\":\"x\"}]}", "messages[0].role", "missing_required_parameter"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}", "messages[0].role", "invalid_value"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\"}]}", "messages[0].content", "invalid_type"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
         "messages[0].content[0].type", "invalid_value"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"audio\":{}}]}", "messages[0].audio",
         "unsupported_parameter"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"content\":\"x\",\"tool_calls\":[{}]}]}",
         "messages[0].tool_calls", "unsupported_parameter"},
    };
    for (size_t i = 0; i < COUNT_OF(bodies); i++) {
        bool taken = read_body(OPENAI_CHAT, bodies[i].members);
        if (taken) {
            fail_msg("taken: %s", bodies[i].members);
        }
        assert_int_equal(error.http_status, 400);
        assert_string_equal(error.param, bodies[i].param);
        assert_string_equal(error.code != NULL ? error.code : "", bodies[i].code);
    }
}

static void messages_are_made_uniform(void **state)
{
    (void)state;
    assert_true(read_body(
        OPENAI_CHAT,
        "{\"messages\":[{\"role\":\"developer\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\","
        "\"text\":\"b\"}]},{\"role\":\"user\",\"content\":\"q\",\"name\":\"Bo\"},{\"role\":\"assistant\",\"content\":"
        "null,\"refusal\":null,\"tool_calls\":[]}],\"model\":\"m\"}"));
    assert_context("{\"messages\":[{\"role\":\"system\",\"content\":\"a\\nb\"},"
                   "{\"role\":\"user\",\"content\":\"q\",\"name\":\"Bo\"},"
                   "{\"role\":\"assistant\",\"content\":null}]}");
    openai_request_free(&request);
}

static void prompts_come_in_three_forms(void **state)
{
    (void)state;
    assert_true(read_body(OPENAI_COMPLETION, "{\"model\":\"m\",\"prompt\":[\"one\"]}"));
    assert_true(bytes_equal(request.prompt, BYTES_LITERAL("one")));
    openai_request_free(&request);
    assert_true(read_body(OPENAI_COMPLETION, "{\"model\":\"m\",\"prompt\":[1,2,3]}"));
    assert_int_equal(json_count(request.prompt_ids), 3);
    openai_request_free(&request);
    assert_true(read_body(OPENAI_COMPLETION, "{\"model\":\"m\",\"prompt\":[[4,5]]}"));
    assert_int_equal(json_count(request.prompt_ids), 2);
    openai_request_free(&request);
    assert_true(read_body(OPENAI_COMPLETION, "{\"model\":\"m\",\"prompt\":\"\"}"));
    openai_request_free(&request);
    static const struct refusal refusals[] = {
        {"{\"model\":\"m\",\"prompt\":[\"a\",\"b\"]}", "prompt", "unsupported_parameter"},
        {"{\"model\":\"m\",\"prompt\":[1,\"b\"]}", "prompt[1]", "invalid_type"},
        {"{\"model\":\"m\",\"prompt\":[-1]}", "prompt[0]", "integer_below_min_value"},
        {"{\"model\":\"m\",\"prompt\":7}", "prompt", "invalid_type"},
        {"{\"model\":\"m\",\"prompt\":[]}", "prompt", "invalid_type"},
        {"{\"model\":\"m\"}", "prompt", "missing_required_parameter"},
    };
    for (size_t i = 0; i < COUNT_OF(refusals); i++) {
        assert_refused(read_body(OPENAI_COMPLETION, refusals[i].members), &refusals[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_the_public_ones),
        cmocka_unit_test(every_field_is_read),
        cmocka_unit_test(neutral_values_and_null_are_accepted),
        cmocka_unit_test(what_would_change_the_result_is_refused_by_name),
        cmocka_unit_test(too_many_stop_strings_are_refused),
        cmocka_unit_test(bodies_that_are_no_requests),
        cmocka_unit_test(messages_are_made_uniform),
        cmocka_unit_test(prompts_come_in_three_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
