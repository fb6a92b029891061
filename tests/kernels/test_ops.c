/* tests/kernels/test_ops.c - known answers, computed by hand, for the reference and for the highest level of
 * this machine; and the choice of levels. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/math.h"
#include "kernels/ops.h"

typedef struct fixture {
    phx_pool *pool;
    phx_ops ops[2]; /* reference, highest */
} fixture;

static int set_up(void **state)
{
    static fixture f; /* one per program; cmocka hands it on */
    phx_error err = {0};
    *state = &f;
    phx_ops_choose(PHX_LEVEL_REF, &f.ops[0]);
    phx_ops_choose(phx_level_of_machine(), &f.ops[1]);
    return phx_pool_create(1, NULL, &f.pool, &err) == PHX_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    const fixture *f = *state;
    phx_pool_destroy(f->pool);
    return 0;
}

static bool near(float got, double want)
{
    return fabs((double)got - want) <= 1e-6 * (0.1 + fabs(want));
}

static void levels_have_names(void **state)
{
    (void)state;
    phx_level level = PHX_LEVEL_REF;
    assert_true(phx_level_parse(phx_str_of("avx512"), &level));
    assert_int_equal(level, PHX_LEVEL_AVX512);
    assert_false(phx_level_parse(phx_str_of("avx"), &level));
    assert_int_equal(level, PHX_LEVEL_AVX512);
    assert_string_equal(phx_level_name(PHX_LEVEL_AVX2), "avx2");
}

static void a_mask_is_obeyed(void **state)
{
    (void)state;
    phx_buf buf;
    phx_buf_init(&buf, 4096);
    phx_ops ops;
    phx_ops_choose(PHX_LEVEL_REF, &ops);
    phx_ops_print(&ops, &buf);
    assert_int_equal(buf.code, PHX_OK);
    assert_non_null(strstr(buf.ptr, "product=ref"));
    assert_null(strstr(buf.ptr, "avx"));
    phx_buf_done(&buf);
}

#define N_EXPERTS 8

static void route_ties_go_to_the_lower_index(void **state)
{
    fixture *f = *state;
    const float logits[N_EXPERTS] = {0};
    for (int i = 0; i < 2; i++) {
        int32_t ids[3];
        float weights[3];
        f->ops[i].route(f->pool, &(phx_route_args){.logits = logits,
                                                   .n_rows = 1,
                                                   .n_experts = N_EXPERTS,
                                                   .n_used = 3,
                                                   .n_groups = 1,
                                                   .n_groups_used = 1,
                                                   .norm = true,
                                                   .scale = 3.0f,
                                                   .ids = ids,
                                                   .weights = weights});
        for (int32_t k = 0; k < 3; k++) {
            assert_int_equal(ids[k], k);
            assert_true(near(weights[k], 1.0f));
        }
    }
}

static void route_bias_chooses_but_does_not_weigh(void **state)
{
    fixture *f = *state;
    const float logits[N_EXPERTS] = {0.0f, 1.0f, 2.0f, 3.0f, -1.0f, -2.0f, -3.0f, -4.0f};
    const float bias[N_EXPERTS] = {0, 0, 0, 0, 0, 0, 0, 10.0f};
    for (int i = 0; i < 2; i++) {
        int32_t ids[2];
        float weights[2];
        f->ops[i].route(f->pool, &(phx_route_args){.logits = logits,
                                                   .bias = bias,
                                                   .n_rows = 1,
                                                   .n_experts = N_EXPERTS,
                                                   .n_used = 2,
                                                   .n_groups = 1,
                                                   .n_groups_used = 1,
                                                   .scale = 2.0f,
                                                   .ids = ids,
                                                   .weights = weights});
        assert_int_equal(ids[0], 3);
        assert_int_equal(ids[1], 7);
        assert_true(near(weights[0], 2.0 / (1.0 + exp(-3.0))));
        assert_true(near(weights[1], 2.0 / (1.0 + exp(4.0))));
    }
}

