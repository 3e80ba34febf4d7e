/* router/openai_error: what goes wrong in a request, as an HTTP status and OpenAI's error body.
 *
 * {"error": {"message", "type", "param", "code"}}, as the public API answers, so that clients' error classes work. The
 * body is a function of the struct alone. Never fails; owns nothing. */
#ifndef SHOAL_ROUTER_OPENAI_ERROR_H
#define SHOAL_ROUTER_OPENAI_ERROR_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/status.h"

enum { OPENAI_PARAM_MAX = 96 };

struct openai_error {
    unsigned http_status;         /* 0: no error */
    const char *type;             /* a constant: invalid_request_error, ... */
    const char *code;             /* a constant, or NULL */
    char param[OPENAI_PARAM_MAX]; /* the field at fault; "": null */
    char message[ERROR_TEXT_MAX];
    unsigned retry_after_s; /* 0: no Retry-After header */
};

/* Each fills *error and returns false, so that `return openai_...(...)` reads as one step in a reader. */
bool openai_fail(struct openai_error *error, unsigned http_status, const char *code, const char *param,
                 const char *format, ...) PRINTF_LIKE(5, 6);
bool openai_missing(struct openai_error *error, const char *param);
bool openai_wrong_type(struct openai_error *error, const char *param, const char *expected, const char *got);
bool openai_unsupported(struct openai_error *error, const char *param, const char *why);
/* 503, with Retry-After. */
bool openai_unavailable(struct openai_error *error, unsigned retry_after_s, const char *format, ...) PRINTF_LIKE(3, 4);

void openai_write_error(struct buf *out, const struct openai_error *error);

#endif
