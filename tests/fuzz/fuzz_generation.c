/* tests/fuzz/fuzz_generation.c - generation_config.json beside a good config.json: end tokens and defaults.
 */
#include "tests/fuzz/fuzz.h"

#include "base/file.h"
#include "coordinator/api/model_text.h"
#include "model/dims.h"
#include "proto/step_plan.h"

static void put_config(void)
{
    static bool done;
    phx_buf text;
    phx_error err = {0};
    if (done)
        return;
    phx_buf_init(&text, 1u << 20);
    fuzz_must(phx_file_read(fuzz_source_path("launch/demo/config.json"), &text, &err), &err);
    (void)fuzz_file("config.json", (phx_bytes){(const uint8_t *)text.ptr, text.n});
    phx_buf_done(&text);
    done = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    phx_dims dims;
    phx_model_text text;
    phx_error err = {0};
    put_config();
    (void)fuzz_file("generation_config.json", (phx_bytes){data, n_bytes});
    phx_code rc = phx_dims_load(fuzz_folder(), &dims, &err);
    if (rc == PHX_OK) {
        FUZZ_CHECK(dims.n_eos >= 0 && dims.n_eos <= PHX_EOS_MAX);
        for (int64_t i = 0; i < dims.n_eos; i++)
            FUZZ_CHECK(dims.eos_ids[i] >= 0 && dims.eos_ids[i] < 1 << 22);
        rc = phx_model_text_load(
            &(phx_model_text_from){
                .model_dir = fuzz_folder(), .name = "fuzz", .dims = &dims, .n_context = 100},
            &text, &err);
    }
    if (rc != PHX_OK) {
        fuzz_check_refusal(rc, &err);
        return 0;
    }
    FUZZ_CHECK(text.n_eos <= 16);
    for (uint32_t i = 0; i < text.n_eos; i++)
        FUZZ_CHECK(text.eos_ids[i] < text.n_vocab);
    const phx_sampling sampling = {
        .temperature = text.temperature, .top_p = text.top_p, .repetition_penalty = 1};
    fuzz_must(phx_sampling_check(&sampling, &err), &err); /* requests take these as they are */
    phx_model_text_done(&text);
    return 0;
}
