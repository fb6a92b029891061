/* tests/model/test_presets.c - sparse GLM models against models.md 3.9 and 5; what their plans say of real
 * cards. V3's inventory: test_synth.c. */
#include "tests/model/inventory.h"
#include "tests/model/testing.h"

static void test_glm5(void **state)
{
    (void)state;
    full f = full_open("glm-5");
    exactly("3.9", "GLM-5 BF16, tensors of 78 layers", f.n_main, 59079);
    exactly("3.9", "GLM-5 BF16, bytes", f.main_bytes, 1487822475264u);
    exactly("3.9", "GLM-5, tensors of the MTP layer", f.n_mtp, 791);
    rounded("5.1", "GLM-5, parameters of the main graph", f.main_parameters, "743.911");
    rounded("5.1", "GLM-5, parameters of the MTP layer", f.mtp_parameters, "9.953");
    rounded("5.1", "GLM-5, parameters", f.main_parameters + f.mtp_parameters, "753.864");
    rounded("5.2", "GLM-5 BF16, bytes of the files", phx_checkpoint_count_all(f.ck).n_bytes, "1507.7");
    exactly("1", "GLM-5, layers with an indexer", f.n_indexers, 78);
    full_close(&f);
}

static void test_glm5_fp8(void **state)
{
    (void)state;
    full f = full_open("glm-5-fp8");
    const fit with_mtp = plan_at(&f, 160000000000u, 1);
    const uint64_t eh_proj = 6144 * 12288 * 2; /* whole on each rank here, cut there */
    rounded("5.2", "GLM-5 FP8, bytes of the files", phx_checkpoint_count_all(f.ck).n_bytes, "756.2");
    rounded("5.2", "GLM-5 FP8, bytes of the main graph", f.main_bytes, "746.1");
    rounded("5.2", "GLM-5 FP8, routed experts of a layer", f.n_expert_parameters / 75, "9.66");
    rounded("5.2", "GLM-5 FP8, weights of a rank at tp 8", with_mtp.weights - eh_proj / 8 * 7, "96.5");
    rounded("5.2", "GLM-5 FP8, of that replicated", with_mtp.replicated - eh_proj, "2.27");
    const fit here = plan_at(&f, 136 * GIB, 0);
    exactly("5.4", "GLM-5, latent cache per token", here.latent, 78 * 1152);
    exactly("5.4", "GLM-5, index keys per token (16 bits)", here.index, 78 * 256);
    refused(&f, 22 * GIB, "pp 5 would do (40 ranks)");
    refused(&f, 77 * GIB, "pp 2 would do (16 ranks)");
    fits(&f, 136 * GIB, 202752, 459328);
    full_close(&f);
}

static void test_glm52(void **state)
{
    (void)state;
    full f = full_open("glm-5.2-fp8");
    exactly("3.9", "GLM-5.2, tensors with the MTP layer", f.n_main + f.n_mtp, 59585);
    exactly("3.9", "GLM-5.2, elements", f.main_parameters + f.mtp_parameters, 753329940480u);
    exactly("3.9", "GLM-5.2-FP8, shards", phx_checkpoint_count_all(f.ck).n_shards, 141);
    exactly("1", "GLM-5.2, layers with an indexer", f.n_indexers, 21);
    rounded("5.1", "GLM-5.2, parameters of the main graph", f.main_parameters, "743.377");
    rounded("5.1", "GLM-5.2, parameters of the MTP layer", f.mtp_parameters, "9.953");
    rounded("5.2", "GLM-5.2-FP8, bytes of the files", phx_checkpoint_count_all(f.ck).n_bytes, "755.6");
    const fit here = plan_at(&f, 136 * GIB, 0);
    exactly("5.4", "GLM-5.2, latent cache per token", here.latent, 78 * 1152);
    exactly("5.4", "GLM-5.2, index keys per token (16 bits)", here.index, 21 * 256);
    refused(&f, 22 * GIB, "pp 5 would do (40 ranks)");
    refused(&f, 77 * GIB, "pp 2 would do (16 ranks)");
    fits(&f, 136 * GIB, 534144, 534144);
    full_close(&f);
}

/* models.md 6.1 */
static void test_smaller(void **state)
{
    (void)state;
    full f = full_open("glm-4.7-flash");
    rounded("6.1", "GLM-4.7-Flash, parameters", f.main_parameters, "29.94");
    rounded("6.1", "GLM-4.7-Flash, parameters of the MTP layer", f.mtp_parameters, "0.64");
    full_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_glm5), cmocka_unit_test(test_glm5_fp8),
                                       cmocka_unit_test(test_glm52), cmocka_unit_test(test_smaller)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
