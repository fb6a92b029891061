/* tests/alloc_loop.h - every allocation of a piece of work fails once: it must say so and give all back. */
#ifndef PHX_TESTS_ALLOC_LOOP_H
#define PHX_TESTS_ALLOC_LOOP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/status.h"

/* Does the work from nothing and takes it down again. */
typedef phx_code alloc_loop_fn(void *user, phx_error *err);

/* Runs it once to count its allocations (it must succeed, and leave nothing), then once per allocation, or
 * per step-th when they are many; each must end with PHX_ERR_NOMEM, a text, and nothing left behind. Returns
 * how many allocations there are. */
static inline uint64_t alloc_loop(alloc_loop_fn *work, void *user, uint64_t step)
{
    phx_error err = {0};
    const phx_alloc_stats before = phx_alloc_count();
    if (work(user, &err) != PHX_OK)
        fail_msg("without failures: %s (%s)", err.text, err.place);
    const phx_alloc_stats after = phx_alloc_count();
    const uint64_t n = after.n_allocs - before.n_allocs;
    assert_true(n > 0);
    assert_int_equal(after.n_live, before.n_live);
    for (uint64_t nth = 1; nth <= n; nth += nth < 200 ? 1 : step) {
        err = (phx_error){0};
        phx_alloc_fail_nth(nth);
        const phx_code rc = work(user, &err);
        phx_alloc_fail_nth(0);
        if (rc != PHX_ERR_NOMEM || err.code != rc || !err.text[0])
            fail_msg("allocation %llu of %llu: %s, recorded %s '%s' (%s)", (unsigned long long)nth,
                     (unsigned long long)n, phx_code_name(rc), phx_code_name(err.code), err.text, err.place);
        if (phx_alloc_count().n_live != before.n_live)
            fail_msg("allocation %llu of %llu: something leaks (%s)", (unsigned long long)nth,
                     (unsigned long long)n, err.place);
    }
    return n;
}

#endif
