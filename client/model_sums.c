/* client/model_sums.c - tensors, parameters and bytes of a checkpoint, added up. */
#include "client/model_sums.h"

static void add(phx_model_sum *to, const phx_model_sum *one)
{
    to->n_tensors += one->n_tensors;
    to->n_parameters += one->n_parameters;
    to->n_bytes += one->n_bytes;
}

/* Of routed experts the first stands for all that a token chooses: they are alike. */
static void add_active(const phx_dims *dims, const phx_ck_tensor *tensor, const phx_model_sum *one,
                       phx_model_sums *to)
{
    const phx_role role = tensor->id.rule->role;
    uint64_t times = 1;
    if (tensor->id.expert >= 0)
        times = tensor->id.expert == 0 ? (uint64_t)dims->n_experts_used : 0;
    to->n_active += one->n_parameters * times;
    if (role != PHX_ROLE_EMBED && role != PHX_ROLE_HEAD)
        to->n_linear += one->n_parameters * times;
    if (role == PHX_ROLE_EMBED && !dims->tie_embeddings)
        to->n_active_bytes += one->n_bytes / (uint64_t)tensor->n_rows;
    else
        to->n_active_bytes += one->n_bytes * times;
}

phx_model_sums phx_model_sum_up(const phx_checkpoint *checkpoint)
{
    const phx_dims *dims = phx_checkpoint_dims(checkpoint);
    phx_model_sums all = {0};
    for (size_t i = 0; i < phx_checkpoint_count(checkpoint); i++) {
        const phx_ck_tensor *tensor = phx_checkpoint_at(checkpoint, i);
        if (!tensor->data)
            continue;
        const phx_model_sum one = {1, (uint64_t)tensor->n_rows * (uint64_t)tensor->n_cols,
                                   tensor->data->n_bytes + (tensor->scales ? tensor->scales->n_bytes : 0)};
        add(&all.by_format[tensor->format], &one);
        if (tensor->id.layer >= dims->n_layers) {
            add(&all.mtp, &one);
        } else {
            add(&all.main, &one);
            add_active(dims, tensor, &one, &all);
        }
    }
    return all;
}
