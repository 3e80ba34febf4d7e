/* jinja_exec: statements, scopes, loops and macros.
 *
 * A frame is a scope: the template, a loop's iteration, a macro's call, a with or set block. Names are looked up from
 * the innermost frame outwards, then in the context. Output goes to render->out, which a macro, set or filter block
 * swaps for one of its own. */
#include <string.h>

#include "base/check.h"
#include "text/jinja_eval.h"

enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE, FLOW_FAULT };

static enum flow exec_list(struct render *render, const struct node_list *list);

static enum flow flow_of(bool done)
{
    return done ? FLOW_NEXT : FLOW_FAULT;
}

/* ---- scopes ------------------------------------------------------------------------------------------------- */

static struct frame *push_frame(struct render *render, struct frame *parent)
{
    struct frame *frame = render_alloc(render, 1, sizeof *frame);
    if (frame == NULL)
        return NULL;
    *frame = (struct frame){.parent = parent};
    render->frame = frame;
    return frame;
}

static bool assign_symbol(struct render *render, symbol_id symbol, const struct value *value)
{
    if (symbol == NO_SYMBOL)
        return true;
    struct variable *variable = render->frame->variables;
    while (variable != NULL && variable->symbol != symbol)
        variable = variable->next;
    if (variable == NULL) {
        variable = render_alloc(render, 1, sizeof *variable);
        if (variable == NULL)
            return false;
        *variable = (struct variable){.symbol = symbol, .next = render->frame->variables};
        render->frame->variables = variable;
    }
    variable->value = *value;
    return true;
}

/* The namespace that a variable holds; TemplateRuntimeError for anything else. */
static bool find_namespace(struct render *render, const struct target *target, struct dict **out)
{
    const struct value *found = NULL;
    for (const struct frame *frame = render->frame; frame != NULL && found == NULL; frame = frame->parent) {
        for (const struct variable *variable = frame->variables; variable != NULL; variable = variable->next) {
            if (variable->symbol == target->symbol)
                found = &variable->value;
        }
    }
    if (found == NULL || found->kind != VALUE_NAMESPACE)
        return render_fail(render, TEMPLATE_RUNTIME, "cannot assign attribute on non-namespace object");
    *out = found->as.dict;
    return true;
}

static bool assign_attribute(struct render *render, const struct target *target, const struct value *value)
{
    struct dict *namespace;
    struct value key;
    return find_namespace(render, target, &namespace) && value_from_bytes(render, target->attribute, false, &key) &&
           dict_put(render, namespace, key, *value);
}

static bool assign(struct render *render, const struct target *target, const struct value *value)
{
    if (target->symbol != NO_SYMBOL)
        return target->attribute.length > 0 ? assign_attribute(render, target, value)
                                            : assign_symbol(render, target->symbol, value);
    struct value *items;
    size_t count;
    if (value->kind != VALUE_TEXT && value->kind != VALUE_LIST && value->kind != VALUE_DICT &&
        value->kind != VALUE_UNDEFINED)
        return render_fail(render, TEMPLATE_TYPE, "cannot unpack non-iterable %s object", value_type_name(value));
    if (!value_iterate(render, value, &items, &count))
        return false;
    if (count > target->count)
        return render_fail(render, TEMPLATE_VALUE, "too many values to unpack (expected %zu)", target->count);
    if (count < target->count)
        return render_fail(render, TEMPLATE_VALUE, "not enough values to unpack (expected %zu, got %zu)", target->count,
                           count);
    for (size_t i = 0; i < count; i++) {
        if (!assign(render, &target->items[i], &items[i]))
            return false;
    }
    return true;
}

/* Executes `body` in a scope of its own, its output into a text. */
static bool capture(struct render *render, struct frame *parent, const struct node_list *body, struct value *out)
{
    struct frame *outer = render->frame;
    struct builder *output = render->out, inner;
    builder_init(&inner, render);
    if (parent != NULL && push_frame(render, parent) == NULL)
        return false;
    render->out = &inner;
    enum flow flow = exec_list(render, body);
    render->out = output;
    render->frame = outer;
    return flow != FLOW_FAULT && builder_finish(&inner, out);
}

/* ---- filters over a block's text ---------------------------------------------------------------------------- */

