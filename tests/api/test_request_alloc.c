/* tests/api/test_request_alloc.c - what a request and the options of a server allocate, each failing once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/options.h"
#include "coordinator/api/prompt.h"
#include "tests/alloc_loop.h"

typedef struct job {
    char dir[512];
    phx_dims dims;
    phx_model_text text;
    const char *body;
    uint32_t where;
} job;

static void set_up(job *j)
{
    const char *source = getenv("PHX_SOURCE");
    phx_error err = {0};
    *j = (job){0};
    (void)snprintf(j->dir, sizeof(j->dir), "%s/launch/demo", source ? source : ".");
    if (phx_dims_load(j->dir, &j->dims, &err) != PHX_OK)
        fail_msg("%s", err.text);
}

static phx_code load_text(void *user, phx_error *err)
{
    job *j = user;
    phx_model_text text = {0};
    phx_dims dims;
    phx_code rc = phx_dims_load(j->dir, &dims, err);
    if (rc == PHX_OK)
        rc = phx_model_text_load(
            &(phx_model_text_from){.model_dir = j->dir, .name = "demo", .dims = &dims, .n_context = 512},
            &text, err);
    phx_model_text_done(&text);
    return rc;
}

/* A fault has no phx_error; its cause and status must say the same. */
static phx_code code_of(const phx_api_fault *fault, phx_error *err)
{
    assert_int_equal(fault->status, 500);
    return PHX_FAIL(err, fault->cause, "%s", fault->message);
}

static phx_code read_request(void *user, phx_error *err)
{
    const job *j = user;
    phx_code rc = PHX_OK;
    phx_api_request request = {0};
    phx_api_prompt prompt = {0};
    phx_api_fault fault = {0};
    const phx_str body = phx_str_of(j->body);
    if (!phx_api_request_read((phx_bytes){(const uint8_t *)body.ptr, body.n}, j->where, &j->text, &request,
                              &fault))
        return code_of(&fault, err);
    phx_str plain = {0};
    bool made;
    if (request.where == PHX_API_CHAT)
        made = phx_api_prompt_chat(&j->text, &request, PHX_REQUEST_TOKENS_MAX, &prompt, &fault);
    else if (phx_json_as_str(request.prompt, &plain))
        made = phx_api_prompt_text(&j->text, plain, true, PHX_REQUEST_TOKENS_MAX, &prompt, &fault);
    else
        made = phx_api_prompt_node(&j->text, request.prompt, "prompt", &prompt, &fault);
    if (!made)
        rc = code_of(&fault, err);
    phx_api_prompt_done(&prompt);
    phx_api_request_done(&request);
    return rc;
}

static void test_text(void **state)
{
    job j;
    (void)state;
    set_up(&j);
    (void)alloc_loop(load_text, &j, 17);
}

static void test_requests(void **state)
{
    static const struct {
        uint32_t where;
        const char *body;
    } cases[] = {
        {PHX_API_CHAT,
         "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":[{\"type\":"
         "\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]},{\"role\":\"assistant\","
         "\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":"
         "\"{\\\"x\\\": 1}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"r\"}],\"tools\":"
         "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}}],"
         "\"logit_bias\":{\"5\":1},\"stop\":[\"x\",\"y\"]}"},
        {PHX_API_COMPLETIONS, "{\"prompt\":\"Hello there, how are you?\",\"stop\":\"z\"}"},
        {PHX_API_COMPLETIONS, "{\"prompt\":[1,2,3]}"},
    };
    job j;
    phx_error err = {0};
    (void)state;
    set_up(&j);
    if (phx_model_text_load(
            &(phx_model_text_from){.model_dir = j.dir, .name = "demo", .dims = &j.dims, .n_context = 512},
            &j.text, &err) != PHX_OK)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        j.body = cases[i].body;
        j.where = cases[i].where;
        (void)alloc_loop(read_request, &j, 1);
    }
    phx_model_text_done(&j.text);
}

static phx_code read_options(void *user, phx_error *err)
{
    char config[600];
    char tp[] = "--tp=2";
    char program[] = "program";
    char *const argv[] = {program, config, tp};
    const phx_args_spec spec = {.usage = "program", .about = "", .scopes = PHX_OPTIONS_ALL};
    phx_options options;
    phx_args args;
    (void)snprintf(config, sizeof(config), "--config=%s/../../cluster.yaml", ((const job *)user)->dir);
    phx_options_init(&options);
    return phx_options_parse_args(&options, 3, argv, &spec, &args, err);
}

static void test_options(void **state)
{
    job j;
    (void)state;
    set_up(&j);
    (void)alloc_loop(read_options, &j, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_text), cmocka_unit_test(test_requests),
                                       cmocka_unit_test(test_options)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
