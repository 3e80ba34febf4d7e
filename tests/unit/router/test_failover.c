/* The router holds the stream: engines that die, fall silent, stall, forget, drain, restart or refuse, each as a
 * scenario. */
#include "tests/unit/router/lab.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_engines_death_is_a_pause),
        cmocka_unit_test(nothing_of_another_epoch_attempt_or_position_gets_in),
        cmocka_unit_test(a_gap_in_positions_is_submitted_again),
        cmocka_unit_test(silence_of_half_a_second_is_death_and_less_is_not),
        cmocka_unit_test(our_own_sleep_is_nobodys_death),
        cmocka_unit_test(an_engine_that_makes_no_step_is_left),
        cmocka_unit_test(what_an_engine_forgot_is_submitted_again),
        cmocka_unit_test(a_death_between_the_last_id_and_its_word_ends_the_stream),
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
        cmocka_unit_test(an_engine_that_restarted_loses_its_streams),
        cmocka_unit_test(a_poisoned_request_ends_alone),
        cmocka_unit_test(progress_clears_a_suspect),
        cmocka_unit_test(fifty_streams_spread_and_survive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
