/* tests/model/test_plan.c - leaves, cuts, and plans: every element of every split tensor has one owner. */
#include "tests/model/testing.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "model/plan.h"

static phx_checkpoint *open_ok(const char *dir)
{
    phx_error err = {0};
    phx_checkpoint *ck = NULL;
    must(phx_checkpoint_open(dir, &ck, &err), &err);
    return ck;
}

static phx_plan_request request_of(const phx_checkpoint *ck, uint32_t tp, const char *pp,
                                   phx_expert_mode experts)
{
    phx_error err = {0};
    phx_plan_request request;
    phx_plan_request_default(&request);
    request.layout.tp = tp;
    request.layout.experts = experts;
    request.numerics.experts = experts;
    request.memory_bytes = (uint64_t)4 << 30;
    request.n_threads = 2;
    must(phx_layout_parse_pp(phx_str_of(pp), phx_checkpoint_dims(ck), &request.layout, &err), &err);
    return request;
}

static phx_plan *plan_ok(const phx_checkpoint *ck, const phx_plan_request *request)
{
    phx_error err = {0};
    phx_plan *plan = NULL;
    must(phx_plan_build(ck, request, &plan, &err), &err);
    return plan;
}

static void test_leaves(void **state)
{
    (void)state;
    for (int64_t n = 0; n < 300; n++) {
        int64_t at = 0;
        for (uint32_t leaf = 0; leaf < PHX_LEAVES; leaf++) {
            const phx_range range = phx_leaf_bounds(n, leaf);
            assert_int_equal(range.first, at);
            assert_int_equal(range.end, (leaf + 1) * n / 8);
            at = range.end;
        }
        assert_int_equal(at, n);
        for (uint32_t tp = 1; tp <= 10; tp++) {
            at = 0;
            for (uint32_t r = 0; r < tp; r++) {
                assert_int_equal(phx_tp_range(n, tp, r).first, at);
                at = phx_tp_range(n, tp, r).end;
            }
            assert_int_equal(at, n);
        }
    }
    assert_int_equal(phx_ff_unit(2048, PHX_FORMAT_FP8_BLOCK), 128);
    assert_int_equal(phx_ff_unit(2048, PHX_FORMAT_BF16), 32);
    assert_int_equal(phx_ff_unit(384, PHX_FORMAT_FP8_BLOCK), 32);
    assert_int_equal(phx_ff_unit(32, PHX_FORMAT_BF16), 4);
    assert_int_equal(phx_ff_unit(7, PHX_FORMAT_BF16), 1);
    for (int64_t n = 1; n < 700; n++) {
        for (int format = 0; format < PHX_FORMAT_COUNT; format++) {
            int64_t at = 0;
            for (uint32_t leaf = 0; leaf < PHX_LEAVES; leaf++) {
                const phx_range range = phx_ff_leaf(n, (phx_format)format, leaf);
                assert_int_equal(range.first, at);
                at = range.end;
            }
            assert_int_equal(at, n);
            assert_int_equal(phx_ff_range(n, (phx_format)format, 2, 0).end,
                             phx_ff_leaf(n, (phx_format)format, 3).end);
        }
    }
}

static void test_pp_text(void **state)
{
    (void)state;
    phx_error err = {0};
    phx_dims dims;
    must(phx_dims_load(source_path("tests/data/golden/deepseek-v32-fp8"), &dims, &err), &err);
    dims.n_layers = 61;
    dims.n_layers_dense = 3;
    dims.d_hidden = 7168;
    dims.n_experts = 256;
    phx_layout layout = {.tp = 1};
    must(phx_layout_parse_pp(phx_str_of("4:0,3,20,41"), &dims, &layout, &err), &err);
    assert_int_equal(layout.pp, 4);
    assert_int_equal(layout.layer_first[2], 20);
    assert_int_equal(layout.layer_first[4], 61);
    must(phx_layout_parse_pp(phx_str_of("4"), &dims, &layout, &err), &err);
    assert_true(layout.layer_first[1] >= 16); /* dense layers are light: the first stage takes more */
    assert_int_equal(layout.layer_first[4], 61);
    must(phx_layout_check(&layout, &dims, &err), &err);
    static const char *const bad[] = {
        "",      "0",     "17",     "x",       "4:",     "4:0,3,20", "4:0,3,20,41,50",
        "2:1,5", "2:0,0", "2:0,61", "3:0,9,5", "2:0,-1", "2:0,,",    "62"};
    for (size_t i = 0; i < N_OF(bad); i++) {
        const phx_layout before = layout;
        phx_error inner = {0};
        assert_int_equal(phx_layout_parse_pp(phx_str_of(bad[i]), &dims, &layout, &inner), PHX_ERR_INVALID);
        assert_memory_equal(&before, &layout, sizeof(layout));
        assert_true(inner.text[0] != 0);
    }
}

