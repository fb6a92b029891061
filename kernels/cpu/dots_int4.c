/* kernels/cpu/dots_int4.c - blocks of dot products with int4-g32 weights. See dots.h for the arithmetic.
 * Weights are widened in registers, for one row of activations as for many: that is cheaper than a second
 * copy of them. What changes with the number of rows is how much of the activations is kept in order. */
#include "kernels/cpu/dots.h"

#include <assert.h>

#include "kernels/cpu/int4.h"

/* Activation rows that meet a widened vector at once. */
#define ROWS_MAX 6

/* Columns at a time when there are more rows than that: what they are kept in stays in the first cache. */
#define CHUNK_COLS (PHX_INT4_COLS > 256 ? PHX_INT4_COLS : 256)

/* How far ahead weights are asked for, in bytes. */
#define PREFETCH 256

typedef struct run { /* whole blocks that follow each other, of all rows of a job */
    const uint8_t *w;
    const uint16_t *scales;
    int64_t w_step;     /* bytes between rows */
    int64_t scale_step; /* scales between rows */
    int64_t n_blocks;
    int64_t first; /* block of the chunk's activations that the first one meets */
} run;

typedef struct chunk { /* blocks [first, first + n) of one range */
    const phx_dots *job;
    int64_t range;
    int64_t origin; /* column of block 0; before the range, and maybe before the matrix */
    int64_t first;
    int64_t n;
    bool begins; /* the range begins here */
    bool ends;
    float *x;       /* [n_rows][n * PHX_INT4_COLS] in the order of int4.h */
    phx_vf *kept;   /* [n_rows][PHX_DOTS_OUT] sums of a range that goes on */
    uint8_t *edges; /* copies of blocks that lie half outside the matrix */
} chunk;

/* The rows of one tile. */
typedef struct tile {
    const chunk *c;
    int64_t first_m;
    int64_t first_n;
    int64_t step_n; /* between its outputs */
} tile;

static int64_t origin_of(const phx_matrix *w, int64_t first)
{
    return (first + w->col_shift) / PHX_INT4_GROUP * PHX_INT4_GROUP - w->col_shift;
}

/* The activations of one row, zero outside the range. */
static void order_row(const chunk *c, int64_t m)
{
    const phx_dots *job = c->job;
    const int64_t first = job->bounds[c->range];
    const int64_t end = job->bounds[c->range + 1];
    const phx_format format = phx_format_of_activation(job->x_dtype);
    const int64_t at = (job->x_rows ? job->x_rows[m] : m) * job->x_stride;
    float *ordered = c->x + m * c->n * PHX_INT4_COLS;
    for (int64_t b = 0; b < c->n; b++) {
        float natural[PHX_INT4_COLS];
        const int64_t col = c->origin + (c->first + b) * PHX_INT4_COLS;
        const int64_t from = col < first ? first : col;
        const int64_t to = phx_i64_min(col + PHX_INT4_COLS, end);
        if (to - from < PHX_INT4_COLS)
            memset(natural, 0, sizeof(natural));
        phx_vf_widen(format, (const uint8_t *)job->x + (at + from) * phx_format_bytes(format), to - from,
                     natural + (from - col));
        phx_int4_order(natural, ordered + b * PHX_INT4_COLS);
    }
}

PHX_ALWAYS void run_blocks(int n_m, int n_n, const tile *t, const run *r, phx_vf *sum)
{
    const int64_t x_stride = t->c->n * PHX_INT4_COLS;
    const float *x = t->c->x + t->first_m * x_stride + r->first * PHX_INT4_COLS;
    const uint8_t *w = r->w + t->first_n * r->w_step;
    const uint16_t *scales = r->scales + t->first_n * r->scale_step;
    for (int64_t b = 0; b < r->n_blocks; b++) {
        PHX_UNROLL(4)
        for (int n = 0; n < n_n; n++) {
            phx_vf part[ROWS_MAX];
            const uint8_t *p = w + n * t->step_n * r->w_step + b * PHX_INT4_BYTES;
            __builtin_prefetch(p + PREFETCH);
            const phx_int4 block = phx_int4_load(p);
            PHX_UNROLL(8)
            for (int i = 0; i < 8; i++) {
                const phx_vf v = phx_int4_vector(block, i);
                PHX_UNROLL(6)
                for (int m = 0; m < n_m; m++) {
                    const phx_vf xv = phx_vf_load(x + m * x_stride + b * PHX_INT4_COLS + i * PHX_LANES);
                    part[m] = i == 0 ? phx_vf_mul(v, xv) : phx_vf_fma(v, xv, part[m]);
                }
            }
            const phx_vf scale =
                phx_int4_scales(scales + n * t->step_n * r->scale_step + b * PHX_INT4_GROUPS);
            PHX_UNROLL(6)
            for (int m = 0; m < n_m; m++)
                sum[m * n_n + n] = phx_vf_fma(part[m], scale, sum[m * n_n + n]);
        }
    }
}

