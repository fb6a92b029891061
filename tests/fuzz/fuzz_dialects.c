/* tests/fuzz/fuzz_dialects.c - what GLM and Kimi write, cut anywhere: reasoning, content and calls depend on
 * the text only, arguments are one JSON object, no mark of a call that was understood comes out as content.
 * Input: 1 byte of switches, 1 byte of cuts, the rest the text. */
#include "tests/fuzz/fuzz_output_check.h"

static const char tools_json[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"s\":{\"type\":"
    "\"string\"},"
    "\"i\":{\"type\":\"integer\"},\"x\":{\"type\":[\"number\",\"null\"]},\"o\":{\"type\":\"object\"},"
    "\"a\":{\"anyOf\":[{\"type\":\"array\"},{\"type\":\"boolean\"}]}}}}}]";

static phx_output_types *make_types(void)
{
    static const char messages_json[] = "[{\"role\":\"user\",\"content\":\"x\"}]";
    phx_json *messages = NULL;
    phx_json *tools = NULL;
    phx_chat *chat = NULL;
    phx_output_types *types = NULL;
    phx_error err = {0};
    const phx_bytes texts[2] = {{(const uint8_t *)messages_json, sizeof(messages_json) - 1},
                                {(const uint8_t *)tools_json, sizeof(tools_json) - 1}};
    fuzz_must(phx_json_parse(texts[0], PHX_JSON_LIMITS_REQUEST, &messages, &err), &err);
    fuzz_must(phx_json_parse(texts[1], PHX_JSON_LIMITS_REQUEST, &tools, &err), &err);
    const phx_chat_request request = {.messages = messages, .tools = tools};
    fuzz_must(phx_chat_build(&request, &chat, &err), &err);
    fuzz_must(phx_output_types_create(chat, &types, &err), &err);
    phx_chat_destroy(chat);
    phx_json_destroy(messages);
    phx_json_destroy(tools);
    return types;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    static const char *const formats[] = {"glm", "kimi", "template", "glm"};
    fuzz_tape tape = {data, n_bytes};
    const uint8_t bits = fuzz_u8(&tape);
    phx_output_types *types = make_types();
    fuzz_check_output(formats[bits >> 2 & 3], types, bits, &tape);
    phx_output_types_destroy(types);
    return 0;
}
