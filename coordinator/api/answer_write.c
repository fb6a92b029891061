/* coordinator/api/answer_write.c - OpenAI's JSON of an answer: chunks of a stream, whole replies, logprobs.
 * Streams and whole replies are written from the same events, so their texts are the same. */
#include "coordinator/api/answer.h"

#define LOGPROB_MIN (-9999.0) /* minus infinity is no JSON */

static void begin(phx_answer *answer, phx_json_writer *w, const char *object);
static void begin_chunk(phx_answer *answer, uint32_t choice, phx_json_writer *w);
static void end_chunk(phx_answer *answer, phx_json_writer *w, const char *finish);
static void write_usage(const phx_answer *answer, const phx_delta *end, phx_json_writer *w);
static void write_logprobs(phx_answer *answer, uint32_t choice, phx_json_writer *w);
static void write_token_ids(phx_answer *answer, uint32_t choice, phx_json_writer *w);

static bool is_chat(const phx_answer *answer)
{
    return answer->face == PHX_API_FACE_CHAT;
}

static void item(phx_buf *items)
{
    if (items->n > 0)
        (void)phx_buf_char(items, ',');
}

/* ---------------------------------------------------------------- tokens */

static double finite_logprob(float logprob)
{
    return (double)logprob > LOGPROB_MIN ? (double)logprob : LOGPROB_MIN;
}

static phx_str piece_of(const phx_answer *answer, uint32_t token)
{
    phx_str bytes = {"", 0};
    if (answer->api->text->tokenizer)
        (void)phx_tokenizer_piece(answer->api->text->tokenizer, token, &bytes);
    return bytes;
}

static void write_bytes(phx_json_writer *w, phx_str bytes)
{
    phx_json_begin_array(w);
    for (size_t i = 0; i < bytes.n; i++)
        phx_json_u64(w, (uint8_t)bytes.ptr[i]);
    phx_json_end_array(w);
}

static void write_chat_token(phx_json_writer *w, phx_str bytes, float logprob)
{
    phx_json_key(w, "token");
    phx_json_str(w, bytes);
    phx_json_key(w, "logprob");
    phx_json_f64(w, finite_logprob(logprob));
    phx_json_key(w, "bytes");
    write_bytes(w, bytes);
}

static void keep_chat_logprobs(phx_answer *answer, phx_answer_choice *c, const phx_delta *delta)
{
    phx_json_writer w;
    item(&c->logprobs);
    phx_json_writer_init(&w, &c->logprobs);
    phx_json_begin_object(&w);
    write_chat_token(&w, delta->token_bytes, delta->logprob);
    phx_json_key(&w, "top_logprobs");
    phx_json_begin_array(&w);
    for (uint32_t i = 0; i < delta->n_top && i < answer->n_top; i++) {
        phx_json_begin_object(&w);
        write_chat_token(&w, piece_of(answer, delta->top[i].id), delta->top[i].logprob);
        phx_json_end_object(&w);
    }
    phx_json_end_array(&w);
    phx_json_end_object(&w);
}

/* A token as a key: one that is part of a character gets OpenAI's notation for bytes, and one without text
 * its number, so that keys differ. */
static void token_text(phx_str bytes, uint32_t token, phx_buf *to)
{
    phx_buf_clear(to);
    if (bytes.n == 0) {
        (void)phx_buf_printf(to, "token_id:%u", token);
        return;
    }
    if (phx_utf8_valid(bytes.ptr, bytes.n)) {
        (void)phx_buf_append(to, bytes.ptr, bytes.n);
        return;
    }
    (void)phx_buf_str(to, "bytes:");
    for (size_t i = 0; i < bytes.n; i++)
        (void)phx_buf_printf(to, "\\x%02x", (uint8_t)bytes.ptr[i]);
}

/* Different ids may spell the same bytes: the first, which is the likelier, keeps the key. */
static bool is_told(const phx_answer *answer, const phx_delta *delta, uint32_t n_before, phx_str bytes,
                    uint32_t token)
{
    for (uint32_t i = 0; i < n_before; i++) {
        if (delta->top[i].id == token || (bytes.n && phx_str_eq(piece_of(answer, delta->top[i].id), bytes)))
            return true;
    }
    return false;
}

