/* A stream's life through the core: the promises of streaming, failover, cancelling and refusing, each as a scenario.
 */
#include "sched/prefix.h"
#include "tests/unit/router/lab.h"

static void assert_over(struct lab *lab, uint64_t request, unsigned status)
{
    const struct lab_client *client = lab_of(lab, request);
    assert_true(client->over);
    if (client->status != status) {
        fail_msg("status %u: %s", client->status, buf_text(&client->text));
    }
    assert_int_equal(router_open_requests(lab->router), 0);
}

static void assert_text(struct lab *lab, uint64_t request, const char *expected)
{
    char text[4096];
    lab_text(lab_of(lab, request), text, sizeof(text));
    assert_string_equal(text, expected);
}

static bool said(struct lab *lab, uint64_t request, const char *part)
{
    return strstr(buf_text(&lab_of(lab, request)->text), part) != NULL;
}

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

/* An unseeded request gets a seed once, and a resume carries the same. */
static void an_engines_death_is_a_pause(void **state)
{
    (void)state;
    struct lab *lab = lab_new(2);
    uint64_t request = lab_complete(lab, "abc", "\"stream\":true,\"max_tokens\":10");
    size_t first = lab_where(lab, request), second = 1 - first;
    assert_int_equal(lab_last(lab, first)->seed, 33);
    lab_tokens(lab, first, request, 0, "12");
    lab_down(lab, first);
    const struct lab_submit *again = lab_last(lab, second);
    assert_int_equal(again->attempt, 2);
    assert_int_equal(again->ids_count, 5);
    assert_int_equal(again->ids[4], '2');
    assert_int_equal(again->prompt_tokens, 3);
    assert_int_equal(again->max_tokens, 10);
    assert_int_equal(again->seed, 33);
    lab_tokens(lab, second, request, 0, "34$");
    lab_finished(lab, second, request, PROTO_FINISH_STOP, 0);
    assert_over(lab, request, 200);
    assert_text(lab, request, "1234");
    assert_true(lab_metric(lab, "shoal_streams_resumed_total") == 1);
    assert_true(lab_metric(lab, "shoal_streams_restarted_total") == 0);
    lab_free(lab);
}

static void nothing_of_another_epoch_attempt_or_position_gets_in(void **state)
{
    (void)state;
    struct lab *lab = lab_new(2);
    uint64_t request = lab_complete(lab, "abc", "\"stream\":true,\"max_tokens\":20");
    size_t first = lab_where(lab, request), second = 1 - first;
    lab_tokens_at(lab, first, request, 1, 3, "12");
    lab_tokens_at(lab, first, request, 1, 3, "XX"); /* had already */
    lab_tokens_at(lab, first, request, 1, 4, "23"); /* overlaps: only what is new */
    lab->engines[second].epoch -= 1000;             /* another engine, whatever epoch it claims */
    for (uint64_t epoch = 0; epoch < 2000; epoch++) {
        lab->engines[second].epoch++;
        lab_tokens_at(lab, second, request, 1, 6, "Z");
    }
    lab->engines[second].epoch -= 1000;
    lab_tokens_at(lab, first, request, 2, 6, "Y");  /* another attempt */
    lab_tokens_at(lab, second, request, 1, 6, "Z"); /* another engine */
    lab->engines[first].epoch += 100;
    lab_tokens_at(lab, first, request, 1, 6, "W"); /* another epoch */
    lab_finished(lab, first, request, PROTO_FINISH_STOP, 0);
    lab->engines[first].epoch -= 100;
    assert_text(lab, request, "123");
    lab_down(lab, first);
    lab_tokens_at(lab, first, request, 1, 6, "V"); /* the dead one's, late */
    lab_tokens(lab, second, request, 0, "4");
    assert_text(lab, request, "1234");
    lab_finished(lab, second, request, PROTO_FINISH_LENGTH, 0);
    assert_over(lab, request, 200);
    lab_free(lab);
}

static void a_gap_in_positions_is_submitted_again(void **state)
{
    (void)state;
    struct lab *lab = lab_new(1);
    uint64_t request = lab_complete(lab, "abc", "\"stream\":true");
    lab_tokens_at(lab, 0, request, 1, 3, "1");
    lab_tokens_at(lab, 0, request, 1, 5, "3");
    assert_int_equal(lab->engines[0].cancels, 1);
    assert_int_equal(lab->engines[0].cancelled_attempt, 1);
    assert_int_equal(lab_last(lab, 0)->attempt, 2);
    lab_tokens(lab, 0, request, 0, "23$");
    lab_finished(lab, 0, request, PROTO_FINISH_STOP, 0);
    assert_text(lab, request, "123");
    lab_free(lab);
}

