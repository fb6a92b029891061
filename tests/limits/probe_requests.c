/* tests/limits/probe_requests.c - what clients send: JSON, conversations, sampling, the queue, keys, messages
 * of the control service. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/options.h"
#include "coordinator/api/fields.h"
#include "coordinator/http/keys.h"
#include "coordinator/sched/sched.h"
#include "coordinator/text_thread.h"
#include "proto/check.h"
#include "proto/codec.h"
#include "tests/limits/maker.h"
#include "tests/limits/probes.h"

/* ---- JSON ---- */

static bool takes_json(phx_buf *text)
{
    phx_json *root = NULL;
    const phx_code rc = phx_json_parse(make_bytes(text), PHX_JSON_LIMITS_REQUEST, &root, NULL);
    phx_json_destroy(root);
    phx_buf_done(text);
    return rc == PHX_OK;
}

bool takes_PHX_REQUEST_BYTES_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "[]");
    make_fill(&text, ' ', n - 2);
    return takes_json(&text);
}

bool takes_PHX_JSON_DEPTH_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "");
    make_fill(&text, '[', n);
    make_fill(&text, ']', n);
    return takes_json(&text);
}

bool takes_PHX_JSON_KEYS_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "[{\"one before\":{}},{");
    make_list(&text, "\"", n, "\":[{\"a\":0}]");
    (void)phx_buf_str(&text, "}]");
    return takes_json(&text);
}

/* The root, the place of the first value in it, and one more for each comma. */
bool takes_PHX_JSON_NODES_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "[0");
    for (size_t i = 2; i < n; i++)
        (void)phx_buf_str(&text, ",0");
    (void)phx_buf_str(&text, "]");
    return takes_json(&text);
}

/* ---- conversations ---- */

static bool takes_chat(phx_buf *text)
{
    phx_json *root = NULL;
    phx_chat *chat = NULL;
    assert_int_equal(phx_json_parse(make_bytes(text), PHX_JSON_LIMITS_FILE, &root, NULL), PHX_OK);
    const phx_chat_request request = {.messages = phx_json_get(root, "messages"),
                                      .tools = phx_json_get(root, "tools")};
    const phx_code rc = phx_chat_build(&request, &chat, NULL);
    phx_chat_destroy(chat);
    phx_json_destroy(root);
    phx_buf_done(text);
    return rc == PHX_OK;
}

bool takes_PHX_CHAT_MESSAGES_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "{\"messages\":[");
    make_list(&text, "{\"role\":\"user\",\"content\":\"", n, "\"}");
    (void)phx_buf_str(&text, "]}");
    return takes_chat(&text);
}

bool takes_PHX_CHAT_TOOLS_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[");
    make_list(&text, "{\"type\":\"function\",\"function\":{\"name\":\"f", n, "\"}}");
    (void)phx_buf_str(&text, "]}");
    return takes_chat(&text);
}

bool takes_PHX_CHAT_CALLS_MAX(size_t n)
{
    phx_buf text;
    make_start(
        &text,
        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"tool_calls\":[");
    make_list(&text, "{\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"},\"id\":\"", n,
              "\"}");
    (void)phx_buf_str(&text, "]},");
    make_list(&text, "{\"role\":\"tool\",\"content\":\"x\",\"tool_call_id\":\"", n, "\"}");
    (void)phx_buf_str(&text, "]}");
    return takes_chat(&text);
}

bool takes_PHX_CHAT_NAME_BYTES_MAX(size_t n)
{
    phx_buf text;
    make_start(&text,
               "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{\"type\":\"function\","
               "\"function\":{\"name\":\"");
    make_fill(&text, 'f', n);
    (void)phx_buf_str(&text, "\"}}]}");
    return takes_chat(&text);
}

bool takes_PHX_CHAT_TEXT_BYTES_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "{\"messages\":[{\"role\":\"user\",\"content\":\"");
    make_fill(&text, 'x', n);
    (void)phx_buf_str(&text, "\"}]}");
    return takes_chat(&text);
}

bool takes_PHX_CHAT_PROMPT_MAX(size_t n)
{
    phx_buf text;
    phx_chat_prompt prompt;
    make_start(&text, "");
    make_fill(&text, 'x', n - 3);
    phx_chat_prompt_init(&prompt);
    phx_chat_prompt_control(&prompt, "<a>");
    phx_chat_prompt_data(&prompt, phx_buf_view(&text));
    const bool taken = prompt.text.code == PHX_OK;
    phx_chat_prompt_done(&prompt);
    phx_buf_done(&text);
    return taken;
}

