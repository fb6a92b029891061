/* model/layout.c - leaves, shares and pipeline cuts. */
#include "model/layout.h"

#include <assert.h>

#include "base/alloc.h"
#include "model/family.h"

#define PLAIN_UNIT 32 /* columns; DESIGN 7c, for formats without a scale group */

phx_range phx_leaf_bounds(int64_t n_units, uint32_t leaf)
{
    assert(n_units >= 0);
    assert(leaf < PHX_LEAVES);
    return (phx_range){leaf * n_units / PHX_LEAVES, (leaf + 1) * n_units / PHX_LEAVES};
}

phx_range phx_tp_range(int64_t n_units, uint32_t tp, uint32_t tp_rank)
{
    assert(tp >= 1);
    assert(tp_rank < tp);
    if (PHX_LEAVES % tp != 0)
        return (phx_range){tp_rank * n_units / tp, (tp_rank + 1) * n_units / tp};
    const uint32_t n_leaves = PHX_LEAVES / tp;
    const phx_range first = phx_leaf_bounds(n_units, tp_rank * n_leaves);
    const phx_range last = phx_leaf_bounds(n_units, tp_rank * n_leaves + n_leaves - 1);
    return (phx_range){first.first, last.end};
}

int64_t phx_ff_unit(int64_t n_cols, phx_format format)
{
    const int64_t block = phx_format_block(format);
    const int64_t largest = block > 0 ? block : PLAIN_UNIT;
    int64_t unit = 1;
    while (unit * 2 <= n_cols / PHX_LEAVES && unit * 2 <= largest)
        unit *= 2;
    return unit;
}

static phx_range columns_of(phx_range units, int64_t unit, int64_t n_cols)
{
    const int64_t first = units.first * unit;
    const int64_t end = units.end * unit;
    return (phx_range){first < n_cols ? first : n_cols, end < n_cols ? end : n_cols};
}

phx_range phx_ff_leaf(int64_t n_cols, phx_format format, uint32_t leaf)
{
    const int64_t unit = phx_ff_unit(n_cols, format);
    return columns_of(phx_leaf_bounds((n_cols + unit - 1) / unit, leaf), unit, n_cols);
}

phx_range phx_ff_range(int64_t n_cols, phx_format format, uint32_t tp, uint32_t tp_rank)
{
    const int64_t unit = phx_ff_unit(n_cols, format);
    return columns_of(phx_tp_range((n_cols + unit - 1) / unit, tp, tp_rank), unit, n_cols);
}

void phx_layout_single(const phx_dims *dims, phx_layout *ret_layout)
{
    *ret_layout = (phx_layout){.tp = 1, .pp = 1, .experts = PHX_EXPERTS_TP};
    ret_layout->layer_first[1] = (int32_t)dims->n_layers;
}

/* ---- pipeline cuts ---- */

typedef struct layer_costs {
    uint64_t layers[PHX_LAYERS_MAX + 1]; /* [l]: bytes of the layers before l */
    uint64_t first;                      /* embedding */
    uint64_t last;                       /* norm and head; MTP layers are optional and not counted */
} layer_costs;

typedef struct cost_walk {
    const phx_dims *dims;
    layer_costs *costs;
} cost_walk;

/* Bytes as if everything that may be quantised were one byte per number: only the proportions matter. */
static phx_code visit_cost(void *user, const phx_tensor_id *id, phx_error *err)
{
    const cost_walk *walk = user;
    const phx_tensor_rule *rule = id->rule;
    const uint64_t n = (uint64_t)rule->n_rows(walk->dims) * (uint64_t)rule->n_cols(walk->dims);
    const uint64_t n_bytes = n * (rule->quantised ? 1 : 2);
    (void)err;
    if (rule->where == PHX_WHERE_FIRST)
        walk->costs->first += n_bytes;
    else if (rule->where == PHX_WHERE_LAST)
        walk->costs->last += n_bytes;
    else if (id->layer < walk->dims->n_layers)
        walk->costs->layers[id->layer + 1] += n_bytes;
    return PHX_OK;
}

