/* tests/text/test_tokenizer_vectors.c - ids of the DeepSeek V3.1 vocabulary for every published or derived
 * text, in both directions. */
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

static void check_json_pair(const phx_tokenizer *tokenizer, const char *texts_name, const char *expected_name,
                            size_t n_want)
{
    phx_json *texts = fixture_json_with_nul(texts_name);
    phx_json *expected = fixture_json(expected_name);
    assert_int_equal(phx_json_count(texts), n_want);
    assert_int_equal(phx_json_count(expected), n_want);
    for (size_t i = 0; i < n_want; i++) {
        phx_buf text;
        fixture_text(phx_json_at(texts, i), &text);
        check_derived(tokenizer, phx_buf_view(&text), phx_json_at(expected, i));
        phx_buf_done(&text);
    }
    phx_json_destroy(texts);
    phx_json_destroy(expected);
}

static void test_edge(void **state)
{
    check_json_pair(*state, "tokenizers/common/edge_input.json",
                    "tokenizers/deepseek-v3.1/expected/derived_edge.json", 76);
}

static void test_fuzz(void **state)
{
    check_json_pair(*state, "tokenizers/common/fuzz_input.json",
                    "tokenizers/deepseek-v3.1/expected/derived_fuzz.json", 1500);
}

static void test_llamacpp(void **state)
{
    static const char separator[] = "\n__ggml_vocab_test__\n";
    phx_buf file;
    fixture_read("tokenizers/common/llamacpp_ggml-vocab.inp", &file);
    phx_json *expected = fixture_json("tokenizers/deepseek-v3.1/expected/derived_llamacpp.json");
    const char *at = file.ptr;
    size_t n = 0;
    while (at && *at) { /* a separator ends the file */
        const char *end = strstr(at, separator);
        const phx_str text = {at, end ? (size_t)(end - at) : strlen(at)};
        if (n < phx_json_count(expected))
            check_derived(*state, text, phx_json_at(expected, n));
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

static void check_kitoken(const phx_tokenizer *tokenizer, const char *kind, bool by_line, size_t n_want)
{
    char name[128];
    phx_buf input;
    phx_buf expected;
    (void)snprintf(name, sizeof(name), "tokenizers/common/kitoken_%s_input.txt", kind);
    fixture_read(name, &input);
    (void)snprintf(name, sizeof(name), "tokenizers/deepseek-v3.1/expected/kitoken_%s_tokens.txt", kind);
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
            check(tokenizer, one, true, ids, n);
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

static void test_names(void **state)
{
    const phx_tokenizer *t = *state;
    uint32_t id = 0;
    assert_int_equal(phx_tokenizer_n_vocab(t), 128815);
    assert_int_equal(phx_tokenizer_bos(t), 0);
    assert_int_equal(phx_tokenizer_eos(t), 1);
    assert_true(phx_tokenizer_adds_bos(t));
    assert_true(phx_tokenizer_id_of(t, phx_str_of("<think>"), &id));
    assert_int_equal(id, 128798);
    assert_true(phx_tokenizer_is_added(t, id));
    assert_false(phx_tokenizer_is_special(t, id));
    assert_true(phx_tokenizer_is_special(t, 128805));
    assert_false(phx_tokenizer_is_special(t, 128815));
    assert_false(phx_tokenizer_id_of(t, phx_str_of("<thin"), &id));
}

int main(void)
{
    if (!fixture_present())
        return 77;
    phx_tokenizer *t = fixture_tokenizer("tokenizers/deepseek-v3.1/tokenizer.json.gz",
                                         "tokenizers/deepseek-v3.1/tokenizer_config.json");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_names, t),   cmocka_unit_test_prestate(test_edge, t),
        cmocka_unit_test_prestate(test_fuzz, t),    cmocka_unit_test_prestate(test_llamacpp, t),
        cmocka_unit_test_prestate(test_kitoken, t),
    };
    const int rc = cmocka_run_group_tests(tests, NULL, NULL);
    phx_tokenizer_destroy(t);
    return rc;
}
