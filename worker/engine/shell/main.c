/* shoal-engine: one rank of one replica: a token server. Started by the node's agent (shoal-worker). */
#include <stddef.h>
#include <stdio.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/opts.h"
#include "worker/engine/shell/shell.h"

static const struct opts_entry entries[] = {
    {"identity", 0, OPTS_TEXT, offsetof(struct shell_options, identity), NULL, 0, 0, NULL, "FILE",
     "the node's key file"},
    {"members", 0, OPTS_TEXT, offsetof(struct shell_options, members), NULL, 0, 0, NULL, "FILE",
     "the cluster's members file: whose routers may come"},
    {"model", 0, OPTS_TEXT, offsetof(struct shell_options, model), NULL, 0, 0, NULL, "PATH",
     "a .gguf file or a Hugging Face folder"},
    {"model-name", 0, OPTS_TEXT, offsetof(struct shell_options, model_name), NULL, 0, 0, NULL, "NAME",
     "what it is called; by default the path's name without the quantisation"},
    {"replica", 0, OPTS_TEXT, offsetof(struct shell_options, replica), "engine/0", 0, 0, NULL, "NAME",
     "model/number, from the placement"},
    {"epoch", 0, OPTS_INT, offsetof(struct shell_options, epoch), "1", 1, 9e18, NULL, "N", "of the placement"},
    {"agent-endpoint", 0, OPTS_TEXT, offsetof(struct shell_options, agent_endpoint), NULL, 0, 0, NULL, "ENDPOINT",
     "where the node's agent listens; without it the engine reports to nobody"},
    {"listen", 0, OPTS_TEXT, offsetof(struct shell_options, listen), "tcp://127.0.0.1:0", 0, 0, NULL, "ENDPOINT",
     "where routers dial; port 0 takes a free one"},
    {"job", 0, OPTS_TEXT, offsetof(struct shell_options, job), NULL, 0, 0, NULL, "FOLDER",
     "holds the session token, gets engine.json"},
    {"threads", 0, OPTS_INT, offsetof(struct shell_options, threads), "0", 0, 1024, NULL, "N",
     "that compute; 0: one for each core"},
    {"nice", 0, OPTS_INT, offsetof(struct shell_options, nice), "0", 0, 19, NULL, "N",
     "niceness of the threads that compute; the one that moves messages keeps ours"},
    {"kv-type", 0, OPTS_CHOICE, offsetof(struct shell_options, kv_type), "f16", 0, 0, "f32|f16|bf16|int8", "TYPE",
     "of keys and values in memory"},
    {"pool-tokens", 0, OPTS_INT, offsetof(struct shell_options, pool_tokens), "0", 0, 1e12, NULL, "N",
     "tokens that keys and values are kept of, over all streams; 0: a sensible number"},
    {"context", 0, OPTS_INT, offsetof(struct shell_options, context), "0", 0, 4294967295.0, NULL, "N",
     "tokens of prompt and answer together; 0: the model's own"},
    {"streams", 0, OPTS_INT, offsetof(struct shell_options, streams), "64", 1, 4096, NULL, "N",
     "that run at once; four times as many may wait"},
    {"step-tokens", 0, OPTS_INT, offsetof(struct shell_options, step_tokens), "512", 1, 65536, NULL, "N",
     "computed in one step at most"},
    {"step-ms", 0, OPTS_INT, offsetof(struct shell_options, step_ms), "100", 0, 60000, NULL, "MS",
     "predicted time of a step with prefill in it; 0: no bound"},
    {"cpu", 0, OPTS_TEXT, offsetof(struct shell_options, cpu), NULL, 0, 0, NULL, "KERNELS",
     "c, avx2 or avx512; by default the best that this machine has"},
    {"log-level", 0, OPTS_CHOICE, offsetof(struct shell_options, log_level), "info", 0, 0, "debug|info|warn|error",
     "LEVEL", "what goes to stderr"},
};

static const struct opts options_table = {
    .usage = "shoal-engine --identity FILE --members FILE --model PATH [options]",
    .summary = "One replica of a model as a token server: ids in, ids out.",
    .entries = entries,
    .entries_count = COUNT_OF(entries),
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
    if (status == STATUS_OK && (options.identity == NULL || options.members == NULL || options.model == NULL))
        status = error_set(&error, STATUS_INVALID, "--identity, --members and --model are needed");
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
        mem_free(shell);
        return 1;
    }
    int exit_code = shell_run(shell);
    shell_close(shell);
    mem_free(shell);
    return exit_code;
}
