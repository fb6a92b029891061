/* client/judge.c - which tensor is judged by which rule, and the verdicts. Tolerances: README of the golden
 * models. */
#include "client/judge.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/json.h"
#include "proto/step_plan.h"

#define HIDDEN_BOUND  3e-5 /* of the tensor's largest magnitude */
#define SCORES_BOUND  3e-5 /* of the row's largest magnitude */
#define EXPERTS_BOUND 1e-5 /* absolute; weights are of order 1 */
#define DRAFTS_BOUND  1e-4 /* absolute, of the draft layer's logits */

/* Between levels of one profile: activations are rounded to bf16 (2^-8 apart), so scores of two levels drift
 * by a few such steps; keys nearer to the boundary than this may swap. */
#define LEVEL_GAP_MAX       0.05 /* standard deviations of a row's index scores */
#define LEVEL_WEIGHT_SPREAD 0.05 /* relative, of expert weights */

#define UNCLEAR_SHARE 100 /* at most one row in so many may be unclear (compare.h) */

#define LAYERS_MAX 512u /* model/dims.c */

void phx_findings_done(phx_findings *findings)
{
    phx_free(findings->list);
    *findings = (phx_findings){0};
}

bool phx_findings_ok(const phx_findings *findings)
{
    size_t n_judged = 0;
    for (size_t i = 0; i < findings->n; i++) {
        if (findings->list[i].judged && !findings->list[i].ok)
            return false;
        n_judged += findings->list[i].judged;
    }
    return n_judged > 0;
}

static phx_code add(phx_findings *findings, const phx_finding *finding, phx_error *err)
{
    if (findings->n == PHX_FINDINGS_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "more than %u tensors to judge", PHX_FINDINGS_MAX);
    if (findings->n == findings->cap) {
        const size_t cap = findings->cap ? findings->cap * 2 : 64;
        phx_finding *grown = phx_realloc(findings->list, cap, sizeof(*grown));
        if (!grown)
            return PHX_FAIL(err, PHX_ERR_NOMEM, "findings");
        findings->list = grown;
        findings->cap = cap;
    }
    findings->list[findings->n++] = *finding;
    return PHX_OK;
}

static phx_finding finding_of(const char *name, const char *rule, const phx_verdict *verdict, double limit)
{
    phx_finding f = {.judged = true, .limit = limit, .ok = verdict->ok, .error = verdict->error};
    f.row = verdict->row;
    f.col = verdict->col;
    (void)phx_str_copy(f.name, sizeof(f.name), phx_str_of(name));
    (void)phx_str_copy(f.rule, sizeof(f.rule), phx_str_of(rule));
    if (verdict->n_bad > 0)
        (void)snprintf(f.note, sizeof(f.note), "got %.7g, expected %.7g; %llu values outside", verdict->got,
                       verdict->expected, (unsigned long long)verdict->n_bad);
    return f;
}

static phx_finding not_checked(phx_str name, const char *why)
{
    phx_finding f = {.rule = "not checked", .row = -1, .col = -1, .ok = true};
    (void)phx_str_copy(f.name, sizeof(f.name), name);
    (void)phx_str_copy(f.note, sizeof(f.note), phx_str_of(why));
    return f;
}

/* ---- variants ---- */

static const char fp8_logits[] = "logits_fp8indexer";

/* Which numbers of the golden file belong to these knobs. */
typedef struct variant {
    bool elements;    /* f32 throughout: element bounds apply */
    bool fp8_indexer; /* the run has one: logits_fp8indexer, topk_fp8.* */
    bool config_eps;  /* logits_config_latent_eps */
    bool drafts;      /* the draft layer runs: mtp.* */
    bool has_figures; /* of how far such a run may stray */
    phx_kl_bounds figures;
    const char *logits; /* tensor to compare logits with; NULL: the file has none for these knobs */
} variant;

static bool has(const phx_golden *golden, const char *name)
{
    return phx_st_find(golden->file, phx_str_of(name)) != NULL;
}

/* A model without an indexer does not know the difference. */
static bool runs_fp8_indexer(const phx_golden *golden, const phx_numerics *numerics)
{
    for (size_t i = 0; numerics->index_fp8 && i < phx_st_count(golden->file); i++) {
        if (phx_str_starts(phx_st_at(golden->file, i)->name, phx_str_of("topk.")))
            return true;
    }
    return false;
}

