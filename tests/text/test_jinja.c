/* tests/text/test_jinja.c - templates against what Jinja 3.1 made of them (tests/data/jinja), where the bytes
 * of a prompt come from, bounds at their value and one past, failing allocations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/file.h"
#include "tests/text/chat_cases.h"
#include "coordinator/text/jinja.h"

#define NOW_S 1709164805 /* Thursday 2024-02-29 00:00:05 UTC */

/* Renders with the members of a JSON object as global names. The text lies in out. */
static phx_code render(phx_str text, const phx_json *inputs, phx_jinja_out *out, phx_error *err)
{
    phx_jinja *template = NULL;
    phx_jpool pool;
    phx_jpool_init(&pool, PHX_JINJA_MEMORY_MAX);
    phx_jinja_out_init(out, 1u << 20);
    phx_code rc = phx_jinja_parse(text, &template, err);
    if (rc == PHX_OK)
        rc = phx_jinja_render(
            template,
            &(phx_jinja_inputs){.pool = &pool, .names = phx_jv_of_json(&pool, inputs), .now_s = NOW_S}, out,
            err);
    phx_jinja_destroy(template);
    phx_jpool_done(&pool);
    return rc;
}

static void test_cases(void **state)
{
    (void)state;
    char path[512];
    const char *source = getenv("PHX_SOURCE");
    phx_json *root = NULL;
    phx_error err = {0};
    size_t n_refused = 0;
    (void)snprintf(path, sizeof(path), "%s/tests/data/jinja/cases.json", source ? source : ".");
    if (phx_json_parse_file(path, PHX_JSON_LIMITS_FILE, &root, &err) != PHX_OK)
        fail_msg("%s", err.text);
    const phx_json *cases = phx_json_get(root, "cases");
    assert_int_equal(phx_json_count(cases), 111);
    for (size_t i = 0; i < phx_json_count(cases); i++) {
        phx_str text = {"", 0};
        phx_str expected = {"", 0};
        phx_jinja_out out;
        phx_error why = {0};
        assert_true(phx_json_as_str(phx_json_get(phx_json_at(cases, i), "template"), &text));
        const bool works = phx_json_as_str(phx_json_get(phx_json_at(cases, i), "expected"), &expected);
        const phx_code rc = render(text, phx_json_get(root, "inputs"), &out, &why);
        if ((rc == PHX_OK) != works)
            fail_msg("'%.*s': %d '%s'", PHX_STR_ARG(text), rc, why.text);
        if (works) {
            chat_case_equal(text.ptr, phx_buf_view(&out.text), expected);
            assert_int_equal(out.text.n, out.mask.n);
        } else {
            assert_non_null(strstr(why.text, "line 1"));
            n_refused++;
        }
        phx_jinja_out_done(&out);
    }
    assert_int_equal(n_refused, 32);
    phx_json_destroy(root);
}

/* A later line than the first is the one that is named. */
static void test_line(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "a\nb\n{{ x | nosuch }}", "{# two\nlines #}\n{% if x is nosuch %}{% endif %}",
        "\n\n{{ x.y.z }}",        "\n\n{% call x() %}{% endcall %}",
        "\n'\n{{ 1 +\n }}",       "{% if 1 %}\nx",
        "{% for a in b %}\nx",    "{% for a in b %}\nx{% else %}"};
    static const char *const words[] = {"line 3: filter 'nosuch'",     "line 3: test 'nosuch'",
                                        "line 3: 'x' is undefined",    "line 3: statement 'call'",
                                        "line 4: unexpected",          "line 2: 'endif' is missing",
                                        "line 2: 'endfor' is missing", "line 2: 'endfor' is missing"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        phx_jinja_out out;
        phx_error err = {0};
        phx_json *inputs = chat_case_json(phx_str_of("{}"));
        assert_int_not_equal(render(phx_str_of(texts[i]), inputs, &out, &err), PHX_OK);
        if (!strstr(err.text, words[i]))
            fail_msg("'%s' does not say '%s'", err.text, words[i]);
        phx_jinja_out_done(&out);
        phx_json_destroy(inputs);
    }
}

