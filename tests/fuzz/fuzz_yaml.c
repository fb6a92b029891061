/* tests/fuzz/fuzz_yaml.c - cluster.yaml. */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_options_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    phx_options options;
    phx_options before;
    phx_error err = {0};
    memset(&options, 0, sizeof(options)); /* padding too, for the comparison */
    phx_options_init(&options);
    memcpy(&before, &options, sizeof(before));
    const phx_code rc =
        phx_options_parse_yaml(&options, (phx_str){(const char *)data, n_bytes}, "fuzz.yaml", &err);
    if (rc == PHX_OK) {
        fuzz_check_options(&options);
        return 0;
    }
    fuzz_check_refusal(rc, &err);
    FUZZ_CHECK(memcmp(&options, &before, sizeof(before)) == 0);
    FUZZ_CHECK(phx_str_starts(phx_str_of(err.text), phx_str_of("fuzz.yaml")));
    return 0;
}
