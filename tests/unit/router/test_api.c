/* Endpoints, methods, content types and keys. */
#include "router/api.h"
#include "tests/unit/router/support.h"

static struct api_call call;
static struct openai_error error;

static bool resolve(const char *method, const char *target, const char *type)
{
    const struct api_http http = {
        .method = bytes_of_text(method), .target = bytes_of_text(target), .content_type = bytes_of_text(type)};
    error = (struct openai_error){0};
    return api_resolve(&http, &call, &error);
}

static void endpoints_are_found(void **state)
{
    (void)state;
    assert_true(resolve("POST", "/v1/chat/completions", "application/json"));
    assert_int_equal(call.endpoint, API_CHAT);
    assert_true(call.needs_key);
    assert_true(resolve("POST", "/v1/completions?x=1", "Application/JSON; charset=utf-8"));
    assert_int_equal(call.endpoint, API_COMPLETIONS);
    assert_true(resolve("GET", "/v1/models", ""));
    assert_int_equal(call.endpoint, API_MODELS);
    assert_true(resolve("GET", "/v1/models/a%2Fb", ""));
    assert_int_equal(call.endpoint, API_MODEL);
    assert_true(bytes_equal(call.rest, BYTES_LITERAL("a%2Fb")));
    assert_true(resolve("GET", "/health", ""));
    assert_false(call.needs_key);
    assert_true(resolve("GET", "/metrics", ""));
    assert_false(call.needs_key);
}

static void what_does_not_fit_is_said(void **state)
{
    (void)state;
    assert_false(resolve("GET", "/v2/models", ""));
    assert_int_equal(error.http_status, 404);
    assert_false(resolve("GET", "/v1/models/", ""));
    assert_int_equal(error.http_status, 404);
    assert_false(resolve("GET", "/v1/chat/completions", ""));
    assert_int_equal(error.http_status, 405);
    assert_string_equal(call.allow, "POST");
    assert_false(resolve("DELETE", "/v1/models/m", ""));
    assert_int_equal(error.http_status, 405);
    assert_string_equal(call.allow, "GET");
    assert_false(resolve("POST", "/v1/completions", "text/plain"));
    assert_int_equal(error.http_status, 415);
    assert_false(resolve("POST", "/v1/completions", "application/jsonx"));
    assert_int_equal(error.http_status, 415);
}

static bool key_of(const char *header, struct bytes *key)
{
    const struct api_http http = {.authorization = bytes_of_text(header)};
    return api_key(&http, key, &error);
}

static void keys_are_bearer_tokens(void **state)
{
    (void)state;
    struct bytes key;
    assert_true(key_of("Bearer sk-1", &key));
    assert_true(bytes_equal(key, BYTES_LITERAL("sk-1")));
    assert_true(key_of("bearer  sk-1", &key));
    assert_true(bytes_equal(key, BYTES_LITERAL("sk-1")));
    static const char *const bad[] = {"", "Bearer", "Bearer ", "Basic abc", "sk-1"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_false(key_of(bad[i], &key));
        assert_int_equal(error.http_status, 401);
    }
}

static void names_are_unescaped(void **state)
{
    (void)state;
    char out[8];
    assert_true(api_unescape(BYTES_LITERAL("a%2Fb%c3"), out, sizeof(out)));
    assert_string_equal(out, "a/b\xc3");
    assert_false(api_unescape(BYTES_LITERAL("a%2"), out, sizeof(out)));
    assert_false(api_unescape(BYTES_LITERAL("a%zz"), out, sizeof(out)));
    assert_false(api_unescape(BYTES_LITERAL("a%00"), out, sizeof(out)));
    assert_false(api_unescape(BYTES_LITERAL("12345678"), out, sizeof(out)));
    assert_true(api_unescape(BYTES_LITERAL("1234567"), out, sizeof(out)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endpoints_are_found),
        cmocka_unit_test(what_does_not_fit_is_said),
        cmocka_unit_test(keys_are_bearer_tokens),
        cmocka_unit_test(names_are_unescaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
