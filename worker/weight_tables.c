/* worker/weight_tables.c - the tables of matrices and leaf bounds that kernels read. */
#include "worker/weight_tables.h"

#include "base/alloc.h"

phx_code phx_weight_tables_create(const phx_weights *weights, size_t n_experts, bool ep,
                                  phx_weight_tables **ret_tables, phx_error *err)
{
    phx_weight_tables *tables = phx_alloc(1, sizeof(*tables));
    if (!tables)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "weight tables");
    tables->n_layers = (size_t)weights->n_layers;
    tables->n_experts = n_experts;
    const size_t n = tables->n_layers * n_experts * PHX_TABLE_PARTS;
    const phx_slot slots[] = {
        PHX_SLOT(tables, layers, tables->n_layers),
        PHX_SLOT(tables, experts, n),
        PHX_SLOT(tables, of_expert, n),
        PHX_SLOT(tables, expert_leaf, ep ? n_experts : 0),
        PHX_SLOT(tables, vocab_bounds, PHX_LEAVES + 1u),
    };
    const phx_code rc = phx_arena_create(slots, sizeof(slots) / sizeof(slots[0]), &tables->arena, err);
    if (rc == PHX_OK)
        *ret_tables = tables;
    else
        phx_free(tables);
    return rc;
}

/* Pointers inside the tables lead from table to table. */
static void link_tables(phx_weight_tables *tables, const phx_weights *weights)
{
    for (size_t l = 0; l < tables->n_layers; l++) {
        const phx_layer_weights *w = &weights->layers[l];
        phx_layer_tables *t = &tables->layers[l];
        t->fixed[0] = w->gate;
        t->fixed[1] = w->up;
        t->fixed_gate[0] = &t->fixed[0];
        t->fixed_up[0] = &t->fixed[1];
        for (size_t e = 0; e < tables->n_experts; e++) {
            for (size_t part = 0; part < PHX_TABLE_PARTS; part++) {
                const phx_matrix *m = phx_weight_tables_expert(tables, l, e, part);
                tables->of_expert[(l * PHX_TABLE_PARTS + part) * tables->n_experts + e] = m->data ? m : NULL;
            }
        }
    }
}

/* Where something in the tables lies for the kernels: itself, or the same place in the copy. */
static const void *place_of(const phx_weight_tables *tables, const void *in_tables)
{
    if (!tables->copy || !in_tables)
        return in_tables;
    return (const uint8_t *)tables->copy + ((const uint8_t *)in_tables - (const uint8_t *)tables->layers);
}

/* Copies the block, its inner pointers led to the copy. */
static phx_code copy_tables(phx_weight_tables *tables, phx_backend *backend, phx_error *err)
{
    const size_t n_bytes = phx_arena_size(tables->arena);
    phx_code rc = phx_device_take(backend, n_bytes, &tables->copy, err);
    if (rc != PHX_OK)
        return rc;
    for (size_t l = 0; l < tables->n_layers; l++) {
        phx_layer_tables *t = &tables->layers[l];
        t->fixed_gate[0] = place_of(tables, t->fixed_gate[0]);
        t->fixed_up[0] = place_of(tables, t->fixed_up[0]);
    }
    for (size_t i = 0; i < tables->n_layers * tables->n_experts * PHX_TABLE_PARTS; i++)
        tables->of_expert[i] = place_of(tables, tables->of_expert[i]);
    rc = phx_upload(backend, tables->copy, tables->layers, n_bytes, err);
    return rc == PHX_OK ? phx_sync(backend, err) : rc;
}

phx_code phx_weight_tables_publish(phx_weight_tables *tables, phx_weights *weights, phx_error *err)
{
    link_tables(tables, weights);
    if (weights->backend->device) {
        const phx_code rc = copy_tables(tables, weights->backend, err);
        if (rc != PHX_OK)
            return rc;
    }
    for (size_t l = 0; l < tables->n_layers; l++) {
        phx_layer_weights *w = &weights->layers[l];
        const phx_layer_tables *t = &tables->layers[l];
        const phx_matrix **parts = tables->of_expert + l * PHX_TABLE_PARTS * tables->n_experts;
        w->fixed_gate = place_of(tables, t->fixed_gate);
        w->fixed_up = place_of(tables, t->fixed_up);
        w->fixed_bounds = place_of(tables, t->fixed_bounds);
        w->routed_bounds = place_of(tables, t->routed_bounds);
        w->o_bounds = place_of(tables, t->o_bounds);
        if (!w->moe)
            continue;
        w->expert_gate = place_of(tables, parts + PHX_TABLE_GATE * tables->n_experts);
        w->expert_up = place_of(tables, parts + PHX_TABLE_UP * tables->n_experts);
        w->expert_down = place_of(tables, parts + PHX_TABLE_DOWN * tables->n_experts);
    }
    weights->expert_leaf = place_of(tables, tables->expert_leaf);
    weights->vocab_bounds = place_of(tables, tables->vocab_bounds);
    return PHX_OK;
}

void phx_weight_tables_destroy(phx_weight_tables *tables, phx_backend *backend)
{
    if (!tables)
        return;
    phx_device_give(backend, tables->copy, phx_arena_size(tables->arena));
    phx_arena_destroy(tables->arena);
    phx_free(tables);
}
