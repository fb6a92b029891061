/* tests/model/test_synth.c - written checkpoints open again; full-size inventories from sparse files; damaged
 * headers. */
#include "tests/model/testing.h"

#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/rng.h"
#include "model/checkpoint.h"
#include "model/plan.h"
#include "model/synth.h"

/* A folder of its own per call, removed by drop. */
static char *fresh_dir(void)
{
    static char dir[64];
    (void)snprintf(dir, sizeof(dir), "/tmp/phx_synth_XXXXXX");
    assert_non_null(mkdtemp(dir));
    return dir;
}

static void drop(const char *dir, uint32_t n_shards)
{
    char path[256];
    static const char *const names[] = {"config.json", "model.safetensors", "model.safetensors.index.json"};
    for (size_t i = 0; i < N_OF(names); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        (void)unlink(path);
    }
    for (uint32_t i = 1; i <= n_shards; i++) {
        (void)snprintf(path, sizeof(path), "%s/model-%05u-of-%05u.safetensors", dir, i, n_shards);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(dir), 0); /* nothing else was left there */
}

static phx_dims tiny_dims(void)
{
    phx_dims dims = phx_preset_find(phx_str_of("ds32-3b"))->dims;
    dims.n_layers = 3;
    dims.n_layers_mtp = 1;
    dims.n_vocab = 300;
    dims.d_hidden = 160;
    dims.d_ff_dense = 320;
    dims.d_ff_expert = 96;
    dims.n_heads = 8;
    dims.d_nope = 48;
    dims.d_rope = 16;
    dims.d_v = 40;
    dims.q_lora = 72;
    dims.kv_lora = 64;
    dims.n_experts = 8;
    dims.n_experts_used = 2;
    dims.n_expert_groups = 4;
    dims.n_expert_groups_used = 2;
    dims.index_n_heads = 4;
    dims.index_d = 32;
    dims.index_topk = 16;
    return dims;
}

static void synth_ok(const phx_synth_request *request)
{
    phx_error err = {0};
    must(phx_synth_write(request, &err), &err);
}

static phx_checkpoint *open_ok(const char *dir)
{
    phx_error err = {0};
    phx_checkpoint *ck = NULL;
    must(phx_checkpoint_open(dir, &ck, &err), &err);
    return ck;
}

/* All bytes of a checkpoint's expected tensors, in order. */
static phx_hash content_of(const phx_checkpoint *ck)
{
    phx_hasher hasher;
    phx_error err = {0};
    phx_hasher_init(&hasher);
    for (size_t i = 0; i < phx_checkpoint_count(ck); i++) {
        const phx_ck_tensor *t = phx_checkpoint_at(ck, i);
        const size_t n = (size_t)t->data->n_bytes;
        uint8_t *data = phx_alloc(n, 1);
        must(phx_st_read(t->file, t->data, 0, data, n, &err), &err);
        phx_hasher_add(&hasher, data, n);
        phx_free(data);
        if (!t->scales)
            continue;
        float *scales = phx_alloc((size_t)t->scales->n_bytes, 1);
        must(phx_st_read(t->scale_file, t->scales, 0, scales, (size_t)t->scales->n_bytes, &err), &err);
        for (size_t s = 0; s < t->scales->n_bytes / 4; s++)
            assert_true(isfinite(scales[s]) && scales[s] > 0);
        phx_hasher_add(&hasher, scales, (size_t)t->scales->n_bytes);
        phx_free(scales);
    }
    return phx_hasher_final(&hasher);
}

static void test_every_format(void **state)
{
    (void)state;
    const phx_dims dims = tiny_dims();
    for (int format = 0; format < PHX_SYNTH_FORMAT_COUNT; format++) {
        char *dir = fresh_dir();
        synth_ok(&(phx_synth_request){
            .dims = &dims, .format = (phx_synth_format)format, .seed = 5, .n_shards = 1, .out_dir = dir});
        phx_checkpoint *ck = open_ok(dir);
        phx_dims expected = dims;
        expected.fp8_scale_ue8m0 = format == PHX_SYNTH_FP8_UE8M0;
        assert_memory_equal(phx_checkpoint_dims(ck), &expected, sizeof(expected));
        assert_int_equal(phx_checkpoint_count_all(ck).n_extra, 0);
        (void)content_of(ck);
        phx_checkpoint_close(ck);
        phx_error err = {0}; /* a second time into the same folder is refused */
        assert_int_equal(phx_synth_write(&(phx_synth_request){.dims = &dims, .out_dir = dir}, &err),
                         PHX_ERR_IO);
        drop(dir, 0);
    }
}

