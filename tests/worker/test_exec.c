/* tests/worker/test_exec.c - the executor against golden models, over layouts, chunks and neighbours.
 * Same bits in every layout (DESIGN 1.2); the oracle's numbers within golden/README.md's tolerances. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/file.h"
#include "kernels/ops.h"
#include "tests/worker/ranks.h"

enum {
    ALL = PHX_CAPTURE_LOGITS | PHX_CAPTURE_HIDDEN | PHX_CAPTURE_TOPK | PHX_CAPTURE_INDEX_SCORES |
          PHX_CAPTURE_EXPERTS
};

/* A golden case: bundled, or in ../shared (false when that is absent). */
static bool golden_dir(const char *name, char *path, size_t n)
{
    const char *source = getenv("PHX_SOURCE"), *shared = getenv("PHX_SHARED");
    (void)snprintf(path, n, "%s/tests/data/golden/%s", source ? source : ".", name);
    if (phx_file_exists(path))
        return true;
    (void)snprintf(path, n, "%s/golden/%s", shared ? shared : "../shared", name);
    if (phx_file_exists(path))
        return true;
    (void)printf("SKIP: golden case %s is not here (%s)\n", name, path);
    return false;
}

static phx_st_file *open_golden(const char *dir)
{
    char path[4096];
    phx_error err = {0};
    phx_st_file *file = NULL;
    (void)snprintf(path, sizeof(path), "%s/golden.safetensors", dir);
    if (phx_st_open(path, &file, &err) != PHX_OK)
        fail_msg("%s", err.text);
    return file;
}

static void *read_golden(const phx_st_file *file, const char *name, uint64_t *ret_n_bytes)
{
    phx_error err = {0};
    const phx_st_tensor *t = phx_st_find(file, phx_str_of(name));
    if (!t)
        return NULL;
    void *data = phx_alloc(t->n_bytes, 1);
    assert_int_equal(phx_st_read(file, t, 0, data, t->n_bytes, &err), PHX_OK);
    *ret_n_bytes = t->n_bytes;
    return data;
}

/* Feeds the prompt through slot 0 in chunks, capturing everything. */
static void run_prompt(ranks *group, const uint32_t *ids, uint32_t n_ids, uint32_t chunk, uint32_t mask)
{
    static uint64_t step;
    uint32_t blocks[64], used = 0;
    for (uint32_t at = 0; at < n_ids; at += chunk) {
        const uint32_t n = n_ids - at < chunk ? n_ids - at : chunk;
        const uint32_t have = (at + n + PHX_BLOCK_TOKENS - 1) / PHX_BLOCK_TOKENS;
        for (uint32_t i = 0; i < have - used; i++)
            blocks[i] = used + i + 1;
        const phx_slot_open open = {
            .slot = 0, .request_id = 7, .n_prompt = n_ids, .sampling = {.top_p = 1, .repetition_penalty = 1}};
        const phx_step_row row = {.flags = PHX_ROW_CAPTURE, .n_tokens = n, .n_blocks = have - used};
        const phx_step_plan plan = {.step = ++step,
                                    .capture = mask,
                                    .n_opens = at == 0,
                                    .opens = &open,
                                    .n_rows = 1,
                                    .rows = &row,
                                    .n_tokens = n,
                                    .tokens = ids + at,
                                    .n_blocks = have - used,
                                    .blocks = blocks};
        phx_error err = {0};
        phx_row_result results[1];
        uint32_t n_results;
        if (ranks_step(group, &plan, results, &n_results, &err) != PHX_OK)
            fail_msg("%s (%s)", err.text, err.place);
        used = have;
    }
}

static ranks *start(const char *dir, uint32_t tp, const char *pp, const char *numerics, uint32_t n_threads)
{
    phx_error err = {0};
    ranks *group = NULL;
    const ranks_setup setup = {.model_dir = dir,
                               .tp = tp,
                               .pp = pp,
                               .numerics = numerics,
                               .n_threads = n_threads,
                               .n_context = 1024,
                               .n_step_tokens = 1024,
                               .n_batch = 2};
    if (ranks_start(&setup, &group, &err) != PHX_OK)
        fail_msg("%s (%s)", err.text, err.place);
    return group;
}

