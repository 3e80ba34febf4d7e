/* Tests of base/json: JSONTestSuite, order and kinds, integers beyond 64 bits, and a writer whose output reads back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"
#include "tests/support/shared_data.h"

static struct json *parsed(const char *text)
{
    struct json *root = NULL;
    struct error error = {0};
    if (json_parse(bytes_of_text(text), &root, &error) != STATUS_OK)
        fail_msg("%s: %s", text, error.text);
    return root;
}

static enum status status_of(struct bytes text)
{
    struct json *root = NULL;
    enum status status = json_parse(text, &root, NULL);
    json_free(root);
    return status;
}

static void kinds_and_getters(void **state)
{
    (void)state;
    struct json *root =
        parsed("{\"s\":\"a\\u0000b\",\"i\":-5,\"r\":2.5,\"t\":true,\"f\":false,\"n\":null,\"a\":[1,[]]}");
    assert_int_equal(json_kind(root), JSON_OBJECT);
    assert_int_equal(json_count(root), 7);
    assert_true(bytes_equal(json_string(json_get(root, "s")), BYTES_LITERAL("a\0b")));
    assert_int_equal(json_integer(json_get(root, "i"), 9), -5);
    assert_int_equal(json_integer(json_get(root, "r"), 9), 9);
    assert_true(json_number(json_get(root, "i"), 9) == -5);
    assert_true(json_number(json_get(root, "r"), 9) == 2.5);
    assert_true(json_bool(json_get(root, "t"), false));
    assert_false(json_bool(json_get(root, "f"), true));
    assert_true(json_bool(json_get(root, "n"), true));
    assert_int_equal(json_kind(json_get(root, "n")), JSON_NULL);
    assert_int_equal(json_count(json_get(root, "a")), 2);
    assert_int_equal(json_integer(json_at(json_get(root, "a"), 0), 0), 1);
    assert_int_equal(json_kind(json_at(json_get(root, "a"), 1)), JSON_ARRAY);
    assert_null(json_at(json_get(root, "a"), 2));
    assert_true(json_is_number(json_get(root, "i")) && json_is_number(json_get(root, "r")));
    assert_false(json_is_number(json_get(root, "s")));
    json_free(root);
}

/* Everything takes a NULL or a value of another kind and answers "nothing". */
static void absent_values_are_harmless(void **state)
{
    (void)state;
    struct json *root = parsed("\"text\"");
    const struct json *values[] = {NULL, root};
    for (size_t i = 0; i < 2; i++) {
        void *iterator = NULL;
        assert_null(json_get(values[i], "x"));
        assert_null(json_at(values[i], 0));
        assert_int_equal(json_count(values[i]), 0);
        assert_false(json_next(values[i], &iterator, NULL, NULL));
        assert_int_equal(json_integer(values[i], 3), 3);
        assert_true(json_bool(values[i], true));
    }
    assert_int_equal(json_kind(NULL), JSON_NULL);
    assert_null(json_text(NULL));
    assert_int_equal(json_string(NULL).length, 0);
    assert_true(json_is_string(root, "text"));
    assert_false(json_is_string(root, "tex"));
    assert_false(json_is_string(NULL, ""));
    json_free(root);
    json_free(NULL);
}

static void members_keep_their_order(void **state)
{
    (void)state;
    struct json *root = parsed("{\"z\":1,\"a\":2,\"m\":3,\"b\":4,\"y\":5,\"c\":6,\"x\":7,\"d\":8,\"w\":9}");
    void *iterator = NULL;
    struct bytes key;
    const struct json *value;
    char keys[16] = "";
    for (size_t i = 0; json_next(root, &iterator, &key, &value); i++) {
        assert_int_equal(key.length, 1);
        assert_int_equal(json_integer(value, 0), (int)i + 1);
        keys[i] = (char)key.data[0];
    }
    assert_string_equal(keys, "zambycxdw");
    json_free(root);
}

