/* Answers in OpenAI's shapes, byte by byte, and against recordings of the real API: same members, same order of events.
 */
#include "base/file.h"
#include "router/openai_answer.h"
#include "tests/support/shared_data.h"
#include "tests/unit/router/support.h"

#define HEAD_CHAT                                                                                                      \
    "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":7,\"model\":\"m\","                       \
    "\"system_fingerprint\":null,\"choices\":["

static struct openai_answer answer_of(enum openai_kind kind, bool include_usage)
{
    return (struct openai_answer){.kind = kind,
                                  .id = kind == OPENAI_CHAT ? "chatcmpl-1" : "cmpl-1",
                                  .model = BYTES_LITERAL("m"),
                                  .created_s = 7,
                                  .include_usage = include_usage};
}

static const struct openai_usage usage = {.prompt_tokens = 5, .completion_tokens = 3, .cached_tokens = 4};

static void a_chat_stream(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 1 << 16);
    struct openai_answer answer = answer_of(OPENAI_CHAT, false);
    openai_write_begin(&out, &answer);
    openai_write_text(&out, &answer, BYTES_LITERAL("a\"\n\xc3\xa4"));
    openai_write_finish(&out, &answer, "stop", &usage);
    openai_write_done(&out);
    assert_string_equal(
        buf_text(&out),
        "data: " HEAD_CHAT "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},"
        "\"logprobs\":null,\"finish_reason\":null}]}\n\n"
        "data: " HEAD_CHAT "{\"index\":0,\"delta\":{\"content\":\"a\\\"\\n\xc3\xa4\"},\"logprobs\":null,"
        "\"finish_reason\":null}]}\n\n"
        "data: " HEAD_CHAT "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n"
        "data: [DONE]\n\n");
    buf_free(&out);
}

static void usage_is_a_chunk_of_its_own(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 1 << 16);
    struct openai_answer answer = answer_of(OPENAI_COMPLETION, true);
    openai_write_text(&out, &answer, BYTES_LITERAL("x"));
    openai_write_finish(&out, &answer, "length", &usage);
    assert_non_null(strstr(buf_text(&out), "\"finish_reason\":null}],\"usage\":null}\n\n"));
    assert_non_null(strstr(buf_text(&out), "\"finish_reason\":\"length\"}],\"usage\":null}\n\n"));
    assert_non_null(strstr(buf_text(&out), "\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":3,"
                                           "\"total_tokens\":8,\"prompt_tokens_details\":{\"cached_tokens\":4,"));
    buf_free(&out);
}

static void errors_have_four_members(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 1 << 16);
    struct openai_error error;
    assert_false(openai_missing(&error, "model"));
    openai_write_error(&out, &error);
    assert_string_equal(buf_text(&out),
                        "{\"error\":{\"message\":\"Missing required parameter: 'model'.\",\"type\":"
                        "\"invalid_request_error\",\"param\":\"model\",\"code\":\"missing_required_parameter\"}}");
    buf_clear(&out);
    assert_false(openai_fail(&error, 401, NULL, NULL, "no \"key\""));
    openai_write_error(&out, &error);
    assert_string_equal(buf_text(&out), "{\"error\":{\"message\":\"no \\\"key\\\"\",\"type\":\"invalid_request_error\","
                                        "\"param\":null,\"code\":null}}");
    assert_false(openai_unavailable(&error, 2, "later"));
    assert_int_equal(error.http_status, 503);
    assert_int_equal(error.retry_after_s, 2);
    buf_free(&out);
}

static void the_list_of_models(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 1 << 16);
    openai_write_models_begin(&out);
    openai_write_model(&out, true, BYTES_LITERAL("a"), 1);
    openai_write_model(&out, false, BYTES_LITERAL("b"), 2);
    openai_write_models_end(&out);
    assert_string_equal(buf_text(&out), "{\"object\":\"list\",\"data\":["
                                        "{\"id\":\"a\",\"object\":\"model\",\"created\":1,\"owned_by\":\"shoal\"},"
                                        "{\"id\":\"b\",\"object\":\"model\",\"created\":2,\"owned_by\":\"shoal\"}]}");
    buf_free(&out);
}

/* Every member of ours that the recording has too must be of its kind; and these members of the recording we must have.
 */
