/* client/cmd_chat.c - `phalanx chat`: a conversation in the terminal.
 * Owns: the turns so far, reading lines while Ctrl-C means "never mind" and Ctrl-D "enough". */
#include "client/talk.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#define TALK_BYTES_MAX (4u << 20) /* of all turns together */
#define LINE_BYTES_MAX (256u << 10)

typedef struct chat {
    phx_client *client;
    phx_interrupt *interrupt;
    phx_talk_settings settings;
    bool tty; /* a person sits there: show prompts and figures */
    bool input_ended;
    phx_buf input;    /* read and not yet used */
    phx_buf messages; /* JSON objects with commas between */
} chat;

static const char help_text[] =
    "/help   this text\n/reset  forget the conversation\n/exit   end (Ctrl-D too)\n"
    "Ctrl-C  stop the answer\n";

/* The next line without its end, in *ret_line, valid until the next call drops it from input. False: no more.
 */
static bool read_line(chat *c, phx_str *ret_line, bool *ret_interrupted)
{
    *ret_interrupted = false;
    for (;;) {
        const char *end = c->input.n ? memchr(c->input.ptr, '\n', c->input.n) : NULL;
        if (end || (c->input_ended && c->input.n)) {
            *ret_line = (phx_str){c->input.ptr, end ? (size_t)(end - c->input.ptr) : c->input.n};
            return true;
        }
        if (c->input_ended || c->input.code != PHX_OK)
            return false;
        struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                                {.fd = c->interrupt->fd, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return false;
        if (phx_interrupted(c->interrupt)) {
            *ret_interrupted = true;
            phx_buf_clear(&c->input);
            return false;
        }
        if (fds[0].revents) {
            char chunk[4096];
            const ssize_t n = read(STDIN_FILENO, chunk, sizeof(chunk));
            if (n > 0)
                (void)phx_buf_append(&c->input, chunk, (size_t)n);
            else if (n == 0 || errno != EINTR)
                c->input_ended = true;
        }
    }
}

static void drop_line(chat *c, phx_str line)
{
    phx_buf_drop_front(&c->input, line.n < c->input.n ? line.n + 1 : line.n);
}

static phx_code answer(chat *c, phx_str question, phx_error *err)
{
    Phalanx__GenerateRequest request = PHALANX__GENERATE_REQUEST__INIT;
    Phalanx__Sampling sampling = c->settings.sampling;
    phx_talk_result result = {0};
    const size_t n_before = c->messages.n;
    phx_buf text;
    phx_buf json;
    phx_buf_init(&text, TALK_BYTES_MAX);
    phx_buf_init(&json, 2 * TALK_BYTES_MAX);
    if (c->messages.n)
        phx_buf_char(&c->messages, ',');
    phx_talk_message("user", question, &c->messages);
    phx_talk_chat_json(phx_buf_view(&c->messages), c->settings.thinking, &json);
    request.sampling = &sampling;
    request.max_tokens = c->settings.max_tokens;
    request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_CHAT_JSON;
    request.chat_json = json.ptr;
    phx_code rc = c->messages.code != PHX_OK || json.code != PHX_OK
                      ? PHX_FAIL(err, PHX_ERR_TOO_LONG, "the conversation is longer than %u bytes: /reset",
                                 TALK_BYTES_MAX)
                      : phx_talk(c->client, c->interrupt, &request, &text, &result, err);
    if (text.n) { /* also of a cancelled answer: it was said */
        (void)putchar('\n');
        phx_buf_char(&c->messages, ',');
        phx_talk_message("assistant", phx_buf_view(&text), &c->messages);
    } else if (n_before <= c->messages.n && c->messages.ptr) {
        c->messages.n = n_before; /* the question was not answered: take it back */
        c->messages.ptr[n_before] = 0;
        c->messages.code = PHX_OK;
    }
    (void)fflush(stdout);
    if (rc == PHX_OK && c->tty)
        phx_talk_print_result(&result);
    phx_buf_done(&text);
    phx_buf_done(&json);
    return rc;
}

/* True: the line was one of ours. */
static bool obey(chat *c, phx_str line, bool *ret_exit)
{
    if (line.n == 0 || line.ptr[0] != '/')
        return line.n == 0;
    *ret_exit = phx_str_is(line, "/exit") || phx_str_is(line, "/quit");
    if (phx_str_is(line, "/reset")) {
        phx_buf_clear(&c->messages);
        (void)fputs("The conversation is forgotten.\n", stderr);
    } else if (!*ret_exit) {
        (void)fputs(help_text, stderr);
    }
    return true;
}

/* Errors of one turn are said and the talk goes on, unless the server is lost. */
static phx_code converse(chat *c, phx_error *err)
{
    phx_code rc = PHX_OK;
    bool done = false;
    while (rc == PHX_OK && !done) {
        phx_str line;
        bool interrupted = false;
        if (c->tty)
            (void)fputs("\n> ", stderr);
        if (!read_line(c, &line, &interrupted)) {
            done = !interrupted || c->interrupt->ending;
            phx_interrupt_clear(c->interrupt);
            continue;
        }
        if (!obey(c, line, &done)) {
            phx_error why = {0};
            const phx_code turn = answer(c, line, &why);
            done = c->interrupt->ending;
            if (turn == PHX_ERR_CANCELLED)
                (void)fputs("[cancelled]\n", stderr);
            else if (turn == PHX_ERR_UNAVAILABLE || turn == PHX_ERR_IO)
                rc = PHX_FAIL(err, turn, "%s", why.text);
            else if (turn != PHX_OK)
                (void)fprintf(stderr, "phalanx: %s\n", why.text);
            phx_interrupt_clear(c->interrupt);
        }
        drop_line(c, line);
    }
    if (c->input.code != PHX_OK)
        rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "a line is longer than %u bytes", LINE_BYTES_MAX);
    return rc;
}

