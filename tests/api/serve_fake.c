/* tests/api/serve_fake.c - the api on the fake engine as a program, for record_openai.py.
 * Prints its port, then answers the i-th generation with the demo answer that argument i names, until its
 * input ends. After --chat glm or --chat kimi it has a template of that make, and arguments are the answers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/api/template_rig.h"

enum { CASES_MAX = 12 };

static bool on_input(void *user)
{
    char byte;
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    if (poll(&input, 1, 0) > 0 && read(STDIN_FILENO, &byte, 1) <= 0)
        phx_loop_stop(user);
    return false;
}

/* False: not what usage says. */
static bool open_rig(api_rig *r, int argc, char **argv)
{
    const bool has_format = argc > 3 && strcmp(argv[1], "--chat") == 0;
    const int first = has_format ? 3 : 1;
    const bool is_glm = has_format && strcmp(argv[2], "glm") == 0;
    if (argc <= first || argc > first + CASES_MAX || (has_format && !is_glm && strcmp(argv[2], "kimi") != 0))
        return false;
    if (has_format)
        template_rig_open(r, is_glm ? template_rig_glm : template_rig_kimi, argv[2]);
    else
        api_rig_open(r);
    for (int i = first; i < argc; i++) {
        if (has_format)
            api_rig_script_text(r, (uint32_t)(i - first), argv[i]);
        else
            api_rig_script(r, (uint32_t)(i - first), argv[i]);
    }
    return true;
}

int main(int argc, char **argv)
{
    api_rig r;
    phx_loop_watch *watch = NULL;
    if (!open_rig(&r, argc, argv)) {
        (void)fprintf(stderr,
                      "usage: %s CASE... (names of expected_greedy.json) or --chat glm|kimi ANSWER..., at "
                      "most %d\n",
                      argv[0], CASES_MAX);
        return 2;
    }
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
