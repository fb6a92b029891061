/* tests/kernels/check_copy.c - the ops that move or add single numbers; all exact: embed, cache_write, round,
 * add. */
#include <math.h>

#include "kernels/cache.h"
#include "tests/kernels/check.h"

static const int64_t row_counts[] = {0, 1, 2, 3, 7, 64};
#define N_ROW_COUNTS ((int64_t)(sizeof(row_counts) / sizeof(row_counts[0])))

static void embed_case(check *c, phx_format format, int64_t n_rows, int64_t n_any)
{
    const int64_t n_cols = check_cols(format, n_any);
    check_case(c, "%s n_rows %lld n_cols %lld", phx_format_name(format), (long long)n_rows,
               (long long)n_cols);
    enum { N_IDS = 150 };
    int32_t *ids = check_mem(c, n_rows, sizeof(*ids));
    for (int64_t r = 0; r < n_rows; r++)
        ids[r] = (int32_t)phx_rng_below(&c->rng, N_IDS + 20) - 20 < 0
                     ? -1
                     : (int32_t)phx_rng_below(&c->rng, N_IDS);
    phx_embed_args a = {
        .table = check_matrix(c, format, N_IDS, n_cols, CHECK_RANDOM), .ids = ids, .n_rows = n_rows};
    float *want = check_out(c, n_rows * n_cols, sizeof(float));
    a.out = want;
    c->ref->embed(c->ref_pool, &a);
    float *got = check_out(c, n_rows * n_cols, sizeof(float));
    a.out = got;
    c->ops->embed(c->pools[0], &a);
    check_compare(c, &(check_result){want, got, PHX_F32, n_rows, n_cols, n_cols, NULL});
    a.out = check_out(c, n_rows * n_cols, sizeof(float));
    c->ops->embed(c->pools[2], &a);
    check_same(c, "the number of threads", got, a.out, n_rows * n_cols, sizeof(float));
    check_end(c);
}

void check_embed(check *c)
{
    for (int f = 0; f < PHX_FORMAT_COUNT; f++) {
        for (int64_t i = 0; i < N_ROW_COUNTS; i++)
            embed_case(c, (phx_format)f, row_counts[i], 259);
        for (int64_t n_cols = 1; n_cols <= 130; n_cols += 3)
            embed_case(c, (phx_format)f, 3, n_cols);
    }
}

static void cache_write_case(check *c, phx_dtype dtype, int64_t n_rows, int64_t width, check_fill fill)
{
    check_case(c, "%s n_rows %lld width %lld fill %d", phx_dtype_name(dtype), (long long)n_rows,
               (long long)width, (int)fill);
    enum { N_ENTRIES = 192 };
    const size_t bytes = phx_dtype_bytes(dtype);
    phx_cache cache = {.width = width, .dtype = dtype};
    int64_t *entries = check_mem(c, n_rows, sizeof(*entries));
    for (int64_t r = 0; r < n_rows; r++)
        entries[r] = r % 3 == 2 ? -1 : (r * 67 + 5) % N_ENTRIES; /* all different; some rows are padding */
    phx_cache_write_args a = {.x_stride = width + 3, .n_rows = n_rows, .entries = entries, .cache = &cache};
    a.x = check_floats(c, n_rows * a.x_stride, fill);
    void *want = check_out(c, N_ENTRIES * width, bytes);
    cache.data = want;
    c->ref->cache_write(c->ref_pool, &a);
    for (int i = 0; i < CHECK_POOLS; i++) {
        void *got = check_out(c, N_ENTRIES * width, bytes);
        cache.data = got;
        c->ops->cache_write(c->pools[i], &a);
        check_compare(c, &(check_result){want, got, dtype, N_ENTRIES, width, width, NULL});
    }
    check_end(c);
}

/* The fp8 form: every byte of the memory, entries that are not written among them. */
static void cache_write_fp8_case(check *c, int64_t n_rows, int64_t d_latent, int64_t width, check_fill fill)
{
    check_case(c, "fp8 n_rows %lld width %lld of %lld fill %d", (long long)n_rows, (long long)d_latent,
               (long long)width, (int)fill);
    enum { N_ENTRIES = 192 };
    phx_cache cache = {.width = width, .dtype = PHX_F8_E4M3, .d_latent = d_latent};
    const int64_t n_bytes = N_ENTRIES * phx_cache_entry_bytes(&cache);
    int64_t *entries = check_mem(c, n_rows, sizeof(*entries));
    for (int64_t r = 0; r < n_rows; r++)
        entries[r] = r % 3 == 2 ? -1 : (r * 67 + 5) % N_ENTRIES; /* all different; some rows are padding */
    phx_cache_write_args a = {.x_stride = width + 3, .n_rows = n_rows, .entries = entries, .cache = &cache};
    a.x = check_floats(c, n_rows * a.x_stride, fill);
    cache.data = check_out(c, n_bytes, 1);
    const void *want = cache.data;
    c->ref->cache_write(c->ref_pool, &a);
    for (int64_t i = 0; c->is_ref && i < n_rows * d_latent; i++) { /* within half a step of three bits */
        const int64_t r = i / d_latent;
        const int64_t k = i % d_latent;
        if (entries[r] < 0)
            continue;
        const double x = (double)a.x[r * a.x_stride + k];
        double max = 1e-4;
        for (int64_t other = k / 128 * 128; other < d_latent && other < (k / 128 + 1) * 128; other++)
            max = fmax(max, fabs((double)a.x[r * a.x_stride + other]));
        const double step = fmax(fabs(x) / 16.0, max / 448.0 * 2.0 / 1024.0);
        check_value(c, x, (double)phx_cache_number(&cache, entries[r], k), step, r, k);
    }
    for (int i = 0; i < CHECK_POOLS; i++) {
        cache.data = check_out(c, n_bytes, 1);
        c->ops->cache_write(c->pools[i], &a);
        check_same(c, "the reference", want, cache.data, n_bytes, 1);
    }
    check_end(c);
}

