/* kernels/cpu/dots.c - blocks of dot products, direct and with widened panels. See dots.h for the arithmetic.
 */
#include "kernels/cpu/dots.h"

#include <assert.h>

#include "kernels/cpu/tiles.h"

/* A single activation takes 8 weight rows at once, to hide the latency of one chain each. */
#define OUTS_ONE 8

/* What the hardware does not find by itself, measured on Zen 3: fp8 rows reach the first cache in time only
 * if asked for so many bytes ahead, and so many at the start of a job; rows up to SHORT_ROW bytes make
 * streams so short that the next job's are fetched to the second cache during this one. */
#define SHORT_ROW      1024
#define PREFETCH       192
#define PREFETCH_FIRST 256

/* Packed rows are one stream: so many bytes ahead of it the loop finds all it needs in the first cache. Less
 * does not cover the latency of memory, much more would not stay there. */
#define PACKED_AHEAD 3072

#define SCALE_BLOCK 128 /* columns under one scale */

/* Widened weights that stay in the first-level cache while rows of activations pass. */
#define PANEL_BYTES (16 << 10)

static void run_direct(const phx_dots *job);
static void run_packed(const phx_dots *job);
static bool whole_units(const phx_dots *job);
static void run_panels(const phx_dots *job);

void phx_dots_run(const phx_dots *job)
{
    assert(job->n_out >= 1 && job->n_out <= PHX_DOTS_OUT);
    assert(job->n_rows >= 1 && job->n_rows <= PHX_DOTS_ROWS);
    assert(job->n_ranges >= 1 && job->n_ranges <= PHX_DOTS_RANGES);
    if (job->w->format == PHX_FORMAT_INT4_G32) {
        phx_dots_int4_run(job);
        return;
    }
    const bool few = job->n_rows <= PHX_DOTS_FEW && phx_dots_wide_bytes(job) <= (int64_t)PHX_DOTS_X_BYTES;
    if (few && job->w->pack == 0)
        run_direct(job);
    else if (few && whole_units(job))
        run_packed(job);
    else
        run_panels(job);
}

static const void *x_row(const phx_dots *job, int64_t row, int64_t col)
{
    const int64_t i = (job->x_rows ? job->x_rows[row] : row) * job->x_stride + col;
    return (const uint8_t *)job->x + i * (job->x_dtype == PHX_BF16 ? 2 : 4);
}

/* Where the chain that holds column k ends: at the scale block's end or at the range's. */
static int64_t chain_end(const phx_matrix *w, int64_t k, int64_t end)
{
    if (w->format != PHX_FORMAT_FP8_BLOCK)
        return end;
    return phx_i64_min(end, (k + w->col_shift) / 128 * 128 + 128 - w->col_shift);
}

/* ---- fp8 chains: both sides in the order of phx_vf_load4_fp8_row, the activations times PHX_FP8_ROW_X ----
 */

PHX_ALWAYS void order_x_as(phx_format format, const uint8_t *p, int64_t n, float *x)
{
    const int64_t bytes = phx_format_bytes(format);
    const phx_vf factor = phx_vf_set(PHX_FP8_ROW_X);
    int64_t k = 0;
    for (; k + 4 * PHX_LANES <= n; k += 4 * PHX_LANES) {
        phx_vf v[4];
        for (int i = 0; i < 4; i++)
            v[i] = phx_vf_mul(phx_vf_load_format(format, p + (k + i * PHX_LANES) * bytes), factor);
        phx_vf_row_order(v, v);
        for (int i = 0; i < 4; i++)
            phx_vf_store(x + k + i * PHX_LANES, v[i]);
    }
    for (; k + PHX_LANES <= n; k += PHX_LANES)
        phx_vf_store(x + k, phx_vf_mul(phx_vf_load_format(format, p + k * bytes), factor));
    if (k < n)
        phx_vf_store_n(x + k, phx_vf_mul(phx_vf_load_format_n(format, p + k * bytes, n - k), factor), n - k);
}

/* The n activations of one chain; writes n numbers. */
static void order_x(phx_dtype dtype, const void *p, int64_t n, float *x)
{
    if (dtype == PHX_BF16)
        order_x_as(PHX_FORMAT_BF16, p, n, x);
    else
        order_x_as(PHX_FORMAT_F32, p, n, x);
}

