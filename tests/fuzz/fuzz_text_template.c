/* A chat template from a stranger's model: it is refused, or renders within its bounds; its client spans are sorted,
 * disjoint and within the text. */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "text/template.h"
#include "text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char CONTEXT[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"S <b>\"}, {\"role\": \"user\", \"content\": \"h\\u00e9 "
    "\\u4f60\"},"
    " {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\":"
    " {\"a\": [1, 2.5, true]}}}]}], \"tools\": [{\"function\": {\"name\": \"g\"}}], \"x\": 3, \"s\": \" a b \"}";

static void check_spans(const struct template_result *result)
{
    size_t at = 0;
    for (size_t i = 0; i < result->spans_count; i++) {
        CHECK(result->spans[i].begin >= at && result->spans[i].begin < result->spans[i].end);
        at = result->spans[i].end;
    }
    CHECK(at <= result->text.length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct json *root;
    struct template *template;
    struct error error;
    if (root == NULL)
        CHECK(json_parse(BYTES_LITERAL(CONTEXT), &root, &error) == STATUS_OK);
    if (size > 4096 || template_parse(bytes_of(data, size), &template, &error) != STATUS_OK)
        return 0;
    const struct template_context context = {.root = root, .bos_token = "<s>", .eos_token = "</s>"};
    struct template_result result;
    if (template_render(template, &context, &result, &error) == STATUS_OK) {
        CHECK(utf8_valid(buf_bytes(&result.text)));
        check_spans(&result);
    } else {
        CHECK(result.fault != TEMPLATE_OK && error.text[0] != '\0');
    }
    template_result_free(&result);
    template_free(template);
    return 0;
}
