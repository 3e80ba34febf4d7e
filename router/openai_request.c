/* openai_request: see openai_request.h. The table stands first, the readers of single fields behind it. */
#include "router/openai_request.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

enum { FOR_CHAT = 1, FOR_COMPLETION = 2, FOR_BOTH = 3 };

/* Reads one field that is present and not null. */
typedef bool field_read(struct openai_request *request, const char *name, const struct json *value,
                        struct openai_error *error);

static field_read read_model, read_messages, read_template_kwargs, read_prompt, read_stream, read_stream_options,
    read_max_tokens, read_temperature, read_top_p, read_min_p, read_top_k, read_seed, read_stop, read_ignore_eos;
static field_read only_false, only_true, only_zero, only_one, only_empty, only_text_format, only_text_modality,
    only_default_tier, only_no_tool, only_no_effort, only_medium, ignored;

static const struct field {
    const char *name;
    int where;
    field_read *read;
} fields[] = {
    {"model", FOR_BOTH, read_model},
    {"messages", FOR_CHAT, read_messages},
    {"prompt", FOR_COMPLETION, read_prompt},
    {"stream", FOR_BOTH, read_stream},
    {"stream_options", FOR_BOTH, read_stream_options},
    {"max_tokens", FOR_BOTH, read_max_tokens},
    {"max_completion_tokens", FOR_CHAT, read_max_tokens},
    {"temperature", FOR_BOTH, read_temperature},
    {"top_p", FOR_BOTH, read_top_p},
    {"seed", FOR_BOTH, read_seed},
    {"stop", FOR_BOTH, read_stop},
    /* Beyond the public API, as other servers of open models have them. */
    {"top_k", FOR_BOTH, read_top_k},
    {"min_p", FOR_BOTH, read_min_p},
    {"ignore_eos", FOR_BOTH, read_ignore_eos},
    {"chat_template_kwargs", FOR_CHAT, read_template_kwargs},
    {"add_generation_prompt", FOR_CHAT, only_true},
    {"continue_final_message", FOR_CHAT, only_false},
    {"repetition_penalty", FOR_BOTH, only_one},
    {"min_tokens", FOR_BOTH, only_zero},
    /* Not done: the neutral value only. */
    {"n", FOR_BOTH, only_one},
    {"best_of", FOR_COMPLETION, only_one},
    {"echo", FOR_COMPLETION, only_false},
    {"suffix", FOR_COMPLETION, only_empty},
    {"logprobs", FOR_BOTH, only_false},
    {"top_logprobs", FOR_CHAT, only_zero},
    {"frequency_penalty", FOR_BOTH, only_zero},
    {"presence_penalty", FOR_BOTH, only_zero},
    {"logit_bias", FOR_BOTH, only_empty},
    {"tools", FOR_CHAT, only_empty},
    {"functions", FOR_CHAT, only_empty},
    {"tool_choice", FOR_CHAT, only_no_tool},
    {"function_call", FOR_CHAT, only_no_tool},
    {"response_format", FOR_CHAT, only_text_format},
    {"modalities", FOR_CHAT, only_text_modality},
    {"audio", FOR_CHAT, only_empty},
    {"prediction", FOR_CHAT, only_empty},
    {"web_search_options", FOR_CHAT, only_empty},
    {"reasoning_effort", FOR_CHAT, only_no_effort},
    {"verbosity", FOR_CHAT, only_medium},
    {"service_tier", FOR_CHAT, only_default_tier},
    {"store", FOR_CHAT, only_false},
    /* Change nothing about the answer. */
    {"parallel_tool_calls", FOR_CHAT, ignored},
    {"user", FOR_BOTH, ignored},
    {"metadata", FOR_CHAT, ignored},
    {"safety_identifier", FOR_CHAT, ignored},
    {"prompt_cache_key", FOR_CHAT, ignored},
    {"prompt_cache_retention", FOR_CHAT, ignored},
};

static const struct field *find_field(struct bytes name, enum openai_kind kind)
{
    int where = kind == OPENAI_CHAT ? FOR_CHAT : FOR_COMPLETION;
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        if ((fields[i].where & where) != 0 && bytes_equal(name, bytes_of_text(fields[i].name))) {
            return &fields[i];
        }
    }
    return NULL;
}

