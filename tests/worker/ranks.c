/* tests/worker/ranks.c - a group of ranks as threads of one process. */
#include "tests/worker/ranks.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model/step_buf.h"
#include "worker/comm/comm_nccl.h"
#include "worker/exec/exec.h"

enum { TENSORS_MAX = 256, ROWS_MAX = 1024 };

typedef struct tensor {
    char name[48];
    uint32_t n_rows, n_cols, stride;
    uint32_t *data; /* [ROWS_MAX][stride] */
} tensor;

typedef struct member {
    struct ranks *group;
    uint32_t rank;
    pthread_t thread;
    phx_pool *pool;
    phx_backend *backend;
    phx_comm *comm;
    phx_weights *weights;
    phx_kv_pool *kv;
    phx_exec *exec;
    phx_ops ops;
    phx_code rc;
    phx_error err;
    bool check;
    phx_step_result result;
} member;

struct ranks {
    phx_checkpoint *checkpoint;
    phx_plan *plan;
    phx_comm_hub *hub;
    void (*change_ops)(phx_ops *ops);
    bool graphs, warm;
    uint32_t n;
    member members[PHX_RANKS_MAX];
    const phx_step_plan *step;
    pthread_mutex_t lock;
    tensor tensors[TENSORS_MAX];
    uint32_t n_tensors;
};

static phx_code collect(void *user, const phx_capture_piece *piece, phx_error *err)
{
    ranks *group = user;
    phx_code rc = PHX_OK;
    (void)pthread_mutex_lock(&group->lock);
    tensor *t = NULL;
    for (uint32_t i = 0; i < group->n_tensors && !t; i++)
        t = strcmp(group->tensors[i].name, piece->name) == 0 ? &group->tensors[i] : NULL;
    if (!t) {
        t = &group->tensors[group->n_tensors++];
        (void)snprintf(t->name, sizeof(t->name), "%s", piece->name);
        t->stride = strcmp(piece->name, "logits") == 0
                        ? (uint32_t)phx_checkpoint_dims(group->checkpoint)->n_vocab
                    : strncmp(piece->name, "index_scores", 12) == 0 ? group->plan->n_context
                                                                    : piece->n_cols;
        t->data = phx_alloc((size_t)ROWS_MAX * t->stride, 4);
        t->n_rows = t->n_cols = 0;
    }
    if (!t->data || piece->row_first + piece->n_rows > ROWS_MAX ||
        piece->col_first + piece->n_cols > t->stride) {
        rc = PHX_FAIL(err, PHX_ERR_INTERNAL, "capture of %s does not fit the test", piece->name);
    } else {
        for (uint32_t r = 0; r < piece->n_rows; r++)
            memcpy(t->data + (size_t)(piece->row_first + r) * t->stride + piece->col_first,
                   (const uint32_t *)piece->data + (int64_t)r * piece->stride, 4 * (size_t)piece->n_cols);
        if (piece->row_first + piece->n_rows > t->n_rows)
            t->n_rows = piece->row_first + piece->n_rows;
        if (piece->col_first + piece->n_cols > t->n_cols)
            t->n_cols = piece->col_first + piece->n_cols;
    }
    (void)pthread_mutex_unlock(&group->lock);
    return rc;
}

static uint64_t planned_file_bytes(const phx_rank_plan *plan)
{
    uint64_t n = 0;
    for (size_t i = 0; i < plan->n_slices; i++)
        n += plan->slices[i].file_bytes;
    return n;
}

/* As a rank of the product does it, with the stand-in for NCCL. */
static phx_code add_device(member *m, const phx_comm_shape *shape)
{
    char library[4096];
    const phx_comm_nccl_options options = {
        .library = library, .device = m->backend->order, .stream = m->backend->stream, .queue_only = true};
    const char *build = getenv("PHX_BUILD");
    (void)snprintf(library, sizeof(library), "%s/libnccl_emu.so", build ? build : ".");
    return phx_comm_nccl_create(m->comm, shape, &options, &m->comm, &m->err);
}

