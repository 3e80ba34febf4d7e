/* cli/run: `shoal run`: a model right here, without a cluster: one prompt whose answer is streamed, or JSON lines. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "cli/command.h"
#include "cli/run.h"

enum { PROMPT_BYTES_MAX = 64 << 20 };

static const struct opts_entry entries[] = {
    {"max-tokens", 'n', OPTS_INT, offsetof(struct run_options, max_tokens), "256", 1, 1e9, NULL, "N",
     "the most new tokens; at most what the context leaves"},
    {"temperature", 't', OPTS_REAL, offsetof(struct run_options, temperature), "0", 0, 100, NULL, "T",
     "0 takes the likeliest token each time"},
    {"top-k", 0, OPTS_INT, offsetof(struct run_options, top_k), "0", 0, 4294967295.0, NULL, "K",
     "draw from the K likeliest only; 0: off"},
    {"top-p", 0, OPTS_REAL, offsetof(struct run_options, top_p), "1", 1e-6, 1, NULL, "P",
     "draw from the likeliest that make up P together"},
    {"min-p", 0, OPTS_REAL, offsetof(struct run_options, min_p), "0", 0, 0.999999, NULL, "P",
     "leave out what is less likely than P times the likeliest"},
    {"seed", 's', OPTS_INT, offsetof(struct run_options, seed), "0", 0, 0, NULL, "N",
     "of the random numbers; the same seed gives the same text"},
    {"stop", 0, OPTS_LIST, offsetof(struct run_options, stop), NULL, 0, 0, NULL, "TEXT",
     "end before this text; may be given several times"},
    {"ignore-eos", 0, OPTS_FLAG, offsetof(struct run_options, ignore_eos), NULL, 0, 0, NULL, NULL,
     "go on to --max-tokens, whatever the model says"},
    {"raw", 0, OPTS_FLAG, offsetof(struct run_options, raw), NULL, 0, 0, NULL, NULL,
     "go on with PROMPT as a text, also where the model has a chat template"},
    {"system", 0, OPTS_TEXT, offsetof(struct run_options, system), NULL, 0, 0, NULL, "TEXT",
     "a system message before the prompt"},
    {"jsonl", 0, OPTS_FLAG, offsetof(struct run_options, jsonl), NULL, 0, 0, NULL, NULL,
     "requests are JSON lines on standard input, answers JSON lines in the same order"},
    {"input", 'i', OPTS_TEXT, offsetof(struct run_options, input), NULL, 0, 0, NULL, "FILE",
     "with --jsonl: read the requests from here"},
    {"threads", 0, OPTS_INT, offsetof(struct run_options, threads), "0", 0, 1024, NULL, "N",
     "that compute; 0: one for each core"},
    {"kv-type", 0, OPTS_CHOICE, offsetof(struct run_options, kv_type), "f16", 0, 0, "f32|f16|bf16|int8", "TYPE",
     "of keys and values in memory"},
    {"context", 0, OPTS_INT, offsetof(struct run_options, context), "0", 0, 4294967295.0, NULL, "N",
     "tokens of prompt and answer together; 0: the model's own"},
    {"pool-tokens", 0, OPTS_INT, offsetof(struct run_options, pool_tokens), "0", 0, 1e12, NULL, "N",
     "tokens that keys and values are kept of, over all streams; 0: a sensible number"},
    {"cpu", 0, OPTS_TEXT, offsetof(struct run_options, cpu), NULL, 0, 0, NULL, "KERNELS",
     "c, avx2 or avx512; by default the best that this machine has"},
    {"output", 'o', OPTS_CHOICE, offsetof(struct run_options, output), "text", 0, 0, "text|json", "FORMAT",
     "of a single prompt's answer; json comes as one line at the end"},
    {"stats", 0, OPTS_FLAG, offsetof(struct run_options, stats), NULL, 0, 0, NULL, NULL,
     "print times and rates on standard error"},
};

static const struct opts opts = {
    .usage = "shoal run [options] MODEL [PROMPT]",
    .summary = "Runs a model right here, without a cluster. MODEL is a .gguf file or a Hugging Face folder.",
    .details =
        "PROMPT is a user's message where the model has a chat template, and a text to go on with elsewhere (or\n"
        "with --raw); without it, it is read from standard input.\n"
        "\n"
        "A line of --jsonl is {\"id\", \"prompt\" | \"ids\" | \"messages\"} with any of max_tokens, temperature,\n"
        "top_k, top_p, min_p, seed, stop, stop_ids, ignore_eos and tools; what it doesn't say comes from the\n"
        "options. \"prompt\" is always a text to go on with. Its answer is {\"id\", \"ids\", \"text\",\n"
        "\"finish_reason\"}, or {\"id\", \"error\"} and exit code 1 in the end.\n"
        "\n"
        "Examples:\n"
        "  shoal run model.gguf \"Why is exercise good for you?\"\n"
        "  echo '{\"id\": 1, \"prompt\": \"Once upon a time\", \"max_tokens\": 50}' | shoal run model.gguf --jsonl\n",
    .entries = entries,
    .entries_count = COUNT_OF(entries),
    .positional_min = 1,
    .positional_max = 2,
};

/* Prints what is new of the text. */
static void print_new(const struct run_stream *stream, size_t *printed)
{
    if (stream->text.length == *printed)
        return;
    fwrite(stream->text.data + *printed, 1, stream->text.length - *printed, stdout);
    fflush(stdout);
    *printed = stream->text.length;
}