static void refused(const phx_checkpoint *ck, const phx_plan_request *request, const char *named)
{
    phx_error err = {0};
    phx_plan *plan = NULL;
    const phx_code rc = phx_plan_build(ck, request, &plan, &err);
    if (rc == PHX_OK || !strstr(err.text, named))
        fail_msg("%s '%s', expected '%s'", phx_code_name(rc), err.text, named);
    assert_null(plan);
}

/* Every element of a tensor is held by one rank of its stage when it is split, by all of them when not. */
static void check_owners(const phx_checkpoint *ck, const phx_plan *plan, const phx_ck_tensor *tensor)
{
    const size_t n_cells = (size_t)(tensor->n_rows * tensor->n_cols);
    uint8_t *n_owners = phx_alloc(n_cells, 1);
    uint32_t n_slices = 0;
    assert_non_null(n_owners);
    (void)ck;
    for (uint32_t r = 0; r < plan->n_ranks; r++) {
        for (size_t i = 0; i < plan->ranks[r].n_slices; i++) {
            const phx_plan_slice *slice = &plan->ranks[r].slices[i];
            if (slice->tensor != tensor)
                continue;
            n_slices++;
            assert_true(slice->rows.first >= 0 && slice->rows.end <= tensor->n_rows);
            assert_true(slice->cols.first >= 0 && slice->cols.end <= tensor->n_cols);
            for (int64_t row = slice->rows.first; row < slice->rows.end; row++)
                for (int64_t col = slice->cols.first; col < slice->cols.end; col++)
                    n_owners[row * tensor->n_cols + col]++;
        }
    }
    const uint32_t tp = plan->request.layout.tp;
    const bool whole = tensor->id.rule->split == PHX_SPLIT_NONE;
    const bool ep = tensor->id.expert >= 0 && plan->request.layout.experts == PHX_EXPERTS_EP;
    assert_int_equal(n_slices, ep ? 1 : tp);
    for (size_t i = 0; i < n_cells; i++)
        assert_int_equal(n_owners[i], whole && !ep ? tp : 1);
    phx_free(n_owners);
}

static void check_plan(const phx_checkpoint *ck, const phx_plan *plan)
{
    for (size_t i = 0; i < phx_checkpoint_count(ck); i++) {
        const phx_ck_tensor *tensor = phx_checkpoint_at(ck, i);
        const phx_role role = tensor->id.rule->role;
        if (role != PHX_ROLE_MTP_EMBED && role != PHX_ROLE_MTP_HEAD &&
            (tensor->id.layer < phx_checkpoint_dims(ck)->n_layers))
            check_owners(ck, plan, tensor);
    }
    for (uint32_t r = 0; r < plan->n_ranks; r++) {
        uint64_t total = 0;
#define X(field, text) total += plan->ranks[r].field##_bytes;
        PHX_ACCOUNT(X)
#undef X
        assert_int_equal(total, plan->ranks[r].total_bytes);
        assert_true(total <= plan->request.memory_bytes);
    }
    assert_true(plan->n_blocks * (uint64_t)PHX_BLOCK_TOKENS >= plan->n_context);
}

