/* Tests of base/metrics: the text format, histogram sums that add up, escaping, and updates from two threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "base/metrics.h"

static void text_format(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_new();
    struct metric *requests = metrics_counter(metrics, "shoal_requests_total", "Requests,\nby \\ code.", "code", "200");
    struct metric *failed = metrics_counter(metrics, "shoal_requests_total", "ignored", "code", "5\"0\\0\n");
    struct metric *load = metrics_gauge(metrics, "shoal_load", "Load.", NULL, NULL);
    metric_add(requests, 1);
    metric_add(requests, 2);
    metric_add(failed, 0.5);
    metric_set(load, 7);
    metric_add(load, -9);
    assert_ptr_equal(metrics_counter(metrics, "shoal_requests_total", "", "code", "200"), requests);
    assert_true(metric_value(requests) == 3);
    assert_true(metric_value(load) == -2);
    struct buf out;
    buf_init(&out, 1 << 16);
    metrics_print(metrics, &out);
    assert_string_equal(buf_text(&out), "# HELP shoal_requests_total Requests,\\nby \\\\ code.\n"
                                        "# TYPE shoal_requests_total counter\n"
                                        "shoal_requests_total{code=\"200\"} 3\n"
                                        "shoal_requests_total{code=\"5\\\"0\\\\0\\n\"} 0.5\n"
                                        "# HELP shoal_load Load.\n"
                                        "# TYPE shoal_load gauge\n"
                                        "shoal_load -2\n");
    buf_free(&out);
    metrics_free(metrics);
    metrics_free(NULL);
}

static void histograms_add_up(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_new();
    struct metric *ttft = metrics_histogram(metrics, "ttft_seconds", "TTFT.", "model", "m");
    metric_observe(ttft, 0);
    metric_observe(ttft, 0.0001); /* bounds are inclusive */
    metric_observe(ttft, 0.5);
    metric_observe(ttft, 1000);
    assert_true(metric_value(ttft) == 4);
    struct buf out;
    buf_init(&out, 1 << 16);
    metrics_print(metrics, &out);
    const char *text = buf_text(&out);
    assert_non_null(strstr(text, "# TYPE ttft_seconds histogram\n"));
    assert_non_null(strstr(text, "ttft_seconds_bucket{model=\"m\",le=\"0.0001\"} 2\n"));
    assert_non_null(strstr(text, "ttft_seconds_bucket{model=\"m\",le=\"0.32\"} 2\n"));
    assert_non_null(strstr(text, "ttft_seconds_bucket{model=\"m\",le=\"0.56\"} 3\n"));
    assert_non_null(strstr(text, "ttft_seconds_bucket{model=\"m\",le=\"100\"} 3\n"));
    assert_non_null(strstr(text, "ttft_seconds_bucket{model=\"m\",le=\"+Inf\"} 4\n"));
    assert_non_null(strstr(text, "ttft_seconds_sum{model=\"m\"} 1000.5001\n"));
    assert_non_null(strstr(text, "ttft_seconds_count{model=\"m\"} 4\n"));
    buf_free(&out);
    metrics_free(metrics);
}

static void *count_up(void *argument)
{
    for (int i = 0; i < 20000; i++)
        metric_add(argument, 1);
    return NULL;
}

static void no_update_is_lost(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_new();
    struct metric *counter = metrics_counter(metrics, "c_total", "C.", NULL, NULL);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_up, counter), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_true(metric_value(counter) == 40000);
    metrics_free(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_format),
        cmocka_unit_test(histograms_add_up),
        cmocka_unit_test(no_update_is_lost),
    };
    return cmocka_run_group_tests_name("base.metrics", tests, NULL, NULL);
}