/* worst[end]: bytes of the heaviest stage when layers [0, end) form the number of stages of the current row.
 */
typedef struct balance {
    uint64_t worst[PHX_LAYERS_MAX + 1];
    int32_t cut[PHX_PP_MAX][PHX_LAYERS_MAX + 1]; /* first layer of the last of the stages */
} balance;

static uint64_t stage_cost(const layer_costs *costs, int64_t first, int64_t end, int64_t n_layers)
{
    return costs->layers[end] - costs->layers[first] + (first == 0 ? costs->first : 0) +
           (end == n_layers ? costs->last : 0);
}

/* The cuts with the smallest heaviest stage; among equals the earliest cuts. */
static phx_code balance_stages(const phx_dims *dims, uint32_t pp, int32_t *layer_first, phx_error *err)
{
    phx_code rc = PHX_OK;
    const int64_t n = dims->n_layers;
    const phx_family *family = phx_family_find(dims->model_type);
    layer_costs *costs = phx_alloc(1, sizeof(*costs));
    balance *best = phx_alloc(1, sizeof(*best));
    if (!costs || !best) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "balancing of %u stages", pp);
        goto out;
    }
    assert(family); /* phx_dims_parse refuses others */
    assert(n <= PHX_LAYERS_MAX);
    cost_walk walk = {dims, costs};
    rc = phx_family_each(family, dims, visit_cost, &walk, err);
    if (rc != PHX_OK)
        goto out;
    for (int64_t l = 0; l < n; l++)
        costs->layers[l + 1] += costs->layers[l];
    for (int64_t end = 1; end <= n; end++)
        best->worst[end] = stage_cost(costs, 0, end, n);
    for (uint32_t s = 1; s < pp; s++) {
        for (int64_t end = n; end > s; end--) { /* downwards: worst[] still holds the row before */
            uint64_t least = UINT64_MAX;
            for (int64_t first = s; first < end; first++) {
                const uint64_t mine = stage_cost(costs, first, end, n);
                const uint64_t worst = mine > best->worst[first] ? mine : best->worst[first];
                if (worst < least) {
                    least = worst;
                    best->cut[s][end] = (int32_t)first;
                }
            }
            best->worst[end] = least;
        }
    }
    layer_first[pp] = (int32_t)n;
    for (uint32_t s = pp - 1; s > 0; s--)
        layer_first[s] = best->cut[s][layer_first[s + 1]];
    layer_first[0] = 0;
out:
    phx_free(best);
    phx_free(costs);
    return rc;
}

static phx_code parse_cuts(phx_str text, uint32_t pp, int64_t n_layers, int32_t *layer_first, phx_error *err)
{
    uint32_t n = 0;
    for (size_t at = 0; at <= text.n; at++) {
        const char *comma = at < text.n ? memchr(text.ptr + at, ',', text.n - at) : NULL;
        const size_t end = comma ? (size_t)(comma - text.ptr) : text.n;
        uint64_t first;
        if (n == pp || !phx_str_to_u64((phx_str){text.ptr + at, end - at}, 0, (uint64_t)n_layers - 1, &first))
            return PHX_FAIL(
                err, PHX_ERR_INVALID,
                "pipeline cuts '%.*s': write the first layer of each of the %u stages, below %lld",
                PHX_STR_ARG(text), pp, (long long)n_layers);
        layer_first[n++] = (int32_t)first;
        at = end;
    }
    layer_first[n] = (int32_t)n_layers;
    if (n != pp)
        return PHX_FAIL(err, PHX_ERR_INVALID, "pipeline cuts '%.*s' name %u stages, not %u",
                        PHX_STR_ARG(text), n, pp);
    return PHX_OK;
}

