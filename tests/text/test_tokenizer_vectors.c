/* tests/text/test_tokenizer_vectors.c - ids of the DeepSeek V3.1, GLM-4.6 and Kimi K2 vocabularies for every
 * published or derived text, in both directions; vocabularies of other schemes are refused by name. */
#include "tests/text/tokenizer_fixture.h"
#include "base/alloc.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void check(const phx_tokenizer *tokenizer, phx_str text, bool parse_added, const uint32_t *want,
                  size_t n_want)
{
    size_t n = 0;
    phx_buf back;
    uint32_t *ids = fixture_encode(tokenizer, text, parse_added, &n);
    size_t same = 0;
    while (same < n && same < n_want && ids[same] == want[same])
        same++;
    if (same != n || same != n_want)
        fail_msg("'%.*s': %zu ids, expected %zu; they differ at %zu", PHX_STR_ARG(text), n, n_want, same);
    fixture_decode(tokenizer, ids, n, &back);
    assert_true(phx_str_eq(phx_buf_view(&back), text));
    phx_buf_done(&back);
    phx_free(ids);
}

static size_t ids_of_json(const phx_json *list, uint32_t **ret_ids)
{
    const size_t n = phx_json_count(list);
    uint32_t *ids = phx_alloc(n + 1, sizeof(*ids));
    assert_non_null(ids);
    for (size_t i = 0; i < n; i++) {
        int64_t id = -1;
        assert_true(phx_json_as_i64(phx_json_at(list, i), &id));
        ids[i] = (uint32_t)id;
    }
    *ret_ids = ids;
    return n;
}

/* One {"special": [...], "plain": [...]} of the derived files. */
static void check_derived(const phx_tokenizer *tokenizer, phx_str text, const phx_json *expected)
{
    const phx_json *special = phx_json_get(expected, "special");
    const phx_json *plain = phx_json_get(expected, "plain");
    uint32_t *ids = NULL;
    assert_non_null(special);
    size_t n = ids_of_json(special, &ids);
    check(tokenizer, text, true, ids, n);
    phx_free(ids);
    n = ids_of_json(plain ? plain : special, &ids);
    check(tokenizer, text, false, ids, n);
    phx_free(ids);
}

/* A folder of tokenizers/ and what is made of it. */
typedef struct vocabulary {
    const char *folder;
    phx_tokenizer *tokenizer;
    bool kitoken_plain; /* that project's ids for it take added tokens in a text for plain text */
} vocabulary;

static phx_json *expected_of(const vocabulary *v, const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "tokenizers/%s/expected/derived_%s.json", v->folder, name);
    return fixture_json(path);
}

static void check_json_pair(const vocabulary *v, const char *name, size_t n_want)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "tokenizers/common/%s_input.json", name);
    phx_json *texts = fixture_json_with_nul(path);
    phx_json *expected = expected_of(v, name);
    assert_int_equal(phx_json_count(texts), n_want);
    assert_int_equal(phx_json_count(expected), n_want);
    for (size_t i = 0; i < n_want; i++) {
        phx_buf text;
        fixture_text(phx_json_at(texts, i), &text);
        check_derived(v->tokenizer, phx_buf_view(&text), phx_json_at(expected, i));
        phx_buf_done(&text);
    }
    phx_json_destroy(texts);
    phx_json_destroy(expected);
}

static void test_edge(void **state)
{
    check_json_pair(*state, "edge", 76);
}

static void test_fuzz(void **state)
{
    check_json_pair(*state, "fuzz", 1500);
}

static void test_llamacpp(void **state)
{
    static const char separator[] = "\n__ggml_vocab_test__\n";
    const vocabulary *v = *state;
    phx_buf file;
    fixture_read("tokenizers/common/llamacpp_ggml-vocab.inp", &file);
    phx_json *expected = expected_of(v, "llamacpp");
    const char *at = file.ptr;
    size_t n = 0;
    while (at && *at) { /* a separator ends the file */
        const char *end = strstr(at, separator);
        const phx_str text = {at, end ? (size_t)(end - at) : strlen(at)};
        if (n < phx_json_count(expected))
            check_derived(v->tokenizer, text, phx_json_at(expected, n));
        at = end ? end + strlen(separator) : NULL;
        n++;
    }
    assert_int_equal(n, phx_json_count(expected));
    phx_json_destroy(expected);
    phx_buf_done(&file);
}

/* "1, 2, 3" up to a line end; moves *at behind it. */
static size_t ids_of_line(const char **at, uint32_t *ids, size_t n_max)
{
    size_t n = 0;
    while (**at && **at != '\n') {
        char *end = NULL;
        assert_true(n < n_max);
        ids[n++] = (uint32_t)strtoul(*at, &end, 10);
        assert_true(end > *at);
        *at = end + strspn(end, ", \r");
    }
    if (**at == '\n')
        (*at)++;
    return n;
}

