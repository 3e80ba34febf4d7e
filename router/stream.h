/* router/stream: one request's life: it holds the prompt's ids and every id already sent, so that any engine of the
 * model can go on with it from there.
 *
 *   RECEIVED ──▶ ENCODING ──ids──▶ WAITING ──submit──▶ SUBMITTED ──first id──▶ STREAMING ──▶ FINISHED
 *      │             │               ▲ │ ▲                 │                     │ │  │         ▲
 *      │             │               │ │ └── dead, stalled, draining, refused ───┴─┘  │         │
 *      │             │   writable    │ └─ 30 s without a replica: 503 ───────────────────────────┤
 *      │             │               └── PARKED ◀── the client does not read ─────────┤         │
 *      │             │                                  a stop string: cancelled ─▶ ENDING ─────┤
 *      └─────────────┴── 400, 404, 503; the client went ────────────────────────────────────────┘
 *
 * stream_take is the text's way: ids in order → detokeniser → stop strings → text. Ids of another (epoch, attempt), or
 * not at the awaited position, never get in. Who owns what: the stream owns its request, ids, stop automaton and held
 * text, and one use of its text_model. Pure. */
#ifndef SHOAL_ROUTER_STREAM_H
#define SHOAL_ROUTER_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/list.h"
#include "router/fleet.h"
#include "router/openai_answer.h"
#include "router/openai_request.h"
#include "router/text_model.h"
#include "text/detok.h"
#include "text/stop.h"

enum stream_state {
    STREAM_RECEIVED,
    STREAM_ENCODING,  /* waits for its model's texts, then for its ids */
    STREAM_WAITING,   /* for a replica */
    STREAM_SUBMITTED, /* on a replica, nothing came yet at this attempt */
    STREAM_STREAMING,
    STREAM_PARKED, /* the client does not read: no engine works for it */
    STREAM_ENDING, /* a stop string is complete; waits for the engine's last word on what was cached */
    STREAM_FINISHED
};

enum {
    STREAM_REFUSED_MAX = 8,
    STREAM_SUSPECT_DEATHS = 2,   /* engine deaths with little in between: the next try is alone */
    STREAM_PROGRESS_TOKENS = 16, /* so many new ids on one engine clear a stream of the deaths before */
    STREAM_FAULTS_MAX = 3
};

struct stream {
    struct list node;       /* in the router's list */
    struct list on_replica; /* SUBMITTED, STREAMING, ENDING: in replica->streams */
    uint64_t number;        /* the shell's of the request, and the stream's on the wire */
    enum stream_state state;
    bool encoding;  /* an ENCODE is out: the request must live until ENCODED */
    bool gone;      /* the client went meanwhile */
    bool head_sent; /* the stream of events has begun */
    bool resuming;  /* its next submission makes up for a lost or refusing replica */
    struct openai_request request;
    struct openai_answer answer;
    char answer_id[48];
    char model[97];
    size_t body_bytes; /* as admitted */
    int64_t wall_s;
    uint64_t seed;
    uint8_t cache_key[32];
    struct text_model *words;
    struct ids ids; /* the prompt's, then every id that came */
    uint32_t prompt_tokens;
    uint32_t max_tokens;

    struct replica *replica; /* while on one */
    uint64_t epoch;          /* of the submit */
    uint32_t attempt;
    uint64_t class_id; /* of the first replica */
    size_t ids_at_submit;
    uint64_t load_tokens; /* what it counts for in its replica's load */
    unsigned deaths;      /* in a row without progress */
    unsigned faults;
    uint64_t refused_links[STREAM_REFUSED_MAX]; /* since it last ran somewhere */
    size_t refused_count;

    struct detok detok;
    struct stop *stop;
    struct buf text; /* not streaming: the whole; streaming: what is not yet in a chunk */
    uint64_t cached_tokens;

    uint64_t arrived_us;
    uint64_t waits_us;   /* since when in WAITING or PARKED, in ENDING: since when */
    uint64_t retry_us;   /* WAITING: not before */
    uint64_t heard_us;   /* last submit or id */
    uint64_t last_id_us; /* 0: none yet */
};

struct stream *stream_new(uint64_t number, uint64_t now_us);
void stream_free(struct stream *stream);                       /* must be on no replica */
void stream_move(struct stream *stream, enum stream_state to); /* checks the diagram */
const char *stream_state_name(enum stream_state state);
bool stream_on_replica(const struct stream *stream);

/* The ids of the prompt are there: what the stream needs for its text. False: the stop strings are no good. */
bool stream_begin_text(struct stream *stream, struct openai_error *error);

/* Does an answer of this replica, epoch and attempt belong to the stream as it is? */
bool stream_awaits(const struct stream *stream, const struct replica *replica, uint64_t epoch, uint64_t attempt);

enum stream_took {
    STREAM_TOOK,    /* some or none were new; text grew accordingly */
    STREAM_GAP,     /* ids are missing before these */
    STREAM_STOPPED, /* a stop string is complete: text ends before it */
};
enum stream_took stream_take(struct stream *stream, uint64_t position, const uint32_t *ids, size_t count);
/* The text is over: what was held back comes out. */
void stream_flush(struct stream *stream);

uint64_t stream_new_tokens(const struct stream *stream);
bool stream_is_suspect(const struct stream *stream);
/* By its own ids the stream is over already, though nobody said so (the engine died in between). NULL: it is not. */
const char *stream_ended_by_ids(const struct stream *stream);

#endif
