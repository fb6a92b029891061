/* client/judge.h - what `verify` says of each tensor of a golden file, and of two runs of the same prompt.
 * Owns: which tensor is judged by which rule under which numerics knobs, the list of verdicts, its two
 * prints. Needs no server. */
#ifndef PHX_CLIENT_JUDGE_H
#define PHX_CLIENT_JUDGE_H

#include "base/buf.h"
#include "client/capture.h"
#include "client/golden.h"
#include "model/numerics.h"

typedef struct phx_finding {
    char name[64];
    char rule[40]; /* "absolute", "of the largest", "exact", "kl mean", ... */
    bool judged;   /* false: shown, does not decide */
    bool ok;
    double error;
    double limit;
    int64_t row; /* -1: no place */
    int64_t col;
    char note[120]; /* why it was not checked, or more about the place */
} phx_finding;

#define PHX_FINDINGS_MAX 4096u

typedef struct phx_findings {
    phx_finding *list; /* [n] */
    size_t n;
    size_t cap;
} phx_findings;

void phx_findings_done(phx_findings *findings);
bool phx_findings_ok(const phx_findings *findings); /* no judged one failed, and at least one was judged */

/* Captures a golden file needs: PHX_CAPTURE_* mask. f32 runs want everything, others the logits alone. */
uint32_t phx_judge_mask(const phx_golden *golden, const phx_numerics *numerics);

/* What a reference with bf16 activations strays from the golden logits: serving.json, or where an FP8 indexer
 * chooses keys official.json. NULL: unknown. */
const phx_kl_bounds *phx_judge_bf16_figures(const phx_golden *golden, const phx_numerics *numerics);

/* What a reference with such activations and such a cache strays from the golden logits, not yet widened: the
 * figures above for bf16, those of cache_fp8.json for an fp8 cache, those of products_fp8.json where products
 * may round their rows, the sum for several. false: unknown. */
bool phx_judge_figures(const phx_golden *golden, const phx_numerics *numerics, phx_kl_bounds *ret_figures);

/* Element bounds when activations and cache are f32 (profile oracle), divergence bounds otherwise.
 * PHX_ERR_NOT_FOUND: the file holds no logits that belong to these knobs. */
phx_code phx_judge_golden(const phx_golden *golden, const phx_numerics *numerics, const phx_capture *capture,
                          phx_findings *findings, phx_error *err);

/* The greedy continuation: exact for f32, shown otherwise. got: [n_got] ids. */
phx_code phx_judge_greedy(const phx_golden *golden, const phx_numerics *numerics, const uint32_t *got,
                          uint32_t n_got, phx_findings *findings, phx_error *err);

/* Two runs of one prompt at different kernel levels, same profile (DESIGN 7), runs: ours and the reference's.
 * Divergence a tenth of the golden bounds (unknown: shown, not judged), selections equal outside near-ties;
 * those are shown alone with an fp8 cache, where one order of sums or the other turns a code by a whole step.
 */
phx_code phx_judge_levels(const phx_golden *golden, const phx_numerics *numerics,
                          const phx_capture *const runs[2], phx_findings *findings, phx_error *err);

void phx_findings_print(const phx_findings *findings, phx_buf *buf);
void phx_findings_json(const phx_findings *findings, phx_buf *buf); /* a JSON array */

#endif