static void keep_text_logprobs(phx_answer *answer, phx_answer_choice *c, const phx_delta *delta)
{
    phx_json_writer w;
    phx_buf *text = &answer->out; /* free between chunks */
    const uint32_t n_top = delta->n_top < answer->n_top ? delta->n_top : answer->n_top;
    token_text(delta->token_bytes, delta->token, text);
    item(&c->logprobs);
    phx_json_writer_init(&w, &c->logprobs);
    phx_json_str(&w, phx_buf_view(text));
    item(&c->token_logprobs);
    phx_json_writer_init(&w, &c->token_logprobs);
    phx_json_f64(&w, finite_logprob(delta->logprob));
    item(&c->text_offset);
    (void)phx_buf_printf(&c->text_offset, "%llu", (unsigned long long)c->n_chars);
    item(&c->top_logprobs);
    phx_json_writer_init(&w, &c->top_logprobs);
    phx_json_begin_object(&w);
    for (uint32_t i = 0; i < n_top; i++) {
        const phx_str bytes = piece_of(answer, delta->top[i].id);
        if (is_told(answer, delta, i, bytes, delta->top[i].id))
            continue;
        token_text(bytes, delta->top[i].id, text);
        phx_json_key_str(&w, phx_buf_view(text));
        phx_json_f64(&w, finite_logprob(delta->top[i].logprob));
    }
    if (!is_told(answer, delta, n_top, delta->token_bytes, delta->token)) {
        token_text(delta->token_bytes, delta->token, text);
        phx_json_key_str(&w, phx_buf_view(text));
        phx_json_f64(&w, finite_logprob(delta->logprob));
    }
    phx_json_end_object(&w);
    phx_buf_clear(text);
}

static uint64_t count_chars(phx_str text)
{
    uint64_t n = 0;
    for (size_t i = 0; i < text.n; i++)
        n += ((uint8_t)text.ptr[i] & 0xC0u) != 0x80u;
    return n;
}

void phx_answer_keep_token(phx_answer *answer, const phx_delta *delta)
{
    phx_answer_choice *c = &answer->choices[delta->choice];
    if (answer->logprobs) {
        if (is_chat(answer))
            keep_chat_logprobs(answer, c, delta);
        else
            keep_text_logprobs(answer, c, delta);
        c->has_logprobs = true;
        c->n_chars += count_chars(delta->token_bytes);
    }
    if (answer->tells_ids) {
        item(&c->token_ids);
        (void)phx_buf_printf(&c->token_ids, "%u", delta->token);
    }
    c->n_tokens++;
    if ((answer->in_reasoning || c->has_reasoning) && !c->has_content)
        c->n_reasoning = c->n_tokens;
}

/* ---------------------------------------------------------------- outputs */

void phx_answer_keep_output(phx_answer *answer, uint32_t choice, const phx_output_event *event)
{
    phx_answer_choice *c = &answer->choices[choice];
    if (event->kind == PHX_OUTPUT_REASONING && !c->has_reasoning) {
        c->has_reasoning = true; /* perhaps the model opened it itself */
        c->n_reasoning = c->n_tokens;
    }
    if (event->kind != PHX_OUTPUT_REASONING && !c->has_content) {
        c->has_content = true; /* the token that brought the first of it is not reasoning */
        c->n_reasoning -= c->n_reasoning > 0;
    }
    if (event->kind == PHX_OUTPUT_CALL_BEGIN) {
        (void)phx_str_copy(c->call_name, sizeof(c->call_name), event->name);
        phx_api_call_id(answer->call_ids, event, c->call_id);
        phx_buf_clear(&c->arguments);
    }
    if (answer->is_stream)
        return;
    switch (event->kind) {
    case PHX_OUTPUT_REASONING:
        (void)phx_buf_append(&c->reasoning, event->text.ptr, event->text.n);
        break;
    case PHX_OUTPUT_CONTENT:
        (void)phx_buf_append(&c->content, event->text.ptr, event->text.n);
        break;
    case PHX_OUTPUT_CALL_DELTA:
        (void)phx_buf_append(&c->arguments, event->text.ptr, event->text.n);
        break;
    case PHX_OUTPUT_CALL_END: {
        phx_json_writer w;
        item(&c->calls);
        phx_json_writer_init(&w, &c->calls);
        phx_api_write_call(&w, c->call_id, phx_str_of(c->call_name), phx_buf_view(&c->arguments));
        break;
    }
    case PHX_OUTPUT_CALL_BEGIN:
        break;
    }
}

phx_code phx_answer_code(const phx_answer *answer)
{
    phx_code rc = answer->out.code;
    for (uint32_t i = 0; rc == PHX_OK && i < answer->n_choices; i++) {
        phx_buf *bufs[PHX_ANSWER_BUFS];
        phx_answer_bufs(&answer->choices[i], bufs);
        for (size_t b = 0; rc == PHX_OK && b < PHX_ANSWER_BUFS; b++)
            rc = bufs[b]->code;
    }
    return rc;
}

/* ---------------------------------------------------------------- streams */

