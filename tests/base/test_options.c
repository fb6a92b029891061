/* tests/base/test_options.c - every key by flag and by file, precedence, refusals, help, the way back to
 * flags. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/options_table.h"

static const phx_args_spec all = {
    .usage = "test [options]", .about = "A test.", .scopes = PHX_OPTIONS_ALL, .n_operands_max = 2};

/* A value that differs from the default, valid for the row. */
static const char *other_value(const phx_option_row *row)
{
    switch (row->kind) {
    case PHX_OPTION_KIND_TEXT:
        return "other text";
    case PHX_OPTION_KIND_CHOICE:
        return strrchr(row->limits, '|') + 1;
    case PHX_OPTION_KIND_COUNT:
        return "7";
    case PHX_OPTION_KIND_BYTES:
        return "3145728";
    case PHX_OPTION_KIND_SWITCH:
    case PHX_OPTION_KIND_FLAG:
        return strcmp(row->value, "on") == 0 ? "off" : "on";
    }
    return "";
}

static void check_value(const phx_options *options, phx_option option, const char *expected)
{
    phx_buf buf;
    phx_buf_init(&buf, 4096);
    phx_options_value(options, option, &buf);
    if (!phx_str_is(phx_buf_view(&buf), expected))
        fail_msg("%s is '%s', expected '%s'", phx_option_key(option), buf.ptr, expected);
    phx_buf_done(&buf);
}

static phx_code parse(phx_options *options, const phx_args_spec *spec, phx_args *ret_args, phx_error *err,
                      const char *const *words, int n_words)
{
    char *argv[16] = {(char *)(uintptr_t) "test"};
    assert_true(n_words < 15);
    for (int i = 0; i < n_words; i++)
        argv[i + 1] = (char *)(uintptr_t)words[i];
    return phx_options_parse_args(options, n_words + 1, argv, spec, ret_args, err);
}

static void defaults_keep_their_own_limits(void **state)
{
    (void)state;
    phx_options options;
    phx_options_init(&options);
    for (size_t i = 0; i < PHX_OPTION_COUNT; i++) {
        const phx_option_row *row = phx_option_row_of((phx_option)i);
        check_value(&options, (phx_option)i, row->value);
        assert_int_equal(options.source[i], PHX_OPTION_DEFAULT);
        phx_option found;
        assert_true(phx_option_find(phx_str_of(row->key), &found));
        assert_int_equal(found, i); /* no key twice */
    }
}

static void every_key_by_flag(void **state)
{
    (void)state;
    for (size_t i = 0; i < PHX_OPTION_COUNT; i++) {
        const phx_option_row *row = phx_option_row_of((phx_option)i);
        for (int joined = 0; joined < 2; joined++) {
            char flag[4200];
            phx_options options;
            phx_args args;
            phx_error err = {0};
            phx_options_init(&options);
            const bool alone = row->kind == PHX_OPTION_KIND_FLAG && !joined;
            (void)snprintf(flag, sizeof(flag), joined ? "--%s=%s" : "--%s%s", row->key,
                           joined ? other_value(row) : "");
            const char *words[] = {flag, other_value(row)};
            assert_int_equal(parse(&options, &all, &args, &err, words, joined || alone ? 1 : 2), PHX_OK);
            check_value(&options, (phx_option)i, other_value(row));
            assert_int_equal(options.source[i], PHX_OPTION_ARGS);
        }
    }
}

static void every_key_by_file_and_flags_win(void **state)
{
    (void)state;
    for (size_t i = 0; i < PHX_OPTION_COUNT; i++) {
        const phx_option_row *row = phx_option_row_of((phx_option)i);
        char text[256];
        phx_options options;
        phx_error err = {0};
        phx_options_init(&options);
        (void)snprintf(text, sizeof(text), "%s: %s\n", row->key, other_value(row));
        assert_int_equal(phx_options_parse_yaml(&options, phx_str_of(text), "t.yaml", &err), PHX_OK);
        check_value(&options, (phx_option)i, other_value(row));
        assert_int_equal(options.source[i], PHX_OPTION_FILE);
        /* A flag that was read before the file keeps its value. */
        phx_options_init(&options);
        assert_int_equal(
            phx_options_set(&options, (phx_option)i, phx_str_of(row->value), PHX_OPTION_ARGS, &err), PHX_OK);
        assert_int_equal(phx_options_parse_yaml(&options, phx_str_of(text), "t.yaml", &err), PHX_OK);
        check_value(&options, (phx_option)i, row->value);
    }
}