static phx_code check_cuts(const phx_layout *layout, const phx_dims *dims, phx_error *err)
{
    if (layout->pp < 1 || layout->pp > PHX_PP_MAX)
        return PHX_FAIL(err, PHX_ERR_INVALID, "pp %u: there may be 1 to %u stages", layout->pp, PHX_PP_MAX);
    if (layout->pp > dims->n_layers)
        return PHX_FAIL(err, PHX_ERR_INVALID, "pp %u: the model has only %lld layers", layout->pp,
                        (long long)dims->n_layers);
    if (layout->layer_first[0] != 0 || layout->layer_first[layout->pp] != dims->n_layers)
        return PHX_FAIL(err, PHX_ERR_INVALID, "pipeline cuts must begin at layer 0");
    for (uint32_t s = 0; s < layout->pp; s++) {
        if (layout->layer_first[s] >= layout->layer_first[s + 1])
            return PHX_FAIL(err, PHX_ERR_INVALID, "pipeline stage %u holds no layer: cuts must ascend", s);
    }
    return PHX_OK;
}

phx_code phx_layout_parse_pp(phx_str text, const phx_dims *dims, phx_layout *layout, phx_error *err)
{
    phx_layout parsed = *layout;
    const char *colon = text.n ? memchr(text.ptr, ':', text.n) : NULL;
    const phx_str number = {text.ptr, colon ? (size_t)(colon - text.ptr) : text.n};
    uint64_t pp;
    if (!phx_str_to_u64(number, 1, PHX_PP_MAX, &pp))
        return PHX_FAIL(err, PHX_ERR_INVALID, "pp '%.*s' is no number of stages between 1 and %u",
                        PHX_STR_ARG(text), PHX_PP_MAX);
    parsed.pp = (uint32_t)pp;
    if (parsed.pp > dims->n_layers)
        return PHX_FAIL(err, PHX_ERR_INVALID, "pp %u: the model has only %lld layers", parsed.pp,
                        (long long)dims->n_layers);
    memset(parsed.layer_first, 0, sizeof(parsed.layer_first));
    phx_code rc;
    if (colon) {
        const phx_str cuts = {colon + 1, text.n - number.n - 1};
        rc = parse_cuts(cuts, parsed.pp, dims->n_layers, parsed.layer_first, err);
    } else {
        rc = balance_stages(dims, parsed.pp, parsed.layer_first, err);
    }
    if (rc == PHX_OK)
        rc = check_cuts(&parsed, dims, err);
    if (rc == PHX_OK)
        *layout = parsed;
    return rc;
}

bool phx_stage_shares_index(const phx_layout *layout, const phx_dims *dims, uint32_t stage)
{
    assert(stage < layout->pp);
    return phx_dims_index_shared(dims, layout->layer_first[stage]);
}

phx_code phx_layout_check(const phx_layout *layout, const phx_dims *dims, phx_error *err)
{
    const uint32_t tp = layout->tp;
    if (tp == 0 || PHX_LEAVES % tp != 0)
        return PHX_FAIL(err, PHX_ERR_INVALID, "%s %u: supported are 1, 2, 4 and 8",
                        layout->experts == PHX_EXPERTS_EP && tp != 1 ? "tp or ep" : "tp", tp);
    const phx_code rc = check_cuts(layout, dims, err);
    if (rc != PHX_OK)
        return rc;
    if (tp * layout->pp > PHX_RANKS_MAX)
        return PHX_FAIL(err, PHX_ERR_INVALID, "tp %u x pp %u: at most %u ranks", tp, layout->pp,
                        PHX_RANKS_MAX);
    if (tp > dims->n_heads)
        return PHX_FAIL(err, PHX_ERR_INVALID, "tp %u: the model has only %lld attention heads", tp,
                        (long long)dims->n_heads);
    if (tp > dims->n_vocab)
        return PHX_FAIL(err, PHX_ERR_INVALID, "tp %u: the vocabulary has only %lld entries", tp,
                        (long long)dims->n_vocab);
    if (layout->experts == PHX_EXPERTS_EP && tp > dims->n_experts)
        return PHX_FAIL(err, PHX_ERR_INVALID,
                        "expert parallel over %u ranks: the model has only %lld experts", tp,
                        (long long)dims->n_experts);
    return PHX_OK;
}
