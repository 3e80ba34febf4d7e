/* Fuzz target: request bodies of both endpoints. The first byte chooses the endpoint. What is taken keeps its bounds
 * and has what the endpoint needs; what is refused has a status, a sentence, and a body that is JSON itself. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "router/openai_error.h"
#include "router/openai_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static void check_refusal(const struct openai_error *error)
{
    struct buf out;
    struct json *body;
    struct error why;
    CHECK(error->http_status == 400 && error->message[0] != 0);
    buf_init(&out, 1 << 16);
    openai_write_error(&out, error);
    CHECK(json_parse(buf_bytes(&out), &body, &why) == STATUS_OK);
    CHECK(json_text(json_get(json_get(body, "error"), "message")) != NULL);
    json_free(body);
    buf_free(&out);
}

static void check_request(const struct openai_request *request)
{
    CHECK(request->model.length > 0 && request->stop_count <= OPENAI_STOPS_MAX);
    CHECK(request->temperature >= 0 && request->temperature <= 2 && request->top_p > 0 && request->top_p <= 1);
    CHECK(request->min_p >= 0 && request->min_p < 1);
    for (size_t i = 0; i < request->stop_count; i++) {
        CHECK(request->stop[i].length >= 1 && request->stop[i].length <= OPENAI_STOP_BYTES_MAX);
    }
    if (request->kind == OPENAI_CHAT) {
        CHECK(json_count(json_get(request->context, "messages")) > 0);
    } else {
        CHECK(request->has_prompt && request->max_tokens > 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    if (length == 0) {
        return 0;
    }
    struct openai_request request;
    struct openai_error error = {0};
    enum openai_kind kind = data[0] % 2 == 0 ? OPENAI_CHAT : OPENAI_COMPLETION;
    if (openai_request_read(&request, kind, bytes_of(data + 1, length - 1), &error)) {
        check_request(&request);
        openai_request_free(&request);
    } else {
        check_refusal(&error);
    }
    return 0;
}
