/* tests/client/test_capture.c - parts in any order become tensors; parts that do not fit are refused;
 * verdicts on a real golden file fed back to itself, whole and with one value changed; the NumPy file; lists
 * of ids. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/file.h"
#include "client/judge.h"
#include "client/npy.h"
#include "client/tokens.h"

typedef struct shape {
    uint32_t row_first, n_rows, col_first, n_cols;
} shape;

static phx_code add_part(phx_capture *capture, const char *name, shape s, const void *data, phx_error *err)
{
    Phalanx__CapturePart part = PHALANX__CAPTURE_PART__INIT;
    part.name = (char *)(uintptr_t)name;
    part.dtype =
        (char *)(uintptr_t)(strstr(name, "topk") || strncmp(name, "experts.", 8) == 0 ? "I32" : "F32");
    part.row_first = s.row_first;
    part.n_rows = s.n_rows;
    part.col_first = s.col_first;
    part.n_cols = s.n_cols;
    part.data.data = (uint8_t *)(uintptr_t)data;
    part.data.len = (size_t)s.n_rows * s.n_cols * 4;
    return phx_capture_add(capture, &part, err);
}

static void slices_in_any_order(void **state)
{
    (void)state;
    phx_capture *capture = NULL;
    phx_error err = {0};
    const float right[2] = {2, 12}, left[4] = {0, 1, 10, 11}, last_left[2] = {20, 21}, last_right[1] = {22};
    assert_int_equal(phx_capture_create(3, &capture, &err), PHX_OK);
    assert_int_equal(add_part(capture, "logits", (shape){0, 2, 2, 1}, right, &err), PHX_OK);
    assert_int_equal(add_part(capture, "logits", (shape){2, 1, 0, 2}, last_left, &err), PHX_OK);
    assert_int_equal(add_part(capture, "logits", (shape){0, 2, 0, 2}, left, &err), PHX_OK);
    assert_int_equal(add_part(capture, "logits", (shape){2, 1, 2, 1}, last_right, &err), PHX_OK);
    assert_int_equal(phx_capture_finish(capture, 0, &err), PHX_OK);
    const phx_captured *logits = phx_capture_find(capture, "logits");
    const float expected[9] = {0, 1, 2, 10, 11, 12, 20, 21, 22};
    assert_non_null(logits);
    assert_int_equal(logits->n_cols, 3);
    assert_memory_equal(logits->values, expected, sizeof(expected));
    phx_capture_destroy(capture);
}

static void scores_are_ragged_and_warm_rows_absent(void **state)
{
    (void)state;
    phx_capture *capture = NULL;
    phx_error err = {0};
    const float row2[3] = {1, 2, 3}, row1[2] = {4, 5};
    assert_int_equal(phx_capture_create(3, &capture, &err), PHX_OK);
    assert_int_equal(add_part(capture, "index_scores.0", (shape){2, 1, 0, 3}, row2, &err), PHX_OK);
    assert_int_equal(add_part(capture, "index_scores.0", (shape){1, 1, 0, 2}, row1, &err), PHX_OK);
    assert_int_equal(phx_capture_finish(capture, 1, &err), PHX_OK);
    const phx_captured *scores = phx_capture_find(capture, "index_scores.0");
    const float expected[9] = {0, 0, 0, 4, 5, 0, 1, 2, 3};
    assert_int_equal(scores->row_first, 1);
    assert_memory_equal(scores->values, expected, sizeof(expected));
    phx_capture_destroy(capture);
}

static void gaps_and_doubles_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t n_parts;
        shape parts[3];
        bool at_finish;
    } cases[] = {
        {"arrived twice", 2, {{0, 2, 0, 2}, {1, 1, 0, 2}}, false},
        {"row 1 has 0 of 2", 1, {{0, 1, 0, 2}}, true},
        {"rows up to 1 are missing", 1, {{1, 1, 0, 2}}, true},
        {"starts at column 3, expected 2", 2, {{0, 2, 0, 2}, {0, 2, 3, 1}}, true},
        {"starts at column 1, expected 2", 2, {{0, 2, 0, 2}, {0, 2, 1, 2}}, true},
        {"row 1 has 0 of 1", 2, {{0, 2, 0, 2}, {0, 1, 2, 1}}, true},
        {"of 2 tokens", 1, {{2, 1, 0, 2}}, false},
        {"of 2 tokens", 1, {{1, 2, 0, 2}}, false},
        {"of 2 tokens", 1, {{0, 1, 0, 0}}, false},
        {"slice of", 1, {{0, 1, 4294967295u, 2}}, false},
    };
    const float data[16] = {0};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        phx_capture *capture = NULL;
        phx_error err = {0};
        phx_code rc = PHX_OK;
        assert_int_equal(phx_capture_create(2, &capture, &err), PHX_OK);
        for (uint32_t p = 0; p < cases[i].n_parts && rc == PHX_OK; p++)
            rc = add_part(capture, "logits", cases[i].parts[p], data, &err);
        assert_int_equal(rc == PHX_OK, cases[i].at_finish);
        if (rc == PHX_OK)
            rc = phx_capture_finish(capture, 0, &err);
        if (rc != PHX_ERR_CORRUPT || !strstr(err.text, cases[i].text))
            fail_msg("case %zu: '%s', expected '%s'", i, err.text, cases[i].text);
        phx_capture_destroy(capture);
    }
    assert_int_equal(phx_alloc_count().n_live, 0);
}

/* ---- a golden file judged by itself ---- */

