/* tests/model/inventory.c - see the header. */
#include "tests/model/inventory.h"

#include "tests/model/testing.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "model/plan.h"
#include "model/synth.h"

static void count_tensor(full *f, const phx_dims *dims, const phx_ck_tensor *t)
{
    const bool is_mtp = t->id.layer >= dims->n_layers;
    const uint64_t n = (uint64_t)(t->n_rows * t->n_cols);
    const uint64_t n_bytes = t->data->n_bytes + (t->scales ? t->scales->n_bytes : 0);
    const phx_role role = t->id.rule->role;
    *(is_mtp ? &f->n_mtp : &f->n_main) += 1;
    *(is_mtp ? &f->mtp_parameters : &f->main_parameters) += n;
    if (role == PHX_ROLE_MTP_EMBED || role == PHX_ROLE_MTP_HEAD)
        f->mtp_copies += n;
    if (is_mtp)
        return;
    f->main_bytes += n_bytes;
    f->n_indexers += role == PHX_ROLE_INDEX_K;
    if (t->id.rule->where == PHX_WHERE_EXPERT) {
        f->n_expert_parameters += n;
        f->n_expert_bytes += n_bytes;
    }
}

full full_open(const char *name)
{
    const phx_preset *preset = phx_preset_find(phx_str_of(name));
    phx_error err = {0};
    full f = {.dir = "/tmp/phx_preset_XXXXXX"};
    assert_non_null(preset);
    assert_non_null(mkdtemp(f.dir));
    must(phx_synth_write(&(phx_synth_request){.dims = &preset->dims,
                                              .format = preset->format,
                                              .n_shards = preset->n_shards,
                                              .sparse = true,
                                              .out_dir = f.dir,
                                              .extras = preset->extras},
                         &err),
         &err);
    must(phx_checkpoint_open(f.dir, &f.ck, &err), &err);
    assert_memory_equal(phx_checkpoint_dims(f.ck), &preset->dims, sizeof(preset->dims));
    for (size_t i = 0; i < phx_checkpoint_count(f.ck); i++) {
        const phx_ck_tensor *t = phx_checkpoint_at(f.ck, i);
        if (t->data)
            count_tensor(&f, &preset->dims, t);
    }
    return f;
}

void full_close(full *f)
{
    const uint64_t n_shards = phx_checkpoint_count_all(f->ck).n_shards;
    char path[160];
    static const char *const names[] = {"config.json", "model.safetensors.index.json"};
    assert_int_equal(phx_checkpoint_count_all(f->ck).n_extra, 0);
    phx_checkpoint_close(f->ck);
    for (size_t i = 0; i < N_OF(names); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", f->dir, names[i]);
        assert_int_equal(unlink(path), 0);
    }
    for (uint64_t i = 1; i <= n_shards; i++) {
        (void)snprintf(path, sizeof(path), "%s/model-%05u-of-%05u.safetensors", f->dir, (unsigned)i,
                       (unsigned)n_shards);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(f->dir), 0);
}

void exactly(const char *section, const char *what, uint64_t got, uint64_t published)
{
    print_message("models.md %-4s %-46s %llu\n", section, what, (unsigned long long)published);
    if (got != published)
        fail_msg("%s is %llu here", what, (unsigned long long)got);
}

void rounded(const char *section, const char *what, uint64_t got, const char *published)
{
    const char *point = strchr(published, '.');
    const double half = 0.5 * pow(10, point ? -(double)strlen(point + 1) : 0);
    print_message("models.md %-4s %-46s %s (here %.4f)\n", section, what, published, (double)got / 1e9);
    if (fabs((double)got / 1e9 - strtod(published, NULL)) > half * 1.0001)
        fail_msg("%s is %.6f here", what, (double)got / 1e9);
}

fit plan_at(const full *f, uint64_t memory, uint32_t n_drafts)
{
    fit got = {0};
    phx_error err = {0};
    phx_plan *plan = NULL;
    phx_plan_request request;
    phx_plan_request_default(&request);
    phx_layout_single(phx_checkpoint_dims(f->ck), &request.layout);
    request.layout.tp = 8;
    request.memory_bytes = memory;
    request.n_threads = 1;
    request.n_drafts = n_drafts;
    must(phx_numerics_parse(phx_str_of("profile=serving level=sm"), &request.numerics, &err), &err);
    if (phx_plan_build(f->ck, &request, &plan, &err) != PHX_OK) {
        (void)snprintf(got.refusal, sizeof(got.refusal), "%s", err.text);
        return got;
    }
    const phx_rank_plan *rank = &plan->ranks[0];
    got.weights = rank->weights_bytes;
    got.n_context = plan->n_context;
    got.n_cache = plan->n_blocks * PHX_BLOCK_TOKENS;
    got.latent = rank->cache_latent_bytes / got.n_cache;
    got.index = rank->cache_index_bytes / got.n_cache;
    for (size_t i = 0; i < rank->n_slices; i++) {
        const phx_ck_tensor *t = rank->slices[i].tensor;
        const bool whole =
            phx_range_n(rank->slices[i].rows) == t->n_rows && phx_range_n(rank->slices[i].cols) == t->n_cols;
        got.replicated += whole ? rank->slices[i].file_bytes : 0;
    }
    phx_plan_destroy(plan);
    return got;
}

void refused(const full *f, uint64_t memory, const char *remedy)
{
    const fit got = plan_at(f, memory, 0);
    print_message("%3llu GiB: %s\n", (unsigned long long)(memory / GIB), got.refusal);
    assert_non_null(strstr(got.refusal, remedy));
}

void fits(const full *f, uint64_t memory, uint32_t n_context, uint32_t n_cache)
{
    const fit got = plan_at(f, memory, 0);
    print_message("%3llu GiB: context %u, cache of %u %s\n", (unsigned long long)(memory / GIB),
                  got.n_context, got.n_cache, got.refusal);
    assert_true(labs((long)got.n_context - (long)n_context) <= (long)n_context / 100);
    assert_true(labs((long)got.n_cache - (long)n_cache) <= (long)n_cache / 100);
}