/* A chain of filters whose innermost operand is `text`. */
static bool apply_chain(struct render *render, const struct node *filter, const struct value *text, struct value *out)
{
    struct value value = *text;
    struct args args;
    if (!jinja_enter(render, filter))
        return false;
    bool done = (filter->a == NULL || apply_chain(render, filter->a, text, &value)) &&
                jinja_eval_args(render, filter->call, &args) &&
                jinja_apply_filter(render, filter->function, &value, &args, out);
    jinja_leave(render);
    return done;
}

/* An attribute's namespace is looked at before the value, as in the reference. */
static bool exec_set(struct render *render, const struct node *node)
{
    struct value value;
    struct dict *ignored;
    if (node->target->attribute.length > 0 && !find_namespace(render, node->target, &ignored))
        return false;
    return jinja_eval(render, node->a, &value) && assign(render, node->target, &value);
}

static bool exec_set_block(struct render *render, const struct node *node)
{
    struct value text;
    if (!capture(render, render->frame, &node->body, &text) ||
        (node->a != NULL && !apply_chain(render, node->a, &text, &text)))
        return false;
    return assign(render, node->target, &text);
}

static bool exec_filter_block(struct render *render, const struct node *node)
{
    struct value text;
    return capture(render, render->frame, &node->body, &text) && apply_chain(render, node->a, &text, &text) &&
           builder_add_value(render->out, &text);
}

/* ---- loops -------------------------------------------------------------------------------------------------- */

/* Keeps the items for which the loop's own `if` holds. */
static bool filter_items(struct render *render, const struct node *node, struct value **items, size_t *count)
{
    struct frame *outer = render->frame;
    struct value *kept = render_alloc(render, *count, sizeof *kept);
    size_t kept_count = 0;
    if (kept == NULL)
        return false;
    for (size_t i = 0; i < *count; i++) {
        struct value condition;
        if (push_frame(render, outer) == NULL || !assign(render, node->target, &(*items)[i]) ||
            !jinja_eval(render, node->b, &condition))
            return false;
        if (value_truthy(&condition))
            kept[kept_count++] = (*items)[i];
        render->frame = outer;
    }
    *items = kept;
    *count = kept_count;
    return true;
}

static enum flow run_loop(struct render *render, const struct node *node, const struct value *over, struct frame *outer,
                          size_t depth0)
{
    struct frame *before = render->frame;
    struct loop *loop = render_alloc(render, 1, sizeof *loop);
    enum flow flow = FLOW_NEXT;
    if (loop == NULL)
        return FLOW_FAULT;
    *loop = (struct loop){.depth0 = depth0, .node = node, .frame = outer};
    render->frame = outer;
    if (!value_iterate(render, over, &loop->items, &loop->count) ||
        (node->b != NULL && !filter_items(render, node, &loop->items, &loop->count)))
        return FLOW_FAULT;
    struct value self = {.kind = VALUE_LOOP, .as.loop = loop};
    for (; loop->index0 < loop->count && flow != FLOW_BREAK; loop->index0++) {
        if (push_frame(render, outer) == NULL || !assign_symbol(render, render->loop_symbol, &self) ||
            !assign(render, node->target, &loop->items[loop->index0]))
            return FLOW_FAULT;
        flow = exec_list(render, &node->body);
        if (flow == FLOW_FAULT)
            return FLOW_FAULT;
    }
    flow = FLOW_NEXT;
    if (loop->count == 0) {
        if (push_frame(render, outer) == NULL)
            return FLOW_FAULT;
        flow = exec_list(render, &node->otherwise);
    }
    render->frame = before;
    return flow;
}

bool jinja_recurse(struct render *render, const struct loop *loop, const struct value *items, struct value *out)
{
    struct builder *output = render->out, inner;
    if (!loop->node->recursive)
        return render_fail(render, TEMPLATE_TYPE,
                           "The loop must have the 'recursive' marker to be called recursively.");
    if (!jinja_enter(render, loop->node))
        return false;
    builder_init(&inner, render);
    render->out = &inner;
    enum flow flow = run_loop(render, loop->node, items, loop->frame, loop->depth0 + 1);
    render->out = output;
    jinja_leave(render);
    return flow != FLOW_FAULT && builder_finish(&inner, out);
}

