/* tests/fuzz/fuzz_chat.c - a chat request to a conversation, to a prompt, to ids.
 * Input: 1 byte of options, the rest the request's JSON. */
#include "tests/fuzz/demo.h"
#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"
#include "coordinator/text/chat_encode.h"

/* Segments tile the text, alternate and are not empty. */
static void check_segments(const phx_chat_prompt *prompt)
{
    size_t at = 0;
    for (size_t i = 0; i < prompt->n_segments; i++) {
        const phx_chat_segment *segment = &prompt->segments[i];
        FUZZ_CHECK(segment->n > 0 && segment->offset == at);
        FUZZ_CHECK(i == 0 || segment->is_control != prompt->segments[i - 1].is_control);
        at += segment->n;
    }
    FUZZ_CHECK(at == prompt->text.n);
}

static size_t count_added(const phx_tokenizer *tokenizer, const uint32_t *ids, size_t n_ids)
{
    size_t n = 0;
    for (size_t i = 0; i < n_ids; i++)
        n += phx_tokenizer_is_added(tokenizer, ids[i]);
    return n;
}

/* Added tokens that stand in the control segments, each encoded by itself. */
static size_t count_control(const phx_tokenizer *tokenizer, const phx_chat_prompt *prompt, uint32_t *ids)
{
    size_t n = 0;
    for (size_t i = 0; i < prompt->n_segments; i++) {
        const phx_str text = phx_chat_prompt_segment(prompt, i);
        phx_error err = {0};
        size_t n_ids = 0;
        if (!prompt->segments[i].is_control)
            continue;
        const phx_encode_args args = {.text = text, .parse_added = true, .ids = ids, .n_ids_max = text.n};
        fuzz_must(phx_tokenizer_encode(tokenizer, &args, &n_ids, &err), &err);
        n += count_added(tokenizer, ids, n_ids);
    }
    return n;
}

static void check_ids(const phx_chat_prompt *prompt)
{
    const phx_tokenizer *tokenizer = fuzz_demo_tokenizer();
    const size_t n_max = prompt->text.n + 1;
    uint32_t *ids = phx_alloc(n_max, sizeof(*ids));
    size_t n_ids = 0;
    phx_error err = {0};
    phx_buf joined;
    FUZZ_CHECK(ids != NULL);
    phx_buf_init(&joined, PHX_CHAT_PROMPT_MAX + 1);
    fuzz_must(phx_chat_encode(tokenizer, prompt, ids, n_max, &n_ids, &err), &err);
    fuzz_join_pieces(tokenizer, ids, n_ids, &joined);
    FUZZ_CHECK(phx_str_eq(phx_buf_view(&joined), phx_chat_prompt_view(prompt)));
    const size_t n_added = count_added(tokenizer, ids, n_ids);
    FUZZ_CHECK(n_added == count_control(tokenizer, prompt, ids)); /* no data posed as control */
    phx_buf_done(&joined);
    phx_free(ids);
}

static void check_chat(const phx_chat *chat, uint8_t bits)
{
    const phx_chat_options options = {.thinking = bits & 1,
                                      .drop_thinking = bits & 2,
                                      .developer_as_system = bits & 4,
                                      .add_generation_prompt = bits & 8};
    phx_chat_prompt prompt;
    phx_error err = {0};
    FUZZ_CHECK(chat->n_messages <= PHX_CHAT_MESSAGES_MAX && chat->n_tools <= PHX_CHAT_TOOLS_MAX);
    phx_chat_prompt_init(&prompt);
    const phx_code rc =
        phx_chat_render(phx_chat_format_named(phx_str_of("deepseek-v3.2")), chat, &options, &prompt, &err);
    if (rc == PHX_OK) {
        check_segments(&prompt);
        FUZZ_CHECK(phx_utf8_valid(prompt.text.ptr, prompt.text.n));
        check_ids(&prompt);
    } else {
        fuzz_check_refusal(rc, &err);
    }
    phx_chat_prompt_done(&prompt);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fuzz_tape tape = {data, n_bytes};
    const uint8_t bits = fuzz_u8(&tape);
    phx_json *root = NULL;
    phx_chat *chat = NULL;
    phx_error err = {0};
    (void)fuzz_demo_tokenizer();
    if (phx_json_parse(fuzz_rest(&tape), PHX_JSON_LIMITS_REQUEST, &root, &err) != PHX_OK)
        return 0;
    const phx_chat_request request = {.messages = phx_json_get(root, "messages"),
                                      .tools = phx_json_get(root, "tools"),
                                      .tool_choice = phx_json_get(root, "tool_choice")};
    const phx_code rc = phx_chat_build(&request, &chat, &err);
    if (rc == PHX_OK) {
        check_chat(chat, bits);
    } else {
        fuzz_check_refusal(rc, &err);
        FUZZ_CHECK(phx_code_scope(rc) == PHX_SCOPE_REQUEST);
    }
    phx_chat_destroy(chat);
    phx_json_destroy(root);
    return 0;
}
