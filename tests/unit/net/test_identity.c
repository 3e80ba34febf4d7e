/* Promises of identities and the members file: what is written reads back; secrets that others can read, halves that do
 * not belong together, and members that could be mistaken for each other are refused with the file's name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "net/identity.h"

static char folder[] = "/tmp/shoal-test-identity-XXXXXX";

static const char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void write_text(const char *name, const char *text, unsigned mode)
{
    struct error error;
    assert_int_equal(file_write_atomic(path_of(name), bytes_of_text(text), mode, &error), STATUS_OK);
}

static void test_identity_reads_back(void **state)
{
    (void)state;
    struct identity made, read;
    struct error error;
    struct stat info;
    assert_int_equal(identity_create(path_of("n1.key"), "n1", &made, &error), STATUS_OK);
    assert_int_equal(stat(path_of("n1.key"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(identity_read(path_of("n1.key"), &read, &error), STATUS_OK);
    assert_string_equal(read.name, "n1");
    assert_memory_equal(&read.keys, &made.keys, sizeof(made.keys));
    assert_int_equal(identity_create(path_of("n1.key"), "n1", &made, &error), STATUS_EXISTS);
    assert_int_equal(identity_create(path_of("other.key"), "n2", &read, &error), STATUS_OK);
    assert_memory_not_equal(read.keys.secret_key, made.keys.secret_key, CURVE_KEY_BYTES);
}

static void test_names_have_bounds(void **state)
{
    (void)state;
    struct identity made;
    struct error error;
    char name[MEMBER_NAME_MAX + 2];
    memset(name, 'x', sizeof(name));
    name[MEMBER_NAME_MAX + 1] = '\0';
    assert_int_equal(identity_create(path_of("long.key"), name, &made, &error), STATUS_INVALID);
    assert_int_equal(identity_create(path_of("long.key"), "", &made, &error), STATUS_INVALID);
    assert_false(file_exists(path_of("long.key")));
    name[MEMBER_NAME_MAX] = '\0';
    assert_int_equal(identity_create(path_of("long.key"), name, &made, &error), STATUS_OK);
    assert_int_equal(identity_read(path_of("long.key"), &made, &error), STATUS_OK);
    assert_string_equal(made.name, name);
}

static void test_readable_secret_is_refused(void **state)
{
    (void)state;
    struct identity made;
    struct error error;
    assert_int_equal(identity_create(path_of("open.key"), "n1", &made, &error), STATUS_OK);
    for (unsigned bit = 0; bit < 6; bit++) {
        assert_int_equal(chmod(path_of("open.key"), 0600 | 1u << bit), 0);
        assert_int_equal(identity_read(path_of("open.key"), &made, &error), STATUS_DENIED);
        assert_non_null(strstr(error.text, "open.key"));
    }
    assert_int_equal(chmod(path_of("open.key"), 0400), 0);
    assert_int_equal(identity_read(path_of("open.key"), &made, &error), STATUS_OK);
}

static void test_damaged_identities_are_refused(void **state)
{
    (void)state;
    struct identity one, two, out;
    struct error error;
    char public_text[CURVE_TEXT_BYTES], secret_text[CURVE_TEXT_BYTES], text[512];
    assert_int_equal(identity_create(path_of("one.key"), "a", &one, &error), STATUS_OK);
    assert_int_equal(identity_create(path_of("two.key"), "a", &two, &error), STATUS_OK);
    crypto_z85_encode(public_text, one.keys.public_key);
    crypto_z85_encode(secret_text, two.keys.secret_key);
    static const char *const broken[] = {"", "[]", "{}", "{\"name\": \"a\"}",
                                         "{\"name\": 7, \"public\": \"\", \"secret\": \"\"}"};
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        write_text("bad.key", broken[i], 0600);
        assert_int_equal(identity_read(path_of("bad.key"), &out, &error), STATUS_INVALID);
        assert_non_null(strstr(error.text, "bad.key"));
    }
    snprintf(text, sizeof(text), "{\"name\": \"a\", \"public\": \"%s\", \"secret\": \"%s\"}", public_text, secret_text);
    write_text("bad.key", text, 0600);
    assert_int_equal(identity_read(path_of("bad.key"), &out, &error), STATUS_CORRUPT);
    snprintf(text, sizeof(text), "{\"name\": \"a\", \"public\": \"%s\", \"secret\": \"%.39s\"}", public_text,
             secret_text);
    write_text("bad.key", text, 0600);
    assert_int_equal(identity_read(path_of("bad.key"), &out, &error), STATUS_INVALID);
    assert_int_equal(identity_read(path_of("absent.key"), &out, &error), STATUS_NOT_FOUND);
}

static struct member member_of(enum member_role role, const char *name, uint64_t raft_id)
{
    struct member member = {.role = role, .raft_id = raft_id};
    uint8_t secret[CURVE_KEY_BYTES];
    snprintf(member.name, sizeof(member.name), "%s", name);
    crypto_curve_keypair(member.public_key, secret);
    crypto_z85_encode(member.key_text, member.public_key);
    if (role == MEMBER_COORDINATOR) {
        snprintf(member.endpoint, sizeof(member.endpoint), "tcp://127.0.0.1:%d", 7000 + (int)raft_id);
    }
    return member;
}

static void test_members_read_back(void **state)
{
    (void)state;
    struct error error;
    struct member list[] = {member_of(MEMBER_COORDINATOR, "c1", 1), member_of(MEMBER_COORDINATOR, "c2", 2),
                            member_of(MEMBER_ROUTER, "x", 0), member_of(MEMBER_NODE, "x", 0),
                            member_of(MEMBER_OPERATOR, "a \"b\" ü", 0)};
    struct members out, members = {.cluster_id = {1, 2, 3}, .list = list, .count = 5};
    assert_int_equal(members_write(path_of("members.json"), &members, &error), STATUS_OK);
    assert_int_equal(members_read(path_of("members.json"), &out, &error), STATUS_OK);
    assert_int_equal(out.count, 5);
    assert_memory_equal(out.cluster_id, members.cluster_id, sizeof(out.cluster_id));
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(out.list[i].role, list[i].role);
        assert_string_equal(out.list[i].name, list[i].name);
        assert_string_equal(out.list[i].endpoint, list[i].endpoint);
        assert_string_equal(out.list[i].key_text, list[i].key_text);
        assert_int_equal(out.list[i].raft_id, list[i].raft_id);
        assert_memory_equal(out.list[i].public_key, list[i].public_key, CURVE_KEY_BYTES);
    }
    assert_ptr_equal(members_by_key(&out, list[3].public_key), &out.list[3]);
    assert_ptr_equal(members_by_name(&out, MEMBER_NODE, "x"), &out.list[3]);
    assert_ptr_equal(members_by_name(&out, MEMBER_ROUTER, "x"), &out.list[2]);
    assert_null(members_by_name(&out, MEMBER_NODE, "c1"));
    uint8_t stranger[CURVE_KEY_BYTES] = {0};
    assert_null(members_by_key(&out, stranger));
    members_free(&out);
}

static void assert_members_refused(struct member *list, size_t count, const char *why)
{
    struct error error;
    struct members out, members = {.list = list, .count = count};
    assert_int_equal(members_write(path_of("bad.json"), &members, &error), STATUS_OK);
    assert_int_equal(members_read(path_of("bad.json"), &out, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "bad.json"));
    assert_non_null(strstr(error.text, why));
}

static void test_ambiguous_members_are_refused(void **state)
{
    (void)state;
    struct member list[3] = {member_of(MEMBER_COORDINATOR, "c1", 1), member_of(MEMBER_COORDINATOR, "c2", 1)};
    assert_members_refused(list, 2, "same raft_id");
    list[1] = member_of(MEMBER_COORDINATOR, "c1", 2);
    assert_members_refused(list, 2, "called c1");
    list[1] = member_of(MEMBER_NODE, "n1", 0);
    list[2] = member_of(MEMBER_ROUTER, "r1", 0);
    memcpy(list[2].public_key, list[0].public_key, CURVE_KEY_BYTES);
    assert_members_refused(list, 3, "same key");
    assert_members_refused(&list[1], 1, "no coordinator");
    list[0].raft_id = 0;
    assert_members_refused(list, 1, "raft_id above 0");
    list[0].raft_id = 1;
    list[0].endpoint[0] = '\0';
    assert_members_refused(list, 1, "endpoint");
}

static void test_malformed_members_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "{}",
        "{\"cluster_id\": \"00\"}",
        "{\"cluster_id\": \"0000000000000000000000000000000g\"}",
        "{\"cluster_id\": \"00000000000000000000000000000000\", \"nodes\": {}}",
        "{\"cluster_id\": \"00000000000000000000000000000000\", \"nodes\": [7]}",
        "{\"cluster_id\": \"00000000000000000000000000000000\", \"nodes\": [{\"name\": \"n\", \"key\": \"short\"}]}"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct members out;
        struct error error;
        write_text("bad.json", texts[i], 0644);
        assert_int_equal(members_read(path_of("bad.json"), &out, &error), STATUS_INVALID);
        assert_non_null(strstr(error.text, "bad.json"));
    }
}

static void test_too_many_members_are_refused(void **state)
{
    (void)state;
    struct error error;
    struct member *list = mem_new_array(struct member, MEMBERS_MAX + 1);
    for (size_t i = 0; i <= MEMBERS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof(name), "m%zu", i);
        list[i] = member_of(i == 0 ? MEMBER_COORDINATOR : MEMBER_NODE, name, i == 0);
    }
    struct members out, members = {.list = list, .count = MEMBERS_MAX};
    assert_int_equal(members_write(path_of("many.json"), &members, &error), STATUS_OK);
    assert_int_equal(members_read(path_of("many.json"), &out, &error), STATUS_OK);
    assert_int_equal(out.count, MEMBERS_MAX);
    members_free(&out);
    members.count++;
    assert_int_equal(members_write(path_of("many.json"), &members, &error), STATUS_OK);
    assert_int_equal(members_read(path_of("many.json"), &out, &error), STATUS_LIMIT);
    mem_free(list);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) != NULL && crypto_init() == STATUS_OK ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"n1.key",  "other.key", "long.key",     "open.key", "one.key",
                                        "two.key", "bad.key",   "members.json", "bad.json", "many.json"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)unlink(path_of(names[i]));
    }
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identity_reads_back),
        cmocka_unit_test(test_names_have_bounds),
        cmocka_unit_test(test_readable_secret_is_refused),
        cmocka_unit_test(test_damaged_identities_are_refused),
        cmocka_unit_test(test_members_read_back),
        cmocka_unit_test(test_ambiguous_members_are_refused),
        cmocka_unit_test(test_malformed_members_are_refused),
        cmocka_unit_test(test_too_many_members_are_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