PHX_ALWAYS void run_tile(int n_m, int n_n, const tile *t, const run *runs, int n_runs)
{
    const chunk *c = t->c;
    phx_vf sum[ROWS_MAX];
    PHX_UNROLL(6)
    for (int i = 0; i < n_m * n_n; i++)
        sum[i] = c->begins
                     ? phx_vf_zero()
                     : c->kept[(t->first_m + i / n_n) * PHX_DOTS_OUT + t->first_n + i % n_n * t->step_n];
    for (int i = 0; i < n_runs; i++)
        run_blocks(n_m, n_n, t, &runs[i], sum);
    float *dots = c->job->dots + c->range * PHX_DOTS_RESULT(c->job->n_rows);
    PHX_UNROLL(6)
    for (int i = 0; i < n_m * n_n; i++) {
        const int64_t at = (t->first_m + i / n_n) * PHX_DOTS_OUT + t->first_n + i % n_n * t->step_n;
        if (c->ends)
            dots[at] = phx_vf_sum(sum[i]);
        else
            c->kept[at] = sum[i];
    }
}

/* n_n outputs, step_n apart, of n_m rows from t->first_m on. */
static void run_tile_any(int64_t n_m, int64_t n_n, const tile *t, const run *runs, int n_runs)
{
    if (n_m == 1 && n_n == 4)
        run_tile(1, 4, t, runs, n_runs);
    else if (n_m == 2 && n_n == 2)
        run_tile(2, 2, t, runs, n_runs);
    else if (n_m == 1)
        run_tile(1, 1, t, runs, n_runs);
    else if (n_m == 2)
        run_tile(2, 1, t, runs, n_runs);
    else if (n_m == 3)
        run_tile(3, 1, t, runs, n_runs);
    else if (n_m == 4)
        run_tile(4, 1, t, runs, n_runs);
    else if (n_m == 5)
        run_tile(5, 1, t, runs, n_runs);
    else
        run_tile(6, 1, t, runs, n_runs);
}

/* All outputs with n_m rows. Those of a tile lie far apart, so that each stream of weights goes on in the
 * next tile. */
static void run_rows(const chunk *c, int64_t first_m, int64_t n_m, const run *runs, int n_runs)
{
    const int64_t n_n = n_m == 1 ? 4 : n_m == 2 ? 2 : 1;
    const int64_t n_tiles = c->job->n_out / n_n;
    for (int64_t n = 0; n < n_tiles; n++)
        run_tile_any(n_m, n_n, &(tile){c, first_m, n, n_tiles}, runs, n_runs);
    for (int64_t n = n_tiles * n_n; n < c->job->n_out; n++)
        run_tile_any(n_m, 1, &(tile){c, first_m, n, 1}, runs, n_runs);
}

/* Block b of every row, with zeros where the matrix has no columns. */
static run copy_edge(const chunk *c, int64_t b, uint8_t *to)
{
    const phx_matrix *w = c->job->w;
    const int64_t col = c->origin + b * PHX_INT4_COLS;
    const int64_t from = col < 0 ? 0 : col;
    const int64_t end = phx_i64_min(col + PHX_INT4_COLS, w->n_cols);
    const int64_t group = (col + w->col_shift) / PHX_INT4_GROUP; /* col is at the edge of one */
    const int64_t n_groups = (end + w->col_shift + PHX_INT4_GROUP - 1) / PHX_INT4_GROUP - group;
    uint16_t *scales = (uint16_t *)(void *)(to + PHX_DOTS_OUT * PHX_INT4_BYTES);
    memset(to, 0, PHX_DOTS_OUT * (PHX_INT4_BYTES + PHX_INT4_GROUPS * sizeof(*scales)));
    for (int64_t n = 0; n < c->job->n_out; n++) {
        const int64_t row = c->job->first_row + n;
        memcpy(to + n * PHX_INT4_BYTES + (from - col) / 2,
               (const uint8_t *)w->data + (row * w->n_cols + from) / 2, (size_t)(end - from) / 2);
        memcpy(scales + n * PHX_INT4_GROUPS, w->group_scales + row * w->scale_stride + group,
               (size_t)n_groups * sizeof(*scales));
    }
    return (run){.w = to,
                 .scales = scales,
                 .w_step = PHX_INT4_BYTES,
                 .scale_step = PHX_INT4_GROUPS,
                 .n_blocks = 1,
                 .first = b - c->first};
}

