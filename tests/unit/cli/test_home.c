/* Promises of the state folder: what is written reads back, secrets with mode 0600; damaged files are named, not
 * believed; a supervisor is one only while that very process lives; keys are made once and kept. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/crypto.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/home.h"
#include "cli/up_keys.h"
#include "net/identity.h"
#include "net/proc.h"

static char folder[] = "/tmp/shoal-test-home-XXXXXX";

static const struct home_up sample = {.model_path = "/models/a \"b\".gguf",
                                      .model_name = "a",
                                      .kv_type = "f16",
                                      .coordinators = 3,
                                      .nodes = 2,
                                      .routers = 1,
                                      .replicas = 2,
                                      .http_port = 8000,
                                      .coordinator_ports = {7401, 7402, 7403}};

static void write_text(const char *name, const char *text)
{
    struct error error;
    char *path = file_join(folder, name);
    assert_int_equal(file_write_atomic(path, bytes_of_text(text), 0600, &error), STATUS_OK);
    mem_free(path);
}

static void test_folder_is_where_it_was_told(void **state)
{
    (void)state;
    char here[4096], expected[4200];
    assert_non_null(getcwd(here, sizeof(here)));
    assert_int_equal(setenv("XDG_STATE_HOME", "/x", 1), 0);
    char *path = home_folder("/given");
    assert_string_equal(path, "/given");
    mem_free(path);
    path = home_folder("given");
    snprintf(expected, sizeof(expected), "%s/given", here);
    assert_string_equal(path, expected);
    mem_free(path);
    path = home_folder(NULL);
    assert_string_equal(path, "/x/shoal");
    mem_free(path);
    assert_int_equal(unsetenv("XDG_STATE_HOME"), 0);
    assert_int_equal(setenv("HOME", "/h", 1), 0);
    path = home_folder(NULL);
    assert_string_equal(path, "/h/.local/state/shoal");
    mem_free(path);
}

static void test_up_reads_back(void **state)
{
    (void)state;
    struct home_up read;
    struct error error;
    assert_int_equal(home_up_write(folder, &sample, &error), STATUS_OK);
    assert_int_equal(home_up_read(folder, &read, &error), STATUS_OK);
    assert_string_equal(read.model_path, sample.model_path);
    assert_string_equal(read.model_name, sample.model_name);
    assert_string_equal(read.kv_type, sample.kv_type);
    assert_int_equal(read.nodes, 2);
    assert_int_equal(read.replicas, 2);
    assert_int_equal(read.http_port, 8000);
    assert_memory_equal(read.coordinator_ports, sample.coordinator_ports, sizeof(read.coordinator_ports));
}

static void test_damaged_up_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{}",
        "{\"coordinators\": 3, \"nodes\": 2, \"routers\": 1, \"coordinator_ports\": [1, 2]}",
        "{\"coordinators\": 9, \"nodes\": 2, \"routers\": 1, \"coordinator_ports\": [1,2,3,4,5,6,7,8,9]}",
        "{\"coordinators\": 1, \"nodes\": 0, \"routers\": 1, \"coordinator_ports\": [1]}",
        "{\"coordinators\": 1, \"nodes\": 99, \"routers\": 1, \"coordinator_ports\": [1]}",
        "{\"coordinators\": 1, \"nodes\": 1, \"routers\": 5, \"coordinator_ports\": [1]}",
    };
    struct home_up read;
    struct error error;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        write_text("up.json", texts[i]);
        assert_int_equal(home_up_read(folder, &read, &error), STATUS_CORRUPT);
        assert_non_null(strstr(error.text, "up.json"));
    }
    write_text("up.json", "{\"coordi");
    assert_int_equal(home_up_read(folder, &read, &error), STATUS_INVALID);
    assert_int_equal(home_up_read("/nonexistent", &read, &error), STATUS_NOT_FOUND);
}

static void test_client_reads_back_and_is_secret(void **state)
{
    (void)state;
    const struct home_client client = {.url = "http://127.0.0.1:8000/v1", .api_key = "sk-x", .model = "m"};
    struct home_client read;
    struct error error;
    struct stat info;
    assert_int_equal(home_client_write(folder, &client, &error), STATUS_OK);
    assert_int_equal(home_client_read(folder, &read, &error), STATUS_OK);
    assert_string_equal(read.url, client.url);
    assert_string_equal(read.api_key, client.api_key);
    assert_string_equal(read.model, client.model);
    char *path = file_join(folder, "client.json");
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    mem_free(path);
}

static void test_supervisor_is_that_very_process(void **state)
{
    (void)state;
    struct error error;
    assert_int_equal(home_supervisor(folder), 0);
    assert_int_equal(home_supervisor_kill(folder, SIGCONT), STATUS_NOT_FOUND);
    assert_int_equal(home_supervisor_write(folder, getpid(), &error), STATUS_OK);
    assert_int_equal(home_supervisor(folder), getpid());
    assert_int_equal(home_supervisor_kill(folder, SIGCONT), STATUS_OK);
    char text[128]; /* the same pid, of a process that began at another time */
    snprintf(text, sizeof(text), "{\"pid\": %d, \"start_ticks\": 1}", getpid());
    write_text("supervisor.json", text);
    assert_int_equal(home_supervisor(folder), 0);
    assert_int_not_equal(home_supervisor_kill(folder, SIGKILL), STATUS_OK);
    write_text("supervisor.json", "{\"pid\": -1, \"start_ticks\": 1}");
    assert_int_equal(home_supervisor(folder), 0);
}