static void strictness(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        "{\"a\":1,\"a\":2}",
        "[1] x",
        "[1,]",
        "\"\xff\"",
        "\"\xed\xa0\x80\"",
        "\"\xc0\x80\"",
        "nul",
        "01",
        "+1",
        "1.",
        "\"\\ud800\"",
        "{\"a\\u0000\":1}",
        "[\"\t\"]",
        "// c\n1",
        "{1:2}",
        "[1e999]",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        if (status_of(bytes_of_text(bad[i])) != STATUS_INVALID)
            fail_msg("accepted %s", bad[i]);
    }
    assert_int_equal(status_of(bytes_of("1\0", 2)), STATUS_INVALID);
    assert_int_equal(status_of((struct bytes){NULL, 0}), STATUS_INVALID);
    struct json *root = NULL;
    struct error error = {0};
    assert_int_equal(json_parse(BYTES_LITERAL("{\n \"a\" 1}"), &root, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "line 2, column"));
    assert_null(root);
}

static void depth_is_bounded(void **state)
{
    (void)state;
    static char text[2 * 100000];
    size_t depths[] = {JSON_DEPTH_MAX, JSON_DEPTH_MAX + 1, 100000};
    for (size_t i = 0; i < COUNT_OF(depths); i++) {
        memset(text, '[', depths[i]);
        memset(text + depths[i], ']', depths[i]);
        enum status expected = i == 0 ? STATUS_OK : STATUS_INVALID;
        assert_int_equal(status_of(bytes_of(text, 2 * depths[i])), expected);
    }
    /* Brackets inside strings, and behind escaped quotes, do not count. */
    struct buf quoted;
    buf_init(&quoted, 10000);
    buf_append_text(&quoted, "\"\\\"");
    for (int i = 0; i < 1000; i++)
        buf_append_text(&quoted, "[{");
    buf_append_text(&quoted, "\\\\\"");
    assert_int_equal(status_of(buf_bytes(&quoted)), STATUS_OK);
    buf_free(&quoted);
}

static void integers_beyond_64_bits_are_reals(void **state)
{
    (void)state;
    struct json *root =
        parsed("{\"big\":1000000000000000019884624838656,\"max\":9223372036854775807,"
               "\"min\":-9223372036854775808,\"over\":9223372036854775808,\"s\":\"\\\"99999999999999999999\","
               "\"r\":[12345678901234567890123,1.5,-3e2]}");
    assert_int_equal(json_kind(json_get(root, "big")), JSON_REAL);
    assert_true(json_number(json_get(root, "big"), 0) == 1000000000000000019884624838656.0);
    assert_true(json_integer(json_get(root, "max"), 0) == INT64_MAX);
    assert_true(json_integer(json_get(root, "min"), 0) == INT64_MIN);
    assert_true(json_number(json_get(root, "over"), 0) == 9223372036854775808.0);
    assert_string_equal(json_text(json_get(root, "s")), "\"99999999999999999999");
    assert_true(json_number(json_at(json_get(root, "r"), 0), 0) == 12345678901234567890123.0);
    assert_true(json_number(json_at(json_get(root, "r"), 2), 0) == -300);
    json_free(root);
}

static void assert_written(const char *text, size_t length, const char *expected)
{
    struct buf out;
    buf_init(&out, 4096);
    json_write_string(&out, bytes_of(text, length));
    assert_string_equal(buf_text(&out), expected);
    buf_free(&out);
}

static void strings_are_escaped(void **state)
{
    (void)state;
    assert_written("", 0, "\"\"");
    assert_written("a\"\\\n\t\r\b\f\x01\0z", 11, "\"a\\\"\\\\\\n\\t\\r\\b\\f\\u0001\\u0000z\"");
    assert_written("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\x7f", 10, "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\x7f\"");
    /* The Unicode standard's example of "maximal subparts" (chapter 3, table 3-8), and cut and surrogate forms. */
    assert_written("\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64", 13,
                   "\"a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
                   "b\xef\xbf\xbd"
                   "c\xef\xbf\xbd\xef\xbf\xbd"
                   "d\"");
    assert_written("\xe2\x82", 2, "\"\xef\xbf\xbd\"");
    assert_written("\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    assert_written("\xc0\xaf", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\"");
}

/* Whatever the bytes, what was written is a document that the strict reader takes. */
static void any_bytes_written_read_back(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 5);
    for (int round = 0; round < 3000; round++) {
        uint8_t text[40];
        size_t length = (size_t)rng_below(&rng, sizeof text);
        for (size_t i = 0; i < length; i++)
            text[i] = (uint8_t)rng_u64(&rng);
        struct buf out;
        buf_init(&out, 4096);
        json_write_string(&out, bytes_of(text, length));
        assert_int_equal(status_of(buf_bytes(&out)), STATUS_OK);
        buf_free(&out);
    }
}

