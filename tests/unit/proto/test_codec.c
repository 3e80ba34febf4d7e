/* Promises of the codec: every message survives the way through a frame; a frame that was cut, changed or made to hurt
 * is refused with a status and costs no more memory than its bytes justify. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "proto/proto.h"
#include "tests/unit/proto/random_message.h"

enum { SEEDS = 40, ARENA_MAX = 16 << 20 };

static enum status decode(struct bytes frame, struct arena *arena, struct proto_message *out, struct error *error)
{
    /* From a block of exactly its size, so that a sanitizer sees a read past the end. */
    uint8_t *exact = malloc(frame.length + (frame.length == 0));
    assert_non_null(exact);
    memcpy(exact, frame.data, frame.length);
    enum status status = proto_decode(bytes_of(exact, frame.length), arena, out, error);
    free(exact);
    return status;
}

/* What `frame` decodes to, when it is not kept. */
static enum status verdict_of(struct bytes frame)
{
    struct arena arena;
    struct proto_message message;
    struct error error = {0};
    arena_init(&arena, ARENA_MAX);
    enum status status = decode(frame, &arena, &message, &error);
    assert_true(status == STATUS_OK || error.text[0] != 0);
    arena_free(&arena);
    return status;
}

static void random_frame(const struct proto_table *table, uint64_t seed, struct arena *arena, void *object,
                         struct buf *frame)
{
    struct rng rng;
    rng_init(&rng, seed);
    random_message(&rng, table, arena, object);
    struct error error = {0};
    if (proto_encode(frame, (enum proto_opcode)table->opcode, object, &error) != STATUS_OK) {
        fail_msg("%s seed %llu: %s", table->name, (unsigned long long)seed, error.text);
    }
}

static void round_trip(const struct proto_table *table, uint64_t seed)
{
    struct arena arena, decoded_arena;
    struct proto_message original = {0}, decoded = {0};
    struct buf frame, again;
    struct error error = {0};
    arena_init(&arena, ARENA_MAX);
    arena_init(&decoded_arena, ARENA_MAX);
    buf_init(&frame, PROTO_FRAME_BYTES_MAX);
    buf_init(&again, PROTO_FRAME_BYTES_MAX);
    random_frame(table, seed, &arena, &original.any, &frame);
    if (proto_decode(buf_bytes(&frame), &decoded_arena, &decoded, &error) != STATUS_OK) {
        fail_msg("%s seed %llu: %s", table->name, (unsigned long long)seed, error.text);
    }
    assert_int_equal(decoded.opcode, table->opcode);
    assert_true(message_equal(table, &original.any, &decoded.any));
    assert_int_equal(proto_encode(&again, decoded.opcode, &decoded.any, NULL), STATUS_OK);
    assert_true(bytes_equal(buf_bytes(&frame), buf_bytes(&again)));
    buf_free(&frame);
    buf_free(&again);
    arena_free(&arena);
    arena_free(&decoded_arena);
}

typedef void table_test(const struct proto_table *table, uint64_t seed);

static void for_every_message(table_test *test, uint64_t seeds)
{
    for (size_t i = 0; i < proto_declarations_count; i++) {
        if (proto_declarations[i].table == NULL || proto_declarations[i].table()->kind == PROTO_TABLE_RECORD) {
            continue;
        }
        for (uint64_t seed = 0; seed < seeds; seed++) {
            test(proto_declarations[i].table(), seed);
        }
    }
}

static void every_message_survives(void **state)
{
    (void)state;
    for_every_message(round_trip, SEEDS);
}

/* Every prefix is refused; every flipped byte either is refused or decodes to something that encodes again. */
static void damage(const struct proto_table *table, uint64_t seed)
{
    struct arena arena;
    struct proto_message original = {0}, decoded;
    struct buf frame, again;
    arena_init(&arena, ARENA_MAX);
    buf_init(&frame, PROTO_FRAME_BYTES_MAX);
    buf_init(&again, PROTO_FRAME_BYTES_MAX);
    random_frame(table, seed, &arena, &original.any, &frame);
    for (size_t length = 0; length < frame.length; length++) {
        assert_int_equal(verdict_of(bytes_of(frame.data, length)), STATUS_INVALID);
    }
    for (size_t at = 0; at < frame.length; at++) {
        const uint8_t masks[] = {0x01, 0x80, 0xff, (uint8_t)(1u << (at % 8))};
        for (size_t m = 0; m < COUNT_OF(masks); m++) {
            struct arena decoded_arena;
            arena_init(&decoded_arena, ARENA_MAX);
            frame.data[at] ^= masks[m];
            if (proto_decode(buf_bytes(&frame), &decoded_arena, &decoded, NULL) == STATUS_OK) {
                buf_clear(&again);
                assert_int_equal(proto_encode(&again, decoded.opcode, &decoded.any, NULL), STATUS_OK);
            }
            (void)verdict_of(buf_bytes(&frame));
            frame.data[at] ^= masks[m];
            arena_free(&decoded_arena);
        }
    }
    buf_append_u8(&frame, 0xc0);
    assert_int_equal(verdict_of(buf_bytes(&frame)), STATUS_INVALID);
    buf_free(&frame);
    buf_free(&again);
    arena_free(&arena);
}