/* The escapes of the line files: \n newline, \s space, \x nothing. */
static phx_str unescape(const char *line, size_t n, char *to)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        const char next = line[i] == '\\' && i + 1 < n ? line[i + 1] : 0;
        if (next == 'n' || next == 's')
            to[used++] = next == 'n' ? '\n' : ' ';
        else if (next != 'x')
            to[used++] = line[i];
        if (next == 'n' || next == 's' || next == 'x')
            i++;
    }
    return (phx_str){to, used};
}

static void check_kitoken(const vocabulary *v, const char *kind, bool by_line, size_t n_want)
{
    char name[128];
    phx_buf input;
    phx_buf expected;
    (void)snprintf(name, sizeof(name), "tokenizers/common/kitoken_%s_input.txt", kind);
    fixture_read(name, &input);
    (void)snprintf(name, sizeof(name), "tokenizers/%s/expected/kitoken_%s_tokens.txt", v->folder, kind);
    fixture_read(name, &expected);
    uint32_t *ids = phx_alloc(input.n + 1, sizeof(*ids));
    char *text = phx_alloc(input.n + 1, 1);
    assert_non_null(ids);
    assert_non_null(text);
    const char *want = expected.ptr;
    size_t n_texts = 0;
    for (const char *at = input.ptr; *at;) {
        const size_t n_line = by_line ? strcspn(at, "\n") : input.n;
        if (n_line > 0) {
            const phx_str one = by_line ? unescape(at, n_line, text) : (phx_str){at, n_line};
            const size_t n = ids_of_line(&want, ids, input.n);
            check(v->tokenizer, one, !v->kitoken_plain, ids, n);
            n_texts++;
        }
        at += n_line;
        at += *at == '\n';
    }
    assert_int_equal(n_texts, n_want);
    phx_free(ids);
    phx_free(text);
    phx_buf_done(&input);
    phx_buf_done(&expected);
}

static void test_kitoken(void **state)
{
    check_kitoken(*state, "small", true, 20);
    check_kitoken(*state, "mixed", true, 120);
    check_kitoken(*state, "utf8", false, 1);
}

static bool is_token(const phx_tokenizer *t, const char *content, uint32_t want, bool special)
{
    uint32_t id = 0;
    return phx_tokenizer_id_of(t, phx_str_of(content), &id) && id == want && phx_tokenizer_is_added(t, id) &&
           phx_tokenizer_is_special(t, id) == special;
}

static void test_names_deepseek(void **state)
{
    const phx_tokenizer *t = ((const vocabulary *)*state)->tokenizer;
    uint32_t id = 0;
    assert_int_equal(phx_tokenizer_n_vocab(t), 128815);
    assert_int_equal(phx_tokenizer_bos(t), 0);
    assert_int_equal(phx_tokenizer_eos(t), 1);
    assert_true(phx_tokenizer_adds_bos(t));
    assert_true(is_token(t, "<think>", 128798, false));
    assert_true(phx_tokenizer_is_special(t, 128805));
    assert_false(phx_tokenizer_is_special(t, 128815));
    assert_false(phx_tokenizer_id_of(t, phx_str_of("<thin"), &id));
}

static void test_names_glm(void **state)
{
    const phx_tokenizer *t = ((const vocabulary *)*state)->tokenizer;
    assert_int_equal(phx_tokenizer_n_vocab(t), 151365);
    assert_int_equal(phx_tokenizer_bos(t), PHX_TOKEN_NONE);
    assert_int_equal(phx_tokenizer_eos(t), 151329);
    assert_false(phx_tokenizer_adds_bos(t));
    assert_true(is_token(t, "[gMASK]", 151331, true));
    assert_true(is_token(t, "<think>", 151350, false));
    assert_true(is_token(t, "</arg_value>", 151359, false));
    assert_true(is_token(t, "/nothink", 151360, true));
}

static void test_names_kimi(void **state)
{
    const phx_tokenizer *t = ((const vocabulary *)*state)->tokenizer;
    assert_int_equal(phx_tokenizer_n_vocab(t), 163840);
    assert_int_equal(phx_tokenizer_bos(t), 163584);
    assert_int_equal(phx_tokenizer_eos(t), 163585);
    assert_false(phx_tokenizer_adds_bos(t));
    assert_true(is_token(t, "<|im_end|>", 163586, true));
    assert_true(is_token(t, "<|tool_call_begin|>", 163597, false));
    assert_true(is_token(t, "<think>", 163606, false));
    assert_true(is_token(t, "<|reserved_token_163700|>", 163700, true));
    assert_true(is_token(t, "[PAD]", 163839, true));
}

/* The published names of K2.5 in the form of tokenizer_config.json. */
static void kimi_config(phx_buf *config)
{
    phx_json *names = fixture_json("tokenizers/kimi-k2/special_tokens_k2.5.json");
    const phx_json *tokens = phx_json_get(names, "tokens");
    phx_buf_init(config, 1u << 16);
    (void)phx_buf_str(config, "{\"tokenizer_class\":\"TikTokenTokenizer\",\"bos_token\":\"[BOS]\","
                              "\"eos_token\":\"[EOS]\",\"added_tokens_decoder\":{");
    for (size_t i = 0; i < phx_json_count(tokens); i++) {
        const phx_json *token = phx_json_at(tokens, i);
        int64_t id = 0;
        phx_str content = {"", 0};
        bool special = true;
        assert_true(phx_json_as_i64(phx_json_get(token, "id"), &id));
        assert_true(phx_json_as_str(phx_json_get(token, "content"), &content));
        (void)phx_json_as_bool(phx_json_get(token, "special"), &special);
        (void)phx_buf_printf(config, "%s\"%d\":{\"content\":\"%.*s\",\"special\":%s}", i ? "," : "", (int)id,
                             PHX_STR_ARG(content), special ? "true" : "false");
    }
    assert_int_equal(phx_buf_str(config, "}}"), PHX_OK);
    phx_json_destroy(names);
}

