/* worker/engine/shell/compute.c: see compute.h. Sleeping is by one condition variable; the rings themselves are
 * lock-free, so a running engine never waits for the loop's lock. */
#include "worker/engine/shell/compute.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/ring.h"
#include "model/desc.h"

enum { COMMANDS_MAX = 4096, OUTPUTS_MAX = 1024 };

enum command_kind { COMMAND_SUBMIT, COMMAND_CANCEL, COMMAND_SNAPSHOT };

struct command {
    enum command_kind kind;
    struct engine_request request; /* ids and stop_ids are owned */
    uint64_t handle, channel;
};

struct compute {
    struct compute_config config;
    pthread_t thread;
    struct ring commands, outputs;
    struct loop_wake wake;
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* a command came, an output was taken, or stop */
    atomic_bool stop;
    /* The engine thread's own. */
    struct model_desc *desc;
    struct engine *engine;
};

static void command_free(struct command *command)
{
    mem_free((void *)(uintptr_t)command->request.ids);
    mem_free((void *)(uintptr_t)command->request.stop_ids);
    mem_free(command);
}

void output_free(struct output *output)
{
    mem_free(output->events);
    mem_free(output->kv_events);
    mem_free(output->hashes);
    mem_free(output);
}

static void signal_change(struct compute *compute)
{
    pthread_mutex_lock(&compute->mutex);
    pthread_cond_signal(&compute->changed);
    pthread_mutex_unlock(&compute->mutex);
}

/* Engine thread: hands an output over, waiting while the loop is behind. */
static void put_output(struct compute *compute, struct output *output)
{
    while (ring_push(&compute->outputs, output) == STATUS_FULL) {
        loop_wake_send(&compute->wake);
        pthread_mutex_lock(&compute->mutex);
        if (ring_count(&compute->outputs) >= OUTPUTS_MAX) {
            pthread_cond_wait(&compute->changed, &compute->mutex);
        }
        pthread_mutex_unlock(&compute->mutex);
    }
    loop_wake_send(&compute->wake);
}

static struct output *new_output(enum output_kind kind)
{
    struct output *output = mem_new(struct output);
    output->kind = kind;
    return output;
}

static bool load(struct compute *compute)
{
    struct error error = {0};
    enum status status = model_open(compute->config.model_path, NULL, &compute->desc, &error);
    if (status == STATUS_OK) {
        compute->config.engine.desc = compute->desc;
        status = engine_open(&compute->config.engine, &compute->engine, &error);
    }
    struct output *output = new_output(status == STATUS_OK ? OUTPUT_READY : OUTPUT_FAILED);
    if (status == STATUS_OK) {
        output->info = *engine_info(compute->engine);
        snprintf(output->model_id, sizeof(output->model_id), "%s", compute->desc->id);
        engine_load(compute->engine, &output->load);
    }
    output->error = error;
    put_output(compute, output);
    return status == STATUS_OK;
}

static void run_submit(struct compute *compute, const struct command *command)
{
    struct error error = {0};
    enum status status = engine_submit(compute->engine, &command->request, &error);
    if (status != STATUS_OK) {
        struct output *output = new_output(OUTPUT_REFUSED);
        error.status = status;
        output->handle = command->request.handle;
        output->error = error;
        put_output(compute, output);
    }
}

struct hashes {
    uint8_t *data;
    size_t count, capacity;
};

static void collect_hash(void *context, const uint8_t hash[16])
{
    struct hashes *hashes = context;
    if (hashes->count == hashes->capacity) {
        hashes->capacity = hashes->capacity == 0 ? 1024 : hashes->capacity * 2;
        hashes->data = mem_realloc_array(hashes->data, hashes->capacity, 16);
    }
    memcpy(hashes->data + hashes->count * 16, hash, 16);
    hashes->count++;
}

static void run_snapshot(struct compute *compute, uint64_t channel)
{
    struct hashes hashes = {0};
    engine_kv_snapshot(compute->engine, &hashes, collect_hash);
    struct output *output = new_output(OUTPUT_SNAPSHOT);
    output->channel = channel;
    output->hashes = hashes.data;
    output->hashes_count = hashes.count;
    put_output(compute, output);
}

static void run_commands(struct compute *compute)
{
    struct command *command;
    while ((command = ring_pop(&compute->commands)) != NULL) {
        switch (command->kind) {
        case COMMAND_SUBMIT:
            run_submit(compute, command);
            break;
        case COMMAND_CANCEL:
            engine_cancel(compute->engine, command->handle);
            break;
        case COMMAND_SNAPSHOT:
            run_snapshot(compute, command->channel);
            break;
        }
        command_free(command);
    }
}

