/* tests/model/test_presets.c - the published inventories of full-size models, from sparse files
 * (models.md 3.9 and 5); what their plans say. DeepSeek's are in test_synth.c. */
#include "tests/model/testing.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "model/checkpoint.h"
#include "model/plan.h"
#include "model/synth.h"

typedef struct full { /* one preset as a folder */
    char dir[64];
    phx_checkpoint *ck;
    uint64_t n_main, main_parameters, main_bytes;
    uint64_t n_mtp, mtp_parameters;
} full;

static full open_full(const char *name)
{
    const phx_preset *preset = phx_preset_find(phx_str_of(name));
    phx_error err = {0};
    full f = {.dir = "/tmp/phx_preset_XXXXXX"};
    assert_non_null(preset);
    assert_non_null(mkdtemp(f.dir));
    must(phx_synth_write(&(phx_synth_request){.dims = &preset->dims,
                                              .format = preset->format,
                                              .n_shards = preset->n_shards,
                                              .sparse = true,
                                              .out_dir = f.dir},
                         &err),
         &err);
    must(phx_checkpoint_open(f.dir, &f.ck, &err), &err);
    assert_memory_equal(phx_checkpoint_dims(f.ck), &preset->dims, sizeof(preset->dims));
    for (size_t i = 0; i < phx_checkpoint_count(f.ck); i++) {
        const phx_ck_tensor *t = phx_checkpoint_at(f.ck, i);
        const bool is_mtp = t->id.layer >= preset->dims.n_layers;
        if (!t->data)
            continue;
        *(is_mtp ? &f.n_mtp : &f.n_main) += 1;
        *(is_mtp ? &f.mtp_parameters : &f.main_parameters) += (uint64_t)(t->n_rows * t->n_cols);
        if (!is_mtp)
            f.main_bytes += t->data->n_bytes + (t->scales ? t->scales->n_bytes : 0);
    }
    print_message("%s: main %llu tensors, %.3f B, %llu bytes; MTP %llu tensors, %.3f B\n", name,
                  (unsigned long long)f.n_main, (double)f.main_parameters / 1e9,
                  (unsigned long long)f.main_bytes, (unsigned long long)f.n_mtp,
                  (double)f.mtp_parameters / 1e9);
    return f;
}

static void close_full(full *f)
{
    const uint64_t n_shards = phx_checkpoint_count_all(f->ck).n_shards;
    char path[160];
    static const char *const names[] = {"config.json", "model.safetensors.index.json"};
    assert_int_equal(phx_checkpoint_count_all(f->ck).n_extra, 0);
    phx_checkpoint_close(f->ck);
    for (size_t i = 0; i < N_OF(names); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", f->dir, names[i]);
        assert_int_equal(unlink(path), 0);
    }
    for (uint64_t i = 1; i <= n_shards; i++) {
        (void)snprintf(path, sizeof(path), "%s/model-%05u-of-%05u.safetensors", f->dir, (unsigned)i,
                       (unsigned)n_shards);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(f->dir), 0);
}

static void near_billions(uint64_t n, double billions)
{
    assert_true(fabs((double)n / 1e9 - billions) < 0.0006);
}

/* GLM-5 in BF16 to the byte: 59,079 tensors of 1,487,822,475,264 bytes, and 791 in the MTP layer, which has
 * no copies of embedding and head. */
static void test_glm5(void **state)
{
    (void)state;
    full f = open_full("glm-5");
    assert_int_equal(f.n_main, 59079);
    assert_int_equal(f.main_bytes, 1487822475264u);
    near_billions(f.main_parameters, 743.911);
    assert_int_equal(f.n_mtp, 791);
    near_billions(f.mtp_parameters, 9.953);
    close_full(&f);
}

static phx_code plan_of(const full *f, uint64_t memory, phx_plan **ret_plan, phx_error *err)
{
    phx_plan_request request;
    phx_plan_request_default(&request);
    phx_layout_single(phx_checkpoint_dims(f->ck), &request.layout);
    request.layout.tp = 8;
    request.memory_bytes = memory;
    request.n_threads = 1;
    return phx_plan_build(f->ck, &request, ret_plan, err);
}

/* GLM-5.2: 59,585 tensors and 753,329,940,480 elements with the MTP layer; in FP8 755.6 GB in 141 shards.
 * Per rank at tp 8 no 80 GB card is enough, 141 GB are; index keys take the room of 21 layers. */
static void test_glm52(void **state)
{
    (void)state;
    phx_error err = {0};
    phx_plan *plan = NULL;
    full f = open_full("glm-5.2-fp8");
    assert_int_equal(f.n_main + f.n_mtp, 59585);
    assert_int_equal(f.main_parameters + f.mtp_parameters, 753329940480u);
    assert_int_equal(phx_checkpoint_count_all(f.ck).n_shards, 141);
    assert_true(fabs((double)phx_checkpoint_count_all(f.ck).n_bytes / 1e9 - 755.6) < 0.051);
    assert_int_equal(plan_of(&f, 80000000000u, &plan, &err), PHX_ERR_NOMEM);
    print_message("80 GB: %s\n", err.text);
    assert_non_null(strstr(err.text, "pp 2 would do (16 ranks)"));
    must(plan_of(&f, 141000000000u, &plan, &err), &err);
    const phx_rank_plan *rank = &plan->ranks[0];
    print_message("141 GB: weights %.3f GB, context %u, %u blocks\n", (double)rank->weights_bytes / 1e9,
                  plan->n_context, plan->n_blocks);
    assert_int_equal(rank->cache_latent_bytes, (uint64_t)plan->n_blocks * 64 * 78 * 576 * 2);
    assert_int_equal(rank->cache_index_bytes, (uint64_t)plan->n_blocks * 64 * 21 * 128 * 2);
    phx_plan_destroy(plan);
    close_full(&f);
}

static void test_smaller(void **state)
{
    (void)state;
    full f = open_full("glm-4.7-flash");
    assert_true(fabs((double)f.main_parameters / 1e9 - 29.94) < 0.0051);
    assert_true(fabs((double)f.mtp_parameters / 1e9 - 0.64) < 0.0051);
    close_full(&f);
}

static void test_kimi(void **state)
{
    (void)state;
    full f = open_full("kimi-k2");
    near_billions(f.main_parameters, 1026.408);
    assert_int_equal(f.n_mtp, 0);
    close_full(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_glm5),
        cmocka_unit_test(test_glm52),
        cmocka_unit_test(test_smaller),
        cmocka_unit_test(test_kimi),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