static phx_golden open_golden(const char *name)
{
    const char *source = getenv("PHX_SOURCE");
    char path[4096];
    phx_golden golden;
    phx_error err = {0};
    (void)snprintf(path, sizeof(path), "%s/tests/data/golden/%s/golden.safetensors", source ? source : ".",
                   name);
    if (phx_golden_open(path, &golden, &err) != PHX_OK)
        fail_msg("%s", err.text);
    return golden;
}

/* The file's own tensors as a capture; with_fp8: topk_fp8 in place of topk and logits_fp8indexer of logits.
 * The value at [row][col] of `change` is changed by delta (bits + 1 for integers). */
static phx_capture *capture_with(const phx_golden *golden, const char *suffix, const char *change,
                                 float delta, bool with_drafts)
{
    phx_capture *capture = NULL;
    phx_error err = {0};
    assert_int_equal(phx_capture_create(golden->n_ids, &capture, &err), PHX_OK);
    for (size_t i = 0; i < phx_st_count(golden->file); i++) {
        const phx_st_tensor *t = phx_st_at(golden->file, i);
        char name[64];
        void *values = NULL;
        (void)phx_str_copy(name, sizeof(name), t->name);
        const bool drafts = strncmp(name, "mtp.", 4) == 0;
        if (t->n_dims != 2 || t->shape[0] != golden->n_ids - drafts || strncmp(name, "logits_", 7) == 0 ||
            strncmp(name, "topk_fp8", 8) == 0 || (drafts && (!with_drafts || *suffix)))
            continue;
        char from[80];
        if (*suffix && strcmp(name, "logits") == 0)
            (void)snprintf(from, sizeof(from), "logits_fp8indexer");
        else if (*suffix && strncmp(name, "topk.", 5) == 0)
            (void)snprintf(from, sizeof(from), "topk_fp8%s", name + 4);
        else
            (void)snprintf(from, sizeof(from), "%s", name);
        assert_int_equal(phx_golden_read(golden, phx_st_find(golden->file, phx_str_of(from)), &values, &err),
                         PHX_OK);
        const uint32_t n_cols = (uint32_t)t->shape[1];
        if (strcmp(name, change) == 0) {
            if (t->dtype == PHX_F32)
                ((float *)values)[2 * n_cols] += delta;
            else
                ((int32_t *)values)[2 * n_cols] += 1;
        }
        const bool ragged = strncmp(name, "index_scores.", 13) == 0;
        for (uint32_t r = 0; r < golden->n_ids - drafts; r++)
            assert_int_equal(add_part(capture, name, (shape){r, 1, 0, ragged ? r + 1 : n_cols},
                                      (uint32_t *)values + (size_t)r * n_cols, &err),
                             PHX_OK);
        phx_free(values);
    }
    if (phx_capture_finish(capture, 0, &err) != PHX_OK)
        fail_msg("%s", err.text);
    return capture;
}

static phx_capture *capture_of(const phx_golden *golden, const char *suffix, const char *change, float delta)
{
    return capture_with(golden, suffix, change, delta, true);
}

