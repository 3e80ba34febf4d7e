/* A request's life through the core while nothing dies: answers, streams, stop strings, clients, keys, routing. */
#include "sched/prefix.h"
#include "tests/unit/router/lab.h"

static void a_whole_answer(void **state)
{
    (void)state;
    struct lab *lab = lab_new(1);
    uint64_t request = lab_complete(lab, "abc", "\"max_tokens\":5,\"seed\":7");
    const struct lab_submit *submit = lab_last(lab, 0);
    assert_int_equal(submit->ids_count, 3);
    assert_int_equal(submit->ids[2], 'c');
    assert_int_equal(submit->prompt_tokens, 3);
    assert_int_equal(submit->max_tokens, 5);
    assert_int_equal(submit->seed, 7);
    lab_tokens(lab, 0, request, 0, "hi");
    assert_false(lab_of(lab, request)->over);
    lab_tokens(lab, 0, request, 2, "!$");
    lab_finished(lab, 0, request, PROTO_FINISH_STOP, 2);
    assert_over(lab, request, 200);
    assert_true(said(lab, request, "\"text\":\"hi!\""));
    assert_true(said(lab, request, "\"finish_reason\":\"stop\""));
    assert_true(said(lab, request, "\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7"));
    assert_true(said(lab, request, "\"cached_tokens\":2"));
    lab_free(lab);
}

static void a_stream_of_events(void **state)
{
    (void)state;
    struct lab *lab = lab_new(1);
    uint64_t request = lab_request(
        lab, "POST", "/v1/chat/completions", "sk-1",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"abc\"}],\"max_tokens\":2,\"stream\":true,"
        "\"stream_options\":{\"include_usage\":true}}");
    assert_false(lab_of(lab, request)->begun); /* until there is something to say, a failure can still have a status */
    lab_tokens(lab, 0, request, 0, "x");
    assert_true(lab_of(lab, request)->begun);
    assert_true(said(lab, request, "\"role\":\"assistant\""));
    lab_tokens(lab, 0, request, 1, "y");
    lab_finished(lab, 0, request, PROTO_FINISH_LENGTH, 0);
    assert_over(lab, request, 200);
    assert_text(lab, request, "xy");
    assert_true(said(lab, request, "\"finish_reason\":\"length\""));
    assert_true(said(lab, request, "\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2"));
    assert_true(said(lab, request, "data: [DONE]\n\n"));
    lab_free(lab);
}

static void stop_strings_trim_cancel_and_count(void **state)
{
    (void)state;
    struct lab *lab = lab_new(1);
    uint64_t request = lab_complete(lab, "abc",
                                    "\"stream\":true,\"stop\":[\"END\"],\"stream_options\":"
                                    "{\"include_usage\":true},\"max_tokens\":50");
    lab_tokens(lab, 0, request, 0, "one E");
    assert_text(lab, request, "one "); /* what may become a stop string is held back */
    lab_tokens(lab, 0, request, 5, "ND two");
    assert_text(lab, request, "one ");
    assert_int_equal(lab->engines[0].cancels, 1);
    assert_false(lab_of(lab, request)->over); /* waits for the engine's word on the cache */
    lab_tokens(lab, 0, request, 11, "more");
    lab_finished(lab, 0, request, PROTO_FINISH_CANCELLED, 1);
    assert_over(lab, request, 200);
    assert_text(lab, request, "one ");
    assert_true(said(lab, request, "\"finish_reason\":\"stop\""));
    assert_true(said(lab, request, "\"completion_tokens\":7,")); /* up to the D */
    assert_true(said(lab, request, "\"cached_tokens\":1"));
    lab_free(lab);
}

static void a_stop_string_that_never_completes_comes_out(void **state)
{
    (void)state;
    struct lab *lab = lab_new(1);
    uint64_t request = lab_complete(lab, "abc", "\"stream\":true,\"stop\":\"END\"");
    lab_tokens(lab, 0, request, 0, "x EN$");
    lab_finished(lab, 0, request, PROTO_FINISH_STOP, 0);
    assert_text(lab, request, "x EN");
    lab_free(lab);
}

