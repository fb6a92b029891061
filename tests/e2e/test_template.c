/* tests/e2e/test_template.c - the demo model with a chat template beside it, in GLM's manner: a real server
 * finds the template, renders by it and reads the answer, with reasoning and without. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/e2e/site.h"
#include "tests/e2e/web.h"

enum { LIMIT_MS = 60000, TEXT_MAX = 1 << 20 };

/* The demo model knows DeepSeek's marks, so the template writes those. */
static const char template_text[] =
    "{{ bos_token }}\n"
    "{%- for m in messages -%}\n"
    "{%- if m.role == 'user' -%}<｜User｜>{{ m.content }}\n"
    "{%- elif m.role == 'assistant' -%}<｜Assistant｜></think>{{ m.content }}{{ eos_token }}\n"
    "{%- endif -%}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}<｜Assistant｜>{{ '<think>' if enable_thinking else '</think>' }}{%- "
    "endif -%}";

static const struct {
    const char *fields;
    const char *answer; /* reasoning|content|calls|finish */
} cases[] = {
    {"", "|The capital of France is Paris.||stop"},
    {",\"stream\":true", "|The capital of France is Paris.||stop"},
    {",\"chat_template_kwargs\":{\"enable_thinking\":true}",
     "The user asks for the capital of France. It is Paris.|The capital of France is Paris.||stop"},
};

static void make_model(const char *dir)
{
    static const char *const files[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                        "generation_config.json", "model.safetensors"};
    const char *source = getenv("PHX_SOURCE");
    char from[PATH_MAX];
    char whole[PATH_MAX];
    char to[256];
    assert_int_equal(mkdir(dir, 0700), 0);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        (void)snprintf(from, sizeof(from), "%s/launch/demo/%s", source ? source : ".", files[i]);
        (void)snprintf(to, sizeof(to), "%s/%s", dir, files[i]);
        assert_non_null(realpath(from, whole));
        assert_int_equal(symlink(whole, to), 0);
    }
    (void)snprintf(to, sizeof(to), "%s/chat_template.jinja", dir);
    const phx_bytes text = {(const uint8_t *)template_text, sizeof(template_text) - 1};
    assert_int_equal(phx_file_write(to, text, 0600, NULL), PHX_OK);
}

static void test_template(void **state)
{
    site s;
    char dir[96];
    (void)state;
    site_open(&s);
    (void)snprintf(dir, sizeof(dir), "%s/model", s.dir);
    make_model(dir);
    const char *const args[] = {"--model", dir, "--chat-format", "glm", NULL};
    site_serve(&s, args);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char body[512];
        web_reply reply;
        phx_buf answer;
        (void)snprintf(body, sizeof(body),
                       "{\"messages\":[{\"role\":\"user\",\"content\":\"What is the capital of France?\"}],"
                       "\"temperature\":0%s}",
                       cases[i].fields);
        web_reply_init(&reply);
        phx_buf_init(&answer, TEXT_MAX);
        web_ask(s.port, "/v1/chat/completions", body, LIMIT_MS, &reply);
        web_answer(&reply, 0, &answer);
        if (reply.end != WEB_WHOLE || reply.error || strcmp(answer.ptr, cases[i].answer) != 0)
            fail_msg("%s: status %d, '%s'", cases[i].fields, reply.status, answer.ptr);
        phx_buf_done(&answer);
        web_reply_done(&reply);
    }
    assert_int_equal(kill(s.pid, SIGTERM), 0);
    assert_int_equal(site_wait(&s, LIMIT_MS), 0);
    site_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_template)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
