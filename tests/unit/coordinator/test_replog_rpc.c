/* Messages between voters: what libraft sends arrives as it was, in frames that a peer may have; configurations are
 * read with all the checks that libraft's own decoder lacks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "coordinator/consensus/rpc.h"
#include "proto/proto.h"

enum { FRAMES_MAX = 16 };

static struct buf frames[FRAMES_MAX];
static unsigned frames_count;

static void keep_frame(void *context, struct bytes frame)
{
    (void)context;
    assert_true(frames_count < FRAMES_MAX);
    buf_init(&frames[frames_count], PROTO_FRAME_BYTES_MAX);
    buf_append_bytes(&frames[frames_count++], frame);
}

static void encode(const struct raft_message *message)
{
    struct error error = {0};
    frames_count = 0;
    if (rpc_encode(message, keep_frame, NULL, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

static void decode(unsigned number, struct rpc_incoming *out)
{
    struct error error = {0};
    if (rpc_decode(buf_bytes(&frames[number]), 2, out, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

static void free_frames(void)
{
    for (unsigned i = 0; i < frames_count; i++)
        buf_free(&frames[i]);
    frames_count = 0;
}

/* Entries of these sizes, terms 2, 2, 3, 3, ...; all share one buffer. */
static struct raft_entry *make_entries(const size_t *sizes, unsigned count, uint8_t *payload)
{
    struct raft_entry *entries = calloc(count, sizeof *entries);
    assert_non_null(entries);
    for (unsigned i = 0; i < count; i++)
        entries[i] =
            (struct raft_entry){.term = 2 + i / 2, .type = RAFT_COMMAND, .buf = {.base = payload + i, .len = sizes[i]}};
    return entries;
}

static void test_large_append_is_split_into_valid_ones(void **state)
{
    (void)state;
    static const size_t sizes[] = {600 << 10, 600 << 10, 300 << 10, 1 << 20, 0, 10};
    enum { COUNT = COUNT_OF(sizes) };
    uint8_t *payload = malloc((1 << 20) + COUNT);
    assert_non_null(payload);
    for (size_t i = 0; i < (1 << 20) + COUNT; i++)
        payload[i] = (uint8_t)(i * 31 + i / 256);
    struct raft_entry *entries = make_entries(sizes, COUNT, payload);
    struct raft_message message = {.type = RAFT_IO_APPEND_ENTRIES,
                                   .append_entries = {.term = 7,
                                                      .prev_log_index = 10,
                                                      .prev_log_term = 2,
                                                      .leader_commit = 13,
                                                      .entries = entries,
                                                      .n_entries = COUNT}};
    encode(&message);
    assert_true(frames_count > 1);
    raft_index index = 10;
    raft_term term = 2;
    for (unsigned i = 0; i < frames_count; i++) {
        struct rpc_incoming incoming;
        assert_true(frames[i].length < (1 << 20) + 4096);
        decode(i, &incoming);
        const struct raft_append_entries *part = &incoming.message.append_entries;
        assert_int_equal(incoming.message.type, RAFT_IO_APPEND_ENTRIES);
        assert_int_equal(part->term, 7);
        assert_int_equal(part->prev_log_index, index);
        assert_int_equal(part->prev_log_term, term);
        assert_true(part->leader_commit <= index + part->n_entries);
        assert_true(part->leader_commit == 13 || part->leader_commit == index + part->n_entries);
        assert_true(part->n_entries > 0);
        for (unsigned j = 0; j < part->n_entries; j++) {
            const struct raft_entry *original = &entries[index - 10 + j];
            assert_int_equal(part->entries[j].term, original->term);
            assert_int_equal(part->entries[j].buf.len, original->buf.len);
            assert_memory_equal(part->entries[j].buf.base, original->buf.base, original->buf.len);
            assert_ptr_equal(part->entries[j].batch, part->entries[0].batch);
        }
        index += part->n_entries;
        term = part->entries[part->n_entries - 1].term;
        raft_free(part->entries[0].batch);
        raft_free(part->entries);
    }
    assert_int_equal(index, 16);
    free_frames();
    free(entries);
    free(payload);
}

static void test_empty_append_has_no_array(void **state)
{
    (void)state;
    struct raft_message message = {
        .type = RAFT_IO_APPEND_ENTRIES,
        .append_entries = {.term = 7, .prev_log_index = 10, .prev_log_term = 2, .leader_commit = 13}};
    struct rpc_incoming incoming;
    encode(&message);
    assert_int_equal(frames_count, 1);
    decode(0, &incoming);
    assert_null(incoming.message.append_entries.entries);
    assert_int_equal(incoming.message.append_entries.leader_commit, 13);
    free_frames();
}

