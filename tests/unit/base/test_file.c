/* Tests of base/file: whole reads with a limit, atomic writes, folders, mappings, and errors that name the path. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

static char folder[] = "/tmp/shoal-test-file-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static char *in_folder(const char *name)
{
    return file_join(folder, name);
}

static void assert_content(const char *path, const char *expected)
{
    struct buf content;
    struct error error = {0};
    buf_init(&content, 1 << 20);
    assert_int_equal(file_read(path, 1 << 20, &content, &error), STATUS_OK);
    assert_string_equal(buf_text(&content), expected);
    buf_free(&content);
}

static void write_and_read_back(void **state)
{
    (void)state;
    char *path = in_folder("state.json");
    struct error error = {0};
    assert_int_equal(file_write_atomic(path, BYTES_LITERAL("one"), 0600, &error), STATUS_OK);
    assert_content(path, "one");
    assert_int_equal(file_write_atomic(path, BYTES_LITERAL("two, longer"), 0640, &error), STATUS_OK);
    assert_content(path, "two, longer");
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0640);
    assert_int_equal(file_write_atomic(path, (struct bytes){0}, 0600, &error), STATUS_OK);
    assert_content(path, "");
    mem_free(path);
}

static size_t entries_in_folder(void)
{
    DIR *dir = opendir(folder);
    size_t count = 0;
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

/* A write that fails leaves the old content and no neighbour behind. */
static void failed_write_leaves_the_old_file(void **state)
{
    (void)state;
    char *path = in_folder("kept");
    struct error error = {0};
    assert_int_equal(file_write_atomic(path, BYTES_LITERAL("old"), 0600, &error), STATUS_OK);
    size_t entries = entries_in_folder();
    struct rlimit before, tiny;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tiny = before;
    tiny.rlim_cur = 10;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
    enum status status = file_write_atomic(path, BYTES_LITERAL("new and longer than ten bytes"), 0600, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, STATUS_IO);
    assert_non_null(strstr(error.text, path));
    assert_content(path, "old");
    assert_int_equal(entries_in_folder(), entries);
    mem_free(path);
}

static void limits_are_exact(void **state)
{
    (void)state;
    char *path = in_folder("ten");
    struct error error = {0};
    assert_int_equal(file_write_atomic(path, BYTES_LITERAL("0123456789"), 0600, &error), STATUS_OK);
    struct buf content;
    buf_init(&content, 1000);
    buf_append_text(&content, "kept ");
    assert_int_equal(file_read(path, 9, &content, &error), STATUS_LIMIT);
    assert_non_null(strstr(error.text, path));
    assert_string_equal(buf_text(&content), "kept ");
    assert_int_equal(file_read(path, 10, &content, &error), STATUS_OK);
    assert_string_equal(buf_text(&content), "kept 0123456789");
    buf_free(&content);
    buf_init(&content, 10); /* a buffer of just the size */
    assert_int_equal(file_read(path, 10, &content, &error), STATUS_OK);
    assert_string_equal(buf_text(&content), "0123456789");
    assert_false(content.overflow);
    buf_free(&content);
    buf_init(&content, 9);
    assert_int_equal(file_read(path, 100, &content, &error), STATUS_LIMIT);
    buf_free(&content);
    mem_free(path);
}

static void files_without_a_size_are_read_whole(void **state)
{
    (void)state;
    struct buf content;
    struct error error = {0};
    buf_init(&content, 1 << 20);
    assert_int_equal(file_read("/proc/self/status", 1 << 20, &content, &error), STATUS_OK);
    assert_non_null(strstr(buf_text(&content), "Threads:"));
    buf_free(&content);
}