static enum flow exec_for(struct render *render, const struct node *node)
{
    struct value over;
    if (!jinja_eval(render, node->a, &over))
        return FLOW_FAULT;
    return run_loop(render, node, &over, render->frame, 0);
}

/* ---- macros ------------------------------------------------------------------------------------------------- */

static const struct keyword *find_keyword(const struct args *args, struct bytes name)
{
    for (size_t i = 0; i < args->keywords_count; i++) {
        if (bytes_equal(args->keywords[i].name, name))
            return &args->keywords[i];
    }
    return NULL;
}

/* Binds one parameter: by place, by name, by its default, or undefined. */
static bool bind_param(struct render *render, const struct params *params, size_t i, const struct args *args)
{
    struct bytes name = render->template->symbols[params->names[i]];
    const struct keyword *keyword = find_keyword(args, name);
    struct value value;
    size_t first_default = params->count - params->defaults.count;
    if (i < args->count && keyword != NULL)
        return render_fail(render, TEMPLATE_TYPE, "macro got multiple values for argument '%.*s'",
                           (int)MIN_OF(name.length, (size_t)64), (const char *)name.data);
    if (i < args->count)
        value = args->positional[i];
    else if (keyword != NULL)
        value = keyword->value;
    else if (i >= first_default) {
        if (!jinja_eval(render, params->defaults.data[i - first_default], &value))
            return false;
    } else if (!value_undefined(render, (struct undefined){.name = name}, &value)) {
        return false;
    }
    return assign_symbol(render, params->names[i], &value);
}

/* What the parameters leave over: varargs and kwargs, if the body names them; a TypeError if not. */
static bool bind_rest(struct render *render, const struct params *params, const struct args *args)
{
    size_t extra = args->count > params->count ? args->count - params->count : 0;
    if (extra > 0 && render->varargs_symbol == NO_SYMBOL)
        return render_fail(render, TEMPLATE_TYPE, "macro takes not more than %zu argument(s)", params->count);
    struct list *varargs = list_new(render, LIST_TUPLE, extra);
    struct dict *kwargs = dict_new(render);
    if (varargs == NULL || kwargs == NULL)
        return false;
    for (size_t i = 0; i < extra; i++)
        varargs->items[i] = args->positional[params->count + i];
    for (size_t i = 0; i < args->keywords_count; i++) {
        const struct keyword *keyword = &args->keywords[i];
        bool known = false;
        for (size_t p = 0; p < params->count; p++)
            known |= bytes_equal(render->template->symbols[params->names[p]], keyword->name);
        if (known || bytes_equal(keyword->name, BYTES_LITERAL("caller")))
            continue;
        if (render->kwargs_symbol == NO_SYMBOL)
            return render_fail(render, TEMPLATE_TYPE, "macro takes no keyword argument '%.*s'",
                               (int)MIN_OF(keyword->name.length, (size_t)64), (const char *)keyword->name.data);
        struct value key;
        if (!value_from_bytes(render, keyword->name, false, &key) || !dict_put(render, kwargs, key, keyword->value))
            return false;
    }
    struct value list = value_list(varargs), dict = {.kind = VALUE_DICT, .as.dict = kwargs};
    return assign_symbol(render, render->varargs_symbol, &list) && assign_symbol(render, render->kwargs_symbol, &dict);
}

bool jinja_call_macro(struct render *render, const struct callable *callable, const struct args *args,
                      const struct value *caller, struct value *out)
{
    struct frame *outer = render->frame;
    const struct params *params = callable->macro->params;
    if (!jinja_enter(render, callable->macro))
        return false;
    bool done = push_frame(render, callable->closure) != NULL && bind_rest(render, params, args) &&
                (caller == NULL || assign_symbol(render, render->caller_symbol, caller));
    for (size_t i = 0; done && i < params->count; i++)
        done = bind_param(render, params, i, args);
    done = done && capture(render, NULL, &callable->macro->body, out);
    render->frame = outer;
    jinja_leave(render);
    return done;
}

/* A macro as a value; for a call block its body is the callee's `caller`. */
static bool make_macro(struct render *render, const struct node *node, struct value *out)
{
    struct callable *callable = render_alloc(render, 1, sizeof *callable);
    if (callable == NULL)
        return false;
    *callable = (struct callable){.kind = CALL_MACRO, .macro = node, .closure = render->frame};
    *out = (struct value){.kind = VALUE_CALLABLE, .as.callable = callable};
    return true;
}

