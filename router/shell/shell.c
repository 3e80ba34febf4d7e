/* shell: start, steps and end of shoal-router. */
#include "router/shell/shell.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

enum { TICK_MS = 50, VIEW_FILE_BYTES_MAX = PROTO_FRAME_BYTES_MAX, LINKS_MAX = 16384, STOP_US_MAX = 10000000 };

static void save_view(struct shell *shell, struct bytes frame)
{
    struct error error;
    char *path = file_join(shell->options.state, "view");
    if (file_write_atomic(path, frame, 0600, &error) != STATUS_OK) {
        LOG_E("router", "view_not_kept", "error=%s", log_quoted(error.text)); /* it serves on; a restart may not */
    }
    mem_free(path);
}

static void perform(struct shell *shell, const struct router_action *action)
{
    struct bytes payload = router_action_payload(&shell->actions, action);
    switch (action->kind) {
    case ROUTER_DIAL:
        links_dial(shell, action->target, (const char *)payload.data, action->key);
        break;
    case ROUTER_HANG_UP:
        links_hang_up(shell, action->target);
        break;
    case ROUTER_SEND:
        links_send(shell, action->target, payload);
        break;
    case ROUTER_LOAD_TEXT:
        words_load(shell->words, action->target, (const char *)payload.data);
        break;
    case ROUTER_ENCODE:
        words_encode(shell->words, action);
        break;
    case ROUTER_ANSWER:
        http_answer(shell->http, action, payload);
        break;
    case ROUTER_STREAM_BEGIN:
        http_stream_begin(shell->http, action->target);
        break;
    case ROUTER_STREAM_DATA:
        http_stream_data(shell->http, action->target, payload);
        break;
    case ROUTER_STREAM_END:
        http_stream_end(shell->http, action->target);
        break;
    case ROUTER_ABORT:
        http_abort(shell->http, action->target);
        break;
    case ROUTER_SAVE_VIEW:
        save_view(shell, payload);
        break;
    }
}

void shell_step(struct shell *shell, struct router_event *event)
{
    event->now_us = loop_now_us(&shell->loop);
    router_step(shell->router, event, &shell->actions);
    if (shell->performing) {
        return; /* whoever performs comes to what was just appended */
    }
    shell->performing = true;
    for (size_t i = 0; i < shell->actions.count; i++) {
        const struct router_action action = shell->actions.items[i]; /* performing may step, and move the list */
        perform(shell, &action);
    }
    router_actions_clear(&shell->actions);
    shell->performing = false;
}

static void tick_due(struct loop_timer *timer)
{
    struct shell *shell = timer->context;
    struct router_event event = {.kind = ROUTER_TICK};
    shell_step(shell, &event);
    links_ask_coordinators(shell);
    http_tick(shell->http);
    if (shell->stopping && (router_open_requests(shell->router) == 0 ||
                            loop_now_us(&shell->loop) - shell->stopping_since_us >= STOP_US_MAX)) {
        loop_stop(&shell->loop);
    }
}

static void on_stop(struct loop_signals *signals, int number)
{
    struct shell *shell = signals->context;
    LOG_I("router", "stopping", "signal=%d requests=%zu", number, router_open_requests(shell->router));
    shell->stopping = true;
    shell->stopping_since_us = loop_now_us(&shell->loop);
    http_stop_listening(shell->http);
}

/* "host:port" or "[v6]:port". */
static enum status read_listen(struct shell *shell, struct error *error)
{
    const char *text = shell->options.listen;
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    unsigned long port = colon != NULL ? strtoul(colon + 1, &end, 10) : 0;
    if (colon == NULL || colon == text || colon[1] == 0 || *end != 0 || port > 65535) {
        return error_set(error, STATUS_INVALID, "--listen is HOST:PORT, not '%s'", text);
    }
    size_t length = (size_t)(colon - text);
    if (text[0] == '[' && length > 2 && text[length - 1] == ']') {
        text++;
        length -= 2;
    }
    if (length >= sizeof(shell->host)) {
        return error_set(error, STATUS_INVALID, "--listen: the host is too long");
    }
    memcpy(shell->host, text, length);
    shell->port = (uint16_t)port;
    return STATUS_OK;
}

