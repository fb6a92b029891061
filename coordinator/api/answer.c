/* coordinator/api/answer.c - the life of an HTTP request to generate.
 * The reply begins with the first token, so that every failure before it has a status of its own. Once the
 * client is gone, by whatever sign, the generation is abandoned at once. */
#include "coordinator/api/answer.h"

#include <assert.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "coordinator/api/prompt.h"
#include "coordinator/api/work.h"

#define COMPLETION_TOKENS 16u /* OpenAI's default of max_tokens for completions */

/* A request on its way to an answer. */
typedef struct asking {
    phx_api_work work; /* first */
    phx_api_face face;
    uint64_t salt;
    uint64_t start_us;
    phx_api_request request; /* after make without its JSON: the stop texts lie in stops */
    char stops[PHX_STOP_STRINGS_MAX * PHX_STOP_BYTES_MAX];
    phx_api_prompt prompts[PHX_PROMPTS_MAX];
    phx_buf echoes[PHX_PROMPTS_MAX]; /* texts of the prompts, when asked for */
} asking;

static void run(phx_api *api, phx_api_face face, const phx_http_request *from, phx_http_reply *reply);
static bool make_prompts(phx_api_work *work, phx_api_fault *fault);
static bool echo_prompt(const phx_model_text *model, const phx_json *node, const phx_api_prompt *prompt,
                        phx_buf *to, phx_api_fault *fault);
static void keep_stops(asking *a);
static void begin_answer(phx_api_work *work);
static bool make_answer(asking *a, phx_answer **ret_answer, phx_api_fault *fault);
static bool start(phx_answer *answer, const asking *a, phx_api_fault *fault);
static phx_api_outcome outcome_of_closed(phx_http_closed why);
static void on_delta(void *user, const phx_delta *delta);
static void on_closed(void *user, phx_http_closed why);
static void take_end(phx_answer *answer, const phx_delta *delta);
static bool send_out(phx_answer *answer);
static void fail(phx_answer *answer, const phx_api_fault *fault);
static void leave(phx_answer *answer, phx_api_outcome outcome);
static void free_answer(phx_answer *answer);

void phx_api_chat(void *user, const phx_http_request *request, phx_http_reply *reply)
{
    run(user, PHX_API_FACE_CHAT, request, reply);
}

void phx_api_completions(void *user, const phx_http_request *request, phx_http_reply *reply)
{
    run(user, PHX_API_FACE_COMPLETIONS, request, reply);
}

void phx_answer_drop_all(phx_api *api)
{
    while (api->answers)
        leave(api->answers, PHX_API_OUTCOME_ERROR);
}

/* ---------------------------------------------------------------- starting */

static void run(phx_api *api, phx_api_face face, const phx_http_request *from, phx_http_reply *reply)
{
    phx_api_fault fault = {0};
    asking *a = NULL;
    if (phx_api_is_ready(api, &fault)) {
        a = phx_alloc(1, sizeof(*a));
        if (!a)
            phx_api_fault_of(&(phx_error){.code = PHX_ERR_NOMEM}, &fault);
    }
    if (!a) {
        api->tally.n_outcomes[face][phx_api_outcome_of(&fault)]++;
        phx_api_send_fault(reply, &fault);
        return;
    }
    a->face = face;
    a->start_us = phx_clock_us();
    memcpy(&a->salt, from->key_hash.bytes, sizeof(a->salt)); /* zeros without keys */
    for (uint32_t i = 0; i < PHX_PROMPTS_MAX; i++)
        phx_buf_init(&a->echoes[i], PHX_ANSWER_BYTES_MAX);
    a->work.make = make_prompts;
    a->work.finish = begin_answer;
    a->work.renders = face == PHX_API_FACE_CHAT;
    api->tally.n_open[face]++;
    phx_api_work_begin_http(api, &a->work, from, reply);
}