static void test_snapshot_goes_in_chunks(void **state)
{
    (void)state;
    enum { BYTES = (5 << 19) + 3 };
    uint8_t *data = malloc(BYTES);
    assert_non_null(data);
    for (size_t i = 0; i < BYTES; i++)
        data[i] = (uint8_t)(i * 7 + i / 256);
    struct raft_message message = {
        .type = RAFT_IO_INSTALL_SNAPSHOT,
        .install_snapshot = {
            .term = 7, .last_index = 20, .last_term = 6, .conf_index = 3, .data = {.base = data, .len = BYTES}}};
    raft_configuration_init(&message.install_snapshot.conf);
    assert_int_equal(raft_configuration_add(&message.install_snapshot.conf, 4, "c4", RAFT_VOTER), 0);
    assert_int_equal(raft_configuration_add(&message.install_snapshot.conf, 5, "c5", RAFT_SPARE), 0);
    encode(&message);
    assert_int_equal(frames_count, 3);
    size_t offset = 0;
    for (unsigned i = 0; i < frames_count; i++) {
        struct rpc_incoming incoming;
        decode(i, &incoming);
        struct rpc_chunk *chunk = &incoming.chunk;
        assert_true(incoming.is_chunk);
        assert_int_equal(chunk->offset, offset);
        assert_int_equal(chunk->total_bytes, BYTES);
        assert_int_equal(chunk->configuration.n, 2);
        assert_string_equal(chunk->configuration.servers[1].address, "c5");
        assert_int_equal(chunk->configuration.servers[1].role, RAFT_SPARE);
        assert_memory_equal(chunk->data.data, data + offset, chunk->data.length);
        offset += chunk->data.length;
        raft_configuration_close(&chunk->configuration);
    }
    assert_int_equal(offset, BYTES);
    free_frames();
    raft_configuration_close(&message.install_snapshot.conf);
    free(data);
}

static void test_votes_and_answers_arrive_as_they_were(void **state)
{
    (void)state;
    struct rpc_incoming incoming;
    struct raft_message ask = {.type = RAFT_IO_REQUEST_VOTE,
                               .request_vote = {.term = 7,
                                                .candidate_id = 2,
                                                .last_log_index = 9,
                                                .last_log_term = 6,
                                                .disrupt_leader = true,
                                                .pre_vote = true}};
    encode(&ask);
    decode(0, &incoming);
    assert_int_equal(incoming.message.request_vote.last_log_term, 6);
    assert_true(incoming.message.request_vote.disrupt_leader && incoming.message.request_vote.pre_vote);
    free_frames();
    struct raft_message vote = {
        .type = RAFT_IO_REQUEST_VOTE_RESULT,
        .request_vote_result = {.term = 7, .vote_granted = true, .pre_vote = raft_tribool_false}};
    encode(&vote);
    decode(0, &incoming);
    assert_true(incoming.message.request_vote_result.vote_granted);
    assert_int_equal(incoming.message.request_vote_result.pre_vote, raft_tribool_false);
    free_frames();
    struct raft_message answer = {.type = RAFT_IO_APPEND_ENTRIES_RESULT,
                                  .append_entries_result = {.term = 7, .rejected = 8, .last_log_index = 5}};
    encode(&answer);
    decode(0, &incoming);
    assert_int_equal(incoming.message.append_entries_result.rejected, 8);
    assert_int_equal(incoming.message.append_entries_result.last_log_index, 5);
    free_frames();
    struct raft_message now = {.type = RAFT_IO_TIMEOUT_NOW,
                               .timeout_now = {.term = 7, .last_log_index = 5, .last_log_term = 6}};
    encode(&now);
    decode(0, &incoming);
    assert_int_equal(incoming.message.timeout_now.last_log_index, 5);
    free_frames();
}

/* Every prefix and every changed byte of an encoded configuration is either read or refused, never overrun. */
static void test_configurations_are_checked(void **state)
{
    (void)state;
    struct raft_configuration configuration;
    struct raft_buffer encoded;
    raft_configuration_init(&configuration);
    assert_int_equal(raft_configuration_add(&configuration, 1, "c1", RAFT_VOTER), 0);
    assert_int_equal(raft_configuration_add(&configuration, 2, "other", RAFT_STANDBY), 0);
    assert_int_equal(raft_configuration_encode(&configuration, &encoded), 0);
    raft_configuration_close(&configuration);
    assert_int_equal(rpc_decode_configuration(bytes_of(encoded.base, encoded.len), &configuration), STATUS_OK);
    assert_int_equal(configuration.n, 2);
    assert_string_equal(configuration.servers[1].address, "other");
    raft_configuration_close(&configuration);
    size_t used = 1 + 8 + (8 + 3 + 1) + (8 + 6 + 1);
    for (size_t length = 0; length < encoded.len; length++) {
        uint8_t *copy = malloc(length + 1); /* exactly as long, for AddressSanitizer */
        memcpy(copy, encoded.base, length);
        uint8_t *exact = realloc(copy, length > 0 ? length : 1);
        enum status status = rpc_decode_configuration(bytes_of(exact, length), NULL);
        assert_int_equal(status == STATUS_OK, length >= used);
        free(exact);
    }
    uint8_t *bytes = encoded.base;
    for (size_t at = 0; at < encoded.len; at++) {
        uint8_t old = bytes[at];
        for (unsigned value = 0; value < 256; value++) {
            bytes[at] = (uint8_t)value;
            enum status status = rpc_decode_configuration(bytes_of(bytes, encoded.len), NULL);
            assert_true(status == STATUS_OK || status == STATUS_INVALID);
            assert_true(at >= 9 || value == old || status == STATUS_INVALID); /* format and count */
        }
        bytes[at] = old;
    }
    raft_free(encoded.base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large_append_is_split_into_valid_ones),
        cmocka_unit_test(test_empty_append_has_no_array),
        cmocka_unit_test(test_snapshot_goes_in_chunks),
        cmocka_unit_test(test_votes_and_answers_arrive_as_they_were),
        cmocka_unit_test(test_configurations_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