void phx_answer_role_chunk(phx_answer *answer, uint32_t choice)
{
    phx_json_writer w;
    begin_chunk(answer, choice, &w);
    if (is_chat(answer)) {
        phx_json_key(&w, "delta");
        phx_json_begin_object(&w);
        phx_json_key(&w, "role");
        phx_json_text(&w, "assistant");
        phx_json_key(&w, "content");
        phx_json_text(&w, "");
        phx_json_end_object(&w);
    } else {
        phx_json_key(&w, "text");
        phx_json_str(&w, phx_buf_view(&phx_answer_part_of(answer, choice)->echo));
    }
    phx_json_key(&w, "logprobs"); /* those of the first token come with its text */
    phx_json_null(&w);
    end_chunk(answer, &w, NULL);
}

void phx_answer_output_chunk(phx_answer *answer, uint32_t choice, const phx_output_event *event)
{
    phx_json_writer w;
    phx_buf_clear(&answer->out);
    if (event->kind == PHX_OUTPUT_CALL_END)
        return;
    begin_chunk(answer, choice, &w);
    if (is_chat(answer)) {
        phx_json_key(&w, "delta");
        phx_json_begin_object(&w);
        if (event->kind == PHX_OUTPUT_REASONING) {
            phx_json_key(&w, "reasoning_content");
            phx_json_str(&w, event->text);
            phx_json_key(&w, "reasoning");
            phx_json_str(&w, event->text);
        } else if (event->kind == PHX_OUTPUT_CONTENT) {
            phx_json_key(&w, "content");
            phx_json_str(&w, event->text);
        } else {
            phx_json_key(&w, "tool_calls");
            phx_json_begin_array(&w);
            phx_api_write_call_delta(&w, answer->choices[choice].call_id, event);
            phx_json_end_array(&w);
        }
        phx_json_end_object(&w);
    } else {
        phx_json_key(&w, "text");
        phx_json_str(&w, event->text);
    }
    write_logprobs(answer, choice, &w);
    write_token_ids(answer, choice, &w);
    end_chunk(answer, &w, NULL);
}

void phx_answer_finish_chunk(phx_answer *answer, uint32_t choice)
{
    phx_json_writer w;
    begin_chunk(answer, choice, &w);
    if (is_chat(answer)) {
        phx_json_key(&w, "delta");
        phx_json_begin_object(&w);
        phx_json_end_object(&w);
    } else {
        phx_json_key(&w, "text");
        phx_json_text(&w, "");
    }
    write_logprobs(answer, choice, &w);
    write_token_ids(answer, choice, &w);
    end_chunk(answer, &w, phx_finish_name(answer->choices[choice].finish));
}

void phx_answer_usage_chunk(phx_answer *answer, const phx_delta *end)
{
    phx_json_writer w;
    phx_buf_clear(&answer->out);
    (void)phx_buf_str(&answer->out, "data: ");
    begin(answer, &w, is_chat(answer) ? "chat.completion.chunk" : "text_completion");
    phx_json_key(&w, "choices");
    phx_json_begin_array(&w);
    phx_json_end_array(&w);
    write_usage(answer, end, &w);
    phx_json_end_object(&w);
    (void)phx_buf_str(&answer->out, "\n\n");
}

void phx_answer_error_chunk(phx_answer *answer, const phx_api_fault *fault)
{
    const phx_http_error error = phx_api_http_error(fault);
    phx_buf_clear(&answer->out);
    (void)phx_buf_str(&answer->out, "data: ");
    phx_http_error_json(&error, &answer->out);
    (void)phx_buf_str(&answer->out, "\n\n");
}

/* ---------------------------------------------------------------- whole replies */

static void write_message(const phx_answer_choice *c, phx_json_writer *w)
{
    phx_json_key(w, "message");
    phx_json_begin_object(w);
    phx_json_key(w, "role");
    phx_json_text(w, "assistant");
    phx_json_key(w, "content");
    if (c->content.n == 0 && c->calls.n > 0)
        phx_json_null(w);
    else
        phx_json_str(w, phx_buf_view(&c->content));
    phx_json_key(w, "refusal");
    phx_json_null(w);
    if (c->reasoning.n > 0) {
        phx_json_key(w, "reasoning_content");
        phx_json_str(w, phx_buf_view(&c->reasoning));
        phx_json_key(w, "reasoning");
        phx_json_str(w, phx_buf_view(&c->reasoning));
    }
    if (c->calls.n > 0) {
        phx_json_key(w, "tool_calls");
        phx_json_begin_array(w);
        phx_json_raw(w, phx_buf_view(&c->calls));
        phx_json_end_array(w);
    }
    phx_json_end_object(w);
}

