/* tests/model/test_quantise.c - a checkpoint written again in int4 and fp8: what it lost, what other files
 * say, and runs that are cut anywhere. */
#include "tests/model/small_dims.h"
#include "tests/model/testing.h"

#include <dirent.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/hash.h"
#include "model/checkpoint.h"
#include "model/pack.h"
#include "model/quantisation.h"
#include "model/quantise.h"
#include "model/synth.h"

typedef struct tally {
    uint64_t n_rows;
    double worst;
    int64_t n_calls_left; /* of keep_going; -1: no end */
    bool dies;            /* at that end, instead of saying no */
} tally;

static void take_row(void *user, const phx_quantise_row *row)
{
    tally *t = user;
    t->n_rows++;
    t->worst = row->relative_rms > t->worst ? row->relative_rms : t->worst;
}

static bool keep_going(void *user)
{
    tally *t = user;
    if (t->n_calls_left != 0) {
        t->n_calls_left -= t->n_calls_left > 0;
        return true;
    }
    if (t->dies)
        _exit(77); /* as a kill: nothing is cleaned up */
    return false;
}

static phx_code quantise(const char *from, const char *to, phx_format format, tally *t, phx_error *err)
{
    return phx_quantise(&(phx_quantise_request){.model_dir = from,
                                                .out_dir = to,
                                                .to = format,
                                                .row = take_row,
                                                .keep_going = keep_going,
                                                .user = t},
                        err);
}

static char *fresh_dir(void)
{
    char *dir = phx_strdup_n(access("/dev/shm", W_OK) == 0 ? "/dev/shm/phx_quantise_XXXXXX"
                                                           : "/tmp/phx_quantise_XXXXXX",
                             access("/dev/shm", W_OK) == 0 ? 28 : 24);
    assert_non_null(dir);
    assert_non_null(mkdtemp(dir));
    return dir;
}

static void drop(char *dir)
{
    DIR *list = opendir(dir);
    assert_non_null(list);
    for (const struct dirent *entry = readdir(list); entry; entry = readdir(list)) {
        char path[512];
        (void)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        if (entry->d_name[0] != '.')
            assert_int_equal(unlink(path), 0);
    }
    (void)closedir(list);
    assert_int_equal(rmdir(dir), 0);
    phx_free(dir);
}

/* A source with a tokenizer beside it. */
static char *make_source(phx_synth_format format, uint32_t n_shards, const phx_dims *dims)
{
    phx_error err = {0};
    char path[128];
    char *dir = fresh_dir();
    must(phx_synth_write(
             &(phx_synth_request){
                 .dims = dims, .format = format, .seed = 4, .n_shards = n_shards, .out_dir = dir},
             &err),
         &err);
    (void)snprintf(path, sizeof(path), "%s/tokenizer.json", dir);
    must(phx_file_write(path, (phx_bytes){(const uint8_t *)"{\"a\": 1}", 8}, 0644, &err), &err);
    return dir;
}

/* Names, sizes and bytes of all files of a folder; order does not matter. */
static uint64_t sum_of(const char *dir, size_t *ret_n)
{
    DIR *list = opendir(dir);
    uint64_t sum = 0;
    size_t n = 0;
    assert_non_null(list);
    for (const struct dirent *entry = readdir(list); entry; entry = readdir(list)) {
        char path[512];
        phx_buf buf;
        phx_error err = {0};
        uint64_t word;
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        phx_buf_init(&buf, 64u << 20);
        must(phx_buf_str(&buf, entry->d_name), &err);
        must(phx_file_read(path, &buf, &err), &err);
        const phx_hash hash = phx_hash_of(buf.ptr, buf.n);
        memcpy(&word, hash.bytes, sizeof(word));
        sum += word;
        n++;
        phx_buf_done(&buf);
    }
    (void)closedir(list);
    *ret_n = n;
    return sum;
}

static phx_checkpoint *open_ok(const char *dir)
{
    phx_error err = {0};
    phx_checkpoint *ck = NULL;
    must(phx_checkpoint_open(dir, &ck, &err), &err);
    return ck;
}

/* Row `row` of a matrix as f32. */
static void row_of(const phx_ck_tensor *t, int64_t row, float *ret_values)
{
    phx_error err = {0};
    uint8_t data[4096];
    uint8_t scales[4096];
    const size_t bytes = phx_format_row_bytes(t->format, t->n_cols);
    const int64_t block = phx_format_block(t->format);
    phx_matrix m = {.data = data, .n_rows = 1, .n_cols = t->n_cols, .format = t->format};
    must(phx_st_read(t->file, t->data, (uint64_t)row * bytes, data, bytes, &err), &err);
    if (block) {
        const int64_t n = (t->n_cols + block - 1) / block;
        const size_t scale_row_bytes = (size_t)n * phx_dtype_bytes(t->scales->dtype);
        const uint64_t at = (uint64_t)(row / phx_format_block_rows(t->format)) * scale_row_bytes;
        must(phx_st_read(t->scale_file, t->scales, at, scales, scale_row_bytes, &err), &err);
        m.scales = (const float *)(const void *)scales;
        m.group_scales = (const uint16_t *)(const void *)scales;
        m.scale_stride = n;
    }
    for (int64_t c = 0; c < t->n_cols; c++)
        ret_values[c] = phx_matrix_at(&m, 0, c);
}