static variant choose_variant(const phx_golden *golden, const phx_numerics *numerics)
{
    variant v = {.elements = numerics->act == PHX_F32 && numerics->cache == PHX_F32, .logits = "logits"};
    v.has_figures = phx_judge_figures(golden, numerics, &v.figures);
    v.fp8_indexer = runs_fp8_indexer(golden, numerics);
    v.config_eps = numerics->latent_eps == PHX_LATENT_EPS_CONFIG && has(golden, "logits_config_latent_eps");
    if (v.fp8_indexer)
        v.logits = numerics->index_hadamard && !v.config_eps && has(golden, fp8_logits) ? fp8_logits : NULL;
    else if (v.config_eps)
        v.logits = "logits_config_latent_eps";
    return v;
}

uint32_t phx_judge_mask(const phx_golden *golden, const phx_numerics *numerics)
{
    uint32_t mask = PHX_CAPTURE_LOGITS;
    if (!choose_variant(golden, numerics).elements)
        return mask;
    for (size_t i = 0; i < phx_st_count(golden->file); i++) {
        const phx_str name = phx_st_at(golden->file, i)->name;
        mask |= phx_str_starts(name, phx_str_of("hidden.")) ? PHX_CAPTURE_HIDDEN : 0;
        mask |= phx_str_starts(name, phx_str_of("mtp.topk")) ? PHX_CAPTURE_TOPK : 0;
        mask |= phx_str_starts(name, phx_str_of("mtp.final")) ? PHX_CAPTURE_HIDDEN : 0;
        mask |= phx_str_starts(name, phx_str_of("topk.")) ? PHX_CAPTURE_TOPK : 0;
        mask |= phx_str_starts(name, phx_str_of("index_scores.")) ? PHX_CAPTURE_INDEX_SCORES : 0;
        mask |= phx_str_starts(name, phx_str_of("experts")) ? PHX_CAPTURE_EXPERTS : 0;
    }
    return mask;
}

/* ---- one tensor of the file ---- */

typedef struct rule {
    const char *prefix; /* of the tensor's name */
    phx_dtype dtype;
    phx_compare_rule compare; /* F32 */
    double bound;             /* F32; 0: the case's logit_atol */
    const char *text;
    bool fp8_differs; /* the FP8 indexer changes the numbers, and the file has no others for it */
    bool eps_differs; /* likewise the epsilon of the config */
} rule;

static const rule rules[] = {
    {"logits", PHX_F32, PHX_COMPARE_ABS, 0, "absolute", false, false},
    {"hidden.embed", PHX_F32, PHX_COMPARE_TENSOR_MAX, HIDDEN_BOUND, "of the largest", false, false},
    {"hidden.", PHX_F32, PHX_COMPARE_TENSOR_MAX, HIDDEN_BOUND, "of the largest", true, true},
    {"topk.", PHX_I32, PHX_COMPARE_ABS, 0, "exact", true, true},
    {"topk_fp8.", PHX_I32, PHX_COMPARE_ABS, 0, "exact", false, true},
    {"index_scores.", PHX_F32, PHX_COMPARE_ROW_MAX, SCORES_BOUND, "of the row's largest", true, true},
    {"mtp.logits", PHX_F32, PHX_COMPARE_ABS, DRAFTS_BOUND, "absolute", true, true},
    {"mtp.final", PHX_F32, PHX_COMPARE_TENSOR_MAX, HIDDEN_BOUND, "of the largest", true, true},
    {"mtp.topk", PHX_I32, PHX_COMPARE_ABS, 0, "exact", true, true},
    {"experts.", PHX_I32, PHX_COMPARE_ABS, 0, "exact", true, true},
    {"experts_weight.", PHX_F32, PHX_COMPARE_ABS, EXPERTS_BOUND, "absolute", true, true},
};

static const rule *find_rule(phx_str name)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (phx_str_starts(name, phx_str_of(rules[i].prefix)))
            return &rules[i];
    }
    return NULL;
}

/* Why a tensor has no counterpart in this run; NULL: it has one. */
static const char *why_not(const variant *v, phx_str name, const rule *r)
{
    if (phx_str_starts(name, phx_str_of("mtp.")) && !v->drafts)
        return "the MTP layers are not loaded: --mtp on";
    if (!r)
        return "unknown name";
    if (phx_str_is(name, "mtp.logits") && !v->elements)
        return "drafts are judged element by element, in profile oracle";
    if (phx_str_starts(name, phx_str_of("logits")))
        return v->logits && phx_str_is(name, v->logits) ? NULL : "belongs to other knobs";
    if (!v->elements)
        return "only logits are judged in this profile";
    if (phx_str_starts(name, phx_str_of("topk_fp8.")))
        return v->logits && phx_str_is(phx_str_of(fp8_logits), v->logits) ? NULL : "belongs to other knobs";
    if ((v->fp8_indexer && r->fp8_differs) || (v->config_eps && r->eps_differs))
        return "belongs to other knobs";
    return NULL;
}

