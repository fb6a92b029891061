/* tests/fuzz/fuzz_numerics.c - the text form of the knobs, as a peer sends it, and single assignments. */
#include "tests/fuzz/fuzz.h"

#include "model/numerics.h"

static void check_printed(const phx_numerics *numerics)
{
    phx_buf text;
    phx_buf again;
    phx_numerics back;
    phx_error err = {0};
    phx_buf_init(&text, 4096);
    phx_buf_init(&again, 4096);
    phx_numerics_print(numerics, &text);
    FUZZ_CHECK(text.code == PHX_OK);
    fuzz_must(phx_numerics_parse(phx_buf_view(&text), &back, &err), &err);
    phx_numerics_print(&back, &again);
    FUZZ_CHECK(phx_str_eq(phx_buf_view(&text), phx_buf_view(&again)));
    const phx_hash a = phx_numerics_hash(numerics);
    const phx_hash b = phx_numerics_hash(&back);
    FUZZ_CHECK(phx_hash_eq(&a, &b));
    phx_buf_done(&text);
    phx_buf_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const phx_str text = {(const char *)data, n_bytes};
    phx_numerics numerics;
    phx_error err = {0};
    phx_error other = {0};
    phx_code rc = phx_numerics_parse(text, &numerics, &err);
    if (rc == PHX_OK)
        check_printed(&numerics);
    else
        fuzz_check_refusal(rc, &err);
    phx_numerics_preset(PHX_PROFILE_SERVING, &numerics);
    rc = phx_numerics_set(&numerics, text, &other);
    if (rc != PHX_OK)
        fuzz_check_refusal(rc, &other);
    check_printed(&numerics);
    return 0;
}