/* ---- fields ---- */

static bool takes_field(phx_buf *text)
{
    static const phx_model_text model = {
        .name = "demo", .n_context = 512, .n_vocab = 4096, .temperature = 1, .top_p = 1};
    phx_api_request *request = phx_alloc(1, sizeof(*request));
    phx_api_fault fault = {0};
    (void)phx_buf_str(text, ",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
    const bool taken = phx_api_request_read(make_bytes(text), PHX_API_CHAT, &model, request, &fault);
    if (taken)
        phx_api_request_done(request);
    phx_free(request);
    phx_buf_done(text);
    return taken;
}

bool takes_PHX_STOP_STRINGS_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "{\"stop\":[");
    make_list(&text, "\"", n, "\"");
    (void)phx_buf_str(&text, "]");
    return takes_field(&text);
}

bool takes_PHX_STOP_BYTES_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "{\"stop\":\"");
    make_fill(&text, 'x', n);
    (void)phx_buf_str(&text, "\"");
    return takes_field(&text);
}

bool takes_PHX_STOP_IDS_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "{\"stop_token_ids\":[");
    make_list(&text, "", n, "");
    (void)phx_buf_str(&text, "]");
    return takes_field(&text);
}

bool takes_PHX_LOGIT_BIAS_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "{\"logit_bias\":{");
    make_list(&text, "\"", n, "\":1");
    (void)phx_buf_str(&text, "}");
    return takes_field(&text);
}

bool takes_PHX_CHOICES_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "");
    (void)phx_buf_printf(&text, "{\"n\":%zu", n);
    return takes_field(&text);
}

bool takes_PHX_TOP_LOGPROBS_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "");
    (void)phx_buf_printf(&text, "{\"logprobs\":true,\"top_logprobs\":%zu", n);
    return takes_field(&text);
}

bool takes_PHX_PROMPTS_MAX(size_t n)
{
    static const phx_model_text model = {.name = "demo", .n_context = 512, .n_vocab = 4096};
    phx_api_request *request = phx_alloc(1, sizeof(*request));
    phx_api_fault fault = {0};
    phx_buf text;
    make_start(&text, "{\"prompt\":[");
    make_list(&text, "\"", n, "\"");
    (void)phx_buf_str(&text, "]}");
    const bool taken = phx_api_request_read(make_bytes(&text), PHX_API_COMPLETIONS, &model, request, &fault);
    if (taken)
        phx_api_request_done(request);
    phx_free(request);
    phx_buf_done(&text);
    return taken;
}

/* ---- the queue: what a server has without flags ---- */

static phx_sched *make_sched(void)
{
    phx_options options;
    phx_sched *sched = NULL;
    phx_error err = {0};
    phx_options_init(&options);
    const phx_sched_config config = {
        .limits = {.n_slots = 1, .n_step_tokens = 64, .n_blocks = 256, .n_context = 8192, .n_vocab = 16},
        .n_lanes = 1,
        .n_in_flight_max = 2,
        .n_chunk_tokens = 64,
        .n_queue_max = (uint32_t)options.queue,
        .n_queue_tokens_max = options.queue_tokens};
    if (phx_sched_create(&config, &sched, &err) != PHX_OK)
        fail_msg("%s", err.text);
    return sched;
}

static bool submit(phx_sched *sched, uint64_t id, size_t n_prompt)
{
    static const uint32_t prompt[8192];
    const phx_sched_request request = {.id = id,
                                       .prompt = prompt,
                                       .n_prompt = (uint32_t)n_prompt,
                                       .n_output_max = 1,
                                       .sampling = {.top_p = 1, .repetition_penalty = 1}};
    return phx_sched_submit(sched, &request, 0, NULL) == PHX_OK;
}

bool takes_PHX_QUEUE_REQUESTS(size_t n)
{
    phx_sched *sched = make_sched();
    bool taken = true;
    for (size_t i = 0; i < n && taken; i++)
        taken = submit(sched, i + 1, 1);
    phx_sched_destroy(sched);
    return taken;
}

bool takes_PHX_QUEUE_TOKENS(size_t n)
{
    phx_sched *sched = make_sched();
    bool taken = true;
    uint64_t id = 1;
    for (size_t left = n; left > 0 && taken; id++) {
        const size_t now = left < 8000 ? left : 8000;
        taken = submit(sched, id, now);
        left -= now;
    }
    phx_sched_destroy(sched);
    return taken;
}

