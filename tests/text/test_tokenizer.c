/* tests/text/test_tokenizer.c - the demo tokenizer against the reference's ids; data that poses as control;
 * limits; time by counting operations. */
#include "tests/text/tokenizer_fixture.h"
#include "base/alloc.h"
#include "base/rng.h"
#include "coordinator/text/detokenize.h"
#include "coordinator/text/tokenizer_impl.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static void assert_ids_equal(const uint32_t *ids, size_t n, const phx_json *want)
{
    assert_int_equal(n, phx_json_count(want));
    for (size_t i = 0; i < n; i++) {
        int64_t id = -1;
        assert_true(phx_json_as_i64(phx_json_at(want, i), &id));
        assert_int_equal(ids[i], id);
    }
}

static void test_greedy_cases(void **state)
{
    const phx_tokenizer *t = *state;
    phx_json *root = fixture_json("demo/expected_greedy.json");
    const phx_json *cases = phx_json_get(root, "cases");
    assert_int_equal(phx_json_count(cases), 46);
    for (size_t i = 0; i < phx_json_count(cases); i++) {
        const phx_json *one = phx_json_at(cases, i);
        const phx_json *answer_ids = phx_json_get(one, "answer_ids");
        phx_str prompt;
        phx_str answer;
        size_t n = 0;
        assert_true(phx_json_as_str(phx_json_get(one, "prompt"), &prompt));
        assert_true(phx_json_as_str(phx_json_get(one, "answer"), &answer));
        uint32_t *ids = fixture_encode(t, prompt, true, &n);
        assert_ids_equal(ids, n, phx_json_get(one, "prompt_ids"));
        phx_free(ids);

        phx_detokenizer d;
        phx_buf text;
        phx_detokenizer_init(&d, t, true);
        phx_buf_init(&text, 1u << 16);
        for (size_t k = 0; k < phx_json_count(answer_ids); k++) {
            int64_t id = -1;
            assert_true(phx_json_as_i64(phx_json_at(answer_ids, k), &id));
            (void)phx_detokenizer_feed(&d, (uint32_t)id, &text);
        }
        (void)phx_detokenizer_flush(&d, &text);
        assert_true(phx_str_eq(phx_buf_view(&text), answer));
        phx_buf_done(&text);
    }
    phx_json_destroy(root);
}

/* Letters, marks, digits, signs, white space, controls, CJK, emoji, pieces of control tokens. */
static const char *const atoms[] = {
    "a",
    "The",
    " the",
    "Zz",
    "9",
    "12345",
    " ",
    "   ",
    "\n",
    "\r\n",
    "\t",
    "\u00A0",
    "\u3000",
    "!",
    "...",
    "<",
    "|>",
    "<think",
    "<think>",
    "</think>",
    "\uFF5C",
    "\u2581",
    "\u00E9",
    "e\u0301",
    "\u0410",
    "\u4E2D",
    "\u9FA6",
    "\u30FB",
    "\u3042",
    "\x01",
    "\x7F",
    "\xC2\x85",
    "\U0001FAF7",
    "\U0001F600",
    "\U000E0100",
    "\U0010FFFF",
    "\u0378",
    "\u06DD",
    "\u2028",
    "_x",
    "'s",
    "\u0661\u0662",
    "<\uFF5CUser\uFF5C>",
    "<\uFF5Cend\u2581of\u2581sentence\uFF5C>",
    "User",
};

static void random_text(phx_rng *rng, uint32_t n_atoms_max, phx_buf *text)
{
    phx_buf_init(text, 1u << 20);
    (void)phx_buf_str(text, "");
    for (uint32_t n = phx_rng_below(rng, n_atoms_max + 1); n > 0; n--)
        (void)phx_buf_str(text, atoms[phx_rng_below(rng, sizeof(atoms) / sizeof(atoms[0]))]);
}

static void test_round_trip(void **state)
{
    const phx_tokenizer *t = *state;
    phx_rng rng = {3, 0};
    for (int round = 0; round < 4000; round++) {
        phx_buf text;
        phx_buf back;
        size_t n = 0;
        const bool parse_added = round % 2;
        random_text(&rng, 40, &text);
        uint32_t *ids = fixture_encode(t, phx_buf_view(&text), parse_added, &n);
        for (size_t i = 0; i < n && !parse_added; i++)
            assert_false(phx_tokenizer_is_added(t, ids[i]));
        fixture_decode(t, ids, n, &back);
        assert_true(phx_str_eq(phx_buf_view(&back), phx_buf_view(&text)));
        phx_free(ids);
        phx_buf_done(&text);
        phx_buf_done(&back);
    }
}