/* The clock is the caller's; the texts are those of Python's strftime. */
static void test_clock(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"%Y-%m-%d", "2024-02-29"},
        {"%d %b %Y", "29 Feb 2024"},
        {"%-d %B %Y", "29 February 2024"},
        {"%A, %a %j %y %-m", "Thursday, Thu 060 24 2"},
        {"%H:%M:%S %I%p %F %T 100%%", "00:00:05 12AM 2024-02-29 00:00:05 100%"},
        {"", ""},
        {"%", NULL},
        {"%-", NULL},
        {"a %Q", NULL},
        {"%-A", NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[128];
        phx_jinja_out out;
        phx_error err = {0};
        phx_json *inputs = chat_case_json(phx_str_of("{}"));
        (void)snprintf(text, sizeof(text), "{{ strftime_now('%s') }}", cases[i][0]);
        const phx_code rc = render(phx_str_of(text), inputs, &out, &err);
        if ((rc == PHX_OK) != (cases[i][1] != NULL))
            fail_msg("'%s': %d '%s'", cases[i][0], rc, err.text);
        if (rc == PHX_OK)
            chat_case_equal(text, phx_buf_view(&out.text), phx_str_of(cases[i][1]));
        else
            assert_non_null(strstr(err.text, "line 1"));
        phx_jinja_out_done(&out);
        phx_json_destroy(inputs);
    }
}

/* Each output byte is a letter: capitals come from the inputs, small letters from the template. */
static void test_origin(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "a{{ S }}b",
        "{{ 'a' + S + 'b' }}",
        "{{ ('a' ~ S)[1:] }}",
        "{{ S[0] }}{{ S[-1] }}",
        "{{ (' a' ~ S ~ 'b ').strip() }}",
        "{{ ('a,' ~ S ~ ',b').split(',')|join }}",
        "{{ (S ~ 'b').replace('b', 'cc') }}",
        "{{ S.replace('B', 'x') }}",
        "{{ 'axb'.replace('x', S) }}",
        "{% set t %}a{{ S }}{% endset %}{{ t }}b",
        "{% macro m(x) %}a{{ x }}{{ S }}{% endmacro %}{{ m('b') }}{{ m(S) }}",
        "{% for k, v in D.items() %}{{ k }}a{{ v }}{% endfor %}",
        "{% for c in S %}{{ c }}a{% endfor %}",
        "{{ [S, 'a']|join('b') }}",
        "{{ L|join('a') }}",
        "{{ S if S else 'a' }}{{ '' or 'a' }}",
        "{{ {'a': S}['a'] }}{{ ns }}{% set ns = namespace(q=S) %}{{ ns.q }}{% set ns.q = 'a' %}{{ ns.q }}",
        "{{ L|first }}{{ L|map(attribute='0')|join('b') }}",
        "{{ strftime_now('a') }}{{ strftime_now(S) }}{{ strftime_now(S ~ 'B') }}",
    };
    phx_json *inputs =
        chat_case_json(phx_str_of("{\"S\":\"ABC\",\"D\":{\"K\":\"V\",\"Q\":\"W\"},\"L\":[\"X\",\"YZ\"]}"));
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        phx_jinja_out out;
        phx_error err = {0};
        if (render(phx_str_of(texts[i]), inputs, &out, &err) != PHX_OK)
            fail_msg("%s: %s", texts[i], err.text);
        assert_true(out.text.n > 0);
        for (size_t at = 0; at < out.text.n; at++) {
            const char c = out.text.ptr[at];
            if ((c >= 'A' && c <= 'Z') != (out.mask.ptr[at] == 1))
                fail_msg("%s: '%s', byte %zu", texts[i], out.text.ptr, at);
        }
        phx_jinja_out_done(&out);
    }
    /* JSON of anything counts as data. */
    phx_jinja_out out;
    assert_int_equal(render(phx_str_of("{{ D|tojson }}{{ 'x'|tojson }}"), inputs, &out, NULL), PHX_OK);
    assert_null(memchr(out.mask.ptr, 0, out.mask.n));
    phx_jinja_out_done(&out);
    phx_json_destroy(inputs);
}

static phx_code parse_only(phx_str text)
{
    phx_jinja *template = NULL;
    const phx_code rc = phx_jinja_parse(text, &template, NULL);
    phx_jinja_destroy(template);
    return rc;
}

static void put_times(phx_buf *buf, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        (void)phx_buf_str(buf, text);
}

static phx_code nested(const char *open, const char *middle, const char *close, size_t n)
{
    phx_buf text;
    phx_buf_init(&text, 1u << 20);
    put_times(&text, open, n);
    (void)phx_buf_str(&text, middle);
    put_times(&text, close, n);
    const phx_code rc = parse_only(phx_buf_view(&text));
    phx_buf_done(&text);
    return rc;
}

