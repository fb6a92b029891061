/* tests/model/test_quantisation.c - quantization_config: what is read, what is refused and by which name; and
 * a checkpoint of packed int4 matrices, whole and damaged. */
#include "tests/model/small_dims.h"
#include "tests/model/testing.h"

#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "model/checkpoint.h"
#include "model/plan.h"
#include "model/quantisation.h"
#include "model/synth.h"

#define WEIGHTS                                                                                              \
    "\"num_bits\": 4, \"type\": \"int\", \"symmetric\": true, \"strategy\": \"group\", \"group_size\": 32, " \
    "\"actorder\": null, \"dynamic\": false"

static phx_code parse(const char *text, phx_quantisation *ret, phx_error *err)
{
    phx_json *root = NULL;
    must(phx_json_parse((phx_bytes){(const uint8_t *)text, strlen(text)}, PHX_JSON_LIMITS_FILE, &root, err),
         err);
    const phx_code rc = phx_quantisation_parse(root, ret, err);
    phx_json_destroy(root);
    return rc;
}

static void with_weights(char *text, size_t n_bytes, const char *weights, const char *more)
{
    (void)snprintf(text, n_bytes,
                   "{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", "
                   "\"config_groups\": {\"group_0\": {\"targets\": [\"Linear\"], \"weights\": {%s}}}%s}",
                   weights, more);
}

static void test_accepted(void **state)
{
    (void)state;
    char text[1024];
    phx_error err = {0};
    phx_quantisation got;
    must(phx_quantisation_parse(NULL, &got, &err), &err);
    assert_int_equal(got.format, PHX_FORMAT_BF16);
    must(parse("{\"quant_method\": \"fp8\", \"activation_scheme\": \"dynamic\", \"scale_fmt\": \"ue8m0\"}",
               &got, &err),
         &err);
    assert_int_equal(got.format, PHX_FORMAT_FP8_BLOCK);
    assert_true(got.fp8_scale_ue8m0);
    with_weights(text, sizeof(text), WEIGHTS, ", \"ignore\": [\"lm_head\", \"re:.*self_attn.*\"]");
    must(parse(text, &got, &err), &err);
    assert_int_equal(got.format, PHX_FORMAT_INT4_G32);
    assert_false(got.fp8_scale_ue8m0);
    with_weights(text, sizeof(text), "\"num_bits\": 4, \"group_size\": 32",
                 ", \"transform_config\": {}, \"sparsity_config\": {\"format\": \"dense\"}");
    must(parse(text, &got, &err), &err);
    assert_int_equal(got.format, PHX_FORMAT_INT4_G32);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *from; /* of WEIGHTS */
        const char *to;
        const char *names; /* part of the error */
    } cases[] = {
        {"\"num_bits\": 4", "\"num_bits\": 8", "num_bits 8"},
        {"\"symmetric\": true", "\"symmetric\": false", "symmetric"},
        {"\"type\": \"int\"", "\"type\": \"float\"", "type 'float'"},
        {"\"strategy\": \"group\"", "\"strategy\": \"channel\"", "strategy 'channel'"},
        {"\"group_size\": 32", "\"group_size\": 128", "group_size 128"},
        {"\"actorder\": null", "\"actorder\": \"group\"", "actorder 'group'"},
        {"\"dynamic\": false", "\"dynamic\": true", "dynamic"},
    };
    for (size_t i = 0; i < N_OF(cases); i++) {
        char weights[512];
        char text[1024];
        phx_error err = {0};
        phx_quantisation got = {.format = PHX_FORMAT_COUNT};
        const char *at = strstr(WEIGHTS, cases[i].from);
        assert_non_null(at);
        (void)snprintf(weights, sizeof(weights), "%.*s%s%s", (int)(at - WEIGHTS), WEIGHTS, cases[i].to,
                       at + strlen(cases[i].from));
        with_weights(text, sizeof(text), weights, "");
        assert_int_equal(parse(text, &got, &err), PHX_ERR_UNSUPPORTED);
        assert_non_null(strstr(err.text, cases[i].names));
        assert_int_equal(got.format, PHX_FORMAT_COUNT);
    }
    static const char *const others[] = {
        "{\"quant_method\": \"awq\"}",
        "{}",
        "{\"quant_method\": \"fp8\", \"activation_scheme\": \"static\"}",
        "{\"quant_method\": \"compressed-tensors\", \"format\": \"float-quantized\"}",
        "{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", \"config_groups\": {}}",
        "{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", "
        "\"kv_cache_scheme\": {\"num_bits\": 8}}"};
    for (size_t i = 0; i < N_OF(others); i++) {
        phx_error err = {0};
        phx_quantisation got;
        assert_int_equal(parse(others[i], &got, &err), PHX_ERR_UNSUPPORTED);
    }
    char text[1024];
    phx_error err = {0};
    phx_quantisation got;
    with_weights(text, sizeof(text), WEIGHTS, ", \"transform_config\": {\"config_groups\": {\"R1\": {}}}");
    assert_int_equal(parse(text, &got, &err), PHX_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "transform_config"));
    err = (phx_error){0};
    with_weights(text, sizeof(text), WEIGHTS, ", \"sparsity_config\": {\"format\": \"sparse-24-bitmask\"}");
    assert_int_equal(parse(text, &got, &err), PHX_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "sparse-24-bitmask"));
    err = (phx_error){0};
    with_weights(text, sizeof(text), WEIGHTS, ", \"ignore\": [3]");
    assert_int_equal(parse(text, &got, &err), PHX_ERR_CORRUPT);
}