/* The same numbers however they are cut; other numbers with another seed. */
static void test_shards(void **state)
{
    (void)state;
    const phx_dims dims = tiny_dims();
    static const uint32_t n_shards[] = {1, 2, 7, 40};
    phx_hash first = {{0}};
    for (size_t i = 0; i < N_OF(n_shards); i++) {
        char *dir = fresh_dir();
        synth_ok(&(phx_synth_request){
            .dims = &dims, .format = PHX_SYNTH_FP8, .seed = 11, .n_shards = n_shards[i], .out_dir = dir});
        phx_checkpoint *ck = open_ok(dir);
        assert_int_equal(phx_checkpoint_count_all(ck).n_shards, n_shards[i]);
        const phx_hash hash = content_of(ck);
        if (i == 0)
            first = hash;
        assert_true(phx_hash_eq(&hash, &first));
        phx_checkpoint_close(ck);
        drop(dir, n_shards[i]);
    }
    char *dir = fresh_dir();
    synth_ok(&(phx_synth_request){
        .dims = &dims, .format = PHX_SYNTH_FP8, .seed = 12, .shard_bytes = 200000, .out_dir = dir});
    phx_checkpoint *ck = open_ok(dir);
    const uint32_t n = (uint32_t)phx_checkpoint_count_all(ck).n_shards;
    assert_true(n > 1);
    const phx_hash other = content_of(ck);
    assert_false(phx_hash_eq(&other, &first));
    phx_checkpoint_close(ck);
    drop(dir, n);
}

/* Widths of the numbers: what keeps logits finite, and branches alive. */
static void test_distribution(void **state)
{
    (void)state;
    const phx_dims dims = tiny_dims();
    for (int format = PHX_SYNTH_BF16; format <= PHX_SYNTH_FP8_UE8M0; format += 2) {
        char *dir = fresh_dir();
        phx_error err = {0};
        synth_ok(&(phx_synth_request){
            .dims = &dims, .format = (phx_synth_format)format, .seed = 5, .n_shards = 1, .out_dir = dir});
        phx_checkpoint *ck = open_ok(dir);
        const phx_ck_tensor *up = phx_checkpoint_find(ck, PHX_ROLE_UP, 0, -1);
        uint8_t data[320 * 160 * 2];
        float scales[3 * 2] = {0};
        must(phx_st_read(up->file, up->data, 0, data, (size_t)up->data->n_bytes, &err), &err);
        if (up->scales)
            must(phx_st_read(up->scale_file, up->scales, 0, scales, sizeof(scales), &err), &err);
        const phx_matrix matrix = {.data = data,
                                   .scales = scales,
                                   .n_rows = 320,
                                   .n_cols = 160,
                                   .scale_stride = 2,
                                   .format = up->format};
        double sum = 0;
        double squares = 0;
        for (int64_t i = 0; i < 320 * 160; i++) {
            const double value = (double)phx_matrix_at(&matrix, i / 160, i % 160);
            sum += value;
            squares += value * value;
        }
        const double n = 320.0 * 160.0;
        assert_true(fabs(sum / n) < 0.02 / sqrt(160.0));
        const double sd = sqrt(squares / n) * sqrt(160.0); /* of inputs of width 1 */
        assert_true(sd > 0.6 && sd < 1.6);
        const phx_ck_tensor *bias = phx_checkpoint_find(ck, PHX_ROLE_ROUTER_BIAS, 1, -1);
        float biases[8];
        assert_int_equal(bias->format, PHX_FORMAT_F32);
        must(phx_st_read(bias->file, bias->data, 0, biases, sizeof(biases), &err), &err);
        for (size_t i = 0; i < 8; i++)
            assert_true(biases[i] >= -0.6f && biases[i] <= -0.4f && biases[i] != biases[(i + 1) % 8]);
        phx_checkpoint_close(ck);
        drop(dir, 0);
    }
}

static uint64_t disk_bytes(const char *dir, uint32_t n_shards)
{
    uint64_t total = 0;
    for (uint32_t i = 1; i <= n_shards; i++) {
        char path[256];
        struct stat st;
        (void)snprintf(path, sizeof(path), "%s/model-%05u-of-%05u.safetensors", dir, i, n_shards);
        assert_int_equal(stat(path, &st), 0);
        total += (uint64_t)st.st_blocks * 512;
    }
    return total;
}