static void test_children_are_those_that_live(void **state)
{
    (void)state;
    char text[256];
    assert_int_equal(home_child(folder, "c1"), 0);
    snprintf(text, sizeof(text),
             "{\"c1\": {\"pid\": %d, \"start_ticks\": %llu}, \"c2\": {\"pid\": %d, \"start_ticks\": 1},"
             " \"c3\": {\"pid\": 0, \"start_ticks\": 0}}",
             getpid(), (unsigned long long)proc_start_ticks(getpid()), getpid());
    write_text("children.json", text);
    assert_int_equal(home_child(folder, "c1"), getpid());
    assert_int_equal(home_child(folder, "c2"), 0);
    assert_int_equal(home_child(folder, "c3"), 0);
    assert_int_equal(home_child(folder, "c4"), 0);
}

static void test_free_port_is_free(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    int64_t taken = ntohs(address.sin_port);
    int64_t found = home_free_port(taken);
    assert_true(found > taken || (found == 0 && taken > 65335));
    assert_int_equal(home_free_port(65536), 0);
    close(listener);
}

static void test_keys_are_made_once(void **state)
{
    (void)state;
    struct error error;
    struct members first, second;
    char *path = home_path(folder, "keys", "members.json");
    assert_int_equal(up_keys(folder, &sample, &error), STATUS_OK);
    assert_int_equal(members_read(path, &first, &error), STATUS_OK);
    assert_int_equal(first.count, 3 + 1 + 2 + 1);
    const struct member *c2 = members_by_name(&first, MEMBER_COORDINATOR, "c2");
    assert_non_null(c2);
    assert_string_equal(c2->endpoint, "tcp://127.0.0.1:7402");
    assert_int_equal(c2->raft_id, 2);
    struct home_up more = sample;
    more.nodes = 3;
    assert_int_equal(up_keys(folder, &more, &error), STATUS_OK);
    assert_int_equal(members_read(path, &second, &error), STATUS_OK);
    assert_int_equal(second.count, first.count + 1);
    assert_memory_equal(first.cluster_id, second.cluster_id, sizeof(first.cluster_id));
    for (size_t i = 0; i < first.count; i++) {
        const struct member *same = members_by_name(&second, first.list[i].role, first.list[i].name);
        assert_non_null(same);
        assert_memory_equal(same->public_key, first.list[i].public_key, CURVE_KEY_BYTES);
    }
    members_free(&first);
    members_free(&second);
    mem_free(path);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) != NULL && crypto_init() == STATUS_OK ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"up.json",          "client.json", "supervisor.json", "children.json",
                                        "keys/c1.key",      "keys/c2.key", "keys/c3.key",     "keys/r1.key",
                                        "keys/n1.key",      "keys/n2.key", "keys/n3.key",     "keys/operator.key",
                                        "keys/members.json"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char *path = file_join(folder, names[i]);
        (void)unlink(path);
        mem_free(path);
    }
    char *keys = file_join(folder, "keys");
    (void)rmdir(keys);
    mem_free(keys);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folder_is_where_it_was_told),
        cmocka_unit_test(test_up_reads_back),
        cmocka_unit_test(test_damaged_up_is_refused),
        cmocka_unit_test(test_client_reads_back_and_is_secret),
        cmocka_unit_test(test_supervisor_is_that_very_process),
        cmocka_unit_test(test_children_are_those_that_live),
        cmocka_unit_test(test_free_port_is_free),
        cmocka_unit_test(test_keys_are_made_once),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
