/* tests/model/test_presets_kimi.c - sparse Kimi models against models.md 3.9 and 5; what their plans say of
 * real cards. */
#include "tests/model/inventory.h"
#include "tests/model/testing.h"

static void test_kimi_k25(void **state)
{
    (void)state;
    full f = full_open("kimi-k2.5");
    const phx_checkpoint_totals totals = phx_checkpoint_count_all(f.ck);
    exactly("3.9", "Kimi K2.5, tensors of the text model", totals.n_tensors - totals.n_skipped, 208215);
    exactly("3.9", "Kimi K2.5, shards", totals.n_shards, 64);
    rounded("3.9", "Kimi K2.5, bytes of the files", totals.n_bytes, "595.1");
    rounded("3.6", "Kimi K2.5, bytes of what sees", totals.n_skipped_bytes, "0.94");
    rounded("2.11", "Kimi K2.5, thousands of parameters that see", totals.n_skipped_bytes / 2 * 1000,
            "471.14");
    rounded("5.1", "Kimi K2.5, parameters of the text model", f.main_parameters, "1026.408");
    rounded("5.1", "Kimi K2.5, of that routed experts", f.n_expert_parameters, "1014.686");
    rounded("5.1", "Kimi K2.5, parameters of what sees", totals.n_skipped_bytes / 2, "0.471");
    rounded("5.2", "Kimi K2.5, bytes of experts", f.n_expert_bytes, "570.8");
    rounded("5.2", "Kimi K2.5, bytes of the rest", f.main_bytes - f.n_expert_bytes, "23.4");
    rounded("5.2", "Kimi K2.5, routed experts of a layer", f.n_expert_bytes / 60, "9.51");
    const fit here = plan_at(&f, 136 * GIB, 0);
    rounded("5.2", "Kimi K2.5, weights of a rank at tp 8", here.weights + totals.n_skipped_bytes, "77.1");
    rounded("5.2", "Kimi K2.5, of that replicated", here.replicated, "2.18");
    exactly("5.4", "Kimi K2.5, cache per token", here.latent + here.index, 70272);
    exactly("-", "Kimi K2.5, MTP tensors", f.n_mtp, 0);
    refused(&f, 22 * GIB, "pp 4 would do (32 ranks)");
    fits(&f, 77 * GIB, 88320, 88320);
    fits(&f, 136 * GIB, 262144, 989184);
    full_close(&f);
}

static void test_kimi_k2(void **state)
{
    (void)state;
    full f = full_open("kimi-k2");
    exactly("3.9", "Kimi K2 FP8, shards", phx_checkpoint_count_all(f.ck).n_shards, 61);
    rounded("5.1", "Kimi K2, parameters", f.main_parameters, "1026.408");
    exactly("-", "Kimi K2, MTP tensors", f.n_mtp, 0);
    refused(&f, 22 * GIB, "pp 6 would do (48 ranks)");
    refused(&f, 77 * GIB, "pp 2 would do (16 ranks)");
    fits(&f, 136 * GIB, 131072, 227456);
    full_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kimi_k25), cmocka_unit_test(test_kimi_k2)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
