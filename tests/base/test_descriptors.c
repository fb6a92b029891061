/* tests/base/test_descriptors.c - the soft limit of open files goes up to the hard one, or the start is
 * refused. Each case lowers limits in a child of its own: a hard limit cannot be raised again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/descriptors.h"

/* The soft limit afterwards; 1: refused with the remedy; 2: refused otherwise. Codes leave through a pipe. */
static rlim_t raised_from(rlim_t soft, rlim_t hard)
{
    int ends[2];
    int status = 0;
    rlim_t got = 0;
    assert_int_equal(pipe(ends), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit limit = {soft, hard};
        phx_error err = {0};
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            _exit(1);
        const phx_code rc = phx_descriptors_raise(&err);
        if (rc != PHX_OK)
            got = rc == PHX_ERR_IO && strstr(err.text, "ulimit -Hn") ? 1 : 2;
        else if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
            got = limit.rlim_cur;
        _exit(write(ends[1], &got, sizeof(got)) == (ssize_t)sizeof(got) ? 0 : 1);
    }
    (void)close(ends[1]);
    assert_int_equal(read(ends[0], &got, sizeof(got)), sizeof(got));
    (void)close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    return got;
}

static void raises_or_refuses(void **state)
{
    (void)state;
    assert_int_equal(raised_from(16, 300), 300);
    assert_int_equal(raised_from(300, 300), 300);
    assert_int_equal(raised_from(16, PHX_DESCRIPTORS_MIN), PHX_DESCRIPTORS_MIN);
    assert_int_equal(raised_from(16, PHX_DESCRIPTORS_MIN - 1), 1);
    assert_int_equal(raised_from(16, 16), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(raises_or_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
