/* model/plan_print.c - the plan as a table and as JSON. */
#include "model/plan.h"

#include <string.h>

#include "base/json.h"

/* Three significant figures in decimal units. */
static void put_bytes(phx_buf *buf, uint64_t n_bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double value = (double)n_bytes;
    size_t unit = 0;
    while (value >= 1000.0 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1000.0;
        unit++;
    }
    phx_buf_printf(buf,
                   unit == 0 || value >= 100 ? "%6.0f %-2s"
                   : value >= 10             ? "%6.1f %-2s"
                                             : "%6.2f %-2s",
                   value, units[unit]);
}

void phx_plan_print(const phx_plan *plan, phx_buf *buf)
{
    const phx_plan_request *request = &plan->request;
    const phx_dims *dims = phx_checkpoint_dims(plan->checkpoint);
    char hash[17];
    phx_hash_hex(&plan->hash, sizeof(hash) - 1, hash);
    phx_buf_printf(buf, "model    %s, %lld layers%s\n", phx_checkpoint_family(plan->checkpoint)->name,
                   (long long)dims->n_layers, request->n_drafts ? " + MTP" : "");
    const phx_checkpoint_totals totals = phx_checkpoint_count_all(plan->checkpoint);
    if (totals.n_skipped)
        phx_buf_printf(buf, "skipped  %llu tensors of the parts that see: text only\n",
                       (unsigned long long)totals.n_skipped);
    phx_buf_printf(buf, "layout   tp %u, pp %u, experts %s: %u ranks of %u threads\n", request->layout.tp,
                   request->layout.pp, request->layout.experts == PHX_EXPERTS_EP ? "ep" : "tp", plan->n_ranks,
                   request->n_threads);
    phx_buf_printf(buf,
                   "context  %u tokens per request, cache of %llu tokens (%u blocks), %u requests at once\n",
                   plan->n_context, (unsigned long long)plan->n_blocks * PHX_BLOCK_TOKENS, plan->n_blocks,
                   request->n_batch);
    phx_buf_printf(
        buf,
        "memory   %.3f GB per rank, as of --memory %.2fG: there G is 2^30 bytes, on this page GB is 10^9\n",
        (double)request->memory_bytes * 1e-9, (double)request->memory_bytes * 0x1p-30);
    phx_buf_str(buf, "numerics ");
    phx_numerics_print(&request->numerics, buf);
    if (strcmp(request->numerics.level, "sm") == 0)
        phx_buf_str(
            buf, "\n         (level sm: of a GPU; its architecture is known when the ranks have opened it)");
    phx_buf_printf(buf, "\nplan     %s\n\n", hash);
    for (uint32_t r = 0; r < plan->n_ranks; r++) {
        const phx_rank_plan *rank = &plan->ranks[r];
        phx_buf_printf(buf, "rank %u: stage %u, layers %lld-%lld, heads %lld-%lld, vocabulary %lld-%lld\n", r,
                       rank->stage, (long long)rank->layers.first, (long long)rank->layers.end - 1,
                       (long long)rank->heads.first, (long long)rank->heads.end - 1,
                       (long long)rank->vocab.first, (long long)rank->vocab.end - 1);
#define X(field, text)                       \
    phx_buf_printf(buf, "  %-20s ", (text)); \
    put_bytes(buf, rank->field##_bytes);     \
    phx_buf_char(buf, '\n');
        PHX_ACCOUNT(X)
#undef X
        phx_buf_printf(buf, "  %-20s ", "total");
        put_bytes(buf, rank->total_bytes);
        phx_buf_str(buf, " of ");
        put_bytes(buf, request->memory_bytes);
        if (phx_numerics_on_device(&request->numerics)) {
            phx_buf_printf(buf, "\n  %-20s ", "reserve");
            put_bytes(buf, PHX_DEVICE_RESERVE_BYTES);
            phx_buf_str(buf, " more: local memory of kernels, graphs, NCCL, cuBLASLt, fragmentation;");
            put_bytes(buf, request->memory_bytes + PHX_DEVICE_RESERVE_BYTES);
            phx_buf_str(buf, " must be free");
        }
        if (rank->host_bytes) {
            phx_buf_printf(buf, "\n  %-20s ", "host memory");
            put_bytes(buf, rank->host_bytes);
        }
        phx_buf_printf(buf, "\n  traffic per token: %llu bytes exchanged, %llu to the next stage\n",
                       (unsigned long long)rank->exchange_bytes_per_token,
                       (unsigned long long)rank->stage_bytes_per_token);
    }
}

static void range_json(phx_json_writer *w, const char *key, phx_range range)
{
    phx_json_key(w, key);
    phx_json_begin_array(w);
    phx_json_i64(w, range.first);
    phx_json_i64(w, range.end);
    phx_json_end_array(w);
}

static void number_json(phx_json_writer *w, const char *key, uint64_t value)
{
    phx_json_key(w, key);
    phx_json_u64(w, value);
}

static void rank_json(phx_json_writer *w, const phx_rank_plan *rank, bool on_device)
{
    phx_json_begin_object(w);
    number_json(w, "rank", rank->rank);
    number_json(w, "stage", rank->stage);
    number_json(w, "tp_rank", rank->tp_rank);
    range_json(w, "layers", rank->layers);
    range_json(w, "heads", rank->heads);
    range_json(w, "vocab", rank->vocab);
    range_json(w, "experts", rank->experts);
    number_json(w, "n_slices", rank->n_slices);
#define X(field, text) number_json(w, #field "_bytes", rank->field##_bytes);
    PHX_ACCOUNT(X)
#undef X
    number_json(w, "total_bytes", rank->total_bytes);
    number_json(w, "host_bytes", rank->host_bytes);
    number_json(w, "reserve_bytes", on_device ? PHX_DEVICE_RESERVE_BYTES : 0);
    number_json(w, "exchange_bytes_per_token", rank->exchange_bytes_per_token);
    number_json(w, "stage_bytes_per_token", rank->stage_bytes_per_token);
    phx_json_end_object(w);
}

void phx_plan_json(const phx_plan *plan, phx_buf *buf)
{
    const phx_plan_request *request = &plan->request;
    char hash[2 * PHX_HASH_BYTES + 1];
    phx_hash_hex(&plan->hash, sizeof(hash) - 1, hash);
    phx_json_writer writer;
    phx_json_writer *w = &writer;
    phx_json_writer_init(w, buf);
    phx_json_begin_object(w);
    phx_json_key(w, "family");
    phx_json_text(w, phx_checkpoint_family(plan->checkpoint)->name);
    phx_json_key(w, "hash");
    phx_json_text(w, hash);
    number_json(w, "tp", request->layout.tp);
    number_json(w, "pp", request->layout.pp);
    phx_json_key(w, "experts");
    phx_json_text(w, request->layout.experts == PHX_EXPERTS_EP ? "ep" : "tp");
    phx_json_key(w, "mtp");
    phx_json_bool(w, request->n_drafts != 0);
    number_json(w, "memory_bytes", request->memory_bytes);
    number_json(w, "n_threads", request->n_threads);
    number_json(w, "n_batch", request->n_batch);
    number_json(w, "n_step_tokens", request->n_step_tokens);
    number_json(w, "n_context", plan->n_context);
    number_json(w, "n_blocks", plan->n_blocks);
    number_json(w, "block_tokens", PHX_BLOCK_TOKENS);
    phx_json_key(w, "ranks");
    phx_json_begin_array(w);
    for (uint32_t r = 0; r < plan->n_ranks; r++)
        rank_json(w, &plan->ranks[r], phx_numerics_on_device(&request->numerics));
    phx_json_end_array(w);
    phx_json_end_object(w);
}