static enum status run_stream(const struct run_options *options, struct run_model *model, struct run_stream *stream,
                              struct run_stats *stats, struct error *error)
{
    size_t printed = 0;
    while (!stream->done) {
        struct engine_step out;
        uint64_t begin_us = clock_mono_us();
        enum status status = engine_step(model->engine, clock_mono_us, &out, error);
        if (status != STATUS_OK)
            return status;
        run_stats_add(stats, &out, (double)(clock_mono_us() - begin_us) / 1e6);
        for (size_t i = 0; i < out.events_count && !stream->done; i++) {
            if (out.events[i].kind == ENGINE_FINISHED)
                run_stream_finish(stream, &out.events[i]);
            else if (run_stream_token(stream, out.events[i].id))
                engine_cancel(model->engine, stream->handle);
        }
        if (options->output == RUN_OUTPUT_TEXT)
            print_new(stream, &printed);
    }
    return STATUS_OK;
}

static void print_answer(const struct run_options *options, const struct run_stream *stream)
{
    if (options->output == RUN_OUTPUT_TEXT) {
        fputc('\n', stdout);
        return;
    }
    struct buf line;
    buf_init(&line, 512 << 20);
    run_stream_json(stream, false, &line);
    fwrite(line.data, 1, line.length, stdout);
    buf_free(&line);
}

static int run_prompt(const struct run_options *options, struct run_model *model)
{
    struct error error = {0};
    struct run_request request;
    enum status status = run_request_of_options(options, model, &request, &error);
    if (status != STATUS_OK)
        return command_fail("run", status, &error);
    struct run_stream *stream = run_stream_new(1);
    struct run_stats stats = {0};
    status = run_stream_submit(stream, model, &request, &error);
    if (status == STATUS_OK)
        status = run_stream(options, model, stream, &stats, &error);
    if (status == STATUS_OK)
        print_answer(options, stream);
    if (status == STATUS_OK && (fflush(stdout) != 0 || ferror(stdout)))
        status = error_set_errno(&error, STATUS_IO, errno, "the output cannot be written");
    if (status == STATUS_OK && options->stats)
        run_stats_print(&stats, model);
    run_stream_free(stream);
    run_request_free(&request);
    return status == STATUS_OK ? EXIT_OK : command_fail("run", status, &error);
}

/* The prompt from standard input, without the last line's end: mem_free. */
static char *read_prompt(void)
{
    struct buf text;
    buf_init(&text, PROMPT_BYTES_MAX);
    char piece[4096];
    for (size_t got; (got = fread(piece, 1, sizeof(piece), stdin)) > 0;)
        buf_append(&text, piece, got);
    if (text.overflow) {
        buf_free(&text);
        return NULL;
    }
    size_t length = text.length;
    if (length > 0 && text.data[length - 1] == '\n')
        length--;
    char *prompt = mem_strndup(buf_text(&text), length);
    buf_free(&text);
    return prompt;
}

static int usage_error(const char *sentence)
{
    fprintf(stderr, "shoal run: %s (see shoal run --help)\n", sentence);
    return EXIT_USAGE;
}

int command_run(int argc, char **argv)
{
    struct run_options options = {0};
    char **positional;
    size_t positional_count;
    int exit_code;
    if (!command_parse(&opts, argc, argv, &options, &positional, &positional_count, &exit_code))
        return exit_code;
    options.model_path = positional[0];
    options.prompt = positional_count > 1 ? positional[1] : NULL;
    if (options.jsonl && options.prompt != NULL)
        return usage_error("--jsonl reads its prompts from standard input; PROMPT is one too many");
    if (options.input != NULL && !options.jsonl)
        return usage_error("--input needs --jsonl");
    if (options.stop.count > STOP_STRINGS_MAX)
        return usage_error("too many --stop");
    char *read = NULL;
    if (!options.jsonl && options.prompt == NULL) {
        if (isatty(STDIN_FILENO))
            return usage_error("PROMPT is missing");
        read = read_prompt();
        if (read == NULL)
            return usage_error("the prompt on standard input is longer than 64 MiB");
        options.prompt = read;
    }
    struct run_model model;
    struct error error = {0};
    enum status status = run_model_open(&options, &model, &error);
    if (status == STATUS_OK) {
        exit_code = options.jsonl ? run_jsonl(&options, &model) : run_prompt(&options, &model);
        run_model_close(&model);
    } else {
        exit_code = command_fail("run", status, &error);
    }
    mem_free(read);
    return exit_code;
}
