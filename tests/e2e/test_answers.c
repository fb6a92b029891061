/* tests/e2e/test_answers.c - answers over HTTP: the reference's greedy ids in both profiles and two layouts,
 * alone and 32 at a time; and 32 mixed requests that give the same texts alone, together, again, and with
 * drafts (multi-token prediction). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "coordinator/text/tokenizer.h"
#include "tests/e2e/site.h"
#include "tests/e2e/web.h"

enum { CASES_MAX = 64, TOGETHER = 32, LIMIT_MS = 120000, TEXT_MAX = 1 << 20, N_MIXED = 32, CHOICES_MAX = 4 };

#define MARGIN_SERVING 0.3 /* below it bf16 may decide otherwise */

typedef struct greedy_case {
    phx_str name;
    const phx_json *answer; /* ids */
    phx_buf body;
    double margin;
    bool finished;
} greedy_case;

typedef struct cases {
    phx_json *root;
    phx_tokenizer *tokenizer;
    greedy_case at[CASES_MAX];
    uint32_t n;
} cases;

/* ---- the reference's answers ---- */

static void cases_load(cases *all)
{
    const char *source = getenv("PHX_SOURCE");
    char dir[4096], path[4200];
    phx_error err = {0};
    *all = (cases){0};
    (void)snprintf(dir, sizeof(dir), "%s/launch/demo", source ? source : ".");
    (void)snprintf(path, sizeof(path), "%s/expected_greedy.json", dir);
    if (phx_json_parse_file(path, PHX_JSON_LIMITS_FILE, &all->root, &err) != PHX_OK ||
        phx_tokenizer_load(dir, &all->tokenizer, &err) != PHX_OK)
        fail_msg("%s", err.text);
    const phx_json *list = phx_json_get(all->root, "cases");
    assert_true(phx_json_count(list) <= CASES_MAX);
    for (size_t i = 0; i < phx_json_count(list); i++) {
        const phx_json *node = phx_json_at(list, i);
        greedy_case *c = &all->at[all->n++];
        phx_json_writer w;
        (void)phx_json_as_str(phx_json_get(node, "name"), &c->name);
        (void)phx_json_as_bool(phx_json_get(node, "finished"), &c->finished);
        (void)phx_json_as_f64(phx_json_get(node, "smallest_margin"), &c->margin);
        c->answer = phx_json_get(node, "answer_ids");
        phx_buf_init(&c->body, TEXT_MAX);
        phx_json_writer_init(&w, &c->body);
        phx_json_begin_object(&w);
        phx_json_key(&w, "model");
        phx_json_text(&w, "demo");
        phx_json_key(&w, "prompt");
        phx_json_node(&w, phx_json_get(node, "prompt_ids"));
        phx_json_key(&w, "max_tokens");
        phx_json_u64(&w, phx_json_count(c->answer));
        phx_json_key(&w, "temperature");
        phx_json_u64(&w, 0);
        phx_json_key(&w, "logprobs");
        phx_json_u64(&w, 0);
        phx_json_end_object(&w);
    }
}

static void cases_done(cases *all)
{
    for (uint32_t i = 0; i < all->n; i++)
        phx_buf_done(&all->at[i].body);
    phx_tokenizer_destroy(all->tokenizer);
    phx_json_destroy(all->root);
}

/* Token by token: the reply names their texts, the reference their ids. The end token is not named. */
static bool is_expected(const cases *all, const greedy_case *c, const web_reply *reply)
{
    phx_json *root = NULL;
    phx_error err = {0};
    phx_str finish = {0}, got, expected;
    const phx_bytes body = {(const uint8_t *)reply->body.ptr, reply->body.n};
    if (reply->end != WEB_WHOLE || reply->error ||
        phx_json_parse(body, PHX_JSON_LIMITS_REQUEST, &root, &err) != PHX_OK)
        return false;
    const phx_json *choice = phx_json_at(phx_json_get(root, "choices"), 0);
    const phx_json *tokens = phx_json_get(phx_json_get(choice, "logprobs"), "tokens");
    const size_t n = phx_json_count(c->answer) - (c->finished ? 1 : 0);
    (void)phx_json_as_str(phx_json_get(choice, "finish_reason"), &finish);
    bool same = phx_json_count(tokens) == n && phx_str_is(finish, c->finished ? "stop" : "length");
    for (size_t i = 0; i < n && same; i++) {
        int64_t id = -1;
        (void)phx_json_as_i64(phx_json_at(c->answer, i), &id);
        same = phx_json_as_str(phx_json_at(tokens, i), &got) &&
               phx_tokenizer_piece(all->tokenizer, (uint32_t)id, &expected) && phx_str_eq(got, expected);
    }
    phx_json_destroy(root);
    return same;
}

