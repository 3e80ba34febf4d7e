/* router/api: HTTP's side of the API: which endpoint a request means, and whose key it carries.
 *
 * One table of endpoints. What doesn't fit is answered in OpenAI's error body: 404 for an unknown path, 405 with Allow
 * for another method, 415 for a body that isn't JSON, 401 for a missing key. Pure. */
#ifndef SHOAL_ROUTER_API_H
#define SHOAL_ROUTER_API_H

#include <stdbool.h>

#include "base/bytes.h"
#include "router/openai_error.h"

/* A request as the shell's HTTP parser saw it; views. */
struct api_http {
    struct bytes method;
    struct bytes target;
    struct bytes content_type;  /* empty: absent */
    struct bytes authorization; /* empty: absent */
    struct bytes body;
};

enum api_endpoint { API_CHAT, API_COMPLETIONS, API_MODELS, API_MODEL, API_HEALTH, API_METRICS };

struct api_call {
    enum api_endpoint endpoint;
    bool needs_key;
    struct bytes rest; /* API_MODEL: the model's name as it stands in the path, percent-encoded */
    const char *allow; /* of a 405 */
};

bool api_resolve(const struct api_http *http, struct api_call *call, struct openai_error *error);
/* The key of "Authorization: Bearer KEY". */
bool api_key(const struct api_http *http, struct bytes *key, struct openai_error *error);
void api_wrong_key(struct openai_error *error);
/* %XX decoded into out, a zero behind; false: malformed or longer than out. */
bool api_unescape(struct bytes text, char *out, size_t out_size);

#endif