/* One step and its output; false when the engine can't go on. */
static bool run_step(struct compute *compute)
{
    struct engine_step step;
    struct error error = {0};
    enum status status = engine_step(compute->engine, clock_mono_us, &step, &error);
    struct output *output = new_output(status == STATUS_OK ? OUTPUT_STEP : OUTPUT_FAILED);
    if (status == STATUS_OK) {
        output->events = mem_dup(step.events, step.events_count * sizeof(*step.events));
        output->events_count = step.events_count;
        output->kv_events = mem_dup(step.kv_events, step.kv_events_count * sizeof(*step.kv_events));
        output->kv_events_count = step.kv_events_count;
        engine_load(compute->engine, &output->load);
    }
    output->error = error;
    put_output(compute, output);
    return status == STATUS_OK;
}

static void wait_for_command(struct compute *compute)
{
    pthread_mutex_lock(&compute->mutex);
    while (ring_count(&compute->commands) == 0 && !atomic_load(&compute->stop)) {
        pthread_cond_wait(&compute->changed, &compute->mutex);
    }
    pthread_mutex_unlock(&compute->mutex);
}

static void *compute_main(void *argument)
{
    struct compute *compute = argument;
    if (compute->config.nice > 0 && setpriority(PRIO_PROCESS, (id_t)gettid(), compute->config.nice) != 0) {
        LOG_W("engine", "nice_refused", "nice=%d", compute->config.nice); /* the pool's threads inherit it */
    }
    bool going = load(compute);
    while (going && !atomic_load(&compute->stop)) {
        run_commands(compute);
        if (engine_idle(compute->engine)) {
            wait_for_command(compute);
        } else {
            going = run_step(compute);
        }
    }
    if (going) {
        put_output(compute, new_output(OUTPUT_STOPPED));
    }
    return NULL;
}

static void woken(struct loop_wake *wake)
{
    struct compute *compute = wake->context;
    compute->config.outputs_ready(compute->config.context);
}

enum status compute_start(const struct compute_config *config, struct compute **out, struct error *error)
{
    struct compute *compute = mem_new(struct compute);
    compute->config = *config;
    ring_init(&compute->commands, COMMANDS_MAX);
    ring_init(&compute->outputs, OUTPUTS_MAX);
    pthread_mutex_init(&compute->mutex, NULL);
    pthread_cond_init(&compute->changed, NULL);
    loop_wake_init(config->loop, &compute->wake, compute, woken);
    int problem = pthread_create(&compute->thread, NULL, compute_main, compute);
    if (problem != 0) {
        return error_set_errno(error, STATUS_IO, problem, "the engine thread can't be started");
    }
    *out = compute;
    return STATUS_OK;
}

static void release(void *memory)
{
    mem_free(memory);
}

void compute_join(struct compute *compute)
{
    struct command *command;
    struct output *output;
    pthread_join(compute->thread, NULL);
    while ((command = ring_pop(&compute->commands)) != NULL) {
        command_free(command);
    }
    while ((output = ring_pop(&compute->outputs)) != NULL) {
        output_free(output);
    }
    if (compute->engine != NULL) {
        engine_close(compute->engine);
    }
    if (compute->desc != NULL) {
        model_close(compute->desc);
    }
    ring_free(&compute->commands);
    ring_free(&compute->outputs);
    pthread_cond_destroy(&compute->changed);
    pthread_mutex_destroy(&compute->mutex);
    loop_wake_close(&compute->wake);
    loop_release(compute->config.loop, compute, release);
}

static enum status put_command(struct compute *compute, struct command *command)
{
    enum status status = ring_push(&compute->commands, command);
    if (status != STATUS_OK) {
        command_free(command);
        return status;
    }
    signal_change(compute);
    return STATUS_OK;
}

enum status compute_submit(struct compute *compute, const struct engine_request *request)
{
    struct command *command = mem_new(struct command);
    command->kind = COMMAND_SUBMIT;
    command->request = *request;
    command->request.ids = mem_dup(request->ids, request->ids_count * sizeof(*request->ids));
    command->request.stop_ids = mem_dup(request->stop_ids, request->stop_ids_count * sizeof(*request->stop_ids));
    return put_command(compute, command);
}

enum status compute_cancel(struct compute *compute, uint64_t handle)
{
    struct command *command = mem_new(struct command);
    command->kind = COMMAND_CANCEL;
    command->handle = handle;
    return put_command(compute, command);
}

enum status compute_snapshot(struct compute *compute, uint64_t channel)
{
    struct command *command = mem_new(struct command);
    command->kind = COMMAND_SNAPSHOT;
    command->channel = channel;
    return put_command(compute, command);
}

void compute_stop(struct compute *compute)
{
    atomic_store(&compute->stop, true);
    signal_change(compute);
}

struct output *compute_output(struct compute *compute)
{
    struct output *output = ring_pop(&compute->outputs);
    if (output != NULL) {
        signal_change(compute);
    }
    return output;
}