static void cover(const char *dir, uint32_t tp_max)
{
    static const char *const cuts[] = {"1", "2"};
    phx_checkpoint *ck = open_ok(dir);
    for (uint32_t tp = 1; tp <= tp_max; tp *= 2) {
        for (size_t c = 0; c < N_OF(cuts); c++) {
            for (int mode = 0; mode < 2; mode++) {
                const phx_plan_request request =
                    request_of(ck, tp, cuts[c], mode ? PHX_EXPERTS_EP : PHX_EXPERTS_TP);
                phx_plan *plan = plan_ok(ck, &request);
                check_plan(ck, plan);
                phx_plan_destroy(plan);
            }
        }
    }
    phx_checkpoint_close(ck);
}

static void test_owners(void **state)
{
    (void)state;
    cover(source_path("tests/data/golden/deepseek-v32-fp8"), 4);
    cover(source_path("tests/data/golden/deepseek-v3-qdirect"), 4);
    if (phx_file_exists(shared_path("golden/deepseek-v3-fp8")))
        cover(shared_path("golden/deepseek-v3-fp8"), 8);
}

static void test_scales_of_slices(void **state)
{
    (void)state;
    phx_checkpoint *ck = open_ok(source_path("tests/data/golden/deepseek-v32-fp8"));
    const phx_plan_request request = request_of(ck, 4, "1", PHX_EXPERTS_TP);
    phx_plan *plan = plan_ok(ck, &request);
    bool seen = false;
    for (size_t i = 0; i < plan->ranks[1].n_slices; i++) {
        const phx_plan_slice *slice = &plan->ranks[1].slices[i];
        if (slice->tensor->id.rule->role != PHX_ROLE_Q_B)
            continue;
        /* one head of 192 rows: 192 .. 384 touches scale rows 1 and 2 */
        assert_int_equal(slice->rows.first, 192);
        assert_int_equal(slice->rows.end, 384);
        assert_int_equal(slice->scale_bytes, 64);
        assert_int_equal(slice->data_bytes, 192 * 128);
        assert_int_equal(slice->file_bytes, 192 * 128 + 2 * 4);
        seen = true;
    }
    assert_true(seen);
    phx_plan_destroy(plan);
    phx_checkpoint_close(ck);
}

static void test_account(void **state)
{
    (void)state;
    phx_checkpoint *ck = open_ok(source_path("tests/data/golden/deepseek-v32-fp8"));
    phx_plan_request request = request_of(ck, 2, "2", PHX_EXPERTS_TP);
    request.n_drafts = 1;
    request.n_context = 640;
    phx_plan *plan = plan_ok(ck, &request);
    const phx_rank_plan *first = &plan->ranks[0];
    const phx_rank_plan *last = &plan->ranks[3];
    assert_int_equal(first->exchange_bytes_per_token, 3 * 4 * 128); /* 2 of the layer, 1 embedding */
    assert_int_equal(first->stage_bytes_per_token, 512);
    assert_int_equal(last->stage_bytes_per_token, 0);
    assert_int_equal(last->exchange_bytes_per_token, 5 * 4 * 128); /* 2 layers and the MTP embedding */
    assert_int_equal(last->layers.end, 3);
    assert_int_equal(plan->n_blocks, 320);
    assert_int_equal(first->cache_latent_bytes, 320ull * 64 * (128 + 64) * 2);
    assert_int_equal(last->cache_index_bytes, 320ull * 64 * 2 * 128 * 2);
    bool has_embed = false;
    for (size_t i = 0; i < last->n_slices; i++)
        has_embed = has_embed || last->slices[i].tensor->id.rule->role == PHX_ROLE_EMBED;
    assert_true(has_embed);
    phx_plan_destroy(plan);
    request.numerics.cache =
        PHX_F8_E4M3; /* 128 codes, a scale and its padding, 64 numbers of bf16; index keys stay */
    plan = plan_ok(ck, &request);
    assert_int_equal(plan->ranks[0].cache_latent_bytes, 320ull * 64 * (128 + 16 + 128));
    assert_int_equal(plan->ranks[3].cache_index_bytes, 320ull * 64 * 2 * 128 * 2);
    phx_plan_destroy(plan);
    phx_checkpoint_close(ck);
}