/* models.md 5.2: about 88 GB per rank at tp 8; what does not fit is refused with a remedy. */
static void check_plan(const phx_checkpoint *ck)
{
    phx_error err = {0};
    phx_plan *plan = NULL;
    phx_plan_request request;
    phx_plan_request_default(&request);
    request.layout.tp = 8;
    request.memory_bytes = 110000000000u;
    request.n_threads = 8;
    must(phx_plan_build(ck, &request, &plan, &err), &err);
    print_message("tp 8: weights %.3f GB, total %.3f GB, context %u, %u blocks\n",
                  (double)plan->ranks[0].weights_bytes / 1e9, (double)plan->ranks[0].total_bytes / 1e9,
                  plan->n_context, plan->n_blocks);
    assert_true(fabs((double)plan->ranks[0].weights_bytes / 1e9 - 86.0) < 1.0);
    assert_int_equal(plan->ranks[0].exchange_bytes_per_token, 123u * 7 * 7168);
    phx_plan_destroy(plan);
    plan = NULL;
    request.memory_bytes = 40000000000u;
    assert_int_equal(phx_plan_build(ck, &request, &plan, &err), PHX_ERR_NOMEM);
    print_message("%s\n", err.text);
    assert_non_null(strstr(err.text, "pp 3 would do (24 ranks)"));
}

/* models.md 3.9 and 5: 45,700 weights in the main graph, 671.878 B parameters and 13.477 B in the MTP layer
 * with its copies, 689.5e9 bytes in 163 shards. */
static void test_full_size(void **state)
{
    (void)state;
    static const struct {
        const char *preset;
        uint64_t n_main;
        double main_billions, file_billions, gigabytes;
    } cases[] = {{"deepseek-v3.2", 45700, 671.878, 685.355, 689.5},
                 {"deepseek-v3", 45395, 671.026, 684.490, 688.6}};
    for (size_t c = 0; c < N_OF(cases); c++) {
        const phx_preset *preset = phx_preset_find(phx_str_of(cases[c].preset));
        char *dir = fresh_dir();
        synth_ok(&(phx_synth_request){.dims = &preset->dims,
                                      .format = preset->format,
                                      .n_shards = preset->n_shards,
                                      .sparse = true,
                                      .out_dir = dir});
        assert_true(disk_bytes(dir, 163) < (64u << 20));
        phx_checkpoint *ck = open_ok(dir);
        const phx_checkpoint_totals totals = phx_checkpoint_count_all(ck);
        uint64_t n_main = 0;
        uint64_t parameters = 0;
        for (size_t i = 0; i < phx_checkpoint_count(ck); i++) {
            const phx_ck_tensor *t = phx_checkpoint_at(ck, i);
            if (t->id.layer >= preset->dims.n_layers)
                continue;
            n_main++;
            parameters += (uint64_t)(t->n_rows * t->n_cols);
        }
        print_message("%s: %llu weights, main %.3f B, all %.3f B, %.3f GB\n", cases[c].preset,
                      (unsigned long long)n_main, (double)parameters / 1e9, (double)totals.n_parameters / 1e9,
                      (double)totals.n_bytes / 1e9);
        assert_int_equal(totals.n_shards, 163);
        assert_int_equal(n_main, cases[c].n_main);
        assert_true(fabs((double)parameters / 1e9 - cases[c].main_billions) < 0.0006);
        assert_true(fabs((double)totals.n_parameters / 1e9 - cases[c].file_billions) < 0.0006);
        assert_true(fabs((double)totals.n_bytes / 1e9 - cases[c].gigabytes) < 0.051);
        assert_int_equal(totals.n_extra, 0);
        if (c == 0)
            check_plan(ck);
        phx_checkpoint_close(ck);
        drop(dir, 163);
    }
}

static void test_measuring_model(void **state)
{
    (void)state;
    static const struct {
        const char *preset;
        double billions;
    } cases[] = {{"ds-3b", 3.412}, {"ds-3b-mtp", 3.769}, {"ds32-3b", 3.442}};
    for (size_t c = 0; c < N_OF(cases); c++) {
        const phx_preset *preset = phx_preset_find(phx_str_of(cases[c].preset));
        char *dir = fresh_dir();
        synth_ok(&(phx_synth_request){
            .dims = &preset->dims, .format = preset->format, .n_shards = 2, .sparse = true, .out_dir = dir});
        phx_checkpoint *ck = open_ok(dir);
        const double billions = (double)phx_checkpoint_count_all(ck).n_parameters / 1e9;
        print_message("%s: %.3f B\n", cases[c].preset, billions);
        assert_true(fabs(billions - cases[c].billions) < 0.0006);
        phx_checkpoint_close(ck);
        drop(dir, 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_format),    cmocka_unit_test(test_shards),
        cmocka_unit_test(test_distribution),    cmocka_unit_test(test_full_size),
        cmocka_unit_test(test_measuring_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
