/* worker/bench_floor.c - what the bytes of a rank allow (the model of reference/performance.md 3.3) beside
 * what its steps took, as a table or JSON. floor of a part = the bytes that a step reads of it / the rate at
 * which memory was read just before routed experts read: E (1 - (1 - k / E)^batch) of E, tokens choosing
 * evenly and by themselves collectives: what the modelled verbs waited */
#include <math.h>

#include "worker/bench_rank.h"

typedef struct row { /* of the whole model, one step */
    double bytes;
    double floor_us;
    double us;
} row;

typedef struct report {
    const phx_rank_bench *bench;
    double fit[PHX_KIND_COUNT]; /* a resident layer stands for so many */
    row parts[PHX_PART_COUNT];
    row step; /* us: reckoned from the kinds */
    double layer_us[PHX_KIND_COUNT];
} report;

static const char *const part_names[] = {
#define X(part, name) name,
    PHX_RANK_PARTS(X)
#undef X
};

static phx_rank_part part_of_role(phx_role role)
{
    switch (role) {
    case PHX_ROLE_HEAD:
        return PHX_PART_HEAD;
    case PHX_ROLE_ROUTER:
    case PHX_ROLE_ROUTER_BIAS:
        return PHX_PART_ROUTER;
    case PHX_ROLE_EXPERT_GATE:
    case PHX_ROLE_EXPERT_UP:
    case PHX_ROLE_EXPERT_DOWN:
    case PHX_ROLE_SHARED_GATE:
    case PHX_ROLE_SHARED_UP:
    case PHX_ROLE_SHARED_DOWN:
        return PHX_PART_EXPERTS;
    case PHX_ROLE_GATE:
    case PHX_ROLE_UP:
    case PHX_ROLE_DOWN:
        return PHX_PART_DENSE;
    case PHX_ROLE_ATTN_NORM:
    case PHX_ROLE_Q_A_NORM:
    case PHX_ROLE_KV_A_NORM:
    case PHX_ROLE_INDEX_K_NORM:
    case PHX_ROLE_INDEX_K_NORM_BIAS:
    case PHX_ROLE_FFN_NORM:
    case PHX_ROLE_FINAL_NORM:
        return PHX_PART_ROWS;
    default:
        return PHX_PART_ATTENTION;
    }
}

/* The embedding is not counted: a step reads one row of it per token. */
static void count_weights(report *r)
{
    const phx_rank_bench *b = r->bench;
    const phx_rank_plan *rank = &b->plan->ranks[b->options->rank.rank];
    const phx_dims *d = &b->dims;
    const double used = d->n_experts ? (double)d->n_experts_used / (double)d->n_experts : 0.0;
    const double touched = 1.0 - pow(1.0 - used, b->options->rank.n_batch);
    for (size_t i = 0; i < rank->n_slices; i++) {
        const phx_plan_slice *slice = &rank->slices[i];
        const phx_tensor_id *id = &slice->tensor->id;
        double bytes = (double)(slice->data_bytes + slice->scale_bytes);
        if (id->rule->role == PHX_ROLE_EMBED && !d->tie_embeddings)
            continue;
        if (id->expert >= 0)
            bytes *= touched;
        if (id->layer >= 0)
            bytes *= r->fit[phx_layer_is_moe(d, id->layer) ? PHX_KIND_MOE : PHX_KIND_DENSE];
        const phx_rank_part part =
            id->rule->role == PHX_ROLE_EMBED ? PHX_PART_HEAD : part_of_role(id->rule->role);
        r->parts[part].bytes += bytes;
    }
}

static void count_cache(report *r)
{
    const phx_rank_bench *b = r->bench;
    const phx_dims *d = &b->dims;
    const double depth = b->depth;
    const double n_bytes = (double)phx_dtype_bytes(b->plan->request.numerics.cache);
    const double chosen = d->index_n_heads ? fmin(depth, (double)d->index_topk) : depth;
    const double index = d->index_n_heads ? depth * (double)d->index_d : 0.0;
    const double layer = (chosen * (double)(d->kv_lora + d->d_rope) + index) * n_bytes;
    const double n_layers = (double)b->n_resident[PHX_KIND_DENSE] * r->fit[PHX_KIND_DENSE] +
                            (double)b->n_resident[PHX_KIND_MOE] * r->fit[PHX_KIND_MOE];
    r->parts[PHX_PART_CACHE].bytes = n_layers * layer * b->options->rank.n_batch;
}

