/* tests/model/test_account.c - lines of the account that the planner may not include the owners of: they must
 * agree. */
#include "tests/model/testing.h"

#include "kernels/pool.h"
#include "model/plan.h"
#include "model/step_buf.h"
#include "worker/comm/comm_nccl.h"

_Static_assert(PHX_PLAN_SCRATCH_BYTES == PHX_SCRATCH_BYTES, "scratch of a compute thread");

/* The widest local down projections, as the worker finds them. */
static int64_t width_of(const phx_rank_plan *rank, bool routed)
{
    int64_t widest = 0;
    for (size_t i = 0; i < rank->n_slices; i++) {
        const phx_role role = rank->slices[i].tensor->id.rule->role;
        const bool is_it =
            routed ? role == PHX_ROLE_EXPERT_DOWN : role == PHX_ROLE_DOWN || role == PHX_ROLE_SHARED_DOWN;
        const int64_t n = phx_range_n(rank->slices[i].cols);
        widest = is_it && n > widest ? n : widest;
    }
    return widest;
}

static void check_rank(const phx_plan *plan, const phx_rank_plan *rank)
{
    const phx_plan_request *request = &plan->request;
    const phx_dims *dims = phx_checkpoint_dims(plan->checkpoint);
    const phx_step_bytes step =
        phx_step_buf_bytes(dims, request, rank, width_of(rank, true), width_of(rank, false));
    const phx_comm_shape shape = {.rank = rank->rank,
                                  .tp = request->layout.tp,
                                  .pp = request->layout.pp,
                                  .exchange_bytes = step.exchange,
                                  .stage_bytes = step.stage,
                                  .note_bytes = step.note};
    const uint64_t shared = plan->n_ranks > 1 ? phx_comm_shm_bytes(&shape) : 0;
    assert_int_equal(rank->collectives_bytes, shared);
    const phx_step_memory on_host = {NULL, NULL};
    phx_step_bufs bufs = {0};
    phx_error err = {0};
    must(phx_step_bufs_init(dims, request, rank, width_of(rank, true), width_of(rank, false), &on_host, &bufs,
                            &err),
         &err);
    assert_int_equal(phx_arena_size(bufs.device_arena), rank->activations_bytes + rank->logits_bytes);
    assert_null(bufs.host_arena);
    assert_ptr_equal(bufs.host.counts, bufs.device.counts);
    phx_step_bufs_done(&bufs);
}

static void test_lines(void **state)
{
    (void)state;
    static const char *const stages[] = {"1", "2"};
    phx_error err = {0};
    phx_checkpoint *ck = NULL;
    must(phx_checkpoint_open(source_path("tests/data/golden/deepseek-v32-fp8"), &ck, &err), &err);
    for (uint32_t tp = 1; tp <= 4; tp *= 2) {
        for (size_t s = 0; s < N_OF(stages); s++) {
            phx_plan *plan = NULL;
            phx_plan_request request;
            phx_plan_request_default(&request);
            request.layout.tp = tp;
            request.memory_bytes = (uint64_t)1 << 30;
            must(phx_layout_parse_pp(phx_str_of(stages[s]), phx_checkpoint_dims(ck), &request.layout, &err),
                 &err);
            must(phx_plan_build(ck, &request, &plan, &err), &err);
            for (uint32_t r = 0; r < plan->n_ranks; r++)
                check_rank(plan, &plan->ranks[r]);
            phx_plan_destroy(plan);
        }
    }
    phx_checkpoint_close(ck);
}

/* What a rank takes of its device for collectives: slots below their limit, at it, and none. */
static void test_device_collectives(void **state)
{
    (void)state;
    static const uint32_t n_step_tokens[] = {32, 512, 16384};
    phx_error err = {0};
    phx_checkpoint *ck = NULL;
    must(phx_checkpoint_open(source_path("tests/data/golden/deepseek-v32-fp8"), &ck, &err), &err);
    const phx_dims *dims = phx_checkpoint_dims(ck);
    for (size_t i = 0; i < 3 * N_OF(n_step_tokens); i++) {
        phx_plan *plan = NULL;
        phx_plan_request request;
        phx_plan_request_default(&request);
        request.layout.tp = i % 3 == 0 ? 1 : 4;
        request.memory_bytes = (uint64_t)64 << 30;
        request.n_step_tokens = n_step_tokens[i / 3];
        must(phx_layout_parse_pp(phx_str_of(i % 3 == 1 ? "1" : "2"), dims, &request.layout, &err), &err);
        must(phx_numerics_parse(phx_str_of("profile=serving level=emu"), &request.numerics, &err), &err);
        must(phx_plan_build(ck, &request, &plan, &err), &err);
        for (uint32_t r = 0; r < plan->n_ranks; r++) {
            const phx_rank_plan *rank = &plan->ranks[r];
            const phx_step_bytes step =
                phx_step_buf_bytes(dims, &plan->request, rank, width_of(rank, true), width_of(rank, false));
            const phx_comm_shape shape = {.rank = r,
                                          .tp = request.layout.tp,
                                          .pp = request.layout.pp,
                                          .exchange_bytes = step.exchange,
                                          .stage_bytes = step.stage};
            assert_int_equal(rank->collectives_bytes, phx_comm_nccl_bytes(&shape));
        }
        phx_plan_destroy(plan);
    }
    phx_checkpoint_close(ck);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lines),
                                       cmocka_unit_test(test_device_collectives)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
