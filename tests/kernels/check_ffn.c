/* tests/kernels/check_ffn.c - ffn_in: routed and dense rows, skewed and empty experts, both outputs. */
#include "tests/kernels/check.h"

#include <math.h>

#include "tests/kernels/routing.h"

typedef struct shape {
    phx_format format;
    phx_dtype dtype;
    phx_dtype out_dtype;
    check_fill fill;
    check_routing_kind kind;
    int64_t n_tokens;
    int64_t n_out;
    int64_t n_cols;
} shape;

static void ffn_in_case(check *c, const shape *drawn);

void check_ffn_in(check *c)
{
    static const int64_t tokens[] = {0, 1, 2, 3, 7, 64};
    for (int f = PHX_FORMAT_COUNT - 1; f >= 0; f--) {
        for (int kind = 0; kind < CHECK_ROUTING_COUNT; kind++) {
            for (int i = 0; i < 6; i += c->brief ? 3 : 1) {
                const phx_dtype dtype = (i & 1) != 0 ? PHX_F32 : PHX_BF16;
                const phx_dtype out = (i + kind) % 3 == 0 ? PHX_F32 : PHX_BF16;
                ffn_in_case(c, &(shape){(phx_format)f, dtype, out, CHECK_RANDOM, (check_routing_kind)kind,
                                        check_rows(c, tokens[i]), 19, 131});
            }
        }
        for (int fill = 0; fill < CHECK_FILL_COUNT; fill++)
            ffn_in_case(c, &(shape){(phx_format)f, PHX_BF16, PHX_F32, (check_fill)fill, CHECK_ROUTING_MIXED,
                                    5, 37, 300});
        for (int64_t blocks = 1; blocks <= 2; blocks++) /* whole blocks, more than one tile of rows */
            ffn_in_case(c, &(shape){(phx_format)f, blocks == 1 ? PHX_BF16 : PHX_F32, PHX_F32, CHECK_RANDOM,
                                    blocks == 1 ? CHECK_ROUTING_DENSE : CHECK_ROUTING_MIXED, 34, 18,
                                    128 * blocks});
        ffn_in_case(c, &(shape){(phx_format)f, PHX_BF16, PHX_BF16, CHECK_RANDOM, CHECK_ROUTING_DENSE, 131, 70,
                                128}); /* many rows */
        ffn_in_case(c,
                    &(shape){(phx_format)f, PHX_BF16, PHX_F32, CHECK_RANDOM, CHECK_ROUTING_ONE, 70, 20, 256});
        for (int64_t n = 8; n <= 32; n *= 2) /* where tiles end */
            ffn_in_case(c, &(shape){(phx_format)f, PHX_BF16, PHX_BF16, CHECK_RANDOM, CHECK_ROUTING_MIXED, n,
                                    32, 128});
        for (int64_t i = 0; i < 4; i++) /* to be packed */
            ffn_in_case(c, &(shape){(phx_format)f, PHX_BF16, PHX_BF16, CHECK_RANDOM, CHECK_ROUTING_MIXED,
                                    1 + 3 * i, 48 + 16 * (i % 2), 128 + 64 * i});
        for (int64_t k = 1; k <= check_most(c, 130); k += c->brief ? check_step(c, 1) : 3)
            ffn_in_case(c, &(shape){(phx_format)f, PHX_F32, PHX_F32, CHECK_RANDOM, CHECK_ROUTING_MIXED, 3,
                                    1 + k % 9, k});
    }
}

/* One output by the formula, and the error that the limits of the two products allow it. */
static double formula(const phx_ffn_in_args *a, int64_t e, int64_t j, int64_t n, double *ret_limit)
{
    const int64_t n_cols = a->gate[e]->n_cols;
    const int64_t t = a->rows.token ? a->rows.token[j] : j;
    double g = 0.0;
    double u = 0.0;
    double g_size = 0.0;
    double u_size = 0.0;
    for (int64_t k = 0; k < n_cols; k++) {
        const double x = check_load(a->x.data, a->x.dtype, t * a->x.stride + k);
        const double wg = (double)phx_matrix_at(a->gate[e], n, k);
        const double wu = (double)phx_matrix_at(a->up[e], n, k);
        g += x * wg;
        u += x * wu;
        g_size += fabs(x * wg);
        u_size += fabs(x * wu);
    }
    const double sum_limit = ((double)n_cols / 16.0 + 8.0) * (double)FLT_EPSILON;
    const double silu = g / (1.0 + exp(-g));
    const double g_error = 1.1 * sum_limit * g_size; /* the slope of silu stays below 1.1 */
    const double u_error = sum_limit * u_size;
    *ret_limit = g_error * (fabs(u) + u_error) + u_error * fabs(silu) +
                 8.0 * (double)FLT_EPSILON * fabs(silu * u) + (double)FLT_MIN;
    return silu * u;
}

