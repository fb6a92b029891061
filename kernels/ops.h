/* kernels/ops.h - every operation on numbers: its contract, its type, and the table of chosen
 * implementations. Owns: the op types and phx_ops. One list (kernels/ops.list) registers implementations;
 * this header, dispatch, checker and bench include it. Reading order: this header, then kernels/ref/, then
 * kernels/cpu/. The ops that turn logits into tokens have their contracts in ops_sample.h. Not here: model
 * structure (worker/exec), memory (worker/kv, model/step_buf.h).
 *
 * Common rules. Shapes are [rows][columns] in memory order; a stride is elements between rows and at least
 * the width. Pointers need the alignment of their element only. No output overlaps an input unless said.
 * n_rows may be 0: nothing happens. Inputs are finite. x of type PHX_BF16 or PHX_F32 ("activation") is given
 * by a dtype field.
 *
 * One arithmetic (DESIGN 7a): the bits of an output row depend on that row's inputs and the weights alone:
 * not on n_rows, on neighbours, on the thread that computed it, or on how a column-parallel matrix was cut by
 * rows. They may depend on the level. The reference level sums in double in the order of the formula and
 * rounds once (DESIGN 7i).
 *
 * Limits ("limit" below) are per element against the reference and are checked by tests/kernels. */
#ifndef PHX_KERNELS_OPS_H
#define PHX_KERNELS_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "kernels/ops_sample.h"
#include "kernels/pool.h"
#include "model/dtype.h"

#if defined(__CUDACC__) /* what kernels use too */
#define PHX_OPS_PLACE __host__ __device__ static inline
#else
#define PHX_OPS_PLACE static inline
#endif

typedef struct phx_activation { /* a borrowed matrix of activations */
    const void *data;           /* [n_rows][stride] of dtype */
    int64_t stride;
    phx_dtype dtype; /* PHX_BF16 or PHX_F32 */
} phx_activation;

typedef struct phx_activation_out {
    void *data;
    int64_t stride;
    phx_dtype dtype;
} phx_activation_out;

/* out[r][c] = table[ids[r]][c] widened to f32; ids[r] < 0 (row held elsewhere): all elements -0.0f, the one
 * value that leaves every other unchanged when added. Exact. */
typedef struct phx_embed_args {
    const phx_matrix *table; /* local rows */
    const int32_t *ids;      /* [n_rows] local row or -1 */
    int64_t n_rows;
    float *out; /* [n_rows][table->n_cols] */
} phx_embed_args;
typedef void phx_embed_fn(phx_pool *pool, const phx_embed_args *args);

/* y = x * weight / sqrt(mean(x^2) + eps), per row. out_f32 and out_act may each be absent (NULL data);
 * out_act is the same f32 value rounded to its dtype. x may equal out_f32. With add, x stands for x + add
 * (one f32 addition an element), which is also written to sum. Sum in f32 or wider. Limit: (n_cols / 32 + 4)
 * * FLT_EPSILON * |expected| for f32 (positive terms, root halves the error). */
typedef struct phx_rms_norm_args {
    const float *x;
    int64_t x_stride;
    const float *weight; /* [n_cols] */
    float eps;
    int64_t n_rows;
    int64_t n_cols;
    float *out_f32;
    int64_t out_f32_stride;
    phx_activation_out out_act;
    const float *add; /* [n_rows][n_cols]; NULL: nothing */
    float *sum;       /* with add: rows as x, which it may equal */
} phx_rms_norm_args;
typedef void phx_rms_norm_fn(phx_pool *pool, const phx_rms_norm_args *args);

/* y = (x - mean) / sqrt(var + eps) * weight + bias, per row, in place; var is the mean of squared deviations.
 * Limit: (n_cols / 16 + 8) * FLT_EPSILON * (|expected| + |bias| + |weight|). */
typedef struct phx_layer_norm_args {
    float *x; /* [n_rows][n_cols] */
    const float *weight;
    const float *bias;
    float eps;
    int64_t n_rows;
    int64_t n_cols;
} phx_layer_norm_args;
typedef void phx_layer_norm_fn(phx_pool *pool, const phx_layer_norm_args *args);