static void test_written_reads_back(void **state)
{
    (void)state;
    static const phx_quantisation all[] = {{PHX_FORMAT_FP8_BLOCK, false},
                                           {PHX_FORMAT_FP8_BLOCK, true},
                                           {PHX_FORMAT_INT4_G32, false},
                                           {PHX_FORMAT_BF16, false}};
    for (size_t i = 0; i < N_OF(all); i++) {
        phx_buf buf;
        phx_json_writer w;
        phx_error err = {0};
        phx_quantisation got;
        phx_buf_init(&buf, 1u << 16);
        phx_json_writer_init(&w, &buf);
        phx_quantisation_write(&all[i], &w);
        assert_int_equal(buf.code, PHX_OK);
        must(parse(buf.ptr, &got, &err), &err);
        assert_int_equal(got.format, all[i].format);
        assert_int_equal(got.fp8_scale_ue8m0, all[i].fp8_scale_ue8m0);
        phx_buf_done(&buf);
    }
}

/* ---- a checkpoint ---- */

static void write_model(char *dir, size_t n_bytes)
{
    phx_error err = {0};
    const phx_dims dims = small_dims(64, 128, 8);
    (void)snprintf(dir, n_bytes, "/tmp/phx_int4_XXXXXX");
    assert_non_null(mkdtemp(dir));
    must(phx_synth_write(
             &(phx_synth_request){
                 .dims = &dims, .format = PHX_SYNTH_INT4, .seed = 3, .n_shards = 1, .out_dir = dir},
             &err),
         &err);
}

static void drop_model(const char *dir)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/config.json", dir);
    (void)unlink(path);
    (void)snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    (void)unlink(path);
    assert_int_equal(rmdir(dir), 0);
}

static void test_checkpoint(void **state)
{
    (void)state;
    char dir[64];
    phx_error err = {0};
    phx_checkpoint *ck = NULL;
    write_model(dir, sizeof(dir));
    must(phx_checkpoint_open(dir, &ck, &err), &err);
    const phx_ck_tensor *down = phx_checkpoint_find(ck, PHX_ROLE_EXPERT_DOWN, 1, 5);
    assert_non_null(down);
    assert_int_equal(down->format, PHX_FORMAT_INT4_G32);
    assert_int_equal(down->n_rows, 64);
    assert_int_equal(down->n_cols, 128);
    assert_int_equal(down->data->dtype, PHX_I32);
    assert_int_equal(down->data->shape[1], 16);
    assert_int_equal(down->scales->dtype, PHX_BF16);
    assert_int_equal(down->scales->shape[1], 4);
    assert_int_equal(phx_checkpoint_find(ck, PHX_ROLE_SHARED_DOWN, 1, -1)->format, PHX_FORMAT_BF16);
    const phx_checkpoint_totals totals = phx_checkpoint_count_all(ck);
    assert_int_equal(totals.n_extra, 0);
    assert_int_equal(totals.n_tensors - totals.n_weights,
                     2 * 3 * 8); /* scale and shape of each expert matrix */
    uint64_t n_parameters = 0;
    for (size_t i = 0; i < phx_checkpoint_count(ck); i++) {
        const phx_ck_tensor *t = phx_checkpoint_at(ck, i);
        n_parameters += (uint64_t)(t->n_rows * t->n_cols);
    }
    assert_int_equal(totals.n_parameters, n_parameters);
    phx_checkpoint_close(ck);
    drop_model(dir);
}

/* Leaves are cut in units of 16 columns, so that eight ranks hold half a group each: half the bytes of
 * weights and a scale of their own for each. */
