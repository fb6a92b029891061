/* model/synth_fill.h - the numbers of one synthetic tensor; used by model/synth.c, which writes them, and by
 * worker/weights.c, which can make them in place. */
#ifndef PHX_MODEL_SYNTH_FILL_H
#define PHX_MODEL_SYNTH_FILL_H

#include "model/family.h"
#include "model/synth.h"

#define PHX_SYNTH_BITS 16 /* one draw: an index into the tables */

/* Tables over the quantiles of the normal distribution. */
typedef struct phx_synth_tables {
    float normal[1 << PHX_SYNTH_BITS];
    uint8_t e4m3[1 << PHX_SYNTH_BITS]; /* normal, scaled so that the extremes come near 448 */
    uint8_t int4[1 << PHX_SYNTH_BITS]; /* normal, scaled as if by groups of 32, plus 8 */
} phx_synth_tables;

void phx_synth_tables_init(phx_synth_tables *tables);

/* One tensor: element i depends on key and i alone. */
typedef struct phx_synth_source {
    uint64_t key;
    phx_role role;
    phx_dtype dtype;
    float sd;      /* standard deviation of a matrix; 0 for vectors, which go by role */
    bool is_scale; /* scales of an fp8 matrix or, as bf16, of an int4 one */
    bool powers_of_two;
    bool is_shape; /* the elements are those of shape */
    int32_t shape[2];
} phx_synth_source;

/* What phx_synth_write gives a tensor, or its block scales. dims, format and seed of the request count. */
phx_synth_source phx_synth_source_of(const phx_synth_request *request, const phx_tensor_id *id,
                                     bool is_scale);

/* Elements [first, first + n) into to. An I32 element holds eight int4 weights. */
void phx_synth_fill(const phx_synth_tables *tables, const phx_synth_source *source, uint64_t first, size_t n,
                    void *to);

#endif
