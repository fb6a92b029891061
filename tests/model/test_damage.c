/* tests/model/test_damage.c - damaged and strange checkpoints: an error that names the thing, or the same
 * tables; never a crash. */
#include "tests/model/testing.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/rng.h"
#include "model/checkpoint.h"
#include "model/synth.h"

typedef struct folder {
    char dir[64];
    char path[128]; /* of the file that was asked for last */
} folder;

static const char *in_folder(folder *f, const char *name)
{
    (void)snprintf(f->path, sizeof(f->path), "%s/%s", f->dir, name);
    return f->path;
}

static void folder_make(folder *f)
{
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/phx_damage_XXXXXX");
    assert_non_null(mkdtemp(f->dir));
}

static void folder_drop(folder *f)
{
    static const char *const names[] = {"config.json",
                                        "generation_config.json",
                                        "model.safetensors",
                                        "model.safetensors.index.json",
                                        "model-00001-of-00002.safetensors",
                                        "model-00002-of-00002.safetensors"};
    for (size_t i = 0; i < N_OF(names); i++)
        (void)unlink(in_folder(f, names[i]));
    assert_int_equal(rmdir(f->dir), 0);
}

static phx_dims tiny_dims(int64_t n_mtp)
{
    phx_dims dims = phx_preset_find(phx_str_of("ds32-3b"))->dims;
    dims.n_layers = 2;
    dims.n_layers_mtp = n_mtp;
    dims.n_vocab = 16;
    dims.d_hidden = 16;
    dims.d_ff_dense = 16;
    dims.d_ff_expert = 8;
    dims.n_heads = 2;
    dims.d_nope = 4;
    dims.d_rope = 4;
    dims.d_v = 4;
    dims.q_lora = 8;
    dims.kv_lora = 8;
    dims.n_experts = 2;
    dims.n_experts_used = 1;
    dims.n_expert_groups = 1;
    dims.n_expert_groups_used = 1;
    dims.index_n_heads = 1;
    dims.index_d = 8;
    dims.index_topk = 4;
    return dims;
}

static void folder_synth_dims(folder *f, uint32_t n_shards, const phx_dims *dims)
{
    phx_error err = {0};
    folder_make(f);
    must(phx_synth_write(
             &(phx_synth_request){
                 .dims = dims, .format = PHX_SYNTH_FP8, .seed = 3, .n_shards = n_shards, .out_dir = f->dir},
             &err),
         &err);
}

static void folder_synth(folder *f, uint32_t n_shards, int64_t n_mtp)
{
    const phx_dims dims = tiny_dims(n_mtp);
    folder_synth_dims(f, n_shards, &dims);
}

/* ---- flipped bits and cut files ---- */

static bool same_tables(const phx_checkpoint *a, const phx_checkpoint *b)
{
    if (phx_checkpoint_count(a) != phx_checkpoint_count(b))
        return false;
    for (size_t i = 0; i < phx_checkpoint_count(a); i++) {
        const phx_ck_tensor *x = phx_checkpoint_at(a, i);
        const phx_ck_tensor *y = phx_checkpoint_at(b, i);
        if (x->format != y->format || x->n_rows != y->n_rows || x->n_cols != y->n_cols ||
            x->data->offset != y->data->offset || x->data->n_bytes != y->data->n_bytes ||
            !x->scales != !y->scales || (x->scales && x->scales->offset != y->scales->offset))
            return false;
    }
    return true;
}

static void flip(const char *path, size_t at, uint8_t mask)
{
    uint8_t byte;
    const int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= mask;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    close(fd);
}

/* Opens with one bit of each byte of [0, n) flipped, every step-th byte. */
static void try_flips(folder *f, const char *name, size_t n, size_t step, const phx_checkpoint *good)
{
    char path[128];
    phx_rng rng = {99, 0};
    size_t n_refused = 0;
    (void)snprintf(path, sizeof(path), "%s", in_folder(f, name));
    for (size_t at = 0; at < n; at += step) {
        const uint8_t mask = (uint8_t)(1u << phx_rng_below(&rng, 8));
        phx_error err = {0};
        phx_checkpoint *ck = NULL;
        flip(path, at, mask);
        const phx_code rc = phx_checkpoint_open(f->dir, &ck, &err);
        flip(path, at, mask);
        if (rc != PHX_OK) {
            n_refused++;
            assert_true(err.text[0] != 0);
        } else if (good && !same_tables(ck, good)) {
            fail_msg("%s: bit %02x of byte %zu changed the tables unnoticed", name, mask, at);
        }
        phx_checkpoint_close(ck);
    }
    assert_true(n_refused > 0);
}