static void damaged_frames_do_no_harm(void **state)
{
    (void)state;
    for_every_message(damage, 1);
}

static void hostile_lengths_allocate_nothing(void **state)
{
    (void)state;
    const struct bytes frames[] = {
        BYTES_LITERAL("\x93\x01\x11\x81\x04\xdd\xff\xff\xff\xff"),         /* submit.ids: 2^32 - 1 items */
        BYTES_LITERAL("\x93\x01\x11\x81\x04\xdd\x00\x10\x00\x00"),         /* as many as its maximum */
        BYTES_LITERAL("\x93\x01\x52\x81\x07\xdd\x00\x01\x00\x00\x80\x80"), /* view.tenants: 65,536 records in 2 bytes */
        BYTES_LITERAL("\x93\x01\x11\x81\x0a\xc6\xff\xff\xff\xff"),         /* a blob of 4 GiB */
        BYTES_LITERAL("\x93\x01\x20\x81\x01\xdb\xff\xff\xff\xff"),         /* a string of 4 GiB */
        BYTES_LITERAL("\x93\x01\x11\xdf\xff\xff\xff\xff"),                 /* a map of 2^32 - 1 pairs */
        BYTES_LITERAL("\x93\x01\x11\x81\x7f\xdd\xff\xff\xff\xff"),         /* the same in a field to skip */
        BYTES_LITERAL("\x93\x01\x11\x81\x7f\xdf\x80\x00\x00\x00\x00\x00"),
        BYTES_LITERAL("\xdd\xff\xff\xff\xff\x01\x11\x80"),
    };
    for (size_t i = 0; i < COUNT_OF(frames); i++) {
        struct arena arena;
        struct proto_message message;
        arena_init(&arena, ARENA_MAX);
        assert_int_equal(decode(frames[i], &arena, &message, NULL), STATUS_INVALID);
        assert_int_equal(arena.used, 0);
        arena_free(&arena);
    }
}

