/* tests/model/test_checkpoint.c - the golden folders open and match their family's table. */
#include "tests/model/testing.h"

#include <string.h>

#include "base/file.h"
#include "model/checkpoint.h"

static phx_checkpoint *open_ok(const char *dir)
{
    phx_error err = {0};
    phx_checkpoint *ck = NULL;
    must(phx_checkpoint_open(dir, &ck, &err), &err);
    return ck;
}

static void test_v32_fp8(void **state)
{
    (void)state;
    phx_checkpoint *ck = open_ok(source_path("tests/data/golden/deepseek-v32-fp8"));
    const phx_dims *dims = phx_checkpoint_dims(ck);
    assert_int_equal(dims->n_layers_mtp, 1);
    const phx_ck_tensor *kv_a = phx_checkpoint_find(ck, PHX_ROLE_KV_A, 1, -1);
    assert_non_null(kv_a);
    assert_int_equal(kv_a->format, PHX_FORMAT_FP8_BLOCK);
    assert_int_equal(kv_a->n_rows, 192);
    assert_int_equal(kv_a->scales->shape[0], 2);
    const phx_ck_tensor *expert = phx_checkpoint_find(ck, PHX_ROLE_EXPERT_DOWN, 2, 7);
    assert_non_null(expert);
    assert_int_equal(expert->id.expert, 7);
    assert_int_equal(expert->id.layer, 2);
    assert_true(phx_str_is(expert->data->name, "model.layers.2.mlp.experts.7.down_proj.weight"));
    assert_null(phx_checkpoint_find(ck, PHX_ROLE_EXPERT_DOWN, 2, 8));
    assert_null(phx_checkpoint_find(ck, PHX_ROLE_EXPERT_DOWN, 0, 0));
    assert_null(phx_checkpoint_find(ck, PHX_ROLE_EXPERT_DOWN, 2, -1));
    assert_null(phx_checkpoint_find(ck, PHX_ROLE_Q, 0, -1));
    assert_null(phx_checkpoint_find(ck, PHX_ROLE_Q_A, 3, -1));
    const phx_ck_tensor *embed = phx_checkpoint_find(ck, PHX_ROLE_EMBED, -1, -1);
    assert_non_null(embed);
    assert_int_equal(embed->format, PHX_FORMAT_BF16);
    assert_int_equal(phx_checkpoint_count_all(ck).n_extra, 0);
    for (size_t i = 0; i < phx_checkpoint_count(ck); i++) {
        const phx_ck_tensor *t = phx_checkpoint_at(ck, i);
        assert_ptr_equal(t, phx_checkpoint_find(ck, t->id.rule->role, t->id.layer, t->id.expert));
    }
    phx_checkpoint_close(ck);
}

static void test_qdirect(void **state)
{
    (void)state;
    phx_checkpoint *ck = open_ok(source_path("tests/data/golden/deepseek-v3-qdirect"));
    assert_non_null(phx_checkpoint_find(ck, PHX_ROLE_Q, 0, -1));
    assert_null(phx_checkpoint_find(ck, PHX_ROLE_Q_A, 0, -1));
    assert_null(phx_checkpoint_find(ck, PHX_ROLE_INDEX_K, 0, -1));
    assert_int_equal(phx_checkpoint_count_all(ck).n_extra, 0);
    phx_checkpoint_close(ck);
}

static void test_shared(void **state)
{
    (void)state;
    static const char *const names[] = {"golden/deepseek-v3-bf16", "golden/deepseek-v3-fp8",
                                        "golden/deepseek-v32-bf16", "golden/deepseek-v32-long", "demo"};
    for (size_t i = 0; i < N_OF(names); i++) {
        if (!phx_file_exists(shared_path(names[i])))
            continue;
        phx_checkpoint *ck = open_ok(shared_path(names[i]));
        const phx_checkpoint_totals totals = phx_checkpoint_count_all(ck);
        assert_int_equal(totals.n_extra, 0);
        assert_true(totals.n_weights <= totals.n_tensors);
        phx_checkpoint_close(ck);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_v32_fp8), cmocka_unit_test(test_qdirect),
                                       cmocka_unit_test(test_shared)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