static void test_flips(void **state)
{
    (void)state;
    folder f;
    phx_error err = {0};
    phx_checkpoint *good = NULL;
    folder_synth(&f, 1, 0);
    must(phx_checkpoint_open(f.dir, &good, &err), &err);
    const size_t head_bytes = (size_t)phx_checkpoint_at(good, 0)->data->offset;
    try_flips(&f, "model.safetensors", head_bytes, 1, good);
    struct stat st;
    assert_int_equal(stat(in_folder(&f, "config.json"), &st), 0);
    try_flips(&f, "config.json", (size_t)st.st_size, 1, NULL);
    phx_checkpoint_close(good);
    folder_drop(&f);
}

static void test_index_flips(void **state)
{
    (void)state;
    folder f;
    phx_error err = {0};
    phx_checkpoint *good = NULL;
    struct stat st;
    folder_synth(&f, 2, 0);
    must(phx_checkpoint_open(f.dir, &good, &err), &err);
    assert_int_equal(stat(in_folder(&f, "model.safetensors.index.json"), &st), 0);
    try_flips(&f, "model.safetensors.index.json", (size_t)st.st_size, 3, good);
    phx_checkpoint_close(good);
    folder_drop(&f);
}

static void test_truncation(void **state)
{
    (void)state;
    folder f;
    struct stat st;
    folder_synth(&f, 1, 0);
    assert_int_equal(stat(in_folder(&f, "model.safetensors"), &st), 0);
    for (off_t n = st.st_size - 1; n >= 0; n = n > 300 ? n - 41 : n - 1) {
        phx_error err = {0};
        phx_checkpoint *ck = NULL;
        assert_int_equal(truncate(in_folder(&f, "model.safetensors"), n), 0);
        assert_int_equal(phx_checkpoint_open(f.dir, &ck, &err), PHX_ERR_CORRUPT);
        assert_non_null(strstr(err.text, "model.safetensors"));
    }
    folder_drop(&f);
}

/* A file that is cut while it is open. */
static void test_cut_while_open(void **state)
{
    (void)state;
    folder f;
    phx_error err = {0};
    phx_checkpoint *ck = NULL;
    uint8_t data[512];
    folder_synth(&f, 1, 0);
    must(phx_checkpoint_open(f.dir, &ck, &err), &err);
    const phx_ck_tensor *last = phx_checkpoint_find(ck, PHX_ROLE_HEAD, -1, -1);
    assert_int_equal(truncate(in_folder(&f, "model.safetensors"), (off_t)last->data->offset + 5), 0);
    assert_int_equal(phx_st_read(last->file, last->data, 0, data, (size_t)last->data->n_bytes, &err),
                     PHX_ERR_CORRUPT);
    assert_non_null(strstr(err.text, "cut short"));
    phx_checkpoint_close(ck);
    folder_drop(&f);
}

/* ---- strange contents: a copy of a checkpoint with edits ---- */

typedef struct edit {
    const char *drop;      /* tensors whose name ends so are left out */
    const char *from, *to; /* tensor of this name is renamed */
    const char *retype;    /* tensor of this name gets the dtype below (element size kept) */
    phx_dtype dtype;
    const char *flatten; /* tensor of this name gets one dimension */
    const char *extra;   /* one more tensor, U8 [1] */
} edit;