/* Rotates d_rope channels of every head of every row in place, and writes them to copy too. interleaved:
 * pairs (2i, 2i+1); otherwise halves (i, i + d_rope/2). x points at the first rotated channel of the first
 * head. table: [position][d_rope/2][cos, sin] f32 from phx_rope_table. Limit: 2 * FLT_EPSILON * (|a| + |b|)
 * of the pair.
 */
typedef struct phx_rope_args {
    float *x;
    int64_t row_stride;
    int64_t head_stride;
    int64_t n_rows;
    int64_t n_heads;
    int64_t d_rope;
    bool interleaved;
    const int32_t *positions; /* [n_rows] */
    const float *table;
    float *copy; /* rows and heads with strides of their own; NULL: none */
    int64_t copy_row_stride;
    int64_t copy_head_stride;
} phx_rope_args;
typedef void phx_rope_fn(phx_pool *pool, const phx_rope_args *args);

/* out[r][g][n] = sum_k x[r][g][k] * W[first_row + g * group_rows + n][k]: a column-parallel product, K in one
 * fixed order. With n_groups 1 a plain product of x [n_rows][K] and rows of W. Groups are attention heads.
 * fp8: partial sums over each 128-column scale block, times its scale, added in block order (blocks by global
 * column); int4-g32: each weight is number * scale, sums go group by group. Limit: (K / 16 + 8) * FLT_EPSILON
 * * sum_k |x * w|.
 * rounded (n_groups 1): each 128 columns of a row of x may be rounded to e4m3 with a scale of their own
 * (phx_cache_scale, kernels/cache.h) before they are multiplied, in any order of sums. Then the limit counts
 * from the product of rounded rows, and 2^-10 * sum_k |x * w| comes on top: eight times the last place of
 * sums that sm_90 keeps to 14 bits within 128 columns. Rows of out from n_rows up to the next multiple of
 * four may be overwritten where out_rows says that they are there. Which kernel ran may depend on
 * everything. */
typedef struct phx_product_args {
    phx_activation x; /* [n_rows][stride]; group g starts g * x_group_stride elements in */
    int64_t x_group_stride;
    const phx_matrix *w; /* K = w->n_cols */
    int64_t first_row;
    int64_t group_rows; /* rows of W between groups */
    int64_t n_groups;
    int64_t n_out; /* rows of W used per group */
    int64_t n_rows;
    float *out; /* group g starts g * out_group_stride elements in */
    int64_t out_stride;
    int64_t out_group_stride;
    phx_activation_out out_act; /* the same f32 values rounded to its dtype, groups as in out; or NULL data */
    bool rounded;
    int64_t out_rows; /* rounded: rows of out that there are */
    float *parts; /* rounded: [n_parts] overwritten; may be absent. phx_rounded_room_of says what is of use */
    int64_t n_parts; /* floats */
} phx_product_args;
typedef void phx_product_fn(phx_pool *pool, const phx_product_args *args);

/* out[r][g][c] = sum_i x[r][g][i] * W[first_row + g * group_rows + i][c], i < n_in: the product with the
 * transpose, rows of W added in ascending order. Same fields but out_act; n_out is W's columns. fp8: partial
 * sums over each 128-row scale block. Limit: (n_in / 4 + 8) * FLT_EPSILON * sum_i |x * w|. */
typedef struct phx_product_t_args {
    phx_activation x;
    int64_t x_group_stride;
    const phx_matrix *w;
    int64_t first_row;
    int64_t group_rows;
    int64_t n_groups;
    int64_t n_in; /* rows of W used per group */
    int64_t n_rows;
    float *out; /* [.][.][w->n_cols] */
    int64_t out_stride;
    int64_t out_group_stride;
} phx_product_t_args;
typedef void phx_product_t_fn(phx_pool *pool, const phx_product_t_args *args);

/* Rows of work for a list of experts. Entry j in [first[e], first[e + 1]) is one (token, expert) pair of
 * expert e; entries of an expert are in ascending token order. A dense MLP is one expert with token == NULL:
 * entry j is token j. */
typedef struct phx_expert_rows {
    int64_t n_experts;
    const int64_t *first; /* [n_experts + 1] */
    const int32_t *token; /* [first[n_experts]] row of x, or NULL for the identity */
    const float *weight;  /* [first[n_experts]] routing weight, or NULL for 1 (ffn_in ignores it) */
} phx_expert_rows;