static void the_engines_word_after_a_stop_string_is_not_awaited_for_ever(void **state)
{
    (void)state;
    struct lab *lab = lab_new(1);
    uint64_t request = lab_complete(lab, "abc", "\"stop\":\"E\"");
    lab_tokens(lab, 0, request, 0, "xE");
    lab_pass(lab, 900000);
    assert_false(lab_of(lab, request)->over);
    lab_pass(lab, 150000);
    assert_over(lab, request, 200);
    uint64_t other = lab_complete(lab, "abc", "\"stop\":\"E\"");
    lab_tokens(lab, 0, other, 0, "xE");
    lab_down(lab, 0); /* nor over its death */
    assert_over(lab, other, 200);
    lab_free(lab);
}

static void a_client_that_goes_cancels(void **state)
{
    (void)state;
    struct lab *lab = lab_new(1);
    uint64_t request = lab_complete(lab, "abc", "\"stream\":true");
    lab_tokens(lab, 0, request, 0, "x");
    size_t said_before = lab_of(lab, request)->text.length;
    lab_client(lab, request, ROUTER_CLIENT_GONE);
    assert_int_equal(lab->engines[0].cancels, 1);
    assert_int_equal(lab->engines[0].cancelled_stream, request);
    assert_int_equal(lab->engines[0].cancelled_attempt, 1);
    assert_int_equal(router_open_requests(lab->router), 0);
    lab_tokens(lab, 0, request, 1, "y");
    assert_int_equal(lab_of(lab, request)->text.length, said_before);
    lab_free(lab);
}

static void a_client_that_goes_while_encoding_leaves_nothing(void **state)
{
    (void)state;
    struct lab *lab = lab_new(1);
    lab->hold_encode = true;
    uint64_t request = lab_complete(lab, "abc", "");
    lab_client(lab, request, ROUTER_CLIENT_GONE);
    assert_int_equal(router_open_requests(lab->router), 1); /* its texts are still in use */
    lab_encode(lab);
    assert_int_equal(router_open_requests(lab->router), 0);
    assert_int_equal(lab->engines[0].submits_count, 0);
    lab_free(lab);
}

/* A client that does not read costs no engine anything, and goes on where it stopped. */
static void a_client_that_does_not_read_is_parked(void **state)
{
    (void)state;
    struct lab *lab = lab_new(1);
    uint64_t request = lab_complete(lab, "abc", "\"stream\":true");
    lab_tokens(lab, 0, request, 0, "12");
    lab_client(lab, request, ROUTER_CLIENT_FULL);
    assert_int_equal(lab->engines[0].cancels, 1);
    lab_pass(lab, 5000000);
    assert_int_equal(lab->engines[0].submits_count, 1);
    lab_client(lab, request, ROUTER_CLIENT_WRITABLE);
    assert_int_equal(lab_last(lab, 0)->attempt, 2);
    assert_int_equal(lab_last(lab, 0)->ids_count, 5);
    lab_tokens(lab, 0, request, 0, "3$");
    lab_finished(lab, 0, request, PROTO_FINISH_STOP, 0);
    assert_text(lab, request, "123");
    /* And not for ever. */
    request = lab_complete(lab, "abc", "\"stream\":true");
    lab_tokens(lab, 0, request, 0, "1");
    lab_client(lab, request, ROUTER_CLIENT_FULL);
    lab_pass(lab, 60100000);
    assert_true(lab_of(lab, request)->aborted);
    assert_int_equal(router_open_requests(lab->router), 0);
    lab_free(lab);
}