/* ---- large bodies ---- */

static void drop_job(phx_text_job *job)
{
    (void)job;
}

bool takes_PHX_TEXT_WAITING_BYTES_MAX(size_t n)
{
    phx_loop *loop = NULL;
    phx_text_thread *thread = NULL;
    phx_text_job half = {.run = drop_job, .done = drop_job, .n_bytes = n / 2};
    phx_text_job rest = {.run = drop_job, .done = drop_job, .n_bytes = n - n / 2};
    assert_int_equal(phx_loop_create(&loop, NULL), PHX_OK);
    assert_int_equal(phx_text_thread_create(loop, &thread, NULL), PHX_OK);
    assert_int_equal(phx_text_thread_submit(thread, &half, NULL), PHX_OK);
    /* Counted until the loop is told, which does not run here. */
    const bool taken = phx_text_thread_submit(thread, &rest, NULL) == PHX_OK;
    phx_text_thread_destroy(thread);
    phx_loop_destroy(loop);
    return taken;
}

/* ---- keys ---- */

static bool takes_keys(phx_buf *text)
{
    char dir[64], path[96];
    phx_http_keys *keys = NULL;
    make_folder(dir, sizeof(dir));
    make_file(dir, "keys", text);
    (void)snprintf(path, sizeof(path), "%s/keys", dir);
    const phx_code rc = phx_http_keys_load(path, &keys, NULL);
    phx_http_keys_destroy(keys);
    make_remove(dir);
    phx_buf_done(text);
    return rc == PHX_OK;
}

bool takes_PHX_HTTP_KEYS_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "");
    for (size_t i = 0; i < n; i++)
        (void)phx_buf_printf(&text, "key-%08zu\n", i);
    return takes_keys(&text);
}

bool takes_PHX_HTTP_KEY_BYTES_MAX(size_t n)
{
    phx_buf text;
    make_start(&text, "");
    make_fill(&text, 'k', n);
    return takes_keys(&text);
}

/* ---- control messages ---- */

/* Zeros are no message, but that is seen only by who reads them. */
bool takes_PHX_MESSAGE_MAX(size_t n)
{
    phx_buf wire;
    Phalanx__RankFrame *frame = NULL;
    make_start(&wire, "");
    make_fill(&wire, 0, n);
    const phx_code rc = phx_rank_frame_decode(make_bytes(&wire), &frame, NULL);
    phx_rank_frame_free(frame);
    phx_buf_done(&wire);
    return rc != PHX_ERR_TOO_LONG;
}

bool takes_PHX_REQUEST_TOKENS_MAX(size_t n)
{
    Phalanx__TokenIds list = PHALANX__TOKEN_IDS__INIT;
    list.ids = phx_alloc(n, sizeof(*list.ids));
    assert_non_null(list.ids);
    list.n_ids = n;
    const phx_code rc = phx_message_check(&list.base, NULL, NULL);
    phx_free(list.ids);
    return rc == PHX_OK;
}

bool takes_PHX_RANKS_MAX(size_t n)
{
    Phalanx__Hello hello = PHALANX__HELLO__INIT;
    hello.n_ranks = (uint32_t)n;
    return phx_message_check(&hello.base, NULL, NULL) == PHX_OK;
}

bool takes_PHX_SLOTS_MAX(size_t n)
{
    const phx_step_limits limits = {
        .n_slots = (uint32_t)n, .n_step_tokens = 64, .n_blocks = 16, .n_context = 512, .n_vocab = 16};
    phx_step_storage *storage = NULL;
    const phx_code rc = phx_step_storage_create(&limits, &storage, NULL);
    phx_step_storage_destroy(storage);
    return rc == PHX_OK;
}

bool takes_PHX_DRAFTS_MAX(size_t n)
{
    const phx_step_limits limits = {.n_slots = 1,
                                    .n_step_tokens = 64,
                                    .n_blocks = 16,
                                    .n_context = 512,
                                    .n_vocab = 16,
                                    .n_drafts = (uint32_t)n};
    const uint32_t token = 0, block = 0;
    const phx_step_row row = {.n_tokens = 1, .n_blocks = 1};
    const phx_step_plan plan = {.step = 1,
                                .n_rows = 1,
                                .rows = &row,
                                .n_tokens = 1,
                                .tokens = &token,
                                .n_blocks = 1,
                                .blocks = &block};
    return phx_step_plan_check(&plan, &limits, NULL) == PHX_OK;
}
