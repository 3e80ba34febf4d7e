/* worker/agent/inventory: what this node has: usable cores (hwloc, by the process's own mask), memory, CPU.
 *
 * Read once at start and memory again with every heartbeat's turn; a fact that can't be read is 0 or "" (placement then
 * gives the node nothing), never an error. */
#ifndef SHOAL_WORKER_AGENT_INVENTORY_H
#define SHOAL_WORKER_AGENT_INVENTORY_H

#include <stdint.h>

struct inventory {
    uint64_t cores;
    uint64_t memory_bytes;
    uint64_t memory_free_bytes;
    char cpu[129];
    char cpu_path[17]; /* the best kernels that this CPU can run: c, avx2, avx512 */
};

void inventory_read(struct inventory *inventory);
void inventory_read_memory(struct inventory *inventory); /* memory_bytes and memory_free_bytes only */

#endif