static void silence_of_half_a_second_is_death_and_less_is_not(void **state)
{
    (void)state;
    struct lab *lab = lab_new(2);
    uint64_t request = lab_complete(lab, "abc", "\"stream\":true");
    size_t first = lab_where(lab, request), second = 1 - first;
    lab_tokens(lab, first, request, 0, "1");
    lab_pass_silent(lab, 450000, first);
    assert_null(lab_submit_of(lab, second, request));
    lab_pass_silent(lab, 50000, first);
    assert_non_null(lab_submit_of(lab, second, request));
    assert_int_equal(lab->engines[first].cancels, 1); /* it may only be slow */
    /* New streams avoid it, until it speaks again. */
    uint64_t other = lab_complete(lab, "zzz", "");
    assert_int_equal(lab_where(lab, other), second);
    lab_pass(lab, 200000);
    lab->engines[second].running = 1;
    lab_pass(lab, 200000);
    assert_int_equal(lab_where(lab, lab_complete(lab, "yyy", "")), first);
    lab_free(lab);
}

/* A router that was itself asleep must not take everybody for dead: what they sent still waits in its sockets. */
static void our_own_sleep_is_nobodys_death(void **state)
{
    (void)state;
    struct lab *lab = lab_new(2);
    uint64_t request = lab_complete(lab, "abc", "\"stream\":true");
    size_t first = lab_where(lab, request);
    lab->now_us += 3000000;
    struct router_event tick = {.kind = ROUTER_TICK};
    lab_step(lab, &tick);
    assert_null(lab_submit_of(lab, 1 - first, request));
    lab_pass_silent(lab, 500000, first); /* but then it counts again */
    assert_non_null(lab_submit_of(lab, 1 - first, request));
    lab_free(lab);
}

static void an_engine_that_makes_no_step_is_left(void **state)
{
    (void)state;
    struct lab *lab = lab_new(2);
    uint64_t request = lab_complete(lab, "abc", "\"stream\":true");
    size_t first = lab_where(lab, request);
    lab->engines[first].running = 1;
    for (int i = 0; i < 201; i++) {
        lab->engines[first].step--; /* lab_load adds one: it stays */
        lab_pass(lab, 50000);
    }
    assert_non_null(lab_submit_of(lab, 1 - first, request));
    lab_free(lab);
}

static void what_an_engine_forgot_is_submitted_again(void **state)
{
    (void)state;
    struct lab *lab = lab_new(1);
    uint64_t request = lab_complete(lab, "abc", "\"stream\":true");
    lab->engines[0].running = 1;
    lab_pass(lab, 3000000);
    assert_int_equal(lab->engines[0].submits_count, 1);
    lab->engines[0].running = 0;
    lab_pass(lab, 100000);
    assert_int_equal(lab->engines[0].submits_count, 2);
    assert_int_equal(lab_last(lab, 0)->attempt, 2);
    assert_int_equal(lab_last(lab, 0)->stream, request);
    lab_free(lab);
}