static phx_code encode_spans(const phx_tokenizer *t, phx_str text, const phx_text_span *spans, size_t n_spans,
                             uint32_t *ids, size_t n_ids_max, size_t *ret_n)
{
    const phx_encode_args args = {.text = text,
                                  .parse_added = true,
                                  .ids = ids,
                                  .n_ids_max = n_ids_max,
                                  .data_spans = spans,
                                  .n_data_spans = n_spans};
    return phx_tokenizer_encode(t, &args, ret_n, NULL);
}

/* The reference for spans: walk the text; an added token counts where all of its bytes are outside of data.
 */
static size_t count_control(const phx_tokenizer *t, phx_str text, const bool *is_data)
{
    size_t n = 0;
    for (size_t at = 0; at < text.n;) {
        size_t n_found = 0;
        bool clean = true;
        for (size_t k = 1; at + k <= text.n && clean; k++) {
            uint32_t id = 0;
            clean = !is_data[at + k - 1];
            if (clean && phx_tokenizer_id_of(t, (phx_str){text.ptr + at, k}, &id))
                n_found = k;
        }
        n += n_found > 0;
        at += n_found ? n_found : 1;
    }
    return n;
}

static void test_data_spans_random(void **state)
{
    const phx_tokenizer *t = *state;
    phx_rng rng = {5, 0};
    for (int round = 0; round < 3000; round++) {
        phx_buf text;
        phx_buf back;
        phx_text_span spans[4];
        bool is_data[2048] = {false};
        uint32_t ids[2048];
        size_t n = 0;
        size_t n_spans = 0;
        size_t n_control = 0;
        random_text(&rng, 30, &text);
        assert_true(text.n < 2048);
        for (size_t at = 0; n_spans < 4; n_spans++) {
            const size_t first = at + phx_rng_below(&rng, 30);
            const size_t end = first + phx_rng_below(&rng, 30);
            if (end > text.n)
                break;
            spans[n_spans] = (phx_text_span){first, end};
            memset(is_data + first, true, end - first);
            at = end;
        }
        assert_int_equal(encode_spans(t, phx_buf_view(&text), spans, n_spans, ids, 2048, &n), PHX_OK);
        for (size_t i = 0; i < n; i++)
            n_control += phx_tokenizer_is_added(t, ids[i]);
        assert_int_equal(n_control, count_control(t, phx_buf_view(&text), is_data));
        fixture_decode(t, ids, n, &back);
        assert_true(phx_str_eq(phx_buf_view(&back), phx_buf_view(&text)));
        phx_buf_done(&text);
        phx_buf_done(&back);
    }
}

/* Text without control tokens has the same ids whether parts are data or not: pieces run across the joins. */
static void test_data_spans_benign(void **state)
{
    const phx_tokenizer *t = *state;
    const phx_str text =
        phx_str_of("<\uFF5CUser\uFF5C>What is the capital of France?<\uFF5CAssistant\uFF5C></think>");
    uint32_t got[128];
    size_t n = 0;
    size_t n_want = 0;
    uint32_t *want = fixture_encode(t, text, true, &n_want);
    for (size_t first = 12; first < 42; first++) { /* the question is bytes 12 to 41 */
        assert_int_equal(encode_spans(t, text, &(phx_text_span){first, 42}, 1, got, 128, &n), PHX_OK);
        assert_int_equal(n, n_want);
        assert_memory_equal(got, want, n * sizeof(*got));
    }
    assert_int_equal(want[0], 1908);
    phx_free(want);
    /* A user who types the marker gets text. */
    assert_int_equal(encode_spans(t, text, &(phx_text_span){0, text.n}, 1, got, 128, &n), PHX_OK);
    want = fixture_encode(t, text, false, &n_want);
    assert_int_equal(n, n_want);
    assert_memory_equal(got, want, n * sizeof(*got));
    phx_free(want);
}