static phx_vf load_fp8_row_n(const uint8_t *p, int64_t n)
{
    uint8_t t[PHX_LANES] = {0};
    memcpy(t, p, (size_t)n);
    return phx_vf_load_fp8_row(t);
}

/* The n weights of one chain, then zeros up to whole vectors. step: bytes between blocks of 4 * PHX_LANES. */
static void order_w(const uint8_t *p, int64_t step, int64_t n, float *w)
{
    int64_t k = 0;
    for (; k + 4 * PHX_LANES <= n; k += 4 * PHX_LANES) {
        phx_vf v[4];
        phx_vf_load4_fp8_row(p + k / (4 * PHX_LANES) * step, v);
        for (int i = 0; i < 4; i++)
            phx_vf_store(w + k + i * PHX_LANES, v[i]);
    }
    p += k / (4 * PHX_LANES) * step - k;
    for (; k + PHX_LANES <= n; k += PHX_LANES)
        phx_vf_store(w + k, phx_vf_load_fp8_row(p + k));
    if (k < n)
        phx_vf_store(w + k, load_fp8_row_n(p + k, n - k));
}

/* ---- direct: few rows, weights in their stored format ---- */

typedef struct tile { /* n_m activations by n_n weight rows of a job */
    const phx_dots *job;
    const float *x; /* widened, [n_m][x_stride] */
    int64_t x_stride;
    int64_t first_m;
    int64_t first_n;
    int64_t step_n;                /* between the outputs of the tile; 0: they are one, many times */
    const uint8_t *w;              /* row of the first output */
    int64_t step_w;                /* bytes between the rows of the outputs; not of packed ones */
    const float *scales[OUTS_ONE]; /* their rows of scales */
    bool one_scale;                /* which are one and the same */
    int64_t next;                  /* bytes from a weight to the one at its place in the next job */
    const uint8_t *end;            /* packed: of the job's weights; they go on `next` bytes further */
} tile;

/* The next `left` weights of a row, then zeros up to a whole vector. */
PHX_ALWAYS phx_vf direct_load(phx_format format, const uint8_t *w, int64_t left)
{
    if (format == PHX_FORMAT_FP8_BLOCK)
        return left < PHX_LANES ? load_fp8_row_n(w, left) : phx_vf_load_fp8_row(w);
    return left < PHX_LANES ? phx_vf_load_format_n(format, w, left) : phx_vf_load_format(format, w);
}

/* What whole blocks leave of [k, end): vector by vector, the last step filled with zeros. */
PHX_ALWAYS void direct_rest(phx_format format, int n_m, int n_n, const tile *t, int64_t k, int64_t end,
                            phx_vf *acc)
{
    for (; k < end; k += PHX_LANES) {
        const int64_t left = phx_i64_min(end - k, PHX_LANES);
        for (int m = 0; m < n_m; m++) {
            const float *x = t->x + m * t->x_stride + k;
            const phx_vf xv = left < PHX_LANES ? phx_vf_load_n(x, left) : phx_vf_load(x);
            for (int n = 0; n < n_n; n++) {
                const uint8_t *w = t->w + n * t->step_w + k * phx_format_bytes(format);
                acc[m * n_n + n] = phx_vf_fma(direct_load(format, w, left), xv, acc[m * n_n + n]);
            }
        }
    }
}

/* w: the weights of columns [k, k + 4 * PHX_LANES) of output n. */
PHX_ALWAYS void direct_block_fp8(int n_m, int n_n, const tile *t, int64_t k, const uint8_t *w, int n,
                                 phx_vf *acc)
{
    phx_vf v[4];
    phx_vf_load4_fp8_row(w, v);
    PHX_UNROLL(4)
    for (int i = 0; i < 4; i++) {
        PHX_UNROLL(8)
        for (int m = 0; m < n_m; m++) {
            const phx_vf x = phx_vf_load(t->x + m * t->x_stride + k + i * PHX_LANES);
            acc[m * n_n + n] = phx_vf_fma(v[i], x, acc[m * n_n + n]);
        }
    }
}

