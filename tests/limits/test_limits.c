/* tests/limits/test_limits.c - every row of base/limits.list: at the limit, one past it, and in
 * docs/limits.md. Rows of a connection are tried by tests/http/test_limits.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/limits.h"
#include "tests/limits/probes.h"

enum { LINE_BYTES = 512, PAGE_BYTES = 1 << 20 };

typedef struct row {
    const char *name;
    size_t value;
    bool (*takes)(size_t n);
} row;

static const row rows[] = {
#define PHX_LIMIT(name, value, unit, what, past, where) {#name, (value), takes_##name},
#include "base/limits.list"
};

static void test_each_at_and_past(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (!rows[i].takes(rows[i].value))
            fail_msg("%s: %zu is refused", rows[i].name, rows[i].value);
        if (rows[i].takes(rows[i].value + 1))
            fail_msg("%s: %zu is taken", rows[i].name, rows[i].value + 1);
    }
    (void)printf("%zu limits, each at its value and one past it\n", sizeof(rows) / sizeof(rows[0]));
}

/* ---- the page ---- */

static void put_number(unsigned long long number, char *ret_text, size_t n_bytes)
{
    char digits[24];
    const int n = snprintf(digits, sizeof(digits), "%llu", number);
    size_t at = 0;
    for (int i = 0; i < n && at + 2 < n_bytes; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            ret_text[at++] = ',';
        ret_text[at++] = digits[i];
    }
    ret_text[at] = 0;
}

static void write_rows(phx_buf *page)
{
    char a[32], b[32];
#define PHX_LIMIT_HTTP(field, value, ceiling, what) \
    put_number((value), a, sizeof(a));              \
    put_number((ceiling), b, sizeof(b));            \
    (void)phx_buf_printf(page, "| `%s` | %s | %s | %s |\n", #field, a, b, (what));
#define PHX_LIMIT(name, value, unit, what, past, where)                                               \
    put_number((value), a, sizeof(a));                                                                \
    (void)phx_buf_printf(page, "| `%s` | %s %s | %s | %s | %s |\n", #name, a, (unit), (what), (past), \
                         (where));
#include "base/limits.list"
}

/* The page has exactly these rows, in this order. */
static void test_page(void **state)
{
    const char *source = getenv("PHX_SOURCE");
    char path[4096];
    phx_buf expected, page, got;
    phx_error err = {0};
    (void)state;
    phx_buf_init(&expected, PAGE_BYTES);
    phx_buf_init(&page, PAGE_BYTES);
    phx_buf_init(&got, PAGE_BYTES);
    write_rows(&expected);
    (void)snprintf(path, sizeof(path), "%s/docs/limits.md", source ? source : ".");
    if (phx_file_read(path, &page, &err) != PHX_OK)
        fail_msg("%s", err.text);
    for (const char *at = page.ptr; at && *at;) {
        const size_t n = strcspn(at, "\n") + 1;
        if (strncmp(at, "| `", 3) == 0)
            (void)phx_buf_append(&got, at, n);
        at += at[n - 1] ? n : n - 1;
    }
    const bool same = phx_str_eq(phx_buf_view(&got), phx_buf_view(&expected));
    if (!same)
        (void)printf("%s", expected.ptr);
    if (!same)
        fail_msg("the rows of %s are not those of base/limits.list, which are above", path);
    phx_buf_done(&expected);
    phx_buf_done(&page);
    phx_buf_done(&got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_at_and_past),
        cmocka_unit_test(test_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