/* "topk_fp8.1" was captured as "topk.1", "logits_..." as "logits". */
static void captured_name(phx_str name, char *ret_name, size_t n_bytes)
{
    static const char fp8[] = "topk_fp8.";
    if (phx_str_starts(name, phx_str_of("logits")))
        (void)phx_str_copy(ret_name, n_bytes, phx_str_of("logits"));
    else if (phx_str_starts(name, phx_str_of(fp8)))
        (void)snprintf(ret_name, n_bytes, "topk.%.*s", (int)(name.n - strlen(fp8)), name.ptr + strlen(fp8));
    else
        (void)phx_str_copy(ret_name, n_bytes, name);
}

static phx_code find_captured(const phx_st_tensor *tensor, const rule *r, const phx_capture *capture,
                              const phx_captured **ret_got, phx_error *err)
{
    char name[64];
    captured_name(tensor->name, name, sizeof(name));
    const phx_captured *got = phx_capture_find(capture, name);
    if (!got)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "the server sent no '%s'", name);
    if (tensor->n_dims != 2 || tensor->dtype != r->dtype || got->dtype != r->dtype ||
        tensor->shape[0] != got->n_rows || tensor->shape[1] != got->n_cols)
        return PHX_FAIL(err, PHX_ERR_MISMATCH,
                        "'%s' is %s [%u][%u], the golden file has %s [%lld][%lld]: another model?", name,
                        phx_dtype_name(got->dtype), got->n_rows, got->n_cols, phx_dtype_name(tensor->dtype),
                        (long long)tensor->shape[0], (long long)tensor->shape[1]);
    *ret_got = got;
    return PHX_OK;
}

static phx_code add_kl(const char *name, const phx_divergence *d, const phx_kl_bounds *bounds,
                       phx_findings *findings, phx_error *err);

/* By elements. */
static phx_code judge_elements(double logit_atol, const char *name, const rule *r, const phx_captured *got,
                               const void *expected, phx_findings *findings, phx_error *err)
{
    const double bound = r->bound > 0 ? r->bound : r->dtype == PHX_F32 ? logit_atol : 0;
    phx_verdict verdict;
    if (r->dtype == PHX_F32)
        verdict = phx_compare_f32(&(phx_compare_f32_args){.got = got->values,
                                                          .expected = expected,
                                                          .n_rows = got->n_rows,
                                                          .n_cols = got->n_cols,
                                                          .rule = r->compare,
                                                          .bound = bound});
    else
        verdict = phx_compare_i32(
            &(phx_compare_i32_args){got->values, expected, (int64_t)got->n_rows, (int64_t)got->n_cols});
    const phx_finding f = finding_of(name, r->text, &verdict, bound);
    return add(findings, &f, err);
}

const phx_kl_bounds *phx_judge_bf16_figures(const phx_golden *golden, const phx_numerics *numerics)
{
    if (runs_fp8_indexer(golden, numerics))
        return golden->has_official_kl ? &golden->official_kl : NULL;
    return golden->has_kl ? &golden->kl : NULL;
}

bool phx_judge_figures(const phx_golden *golden, const phx_numerics *numerics, phx_kl_bounds *ret_figures)
{
    const bool fp8 = numerics->cache == PHX_F8_E4M3, bf16 = numerics->act == PHX_BF16 || !fp8;
    const phx_kl_bounds *kl = phx_judge_bf16_figures(golden, numerics);
    if ((bf16 && !kl) || (fp8 && !golden->has_cache_kl))
        return false;
    if (bf16 && fp8)
        *ret_figures = phx_kl_together(kl, &golden->cache_kl);
    else
        *ret_figures = fp8 ? golden->cache_kl : *kl;
    if (phx_numerics_may_round(numerics) && golden->has_products_kl)
        *ret_figures = phx_kl_together(ret_figures, &golden->products_kl);
    return true;
}

