/* model/plan_fit.c - how long a context and how many blocks the memory of a rank allows.
 * Also the only place that asks the machine what it has. */
#include "model/plan_impl.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/file.h"

#define RESERVE_MIN ((uint64_t)512 << 20)
#define RESERVE_MAX ((uint64_t)16 << 30)
#define BLOCKS_MAX  ((uint64_t)1 << 30)

/* A tenth, between 512 MiB and 16 GiB, stays with the system, the coordinator and the page cache. */
static phx_code machine_bytes(uint64_t *ret_bytes, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_buf buf;
    phx_buf_init(&buf, 1u << 16);
    rc = phx_file_read("/proc/meminfo", &buf, err);
    if (rc != PHX_OK)
        goto out;
    const char *at = strstr(buf.ptr, "MemAvailable:");
    uint64_t kib = 0;
    for (at = at ? at + strlen("MemAvailable:") : ""; *at == ' '; at++)
        ;
    size_t n_digits = 0;
    while (at[n_digits] >= '0' && at[n_digits] <= '9')
        n_digits++;
    if (!phx_str_to_u64((phx_str){at, n_digits}, 0, UINT64_MAX >> 20, &kib)) {
        rc =
            PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "/proc/meminfo has no MemAvailable: give the memory per rank");
        goto out;
    }
    const uint64_t available = kib * 1024;
    uint64_t reserve = available / 10;
    reserve = reserve < RESERVE_MIN ? RESERVE_MIN : reserve > RESERVE_MAX ? RESERVE_MAX : reserve;
    *ret_bytes = available > reserve ? available - reserve : 0;
out:
    phx_buf_done(&buf);
    return rc;
}

static uint64_t blocks_of(uint64_t n_tokens)
{
    return (n_tokens + PHX_BLOCK_TOKENS - 1) / PHX_BLOCK_TOKENS;
}

/* The rank that needs most; its account is left filled in. */
static const phx_rank_plan *fullest(phx_plan *plan, uint32_t n_context, uint64_t n_blocks)
{
    const phx_rank_plan *most = NULL;
    for (uint32_t r = 0; r < plan->n_ranks; r++) {
        phx_plan_account(plan, n_context, n_blocks, &plan->ranks[r]);
        if (!most || plan->ranks[r].total_bytes > most->total_bytes)
            most = &plan->ranks[r];
    }
    return most;
}

static bool fits(phx_plan *plan, uint32_t n_context, uint64_t n_blocks)
{
    return fullest(plan, n_context, n_blocks)->total_bytes <= plan->request.memory_bytes;
}

/* The longest context, in whole blocks or the model's own, of which one request fits; 0: none. */
static uint32_t longest_context(phx_plan *plan)
{
    const phx_dims *dims = phx_checkpoint_dims(plan->checkpoint);
    uint64_t low = 0;
    uint64_t high = blocks_of((uint64_t)dims->n_positions);
    if (plan->request.n_cache_tokens && blocks_of(plan->request.n_cache_tokens) < high)
        high = blocks_of(plan->request.n_cache_tokens);
    while (low < high) {
        const uint64_t middle = (low + high + 1) / 2;
        if (fits(plan, (uint32_t)(middle * PHX_BLOCK_TOKENS), middle))
            low = middle;
        else
            high = middle - 1;
    }
    const uint64_t n_context = low * PHX_BLOCK_TOKENS;
    return n_context > (uint64_t)dims->n_positions ? (uint32_t)dims->n_positions : (uint32_t)n_context;
}

static uint64_t most_blocks(phx_plan *plan, uint32_t n_context, uint64_t least, uint64_t most)
{
    while (least < most) {
        const uint64_t middle = least + (most - least + 1) / 2;
        if (fits(plan, n_context, middle))
            least = middle;
        else
            most = middle - 1;
    }
    return least;
}

