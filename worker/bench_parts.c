/* worker/bench_parts.c - the time of each part of a step: a backend around another. */
#include <string.h>

#include "base/clock.h"
#include "worker/bench_rank.h"

static bool is_one_of(const char *op, const char *const *names)
{
    for (size_t i = 0; names[i]; i++) {
        if (strcmp(op, names[i]) == 0)
            return true;
    }
    return false;
}

static phx_rank_part of_product(const phx_weights *weights, const phx_product_args *args)
{
    if (args->w->data == weights->head.data)
        return PHX_PART_HEAD;
    for (int64_t l = 0; l < weights->n_layers; l++) {
        if (weights->layers[l].moe && args->w->data == weights->layers[l].router.data)
            return PHX_PART_ROUTER;
    }
    return PHX_PART_ATTENTION;
}

static phx_rank_part of_ffn_in(const phx_weights *weights, const phx_ffn_in_args *args)
{
    for (int64_t l = 0; l < weights->n_layers; l++) {
        if (!weights->layers[l].moe && args->gate == weights->layers[l].fixed_gate)
            return PHX_PART_DENSE;
    }
    return PHX_PART_EXPERTS;
}

static phx_rank_part of_leaf_sum(const phx_weights *weights, const phx_leaf_sum_args *args)
{
    if (args->routed.n_experts > 0)
        return PHX_PART_EXPERTS;
    for (int64_t l = 0; l < weights->n_layers; l++) {
        if (args->fixed->data == weights->layers[l].down.data)
            return weights->layers[l].moe ? PHX_PART_EXPERTS : PHX_PART_DENSE;
    }
    return PHX_PART_ATTENTION; /* o_proj */
}

static phx_rank_part part_of(const phx_weights *weights, const char *op, const void *args)
{
    static const char *const cache[] = {"attention",     "attention_expanded", "index_scores",
                                        "top_positions", "cache_write",        "latent_write",
                                        "cache_read",    "index_round",        NULL};
    static const char *const router[] = {"route", "list_experts", NULL};
    static const char *const rows[] = {"rms_norm", "layer_norm", "rope", "round", "add", NULL};
    if (strcmp(op, "product") == 0)
        return of_product(weights, args);
    if (strcmp(op, "product_t") == 0)
        return PHX_PART_ATTENTION;
    if (strcmp(op, "ffn_in") == 0)
        return of_ffn_in(weights, args);
    if (strcmp(op, "leaf_sum") == 0)
        return of_leaf_sum(weights, args);
    return is_one_of(op, cache)    ? PHX_PART_CACHE
           : is_one_of(op, router) ? PHX_PART_ROUTER
           : is_one_of(op, rows)   ? PHX_PART_ROWS
                                   : PHX_PART_HEAD; /* everything about tokens and logits */
}

/* A failure stays with the device: the next sync tells it. */
#define X(op)                                                                      \
    static void timed_##op(phx_pool *queue, const phx_##op##_args *args)           \
    {                                                                              \
        phx_rank_timer *t = (phx_rank_timer *)(void *)queue;                       \
        const uint64_t start = phx_clock_us();                                     \
        t->inner->ops.op(t->inner->queue, args);                                   \
        (void)phx_sync(t->inner, NULL);                                            \
        t->us[part_of(t->weights, #op, args)] += (double)(phx_clock_us() - start); \
    }
PHX_OPS(X)
#undef X

static phx_code pass_upload(phx_backend *backend, void *to, const void *from, size_t n_bytes, phx_error *err)
{
    return phx_upload(((phx_rank_timer *)(void *)backend)->inner, to, from, n_bytes, err);
}

static phx_code pass_fetch(phx_backend *backend, void *to, const void *from, size_t n_bytes, phx_error *err)
{
    return phx_fetch(((phx_rank_timer *)(void *)backend)->inner, to, from, n_bytes, err);
}

static phx_code pass_sync(phx_backend *backend, phx_error *err)
{
    return phx_sync(((phx_rank_timer *)(void *)backend)->inner, err);
}

static uint64_t pass_free_bytes(phx_backend *backend)
{
    phx_backend *inner = ((phx_rank_timer *)(void *)backend)->inner;
    return inner->fns->free_bytes ? inner->fns->free_bytes(inner) : 0;
}

static void destroy_nothing(phx_backend *backend)
{
    (void)backend; /* inner is borrowed */
}

/* An op that waits for its end cannot be recorded: no graphs. */
static const phx_backend_fns fns = {.upload = pass_upload,
                                    .fetch = pass_fetch,
                                    .sync = pass_sync,
                                    .destroy = destroy_nothing,
                                    .free_bytes = pass_free_bytes};

void phx_rank_timer_init(phx_rank_timer *timer, phx_backend *inner, const phx_weights *weights)
{
    *timer = (phx_rank_timer){.base = *inner, .inner = inner, .weights = weights};
    timer->base.fns = &fns;
    timer->base.queue = (phx_pool *)(void *)timer;
#define X(op) timer->base.ops.op = timed_##op;
    PHX_OPS(X)
#undef X
}