/* The last step that may take long: perhaps on the text thread. */
static bool make_prompts(phx_api_work *work, phx_api_fault *fault)
{
    asking *a = (asking *)work;
    const phx_model_text *model = &work->text;
    phx_api_request *request = &a->request;
    const uint32_t where = a->face == PHX_API_FACE_CHAT ? PHX_API_CHAT : PHX_API_COMPLETIONS;
    if (!phx_api_request_read(work->body, where, model, request, fault))
        return false;
    request->stop = work->job.stop;
    bool ok = true;
    for (uint32_t i = 0; ok && i < request->n_prompts; i++) {
        phx_str text;
        const phx_json *node = phx_api_request_prompt(request, i);
        if (where == PHX_API_CHAT)
            ok = phx_api_prompt_chat(model, request, model->n_context, &a->prompts[i], fault);
        else if (phx_json_as_str(node, &text))
            ok = phx_api_prompt_text(model, text, request->add_special_tokens, model->n_context,
                                     &a->prompts[i], fault);
        else
            ok = phx_api_prompt_node(model, node, "prompt", &a->prompts[i], fault);
        ok = ok && phx_api_prompt_fits(model, &a->prompts[i], fault) &&
             (!request->echo || echo_prompt(model, node, &a->prompts[i], &a->echoes[i], fault));
    }
    keep_stops(a);
    phx_api_request_done(request);
    return ok;
}

static bool echo_prompt(const phx_model_text *model, const phx_json *node, const phx_api_prompt *prompt,
                        phx_buf *to, phx_api_fault *fault)
{
    phx_str text;
    phx_error err = {0};
    phx_code rc = phx_json_as_str(node, &text) ? phx_buf_append(to, text.ptr, text.n)
                                               : phx_api_text_of_ids(model, prompt, true, to, &err);
    if (rc == PHX_OK)
        return true;
    (void)PHX_FAIL(&err, rc, "the prompt to echo");
    phx_api_fault_of(&err, fault);
    return false;
}

/* Out of the JSON, which is large when the body was and is freed where it was made. */
static void keep_stops(asking *a)
{
    size_t at = 0;
    for (uint32_t i = 0; i < a->request.n_stops; i++) {
        phx_str *stop = &a->request.stops[i];
        assert(stop->n <= PHX_STOP_BYTES_MAX);
        memcpy(a->stops + at, stop->ptr, stop->n);
        stop->ptr = a->stops + at;
        at += stop->n;
    }
}

static void begin_answer(phx_api_work *work)
{
    asking *a = (asking *)work;
    phx_api *api = work->api;
    phx_http_reply *reply = work->reply;
    phx_api_fault *fault = &work->fault;
    phx_answer *answer = NULL;
    api->tally.n_open[a->face]--;
    /* Meanwhile the server may have begun to drain. */
    if (!reply) {
        api->tally.n_outcomes[a->face][outcome_of_closed(work->why)]++;
    } else if (work->ok && phx_api_is_ready(api, fault) && make_answer(a, &answer, fault) &&
               start(answer, a, fault)) {
        answer->reply = reply;
        phx_http_reply_on_closed(reply, on_closed, answer);
    } else {
        if (answer)
            leave(answer, phx_api_outcome_of(fault));
        else
            api->tally.n_outcomes[a->face][phx_api_outcome_of(fault)]++;
        phx_api_send_fault(reply, fault);
    }
    for (uint32_t i = 0; i < PHX_PROMPTS_MAX; i++) {
        phx_api_prompt_done(&a->prompts[i]);
        phx_buf_done(&a->echoes[i]);
    }
    phx_api_work_free(work);
}

/* The prompt's text goes into the part, and into the contents of a whole answer. */
static phx_code take_echo(phx_answer_part *part, phx_buf *text)
{
    phx_code rc = PHX_OK;
    phx_answer *answer = part->answer;
    const phx_str echo = phx_buf_view(text);
    for (uint32_t i = 0; rc == PHX_OK && !answer->is_stream && i < answer->n_of_prompt; i++)
        rc = phx_buf_append(&answer->choices[part->choice_first + i].content, echo.ptr, echo.n);
    part->echo = *text;
    phx_buf_init(text, PHX_ANSWER_BYTES_MAX);
    return rc;
}

