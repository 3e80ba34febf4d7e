/* worker/agent/agent_store.c: what an agent must remember over its own death, as JSON: the last assignment taken, and
 * per replica the job, the process that may still run it, and the highest epoch that this node ever ran. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/crypto.h"
#include "base/json.h"
#include "base/mem.h"
#include "worker/agent/agent.h"

static void save_job(struct buf *out, const char *name, const struct agent_job *job)
{
    buf_printf(out, "\"%s\":{\"replica\":", name);
    json_write_text(out, job->replica);
    buf_printf(out, ",\"epoch\":%" PRIu64 ",\"model\":", job->epoch);
    json_write_text(out, job->model);
    buf_append_text(out, ",\"path\":");
    json_write_text(out, job->path);
    buf_printf(out, ",\"pool_tokens\":%" PRIu64 ",\"context_tokens\":%" PRIu64 ",\"threads\":%" PRIu64 ",\"kv_type\":",
               job->pool_tokens, job->context_tokens, job->threads);
    json_write_text(out, job->kv_type);
    buf_append_u8(out, '}');
}

void agent_save(const struct agent *agent, struct buf *out)
{
    buf_printf(out, "{\"format\":1,\"assign_incarnation\":%" PRIu64 ",\"assign_index\":%" PRIu64 ",\"engines\":[",
               agent->assign_incarnation, agent->assign_index);
    for (size_t i = 0; i < agent->engines_count; i++) {
        const struct agent_engine *engine = agent->engines[i];
        char token[2 * AGENT_TOKEN_BYTES + 1];
        crypto_hex(token, engine->token, AGENT_TOKEN_BYTES);
        buf_append_text(out, i == 0 ? "\n{" : ",\n{");
        save_job(out, "job", &engine->job);
        buf_append_u8(out, ',');
        save_job(out, "running", &engine->running);
        buf_printf(out,
                   ",\"wanted\":%s,\"pid\":%d,\"start_ticks\":%" PRIu64 ",\"token\":\"%s\",\"epoch_highest\":%" PRIu64
                   "}",
                   engine->wanted ? "true" : "false", engine->pid, engine->start_ticks, token, engine->epoch_highest);
    }
    buf_append_text(out, "]}\n");
}

static bool load_text(char *to, size_t to_size, const struct json *value)
{
    struct bytes text = json_string(value);
    if (text.length >= to_size) {
        return false;
    }
    memset(to, 0, to_size);
    if (text.length > 0) {
        memcpy(to, text.data, text.length);
    }
    return true;
}

static bool load_job(struct agent_job *job, const struct json *from)
{
    job->epoch = (uint64_t)json_integer(json_get(from, "epoch"), 0);
    job->pool_tokens = (uint64_t)json_integer(json_get(from, "pool_tokens"), 0);
    job->context_tokens = (uint64_t)json_integer(json_get(from, "context_tokens"), 0);
    job->threads = (uint64_t)json_integer(json_get(from, "threads"), 0);
    return load_text(job->replica, sizeof(job->replica), json_get(from, "replica")) &&
           load_text(job->model, sizeof(job->model), json_get(from, "model")) &&
           load_text(job->path, sizeof(job->path), json_get(from, "path")) &&
           load_text(job->kv_type, sizeof(job->kv_type), json_get(from, "kv_type"));
}

static bool load_engine(struct agent_engine *engine, const struct json *from, uint64_t now_us,
                        bool (*alive)(int pid, uint64_t start_ticks))
{
    const char *token = json_text(json_get(from, "token"));
    if (!load_job(&engine->job, json_get(from, "job")) || !load_job(&engine->running, json_get(from, "running")) ||
        engine->job.replica[0] == '\0' || token == NULL ||
        crypto_unhex(engine->token, AGENT_TOKEN_BYTES, token) != STATUS_OK) {
        return false;
    }
    engine->wanted = json_bool(json_get(from, "wanted"), false);
    engine->epoch_highest = (uint64_t)json_integer(json_get(from, "epoch_highest"), 0);
    int64_t pid = json_integer(json_get(from, "pid"), 0);
    uint64_t start_ticks = (uint64_t)json_integer(json_get(from, "start_ticks"), 0);
    if (pid < 0 || pid > INT32_MAX) {
        return false;
    }
    engine->phase = AGENT_WAITING;
    engine->phase_us = now_us;
    if (pid > 0 && alive((int)pid, start_ticks)) {
        engine->pid = (int)pid;
        engine->start_ticks = start_ticks;
        engine->adopted = true;
        engine->phase = AGENT_STARTING; /* until it reports to us */
    }
    return true;
}

enum status agent_load(struct agent *agent, struct bytes text, uint64_t now_us,
                       bool (*alive)(int pid, uint64_t start_ticks), struct error *error)
{
    CHECK(agent->engines_count == 0);
    struct json *root = NULL;
    enum status status = json_parse(text, &root, error);
    if (status != STATUS_OK) {
        return status;
    }
    const struct json *engines = json_get(root, "engines");
    if (json_integer(json_get(root, "format"), 0) != 1 || json_count(engines) > AGENT_ENGINES_MAX) {
        status = error_set(error, STATUS_CORRUPT, "not an agent's state of format 1");
    }
    for (size_t i = 0; status == STATUS_OK && i < json_count(engines); i++) {
        struct agent_engine *engine = mem_new(struct agent_engine);
        agent->engines[agent->engines_count++] = engine;
        if (!load_engine(engine, json_at(engines, i), now_us, alive)) {
            status = error_set(error, STATUS_CORRUPT, "engine %zu of the agent's state is damaged", i);
        }
    }
    if (status == STATUS_OK) {
        agent->assign_incarnation = (uint64_t)json_integer(json_get(root, "assign_incarnation"), 0);
        agent->assign_index = (uint64_t)json_integer(json_get(root, "assign_index"), 0);
    } else {
        agent_free(agent);
    }
    json_free(root);
    return status;
}
