/* client/cmd_run.c - `phalanx run`: one prompt, one answer on stdout. */
#include "client/talk.h"

#include <stdio.h>

#define JSON_BYTES_MAX (8u << 20)

typedef struct run_args {
    phx_talk_flags talk;
    const char *connect;
    const char *key_file;
    bool raw;
    bool ignore_eos;
} run_args;

static phx_code ask(phx_client *client, phx_interrupt *interrupt, const char *prompt, const run_args *given,
                    const phx_talk_settings *settings, phx_talk_result *ret_result, phx_error *err)
{
    Phalanx__GenerateRequest request = PHALANX__GENERATE_REQUEST__INIT;
    Phalanx__Sampling sampling = settings->sampling;
    phx_error why = {0};
    phx_buf message;
    phx_buf chat;
    phx_buf_init(&message, JSON_BYTES_MAX);
    phx_buf_init(&chat, JSON_BYTES_MAX);
    request.sampling = &sampling;
    request.max_tokens = settings->max_tokens;
    request.ignore_eos = given->ignore_eos;
    phx_code rc = PHX_ERR_UNSUPPORTED;
    if (!given->raw) {
        phx_talk_message("user", phx_str_of(prompt), &message);
        phx_talk_chat_json(phx_buf_view(&message), settings->thinking, &chat);
        request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_CHAT_JSON;
        request.chat_json = chat.ptr;
        if (message.code != PHX_OK || chat.code != PHX_OK)
            rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "the prompt is longer than %u bytes", JSON_BYTES_MAX);
        else
            rc = phx_talk(client, interrupt, &request, NULL, ret_result, &why);
        if (rc == PHX_ERR_UNSUPPORTED)
            (void)fprintf(stderr, "phalanx: %s; continuing the prompt as plain text\n", why.text);
        else if (rc != PHX_OK)
            (void)PHX_FAIL(err, rc, "%s", why.text);
    }
    if (rc == PHX_ERR_UNSUPPORTED) {
        request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_TEXT;
        request.text = (char *)(uintptr_t)prompt; /* only read */
        rc = phx_talk(client, interrupt, &request, NULL, ret_result, err);
    }
    phx_buf_done(&message);
    phx_buf_done(&chat);
    return rc;
}

static phx_exit run(const phx_env *env, const phx_options *options, const char *prompt, const run_args *given)
{
    phx_error err = {0};
    phx_talk_settings settings;
    phx_talk_result result = {0};
    phx_interrupt interrupt = {.fd = -1};
    phx_server *server = NULL;
    if (phx_talk_read(&given->talk, &settings, &err) != PHX_OK)
        return phx_command_fail_usage(err.text);
    phx_code rc = phx_interrupt_open(&interrupt, &err);
    const phx_server_spec spec = {.env = env,
                                  .options = options,
                                  .connect = given->connect,
                                  .key_file = given->key_file,
                                  .interrupt = &interrupt};
    if (rc == PHX_OK)
        rc = phx_server_open(&spec, &server, &err);
    if (rc == PHX_OK)
        rc = ask(phx_server_client(server), &interrupt, prompt, given, &settings, &result, &err);
    if (rc == PHX_OK) {
        (void)printf("\n");
        (void)fflush(stdout);
        phx_talk_print_result(&result);
    }
    phx_server_close(server);
    phx_interrupt_close(&interrupt);
    return rc == PHX_OK ? PHX_EXIT_DONE : phx_command_fail(&err);
}

phx_exit phx_command_run(const phx_env *env, int argc, char *const *argv)
{
    run_args given = {0};
    const phx_flag flags[] = {
        {"connect", "ADDRESS", "use this running server instead of starting one", &given.connect, NULL},
        {"key-file", "FILE", "keys for --connect over tcp", &given.key_file, NULL},
        {"raw", NULL, "continue the prompt as it is, without the chat format", NULL, &given.raw},
        {"ignore-eos", NULL, "go on behind the model's end token", NULL, &given.ignore_eos},
        PHX_TALK_FLAGS(&given.talk),
    };
    const phx_args_spec spec = {
        .usage = "phalanx run [--model DIR] [options] PROMPT",
        .about = "Starts a private server, streams the answer to stdout, stops it. Figures go to stderr.\n"
                 "Greedy unless --temperature says otherwise.",
        .scopes = PHX_SERVER_SCOPES,
        .flags = flags,
        .n_flags = sizeof(flags) / sizeof(flags[0]),
        .n_operands_max = 1,
        .exit_codes = PHX_EXIT_CODES_SERVER "  130 interrupted\n",
    };
    phx_options options;
    phx_args args;
    phx_exit code = PHX_EXIT_DONE;
    if (!phx_command_begin(&spec, argc, argv, &options, &args, &code))
        return code;
    if (args.n_operands != 1 || !args.operands[0][0])
        return phx_command_fail_usage("give the prompt as one argument: phalanx run \"What is ...?\"");
    return run(env, &options, args.operands[0], &given);
}
