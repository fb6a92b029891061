/* tests/fuzz/fuzz_api.c - the body of a request of OpenAI's schema, to fields in range, to a prompt.
 * Input: 1 byte which endpoint, the rest the body. */
#include "tests/fuzz/fuzz.h"

#include <math.h>

#include "coordinator/api/prompt.h"

static const phx_model_text *model_text(void)
{
    static phx_model_text text;
    phx_dims dims;
    phx_error err = {0};
    if (text.tokenizer)
        return &text;
    fuzz_must(phx_dims_load(fuzz_source_path("launch/demo"), &dims, &err), &err);
    fuzz_must(phx_model_text_load(&(phx_model_text_from){.model_dir = fuzz_source_path("launch/demo"),
                                                         .name = "demo",
                                                         .dims = &dims,
                                                         .n_context = 512},
                                  &text, &err),
              &err);
    FUZZ_CHECK(text.tokenizer && text.chat);
    return &text;
}

static void check_fault(const phx_api_fault *fault)
{
    phx_buf json;
    phx_json *root = NULL;
    phx_error err = {0};
    FUZZ_CHECK(fault->status == 400 || fault->status == 404); /* never our fault */
    FUZZ_CHECK(fault->message[0] != 0);
    FUZZ_CHECK(memchr(fault->message, 0, sizeof(fault->message)) != NULL);
    FUZZ_CHECK(memchr(fault->param, 0, sizeof(fault->param)) != NULL);
    phx_buf_init(&json, 1u << 16);
    const phx_http_error error = phx_api_http_error(fault);
    phx_http_error_json(&error, &json);
    fuzz_must(
        phx_json_parse((phx_bytes){(const uint8_t *)json.ptr, json.n}, PHX_JSON_LIMITS_REQUEST, &root, &err),
        &err);
    phx_json_destroy(root);
    phx_buf_done(&json);
}

static void check_prompt(const phx_model_text *text, const phx_api_prompt *prompt)
{
    phx_api_fault fault = {0};
    phx_error err = {0};
    phx_buf back;
    for (uint32_t i = 0; i < prompt->n; i++)
        FUZZ_CHECK(prompt->ids[i] < text->n_vocab);
    if (phx_api_prompt_fits(text, prompt, &fault))
        FUZZ_CHECK(prompt->n < text->n_context);
    else
        check_fault(&fault);
    phx_buf_init(&back, 1u << 24);
    fuzz_must(phx_api_text_of_ids(text, prompt, false, &back, &err), &err);
    FUZZ_CHECK(phx_utf8_valid(back.n ? back.ptr : "", back.n));
    phx_buf_done(&back);
}

static void check_request(const phx_model_text *text, const phx_api_request *request)
{
    phx_error err = {0};
    phx_api_prompt prompt = {0};
    phx_api_fault fault = {0};
    bool made;
    fuzz_must(phx_sampling_check(&request->sampling, &err), &err);
    FUZZ_CHECK(fabs((double)request->sampling.temperature) <= PHX_API_TEMPERATURE_MAX);
    FUZZ_CHECK(request->n >= 1 && request->n <= PHX_CHOICES_MAX);
    FUZZ_CHECK(request->n_stops <= PHX_STOP_STRINGS_MAX && request->n_stop_ids <= PHX_STOP_IDS_MAX);
    for (uint32_t i = 0; i < request->n_stops; i++)
        FUZZ_CHECK(request->stops[i].n >= 1 && request->stops[i].n <= PHX_STOP_BYTES_MAX);
    for (uint32_t i = 0; i < request->n_stop_ids; i++)
        FUZZ_CHECK(request->stop_ids[i] < text->n_vocab);
    for (uint32_t i = 0; i < request->sampling.n_bias; i++)
        FUZZ_CHECK(request->bias_ids[i] < text->n_vocab &&
                   fabs((double)request->bias[i]) <= PHX_API_BIAS_ABS_MAX);
    FUZZ_CHECK(request->n_prompts >= 1 && request->n_prompts <= PHX_PROMPTS_MAX);
    for (uint32_t i = 0; i < request->n_prompts; i++) {
        const phx_json *node = phx_api_request_prompt(request, i);
        phx_str plain = {0};
        if (request->where != PHX_API_COMPLETIONS)
            made = phx_api_prompt_chat(text, request, text->n_context, &prompt, &fault);
        else if (phx_json_as_str(node, &plain))
            made = phx_api_prompt_text(text, plain, request->add_special_tokens, text->n_context, &prompt,
                                       &fault);
        else
            made = phx_api_prompt_node(text, node, "prompt", &prompt, &fault);
        if (made)
            check_prompt(text, &prompt);
        else
            check_fault(&fault);
        phx_api_prompt_done(&prompt);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    static const uint32_t wheres[] = {PHX_API_CHAT, PHX_API_COMPLETIONS, PHX_API_PROMPT};
    const phx_model_text *text = model_text();
    fuzz_tape tape = {data, n_bytes};
    const uint32_t where = wheres[fuzz_u8(&tape) % 3];
    phx_api_request request = {0};
    phx_api_fault fault = {0};
    if (!phx_api_request_read(fuzz_rest(&tape), where, text, &request, &fault)) {
        check_fault(&fault);
        return 0;
    }
    check_request(text, &request);
    phx_api_request_done(&request);
    return 0;
}