static uint32_t *prompt_of(const phx_st_file *golden, uint32_t *ret_n)
{
    uint64_t n_bytes = 0;
    int64_t *wide = read_golden(golden, "input_ids", &n_bytes);
    *ret_n = (uint32_t)(n_bytes / 8);
    uint32_t *ids = phx_alloc(*ret_n, sizeof(*ids));
    for (uint32_t i = 0; i < *ret_n; i++)
        ids[i] = (uint32_t)wide[i];
    phx_free(wide);
    return ids;
}

static double worst_f32(ranks *group, const phx_st_file *golden, const char *name, const char *golden_name)
{
    uint64_t n_bytes = 0;
    uint32_t n_rows, n_cols;
    float *expected = read_golden(golden, golden_name, &n_bytes);
    const float *got = ranks_tensor(group, name, &n_rows, &n_cols);
    if (!expected)
        return -1;
    assert_non_null(got);
    assert_int_equal((uint64_t)n_rows * n_cols * 4, n_bytes);
    double worst = 0;
    for (uint64_t i = 0; i < n_bytes / 4; i++)
        worst = fmax(worst, fabs((double)expected[i] - (double)got[i]));
    phx_free(expected);
    return worst;
}

static void same_i32(ranks *group, const phx_st_file *golden, const char *name, const char *golden_name)
{
    uint64_t n_bytes = 0;
    uint32_t n_rows, n_cols;
    int32_t *expected = read_golden(golden, golden_name, &n_bytes);
    if (!expected)
        return;
    const int32_t *got = ranks_tensor(group, name, &n_rows, &n_cols);
    assert_non_null(got);
    assert_int_equal((uint64_t)n_rows * n_cols * 4, n_bytes);
    for (uint64_t i = 0; i < n_bytes / 4; i++) {
        if (expected[i] != got[i])
            fail_msg("%s: row %llu column %llu is %d, golden says %d", name, (unsigned long long)(i / n_cols),
                     (unsigned long long)(i % n_cols), got[i], expected[i]);
    }
    phx_free(expected);
}

static double golden_atol(const phx_st_file *golden)
{
    double atol = 0;
    assert_true(phx_str_to_f64(phx_st_metadata(golden, "logit_atol"), &atol));
    return atol;
}

static void check_oracle(const char *name, const char *level)
{
    char dir[4096], numerics[128], tensor[48], topk[48];
    if (!golden_dir(name, dir, sizeof(dir)))
        return;
    const phx_st_file *golden = open_golden(dir);
    (void)snprintf(numerics, sizeof(numerics), "profile=oracle level=%s", level);
    ranks *group = start(dir, 1, "1", numerics, 2);
    uint32_t n_ids;
    uint32_t *ids = prompt_of(golden, &n_ids);
    run_prompt(group, ids, n_ids, n_ids, ALL);
    const double logits = worst_f32(group, golden, "logits", "logits");
    (void)printf("%s %s: worst logit error %.3g\n", name, level, logits);
    for (int l = 0; l < 9; l++) {
        (void)snprintf(tensor, sizeof(tensor), "hidden.%d", l);
        const double hidden = worst_f32(group, golden, tensor, tensor);
        if (hidden >= 0)
            (void)printf("  %s %.3g\n", tensor, hidden);
        (void)snprintf(topk, sizeof(topk), "topk.%d", l);
        same_i32(group, golden, topk, topk);
        (void)snprintf(topk, sizeof(topk), "experts.%d", l);
        same_i32(group, golden, topk, topk);
        (void)snprintf(topk, sizeof(topk), "index_scores.%d", l);
        const double scores = worst_f32(group, golden, topk, topk);
        if (scores >= 0)
            (void)printf("  %s %.3g\n", topk, scores);
    }
    assert_true(logits >= 0 && logits < golden_atol(golden));
    ranks_stop(group);
    phx_free(ids);
    phx_st_close((phx_st_file *)(uintptr_t)golden);
}

