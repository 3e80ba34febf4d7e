/* Promise: rendered chats equal the references': the demo model's own template, and 21 templates of real models. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "tests/unit/text/golden.h"
#include "text/template.h"

enum { GOLDENS = 273, NOW_S = 1721981350 }; /* 2024-07-26 08:09:10 */

/* The demo model's template, from its GGUF's metadata (Apache-2.0): the data has the renderings only. */
static const char SMOLLM2[] =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

static void smollm2(void **state)
{
    (void)state;
    struct buf lines;
    struct error error = {0};
    struct template *template = NULL;
    size_t count = 0;
    golden_read("models/smollm2-135m/templates.jsonl", &lines);
    assert_int_equal(template_parse(BYTES_LITERAL(SMOLLM2), &template, &error), STATUS_OK);
    struct bytes rest = buf_bytes(&lines);
    for (struct json *line; (line = golden_next(&rest)) != NULL; json_free(line)) {
        struct template_context context = {.root = line};
        struct template_result result;
        struct bytes wanted = json_string(json_get(line, "text"));
        assert_int_equal(template_render(template, &context, &result, &error), STATUS_OK);
        assert_int_equal(result.text.length, wanted.length);
        assert_memory_equal(result.text.data, wanted.data, wanted.length);
        template_result_free(&result);
        count++;
    }
    assert_int_equal(count, 12);
    template_free(template);
    buf_free(&lines);
}

static bool same_result(const struct json *golden, enum status status, const struct template_result *result,
                        const struct error *error)
{
    if (json_bool(json_get(golden, "ok"), false))
        return status == STATUS_OK && bytes_equal(buf_bytes(&result->text), json_string(json_get(golden, "text")));
    if (status == STATUS_OK || strcmp(template_fault_name(result->fault), json_text(json_get(golden, "kind"))) != 0)
        return false;
    return result->fault != TEMPLATE_RAISED || strcmp(error->text, json_text(json_get(golden, "error"))) == 0;
}

/* What the renderer made instead, for whoever has to find out why. */
static void show(const struct json *golden, enum status status, const struct template_result *result,
                 const struct error *error)
{
    print_error("%s %s: ", json_text(json_get(golden, "template")), json_text(json_get(golden, "context")));
    if (status != STATUS_OK) {
        print_error("%s: %s (wanted %s)\n", template_fault_name(result->fault), error->text,
                    json_bool(json_get(golden, "ok"), false) ? "a text" : json_text(json_get(golden, "kind")));
        return;
    }
    struct bytes wanted = json_string(json_get(golden, "text"));
    size_t at = 0;
    while (at < wanted.length && at < result->text.length && wanted.data[at] == result->text.data[at])
        at++;
    print_error("differs at %zu: '%.40s', wanted '%.40s'\n", at, buf_text(&result->text) + at,
                wanted.length > at ? (const char *)wanted.data + at : "");
}

static bool run_golden(const struct json *golden, const struct json *contexts)
{
    char name[256];
    struct buf source;
    struct error error = {0};
    struct template *template = NULL;
    struct template_result result = {0};
    snprintf(name, sizeof name, "chat-templates/templates/%s.jinja", json_text(json_get(golden, "template")));
    golden_read(name, &source);
    enum status status = template_parse(buf_bytes(&source), &template, &error);
    if (status == STATUS_OK) {
        struct template_context context = {.root = json_get(contexts, json_text(json_get(golden, "context"))),
                                           .now_s = NOW_S};
        status = template_render(template, &context, &result, &error);
    } else {
        result.fault = TEMPLATE_SYNTAX;
    }
    bool same = same_result(golden, status, &result, &error);
    if (!same)
        show(golden, status, &result, &error);
    template_result_free(&result);
    template_free(template);
    buf_free(&source);
    return same;
}

static void chat_templates(void **state)
{
    (void)state;
    struct buf lines, source;
    struct json *contexts;
    struct error error = {0};
    size_t count = 0, same = 0;
    golden_read("chat-templates/contexts.json", &source);
    golden_read("chat-templates/goldens.jsonl.gz", &lines);
    assert_int_equal(json_parse(buf_bytes(&source), &contexts, &error), STATUS_OK);
    struct bytes rest = buf_bytes(&lines);
    for (struct json *golden; (golden = golden_next(&rest)) != NULL; json_free(golden)) {
        same += run_golden(golden, contexts);
        count++;
    }
    printf("chat templates: %zu of %zu equal\n", same, count);
    assert_int_equal(count, GOLDENS);
    assert_int_equal(same, GOLDENS);
    json_free(contexts);
    buf_free(&lines);
    buf_free(&source);
}

int main(void)
{
    golden_need("template_golden");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smollm2),
        cmocka_unit_test(chat_templates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