static void ffn_in_promises(check *c, const phx_ffn_in_args *args, const void *got, int64_t n_entries)
{
    const size_t bytes = phx_dtype_bytes(args->out.dtype);
    const int64_t n = n_entries * args->out.stride;
    for (int i = 1; i < CHECK_POOLS; i++) {
        phx_ffn_in_args a = *args;
        a.out.data = check_out(c, n, bytes);
        c->ops->ffn_in(c->pools[i], &a);
        check_same(c, "the number of threads", got, a.out.data, n, bytes);
    }
    /* each entry alone: an expert list with one row */
    char *alone = check_out(c, n, bytes);
    const int64_t *first = check_copy(c, (const int64_t[]){0, 1}, 2, sizeof(*first));
    int32_t *token = check_mem(c, 1, sizeof(*token));
    for (int64_t e = 0; e < args->rows.n_experts; e++) {
        for (int64_t j = args->rows.first[e]; j < args->rows.first[e + 1] && j < 12; j++) {
            *token = args->rows.token ? args->rows.token[j] : (int32_t)j;
            phx_ffn_in_args a = *args;
            a.gate += e;
            a.up += e;
            a.rows = (phx_expert_rows){1, first, token, NULL};
            a.out.data = alone + (size_t)(j * args->out.stride) * bytes;
            c->ops->ffn_in(c->pools[0], &a);
            check_same(c, "neighbouring entries", (const char *)got + (size_t)(j * args->out.stride) * bytes,
                       a.out.data, args->n_out, bytes);
        }
    }
    if (args->n_out < 3)
        return;
    /* gate and up cut by rows */
    const int64_t at = args->n_out / 3;
    const int64_t n_experts = args->rows.n_experts;
    phx_ffn_in_args cut = *args;
    const phx_matrix **gate = check_mem(c, n_experts, sizeof(*gate));
    const phx_matrix **up = check_mem(c, n_experts, sizeof(*up));
    for (int64_t e = 0; e < n_experts; e++) {
        gate[e] = args->gate[e] ? check_slice_rows(c, args->gate[e], at, args->n_out) : NULL;
        up[e] = args->up[e] ? check_slice_rows(c, args->up[e], at, args->n_out) : NULL;
    }
    cut.gate = gate;
    cut.up = up;
    cut.n_out = args->n_out - at;
    cut.out.data = check_out(c, n, bytes);
    c->ops->ffn_in(c->pools[0], &cut);
    for (int64_t j = 0; j < n_entries; j++)
        check_same(c, "the cut of gate and up by rows",
                   (const char *)got + (size_t)(j * args->out.stride + at) * bytes,
                   (const char *)cut.out.data + (size_t)(j * args->out.stride) * bytes, cut.n_out, bytes);
}

static void ffn_in_case(check *c, const shape *drawn)
{
    shape even = *drawn;
    const shape *s = &even;
    even.n_cols = check_cols(s->format, s->n_cols);
    check_case(c, "%s x %s to %s fill %d routing %d tokens %lld n_out %lld K %lld",
               phx_format_name(s->format), phx_dtype_name(s->dtype), phx_dtype_name(s->out_dtype),
               (int)s->fill, (int)s->kind, (long long)s->n_tokens, (long long)s->n_out, (long long)s->n_cols);
    check_routing routing = check_routing_make(c, s->kind, s->n_tokens);
    const int64_t n_entries = routing.rows.first[routing.rows.n_experts];
    const phx_matrix **gate = check_mem(c, routing.rows.n_experts, sizeof(*gate));
    const phx_matrix **up = check_mem(c, routing.rows.n_experts, sizeof(*up));
    for (int64_t e = 0; e < routing.rows.n_experts; e++) {
        if (routing.rows.first[e] == routing.rows.first[e + 1])
            continue; /* stays NULL */
        gate[e] = check_packed(c, check_matrix(c, s->format, s->n_out, s->n_cols, s->fill));
        up[e] = check_packed(c, check_matrix(c, s->format, s->n_out, s->n_cols, s->fill));
    }
    phx_ffn_in_args a = {.gate = gate, .up = up, .rows = routing.rows, .n_out = s->n_out};
    a.x = check_activation(c, s->n_tokens, s->n_cols, s->dtype, s->fill);
    a.out.stride = s->n_out + 2;
    a.out.dtype = s->out_dtype;
    const size_t bytes = phx_dtype_bytes(s->out_dtype);
    void *got = check_out(c, n_entries * a.out.stride, bytes);
    void *want = check_out(c, n_entries * a.out.stride, bytes);
    a.out.data = got;
    c->ops->ffn_in(c->pools[0], &a);
    a.out.data = want;
    c->ref->ffn_in(c->ref_pool, &a);
    double *limit = check_mem(c, n_entries * s->n_out, sizeof(double));
    for (int64_t e = 0; e < routing.rows.n_experts; e++) {
        for (int64_t j = routing.rows.first[e]; j < routing.rows.first[e + 1]; j++) {
            for (int64_t n = 0; n < s->n_out; n++) {
                const double value = formula(&a, e, j, n, &limit[j * s->n_out + n]);
                if (c->is_ref && s->out_dtype == PHX_F32)
                    ((float *)want)[j * a.out.stride + n] = (float)value;
            }
        }
    }
    check_compare(c, &(check_result){want, got, s->out_dtype, n_entries, s->n_out, a.out.stride, limit});
    ffn_in_promises(c, &a, got, n_entries);
    check_end(c);
}
