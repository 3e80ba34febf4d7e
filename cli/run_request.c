/* run_request: what to run, from the command line or from one JSON line. A line's fields are checked by name: one that
 * is not known is an error, since a misspelt "max_token" must not be ignored. */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "cli/run.h"

enum { IDS_MAX = 1 << 20, SYSTEM_JSON_MAX = 64 << 20 };

void run_request_free(struct run_request *request)
{
    ids_free(&request->ids);
}

static void start_from_options(const struct run_options *options, struct run_request *out)
{
    *out = (struct run_request){
        .ignore_eos = options->ignore_eos,
        .continues = true,
        .sampling = {.temperature = (float)options->temperature,
                     .top_k = (uint32_t)options->top_k,
                     .top_p = (float)options->top_p,
                     .min_p = (float)options->min_p,
                     .seed = (uint64_t)options->seed},
    };
    ids_init(&out->ids, IDS_MAX);
    for (size_t i = 0; i < options->stop.count && i < STOP_STRINGS_MAX; i++)
        out->stops[out->stops_count++] = bytes_of_text(options->stop.items[i]);
}

/* The default limit is cut to what the context leaves; one that was asked for is the engine's to judge. */
static void default_max_tokens(const struct run_options *options, const struct run_model *model,
                               struct run_request *out)
{
    uint32_t context = engine_info(model->engine)->context_tokens;
    uint64_t room = out->ids.count < context ? context - out->ids.count : 1;
    out->max_tokens = (uint32_t)MIN_OF((uint64_t)options->max_tokens, room);
}

static enum status encode_argument(const struct run_options *options, const struct run_model *model,
                                   struct run_request *out, struct error *error)
{
    struct bytes prompt = bytes_of_text(options->prompt);
    if (model->template == NULL || options->raw)
        return run_model_encode_prompt(model, prompt, &out->ids, error);
    struct buf text;
    buf_init(&text, SYSTEM_JSON_MAX);
    buf_append_text(&text, "{\"messages\": [");
    if (options->system != NULL) {
        buf_append_text(&text, "{\"role\": \"system\", \"content\": ");
        json_write_text(&text, options->system);
        buf_append_text(&text, "}, ");
    }
    buf_append_text(&text, "{\"role\": \"user\", \"content\": ");
    json_write_string(&text, prompt);
    buf_append_text(&text, "}]}");
    struct json *root = NULL;
    enum status status = text.overflow ? error_set(error, STATUS_LIMIT, "the prompt is too long")
                                       : json_parse(buf_bytes(&text), &root, error);
    if (status == STATUS_OK)
        status = run_model_encode_chat(model, root, &out->ids, error);
    out->continues = false;
    json_free(root);
    buf_free(&text);
    return status;
}

enum status run_request_of_options(const struct run_options *options, const struct run_model *model,
                                   struct run_request *out, struct error *error)
{
    start_from_options(options, out);
    enum status status = encode_argument(options, model, out, error);
    if (status == STATUS_OK && out->ids.count == 0)
        status = error_set(error, STATUS_INVALID, "the prompt is empty");
    if (status != STATUS_OK) {
        run_request_free(out);
        return status;
    }
    default_max_tokens(options, model, out);
    return STATUS_OK;
}

static enum status take_number(const struct json *value, const char *name, double min, double max, double *out,
                               struct error *error)
{
    double number = json_number(value, NAN);
    if (!json_is_number(value) || !(number >= min && number <= max))
        return error_set(error, STATUS_INVALID, "\"%s\" must be a number between %.15g and %.15g", name, min, max);
    *out = number;
    return STATUS_OK;
}

static enum status take_integer(const struct json *value, const char *name, int64_t min, int64_t max, int64_t *out,
                                struct error *error)
{
    int64_t number = json_integer(value, min);
    if (json_kind(value) != JSON_INTEGER || number < min || number > max)
        return error_set(error, STATUS_INVALID, "\"%s\" must be a whole number between %lld and %lld", name,
                         (long long)min, (long long)max);
    *out = number;
    return STATUS_OK;
}

static enum status take_ids(const struct json *value, const char *name, struct ids *out, struct error *error)
{
    if (json_kind(value) != JSON_ARRAY)
        return error_set(error, STATUS_INVALID, "\"%s\" must be an array of token ids", name);
    for (size_t i = 0; i < json_count(value); i++) {
        int64_t id;
        enum status status = take_integer(json_at(value, i), name, 0, UINT32_MAX, &id, error);
        if (status != STATUS_OK)
            return status;
        if (ids_push(out, (uint32_t)id) != STATUS_OK)
            return error_set(error, STATUS_LIMIT, "\"%s\" has more than %zu ids", name, out->max);
    }
    return STATUS_OK;
}

static enum status take_stop_ids(const struct json *value, struct run_request *out, struct error *error)
{
    struct ids ids;
    ids_init(&ids, COUNT_OF(out->stop_ids));
    enum status status = take_ids(value, "stop_ids", &ids, error);
    for (size_t i = 0; status == STATUS_OK && i < ids.count; i++)
        out->stop_ids[out->stop_ids_count++] = ids.data[i];
    ids_free(&ids);
    return status;
}

