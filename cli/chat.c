/* cli/chat: `shoal chat`: an interactive terminal chat that streams, or one answer to a prompt given as argument.
 *
 * Speaks the OpenAI API to the router of client.json (or --url, --key). The conversation is kept as the JSON text of
 * its messages. Ctrl-C stops an answer, a second one (or Ctrl-D) ends the chat. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/command.h"
#include "cli/home.h"
#include "cli/http.h"

enum { CHAT_BYTES_MAX = 4 << 20, CHAT_LINE_MAX = 1 << 20 };

struct chat_options {
    const char *dir;
    const char *url;
    const char *key;
    const char *model;
    const char *system;
    double temperature;
    int64_t max_tokens;
    int64_t seed;
};

struct chat {
    const struct chat_options *options;
    struct home_client client;
    struct buf messages; /* JSON objects, comma-separated */
    struct buf pending;  /* bytes of an unfinished SSE line */
    struct buf answer;   /* the text so far */
    struct buf problem;  /* an error body, when the status is not 200 */
    bool done;
    bool failed; /* the stream told of an error */
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static void add_message(struct chat *chat, const char *role, struct bytes content)
{
    buf_printf(&chat->messages, "%s{\"role\": \"%s\", \"content\": ", chat->messages.length > 0 ? ", " : "", role);
    json_write_string(&chat->messages, content);
    buf_append_u8(&chat->messages, '}');
}

/* One event of the stream: prints what the model added. */
static void take_event(struct chat *chat, struct bytes data)
{
    struct json *root = NULL;
    struct error error;
    if (bytes_equal(data, bytes_of_text("[DONE]"))) {
        chat->done = true;
        return;
    }
    if (json_parse(data, &root, &error) != STATUS_OK) {
        return;
    }
    const struct json *choice = json_at(json_get(root, "choices"), 0);
    struct bytes text = json_string(json_get(json_get(choice, "delta"), "content"));
    struct bytes problem = json_string(json_get(json_get(root, "error"), "message"));
    fwrite(text.data, 1, text.length, stdout);
    fflush(stdout);
    buf_append_bytes(&chat->answer, text);
    if (problem.length > 0) {
        fprintf(stderr, "\nshoal chat: %.*s\n", (int)problem.length, (const char *)problem.data);
        chat->failed = true;
    }
    json_free(root);
}

/* Splits the stream into lines; only data lines matter (WHATWG server-sent events). */
static bool received(void *context, struct bytes data)
{
    struct chat *chat = context;
    buf_append_bytes(&chat->pending, data);
    buf_append_bytes(&chat->problem, data);
    for (;;) {
        const uint8_t *end = chat->pending.length > 0 ? memchr(chat->pending.data, '\n', chat->pending.length) : NULL;
        if (end == NULL) {
            break;
        }
        size_t length = (size_t)(end - chat->pending.data);
        struct bytes line = bytes_of(chat->pending.data, length > 0 && end[-1] == '\r' ? length - 1 : length);
        if (bytes_starts_with(line, bytes_of_text("data: "))) {
            take_event(chat, bytes_of(line.data + 6, line.length - 6));
        }
        buf_consume(&chat->pending, length + 1);
    }
    return !interrupted && !chat->pending.overflow;
}

static void build_body(const struct chat *chat, struct buf *body)
{
    const struct chat_options *options = chat->options;
    buf_append_text(body, "{\"model\": ");
    json_write_text(body, options->model != NULL ? options->model : chat->client.model);
    buf_append_text(body, ", \"stream\": true, \"temperature\": ");
    json_write_number(body, options->temperature);
    if (options->max_tokens > 0) {
        buf_printf(body, ", \"max_tokens\": %lld", (long long)options->max_tokens);
    }
    if (options->seed >= 0) {
        buf_printf(body, ", \"seed\": %lld", (long long)options->seed);
    }
    buf_append_text(body, ", \"messages\": [");
    buf_append_bytes(body, buf_bytes(&chat->messages));
    buf_append_text(body, "]}");
}

