/* tests/fuzz/fuzz_jinja.c - chat templates. Input: the template, and behind a line "---" a JSON object whose
 * members are its global names. What is accepted ends within its bounds, knows the origin of every byte,
 * gives the same text again, and takes no byte of the inputs for its own. */
#include "tests/fuzz/fuzz.h"

#include "base/json.h"
#include "coordinator/text/jinja.h"

#define OUTPUT_BYTES_MAX (1u << 18)
#define MEMORY_BYTES_MAX (1u << 24)

static phx_code render(const phx_jinja *template, const phx_json *inputs, phx_jinja_out *out, phx_error *err)
{
    phx_jpool pool;
    phx_jpool_init(&pool, MEMORY_BYTES_MAX);
    phx_jinja_out_init(out, OUTPUT_BYTES_MAX);
    const phx_jinja_inputs given = {.pool = &pool,
                                    .names = inputs ? phx_jv_of_json(&pool, inputs) : phx_jv_dict(&pool, 0),
                                    .now_s = 1709164805};
    const phx_code rc = phx_jinja_render(template, &given, out, err);
    phx_jpool_done(&pool);
    return rc;
}

/* U+E000 stands in no template that gets here, so where it comes out it is data. */
static void check_origin(const phx_jinja_out *out)
{
    for (size_t i = 0; i + 3 <= out->text.n; i++) {
        if (memcmp(out->text.ptr + i, "\xEE\x80\x80", 3) == 0)
            FUZZ_CHECK(out->mask.ptr[i] == 1 && out->mask.ptr[i + 1] == 1 && out->mask.ptr[i + 2] == 1);
    }
}

static void check_render(phx_str text, const phx_jinja *template, const phx_json *inputs)
{
    phx_jinja_out first;
    phx_jinja_out second;
    phx_error err = {0};
    phx_error again = {0};
    const phx_code rc = render(template, inputs, &first, &err);
    FUZZ_CHECK(render(template, inputs, &second, &again) == rc);
    if (rc != PHX_OK) {
        fuzz_check_refusal(rc, &err);
    } else {
        FUZZ_CHECK(first.text.n == first.mask.n);
        FUZZ_CHECK(phx_str_eq(phx_buf_view(&first.text), phx_buf_view(&second.text)));
        FUZZ_CHECK(phx_str_eq(phx_buf_view(&first.mask), phx_buf_view(&second.mask)));
        FUZZ_CHECK(phx_utf8_valid(first.text.ptr ? first.text.ptr : "", first.text.n));
        if (!memmem(text.ptr, text.n, "\xEE\x80\x80", 3) && !memmem(text.ptr, text.n, "\\u", 2))
            check_origin(&first);
    }
    phx_jinja_out_done(&first);
    phx_jinja_out_done(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fuzz_tape tape = {data, n_bytes};
    phx_jinja *template = NULL;
    phx_json *inputs = NULL;
    phx_error err = {0};
    const phx_str text = fuzz_str(fuzz_take_part(&tape));
    const phx_bytes json = fuzz_rest(&tape);
    if (json.n && phx_json_parse(json, PHX_JSON_LIMITS_REQUEST, &inputs, NULL) == PHX_OK &&
        phx_json_kind_of(inputs) != PHX_JSON_OBJECT) {
        phx_json_destroy(inputs);
        inputs = NULL;
    }
    const phx_code rc = phx_jinja_parse(text, &template, &err);
    if (rc != PHX_OK)
        fuzz_check_refusal(rc, &err);
    else
        check_render(text, template, inputs);
    phx_jinja_destroy(template);
    phx_json_destroy(inputs);
    return 0;
}