/* direct_steps, for fp8: over one chain. */
PHX_ALWAYS void direct_chain_fp8(int n_m, int n_n, const tile *t, int64_t k, int64_t end, phx_vf *acc)
{
    for (; k + 4 * PHX_LANES <= end; k += 4 * PHX_LANES) {
        const bool half = 4 * PHX_LANES < 64; /* half a line: the two requests take turns */
        const int64_t ahead = half && (k & 32) ? t->next : PREFETCH;
        PHX_UNROLL(8)
        for (int n = 0; n < n_n; n++) {
            __builtin_prefetch(t->w + n * t->step_w + k + ahead, 0, 2);
            if (!half)
                __builtin_prefetch(t->w + n * t->step_w + k + t->next, 0, 2);
            direct_block_fp8(n_m, n_n, t, k, t->w + n * t->step_w + k, n, acc);
        }
    }
    direct_rest(PHX_FORMAT_FP8_BLOCK, n_m, n_n, t, k, end, acc);
}

/* acc[m][n] += x[m][k] * w[n][k] over [k, end), the last step filled with zeros. format, n_m and n_n are
 * constants at every call, so the loops over them unroll and acc lives in registers. */
PHX_ALWAYS void direct_steps(phx_format format, int n_m, int n_n, const tile *t, int64_t k, int64_t end,
                             phx_vf *acc)
{
    const int64_t bytes = phx_format_bytes(format);
    for (; k + 2 * PHX_LANES <= end; k += 2 * PHX_LANES) {
        PHX_UNROLL(8)
        for (int n = 0; n < n_n; n++) {
            phx_vf v[2];
            if (t->next != PREFETCH)
                __builtin_prefetch(t->w + n * t->step_w + k * bytes + t->next, 0, 2);
            phx_vf_load2_format(format, t->w + n * t->step_w + k * bytes, v);
            PHX_UNROLL(8)
            for (int m = 0; m < n_m; m++) {
                const float *x = t->x + m * t->x_stride + k;
                acc[m * n_n + n] = phx_vf_fma(v[0], phx_vf_load(x), acc[m * n_n + n]);
                acc[m * n_n + n] = phx_vf_fma(v[1], phx_vf_load(x + PHX_LANES), acc[m * n_n + n]);
            }
        }
    }
    direct_rest(format, n_m, n_n, t, k, end, acc);
}

/* sum[m][n] += part[m][n] * the scale that column k has in row n */
PHX_ALWAYS void add_scaled(int n_m, int n_n, const tile *t, int64_t k, const phx_vf *part, phx_vf *sum)
{
    const int64_t s = (k + t->job->w->col_shift) / 128;
    const phx_vf one = phx_vf_set(t->scales[0][s] * PHX_FP8_ROW_FACTOR);
    PHX_UNROLL(8)
    for (int n = 0; n < n_n; n++) {
        const phx_vf scale = t->one_scale ? one : phx_vf_set(t->scales[n][s] * PHX_FP8_ROW_FACTOR);
        PHX_UNROLL(8)
        for (int m = 0; m < n_m; m++)
            sum[m * n_n + n] = phx_vf_fma(part[m * n_n + n], scale, sum[m * n_n + n]);
    }
}

PHX_ALWAYS void store_sums(int n_m, int n_n, const tile *t, int64_t range, const phx_vf *sum)
{
    const phx_dots *job = t->job;
    for (int m = 0; m < n_m; m++) {
        float *dots = job->dots + (range * job->n_rows + t->first_m + m) * PHX_DOTS_OUT + t->first_n;
        for (int n = 0; n < n_n; n += PHX_TILE_OUTS) {
            float sums[PHX_TILE_OUTS];
            phx_vf_sum4(&sum[m * n_n + n], sums);
            for (int i = 0; i < PHX_TILE_OUTS; i++)
                dots[(n + i) * t->step_n] = sums[i];
        }
    }
}