static void a_prompt_goes_to_its_holder(void **state)
{
    (void)state;
    static const char prompt[] = "0123456789abcdef0123456789abcdef!";
    static const uint8_t root[16], salt[32] = {7};
    struct lab *lab = lab_new(2);
    uint64_t first = lab_complete(lab, prompt, "");
    assert_int_equal(lab_where(lab, first), 0);
    uint8_t hashes[2][16];
    const struct lab_submit *submit = lab_last(lab, 0);
    prefix_hash_next(hashes[0], root, submit->cache_key, salt, submit->ids);
    prefix_hash_next(hashes[1], hashes[0], submit->cache_key, salt, submit->ids + 16);
    const struct proto_kv_events events = {.epoch = lab->engines[1].epoch,
                                           .generation = lab->engines[1].incarnation,
                                           .sequence = 1,
                                           .stored = bytes_of(hashes, sizeof(hashes))};
    lab_frame(lab, 1, PROTO_KV_EVENTS, &events);
    lab_client(lab, first, ROUTER_CLIENT_GONE);
    assert_int_equal(lab_where(lab, lab_complete(lab, prompt, "")), 1);
    assert_int_equal(lab->engines[1].snapshot_asks, 1);
    /* A gap makes it forget, and ask. */
    struct proto_kv_events late = events;
    late.sequence = 3;
    lab_frame(lab, 1, PROTO_KV_EVENTS, &late);
    assert_int_equal(lab->engines[1].snapshot_asks, 2);
    assert_int_equal(lab_where(lab, lab_complete(lab, prompt, "")), 0);
    lab_free(lab);
}

/* A prompt that is computed no longer counts: its engine is as good as any. */
static void load_falls_with_the_first_token(void **state)
{
    (void)state;
    struct lab *lab = lab_new(2);
    uint64_t longest = lab_complete(lab, "a long prompt, longer than the others by far and then some", "");
    assert_int_equal(lab_where(lab, longest), 0);
    assert_int_equal(lab_where(lab, lab_complete(lab, "a shorter prompt, but not short", "")), 1);
    lab_tokens(lab, 0, longest, 0, "x");
    assert_int_equal(lab_where(lab, lab_complete(lab, "abc", "")), 0);
    lab_free(lab);
}

static void prompts_that_do_not_fit_are_refused_here(void **state)
{
    (void)state;
    struct lab *lab = lab_new(1);
    char prompt[LAB_CONTEXT + 1];
    memset(prompt, 'x', sizeof(prompt) - 1);
    prompt[LAB_CONTEXT] = 0;
    assert_over(lab, lab_complete(lab, prompt, "\"max_tokens\":1"), 400);
    assert_true(said(lab, 1, "context_length_exceeded"));
    assert_over(lab, lab_complete(lab, "abc", "\"max_tokens\":198"), 400);
    assert_int_equal(lab->engines[0].submits_count, 0);
    lab_complete(lab, "abc", "\"max_tokens\":197");
    assert_int_equal(lab->engines[0].submits_count, 1);
    /* A chat that leaves it open gets what the context holds. */
    lab_request(lab, "POST", "/v1/chat/completions", "sk-1",
                "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"abcd\"}]}");
    assert_int_equal(lab_last(lab, 0)->max_tokens, 196);
    lab_free(lab);
}

static void keys_and_models_are_checked_first(void **state)
{
    (void)state;
    struct lab *lab = lab_new(1);
    assert_over(lab, lab_request(lab, "POST", "/v1/completions", NULL, "{"), 401);
    assert_over(lab, lab_request(lab, "POST", "/v1/completions", "sk-3", "{"), 401);
    assert_true(said(lab, 2, "invalid_api_key"));
    assert_over(lab, lab_request(lab, "POST", "/v1/completions", "sk-1", "{"), 400);
    assert_over(lab, lab_request(lab, "POST", "/v1/completions", "sk-1", "{\"model\":\"x\",\"prompt\":\"a\"}"), 404);
    assert_true(said(lab, 4, "model_not_found"));
    assert_over(lab, lab_request(lab, "GET", "/v1/completions", "sk-1", ""), 405);
    assert_over(lab, lab_request(lab, "GET", "/v1/models", NULL, ""), 401);
    assert_over(lab, lab_request(lab, "GET", "/v1/models", "sk-2", ""), 200);
    assert_true(said(lab, 7, "\"data\":[{\"id\":\"m\",\"object\":\"model\",\"created\":3,"));
    assert_over(lab, lab_request(lab, "GET", "/v1/models/m", "sk-2", ""), 200);
    assert_over(lab, lab_request(lab, "GET", "/v1/models/y", "sk-2", ""), 404);
    assert_over(lab, lab_request(lab, "GET", "/health", NULL, ""), 200);
    assert_over(lab, lab_request(lab, "GET", "/metrics", NULL, ""), 200);
    assert_true(said(lab, 11, "shoal_requests_total{code=\"401\"} 3"));
    lab_free(lab);
}