/* out[j][n] = silu(g) * u, g = sum_k x[t][k] gate[e][n][k], u likewise with up: for every entry j = (t, e).
 * silu(g) = g / (1 + exp(-g)) with the fixed polynomial of kernels/math.h. The sums obey phx_product_fn.
 * Limit: as the two products, carried through the formula, plus 8 * FLT_EPSILON * |expected|, plus the
 * rounding of out. */
typedef struct phx_ffn_in_args {
    phx_activation x;
    /* [n_experts] pointers, each [n_out][K]; NULL where an expert has no entries here */
    const phx_matrix *const *gate;
    const phx_matrix *const *up;
    phx_expert_rows rows;
    int64_t n_tokens; /* rows of x, or 0 when the caller does not say; chooses kernels, never bits */
    int64_t n_out;
    phx_activation_out out; /* [entries][n_out] */
} phx_ffn_in_args;
typedef void phx_ffn_in_fn(phx_pool *pool, const phx_ffn_in_args *args);

/* The row-parallel product (DESIGN 7c, 7d): out[t][n] = tree over leaves of partial[leaf][t][n], where
 *   partial[leaf][t][n] = sum over t's routed entries, experts ascending, of fmaf(weight, dot, acc)   (acc
 * starts at +0) then + the fixed dot of leaf. routed dot = sum over k in [routed_bounds[leaf],
 * routed_bounds[leaf + 1]) of h[j][k] * down[e][n][k], each leaf a sum of its own; or, when expert_leaf is
 * given (ep mode), over all k, and the entry belongs to leaf expert_leaf[e] alone. fixed dot  = the same over
 * fixed_bounds for the fixed matrix (o_proj, dense or shared down), entry = token. A leaf without routed part
 * starts at its fixed dot; a leaf with neither is +0. Tree: neighbours first, balanced. Either part may be
 * absent. n_leaves is 8 / tp: 1, 2, 4 or 8. Limit: (max leaf / 16 + 16) * FLT_EPSILON * sum |weight * h * w|.
 */
typedef struct phx_leaf_sum_args {
    int64_t n_tokens;
    int64_t n_out;
    uint32_t n_leaves;
    phx_expert_rows routed;        /* n_experts 0: none */
    phx_activation h_routed;       /* [entries][K] */
    const phx_matrix *const *down; /* [n_experts] */
    const int64_t *routed_bounds;  /* [n_leaves + 1] columns, or NULL in ep mode */
    const int32_t *expert_leaf;    /* [n_experts] in ep mode, else NULL */
    const phx_matrix *fixed;       /* NULL: none */
    phx_activation h_fixed;        /* [n_tokens][K] */
    const int64_t *fixed_bounds;   /* [n_leaves + 1] columns */
    const int64_t *token_first; /* [n_tokens + 1]: entries of token t are token_entries[token_first[t]...] */
    const int32_t *token_entries; /* entry numbers j, experts ascending; both NULL without a routed part */
    float *out;                   /* [n_tokens][n_out] */
    float *parts;                 /* [n_parts] overwritten; may be absent. Chooses kernels, never bits */
    int64_t n_parts;  /* floats; log2(n_leaves) * n_out for each token, or 128 of them, are of use */
    bool rounded;     /* without a routed part: as in phx_product_args, and then all leaves are one sum */
    int64_t out_rows; /* rounded: rows of out that there are */
} phx_leaf_sum_args;
typedef void phx_leaf_sum_fn(phx_pool *pool, const phx_leaf_sum_args *args);

/* Chooses experts (models.md 2.7). logits [n_rows][n_experts] f32; score = sigmoid (or softmax); choice by
 * score + bias; groups by the sum of their two best biased scores, others excluded; ties to the lower index.
 * Ids ascending; weights are the unbiased scores in that order, divided by their sum (added ascending) when
 * norm, times scale. Ids exact away from ties; weight limit: 16 * FLT_EPSILON relative. */
typedef struct phx_route_args {
    const float *logits;
    const float *bias; /* [n_experts] or NULL */
    int64_t n_rows;
    int64_t n_experts;
    int64_t n_used;
    int64_t n_groups; /* 1: no grouping */
    int64_t n_groups_used;
    bool softmax;
    bool norm;
    float scale;
    int32_t *ids;   /* [n_rows][n_used] */
    float *weights; /* [n_rows][n_used] */
} phx_route_args;
typedef void phx_route_fn(phx_pool *pool, const phx_route_args *args);

