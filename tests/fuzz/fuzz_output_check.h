/* tests/fuzz/fuzz_output_check.h - what must hold for everything that a model writes, whatever its format. */
#ifndef PHX_TESTS_FUZZ_FUZZ_OUTPUT_CHECK_H
#define PHX_TESTS_FUZZ_FUZZ_OUTPUT_CHECK_H

#include "coordinator/text/output_parser.h"
#include "tests/fuzz/fuzz.h"

/* Reads the rest of the tape, 1 byte of cuts and the text, whole and cut: the joined events are the same,
 * calls come whole and in order, arguments are one JSON object, no event is empty. bits: 1 in reasoning, 2
 * calls are parsed. types: as phx_output_options has them; without them and without bits nothing is taken
 * away. */
void fuzz_check_output(const char *format, const phx_output_types *types, uint8_t bits, fuzz_tape *tape);

#endif