static void test_fit(void **state)
{
    (void)state;
    phx_checkpoint *ck = open_ok(source_path("tests/data/golden/deepseek-v32-fp8"));
    phx_plan_request request = request_of(ck, 1, "1", PHX_EXPERTS_TP);
    phx_plan *plan = plan_ok(ck, &request);
    assert_int_equal(plan->n_context, 1280);
    assert_int_equal(plan->n_blocks, 32 * 20);
    const uint64_t all = plan->ranks[0].total_bytes;
    phx_plan_destroy(plan);

    request.memory_bytes = all; /* to the byte */
    plan = plan_ok(ck, &request);
    assert_int_equal(plan->n_blocks, 32 * 20);
    phx_plan_destroy(plan);
    request.memory_bytes = all - 1;
    plan = plan_ok(ck, &request);
    assert_int_equal(plan->n_blocks, 32 * 20 - 1);
    phx_plan_destroy(plan);

    request.n_context = 640;
    request.n_cache_tokens = 700;
    plan = plan_ok(ck, &request);
    assert_int_equal(plan->n_blocks, 11);
    request.memory_bytes = plan->ranks[0].total_bytes - 1;
    phx_plan_destroy(plan);
    refused(ck, &request, "does not fit");
    request.n_cache_tokens = 0;
    request.n_context = 1280;
    refused(ck, &request, "a context of");
    request.memory_bytes = 1 << 20;
    refused(ck, &request, "no context fits");
    request.n_context = 1281;
    refused(ck, &request, "1280 positions");
    request.n_context = 640;
    request.n_cache_tokens = 10;
    refused(ck, &request, "cannot hold one request");
    phx_checkpoint_close(ck);
}

static void test_refusals(void **state)
{
    (void)state;
    phx_checkpoint *ck = open_ok(source_path("tests/data/golden/deepseek-v3-qdirect"));
    const phx_plan_request good = request_of(ck, 1, "1", PHX_EXPERTS_TP);
    phx_plan_request request = good;
    request.layout.tp = 8;
    refused(ck, &request, "only 4 attention heads");
    request.layout.tp = 3;
    refused(ck, &request, "1, 2, 4 and 8");
    request = good;
    request.n_drafts = 1;
    refused(ck, &request, "no MTP");
    request = good;
    request.layout.experts = PHX_EXPERTS_EP;
    refused(ck, &request, "expert modes");
    request = good;
    request.n_step_tokens = 8;
    refused(ck, &request, "step tokens");
    request = good;
    request.layout.pp = 2;
    refused(ck, &request, "pipeline");
    request = good;
    request.memory_bytes = 0; /* whatever the machine has */
    request.n_threads = 0;
    phx_plan *plan = plan_ok(ck, &request);
    assert_true(plan->request.memory_bytes > 0);
    assert_true(plan->request.n_threads > 0);
    phx_plan_destroy(plan);
    phx_checkpoint_close(ck);
}

static void test_hash(void **state)
{
    (void)state;
    phx_checkpoint *ck = open_ok(source_path("tests/data/golden/deepseek-v32-fp8"));
    phx_plan_request request = request_of(ck, 2, "1", PHX_EXPERTS_TP);
    phx_plan *a = plan_ok(ck, &request);
    request = a->request; /* with the zeros filled in: a rank builds the same plan */
    phx_plan *b = plan_ok(ck, &request);
    assert_true(phx_hash_eq(&a->hash, &b->hash));
    phx_plan_destroy(b);
    request.numerics.index_fp8 = true;
    b = plan_ok(ck, &request);
    assert_false(phx_hash_eq(&a->hash, &b->hash));
    phx_plan_destroy(b);
    request = a->request;
    request.n_cache_tokens -= 64;
    b = plan_ok(ck, &request);
    assert_false(phx_hash_eq(&a->hash, &b->hash));
    phx_plan_destroy(b);
    phx_plan_destroy(a);
    phx_checkpoint_close(ck);
}

