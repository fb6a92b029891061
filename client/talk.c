/* client/talk.c - one generation as a person sees it. */
#include "client/talk.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"

#define DIM_ON  "\033[2m"
#define DIM_OFF "\033[0m"

typedef struct screen {
    bool out_tty;
    bool dimmed;   /* reasoning is being shown */
    bool reasoned; /* some was */
    phx_code failed;
} screen;

static phx_code read_number(const char *flag, const char *text, double least, double most, float *value,
                            phx_error *err)
{
    double number = 0;
    if (!text)
        return PHX_OK;
    if (!phx_str_to_f64(phx_str_of(text), &number) || number < least || number > most)
        return PHX_FAIL(err, PHX_ERR_INVALID, "--%s cannot be '%.40s': a number from %g to %g", flag, text,
                        least, most);
    *value = (float)number;
    return PHX_OK;
}

phx_code phx_talk_read(const phx_talk_flags *flags, phx_talk_settings *ret_settings, phx_error *err)
{
    phx_talk_settings settings = {.sampling = PHALANX__SAMPLING__INIT, .thinking = flags->thinking};
    uint64_t number = 0;
    settings.sampling.top_p = 1;
    settings.sampling.repetition_penalty = 1;
    phx_code rc = read_number("temperature", flags->temperature, 0, 2, &settings.sampling.temperature, err);
    if (rc == PHX_OK)
        rc = read_number("top-p", flags->top_p, 0, 1, &settings.sampling.top_p, err);
    if (rc != PHX_OK)
        return rc;
    if (flags->seed && !phx_str_to_u64(phx_str_of(flags->seed), 0, UINT64_MAX, &settings.sampling.seed))
        return PHX_FAIL(err, PHX_ERR_INVALID, "--seed '%.40s' is not a number", flags->seed);
    if (flags->max_tokens && !phx_str_to_u64(phx_str_of(flags->max_tokens), 1, UINT32_MAX, &number))
        return PHX_FAIL(err, PHX_ERR_INVALID, "--max-tokens '%.40s' is not a number from 1",
                        flags->max_tokens);
    settings.max_tokens = (uint32_t)number;
    *ret_settings = settings;
    return PHX_OK;
}

/* A model may say anything, an escape sequence too: a terminal gets text, line ends and tabs alone. */
static void put_text(screen *s, FILE *to, const char *text, bool is_tty)
{
    size_t n = strlen(text);
    if (!is_tty) {
        if (fwrite(text, 1, n, to) != n || fflush(to) != 0)
            s->failed = PHX_ERR_IO;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)text[i];
        const bool c1 = c == 0xC2 && (unsigned char)text[i + 1] < 0xA0; /* U+0080 to U+009F */
        if (c1)
            i++;
        else if ((c >= 0x20 && c != 0x7F) || c == '\n' || c == '\t')
            (void)fputc(c, to);
    }
    if (fflush(to) != 0)
        s->failed = PHX_ERR_IO;
}

static void put_reasoning(screen *s, const char *text)
{
    if (!s->out_tty) {
        put_text(s, stderr, text, isatty(STDERR_FILENO) == 1);
    } else {
        if (!s->dimmed)
            (void)fputs(DIM_ON, stdout);
        s->dimmed = true;
        put_text(s, stdout, text, true);
    }
    s->reasoned = true;
}

static void end_reasoning(screen *s)
{
    if (s->reasoned)
        (void)fputs(s->out_tty ? DIM_OFF "\n\n" : "\n", s->out_tty ? stdout : stderr);
    s->dimmed = false;
    s->reasoned = false;
}

static void take_event(screen *s, const Phalanx__GenerateEvent *event, phx_buf *answer,
                       phx_talk_result *result)
{
    if (event->reasoning[0])
        put_reasoning(s, event->reasoning);
    if (event->text[0]) {
        end_reasoning(s);
        put_text(s, stdout, event->text, s->out_tty);
        if (answer)
            phx_buf_str(answer, event->text);
    }
    if (event->tool_calls_json[0]) {
        end_reasoning(s);
        put_text(s, stdout, event->tool_calls_json, s->out_tty);
    }
    if (event->finish_reason[0]) {
        result->n_prompt = event->n_prompt_tokens;
        result->n_cached = event->n_cached_tokens;
        if (event->n_completion_tokens > result->n_output)
            result->n_output = event->n_completion_tokens;
        (void)phx_str_copy(result->finish, sizeof(result->finish), phx_str_of(event->finish_reason));
    } else {
        result->n_output += (uint32_t)event->n_token_ids;
    }
}

phx_code phx_talk(phx_client *client, phx_interrupt *interrupt, Phalanx__GenerateRequest *request,
                  phx_buf *answer, phx_talk_result *ret_result, phx_error *err)
{
    const uint64_t start = phx_clock_us();
    const Phalanx__GenerateEvent *event = NULL;
    phx_talk_result result = {0};
    screen s = {.out_tty = isatty(STDOUT_FILENO) == 1};
    uint64_t call_id = 0;
    phx_code rc = phx_client_generate(client, request, 0, &call_id, err);
    while (rc == PHX_OK) {
        rc = phx_client_next(client, call_id, phx_interrupt_keep_waiting, interrupt, &event, err);
        if (rc != PHX_OK || !event)
            break;
        if (result.first_us == 0 && event->n_token_ids > 0)
            result.first_us = phx_clock_us() - start;
        take_event(&s, event, answer, &result);
        if (s.failed != PHX_OK) {
            (void)phx_client_cancel(client, call_id, NULL);
            rc = PHX_FAIL(err, PHX_ERR_IO, "cannot write the answer");
        }
    }
    if (s.dimmed)
        (void)fputs(DIM_OFF, stdout);
    (void)fflush(stdout);
    result.total_us = phx_clock_us() - start;
    *ret_result = result;
    return rc;
}

void phx_talk_print_result(const phx_talk_result *result)
{
    const double decode_s = (double)(result->total_us - result->first_us) * 1e-6;
    (void)fprintf(stderr, "[%u tokens", result->n_output);
    if (result->n_output > 1 && decode_s > 0)
        (void)fprintf(stderr, ", %.1f tokens/s", (double)(result->n_output - 1) / decode_s);
    (void)fprintf(stderr, "; prompt %u tokens", result->n_prompt);
    if (result->n_cached)
        (void)fprintf(stderr, " (%u cached)", result->n_cached);
    (void)fprintf(stderr, ", first token after %.2f s%s%s]\n", (double)result->first_us * 1e-6,
                  strcmp(result->finish, "stop") == 0 || !result->finish[0] ? "" : "; ended by: ",
                  strcmp(result->finish, "stop") == 0 ? "" : result->finish);
}

void phx_talk_message(const char *role, phx_str content, phx_buf *buf)
{
    phx_json_writer w;
    phx_json_writer_init(&w, buf);
    phx_json_begin_object(&w);
    phx_json_key(&w, "role");
    phx_json_text(&w, role);
    phx_json_key(&w, "content");
    phx_json_str(&w, content);
    phx_json_end_object(&w);
}

void phx_talk_chat_json(phx_str messages, bool thinking, phx_buf *buf)
{
    phx_buf_str(buf, "{\"messages\":[");
    phx_buf_append(buf, messages.ptr, messages.n);
    phx_buf_printf(buf, "],\"chat_template_kwargs\":{\"thinking\":%s}}", thinking ? "true" : "false");
}