static phx_code judge_divergence(const variant *v, const char *name, const phx_captured *got,
                                 const void *expected, phx_findings *findings, phx_error *err)
{
    phx_divergence d;
    const phx_kl_bounds bounds = phx_kl_bounds_golden(&v->figures);
    const phx_code rc = phx_compare_kl(got->values, expected, got->n_rows, got->n_cols, &d, err);
    return rc == PHX_OK ? add_kl(name, &d, v->has_figures ? &bounds : NULL, findings, err) : rc;
}

static phx_code judge_tensor(const phx_golden *golden, const variant *v, const phx_st_tensor *tensor,
                             const phx_capture *capture, phx_findings *findings, phx_error *err)
{
    char name[64];
    const rule *r = find_rule(tensor->name);
    const char *why = why_not(v, tensor->name, r);
    const phx_captured *got = NULL;
    void *expected = NULL;
    if (why) {
        const phx_finding f = not_checked(tensor->name, why);
        return add(findings, &f, err);
    }
    (void)phx_str_copy(name, sizeof(name), tensor->name);
    phx_code rc = find_captured(tensor, r, capture, &got, err);
    if (rc == PHX_OK)
        rc = phx_golden_read(golden, tensor, &expected, err);
    if (rc == PHX_OK && v->elements)
        rc = judge_elements(golden->logit_atol, name, r, got, expected, findings, err);
    else if (rc == PHX_OK)
        rc = judge_divergence(v, name, got, expected, findings, err);
    phx_free(expected);
    return rc;
}

phx_code phx_judge_golden(const phx_golden *golden, const phx_numerics *numerics, const phx_capture *capture,
                          phx_findings *findings, phx_error *err)
{
    variant v = choose_variant(golden, numerics);
    if (!v.logits)
        return PHX_FAIL(err, PHX_ERR_NOT_FOUND, "'%s' has no logits for these knobs: %s",
                        phx_st_path(golden->file),
                        numerics->index_hadamard && !v.config_eps
                            ? "no 'logits_fp8indexer', as a run with the FP8 indexer needs (profile official)"
                            : "the FP8 indexer's are those with index_hadamard=on and latent_eps=1e-6");
    v.drafts = phx_capture_find(capture, "mtp.logits") != NULL;
    phx_code rc = PHX_OK;
    for (size_t i = 0; rc == PHX_OK && i < phx_st_count(golden->file); i++) {
        const phx_st_tensor *tensor = phx_st_at(golden->file, i);
        if (phx_str_is(tensor->name, "input_ids") || phx_str_is(tensor->name, "greedy"))
            continue;
        rc = judge_tensor(golden, &v, tensor, capture, findings, err);
    }
    return rc;
}

/* One finding per figure, so that each shows its bound. bounds NULL: shown alone. */
static phx_code add_kl(const char *name, const phx_divergence *d, const phx_kl_bounds *bounds,
                       phx_findings *findings, phx_error *err)
{
    const struct {
        const char *rule;
        double value;
        double limit;
        bool ok;
    } figures[] = {
        {"KL mean", d->kl_mean, bounds ? bounds->kl_mean : 0, bounds && d->kl_mean <= bounds->kl_mean},
        {"KL median", d->kl_median, bounds ? bounds->kl_median : 0,
         bounds && d->kl_median <= bounds->kl_median},
        {"top-1 disagreement", 1 - d->top1, bounds ? 1 - bounds->top1 : 0, bounds && d->top1 >= bounds->top1},
    };
    phx_code rc = PHX_OK;
    for (size_t i = 0; rc == PHX_OK && i < sizeof(figures) / sizeof(figures[0]); i++) {
        phx_finding f = {.judged = bounds != NULL,
                         .ok = figures[i].ok,
                         .error = figures[i].value,
                         .limit = figures[i].limit,
                         .row = i == 0 ? d->worst_row : -1,
                         .col = -1};
        (void)phx_str_copy(f.name, sizeof(f.name), phx_str_of(name));
        (void)phx_str_copy(f.rule, sizeof(f.rule), phx_str_of(figures[i].rule));
        if (i == 0)
            (void)snprintf(f.note, sizeof(f.note), "worst row %.3g nats, 90th percentile %.3g%s", d->kl_worst,
                           d->kl_p90, bounds ? "" : "; no bound known");
        rc = add(findings, &f, err);
    }
    return rc;
}

