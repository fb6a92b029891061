/* tests/base/test_file.c - writing whole files: what stands at the path decides how. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/file.h"

static phx_bytes bytes_of(const char *text)
{
    return (phx_bytes){(const uint8_t *)text, strlen(text)};
}

static void assert_file(const char *path, const char *text)
{
    phx_buf buf;
    phx_buf_init(&buf, 4096);
    assert_int_equal(phx_file_read(path, &buf, NULL), PHX_OK);
    assert_true(phx_str_is(phx_buf_view(&buf), text));
    phx_buf_done(&buf);
}

static void test_regular_and_link(void **state)
{
    struct stat info;
    (void)state;
    (void)unlink("file");
    (void)unlink("link");
    assert_int_equal(phx_file_write("file", bytes_of("one"), 0640, NULL), PHX_OK);
    assert_file("file", "one");
    assert_int_equal(symlink("file", "link"), 0);
    assert_int_equal(phx_file_write("link", bytes_of("two"), 0640, NULL), PHX_OK);
    assert_true(lstat("link", &info) == 0 && S_ISLNK(info.st_mode));
    assert_file("file", "two");
    const phx_bytes parts[2] = {bytes_of("thr"), bytes_of("ee")};
    assert_int_equal(phx_file_write_parts("file", parts, 2, 0640, NULL), PHX_OK);
    assert_file("file", "three");
}

/* A pipe is written into and stays one; so would a device. */
static void test_fifo(void **state)
{
    struct stat info;
    phx_error err = {0};
    char text[8] = {0};
    (void)state;
    (void)unlink("fifo");
    assert_int_equal(mkfifo("fifo", 0600), 0);
    FILE *reader = fopen("fifo", "r+e");
    assert_non_null(reader);
    assert_int_equal(phx_file_write("fifo", bytes_of("pipe"), 0644, &err), PHX_OK);
    assert_int_equal(fread(text, 1, 4, reader), 4);
    assert_string_equal(text, "pipe");
    assert_true(lstat("fifo", &info) == 0 && S_ISFIFO(info.st_mode));
    (void)fclose(reader);
}

static void test_folder(void **state)
{
    phx_error err = {0};
    (void)state;
    assert_int_equal(phx_file_write("/", bytes_of("x"), 0644, &err), PHX_ERR_IO);
    assert_non_null(strstr(err.text, "cannot open '/'"));
}

int main(void)
{
    char folder[] = "phx_test_file.XXXXXX";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_regular_and_link),
        cmocka_unit_test(test_fifo),
        cmocka_unit_test(test_folder),
    };
    if (!mkdtemp(folder) || chdir(folder) != 0)
        return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)unlink("file");
    (void)unlink("link");
    (void)unlink("fifo");
    if (chdir("..") == 0)
        (void)rmdir(folder);
    return failed;
}