static void init_choice(phx_answer_choice *c)
{
    phx_buf *bufs[PHX_ANSWER_BUFS];
    phx_answer_bufs(c, bufs);
    for (size_t b = 0; b < PHX_ANSWER_BUFS; b++)
        phx_buf_init(bufs[b], PHX_ANSWER_BYTES_MAX);
}

/* Zeroed but for what can fail. */
static phx_answer *alloc_answer(uint32_t n_parts, uint32_t n_of_prompt)
{
    phx_answer *answer = phx_alloc(1, sizeof(*answer));
    if (!answer)
        return NULL;
    answer->n_parts = n_parts;
    answer->n_of_prompt = n_of_prompt;
    answer->n_choices = n_parts * n_of_prompt;
    answer->parts = phx_alloc(answer->n_parts, sizeof(*answer->parts));
    answer->choices = phx_alloc(answer->n_choices, sizeof(*answer->choices));
    if (answer->parts && answer->choices)
        return answer;
    phx_free(answer->parts);
    phx_free(answer->choices);
    phx_free(answer);
    return NULL;
}

static bool make_answer(asking *a, phx_answer **ret_answer, phx_api_fault *fault)
{
    uint64_t random[2];
    phx_code rc = PHX_OK;
    phx_api *api = a->work.api;
    const phx_api_request *request = &a->request;
    phx_answer *answer = alloc_answer(request->n_prompts, request->n);
    if (!answer) {
        phx_api_fault_of(&(phx_error){.code = PHX_ERR_NOMEM}, fault);
        return false;
    }
    answer->api = api;
    answer->face = a->face;
    answer->created_s = phx_clock_wall_s();
    answer->start_us = a->start_us;
    answer->is_stream = request->stream;
    answer->include_usage = request->include_usage;
    answer->logprobs = request->sampling.logprobs;
    answer->n_top = request->sampling.n_top_logprobs;
    answer->tells_ids = request->return_token_ids || (api->text && !api->text->tokenizer);
    answer->in_reasoning = a->prompts[0].in_reasoning;
    if (api->text && api->text->chat)
        answer->call_ids =
            (phx_api_call_ids){.numbered = api->text->chat->numbers_calls, .first = a->prompts[0].next_call};
    phx_random_bytes(random, sizeof(random));
    (void)snprintf(answer->id, sizeof(answer->id), "%s-%016llx%016llx",
                   a->face == PHX_API_FACE_CHAT ? "chatcmpl" : "cmpl", (unsigned long long)random[0],
                   (unsigned long long)random[1]);
    phx_buf_init(&answer->out, 4 * (size_t)PHX_ANSWER_BYTES_MAX);
    for (uint32_t i = 0; i < answer->n_choices; i++)
        init_choice(&answer->choices[i]);
    for (uint32_t i = 0; i < answer->n_parts; i++) {
        answer->parts[i] = (phx_answer_part){.answer = answer, .choice_first = i * answer->n_of_prompt};
        phx_buf_init(&answer->parts[i].echo, PHX_ANSWER_BYTES_MAX);
    }
    answer->next = api->answers;
    if (answer->next)
        answer->next->prev = answer;
    api->answers = answer;
    api->tally.n_open[a->face]++;
    *ret_answer = answer;
    for (uint32_t i = 0; rc == PHX_OK && request->echo && i < answer->n_parts; i++)
        rc = take_echo(&answer->parts[i], &a->echoes[i]);
    if (rc != PHX_OK)
        phx_api_fault_of(&(phx_error){.code = rc}, fault);
    return rc == PHX_OK;
}

