/* tests/emu/test_emu_products.c - products of rounded rows through the plugin and the stand-in for cuBLASLt,
 * as the worker has them: queued on a stream, recorded and replayed, refused, and without the library. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/backend.h"
#include "kernels/cache.h"

#define ROWS   21 /* no multiple of four */
#define OUT    64
#define COLS   256
#define SMALL  16 /* rows of a matrix that the stand-in refuses */
#define BROKEN 32 /* and of one that it takes, and cannot multiply */
#define LATE   48 /* and of one that it multiplies, but not with 20 rows of x */

typedef struct setup {
    phx_backend *backend;
    uint16_t *x;                                 /* device [ROWS][COLS] */
    uint8_t *codes;                              /* device [OUT][COLS] */
    float *scales;                               /* device [1][2] */
    float *out;                                  /* device [24][OUT] */
    float *parts;                                /* device */
    void *pinned;                                /* [ROWS][COLS] floats */
    float x_host[ROWS][COLS], w_host[OUT][COLS]; /* their values */
} setup;

static void *device_memory(setup *s, size_t n_bytes)
{
    void *memory = NULL;
    phx_error err = {0};
    assert_int_equal(phx_device_take(s->backend, n_bytes, &memory, &err), PHX_OK);
    return memory;
}

static size_t parts_bytes(void)
{
    return (size_t)phx_rounded_room_of(ROWS, OUT, COLS).n_bytes;
}

/* x[r][c] grows with r and c; `turn` makes others. */
static void put_x(setup *s, int turn)
{
    phx_error err = {0};
    uint16_t *pinned = s->pinned;
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < COLS; c++) {
            const float value = (float)((r * 37 + c * 11 + turn * 5) % 97 - 48) * (c < 128 ? 1.0f : 0.01f);
            pinned[r * COLS + c] = phx_f32_to_bf16(value);
            s->x_host[r][c] = phx_bf16_to_f32(pinned[r * COLS + c]);
        }
    }
    assert_int_equal(phx_upload(s->backend, s->x, pinned, ROWS * COLS * sizeof(*pinned), &err), PHX_OK);
    assert_int_equal(phx_sync(s->backend, &err), PHX_OK);
}

static void put_w(setup *s)
{
    static const float scales[2] = {0.25f, 3.0f};
    phx_error err = {0};
    uint8_t *pinned = s->pinned;
    for (int n = 0; n < OUT; n++) {
        for (int c = 0; c < COLS; c++) {
            pinned[n * COLS + c] = (uint8_t)((n * 53 + c * 7) % 120 + (c % 3 == 0 ? 128 : 0));
            s->w_host[n][c] = phx_e4m3_to_f32(pinned[n * COLS + c]) * scales[c / 128];
        }
    }
    assert_int_equal(phx_upload(s->backend, s->codes, pinned, OUT * COLS, &err), PHX_OK);
    assert_int_equal(phx_sync(s->backend, &err), PHX_OK);
    memcpy(pinned, scales, sizeof(scales));
    assert_int_equal(phx_upload(s->backend, s->scales, pinned, sizeof(scales), &err), PHX_OK);
    assert_int_equal(phx_sync(s->backend, &err), PHX_OK);
}

static void open_setup(setup *s, const char *dir)
{
    phx_error err = {0};
    const phx_device_request request = {.name = "emu", .dir = dir, .allow_unproven = true};
    assert_int_equal(phx_backend_open(&request, &s->backend, &err), PHX_OK);
    const phx_memory *pinned = s->backend->pinned;
    assert_int_equal(pinned->take(pinned->user, ROWS * COLS * sizeof(float), &s->pinned, &err), PHX_OK);
    s->x = device_memory(s, ROWS * COLS * sizeof(*s->x));
    s->codes = device_memory(s, OUT * COLS);
    s->scales = device_memory(s, 2 * sizeof(*s->scales));
    s->out = device_memory(s, 24 * OUT * sizeof(*s->out));
    s->parts = device_memory(s, parts_bytes());
    put_x(s, 0);
    put_w(s);
}