/* What the whole model takes, from no layer and the layers of each kind. */
static double whole(const report *r, double none, const double *kinds)
{
    double sum = none;
    for (int k = 0; k < PHX_KIND_COUNT; k++)
        sum += r->bench->n_resident[k] ? (kinds[k] - none) * r->fit[k] : 0.0;
    return sum;
}

static void fill(report *r)
{
    const phx_rank_bench *b = r->bench;
    double kinds[PHX_KIND_COUNT];
    for (int k = 0; k < PHX_KIND_COUNT; k++)
        r->fit[k] = b->n_resident[k] ? (double)b->n_all[k] / (double)b->n_resident[k] : 0.0;
    count_weights(r);
    count_cache(r);
    for (int p = 0; p < PHX_PART_COUNT; p++) {
        for (int k = 0; k < PHX_KIND_COUNT; k++)
            kinds[k] = b->kind[k].part_us[p];
        r->parts[p].us = whole(r, b->none.part_us[p], kinds);
        r->parts[p].floor_us = p == PHX_PART_VERBS   ? r->parts[p].us
                               : b->read_limit > 0.0 ? r->parts[p].bytes / b->read_limit * 1e6
                                                     : 0.0;
        r->step.bytes += r->parts[p].bytes;
        r->step.floor_us += r->parts[p].floor_us;
    }
    for (int k = 0; k < PHX_KIND_COUNT; k++) {
        kinds[k] = b->kind[k].median_us;
        if (b->n_resident[k])
            r->layer_us[k] = (kinds[k] - b->none.median_us) / (double)b->n_resident[k];
    }
    r->step.us = whole(r, b->none.median_us, kinds);
}

static void print_head(const report *r, FILE *out)
{
    const phx_rank_bench *b = r->bench;
    const phx_bench_options *o = b->options;
    (void)fprintf(out,
                  "%s, rank %u of tp %u, %s, batch %u, depth %u; random weights, %.2f GB made in %.1f s\n",
                  b->preset->name, o->rank.rank, o->rank.tp, phx_synth_format_name(b->synth.format),
                  o->rank.n_batch, b->depth, (double)b->weights->resident_bytes * 1e-9, b->load_s);
    (void)fprintf(out, "%s, %s%s%s\n", b->backend->description, b->backend->device ? "" : b->info.chip,
                  b->backend->device ? "" : ", ", b->info.date);
    if (o->rank.layers)
        (void)fprintf(out,
                      "resident: layers %s, %lld dense and %lld with experts; the model's %lld and %lld are "
                      "reckoned from them\n",
                      o->rank.layers, (long long)b->n_resident[PHX_KIND_DENSE],
                      (long long)b->n_resident[PHX_KIND_MOE], (long long)b->n_all[PHX_KIND_DENSE],
                      (long long)b->n_all[PHX_KIND_MOE]);
    for (int k = 0; k < PHX_KIND_COUNT; k++) {
        if (b->n_all[k] > 0 && b->n_resident[k] == 0)
            (void)fprintf(out, "NOT counted: %lld layers %s, because none is resident\n",
                          (long long)b->n_all[k], k == PHX_KIND_MOE ? "with experts" : "without experts");
    }
    (void)fprintf(
        out, "collectives are modelled: %.1f us and bytes at %.0f GB/s each (--latency-ns, --link-gbs)\n",
        b->delay.latency_us, b->delay.bytes_per_s * 1e-9);
    if (b->is_emu)
        (void)fprintf(out, "the emulator: times mean nothing, and no collective waits\n");
    else
        (void)fprintf(out, "memory was read at %.1f GB/s: the floor is the bytes at that rate\n",
                      b->read_limit * 1e-9);
}

static void print_row(FILE *out, const report *r, const char *name, const row *x)
{
    (void)fprintf(out, "%-28s %9.3f", name, x->bytes * 1e-9);
    if (r->bench->is_emu)
        (void)fprintf(out, " %10s %10.3f        -\n", "-", x->us * 1e-3);
    else if (x->us > 0.0)
        (void)fprintf(out, " %10.3f %10.3f %6.1f %%\n", x->floor_us * 1e-3, x->us * 1e-3,
                      100.0 * x->floor_us / x->us);
    else
        (void)fprintf(out, " %10.3f %10s        -\n", x->floor_us * 1e-3, "-");
}