PHX_ALWAYS void direct_tile(phx_format format, int n_m, int n_n, const tile *t)
{
    const phx_dots *job = t->job;
    for (int64_t range = 0; range < job->n_ranges; range++) {
        phx_vf sum[PHX_TILE_ACCS];
        phx_tile_zero(sum, n_m * n_n);
        const int64_t end = job->bounds[range + 1];
        for (int64_t k = job->bounds[range]; k < end;) {
            const int64_t stop = chain_end(job->w, k, end);
            if (format == PHX_FORMAT_FP8_BLOCK) {
                phx_vf part[PHX_TILE_ACCS];
                phx_tile_zero(part, n_m * n_n);
                direct_chain_fp8(n_m, n_n, t, k, stop, part);
                add_scaled(n_m, n_n, t, k, part, sum);
            } else {
                direct_steps(format, n_m, n_n, t, k, stop, sum);
            }
            k = stop;
        }
        store_sums(n_m, n_n, t, range, sum);
    }
}

PHX_ALWAYS void direct_tile_as(phx_format format, int64_t n_m, const tile *t)
{
    if (n_m == 1)
        direct_tile(format, 1, OUTS_ONE, t);
    else if (n_m == 2)
        direct_tile(format, 2, PHX_TILE_OUTS, t);
    else
        direct_tile(format, 3, PHX_TILE_OUTS, t);
}

/* ---- packed: the same tile over bands of rows whose units follow one another ---- */

/* sum += one chain of whole units, scaled. sum stays in memory: beside the vectors of the chain there are no
 * registers for it, and compilers left alone keep the wrong ones there. */
PHX_ALWAYS void packed_chain(int n_m, int n_n, const tile *t, int64_t k, int64_t end, phx_vf *sum)
{
    const int64_t unit = 4 * PHX_LANES;
    const uint8_t *w = t->w + k * PHX_PACK_ROWS;
    const int64_t ahead = PACKED_AHEAD + (t->end - w <= PACKED_AHEAD ? t->next : 0);
    phx_vf part[PHX_TILE_ACCS];
    PHX_IN_MEMORY(sum);
    phx_tile_zero(part, n_m * n_n);
    for (int64_t at = k; at < end; at += unit, w += unit * PHX_PACK_ROWS) {
        PHX_UNROLL(8)
        for (int n = 0; n < n_n; n++) {
            if (n * unit % 64 == 0)
                __builtin_prefetch(w + n * unit + ahead);
            direct_block_fp8(n_m, n_n, t, at, w + n * unit, n, part);
        }
    }
    PHX_IN_MEMORY(sum);
    add_scaled(n_m, n_n, t, k, part, sum);
    PHX_IN_MEMORY(sum);
}

/* All ranges; their vectors are summed over lanes at the end, so that no range waits for the one before. */
PHX_ALWAYS void packed_tile(int n_m, int n_n, const tile *t)
{
    const phx_dots *job = t->job;
    phx_vf *sums = (phx_vf *)(void *)((uint8_t *)job->scratch + PHX_DOTS_X_BYTES);
    for (int64_t range = 0; range < job->n_ranges; range++) {
        phx_vf *sum = sums + range * PHX_TILE_ACCS;
        const int64_t end = job->bounds[range + 1];
        phx_tile_zero(sum, n_m * n_n);
        for (int64_t k = job->bounds[range]; k < end;) {
            const int64_t stop = chain_end(job->w, k, end);
            packed_chain(n_m, n_n, t, k, stop, sum);
            k = stop;
        }
    }
    for (int64_t range = 0; range < job->n_ranges; range++) {
        const phx_vf *sum = sums + range * PHX_TILE_ACCS;
        for (int m = 0; m < n_m; m++) {
            float *dots = job->dots + (range * job->n_rows + t->first_m + m) * PHX_DOTS_OUT + t->first_n;
            if (n_n == 8)
                phx_vf_sum8(sum + m * n_n, dots);
            else
                phx_vf_sum4(sum + m * n_n, dots);
        }
    }
}

static void direct_tile_any(int64_t n_m, const tile *t)
{
    switch (t->job->w->format) {
    case PHX_FORMAT_F32:
        direct_tile_as(PHX_FORMAT_F32, n_m, t);
        break;
    case PHX_FORMAT_BF16:
        direct_tile_as(PHX_FORMAT_BF16, n_m, t);
        break;
    case PHX_FORMAT_F16:
        direct_tile_as(PHX_FORMAT_F16, n_m, t);
        break;
    case PHX_FORMAT_FP8_BLOCK:
        direct_tile_as(PHX_FORMAT_FP8_BLOCK, n_m, t);
        break;
    case PHX_FORMAT_INT4_G32: /* phx_dots_int4_run */
    case PHX_FORMAT_COUNT:
        break;
    }
}