static void copy_tensors(const phx_st_file *file, const phx_st_decl *decls, size_t n, const char *path)
{
    phx_error err = {0};
    phx_st_writer *writer = NULL;
    must(phx_st_writer_open(path, decls, n, &writer, &err), &err);
    for (size_t i = 0; i < n; i++) {
        static uint8_t zero[1];
        const phx_st_tensor *tensor = phx_st_find(file, phx_str_of(decls[i].name));
        uint64_t n_bytes = phx_dtype_bytes(decls[i].dtype);
        for (uint32_t d = 0; d < decls[i].n_dims; d++)
            n_bytes *= (uint64_t)decls[i].shape[d];
        uint8_t *data = phx_alloc((size_t)n_bytes, 1);
        if (tensor && tensor->n_bytes == n_bytes)
            must(phx_st_read(file, tensor, 0, data, (size_t)n_bytes, &err), &err);
        must(phx_st_writer_append(writer, n_bytes == 1 ? zero : data, (size_t)n_bytes, &err), &err);
        phx_free(data);
    }
    must(phx_st_writer_close(writer, &err), &err);
}

static void apply(folder *f, const edit *e)
{
    static char names[400][128];
    static phx_st_decl decls[400];
    phx_error err = {0};
    phx_st_file *file = NULL;
    size_t n = 0;
    must(phx_st_open(in_folder(f, "model.safetensors"), &file, &err), &err);
    for (size_t i = 0; i < phx_st_count(file); i++) {
        const phx_st_tensor *tensor = phx_st_at(file, i);
        if (e->drop && phx_str_ends(tensor->name, phx_str_of(e->drop)))
            continue;
        assert_true(phx_str_copy(names[n], sizeof(names[n]), tensor->name));
        decls[n] = (phx_st_decl){.name = names[n], .dtype = tensor->dtype, .n_dims = tensor->n_dims};
        memcpy(decls[n].shape, tensor->shape, sizeof(tensor->shape));
        if (e->retype && strcmp(names[n], e->retype) == 0)
            decls[n].dtype = e->dtype;
        if (e->flatten && strcmp(names[n], e->flatten) == 0) {
            decls[n].shape[0] *= decls[n].shape[1];
            decls[n].n_dims = 1;
        }
        if (e->from && strcmp(names[n], e->from) == 0)
            (void)snprintf(names[n], sizeof(names[n]), "%s", e->to);
        n++;
        assert_true(n < N_OF(decls));
    }
    if (e->extra)
        decls[n++] = (phx_st_decl){.name = e->extra, .dtype = PHX_U8, .n_dims = 1, .shape = {1}};
    copy_tensors(file, decls, n, in_folder(f, "model.safetensors"));
    phx_st_close(file);
}

static void refused(const edit *e, phx_code code, const char *named)
{
    folder f;
    phx_error err = {0};
    phx_checkpoint *ck = NULL;
    folder_synth(&f, 1, 1);
    apply(&f, e);
    const phx_code rc = phx_checkpoint_open(f.dir, &ck, &err);
    if (rc != code || !strstr(err.text, named))
        fail_msg("%s '%s', expected '%s'", phx_code_name(rc), err.text, named);
    folder_drop(&f);
}

#define Q_A "model.layers.0.self_attn.q_a_proj.weight"

static void test_strange_tensors(void **state)
{
    (void)state;
    refused(&(edit){.drop = Q_A "_scale_inv"}, PHX_ERR_CORRUPT, Q_A "_scale_inv' is missing");
    refused(&(edit){.drop = Q_A}, PHX_ERR_CORRUPT, Q_A "' is missing");
    refused(&(edit){.retype = Q_A, .dtype = PHX_I8}, PHX_ERR_UNSUPPORTED, "stored as I8");
    refused(&(edit){.retype = Q_A "_scale_inv", .dtype = PHX_I32}, PHX_ERR_UNSUPPORTED, "stored as I32");
    refused(&(edit){.flatten = Q_A}, PHX_ERR_CORRUPT, "has shape [128], config.json asks for [8,16]");
    refused(&(edit){.flatten = Q_A "_scale_inv"}, PHX_ERR_CORRUPT, "has shape [1]");
    refused(&(edit){.retype = "model.norm.weight", .dtype = PHX_F8_E4M3}, PHX_ERR_UNSUPPORTED, "F8_E4M3");
    refused(&(edit){.extra = "model.layers.0.self_attn.indexer.weights_proj.weight_scale_inv"},
            PHX_ERR_CORRUPT, "yet has scales");
}