/* The (token, expert) pairs of a step's first *n_listed tokens whose expert lies in [held_first, held_end),
 * sorted by expert and then by token: what phx_expert_rows and phx_leaf_sum_fn take. Entries past the last
 * pair are not written. Exact.
 */
typedef struct phx_list_experts_args {
    const int32_t *ids;   /* [n_tokens][n_used] ascending */
    const float *weights; /* [n_tokens][n_used] */
    int64_t n_tokens;
    int64_t n_used;
    int64_t n_experts;
    int64_t held_first;
    int64_t held_end;
    const int64_t *n_listed; /* [1], at most n_tokens, the other tokens have no pairs; NULL: all */
    int64_t *first;          /* [n_experts + 1] */
    int32_t *token;          /* [n_tokens * n_used] */
    float *weight;           /* [n_tokens * n_used] */
    int64_t *token_first;    /* [n_tokens + 1] */
    int32_t *token_entries;  /* [n_tokens * n_used] entries of each token, experts ascending */
} phx_list_experts_args;
typedef void phx_list_experts_fn(phx_pool *pool, const phx_list_experts_args *args);

/* In place per vector of d (a power of two): Hadamard transform times d^-0.5 (when hadamard), then, when fp8,
 * rounding to e4m3 with one ue8m0 scale per vector: amax = max(max|x|, 1e-4), s = 2^ceil(log2(amax / 448)) by
 * exponent bits, x = e4m3(x / s) * s (models.md 2.5). Exact given the Hadamard order: for stride h = 1, 2, 4,
 * ...: (a, b) -> (a + b, a - b). */
typedef struct phx_index_round_args {
    float *x; /* [n_vectors][d] */
    int64_t n_vectors;
    int64_t d;
    bool hadamard;
    bool fp8;
} phx_index_round_args;
typedef void phx_index_round_fn(phx_pool *pool, const phx_index_round_args *args);

/* The KV memory of one layer: entries of `width` numbers in blocks of 64 tokens. The first `n_before` entries
 * of a request are nobody's: position p as ops count it, from 0, is entry p + n_before of the request. */
typedef struct phx_cache {
    void *data; /* [n_blocks * 64][width] of dtype */
    int64_t width;
    phx_dtype dtype; /* PHX_BF16 or PHX_F32; latents also PHX_F8_E4M3 (kernels/cache.h), index keys PHX_F16 */
    int64_t n_before; /* 1 for draft layers, whose first entry belongs to token 1 */
    /* of PHX_F8_E4M3: the first numbers of an entry, which are codes; the others are bf16 */
    int64_t d_latent;
} phx_cache;

/* Where position p of the request with that block table lies. */
PHX_OPS_PLACE int64_t phx_cache_entry(const phx_cache *cache, const int32_t *blocks, int64_t p)
{
    const int64_t at = p + cache->n_before;
    return (int64_t)blocks[at / 64] * 64 + at % 64;
}

/* cache[entries[r]] = x[r], rounded to the cache's dtype, fp8 by groups of 128 with scales that are powers of
 * two (kernels/cache.h); nothing where entries[r] < 0. Exact. */
typedef struct phx_cache_write_args {
    const float *x; /* [n_rows][cache->width] */
    int64_t x_stride;
    int64_t n_rows;
    const int64_t *entries; /* [n_rows] */
    const phx_cache *cache;
} phx_cache_write_args;
typedef void phx_cache_write_fn(phx_pool *pool, const phx_cache_write_args *args);

/* cache[entries[r]] = (rms_norm of x[r][0..d_latent), rope of the other numbers as one interleaved head),
 * with the bits of rms_norm, rope and cache_write one after the other; nothing where entries[r] < 0. Limit:
 * theirs, carried through the rounding of the cache. */
