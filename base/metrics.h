/* metrics: counters, gauges and histograms, printed in the Prometheus text format (0.0.4).
 *
 * A registry is filled at start; handles are then updated without allocation. One label at most per series here
 * (name, value), given at registration. Updates are atomic, so any thread may make them; printing is a snapshot. */
#ifndef SHOAL_BASE_METRICS_H
#define SHOAL_BASE_METRICS_H

#include <stdint.h>

#include "base/buf.h"

struct metrics;
struct metric;

struct metrics *metrics_new(void);
void metrics_free(struct metrics *metrics);
/* Names as Prometheus has them (shoal_streams_resumed_total). label/value may be NULL. Returns the existing series
 * when it was registered before. Texts are copied. */
struct metric *metrics_counter(struct metrics *metrics, const char *name, const char *help, const char *label,
                               const char *value);
struct metric *metrics_gauge(struct metrics *metrics, const char *name, const char *help, const char *label,
                             const char *value);
/* Buckets in seconds from 100 µs to 100 s, about 4 per decade. */
struct metric *metrics_histogram(struct metrics *metrics, const char *name, const char *help, const char *label,
                                 const char *value);
void metric_add(struct metric *metric, double amount);      /* counter, gauge */
void metric_set(struct metric *metric, double value);       /* gauge */
void metric_observe(struct metric *metric, double seconds); /* histogram */
double metric_value(const struct metric *metric);           /* counter, gauge; a histogram's count */
void metrics_print(const struct metrics *metrics, struct buf *out);

#endif