static void set_address(struct shell *shell)
{
    if (shell->options.advertise != NULL) {
        (void)snprintf(shell->address, sizeof(shell->address), "%s", shell->options.advertise);
    } else {
        bool v6 = strchr(shell->host, ':') != NULL;
        (void)snprintf(shell->address, sizeof(shell->address), "http://%s%.100s%s:%u", v6 ? "[" : "", shell->host,
                       v6 ? "]" : "", (unsigned)shell->port);
    }
}

static enum status check_self(const struct shell *shell, struct error *error)
{
    const struct member *self = members_by_key(&shell->members, shell->identity.keys.public_key);
    if (self == NULL || self->role != MEMBER_ROUTER || strcmp(self->name, shell->identity.name) != 0) {
        return error_set(error, STATUS_DENIED, "%s is no router of %s", shell->identity.name, shell->options.members);
    }
    return STATUS_OK;
}

/* The view of an earlier run: enough to serve without any coordinator. A damaged one is not fatal: the next comes. */
static void read_kept_view(struct shell *shell)
{
    char *path = file_join(shell->options.state, "view");
    struct buf frame;
    struct error error;
    buf_init(&frame, VIEW_FILE_BYTES_MAX);
    if (file_exists(path)) {
        if (file_read(path, VIEW_FILE_BYTES_MAX, &frame, &error) == STATUS_OK) {
            struct router_event event = {.kind = ROUTER_VIEW, .frame = buf_bytes(&frame)};
            shell_step(shell, &event);
        } else {
            LOG_W("router", "kept_view_unread", "error=%s", log_quoted(error.text));
        }
    }
    buf_free(&frame);
    mem_free(path);
}

static void open_core(struct shell *shell)
{
    const struct router_config config = {
        .name = shell->identity.name,
        .incarnation = clock_wall_us(),
        .metrics = shell->metrics,
        .requests_max = (size_t)shell->options.requests_max,
    };
    shell->router = router_new(&config);
    router_actions_init(&shell->actions);
    map_init(&shell->links, LINKS_MAX);
    shell->words = words_open(shell);
}

enum status shell_open(struct shell *shell, const struct shell_options *options, struct error *error)
{
    shell->options = *options;
    shell->metrics = metrics_new();
    enum status status = crypto_init();
    if (status != STATUS_OK) {
        return error_set(error, status, "libsodium can't be initialised");
    }
    if ((status = read_listen(shell, error)) != STATUS_OK ||
        (status = identity_read(options->identity, &shell->identity, error)) != STATUS_OK ||
        (status = members_read(options->members, &shell->members, error)) != STATUS_OK ||
        (status = check_self(shell, error)) != STATUS_OK ||
        (status = file_make_dirs(options->state, 0700, error)) != STATUS_OK ||
        (status = loop_init(&shell->loop, error)) != STATUS_OK ||
        (status = bus_open(&shell->loop, &shell->identity.keys, &shell->bus, error)) != STATUS_OK ||
        (status = http_open(shell, &shell->http, error)) != STATUS_OK) {
        return status;
    }
    open_core(shell);
    set_address(shell);
    if ((status = links_dial_coordinators(shell, error)) != STATUS_OK) {
        return status;
    }
    loop_signals_init(&shell->loop, &shell->signals, shell, on_stop);
    loop_timer_init(&shell->loop, &shell->tick, shell, tick_due);
    loop_timer_start(&shell->tick, TICK_MS, TICK_MS);
    read_kept_view(shell);
    LOG_I("router", "started", "name=%s address=%s coordinators=%zu view_index=%llu", shell->identity.name,
          shell->address, shell->asking.count, (unsigned long long)router_view_index(shell->router));
    return STATUS_OK;
}

void shell_run(struct shell *shell)
{
    loop_run(&shell->loop);
}

void shell_close(struct shell *shell)
{
    loop_timer_close(&shell->tick);
    loop_signals_close(&shell->signals);
    http_close(shell->http);
    words_close(shell->words);
    bus_close(shell->bus);
    links_close(shell);
    loop_close(&shell->loop);
    router_actions_free(&shell->actions);
    router_free(shell->router);
    metrics_free(shell->metrics);
    members_free(&shell->members);
}
