/* client/command.c - what the commands share. */
#include "client/command.h"

#include <stdio.h>

#include "base/paths.h"

#define PRINT_BYTES_MAX (64u << 20)

bool phx_command_begin(const phx_args_spec *spec, int argc, char *const *argv, phx_options *ret_options,
                       phx_args *ret_args, phx_exit *ret_exit)
{
    phx_error err = {0};
    phx_options_init(ret_options);
    if (phx_options_parse_args(ret_options, argc, argv, spec, ret_args, &err) != PHX_OK) {
        *ret_exit = phx_command_fail_usage(err.text);
        return false;
    }
    if (!ret_args->help)
        return true;
    phx_buf buf;
    phx_buf_init(&buf, PRINT_BYTES_MAX);
    phx_options_help(spec, &buf);
    *ret_exit = phx_command_print(&buf);
    phx_buf_done(&buf);
    return false;
}

phx_exit phx_command_fail(const phx_error *err)
{
    (void)fprintf(stderr, "phalanx: %s\n", err->text[0] ? err->text : phx_code_text(err->code));
    switch (err->code) {
    case PHX_ERR_CANCELLED:
        return PHX_EXIT_INTERRUPTED;
    case PHX_ERR_INVALID: /* what was asked for, by a flag or a value, not what was found */
        return PHX_EXIT_USAGE;
    case PHX_ERR_UNAVAILABLE:
    case PHX_ERR_DENIED:
        return PHX_EXIT_NO_SERVER;
    default:
        return phx_code_scope(err->code) == PHX_SCOPE_GROUP ? PHX_EXIT_NO_SERVER : PHX_EXIT_FAILED;
    }
}

phx_exit phx_command_fail_usage(const char *text)
{
    (void)fprintf(stderr, "phalanx: %s\n", text);
    return PHX_EXIT_USAGE;
}

phx_exit phx_command_print(const phx_buf *buf)
{
    if (buf->code != PHX_OK) {
        (void)fprintf(stderr, "phalanx: output: %s\n", phx_code_text(buf->code));
        return PHX_EXIT_FAILED;
    }
    if (fwrite(buf->ptr ? buf->ptr : "", 1, buf->n, stdout) != buf->n || fflush(stdout) != 0) {
        (void)fprintf(stderr, "phalanx: cannot write to stdout\n");
        return PHX_EXIT_FAILED;
    }
    return PHX_EXIT_DONE;
}

phx_code phx_command_model_dir(const phx_options *options, char *ret_dir, size_t n_bytes, phx_error *err)
{
    if (!options->model[0])
        return phx_path_demo(ret_dir, n_bytes, err);
    if (!phx_str_copy(ret_dir, n_bytes, phx_str_of(options->model)))
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "the path '%.80s...' is too long", options->model);
    return PHX_OK;
}