/* Groups {0,1} {2,3} {4,5} {6,7}: the best expert sits in a group whose pair loses. */
static void route_groups_count_their_two_best(void **state)
{
    fixture *f = *state;
    const float logits[N_EXPERTS] = {5.0f, -9.0f, 1.0f, 1.0f, 0.5f, 1.0f, 1.0f, 0.5f};
    for (int i = 0; i < 2; i++) {
        int32_t ids[3];
        float weights[3];
        f->ops[i].route(f->pool, &(phx_route_args){.logits = logits,
                                                   .n_rows = 1,
                                                   .n_experts = N_EXPERTS,
                                                   .n_used = 3,
                                                   .n_groups = 4,
                                                   .n_groups_used = 2,
                                                   .softmax = true,
                                                   .scale = 1.0f,
                                                   .ids = ids,
                                                   .weights = weights});
        /* softmax scores: the pair of expert 0 wins thanks to e^5 alone; then {2,3} */
        assert_int_equal(ids[0], 0);
        assert_int_equal(ids[1], 2);
        assert_int_equal(ids[2], 3);
        const double sum = exp(5) + exp(-9) + 4 * exp(1) + 2 * exp(0.5);
        assert_true(near(weights[0], exp(5) / sum));
        /* sigmoid scores: 0.9933 + 0.0001 loses against 0.7311 + 0.7311 and against 0.7311 + 0.6225; the two
         * last groups tie and the lower one stays */
        f->ops[i].route(f->pool, &(phx_route_args){.logits = logits,
                                                   .n_rows = 1,
                                                   .n_experts = N_EXPERTS,
                                                   .n_used = 3,
                                                   .n_groups = 4,
                                                   .n_groups_used = 2,
                                                   .norm = true,
                                                   .scale = 1.0f,
                                                   .ids = ids,
                                                   .weights = weights});
        assert_int_equal(ids[0], 2);
        assert_int_equal(ids[1], 3);
        assert_int_equal(ids[2], 5);
        for (int k = 0; k < 3; k++)
            assert_true(near(weights[k], 1.0 / 3.0));
    }
}

static void top_positions_ties(void **state)
{
    fixture *f = *state;
    const float scores[8] = {1.0f, 0.0f, -0.0f, 2.0f, 0.0f, -1.0f, 0.0f, 9.0f};
    const int32_t n_keys = 7; /* the 9 lies beyond */
    for (int i = 0; i < 2; i++) {
        int32_t positions[10];
        int32_t n = 0;
        phx_top_positions_args a = {.scores = scores,
                                    .scores_stride = 8,
                                    .n_keys = &n_keys,
                                    .n_rows = 1,
                                    .n_keep = 4,
                                    .positions = positions,
                                    .n_positions = &n};
        f->ops[i].top_positions(f->pool, &a);
        assert_int_equal(n, 4);
        const int32_t best[4] = {0, 1, 2, 3};
        assert_memory_equal(positions, best, sizeof(best));
        a.n_keep = 10;
        f->ops[i].top_positions(f->pool, &a);
        assert_int_equal(n, 7);
        const int32_t all[10] = {0, 1, 2, 3, 4, 5, 6, -1, -1, -1};
        assert_memory_equal(positions, all, sizeof(all));
    }
}

/* models.md 2.5: amax -> scale. A value of scale * 2^-9 is the smallest that fp8 keeps: it survives, half of
 * it does not (a tie, to even), so each test point shows its scale. */
static void index_round_scales(void **state)
{
    fixture *f = *state;
    static const struct {
        float amax;
        int exponent;
    } points[] = {{448.0f, 0},  {449.0f, 1}, {3.5f, -7},   {7.0f, -6},
                  {100.0f, -2}, {1.0f, -8},  {1e-4f, -22}, {0.0f, -22}};
    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; k < sizeof(points) / sizeof(points[0]); k++) {
            const float smallest = ldexpf(1.0f, points[k].exponent - 9);
            float x[8] = {points[k].amax, smallest, 0.5f * smallest, -smallest, 1.5f * smallest, 0, 0, 0};
            f->ops[i].index_round(f->pool,
                                  &(phx_index_round_args){.x = x, .n_vectors = 1, .d = 8, .fp8 = true});
            assert_true(x[1] == smallest);
            assert_true(x[2] == 0.0f);
            assert_true(x[3] == -smallest);
            assert_true(x[4] == 2.0f * smallest);
        }
    }
}

static void hadamard_of_a_unit_vector(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        float x[128] = {0};
        x[3] = 1.0f;
        f->ops[i].index_round(f->pool,
                              &(phx_index_round_args){.x = x, .n_vectors = 1, .d = 128, .hadamard = true});
        for (unsigned k = 0; k < 128; k++) {
            const float sign = ((k & 1u) ^ (k >> 1 & 1u)) != 0 ? -1.0f : 1.0f; /* (-1)^popcount(k and 3) */
            assert_true(x[k] == sign * phx_hadamard_scale(128));
        }
    }
}