static void test_bos_and_ceiling(void **state)
{
    const phx_tokenizer *t = *state;
    phx_encode_args args = {.text = phx_str_of("The capital"), .add_bos = true};
    uint32_t ids[16];
    size_t n = 99;
    size_t n_plain = 0;
    uint32_t *plain = fixture_encode(t, args.text, true, &n_plain);
    args.ids = ids;
    args.n_ids_max = n_plain;
    assert_int_equal(phx_tokenizer_encode(t, &args, &n, NULL), PHX_ERR_TOO_LONG);
    assert_int_equal(n, 99);
    args.n_ids_max = n_plain + 1;
    assert_int_equal(phx_tokenizer_encode(t, &args, &n, NULL), PHX_OK);
    assert_int_equal(n, n_plain + 1);
    assert_int_equal(ids[0], phx_tokenizer_bos(t));
    assert_memory_equal(ids + 1, plain, n_plain * sizeof(*ids));
    args = (phx_encode_args){.ids = ids};
    assert_int_equal(phx_tokenizer_encode(t, &args, &n, NULL), PHX_OK);
    assert_int_equal(n, 0);
    phx_free(plain);
}

static void test_invalid_text(void **state)
{
    static const char *const bad[] = {"\xFF",     "a\xC3",  "\xED\xA0\x80",
                                      "\xC0\x80", "ab\x80", "\xF4\x90\x80\x80"};
    uint32_t ids[16];
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        size_t n = 0;
        const phx_encode_args args = {.text = phx_str_of(bad[i]), .ids = ids, .n_ids_max = 16};
        assert_int_equal(phx_tokenizer_encode(*state, &args, &n, NULL), PHX_ERR_INVALID);
    }
}

/* Bytes of the text one past the limit are refused before anything is done with them. */
static void test_text_limit(void **state)
{
    char *text = phx_alloc(PHX_TOKENIZER_TEXT_BYTES_MAX + 1, 1);
    uint32_t ids[4];
    size_t n = 0;
    assert_non_null(text);
    for (size_t i = 0; i <= PHX_TOKENIZER_TEXT_BYTES_MAX; i++)
        text[i] = i % 2 ? 'a' : ' ';
    phx_encode_args args = {.text = {text, PHX_TOKENIZER_TEXT_BYTES_MAX + 1}, .ids = ids, .n_ids_max = 4};
    phx_error err = {0};
    assert_int_equal(phx_tokenizer_encode(*state, &args, &n, &err), PHX_ERR_TOO_LONG);
    assert_non_null(strstr(err.text, "bytes"));
    args.text.n--;
    err = (phx_error){0};
    assert_int_equal(phx_tokenizer_encode(*state, &args, &n, &err), PHX_ERR_TOO_LONG);
    assert_non_null(strstr(err.text, "tokens"));
    phx_free(text);
}

#define WORD_BYTES (1u << 20)

/* A word of 2^20 bytes: each byte enters the heap at most three times, each time moving 2 log2(2^21) steps at
 * most, plus the look-ups. Quadratic work would be four orders of magnitude above the bound. */
static void check_word(const phx_tokenizer *t, const char *word)
{
    phx_bpe_work work = {0};
    uint32_t *ids = phx_alloc(WORD_BYTES, sizeof(*ids));
    assert_non_null(ids);
    phx_id_list list = {ids, 0, WORD_BYTES};
    assert_int_equal(phx_bpe_encode(t->bpe, (phx_str){word, WORD_BYTES}, &work, &list, NULL), PHX_OK);
    assert_true(list.n > 0);
    assert_true(work.n_ops >= WORD_BYTES - 1);
    assert_true(work.n_ops < (uint64_t)WORD_BYTES * 3 * (2 * 21 + 2));
    phx_bpe_work_done(&work);
    phx_free(ids);
}

/* A word that cannot fit, however well it merges, is refused before any work. */
static void test_long_word_without_room(void **state)
{
    enum { ROOM = 64 };
    const phx_tokenizer *t = *state;
    uint32_t ids[ROOM];
    phx_error err = {0};
    phx_bpe_work work = {0};
    phx_id_list list = {ids, 0, ROOM};
    char *word = phx_alloc(WORD_BYTES, 1);
    assert_non_null(word);
    memset(word, 'a', WORD_BYTES);
    assert_int_equal(phx_bpe_encode(t->bpe, (phx_str){word, WORD_BYTES}, &work, &list, &err),
                     PHX_ERR_TOO_LONG);
    assert_non_null(strstr(err.text, "more than 64 tokens"));
    assert_int_equal(work.n_ops, 0);
    phx_bpe_work_done(&work);
    phx_free(word);
}