static bool read_fields(struct openai_request *request, struct openai_error *error)
{
    void *at = NULL;
    struct bytes name;
    const struct json *value;
    while (json_next(request->root, &at, &name, &value)) {
        const struct field *field = find_field(name, request->kind);
        if (field == NULL) {
            char param[OPENAI_PARAM_MAX];
            (void)snprintf(param, sizeof(param), "%.*s", (int)MIN_OF(name.length, sizeof(param) - 1), name.data);
            return openai_fail(error, 400, "unknown_parameter", param, "Unknown parameter: '%s'.", param);
        }
        if (json_kind(value) != JSON_NULL && !field->read(request, field->name, value, error)) {
            return false;
        }
    }
    return true;
}

/* What only the whole request can tell. */
static bool check_whole(struct openai_request *request, struct openai_error *error)
{
    if (request->model.length == 0) {
        return openai_missing(error, "model");
    }
    if (request->kind == OPENAI_CHAT && request->context == NULL) {
        return openai_missing(error, "messages");
    }
    if (request->kind == OPENAI_COMPLETION && !request->has_prompt) {
        return openai_missing(error, "prompt");
    }
    const struct json *options = json_get(request->root, "stream_options");
    if (json_kind(options) != JSON_NULL && !request->stream) {
        return openai_fail(error, 400, NULL, "stream_options",
                           "The 'stream_options' parameter is only allowed when 'stream' is enabled.");
    }
    if (request->kind == OPENAI_COMPLETION && request->max_tokens == 0) {
        request->max_tokens = OPENAI_COMPLETION_TOKENS_DEFAULT;
    }
    return true;
}

bool openai_request_read(struct openai_request *request, enum openai_kind kind, struct bytes body,
                         struct openai_error *error)
{
    *request = (struct openai_request){.kind = kind, .temperature = 1, .top_p = 1};
    struct error why = {0};
    if (json_parse(body, &request->root, &why) != STATUS_OK) {
        return openai_fail(error, 400, NULL, NULL, "We could not parse the JSON body of your request: %.300s",
                           why.text);
    }
    if (json_kind(request->root) != JSON_OBJECT) {
        openai_fail(error, 400, NULL, NULL, "The body must be a JSON object, but it is %s.",
                    openai_kind_name(request->root));
    } else if (read_fields(request, error) && check_whole(request, error)) {
        return true;
    }
    openai_request_free(request);
    return false;
}

void openai_request_free(struct openai_request *request)
{
    json_free(request->context);
    json_free(request->root);
    *request = (struct openai_request){0};
}

const char *openai_kind_name(const struct json *value)
{
    switch (json_kind(value)) {
    case JSON_NULL:
        return "null";
    case JSON_FALSE:
    case JSON_TRUE:
        return "a boolean";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a decimal";
    case JSON_STRING:
        return "a string";
    case JSON_ARRAY:
        return "an array";
    case JSON_OBJECT:
        return "an object";
    }
    UNREACHABLE();
}

static bool is_bool(const struct json *value)
{
    return json_kind(value) == JSON_TRUE || json_kind(value) == JSON_FALSE;
}

static bool read_bool(bool *out, const char *name, const struct json *value, struct openai_error *error)
{
    if (!is_bool(value)) {
        return openai_wrong_type(error, name, "a boolean", openai_kind_name(value));
    }
    *out = json_bool(value, false);
    return true;
}

static bool read_integer(int64_t *out, int64_t min, int64_t max, const char *name, const struct json *value,
                         struct openai_error *error)
{
    if (json_kind(value) != JSON_INTEGER) {
        return openai_wrong_type(error, name, "an integer", openai_kind_name(value));
    }
    int64_t number = json_integer(value, 0);
    if (number < min) {
        return openai_fail(error, 400, "integer_below_min_value", name,
                           "Invalid '%s': integer below minimum value. Expected a value >= %lld, but got %lld instead.",
                           name, (long long)min, (long long)number);
    }
    if (number > max) {
        return openai_fail(error, 400, "integer_above_max_value", name,
                           "Invalid '%s': integer above maximum value. Expected a value <= %lld, but got %lld instead.",
                           name, (long long)max, (long long)number);
    }
    *out = number;
    return true;
}