phx_code phx_judge_greedy(const phx_golden *golden, const phx_numerics *numerics, const uint32_t *got,
                          uint32_t n_got, phx_findings *findings, phx_error *err)
{
    const variant v = choose_variant(golden, numerics);
    uint32_t n_same = 0;
    while (n_same < n_got && n_same < golden->n_greedy && got[n_same] == golden->greedy[n_same])
        n_same++;
    phx_finding f = {.name = "greedy", .rule = "exact", .row = -1, .col = -1};
    f.judged = v.elements && !v.fp8_indexer && !v.config_eps;
    f.ok = n_same == golden->n_greedy;
    f.error = golden->n_greedy - n_same;
    if (!f.ok)
        (void)snprintf(f.note, sizeof(f.note), "%u of %u ids agree%s", n_same, golden->n_greedy,
                       f.judged ? "" : " (shown, not judged in this profile)");
    return add(findings, &f, err);
}

/* ---- two levels ---- */

/* Two runs of the same prompt. */
typedef struct pair {
    const phx_capture *capture;
    const phx_capture *reference;
    bool *strayed; /* [n_rows]: phx_compare_topk_args */
    bool judged;   /* the selections; else shown */
    phx_findings *findings;
} pair;

static phx_code add_selection(const pair *p, const phx_captured *got, const phx_selection *s, phx_error *err)
{
    const uint64_t n_unclear_max = got->n_rows / UNCLEAR_SHARE > 1 ? got->n_rows / UNCLEAR_SHARE : 1;
    phx_finding f = {.rule = "equal but near-ties", .judged = p->judged, .row = s->first_row, .col = -1};
    (void)phx_str_copy(f.name, sizeof(f.name), phx_str_of(got->name));
    f.ok = s->n_rows_wrong == 0 && s->n_rows_unclear <= n_unclear_max;
    f.error = (double)s->n_rows_wrong;
    if (s->n_rows_differ)
        (void)snprintf(f.note, sizeof(f.note), "%llu rows differ, %llu unclear, widest swap %.2g deviations",
                       (unsigned long long)s->n_rows_differ, (unsigned long long)s->n_rows_unclear,
                       s->widest_gap);
    return add(p->findings, &f, err);
}

/* The counterpart of a tensor with another prefix, e.g. the scores of "topk.3". */
static const phx_captured *sibling(const phx_capture *capture, const phx_captured *one, const char *prefix)
{
    char name[64];
    const char *dot = strchr(one->name, '.');
    (void)snprintf(name, sizeof(name), "%s%s", prefix, dot ? dot : "");
    return phx_capture_find(capture, name);
}

static phx_code judge_selection(const pair *p, const phx_captured *got, const phx_captured *expected,
                                phx_error *err)
{
    phx_selection s;
    if (strncmp(got->name, "topk.", 5) == 0) {
        const phx_captured *scores = sibling(p->reference, expected, "index_scores");
        s = phx_compare_topk(&(phx_compare_topk_args){.got = got->values,
                                                      .expected = expected->values,
                                                      .scores = scores ? scores->values : NULL,
                                                      .n_rows = got->n_rows,
                                                      .n_keep = got->n_cols,
                                                      .gap_max = LEVEL_GAP_MAX,
                                                      .strayed = p->strayed});
    } else {
        const phx_captured *a = sibling(p->capture, got, "experts_weight");
        const phx_captured *b = sibling(p->reference, expected, "experts_weight");
        if (!a || !b)
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "the server sent no weights for '%s'", got->name);
        s = phx_compare_experts(&(phx_compare_experts_args){.got = got->values,
                                                            .expected = expected->values,
                                                            .got_weights = a->values,
                                                            .expected_weights = b->values,
                                                            .n_rows = got->n_rows,
                                                            .n_used = got->n_cols,
                                                            .tolerance = LEVEL_WEIGHT_SPREAD,
                                                            .strayed = p->strayed});
    }
    return add_selection(p, got, &s, err);
}

static phx_code find_twin(const phx_captured *got, const phx_capture *reference, const phx_captured **ret,
                          phx_error *err)
{
    const phx_captured *expected = phx_capture_find(reference, got->name);
    if (!expected || expected->n_rows != got->n_rows || expected->n_cols != got->n_cols)
        return PHX_FAIL(err, PHX_ERR_MISMATCH, "'%s' has another shape at level ref", got->name);
    *ret = expected;
    return PHX_OK;
}