static bool start(phx_answer *answer, const asking *a, phx_api_fault *fault)
{
    const phx_api_request *request = &a->request;
    const phx_api_prompt *prompts = a->prompts;
    phx_error err = {0};
    const bool is_chat = answer->face == PHX_API_FACE_CHAT;
    phx_generation_params params = {.n_choices = request->n,
                                    .sampling = request->sampling,
                                    .n_stop_ids = request->n_stop_ids,
                                    .stops = request->stops,
                                    .n_stops = request->n_stops,
                                    .ignore_eos = request->ignore_eos,
                                    .plain = !is_chat,
                                    .in_reasoning = prompts[0].in_reasoning,
                                    .parse_calls = prompts[0].parse_calls,
                                    .types = prompts[0].types,
                                    .cache_salt = a->salt};
    memcpy(params.stop_ids, request->stop_ids, sizeof(params.stop_ids));
    params.n_output_max = request->has_max_completion_tokens ? request->max_completion_tokens
                          : request->has_max_tokens          ? request->max_tokens
                          : is_chat                          ? 0
                                                             : COMPLETION_TOKENS;
    if (!request->has_seed)
        phx_random_bytes(&params.sampling.seed, sizeof(params.sampling.seed));
    for (uint32_t i = 0; i < answer->n_parts; i++) {
        params.prompt = prompts[i].ids;
        params.n_prompt = prompts[i].n;
        if (phx_generation_start(answer->api->options.engine, answer->api->text, &params, on_delta,
                                 &answer->parts[i], &answer->parts[i].generation, &err) != PHX_OK) {
            phx_api_fault_of(&err, fault);
            return false;
        }
        answer->n_parts_open++;
    }
    return true;
}

/* ---------------------------------------------------------------- running */

static phx_api_outcome outcome_of_closed(phx_http_closed why)
{
    return why == PHX_HTTP_CLOSED_SERVER ? PHX_API_OUTCOME_ERROR : PHX_API_OUTCOME_CLIENT_LEFT;
}

/* The connection ended before the reply was complete. */
static void on_closed(void *user, phx_http_closed why)
{
    phx_answer *answer = user;
    leave(answer, outcome_of_closed(why));
}

static bool begin_stream(phx_answer *answer)
{
    if (!answer->is_stream || answer->has_begun)
        return true;
    answer->has_begun = true;
    /* The http layer adds what keeps caches and proxies from holding events back. */
    return phx_http_reply_stream_begin(
               answer->reply,
               &(phx_http_response){.status = 200, .content_type = "text/event-stream; charset=utf-8"}) ==
           PHX_OK;
}

/* Writes the first chunk of a choice, and begins the stream with the first of all. */
static bool begin_choice(phx_answer *answer, uint32_t choice)
{
    phx_answer_choice *c = &answer->choices[choice];
    if (!answer->is_stream || c->has_role)
        return true;
    c->has_role = true;
    if (!begin_stream(answer))
        return false;
    if (answer->face == PHX_API_FACE_COMPLETIONS && phx_answer_part_of(answer, choice)->echo.n == 0)
        return true;
    phx_answer_role_chunk(answer, choice);
    return send_out(answer);
}

static void on_delta(void *user, const phx_delta *of_part)
{
    phx_answer_part *part = user;
    phx_answer *answer = part->answer;
    phx_delta of_answer = *of_part;
    const phx_delta *delta = &of_answer;
    bool ok = true;
    of_answer.choice += part->choice_first;
    if (delta->kind == PHX_DELTA_TOKEN && !answer->has_first) {
        answer->has_first = true;
        phx_api_histogram_add(&answer->api->tally.first_token, phx_clock_us() - answer->start_us);
    }
    switch (delta->kind) {
    case PHX_DELTA_TOKEN:
        phx_answer_keep_token(answer, delta);
        ok = begin_choice(answer, delta->choice);
        break;
    case PHX_DELTA_OUTPUT:
        phx_answer_keep_output(answer, delta->choice, delta->output);
        if (answer->is_stream) {
            ok = begin_choice(answer, delta->choice);
            phx_answer_output_chunk(answer, delta->choice, delta->output);
            ok = ok && (answer->out.n == 0 || send_out(answer));
        }
        break;
    case PHX_DELTA_END:
        if (delta->last) {
            part->generation = NULL; /* dead after this call */
            answer->n_parts_open--;
            answer->usage.n_prompt += delta->n_prompt;
            answer->usage.n_cached += delta->n_cached;
            answer->usage.n_output += delta->n_output;
        }
        take_end(answer, delta);
        return;
    case PHX_DELTA_CAPTURE:
        break;
    }
    if (!ok) {
        leave(answer, PHX_API_OUTCOME_CLIENT_LEFT);
    } else if (phx_answer_code(answer) != PHX_OK) {
        phx_api_fault fault = {.status = 500,
                               .code = "answer_too_large",
                               .message = "the answer is larger than a reply may be: ask for a stream",
                               .cause = phx_answer_code(answer)};
        fail(answer, &fault);
    }
}