static const struct {
    const char *name;
    uint32_t tp_max, pp_max;
} cases[] = {
    {"deepseek-v32-fp8", 4, 2}, {"deepseek-v3-qdirect", 4, 2}, {"deepseek-v3-bf16", 8, 3},
    {"deepseek-v3-fp8", 8, 2},  {"deepseek-v32-bf16", 8, 3},   {"deepseek-v32-long", 4, 3},
    {"glm52-bf16", 4, 9},       {"kimi-k2-fp8", 8, 2},         {"glm5-bf16", 4, 3},
    {"glm5-fp8", 4, 2},         {"glm4-moe-lite-bf16", 8, 3},  {"kimi-k25-int4", 8, 2},
};

static void test_oracle(void **state)
{
    (void)state;
    for (int level = 0; level <= (int)phx_level_of_machine(); level++) {
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
            check_oracle(cases[i].name, phx_level_name((phx_level)level));
    }
}

/* Every layout, chunk size and thread count gives the bits of one rank with one thread and one chunk. */
static void check_layouts(const char *name, const char *profile, uint32_t tp_max, uint32_t pp_max)
{
    static const struct {
        uint32_t tp;
        const char *pp;
        uint32_t n_threads, chunk;
        const char *experts;
    } layouts[] = {
        {1, "1", 1, 1024, "tp"}, {1, "1", 2, 7, "tp"},  {2, "1", 1, 64, "tp"}, {4, "1", 1, 1024, "tp"},
        {8, "1", 1, 1024, "tp"}, {1, "2", 1, 64, "tp"}, {1, "3", 1, 64, "tp"}, {2, "2", 1, 7, "tp"},
        {1, "1", 2, 1, "tp"},    {1, "5", 1, 64, "tp"}, {1, "9", 1, 64, "tp"}, {1, "1", 1, 1024, "ep"},
        {2, "1", 1, 7, "ep"},    {4, "1", 1, 64, "ep"},
    };
    char dir[4096], numerics[128];
    if (!golden_dir(name, dir, sizeof(dir)))
        return;
    phx_st_file *golden = open_golden(dir);
    uint32_t n_ids;
    uint32_t *ids = prompt_of(golden, &n_ids);
    float *first = NULL;
    const char *experts = "";
    for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
        if (layouts[i].tp > tp_max || (uint32_t)(layouts[i].pp[0] - '0') > pp_max)
            continue;
        (void)snprintf(numerics, sizeof(numerics), "profile=%s experts=%s level=%s", profile,
                       layouts[i].experts, phx_level_name(phx_level_of_machine()));
        ranks *group = start(dir, layouts[i].tp, layouts[i].pp, numerics, layouts[i].n_threads);
        phx_error err = {0};
        if (ranks_self_check(group, &err) != PHX_OK)
            fail_msg("self-check: %s", err.text);
        run_prompt(group, ids, n_ids, layouts[i].chunk, PHX_CAPTURE_LOGITS);
        uint32_t n_rows, n_cols;
        const float *logits = ranks_tensor(group, "logits", &n_rows, &n_cols);
        const size_t n_bytes = (size_t)n_rows * n_cols * sizeof(float);
        if (strcmp(layouts[i].experts, experts) != 0) { /* equality is promised within a mode */
            experts = layouts[i].experts;
            phx_free(first);
            first = phx_alloc(n_bytes, 1);
            memcpy(first, logits, n_bytes);
        }
        if (memcmp(first, logits, n_bytes) != 0)
            fail_msg("%s: tp %u pp %s threads %u chunk %u differ from one rank", name, layouts[i].tp,
                     layouts[i].pp, layouts[i].n_threads, layouts[i].chunk);
        ranks_stop(group);
    }
    phx_free(first);
    phx_free(ids);
    phx_st_close(golden);
}

static void test_layouts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        check_layouts(cases[i].name, "serving", cases[i].tp_max, cases[i].pp_max);
        if (i == 0)
            check_layouts(cases[i].name, "oracle", cases[i].tp_max, cases[i].pp_max);
        if (i == 0)
            check_layouts(cases[i].name, "official", cases[i].tp_max, cases[i].pp_max);
        if (i == 0)
            check_layouts(cases[i].name, "serving cache=fp8", cases[i].tp_max, cases[i].pp_max);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_oracle), cmocka_unit_test(test_layouts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
