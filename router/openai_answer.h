/* router/openai_answer: answers in OpenAI's shapes: whole completions, the chunks of a stream, the list of models.
 *
 * Written by hand into a buf, without a tree. A stream is: begin (chat only: the role), text chunks, finish, usage when
 * it was asked for, done; each is one or more server-sent events ("data: {...}\n\n"). Pure; never fails (a full buf
 * sets its overflow). */
#ifndef SHOAL_ROUTER_OPENAI_ANSWER_H
#define SHOAL_ROUTER_OPENAI_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "router/openai_error.h"
#include "router/openai_request.h"

struct openai_usage {
    uint64_t prompt_tokens;
    uint64_t completion_tokens;
    uint64_t cached_tokens; /* of the prompt */
};

/* What every part of one answer repeats. */
struct openai_answer {
    enum openai_kind kind;
    const char *id;     /* "chatcmpl-..." or "cmpl-..." */
    struct bytes model; /* as it is called */
    uint64_t created_s;
    bool include_usage; /* streams: every chunk has "usage": null, and one more has the usage */
};

/* finish: "stop" or "length". */
void openai_write_completion(struct buf *out, const struct openai_answer *answer, struct bytes text, const char *finish,
                             const struct openai_usage *usage);

void openai_write_begin(struct buf *out, const struct openai_answer *answer); /* chat only */
void openai_write_text(struct buf *out, const struct openai_answer *answer, struct bytes text);
void openai_write_finish(struct buf *out, const struct openai_answer *answer, const char *finish,
                         const struct openai_usage *usage);
/* A failure after the head was sent: an event with the error's body; done follows. */
void openai_write_failed(struct buf *out, const struct openai_error *error);
void openai_write_done(struct buf *out);

/* {"object": "list", "data": [...]}: begin, one model after the other, end. */
void openai_write_models_begin(struct buf *out);
void openai_write_model(struct buf *out, bool first, struct bytes name, uint64_t created_s);
void openai_write_models_end(struct buf *out);

#endif