static void close_setup(setup *s)
{
    const phx_memory *pinned = s->backend->pinned;
    pinned->give_back(pinned->user, s->pinned, ROWS * COLS * sizeof(float));
    phx_device_give(s->backend, s->x, ROWS * COLS * sizeof(*s->x));
    phx_device_give(s->backend, s->codes, OUT * COLS);
    phx_device_give(s->backend, s->scales, 2 * sizeof(*s->scales));
    phx_device_give(s->backend, s->out, 24 * OUT * sizeof(*s->out));
    phx_device_give(s->backend, s->parts, parts_bytes());
    phx_backend_destroy(s->backend);
}

static phx_matrix matrix_of(const setup *s, int64_t n_rows)
{
    return (phx_matrix){.data = s->codes,
                        .scales = s->scales,
                        .n_rows = n_rows,
                        .n_cols = COLS,
                        .scale_stride = 2,
                        .format = PHX_FORMAT_FP8_BLOCK};
}

static phx_product_args args_of(const setup *s, const phx_matrix *w)
{
    return (phx_product_args){.x = {s->x, COLS, PHX_BF16},
                              .w = w,
                              .n_groups = 1,
                              .n_out = w->n_rows,
                              .n_rows = ROWS,
                              .out = s->out,
                              .out_stride = OUT,
                              .rounded = true,
                              .out_rows = 24,
                              .parts = s->parts,
                              .n_parts = (int64_t)(parts_bytes() / sizeof(float))};
}

/* The text into `text`; rows_least of the only example. */
static int64_t choose(setup *s, const phx_product_args *example, char *text, size_t n_bytes)
{
    phx_error err = {0};
    phx_buf said;
    int64_t rows_least = -1;
    phx_buf_init(&said, 4096);
    const phx_product_choice choice = {
        .examples = example, .n = 1, .warm = true, .rows_least = &rows_least, .text = &said};
    assert_int_equal(s->backend->fns->choose_products(s->backend, &choice, &err), PHX_OK);
    (void)snprintf(text, n_bytes, "%.*s", (int)said.n, said.ptr);
    phx_buf_done(&said);
    return rows_least;
}

/* The largest distance from the product of rounded rows, and of rows as they are, in parts of sum |x * w|. */
typedef struct distances {
    double rounded, plain;
} distances;

static distances measure_part(setup *s, int n_rows, int n_out)
{
    phx_error err = {0};
    distances most = {0};
    const float *got = s->pinned;
    assert_int_equal(phx_download(s->backend, s->pinned, s->out, ROWS * OUT * sizeof(float), &err), PHX_OK);
    for (int r = 0; r < n_rows; r++) {
        float rounded[COLS];
        for (int g = 0; g < COLS; g += 128) {
            float max = 0.0f;
            for (int c = g; c < g + 128; c++)
                max = fmaxf(max, fabsf(s->x_host[r][c]));
            const float scale = phx_cache_scale(max);
            for (int c = g; c < g + 128; c++)
                rounded[c] = phx_e4m3_to_f32(phx_f32_to_e4m3(s->x_host[r][c] / scale)) * scale;
        }
        for (int n = 0; n < n_out; n++) {
            double sum = 0.0, sum_rounded = 0.0, size = 0.0;
            for (int c = 0; c < COLS; c++) {
                sum += (double)s->x_host[r][c] * (double)s->w_host[n][c];
                sum_rounded += (double)rounded[c] * (double)s->w_host[n][c];
                size += fabs((double)s->x_host[r][c] * (double)s->w_host[n][c]);
            }
            most.rounded = fmax(most.rounded, fabs((double)got[r * OUT + n] - sum_rounded) / size);
            most.plain = fmax(most.plain, fabs((double)got[r * OUT + n] - sum) / size);
        }
    }
    return most;
}

static distances measure(setup *s)
{
    return measure_part(s, ROWS, OUT);
}

#define NEAR 1e-5 /* (COLS / 16 + 8) * FLT_EPSILON is 3e-6; the two products are 1e-3 apart */

static void run(setup *s, const phx_product_args *args)
{
    phx_error err = {0};
    s->backend->ops.product(s->backend->queue, args);
    assert_int_equal(phx_sync(s->backend, &err), PHX_OK);
}

