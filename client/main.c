/* client/main.c - the `phalanx` command: finds the subcommand in a table and runs it.
 * Owns: reading the environment. Each subcommand has a file of its own, cmd_NAME.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/command.h"
#include "proto/codec.h"

typedef struct command {
    const char *name;
    phx_command_fn *run;
    const char *help;
} command;

static const command commands[] = {
    {"serve", phx_command_serve, "serve a model over HTTP"},
    {"run", phx_command_run, "start, answer one prompt, stop"},
    {"chat", phx_command_chat, "a conversation in the terminal"},
    {"status", phx_command_status, "ranks, queue and speed of a running server"},
    {"logits", phx_command_logits, "logits of every position, as a NumPy file"},
    {"verify", phx_command_verify, "compare with a golden file, and with level ref"},
    {"plan", phx_command_plan, "bytes per rank and the context that fits; loads nothing"},
    {"inspect", phx_command_inspect, "what a checkpoint holds, and what it lacks"},
    {"synth", phx_command_synth, "write a random checkpoint in the layout of the hub"},
    {"quantize", phx_command_quantize, "write a checkpoint again in int4 or fp8"},
    {"bench", phx_command_bench, "speed of the engine, the kernels, the machine"},
};

static void print_usage(FILE *to);

int main(int argc, char **argv)
{
    const char *tmp_dir = getenv("TMPDIR");
    const phx_env env = {.runtime_dir = getenv("XDG_RUNTIME_DIR"),
                         .tmp_dir = tmp_dir && *tmp_dir ? tmp_dir : "/tmp"};
    if (argc < 2) {
        print_usage(stderr);
        return PHX_EXIT_USAGE;
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(&env, argc - 1, argv + 1);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return PHX_EXIT_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)printf("phalanx %s\n", phx_build_id());
        return PHX_EXIT_DONE;
    }
    (void)fprintf(stderr, "phalanx: there is no command '%.60s': see phalanx --help\n", argv[1]);
    return PHX_EXIT_USAGE;
}

static void print_usage(FILE *to)
{
    (void)fputs("Usage: phalanx COMMAND [options]\n\n", to);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        (void)fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].help);
    (void)fputs("\nphalanx COMMAND --help lists the options of each.\n", to);
}