/* Two tenants, one prompt: the cache keys differ, and neither is zero. */
static void tenants_have_cache_keys_of_their_own(void **state)
{
    (void)state;
    static const uint8_t zero[32];
    struct lab *lab = lab_new(1);
    static const char body[] = "{\"model\":\"m\",\"prompt\":\"abc\"}";
    lab_request(lab, "POST", "/v1/completions", "sk-1", body);
    uint8_t first[32];
    memcpy(first, lab_last(lab, 0)->cache_key, 32);
    lab_request(lab, "POST", "/v1/completions", "sk-2", body);
    assert_memory_not_equal(first, lab_last(lab, 0)->cache_key, 32);
    assert_memory_not_equal(first, zero, 32);
    lab_request(lab, "POST", "/v1/completions", "sk-1", body);
    assert_memory_equal(first, lab_last(lab, 0)->cache_key, 32);
    lab_free(lab);
}

/* Whoever is one too many learns so at once, and when to come again. */
static void beyond_its_bound_a_router_refuses_at_once(void **state)
{
    (void)state;
    struct lab *lab = lab_new(1);
    for (int i = 0; i < LAB_OPEN_MAX; i++) {
        assert_false(lab_of(lab, lab_complete(lab, "abc", ""))->over);
    }
    uint64_t one_more = lab_complete(lab, "abc", "");
    assert_int_equal(lab_of(lab, one_more)->status, 503);
    assert_true(lab_of(lab, one_more)->retry_after_s > 0);
    assert_true(said(lab, one_more, "overloaded"));
    lab_client(lab, 1, ROUTER_CLIENT_GONE);
    assert_false(lab_of(lab, lab_complete(lab, "abc", ""))->over);
    lab_free(lab);
}

static void a_view_is_kept_and_the_texts_loaded_once(void **state)
{
    (void)state;
    struct lab *lab = lab_new(1);
    assert_int_equal(lab->views_saved, 1);
    lab_view(lab, 1, PROTO_REPLICA_READY);
    assert_int_equal(lab->views_saved, 2);
    assert_int_equal(lab->texts_loaded, 1);
    lab->view_index -= 2;
    lab_view(lab, 0, PROTO_REPLICA_READY); /* older: nothing happens */
    assert_int_equal(lab->views_saved, 2);
    assert_true(lab->engines[0].link != 0);
    lab_free(lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_answer),
        cmocka_unit_test(a_stream_of_events),
        cmocka_unit_test(stop_strings_trim_cancel_and_count),
        cmocka_unit_test(a_stop_string_that_never_completes_comes_out),
        cmocka_unit_test(the_engines_word_after_a_stop_string_is_not_awaited_for_ever),
        cmocka_unit_test(a_client_that_goes_cancels),
        cmocka_unit_test(a_client_that_goes_while_encoding_leaves_nothing),
        cmocka_unit_test(a_client_that_does_not_read_is_parked),
        cmocka_unit_test(a_prompt_goes_to_its_holder),
        cmocka_unit_test(load_falls_with_the_first_token),
        cmocka_unit_test(prompts_that_do_not_fit_are_refused_here),
        cmocka_unit_test(keys_and_models_are_checked_first),
        cmocka_unit_test(tenants_have_cache_keys_of_their_own),
        cmocka_unit_test(beyond_its_bound_a_router_refuses_at_once),
        cmocka_unit_test(a_view_is_kept_and_the_texts_loaded_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
