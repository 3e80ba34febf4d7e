/* text/template: chat templates: Jinja as Hugging Face uses it, over a context in JSON.
 *
 * template_parse compiles once per model; template_render is pure and bounded (steps, output bytes, nesting). Anything
 * outside the language is an error with its line, at parse time where it can be seen there. Strings carry the spans
 * that came from the client, so that the encoder can refuse control tokens forged in a message. */
#ifndef SHOAL_TEXT_TEMPLATE_H
#define SHOAL_TEXT_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/json.h"
#include "base/status.h"
#include "text/tokenizer.h"

struct template;

/* Kinds of a failure, as the reference's exceptions: text.md, Templates. */
enum template_fault {
    TEMPLATE_OK,
    TEMPLATE_SYNTAX,
    TEMPLATE_RAISED,
    TEMPLATE_UNDEFINED,
    TEMPLATE_TYPE,
    TEMPLATE_BOUNDS,
    TEMPLATE_UNSUPPORTED,
    TEMPLATE_VALUE,
    TEMPLATE_RUNTIME,
    TEMPLATE_SECURITY,
    TEMPLATE_DIVISION,
    TEMPLATE_OVERFLOW,
    TEMPLATE_ATTRIBUTE,
    TEMPLATE_ARGUMENT,
    TEMPLATE_INDEX,
    TEMPLATE_FAULT_COUNT
};
const char *template_fault_name(enum template_fault fault); /* TemplateSyntaxError, TemplateError, UndefinedError, … */

struct template_result {
    struct buf text;
    struct span *spans; /* client bytes in text; sorted, disjoint, merged */
    size_t spans_count;
    enum template_fault fault;
};
void template_result_free(struct template_result *result);

MUST_CHECK enum status template_parse(struct bytes source, struct template **out, struct error *error);
void template_free(struct template *template);

struct template_context {
    const struct json *root; /* object: messages, tools, documents, add_generation_prompt, …; all of it the client's */
    const char *bos_token;   /* the model's own texts; NULL: undefined */
    const char *eos_token;
    bool add_generation_prompt;
    int64_t now_s; /* for strftime_now */
};
/* On failure: a status (INVALID), the error's sentence with the line, and result->fault. Always free the result. */
MUST_CHECK enum status template_render(const struct template *template, const struct template_context *context,
                                       struct template_result *result, struct error *error);

#endif