static void test_print(void **state)
{
    (void)state;
    phx_error err = {0};
    phx_buf buf;
    phx_json *root = NULL;
    phx_checkpoint *ck = open_ok(source_path("tests/data/golden/deepseek-v32-fp8"));
    const phx_plan_request request = request_of(ck, 2, "1", PHX_EXPERTS_EP);
    phx_plan *plan = plan_ok(ck, &request);
    phx_buf_init(&buf, 1 << 20);
    phx_plan_print(plan, &buf);
    assert_int_equal(buf.code, PHX_OK);
    assert_non_null(strstr(buf.ptr, "experts ep: 2 ranks"));
    phx_buf_clear(&buf);
    phx_plan_json(plan, &buf);
    must(phx_json_parse((phx_bytes){(const uint8_t *)buf.ptr, buf.n}, PHX_JSON_LIMITS_REQUEST, &root, &err),
         &err);
    int64_t total = 0;
    assert_true(
        phx_json_as_i64(phx_json_get(phx_json_at(phx_json_get(root, "ranks"), 1), "total_bytes"), &total));
    assert_int_equal(total, plan->ranks[1].total_bytes);
    assert_true(
        phx_json_as_i64(phx_json_get(phx_json_at(phx_json_get(root, "ranks"), 1), "reserve_bytes"), &total));
    assert_int_equal(total, 0); /* of the CPU */
    phx_json_destroy(root);
    phx_buf_done(&buf);
    phx_plan_destroy(plan);
    phx_checkpoint_close(ck);
}

/* A device has to have more free than the plan fills. */
static void test_print_of_a_device(void **state)
{
    (void)state;
    phx_buf buf;
    phx_checkpoint *ck = open_ok(source_path("tests/data/golden/deepseek-v32-fp8"));
    phx_plan_request request = request_of(ck, 2, "1", PHX_EXPERTS_TP);
    (void)snprintf(request.numerics.level, sizeof(request.numerics.level), "sm90");
    phx_plan *plan = plan_ok(ck, &request);
    phx_buf_init(&buf, 1 << 20);
    phx_plan_print(plan, &buf);
    assert_non_null(strstr(buf.ptr, " of   4.29 GB\n  reserve                 805 MB more: "));
    assert_non_null(strstr(buf.ptr, " fragmentation;  5.10 GB must be free\n"));
    phx_buf_clear(&buf);
    phx_plan_json(plan, &buf);
    assert_non_null(strstr(buf.ptr, "\"reserve_bytes\":805306368"));
    phx_buf_done(&buf);
    phx_plan_destroy(plan);
    phx_checkpoint_close(ck);
}

/* Each allocation of open and plan fails once: a clean error, and nothing is left behind. */
static void test_allocation_failures(void **state)
{
    (void)state;
    phx_code rc = PHX_ERR_NOMEM;
    uint64_t nth = 0;
    while (rc != PHX_OK) {
        phx_error err = {0};
        phx_checkpoint *ck = NULL;
        phx_plan *plan = NULL;
        phx_plan_request request;
        const uint64_t n_live = phx_alloc_count().n_live;
        phx_plan_request_default(&request);
        request.memory_bytes = (uint64_t)1 << 30;
        phx_alloc_fail_nth(++nth);
        rc = phx_checkpoint_open(source_path("tests/data/golden/deepseek-v32-fp8"), &ck, &err);
        if (rc == PHX_OK)
            rc = phx_layout_parse_pp(phx_str_of("2"), phx_checkpoint_dims(ck), &request.layout, &err);
        if (rc == PHX_OK)
            rc = phx_plan_build(ck, &request, &plan, &err);
        phx_alloc_fail_nth(0);
        if (rc != PHX_OK)
            assert_int_equal(rc, PHX_ERR_NOMEM);
        phx_plan_destroy(plan);
        phx_checkpoint_close(ck);
        assert_int_equal(phx_alloc_count().n_live, n_live);
        assert_true(nth < 1000);
    }
    assert_true(nth > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leaves),
        cmocka_unit_test(test_pp_text),
        cmocka_unit_test(test_owners),
        cmocka_unit_test(test_scales_of_slices),
        cmocka_unit_test(test_account),
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_print_of_a_device),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
