/* pool: threads over pthread, meetings over one generation counter and a futex.
 *
 * A barrier's last arrival advances the generation and wakes whoever sleeps on it; the others spin on the generation
 * for a few tens of microseconds first, since the work between two meetings of a model step is about as short. */
#include "worker/engine/cpu/pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "worker/engine/cpu/cpu.h"

enum { SPINS = 2000 };

struct pool {
    unsigned threads;
    struct pool_barrier barrier;
    pool_function *function; /* NULL: the workers end */
    void *context;
    struct worker *workers; /* [threads − 1] */
};

struct worker {
    struct pool *pool;
    unsigned index;
    pthread_t thread;
};

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

void pool_barrier_init(struct pool_barrier *barrier, unsigned members, bool spin)
{
    CHECK(members > 0);
    barrier->members = members;
    barrier->spins = spin ? SPINS : 0;
    atomic_init(&barrier->arrived, 0);
    atomic_init(&barrier->generation, 0);
    atomic_init(&barrier->sleepers, 0);
}

void pool_barrier_wait(struct pool_barrier *barrier)
{
    if (barrier->members == 1)
        return;
    const uint32_t generation = atomic_load_explicit(&barrier->generation, memory_order_acquire);
    if (atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) + 1 == barrier->members) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
        atomic_store(&barrier->generation, generation + 1);
        if (atomic_load(&barrier->sleepers) > 0)
            syscall(SYS_futex, &barrier->generation, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
        return;
    }
    for (unsigned i = 0; i < barrier->spins; i++) {
        if (atomic_load_explicit(&barrier->generation, memory_order_acquire) != generation)
            return;
        pause_briefly();
    }
    atomic_fetch_add(&barrier->sleepers, 1);
    while (atomic_load(&barrier->generation) == generation)
        syscall(SYS_futex, &barrier->generation, FUTEX_WAIT_PRIVATE, generation, NULL, NULL, 0);
    atomic_fetch_sub(&barrier->sleepers, 1);
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    struct pool *pool = worker->pool;
    (void)cpu_float_mode();
    for (;;) {
        pool_barrier_wait(&pool->barrier); /* a run begins */
        if (pool->function == NULL)
            return NULL;
        pool->function(pool->context, worker->index);
        pool_barrier_wait(&pool->barrier); /* and ends */
    }
}

unsigned pool_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? (unsigned)count : 1;
}

/* Ends the workers of a pool that has fewer than its barrier counts on: opens the barrier once all of them wait. */
static void end_workers(struct pool *pool)
{
    while (atomic_load(&pool->barrier.arrived) < pool->threads - 1)
        sched_yield();
    pool->function = NULL;
    atomic_fetch_add(&pool->barrier.generation, 1);
    syscall(SYS_futex, &pool->barrier.generation, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
    for (unsigned i = 0; i + 1 < pool->threads; i++)
        pthread_join(pool->workers[i].thread, NULL);
}

enum status pool_open(unsigned threads, unsigned sharing, struct pool **out, struct error *error)
{
    const unsigned cores = pool_cores();
    if (threads == 0)
        threads = cores;
    struct pool *pool = mem_new(struct pool);
    pool_barrier_init(&pool->barrier, threads, MAX_OF(threads, sharing) <= cores);
    pool->workers = mem_new_array(struct worker, threads);
    for (pool->threads = 1; pool->threads < threads; pool->threads++) {
        struct worker *worker = &pool->workers[pool->threads - 1];
        worker->pool = pool;
        worker->index = pool->threads;
        int failed = pthread_create(&worker->thread, NULL, worker_main, worker);
        if (failed != 0) {
            end_workers(pool);
            mem_free(pool->workers);
            mem_free(pool);
            return error_set_errno(error, STATUS_IO, failed, "Could not start a compute thread");
        }
    }
    *out = pool;
    return STATUS_OK;
}

void pool_close(struct pool *pool)
{
    if (pool == NULL)
        return;
    pool->function = NULL;
    pool_barrier_wait(&pool->barrier);
    for (unsigned i = 0; i + 1 < pool->threads; i++)
        pthread_join(pool->workers[i].thread, NULL);
    mem_free(pool->workers);
    mem_free(pool);
}

unsigned pool_threads(const struct pool *pool)
{
    return pool->threads;
}

void pool_run(struct pool *pool, pool_function *function, void *context)
{
    const unsigned mode = cpu_float_mode();
    pool->function = function;
    pool->context = context;
    pool_barrier_wait(&pool->barrier);
    function(context, 0);
    pool_barrier_wait(&pool->barrier);
    cpu_float_restore(mode);
}

void pool_meet(struct pool *pool)
{
    pool_barrier_wait(&pool->barrier);
}

struct pool_range pool_share(size_t count, unsigned thread, unsigned threads)
{
    return (struct pool_range){count * thread / threads, count * (thread + 1) / threads};
}

struct pool_range pool_take(_Atomic size_t *counter, size_t count, size_t chunk)
{
    const size_t first = atomic_fetch_add_explicit(counter, chunk, memory_order_relaxed);
    return first >= count ? (struct pool_range){0, 0} : (struct pool_range){first, MIN_OF(first + chunk, count)};
}

struct pool_thread {
    void (*function)(void *);
    void *argument;
    pthread_t thread;
};

static void *thread_main(void *argument)
{
    struct pool_thread *thread = argument;
    thread->function(thread->argument);
    return NULL;
}

enum status pool_thread_start(void (*function)(void *), void *argument, struct pool_thread **out, struct error *error)
{
    struct pool_thread *thread = mem_new(struct pool_thread);
    thread->function = function;
    thread->argument = argument;
    int failed = pthread_create(&thread->thread, NULL, thread_main, thread);
    if (failed != 0) {
        mem_free(thread);
        return error_set_errno(error, STATUS_IO, failed, "Could not start a thread of the group");
    }
    *out = thread;
    return STATUS_OK;
}

void pool_thread_join(struct pool_thread *thread)
{
    if (thread == NULL)
        return;
    pthread_join(thread->thread, NULL);
    mem_free(thread);
}
