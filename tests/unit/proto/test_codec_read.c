/* Promises of codec_read: it takes every encoding of a value (kawanet's msgpack-test-suite), steps over each of them
 * exactly, and refuses what is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "proto/codec_read.h"
#include "proto/proto.h"
#include "tests/support/shared_data.h"

enum { ENCODING_MAX = 512 };

/* "cc-ff" to bytes. */
static struct bytes unhex(const char *text, uint8_t out[ENCODING_MAX])
{
    size_t length = 0;
    unsigned byte;
    int used;
    for (const char *at = text; sscanf(at, "%2x%n", &byte, &used) == 1; at += at[used] == '-' ? used + 1 : used) {
        assert_true(length < ENCODING_MAX);
        out[length++] = (uint8_t)byte;
    }
    return bytes_of(out, length);
}

/* The item's value equals the one that the suite states, where JSON can state it. */
static void check_value(const struct json *example, const struct codec_item *item)
{
    const struct json *number = json_get(example, "number"), *string = json_get(example, "string");
    if (number != NULL) {
        double value = item->type == CODEC_UINT       ? (double)item->number
                       : item->type == CODEC_NEGATIVE ? (double)item->negative
                                                      : item->real;
        assert_true(item->type == CODEC_UINT || item->type == CODEC_NEGATIVE || item->type == CODEC_FLOAT);
        assert_true(value == json_number(number, -1e300));
    } else if (string != NULL) {
        assert_int_equal(item->type, CODEC_STR);
        assert_true(bytes_equal(item->bytes, json_string(string)));
        assert_true(codec_is_text(item->bytes));
    } else if (json_get(example, "binary") != NULL) {
        uint8_t expected[ENCODING_MAX];
        assert_int_equal(item->type, CODEC_BIN);
        assert_true(bytes_equal(item->bytes, unhex(json_text(json_get(example, "binary")), expected)));
    } else if (json_get(example, "ext") != NULL) {
        uint8_t expected[ENCODING_MAX];
        assert_int_equal(item->type, CODEC_EXT);
        assert_true(bytes_equal(item->bytes, unhex(json_text(json_at(json_get(example, "ext"), 1)), expected)));
    } else if (json_get(example, "bool") != NULL) {
        assert_int_equal(item->type, CODEC_BOOL);
        assert_int_equal(item->boolean, json_bool(json_get(example, "bool"), false));
    } else if (json_get(example, "array") != NULL && item->type == CODEC_ARRAY) {
        assert_int_equal(item->count, json_count(json_get(example, "array")));
    } else if (json_get(example, "map") != NULL) {
        assert_int_equal(item->type, CODEC_MAP);
        assert_int_equal(item->count, json_count(json_get(example, "map")));
    }
}

/* The same encoding as a field that this version does not know, before one that it knows. */
static void check_unknown_field(struct bytes encoding)
{
    struct buf frame;
    struct arena arena;
    struct proto_message message;
    struct error error = {0};
    buf_init(&frame, 4096);
    arena_init(&arena, 4096);
    buf_append(&frame, "\x93\x01\x12\x82\x7f", 5);
    buf_append_bytes(&frame, encoding);
    buf_append(&frame, "\x01\x2a", 2);
    if (proto_decode(buf_bytes(&frame), &arena, &message, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(message.any.cancel.stream, 42);
    buf_free(&frame);
    arena_free(&arena);
}

/* An unsigned number as the value of a U64 field, whatever its encoding. */
static void check_number_field(const struct json *example, struct bytes encoding)
{
    double value = json_number(json_get(example, "number"), -1);
    if (value < 0 || value != (double)(uint64_t)value) {
        return;
    }
    struct buf frame;
    struct arena arena;
    struct proto_message message;
    buf_init(&frame, 4096);
    arena_init(&arena, 4096);
    buf_append(&frame, "\x93\x01\x12\x81\x01", 5);
    buf_append_bytes(&frame, encoding);
    assert_int_equal(proto_decode(buf_bytes(&frame), &arena, &message, NULL), STATUS_OK);
    assert_int_equal(message.any.cancel.stream, (uint64_t)value);
    buf_free(&frame);
    arena_free(&arena);
}

static void check_encoding(const struct json *example, struct bytes encoding)
{
    struct cursor cursor = cursor_of(encoding);
    struct codec_item item;
    assert_int_equal(codec_read(&cursor, &item), STATUS_OK);
    check_value(example, &item);
    cursor = cursor_of(encoding);
    assert_int_equal(codec_skip(&cursor, 8), STATUS_OK);
    assert_int_equal(cursor_left(&cursor), 0);
    for (size_t length = 0; length < encoding.length; length++) {
        cursor = cursor_of(bytes_of(encoding.data, length));
        assert_int_equal(codec_skip(&cursor, 8), STATUS_INVALID);
    }
    check_unknown_field(encoding);
    check_number_field(example, encoding);
}

static void every_encoding_is_taken(void **state)
{
    (void)state;
    char path[SHARED_DATA_PATH_MAX];
    if (!shared_data_find("proto.codec_read", "badinput/msgpack-test-suite.json", path)) {
        skip();
    }
    struct buf text;
    struct json *suite;
    struct error error = {0};
    buf_init(&text, 1 << 20);
    assert_int_equal(file_read(path, 1 << 20, &text, &error), STATUS_OK);
    assert_int_equal(json_parse(buf_bytes(&text), &suite, &error), STATUS_OK);
    void *iterator = NULL;
    struct bytes key;
    const struct json *group;
    size_t checked = 0;
    while (json_next(suite, &iterator, &key, &group)) {
        for (size_t i = 0; i < json_count(group); i++) {
            const struct json *example = json_at(group, i), *encodings = json_get(example, "msgpack");
            for (size_t e = 0; e < json_count(encodings); e++) {
                uint8_t raw[ENCODING_MAX];
                check_encoding(example, unhex(json_text(json_at(encodings, e)), raw));
                checked++;
            }
        }
    }
    assert_true(checked > 200);
    json_free(suite);
    buf_free(&text);
}

/* A few of our own, for where the suite is absent. */
static void widths_agree(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        enum codec_type type;
        int64_t value;
    } cases[] = {
        {"05", CODEC_UINT, 5},
        {"cc-05", CODEC_UINT, 5},
        {"d1-00-05", CODEC_UINT, 5},
        {"cf-00-00-00-00-00-00-00-05", CODEC_UINT, 5},
        {"ff", CODEC_NEGATIVE, -1},
        {"d0-ff", CODEC_NEGATIVE, -1},
        {"d2-ff-ff-ff-ff", CODEC_NEGATIVE, -1},
        {"d3-80-00-00-00-00-00-00-00", CODEC_NEGATIVE, INT64_MIN},
        {"e0", CODEC_NEGATIVE, -32},
        {"d3-7f-ff-ff-ff-ff-ff-ff-ff", CODEC_UINT, INT64_MAX},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t raw[ENCODING_MAX];
        struct cursor cursor = cursor_of(unhex(cases[i].hex, raw));
        struct codec_item item;
        assert_int_equal(codec_read(&cursor, &item), STATUS_OK);
        assert_int_equal(item.type, cases[i].type);
        assert_int_equal(item.negative, cases[i].value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_encoding_is_taken),
        cmocka_unit_test(widths_agree),
    };
    return cmocka_run_group_tests_name("proto.codec_read", tests, NULL, NULL);
}
