/* shoal-engine: one replica of a model as a token server, started by its node's agent. */
#include <stddef.h>
#include <stdio.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/opts.h"
#include "worker/engine/shell/shell.h"

#define TEXT(name, field, otherwise, value, help)                                                                      \
    {name, 0, OPTS_TEXT, offsetof(struct shell_options, field), otherwise, 0, 0, NULL, value, help}
#define NUMBER(name, field, otherwise, least, most, value, help)                                                       \
    {name, 0, OPTS_INT, offsetof(struct shell_options, field), otherwise, least, most, NULL, value, help}

static const struct opts_entry entries[] = {
    TEXT("identity", identity, NULL, "FILE", "the node's key file"),
    TEXT("members", members, NULL, "FILE", "the cluster's members file: whose routers may come"),
    TEXT("model", model, NULL, "PATH", "a .gguf file or a Hugging Face folder"),
    TEXT("model-name", model_name, NULL, "NAME", "what routers call it; by default the file's own id"),
    TEXT("replica", replica, NULL, "NAME", "which replica this is: model/number"),
    NUMBER("epoch", epoch, "0", 0, 9e15, "N", "of its placement"),
    TEXT("listen", listen, "tcp://127.0.0.1:0", "ENDPOINT", "where routers dial"),
    TEXT("agent-endpoint", agent_endpoint, NULL, "ENDPOINT", "where to report; by default nowhere"),
    TEXT("job", job, NULL, "FOLDER", "session token in, engine.json out"),
    NUMBER("threads", threads, "0", 0, 4096, "N", "compute threads; 0: all cores"),
    NUMBER("nice", nice, "0", 0, 19, "N", "niceness of the compute threads; the one that moves messages keeps ours"),
    NUMBER("pool-tokens", pool_tokens, "0", 0, 1e9, "N", "KV pool; 0: what fits model and machine"),
    NUMBER("context", context_tokens, "0", 0, 1e9, "N", "longest prompt and answer; 0: the model's own"),
    NUMBER("streams-max", streams_max, "0", 0, 4096, "N", "streams in the batch; 0: 64"),
    NUMBER("step-ms", step_ms, "100", 0, 60000, "MS", "predicted time that a step with prefill may take"),
    {"kv-type", 0, OPTS_CHOICE, offsetof(struct shell_options, kv_type), "f16", 0, 0, "f32|f16|bf16|int8", "TYPE",
     "what keys and values are kept as"},
    TEXT("cpu", cpu_path, NULL, "PATH", "kernels: c, avx2 or avx512; by default $SHOAL_CPU, else the best"),
    {"log-level", 0, OPTS_CHOICE, offsetof(struct shell_options, log_level), "info", 0, 0, "debug|info|warn|error",
     "LEVEL", "what goes to stderr"},
};

static const struct opts options_table = {
    .usage = "shoal-engine --identity FILE --members FILE --model PATH --replica NAME [options]",
    .summary = "One replica of a model as a token server: ids in, ids out.",
    .entries = entries,
    .entries_count = sizeof(entries) / sizeof(entries[0]),
};

int main(int argc, char **argv)
{
    struct shell_options options = {0};
    struct error error = {0};
    char **positional;
    size_t positional_count;
    enum status status = opts_parse(&options_table, argc, argv, &options, &positional, &positional_count, &error);
    if (status == STATUS_CANCELLED) {
        opts_help(&options_table, stdout);
        return 0;
    }
    if (status == STATUS_OK && (options.identity == NULL || options.members == NULL || options.model == NULL ||
                                options.replica == NULL)) {
        status = error_set(&error, STATUS_INVALID, "--identity, --members, --model and --replica are needed");
    }
    if (status != STATUS_OK) {
        fprintf(stderr, "shoal-engine: %s\n", error.text);
        return 2;
    }
    log_init((enum log_level)options.log_level, "engine");
    (void)file_raise_open_max();
    struct shell *shell = mem_new(struct shell);
    status = shell_open(shell, &options, &error);
    if (status != STATUS_OK) {
        LOG_E("engine", "start_failed", "status=%s detail=%s", status_name(status), log_quoted(error.text));
        return 1;
    }
    int exit_code = shell_run(shell);
    shell_close(shell);
    mem_free(shell);
    return exit_code;
}
