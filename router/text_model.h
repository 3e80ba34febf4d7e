/* router/text_model: a model's words: its tokenizer and chat template, without its weights.
 *
 * Made once per model from the model's files (slow: off the loop), then immutable and shared by threads; counted by its
 * users on the loop's thread. text_model_encode is pure. */
#ifndef SHOAL_ROUTER_TEXT_MODEL_H
#define SHOAL_ROUTER_TEXT_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "router/openai_error.h"
#include "router/openai_request.h"
#include "text/tokenizer.h"

enum { TEXT_MODEL_IDS_MAX = 1 << 20 };

struct template;

struct text_model {
    struct model_desc *desc;
    struct tokenizer *tokenizer;
    struct template *template; /* NULL: the model has none, or none that shoal reads */
    char *template_error;      /* why not; NULL when there simply is none */
    char *bos_token;           /* texts; NULL: none */
    char *eos_token;
    unsigned users;
};

MUST_CHECK enum status text_model_open(const char *path, struct text_model **out, struct error *error);
struct text_model *text_model_hold(struct text_model *text); /* returns it */
void text_model_drop(struct text_model *text);               /* frees it with its last user; NULL is fine */

/* The request's prompt as ids, appended to `out`: a chat through the template, with control tokens only where the
 * template itself wrote them; a text prompt without any; ids as they are. False: *error is the client's answer. */
bool text_model_encode(const struct text_model *text, const struct openai_request *request, int64_t wall_s,
                       struct ids *out, struct openai_error *error);
/* Does this id end a text by itself? */
bool text_model_is_end(const struct text_model *text, uint32_t id);

#endif
