/* worker/weight_tables.h - the tables of matrices and leaf bounds that kernels read.
 * Owns: one block that the host fills and, where there is a device, its copy there. Used by weights.c alone.
 */
#ifndef PHX_WORKER_WEIGHT_TABLES_H
#define PHX_WORKER_WEIGHT_TABLES_H

#include "worker/weights.h"

enum { PHX_TABLE_GATE, PHX_TABLE_UP, PHX_TABLE_DOWN, PHX_TABLE_PARTS };

typedef struct phx_layer_tables { /* of one layer */
    phx_matrix fixed[2];          /* gate, up */
    const phx_matrix *fixed_gate[1];
    const phx_matrix *fixed_up[1];
    int64_t fixed_bounds[PHX_LEAVES + 1];
    int64_t routed_bounds[PHX_LEAVES + 1];
    int64_t o_bounds[PHX_LEAVES + 1];
} phx_layer_tables;

typedef struct phx_weight_tables {
    phx_layer_tables *layers;     /* [n_layers] */
    phx_matrix *experts;          /* [n_layers][n_experts][PHX_TABLE_PARTS]; data NULL where not held */
    const phx_matrix **of_expert; /* [n_layers][PHX_TABLE_PARTS][n_experts] pointers into experts, or NULL */
    int32_t *expert_leaf;         /* [n_experts], ep mode */
    int64_t *vocab_bounds;        /* [PHX_LEAVES + 1] */
    size_t n_layers;
    size_t n_experts;
    phx_arena *arena; /* of the host, layers first */
    void *copy;       /* on the device */
} phx_weight_tables;

/* Empty tables for the layers of weights; the caller fills them. */
phx_code phx_weight_tables_create(const phx_weights *weights, size_t n_experts, bool ep,
                                  phx_weight_tables **ret_tables, phx_error *err);

/* When they are filled: sets every table pointer of weights, to the tables or to their copy on the device. */
phx_code phx_weight_tables_publish(phx_weight_tables *tables, phx_weights *weights, phx_error *err);
void phx_weight_tables_destroy(phx_weight_tables *tables, phx_backend *backend); /* accepts NULL tables */

static inline phx_matrix *phx_weight_tables_expert(const phx_weight_tables *tables, size_t layer,
                                                   size_t expert, size_t part)
{
    return &tables->experts[(layer * tables->n_experts + expert) * PHX_TABLE_PARTS + part];
}

#endif