/* The CPU of the level that the numerics name, or the emulator. Verbs then move its memory. */
static phx_code open_backend(member *m, const phx_comm_shape *shape)
{
    const char *name = m->group->plan->request.numerics.level;
    const phx_device_request request = {.name = name, .dir = getenv("PHX_BUILD"), .allow_unproven = true};
    phx_level level;
    phx_code rc;
    if (phx_numerics_on_device(&m->group->plan->request.numerics))
        rc = phx_backend_open(&request, &m->backend, &m->err);
    else if (phx_level_parse(phx_str_of(name), &level))
        rc = phx_backend_cpu_create(m->pool, level, &m->backend, &m->err);
    else
        rc = PHX_FAIL(&m->err, PHX_ERR_INVALID, "level '%s'", name);
    if (rc == PHX_OK && m->backend->device)
        rc = add_device(m, shape);
    if (rc != PHX_OK)
        return rc;
    m->ops = m->backend->ops;
    if (m->group->change_ops)
        m->group->change_ops(&m->ops);
    return PHX_OK;
}

static void *start_member(void *user)
{
    member *m = user;
    ranks *group = m->group;
    phx_load_progress progress = {0};
    const phx_step_bytes bytes = phx_step_buf_bytes(
        phx_checkpoint_dims(group->checkpoint), &group->plan->request, &group->plan->ranks[m->rank], 0, 0);
    const bool on_device = phx_numerics_on_device(&group->plan->request.numerics);
    const phx_comm_shape shape = {m->rank,
                                  group->plan->request.layout.tp,
                                  group->plan->request.layout.pp,
                                  bytes.exchange,
                                  bytes.stage,
                                  bytes.note,
                                  on_device ? 600000 : 60000}; /* the emulator is slow */
    m->rc = phx_pool_create(group->plan->request.n_threads, NULL, &m->pool, &m->err);
    const phx_comm_shape meeting = phx_comm_nccl_under_shape(&shape);
    if (m->rc == PHX_OK)
        m->rc = phx_comm_loop_create(group->hub, on_device ? &meeting : &shape, &m->comm, &m->err);
    if (m->rc == PHX_OK)
        m->rc = open_backend(m, &shape);
    const phx_weights_source source = {group->plan, m->rank, m->pool, m->backend, NULL};
    if (m->rc == PHX_OK)
        m->rc = phx_weights_load(&source, &progress, &m->weights, &m->err);
    if (m->rc == PHX_OK && (m->weights->resident_bytes != group->plan->ranks[m->rank].weights_bytes ||
                            m->weights->file_bytes != planned_file_bytes(&group->plan->ranks[m->rank])))
        m->rc = PHX_FAIL(&m->err, PHX_ERR_MISMATCH, "%llu bytes resident, %llu read: not what the plan says",
                         (unsigned long long)m->weights->resident_bytes,
                         (unsigned long long)m->weights->file_bytes);
    if (m->rc == PHX_OK)
        m->rc = phx_kv_pool_create(group->plan, m->rank, m->backend->device, &m->kv, &m->err);
    const phx_exec_parts parts = {.plan = group->plan,
                                  .rank = m->rank,
                                  .weights = m->weights,
                                  .kv = m->kv,
                                  .comm = m->comm,
                                  .backend = m->backend,
                                  .ops = &m->ops,
                                  .sink = collect,
                                  .sink_user = group};
    if (m->rc == PHX_OK)
        m->rc = phx_exec_create(&parts, &m->exec, &m->err);
    if (m->rc == PHX_OK && group->graphs)
        m->rc = phx_exec_record(m->exec, group->warm, &m->err);
    return NULL;
}

static phx_code run_all(ranks *group, void *(*body)(void *), phx_error *err)
{
    phx_code rc = PHX_OK;
    for (uint32_t i = 0; i < group->n; i++)
        (void)pthread_create(&group->members[i].thread, NULL, body, &group->members[i]);
    for (uint32_t i = 0; i < group->n; i++)
        (void)pthread_join(group->members[i].thread, NULL);
    for (uint32_t i = 0; i < 2 * group->n && rc == PHX_OK; i++) { /* the cause, rather than what it caused */
        const member *m = &group->members[i % group->n];
        if (m->rc != PHX_OK && (i >= group->n || !strstr(m->err.text, "has the cause")))
            rc = PHX_FAIL(err, m->rc, "rank %u: %s (%s)", m->rank, m->err.text, m->err.place);
    }
    return rc;
}

