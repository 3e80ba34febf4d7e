/* cli/run: the parts of `shoal run`: a model with its texts and engine, requests, streams, and the two ways to feed
 * them (one prompt, or JSON lines). One thread calls everything here; the engine's own threads stay inside it. */
#ifndef SHOAL_CLI_RUN_H
#define SHOAL_CLI_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/opts.h"
#include "base/status.h"
#include "model/desc.h"
#include "text/detok.h"
#include "text/stop.h"
#include "text/template.h"
#include "text/tokenizer.h"
#include "worker/engine/engine.h"

struct run_options {
    const char *model_path, *prompt;
    const char *system, *input;
    bool raw, jsonl, ignore_eos, stats;
    int64_t max_tokens, top_k, seed, threads, context, pool_tokens;
    double temperature, top_p, min_p;
    struct opts_list stop;
    int kv_type, output; /* indices of their choices */
    const char *cpu;
};
enum { RUN_OUTPUT_TEXT, RUN_OUTPUT_JSON };

/* run_model.c: the model's parts. */
struct run_model {
    struct model_desc *desc;
    struct tokenizer *tokenizer; /* NULL: the model brings none, ids in and out only */
    struct template *template;   /* NULL: no chat template */
    char *bos_text, *eos_text;   /* NULL: none */
    struct engine *engine;
    double load_s;
};
MUST_CHECK enum status run_model_open(const struct run_options *options, struct run_model *out, struct error *error);
void run_model_close(struct run_model *model);
/* A raw prompt's ids. */
MUST_CHECK enum status run_model_encode_prompt(const struct run_model *model, struct bytes prompt, struct ids *out,
                                               struct error *error);
/* A chat's: `root` is an object with "messages", and whatever else the template may read. */
MUST_CHECK enum status run_model_encode_chat(const struct run_model *model, const struct json *root, struct ids *out,
                                             struct error *error);

/* run_request.c: what to run. */
struct run_request {
    struct ids ids;
    uint32_t max_tokens;
    bool ignore_eos;
    bool continues; /* the output goes on with a text (no chat) */
    struct plan_sampling sampling;
    struct bytes stops[STOP_STRINGS_MAX]; /* views into the options or the line */
    size_t stops_count;
    uint32_t stop_ids[64];
    uint32_t stop_ids_count;
};
void run_request_free(struct run_request *request);
/* From the command line: options->prompt, as a chat where the model has a template and --raw was not said. */
MUST_CHECK enum status run_request_of_options(const struct run_options *options, const struct run_model *model,
                                              struct run_request *out, struct error *error);
/* From one parsed line; what it doesn't say comes from the options. `root` must outlive the request's submission. */
MUST_CHECK enum status run_request_of_line(const struct run_options *options, const struct run_model *model,
                                           const struct json *root, struct run_request *out, struct error *error);

/* run_stream.c: one stream's way from ids to text. */
struct run_stream {
    uint64_t handle;
    struct buf id;   /* JSON text of the line's id; jsonl only */
    struct ids ids;  /* new ones */
    struct buf text; /* whole characters, up to a stop string */
    struct detok detok;
    struct stop *stop;
    bool has_text;
    uint32_t stop_ids[64];
    uint32_t stop_ids_count;
    uint32_t prompt_tokens, cached_tokens;
    bool done;
    const char *finish; /* "stop", "length"; NULL: not done, or failed */
    char *failure;      /* a sentence; NULL: none */
};
struct run_stream *run_stream_new(uint64_t handle);
void run_stream_free(struct run_stream *stream);
void run_stream_fail(struct run_stream *stream, const char *sentence);
/* Hands the request to the engine under the stream's handle. */
MUST_CHECK enum status run_stream_submit(struct run_stream *stream, const struct run_model *model,
                                         const struct run_request *request, struct error *error);
/* True: a stop string is complete and the stream done; the engine's stream must be cancelled. */
MUST_CHECK bool run_stream_token(struct run_stream *stream, uint32_t id);
void run_stream_finish(struct run_stream *stream, const struct engine_event *event);
/* {"id", "ids", "text", "finish_reason"}, or {"id", "error"}; one line. */
void run_stream_json(const struct run_stream *stream, bool with_id, struct buf *out);

/* Time and tokens of steps: those that only decode, and those with prefill in them. */
struct run_stats {
    double prefill_s, decode_s;
    uint64_t prefill_tokens, decode_tokens, prompts, cached_tokens;
};
void run_stats_add(struct run_stats *stats, const struct engine_step *step, double seconds);
void run_stats_print(const struct run_stats *stats, const struct run_model *model);

/* run_jsonl.c: lines in, lines out, in order; returns the exit code. */
int run_jsonl(const struct run_options *options, struct run_model *model);

#endif