static bool read_decimal(double *out, double min, double max, const char *name, const struct json *value,
                         struct openai_error *error)
{
    if (!json_is_number(value)) {
        return openai_wrong_type(error, name, "a decimal", openai_kind_name(value));
    }
    double number = json_number(value, 0);
    if (!(number >= min)) {
        return openai_fail(error, 400, "decimal_below_min_value", name,
                           "Invalid '%s': decimal below minimum value. Expected a value >= %g, but got %g instead.",
                           name, min, number);
    }
    if (!(number <= max)) {
        return openai_fail(error, 400, "decimal_above_max_value", name,
                           "Invalid '%s': decimal above maximum value. Expected a value <= %g, but got %g instead.",
                           name, max, number);
    }
    *out = number;
    return true;
}

static bool read_model(struct openai_request *request, const char *name, const struct json *value,
                       struct openai_error *error)
{
    if (json_kind(value) != JSON_STRING) {
        return openai_wrong_type(error, name, "a string", openai_kind_name(value));
    }
    request->model = json_string(value);
    return true;
}

/* The template's context is {"messages": [...], kwargs...}: written anew, so that nothing unchecked gets in. */
static bool build_context(struct openai_request *request, struct openai_error *error)
{
    const struct json *kwargs = json_get(request->root, "chat_template_kwargs");
    struct buf text;
    buf_init(&text, JSON_LENGTH_MAX);
    buf_append_text(&text, "{\"messages\":");
    bool ok = openai_messages_write(json_get(request->root, "messages"), &text, error);
    void *at = NULL;
    struct bytes key;
    const struct json *value;
    while (ok && json_next(kwargs, &at, &key, &value)) {
        if (bytes_equal(key, BYTES_LITERAL("messages"))) {
            ok = openai_fail(error, 400, "invalid_value", "chat_template_kwargs",
                             "Invalid 'chat_template_kwargs': it must not have a 'messages' of its own.");
            break;
        }
        buf_append_u8(&text, ',');
        json_write_string(&text, key);
        buf_append_u8(&text, ':');
        json_write_value(&text, value);
    }
    buf_append_u8(&text, '}');
    if (ok) {
        struct error why = {0};
        ok = !text.overflow && json_parse(buf_bytes(&text), &request->context, &why) == STATUS_OK;
        if (!ok) {
            openai_fail(error, 400, "invalid_value", "messages", "Invalid 'messages': %.300s", why.text);
        }
    }
    buf_free(&text);
    return ok;
}

static bool read_messages(struct openai_request *request, const char *name, const struct json *value,
                          struct openai_error *error)
{
    (void)name;
    (void)value;
    return build_context(request, error);
}

static bool read_template_kwargs(struct openai_request *request, const char *name, const struct json *value,
                                 struct openai_error *error)
{
    (void)request; /* build_context takes it */
    if (json_kind(value) != JSON_OBJECT) {
        return openai_wrong_type(error, name, "an object", openai_kind_name(value));
    }
    return true;
}

static bool read_prompt_ids(struct openai_request *request, const struct json *value, struct openai_error *error)
{
    for (size_t i = 0; i < json_count(value); i++) {
        char param[OPENAI_PARAM_MAX];
        (void)snprintf(param, sizeof(param), "prompt[%zu]", i);
        int64_t id;
        if (!read_integer(&id, 0, UINT32_MAX, param, json_at(value, i), error)) {
            return false;
        }
    }
    request->prompt_ids = value;
    request->has_prompt = true;
    return true;
}

/* A string, an array of ids, or an array of one string. Several prompts in one request would be several streams. */
static bool read_prompt(struct openai_request *request, const char *name, const struct json *value,
                        struct openai_error *error)
{
    if (json_kind(value) == JSON_ARRAY && json_count(value) > 0) {
        enum json_kind first = json_kind(json_at(value, 0));
        if (first == JSON_INTEGER) {
            return read_prompt_ids(request, value, error);
        }
        if (json_count(value) > 1) {
            return openai_unsupported(error, name, "with more than one prompt is not supported");
        }
        value = json_at(value, 0);
        if (first == JSON_ARRAY) {
            return read_prompt_ids(request, value, error);
        }
    }
    if (json_kind(value) != JSON_STRING) {
        return openai_wrong_type(error, name, "a string or an array of token ids", openai_kind_name(value));
    }
    request->prompt = json_string(value);
    request->has_prompt = true;
    return true;
}

