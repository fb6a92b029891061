/* worker/exec/graphs.c - decode steps as one launch: the walk of a step, recorded once for each bucket of
 * rows and depth, and replayed when a step fits into it.
 *
 * A recording holds addresses and shapes; what a step is about lies in the step's buffers, where rows.c puts
 * it, and rows past those of the plan are padding. So one recording serves every step of its shape, of
 * whatever slots, positions and sampling: also of slots that bring drafts behind their last token, each token
 * a row whose successor is chosen. Steps that fit none (prompts in chunks, captures) are walked, by the same
 * code. Messages between stages stay outside, and so do the passes that make drafts: before and after. */
#include "worker/exec/state.h"

#include <assert.h>

#include "base/clock.h"

#define DEPTH_FACTOR 8 /* from one depth to the next */

/* Rows of a decode step are one token of each of so many sequences, and drafts; the last bucket is the
 * largest batch with as many drafts as are ever fed. */
static const uint32_t row_buckets[] = {1, 2, 4, 8, 16, 32, 64};

#define N_ROW_BUCKETS (sizeof(row_buckets) / sizeof(row_buckets[0]))

static_assert(N_ROW_BUCKETS * PHX_GRAPH_DEPTHS_MAX <= PHX_GRAPHS_MAX, "graphs");

/* As many rows as are ever sampled at once. */
static uint32_t rows_max(const phx_exec *exec)
{
    const phx_plan_request *request = &exec->parts.plan->request;
    const uint32_t n_fed = request->n_batch * (1 + request->n_drafts);
    const uint32_t n = n_fed < request->n_step_tokens ? n_fed : request->n_step_tokens;
    return n < PHX_LOGIT_ROWS ? n : PHX_LOGIT_ROWS;
}

/* Ascending, the last is the context. Up to the first an indexer need not choose, and no step of it does;
 * beyond, the grid of its scores is over that many keys. Without an indexer nothing depends on the depth. */
static uint32_t list_depths(const phx_exec *exec, int64_t depths[PHX_GRAPH_DEPTHS_MAX])
{
    const int64_t n_context = exec->parts.plan->n_context;
    uint32_t n = 0;
    if (exec->dims->index_n_heads)
        for (int64_t d = exec->dims->index_topk; n + 1 < PHX_GRAPH_DEPTHS_MAX && d < n_context;
             d *= DEPTH_FACTOR)
            depths[n++] = d;
    depths[n++] = n_context;
    return n;
}

static void enter(phx_exec *exec, const phx_step_graph *graph)
{
    exec->n_tokens = graph->n_tokens;
    exec->n_keys_max = graph->n_keys_max;
    exec->selecting = phx_exec_must_select(exec);
    exec->n_samples = exec->last_stage ? (uint32_t)graph->n_tokens : 0;
}

/* The step as it is, of padding alone: it leaves no trace. A chip loads a kernel when it is first used, which
 * cannot be recorded. */
static phx_code warm_up(phx_exec *exec, phx_error *err)
{
    phx_code rc = phx_exec_tell_rows(exec, err);
    if (rc == PHX_OK && exec->last_stage)
        rc = phx_exec_tell_samples(exec, NULL, 0, err);
    if (rc == PHX_OK)
        rc = phx_exec_walk(exec, err);
    return rc == PHX_OK ? phx_exec_wait(exec, err) : rc;
}

static phx_code record_one(phx_exec *exec, phx_step_graph *graph, phx_error *err)
{
    phx_error ignored = {0};
    phx_backend *backend = exec->parts.backend;
    const phx_comm_traffic before = exec->parts.comm->traffic;
    phx_code rc = backend->fns->record(backend, err);
    if (rc != PHX_OK)
        return rc;
    rc = phx_exec_walk(exec, err);
    const phx_code ended =
        backend->fns->recorded(backend, &graph->recorded, &graph->n_nodes, rc == PHX_OK ? err : &ignored);
    if (rc != PHX_OK || ended != PHX_OK)
        return rc != PHX_OK ? rc : ended;
    graph->traffic = phx_comm_traffic_since(exec->parts.comm, &before);
    exec->parts.comm->traffic = before; /* nothing has moved yet */
    return PHX_OK;
}

static phx_code add_graph(phx_exec *exec, const phx_step_graph *shape, bool warm, phx_error *err)
{
    phx_step_graph *graph = &exec->graphs[exec->n_graphs];
    *graph = *shape;
    enter(exec, graph);
    phx_code rc = warm ? warm_up(exec, err) : PHX_OK;
    if (rc != PHX_OK)
        return rc;
    phx_error cause = {0};
    rc = record_one(exec, graph, &cause);
    if (rc != PHX_OK)
        return PHX_FAIL(err, rc, "recording a decode step of %lld rows: %.300s; --graphs off does without",
                        (long long)graph->n_tokens, cause.text);
    exec->n_graphs++;
    return PHX_OK;
}

