/* tests/worker/test_rank_alloc.c - a rank that runs out of memory at any point of its start says so and
 * leaves nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "model/step_buf.h"
#include "tests/alloc_loop.h"
#include "worker/exec/exec.h"

typedef struct rank {
    char dir[512];
    phx_checkpoint *checkpoint;
    phx_plan *plan;
    phx_comm_hub *hub;
    phx_pool *pool;
    phx_comm *comm;
    phx_weights *weights;
    phx_kv_pool *kv;
    phx_exec *exec;
    phx_backend *backend;
} rank;

static phx_code start_model(rank *r, phx_error *err)
{
    phx_plan_request request;
    phx_code rc = phx_checkpoint_open(r->dir, &r->checkpoint, err);
    if (rc != PHX_OK)
        return rc;
    phx_plan_request_default(&request);
    request.memory_bytes = (uint64_t)1 << 30;
    request.n_threads = 1;
    request.n_context = 64;
    request.n_batch = 2;
    request.n_step_tokens = 16;
    request.n_cache_tokens = 128;
    phx_layout_single(phx_checkpoint_dims(r->checkpoint), &request.layout);
    return phx_plan_build(r->checkpoint, &request, &r->plan, err);
}

static phx_code start_rank(rank *r, phx_error *err)
{
    phx_load_progress progress = {0};
    const phx_step_bytes bytes =
        phx_step_buf_bytes(phx_checkpoint_dims(r->checkpoint), &r->plan->request, &r->plan->ranks[0], 0, 0);
    const phx_comm_shape shape = {
        .tp = 1, .pp = 1, .exchange_bytes = bytes.exchange, .stage_bytes = bytes.stage, .timeout_ms = 1000};
    phx_code rc = phx_pool_create(1, NULL, &r->pool, err);
    if (rc == PHX_OK)
        rc = phx_comm_hub_create(1, &r->hub, err);
    if (rc == PHX_OK)
        rc = phx_comm_loop_create(r->hub, &shape, &r->comm, err);
    if (rc == PHX_OK)
        rc = phx_backend_cpu_create(r->pool, PHX_LEVEL_REF, &r->backend, err);
    const phx_weights_source source = {r->plan, 0, r->pool, r->backend, NULL};
    if (rc == PHX_OK)
        rc = phx_weights_load(&source, &progress, &r->weights, err);
    if (rc == PHX_OK)
        rc = phx_kv_pool_create(r->plan, 0, NULL, &r->kv, err);
    const phx_exec_parts parts = {.plan = r->plan,
                                  .weights = r->weights,
                                  .kv = r->kv,
                                  .comm = r->comm,
                                  .backend = r->backend,
                                  .ops = r->backend ? &r->backend->ops : NULL};
    if (rc == PHX_OK)
        rc = phx_exec_create(&parts, &r->exec, err);
    return rc;
}

static void stop_rank(rank *r)
{
    phx_exec_destroy(r->exec);
    phx_kv_pool_destroy(r->kv);
    phx_weights_destroy(r->weights);
    phx_comm_destroy(r->comm);
    phx_backend_destroy(r->backend);
    phx_comm_hub_destroy(r->hub);
    phx_pool_destroy(r->pool);
    r->exec = NULL;
    r->kv = NULL;
    r->weights = NULL;
    r->comm = NULL;
    r->backend = NULL;
    r->hub = NULL;
    r->pool = NULL;
}

static void stop_model(rank *r)
{
    phx_plan_destroy(r->plan);
    phx_checkpoint_close(r->checkpoint);
    r->plan = NULL;
    r->checkpoint = NULL;
}

static phx_code whole_model(void *user, phx_error *err)
{
    rank *r = user;
    const phx_code rc = start_model(r, err);
    stop_model(r);
    return rc;
}

static phx_code whole_rank(void *user, phx_error *err)
{
    rank *r = user;
    const phx_code rc = start_rank(r, err);
    stop_rank(r);
    return rc;
}

static void set_up(rank *r)
{
    const char *source = getenv("PHX_SOURCE");
    *r = (rank){0};
    (void)snprintf(r->dir, sizeof(r->dir), "%s/tests/data/golden/deepseek-v32-fp8", source ? source : ".");
}

static void test_model(void **state)
{
    rank r;
    (void)state;
    set_up(&r);
    (void)alloc_loop(whole_model, &r, 17);
}

static void test_rank(void **state)
{
    rank r;
    phx_error err = {0};
    (void)state;
    set_up(&r);
    if (start_model(&r, &err) != PHX_OK)
        fail_msg("%s", err.text);
    (void)alloc_loop(whole_rank, &r, 17);
    stop_model(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_model), cmocka_unit_test(test_rank)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