static bool read_stream(struct openai_request *request, const char *name, const struct json *value,
                        struct openai_error *error)
{
    return read_bool(&request->stream, name, value, error);
}

static bool read_stream_options(struct openai_request *request, const char *name, const struct json *value,
                                struct openai_error *error)
{
    if (json_kind(value) != JSON_OBJECT) {
        return openai_wrong_type(error, name, "an object", openai_kind_name(value));
    }
    void *at = NULL;
    struct bytes key;
    const struct json *option;
    while (json_next(value, &at, &key, &option)) {
        bool obfuscation; /* padding against traffic analysis: not done, and no part of the result */
        bool *into = bytes_equal(key, BYTES_LITERAL("include_usage"))         ? &request->include_usage
                     : bytes_equal(key, BYTES_LITERAL("include_obfuscation")) ? &obfuscation
                                                                              : NULL;
        char param[OPENAI_PARAM_MAX];
        (void)snprintf(param, sizeof(param), "stream_options.%.*s", (int)MIN_OF(key.length, 64U), key.data);
        if (into == NULL) {
            return openai_fail(error, 400, "unknown_parameter", param, "Unknown parameter: '%s'.", param);
        }
        if (json_kind(option) != JSON_NULL && !read_bool(into, param, option, error)) {
            return false;
        }
    }
    return true;
}

/* max_tokens and max_completion_tokens mean the same here; both may be given if they agree. */
static bool read_max_tokens(struct openai_request *request, const char *name, const struct json *value,
                            struct openai_error *error)
{
    int64_t number;
    if (!read_integer(&number, 1, UINT32_MAX, name, value, error)) {
        return false;
    }
    if (request->max_tokens != 0 && request->max_tokens != (uint32_t)number) {
        return openai_fail(error, 400, "invalid_value", name,
                           "Invalid '%s': 'max_tokens' and 'max_completion_tokens' differ; give one of them.", name);
    }
    request->max_tokens = (uint32_t)number;
    return true;
}

static bool read_temperature(struct openai_request *request, const char *name, const struct json *value,
                             struct openai_error *error)
{
    return read_decimal(&request->temperature, 0, 2, name, value, error);
}

static bool read_top_p(struct openai_request *request, const char *name, const struct json *value,
                       struct openai_error *error)
{
    if (!read_decimal(&request->top_p, 0, 1, name, value, error)) {
        return false;
    }
    /* On the wire 0 means absent; the smallest nucleus is the first token alone, and so is any tiny one. */
    request->top_p = MAX_OF(request->top_p, 1e-9);
    return true;
}

static bool read_min_p(struct openai_request *request, const char *name, const struct json *value,
                       struct openai_error *error)
{
    return read_decimal(&request->min_p, 0, 0.999999, name, value, error);
}

/* -1 is "off" for some clients, 0 for others. */
static bool read_top_k(struct openai_request *request, const char *name, const struct json *value,
                       struct openai_error *error)
{
    int64_t number;
    if (!read_integer(&number, -1, UINT32_MAX, name, value, error)) {
        return false;
    }
    request->top_k = (uint32_t)MAX_OF(number, 0);
    return true;
}

static bool read_seed(struct openai_request *request, const char *name, const struct json *value,
                      struct openai_error *error)
{
    int64_t number;
    if (!read_integer(&number, INT64_MIN, INT64_MAX, name, value, error)) {
        return false;
    }
    request->seed = (uint64_t)number;
    request->has_seed = true;
    return true;
}

static bool read_one_stop(struct openai_request *request, const char *param, const struct json *value,
                          struct openai_error *error)
{
    if (json_kind(value) != JSON_STRING) {
        return openai_wrong_type(error, param, "a string", openai_kind_name(value));
    }
    struct bytes text = json_string(value);
    if (text.length == 0 || text.length > OPENAI_STOP_BYTES_MAX) {
        return openai_fail(error, 400, "invalid_value", param,
                           "Invalid '%s': a stop string has 1 to %d bytes, this one has %zu.", param,
                           OPENAI_STOP_BYTES_MAX, text.length);
    }
    request->stop[request->stop_count++] = text;
    return true;
}