/* Weight (n, col); packed: followed by the rest of its unit. */
static const void *w_row(const phx_dots *job, int64_t n, int64_t col)
{
    const int64_t row = job->first_row + phx_i64_min(n, job->n_out - 1);
    return (const uint8_t *)job->w->data +
           phx_matrix_place(job->w, row, col) * phx_format_bytes(job->w->format);
}

static const float *w_scales(const phx_dots *job, int64_t n)
{
    const int64_t row = job->first_row + phx_i64_min(n, job->n_out - 1);
    return job->w->scales ? job->w->scales + (row + job->w->row_shift) / 128 * job->w->scale_stride : NULL;
}

/* Row m of the activations as f32; fp8: chain by chain. */
static void widen_x(const phx_dots *job, int64_t m, float *x)
{
    if (job->w->format != PHX_FORMAT_FP8_BLOCK) {
        phx_vf_widen(phx_format_of_activation(job->x_dtype), x_row(job, m, 0), job->w->n_cols, x);
        return;
    }
    for (int64_t range = 0; range < job->n_ranges; range++) {
        const int64_t end = job->bounds[range + 1];
        for (int64_t k = job->bounds[range]; k < end;) {
            const int64_t stop = chain_end(job->w, k, end);
            order_x(job->x_dtype, x_row(job, m, k), stop - k, x + k);
            k = stop;
        }
    }
}

/* What a tile of n_n outputs lacks but the activations. */
static void fill_tile(tile *t, int64_t n_n)
{
    const phx_dots *job = t->job;
    t->x_stride = phx_i64_up(job->w->n_cols, PHX_LANES);
    t->scales[0] = w_scales(job, t->first_n);
    t->scales[n_n - 1] = w_scales(job, t->first_n + (n_n - 1) * t->step_n);
    t->one_scale = t->scales[0] == t->scales[n_n - 1]; /* rows ascend, and so do their scales */
    for (int64_t i = 1; i < n_n - 1; i++)
        t->scales[i] = t->one_scale ? t->scales[0] : w_scales(job, t->first_n + i * t->step_n);
}

/* Activations from first_m on for the next tile: how many of them. */
static int64_t next_rows(tile *t, int64_t first_m)
{
    const phx_dots *job = t->job;
    const int64_t left = job->n_rows - first_m;
    t->first_m = first_m;
    t->x = (job->wide_x ? job->wide_x : (const float *)job->scratch) + first_m * t->x_stride;
    return left == 4 ? 2 : phx_i64_min(left, 3); /* never leaves one of several */
}

void phx_dots_widen(const phx_dots *job, float *wide_x)
{
    assert(job->n_rows <= PHX_DOTS_FEW);
    for (int64_t m = 0; m < job->n_rows; m++)
        widen_x(job, m, wide_x + m * phx_i64_up(job->w->n_cols, PHX_LANES));
}

/* The first tile's rows arrive while the activations are widened. */
static void prefetch_rows(const phx_dots *job, int64_t n_n, int64_t step_n)
{
    const int64_t bytes = phx_i64_min(job->w->n_cols * phx_format_bytes(job->w->format), PREFETCH_FIRST);
    for (int64_t byte = 0; byte < bytes; byte += 64) {
        for (int64_t i = 0; i < n_n; i++)
            __builtin_prefetch((const uint8_t *)w_row(job, i * step_n, 0) + byte);
    }
}

