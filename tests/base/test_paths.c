/* tests/base/test_paths.c - where the control socket and the programs are; folders that are not private. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/paths.h"

static void control_address(void **state)
{
    (void)state;
    char address[PHX_PATH_MAX];
    char expected[64];
    phx_error err = {0};
    assert_int_equal(phx_path_control("/run/user/7", address, sizeof(address), &err), PHX_OK);
    assert_string_equal(address, "ipc:///run/user/7/phalanx/control");
    (void)snprintf(expected, sizeof(expected), "ipc:///tmp/phalanx-%u/control", (unsigned)getuid());
    assert_int_equal(phx_path_control(NULL, address, sizeof(address), &err), PHX_OK);
    assert_string_equal(address, expected);
    assert_int_equal(phx_path_control("", address, sizeof(address), &err), PHX_OK);
    assert_string_equal(address, expected);
    assert_int_equal(phx_path_control("/run", address, 10, &err), PHX_ERR_TOO_LONG);
}

static void beside_the_program(void **state)
{
    (void)state;
    char path[PHX_PATH_MAX];
    phx_error err = {0};
    assert_int_equal(phx_path_beside("test_paths", path, sizeof(path), &err), PHX_OK);
    assert_int_equal(access(path, X_OK), 0);
    assert_int_equal(phx_path_beside("x", path, 4, &err), PHX_ERR_TOO_LONG);
}

static void private_folders(void **state)
{
    (void)state;
    char base[] = "/tmp/phx_paths_XXXXXX";
    char dir[64];
    phx_error err = {0};
    assert_non_null(mkdtemp(base));
    (void)snprintf(dir, sizeof(dir), "%s/d", base);
    assert_int_equal(phx_path_make_private(dir, &err), PHX_OK);
    assert_int_equal(phx_path_make_private(dir, &err), PHX_OK); /* once more: it is ours */
    assert_int_equal(chmod(dir, 0750), 0);
    assert_int_equal(phx_path_make_private(dir, &err), PHX_ERR_DENIED);
    assert_non_null(strstr(err.text, "chmod 700"));
    assert_int_equal(rmdir(dir), 0);
    assert_int_equal(symlink(base, dir), 0);
    assert_int_equal(phx_path_make_private(dir, &err), PHX_ERR_DENIED);
    assert_int_equal(unlink(dir), 0);
    assert_int_equal(rmdir(base), 0);
    assert_int_equal(phx_path_make_private(dir, &err), PHX_ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_address),
        cmocka_unit_test(beside_the_program),
        cmocka_unit_test(private_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
