/* router/openai_request: the JSON body of /v1/chat/completions or /v1/completions as a checked struct.
 *
 * One table names every field of both endpoints. A field that shoal doesn't do, and that would change the result, is a
 * 400 that names it; its neutral value (n: 1, presence_penalty: 0, logit_bias: {}, ...) is accepted, null means absent
 * everywhere, and fields that change nothing (user, metadata, ...) are ignored. An unknown field is a 400. docs/API.md
 * lists them. Pure: no I/O; bounded by the body's length. */
#ifndef SHOAL_ROUTER_OPENAI_REQUEST_H
#define SHOAL_ROUTER_OPENAI_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/json.h"
#include "router/openai_error.h"

enum openai_kind { OPENAI_CHAT, OPENAI_COMPLETION };

enum { OPENAI_STOPS_MAX = 16, OPENAI_STOP_BYTES_MAX = 256, OPENAI_COMPLETION_TOKENS_DEFAULT = 16 };

struct openai_request {
    enum openai_kind kind;
    struct json *root;    /* the body; every view below points into it */
    struct json *context; /* chat: what the template sees: {"messages": [...], chat_template_kwargs...} */
    struct bytes model;
    struct bytes prompt;           /* completion: text */
    const struct json *prompt_ids; /* completion: an array of token ids instead, each within uint32; NULL: text */
    bool has_prompt;
    bool stream;
    bool include_usage;  /* stream_options.include_usage */
    uint32_t max_tokens; /* 0: not given */
    double temperature;  /* 1 by default, as the public API */
    double top_p;        /* (0, 1] */
    double min_p;
    uint32_t top_k;
    uint64_t seed;
    bool has_seed;
    bool ignore_eos;
    struct bytes stop[OPENAI_STOPS_MAX];
    size_t stop_count;
};

/* False: *error says which answer to give, and there is nothing to free. On success openai_request_free ends it. */
bool openai_request_read(struct openai_request *request, enum openai_kind kind, struct bytes body,
                         struct openai_error *error);
void openai_request_free(struct openai_request *request);

/* The messages array as the template shall see it, appended as JSON: checked roles, content parts joined by newlines,
 * developer as system (open models were trained with that name). */
bool openai_messages_write(const struct json *messages, struct buf *out, struct openai_error *error);
/* "an array", "a string", ... for sentences about types. */
const char *openai_kind_name(const struct json *value);

#endif