static void test_plan_bytes(void **state)
{
    (void)state;
    char dir[64];
    phx_error err = {0};
    phx_checkpoint *ck = NULL;
    phx_plan *plan = NULL;
    phx_plan_request request;
    write_model(dir, sizeof(dir));
    must(phx_checkpoint_open(dir, &ck, &err), &err);
    assert_int_equal(phx_ff_unit(128, PHX_FORMAT_INT4_G32), 16);
    assert_int_equal(phx_ff_unit(2048, PHX_FORMAT_INT4_G32), 32);
    phx_plan_request_default(&request);
    phx_layout_single(phx_checkpoint_dims(ck), &request.layout);
    request.layout.tp = 8;
    request.n_context = 64;
    request.n_batch = 1;
    must(phx_plan_build(ck, &request, &plan, &err), &err);
    for (uint32_t r = 0; r < 8; r++) {
        for (size_t i = 0; i < plan->ranks[r].n_slices; i++) {
            const phx_plan_slice *slice = &plan->ranks[r].slices[i];
            if (slice->tensor->id.rule->role == PHX_ROLE_EXPERT_DOWN) {
                assert_int_equal(phx_range_n(slice->cols), 16);
                assert_int_equal(slice->data_bytes, 64 * 8);
                assert_int_equal(slice->scale_bytes, 64 * 2);
                assert_int_equal(slice->file_bytes, 64 * 8 + 64 * 2);
            } else if (slice->tensor->id.rule->role == PHX_ROLE_EXPERT_UP) {
                assert_int_equal(phx_range_n(slice->rows), 16);
                assert_int_equal(slice->data_bytes, 16 * 32);
                assert_int_equal(slice->scale_bytes, 16 * 2 * 2);
            }
        }
    }
    phx_plan_destroy(plan);
    phx_checkpoint_close(ck);
    drop_model(dir);
}

/* Replaces text in the header by as much other text. */
static void damage(const char *dir, const char *from, const char *to)
{
    char path[128];
    phx_buf buf;
    phx_error err = {0};
    assert_int_equal(strlen(from), strlen(to));
    phx_buf_init(&buf, 64u << 20);
    (void)snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    must(phx_file_read(path, &buf, &err), &err);
    char *at = memmem(buf.ptr, buf.n, from, strlen(from));
    assert_non_null(at);
    memcpy(at, to, strlen(to));
    must(phx_file_write(path, (phx_bytes){(const uint8_t *)buf.ptr, buf.n}, 0644, &err), &err);
    phx_buf_done(&buf);
}

static void test_damage(void **state)
{
    (void)state;
    static const struct {
        const char *from;
        const char *to;
        phx_code code;
        const char *names;
    } cases[] = {
        {"experts.3.up_proj.weight_scale", "experts.3.up_proj.weight_scalf", PHX_ERR_CORRUPT, "weight_scale"},
        {"experts.3.up_proj.weight_shape", "experts.3.up_proj.weight_shapf", PHX_ERR_CORRUPT, "weight_shape"},
        {"experts.3.up_proj.weight_packed", "experts.3.up_proj.weight_packet", PHX_ERR_CORRUPT, "is missing"},
        {"experts.3.up_proj.weight_scale\":{\"dtype\":\"BF16\"",
         "experts.3.up_proj.weight_scale\":{\"dtype\":\"F16\" ", PHX_ERR_UNSUPPORTED, "F16"},
        {"experts.3.up_proj.weight_packed\":{\"dtype\":\"I32\"",
         "experts.3.up_proj.weight_packed\":{\"dtype\":\"F32\"", PHX_ERR_UNSUPPORTED, "F32"},
        {"experts.3.up_proj.weight_packed\":{\"dtype\":\"I32\",\"shape\":[128,8]",
         "experts.3.up_proj.weight_packed\":{\"dtype\":\"I32\",\"shape\":[8,128]", PHX_ERR_CORRUPT,
         "[8,128]"},
        {"experts.3.up_proj.weight_scale\":{\"dtype\":\"BF16\",\"shape\":[128,2]",
         "experts.3.up_proj.weight_scale\":{\"dtype\":\"BF16\",\"shape\":[2,128]", PHX_ERR_CORRUPT,
         "shape of"},
    };
    for (size_t i = 0; i < N_OF(cases); i++) {
        char dir[64];
        phx_error err = {0};
        phx_checkpoint *ck = NULL;
        write_model(dir, sizeof(dir));
        damage(dir, cases[i].from, cases[i].to);
        assert_int_equal(phx_checkpoint_open(dir, &ck, &err), cases[i].code);
        assert_non_null(strstr(err.text, cases[i].names));
        assert_null(ck);
        drop_model(dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted),           cmocka_unit_test(test_refused),
        cmocka_unit_test(test_written_reads_back), cmocka_unit_test(test_checkpoint),
        cmocka_unit_test(test_plan_bytes),         cmocka_unit_test(test_damage)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