/* Every way of nesting ends in a refusal, at a depth that real templates are far from. */
static void test_depth(void **state)
{
    (void)state;
    static const char *const ways[][3] = {
        {"{% if x %}", "", "{% endif %}"},
        {"{% for x in y %}", "", "{% endfor %}"},
        {"{{ (", "1", ") }}"},
        {"", "", ""},
        {"{% macro m() %}", "", "{% endmacro %}"},
        {"{% set x %}", "", "{% endset %}"},
    };
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        if (!ways[i][0][0] || i == 2)
            continue;
        assert_int_equal(nested(ways[i][0], ways[i][1], ways[i][2], PHX_JINJA_DEPTH_MAX - 8), PHX_OK);
        assert_int_equal(nested(ways[i][0], ways[i][1], ways[i][2], PHX_JINJA_DEPTH_MAX + 1),
                         PHX_ERR_TOO_LONG);
        assert_int_equal(nested(ways[i][0], ways[i][1], ways[i][2], 10000), PHX_ERR_TOO_LONG);
    }
    static const char *const inside[][2] = {{"(", ")"},   {"[", "]"},           {"{'a':", "}"}, {"-", ""},
                                            {"not ", ""}, {"x[", "]"},          {"f(", ")"},    {"1 + ", ""},
                                            {"1 ~ ", ""}, {"1 if x else ", ""}, {"1 and ", ""}};
    for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++) {
        phx_buf text;
        for (size_t n = 4; n <= 40000; n *= 10000) {
            phx_buf_init(&text, 1u << 20);
            (void)phx_buf_str(&text, "{{ ");
            put_times(&text, inside[i][0], n);
            (void)phx_buf_str(&text, "1");
            put_times(&text, inside[i][1], n);
            (void)phx_buf_str(&text, " }}");
            assert_int_equal(parse_only(phx_buf_view(&text)), n == 4 ? PHX_OK : PHX_ERR_TOO_LONG);
            phx_buf_done(&text);
        }
    }
}

static void test_template_bytes(void **state)
{
    (void)state;
    char *text = phx_alloc(PHX_JINJA_TEMPLATE_BYTES_MAX + 1, 1);
    assert_non_null(text);
    memset(text, 'x', PHX_JINJA_TEMPLATE_BYTES_MAX + 1);
    assert_int_equal(parse_only((phx_str){text, PHX_JINJA_TEMPLATE_BYTES_MAX}), PHX_OK);
    assert_int_equal(parse_only((phx_str){text, PHX_JINJA_TEMPLATE_BYTES_MAX + 1}), PHX_ERR_TOO_LONG);
    phx_free(text);
}

/* Work, memory, output and calls of macros: each template asks for more than there is. */
static void test_bounds(void **state)
{
    (void)state;
    static const char *const texts[][2] = {
        {"{% for a in range(1000) %}{% for b in range(1000) %}{% if b == 1 or b == 2 or b == 3 or b == 4 or "
         "b == "
         "5 %}{% endif %}{% endfor %}{% endfor %}",
         "steps"},
        {"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", "memory"},
        {"{% for i in range(2000) %}{{ 'x' ~ s }}{% endfor %}", "longer than"},
        {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "deeper than"},
        {"{{ range(1000000000000) }}", "range of more"},
        {"{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}"
         "{{ ns.a|tojson }}",
         "steps"},
        {"{% set n = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set n.a = [n.a, n.a] %}"
         "{% set n.b = [n.b, n.b] %}{% endfor %}{{ n.a == n.b }}",
         "steps"},
        {"{% set ns = namespace() %}{% set ns.a = ns %}{% for i in range(100000) %}"
         "{{ "
         "[ns]|map(attribute='a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.b')"
         "|join }}{% endfor %}",
         "steps"},
        {"{% set ns = namespace(l=[1]) %}{% for i in range(200) %}{% set ns.l = [ns.l] %}{% endfor %}{{ "
         "ns.l|tojson }}",
         "nested too deeply"},
    };
    phx_buf inputs_text;
    phx_buf_init(&inputs_text, 1u << 16);
    (void)phx_buf_str(&inputs_text, "{\"s\":\"");
    put_times(&inputs_text, "0123456789", 100);
    (void)phx_buf_str(&inputs_text, "\"}");
    phx_json *inputs = chat_case_json(phx_buf_view(&inputs_text));
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        phx_jinja_out out;
        phx_error err = {0};
        const phx_code rc = render(phx_str_of(texts[i][0]), inputs, &out, &err);
        if (rc == PHX_OK || !strstr(err.text, texts[i][1]))
            fail_msg("%s: %d '%s'", texts[i][0], rc, err.text);
        assert_true(out.over_bounds == (rc == PHX_ERR_TOO_LONG && !strstr(err.text, "longer than")));
        phx_jinja_out_done(&out);
    }
    phx_json_destroy(inputs);
    phx_buf_done(&inputs_text);
}