/* All cases in groups of `together`; how many the profile must answer as the reference does. */
static uint32_t ask_cases(const cases *all, const site *s, uint32_t together, double margin)
{
    uint32_t n_checked = 0;
    for (uint32_t first = 0; first < all->n; first += together) {
        const uint32_t n = all->n - first < together ? all->n - first : together;
        int fd[TOGETHER];
        for (uint32_t i = 0; i < n; i++) {
            fd[i] = web_send(s->port, "/v1/completions", all->at[first + i].body.ptr);
            assert_true(fd[i] >= 0);
        }
        for (uint32_t i = 0; i < n; i++) {
            const greedy_case *c = &all->at[first + i];
            web_reply reply;
            web_reply_init(&reply);
            web_receive(fd[i], &reply, 0, LIMIT_MS);
            (void)close(fd[i]);
            if (c->margin >= margin) {
                n_checked++;
                if (!is_expected(all, c, &reply))
                    fail_msg("case '%.*s' (%u at a time): %s", PHX_STR_ARG(c->name), together,
                             reply.body.ptr ? reply.body.ptr : "no reply");
            }
            web_reply_done(&reply);
        }
    }
    return n_checked;
}

static void check_cases(const cases *all, const char *tp, const char *pp, const char *profile,
                        const char *mtp)
{
    const char *const args[] = {"--tp", tp, "--pp", pp, "--profile", profile, "--mtp", mtp, NULL};
    const double margin = profile[0] == 's' ? MARGIN_SERVING : 0;
    site s;
    site_open(&s);
    site_serve(&s, args);
    const uint32_t alone = ask_cases(all, &s, 1, margin);
    assert_true(web_metric(s.port, "phalanx_cached_tokens_total") >= 0);
    const uint32_t again = ask_cases(all, &s, TOGETHER, margin);
    assert_true(web_metric(s.port, "phalanx_cached_tokens_total") > 1000); /* the long prompts came twice */
    /* blocks return when the last steps in flight end */
    assert_true(web_await_metric(s.port, "phalanx_kv_blocks_used", 0, LIMIT_MS));
    (void)printf("tp %s pp %s %s, mtp %s: %u cases alone, %u of them 32 at a time\n", tp, pp, profile, mtp,
                 alone, again);
    assert_int_equal(alone, again);
    assert_true(alone >= (margin > 0 ? 40 : all->n));
    assert_int_equal(kill(s.pid, SIGTERM), 0);
    assert_int_equal(site_wait(&s, LIMIT_MS), 0);
    site_close(&s);
}

static void test_greedy(void **state)
{
    static const char *const profiles[] = {"oracle", "serving"};
    cases all;
    (void)state;
    cases_load(&all);
    for (uint32_t i = 0; i < 2; i++) {
        check_cases(&all, "1", "1", profiles[i], "off");
        check_cases(&all, "2", "2", profiles[i], "off");
        check_cases(&all, "1", "1", profiles[i], "on"); /* as many drafts as pay */
        check_cases(&all, "1", "3", profiles[i], "on");
    }
    cases_done(&all);
}

/* ---- mixed requests ---- */

#define CHAT(text) "\"messages\":[{\"role\":\"user\",\"content\":\"" text "\"}]"
#define TOOLS                                                                                           \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"get_price\",\"description\":\"Get the " \
    "price of "                                                                                         \
    "an item\",\"parameters\":{\"type\":\"object\",\"properties\":{\"item\":{\"type\":\"string\"}},"    \
    "\"required\":[\"item\"]}}}]"

