/* tests/fuzz/fuzz_options_check.h - what must hold for options that were accepted, whoever read them. */
#ifndef PHX_TESTS_FUZZ_FUZZ_OPTIONS_CHECK_H
#define PHX_TESTS_FUZZ_FUZZ_OPTIONS_CHECK_H

#include "base/options.h"

/* Each value is written as text that sets it again; the arguments for a child give the same options; a plan
 * request comes out of them, or a refusal. */
void fuzz_check_options(const phx_options *options);

#endif