static void print_table(const report *r, FILE *out)
{
    const phx_rank_bench *b = r->bench;
    print_head(r, out);
    (void)fprintf(out, "\n%-28s %9s %10s %10s %8s\n", "a step of the whole model", "GB", "floor ms",
                  "took ms", "floor");
    for (int p = 0; p < PHX_PART_COUNT; p++)
        print_row(out, r, part_names[p], &r->parts[p]);
    print_row(out, r, "step (median)", &r->step);
    (void)fprintf(
        out,
        "\nThe parts were timed with a wait after each op, so on a device they add up to more than the "
        "step.\nstep: %.3f ms outside of layers",
        b->none.median_us * 1e-3);
    if (b->n_resident[PHX_KIND_DENSE])
        (void)fprintf(out, " + %lld x %.3f ms dense", (long long)b->n_all[PHX_KIND_DENSE],
                      r->layer_us[PHX_KIND_DENSE] * 1e-3);
    if (b->n_resident[PHX_KIND_MOE])
        (void)fprintf(out, " + %lld x %.3f ms with experts", (long long)b->n_all[PHX_KIND_MOE],
                      r->layer_us[PHX_KIND_MOE] * 1e-3);
    (void)fprintf(out, "\nall %lld resident layers together: median %.3f ms, best %.3f ms\n",
                  (long long)b->dims.n_layers, b->all.median_us * 1e-3, b->all.best_us * 1e-3);
}

static void number(phx_json_writer *w, const char *key, double value)
{
    phx_json_key(w, key);
    phx_json_f64(w, value);
}

static void text(phx_json_writer *w, const char *key, const char *value)
{
    phx_json_key(w, key);
    phx_json_text(w, value);
}

static void write_row(phx_json_writer *w, const report *r, const char *name, const row *x)
{
    phx_json_begin_object(w);
    text(w, "part", name);
    number(w, "bytes", x->bytes);
    phx_json_key(w, "floor_us");
    if (r->bench->is_emu)
        phx_json_null(w);
    else
        phx_json_f64(w, x->floor_us);
    number(w, "us", x->us);
    phx_json_end_object(w);
}

static void write_json(const report *r, phx_json_writer *w)
{
    const phx_rank_bench *b = r->bench;
    phx_json_begin_object(w);
    phx_bench_machine_write(w, &b->info);
    text(w, "backend", b->backend->name);
    text(w, "device", b->backend->description);
    text(w, "preset", b->preset->name);
    text(w, "format", phx_synth_format_name(b->synth.format));
    number(w, "tp", b->options->rank.tp);
    number(w, "rank", b->options->rank.rank);
    number(w, "batch", b->options->rank.n_batch);
    number(w, "depth", b->depth);
    number(w, "resident_bytes", (double)b->weights->resident_bytes);
    number(w, "resident_layers", (double)b->dims.n_layers);
    number(w, "verb_latency_us", b->delay.latency_us);
    number(w, "verb_bytes_per_s", b->delay.bytes_per_s);
    number(w, "read_bytes_per_s", b->read_limit);
    number(w, "outside_us", b->none.median_us);
    number(w, "dense_layer_us", r->layer_us[PHX_KIND_DENSE]);
    number(w, "expert_layer_us", r->layer_us[PHX_KIND_MOE]);
    number(w, "resident_median_us", b->all.median_us);
    number(w, "resident_best_us", b->all.best_us);
    phx_json_key(w, "parts");
    phx_json_begin_array(w);
    for (int p = 0; p < PHX_PART_COUNT; p++)
        write_row(w, r, part_names[p], &r->parts[p]);
    write_row(w, r, "step", &r->step);
    phx_json_end_array(w);
    phx_json_end_object(w);
}

phx_code phx_rank_report(const phx_rank_bench *bench, phx_error *err)
{
    report r = {.bench = bench};
    phx_code rc = PHX_OK;
    phx_buf buf;
    phx_json_writer w;
    fill(&r);
    if (!bench->options->json) {
        print_table(&r, bench->options->out);
        return PHX_OK;
    }
    phx_buf_init(&buf, 1u << 16);
    phx_json_writer_init(&w, &buf);
    write_json(&r, &w);
    if (buf.code == PHX_OK)
        (void)fprintf(bench->options->out, "%s\n", buf.ptr);
    else
        rc = PHX_FAIL(err, buf.code, "the table as JSON");
    phx_buf_done(&buf);
    return rc;
}