void check_cache_write(check *c)
{
    for (int64_t i = 0; i < N_ROW_COUNTS; i++) {
        for (int fill = 0; fill < CHECK_FILL_COUNT; fill += c->brief ? 2 : 1) {
            cache_write_fp8_case(c, row_counts[i], 512, 576, (check_fill)fill);
            cache_write_fp8_case(c, row_counts[i], 200, 217, (check_fill)fill);
        }
        for (int fill = 0; fill < CHECK_FILL_COUNT; fill++) {
            cache_write_case(c, PHX_BF16, row_counts[i], 576, (check_fill)fill);
            cache_write_case(c, PHX_F32, row_counts[i], 131, (check_fill)fill);
            cache_write_case(c, PHX_F16, row_counts[i], 131, (check_fill)fill);
        }
    }
}

static void round_case(check *c, phx_dtype dtype, int64_t n_rows, int64_t n_cols, check_fill fill)
{
    check_case(c, "%s n_rows %lld n_cols %lld fill %d", phx_dtype_name(dtype), (long long)n_rows,
               (long long)n_cols, (int)fill);
    const size_t bytes = phx_dtype_bytes(dtype);
    phx_round_args a = {.x_stride = n_cols + 3, .n_rows = n_rows, .n_cols = n_cols};
    float *x = check_floats(c, n_rows * a.x_stride, fill);
    if (n_rows > 1) { /* ties of the rounding, both ways, and signs */
        x[0] = phx_f32_of_bits(0x3F808000u);
        x[a.x_stride] = phx_f32_of_bits(0xBF818000u);
    }
    a.x = x;
    a.out.stride = n_cols + 2;
    a.out.dtype = dtype;
    void *want = check_out(c, n_rows * a.out.stride, bytes);
    a.out.data = want;
    c->ref->round(c->ref_pool, &a);
    for (int i = 0; i < CHECK_POOLS; i++) {
        void *got = check_out(c, n_rows * a.out.stride, bytes);
        a.out.data = got;
        c->ops->round(c->pools[i], &a);
        check_compare(c, &(check_result){want, got, dtype, n_rows, n_cols, a.out.stride, NULL});
    }
    check_end(c);
}

void check_round(check *c)
{
    for (int d = 0; d < 2; d++) {
        const phx_dtype dtype = d == 0 ? PHX_BF16 : PHX_F32;
        for (int fill = 0; fill < CHECK_FILL_COUNT; fill++) {
            for (int64_t i = 0; i < N_ROW_COUNTS; i++)
                round_case(c, dtype, row_counts[i], 300, (check_fill)fill);
        }
        for (int64_t n_cols = 1; n_cols <= 130; n_cols++)
            round_case(c, dtype, 2, n_cols, CHECK_RANDOM);
    }
}

static void add_case(check *c, int64_t n, check_fill fill)
{
    check_case(c, "n %lld fill %d", (long long)n, (int)fill);
    const float *x = check_floats(c, n, fill);
    const float *y = check_floats(c, n, CHECK_RANDOM);
    phx_add_args a = {.x = x, .n = n};
    float *want = check_copy(c, y, n, sizeof(float));
    a.y = want;
    c->ref->add(c->ref_pool, &a);
    for (int i = 0; i < CHECK_POOLS; i++) {
        a.y = check_copy(c, y, n, sizeof(float));
        c->ops->add(c->pools[i], &a);
        check_compare(c, &(check_result){want, a.y, PHX_F32, 1, n, n, NULL});
    }
    check_end(c);
}

void check_add(check *c)
{
    for (int fill = 0; fill < CHECK_FILL_COUNT; fill++)
        add_case(c, 70001, (check_fill)fill);
    for (int64_t n = 0; n <= 130; n++)
        add_case(c, n, CHECK_RANDOM);
}