typedef struct phx_latent_write_args {
    const float *x; /* [n_rows][cache->width] */
    int64_t x_stride;
    const float *weight; /* [d_latent] of the norm */
    float eps;
    int64_t n_rows;
    int64_t d_latent;         /* below cache->width */
    const int32_t *positions; /* [n_rows] */
    const float *table;       /* of phx_rope_table, for width - d_latent channels */
    const int64_t *entries;   /* [n_rows] */
    const phx_cache *cache;
} phx_latent_write_args;
typedef void phx_latent_write_fn(phx_pool *pool, const phx_latent_write_args *args);

/* out[p][c] = the cache's number first_col + c of position p, widened to f32, p < n_positions. Exact. */
typedef struct phx_cache_read_args {
    const phx_cache *cache;
    const int32_t *blocks; /* block table of one request */
    int64_t n_positions;
    int64_t first_col;
    int64_t n_cols;
    float *out; /* [n_positions][n_cols] */
} phx_cache_read_args;
typedef void phx_cache_read_fn(phx_pool *pool, const phx_cache_read_args *args);

/* scores[r][s] = sum_h (w[r][h] * w_scale) * max(0, q[r][h] . key[s]), s < n_keys[r]; the factor is one f32
 * product, heads are added in ascending order. Each score is independent of all others. Limit: (d / 8 +
 * n_heads + 8) * FLT_EPSILON * sum_h |w| * sum |q * key|. */
typedef struct phx_index_scores_args {
    const float *q; /* [n_rows][n_heads][d] */
    const float *w; /* [n_rows][n_heads] */
    float w_scale;
    const phx_cache *keys;        /* width d */
    const int32_t *const *blocks; /* [n_rows] block table of the row's request */
    const int32_t *n_keys;        /* [n_rows] */
    int64_t n_keys_max;           /* no row has more; chooses grids, never bits */
    int64_t n_rows;
    int64_t n_heads;
    float *scores; /* [n_rows][scores_stride] */
    int64_t scores_stride;
} phx_index_scores_args;
typedef void phx_index_scores_fn(phx_pool *pool, const phx_index_scores_args *args);

/* The min(n_keep, n_keys[r]) largest of scores[r][0..n_keys[r]), ties to the lower position; positions
 * ascending. Exact. */
typedef struct phx_top_positions_args {
    const float *scores;
    int64_t scores_stride;
    const int32_t *n_keys;
    int64_t n_rows;
    int64_t n_keep;
    int32_t *positions;   /* [n_rows][n_keep]; the rest of a row is -1 */
    int32_t *n_positions; /* [n_rows] */
} phx_top_positions_args;
typedef void phx_top_positions_fn(phx_pool *pool, const phx_top_positions_args *args);

/* Absorbed attention (models.md 2.3): per row r and head h over the row's positions (its list ascending, or
 * 0..n-1 when positions is NULL): p = softmax(scale * q . entry); out = sum p * entry[0..d_latent). Fixed
 * shape of the sum (DESIGN 7e): the list is cut into splits of PHX_ATTENTION_SPLIT positions; each split has
 * its own maximum m, sum l of exp(s - m) and unnormalised o; splits are merged left to right with m' = max,
 * factors exp(m - m'); at the end o / l. So list == 0..n-1 gives the bits of the dense form. Limit: (n / 64 +
 * width / 16 + 16) * FLT_EPSILON * (1 + max |score|) * max |entry|. lse = m + log(l): the log-sum-exp of the
 * scores, -inf without positions; limit (n / 64 + width / 16 + 16) * FLT_EPSILON * (1 + sum |q * entry| *
 * scale at its largest). parts: what a device has for splits that it computes apart; at least one part and
 * two floats for each row and group of PHX_ATTENTION_GROUP heads. How much there is decides who computes
 * what, never a bit. The CPU needs none. */
#define PHX_ATTENTION_SPLIT                  256
#define PHX_ATTENTION_GROUP                  16 /* heads of a part */
#define PHX_ATTENTION_PART_FLOATS(d_latent_) (PHX_ATTENTION_GROUP * ((d_latent_) + 2))
typedef struct phx_attention_args {
    const float *q; /* [n_rows][n_heads][width]: latent part, then rotary part */
    int64_t n_rows;
    int64_t n_heads;
    const phx_cache *cache;
    int64_t d_latent;
    const int32_t *const *blocks; /* [n_rows] */
    const int32_t *positions;     /* [n_rows][positions_stride] or NULL */
    int64_t positions_stride;
    const int32_t *n_positions; /* [n_rows] */
    float scale;
    phx_activation_out out; /* [n_rows][stride]; head h at h * d_latent */
    float *lse;             /* [n_rows][n_heads] or NULL */
    float *parts;           /* [n_parts] aligned to 16 bytes, overwritten; may be absent */
    int64_t n_parts;        /* floats; a part has PHX_ATTENTION_PART_FLOATS(d_latent) */
} phx_attention_args;
typedef void phx_attention_fn(phx_pool *pool, const phx_attention_args *args);