static enum status explain(struct chat *chat, unsigned code, struct error *error)
{
    struct json *root = NULL;
    struct error ignored;
    struct bytes text = {0};
    if (json_parse(buf_bytes(&chat->problem), &root, &ignored) == STATUS_OK) {
        text = json_string(json_get(json_get(root, "error"), "message"));
    }
    enum status status =
        error_set(error, code == 401 ? STATUS_DENIED : STATUS_UNSUPPORTED, "the router answered %u: %.*s", code,
                  (int)text.length, text.length > 0 ? (const char *)text.data : "");
    json_free(root);
    return status;
}

/* Asks with the conversation so far; the answer is streamed to stdout and joins the conversation. */
static enum status ask(struct chat *chat, struct error *error)
{
    char url[320];
    unsigned code = 0;
    struct buf body;
    buf_init(&body, CHAT_BYTES_MAX);
    build_body(chat, &body);
    buf_clear(&chat->pending);
    buf_clear(&chat->answer);
    buf_clear(&chat->problem);
    chat->done = chat->failed = false;
    if (body.overflow || chat->messages.overflow) {
        buf_free(&body);
        return error_set(error, STATUS_LIMIT, "the conversation is too long: /reset starts over");
    }
    snprintf(url, sizeof(url), "%s/chat/completions", chat->client.url);
    const struct http_request request = {.method = "POST",
                                         .url = url,
                                         .api_key = chat->client.api_key,
                                         .body = buf_bytes(&body),
                                         .context = chat,
                                         .received = received};
    enum status status = http_exchange(&request, &code, error);
    buf_free(&body);
    if (status == STATUS_OK && code != 200) {
        status = explain(chat, code, error);
    } else if (status == STATUS_OK && chat->failed) {
        status = error_set(error, STATUS_CLOSED, "the answer is not whole");
    } else if (status == STATUS_OK && !chat->done) {
        status = error_set(error, STATUS_CLOSED, "the answer ended before it was done");
    }
    if (status == STATUS_OK || (status == STATUS_CANCELLED && interrupted)) {
        fputc('\n', stdout);
        add_message(chat, "assistant", buf_bytes(&chat->answer));
    }
    return status;
}

/* Reads one line; false at the end of input or at Ctrl-C on an empty line. */
static bool read_line(char **line, size_t *capacity, ssize_t *length)
{
    if (isatty(STDIN_FILENO)) {
        fputs("> ", stdout);
        fflush(stdout);
    }
    *length = getline(line, capacity, stdin);
    while (*length > 0 && ((*line)[*length - 1] == '\n' || (*line)[*length - 1] == '\r')) {
        (*line)[--*length] = '\0';
    }
    return *length >= 0 && !interrupted;
}

static void start_over(struct chat *chat)
{
    buf_clear(&chat->messages);
    if (chat->options->system != NULL) {
        add_message(chat, "system", bytes_of_text(chat->options->system));
    }
}

static enum status converse(struct chat *chat, struct error *error)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length = 0;
    if (isatty(STDIN_FILENO)) {
        printf("Chatting with %s. /reset starts over, /quit or Ctrl-D ends, Ctrl-C stops an answer.\n",
               chat->options->model != NULL ? chat->options->model : chat->client.model);
    }
    enum status status = STATUS_OK;
    while (status == STATUS_OK && read_line(&line, &capacity, &length)) {
        if (length == 0) {
            continue;
        }
        if (strcmp(line, "/quit") == 0) {
            break;
        }
        if (strcmp(line, "/reset") == 0) {
            start_over(chat);
            continue;
        }
        size_t before = chat->messages.length;
        add_message(chat, "user", bytes_of(line, (size_t)length));
        status = ask(chat, error);
        if (status == STATUS_CANCELLED) {
            interrupted = 0;
            status = STATUS_OK;
        } else if (status != STATUS_OK &&
                   isatty(STDIN_FILENO)) { /* the conversation goes on as if it had not been asked */
            (void)command_fail("chat", status, error);
            chat->messages.length = before;
            chat->messages.overflow = false;
            status = STATUS_OK;
        }
    }
    free(line);
    return status;
}