static bool judge(const phx_golden *golden, const phx_numerics *numerics, phx_capture *capture,
                  const char *failing)
{
    phx_findings findings = {0};
    phx_error err = {0};
    if (phx_judge_golden(golden, numerics, capture, &findings, &err) != PHX_OK)
        fail_msg("%s", err.text);
    const bool ok = phx_findings_ok(&findings);
    const bool drafts = phx_capture_find(capture, "mtp.logits") != NULL;
    uint32_t n_drafts = 0;
    for (size_t i = 0; i < findings.n; i++) {
        const phx_finding *f = &findings.list[i];
        if (f->judged && f->ok == (strcmp(f->name, failing) == 0))
            fail_msg("%s is %s (%s), failing should be '%s'", f->name, f->ok ? "ok" : "wrong", f->note,
                     failing);
        if (strncmp(f->name, "mtp.", 4) == 0 && !f->judged)
            assert_non_null(strstr(f->note, "--mtp on"));
        n_drafts += strncmp(f->name, "mtp.", 4) == 0 && f->judged;
    }
    assert_true(drafts == (n_drafts > 0));
    phx_findings_done(&findings);
    phx_capture_destroy(capture);
    return ok;
}

static void oracle_judges_every_tensor(void **state)
{
    (void)state;
    phx_golden golden = open_golden("deepseek-v32-fp8");
    phx_numerics oracle;
    phx_numerics_preset(PHX_PROFILE_ORACLE, &oracle);
    assert_int_equal(phx_judge_mask(&golden, &oracle), 31);
    assert_true(judge(&golden, &oracle, capture_of(&golden, "", "", 0), ""));
    assert_true(judge(&golden, &oracle, capture_with(&golden, "", "", 0, false), "")); /* --mtp off */
    static const struct {
        const char *name;
        float delta;
    } changes[] = {
        {"logits", 2e-4f},     {"hidden.1", 0.1f},          {"hidden.embed", 0.1f},   {"topk.0", 0},
        {"experts.1", 0},      {"experts_weight.1", 1e-3f}, {"index_scores.1", 0.1f}, {"mtp.topk", 0},
        {"mtp.logits", 3e-4f}, {"mtp.final", 0.1f}};
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
        assert_false(judge(&golden, &oracle, capture_of(&golden, "", changes[i].name, changes[i].delta),
                           changes[i].name));
    phx_golden_close(&golden);
}

static void knobs_choose_the_variant(void **state)
{
    (void)state;
    phx_golden golden = open_golden("deepseek-v32-fp8");
    phx_numerics numerics;
    phx_numerics_preset(PHX_PROFILE_ORACLE, &numerics);
    numerics.index_hadamard = true;
    numerics.index_fp8 = true;
    assert_true(judge(&golden, &numerics, capture_of(&golden, "_fp8", "", 0), ""));
    assert_false(judge(&golden, &numerics, capture_of(&golden, "_fp8", "logits", 1), "logits_fp8indexer"));
    assert_false(judge(&golden, &numerics, capture_of(&golden, "_fp8", "topk.1", 0), "topk_fp8.1"));
    phx_golden_close(&golden);
}

/* Logits of another indexer, or bounds of one, are never taken for those of the FP8 indexer. */
static void official_has_numbers_of_its_own(void **state)
{
    (void)state;
    phx_numerics official;
    phx_error err = {0};
    phx_kl_bounds figures;
    phx_findings findings = {0};
    phx_golden golden = open_golden("deepseek-v32-fp8");
    phx_numerics_preset(PHX_PROFILE_OFFICIAL, &official);
    assert_true(phx_judge_figures(&golden, &official, &figures));
    assert_true(figures.kl_mean == golden.official_kl.kl_mean && figures.kl_mean != golden.kl.kl_mean);
    assert_true(judge(&golden, &official, capture_of(&golden, "_fp8", "", 0), ""));
    golden.has_official_kl = false;
    assert_false(phx_judge_figures(&golden, &official, &figures));
    official.index_hadamard = false; /* of that the file says nothing */
    phx_capture *capture = capture_of(&golden, "", "", 0);
    assert_int_equal(phx_judge_golden(&golden, &official, capture, &findings, &err), PHX_ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "index_hadamard=on"));
    assert_int_equal(findings.n, 0);
    phx_capture_destroy(capture);
    phx_golden_close(&golden);

    golden = open_golden("deepseek-v3-qdirect"); /* a model without an indexer */
    phx_numerics_preset(PHX_PROFILE_OFFICIAL, &official);
    assert_true(judge(&golden, &official, capture_of(&golden, "", "", 0), ""));
    phx_golden_close(&golden);
}