void phx_answer_whole(phx_answer *answer, const phx_delta *end)
{
    phx_json_writer w;
    phx_buf_clear(&answer->out);
    begin(answer, &w, is_chat(answer) ? "chat.completion" : "text_completion");
    phx_json_key(&w, "choices");
    phx_json_begin_array(&w);
    for (uint32_t i = 0; i < answer->n_choices; i++) {
        phx_answer_choice *c = &answer->choices[i];
        phx_json_begin_object(&w);
        phx_json_key(&w, "index");
        phx_json_u64(&w, i);
        if (is_chat(answer)) {
            write_message(c, &w);
        } else {
            phx_json_key(&w, "text");
            phx_json_str(&w, phx_buf_view(&c->content));
        }
        write_logprobs(answer, i, &w);
        write_token_ids(answer, i, &w);
        phx_json_key(&w, "finish_reason");
        phx_json_text(&w, phx_finish_name(c->finish));
        phx_json_end_object(&w);
    }
    phx_json_end_array(&w);
    write_usage(answer, end, &w);
    phx_json_end_object(&w);
}

/* ---------------------------------------------------------------- parts */

static void begin(phx_answer *answer, phx_json_writer *w, const char *object)
{
    phx_json_writer_init(w, &answer->out);
    phx_json_begin_object(w);
    phx_json_key(w, "id");
    phx_json_text(w, answer->id);
    phx_json_key(w, "object");
    phx_json_text(w, object);
    phx_json_key(w, "created");
    phx_json_i64(w, answer->created_s);
    phx_json_key(w, "model");
    phx_json_text(w, answer->api->text->name);
    phx_json_key(w, "system_fingerprint");
    phx_json_text(w, answer->api->fingerprint);
}

static void begin_chunk(phx_answer *answer, uint32_t choice, phx_json_writer *w)
{
    phx_buf_clear(&answer->out);
    (void)phx_buf_str(&answer->out, "data: ");
    begin(answer, w, is_chat(answer) ? "chat.completion.chunk" : "text_completion");
    phx_json_key(w, "choices");
    phx_json_begin_array(w);
    phx_json_begin_object(w);
    phx_json_key(w, "index");
    phx_json_u64(w, choice);
}

static void end_chunk(phx_answer *answer, phx_json_writer *w, const char *finish)
{
    phx_json_key(w, "finish_reason");
    if (finish)
        phx_json_text(w, finish);
    else
        phx_json_null(w);
    phx_json_end_object(w);
    phx_json_end_array(w);
    if (answer->include_usage) { /* OpenAI's chunks but the last say null */
        phx_json_key(w, "usage");
        phx_json_null(w);
    }
    phx_json_end_object(w);
    (void)phx_buf_str(&answer->out, "\n\n");
}

static void write_items(phx_json_writer *w, const char *key, phx_buf *items)
{
    phx_json_key(w, key);
    phx_json_begin_array(w);
    if (items->n > 0)
        phx_json_raw(w, phx_buf_view(items));
    phx_json_end_array(w);
    if (items->code == PHX_OK)
        phx_buf_clear(items);
}

/* Tells what waits; null when nothing does. */
static void write_logprobs(phx_answer *answer, uint32_t choice, phx_json_writer *w)
{
    phx_answer_choice *c = &answer->choices[choice];
    phx_json_key(w, "logprobs");
    if (!c->has_logprobs) {
        phx_json_null(w);
        return;
    }
    c->has_logprobs = false;
    phx_json_begin_object(w);
    if (is_chat(answer)) {
        write_items(w, "content", &c->logprobs);
        phx_json_key(w, "refusal");
        phx_json_null(w);
    } else {
        write_items(w, "tokens", &c->logprobs);
        write_items(w, "token_logprobs", &c->token_logprobs);
        write_items(w, "top_logprobs", &c->top_logprobs);
        write_items(w, "text_offset", &c->text_offset);
    }
    phx_json_end_object(w);
}

/* As vLLM tells them: of the tokens since the last chunk. */
static void write_token_ids(phx_answer *answer, uint32_t choice, phx_json_writer *w)
{
    if (answer->tells_ids)
        write_items(w, "token_ids", &answer->choices[choice].token_ids);
}

static void write_usage(const phx_answer *answer, const phx_delta *end, phx_json_writer *w)
{
    uint64_t n_reasoning = 0;
    for (uint32_t i = 0; i < answer->n_choices; i++)
        n_reasoning += answer->choices[i].n_reasoning;
    phx_json_key(w, "usage");
    phx_json_begin_object(w);
    phx_json_key(w, "prompt_tokens");
    phx_json_u64(w, end->n_prompt);
    phx_json_key(w, "completion_tokens");
    phx_json_u64(w, end->n_output);
    phx_json_key(w, "total_tokens");
    phx_json_u64(w, (uint64_t)end->n_prompt + end->n_output);
    phx_json_key(w, "prompt_tokens_details");
    phx_json_begin_object(w);
    phx_json_key(w, "cached_tokens");
    phx_json_u64(w, end->n_cached);
    phx_json_end_object(w);
    phx_json_key(w, "completion_tokens_details");
    phx_json_begin_object(w);
    phx_json_key(w, "reasoning_tokens");
    phx_json_u64(w, n_reasoning);
    phx_json_end_object(w);
    phx_json_end_object(w);
}