static enum status chat_once(struct chat *chat, const char *prompt, struct error *error)
{
    add_message(chat, "user", bytes_of_text(prompt));
    return ask(chat, error);
}

static enum status find_client(struct chat *chat, struct error *error)
{
    const struct chat_options *options = chat->options;
    enum status status = STATUS_OK;
    if (options->url == NULL || options->key == NULL) {
        char *dir = home_folder(options->dir);
        status = home_client_read(dir, &chat->client, error);
        mem_free(dir);
        if (status == STATUS_NOT_FOUND) {
            status = error_set(error, STATUS_UNREACHABLE,
                               "no cluster here yet: run `shoal up` first, or give --url and --key");
        }
    }
    if (options->url != NULL) {
        snprintf(chat->client.url, sizeof(chat->client.url), "%s", options->url);
    }
    if (options->key != NULL) {
        snprintf(chat->client.api_key, sizeof(chat->client.api_key), "%s", options->key);
    }
    return status;
}

static const struct opts_entry entries[] = {
    {"dir", 0, OPTS_TEXT, offsetof(struct chat_options, dir), NULL, 0, 0, NULL, "FOLDER",
     "the cluster's state folder (default ~/.local/state/shoal)"},
    {"url", 0, OPTS_TEXT, offsetof(struct chat_options, url), NULL, 0, 0, NULL, "URL",
     "a router's API, http://host:port/v1 (default: the cluster's own)"},
    {"key", 0, OPTS_TEXT, offsetof(struct chat_options, key), NULL, 0, 0, NULL, "KEY", "the API key for --url"},
    {"model", 'm', OPTS_TEXT, offsetof(struct chat_options, model), NULL, 0, 0, NULL, "NAME",
     "the model to ask (default: the cluster's own)"},
    {"system", 's', OPTS_TEXT, offsetof(struct chat_options, system), NULL, 0, 0, NULL, "TEXT", "a system message"},
    {"temperature", 't', OPTS_REAL, offsetof(struct chat_options, temperature), "0", 0, 2, NULL, "T",
     "0 takes the likeliest token"},
    {"max-tokens", 'n', OPTS_INT, offsetof(struct chat_options, max_tokens), NULL, 1, 1e6, NULL, "N",
     "longest answer (default: what the context allows)"},
    {"seed", 0, OPTS_INT, offsetof(struct chat_options, seed), NULL, 0, 9e15, NULL, "N",
     "the same seed repeats a sampled answer (default: another one each time)"},
};

int command_chat(int argc, char **argv)
{
    static const struct opts opts = {.usage = "shoal chat [options] [PROMPT]",
                                     .summary = "Chats with the cluster's model; with PROMPT, asks once and ends.",
                                     .details = "Exit codes: 0 ok, 1 failed, 2 usage, 4 the router does not answer.",
                                     .entries = entries,
                                     .entries_count = COUNT_OF(entries),
                                     .positional_max = 1};
    struct chat_options options = {.seed = -1};
    char **positional;
    size_t positional_count;
    int exit_code;
    if (!command_parse(&opts, argc, argv, &options, &positional, &positional_count, &exit_code)) {
        return exit_code;
    }
    struct chat chat = {.options = &options};
    struct error error = {0};
    buf_init(&chat.messages, CHAT_BYTES_MAX);
    buf_init(&chat.pending, CHAT_LINE_MAX);
    buf_init(&chat.answer, CHAT_BYTES_MAX);
    buf_init(&chat.problem, CHAT_LINE_MAX);
    const struct sigaction action = {.sa_handler = on_interrupt}; /* without SA_RESTART: it ends poll and getline */
    (void)sigaction(SIGINT, &action, NULL);
    enum status status = find_client(&chat, &error);
    if (status == STATUS_OK) {
        start_over(&chat);
        status = positional_count > 0 ? chat_once(&chat, positional[0], &error) : converse(&chat, &error);
    }
    exit_code = status == STATUS_OK ? EXIT_OK : command_fail("chat", status, &error);
    buf_free(&chat.messages);
    buf_free(&chat.pending);
    buf_free(&chat.answer);
    buf_free(&chat.problem);
    return exit_code;
}