static void rows_are_rounded_once_it_is_chosen(void **state)
{
    setup s;
    char text[512];
    (void)state;
    open_setup(&s, PHX_TEST_PLUGINS);
    const phx_matrix w = matrix_of(&s, OUT);
    const phx_product_args args = args_of(&s, &w);
    run(&s, &args); /* nothing is chosen yet */
    assert_true(measure(&s).plain < NEAR && measure(&s).rounded > 10 * NEAR);
    assert_int_equal(choose(&s, &args, text, sizeof(text)), 16);
    assert_non_null(strstr(text, "cuBLASLt 13.0.0 for 1 of 1 shapes in fp8: 64 x 256"));
    run(&s, &args);
    assert_true(measure(&s).rounded < NEAR && measure(&s).plain > 10 * NEAR);
    phx_product_args exact = args;
    exact.rounded = false;
    run(&s, &exact);
    assert_true(measure(&s).plain < NEAR);
    phx_product_args no_room = args; /* each of these is for our own kernels */
    no_room.n_parts = 1000;
    run(&s, &no_room);
    assert_true(measure(&s).plain < NEAR);
    phx_product_args tight = args;
    tight.out_rows = ROWS;
    run(&s, &tight);
    assert_true(measure(&s).plain < NEAR);
    close_setup(&s);
}

static void a_recording_reads_rows_anew(void **state)
{
    setup s;
    char text[512];
    phx_error err = {0};
    phx_graph *graph = NULL;
    size_t n_nodes = 0;
    (void)state;
    open_setup(&s, PHX_TEST_PLUGINS);
    const phx_matrix w = matrix_of(&s, OUT);
    const phx_product_args args = args_of(&s, &w);
    assert_int_equal(choose(&s, &args, text, sizeof(text)), 16);
    phx_backend *b = s.backend;
    assert_int_equal(b->fns->record(b, &err), PHX_OK);
    b->ops.product(b->queue, &args);
    assert_int_equal(b->fns->recorded(b, &graph, &n_nodes, &err), PHX_OK);
    assert_int_equal(n_nodes, 3); /* codes, a copy of the scales (2 of a row, not 4), the product */
    for (int turn = 1; turn < 3; turn++) {
        put_x(&s, turn);
        assert_true(measure(&s).rounded > 10 * NEAR);
        assert_int_equal(b->fns->replay(b, graph, &err), PHX_OK);
        assert_int_equal(phx_sync(b, &err), PHX_OK);
        assert_true(measure(&s).rounded < NEAR);
    }
    b->fns->graph_destroy(b, graph);
    close_setup(&s);
}

static void a_refused_shape_is_our_own(void **state)
{
    setup s;
    char text[512];
    (void)state;
    open_setup(&s, PHX_TEST_PLUGINS);
    const phx_matrix w = matrix_of(&s, SMALL);
    const phx_product_args args = args_of(&s, &w);
    assert_int_equal(choose(&s, &args, text, sizeof(text)), 0);
    assert_non_null(strstr(text, "0 of 1 shapes in fp8: 16 x 256 refused (its status 15)"));
    run(&s, &args);
    const phx_matrix broken = matrix_of(&s, BROKEN);
    const phx_product_args late = args_of(&s, &broken);
    assert_int_equal(choose(&s, &late, text, sizeof(text)), 0);
    assert_non_null(strstr(text, "0 of 2 shapes in fp8: 16 x 256 refused (its status 15), 32 x 256 refused "
                                 "(its status 13)"));
    run(&s, &late);
    const phx_matrix good = matrix_of(&s, OUT);
    const phx_product_args third = args_of(&s, &good);
    assert_int_equal(choose(&s, &third, text, sizeof(text)), 16); /* the others do not spoil it */
    run(&s, &third);
    assert_true(measure(&s).rounded < NEAR);
    close_setup(&s);
}

/* What both ends of a span could do and a step cannot: that product is our own, as are all after it. */
static void a_refusal_in_a_step_is_our_own(void **state)
{
    setup s;
    char text[512];
    (void)state;
    open_setup(&s, PHX_TEST_PLUGINS);
    const phx_matrix w = matrix_of(&s, LATE);
    phx_product_args args = args_of(&s, &w);
    assert_int_equal(choose(&s, &args, text, sizeof(text)), 16);
    run(&s, &args);
    assert_true(measure_part(&s, ROWS, LATE).rounded < NEAR);
    assert_string_equal(s.backend->remark, "");
    args.n_rows = 18;
    run(&s, &args);
    assert_true(measure_part(&s, 18, LATE).plain < NEAR);
    assert_string_equal(s.backend->remark,
                        "products of 48 x 256: our own kernels from now on, cuBLASLt 130000 "
                        "refused 18 rows in a step (its status 13)");
    args.n_rows = ROWS;
    run(&s, &args);
    assert_true(measure_part(&s, ROWS, LATE).plain < NEAR);
    const phx_matrix other = matrix_of(&s, OUT);
    const phx_product_args good = args_of(&s, &other);
    assert_int_equal(choose(&s, &good, text, sizeof(text)), 16);
    run(&s, &good);
    assert_true(measure(&s).rounded < NEAR);
    close_setup(&s);
}