/* Names cost the same however many there are. */
static void test_many_names(void **state)
{
    (void)state;
    enum { N = 20000 };
    phx_buf text;
    phx_jinja_out out;
    phx_error err = {0};
    phx_json *inputs = chat_case_json(phx_str_of("{}"));
    phx_buf_init(&text, 1u << 20);
    for (int i = 0; i < N; i++)
        (void)phx_buf_printf(&text, "{%% set v%d = %d %%}", i, i);
    for (int i = 0; i < N; i += 100)
        (void)phx_buf_printf(&text, "{{ v%d - %d }}{%% set v%d = 1 %%}{{ v%d - 1 }}", i, i, i, i);
    (void)phx_buf_str(&text, "{{ v20000 is defined }}");
    if (render(phx_buf_view(&text), inputs, &out, &err) != PHX_OK)
        fail_msg("%s", err.text);
    assert_int_equal(out.text.n, 2 * (N / 100) + strlen("False"));
    for (size_t i = 0; i < 2 * (N / 100); i++)
        assert_int_equal(out.text.ptr[i], '0');
    assert_true(out.n_steps < 4 * N);
    phx_jinja_out_done(&out);
    phx_json_destroy(inputs);
    phx_buf_done(&text);
}

/* Another thread ends it. */
static void test_stop(void **state)
{
    (void)state;
    atomic_bool stop = true;
    phx_jinja *template = NULL;
    phx_jinja_out out;
    phx_jpool pool;
    phx_jpool_init(&pool, PHX_JINJA_MEMORY_MAX);
    phx_jinja_out_init(&out, 100);
    assert_int_equal(phx_jinja_parse(phx_str_of("{{ 1 }}"), &template, NULL), PHX_OK);
    const phx_jinja_inputs inputs = {.pool = &pool, .names = phx_jv_dict(&pool, 0), .stop = &stop};
    assert_int_equal(phx_jinja_render(template, &inputs, &out, NULL), PHX_ERR_CANCELLED);
    assert_false(out.over_bounds);
    stop = false;
    assert_int_equal(phx_jinja_render(template, &inputs, &out, NULL), PHX_OK);
    phx_jinja_out_done(&out);
    phx_jinja_destroy(template);
    phx_jpool_done(&pool);
}

static void test_allocations_fail(void **state)
{
    (void)state;
    const phx_str text =
        phx_str_of("{% macro m(a) %}{{ a|upper }}{% endmacro %}{% set ns = namespace(x=1) %}"
                   "{% for k, v in D.items() if k %}{{ m(k) ~ v|tojson }}{{ 'a\\n'.split() }}"
                   "{% endfor %}{{ [1, 2][::-1]|join('x') }}{{ 'aXbX'.replace('X', 'y') }}");
    const phx_str right =
        phx_str_of("{% macro m(a) %}{{ a|upper }}{% endmacro %}{% set ns = namespace(x=1) %}"
                   "{% for k, v in D.items() if k %}{{ m(k) ~ v|tojson }}{{ 'a\\n'.split()[0] }}"
                   "{% endfor %}{{ [1, 2][::-1]|join('x') }}{{ 'aXbX'.replace('X', 'y') }}");
    phx_json *inputs = chat_case_json(phx_str_of("{\"D\":{\"k\":{\"a\":[1,null]},\"q\":\"w\"}}"));
    const uint64_t n_live = phx_alloc_count().n_live;
    for (int which = 0; which < 2; which++) {
        bool done = false;
        for (uint64_t nth = 1; !done; nth++) {
            phx_jinja_out out;
            phx_error err = {0};
            assert_true(nth < 1000);
            phx_alloc_fail_nth(nth);
            const phx_code rc = render(which ? right : text, inputs, &out, &err);
            phx_alloc_fail_nth(0);
            done = rc != PHX_ERR_NOMEM;
            if (done)
                assert_int_equal(rc, which ? PHX_OK : PHX_ERR_UNSUPPORTED); /* a list cannot be written */
            phx_jinja_out_done(&out);
            assert_int_equal(phx_alloc_count().n_live, n_live);
        }
    }
    phx_json_destroy(inputs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),  cmocka_unit_test(test_line),
        cmocka_unit_test(test_clock),  cmocka_unit_test(test_origin),
        cmocka_unit_test(test_depth),  cmocka_unit_test(test_template_bytes),
        cmocka_unit_test(test_bounds), cmocka_unit_test(test_many_names),
        cmocka_unit_test(test_stop),   cmocka_unit_test(test_allocations_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