/* The least pp above the plan's at which one block of context would fit; 0: none. */
static uint32_t enough_stages(const phx_plan *plan)
{
    const phx_dims *dims = phx_checkpoint_dims(plan->checkpoint);
    phx_error ignored = {0};
    for (uint32_t pp = plan->request.layout.pp + 1; pp <= PHX_PP_MAX; pp++) {
        phx_plan other = {.request = plan->request, .checkpoint = plan->checkpoint};
        char text[12];
        (void)snprintf(text, sizeof(text), "%u", pp);
        bool enough =
            phx_layout_parse_pp(phx_str_of(text), dims, &other.request.layout, &ignored) == PHX_OK &&
            phx_layout_check(&other.request.layout, dims, &ignored) == PHX_OK &&
            phx_plan_make_ranks(&other, &ignored) == PHX_OK;
        enough = enough && fits(&other, PHX_BLOCK_TOKENS, 1);
        phx_plan_free_ranks(&other);
        if (enough)
            return pp;
    }
    return 0;
}

static phx_code refuse(phx_plan *plan, uint32_t n_context, phx_error *err)
{
    char remedy[160];
    const uint32_t possible = longest_context(plan);
    const phx_rank_plan *rank = fullest(plan, n_context, blocks_of(n_context));
    const double gb = 1e9;
    if (possible > 0) {
        (void)snprintf(remedy, sizeof(remedy), "a context of %u fits", possible);
    } else {
        const uint32_t pp = enough_stages(plan);
        if (pp > 0)
            (void)snprintf(remedy, sizeof(remedy), "no context fits; pp %u would do (%u ranks)", pp,
                           pp * plan->request.layout.tp);
        else
            (void)snprintf(remedy, sizeof(remedy), "no context fits: more memory per rank, or tp up to %u",
                           PHX_LEAVES);
    }
    return PHX_FAIL(
        err, PHX_ERR_NOMEM,
        "rank %u needs %.3f GB for a context of %u (weights %.3f, cache %.3f, buffers %.3f) and may use "
        "%.3f GB (%.2f times 2^30 bytes): %s",
        rank->rank, (double)rank->total_bytes / gb, n_context, (double)rank->weights_bytes / gb,
        (double)(rank->cache_latent_bytes + rank->cache_index_bytes) / gb,
        (double)(rank->total_bytes - rank->weights_bytes - rank->cache_latent_bytes -
                 rank->cache_index_bytes) /
            gb,
        (double)plan->request.memory_bytes / gb, (double)plan->request.memory_bytes * 0x1p-30, remedy);
}

phx_code phx_plan_fit(phx_plan *plan, phx_error *err)
{
    phx_plan_request *request = &plan->request;
    if (request->memory_bytes == 0) {
        uint64_t machine = 0;
        const phx_code rc = machine_bytes(&machine, err);
        if (rc != PHX_OK)
            return rc;
        request->memory_bytes = machine / plan->n_ranks;
    }
    uint32_t n_context = request->n_context;
    if (n_context == 0)
        n_context = longest_context(plan);
    if (n_context == 0)
        return refuse(plan, PHX_BLOCK_TOKENS, err);
    const uint64_t least = blocks_of(n_context);
    if (request->n_cache_tokens && blocks_of(request->n_cache_tokens) < least)
        return PHX_FAIL(err, PHX_ERR_INVALID, "a cache of %u tokens cannot hold one request of %u tokens",
                        request->n_cache_tokens, n_context);
    if (!fits(plan, n_context, least))
        return refuse(plan, n_context, err);
    uint64_t most = least * request->n_batch;
    if (request->n_cache_tokens) {
        most = blocks_of(request->n_cache_tokens);
        if (!fits(plan, n_context, most))
            return PHX_FAIL(
                err, PHX_ERR_NOMEM, "a cache of %u tokens does not fit; %llu tokens would",
                request->n_cache_tokens,
                (unsigned long long)(most_blocks(plan, n_context, least, most) * PHX_BLOCK_TOKENS));
    }
    /* Cache entries are counted in 32 bits on the step path. */
    most = most < UINT32_MAX / PHX_BLOCK_TOKENS ? most : UINT32_MAX / PHX_BLOCK_TOKENS;
    const uint64_t n_blocks = most_blocks(plan, n_context, least, most);
    plan->n_context = n_context;
    plan->n_blocks = (uint32_t)n_blocks;
    request->n_context = n_context;
    request->n_cache_tokens = (uint32_t)(n_blocks * PHX_BLOCK_TOKENS);
    (void)fullest(plan, n_context, n_blocks);
    return PHX_OK;
}