static void a_death_between_the_last_id_and_its_word_ends_the_stream(void **state)
{
    (void)state;
    struct lab *lab = lab_new(2);
    uint64_t stopped = lab_complete(lab, "abc", "");
    size_t first = lab_where(lab, stopped);
    lab_tokens(lab, first, stopped, 0, "ok$");
    lab_down(lab, first);
    assert_over(lab, stopped, 200);
    assert_true(said(lab, stopped, "\"text\":\"ok\"") && said(lab, stopped, "\"finish_reason\":\"stop\""));
    assert_null(lab_submit_of(lab, 1 - first, stopped));
    uint64_t full = lab_complete(lab, "abc", "\"max_tokens\":2");
    lab_tokens(lab, 1 - first, full, 0, "ab");
    lab_down(lab, 1 - first);
    assert_over(lab, full, 200);
    assert_true(said(lab, full, "\"finish_reason\":\"length\""));
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

static void without_a_replica_a_request_waits_and_then_gets_503(void **state)
{
    (void)state;
    struct lab *lab = lab_new(1);
    lab_down(lab, 0);
    uint64_t request = lab_complete(lab, "abc", "\"stream\":true");
    lab_pass(lab, 29900000);
    assert_false(lab_of(lab, request)->over);
    lab_pass(lab, 150000);
    assert_over(lab, request, 503);
    assert_true(lab_of(lab, request)->retry_after_s > 0);
    /* One that comes back in time is enough. */
    request = lab_complete(lab, "abc", "\"stream\":true");
    lab_pass(lab, 20000000);
    lab_up(lab, 0);
    assert_int_equal(lab_last(lab, 0)->stream, request);
    lab_free(lab);
}

static void in_the_middle_of_a_stream_a_failure_is_an_event(void **state)
{
    (void)state;
    struct lab *lab = lab_new(1);
    uint64_t request = lab_complete(lab, "abc", "\"stream\":true");
    lab_tokens(lab, 0, request, 0, "1");
    lab_down(lab, 0);
    lab_pass(lab, 30100000);
    assert_over(lab, request, 200);
    assert_true(said(lab, request, "data: {\"error\":{") && said(lab, request, "data: [DONE]"));
    lab_free(lab);
}

static void refusals_go_elsewhere_or_to_the_client(void **state)
{
    (void)state;
    struct lab *lab = lab_new(2);
    uint64_t request = lab_complete(lab, "abc", "");
    size_t first = lab_where(lab, request), second = 1 - first;
    lab_refused(lab, first, request, true, "full");
    assert_int_equal(lab_where(lab, request), second);
    lab_refused(lab, second, request, true, "full");
    assert_int_equal(lab->engines[first].submits_count + lab->engines[second].submits_count, 2); /* takes a breath */
    lab_pass(lab, 150000);
    assert_int_equal(lab->engines[first].submits_count + lab->engines[second].submits_count, 3);
    lab_refused(lab, lab_where(lab, request), request, false, "limit");
    assert_over(lab, request, 400);
    assert_true(said(lab, request, "because"));
    lab_free(lab);
}

static void a_cancel_that_nobody_asked_for_goes_elsewhere(void **state)
{
    (void)state;
    struct lab *lab = lab_new(2);
    uint64_t request = lab_complete(lab, "abc", "\"stream\":true");
    size_t first = lab_where(lab, request);
    lab_tokens(lab, first, request, 0, "1");
    lab_finished(lab, first, request, PROTO_FINISH_CANCELLED, 0);
    assert_int_equal(lab_where(lab, request), 1 - first);
    assert_int_equal(lab_last(lab, 1 - first)->ids_count, 4);
    lab_free(lab);
}

static void faults_are_tried_thrice(void **state)
{
    (void)state;
    struct lab *lab = lab_new(2);
    uint64_t request = lab_complete(lab, "abc", "");
    for (int i = 0; i < 3; i++) {
        assert_false(lab_of(lab, request)->over);
        lab_finished(lab, lab_where(lab, request), request, PROTO_FINISH_FAULT, 0);
        lab_pass(lab, 150000);
    }
    assert_over(lab, request, 500);
    lab_free(lab);
}

static void draining_moves_streams_and_takes_no_new_ones(void **state)
{
    (void)state;
    struct lab *lab = lab_new(2);
    uint64_t request = lab_complete(lab, "abc", "\"stream\":true");
    size_t first = lab_where(lab, request);
    assert_int_equal(first, 0);
    lab_tokens(lab, 0, request, 0, "1");
    lab_view(lab, 2, PROTO_REPLICA_DRAINING);
    lab_pass(lab, 50000);
    assert_int_equal(lab_where(lab, request), 1);
    assert_int_equal(lab->engines[0].cancels, 1);
    assert_int_equal(lab_last(lab, 1)->ids_count, 4);
    lab_free(lab);
}

static void a_replaced_replica_is_left_and_attached_anew(void **state)
{
    (void)state;
    struct lab *lab = lab_new(2);
    uint64_t request = lab_complete(lab, "abc", "\"stream\":true");
    assert_int_equal(lab_where(lab, request), 0);
    lab->engines[0].epoch = 99;
    lab_view(lab, 2, PROTO_REPLICA_READY);
    assert_int_equal(lab_where(lab, request), 1);
    assert_int_equal(lab->engines[0].attaches, 2);
    lab->engines[0].running = 0;
    /* Removed from the view altogether: hung up. */
    lab_view(lab, 0, PROTO_REPLICA_READY);
    assert_int_equal(lab->engines[0].link, 0);
    assert_int_equal(lab->engines[1].link, 0);
    lab_free(lab);
}

/* The leader may think a node lost; while its channel speaks, its streams stay. */
static void a_lost_mark_in_the_view_does_not_cut_a_living_channel(void **state)
{
    (void)state;
    struct lab *lab = lab_new(1);
    uint64_t request = lab_complete(lab, "abc", "\"stream\":true");
    lab_view(lab, 1, PROTO_REPLICA_LOST);
    lab_pass(lab, 500000);
    assert_true(lab->engines[0].link != 0);
    lab_tokens(lab, 0, request, 0, "1$");
    lab_finished(lab, 0, request, PROTO_FINISH_STOP, 0);
    assert_text(lab, request, "1");
    lab_free(lab);
}

/* The engine's own word that it drains, before any view says so. */
static void a_draining_engine_is_left(void **state)
{
    (void)state;
    struct lab *lab = lab_new(2);
    uint64_t request = lab_complete(lab, "abc", "\"stream\":true");
    assert_int_equal(lab_where(lab, request), 0);
    lab_tokens(lab, 0, request, 0, "1");
    lab_load(lab, 0, true);
    assert_int_equal(lab_where(lab, lab_complete(lab, "xyz", "")), 1);
    struct router_event tick = {.kind = ROUTER_TICK};
    lab_step(lab, &tick);
    assert_int_equal(lab_where(lab, request), 1);
    lab_free(lab);
}

/* A process that says another epoch than the view is not the one that is meant. */
static void an_engine_of_another_epoch_gets_nothing(void **state)
{
    (void)state;
    struct lab *lab = lab_new(1);
    lab_down(lab, 0);
    lab->engines[0].epoch = 77;
    lab_up(lab, 0);
    lab->engines[0].epoch = 10;
    uint64_t request = lab_complete(lab, "abc", "");
    assert_int_equal(lab_where(lab, request), LAB_ENGINES);
    size_t attaches = lab->engines[0].attaches;
    lab_pass(lab, 600000);
    assert_true(lab->engines[0].attaches > attaches); /* asked again */
    lab_up(lab, 0);
    assert_int_equal(lab_where(lab, request), 0);
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

static void an_engine_that_restarted_loses_its_streams(void **state)
{
    (void)state;
    struct lab *lab = lab_new(2);
    uint64_t request = lab_complete(lab, "abc", "\"stream\":true");
    size_t first = lab_where(lab, request);
    lab_up(lab, first); /* its hello has a new incarnation */
    assert_int_equal(lab_where(lab, request), 1 - first);
    lab_free(lab);
}

/* Twice dead with little in between: alone on the third try, then quarantined; bystanders go on. */
static void a_poisoned_request_ends_alone(void **state)
{
    (void)state;
    struct lab *lab = lab_new(3);
    uint64_t poison = lab_complete(lab, "abc", "\"max_tokens\":90");
    size_t first = lab_where(lab, poison);
    lab_down(lab, first);
    size_t second = lab_where(lab, poison);
    assert_true(second != first);
    lab_up(lab, first);
    lab_down(lab, second);
    size_t third = lab_where(lab, poison);
    assert_true(third != second && lab_submit_of(lab, third, poison)->attempt == 3);
    /* While it runs alone, everybody else goes to the others. */
    lab_up(lab, second);
    for (int i = 0; i < 6; i++) {
        assert_true(lab_where(lab, lab_complete(lab, "other", "")) != third);
    }
    lab_down(lab, third);
    const struct lab_client *client = lab_of(lab, poison);
    assert_true(client->over);
    assert_int_equal(client->status, 500);
    assert_true(said(lab, poison, "request_quarantined"));
    lab_free(lab);
}

static void progress_clears_a_suspect(void **state)
{
    (void)state;
    struct lab *lab = lab_new(2);
    uint64_t request = lab_complete(lab, "abc", "\"max_tokens\":190,\"stream\":true");
    for (int i = 0; i < 5; i++) {
        size_t where = lab_where(lab, request);
        lab_tokens(lab, where, request, 0, "0123456789abcdef");
        lab_down(lab, where);
        lab_up(lab, where);
    }
    assert_false(lab_of(lab, request)->over);
    assert_int_equal(lab_submit_of(lab, lab_where(lab, request), request)->attempt, 6);
    assert_true(lab_metric(lab, "shoal_streams_resumed_total") == 5);
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

static void fifty_streams_spread_and_survive(void **state)
{
    (void)state;
    struct lab *lab = lab_new(2);
    for (int i = 0; i < 50; i++) {
        lab_complete(lab, "abc", "\"stream\":true,\"max_tokens\":8");
    }
    assert_int_equal(lab->engines[0].submits_count, 25);
    assert_int_equal(lab->engines[1].submits_count, 25);
    for (uint64_t i = 1; i <= 50; i++) {
        lab_tokens(lab, lab_where(lab, i), i, 0, "1234");
    }
    lab_down(lab, 0);
    assert_int_equal(lab->engines[1].submits_count, 50);
    assert_true(lab_metric(lab, "shoal_streams_resumed_total") == 25);
    for (uint64_t i = 1; i <= 50; i++) {
        const struct lab_submit *submit = lab_submit_of(lab, 1, i);
        lab_tokens(lab, 1, i, submit->attempt == 1 ? 4 : 0, "5678");
        lab_finished(lab, 1, i, PROTO_FINISH_LENGTH, 0);
        assert_text(lab, i, "12345678");
        assert_int_equal(lab_of(lab, i)->status, 200);
    }
    assert_int_equal(router_open_requests(lab->router), 0);
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
        cmocka_unit_test(an_engines_death_is_a_pause),
        cmocka_unit_test(nothing_of_another_epoch_attempt_or_position_gets_in),
        cmocka_unit_test(a_gap_in_positions_is_submitted_again),
        cmocka_unit_test(silence_of_half_a_second_is_death_and_less_is_not),
        cmocka_unit_test(our_own_sleep_is_nobodys_death),
        cmocka_unit_test(an_engine_that_makes_no_step_is_left),
        cmocka_unit_test(what_an_engine_forgot_is_submitted_again),
        cmocka_unit_test(a_death_between_the_last_id_and_its_word_ends_the_stream),
        cmocka_unit_test(stop_strings_trim_cancel_and_count),
        cmocka_unit_test(a_stop_string_that_never_completes_comes_out),
        cmocka_unit_test(the_engines_word_after_a_stop_string_is_not_awaited_for_ever),
        cmocka_unit_test(a_client_that_goes_cancels),
        cmocka_unit_test(a_client_that_goes_while_encoding_leaves_nothing),
        cmocka_unit_test(a_client_that_does_not_read_is_parked),
        cmocka_unit_test(without_a_replica_a_request_waits_and_then_gets_503),
        cmocka_unit_test(in_the_middle_of_a_stream_a_failure_is_an_event),
        cmocka_unit_test(refusals_go_elsewhere_or_to_the_client),
        cmocka_unit_test(a_cancel_that_nobody_asked_for_goes_elsewhere),
        cmocka_unit_test(faults_are_tried_thrice),
        cmocka_unit_test(draining_moves_streams_and_takes_no_new_ones),
        cmocka_unit_test(a_replaced_replica_is_left_and_attached_anew),
        cmocka_unit_test(a_lost_mark_in_the_view_does_not_cut_a_living_channel),
        cmocka_unit_test(a_draining_engine_is_left),
        cmocka_unit_test(an_engine_of_another_epoch_gets_nothing),
        cmocka_unit_test(a_prompt_goes_to_its_holder),
        cmocka_unit_test(load_falls_with_the_first_token),
        cmocka_unit_test(an_engine_that_restarted_loses_its_streams),
        cmocka_unit_test(a_poisoned_request_ends_alone),
        cmocka_unit_test(progress_clears_a_suspect),
        cmocka_unit_test(prompts_that_do_not_fit_are_refused_here),
        cmocka_unit_test(keys_and_models_are_checked_first),
        cmocka_unit_test(tenants_have_cache_keys_of_their_own),
        cmocka_unit_test(beyond_its_bound_a_router_refuses_at_once),
        cmocka_unit_test(fifty_streams_spread_and_survive),
        cmocka_unit_test(a_view_is_kept_and_the_texts_loaded_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
