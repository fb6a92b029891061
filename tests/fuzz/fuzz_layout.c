/* tests/fuzz/fuzz_layout.c - "4:0,3,20,41". Input: 1 byte tp and mode, the rest the text. */
#include "tests/fuzz/fuzz.h"

#include "model/layout.h"
#include "model/synth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fuzz_tape tape = {data, n_bytes};
    const uint8_t bits = fuzz_u8(&tape);
    const phx_str text = fuzz_str(fuzz_rest(&tape));
    const phx_preset *preset = phx_preset_find(phx_str_of(bits & 0x80 ? "deepseek-v3.2" : "ds32-3b"));
    phx_layout layout;
    phx_error err = {0};
    FUZZ_CHECK(preset != NULL);
    phx_layout_single(&preset->dims, &layout);
    layout.tp = 1 + (bits & 7);
    layout.experts = bits & 8 ? PHX_EXPERTS_EP : PHX_EXPERTS_TP;
    phx_code rc = phx_layout_parse_pp(text, &preset->dims, &layout, &err);
    if (rc == PHX_OK) {
        FUZZ_CHECK(layout.pp >= 1 && layout.pp <= PHX_PP_MAX);
        FUZZ_CHECK(layout.layer_first[0] == 0 && layout.layer_first[layout.pp] == preset->dims.n_layers);
        for (uint32_t i = 0; i < layout.pp; i++)
            FUZZ_CHECK(layout.layer_first[i] < layout.layer_first[i + 1]);
        rc = phx_layout_check(&layout, &preset->dims, &err);
    }
    if (rc != PHX_OK)
        fuzz_check_refusal(rc, &err);
    else
        FUZZ_CHECK(phx_layout_n_ranks(&layout) <= PHX_RANKS_MAX);
    return 0;
}
