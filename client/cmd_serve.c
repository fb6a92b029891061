/* client/cmd_serve.c - `phalanx serve`: becomes phalanx-coordinator, so that signals, output and exit code
 * are its. */
#include "client/command.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/paths.h"

phx_exit phx_command_serve(const phx_env *env, int argc, char *const *argv)
{
    const phx_args_spec spec = {
        .usage = "phalanx serve [--config cluster.yaml] [--model DIR] [options]",
        .about =
            "Serves a model over HTTP (OpenAI's API) until SIGTERM or Ctrl-C, which drain: running answers\n"
            "end first; a second signal ends at once.",
        .scopes = PHX_OPTIONS_ALL,
        .exit_codes = "  0  ended in order\n  1  failed to start\n  2  wrong usage\n"
                      "  3  the model or the plan was refused\n  4  an address is in use\n"
                      "  5  the rank group failed and was not relaunched\n",
    };
    char program[PHX_PATH_MAX];
    phx_options options;
    phx_args args;
    phx_exit code = PHX_EXIT_DONE;
    phx_error err = {0};
    (void)env;
    if (!phx_command_begin(&spec, argc, argv, &options, &args, &code))
        return code;
    if (phx_path_beside("phalanx-coordinator", program, sizeof(program), &err) != PHX_OK)
        return phx_command_fail(&err);
    char **words = phx_alloc((size_t)argc + 1, sizeof(*words));
    if (!words)
        return phx_command_fail(&(phx_error){.code = PHX_ERR_NOMEM, .text = "arguments"});
    words[0] = program;
    for (int i = 1; i < argc; i++)
        words[i] = argv[i];
    (void)execv(program, words);
    (void)PHX_FAIL(&err, PHX_ERR_IO, "cannot start '%s': %s", program, strerror(errno));
    phx_free(words);
    return phx_command_fail(&err);
}