static void test_long_word(void **state)
{
    static const char *const units[] = {"the", "a", "erestionheind", "Micronesia"};
    phx_rng rng = {9, 0};
    char *word = phx_alloc(WORD_BYTES, 1);
    assert_non_null(word);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        for (size_t k = 0; k < WORD_BYTES; k++)
            word[k] = units[i][k % strlen(units[i])];
        check_word(*state, word);
    }
    for (size_t k = 0; k < WORD_BYTES; k++)
        word[k] = "etaoinshrdlu"[phx_rng_below(&rng, 12)];
    check_word(*state, word);
    phx_free(word);
}

/* Mebibytes of one kind of run through the whole path; quadratic scanning would run into the test's limit. */
static void test_long_runs(void **state)
{
    static const char *const units[] = {" ", "\n", " \n",    "1",       "\u4E2D", "\x01",
                                        "!", "<",  "\u0301", "<\uFF5C", "\r\n\t"};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        phx_buf text;
        phx_buf back;
        size_t n = 0;
        phx_buf_init(&text, WORD_BYTES);
        while (text.n + strlen(units[i]) <= WORD_BYTES)
            (void)phx_buf_str(&text, units[i]);
        uint32_t *ids = fixture_encode(*state, phx_buf_view(&text), true, &n);
        fixture_decode(*state, ids, n, &back);
        assert_true(phx_str_eq(phx_buf_view(&back), phx_buf_view(&text)));
        phx_free(ids);
        phx_buf_done(&text);
        phx_buf_done(&back);
    }
}

static void test_load(void **state)
{
    (void)state;
    const char *shared = getenv("PHX_SHARED");
    char dir[2048];
    phx_tokenizer *t = NULL;
    phx_error err = {0};
    (void)snprintf(dir, sizeof(dir), "%s/demo", shared ? shared : "../shared");
    assert_int_equal(phx_tokenizer_load(dir, &t, &err), PHX_OK);
    assert_int_equal(phx_tokenizer_n_vocab(t), 1920);
    assert_int_equal(phx_tokenizer_eos(t), 1);
    phx_tokenizer_destroy(t);
    t = NULL;
    assert_int_equal(phx_tokenizer_load("/nonexistent", &t, &err), PHX_ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "/nonexistent/tokenizer.json"));
    assert_null(t);
}

/* With ranks in place of tokenizer.json the error speaks of them. */
static void test_load_of_ranks(void **state)
{
    (void)state;
    char dir[] = "/tmp/phx-test-ranks-XXXXXX";
    char path[64];
    phx_tokenizer *t = NULL;
    phx_error err = {0};
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/tiktoken.model", dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs("no ranks\n", file) >= 0 && fclose(file) == 0);
    assert_int_not_equal(phx_tokenizer_load(dir, &t, &err), PHX_OK);
    assert_null(t);
    assert_null(strstr(err.text, "tokenizer.json"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    if (!fixture_present())
        return 77;
    phx_tokenizer *t = fixture_tokenizer("demo/tokenizer.json", "demo/tokenizer_config.json");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_greedy_cases, t),
        cmocka_unit_test_prestate(test_round_trip, t),
        cmocka_unit_test_prestate(test_data_spans_random, t),
        cmocka_unit_test_prestate(test_data_spans_benign, t),
        cmocka_unit_test_prestate(test_bos_and_ceiling, t),
        cmocka_unit_test_prestate(test_invalid_text, t),
        cmocka_unit_test_prestate(test_text_limit, t),
        cmocka_unit_test_prestate(test_long_word, t),
        cmocka_unit_test_prestate(test_long_word_without_room, t),
        cmocka_unit_test_prestate(test_long_runs, t),
        cmocka_unit_test_prestate(test_load, t),
        cmocka_unit_test(test_load_of_ranks),
    };
    const int rc = cmocka_run_group_tests(tests, NULL, NULL);
    phx_tokenizer_destroy(t);
    return rc;
}
