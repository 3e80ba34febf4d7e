/* template: parse once, render often: the door to the Jinja machine (jinja_*.c). */
#include "text/template.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "text/jinja_eval.h"

struct template
{
    struct jinja_template jinja;
};

const char *template_fault_name(enum template_fault fault)
{
    static const char *const names[TEMPLATE_FAULT_COUNT] = {
        [TEMPLATE_OK] = "ok",
        [TEMPLATE_SYNTAX] = "TemplateSyntaxError",
        [TEMPLATE_RAISED] = "TemplateError",
        [TEMPLATE_UNDEFINED] = "UndefinedError",
        [TEMPLATE_TYPE] = "TypeError",
        [TEMPLATE_BOUNDS] = "BoundsError",
        [TEMPLATE_UNSUPPORTED] = "UnsupportedError",
        [TEMPLATE_VALUE] = "ValueError",
        [TEMPLATE_RUNTIME] = "TemplateRuntimeError",
        [TEMPLATE_SECURITY] = "SecurityError",
        [TEMPLATE_DIVISION] = "ZeroDivisionError",
        [TEMPLATE_OVERFLOW] = "OverflowError",
        [TEMPLATE_ATTRIBUTE] = "AttributeError",
        [TEMPLATE_ARGUMENT] = "FilterArgumentError",
        [TEMPLATE_INDEX] = "IndexError",
    };
    CHECK(fault < TEMPLATE_FAULT_COUNT);
    return names[fault];
}

enum status template_parse(struct bytes source, struct template **out, struct error *error)
{
    struct template *template = mem_new(struct template);
    enum status status = jinja_parse(source, &template->jinja, error);
    if (status != STATUS_OK) {
        template_free(template);
        return status;
    }
    *out = template;
    return STATUS_OK;
}

void template_free(struct template *template)
{
    if (template == NULL)
        return;
    arena_free(&template->jinja.arena);
    mem_free(template);
}

void template_result_free(struct template_result *result)
{
    buf_free(&result->text);
    mem_free(result->spans);
    *result = (struct template_result){0};
}

/* The context's members that the template names. */
static bool load_globals(struct render *render, const struct template_context *context)
{
    const struct jinja_template *template = render->template;
    render->globals = render_alloc(render, template->symbols_count, sizeof *render->globals);
    if (render->globals == NULL)
        return false;
    for (size_t i = 0; i < template->symbols_count; i++) {
        struct bytes name = template->symbols[i];
        struct value *global = &render->globals[i];
        void *iterator = NULL;
        struct bytes member;
        const struct json *value;
        while (json_next(context->root, &iterator, &member, &value)) {
            if (!bytes_equal(member, name))
                continue;
            if (!value_from_json(render, value, global))
                return false;
            break;
        }
    }
    return true;
}

/* What the context itself says, and what the references always pass. */
static bool load_own(struct render *render, const struct template_context *context)
{
    const struct {
        const char *name;
        const char *text;
    } tokens[] = {{"bos_token", context->bos_token}, {"eos_token", context->eos_token}};
    for (size_t i = 0; i < COUNT_OF(tokens); i++) {
        symbol_id symbol = jinja_symbol(render->template, tokens[i].name);
        if (symbol != NO_SYMBOL && tokens[i].text != NULL &&
            !value_from_bytes(render, bytes_of_text(tokens[i].text), false, &render->globals[symbol]))
            return false;
    }
    symbol_id prompt = jinja_symbol(render->template, "add_generation_prompt");
    if (prompt != NO_SYMBOL && render->globals[prompt].kind == VALUE_UNDEFINED)
        render->globals[prompt] = value_bool(context->add_generation_prompt);
    symbol_id tools = jinja_symbol(render->template, "tools");
    if (tools != NO_SYMBOL && render->globals[tools].kind == VALUE_UNDEFINED)
        render->globals[tools] = value_none();
    return true;
}

static void keep_result(const struct builder *out, struct template_result *result)
{
    buf_append(&result->text, out->data, out->length);
    result->spans_count = out->spans_count;
    result->spans = mem_alloc_array(out->spans_count, sizeof *result->spans);
    if (out->spans_count > 0)
        memcpy(result->spans, out->spans, out->spans_count * sizeof *result->spans);
}

enum status template_render(const struct template *template, const struct template_context *context,
                            struct template_result *result, struct error *error)
{
    struct builder out;
    struct render render = {
        .template = &template->jinja,
        .error = error,
        .out = &out,
        .now_s = context->now_s,
        .hash_seed = (uint64_t)(uintptr_t)&out, /* the stack's place is random */
        .loop_symbol = jinja_symbol(&template->jinja, "loop"),
        .caller_symbol = jinja_symbol(&template->jinja, "caller"),
        .varargs_symbol = jinja_symbol(&template->jinja, "varargs"),
        .kwargs_symbol = jinja_symbol(&template->jinja, "kwargs"),
    };
    *result = (struct template_result){0};
    buf_init(&result->text, JINJA_OUTPUT_MAX);
    arena_init(&render.arena, JINJA_MEMORY_MAX);
    builder_init(&out, &render);
    if (load_globals(&render, context) && load_own(&render, context) &&
        jinja_render_body(&render, &template->jinja.body))
        keep_result(&out, result);
    result->fault = render.fault;
    arena_free(&render.arena);
    return render.status;
}
