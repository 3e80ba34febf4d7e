/* words: one thread for what would hold up the loop: opening a model's tokenizer and template, and encoding long texts.
 *
 * Short texts are encoded on the spot. Jobs and results are two lists under one lock; their number is bounded by what
 * the core admits. A text_model is immutable, so the thread may use it beside the loop. */
#include <pthread.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "router/shell/shell.h"

enum { ENCODE_HERE_BYTES_MAX = 16 << 10 };

struct job {
    struct list node;
    uint64_t target;
    char *path;                    /* a load */
    const struct text_model *with; /* an encode */
    const struct openai_request *request;
    int64_t wall_s;
    /* Results. */
    struct text_model *words;
    struct error error;
    struct router_encoded encoded;
};

struct words {
    struct shell *shell;
    struct loop_wake wake;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct list jobs;
    struct list done;
    bool stop;
};

static void encode(struct job *job)
{
    ids_init(&job->encoded.ids, TEXT_MODEL_IDS_MAX);
    job->encoded.ok = text_model_encode(job->with, job->request, job->wall_s, &job->encoded.ids, &job->encoded.error);
}

static void work(struct job *job)
{
    if (job->path == NULL) {
        encode(job);
    } else if (text_model_open(job->path, &job->words, &job->error) != STATUS_OK) {
        job->words = NULL;
    }
}

static void *run(void *context)
{
    struct words *words = context;
    pthread_mutex_lock(&words->lock);
    while (!words->stop) {
        struct list *node = list_first(&words->jobs);
        if (node == NULL) {
            pthread_cond_wait(&words->changed, &words->lock);
            continue;
        }
        list_remove(node);
        pthread_mutex_unlock(&words->lock);
        work(LIST_ENTRY(node, struct job, node));
        pthread_mutex_lock(&words->lock);
        list_push_back(&words->done, node);
        loop_wake_send(&words->wake);
    }
    pthread_mutex_unlock(&words->lock);
    return NULL;
}

static void give_back(struct words *words, struct job *job)
{
    struct router_event event = {.target = job->target};
    if (job->path != NULL) {
        event.kind = ROUTER_TEXT_LOADED;
        event.words = job->words;
        event.why = job->error.text;
    } else {
        event.kind = ROUTER_ENCODED;
        event.encoded = &job->encoded;
    }
    shell_step(words->shell, &event);
    mem_free(job->path);
    mem_free(job);
}

static void woken(struct loop_wake *wake)
{
    struct words *words = wake->context;
    for (;;) {
        pthread_mutex_lock(&words->lock);
        struct list *node = list_first(&words->done);
        if (node != NULL) {
            list_remove(node);
        }
        pthread_mutex_unlock(&words->lock);
        if (node == NULL) {
            return;
        }
        give_back(words, LIST_ENTRY(node, struct job, node));
    }
}

struct words *words_open(struct shell *shell)
{
    struct words *words = mem_new(struct words);
    words->shell = shell;
    list_init(&words->jobs);
    list_init(&words->done);
    loop_wake_init(&shell->loop, &words->wake, words, woken);
    CHECK(pthread_mutex_init(&words->lock, NULL) == 0 && pthread_cond_init(&words->changed, NULL) == 0);
    CHECK(pthread_create(&words->thread, NULL, run, words) == 0);
    return words;
}

static void drop_jobs(struct list *jobs)
{
    LIST_FOR_EACH (node, jobs) {
        struct job *job = LIST_ENTRY(node, struct job, node);
        list_remove(node);
        text_model_drop(job->words);
        if (job->path == NULL) {
            ids_free(&job->encoded.ids);
        }
        mem_free(job->path);
        mem_free(job);
    }
}

void words_close(struct words *words)
{
    pthread_mutex_lock(&words->lock);
    words->stop = true;
    pthread_cond_signal(&words->changed);
    pthread_mutex_unlock(&words->lock);
    CHECK(pthread_join(words->thread, NULL) == 0);
    drop_jobs(&words->jobs);
    drop_jobs(&words->done);
    pthread_cond_destroy(&words->changed);
    pthread_mutex_destroy(&words->lock);
    loop_wake_close(&words->wake);
    loop_release(&words->shell->loop, words, mem_free);
}

static void enqueue(struct words *words, struct job *job)
{
    pthread_mutex_lock(&words->lock);
    list_push_back(&words->jobs, &job->node);
    pthread_cond_signal(&words->changed);
    pthread_mutex_unlock(&words->lock);
}

void words_load(struct words *words, uint64_t model, const char *path)
{
    struct job *job = mem_new(struct job);
    job->target = model;
    job->path = mem_strdup(path);
    enqueue(words, job);
}

void words_encode(struct words *words, const struct router_action *action)
{
    struct job *job = mem_new(struct job);
    job->target = action->target;
    job->with = action->text;
    job->request = action->request;
    job->wall_s = action->wall_s;
    if (action->body_bytes > ENCODE_HERE_BYTES_MAX) {
        enqueue(words, job);
    } else {
        encode(job);
        give_back(words, job);
    }
}
