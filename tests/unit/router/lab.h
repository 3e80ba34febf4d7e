/* lab: the router's core with everything around it played by the test: engines, clients, the texts' thread, time.
 *
 * lab_step performs what the core asks for at once: links are noted, texts are a vocabulary of single bytes, ENCODE
 * gives one id per byte of the prompt (of the last message's content for a chat), frames to engines are decoded into
 * the engine's last submit and counters, and what clients get is collected. */
#ifndef SHOAL_TESTS_UNIT_ROUTER_LAB_H
#define SHOAL_TESTS_UNIT_ROUTER_LAB_H

#include "base/metrics.h"
#include "proto/proto.h"
#include "router/router.h"
#include "tests/unit/router/support.h"

enum {
    LAB_ENGINES = 3,
    LAB_REQUESTS = 128,
    LAB_OPEN_MAX = 100,
    LAB_SUBMITS_MAX = 512,
    LAB_IDS_MAX = 256,
    LAB_EOS = 256,
    LAB_CONTEXT = 200
};

struct lab_submit {
    uint64_t stream;
    uint64_t attempt;
    uint32_t ids[LAB_IDS_MAX];
    size_t ids_count;
    size_t prompt_tokens;
    uint64_t max_tokens;
    uint64_t seed;
    uint8_t cache_key[32];
};

struct lab_engine {
    uint64_t link; /* 0: never dialled, or hung up */
    char endpoint[64];
    struct lab_submit submits[LAB_SUBMITS_MAX]; /* in order */
    size_t submits_count;
    size_t cancels, attaches, snapshot_asks;
    uint64_t cancelled_stream, cancelled_attempt; /* the last */
    uint64_t epoch;
    uint64_t incarnation;
    uint64_t step;
    uint64_t running;
};

struct lab_client {
    unsigned status; /* of a whole answer, or 200 when a stream began */
    bool begun, over, aborted;
    unsigned retry_after_s;
    struct buf text; /* the body, or all events */
};

struct lab {
    struct router *router;
    struct metrics *metrics;
    struct router_actions actions;
    uint64_t now_us;
    uint64_t view_index;
    struct lab_engine engines[LAB_ENGINES];
    struct lab_client clients[LAB_REQUESTS]; /* by request number */
    uint64_t request_last;
    bool hold_encode; /* ENCODE waits for lab_encode */
    uint64_t held_encode;
    size_t views_saved;
    size_t texts_loaded;
    struct text_model *words;
};

/* A router that knows the model "m" and `engines` ready replicas m/0, m/1, ... and key "sk-1" of tenant "t1", "sk-2" of
 * "t2"; links are up, hellos and first loads are in, snapshots are empty. */
struct lab *lab_new(size_t engines);
void lab_free(struct lab *lab);

void lab_step(struct lab *lab, struct router_event *event);
void lab_pass(struct lab *lab,
              uint64_t us); /* time, in ticks of 50 ms, with loads of all engines that have a link up */
void lab_pass_silent(struct lab *lab, uint64_t us, size_t silent_engine); /* one of them sends no load */
void lab_view(struct lab *lab, size_t engines, uint64_t state);           /* a newer view; state of m/0 */
void lab_up(struct lab *lab, size_t engine);                              /* link up, hello, load, snapshot */
void lab_down(struct lab *lab, size_t engine);                            /* the process died */
void lab_load(struct lab *lab, size_t engine, bool draining);
void lab_frame(struct lab *lab, size_t engine, enum proto_opcode opcode, const void *message);

/* Client side: returns the request's number. */
uint64_t lab_request(struct lab *lab, const char *method, const char *target, const char *key, const char *body);
uint64_t lab_complete(struct lab *lab, const char *prompt, const char *members); /* POST /v1/completions, sk-1 */
void lab_client(struct lab *lab, uint64_t request, enum router_event_kind kind);
void lab_encode(struct lab *lab); /* the held one */
struct lab_client *lab_of(struct lab *lab, uint64_t request);

/* Engine side: for the last submit of a stream there. */
struct lab_submit *lab_last(struct lab *lab, size_t engine);
size_t lab_where(struct lab *lab, uint64_t request); /* the engine of its highest attempt; LAB_ENGINES: none */
struct lab_submit *lab_submit_of(struct lab *lab, size_t engine, uint64_t request); /* the newest; NULL: none */
void lab_tokens_at(struct lab *lab, size_t engine, uint64_t request, uint64_t attempt, uint64_t position,
                   const char *text);
/* The text goes on from where the engine's newest submit of it stands, `skip` ids behind. */
void lab_tokens(struct lab *lab, size_t engine, uint64_t request, size_t skip, const char *text);
void lab_finished(struct lab *lab, size_t engine, uint64_t request, enum proto_finish reason, uint64_t cached);
void lab_refused(struct lab *lab, size_t engine, uint64_t request, bool elsewhere, const char *status);

/* The request is over with this status, and no other is open. */
void assert_over(struct lab *lab, uint64_t request, unsigned status);
void assert_text(struct lab *lab, uint64_t request, const char *expected); /* of all deltas */
bool said(struct lab *lab, uint64_t request, const char *part);            /* to the client, anywhere */
/* The text of all deltas in an event stream, in order. */
void lab_text(const struct lab_client *client, char *out, size_t out_size);
double lab_metric(struct lab *lab, const char *name);

#endif
