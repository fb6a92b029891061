/* tests/fuzz/fuzz_output.c - what DeepSeek writes, cut anywhere: the joined events depend on the text only.
 * Input: 1 byte of switches, 1 byte of cuts, the rest the text. */
#include "tests/fuzz/fuzz_output_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fuzz_tape tape = {data, n_bytes};
    const uint8_t bits = fuzz_u8(&tape);
    fuzz_check_output("deepseek-v3.2", NULL, bits, &tape);
    return 0;
}