/* Expanded attention (models.md 2.2), dense causal, for the self-check and `--deterministic off`: row r
 * attends to keys 0..n_keys[r]-1 of the expanded k and v. out [n_rows][n_heads][d_v]. Limit as attention.
 * rounded: q, kv, k_rope and the weights may be rounded to bf16 before they are multiplied; then the limit
 * counts from the result of rounded operands, and 2^-8 of the largest |v| comes on top. */
typedef struct phx_attention_expanded_args {
    const float *q;        /* [n_rows][n_heads][d_nope + d_rope] */
    const float *kv;       /* [n_keys_max][n_heads][d_nope + d_v] */
    const float *k_rope;   /* [n_keys_max][d_rope] */
    const int32_t *n_keys; /* [n_rows] */
    int64_t n_rows;
    int64_t n_heads;
    int64_t d_nope;
    int64_t d_rope;
    int64_t d_v;
    float scale;
    phx_activation_out out;
    bool rounded;
    int64_t n_keys_max; /* rows of kv and k_rope, or 0 when the caller does not say; chooses kernels */
    float *parts;       /* [n_parts] aligned to 16 bytes, overwritten; may be absent; chooses kernels */
    int64_t n_parts; /* floats; for each key of a head as many as half of its columns, each filled up to 64 */
} phx_attention_expanded_args;
typedef void phx_attention_expanded_fn(phx_pool *pool, const phx_attention_expanded_args *args);

/* out[r][c] = x[r][c] rounded to out's dtype. Exact. */
typedef struct phx_round_args {
    const float *x;
    int64_t x_stride;
    int64_t n_rows;
    int64_t n_cols;
    phx_activation_out out;
} phx_round_args;
typedef void phx_round_fn(phx_pool *pool, const phx_round_args *args);

/* y[i] += x[i], i < n. Exact (one f32 addition). */
typedef struct phx_add_args {
    float *y;
    const float *x;
    int64_t n;
} phx_add_args;
typedef void phx_add_fn(phx_pool *pool, const phx_add_args *args);

/* out[i] = row rows[i] of x, n_cols numbers of x's dtype. Exact. */
typedef struct phx_pick_rows_args {
    phx_activation x;
    const int32_t *rows; /* [n_rows] */
    int64_t n_rows;
    int64_t n_cols;
    void *out; /* [n_rows][n_cols] */
} phx_pick_rows_args;
typedef void phx_pick_rows_fn(phx_pool *pool, const phx_pick_rows_args *args);

/* Log-sum-exp of each vocabulary leaf at temperature 1 and at 1 / inv_temperature, and its n_top largest
 * logits (descending, ties to the lower id). Leaf l of this rank holds local columns [bounds[l], bounds[l +
 * 1]); empty: lse = -inf, no entries. Fixed sums: PHX_ATTENTION_SPLIT-long runs merged left to right as in
 * attention. Limit of lse: 16 * FLT_EPSILON * (1 + |lse|); ids and logits exact. */
typedef struct phx_vocab_top_args {
    const float *logits; /* [n_rows][stride] local slice */
    int64_t stride;
    int64_t n_rows;
    uint32_t n_leaves;
    const int64_t *bounds;        /* [n_leaves + 1] */
    int32_t first_id;             /* global id of local column 0 */
    const float *inv_temperature; /* [n_rows] */
    int64_t n_top;
    float *lse;    /* [n_rows][n_leaves][2] */
    int32_t *ids;  /* [n_rows][n_leaves][n_top], -1 past the end */
    float *values; /* [n_rows][n_leaves][n_top] */
} phx_vocab_top_args;
typedef void phx_vocab_top_fn(phx_pool *pool, const phx_vocab_top_args *args);

