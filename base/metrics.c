/* metrics: see metrics.h. Doubles are kept as their bits in atomic words; a histogram is one counter per bucket and a
 * sum, and its count is the buckets' total, so a printed snapshot always adds up. A mutex guards the registry's lists,
 * never the updates. */
#include "base/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/json.h"
#include "base/mem.h"

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

static const char *const kind_names[] = {"counter", "gauge", "histogram"};

static const double bounds[] = {0.0001, 0.00018, 0.00032, 0.00056, 0.001, 0.0018, 0.0032, 0.0056, 0.01,
                                0.018,  0.032,   0.056,   0.1,     0.18,  0.32,   0.56,   1,      1.8,
                                3.2,    5.6,     10,      18,      32,    56,     100};

enum { BUCKETS_COUNT = COUNT_OF(bounds) + 1 }; /* the last one is +Inf */

struct metric {
    struct metric *next;
    enum metric_kind kind;
    char *value_text;             /* the label's value, or NULL */
    _Atomic uint64_t number_bits; /* a double: the counter, the gauge, the histogram's sum */
    _Atomic uint64_t *buckets;    /* histograms only */
};

struct family {
    struct family *next;
    enum metric_kind kind;
    char *name, *help, *label;
    struct metric *series, **series_end;
};

struct metrics {
    pthread_mutex_t lock;
    struct family *families, **families_end;
};

static double double_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

struct metrics *metrics_new(void)
{
    struct metrics *metrics = mem_new(struct metrics);
    int failed = pthread_mutex_init(&metrics->lock, NULL);
    CHECK(!failed);
    metrics->families_end = &metrics->families;
    return metrics;
}

static void family_free(struct family *family)
{
    for (struct metric *metric = family->series, *next; metric != NULL; metric = next) {
        next = metric->next;
        mem_free(metric->buckets);
        mem_free(metric->value_text);
        mem_free(metric);
    }
    mem_free(family->name);
    mem_free(family->help);
    mem_free(family->label);
    mem_free(family);
}

void metrics_free(struct metrics *metrics)
{
    if (metrics == NULL)
        return;
    for (struct family *family = metrics->families, *next; family != NULL; family = next) {
        next = family->next;
        family_free(family);
    }
    pthread_mutex_destroy(&metrics->lock);
    mem_free(metrics);
}

static bool name_is_valid(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_:0123456789";
    return name[0] != '\0' && (name[0] < '0' || name[0] > '9') && name[strspn(name, allowed)] == '\0';
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static struct family *find_family(struct metrics *metrics, enum metric_kind kind, const char *name, const char *help,
                                  const char *label)
{
    for (struct family *family = metrics->families; family != NULL; family = family->next) {
        if (strcmp(family->name, name) == 0) {
            CHECK(family->kind == kind && same_text(family->label, label));
            return family;
        }
    }
    CHECK(name_is_valid(name) && (label == NULL || name_is_valid(label)));
    struct family *family = mem_new(struct family);
    family->kind = kind;
    family->name = mem_strdup(name);
    family->help = mem_strdup(help);
    family->label = label == NULL ? NULL : mem_strdup(label);
    family->series_end = &family->series;
    *metrics->families_end = family;
    metrics->families_end = &family->next;
    return family;
}

static struct metric *find_series(struct family *family, const char *value)
{
    for (struct metric *metric = family->series; metric != NULL; metric = metric->next) {
        if (same_text(metric->value_text, value))
            return metric;
    }
    struct metric *metric = mem_new(struct metric);
    metric->kind = family->kind;
    metric->value_text = value == NULL ? NULL : mem_strdup(value);
    if (metric->kind == METRIC_HISTOGRAM)
        metric->buckets = mem_new_array(_Atomic uint64_t, BUCKETS_COUNT);
    *family->series_end = metric;
    family->series_end = &metric->next;
    return metric;
}

static struct metric *find_or_add(struct metrics *metrics, enum metric_kind kind, const char *name, const char *help,
                                  const char *label, const char *value)
{
    CHECK((label == NULL) == (value == NULL));
    pthread_mutex_lock(&metrics->lock);
    struct metric *metric = find_series(find_family(metrics, kind, name, help, label), value);
    pthread_mutex_unlock(&metrics->lock);
    return metric;
}

struct metric *metrics_counter(struct metrics *metrics, const char *name, const char *help, const char *label,
                               const char *value)
{
    return find_or_add(metrics, METRIC_COUNTER, name, help, label, value);
}

struct metric *metrics_gauge(struct metrics *metrics, const char *name, const char *help, const char *label,
                             const char *value)
{
    return find_or_add(metrics, METRIC_GAUGE, name, help, label, value);
}

struct metric *metrics_histogram(struct metrics *metrics, const char *name, const char *help, const char *label,
                                 const char *value)
{
    return find_or_add(metrics, METRIC_HISTOGRAM, name, help, label, value);
}

static void add_to_number(struct metric *metric, double amount)
{
    uint64_t old = atomic_load_explicit(&metric->number_bits, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&metric->number_bits, &old, bits_of(double_of(old) + amount),
                                                  memory_order_relaxed, memory_order_relaxed))
        continue;
}

