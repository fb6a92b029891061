/* tests/worker/test_random_weights.c - what `bench rank` stands on: weights made in place are those that
 * synth would have written, on every rank and with every cut, and verbs that only take their time. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/synth.h"
#include "worker/comm/comm_model.h"
#include "worker/weights.h"

/* fp8 blocks that cuts split: a width of 96 per expert and rank. */
static const phx_dims dims = {.model_type = "deepseek_v32",
                              .architecture = "DeepseekV32ForCausalLM",
                              .n_layers = 2,
                              .n_layers_dense = 1,
                              .n_vocab = 512,
                              .n_positions = 512,
                              .d_hidden = 192,
                              .d_ff_dense = 320,
                              .d_ff_expert = 192,
                              .n_heads = 4,
                              .d_nope = 32,
                              .d_rope = 16,
                              .d_v = 32,
                              .q_lora = 64,
                              .kv_lora = 64,
                              .n_experts = 4,
                              .n_experts_used = 2,
                              .n_experts_shared = 1,
                              .n_expert_groups = 1,
                              .n_expert_groups_used = 1,
                              .norm_topk = true,
                              .routed_scale = 1,
                              .rms_eps = 1e-6,
                              .index_n_heads = 2,
                              .index_d = 32,
                              .index_topk = 32,
                              .rope = {PHX_ROPE_PLAIN, 10000, 1, 32, 1, 1, 1, 512},
                              .bos_id = 0,
                              .eos_ids = {1},
                              .n_eos = 1};

static void remove_folder(const char *dir)
{
    char path[512];
    DIR *folder = opendir(dir);
    for (const struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        (void)snprintf(path, sizeof(path), "%s/%.200s", dir, entry->d_name);
        if (entry->d_name[0] != '.')
            (void)unlink(path);
    }
    (void)closedir(folder);
    (void)rmdir(dir);
}

static phx_weights *load(const phx_plan *plan, uint32_t rank, phx_pool *pool, phx_backend *backend,
                         const phx_synth_request *random)
{
    phx_error err = {0};
    phx_load_progress progress = {0};
    phx_weights *weights = NULL;
    const phx_weights_source source = {plan, rank, pool, backend, random};
    if (phx_weights_load(&source, &progress, &weights, &err) != PHX_OK)
        fail_msg("%s", err.text);
    return weights;
}

static void same_bytes(phx_synth_format format, uint32_t tp)
{
    char dir[] = "/tmp/phx_random_XXXXXX";
    phx_error err = {0};
    phx_pool *pool = NULL;
    phx_backend *backend = NULL;
    phx_checkpoint *checkpoint = NULL;
    phx_plan *plan = NULL;
    phx_plan_request request;
    assert_non_null(mkdtemp(dir));
    const phx_synth_request synth = {.dims = &dims, .format = format, .seed = 5, .out_dir = dir};
    assert_int_equal(phx_synth_write(&synth, &err), PHX_OK);
    assert_int_equal(phx_checkpoint_open(dir, &checkpoint, &err), PHX_OK);
    phx_plan_request_default(&request);
    request.layout.tp = tp;
    request.memory_bytes = (uint64_t)1 << 30;
    request.n_threads = 2;
    (void)snprintf(request.numerics.level, sizeof(request.numerics.level), "ref");
    assert_int_equal(phx_plan_build(checkpoint, &request, &plan, &err), PHX_OK);
    assert_int_equal(phx_pool_create(2, NULL, &pool, &err), PHX_OK);
    assert_int_equal(phx_backend_cpu_create(pool, PHX_LEVEL_REF, &backend, &err), PHX_OK);
    for (uint32_t rank = 0; rank < tp; rank++) {
        phx_weights *read = load(plan, rank, pool, backend, NULL);
        phx_weights *made = load(plan, rank, pool, backend, &synth);
        assert_int_equal(read->memory_bytes, made->memory_bytes);
        assert_memory_equal(read->memory, made->memory, read->memory_bytes);
        phx_weights_destroy(read);
        phx_weights_destroy(made);
        phx_synth_request other = synth; /* the comparison can fail */
        other.seed = 6;
        made = load(plan, rank, pool, backend, &other);
        read = load(plan, rank, pool, backend, NULL);
        assert_memory_not_equal(read->memory, made->memory, read->memory_bytes);
        phx_weights_destroy(read);
        phx_weights_destroy(made);
    }
    phx_plan_destroy(plan);
    phx_checkpoint_close(checkpoint);
    phx_backend_destroy(backend);
    phx_pool_destroy(pool);
    remove_folder(dir);
}

static void made_as_synth_writes(void **state)
{
    (void)state;
    same_bytes(PHX_SYNTH_FP8, 2);
    same_bytes(PHX_SYNTH_FP8_UE8M0, 1);
    same_bytes(PHX_SYNTH_BF16, 4);
    same_bytes(PHX_SYNTH_F32, 2);
}

static void verbs_take_time(void **state)
{
    phx_error err = {0};
    phx_pool *pool = NULL;
    phx_backend *backend = NULL;
    phx_comm *comm = NULL;
    float values[4] = {1, 2, 3, 4};
    const int32_t mine[2] = {7, 8};
    int32_t all[8] = {0};
    uint64_t n = 0;
    double us = 0;
    (void)state;
    assert_int_equal(phx_pool_create(1, NULL, &pool, &err), PHX_OK);
    assert_int_equal(phx_backend_cpu_create(pool, PHX_LEVEL_REF, &backend, &err), PHX_OK);
    phx_comm_shape shape = {.rank = 1, .tp = 4, .pp = 1, .exchange_bytes = 64, .stage_bytes = 64};
    const phx_comm_model_options options = {{2.0, 1e6}, backend}; /* a byte takes a microsecond */
    assert_int_equal(phx_comm_model_create(&shape, &options, &comm, &err), PHX_OK);
    assert_int_equal(phx_exchange(comm, values, 4, &err), PHX_OK);
    assert_true(values[0] == 1 && values[3] == 4);
    phx_comm_model_count(comm, &n, &us);
    assert_int_equal(n, 1);
    assert_true(us == 2.0 + 16.0);
    assert_int_equal(phx_gather(comm, mine, sizeof(mine), all, &err), PHX_OK);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(all[i], i % 2 ? 8 : 7);
    phx_comm_model_count(comm, &n, &us);
    assert_true(us == 18.0 + 2.0 + 32.0);
    phx_comm_abort(comm);
    assert_int_equal(phx_exchange(comm, values, 4, &err), PHX_ERR_COMM);
    phx_comm_destroy(comm);
    shape.pp = 2;
    err = (phx_error){0};
    assert_int_equal(phx_comm_model_create(&shape, &options, &comm, &err), PHX_ERR_UNSUPPORTED);
    phx_backend_destroy(backend);
    phx_pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(made_as_synth_writes),
        cmocka_unit_test(verbs_take_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
