/* pool: the engine's threads, and the only place where there are any.
 *
 * A pool runs one function on all its threads at a time (the caller is thread 0); inside, the threads meet at
 * pool_barrier. Waiting spins briefly and then sleeps on a futex; with more threads than cores it never spins. Compute
 * threads treat denormals as zero. Opening can fail (NO_MEMORY, IO); nothing else does. */
#ifndef SHOAL_WORKER_ENGINE_CPU_POOL_H
#define SHOAL_WORKER_ENGINE_CPU_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* A reusable meeting of a fixed number of threads. Zero `spins` sleeps at once. */
struct pool_barrier {
    unsigned members;
    unsigned spins;
    _Alignas(64) _Atomic uint32_t arrived;
    _Alignas(64) _Atomic uint32_t generation;
    _Atomic uint32_t sleepers;
};

void pool_barrier_init(struct pool_barrier *barrier, unsigned members, bool spin);
void pool_barrier_wait(struct pool_barrier *barrier);

struct pool;
typedef void pool_function(void *context, unsigned thread);

/* threads 0: the cores that the process may use. `sharing`: how many threads in all compete for the cores, other pools
 * of the process included (0: this pool's); decides whether waiting spins. */
MUST_CHECK enum status pool_open(unsigned threads, unsigned sharing, struct pool **out, struct error *error);
void pool_close(struct pool *pool);
unsigned pool_threads(const struct pool *pool);
void pool_run(struct pool *pool, pool_function *function, void *context);
void pool_meet(struct pool *pool); /* by every thread inside a run */

/* Items [0, count) dealt to the threads of a run. Static: one contiguous share each. Dynamic: `pool_take` from a
 * counter that pool_meet's caller reset before. */
struct pool_range {
    size_t first, last;
};
struct pool_range pool_share(size_t count, unsigned thread, unsigned threads);
struct pool_range pool_take(_Atomic size_t *counter, size_t count, size_t chunk); /* empty at the end */

unsigned pool_cores(void); /* that the process may use */

/* A thread beside the pools: a member of an in-process group. */
struct pool_thread;
MUST_CHECK enum status pool_thread_start(void (*function)(void *), void *argument, struct pool_thread **out,
                                         struct error *error);
void pool_thread_join(struct pool_thread *thread); /* and frees it */

#endif