static enum status take_stops(const struct json *value, struct run_request *out, struct error *error)
{
    bool one = json_kind(value) == JSON_STRING;
    size_t count = one ? 1 : json_count(value);
    if ((!one && json_kind(value) != JSON_ARRAY) || count > STOP_STRINGS_MAX)
        return error_set(error, STATUS_INVALID, "\"stop\" must be a string or an array of at most %d",
                         STOP_STRINGS_MAX);
    out->stops_count = 0;
    for (size_t i = 0; i < count; i++) {
        const struct json *item = one ? value : json_at(value, i);
        if (json_kind(item) != JSON_STRING || json_string(item).length == 0)
            return error_set(error, STATUS_INVALID, "\"stop\" must hold strings that are not empty");
        out->stops[out->stops_count++] = json_string(item);
    }
    return STATUS_OK;
}

static bool is(struct bytes key, const char *name)
{
    return bytes_equal(key, bytes_of_text(name));
}

/* The fields that are one number each. *known: it was one of them. */
static enum status take_scalar(struct bytes key, const struct json *value, struct run_request *out, bool *known,
                               struct error *error)
{
    int64_t integer = 0;
    double number = 0;
    enum status status = STATUS_OK;
    *known = true;
    if (is(key, "max_tokens")) {
        status = take_integer(value, "max_tokens", 1, UINT32_MAX, &integer, error);
        out->max_tokens = (uint32_t)integer;
    } else if (is(key, "seed")) {
        status = take_integer(value, "seed", INT64_MIN, INT64_MAX, &integer, error);
        out->sampling.seed = (uint64_t)integer;
    } else if (is(key, "top_k")) {
        status = take_integer(value, "top_k", 0, UINT32_MAX, &integer, error);
        out->sampling.top_k = (uint32_t)integer;
    } else if (is(key, "temperature")) {
        status = take_number(value, "temperature", 0, 100, &number, error);
        out->sampling.temperature = (float)number;
    } else if (is(key, "top_p")) {
        status = take_number(value, "top_p", 0, 1, &number, error);
        out->sampling.top_p = (float)number;
    } else if (is(key, "min_p")) {
        status = take_number(value, "min_p", 0, 1, &number, error);
        out->sampling.min_p = (float)number;
    } else if (is(key, "ignore_eos")) {
        if (json_kind(value) != JSON_TRUE && json_kind(value) != JSON_FALSE)
            status = error_set(error, STATUS_INVALID, "\"ignore_eos\" must be true or false");
        out->ignore_eos = json_bool(value, false);
    } else {
        *known = false;
    }
    return status;
}

/* Of prompt, ids and messages, exactly one. */
static enum status take_input(const struct run_model *model, const struct json *root, struct run_request *out,
                              struct error *error)
{
    const struct json *prompt = json_get(root, "prompt"), *ids = json_get(root, "ids");
    const struct json *messages = json_get(root, "messages");
    if ((prompt != NULL) + (ids != NULL) + (messages != NULL) != 1)
        return error_set(error, STATUS_INVALID, "exactly one of \"prompt\", \"ids\" and \"messages\" is needed");
    enum status status;
    if (prompt != NULL) {
        if (json_kind(prompt) != JSON_STRING)
            return error_set(error, STATUS_INVALID, "\"prompt\" must be a string");
        status = run_model_encode_prompt(model, json_string(prompt), &out->ids, error);
    } else if (ids != NULL) {
        status = take_ids(ids, "ids", &out->ids, error);
    } else {
        if (json_kind(messages) != JSON_ARRAY || json_count(messages) == 0)
            return error_set(error, STATUS_INVALID, "\"messages\" must be an array of messages");
        out->continues = false;
        status = run_model_encode_chat(model, root, &out->ids, error);
    }
    if (status == STATUS_OK && out->ids.count == 0)
        status = error_set(error, STATUS_INVALID, "the prompt is empty");
    return status;
}

static enum status take_fields(const struct run_model *model, const struct json *root, struct run_request *out,
                               struct error *error)
{
    static const char *const others[] = {"id", "prompt", "ids", "messages", "tools"};
    void *iterator = NULL;
    struct bytes key;
    const struct json *value;
    while (json_next(root, &iterator, &key, &value)) {
        bool known;
        enum status status = take_scalar(key, value, out, &known, error);
        if (status == STATUS_OK && is(key, "stop"))
            known = true, status = take_stops(value, out, error);
        if (status == STATUS_OK && is(key, "stop_ids"))
            known = true, status = take_stop_ids(value, out, error);
        for (size_t i = 0; i < COUNT_OF(others); i++)
            known = known || is(key, others[i]);
        if (status == STATUS_OK && !known)
            status = error_set(error, STATUS_INVALID, "there is no field \"%.*s\"", (int)MIN_OF(key.length, 100u),
                               (const char *)key.data);
        if (status != STATUS_OK)
            return status;
    }
    return take_input(model, root, out, error);
}

enum status run_request_of_line(const struct run_options *options, const struct run_model *model,
                                const struct json *root, struct run_request *out, struct error *error)
{
    start_from_options(options, out);
    enum status status = json_kind(root) == JSON_OBJECT
                             ? take_fields(model, root, out, error)
                             : error_set(error, STATUS_INVALID, "a line must be a JSON object");
    if (status != STATUS_OK) {
        run_request_free(out);
        return status;
    }
    if (out->max_tokens == 0)
        default_max_tokens(options, model, out);
    return STATUS_OK;
}