static phx_checkpoint *open_edited(folder *f, const edit *e)
{
    phx_error err = {0};
    phx_checkpoint *ck = NULL;
    folder_synth(f, 1, 1);
    apply(f, e);
    must(phx_checkpoint_open(f->dir, &ck, &err), &err);
    return ck;
}

static void test_extras_and_options(void **state)
{
    (void)state;
    folder f;
    phx_checkpoint *ck = open_edited(&f, &(edit){.extra = "model.surprise"});
    assert_int_equal(phx_checkpoint_count_all(ck).n_extra, 1);
    assert_true(phx_str_is(phx_checkpoint_extra(ck, 0), "model.surprise"));
    assert_null(phx_checkpoint_extra(ck, 1).ptr);
    phx_checkpoint_close(ck);
    folder_drop(&f);

    ck = open_edited(&f, &(edit){.extra = "model.layers.0.self_attn.rotary_emb.inv_freq"});
    assert_int_equal(phx_checkpoint_count_all(ck).n_extra, 0);
    phx_checkpoint_close(ck);
    folder_drop(&f);

    ck = open_edited(&f, &(edit){.retype = Q_A "_scale_inv", .dtype = PHX_F8_E8M0});
    assert_int_equal(phx_checkpoint_find(ck, PHX_ROLE_Q_A, 0, -1)->scales->dtype, PHX_F8_E8M0);
    phx_checkpoint_close(ck);
    folder_drop(&f);

    ck = open_edited(&f, &(edit){.drop = ".shared_head.head.weight"});
    assert_int_equal(phx_checkpoint_dims(ck)->n_layers_mtp, 1);
    assert_null(phx_checkpoint_find(ck, PHX_ROLE_MTP_HEAD, 2, -1));
    assert_non_null(phx_checkpoint_find(ck, PHX_ROLE_MTP_EMBED, 2, -1));
    phx_checkpoint_close(ck);
    folder_drop(&f);
}

/* Text models inside others: every name has a prefix; the parts that see are counted, not unexpected, and
 * not looked for under other families. */
static void test_nested_model(void **state)
{
    (void)state;
    folder f;
    phx_error err = {0};
    phx_checkpoint *ck = NULL;
    phx_dims dims = tiny_dims(0);
    memset(dims.model_type, 0, sizeof(dims.model_type));
    memcpy(dims.model_type, "kimi_k25", 8);
    dims.index_n_heads = dims.index_d = dims.index_topk = 0;
    folder_synth_dims(&f, 1, &dims);
    apply(&f, &(edit){.extra = "vision_tower.patch_embed.proj.weight"});
    apply(&f, &(edit){.extra = "mm_projector.proj.0.weight"});
    apply(&f, &(edit){.extra = "model.layers.0.input_layernorm.weight"}); /* the prefix is no option */
    must(phx_checkpoint_open(f.dir, &ck, &err), &err);
    const phx_checkpoint_totals totals = phx_checkpoint_count_all(ck);
    assert_memory_equal(phx_checkpoint_dims(ck), &dims, sizeof(dims));
    assert_int_equal(totals.n_skipped, 2);
    assert_int_equal(totals.n_skipped_bytes, 2);
    assert_int_equal(totals.n_extra, 1);
    assert_true(phx_str_is(phx_checkpoint_find(ck, PHX_ROLE_EXPERT_UP, 1, 1)->data->name,
                           "language_model.model.layers.1.mlp.experts.1.up_proj.weight"));
    assert_true(phx_str_is(phx_checkpoint_find(ck, PHX_ROLE_HEAD, -1, -1)->data->name,
                           "language_model.lm_head.weight"));
    phx_checkpoint_close(ck);
    apply(&f, &(edit){.drop = "language_model.lm_head.weight"});
    assert_int_equal(phx_checkpoint_open(f.dir, &ck, &err), PHX_ERR_CORRUPT);
    assert_non_null(strstr(err.text, "language_model.lm_head.weight"));
    folder_drop(&f);

    ck = open_edited(&f, &(edit){.extra = "vision_tower.patch_embed.proj.weight"});
    assert_int_equal(phx_checkpoint_count_all(ck).n_skipped, 0);
    assert_int_equal(phx_checkpoint_count_all(ck).n_extra, 1);
    phx_checkpoint_close(ck);
    folder_drop(&f);
}