static const char *const mixed[] = {
    CHAT("What is the capital of France?") ",\"temperature\":0",
    CHAT("What is the capital of France?") ",\"temperature\":1,\"seed\":1",
    CHAT("Tell me a story") ",\"temperature\":1.2,\"seed\":2,\"max_tokens\":80",
    CHAT("Tell me a story") ",\"temperature\":1.2,\"seed\":3,\"max_tokens\":80,\"n\":3",
    CHAT("Tell me a story") ",\"temperature\":0.8,\"top_p\":0.7,\"seed\":4,\"max_tokens\":60",
    CHAT("Count from 1 to 20") ",\"temperature\":0,\"stop\":[\"7\"]",
    CHAT("Count from 1 to 20") ",\"temperature\":0,\"frequency_penalty\":1.5,\"presence_penalty\":0.5",
    CHAT("Count from 1 to 20") ",\"temperature\":1,\"seed\":9,\"repetition_penalty\":1.3,\"max_tokens\":70",
    CHAT("Write a poem") ",\"temperature\":1.5,\"min_p\":0.05,\"seed\":11,\"max_tokens\":50,\"n\":2",
    CHAT("Write a poem") ",\"temperature\":1,\"top_k\":5,\"seed\":12,\"max_tokens\":50",
    CHAT("Can you tell me the price of a cake?") "," TOOLS ",\"temperature\":0",
    CHAT("Can you tell me the price of a cake?") "," TOOLS ",\"temperature\":0,\"tool_choice\":\"none\"",
    CHAT("What is 345 + 278?") ",\"temperature\":0,\"chat_template_kwargs\":{\"thinking\":true}",
    CHAT("What is 345 + 278?") ",\"temperature\":1,\"seed\":21,\"reasoning_effort\":\"low\"",
    CHAT("Spell banana") ",\"temperature\":0,\"logit_bias\":{\"16\":-100},\"max_tokens\":30",
    CHAT("Hello!") ",\"temperature\":2,\"seed\":5,\"max_tokens\":40,\"ignore_eos\":true,\"logprobs\":true",
};

/* Every second pair streams the request of the one before it. */
static void write_mixed(uint32_t i, phx_buf *body)
{
    phx_buf_clear(body);
    (void)phx_buf_printf(body, "{\"model\":\"demo\",%s%s}",
                         i % 2 ? "\"stream\":true,\"stream_options\":{\"include_usage\":true}," : "",
                         mixed[i / 2]);
}

/* The texts of all choices, and the number of tokens that is charged. */
static void read_answer(const web_reply *reply, uint32_t i, const char *when, phx_buf *text)
{
    phx_buf choice;
    if (reply->end != WEB_WHOLE || reply->error)
        fail_msg("mixed request %u %s: status %d, %s", i, when, reply->status,
                 reply->body.ptr ? reply->body.ptr : "");
    phx_buf_init(&choice, TEXT_MAX);
    phx_buf_clear(text);
    for (uint32_t c = 0; c < CHOICES_MAX; c++) {
        web_answer(reply, c, &choice);
        (void)phx_buf_printf(text, "%s\n", choice.ptr);
    }
    const char *charged = strstr(reply->body.ptr, "\"completion_tokens\":");
    if (!charged)
        fail_msg("mixed request %u %s: no usage in %s", i, when, reply->body.ptr);
    (void)phx_buf_printf(text, "%.*s\n", (int)strcspn(charged, ",}"), charged);
    phx_buf_done(&choice);
}

