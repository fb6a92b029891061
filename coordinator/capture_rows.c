/* coordinator/capture_rows.c - how many rows of captured tensors a group sends for one token of the prompt.
 * Ranks send their parts on sockets of their own, so the last stage's result may overtake them: only the
 * count tells when a capture is complete. Mirrors what worker/exec hands to its sink. */
#include "coordinator/engine_private.h"

uint64_t phx_capture_rows(const phx_plan *plan, uint32_t mask)
{
    const phx_layout *layout = &plan->request.layout;
    const phx_dims *dims = phx_checkpoint_dims(plan->checkpoint);
    const uint64_t n_layers = (uint64_t)dims->n_layers;
    const uint64_t n_moe = dims->n_experts > 0 ? n_layers - (uint64_t)dims->n_layers_dense : 0;
    const uint64_t n_indexed = dims->index_n_heads > 0 ? n_layers : 0;
    uint64_t n = 0;
    if (mask & PHX_CAPTURE_LOGITS) /* each rank of the last stage its slice of the vocabulary */
        n += layout->tp;
    if (mask & PHX_CAPTURE_HIDDEN) /* the embedding and the final norm too */
        n += n_layers + 2;
    if (mask & PHX_CAPTURE_TOPK)
        n += n_indexed;
    if (mask & PHX_CAPTURE_INDEX_SCORES)
        n += n_indexed;
    if (mask & PHX_CAPTURE_EXPERTS) /* ids and weights */
        n += 2 * n_moe;
    return n;
}