static void take_end(phx_answer *answer, const phx_delta *delta)
{
    phx_api_fault fault;
    phx_answer_choice *c = &answer->choices[delta->choice];
    c->finish = delta->finish;
    if (delta->malformed_calls)
        answer->api->tally.n_malformed_calls++;
    if (delta->finish == PHX_FINISH_ERROR || delta->finish == PHX_FINISH_CANCELLED) {
        const phx_error cancelled = {.code = PHX_ERR_CANCELLED};
        phx_api_fault_of(delta->finish == PHX_FINISH_ERROR ? delta->why : &cancelled, &fault);
        fail(answer, &fault);
        return;
    }
    bool ok = begin_choice(answer, delta->choice);
    if (answer->is_stream && ok) {
        phx_answer_finish_chunk(answer, delta->choice);
        ok = send_out(answer);
    }
    if (ok && answer->n_parts_open > 0)
        return;
    if (ok && answer->is_stream && answer->include_usage) {
        phx_answer_usage_chunk(answer, &answer->usage);
        ok = send_out(answer);
    }
    if (ok && answer->is_stream) {
        ok = phx_http_reply_stream_write(answer->reply, phx_str_of("data: [DONE]\n\n")) == PHX_OK;
        if (ok) {
            phx_http_reply_stream_end(answer->reply);
            answer->reply = NULL;
        }
    } else if (ok) {
        phx_answer_whole(answer, &answer->usage);
        phx_api_send_json(answer->reply, &answer->out);
        answer->reply = NULL;
    }
    leave(answer, ok ? phx_api_outcome_of_finish(answer->choices[0].finish) : PHX_API_OUTCOME_CLIENT_LEFT);
}

/* One event is one write. */
static bool send_out(phx_answer *answer)
{
    return answer->out.code == PHX_OK &&
           phx_http_reply_stream_write(answer->reply, phx_buf_view(&answer->out)) == PHX_OK;
}

/* ---------------------------------------------------------------- ending */

static void fail(phx_answer *answer, const phx_api_fault *fault)
{
    if (!answer->has_begun) {
        phx_api_send_fault(answer->reply, fault);
        answer->reply = NULL;
    } else {
        phx_answer_error_chunk(answer, fault);
        if (send_out(answer)) {
            phx_http_reply_stream_end(answer->reply);
            answer->reply = NULL;
        }
    }
    leave(answer, phx_api_outcome_of(fault));
}

/* Frees; a reply that is still owed is cut. */
static void leave(phx_answer *answer, phx_api_outcome outcome)
{
    phx_api *api = answer->api;
    for (uint32_t i = 0; i < answer->n_parts; i++)
        phx_generation_abandon(answer->parts[i].generation);
    if (answer->reply)
        phx_http_reply_abort(answer->reply);
    if (answer->prev)
        answer->prev->next = answer->next;
    else
        api->answers = answer->next;
    if (answer->next)
        answer->next->prev = answer->prev;
    api->tally.n_open[answer->face]--;
    api->tally.n_outcomes[answer->face][outcome]++;
    phx_api_histogram_add(&api->tally.whole, phx_clock_us() - answer->start_us);
    free_answer(answer);
}

static void free_answer(phx_answer *answer)
{
    for (uint32_t i = 0; i < answer->n_choices; i++) {
        phx_buf *bufs[PHX_ANSWER_BUFS];
        phx_answer_bufs(&answer->choices[i], bufs);
        for (size_t b = 0; b < PHX_ANSWER_BUFS; b++)
            phx_buf_done(bufs[b]);
    }
    for (uint32_t i = 0; i < answer->n_parts; i++)
        phx_buf_done(&answer->parts[i].echo);
    phx_buf_done(&answer->out);
    phx_free(answer->parts);
    phx_free(answer->choices);
    phx_free(answer);
}