phx_code ranks_start(const ranks_setup *setup, ranks **ret_ranks, phx_error *err)
{
    phx_plan_request request;
    ranks *group = phx_alloc(1, sizeof(*group));
    (void)pthread_mutex_init(&group->lock, NULL);
    phx_plan_request_default(&request);
    request.layout.tp = setup->tp;
    request.n_threads = setup->n_threads;
    request.n_context = setup->n_context;
    request.n_step_tokens = setup->n_step_tokens;
    request.n_batch = setup->n_batch;
    request.n_drafts = setup->n_drafts;
    request.n_cache_tokens = setup->n_context * setup->n_batch;
    request.memory_bytes = setup->memory_bytes ? setup->memory_bytes : (uint64_t)4 << 30;
    phx_code rc = phx_checkpoint_open(setup->model_dir, &group->checkpoint, err);
    if (rc == PHX_OK)
        rc = phx_numerics_parse(phx_str_of(setup->numerics), &request.numerics, err);
    if (rc == PHX_OK)
        rc = phx_layout_parse_pp(phx_str_of(setup->pp), phx_checkpoint_dims(group->checkpoint),
                                 &request.layout, err);
    request.layout.experts = request.numerics.experts;
    if (rc == PHX_OK)
        rc = phx_plan_build(group->checkpoint, &request, &group->plan, err);
    group->change_ops = setup->change_ops;
    group->graphs = setup->graphs;
    group->warm = setup->warm;
    if (rc == PHX_OK) {
        group->n = group->plan->n_ranks;
        rc = phx_comm_hub_create(group->n, &group->hub, err);
    }
    for (uint32_t i = 0; i < group->n; i++)
        group->members[i] = (member){.group = group, .rank = i};
    if (rc == PHX_OK)
        rc = run_all(group, start_member, err);
    if (rc != PHX_OK) {
        ranks_stop(group);
        return rc;
    }
    *ret_ranks = group;
    return PHX_OK;
}

void ranks_stop(ranks *group)
{
    for (uint32_t i = 0; i < group->n; i++) {
        member *m = &group->members[i];
        phx_exec_destroy(m->exec);
        phx_kv_pool_destroy(m->kv);
        phx_weights_destroy(m->weights);
        phx_comm_destroy(m->comm);
        phx_backend_destroy(m->backend);
        phx_pool_destroy(m->pool);
    }
    phx_comm_hub_destroy(group->hub);
    ranks_clear(group);
    phx_plan_destroy(group->plan);
    phx_checkpoint_close(group->checkpoint);
    (void)pthread_mutex_destroy(&group->lock);
    phx_free(group);
}

/* What the rank moved in this step against what its plan announces per row (nobody gathers what should be
 * sharded). */
static void check_traffic(member *m, const phx_comm_traffic *before)
{
    const phx_rank_plan *plan = &m->group->plan->ranks[m->rank];
    uint64_t n_tokens = 0;
    for (uint32_t i = 0; i < m->group->step->n_rows; i++)
        n_tokens += m->group->step->rows[i].n_tokens;
    /* A selection goes along only when there is one; the residual stream always. */
    const uint64_t hidden =
        (uint64_t)phx_checkpoint_dims(m->group->plan->checkpoint)->d_hidden * sizeof(float);
    const uint64_t least = plan->stage_bytes_per_token < hidden ? plan->stage_bytes_per_token : hidden;
    const uint64_t exchanged = m->comm->traffic.exchange_bytes - before->exchange_bytes;
    const uint64_t passed_on = m->comm->traffic.stage_bytes - before->stage_bytes;
    const uint64_t due = n_tokens * plan->exchange_bytes_per_token;
    if (exchanged < due || (exchanged > due && !m->group->graphs)) /* padding is exchanged too */
        m->rc =
            PHX_FAIL(&m->err, PHX_ERR_MISMATCH, "%llu tokens exchanged %llu bytes, the plan says %llu each",
                     (unsigned long long)n_tokens, (unsigned long long)exchanged,
                     (unsigned long long)plan->exchange_bytes_per_token);
    else if (passed_on < n_tokens * least || passed_on > n_tokens * plan->stage_bytes_per_token +
                                                             4 * m->group->step->n_rows) /* and sampled ids */
        m->rc = PHX_FAIL(&m->err, PHX_ERR_MISMATCH, "%llu tokens sent %llu bytes on, the plan says %llu each",
                         (unsigned long long)n_tokens, (unsigned long long)passed_on,
                         (unsigned long long)plan->stage_bytes_per_token);
}

