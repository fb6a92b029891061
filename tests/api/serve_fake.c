/* tests/api/serve_fake.c - the api on the fake engine as a program, for record_openai.py.
 * Prints its port, then answers the i-th generation with the demo answer that argument i names, until its
 * input ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/api/api_rig.h"

enum { CASES_MAX = 12 };

static bool on_input(void *user)
{
    char byte;
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    if (poll(&input, 1, 0) > 0 && read(STDIN_FILENO, &byte, 1) <= 0)
        phx_loop_stop(user);
    return false;
}

int main(int argc, char **argv)
{
    api_rig r;
    phx_loop_watch *watch = NULL;
    if (argc < 2 || argc > CASES_MAX + 1) {
        (void)fprintf(stderr, "usage: %s CASE... (at most %d names of expected_greedy.json)\n", argv[0],
                      CASES_MAX);
        return 2;
    }
    api_rig_open(&r);
    for (int i = 1; i < argc; i++)
        api_rig_script(&r, (uint32_t)i - 1, argv[i]);
    r.engine->plays_in_turn = true;
    if (phx_loop_watch_create(r.web.loop,
                              &(phx_loop_watch_spec){.fd = STDIN_FILENO, .fn = on_input, .user = r.web.loop},
                              &watch, NULL) != PHX_OK)
        return 1;
    printf("%u\n", phx_http_port(r.web.http));
    (void)fflush(stdout);
    const phx_code rc = phx_loop_run(r.web.loop, NULL);
    phx_loop_watch_destroy(watch);
    api_rig_close(&r);
    return rc == PHX_OK ? 0 : 1;
}