static bool exec_macro(struct render *render, const struct node *node)
{
    struct value macro;
    return make_macro(render, node, &macro) && assign_symbol(render, node->symbol, &macro);
}

static bool exec_call_block(struct render *render, const struct node *node)
{
    struct value caller, callee, text;
    struct args args;
    if (!make_macro(render, node, &caller) || !jinja_eval(render, node->a->a, &callee) ||
        !jinja_eval_args(render, node->a->call, &args))
        return false;
    if (callee.kind == VALUE_UNDEFINED)
        return render_fail_undefined(render, &callee);
    if (callee.kind != VALUE_CALLABLE || callee.as.callable->kind != CALL_MACRO)
        return render_fail(render, TEMPLATE_UNSUPPORTED, "a call block calls something that is no macro");
    if (render->caller_symbol == NO_SYMBOL)
        return render_fail(render, TEMPLATE_TYPE, "the macro does not ask for its caller");
    return jinja_call_macro(render, callee.as.callable, &args, &caller, &text) && builder_add_value(render->out, &text);
}

/* ---- the rest ----------------------------------------------------------------------------------------------- */

static enum flow exec_if(struct render *render, const struct node *node)
{
    for (size_t i = 0; i < node->items.count; i++) {
        struct value condition;
        if (!jinja_eval(render, node->items.data[i], &condition))
            return FLOW_FAULT;
        if (value_truthy(&condition))
            return exec_list(render, &node->bodies[i]);
    }
    return exec_list(render, &node->otherwise);
}

static enum flow exec_with(struct render *render, const struct node *node)
{
    struct frame *outer = render->frame;
    struct value *values = render_alloc(render, node->values.count, sizeof *values);
    if (values == NULL)
        return FLOW_FAULT;
    for (size_t i = 0; i < node->values.count; i++) { /* all before any name is bound */
        if (!jinja_eval(render, node->values.data[i], &values[i]))
            return FLOW_FAULT;
    }
    if (push_frame(render, outer) == NULL)
        return FLOW_FAULT;
    for (size_t i = 0; i < node->values.count; i++) {
        if (!assign_symbol(render, node->items.data[i]->symbol, &values[i]))
            return FLOW_FAULT;
    }
    enum flow flow = exec_list(render, &node->body);
    render->frame = outer;
    return flow;
}

static enum flow exec_node(struct render *render, const struct node *node)
{
    struct value value;
    switch (node->kind) {
    case NODE_TEXT:
        return flow_of(builder_add(render->out, node->text, false));
    case NODE_OUTPUT:
        return flow_of(jinja_eval(render, node->a, &value) && builder_add_value(render->out, &value));
    case NODE_IF:
        return exec_if(render, node);
    case NODE_FOR:
        return exec_for(render, node);
    case NODE_SET:
        return flow_of(exec_set(render, node));
    case NODE_SET_BLOCK:
        return flow_of(exec_set_block(render, node));
    case NODE_MACRO:
        return flow_of(exec_macro(render, node));
    case NODE_CALL_BLOCK:
        return flow_of(exec_call_block(render, node));
    case NODE_FILTER_BLOCK:
        return flow_of(exec_filter_block(render, node));
    case NODE_WITH:
        return exec_with(render, node);
    case NODE_SCOPELESS:
        return exec_list(render, &node->body);
    case NODE_BREAK:
        return FLOW_BREAK;
    case NODE_CONTINUE:
        return FLOW_CONTINUE;
    default:
        UNREACHABLE();
    }
}

/* Up to the first statement that does not simply go on. */
static enum flow exec_list(struct render *render, const struct node_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (!jinja_enter(render, list->data[i]))
            return FLOW_FAULT;
        enum flow flow = exec_node(render, list->data[i]);
        jinja_leave(render);
        if (flow != FLOW_NEXT)
            return flow;
    }
    return FLOW_NEXT;
}

bool jinja_render_body(struct render *render, const struct node_list *body)
{
    return push_frame(render, NULL) != NULL && exec_list(render, body) != FLOW_FAULT;
}
