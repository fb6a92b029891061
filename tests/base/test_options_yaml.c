/* tests/base/test_options_yaml.c - cluster.yaml of the root equals the defaults; hostile YAML gets an error
 * with a place; damaged bytes never crash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/options.h"
#include "base/rng.h"

static phx_code parse(const char *text, size_t n, phx_options *options, phx_error *err)
{
    phx_options_init(options);
    return phx_options_parse_yaml(options, (phx_str){text, n}, "t.yaml", err);
}

static void the_example_holds_every_key_at_its_default(void **state)
{
    (void)state;
    const char *source = getenv("PHX_SOURCE");
    char path[4096];
    phx_options options;
    phx_options defaults;
    phx_error err = {0};
    (void)snprintf(path, sizeof(path), "%s/cluster.yaml", source ? source : ".");
    phx_options_init(&options);
    phx_options_init(&defaults);
    if (phx_options_load_yaml(&options, path, &err) != PHX_OK)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < PHX_OPTION_COUNT; i++) {
        if (options.source[i] != PHX_OPTION_FILE)
            fail_msg("cluster.yaml lacks %s", phx_option_key((phx_option)i));
    }
    memset(options.source, 0, sizeof(options.source));
    assert_memory_equal(&options, &defaults, sizeof(options));
}

static void good_forms(void **state)
{
    (void)state;
    phx_options options;
    phx_error err = {0};
    static const char *const empty[] = {"", "# only a comment\n", "---\n{}\n", "{}"};
    for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++)
        assert_int_equal(parse(empty[i], strlen(empty[i]), &options, &err), PHX_OK);
    static const char text[] = "---\ntp: 2 # two\n\"pp\": '3:0,1,2'\nmemory: 24G\nmtp: true\n...\n";
    assert_int_equal(parse(text, strlen(text), &options, &err), PHX_OK);
    assert_int_equal(options.tp, 2);
    assert_string_equal(options.pp, "3:0,1,2");
    assert_int_equal(options.memory, (uint64_t)24 << 30);
    assert_true(options.mtp);
}

static void errors_have_a_place(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *expected;
    } cases[] = {
        {"tp: 2\ntpp: 3\n", "t.yaml:2:1: unknown key 'tpp': did you mean 'tp'?"},
        {"quxquux: 3\n", "t.yaml:1:1: unknown key 'quxquux'"},
        {"tp: 2\n\ntp: 2\n", "t.yaml:3:1: the key was given above already"},
        {"tp: 99\n", "t.yaml:1:5: tp cannot be '99'"},
        {"model: &a x\n", "t.yaml:1:8: anchors are not allowed"},
        {"model: *a\n", "t.yaml:1:8: aliases are not allowed"},
        {"model: !!str x\n", "t.yaml:1:8: tags are not allowed"},
        {"&a tp: 1\n", "t.yaml:1:1: anchors"},
        {"--- &a\ntp: 1\n", "anchors and tags are not allowed"},
        {"%TAG ! tag:x,2000:\n---\ntp: 1\n", "tag directives are not allowed"},
        {"hosts: [a, b]\n", "t.yaml:1:8: a list is not allowed"},
        {"hosts:\n  - a\n", "t.yaml:2:3: a list is not allowed"},
        {"kernels:\n  level: avx2\n", "t.yaml:1:1: unknown key 'kernels'"},
        {"model: {a: b}\n", "t.yaml:1:8: a nested mapping is not allowed"},
        {"? {a: b}\n: c\n", "a nested mapping is not allowed"},
        {"- tp\n", "t.yaml:1:1: expected lines of the form 'key: value'"},
        {"tp\n", "t.yaml:1:1: expected lines"},
        {"tp:\n", "the value is missing"},
        {"tp: 1\n---\ntp: 2\n", "more than one document"},
        {"tp: 1\n  pp: 2\n", "t.yaml:1:5: tp cannot be '1 pp'"},
        {"tp: 'x\n", "t.yaml:"},
        {"\ttp: 1\n", "t.yaml:1:1: "},
        {"model: \"a\\0b\"\n", "control character 0x00"},
        {"model: \"a\\nb\"\n", "control character 0x0a"},
        {"model: \xff\n", "t.yaml: "},
        {"<<: *a\n", "t.yaml:1:1: unknown key '<<'"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        phx_options options;
        phx_options defaults;
        phx_error err = {0};
        phx_options_init(&defaults);
        assert_int_equal(parse(cases[i].text, strlen(cases[i].text), &options, &err), PHX_ERR_INVALID);
        if (!strstr(err.text, cases[i].expected))
            fail_msg("%s gave '%s', expected '%s'", cases[i].text, err.text, cases[i].expected);
        assert_memory_equal(&options, &defaults, sizeof(options));
    }
}

static void size_and_depth_are_bounded(void **state)
{
    (void)state;
    phx_options options;
    phx_error err = {0};
    char *text = phx_alloc(PHX_OPTIONS_FILE_MAX + 1, 1);
    assert_non_null(text);
    memset(text, '#', PHX_OPTIONS_FILE_MAX + 1);
    assert_int_equal(parse(text, PHX_OPTIONS_FILE_MAX, &options, &err), PHX_OK);
    assert_int_equal(parse(text, PHX_OPTIONS_FILE_MAX + 1, &options, &err), PHX_ERR_TOO_LONG);
    memset(text, '[', PHX_OPTIONS_FILE_MAX);
    err = (phx_error){0};
    assert_int_equal(parse(text, PHX_OPTIONS_FILE_MAX, &options, &err), PHX_ERR_INVALID);
    memcpy(text, "tp: ", 4);
    assert_int_equal(parse(text, PHX_OPTIONS_FILE_MAX, &options, &err), PHX_ERR_INVALID);
    memset(text, '1', PHX_OPTIONS_FILE_MAX);
    memcpy(text, "model: ", 7);
    err = (phx_error){0};
    assert_int_equal(parse(text, PHX_OPTIONS_FILE_MAX, &options, &err), PHX_ERR_TOO_LONG);
    phx_free(text);
}

/* Each byte of the example flipped or cut off: an error with text, or options within their limits. */
static void damaged_bytes(void **state)
{
    (void)state;
    const char *source = getenv("PHX_SOURCE");
    char path[4096];
    phx_error err = {0};
    phx_buf buf;
    phx_rng rng = {.seed = 11};
    phx_options options;
    phx_buf_init(&buf, PHX_OPTIONS_FILE_MAX);
    (void)snprintf(path, sizeof(path), "%s/cluster.yaml", source ? source : ".");
    assert_int_equal(phx_file_read(path, &buf, &err), PHX_OK);
    const uint64_t n_live = phx_alloc_count().n_live;
    for (int i = 0; i < 3000; i++) {
        const size_t at = phx_rng_below(&rng, (uint32_t)buf.n);
        const char was = buf.ptr[at];
        err = (phx_error){0};
        buf.ptr[at] = (char)phx_rng_below(&rng, 256);
        const size_t n = i % 2 ? buf.n : at;
        if (parse(buf.ptr, n, &options, &err) != PHX_OK)
            assert_true(err.text[0] != 0);
        else
            assert_in_range(options.tp, 1, 8);
        buf.ptr[at] = was;
    }
    assert_int_equal(phx_alloc_count().n_live, n_live);
    phx_buf_done(&buf);
}

static void absent_file(void **state)
{
    (void)state;
    phx_options options;
    phx_error err = {0};
    phx_options_init(&options);
    assert_int_equal(phx_options_load_yaml(&options, "/nonexistent/c.yaml", &err), PHX_ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "/nonexistent/c.yaml"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_holds_every_key_at_its_default),
        cmocka_unit_test(good_forms),
        cmocka_unit_test(errors_have_a_place),
        cmocka_unit_test(size_and_depth_are_bounded),
        cmocka_unit_test(damaged_bytes),
        cmocka_unit_test(absent_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