static void compare(const char *at, const struct json *recorded, const struct json *ours)
{
    static const char *const left_out[] = {"service_tier", "obfuscation"};
    void *iterator = NULL;
    struct bytes key;
    const struct json *value;
    while (json_next(recorded, &iterator, &key, &value)) {
        bool skipped = false;
        for (size_t i = 0; i < COUNT_OF(left_out); i++) {
            skipped |= bytes_equal(key, bytes_of_text(left_out[i]));
        }
        char name[64];
        (void)snprintf(name, sizeof(name), "%.*s", (int)key.length, key.data);
        const struct json *mine = json_get(ours, name);
        if (skipped) {
            continue;
        }
        if (mine == NULL) {
            fail_msg("%s: we have no %s", at, name);
        }
        if (json_kind(value) != JSON_NULL && json_kind(mine) != JSON_NULL && json_kind(mine) != json_kind(value)) {
            fail_msg("%s: %s is of another kind", at, name);
        }
        if (json_kind(value) == JSON_OBJECT && json_kind(mine) == JSON_OBJECT) {
            compare(name, value, mine);
        }
        if (json_kind(value) == JSON_ARRAY && json_count(value) > 0 && json_count(mine) > 0) {
            compare(name, json_at(value, 0), json_at(mine, 0));
        }
    }
}

static struct json *parse(struct bytes text)
{
    struct json *json;
    struct error why = {0};
    if (json_parse(text, &json, &why) != STATUS_OK) {
        fail_msg("%s", why.text);
    }
    return json;
}

/* The nth event of a stream, parsed; NULL: there is none, or it is [DONE]. */
static struct json *event_of(const char *stream, size_t n)
{
    for (; n > 0 && stream != NULL; n--) {
        stream = strstr(stream, "\n\n");
        stream = stream != NULL ? stream + 2 : NULL;
    }
    if (stream == NULL || strncmp(stream, "data: {", 7) != 0) {
        return NULL;
    }
    const char *end = strstr(stream, "\n\n");
    return parse(bytes_of(stream + 6, (size_t)(end - stream - 6)));
}

static void compare_streams(const char *name, const char *recorded, const char *ours, size_t events)
{
    for (size_t i = 0; i < events; i++) {
        struct json *a = event_of(recorded, i), *b = event_of(ours, i);
        assert_non_null(a);
        assert_non_null(b);
        compare(name, a, b);
        json_free(a);
        json_free(b);
    }
}

static void compare_recording(const char *name, const char *recorded)
{
    struct buf out;
    buf_init(&out, 1 << 16);
    struct openai_answer chat = answer_of(OPENAI_CHAT, true), completion = answer_of(OPENAI_COMPLETION, false);
    struct openai_error error;
    if (strcmp(name, "chat-streaming-detailed-usage") == 0) {
        openai_write_begin(&out, &chat);
        openai_write_finish(&out, &chat, "length", &usage);
        openai_write_done(&out);
        compare_streams(name, recorded, buf_text(&out), 3);
    } else if (strcmp(name, "completion-streaming") == 0) {
        openai_write_text(&out, &completion, BYTES_LITERAL(" +"));
        compare_streams(name, recorded, buf_text(&out), 1);
    } else {
        if (strcmp(name, "chat-basic") == 0) {
            openai_write_completion(&out, &chat, BYTES_LITERAL("Hi"), "stop", &usage);
        } else if (strcmp(name, "completion-basic") == 0) {
            openai_write_completion(&out, &completion, BYTES_LITERAL("Hi"), "length", &usage);
        } else if (strcmp(name, "chat-unknown-model") == 0 || strcmp(name, "completion-bad-request") == 0) {
            openai_fail(&error, 404, "x", NULL, "y");
            openai_write_error(&out, &error);
        }
        if (out.length > 0) {
            struct json *a = parse(bytes_of_text(recorded)), *b = parse(buf_bytes(&out));
            compare(name, a, b);
            json_free(a);
            json_free(b);
        }
    }
    buf_free(&out);
}

static void recorded_answers_have_our_members(void **state)
{
    (void)state;
    char path[SHARED_DATA_PATH_MAX];
    if (!shared_data_find("recorded_answers_have_our_members", "api/openai-recorded.jsonl", path)) {
        skip();
    }
    struct buf text;
    struct error why;
    buf_init(&text, 1 << 20);
    assert_int_equal(file_read(path, 1 << 20, &text, &why), STATUS_OK);
    size_t compared = 0;
    const char *at = buf_text(&text), *end;
    while ((end = strchr(at, '\n')) != NULL) {
        struct json *line = parse(bytes_of(at, (size_t)(end - at)));
        compare_recording(json_text(json_get(line, "cassette")), json_text(json_get(line, "response_body")));
        json_free(line);
        compared++;
        at = end + 1;
    }
    assert_true(compared >= 16);
    buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chat_stream),
        cmocka_unit_test(usage_is_a_chunk_of_its_own),
        cmocka_unit_test(errors_have_four_members),
        cmocka_unit_test(the_list_of_models),
        cmocka_unit_test(recorded_answers_have_our_members),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