/* Every matrix of the result against the source: those of format `to` within limit, all others equal, or
 * their bf16. */
static void compare(const char *from, const char *to, phx_format format, double limit)
{
    phx_checkpoint *a = open_ok(from);
    phx_checkpoint *b = open_ok(to);
    uint64_t n_packed = 0;
    assert_int_equal(phx_checkpoint_count(a), phx_checkpoint_count(b));
    assert_int_equal(phx_checkpoint_count_all(b).n_extra, 0);
    for (size_t i = 0; i < phx_checkpoint_count(a); i++) {
        const phx_ck_tensor *x = phx_checkpoint_at(a, i);
        const phx_ck_tensor *y = phx_checkpoint_at(b, i);
        for (int64_t r = 0; r < x->n_rows; r++) {
            float want[512];
            float got[512];
            double error = 0;
            double size = 0;
            row_of(x, r, want);
            row_of(y, r, got);
            for (int64_t c = 0; c < x->n_cols; c++) {
                error += ((double)got[c] - (double)want[c]) * ((double)got[c] - (double)want[c]);
                size += (double)want[c] * (double)want[c];
                if (y->format == PHX_FORMAT_BF16)
                    assert_true(got[c] == phx_bf16_to_f32(phx_f32_to_bf16(want[c])));
                else if (y->format != format)
                    assert_true(got[c] == want[c]);
            }
            if (y->format == format)
                assert_true(error <= limit * limit * size);
        }
        n_packed += y->format == format;
        if (format == PHX_FORMAT_INT4_G32)
            assert_int_equal(y->format == format, y->id.expert >= 0);
    }
    assert_true(n_packed > 0);
    phx_checkpoint_close(a);
    phx_checkpoint_close(b);
}

static void test_round_trip(void **state)
{
    (void)state;
    static const struct {
        phx_synth_format from;
        phx_format to;
        uint32_t n_shards;
        double limit;
    } cases[] = {
        {PHX_SYNTH_BF16, PHX_FORMAT_INT4_G32, 3, 0.16},  {PHX_SYNTH_BF16, PHX_FORMAT_INT4_G32, 1, 0.16},
        {PHX_SYNTH_FP8, PHX_FORMAT_INT4_G32, 2, 0.16},   {PHX_SYNTH_FP8_UE8M0, PHX_FORMAT_INT4_G32, 2, 0.16},
        {PHX_SYNTH_BF16, PHX_FORMAT_FP8_BLOCK, 3, 0.05}, {PHX_SYNTH_F32, PHX_FORMAT_FP8_BLOCK, 1, 0.05}};
    for (size_t i = 0; i < N_OF(cases); i++) {
        phx_error err = {0};
        tally t = {.n_calls_left = -1};
        char path[128];
        const phx_dims dims = small_dims(160, 64, 4);
        char *from = make_source(cases[i].from, cases[i].n_shards, &dims);
        char *to = fresh_dir();
        must(quantise(from, to, cases[i].to, &t, &err), &err);
        compare(from, to, cases[i].to, cases[i].limit);
        assert_true(t.n_rows > 0);
        assert_true(t.worst > 0.001);
        assert_true(t.worst < cases[i].limit);
        (void)snprintf(path, sizeof(path), "%s/tokenizer.json", to);
        assert_true(phx_file_exists(path));
        size_t n = 0;
        (void)sum_of(to, &n); /* shards, index when there are several, config and tokenizer; no notes */
        assert_int_equal(n, cases[i].n_shards + (cases[i].n_shards > 1 ? 3 : 2));
        tally again = {.n_calls_left = -1};
        assert_int_equal(quantise(from, to, cases[i].to, &again, &err), PHX_ERR_IO);
        drop(to);
        drop(from);
    }
}

/* Cut after every number of steps, by saying no and by dying, and run again: the same bytes as in one go, and
 * every matrix reported once by the last run. */
static void test_cut_anywhere(void **state)
{
    (void)state;
    phx_error err = {0};
    size_t n_files = 0;
    const phx_dims dims = small_dims(160, 64, 4);
    char *from = make_source(PHX_SYNTH_BF16, 3, &dims);
    char *whole = fresh_dir();
    tally all = {.n_calls_left = -1};
    must(quantise(from, whole, PHX_FORMAT_INT4_G32, &all, &err), &err);
    const uint64_t want = sum_of(whole, &n_files);
    int64_t n_cuts = 0;
    for (int64_t steps = 0; steps < 400; steps += 1 + steps / 6) {
        char *to = fresh_dir();
        tally t = {.n_calls_left = steps, .dies = steps % 2 == 0};
        const pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            phx_error ignored = {0};
            _exit(quantise(from, to, PHX_FORMAT_INT4_G32, &t, &ignored) == PHX_OK ? 0 : 1);
        }
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        n_cuts += WEXITSTATUS(status) != 0;
        if (WEXITSTATUS(status) != 0) {
            tally rest = {.n_calls_left = -1};
            must(quantise(from, to, PHX_FORMAT_INT4_G32, &rest, &err), &err);
            assert_int_equal(rest.n_rows, all.n_rows);
            assert_true(rest.worst > all.worst * 0.999999 && rest.worst < all.worst * 1.000001);
        }
        size_t n = 0;
        assert_int_equal(sum_of(to, &n), want);
        assert_int_equal(n, n_files);
        drop(to);
    }
    assert_true(n_cuts > 10);
    drop(whole);
    drop(from);
}