/* With kv = [latent, latent] for its only head, expanded attention is absorbed attention. */
static void expanded_equals_absorbed(void **state)
{
    fixture *f = *state;
    enum { N = 300, LATENT = 12, ROPE = 4, WIDTH = LATENT + ROPE };
    static float entries[320 * WIDTH];
    static float kv[N * 2 * LATENT];
    static float k_rope[N * ROPE];
    float q[WIDTH];
    for (int i = 0; i < 320 * WIDTH; i++)
        entries[i] = (float)((i * 37) % 101) * 0.02f - 1.0f;
    for (int p = 0; p < N; p++) {
        for (int half = 0; half < 2; half++)
            memcpy(kv + (p * 2 + half) * LATENT, entries + p * WIDTH, LATENT * sizeof(float));
        memcpy(k_rope + p * ROPE, entries + p * WIDTH + LATENT, ROPE * sizeof(float));
    }
    for (int i = 0; i < WIDTH; i++)
        q[i] = (float)(i % 5) - 2.0f;
    const phx_cache cache = {entries, WIDTH, PHX_F32, 0, 0};
    const int32_t table[5] = {0, 1, 2, 3, 4};
    const int32_t *blocks = table;
    const int32_t n = N;
    float absorbed[LATENT];
    float expanded[LATENT];
    f->ops[0].attention(f->pool, &(phx_attention_args){.q = q,
                                                       .n_rows = 1,
                                                       .n_heads = 1,
                                                       .cache = &cache,
                                                       .d_latent = LATENT,
                                                       .blocks = &blocks,
                                                       .n_positions = &n,
                                                       .scale = 0.5f,
                                                       .out = {absorbed, LATENT, PHX_F32}});
    f->ops[0].attention_expanded(f->pool, &(phx_attention_expanded_args){.q = q,
                                                                         .kv = kv,
                                                                         .k_rope = k_rope,
                                                                         .n_keys = &n,
                                                                         .n_rows = 1,
                                                                         .n_heads = 1,
                                                                         .d_nope = LATENT,
                                                                         .d_rope = ROPE,
                                                                         .d_v = LATENT,
                                                                         .scale = 0.5f,
                                                                         .out = {expanded, LATENT, PHX_F32}});
    assert_memory_equal(absorbed, expanded, sizeof(absorbed));
}

static void layer_norm_and_rope_by_hand(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        float x[4] = {1.0f, 3.0f, 5.0f, 7.0f}; /* mean 4, variance 5 */
        const float weight[4] = {1.0f, 1.0f, 2.0f, 1.0f};
        const float bias[4] = {0.0f, 0.5f, 0.0f, 0.0f};
        f->ops[i].layer_norm(f->pool, &(phx_layer_norm_args){x, weight, bias, 0.0f, 1, 4});
        const double root = sqrt(5.0);
        assert_true(near(x[0], -3.0 / root));
        assert_true(near(x[1], -1.0 / root + 0.5));
        assert_true(near(x[2], 2.0 / root));
        assert_true(near(x[3], 3.0 / root));
        const float table[4] = {0.0f, 1.0f, 1.0f, 0.0f}; /* a quarter turn, none */
        const int32_t position = 0;
        float pairs[4] = {1.0f, 2.0f, 3.0f, 4.0f};
        float halves[4] = {1.0f, 2.0f, 3.0f, 4.0f};
        phx_rope_args a = {pairs, 4, 4, 1, 1, 4, true, &position, table, NULL, 0, 0};
        f->ops[i].rope(f->pool, &a);
        a.x = halves;
        a.interleaved = false;
        f->ops[i].rope(f->pool, &a);
        const float want_pairs[4] = {-2.0f, 1.0f, 3.0f, 4.0f};
        const float want_halves[4] = {-3.0f, 2.0f, 1.0f, 4.0f};
        assert_memory_equal(pairs, want_pairs, sizeof(pairs));
        assert_memory_equal(halves, want_halves, sizeof(halves));
    }
}

static void embed_of_a_row_held_elsewhere_is_minus_zero(void **state)
{
    fixture *f = *state;
    const uint16_t data[4] = {0x3F80, 0x4000, 0xBF80, 0x0000};
    const phx_matrix table = {.data = data, .n_rows = 2, .n_cols = 2, .format = PHX_FORMAT_BF16};
    const int32_t ids[2] = {-1, 1};
    for (int i = 0; i < 2; i++) {
        float out[4];
        f->ops[i].embed(f->pool, &(phx_embed_args){&table, ids, 2, out});
        assert_true(out[0] == 0.0f && signbit(out[0]));
        assert_true(out[1] == 0.0f && signbit(out[1]));
        assert_true(out[2] == -1.0f);
        assert_true(out[3] == 0.0f && !signbit(out[3]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_have_names),
        cmocka_unit_test(a_mask_is_obeyed),
        cmocka_unit_test(route_ties_go_to_the_lower_index),
        cmocka_unit_test(route_bias_chooses_but_does_not_weigh),
        cmocka_unit_test(route_groups_count_their_two_best),
        cmocka_unit_test(top_positions_ties),
        cmocka_unit_test(index_round_scales),
        cmocka_unit_test(hadamard_of_a_unit_vector),
        cmocka_unit_test(expanded_equals_absorbed),
        cmocka_unit_test(layer_norm_and_rope_by_hand),
        cmocka_unit_test(embed_of_a_row_held_elsewhere_is_minus_zero),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