static void run_direct(const phx_dots *job)
{
    /* Outputs of a tile lie far apart, so that each of its streams of weights goes on in the next tile. */
    const int64_t n_n = job->n_rows == 1 ? OUTS_ONE : PHX_TILE_OUTS;
    const int64_t n_tiles = job->n_out / n_n;
    const int64_t row_bytes = job->w->n_cols * phx_format_bytes(job->w->format);
    const int64_t next = job->next && row_bytes <= SHORT_ROW
                             ? (const uint8_t *)job->next - (const uint8_t *)w_row(job, 0, 0)
                             : PREFETCH;
    prefetch_rows(job, n_n, n_tiles);
    if (!job->same_x && !job->wide_x)
        phx_dots_widen(job, job->scratch);
    for (int64_t n = 0; n < job->n_out;) {
        const bool whole = n < n_tiles;
        tile t = {.job = job,
                  .first_n = n,
                  .step_n = whole ? n_tiles : 0,
                  .w = w_row(job, n, 0),
                  .step_w = whole ? n_tiles * row_bytes : 0,
                  .next = next};
        fill_tile(&t, n_n);
        for (int64_t m = 0, n_m; m < job->n_rows; m += n_m) {
            n_m = next_rows(&t, m);
            direct_tile_any(n_m, &t);
        }
        n = n + 1 == n_tiles ? n_tiles * n_n : n + 1;
    }
}

/* Bands of rows that belong to the job alone, and chains of whole units. */
static bool whole_units(const phx_dots *job)
{
    const int64_t unit = 4 * PHX_LANES;
    bool whole = job->w->pack == unit && job->w->col_shift % unit == 0 &&
                 job->first_row % PHX_PACK_ROWS == 0 && job->n_out % PHX_PACK_ROWS == 0;
    for (int64_t range = 0; range <= job->n_ranges && whole; range++)
        whole = job->bounds[range] % unit == 0;
    return whole;
}

static void run_packed(const phx_dots *job)
{
    static_assert(PHX_DOTS_RANGES * PHX_TILE_ACCS * sizeof(phx_vf) <= PHX_DOTS_W_BYTES, "running vectors");
    const int64_t n_n = job->n_rows == 1 ? OUTS_ONE : PHX_TILE_OUTS;
    const uint8_t *first = w_row(job, 0, 0);
    const uint8_t *end = first + job->n_out * job->w->n_cols;
    const int64_t next = job->next ? (const uint8_t *)job->next - end : 0;
    for (int64_t byte = 0; byte < PREFETCH_FIRST * 4 && !job->same_x; byte += 64)
        __builtin_prefetch(first + byte);
    for (int64_t byte = 0; job->next && byte < end - first; byte += 4096) /* the next job's pages are found */
        __builtin_prefetch((const uint8_t *)job->next + byte);
    if (!job->same_x && !job->wide_x)
        phx_dots_widen(job, job->scratch);
    tile t = {.job = job, .step_n = 1, .next = next, .end = end};
    for (int64_t n = 0; n < job->n_out; n += n_n) {
        t.first_n = n;
        t.w = w_row(job, n, 0);
        fill_tile(&t, n_n);
        for (int64_t m = 0, n_m; m < job->n_rows; m += n_m) {
            n_m = next_rows(&t, m);
            if (n_m == 1)
                packed_tile(1, OUTS_ONE, &t);
            else if (n_m == 2)
                packed_tile(2, PHX_TILE_OUTS, &t);
            else
                packed_tile(3, PHX_TILE_OUTS, &t);
        }
    }
}

/* ---- panels: many rows, weights and activations widened block by block ---- */

#define PIECES_MAX 8

typedef struct piece { /* columns of one chain, and how they stand in their range */
    int64_t k;         /* first column */
    int64_t n;         /* columns */
    int64_t at;        /* where they lie in a panel's rows, followed by zeros up to whole vectors */
    float *dots;       /* of the range */
    bool first;        /* the range begins here */
    bool last;         /* the range ends here */
} piece;

typedef struct block { /* up to PHX_DOTS_BLOCK columns of a job, widened */
    const phx_dots *job;
    float *x;    /* [n_rows][PHX_DOTS_BLOCK] */
    float *w;    /* [n_out up to PHX_TILE_OUTS][PHX_DOTS_BLOCK] */
    phx_vf *acc; /* [n_rows][PHX_DOTS_OUT] running vectors of the range that is not at its end */
    bool scaled; /* fp8 */
    int64_t width;
    int64_t n_pieces;
    piece pieces[PIECES_MAX];
    float scales[PIECES_MAX][PHX_DOTS_OUT];
} block;