static void bad_values_name_key_and_remedy(void **state)
{
    (void)state;
    static const struct {
        const char *word;
        const char *text;
    } cases[] = {
        {"--tp=9", "--tp cannot be '9': a number from 1 to 8"},
        {"--tp=", "--tp cannot be '': a number from 1 to 8"},
        {"--tp=0", "from 1 to 8"},
        {"--tp=+2", "from 1 to 8"},
        {"--cache-tokens=4294967296", "from 0 to 4294967295"},
        {"--memory=lots", "a size such as"},
        {"--memory=-1", "a size such as"},
        {"--backend=gpu", "one of auto|cpu|cuda|emu"},
        {"--backend=auto|cpu", "one of auto|cpu|cuda|emu"},
        {"--experts=t", "one of tp|ep"},
        {"--deterministic=yes", "on or off"},
        {"--model=a\nb", "control character"},
        {"--memry=1", "did you mean --memory?"},
        {"--zzzzzzzz", "see --help"},
        {"-x", "two dashes"},
        {"--tp", "needs a value"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        phx_options options;
        phx_options before;
        phx_args args;
        phx_error err = {0};
        phx_options_init(&options);
        before = options;
        assert_int_not_equal(parse(&options, &all, &args, &err, &cases[i].word, 1), PHX_OK);
        if (!strstr(err.text, cases[i].text))
            fail_msg("%s gave '%s', expected '%s' in it", cases[i].word, err.text, cases[i].text);
        assert_memory_equal(&before, &options, sizeof(options));
    }
}

static void text_at_its_limit_and_one_past(void **state)
{
    (void)state;
    char text[PHX_OPTION_TEXT_BYTES + 1];
    phx_options options;
    phx_error err = {0};
    phx_options_init(&options);
    memset(text, 'a', sizeof(text));
    assert_int_equal(phx_options_set(&options, PHX_OPTION_model, (phx_str){text, PHX_OPTION_TEXT_BYTES - 1},
                                     PHX_OPTION_ARGS, &err),
                     PHX_OK);
    assert_int_equal(strlen(options.model), PHX_OPTION_TEXT_BYTES - 1);
    assert_int_equal(phx_options_set(&options, PHX_OPTION_model, (phx_str){text, PHX_OPTION_TEXT_BYTES},
                                     PHX_OPTION_ARGS, &err),
                     PHX_ERR_TOO_LONG);
}

static void a_command_accepts_its_scopes_alone(void **state)
{
    (void)state;
    const char *out = NULL;
    bool json = false;
    const phx_flag flags[] = {{"out", "FILE", "where to", &out, NULL},
                              {"json", NULL, "as JSON", NULL, &json}};
    const phx_args_spec spec = {.usage = "t",
                                .about = "t",
                                .scopes = PHX_OPTIONS_PLAN,
                                .flags = flags,
                                .n_flags = 2,
                                .n_operands_max = 2};
    phx_options options;
    phx_args args;
    phx_error err = {0};
    phx_options_init(&options);
    const char *good[] = {"one", "--out", "-", "--json", "--tp=2", "--tp=4", "--", "--tp"};
    assert_int_equal(parse(&options, &spec, &args, &err, good, 8), PHX_OK);
    assert_string_equal(out, "-");
    assert_true(json);
    assert_int_equal(options.tp, 4); /* the last wins */
    assert_int_equal(args.n_operands, 2);
    assert_string_equal(args.operands[1], "--tp");
    static const struct {
        const char *word;
        const char *text;
    } bad[] = {{"--http=off", "means nothing to this command"}, {"--json=1", "takes no value"}};
    for (size_t i = 0; i < 2; i++) {
        err = (phx_error){0};
        assert_int_equal(parse(&options, &spec, &args, &err, &bad[i].word, 1), PHX_ERR_INVALID);
        assert_non_null(strstr(err.text, bad[i].text));
    }
    const char *many[] = {"a", "b", "c"};
    err = (phx_error){0};
    assert_int_equal(parse(&options, &spec, &args, &err, many, 3), PHX_ERR_INVALID);
    assert_non_null(strstr(err.text, "unexpected 'c'"));
}

static void help_shows_accepted_keys_and_no_others(void **state)
{
    (void)state;
    phx_args_spec spec = all;
    phx_buf buf;
    phx_buf_init(&buf, 1u << 16);
    spec.scopes = PHX_OPTIONS_PLAN;
    phx_options_help(&spec, &buf);
    for (size_t i = 0; i < PHX_OPTION_COUNT; i++) {
        const phx_option_row *row = phx_option_row_of((phx_option)i);
        char flag[64];
        (void)snprintf(flag, sizeof(flag), "\n  --%s ", row->key);
        const bool accepted = PHX_OPTIONS_PLAN >> row->scope & 1u;
        if ((strstr(buf.ptr, flag) != NULL) != accepted)
            fail_msg("--%s %s in the help", row->key, accepted ? "is missing" : "should not be");
    }
    assert_non_null(strstr(buf.ptr, "Usage: test [options]\n"));
    assert_non_null(strstr(buf.ptr, "--config FILE"));
    assert_non_null(strstr(buf.ptr, "Exit codes\n  0 done"));
    phx_buf_done(&buf);
}

static void written_args_read_back_equal(void **state)
{
    (void)state;
    phx_options options;
    phx_options again;
    phx_args args;
    phx_error err = {0};
    phx_buf buf;
    char *argv[PHX_OPTION_COUNT + 1] = {(char *)(uintptr_t) "test"};
    int argc = 1;
    phx_options_init(&options);
    phx_options_init(&again);
    phx_buf_init(&buf, 1u << 16);
    for (size_t i = 0; i < PHX_OPTION_COUNT; i++)
        assert_int_equal(phx_options_set(&options, (phx_option)i,
                                         phx_str_of(other_value(phx_option_row_of((phx_option)i))),
                                         PHX_OPTION_ARGS, &err),
                         PHX_OK);
    phx_options_write_args(&options, PHX_OPTIONS_ALL, &buf);
    for (size_t at = 0; at < buf.n; at += strlen(buf.ptr + at) + 1)
        argv[argc++] = buf.ptr + at;
    assert_int_equal(argc, PHX_OPTION_COUNT + 1);
    assert_int_equal(phx_options_parse_args(&again, argc, argv, &all, &args, &err), PHX_OK);
    assert_memory_equal(&options, &again, sizeof(options));
    phx_buf_clear(&buf);
    phx_options_init(&options);
    phx_options_write_args(&options, PHX_OPTIONS_ALL, &buf);
    assert_int_equal(buf.n, 0);
    phx_buf_done(&buf);
}

static void nearest_key(void **state)
{
    (void)state;
    assert_string_equal(phx_option_nearest(phx_str_of("max_batch")), "max-batch");
    assert_string_equal(phx_option_nearest(phx_str_of("modell")), "model");
    assert_null(phx_option_nearest(phx_str_of("qwertyuiop")));
    assert_null(phx_option_nearest(phx_str_of("")));
    char text[4096];
    memset(text, 'm', sizeof(text));
    assert_null(phx_option_nearest((phx_str){text, sizeof(text)}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_keep_their_own_limits),
        cmocka_unit_test(every_key_by_flag),
        cmocka_unit_test(every_key_by_file_and_flags_win),
        cmocka_unit_test(bad_values_name_key_and_remedy),
        cmocka_unit_test(text_at_its_limit_and_one_past),
        cmocka_unit_test(a_command_accepts_its_scopes_alone),
        cmocka_unit_test(help_shows_accepted_keys_and_no_others),
        cmocka_unit_test(written_args_read_back_equal),
        cmocka_unit_test(nearest_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
