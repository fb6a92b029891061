/* tests/fuzz/fuzz_config.c - config.json to dims; then no size that a plan derives may overflow. */
#include "tests/fuzz/fuzz.h"

#include <math.h>

#include "model/dims.h"
#include "model/family.h"
#include "model/layout.h"

#define LIMITS       ((phx_json_limits){PHX_CONFIG_BYTES_MAX, PHX_CONFIG_DEPTH_MAX, 200000, 200000})
#define ELEMENTS_MAX (1LL << 60)
#define VISITS_MAX   4096

typedef struct totals {
    const phx_dims *dims;
    int64_t n_elements;
    int n_visits;
} totals;

static phx_code visit(void *user, const phx_tensor_id *id, phx_error *err)
{
    totals *t = user;
    int64_t n;
    char name[128];
    (void)err;
    const int64_t n_rows = id->rule->n_rows(t->dims);
    const int64_t n_cols = id->rule->n_cols(t->dims);
    FUZZ_CHECK(n_rows > 0 && n_cols > 0);
    FUZZ_CHECK(!__builtin_mul_overflow(n_rows, n_cols, &n));
    FUZZ_CHECK(!__builtin_add_overflow(t->n_elements, n, &t->n_elements));
    FUZZ_CHECK(t->n_elements < ELEMENTS_MAX);
    FUZZ_CHECK(phx_tensor_name(id, name, sizeof(name)));
    return ++t->n_visits == VISITS_MAX ? PHX_ERR_CANCELLED : PHX_OK;
}

static void check_rope(const phx_dims *dims)
{
    double freqs[512];
    FUZZ_CHECK(dims->d_rope / 2 <= 512);
    phx_dims_rope_freqs(dims, freqs);
    for (int64_t i = 0; i < dims->d_rope / 2; i++)
        FUZZ_CHECK(isfinite(freqs[i]) && freqs[i] >= 0);
    FUZZ_CHECK(isfinite(phx_dims_softmax_scale(dims)) && phx_dims_softmax_scale(dims) > 0);
    FUZZ_CHECK(isfinite(phx_dims_rope_scale(dims)));
}

/* The writer's text reads back as the same model. */
static void check_written(const phx_dims *dims)
{
    phx_buf text;
    phx_buf again;
    phx_json *root = NULL;
    phx_dims back;
    phx_error err = {0};
    phx_buf_init(&text, 1u << 20);
    phx_buf_init(&again, 1u << 20);
    phx_dims_write_json(dims, PHX_FORMAT_FP8_BLOCK, &text);
    FUZZ_CHECK(text.code == PHX_OK);
    fuzz_must(phx_json_parse((phx_bytes){(const uint8_t *)text.ptr, text.n}, LIMITS, &root, &err), &err);
    fuzz_must(phx_dims_parse(root, &back, &err), &err);
    phx_dims_write_json(&back, PHX_FORMAT_FP8_BLOCK, &again);
    FUZZ_CHECK(phx_str_eq(phx_buf_view(&text), phx_buf_view(&again)));
    phx_json_destroy(root);
    phx_buf_done(&text);
    phx_buf_done(&again);
}

static void check_layouts(const phx_dims *dims)
{
    static const char *const texts[] = {"1", "2", "3", "16"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        phx_layout layout;
        phx_error err = {0};
        phx_layout_single(dims, &layout);
        layout.tp = 4;
        phx_code rc = phx_layout_parse_pp(phx_str_of(texts[i]), dims, &layout, &err);
        if (rc == PHX_OK)
            rc = phx_layout_check(&layout, dims, &err);
        if (rc != PHX_OK)
            fuzz_check_refusal(rc, &err);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    phx_json *root = NULL;
    phx_dims dims;
    phx_error err = {0};
    phx_code rc = phx_json_parse((phx_bytes){data, n_bytes}, LIMITS, &root, &err);
    if (rc == PHX_OK)
        rc = phx_dims_parse(root, &dims, &err);
    phx_json_destroy(root);
    if (rc != PHX_OK) {
        fuzz_check_refusal(rc, &err);
        return 0;
    }
    const phx_family *family = phx_family_find(dims.model_type);
    totals t = {.dims = &dims};
    FUZZ_CHECK(family != NULL);
    FUZZ_CHECK(dims.n_layers > 0 && dims.n_vocab > 0 && dims.d_hidden > 0 && dims.n_heads > 0);
    FUZZ_CHECK(dims.n_layers_dense >= 0 && dims.n_eos >= 0 && dims.n_eos <= PHX_EOS_MAX);
    FUZZ_CHECK(dims.n_experts == 0 || dims.n_experts_used <= dims.n_experts);
    for (int64_t i = 0; i < dims.n_eos; i++)
        FUZZ_CHECK(dims.eos_ids[i] >= 0 && dims.eos_ids[i] < 1 << 22);
    (void)phx_family_each(family, &dims, visit, &t, &err);
    check_rope(&dims);
    check_written(&dims);
    if (t.n_visits < VISITS_MAX)
        check_layouts(&dims);
    return 0;
}
