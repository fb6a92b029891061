/* coordinator/text/jinja_test.c - tests: value is name(arguments).
 * Owns: their table; one that is not here is an error when the template is read. */
#include "coordinator/text/jinja_run.h"

typedef enum known_test {
    TEST_DEFINED,
    TEST_UNDEFINED,
    TEST_NONE,
    TEST_STRING,
    TEST_MAPPING,
    TEST_ITERABLE,
    TEST_SEQUENCE,
    TEST_NUMBER,
    TEST_INTEGER,
    TEST_FLOAT,
    TEST_BOOLEAN,
    TEST_TRUE,
    TEST_FALSE,
    TEST_CALLABLE,
    TEST_EQUAL,
    TEST_UNEQUAL,
    TEST_IN,
    TEST_ODD,
    TEST_EVEN
} known_test;

typedef struct test_name {
    const char *name;
    known_test test;
} test_name;

static const test_name names[] = {
    {"defined", TEST_DEFINED},   {"undefined", TEST_UNDEFINED}, {"none", TEST_NONE},
    {"string", TEST_STRING},     {"mapping", TEST_MAPPING},     {"iterable", TEST_ITERABLE},
    {"sequence", TEST_SEQUENCE}, {"number", TEST_NUMBER},       {"integer", TEST_INTEGER},
    {"float", TEST_FLOAT},       {"boolean", TEST_BOOLEAN},     {"true", TEST_TRUE},
    {"false", TEST_FALSE},       {"callable", TEST_CALLABLE},   {"equalto", TEST_EQUAL},
    {"eq", TEST_EQUAL},          {"ne", TEST_UNEQUAL},          {"in", TEST_IN},
    {"odd", TEST_ODD},           {"even", TEST_EVEN},
};

int phx_jtest_find(phx_str name)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (phx_str_is(name, names[i].name))
            return (int)names[i].test;
    }
    return -1;
}

static bool is_sequence(phx_jv value)
{
    return value.kind == PHX_JV_STR || value.kind == PHX_JV_LIST || value.kind == PHX_JV_DICT;
}

/* Tests with an argument. */
static bool compare_to(phx_jrun *x, int which, phx_jv value, phx_jargs *args)
{
    const phx_jv *other = phx_jarg(args, 0, "");
    if (!other) {
        (void)phx_jrun_fail(x, args->line, PHX_ERR_INVALID, "the test needs an argument");
        return false;
    }
    if (which == TEST_IN)
        return phx_jrun_contains(x, args->line, *other, value);
    return phx_jrun_equal(x, args->line, value, *other) == (which == TEST_EQUAL);
}

static bool is_even(phx_jrun *x, phx_jv value, const phx_jargs *args)
{
    if (value.kind == PHX_JV_BIG_INT)
        return value.u.s.ptr[value.u.s.n - 1] % 2 == 0; /* so are the codes of the digits */
    if (value.kind != PHX_JV_INT)
        (void)phx_jrun_fail(x, args->line, PHX_ERR_INVALID, "odd and even need a whole number");
    return value.u.i % 2 == 0;
}

bool phx_jtest_call(phx_jrun *x, int which, phx_jv value, phx_jargs *args)
{
    switch ((known_test)which) {
    case TEST_DEFINED:
        return value.kind != PHX_JV_UNDEFINED;
    case TEST_UNDEFINED:
        return value.kind == PHX_JV_UNDEFINED;
    case TEST_NONE:
        return value.kind == PHX_JV_NONE;
    case TEST_STRING:
        return value.kind == PHX_JV_STR;
    case TEST_MAPPING:
        return value.kind == PHX_JV_DICT;
    case TEST_ITERABLE:
        return is_sequence(value) || value.kind == PHX_JV_UNDEFINED;
    case TEST_SEQUENCE:
        return is_sequence(value) || value.kind == PHX_JV_UNDEFINED;
    case TEST_NUMBER:
        return phx_jv_is_number(value);
    case TEST_INTEGER:
        return value.kind == PHX_JV_INT || value.kind == PHX_JV_BIG_INT;
    case TEST_FLOAT:
        return value.kind == PHX_JV_FLOAT;
    case TEST_BOOLEAN:
        return value.kind == PHX_JV_BOOL;
    case TEST_TRUE:
        return value.kind == PHX_JV_BOOL && value.u.i;
    case TEST_FALSE:
        return value.kind == PHX_JV_BOOL && !value.u.i;
    case TEST_CALLABLE:
        return value.kind == PHX_JV_MACRO || value.kind == PHX_JV_FUNCTION || value.kind == PHX_JV_METHOD;
    case TEST_EQUAL:
    case TEST_UNEQUAL:
    case TEST_IN:
        return compare_to(x, which, value, args);
    case TEST_ODD:
        return !is_even(x, value, args);
    case TEST_EVEN:
        return is_even(x, value, args);
    }
    return false;
}