/* The config promises an MTP layer that the files lack altogether. */
static void test_absent_mtp(void **state)
{
    (void)state;
    folder f;
    folder other;
    phx_error err = {0};
    phx_checkpoint *ck = NULL;
    phx_buf config;
    folder_synth(&f, 1, 0);
    folder_synth(&other, 1, 1);
    phx_buf_init(&config, 1 << 16);
    must(phx_file_read(in_folder(&other, "config.json"), &config, &err), &err);
    must(phx_file_write(in_folder(&f, "config.json"), (phx_bytes){(const uint8_t *)config.ptr, config.n},
                        0644, &err),
         &err);
    must(phx_checkpoint_open(f.dir, &ck, &err), &err);
    assert_int_equal(phx_checkpoint_dims(ck)->n_layers_mtp, 0);
    phx_checkpoint_close(ck);
    phx_buf_done(&config);
    folder_drop(&f);
    folder_drop(&other);
}

static void test_lenient(void **state)
{
    (void)state;
    folder f;
    phx_error err = {0};
    phx_checkpoint *ck = NULL;
    folder_synth(&f, 1, 0);
    apply(&f, &(edit){.drop = "experts.1.up_proj.weight"});
    must(phx_checkpoint_open_lenient(f.dir, &ck, &err), &err);
    const phx_checkpoint_totals totals = phx_checkpoint_count_all(ck);
    assert_int_equal(totals.n_missing, 1);
    assert_int_equal(totals.n_extra, 1); /* its scales */
    assert_true(phx_str_is(phx_checkpoint_missing(ck, 0), "model.layers.1.mlp.experts.1.up_proj.weight"));
    assert_null(phx_checkpoint_missing(ck, 1).ptr);
    assert_null(phx_checkpoint_find(ck, PHX_ROLE_EXPERT_UP, 1, 1));
    assert_non_null(phx_checkpoint_find(ck, PHX_ROLE_EXPERT_UP, 1, 0));
    phx_checkpoint_close(ck);
    folder_drop(&f);
}

static void index_refused(const char *text, const char *named)
{
    folder f;
    phx_error err = {0};
    phx_checkpoint *ck = NULL;
    folder_synth(&f, 2, 0);
    must(phx_file_write(in_folder(&f, "model.safetensors.index.json"),
                        (phx_bytes){(const uint8_t *)text, strlen(text)}, 0644, &err),
         &err);
    const phx_code rc = phx_checkpoint_open(f.dir, &ck, &err);
    if (rc == PHX_OK || !strstr(err.text, named) || !strstr(err.text, "index.json"))
        fail_msg("%s: %s '%s'", text, phx_code_name(rc), err.text);
    folder_drop(&f);
}

static void test_strange_index(void **state)
{
    (void)state;
    static const char *const outside[] = {
        "../model.safetensors", "/etc/passwd", "a/b.safetensors", ".safetensors", "..", "", "model.bin"};
    for (size_t i = 0; i < N_OF(outside); i++) {
        char text[200];
        (void)snprintf(text, sizeof(text), "{\"weight_map\":{\"model.norm.weight\":\"%s\"}}", outside[i]);
        index_refused(text, "no safetensors file of this folder");
    }
    index_refused("{}", "weight_map");
    index_refused("{\"weight_map\":[]}", "weight_map");
    index_refused("{\"weight_map\":{\"a\":7}}", "no safetensors file");
    index_refused("{\"weight_map\":{\"a\":\"nothing.safetensors\"}}", "cannot open");
    index_refused("{\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\"}}", "'a' is not in shard");
    index_refused("{\"weight_map\":{\"a\":\"x.safetensors\",\"a\":\"y.safetensors\"}}", "duplicate");
    index_refused("{\"weight_map\":", "JSON");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flips),           cmocka_unit_test(test_index_flips),
        cmocka_unit_test(test_truncation),      cmocka_unit_test(test_cut_while_open),
        cmocka_unit_test(test_strange_tensors), cmocka_unit_test(test_extras_and_options),
        cmocka_unit_test(test_nested_model),    cmocka_unit_test(test_absent_mtp),
        cmocka_unit_test(test_lenient),         cmocka_unit_test(test_strange_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