/* The blocks of a chunk as runs: at most the first and the last have to be copied. */
static int list_runs(const chunk *c, run *runs)
{
    const phx_matrix *w = c->job->w;
    const int64_t edge_bytes = PHX_DOTS_OUT * (PHX_INT4_BYTES + PHX_INT4_GROUPS * 2);
    int64_t first = c->first;
    int64_t end = c->first + c->n;
    int n = 0;
    if (c->origin + first * PHX_INT4_COLS < 0)
        runs[n++] = copy_edge(c, first++, c->edges);
    const bool cut = end > first && c->origin + end * PHX_INT4_COLS > w->n_cols;
    end -= cut;
    if (end > first) {
        const int64_t col = c->origin + first * PHX_INT4_COLS;
        const int64_t row = c->job->first_row;
        runs[n++] =
            (run){.w = (const uint8_t *)w->data + (row * w->n_cols + col) / 2,
                  .scales = w->group_scales + row * w->scale_stride + (col + w->col_shift) / PHX_INT4_GROUP,
                  .w_step = w->n_cols / 2,
                  .scale_step = w->scale_stride,
                  .n_blocks = end - first,
                  .first = first - c->first};
    }
    if (cut)
        runs[n++] = copy_edge(c, end, c->edges + edge_bytes);
    return n;
}

void phx_dots_int4_run(const phx_dots *job)
{
    static_assert(2 * PHX_DOTS_OUT * (PHX_INT4_BYTES + PHX_INT4_GROUPS * 2) <= PHX_DOTS_W_BYTES, "edges");
    static_assert(PHX_DOTS_ROWS * CHUNK_COLS * 4 <= PHX_DOTS_X_BYTES, "activations");
    uint8_t *scratch = job->scratch;
    const int64_t fit = (int64_t)PHX_DOTS_X_BYTES / 4 / PHX_INT4_COLS / job->n_rows;
    const int64_t n_max = job->n_rows <= ROWS_MAX ? fit : CHUNK_COLS / PHX_INT4_COLS;
    for (int64_t range = 0; range < job->n_ranges; range++) {
        const int64_t first = job->bounds[range];
        const int64_t end = job->bounds[range + 1];
        const int64_t origin = origin_of(job->w, first);
        const int64_t n_blocks = (end - origin + PHX_INT4_COLS - 1) / PHX_INT4_COLS;
        if (first == end) {
            memset(job->dots + range * PHX_DOTS_RESULT(job->n_rows), 0,
                   (size_t)PHX_DOTS_RESULT(job->n_rows) * sizeof(float));
            continue;
        }
        for (int64_t b = 0; b < n_blocks; b += n_max) {
            run runs[3];
            chunk c = {.job = job,
                       .range = range,
                       .origin = origin,
                       .first = b,
                       .n = phx_i64_min(n_max, n_blocks - b),
                       .begins = b == 0,
                       .x = (float *)(void *)scratch,
                       .kept = (phx_vf *)(void *)(scratch + PHX_DOTS_X_BYTES + PHX_DOTS_W_BYTES),
                       .edges = scratch + PHX_DOTS_X_BYTES};
            c.ends = b + c.n == n_blocks;
            const bool ordered = job->same_x && job->n_ranges == 1 && n_blocks <= n_max;
            for (int64_t m = 0; m < job->n_rows && !ordered; m++)
                order_row(&c, m);
            const int n_runs = list_runs(&c, runs);
            for (int64_t m = 0; m < job->n_rows; m += ROWS_MAX)
                run_rows(&c, m, phx_i64_min(ROWS_MAX, job->n_rows - m), runs, n_runs);
        }
    }
}
