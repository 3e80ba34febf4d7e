/* assembly: see assembly.h. */
#include "coordinator/consensus/assembly.h"

#include <string.h>

#include "base/check.h"

static void clear(struct assembly *assembly)
{
    raft_configuration_close(&assembly->head.configuration);
    buf_free(&assembly->data);
    *assembly = (struct assembly){0};
}

void assemblies_free(struct assemblies *assemblies)
{
    for (size_t i = 0; i < COUNT_OF(assemblies->list); i++)
        clear(&assemblies->list[i]);
}

/* The sender's place, or a free one; NULL when all are taken. */
static struct assembly *place_of(struct assemblies *assemblies, raft_id from)
{
    struct assembly *unused = NULL;
    for (size_t i = 0; i < COUNT_OF(assemblies->list); i++) {
        struct assembly *assembly = &assemblies->list[i];
        if (assembly->from == from)
            return assembly;
        if (assembly->from == 0 && unused == NULL)
            unused = assembly;
    }
    return unused;
}

static bool continues(const struct assembly *assembly, raft_id from, const struct rpc_chunk *chunk)
{
    const struct rpc_chunk *head = &assembly->head;
    return assembly->from == from && chunk->offset == assembly->data.length &&
           chunk->total_bytes == head->total_bytes && chunk->term == head->term &&
           chunk->last_index == head->last_index && chunk->last_term == head->last_term &&
           chunk->configuration_index == head->configuration_index;
}

static void make_message(struct assembly *assembly, struct raft_message *out)
{
    struct raft_buffer data = {.base = raft_malloc(assembly->data.length + 1), .len = assembly->data.length};
    CHECK(data.base != NULL);
    if (data.len > 0)
        memcpy(data.base, assembly->data.data, data.len);
    out->type = RAFT_IO_INSTALL_SNAPSHOT;
    out->install_snapshot = (struct raft_install_snapshot){.term = assembly->head.term,
                                                           .last_index = assembly->head.last_index,
                                                           .last_term = assembly->head.last_term,
                                                           .conf = assembly->head.configuration,
                                                           .conf_index = assembly->head.configuration_index,
                                                           .data = data};
    raft_configuration_init(&assembly->head.configuration); /* libraft's from here on */
    clear(assembly);
}

bool assemblies_add(struct assemblies *assemblies, raft_id from, struct rpc_chunk *chunk, struct raft_message *out)
{
    struct assembly *assembly = place_of(assemblies, from);
    if (assembly != NULL && chunk->offset == 0) {
        clear(assembly);
        assembly->from = from;
        assembly->head = *chunk;
        buf_init(&assembly->data, RPC_SNAPSHOT_BYTES_MAX);
    } else {
        raft_configuration_close(&chunk->configuration);
        if (assembly == NULL)
            return false;
        if (!continues(assembly, from, chunk)) {
            clear(assembly);
            return false;
        }
    }
    buf_append_bytes(&assembly->data, chunk->data);
    if (assembly->data.length < assembly->head.total_bytes)
        return false;
    make_message(assembly, out);
    return true;
}
