/* tests/model/test_numerics.c - presets, overrides, text and hash of the numerics profile. */
#include "tests/model/testing.h"

#include <string.h>

#include "model/numerics.h"

static const char *print(const phx_numerics *numerics)
{
    static char text[512];
    phx_buf buf;
    phx_buf_init(&buf, sizeof(text));
    phx_numerics_print(numerics, &buf);
    assert_true(phx_str_copy(text, sizeof(text), phx_buf_view(&buf)));
    phx_buf_done(&buf);
    return text;
}

static void test_presets(void **state)
{
    (void)state;
    phx_numerics n;
    phx_numerics_preset(PHX_PROFILE_SERVING, &n);
    assert_string_equal(print(&n), "profile=serving act=bf16 cache=bf16 latent_eps=config index_wide=on "
                                   "index_hadamard=off index_fp8=off deterministic=on experts=tp level=ref");
    phx_numerics_preset(PHX_PROFILE_ORACLE, &n);
    assert_string_equal(print(&n), "profile=oracle act=f32 cache=f32 latent_eps=1e-6 index_wide=off "
                                   "index_hadamard=off index_fp8=off deterministic=on experts=tp level=ref");
    phx_numerics_preset(PHX_PROFILE_OFFICIAL, &n);
    assert_true(n.index_hadamard && n.index_fp8 && !n.index_wide);
    assert_int_equal(phx_numerics_index_keys(&n), PHX_BF16);
    phx_profile profile;
    assert_true(phx_profile_parse(phx_str_of("official"), &profile));
    assert_int_equal(profile, PHX_PROFILE_OFFICIAL);
    assert_false(phx_profile_parse(phx_str_of("offic"), &profile));
}

/* Before the group is known the text does not claim a level, and reads back the same. */
static void test_open_level(void **state)
{
    (void)state;
    phx_error err = {0};
    phx_numerics n;
    phx_numerics back;
    phx_numerics_preset(PHX_PROFILE_SERVING, &n);
    n.level[0] = 0;
    assert_non_null(strstr(print(&n), " level=auto"));
    must(phx_numerics_parse(phx_str_of(print(&n)), &back, &err), &err);
    assert_string_equal(back.level, "");
    const phx_hash a = phx_numerics_hash(&n);
    const phx_hash b = phx_numerics_hash(&back);
    assert_memory_equal(&a, &b, sizeof(a));
}

static void test_set(void **state)
{
    (void)state;
    static const char *const good[] = {"act=f32",           "cache=f32",    "latent_eps=1e-6",
                                       "index_hadamard=on", "index_fp8=on", "index_wide=off",
                                       "deterministic=off", "experts=ep",   "level=avx512",
                                       "cache=fp8",         "cache=bf16"};
    static const char *const bad[] = {"",
                                      "act",
                                      "act=",
                                      "act=f16",
                                      "act=fp8",
                                      "cache=f16",
                                      "act=F32",
                                      "nothing=on",
                                      "=on",
                                      "level=",
                                      "level=A B",
                                      "level=averylonglevelname",
                                      "index_fp8=true"};
    phx_numerics n;
    phx_numerics_preset(PHX_PROFILE_SERVING, &n);
    phx_hash before = phx_numerics_hash(&n);
    for (size_t i = 0; i < N_OF(good); i++) {
        phx_error err = {0};
        must(phx_numerics_set(&n, phx_str_of(good[i]), &err), &err);
        const phx_hash after = phx_numerics_hash(&n);
        assert_false(phx_hash_eq(&before, &after)); /* each knob counts */
        assert_non_null(strstr(print(&n), good[i]));
        before = after;
    }
    for (size_t i = 0; i < N_OF(bad); i++) {
        phx_error err = {0};
        assert_int_equal(phx_numerics_set(&n, phx_str_of(bad[i]), &err), PHX_ERR_INVALID);
        const phx_hash after = phx_numerics_hash(&n);
        assert_true(phx_hash_eq(&before, &after));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_presets), cmocka_unit_test(test_open_level),
                                       cmocka_unit_test(test_set)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