/* A shard that was damaged or lost after its note was written is made again; notes of another run are
 * refused. */
static void test_notes(void **state)
{
    (void)state;
    phx_error err = {0};
    size_t n_files = 0;
    char path[128];
    const phx_dims dims = small_dims(160, 64, 4);
    char *from = make_source(PHX_SYNTH_BF16, 3, &dims);
    char *whole = fresh_dir();
    tally all = {.n_calls_left = -1};
    must(quantise(from, whole, PHX_FORMAT_INT4_G32, &all, &err), &err);
    const uint64_t want = sum_of(whole, &n_files);
    for (int damage = 0; damage < 3; damage++) {
        char *to = fresh_dir();
        tally t = {.n_calls_left = 40};
        assert_int_equal(quantise(from, to, PHX_FORMAT_INT4_G32, &t, &err), PHX_ERR_CANCELLED);
        (void)snprintf(path, sizeof(path), "%s/model-00001-of-00003.safetensors.quantised", to);
        assert_true(phx_file_exists(path));
        tally other = {.n_calls_left = -1};
        assert_int_equal(quantise(from, to, PHX_FORMAT_FP8_BLOCK, &other, &err), PHX_ERR_IO);
        (void)snprintf(path, sizeof(path), "%s/model-00001-of-00003.safetensors", to);
        if (damage == 0)
            assert_int_equal(unlink(path), 0);
        else if (damage == 1)
            assert_int_equal(truncate(path, 100), 0);
        tally rest = {.n_calls_left = -1};
        must(quantise(from, to, PHX_FORMAT_INT4_G32, &rest, &err), &err);
        size_t n = 0;
        assert_int_equal(sum_of(to, &n), want);
        drop(to);
    }
    drop(whole);
    drop(from);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        phx_synth_format from;
        phx_format to;
        int64_t d_hidden;
    } cases[] = {{PHX_SYNTH_INT4, PHX_FORMAT_INT4_G32, 160},
                 {PHX_SYNTH_INT4, PHX_FORMAT_FP8_BLOCK, 160},
                 {PHX_SYNTH_FP8, PHX_FORMAT_FP8_BLOCK, 160},
                 {PHX_SYNTH_BF16, PHX_FORMAT_BF16, 160},
                 {PHX_SYNTH_BF16, PHX_FORMAT_INT4_G32, 168}};
    for (size_t i = 0; i < N_OF(cases); i++) {
        phx_error err = {0};
        tally t = {.n_calls_left = -1};
        phx_dims dims = small_dims(160, 64, 4);
        dims.d_hidden = cases[i].d_hidden;
        char *from = make_source(cases[i].from, 1, &dims);
        char *to = fresh_dir();
        assert_int_equal(quantise(from, to, cases[i].to, &t, &err), PHX_ERR_UNSUPPORTED);
        size_t n = 0;
        (void)sum_of(to, &n);
        assert_int_equal(n, 0);
        drop(to);
        drop(from);
    }
}

/* Numbers that int4 holds exactly come back so, the largest negative one too; zeros and tiny groups are
 * zeros. */
static void test_pack(void **state)
{
    (void)state;
    float values[96];
    uint32_t words[12];
    uint16_t scales[3];
    phx_pack_error error = {0};
    for (int i = 0; i < 32; i++) {
        values[i] = (float)(i % 16 - 8) * 0.25f;
        values[32 + i] = 0.0f;
        values[64 + i] = 1e-42f;
    }
    phx_pack_int4_row(values, 96, words, scales, &error);
    assert_int_equal(words[0], 0x76543210u);
    assert_int_equal(words[1], 0xFEDCBA98u);
    assert_true(phx_bf16_to_f32(scales[0]) == 0.25f);
    assert_int_equal(words[4], 0x88888888u);
    assert_int_equal(words[8], 0x88888888u);
    assert_true(error.max_error < 1e-40);
    float stripe[2 * 130];
    uint8_t codes[2 * 130];
    float block_scales[2];
    error = (phx_pack_error){0};
    for (int i = 0; i < 260; i++)
        stripe[i] = i % 130 < 128 ? 448.0f - (float)(i % 3) * 32.0f : 0.0f;
    phx_pack_fp8_stripe(stripe, 2, 130, codes, block_scales, &error);
    assert_true(block_scales[0] == 1.0f);
    assert_true(block_scales[1] == 1.0f);
    assert_true(error.max_error == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pack), cmocka_unit_test(test_round_trip),
                                       cmocka_unit_test(test_cut_anywhere), cmocka_unit_test(test_notes),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
