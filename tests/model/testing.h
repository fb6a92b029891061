/* tests/model/testing.h - what the tests of model/ share: cmocka, places of data, one-line checks. */
#ifndef PHX_TESTS_MODEL_TESTING_H
#define PHX_TESTS_MODEL_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/status.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

/* The code must be OK; prints the error's text otherwise. */
static inline void must(phx_code rc, const phx_error *err)
{
    if (rc != PHX_OK)
        fail_msg("%s: %s (%s)", phx_code_name(rc), err->text, err->place);
}

/* ROOT/NAME where ROOT is an environment variable with a default; the text lives until the next call. */
static inline const char *place_of(const char *variable, const char *otherwise, const char *name)
{
    static char path[4096];
    const char *root = getenv(variable);
    (void)snprintf(path, sizeof(path), "%s/%s", root ? root : otherwise, name);
    return path;
}

static inline const char *shared_path(const char *name)
{
    return place_of("PHX_SHARED", "../shared", name);
}

static inline const char *source_path(const char *name)
{
    return place_of("PHX_SOURCE", ".", name);
}

#endif
