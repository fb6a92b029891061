/* tests/sched/test_kv_blocks.c - blocks are conserved, and the cache forgets what was used least recently. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "coordinator/sched/kv_blocks.h"

static phx_kv_blocks *create(uint32_t n_blocks)
{
    phx_kv_blocks *kv = NULL;
    phx_error err = {0};
    assert_int_equal(phx_kv_blocks_create(n_blocks, &kv, &err), PHX_OK);
    return kv;
}

static phx_hash key_of(uint32_t id)
{
    return phx_kv_blocks_key(NULL, 0, &id, 1);
}

static void test_take_and_drop(void **state)
{
    (void)state;
    phx_kv_blocks *kv = create(3);
    uint32_t blocks[3], refs[3] = {0}, none = 77;
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(phx_kv_blocks_take(kv, &blocks[i]));
        refs[blocks[i]] = 1;
    }
    assert_true(blocks[0] != blocks[1] && blocks[1] != blocks[2] && blocks[0] != blocks[2]);
    assert_false(phx_kv_blocks_take(kv, &none));
    assert_int_equal(none, 77);
    assert_int_equal(phx_kv_blocks_n_used(kv), 3);
    phx_error err = {0};
    assert_int_equal(phx_kv_blocks_check(kv, refs, &err), PHX_OK);
    phx_kv_blocks_hold(kv, blocks[1]);
    phx_kv_blocks_drop(kv, blocks[1]);
    assert_int_equal(phx_kv_blocks_n_free(kv), 0);
    phx_kv_blocks_drop(kv, blocks[1]);
    assert_int_equal(phx_kv_blocks_n_free(kv), 1);
    /* The check notices a reference that nobody holds. */
    assert_int_equal(phx_kv_blocks_check(kv, refs, &err), PHX_ERR_INTERNAL);
    phx_kv_blocks_destroy(kv);
}

static void test_cache_is_least_recently_used(void **state)
{
    (void)state;
    phx_kv_blocks *kv = create(3);
    uint32_t blocks[3], found = 0;
    for (uint32_t i = 0; i < 3; i++) {
        const phx_hash key = key_of(i);
        assert_true(phx_kv_blocks_take(kv, &blocks[i]));
        assert_true(phx_kv_blocks_publish(kv, blocks[i], &key));
    }
    for (uint32_t i = 0; i < 3; i++)
        phx_kv_blocks_drop(kv, blocks[i]);
    assert_int_equal(phx_kv_blocks_n_cached(kv), 3);
    /* Block 0 is used again, so 1 is now the one that was used least recently. */
    const phx_hash keys[] = {key_of(0), key_of(1), key_of(2)};
    assert_true(phx_kv_blocks_find(kv, &keys[0], &found));
    assert_int_equal(found, blocks[0]);
    phx_kv_blocks_hold(kv, found);
    assert_int_equal(phx_kv_blocks_n_used(kv), 1);
    phx_kv_blocks_drop(kv, found);
    assert_true(phx_kv_blocks_take(kv, &found));
    assert_int_equal(found, blocks[1]);
    assert_false(phx_kv_blocks_find(kv, &keys[1], &found));
    assert_true(phx_kv_blocks_find(kv, &keys[0], &found));
    assert_true(phx_kv_blocks_find(kv, &keys[2], &found));
    /* A key belongs to one block. */
    assert_false(phx_kv_blocks_publish(kv, blocks[1], &keys[0]));
    assert_false(phx_kv_blocks_is_published(kv, blocks[1]));
    phx_kv_blocks_reset(kv);
    assert_int_equal(phx_kv_blocks_n_free(kv), 3);
    assert_false(phx_kv_blocks_find(kv, &keys[0], &found));
    phx_kv_blocks_destroy(kv);
}

static void test_keys_cover_everything_before(void **state)
{
    (void)state;
    const uint32_t ids[] = {1, 2}, others[] = {1, 3};
    const phx_hash first = phx_kv_blocks_key(NULL, 5, ids, 2), salted = phx_kv_blocks_key(NULL, 6, ids, 2);
    const phx_hash second = phx_kv_blocks_key(&first, 5, ids, 2);
    const phx_hash after_other = phx_kv_blocks_key(&salted, 5, ids, 2);
    const phx_hash other = phx_kv_blocks_key(NULL, 5, others, 2);
    const phx_hash again = phx_kv_blocks_key(NULL, 5, ids, 2);
    assert_true(phx_hash_eq(&first, &again));
    assert_false(phx_hash_eq(&first, &salted));
    assert_false(phx_hash_eq(&first, &second));
    assert_false(phx_hash_eq(&second, &after_other));
    assert_false(phx_hash_eq(&first, &other));
}

/* Random holders against a model that is nothing but counts. */
static void test_random_walk(void **state)
{
    enum { N_BLOCKS = 37, N_KEYS = 60, N_STEPS = 20000 };
    (void)state;
    phx_rng rng = {.seed = 20};
    printf("seed %llu\n", (unsigned long long)rng.seed);
    phx_kv_blocks *kv = create(N_BLOCKS);
    uint32_t refs[N_BLOCKS] = {0}, block = 0;
    phx_error err = {0};
    for (uint32_t i = 0; i < N_STEPS; i++) {
        const uint32_t at = phx_rng_below(&rng, N_BLOCKS);
        const phx_hash key = key_of(phx_rng_below(&rng, N_KEYS));
        switch (phx_rng_below(&rng, 4)) {
        case 0:
            if (phx_kv_blocks_take(kv, &block)) {
                assert_int_equal(refs[block], 0);
                refs[block] = 1;
            } else {
                for (uint32_t k = 0; k < N_BLOCKS; k++)
                    assert_int_not_equal(refs[k], 0);
            }
            break;
        case 1:
            if (phx_kv_blocks_find(kv, &key, &block)) {
                phx_kv_blocks_hold(kv, block);
                refs[block]++;
            }
            break;
        case 2:
            if (refs[at] != 0 && !phx_kv_blocks_is_published(kv, at))
                (void)phx_kv_blocks_publish(kv, at, &key);
            break;
        default:
            if (refs[at] != 0) {
                phx_kv_blocks_drop(kv, at);
                refs[at]--;
            }
        }
        if (phx_kv_blocks_check(kv, refs, &err) != PHX_OK)
            fail_msg("step %u: %s", i, err.text);
    }
    phx_kv_blocks_destroy(kv);
}

static void test_every_failed_allocation(void **state)
{
    (void)state;
    const uint64_t n_live = phx_alloc_count().n_live;
    phx_code rc = PHX_ERR_NOMEM;
    for (uint64_t n = 1; rc != PHX_OK; n++) {
        phx_kv_blocks *kv = NULL;
        phx_error err = {0};
        phx_alloc_fail_nth(n);
        rc = phx_kv_blocks_create(8, &kv, &err);
        phx_alloc_fail_nth(0);
        assert_true(rc == PHX_OK || (rc == PHX_ERR_NOMEM && kv == NULL && n < 10));
        phx_kv_blocks_destroy(kv);
        assert_int_equal(phx_alloc_count().n_live, n_live);
    }
    phx_kv_blocks *kv = NULL;
    assert_int_equal(phx_kv_blocks_create(0, &kv, &(phx_error){0}), PHX_ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take_and_drop),
        cmocka_unit_test(test_cache_is_least_recently_used),
        cmocka_unit_test(test_keys_cover_everything_before),
        cmocka_unit_test(test_random_walk),
        cmocka_unit_test(test_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
