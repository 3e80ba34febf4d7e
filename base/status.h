/* status: the one error vocabulary of shoal.
 *
 * Every fallible function returns `enum status` and must be checked. A status says which kind of thing went
 * wrong; `struct error` carries the sentence for people (what, where, what to do next). Whoever first decides an
 * error fills the struct and logs it at most once; callers pass both on. Owns nothing; never fails. */
#ifndef SHOAL_BASE_STATUS_H
#define SHOAL_BASE_STATUS_H

#define MUST_CHECK                         __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt_index, args_index) __attribute__((format(printf, fmt_index, args_index)))

enum status {
    STATUS_OK = 0,
    STATUS_AGAIN,       /* not yet: more bytes or a later call are needed */
    STATUS_FULL,        /* a bounded queue or buffer is full: back-pressure, not failure */
    STATUS_INVALID,     /* the input breaks its own rules (syntax, range, shape) */
    STATUS_UNSUPPORTED, /* well-formed, but shoal does not do it */
    STATUS_LIMIT,       /* a configured maximum is exceeded */
    STATUS_NOT_FOUND,
    STATUS_EXISTS,
    STATUS_DENIED,   /* who asks may not */
    STATUS_CONFLICT, /* the state moved on: stale epoch, other incarnation, lost race */
    STATUS_NO_MEMORY,
    STATUS_IO,      /* the operating system refused; `struct error` has errno's text */
    STATUS_CORRUPT, /* stored or received bytes fail their checksum or invariants */
    STATUS_TIMEOUT,
    STATUS_CANCELLED,
    STATUS_CLOSED, /* the peer or the stream is gone */
    STATUS_UNREACHABLE,
    STATUS_NOT_LEADER, /* a follower was asked; the answer carries a hint */
    STATUS_BUSY,
    STATUS_COUNT
};

enum { ERROR_TEXT_MAX = 480 };

struct error {
    enum status status;
    char text[ERROR_TEXT_MAX]; /* a full sentence without trailing newline; "" when none was set */
};

/* A short stable name ("not_found"), for logs, metrics and the wire. Never NULL. */
const char *status_name(enum status status);

/* Fills *error (which may be NULL) and returns `status`, so that `return error_set(...)` reads as one step. */
enum status error_set(struct error *error, enum status status, const char *format, ...) PRINTF_LIKE(3, 4);

/* Like error_set, and appends ": " and strerror(errno_value). */
enum status error_set_errno(struct error *error, enum status status, int errno_value, const char *format, ...)
    PRINTF_LIKE(4, 5);

/* Puts "prefix: " in front of the text that is there; for callers that know the file or the field. */
void error_prefix(struct error *error, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