static void serving_judges_divergence_where_bounds_are_known(void **state)
{
    (void)state;
    phx_golden golden = open_golden("deepseek-v3-qdirect");
    phx_numerics serving;
    phx_numerics_preset(PHX_PROFILE_SERVING, &serving);
    golden.has_kl = true;
    golden.kl = (phx_kl_bounds){0.0004, 0.0003, 0.97};
    assert_int_equal(phx_judge_mask(&golden, &serving), 1);
    assert_true(judge(&golden, &serving, capture_of(&golden, "", "", 0), ""));
    assert_true(judge(&golden, &serving, capture_of(&golden, "", "logits", 0.01f), ""));
    phx_findings findings = {0};
    phx_capture *far = capture_of(&golden, "", "logits", 1e4f); /* one row of 61, certain of another token */
    assert_int_equal(phx_judge_golden(&golden, &serving, far, &findings, NULL), PHX_OK);
    assert_false(phx_findings_ok(&findings));
    phx_findings_done(&findings);
    golden.has_kl = false; /* a result that nothing judges is no pass */
    assert_int_equal(phx_judge_golden(&golden, &serving, far, &findings, NULL), PHX_OK);
    assert_false(phx_findings_ok(&findings));
    phx_findings_done(&findings);
    phx_capture_destroy(far);
    phx_golden_close(&golden);
}

static void greedy_ids(void **state)
{
    (void)state;
    phx_golden golden = open_golden("deepseek-v3-qdirect");
    phx_numerics oracle;
    phx_findings findings = {0};
    phx_numerics_preset(PHX_PROFILE_ORACLE, &oracle);
    assert_true(golden.n_greedy > 1);
    assert_int_equal(phx_judge_greedy(&golden, &oracle, golden.greedy, golden.n_greedy, &findings, NULL),
                     PHX_OK);
    assert_true(phx_findings_ok(&findings));
    assert_int_equal(phx_judge_greedy(&golden, &oracle, golden.greedy, golden.n_greedy - 1, &findings, NULL),
                     PHX_OK);
    assert_false(phx_findings_ok(&findings));
    phx_findings_done(&findings);
    phx_golden_close(&golden);
}

/* ---- files ---- */

static void numpy_file(void **state)
{
    (void)state;
    const char path[] = "/tmp/phx_test_capture.npy";
    const float values[6] = {1, 2, 3, 4, 5, 6};
    phx_error err = {0};
    phx_buf buf;
    phx_buf_init(&buf, 4096);
    assert_int_equal(phx_npy_write_f32(path, values, 2, 3, &err), PHX_OK);
    assert_int_equal(phx_file_read(path, &buf, &err), PHX_OK);
    assert_int_equal(buf.n, 128 + sizeof(values));
    assert_memory_equal(
        buf.ptr, "\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
        10 + 58);
    assert_int_equal(buf.ptr[127], '\n');
    assert_memory_equal(buf.ptr + 128, values, sizeof(values));
    phx_buf_done(&buf);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(phx_npy_write_f32("/nonexistent/x.npy", values, 2, 3, &err), PHX_ERR_IO);
}

static void lists_of_ids(void **state)
{
    (void)state;
    phx_tokens tokens;
    phx_error err = {0};
    assert_int_equal(phx_tokens_read("1,2 30\n[4]", &tokens, &err), PHX_OK);
    assert_int_equal(tokens.n, 4);
    assert_int_equal(tokens.ids[2], 30);
    phx_tokens_done(&tokens);
    static const char *const bad[] = {
        "", ",", "1,,2", ",1", "1;2", "1,-2", "x", "2147483648", "@/nonexistent/ids"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        err = (phx_error){0};
        assert_int_not_equal(phx_tokens_read(bad[i], &tokens, &err), PHX_OK);
        assert_true(err.text[0] != 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_in_any_order),
        cmocka_unit_test(scores_are_ragged_and_warm_rows_absent),
        cmocka_unit_test(gaps_and_doubles_are_refused),
        cmocka_unit_test(oracle_judges_every_tensor),
        cmocka_unit_test(knobs_choose_the_variant),
        cmocka_unit_test(official_has_numbers_of_its_own),
        cmocka_unit_test(serving_judges_divergence_where_bounds_are_known),
        cmocka_unit_test(greedy_ids),
        cmocka_unit_test(numpy_file),
        cmocka_unit_test(lists_of_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