/* Sends requests first .. first + n together and compares, or keeps when `keep`. */
static void ask_mixed(const site *s, uint32_t first, uint32_t n, const char *when, bool keep,
                      phx_buf *expected)
{
    int fd[N_MIXED];
    phx_buf body, text;
    phx_buf_init(&body, TEXT_MAX);
    phx_buf_init(&text, TEXT_MAX);
    for (uint32_t i = first; i < first + n; i++) {
        write_mixed(i, &body);
        fd[i] = web_send(s->port, "/v1/chat/completions", body.ptr);
        assert_true(fd[i] >= 0);
    }
    for (uint32_t i = first; i < first + n; i++) {
        web_reply reply;
        web_reply_init(&reply);
        web_receive(fd[i], &reply, 0, LIMIT_MS);
        (void)close(fd[i]);
        read_answer(&reply, i, when, keep ? &expected[i] : &text);
        if (!keep && strcmp(text.ptr, expected[i].ptr) != 0)
            fail_msg("mixed request %u %s:\n%s\nalone:\n%s", i, when, text.ptr, expected[i].ptr);
        web_reply_done(&reply);
    }
    phx_buf_done(&body);
    phx_buf_done(&text);
}

/* With several stages the first one runs one step for each of these, and then nothing: what the last stage
 * has for it must not keep the answer. */
static void ask_for_one_token(const site *s)
{
    for (uint32_t i = 0; i < 8; i++) {
        web_reply reply;
        web_reply_init(&reply);
        const int fd = web_send(s->port, "/v1/completions",
                                "{\"model\":\"demo\",\"prompt\":[5,6,7,8],\"max_tokens\":1}");
        assert_true(fd >= 0);
        web_receive(fd, &reply, 0, LIMIT_MS);
        (void)close(fd);
        if (reply.end != WEB_WHOLE || reply.error)
            fail_msg("request %u for one token: %s", i, reply.body.ptr ? reply.body.ptr : "no reply");
        web_reply_done(&reply);
    }
}

static void test_mixed(void **state)
{
    static const char *const layouts[][9] = {
        {"--tp", "1", "--pp", "1", NULL},
        {"--tp", "2", "--pp", "2", NULL},
        {"--mtp", "on", "--pp", "3", NULL}, /* as many drafts as pay, which may be none */
        {"--mtp", "on", "--drafts", "3", NULL},
        {"--mtp", "on", "--drafts", "2", "--tp", "2", "--pp", "2", NULL},
        {"--mtp", "on", "--drafts", "3", "--pp", "3", NULL},
    };
    phx_buf expected[N_MIXED];
    (void)state;
    for (uint32_t i = 0; i < N_MIXED; i++)
        phx_buf_init(&expected[i], TEXT_MAX);
    for (uint32_t l = 0; l < sizeof(layouts) / sizeof(layouts[0]); l++) {
        const bool always_drafts = layouts[l][2] && strcmp(layouts[l][2], "--drafts") == 0;
        site s;
        site_open(&s);
        site_serve(&s, layouts[l]);
        for (uint32_t i = 0; i < N_MIXED && l == 0; i++)
            ask_mixed(&s, i, 1, "alone", true, expected);
        ask_mixed(&s, 0, N_MIXED, "32 at a time", false, expected);
        ask_mixed(&s, 0, N_MIXED, "32 at a time, again", false, expected);
        ask_for_one_token(&s);
        assert_true(web_metric(s.port, "phalanx_cached_tokens_total") > 0);
        assert_true(!always_drafts || web_metric(s.port, "phalanx_drafts_held_total") > 100);
        /* blocks return when the last steps in flight end */
        assert_true(web_await_metric(s.port, "phalanx_kv_blocks_used", 0, LIMIT_MS));
        assert_int_equal(kill(s.pid, SIGTERM), 0);
        assert_int_equal(site_wait(&s, LIMIT_MS), 0);
        site_close(&s);
    }
    for (uint32_t i = 0; i < N_MIXED; i++) {
        if (i % 2 && strcmp(expected[i].ptr, expected[i - 1].ptr) != 0)
            fail_msg("mixed request %u streamed:\n%s\nwhole:\n%s", i, expected[i].ptr, expected[i - 1].ptr);
    }
    assert_non_null(strstr(expected[20].ptr, "get_price:{")); /* the tool was called */
    assert_true(expected[24].ptr[0] != '|');                  /* it thought */
    for (uint32_t i = 0; i < N_MIXED; i++)
        phx_buf_done(&expected[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_mixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
