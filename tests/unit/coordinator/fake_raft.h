/* fake_raft: one real libraft instance behind `safe`, with a scripted raft_io below it and scripted peers.
 *
 * The instance is server 1 of servers 1, 2, 3. Nothing happens by itself: the test moves the clock, completes disk
 * writes, sends messages and reads what was sent. Entry 1 is the configuration; a script says what else was on disk.
 *
 * A fatal ends the process: scripts that expect one run in a child (fake_raft_dies). */
#ifndef SHOAL_TESTS_UNIT_COORDINATOR_FAKE_RAFT_H
#define SHOAL_TESTS_UNIT_COORDINATOR_FAKE_RAFT_H

#include "coordinator/consensus/safe.h"

enum { FAKE_SENT_MAX = 512, FAKE_PENDING_MAX = 64, FAKE_LOG_MAX = 64, FAKE_T = 300, FAKE_HEARTBEAT = 50 };

struct fake_entry {
    raft_term term;
    unsigned short type; /* 0: RAFT_COMMAND */
};

/* A message as it was sent, with its entries' terms and types. */
struct fake_sent {
    struct raft_message message; /* entries NULL */
    struct fake_entry entries[16];
};

struct fake_raft {
    struct raft raft;
    struct raft_io inner;
    struct raft_fsm fsm;
    struct safe safe;
    raft_time now;
    raft_io_tick_cb tick;
    raft_io_recv_cb recv;

    /* the disk */
    raft_term term;
    raft_id vote;
    struct fake_entry log[FAKE_LOG_MAX]; /* as given to append, durable or not; [0] is index 1 */
    unsigned log_count;
    struct raft_io_append *appends[FAKE_PENDING_MAX];
    raft_io_append_cb append_cbs[FAKE_PENDING_MAX];
    unsigned appends_count;
    struct raft_io_snapshot_put *put;
    raft_io_snapshot_put_cb put_cb;
    unsigned puts;
    unsigned put_servers; /* members in the last snapshot's configuration */
    raft_index put_index;
    unsigned truncates, flushes, votes_written;
    bool fails; /* every disk operation from now on */

    struct fake_sent sent[FAKE_SENT_MAX];
    unsigned sent_count;
    struct raft_io_send *cb_requests[FAKE_SENT_MAX];
    raft_io_send_cb cbs[FAKE_SENT_MAX];
    unsigned cbs_count;
    unsigned applied;   /* commands */
    unsigned completed; /* proposals whose callback said 0 */
    unsigned snapshot_threshold;
};

/* log: entries 2..count + 1 on disk at start. */
void fake_raft_start(struct fake_raft *fake, unsigned disabled, raft_term term, const struct fake_entry *log,
                     unsigned count);
void fake_raft_stop(struct fake_raft *fake);

void fake_raft_tick(struct fake_raft *fake, unsigned ms);    /* moves the clock, then one tick */
void fake_raft_complete(struct fake_raft *fake, int status); /* the oldest append */
void fake_raft_complete_all(struct fake_raft *fake);
void fake_raft_complete_put(struct fake_raft *fake, int status);

/* Messages from a peer. `entries` as fake_entry; RAFT_CHANGE carries a configuration of `fake_change_servers`. */
void fake_raft_append_entries(struct fake_raft *fake, raft_id from, raft_term term, raft_index prev,
                              raft_term prev_term, raft_index commit, const struct fake_entry *entries, unsigned count);
void fake_raft_appended(struct fake_raft *fake, raft_id from, raft_index last);
void fake_raft_vote(struct fake_raft *fake, raft_id from, bool pre_vote);
void fake_raft_ask_vote(struct fake_raft *fake, raft_id from, raft_term term, raft_index last, raft_term last_term);
void fake_raft_timeout_now(struct fake_raft *fake, raft_id from, raft_term term, raft_index last, raft_term last_term);
void fake_raft_install(struct fake_raft *fake, raft_id from, raft_term term, raft_index last, raft_term last_term);
void fake_raft_propose(struct fake_raft *fake);

void fake_raft_campaign(struct fake_raft *fake); /* ticks until it is a candidate of the real vote */
void fake_raft_elect(struct fake_raft *fake);    /* until leader, by votes of server 2 */

/* The newest message of that type to that server (0: any) since `since`, or NULL. */
const struct fake_sent *fake_raft_last(const struct fake_raft *fake, unsigned type, raft_id to, unsigned since);
const struct fake_sent *fake_raft_first(const struct fake_raft *fake, unsigned type, raft_id to, unsigned since);

/* Runs `script` in a child: whether safe's fatal ended it. `why` must be in its reason. A failed CHECK fails the test.
 */
bool fake_raft_dies(void (*script)(unsigned disabled), unsigned disabled, const char *why);

#endif