static void faults_have_their_status(void **state)
{
    (void)state;
    const struct {
        struct bytes frame;
        enum status status;
        const char *says;
    } cases[] = {
        {BYTES_LITERAL("\x93\x01\x12\x80"), STATUS_OK, ""},
        {BYTES_LITERAL("\x93\x02\x12\x80"), STATUS_UNSUPPORTED, "version 2"},
        {BYTES_LITERAL("\x93\x01\x7e\x80"), STATUS_UNSUPPORTED, "opcode 126"},
        {BYTES_LITERAL("\x93\x01\xcf\x00\x00\x00\x01\x00\x00\x00\x12\x80"), STATUS_UNSUPPORTED, "opcode 4294967314"},
        {BYTES_LITERAL("\x92\x01\x12"), STATUS_INVALID, "[version, opcode, fields]"},
        {BYTES_LITERAL("\x93\x01\x12\x90"), STATUS_INVALID, "cancel must be a map, not an array"},
        {BYTES_LITERAL("\x93\x01\x12\x81\x01\xa1x"), STATUS_INVALID, "cancel.stream must be a whole number"},
        {BYTES_LITERAL("\x93\x01\x12\x81\x01\xff"), STATUS_INVALID, "cancel.stream must be a whole number"},
        {BYTES_LITERAL("\x93\x01\x12\x81\x01\xc0"), STATUS_INVALID, "cancel.stream must be a whole number"},
        {BYTES_LITERAL("\x93\x01\x12\x81\x01\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"), STATUS_INVALID, "whole number"},
        {BYTES_LITERAL("\x93\x01\x12\x81\x01\xcb\x43\xf0\x00\x00\x00\x00\x00\x00"), STATUS_INVALID, "whole number"},
        {BYTES_LITERAL("\x93\x01\x12\x82\x01\x01\x01\x01"), STATUS_INVALID, "tag 1 of cancel comes twice"},
        {BYTES_LITERAL("\x93\x01\x12\x82\x7f\xc0\x7f\xc0"), STATUS_INVALID, "tag 127 of cancel comes twice"},
        {BYTES_LITERAL("\x93\x01\x12\x81\x00\x01"), STATUS_INVALID, "tag"},
        {BYTES_LITERAL("\x93\x01\x12\x81\xcc\x80\x01"), STATUS_INVALID, "tag"},
        {BYTES_LITERAL("\x93\x01\x12\x81\xa1s\x01"), STATUS_INVALID, "tag"},
        {BYTES_LITERAL("\x93\x01\x12\x80\x00"), STATUS_INVALID, "1 bytes trail"},
        {BYTES_LITERAL("\x93\x01\x12\x81\x02\xcf\x00\x00\x00\x01\x00\x00\x00\x00"), STATUS_LIMIT,
         "cancel.attempt is above"},
        {BYTES_LITERAL("\x93\x01\x11\x81\x0d\x0a"), STATUS_LIMIT, "submit.priority is above"},
        {BYTES_LITERAL("\x93\x01\x11\x81\x04\x91\xff"), STATUS_INVALID, "submit.ids"},
        {BYTES_LITERAL("\x93\x01\x11\x81\x04\x91\xcf\x00\x00\x00\x01\x00\x00\x00\x00"), STATUS_LIMIT, "submit.ids"},
        {BYTES_LITERAL("\x93\x01\x11\x81\x04\x01"), STATUS_INVALID, "submit.ids must be an array"},
        {BYTES_LITERAL("\x93\x01\x11\x81\x07\x81\x01\xa1x"), STATUS_INVALID, "submit: sampling.temperature"},
        {BYTES_LITERAL("\x93\x01\x11\x81\x07\x81\x01\xca\x7f\x80\x00\x00"), STATUS_INVALID, "must be a finite number"},
        {BYTES_LITERAL("\x93\x01\x11\x81\x0e\x01"), STATUS_INVALID, "submit.ignore_eos must be a boolean"},
        {BYTES_LITERAL("\x93\x01\x11\x81\x0a\xa1x"), STATUS_INVALID, "submit.cache_key must be bytes"},
        {BYTES_LITERAL("\x93\x01\x20\x81\x01\xc4\x01x"), STATUS_INVALID, "hello.replica must be a string"},
        {BYTES_LITERAL("\x93\x01\x20\x81\x01\xa1\xff"), STATUS_INVALID, "UTF-8"},
        {BYTES_LITERAL("\x93\x01\x20\x81\x01\xa1\x00"), STATUS_INVALID, "NUL"},
        {BYTES_LITERAL("\x93\x01\x20\x81\x01\xa3\xed\xa0\x80"), STATUS_INVALID, "UTF-8"},
        {BYTES_LITERAL("\x93\x01\x20\x81\x01\xa2\xc0\x80"), STATUS_INVALID, "UTF-8"},
        {BYTES_LITERAL("\x93\x01\x20\x81\x01\xa4\xf4\x90\x80\x80"), STATUS_INVALID, "UTF-8"},
        {BYTES_LITERAL("\x93\x01\x23\x81\x05\xd9\x21"
                       "123456789012345678901234567890123"),
         STATUS_LIMIT, "refused.status is too long"},
        /* Unknown fields: skipped in messages, at any depth up to the limit, and refused in commands. */
        {BYTES_LITERAL("\x93\x01\x12\x81\x7f\xc1"), STATUS_INVALID, "field 127"},
        {BYTES_LITERAL("\x93\x01\x12\x82\x7f\x82\x01\x91\xc7\x02\x05xx\xa1k\xd8\x00"
                       "1234567890123456\x01\x05"),
         STATUS_OK, ""},
        {BYTES_LITERAL("\x93\x01\x12\x81\x7f\x91\x91\x91\x91\x91\xc0"), STATUS_OK, ""},
        {BYTES_LITERAL("\x93\x01\x12\x81\x7f\x91\x91\x91\x91\x91\x91\x90"), STATUS_LIMIT, "nested too deep"},
        {BYTES_LITERAL("\x93\x01\xcc\x83\x81\x7f\xc0"), STATUS_UNSUPPORTED, "field 127"},
        {BYTES_LITERAL("\x93\x01\xcc\x88\x81\x01\x81\x7e\xc0"), STATUS_UNSUPPORTED, "view_key has a field 126"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct arena arena;
        struct proto_message message;
        struct error error = {0};
        arena_init(&arena, ARENA_MAX);
        enum status status = decode(cases[i].frame, &arena, &message, &error);
        if (status != cases[i].status || strstr(error.text, cases[i].says) == NULL) {
            fail_msg("case %zu: %s, \"%s\"", i, status_name(status), error.text);
        }
        arena_free(&arena);
    }
}

static void depth_is_limited_without_recursion(void **state)
{
    (void)state;
    struct buf frame;
    buf_init(&frame, 4 << 20);
    buf_append_bytes(&frame, BYTES_LITERAL("\x93\x01\x12\x81\x7f"));
    for (int i = 0; i < 2000000; i++) {
        buf_append_u8(&frame, 0x91);
    }
    buf_append_u8(&frame, 0xc0);
    assert_int_equal(verdict_of(buf_bytes(&frame)), STATUS_LIMIT);
    buf_free(&frame);
}

static void oversized_frames_are_refused(void **state)
{
    (void)state;
    uint8_t *frame = calloc(1, PROTO_FRAME_BYTES_MAX + 1);
    assert_non_null(frame);
    assert_int_equal(verdict_of(bytes_of(frame, PROTO_FRAME_BYTES_MAX + 1)), STATUS_LIMIT);
    free(frame);
}

static void arena_maximum_is_kept(void **state)
{
    (void)state;
    struct buf frame;
    struct arena arena;
    struct proto_message message;
    uint32_t ids[4096] = {0};
    struct proto_submit submit = {.ids = ids, .ids_count = COUNT_OF(ids)};
    buf_init(&frame, 1 << 20);
    arena_init(&arena, 4096);
    assert_int_equal(proto_encode(&frame, PROTO_SUBMIT, &submit, NULL), STATUS_OK);
    assert_int_equal(proto_decode(buf_bytes(&frame), &arena, &message, NULL), STATUS_NO_MEMORY);
    arena_free(&arena);
    buf_free(&frame);
}

static void encoder_refuses_what_decoders_would(void **state)
{
    (void)state;
    struct buf out;
    struct error error = {0};
    buf_init(&out, 1 << 10);
    buf_append_text(&out, "kept");

    struct proto_submit submit = {.priority = 10};
    assert_int_equal(proto_encode(&out, PROTO_SUBMIT, &submit, &error), STATUS_LIMIT);
    assert_non_null(strstr(error.text, "submit.priority"));
    struct proto_hello hello = {.model = BYTES_LITERAL("\xff")};
    assert_int_equal(proto_encode(&out, PROTO_HELLO, &hello, &error), STATUS_INVALID);
    struct proto_load load = {.step_base_s = (double)NAN};
    assert_int_equal(proto_encode(&out, PROTO_LOAD, &load, &error), STATUS_INVALID);
    uint32_t ids[300] = {0};
    struct proto_stream_tokens stream = {.ids = ids, .ids_count = COUNT_OF(ids)};
    struct proto_tokens tokens = {.streams = &stream, .streams_count = 1};
    assert_int_equal(proto_encode(&out, PROTO_TOKENS, &tokens, &error), STATUS_LIMIT);
    assert_non_null(strstr(error.text, "tokens: stream_tokens.ids"));
    uint8_t big[1024] = {0};
    struct proto_propose propose = {.command = bytes_of(big, sizeof(big))};
    assert_int_equal(proto_encode(&out, PROTO_PROPOSE, &propose, &error), STATUS_LIMIT); /* the buffer's maximum */

    assert_string_equal(buf_text(&out), "kept");
    assert_false(out.overflow);
    buf_free(&out);
}

static void zeros_are_left_out(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 1 << 10);
    struct proto_submit submit = {.sampling = {.temperature = 0.0}};
    assert_int_equal(proto_encode(&out, PROTO_SUBMIT, &submit, NULL), STATUS_OK);
    assert_true(bytes_equal(buf_bytes(&out), BYTES_LITERAL("\x93\x01\x11\x80")));
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_survives),
        cmocka_unit_test(damaged_frames_do_no_harm),
        cmocka_unit_test(hostile_lengths_allocate_nothing),
        cmocka_unit_test(faults_have_their_status),
        cmocka_unit_test(depth_is_limited_without_recursion),
        cmocka_unit_test(oversized_frames_are_refused),
        cmocka_unit_test(arena_maximum_is_kept),
        cmocka_unit_test(encoder_refuses_what_decoders_would),
        cmocka_unit_test(zeros_are_left_out),
    };
    return cmocka_run_group_tests_name("proto.codec", tests, NULL, NULL);
}
