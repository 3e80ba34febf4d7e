/* worker/engine/shell/compute.c: the engine's thread: open, warm up, then commands and steps until it is told to stop.
 */
#include "worker/engine/shell/compute.h"

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "worker/engine/cpu/pool.h"

enum { COMMANDS_MAX = 4096, REPORTS_MAX = 64 };

void report_free(struct report *report)
{
    mem_free(report->events);
    mem_free(report->kv_events);
    mem_free(report->hashes);
    mem_free(report);
}

static void push(struct compute *compute, struct report *report)
{
    pthread_mutex_lock(&compute->mutex);
    while (ring_push(&compute->reports, report) != STATUS_OK)
        pthread_cond_wait(&compute->changed, &compute->mutex);
    pthread_mutex_unlock(&compute->mutex);
    loop_wake_send(compute->wake);
}

static struct report *report_new(enum report_kind kind)
{
    struct report *report = mem_new(struct report);
    report->kind = kind;
    return report;
}

static void push_failure(struct compute *compute, const struct error *error)
{
    struct report *report = report_new(REPORT_FAILED);
    report->error = *error;
    push(compute, report);
}

static void submit(struct compute *compute, const struct command *command)
{
    struct error error = {0};
    if (engine_submit(compute->replica.engine, &command->request, &error) == STATUS_OK)
        return;
    struct report *report = report_new(REPORT_REFUSED);
    report->handle = command->handle;
    report->error = error;
    push(compute, report);
}

static void add_hash(void *context, const uint8_t hash[16])
{
    struct report *report = context;
    memcpy(report->hashes[report->hashes_count++], hash, 16);
}

static void count_hash(void *context, const uint8_t hash[16])
{
    (void)hash;
    ++*(size_t *)context;
}

static void snapshot(struct compute *compute, uint64_t channel)
{
    struct report *report = report_new(REPORT_SNAPSHOT);
    size_t count = 0;
    engine_kv_snapshot(compute->replica.engine, &count, count_hash);
    report->handle = channel;
    report->hashes = mem_alloc_array(count, sizeof(*report->hashes));
    engine_kv_snapshot(compute->replica.engine, report, add_hash);
    push(compute, report);
}

static void perform(struct compute *compute, struct command *command)
{
    switch (command->kind) {
    case COMMAND_SUBMIT:
        submit(compute, command);
        break;
    case COMMAND_CANCEL:
        engine_cancel(compute->replica.engine, command->handle);
        break;
    case COMMAND_SNAPSHOT:
        snapshot(compute, command->handle);
        break;
    case COMMAND_STOP: /* the loop has cancelled every stream before */
        compute->stopping = true;
        break;
    }
    mem_free(command);
}

static enum status step(struct compute *compute, struct error *error)
{
    struct engine_step out;
    enum status status = engine_step(compute->replica.engine, clock_mono_us, &out, error);
    if (status != STATUS_OK)
        return status;
    struct report *report = report_new(REPORT_STEP);
    engine_load(compute->replica.engine, &report->load);
    report->events = mem_dup(out.events, out.events_count * sizeof(*out.events));
    report->events_count = out.events_count;
    report->kv_events = mem_dup(out.kv_events, out.kv_events_count * sizeof(*out.kv_events));
    report->kv_events_count = out.kv_events_count;
    push(compute, report);
    return STATUS_OK;
}

static void wait_for_commands(struct compute *compute)
{
    pthread_mutex_lock(&compute->mutex);
    while (ring_count(&compute->commands) == 0)
        pthread_cond_wait(&compute->changed, &compute->mutex);
    pthread_mutex_unlock(&compute->mutex);
}

static void serve(struct compute *compute)
{
    struct error error = {0};
    for (;;) {
        for (struct command *command; (command = ring_pop(&compute->commands)) != NULL;)
            perform(compute, command);
        if (!engine_idle(compute->replica.engine)) {
            if (step(compute, &error) != STATUS_OK) {
                push_failure(compute, &error);
                return;
            }
        } else if (compute->stopping) {
            push(compute, report_new(REPORT_ENDED));
            return;
        } else {
            wait_for_commands(compute);
        }
    }
}

static void engine_thread(void *argument)
{
    struct compute *compute = argument;
    struct error error = {0};
    if (compute->nice > 0 && setpriority(PRIO_PROCESS, (id_t)gettid(), compute->nice) != 0)
        LOG_W("engine", "nice_refused", "nice=%d", compute->nice); /* the pool's threads inherit it */
    enum status status = replica_open(compute->model_path, &compute->config, &compute->replica, &error);
    if (status == STATUS_OK)
        status = replica_warm_up(&compute->replica, clock_mono_us, &error);
    if (status != STATUS_OK) {
        push_failure(compute, &error);
        return;
    }
    struct report *report = report_new(REPORT_READY);
    report->info = *engine_info(compute->replica.engine);
    engine_load(compute->replica.engine, &report->load);
    push(compute, report);
    serve(compute);
}

enum status compute_start(struct compute *compute, const char *model_path, const struct engine_config *config, int nice,
                          struct loop_wake *wake, struct error *error)
{
    *compute = (struct compute){.model_path = model_path, .nice = nice, .config = *config, .wake = wake};
    ring_init(&compute->commands, COMMANDS_MAX);
    ring_init(&compute->reports, REPORTS_MAX);
    CHECK(pthread_mutex_init(&compute->mutex, NULL) == 0 && pthread_cond_init(&compute->changed, NULL) == 0);
    return pool_thread_start(engine_thread, compute, &compute->thread, error);
}

static void signal_change(struct compute *compute)
{
    pthread_mutex_lock(&compute->mutex);
    pthread_cond_signal(&compute->changed);
    pthread_mutex_unlock(&compute->mutex);
}

enum status compute_send(struct compute *compute, struct command *command)
{
    enum status status = ring_push(&compute->commands, command);
    if (status == STATUS_OK)
        signal_change(compute);
    return status;
}

struct report *compute_receive(struct compute *compute)
{
    struct report *report = ring_pop(&compute->reports);
    if (report != NULL)
        signal_change(compute);
    return report;
}

void compute_join(struct compute *compute)
{
    pool_thread_join(compute->thread);
    for (struct command *command; (command = ring_pop(&compute->commands)) != NULL;)
        mem_free(command);
    for (struct report *report; (report = ring_pop(&compute->reports)) != NULL;)
        report_free(report);
    replica_close(&compute->replica);
    ring_free(&compute->commands);
    ring_free(&compute->reports);
    pthread_cond_destroy(&compute->changed);
    pthread_mutex_destroy(&compute->mutex);
}
