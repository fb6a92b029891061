/* model/plan.c - building a plan: check the request, share out the tensors, fit the memory, hash. */
#include "model/plan.h"

#include <unistd.h>

#include "base/alloc.h"
#include "model/plan_impl.h"

#define BATCH_MAX       1024u
#define STEP_TOKENS_MAX 16384u
#define THREADS_MAX     256u

static phx_code check_request(const phx_checkpoint *checkpoint, const phx_plan_request *request,
                              phx_error *err);
static phx_hash hash_plan(const phx_plan *plan);

void phx_plan_request_default(phx_plan_request *ret_request)
{
    *ret_request = (phx_plan_request){.n_batch = 32, .n_step_tokens = 512};
    ret_request->layout = (phx_layout){.tp = 1, .pp = 1, .experts = PHX_EXPERTS_TP};
    phx_numerics_preset(PHX_PROFILE_SERVING, &ret_request->numerics);
}

phx_code phx_plan_build(const phx_checkpoint *checkpoint, const phx_plan_request *request,
                        phx_plan **ret_plan, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_plan *plan = phx_alloc(1, sizeof(*plan));
    if (!plan) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "plan");
        goto out;
    }
    plan->request = *request;
    plan->checkpoint = checkpoint;
    /* One stage needs no cuts; so the default request works for every model. */
    if (plan->request.layout.pp == 1)
        plan->request.layout.layer_first[1] = (int32_t)phx_checkpoint_dims(checkpoint)->n_layers;
    rc = check_request(checkpoint, &plan->request, err);
    if (rc != PHX_OK)
        goto out;
    plan->n_ranks = phx_layout_n_ranks(&plan->request.layout);
    if (plan->request.n_threads == 0) {
        const long n_cores = sysconf(_SC_NPROCESSORS_ONLN);
        const uint32_t share = n_cores > 0 ? (uint32_t)n_cores / plan->n_ranks : 1;
        plan->request.n_threads = share < 1 ? 1 : share > THREADS_MAX ? THREADS_MAX : share;
    }
    rc = phx_plan_make_ranks(plan, err);
    if (rc != PHX_OK)
        goto out;
    rc = phx_plan_fit(plan, err);
    if (rc != PHX_OK)
        goto out;
    plan->hash = hash_plan(plan);
    *ret_plan = plan;
    plan = NULL;
out:
    phx_plan_destroy(plan);
    return rc;
}

void phx_plan_destroy(phx_plan *plan)
{
    if (!plan)
        return;
    phx_plan_free_ranks(plan);
    phx_free(plan);
}

static phx_code check_request(const phx_checkpoint *checkpoint, const phx_plan_request *request,
                              phx_error *err)
{
    const phx_dims *dims = phx_checkpoint_dims(checkpoint);
    const phx_code rc = phx_layout_check(&request->layout, dims, err);
    if (rc != PHX_OK)
        return rc;
    if (phx_checkpoint_count_all(checkpoint).n_missing > 0)
        return PHX_FAIL(err, PHX_ERR_CORRUPT,
                        "'%s': tensor '%s' is missing: cannot plan an incomplete checkpoint",
                        phx_checkpoint_dir(checkpoint), phx_checkpoint_missing(checkpoint, 0).ptr);
    if (request->layout.experts != request->numerics.experts)
        return PHX_FAIL(err, PHX_ERR_INVALID, "layout and numerics name different expert modes");
    if (request->n_batch < 1 || request->n_batch > BATCH_MAX)
        return PHX_FAIL(err, PHX_ERR_INVALID, "max-batch %u is outside 1 .. %u", request->n_batch, BATCH_MAX);
    if (request->n_step_tokens < request->n_batch || request->n_step_tokens > STEP_TOKENS_MAX)
        return PHX_FAIL(err, PHX_ERR_INVALID, "step tokens %u are outside %u (max-batch) .. %u",
                        request->n_step_tokens, request->n_batch, STEP_TOKENS_MAX);
    if (request->n_threads > THREADS_MAX)
        return PHX_FAIL(err, PHX_ERR_INVALID, "%u threads per rank: at most %u", request->n_threads,
                        THREADS_MAX);
    if (request->n_context == 1)
        return PHX_FAIL(err, PHX_ERR_INVALID, "context 1: at least 2, a token and the one that follows");
    if (request->n_context > dims->n_positions)
        return PHX_FAIL(err, PHX_ERR_INVALID, "context %u: the model was made for at most %lld positions",
                        request->n_context, (long long)dims->n_positions);
    if (request->n_drafts && dims->n_layers_mtp == 0)
        return PHX_FAIL(err, PHX_ERR_INVALID, "'%s' holds no MTP layers: leave --mtp off",
                        phx_checkpoint_dir(checkpoint));
    return PHX_OK;
}

static void hash_range(phx_hasher *hasher, phx_range range)
{
    phx_hasher_add_u64(hasher, (uint64_t)range.first);
    phx_hasher_add_u64(hasher, (uint64_t)range.end);
}

static void hash_rank(phx_hasher *hasher, const phx_rank_plan *rank)
{
    hash_range(hasher, rank->layers);
    hash_range(hasher, rank->heads);
    hash_range(hasher, rank->vocab);
    hash_range(hasher, rank->experts);
    phx_hasher_add_u64(hasher, rank->n_slices);
    for (size_t i = 0; i < rank->n_slices; i++) {
        const phx_plan_slice *slice = &rank->slices[i];
        const phx_tensor_id *id = &slice->tensor->id;
        phx_hasher_add_u64(hasher, (uint64_t)id->rule->role << 48 | (uint64_t)(uint16_t)id->layer << 32 |
                                       (uint32_t)id->expert);
        phx_hasher_add_u64(hasher, slice->tensor->format);
        hash_range(hasher, slice->rows);
        hash_range(hasher, slice->cols);
        phx_hasher_add_u64(hasher, slice->data_bytes);
        phx_hasher_add_u64(hasher, slice->scale_bytes);
    }
#define X(field, text) phx_hasher_add_u64(hasher, rank->field##_bytes);
    PHX_ACCOUNT(X)
#undef X
}

/* memory_bytes stays out: it may differ between machines that hold the same plan; what follows
 * from it (blocks, buffers) is in. */
static phx_hash hash_plan(const phx_plan *plan)
{
    const phx_plan_request *request = &plan->request;
    const phx_hash checkpoint = phx_checkpoint_hash(plan->checkpoint);
    const phx_hash numerics = phx_numerics_hash(&request->numerics);
    phx_hasher hasher;
    phx_hasher_init(&hasher);
    phx_hasher_add(&hasher, checkpoint.bytes, sizeof(checkpoint.bytes));
    phx_hasher_add(&hasher, numerics.bytes, sizeof(numerics.bytes));
    phx_hasher_add_u64(&hasher, request->layout.tp);
    phx_hasher_add_u64(&hasher, request->layout.pp);
    phx_hasher_add_u64(&hasher, request->layout.experts);
    for (uint32_t s = 0; s <= request->layout.pp; s++)
        phx_hasher_add_u64(&hasher, (uint64_t)request->layout.layer_first[s]);
    phx_hasher_add_u64(&hasher, request->n_batch);
    phx_hasher_add_u64(&hasher, request->n_step_tokens);
    phx_hasher_add_u64(&hasher, request->n_drafts);
    phx_hasher_add_u64(&hasher, plan->n_blocks);
    phx_hasher_add_u64(&hasher, plan->n_context);
    for (uint32_t r = 0; r < plan->n_ranks; r++)
        hash_rank(&hasher, &plan->ranks[r]);
    return phx_hasher_final(&hasher);
}
