/* run_jsonl: JSON lines in, JSON lines out, in input order, batched continuously.
 *
 * Lines are taken while the engine has room and something is there to read: an idle engine waits for input, a busy one
 * only looks. So a file is batched as wide as the engine goes, and a program that writes one line and waits for its
 * answer gets it. A line that is no request answers {"id", "error"} in its place, and the exit code is 1 in the end. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "cli/command.h"
#include "cli/run.h"

enum { LINE_BYTES_MAX = 64 << 20, READ_BYTES = 64 << 10, ENTRIES_MAX = 256, OUTPUT_BYTES_MAX = 512 << 20 };

/* A line's place in the output. */
struct entry {
    struct list node;
    struct run_stream *stream;
};

struct jsonl {
    const struct run_options *options;
    struct run_model *model;
    int fd;
    struct buf input; /* what was read and not taken */
    size_t scanned;   /* of it, without a line's end */
    bool at_end;
    uint64_t lines;
    struct list entries; /* in input order; the first may be done */
    size_t entries_count;
    struct map streams; /* by handle, while the engine has them */
    struct run_stats stats;
    bool failed;
};

/* Reads once. Waits for input only where nothing else is to be done. */
static enum status read_more(struct jsonl *jsonl, bool wait, struct error *error)
{
    struct pollfd poll_fd = {.fd = jsonl->fd, .events = POLLIN};
    int ready = poll(&poll_fd, 1, wait ? -1 : 0);
    if (ready == 0 || (ready < 0 && errno == EINTR))
        return STATUS_AGAIN;
    uint8_t *room = buf_reserve(&jsonl->input, READ_BYTES);
    if (room == NULL)
        return error_set(error, STATUS_LIMIT, "line %llu is longer than %d bytes", (unsigned long long)jsonl->lines + 1,
                         LINE_BYTES_MAX);
    ssize_t got = read(jsonl->fd, room, READ_BYTES);
    if (got < 0)
        return error_set_errno(error, STATUS_IO, errno, "the input cannot be read");
    jsonl->input.length += (size_t)got;
    jsonl->at_end = got == 0;
    return STATUS_OK;
}

/* The next whole line, without its end; the last one may lack it. STATUS_AGAIN: none is there. */
static enum status next_line(struct jsonl *jsonl, bool wait, struct bytes *line, size_t *taken, struct error *error)
{
    for (;;) {
        struct bytes all = buf_bytes(&jsonl->input);
        const uint8_t *end =
            all.length == jsonl->scanned ? NULL : memchr(all.data + jsonl->scanned, '\n', all.length - jsonl->scanned);
        if (end != NULL || (jsonl->at_end && all.length > 0)) {
            line->data = all.data;
            line->length = end != NULL ? (size_t)(end - all.data) : all.length;
            *taken = line->length + (end != NULL);
            jsonl->scanned = 0;
            return STATUS_OK;
        }
        jsonl->scanned = all.length;
        if (jsonl->at_end)
            return STATUS_AGAIN;
        enum status status = read_more(jsonl, wait, error);
        if (status != STATUS_OK)
            return status;
    }
}

static enum status submit_line(struct jsonl *jsonl, struct run_stream *stream, struct bytes line, struct error *error)
{
    struct json *root = NULL;
    enum status status = json_parse(line, &root, error);
    if (status != STATUS_OK)
        return status;
    const struct json *id = json_get(root, "id");
    if (id != NULL)
        json_write_value(&stream->id, id);
    struct run_request request;
    status = run_request_of_line(jsonl->options, jsonl->model, root, &request, error);
    if (status == STATUS_OK) {
        status = run_stream_submit(stream, jsonl->model, &request, error);
        run_request_free(&request);
    }
    json_free(root);
    return status;
}

static bool is_blank(struct bytes line)
{
    for (size_t i = 0; i < line.length; i++)
        if (line.data[i] != ' ' && line.data[i] != '\t' && line.data[i] != '\r')
            return false;
    return true;
}

static void take_line(struct jsonl *jsonl, struct bytes line)
{
    jsonl->lines++;
    if (is_blank(line))
        return;
    struct entry *entry = mem_new(struct entry);
    entry->stream = run_stream_new(jsonl->lines);
    list_init(&entry->node);
    list_push_back(&jsonl->entries, &entry->node);
    jsonl->entries_count++;
    struct error error = {0};
    enum status status = submit_line(jsonl, entry->stream, line, &error);
    if (status == STATUS_OK)
        status = map_put_u64(&jsonl->streams, entry->stream->handle, entry->stream);
    if (status == STATUS_OK)
        return;
    /* A syntax error says "line 1, column …" of the one line that it was given: the file's line takes that place. */
    const char *text = strncmp(error.text, "line 1, ", 8) == 0 ? error.text + 8 : error.text;
    struct error of_file = {0};
    (void)error_set(&of_file, status, "line %llu: %s", (unsigned long long)jsonl->lines, text);
    run_stream_fail(entry->stream, of_file.text);
    jsonl->failed = true;
}

