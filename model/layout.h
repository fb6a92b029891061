/* model/layout.h - tp, pp and ep of a group, and who owns which leaf, layer and expert.
 * Owns: phx_leaf_bounds, the one function that planner, loader, executor and kernels share (DESIGN 7c). */
#ifndef PHX_MODEL_LAYOUT_H
#define PHX_MODEL_LAYOUT_H

#include "base/limits.h"
#include "base/status.h"
#include "model/dims.h"
#include "model/numerics.h"

#define PHX_LEAVES 8u
#define PHX_PP_MAX 16u

typedef struct phx_layout {
    uint32_t tp;
    uint32_t pp;
    phx_expert_mode experts;             /* PHX_EXPERTS_EP: whole experts per rank, ep = tp */
    int32_t layer_first[PHX_PP_MAX + 1]; /* stage s holds layers [layer_first[s], layer_first[s + 1]) */
} phx_layout;

typedef struct phx_range {
    int64_t first;
    int64_t end; /* exclusive */
} phx_range;

static inline int64_t phx_range_n(phx_range range)
{
    return range.end - range.first;
}

/* Leaf i of n_units units: [floor(i n / 8), floor((i + 1) n / 8)). */
phx_range phx_leaf_bounds(int64_t n_units, uint32_t leaf);

/* Units of leaves owned by tp rank r: leaves [r * 8 / tp, (r + 1) * 8 / tp). tp divides 8, or (other tp,
 * where offered) plain equal shares floor(r n / tp). */
phx_range phx_tp_range(int64_t n_units, uint32_t tp, uint32_t tp_rank);

/* The leaf unit, in columns, of a down projection with n_cols inputs stored in format: the smaller of the
 * scale group (32 without one) and the largest power of two <= n_cols / 8, at least 1. */
int64_t phx_ff_unit(int64_t n_cols, phx_format format);

/* Columns of a down projection in leaf `leaf`, and on a tensor-parallel rank (rows of the matching gate and
 * up): units of phx_ff_unit, the last one may be partial. */
phx_range phx_ff_leaf(int64_t n_cols, phx_format format, uint32_t leaf);
phx_range phx_ff_range(int64_t n_cols, phx_format format, uint32_t tp, uint32_t tp_rank);

/* Text "4", "4:0,3,20,41": number of stages and optional first layers. Cuts ascending, first 0, each stage
 * non-empty. Without cuts layers are balanced by weight bytes per layer (dense layers are light,
 * models.md 4.4). */
phx_code phx_layout_parse_pp(phx_str text, const phx_dims *dims, phx_layout *layout, phx_error *err);

/* One stage, tp 1, experts in tp mode. */
void phx_layout_single(const phx_dims *dims, phx_layout *ret_layout);

/* Refuses with the reason: tp that does not divide 8, more ranks than heads, fewer layers than stages, ... */
phx_code phx_layout_check(const phx_layout *layout, const phx_dims *dims, phx_error *err);

/* Does the stage begin inside a run of layers that share an indexer's selection? Then the stage before it
 * sends the selection along. */
bool phx_stage_shares_index(const phx_layout *layout, const phx_dims *dims, uint32_t stage);

static inline uint32_t phx_layout_n_ranks(const phx_layout *layout)
{
    return layout->tp * layout->pp;
}

/* rank = stage * tp + tp_rank */
static inline uint32_t phx_layout_stage(const phx_layout *layout, uint32_t rank)
{
    return rank / layout->tp;
}

static inline uint32_t phx_layout_tp_rank(const phx_layout *layout, uint32_t rank)
{
    return rank % layout->tp;
}

#endif