static void *step_member(void *user)
{
    member *m = user;
    const phx_comm_traffic before = m->comm->traffic;
    m->err = (phx_error){0};
    m->rc = m->check ? phx_exec_self_check(m->exec, &m->err)
                     : phx_exec_step(m->exec, m->group->step, &m->result, &m->err);
    if (m->rc != PHX_OK)
        phx_comm_abort(m->comm);
    else if (!m->check)
        check_traffic(m, &before);
    return NULL;
}

phx_code ranks_step(ranks *group, const phx_step_plan *plan, phx_row_result *results, uint32_t *ret_n,
                    phx_error *err)
{
    group->step = plan;
    for (uint32_t i = 0; i < group->n; i++)
        group->members[i].check = false;
    const phx_code rc = run_all(group, step_member, err);
    if (rc != PHX_OK)
        return rc;
    const phx_step_result *last = &group->members[group->n - group->plan->request.layout.tp].result;
    if (last->n_rows)
        memcpy(results, last->rows, last->n_rows * sizeof(*results));
    *ret_n = last->n_rows;
    return PHX_OK;
}

phx_code ranks_self_check(ranks *group, phx_error *err)
{
    for (uint32_t i = 0; i < group->n; i++)
        group->members[i].check = true;
    return run_all(group, step_member, err);
}

const void *ranks_tensor(ranks *group, const char *name, uint32_t *ret_n_rows, uint32_t *ret_n_cols)
{
    for (uint32_t i = 0; i < group->n_tensors; i++) {
        tensor *t = &group->tensors[i];
        if (strcmp(t->name, name) != 0)
            continue;
        /* Pack rows of scores, which were collected with the context's stride. */
        for (uint32_t r = 0; r < t->n_rows && t->stride != t->n_cols; r++)
            memmove(t->data + (size_t)r * t->n_cols, t->data + (size_t)r * t->stride, 4 * (size_t)t->n_cols);
        t->stride = t->n_cols;
        *ret_n_rows = t->n_rows;
        *ret_n_cols = t->n_cols;
        return t->data;
    }
    return NULL;
}

void ranks_clear(ranks *group)
{
    for (uint32_t i = 0; i < group->n_tensors; i++)
        phx_free(group->tensors[i].data);
    group->n_tensors = 0;
}

uint64_t ranks_n_replays(const ranks *group, uint32_t rank)
{
    return phx_exec_n_replays(group->members[rank].exec);
}

void ranks_describe_graphs(const ranks *group, uint32_t rank, phx_buf *buf)
{
    (void)phx_exec_describe_graphs(group->members[rank].exec, buf);
}

static void hash_cache(member *m, const phx_cache *cache, phx_hasher *hasher)
{
    const size_t n_bytes = (size_t)m->group->plan->n_blocks * PHX_BLOCK_TOKENS * (size_t)cache->width *
                           phx_dtype_bytes(cache->dtype);
    void *bytes = phx_alloc(n_bytes + 1, 1);
    if (!bytes || phx_download(m->backend, bytes, cache->data, n_bytes, &m->err) != PHX_OK)
        abort();
    phx_hasher_add(hasher, bytes, n_bytes);
    phx_free(bytes);
}

phx_hash ranks_cache_hash(ranks *group, uint32_t rank, int64_t layer)
{
    member *m = &group->members[rank];
    phx_hasher hasher;
    phx_hasher_init(&hasher);
    hash_cache(m, phx_kv_pool_latent(m->kv, layer), &hasher);
    if (phx_kv_pool_index(m->kv, layer)->width)
        hash_cache(m, phx_kv_pool_index(m->kv, layer), &hasher);
    return phx_hasher_final(&hasher);
}

const phx_plan *ranks_plan(const ranks *group)
{
    return group->plan;
}
