/* worker/agent/inventory.c: hwloc for cores; /proc for memory and the CPU's name. */
#include "worker/agent/inventory.h"

#include <hwloc.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static uint64_t usable_cores(void)
{
    hwloc_topology_t topology;
    if (hwloc_topology_init(&topology) != 0) {
        return 0;
    }
    int cores = 0;
    if (hwloc_topology_load(topology) == 0) {
        cores = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
        if (cores <= 0) {
            cores = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU);
        }
    }
    hwloc_topology_destroy(topology);
    return cores > 0 ? (uint64_t)cores : 0;
}

static void read_cpu(struct inventory *inventory)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[256];
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon != NULL && colon[1] == ' ') {
            snprintf(inventory->cpu, sizeof(inventory->cpu), "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
            break;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    const char *path = "c";
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
        path = "avx512";
    } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        path = "avx2";
    }
#endif
    snprintf(inventory->cpu_path, sizeof(inventory->cpu_path), "%s", path);
}

void inventory_read_memory(struct inventory *inventory)
{
    FILE *file = fopen("/proc/meminfo", "re");
    char line[128];
    inventory->memory_bytes = inventory->memory_free_bytes = 0;
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        uint64_t kib;
        if (sscanf(line, "MemTotal: %" SCNu64 " kB", &kib) == 1) {
            inventory->memory_bytes = kib << 10;
        } else if (sscanf(line, "MemAvailable: %" SCNu64 " kB", &kib) == 1) {
            inventory->memory_free_bytes = kib << 10;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

void inventory_read(struct inventory *inventory)
{
    memset(inventory, 0, sizeof(*inventory));
    inventory->cores = usable_cores();
    read_cpu(inventory);
    inventory_read_memory(inventory);
}