void metric_add(struct metric *metric, double amount)
{
    CHECK(metric->kind == METRIC_GAUGE || (metric->kind == METRIC_COUNTER && amount >= 0));
    add_to_number(metric, amount);
}

void metric_set(struct metric *metric, double value)
{
    CHECK(metric->kind == METRIC_GAUGE);
    atomic_store_explicit(&metric->number_bits, bits_of(value), memory_order_relaxed);
}

void metric_observe(struct metric *metric, double seconds)
{
    CHECK(metric->kind == METRIC_HISTOGRAM);
    size_t bucket = 0;
    while (bucket < COUNT_OF(bounds) && seconds > bounds[bucket])
        bucket++;
    atomic_fetch_add_explicit(&metric->buckets[bucket], 1, memory_order_relaxed);
    add_to_number(metric, seconds);
}

double metric_value(const struct metric *metric)
{
    if (metric->kind != METRIC_HISTOGRAM)
        return double_of(atomic_load_explicit(&metric->number_bits, memory_order_relaxed));
    uint64_t count = 0;
    for (size_t i = 0; i < BUCKETS_COUNT; i++)
        count += atomic_load_explicit(&metric->buckets[i], memory_order_relaxed);
    return (double)count;
}

/* Escapes as the text format wants it: backslash and line feed, and quotes in label values. */
static void print_escaped(struct buf *out, const char *text, bool quotes)
{
    for (; *text != '\0'; text++) {
        if (*text == '\\' || *text == '\n' || (quotes && *text == '"'))
            buf_append_u8(out, '\\');
        buf_append_u8(out, *text == '\n' ? 'n' : (uint8_t)*text);
    }
}

static void print_number(struct buf *out, double value)
{
    if (isnan(value))
        buf_append_text(out, "NaN");
    else if (isinf(value))
        buf_append_text(out, value > 0 ? "+Inf" : "-Inf");
    else
        json_write_number(out, value);
}

/* name_suffix{label="value",le="bound"}, up to the space in front of the number; `le` may be NULL. */
static void print_series(struct buf *out, const struct family *family, const struct metric *metric, const char *suffix,
                         const char *le)
{
    buf_printf(out, "%s%s", family->name, suffix);
    if (family->label != NULL || le != NULL)
        buf_append_u8(out, '{');
    if (family->label != NULL) {
        buf_printf(out, "%s=\"", family->label);
        print_escaped(out, metric->value_text, true);
        buf_append_text(out, le == NULL ? "\"" : "\",");
    }
    if (le != NULL)
        buf_printf(out, "le=\"%s\"", le);
    if (family->label != NULL || le != NULL)
        buf_append_u8(out, '}');
    buf_append_u8(out, ' ');
}

static void print_histogram(struct buf *out, const struct family *family, const struct metric *metric)
{
    uint64_t count = 0;
    for (size_t i = 0; i < BUCKETS_COUNT; i++) {
        char le[32] = "+Inf";
        if (i < COUNT_OF(bounds))
            snprintf(le, sizeof le, "%g", bounds[i]);
        count += atomic_load_explicit(&metric->buckets[i], memory_order_relaxed);
        print_series(out, family, metric, "_bucket", le);
        buf_printf(out, "%" PRIu64 "\n", count);
    }
    print_series(out, family, metric, "_sum", NULL);
    print_number(out, double_of(atomic_load_explicit(&metric->number_bits, memory_order_relaxed)));
    buf_append_u8(out, '\n');
    print_series(out, family, metric, "_count", NULL);
    buf_printf(out, "%" PRIu64 "\n", count);
}

static void print_family(struct buf *out, const struct family *family)
{
    buf_printf(out, "# HELP %s ", family->name);
    print_escaped(out, family->help, false);
    buf_printf(out, "\n# TYPE %s %s\n", family->name, kind_names[family->kind]);
    for (const struct metric *metric = family->series; metric != NULL; metric = metric->next) {
        if (metric->kind == METRIC_HISTOGRAM) {
            print_histogram(out, family, metric);
            continue;
        }
        print_series(out, family, metric, "", NULL);
        print_number(out, metric_value(metric));
        buf_append_u8(out, '\n');
    }
}

void metrics_print(const struct metrics *metrics, struct buf *out)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&metrics->lock;
    pthread_mutex_lock(lock);
    for (const struct family *family = metrics->families; family != NULL; family = family->next)
        print_family(out, family);
    pthread_mutex_unlock(lock);
}