static bool read_stop(struct openai_request *request, const char *name, const struct json *value,
                      struct openai_error *error)
{
    if (json_kind(value) != JSON_ARRAY) {
        if (json_kind(value) != JSON_STRING) {
            return openai_wrong_type(error, name, "a string or an array of strings", openai_kind_name(value));
        }
        return read_one_stop(request, name, value, error);
    }
    if (json_count(value) > OPENAI_STOPS_MAX) {
        return openai_fail(error, 400, "array_above_max_length", name,
                           "Invalid 'stop': array too long. Expected an array with maximum length %d, but got one with "
                           "length %zu instead.",
                           OPENAI_STOPS_MAX, json_count(value));
    }
    for (size_t i = 0; i < json_count(value); i++) {
        char param[OPENAI_PARAM_MAX];
        (void)snprintf(param, sizeof(param), "stop[%zu]", i);
        if (!read_one_stop(request, param, json_at(value, i), error)) {
            return false;
        }
    }
    return true;
}

static bool read_ignore_eos(struct openai_request *request, const char *name, const struct json *value,
                            struct openai_error *error)
{
    return read_bool(&request->ignore_eos, name, value, error);
}

static bool ignored(struct openai_request *request, const char *name, const struct json *value,
                    struct openai_error *error)
{
    (void)request;
    (void)name;
    (void)value;
    (void)error;
    return true;
}

static bool neutral(bool is_neutral, const char *name, const char *why, struct openai_error *error)
{
    return is_neutral || openai_unsupported(error, name, why);
}

static bool only_false(struct openai_request *request, const char *name, const struct json *value,
                       struct openai_error *error)
{
    (void)request;
    return neutral(json_kind(value) == JSON_FALSE, name, "is not supported with this value (false is)", error);
}

static bool only_true(struct openai_request *request, const char *name, const struct json *value,
                      struct openai_error *error)
{
    (void)request;
    return neutral(json_kind(value) == JSON_TRUE, name, "is not supported with this value (true is)", error);
}

static bool only_zero(struct openai_request *request, const char *name, const struct json *value,
                      struct openai_error *error)
{
    (void)request;
    return neutral(json_is_number(value) && json_number(value, 1) == 0, name, "is not supported with this value (0 is)",
                   error);
}

static bool only_one(struct openai_request *request, const char *name, const struct json *value,
                     struct openai_error *error)
{
    (void)request;
    return neutral(json_is_number(value) && json_number(value, 0) == 1, name, "is not supported with this value (1 is)",
                   error);
}

static bool only_empty(struct openai_request *request, const char *name, const struct json *value,
                       struct openai_error *error)
{
    (void)request;
    enum json_kind kind = json_kind(value);
    bool empty = (kind == JSON_ARRAY || kind == JSON_OBJECT) ? json_count(value) == 0
                                                             : kind == JSON_STRING && json_string(value).length == 0;
    return neutral(empty, name, "is not supported", error);
}

static bool only_text_format(struct openai_request *request, const char *name, const struct json *value,
                             struct openai_error *error)
{
    (void)request;
    return neutral(json_is_string(json_get(value, "type"), "text"), name,
                   "is not supported beyond {\"type\": \"text\"}", error);
}

static bool only_text_modality(struct openai_request *request, const char *name, const struct json *value,
                               struct openai_error *error)
{
    (void)request;
    bool text = json_kind(value) == JSON_ARRAY && json_count(value) == 1 && json_is_string(json_at(value, 0), "text");
    return neutral(text, name, "is not supported beyond [\"text\"]", error);
}

static bool only_default_tier(struct openai_request *request, const char *name, const struct json *value,
                              struct openai_error *error)
{
    (void)request;
    return neutral(json_is_string(value, "auto") || json_is_string(value, "default"), name,
                   "is not supported beyond \"auto\" and \"default\"", error);
}

static bool only_no_tool(struct openai_request *request, const char *name, const struct json *value,
                         struct openai_error *error)
{
    (void)request;
    return neutral(json_is_string(value, "none") || json_is_string(value, "auto"), name,
                   "is not supported beyond \"none\" and \"auto\"", error);
}

static bool only_no_effort(struct openai_request *request, const char *name, const struct json *value,
                           struct openai_error *error)
{
    (void)request;
    return neutral(json_is_string(value, "none"), name, "is not supported beyond \"none\"", error);
}

static bool only_medium(struct openai_request *request, const char *name, const struct json *value,
                        struct openai_error *error)
{
    (void)request;
    return neutral(json_is_string(value, "medium"), name, "is not supported beyond \"medium\"", error);
}
