/* tests/text/test_unicode.c - the committed class table against the Unicode 16 range lists. */
#include "base/alloc.h"
#include "coordinator/text/unicode.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define N_CODE_POINTS 0x110000u

static uint32_t flags_of_category(const char *category)
{
    static const struct {
        const char *prefix;
        uint32_t flags;
    } table[] = {
        {"Lu", PHX_CHAR_UPPER},        {"Lt", PHX_CHAR_UPPER},        {"Ll", PHX_CHAR_LOWER},
        {"Lm", PHX_CHAR_OTHER_LETTER}, {"Lo", PHX_CHAR_OTHER_LETTER}, {"M", PHX_CHAR_MARK},
        {"N", PHX_CHAR_NUMBER},        {"P", PHX_CHAR_PUNCTUATION},   {"S", PHX_CHAR_SYMBOL},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (strncmp(category, table[i].prefix, strlen(table[i].prefix)) == 0)
            return table[i].flags;
    }
    return 0;
}

/* Adds flags to the code points that a list names; returns the number of its lines. */
static size_t add_list(uint32_t *want, const char *name, uint32_t flags)
{
    const char *shared = getenv("PHX_SHARED");
    char path[1024];
    char line[128];
    size_t n_lines = 0;
    (void)snprintf(path, sizeof(path), "%s/tokenizers/unicode16/%s.tsv", shared ? shared : "../shared", name);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    while (fgets(line, sizeof(line), file)) {
        unsigned first = 0;
        unsigned last = 0;
        char category[8] = "";
        assert_true(sscanf(line, "%x %x %7s", &first, &last, category) >= 2);
        assert_true(first <= last);
        assert_true(last < N_CODE_POINTS);
        for (unsigned c = first; c <= last; c++)
            want[c] |= flags ? flags : flags_of_category(category);
        n_lines++;
    }
    (void)fclose(file);
    return n_lines;
}

static void test_every_code_point(void **state)
{
    uint32_t *want = *state;
    for (uint32_t c = 0; c < N_CODE_POINTS; c++) {
        if (phx_char_flags(c) != want[c])
            fail_msg("U+%04X: flags %x, the lists say %x", c, phx_char_flags(c), want[c]);
    }
    assert_int_equal(phx_char_flags(N_CODE_POINTS), 0);
    assert_int_equal(phx_char_flags(UINT32_MAX), 0);
}

static void test_decode(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t code_point;
    } cases[] = {{"a", 'a'},
                 {"\xC2\x80", 0x80},
                 {"\xDF\xBF", 0x7FF},
                 {"\xE0\xA0\x80", 0x800},
                 {"\xEF\xBF\xBF", 0xFFFF},
                 {"\xF0\x90\x80\x80", 0x10000},
                 {"\xF4\x8F\xBF\xBF", 0x10FFFF}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t got = 0;
        assert_int_equal(phx_utf8_decode(cases[i].text, strlen(cases[i].text), &got), strlen(cases[i].text));
        assert_int_equal(got, cases[i].code_point);
    }
}

int main(void)
{
    uint32_t *want = phx_alloc(N_CODE_POINTS, sizeof(*want));
    if (!want)
        return 1;
    if (add_list(want, "general_category", 0) == 0) {
        (void)printf("SKIP: no Unicode range lists under PHX_SHARED\n");
        phx_free(want);
        return 77;
    }
    if (add_list(want, "script_han", PHX_CHAR_HAN) == 0 || add_list(want, "white_space", PHX_CHAR_SPACE) == 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_every_code_point, want),
        cmocka_unit_test(test_decode),
    };
    const int rc = cmocka_run_group_tests(tests, NULL, NULL);
    phx_free(want);
    return rc;
}