/* In the order of the computation: the keys of a layer, then its experts. */
static phx_code judge_selections(const pair *p, phx_error *err)
{
    static const char *const names[] = {"topk", "experts"};
    phx_code rc = PHX_OK;
    for (uint32_t layer = 0; layer < LAYERS_MAX; layer++) {
        for (size_t i = 0; i < 2 && rc == PHX_OK; i++) {
            char name[64];
            const phx_captured *expected = NULL;
            (void)snprintf(name, sizeof(name), "%s.%u", names[i], layer);
            const phx_captured *got = phx_capture_find(p->capture, name);
            if (!got)
                continue;
            rc = find_twin(got, p->reference, &expected, err);
            if (rc == PHX_OK)
                rc = judge_selection(p, got, expected, err);
        }
    }
    return rc;
}

phx_code phx_judge_levels(const phx_golden *golden, const phx_numerics *numerics,
                          const phx_capture *const runs[2], phx_findings *findings, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_divergence d;
    phx_kl_bounds figures;
    const bool known = phx_judge_figures(golden, numerics, &figures);
    pair p = {runs[0], runs[1], NULL, numerics->cache != PHX_F8_E4M3, findings};
    phx_kl_bounds bounds = {0};
    const phx_captured *expected = NULL;
    const phx_captured *got = phx_capture_find(runs[0], "logits");
    if (!got) {
        rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "the server sent no logits");
        goto out;
    }
    p.strayed = phx_alloc(got->n_rows, sizeof(*p.strayed));
    if (!p.strayed) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "%u rows", got->n_rows);
        goto out;
    }
    if (known) {
        const phx_kl_bounds widened = phx_kl_bounds_golden(&figures);
        bounds = phx_kl_bounds_levels(&widened);
    }
    rc = find_twin(got, runs[1], &expected, err);
    if (rc == PHX_OK)
        rc = phx_compare_kl(got->values, expected->values, got->n_rows, got->n_cols, &d, err);
    if (rc == PHX_OK)
        rc = add_kl("logits", &d, known ? &bounds : NULL, findings, err);
    if (rc == PHX_OK)
        rc = judge_selections(&p, err);
out:
    phx_free(p.strayed);
    return rc;
}

/* ---- prints ---- */

void phx_findings_print(const phx_findings *findings, phx_buf *buf)
{
    phx_buf_printf(buf, "%-26s %-20s %12s %12s  %-14s\n", "tensor", "rule", "worst", "bound",
                   "at [row][col]");
    for (size_t i = 0; i < findings->n; i++) {
        const phx_finding *f = &findings->list[i];
        char place[48] = "";
        if (strcmp(f->rule, "not checked") == 0)
            continue;
        if (f->row >= 0 && f->col >= 0)
            (void)snprintf(place, sizeof(place), "[%lld][%lld]", (long long)f->row, (long long)f->col);
        else if (f->row >= 0)
            (void)snprintf(place, sizeof(place), "[%lld]", (long long)f->row);
        phx_buf_printf(buf, "%-26s %-20s %12.3g %12.3g  %-14s %s %s\n", f->name, f->rule, f->error, f->limit,
                       place,
                       !f->judged ? "-   "
                       : f->ok    ? "ok  "
                                  : "FAIL",
                       f->note);
    }
    for (size_t i = 0; i < findings->n; i++) {
        const phx_finding *f = &findings->list[i];
        if (strcmp(f->rule, "not checked") == 0)
            phx_buf_printf(buf, "%-26s not checked (%s)\n", f->name, f->note);
    }
}

void phx_findings_json(const phx_findings *findings, phx_buf *buf)
{
    phx_json_writer writer;
    phx_json_writer *w = &writer;
    phx_json_writer_init(w, buf);
    phx_json_begin_array(w);
    for (size_t i = 0; i < findings->n; i++) {
        const phx_finding *f = &findings->list[i];
        phx_json_begin_object(w);
        phx_json_key(w, "name");
        phx_json_text(w, f->name);
        phx_json_key(w, "rule");
        phx_json_text(w, f->rule);
        phx_json_key(w, "judged");
        phx_json_bool(w, f->judged);
        phx_json_key(w, "ok");
        phx_json_bool(w, f->ok);
        phx_json_key(w, "worst");
        phx_json_f64(w, f->error);
        phx_json_key(w, "bound");
        phx_json_f64(w, f->limit);
        phx_json_key(w, "row");
        phx_json_i64(w, f->row);
        phx_json_key(w, "col");
        phx_json_i64(w, f->col);
        phx_json_key(w, "note");
        phx_json_text(w, f->note);
        phx_json_end_object(w);
    }
    phx_json_end_array(w);
}