static phx_exit run(const phx_server_spec *spec, phx_talk_settings settings)
{
    phx_error err = {0};
    phx_server *server = NULL;
    chat c = {.interrupt = spec->interrupt, .settings = settings, .tty = isatty(STDIN_FILENO) == 1};
    phx_code rc = phx_server_open(spec, &server, &err);
    if (rc == PHX_OK) {
        c.client = phx_server_client(server);
        phx_buf_init(&c.input, LINE_BYTES_MAX);
        phx_buf_init(&c.messages, TALK_BYTES_MAX);
        if (c.tty)
            (void)fputs("/help lists what you can do.\n", stderr);
        rc = converse(&c, &err);
        phx_buf_done(&c.input);
        phx_buf_done(&c.messages);
    }
    phx_server_close(server);
    return rc == PHX_OK ? PHX_EXIT_DONE : phx_command_fail(&err);
}

phx_exit phx_command_chat(const phx_env *env, int argc, char *const *argv)
{
    phx_talk_flags talk = {0};
    const char *connect = NULL;
    const char *key_file = NULL;
    const phx_flag flags[] = {
        {"connect", "ADDRESS", "use this running server instead of starting one", &connect, NULL},
        {"key-file", "FILE", "keys for --connect over tcp", &key_file, NULL},
        PHX_TALK_FLAGS(&talk),
    };
    const phx_args_spec spec = {
        .usage = "phalanx chat [--connect ADDRESS | --model DIR] [options]",
        .about = "A conversation. Ctrl-C stops the answer, Ctrl-D ends; /help lists more. Without a terminal "
                 "each\n"
                 "line of stdin is one turn.",
        .scopes = PHX_SERVER_SCOPES,
        .flags = flags,
        .n_flags = sizeof(flags) / sizeof(flags[0]),
        .exit_codes = PHX_EXIT_CODES_SERVER "  130 interrupted\n",
    };
    phx_options options;
    phx_args args;
    phx_exit code = PHX_EXIT_DONE;
    phx_error err = {0};
    phx_talk_settings settings;
    phx_interrupt interrupt = {.fd = -1};
    if (!phx_command_begin(&spec, argc, argv, &options, &args, &code))
        return code;
    if (phx_talk_read(&talk, &settings, &err) != PHX_OK)
        return phx_command_fail_usage(err.text);
    if (phx_interrupt_open(&interrupt, &err) != PHX_OK)
        return phx_command_fail(&err);
    const phx_server_spec server = {
        .env = env, .options = &options, .connect = connect, .key_file = key_file, .interrupt = &interrupt};
    code = run(&server, settings);
    phx_interrupt_close(&interrupt);
    return code;
}