static phx_tokenizer *kimi_tokenizer(void)
{
    phx_buf ranks;
    phx_buf config;
    phx_tokenizer *tokenizer = NULL;
    phx_error err = {0};
    fixture_read("tokenizers/kimi-k2/tiktoken.model", &ranks);
    kimi_config(&config);
    if (phx_tokenizer_parse_tiktoken(fixture_bytes(&ranks), fixture_bytes(&config), &tokenizer, &err) !=
        PHX_OK)
        fail_msg("%s", err.text);
    phx_buf_done(&ranks);
    phx_buf_done(&config);
    return tokenizer;
}

/* The configuration as published with the first K2, other names than K2.5's. */
static void test_kimi_k2_config(void **state)
{
    (void)state;
    phx_buf ranks;
    phx_buf config;
    phx_tokenizer *t = NULL;
    fixture_read("tokenizers/kimi-k2/tiktoken.model", &ranks);
    fixture_read("tokenizers/kimi-k2/tokenizer_config.json", &config);
    assert_int_equal(phx_tokenizer_parse_tiktoken(fixture_bytes(&ranks), fixture_bytes(&config), &t, NULL),
                     PHX_OK);
    assert_true(is_token(t, "<|im_middle|>", 163601, true));
    assert_true(is_token(t, "<|reserved_token_163606|>", 163606, true));
    phx_tokenizer_destroy(t);
    phx_buf_done(&ranks);
    phx_buf_done(&config);
}

static void check_refused(const char *name, const char *word)
{
    phx_buf file;
    phx_tokenizer *t = NULL;
    phx_error err = {0};
    fixture_gunzip(name, &file);
    assert_int_equal(phx_tokenizer_parse(fixture_bytes(&file), (phx_bytes){NULL, 0}, &t, &err),
                     PHX_ERR_UNSUPPORTED);
    assert_null(t);
    if (!strstr(err.text, word))
        fail_msg("'%s' does not name '%s'", err.text, word);
    phx_buf_done(&file);
}

static void test_others_refused(void **state)
{
    (void)state;
    phx_buf ranks;
    phx_tokenizer *t = NULL;
    phx_error err = {0};
    static const char config[] = "{\"tokenizer_class\":\"GPT2Tokenizer\",\"added_tokens_decoder\":{}}";
    check_refused("tokenizers/secondary/qwen2.tokenizer.json.gz", "normalizer 'NFC'");
    check_refused("tokenizers/secondary/mistral-nemo-tekken.tokenizer.json.gz", "'TemplateProcessing'");
    fixture_read("tokenizers/secondary/o200k_base.tiktoken", &ranks);
    assert_int_equal(phx_tokenizer_parse_tiktoken(fixture_bytes(&ranks),
                                                  (phx_bytes){(const uint8_t *)config, sizeof(config) - 1},
                                                  &t, &err),
                     PHX_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "GPT2Tokenizer"));
    phx_buf_done(&ranks);
}

#define TESTS_OF(v, names)                                                                    \
    cmocka_unit_test_prestate(names, v), cmocka_unit_test_prestate(test_edge, v),             \
        cmocka_unit_test_prestate(test_fuzz, v), cmocka_unit_test_prestate(test_llamacpp, v), \
        cmocka_unit_test_prestate(test_kitoken, v)

int main(void)
{
    if (!fixture_present())
        return 77;
    vocabulary deepseek = {"deepseek-v3.1",
                           fixture_tokenizer("tokenizers/deepseek-v3.1/tokenizer.json.gz",
                                             "tokenizers/deepseek-v3.1/tokenizer_config.json"),
                           false};
    vocabulary glm = {
        "glm-4.6",
        fixture_tokenizer("tokenizers/glm-4.6/tokenizer.json.gz", "tokenizers/glm-4.6/tokenizer_config.json"),
        false};
    vocabulary kimi = {"kimi-k2", kimi_tokenizer(), true};
    const struct CMUnitTest tests[] = {
        TESTS_OF(&deepseek, test_names_deepseek), TESTS_OF(&glm, test_names_glm),
        TESTS_OF(&kimi, test_names_kimi),         cmocka_unit_test(test_kimi_k2_config),
        cmocka_unit_test(test_others_refused),
    };
    const int rc = cmocka_run_group_tests(tests, NULL, NULL);
    phx_tokenizer_destroy(deepseek.tokenizer);
    phx_tokenizer_destroy(glm.tokenizer);
    phx_tokenizer_destroy(kimi.tokenizer);
    return rc;
}