static enum status take_lines(struct jsonl *jsonl, struct error *error)
{
    while (jsonl->entries_count < ENTRIES_MAX) {
        struct bytes line;
        size_t taken;
        bool idle = engine_idle(jsonl->model->engine) && list_empty(&jsonl->entries);
        enum status status = next_line(jsonl, idle, &line, &taken, error);
        if (status == STATUS_AGAIN)
            return STATUS_OK;
        if (status != STATUS_OK)
            return status;
        take_line(jsonl, line);
        buf_consume(&jsonl->input, taken);
    }
    return STATUS_OK;
}

static void take_event(struct jsonl *jsonl, const struct engine_event *event)
{
    struct run_stream *stream = map_get_u64(&jsonl->streams, event->handle);
    if (stream == NULL)
        return; /* ended by a stop string; this is the engine's last word on it */
    if (event->kind == ENGINE_TOKEN) {
        if (!run_stream_token(stream, event->id))
            return;
        engine_cancel(jsonl->model->engine, event->handle);
    } else {
        run_stream_finish(stream, event);
    }
    (void)map_remove_u64(&jsonl->streams, event->handle);
}

static enum status step(struct jsonl *jsonl, struct error *error)
{
    struct engine_step out;
    uint64_t begin_us = clock_mono_us();
    enum status status = engine_step(jsonl->model->engine, clock_mono_us, &out, error);
    if (status != STATUS_OK)
        return status;
    run_stats_add(&jsonl->stats, &out, (double)(clock_mono_us() - begin_us) / 1e6);
    for (size_t i = 0; i < out.events_count; i++)
        take_event(jsonl, &out.events[i]);
    return STATUS_OK;
}

static void drop_entry(struct jsonl *jsonl, struct entry *entry)
{
    list_remove(&entry->node);
    jsonl->entries_count--;
    run_stream_free(entry->stream);
    mem_free(entry);
}

/* Lines whose turn has come go out at once. */
static enum status write_done(struct jsonl *jsonl, struct error *error)
{
    struct buf line;
    buf_init(&line, OUTPUT_BYTES_MAX);
    for (struct list *node; (node = list_first(&jsonl->entries)) != NULL;) {
        struct entry *entry = LIST_ENTRY(node, struct entry, node);
        if (!entry->stream->done)
            break;
        run_stream_json(entry->stream, true, &line);
        drop_entry(jsonl, entry);
    }
    bool written =
        line.length == 0 || (fwrite(line.data, 1, line.length, stdout) == line.length && fflush(stdout) == 0);
    buf_free(&line);
    return written ? STATUS_OK : error_set_errno(error, STATUS_IO, errno, "the output cannot be written");
}

static enum status run_lines(struct jsonl *jsonl, struct error *error)
{
    for (;;) {
        enum status status = take_lines(jsonl, error);
        if (status == STATUS_OK && !engine_idle(jsonl->model->engine))
            status = step(jsonl, error);
        if (status == STATUS_OK)
            status = write_done(jsonl, error);
        if (status != STATUS_OK)
            return status;
        if (jsonl->at_end && jsonl->input.length == 0 && list_empty(&jsonl->entries))
            return STATUS_OK;
    }
}

int run_jsonl(const struct run_options *options, struct run_model *model)
{
    struct jsonl jsonl = {.options = options, .model = model, .fd = STDIN_FILENO};
    struct error error = {0};
    if (options->input != NULL)
        jsonl.fd = open(options->input, O_RDONLY | O_CLOEXEC);
    if (jsonl.fd < 0) {
        enum status status = error_set_errno(&error, STATUS_IO, errno, "%s cannot be read", options->input);
        return command_fail("run", status, &error);
    }
    buf_init(&jsonl.input, LINE_BYTES_MAX + READ_BYTES);
    list_init(&jsonl.entries);
    map_init(&jsonl.streams, ENTRIES_MAX);
    enum status status = run_lines(&jsonl, &error);
    if (options->stats)
        run_stats_print(&jsonl.stats, model);
    for (struct list *node; (node = list_first(&jsonl.entries)) != NULL;)
        drop_entry(&jsonl, LIST_ENTRY(node, struct entry, node));
    map_free(&jsonl.streams);
    buf_free(&jsonl.input);
    if (options->input != NULL)
        close(jsonl.fd);
    if (status != STATUS_OK)
        return command_fail("run", status, &error);
    return jsonl.failed ? EXIT_FAILED : EXIT_OK;
}