typedef struct cursor { /* the next column to widen */
    int64_t range;
    int64_t k;
} cursor;

PHX_ALWAYS void panel_piece(int n_m, const block *b, int64_t i_piece, int64_t m, int64_t n)
{
    const piece *p = &b->pieces[i_piece];
    phx_vf acc[PHX_TILE_ACCS];
    phx_vf *kept = b->acc + m * PHX_DOTS_OUT + n;
    if (p->first || b->scaled) {
        phx_tile_zero(acc, n_m * PHX_TILE_OUTS);
    } else {
        PHX_UNROLL(24)
        for (int i = 0; i < n_m * PHX_TILE_OUTS; i++)
            acc[i] = kept[i / PHX_TILE_OUTS * PHX_DOTS_OUT + i % PHX_TILE_OUTS];
    }
    phx_tile_rows(n_m, b->x + m * PHX_DOTS_BLOCK + p->at, PHX_DOTS_BLOCK, b->w + n * PHX_DOTS_BLOCK + p->at,
                  PHX_DOTS_BLOCK, p->n, acc);
    if (b->scaled) {
        PHX_UNROLL(24)
        for (int i = 0; i < n_m * PHX_TILE_OUTS; i++) {
            const phx_vf sum =
                p->first ? phx_vf_zero() : kept[i / PHX_TILE_OUTS * PHX_DOTS_OUT + i % PHX_TILE_OUTS];
            acc[i] = phx_vf_fma(acc[i], phx_vf_set(b->scales[i_piece][n + i % PHX_TILE_OUTS]), sum);
        }
    }
    if (p->last) {
        PHX_UNROLL(6)
        for (int i = 0; i < n_m; i++)
            phx_vf_sum4(&acc[i * PHX_TILE_OUTS], p->dots + (m + i) * PHX_DOTS_OUT + n);
    } else {
        PHX_UNROLL(24)
        for (int i = 0; i < n_m * PHX_TILE_OUTS; i++)
            kept[i / PHX_TILE_OUTS * PHX_DOTS_OUT + i % PHX_TILE_OUTS] = acc[i];
    }
}

PHX_ALWAYS void panel_tile(int n_m, const block *b, int64_t m, int64_t n)
{
    for (int64_t i = 0; i < b->n_pieces; i++)
        panel_piece(n_m, b, i, m, n);
}

static void widen_padded(phx_format format, const void *from, int64_t n, float *row)
{
    phx_vf_widen(format, from, n, row);
    for (; n % PHX_LANES != 0; n++)
        row[n] = 0.0f;
}

/* Pieces that lie side by side in the panel, widened in one go. */
static void widen_pieces(const block *b, int64_t first, int64_t end)
{
    const phx_dots *job = b->job;
    const piece *p = &b->pieces[first];
    const int64_t n = b->pieces[end - 1].k + b->pieces[end - 1].n - p->k;
    for (int64_t m = 0; m < job->n_rows; m++)
        widen_padded(phx_format_of_activation(job->x_dtype), x_row(job, m, p->k), n,
                     b->x + m * PHX_DOTS_BLOCK + p->at);
    for (int64_t i = 0; i < phx_i64_up(job->n_out, PHX_TILE_OUTS); i++)
        widen_padded(job->w->format, w_row(job, i, p->k), n, b->w + i * PHX_DOTS_BLOCK + p->at);
}

/* fp8: a piece is a chain. */
static void order_piece(const block *b, int64_t i_piece)
{
    const phx_dots *job = b->job;
    const piece *p = &b->pieces[i_piece];
    for (int64_t m = 0; m < job->n_rows; m++) {
        float *x = b->x + m * PHX_DOTS_BLOCK + p->at;
        order_x(job->x_dtype, x_row(job, m, p->k), p->n, x);
        for (int64_t k = p->n; k % PHX_LANES != 0; k++)
            x[k] = 0.0f;
    }
    const int64_t unit = 4 * PHX_LANES;
    const bool plain = job->w->pack == 0;
    const bool whole = job->w->pack == unit && p->k % unit == 0;
    for (int64_t i = 0; i < phx_i64_up(job->n_out, PHX_TILE_OUTS); i++) {
        uint8_t codes[SCALE_BLOCK];
        const uint8_t *row = plain || whole ? w_row(job, i, p->k) : codes;
        for (int64_t k = 0; k < p->n && row == codes; k++)
            codes[k] = *(const uint8_t *)w_row(job, i, p->k + k);
        order_w(row, whole ? unit * PHX_PACK_ROWS : unit, p->n, b->w + i * PHX_DOTS_BLOCK + p->at);
    }
}