static void errors_name_kind_and_path(void **state)
{
    (void)state;
    char *missing = in_folder("missing/file");
    struct buf content;
    struct error error = {0};
    struct file_map map;
    buf_init(&content, 100);
    assert_int_equal(file_read(missing, 10, &content, &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error.text, missing));
    assert_int_equal(file_map(missing, &map, &error), STATUS_NOT_FOUND);
    assert_int_equal(file_write_atomic(missing, BYTES_LITERAL("x"), 0600, &error), STATUS_NOT_FOUND);
    assert_int_equal(file_read(folder, 10, &content, &error), STATUS_INVALID);
    assert_int_equal(file_map(folder, &map, &error), STATUS_INVALID);
    assert_int_equal(file_map("/dev/zero", &map, &error), STATUS_INVALID);
    assert_int_equal(file_read(missing, 10, &content, NULL), STATUS_NOT_FOUND);
    buf_free(&content);
    mem_free(missing);
}

static void folders(void **state)
{
    (void)state;
    char *deep = in_folder("a/b//c/");
    struct error error = {0};
    assert_int_equal(file_make_dirs(deep, 0700, &error), STATUS_OK);
    assert_true(file_is_dir(deep));
    assert_int_equal(file_make_dirs(deep, 0700, &error), STATUS_OK);
    char *file = in_folder("a/file");
    assert_int_equal(file_write_atomic(file, BYTES_LITERAL("x"), 0600, &error), STATUS_OK);
    assert_true(file_exists(file));
    assert_false(file_is_dir(file));
    char *below_file = file_join(file, "b");
    assert_int_not_equal(file_make_dirs(below_file, 0700, &error), STATUS_OK);
    assert_int_equal(file_make_dirs("/", 0700, &error), STATUS_OK);
    assert_false(file_exists(below_file));
    mem_free(below_file);
    mem_free(file);
    mem_free(deep);
}

static void mappings(void **state)
{
    (void)state;
    char *path = in_folder("mapped");
    struct error error = {0};
    struct file_map map;
    assert_int_equal(file_write_atomic(path, BYTES_LITERAL("mapped bytes"), 0600, &error), STATUS_OK);
    assert_int_equal(file_map(path, &map, &error), STATUS_OK);
    assert_int_equal(map.length, 12);
    assert_memory_equal(map.data, "mapped bytes", 12);
    file_unmap(&map);
    assert_null(map.data);
    file_unmap(&map);
    assert_int_equal(file_write_atomic(path, (struct bytes){0}, 0600, &error), STATUS_OK);
    assert_int_equal(file_map(path, &map, &error), STATUS_INVALID);
    mem_free(path);
}

static void joining(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"/a", "b", "/a/b"}, {"/a/", "b", "/a/b"}, {"/", "b", "/b"}, {"", "b", "b"}, {"a//", "b/c", "a/b/c"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *path = file_join(cases[i][0], cases[i][1]);
        assert_string_equal(path, cases[i][2]);
        mem_free(path);
    }
}

static void open_files_limit(void **state)
{
    (void)state;
    struct rlimit limit;
    uint64_t raised = file_raise_open_max();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_true(limit.rlim_cur == raised);
    assert_true(limit.rlim_cur == limit.rlim_max);
}

static void a_lock_is_one_process_at_a_time(void **state)
{
    (void)state;
    char *path = in_folder("lock");
    struct error error;
    int first, second = -1;
    assert_int_equal(file_lock(path, &first, &error), STATUS_OK);
    assert_int_equal(file_lock(path, &second, &error), STATUS_BUSY); /* another descriptor is another holder */
    assert_non_null(strstr(error.text, path));
    assert_int_equal(second, -1);
    close(first);
    assert_int_equal(file_lock(path, &second, &error), STATUS_OK);
    close(second);
    assert_int_equal(file_lock("/nonexistent/lock", &second, &error), STATUS_NOT_FOUND);
    mem_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_and_read_back),
        cmocka_unit_test(failed_write_leaves_the_old_file),
        cmocka_unit_test(limits_are_exact),
        cmocka_unit_test(files_without_a_size_are_read_whole),
        cmocka_unit_test(errors_name_kind_and_path),
        cmocka_unit_test(folders),
        cmocka_unit_test(mappings),
        cmocka_unit_test(joining),
        cmocka_unit_test(open_files_limit),
        cmocka_unit_test(a_lock_is_one_process_at_a_time),
    };
    return cmocka_run_group_tests_name("base.file", tests, set_up, tear_down);
}
