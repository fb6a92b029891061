/* client/command.h - what the commands of `phalanx` share: their table's types, exit codes, printing.
 * Not here: the table itself (main.c), progress bars (terminal.h). */
#ifndef PHX_CLIENT_COMMAND_H
#define PHX_CLIENT_COMMAND_H

#include "base/options.h"

typedef enum phx_exit {
    PHX_EXIT_DONE = 0,
    PHX_EXIT_FAILED = 1, /* verify: a tensor is outside its bound; inspect: something is missing */
    PHX_EXIT_USAGE = 2,
    PHX_EXIT_NO_SERVER = 3, /* no server answers, it was lost, or the group did not become ready */
    PHX_EXIT_INTERRUPTED = 130
} phx_exit;

#define PHX_EXIT_CODES_SERVER                                                                              \
    "  0 done\n  1 failed\n  2 wrong usage\n  3 the server cannot be reached, was lost or did not become " \
    "ready\n"

/* What main found in the environment. */
typedef struct phx_env {
    const char *runtime_dir; /* $XDG_RUNTIME_DIR, may be NULL */
    const char *tmp_dir;     /* $TMPDIR or /tmp */
} phx_env;

typedef phx_exit phx_command_fn(const phx_env *env, int argc, char *const *argv);

phx_command_fn phx_command_serve;
phx_command_fn phx_command_run;
phx_command_fn phx_command_chat;
phx_command_fn phx_command_status;
phx_command_fn phx_command_logits;
phx_command_fn phx_command_verify;
phx_command_fn phx_command_bench;
phx_command_fn phx_command_inspect;
phx_command_fn phx_command_plan;
phx_command_fn phx_command_synth;
phx_command_fn phx_command_quantize;

/* Reads the arguments over the defaults. False: the command ends with *ret_exit (help was printed, or the
 * error). */
bool phx_command_begin(const phx_args_spec *spec, int argc, char *const *argv, phx_options *ret_options,
                       phx_args *ret_args, phx_exit *ret_exit);

/* One line on stderr, "phalanx: text"; gives the exit code that belongs to the error. */
phx_exit phx_command_fail(const phx_error *err);
phx_exit phx_command_fail_usage(const char *text); /* PHX_EXIT_USAGE */

/* The buffer to stdout, and its failure (of the buffer too) as an exit code. */
phx_exit phx_command_print(const phx_buf *buf);

/* The folder to serve: --model, or the demo. */
phx_code phx_command_model_dir(const phx_options *options, char *ret_dir, size_t n_bytes, phx_error *err);

#endif