static void numbers(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {0, "0"},
        {-0.0, "-0.0"},
        {1, "1"},
        {-17, "-17"},
        {0.1, "0.1"},
        {1e21, "1e+21"},
        {1.5e-7, "1.5e-07"},
        {1.0 / 3, "0.3333333333333333"},
        {INFINITY, "null"},
        {NAN, "null"},
        {9007199254740991.0, "9007199254740991"},
    };
    struct buf out;
    buf_init(&out, 100);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        buf_clear(&out);
        json_write_number(&out, cases[i].value);
        assert_string_equal(buf_text(&out), cases[i].text);
    }
    struct rng rng;
    rng_init(&rng, 11);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = rng_u64(&rng);
        double value;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value))
            continue;
        buf_clear(&out);
        json_write_number(&out, value);
        assert_true(strtod(buf_text(&out), NULL) == value);
    }
    buf_free(&out);
}

static void values_are_written_compact_and_in_order(void **state)
{
    (void)state;
    const char *text = "{\"z\":[1,-2.5,1.0,1e+300,true,false,null],\"a\":{\"\":\"\\u0000\"},\"e\":[],\"o\":{}}";
    struct json *root = parsed(text);
    struct buf out;
    buf_init(&out, 1000);
    json_write_value(&out, root);
    assert_string_equal(buf_text(&out), text);
    json_free(root);
    buf_free(&out);
}

/* JSONTestSuite's y_ files that shoal refuses on purpose. */
static bool refused_on_purpose(const char *name)
{
    static const char *const names[] = {
        "y_object_duplicated_key.json",           /* two readers could see two requests */
        "y_object_duplicated_key_and_value.json", /* likewise */
        "y_object_escaped_null_in_key.json",      /* jansson's keys end at a NUL; no format of ours has one */
    };
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(names[i], name) == 0)
            return true;
    }
    return false;
}

static size_t check_suite_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        char *path = file_join(folder, entry->d_name);
        struct buf text;
        buf_init(&text, 1 << 20);
        assert_int_equal(file_read(path, 1 << 20, &text, NULL), STATUS_OK);
        enum status status = status_of(buf_bytes(&text));
        bool wanted = entry->d_name[0] == 'y' && !refused_on_purpose(entry->d_name);
        bool open = entry->d_name[0] == 'i'; /* either is right; it must only not crash */
        if (!open && (status == STATUS_OK) != wanted)
            fail_msg("%s: %s", entry->d_name, status_name(status));
        buf_free(&text);
        mem_free(path);
        count++;
    }
    closedir(dir);
    return count;
}

static void json_test_suite(void **state)
{
    (void)state;
    char archive[SHARED_DATA_PATH_MAX];
    if (!shared_data_find("unit.base.json", "badinput/JSONTestSuite.tar.gz", archive))
        skip();
    char folder[] = "/tmp/shoal-test-json-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char *unpack[] = {"tar", "-xzf", archive, "-C", folder, NULL};
    char *remove[] = {"rm", "-rf", folder, NULL};
    int status;
    pid_t child;
    assert_int_equal(posix_spawnp(&child, "tar", NULL, NULL, unpack, environ), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    char *files = file_join(folder, "test_parsing");
    assert_true(check_suite_folder(files) > 150);
    assert_int_equal(posix_spawnp(&child, "rm", NULL, NULL, remove, environ), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    mem_free(files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_and_getters),
        cmocka_unit_test(absent_values_are_harmless),
        cmocka_unit_test(members_keep_their_order),
        cmocka_unit_test(strictness),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(integers_beyond_64_bits_are_reals),
        cmocka_unit_test(strings_are_escaped),
        cmocka_unit_test(any_bytes_written_read_back),
        cmocka_unit_test(numbers),
        cmocka_unit_test(values_are_written_compact_and_in_order),
        cmocka_unit_test(json_test_suite),
    };
    return cmocka_run_group_tests_name("base.json", tests, NULL, NULL);
}