static void widen_block(block *b)
{
    const phx_dots *job = b->job;
    for (int64_t i = 0; b->scaled && i < b->n_pieces; i++) {
        order_piece(b, i);
        for (int64_t n = 0; n < phx_i64_up(job->n_out, PHX_TILE_OUTS); n++)
            b->scales[i][n] =
                w_scales(job, n)[(b->pieces[i].k + job->w->col_shift) / 128] * PHX_FP8_ROW_FACTOR;
    }
    for (int64_t first = 0; !b->scaled && first < b->n_pieces;) {
        int64_t end = first + 1;
        while (end < b->n_pieces && b->pieces[end - 1].n % PHX_LANES == 0 &&
               b->pieces[end - 1].k + b->pieces[end - 1].n == b->pieces[end].k)
            end++;
        widen_pieces(b, first, end);
        first = end;
    }
}

static void run_block(const block *b)
{
    const int64_t n_out = phx_i64_up(b->job->n_out, PHX_TILE_OUTS);
    const int64_t n_rows = b->job->n_rows;
    const int64_t panel = PANEL_BYTES / 4 / b->width / PHX_TILE_OUTS * PHX_TILE_OUTS;
    for (int64_t first = 0; first < n_out; first += panel) {
        const int64_t end = phx_i64_min(first + panel, n_out);
        for (int64_t m = 0; m < n_rows; m += PHX_TILE_ROWS) {
            for (int64_t n = first; n < end; n += PHX_TILE_OUTS)
                PHX_TILE_SWITCH(n_rows - m, panel_tile, b, m, n);
        }
    }
}

/* Takes pieces from c on until the block is full or the job at its end. A chain is cut at whole vectors only,
 * and with scales not at all. */
static void fill_block(block *b, cursor *c)
{
    const phx_dots *job = b->job;
    b->width = 0;
    b->n_pieces = 0;
    while (c->range < job->n_ranges && b->n_pieces < PIECES_MAX && b->width < PHX_DOTS_BLOCK) {
        const int64_t begin = job->bounds[c->range];
        const int64_t end = job->bounds[c->range + 1];
        float *dots = job->dots + c->range * PHX_DOTS_RESULT(job->n_rows);
        const int64_t chain = chain_end(job->w, c->k, end) - c->k;
        const int64_t n = phx_i64_min(chain, PHX_DOTS_BLOCK - b->width);
        if (n < chain && b->scaled)
            break;
        if (begin == end)
            memset(dots, 0, (size_t)PHX_DOTS_RESULT(job->n_rows) * sizeof(float));
        else
            b->pieces[b->n_pieces++] = (piece){.k = c->k,
                                               .n = n,
                                               .at = b->width,
                                               .dots = dots,
                                               .first = c->k == begin,
                                               .last = c->k + n == end};
        b->width += phx_i64_up(n, PHX_LANES);
        c->k += n;
        if (c->k == end) {
            c->range++;
            c->k = c->range < job->n_ranges ? job->bounds[c->range] : 0;
        }
    }
}

static void run_panels(const phx_dots *job)
{
    uint8_t *scratch = job->scratch;
    block b = {.job = job,
               .x = (float *)(void *)scratch,
               .w = (float *)(void *)(scratch + PHX_DOTS_X_BYTES),
               .acc = (phx_vf *)(void *)(scratch + PHX_DOTS_X_BYTES + PHX_DOTS_W_BYTES),
               .scaled = job->w->format == PHX_FORMAT_FP8_BLOCK};
    cursor c = {.range = 0, .k = job->bounds[0]};
    while (c.range < job->n_ranges) {
        fill_block(&b, &c);
        if (b.n_pieces > 0) {
            widen_block(&b);
            run_block(&b);
        }
    }
}
