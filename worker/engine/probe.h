/* probe: the numerics class of a kernel table: a hash of what fixed inputs give.
 *
 * Every kernel that can change a token runs on pseudo-random inputs of fixed shapes, at m = 1 and m = 5; equal class
 * means equal tokens (engine.md, Numbers). Takes well below a millisecond on the vector paths. Pure. */
#ifndef SHOAL_WORKER_ENGINE_PROBE_H
#define SHOAL_WORKER_ENGINE_PROBE_H

#include <stdint.h>

#include "worker/engine/backend.h"

uint64_t probe_class(const struct backend *backend);

#endif