phx_code phx_exec_record(phx_exec *exec, bool warm, phx_error *err)
{
    static const phx_step_plan none; /* no rows, no captures */
    int64_t depths[PHX_GRAPH_DEPTHS_MAX];
    phx_backend *backend = exec->parts.backend;
    if (!backend->fns->record)
        return PHX_OK;
    const uint64_t start_us = phx_clock_us(), free_bytes = backend->fns->free_bytes(backend);
    const uint32_t n_depths = list_depths(exec, depths), n_most = rows_max(exec);
    phx_code rc = PHX_OK;
    exec->plan = &none;
    exec->n_own = 0;
    for (size_t i = 0; i < N_ROW_BUCKETS && (i == 0 || row_buckets[i - 1] < n_most); i++) {
        const uint32_t n_rows = row_buckets[i] < n_most ? row_buckets[i] : n_most;
        for (uint32_t k = 0; k < n_depths && rc == PHX_OK; k++)
            rc = add_graph(exec, &(phx_step_graph){.n_tokens = n_rows, .n_keys_max = depths[k]}, warm, err);
    }
    const uint64_t left_bytes = backend->fns->free_bytes(backend);
    exec->plan = NULL;
    exec->graphs_us = phx_clock_us() - start_us;
    exec->graphs_bytes = free_bytes > left_bytes ? free_bytes - left_bytes : 0;
    exec->left_bytes = left_bytes;
    return rc;
}

bool phx_exec_memory_is_short(uint64_t graphs_bytes, uint64_t left_bytes, phx_buf *buf)
{
    if (left_bytes >= PHX_DEVICE_RESERVE_BYTES / 8)
        return false;
    (void)phx_buf_printf(
        buf,
        "device memory is short: %.1f MB are left of the %.0f MB beside the plan, graphs took "
        "%.1f MB: give less --memory, a smaller --max-batch or --graphs off",
        (double)left_bytes / 1e6, (double)PHX_DEVICE_RESERVE_BYTES / 1e6, (double)graphs_bytes / 1e6);
    return true;
}

bool phx_exec_is_short(const phx_exec *exec, phx_buf *buf)
{
    return exec->n_graphs > 0 && phx_exec_memory_is_short(exec->graphs_bytes, exec->left_bytes, buf);
}

void phx_exec_drop_graphs(phx_exec *exec)
{
    for (uint32_t i = 0; exec && i < exec->n_graphs; i++)
        exec->parts.backend->fns->graph_destroy(exec->parts.backend, exec->graphs[i].recorded);
    if (exec)
        exec->n_graphs = 0;
}

phx_code phx_exec_describe_graphs(const phx_exec *exec, phx_buf *buf)
{
    size_t n_least = SIZE_MAX, n_most = 0;
    if (exec->n_graphs == 0)
        return phx_buf_printf(buf, "graphs: none, every step is queued anew");
    (void)phx_buf_printf(buf, "graphs: %u, of decode steps of up to ", exec->n_graphs);
    for (uint32_t i = 0; i < exec->n_graphs; i++) {
        const phx_step_graph *graph = &exec->graphs[i];
        if (i == 0 || graph->n_tokens != graph[-1].n_tokens)
            (void)phx_buf_printf(buf, "%s%lld", i ? ", " : "", (long long)graph->n_tokens);
        n_least = graph->n_nodes < n_least ? graph->n_nodes : n_least;
        n_most = graph->n_nodes > n_most ? graph->n_nodes : n_most;
    }
    (void)phx_buf_str(buf, " rows and ");
    for (uint32_t i = 0; i < exec->n_graphs && exec->graphs[i].n_tokens == exec->graphs[0].n_tokens; i++)
        (void)phx_buf_printf(buf, "%s%lld", i ? ", " : "", (long long)exec->graphs[i].n_keys_max);
    return phx_buf_printf(
        buf, " keys: %zu to %zu launches in one, recorded in %llu ms, %.1f MB of device memory, %.0f MB left",
        n_least, n_most, (unsigned long long)(exec->graphs_us / 1000), (double)exec->graphs_bytes / 1e6,
        (double)exec->left_bytes / 1e6);
}

uint64_t phx_exec_n_replays(const phx_exec *exec)
{
    return exec->n_replays;
}

/* The smallest bucket that holds the step, by rows first. Every rank finds the same one. */
void phx_exec_choose_graph(phx_exec *exec)
{
    bool fits = exec->plan->capture == 0 && exec->n_own > 0;
    exec->graph = NULL;
    for (uint32_t i = 0; i < exec->plan->n_rows; i++) {
        const phx_step_row *row = &exec->plan->rows[i];
        fits = fits && row->n_tokens == 1 + phx_exec_n_fed(row);
    }
    for (uint32_t i = 0; fits && i < exec->n_graphs && !exec->graph; i++)
        if (exec->graphs[i].n_tokens >= exec->n_own && exec->graphs[i].n_keys_max >= exec->n_keys_max)
            exec->graph = &exec->graphs[i];
    if (exec->graph)
        enter(exec, exec->graph);
}

phx_code phx_exec_replay(phx_exec *exec, phx_error *err)
{
    const phx_code rc = exec->parts.backend->fns->replay(exec->parts.backend, exec->graph->recorded, err);
    if (rc == PHX_OK)
        phx_comm_count(exec->parts.comm, &exec->graph->traffic);
    exec->n_replays += rc == PHX_OK;
    return rc;
}