/* The same of a sum over leaves that is one product. */
static void a_refused_leaf_sum_is_our_own(void **state)
{
    setup s;
    char text[512];
    phx_error err = {0};
    (void)state;
    open_setup(&s, PHX_TEST_PLUGINS);
    static const int64_t bounds[2] = {0, COLS};
    int64_t *device_bounds = device_memory(&s, sizeof(bounds));
    assert_int_equal(phx_upload(s.backend, device_bounds, bounds, sizeof(bounds), &err), PHX_OK);
    assert_int_equal(phx_sync(s.backend, &err), PHX_OK);
    const phx_matrix w = matrix_of(&s, LATE);
    phx_product_args example = args_of(&s, &w);
    example.out_stride = LATE;
    assert_int_equal(choose(&s, &example, text, sizeof(text)), 16);
    s.backend->ops.leaf_sum(s.backend->queue, &(phx_leaf_sum_args){.n_tokens = 18,
                                                                   .n_out = LATE,
                                                                   .n_leaves = 1,
                                                                   .fixed = &w,
                                                                   .h_fixed = {s.x, COLS, PHX_BF16},
                                                                   .fixed_bounds = device_bounds,
                                                                   .out = s.out,
                                                                   .rounded = true,
                                                                   .out_rows = 24,
                                                                   .parts = s.parts,
                                                                   .n_parts = example.n_parts});
    assert_int_equal(phx_download(s.backend, s.pinned, s.out, 18 * LATE * sizeof(float), &err), PHX_OK);
    const float *got = s.pinned;
    for (int r = 0; r < 18; r++) {
        for (int n = 0; n < LATE; n++) {
            double sum = 0.0, size = 0.0;
            for (int c = 0; c < COLS; c++) {
                sum += (double)s.x_host[r][c] * (double)s.w_host[n][c];
                size += fabs((double)s.x_host[r][c] * (double)s.w_host[n][c]);
            }
            assert_true(fabs((double)got[r * LATE + n] - sum) < NEAR * size);
        }
    }
    assert_non_null(strstr(s.backend->remark, "refused 18 rows"));
    phx_device_give(s.backend, device_bounds, sizeof(bounds));
    close_setup(&s);
}

static void copy_file(const char *from, const char *to)
{
    char piece[65536];
    FILE *in = fopen(from, "rb");
    FILE *out = fopen(to, "wb");
    size_t n;
    assert_true(in && out);
    while ((n = fread(piece, 1, sizeof(piece), in)) > 0)
        assert_int_equal(fwrite(piece, 1, n, out), n);
    assert_int_equal(fclose(in), 0);
    assert_int_equal(fclose(out), 0);
}

/* A plugin that lies alone. */
static void without_the_library_it_is_said(void **state)
{
    setup s;
    char text[512], dir[] = "/tmp/phx-products-XXXXXX", path[128];
    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/libphalanx_emu.so", dir);
    copy_file(PHX_TEST_PLUGINS "/libphalanx_emu.so", path);
    open_setup(&s, dir);
    const phx_matrix w = matrix_of(&s, OUT);
    const phx_product_args args = args_of(&s, &w);
    assert_int_equal(choose(&s, &args, text, sizeof(text)), 0);
    assert_non_null(strstr(text, "our own kernels: cuBLASLt cannot be opened"));
    assert_non_null(strstr(text, "install libcublas"));
    assert_null(strchr(text, '\n'));
    run(&s, &args);
    assert_true(measure(&s).plain < NEAR);
    close_setup(&s);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_rounded_once_it_is_chosen),
        cmocka_unit_test(a_recording_reads_rows_anew),
        cmocka_unit_test(a_refused_shape_is_our_own),
        cmocka_unit_test(a_refusal_in_a_step_is_our_own),
        cmocka_unit_test(a_refused_leaf_sum_is_our_own),
        cmocka_unit_test(without_the_library_it_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