/* The token of each vocabulary leaf with the largest logit * inv_temperature + noise, ties to the lower id.
 * Noise is Gumbel noise keyed by the row and the token's global id: -log(-log(u)), u = phx_rng_unit of
 * phx_rng_key(seed, choice, position, id), with phx_logf. Rows that do not draw, and empty leaves: id -1,
 * value -inf, logit 0. Exact: one product, one sum. */
typedef struct phx_noisy_top_args {
    const float *logits; /* [n_rows][stride] local slice */
    int64_t stride;
    int64_t n_rows;
    uint32_t n_leaves;
    const int64_t *bounds;        /* [n_leaves + 1] local columns */
    int32_t first_id;             /* global id of local column 0 */
    const float *inv_temperature; /* [n_rows] */
    const uint64_t *noise;        /* [n_rows][4]: seed, choice, position, 1 when the row draws */
    float *values;                /* [n_rows][n_leaves] */
    int32_t *ids;                 /* [n_rows][n_leaves] */
    float *chosen_logits;         /* [n_rows][n_leaves] */
} phx_noisy_top_args;
typedef void phx_noisy_top_fn(phx_pool *pool, const phx_noisy_top_args *args);

/* op, and a short word for tables */
#define PHX_OPS(X)        \
    X(embed)              \
    X(rms_norm)           \
    X(layer_norm)         \
    X(rope)               \
    X(product)            \
    X(product_t)          \
    X(ffn_in)             \
    X(leaf_sum)           \
    X(route)              \
    X(list_experts)       \
    X(index_round)        \
    X(cache_write)        \
    X(latent_write)       \
    X(cache_read)         \
    X(index_scores)       \
    X(top_positions)      \
    X(attention)          \
    X(attention_expanded) \
    X(round)              \
    X(add)                \
    X(pick_rows)          \
    X(vocab_top)          \
    X(noisy_top)          \
    X(feed_tokens)        \
    X(put_tokens)         \
    X(count_tokens)       \
    X(clear_counts)       \
    X(penalise)           \
    X(choose)

/* Levels of the CPU in ascending order, each including those below it; then those of devices, which stand by
 * themselves. */
#define PHX_LEVELS(X)             \
    X(PHX_LEVEL_REF, "ref")       \
    X(PHX_LEVEL_AVX2, "avx2")     \
    X(PHX_LEVEL_AVX512, "avx512") \
    X(PHX_LEVEL_CUDA, "cuda")     \
    X(PHX_LEVEL_EMU, "emu")

typedef enum phx_level {
#define X(level, name) level,
    PHX_LEVELS(X)
#undef X
        PHX_LEVEL_COUNT
} phx_level;

typedef struct phx_ops {
#define X(op) phx_##op##_fn *op;
    PHX_OPS(X)
#undef X
#define X(op) phx_level op##_level;
    PHX_OPS(X)
#undef X
} phx_ops;

/* Declares every implementation: name phx_<op>_<level>, e.g. phx_rms_norm_avx2. */
#define PHX_OP(op, level, fn) phx_##op##_fn fn;
#include "kernels/ops.list"
#undef PHX_OP

/* The best level of this machine (cpuid); the reference always exists. */
phx_level phx_level_of_machine(void);
const char *phx_level_name(phx_level level);
bool phx_level_parse(phx_str name, phx_level *ret_level);

/* Fills every slot with the highest implementation not above level, which is one of the CPU. */
void phx_ops_choose(phx_level level, phx_ops *ret_ops);

/* The packing (phx_matrix.pack) that product, product_t, ffn_in and leaf_sum like best for fp8 weights; 0:
 * none. Every level of the CPU takes row major weights too, and the reference any packing. */
int32_t phx_ops_pack(const phx_ops *ops);

/* "rms_norm=avx2 product=avx2 ...": printed at start, part of the numerics profile. */
void phx_ops_print(const phx_ops *ops, phx_buf *buf);

/* [n_positions][n_freqs][cos, sin]: angles p * f as f32 products (models.md 2.4), sine and cosine by our own
 * fixed polynomials in double, so that tables are equal on every machine. cos_sin_scale: YaRN's ratio, 1 for
 * all known models. */
void phx_rope_table(const double *freqs, int64_t n_freqs, int64_t n_positions, double cos_sin_scale,
                    float *ret_table);

#endif
